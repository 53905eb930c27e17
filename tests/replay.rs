//! A recording, played: to brokers and servers of every protocol in order and whole, to a twin, as
//! lines, and as far as it goes if it was cut off.
//!
//! Real peers are those in `ACTORSIM_MOSQUITTO`, `ACTORSIM_NGINX`, `ACTORSIM_COAP` and
//! `ACTORSIM_AMQP`; without them that test is skipped, and says so; where `CI` is set it fails.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "process_kit/kit.rs"]
mod kit;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use actorsim::replay::{Log, LogError};
use actorsim_fleet::peer::{Message, Peer};
use actorsim_fleet::profile::Protocol;
use actorsim_transport::certs::{Site, stream};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

fn recording(dir: &Path) -> PathBuf {
    let path = dir.join("wire.log");
    let file = path.to_str().unwrap();
    let base = ["sim", "--no-world", "--devices", "20", "--interval", "1s"];
    let output = kit::run(&[&base[..], &["--until", "5s", "--wire-log", file]].concat());
    assert!(output.status.success());
    path
}

/// A recording of devices that have sessions.
fn recording_of(protocol: &str, dir: &Path) -> PathBuf {
    let (path, profile) = (dir.join(format!("{protocol}.log")), dir.join("talker.yaml"));
    let text = format!(
        "type: talker\nprotocol: {protocol}\ntelemetry_interval: 1s\n\
         telemetry_fields:\n  voltage: {{type: gaussian, mean: 230, stddev: 2}}\n"
    );
    std::fs::write(&profile, text).unwrap();
    let (file, profile) = (path.to_str().unwrap(), profile.to_str().unwrap());
    let base = ["sim", "--no-world", "--devices", "20", "--until", "5s"];
    let output = kit::run(&[&base[..], &["--profile", profile, "--wire-log", file]].concat());
    assert!(output.status.success(), "{output:?}");
    path
}

/// Where messages went, and what was in them.
type Heard = Vec<(String, Vec<u8>)>;

fn hear(peer: &mut Peer, bytes: &[u8], heard: &mut Heard) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut hearer = |message: Message<'_>| {
        let at = message.at.trim_start_matches('/').to_owned();
        heard.push((at, message.payload.to_vec()));
    };
    peer.hear(bytes, &mut answer, &mut hearer).unwrap();
    answer
}

/// Serves one connection, and gives what it heard back at the end.
fn serve(protocol: Protocol, mut stream: impl Read + Write) -> Heard {
    let (mut peer, mut heard) = (Peer::of(protocol).unwrap(), Vec::new());
    let mut bytes = [0; 4_096];
    while let Ok(n @ 1..) = stream.read(&mut bytes) {
        let answer = hear(&mut peer, &bytes[..n], &mut heard);
        stream.write_all(&answer).unwrap();
        stream.flush().unwrap();
    }
    heard
}

/// A broker or server of a protocol, over TLS of a site if one is given.
fn server(protocol: Protocol, site: Option<&Path>) -> (u16, JoinHandle<Heard>) {
    if protocol == Protocol::Coap {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let patience = Duration::from_secs(120);
        socket.set_read_timeout(Some(patience)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let serve = move || {
            let (mut peer, mut heard) = (Peer::of(protocol).unwrap(), Vec::new());
            let mut bytes = [0; 2_048];
            while let Ok((n @ 1.., from)) = socket.recv_from(&mut bytes) {
                let answer = hear(&mut peer, &bytes[..n], &mut heard);
                socket.send_to(&answer, from).unwrap();
            }
            heard // an empty datagram ends it
        };
        return (port, std::thread::spawn(serve));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = site.map(tls);
    let serve = move || {
        let (stream, _) = listener.accept().unwrap();
        match tls {
            None => serve(protocol, stream),
            Some(tls) => {
                let connection = ServerConnection::new(tls).unwrap();
                serve(protocol, StreamOwned::new(connection, stream))
            }
        }
    };
    (port, std::thread::spawn(serve))
}

fn tls(site: &Path) -> Arc<ServerConfig> {
    let out = site.join("broker");
    let issued = Site::open_or_create(site)
        .unwrap()
        .issue("broker", "*", &out);
    issued.unwrap();
    let key = stream::certified(&out.join("node.pem"), &out.join("node.key")).unwrap();
    let key = SingleCertAndKey::from(CertifiedKey::clone(&key));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(key));
    Arc::new(server)
}

/// Plays a recording; returns what was told.
fn played(args: &[&str]) -> Value {
    let output = kit::run(&[&["replay"], args, &["--speed", "50"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
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
    let output = kit::run(&["replay", file, "--mqtt-url", &url, "--speed", "20"]);
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
fn sessions_of_every_protocol_are_played_to_targets_of_every_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site");
    let site_key = format!("transport.site={}", site.display());
    let mut all = Vec::new();
    for recorded in ["mqtt", "http", "coap", "amqp", "quic"] {
        let file = recording_of(recorded, dir.path());
        let file = file.to_str().unwrap();
        let lines = dir.path().join("lines");
        let told = played(&[file, "--console", lines.to_str().unwrap()]);
        let lines = std::fs::read_to_string(lines).unwrap();
        assert_eq!(told["target"]["printed"], lines.lines().count());
        let samples = |text: &str| -> Vec<Vec<u8>> {
            let lines = text
                .lines()
                .filter(|line| line.starts_with(r#"{"device_id"#));
            lines.map(|line| line.as_bytes().to_vec()).collect()
        };
        let samples = samples(&lines);
        assert!(samples.len() >= 80, "{recorded}: {} samples", samples.len());
        all.push(samples.clone());
        for (protocol, flag, over_tls) in [
            (Protocol::Mqtt, "--mqtt-url", false),
            (Protocol::Mqtt, "--mqtt-url", true),
            (Protocol::Http, "--http-endpoint", false),
            (Protocol::Coap, "--coap-url", false),
        ] {
            let (port, heard) = server(protocol, over_tls.then_some(&*site));
            let tls = if over_tls { "s" } else { "" };
            let url = format!("{}{tls}://127.0.0.1:{port}", protocol.name());
            let told = played(&[file, flag, &url, "-X", &site_key]);
            if protocol == Protocol::Coap {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.send_to(&[], ("127.0.0.1", port)).unwrap();
            }
            let heard = heard.join().unwrap();
            assert_eq!(told["target"]["acked"], heard.len(), "{recorded} to {url}");
            assert_eq!(told["messages"], heard.len(), "{recorded} to {url}");
            let on_topic = |(at, _): &&(String, Vec<u8>)| at.ends_with("/telemetry");
            let got: Vec<_> = heard
                .iter()
                .filter(on_topic)
                .map(|(_, body)| body)
                .collect();
            assert!(got.iter().copied().eq(&samples), "{recorded} to {url}");
        }
    }
    // What devices say does not depend on how: a batch would differ, and nothing batches here.
    assert!(
        all.windows(2)
            .take(3)
            .all(|pair| pair[0].len().abs_diff(pair[1].len()) <= 20)
    );
}

#[test]
fn a_target_that_does_not_fit_is_refused_before_anything_is_played() {
    let dir = tempfile::tempdir().unwrap();
    let (tiers, mqtt) = (recording(dir.path()), recording_of("mqtt", dir.path()));
    let (tiers, mqtt) = (tiers.to_str().unwrap(), mqtt.to_str().unwrap());
    let both = ["--mqtt-url", "mqtt://127.0.0.1:9", "--console", "-"];
    let cases: [(&[&str], i32, &str); 6] = [
        (&[tiers], 2, "give a target: one of --mqtt-url"),
        (
            &[&[tiers], &both[..]].concat(),
            2,
            "--mqtt-url and --console are both given",
        ),
        (
            &[mqtt, "--twin", "127.0.0.1:9"],
            2,
            "have mqtt sessions in this recording",
        ),
        (
            &[tiers, "--mqtt-url", "http://127.0.0.1:9"],
            2,
            "is http, not mqtt",
        ),
        (
            &[tiers, "--http-endpoint", "http://127.0.0.1:9"],
            3,
            "127.0.0.1:9: Connection refused",
        ),
        (
            &[tiers, "--mqtt-url", "mqtt://127.0.0.1:9"],
            3,
            "127.0.0.1:9: Connection refused",
        ),
    ];
    for (args, code, words) in cases {
        let output = kit::run(&[&["replay"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

#[test]
fn real_brokers_and_servers_take_a_recording_whole() {
    let dir = tempfile::tempdir().unwrap();
    let peers = [
        ("ACTORSIM_MOSQUITTO", "--mqtt-url", "mqtt://", ""),
        ("ACTORSIM_NGINX", "--http-endpoint", "http://", "/ingest"),
        ("ACTORSIM_COAP", "--coap-url", "coap://", "/example_data"),
        ("ACTORSIM_AMQP", "--amqp-url", "amqp://", ""),
    ];
    for (variable, flag, scheme, path) in peers {
        let Ok(address) = std::env::var(variable) else {
            assert!(
                std::env::var_os("CI").is_none(),
                "{variable} is not set, and CI has it"
            );
            println!("skipped: set {variable}=HOST:PORT to play to a real peer");
            continue;
        };
        let url = format!("{scheme}{address}{path}");
        for file in [recording(dir.path()), recording_of("mqtt", dir.path())] {
            let told = played(&[file.to_str().unwrap(), flag, &url]);
            let target = &told["target"];
            assert!(target["sent"].as_u64().unwrap() >= 100, "{url}: {told}");
            assert_eq!(target["sent"], target["acked"], "{url}: {told}");
        }
    }
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
    let output = kit::run(&["replay", file, "--mqtt-url", &url, "--speed", "1000"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("is cut off after") && said.contains("played "),
        "{said}"
    );
    assert!(!got.join().unwrap().is_empty());
    std::fs::write(&path, b"something else\n").unwrap();
    let output = kit::run(&["replay", file, "--mqtt-url", &url]);
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
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
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
        kit::run(&["attach", address, "-c", "health"])
            .status
            .success()
    };
    assert!((0..2_000).any(|_| well()), "the twin did not get well");
    let file = path.to_str().unwrap();
    let output = kit::run(&["replay", file, "--twin", &at, "--speed", "10", "-X", &site]);
    let health = kit::run(&["attach", address, "-o", "json", "-c", "health"]);
    let _ = twin.kill();
    let _ = twin.wait();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["target"]["readings"], 20 * 5 * 7);
    let health: Value = serde_json::from_slice(&health.stdout).unwrap();
    assert!(health["readings_applied"].as_u64().unwrap() > 0, "{health}");
}
