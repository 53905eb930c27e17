//! The client of the virtual-iot-simulator drives a node: Python, grpcio, and nothing of ours.
//!
//! `ACTORSIM_PYTHON` names a Python that has grpcio and grpcio-tools; else `python3` is tried.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]
#![cfg(feature = "grpc")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn python() -> Option<String> {
    let python = std::env::var("ACTORSIM_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python)
        .args(["-c", "import grpc, grpc_tools"])
        .stderr(Stdio::null())
        .status();
    let why = match has {
        Ok(status) if status.success() => return Some(python),
        Ok(_) => format!("{python} has no grpcio and grpcio-tools"),
        Err(error) => format!("{python}: {error}"),
    };
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: {why}");
    None
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/remote")
        .join(name)
}

/// Has protobuf's own compiler make its modules of the pages.
fn compile(python: &str, out: &str) {
    let protos = ["common", "device", "telemetry", "orchestrator"];
    let compiled = Command::new(python)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference"))
        .args([
            "-m",
            "grpc_tools.protoc",
            "-I.",
            &format!("--python_out={out}"),
        ])
        .arg(format!("--grpc_python_out={out}"))
        .args(protos.map(|name| format!("simulator/v1/{name}.proto")))
        .status();
    assert!(compiled.unwrap().success());
}

#[test]
fn the_original_orchestrator_drives_a_node() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().display().to_string();
    compile(&python, &out);
    let golden = Command::new(&python)
        .arg(script("golden.py"))
        .arg(&out)
        .output();
    let golden = String::from_utf8_lossy(&golden.unwrap().stdout).into_owned();
    let pinned = std::fs::read_to_string(script("golden.txt")).unwrap();
    assert_eq!(golden, pinned, "the compiled descriptor is another one");
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut node = Command::new(env!("CARGO_BIN_EXE_actorsim"))
        .args([
            "start",
            "--json-logs",
            "--devices",
            "10",
            "--listen",
            "127.0.0.1:0",
        ])
        .args(["-X", "metrics.enabled=false", "-X", "http.enabled=false"])
        .args([
            "-X",
            &format!("grpc.listen=127.0.0.1:{port}"),
            "--state-dir",
        ])
        .arg(dir.path().join("state"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(node.stderr.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("\"spawned\"") {
        assert!(
            log.read_line(&mut seen).unwrap() > 0,
            "the node ended:\n{seen}"
        );
    }
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let driven = Command::new(&python)
        .arg(script("orchestrator.py"))
        .args([&format!("localhost:{port}"), &out, "2000"])
        .output()
        .unwrap();
    let _ = node.kill();
    let _ = node.wait();
    let said = String::from_utf8_lossy(&driven.stdout);
    let error = String::from_utf8_lossy(&driven.stderr);
    assert!(driven.status.success(), "{said}\n{error}");
    println!("{said}");
}
