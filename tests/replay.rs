//! A recording, played: to a broker in order and whole, to a twin, and as far as it goes if it was
//! cut off.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use actorsim::replay::{Log, LogError};
use serde_json::Value;

fn actorsim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_actorsim"))
        .args(args)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap()
}

fn recording(dir: &Path) -> PathBuf {
    let path = dir.join("wire.log");
    let file = path.to_str().unwrap();
    let base = ["sim", "--no-world", "--devices", "20", "--interval", "1s"];
    let output = actorsim(&[&base[..], &["--until", "5s", "--wire-log", file]].concat());
    assert!(output.status.success());
    path
}

fn exactly(stream: &mut TcpStream, n: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; n];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// One MQTT 3.1.1 packet: its first byte and the rest.
fn packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let first = exactly(stream, 1)?[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = exactly(stream, 1)?[0];
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some((first, exactly(stream, length)?));
        }
    }
}

/// A broker that takes one session, acknowledges what it gets, and gives it back at the end.
fn broker() -> (u16, JoinHandle<Vec<(String, Value)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        while let Some((first, body)) = packet(&mut stream) {
            match first >> 4 {
                1 => stream.write_all(&[0x20, 2, 0, 0]).unwrap(),
                3 => {
                    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                    let (head, payload) = body.split_at(2 + topic + 2);
                    let name = String::from_utf8(head[2..2 + topic].to_vec()).unwrap();
                    got.push((name, serde_json::from_slice(payload).unwrap()));
                    let id = &head[2 + topic..];
                    stream.write_all(&[0x40, 2, id[0], id[1]]).unwrap();
                }
                _ => {}
            }
        }
        got
    };
    (port, std::thread::spawn(serve))
}

#[test]
fn every_sample_reaches_the_broker_in_order_as_its_device_would_publish_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    let (port, got) = broker();
    let url = format!("mqtt://127.0.0.1:{port}");
    let file = path.to_str().unwrap();
    let output = actorsim(&["replay", file, "--mqtt-url", &url, "--speed", "20"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let got = got.join().unwrap();
    assert_eq!(told["target"]["acked"].as_u64(), Some(got.len() as u64));
    let of_one: Vec<_> = got
        .iter()
        .filter(|(topic, _)| topic == "devices/industrial-0007/telemetry")
        .filter(|(_, sample)| sample["fields"].as_object().unwrap().len() == 7)
        .collect();
    assert_eq!(of_one.len(), 5, "one sample a second");
    let stamps: Vec<_> = of_one
        .iter()
        .map(|(_, sample)| sample["timestamp"].clone())
        .collect();
    assert!(
        stamps
            .windows(2)
            .all(|pair| pair[0].as_str() < pair[1].as_str()),
        "{stamps:?}"
    );
    let (_, first) = of_one[0];
    assert_eq!(first["labels"]["site"], "demo");
    assert!(first["fields"]["voltage"].as_f64().unwrap() > 200.0);
}

#[test]
fn a_file_that_was_cut_off_is_played_as_far_as_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    let whole = Log::survey(&path).unwrap();
    assert!(whole.broken.is_none() && whole.devices == [20]);
    let bytes = std::fs::read(&path).unwrap();
    for cut in [bytes.len() / 2, bytes.len() - 24, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let survey = Log::survey(&path).unwrap();
        assert!(matches!(survey.broken, Some(LogError::Cut { .. })), "{cut}");
        assert!(survey.records > 0 && survey.records <= whole.records);
    }
    let half = &bytes[..bytes.len() / 2];
    std::fs::write(&path, half).unwrap();
    let (port, got) = broker();
    let url = format!("mqtt://127.0.0.1:{port}");
    let file = path.to_str().unwrap();
    let output = actorsim(&["replay", file, "--mqtt-url", &url, "--speed", "1000"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("is cut off after") && said.contains("played "),
        "{said}"
    );
    assert!(!got.join().unwrap().is_empty());
    std::fs::write(&path, b"something else\n").unwrap();
    let output = actorsim(&["replay", file, "--mqtt-url", &url]);
    assert_eq!(output.status.code(), Some(2));
    let mut torn = bytes.clone();
    let at = bytes.len() - 24 - 100;
    torn[at..].fill(0x77);
    std::fs::write(&path, &torn).unwrap();
    assert!(Log::survey(&path).unwrap().broken.is_some());
}

#[test]
fn a_damaged_number_or_time_is_said_with_its_place_and_announces_nobody() {
    // where a record has its device, and its time; what comes before it, of a record of 16 bytes
    const DEVICE: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    let bytes = std::fs::read(&path).unwrap();
    let whole = Log::survey(&path).unwrap();
    assert_eq!(whole.groups.iter().map(BTreeSet::len).sum::<usize>(), 1);
    // the last one of a device: before the end, of which 24 bytes are known, at a known length
    let last = (1..=8)
        .map(|readings| bytes.len() - 24 - 39 * readings - 16)
        .find(|at| {
            let length = u16::from_le_bytes([bytes[at + 14], bytes[at + 15]]);
            bytes[at + 12] == 1 && usize::from(length) == bytes.len() - 24 - at - 16
        })
        .unwrap();
    for (at, damage, why) in [
        (
            last + DEVICE,
            vec![0xff; 4],
            "device 4294967295, and a kind has at most",
        ),
        (last, vec![0; 8], "0 ns is before"),
    ] {
        let mut torn = bytes.clone();
        torn[at..at + damage.len()].copy_from_slice(&damage);
        std::fs::write(&path, &torn).unwrap();
        let survey = Log::survey(&path).unwrap();
        let broken = survey.broken.unwrap();
        let shown = broken.to_string();
        assert!(shown.contains(why), "{shown}");
        assert!(matches!(broken, LogError::Damaged { byte, .. } if byte == last as u64));
        assert_eq!(
            (survey.devices, survey.records),
            (vec![20], whole.records - 1)
        );
        assert_eq!(survey.groups, whole.groups);
    }
}

#[test]
fn a_recording_reaches_a_twin_over_quic() {
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    let state = dir.path().join("twin");
    let port = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().port()
    };
    let (at, site) = (format!("127.0.0.1:{port}"), dir.path().join("site"));
    let site = format!("transport.site={}", site.display());
    let mut twin = Command::new(env!("CARGO_BIN_EXE_actorsim"))
        .args(["start", "--no-fleet", "--listen", &at, "--for", "5m"])
        .args(["-X", "metrics.enabled=false", "-X", &site])
        .args(["--state-dir", state.to_str().unwrap()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = state.to_str().unwrap();
    let well = || {
        actorsim(&["attach", address, "-c", "health"])
            .status
            .success()
    };
    assert!((0..2_000).any(|_| well()), "the twin did not get well");
    let file = path.to_str().unwrap();
    let output = actorsim(&["replay", file, "--twin", &at, "--speed", "10", "-X", &site]);
    let health = actorsim(&["attach", address, "-o", "json", "-c", "health"]);
    let _ = twin.kill();
    let _ = twin.wait();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["target"]["readings"], 20 * 5 * 7);
    let health: Value = serde_json::from_slice(&health.stdout).unwrap();
    assert!(health["readings_applied"].as_u64().unwrap() > 0, "{health}");
}
