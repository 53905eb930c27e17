//! A node that is its own bottleneck says so, with the limit that bit: in its report and when it
//! ends; `doctor` says it before. Each limit is provoked in a process of its own.
//!
//! A range of ports can only be narrowed in a network namespace of one's own: where the host allows
//! none the test is skipped, and says so; where `CI` is set it fails.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "process_kit/kit.rs"]
mod kit;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const QUIET: [&str; 6] = [
    "-X",
    "metrics.enabled=false",
    "-X",
    "http.enabled=false",
    "-X",
    "grpc.enabled=false",
];

/// A shell that does something first and then becomes the program.
fn under(first: &str, args: &[&str]) -> Command {
    let then = format!("{first} && exec \"$@\"");
    kit::after("sh", &["-c", &then, "sh"], args)
}

fn limit<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["limits"]
        .as_array()
        .unwrap_or_else(|| panic!("{report:#}"));
    let found = all.iter().find(|limit| limit["name"] == name);
    found.unwrap_or_else(|| panic!("{name}: {all:?}"))
}

/// Runs a node; returns its report and what it said.
fn run(dir: &Path, mut command: Command) -> (Value, String) {
    let Output { stderr, .. } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stderr).into_owned();
    let report = std::fs::read(dir.join("r.json")).unwrap_or_else(|_| panic!("{said}"));
    (serde_json::from_slice(&report).unwrap(), said)
}

/// The flags of a run of devices that have a connection each.
fn fleet(dir: &Path, url: &str, more: &[&str]) -> Vec<String> {
    let report = dir.join("r.json").display().to_string();
    let state = dir.join("state").display().to_string();
    let base = ["--no-world", "--profile", "factory_mqtt", "--mqtt-url", url];
    let kept = ["--report", &report, "--state-dir", &state];
    let all = [&["start"], &base[..], &kept, &QUIET, more].concat();
    all.into_iter().map(ToOwned::to_owned).collect()
}

fn borrowed(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

/// What `doctor` says of the same flags: its exit code, and the checks that fail.
fn doctor(first: &str, args: &[&str]) -> (Option<i32>, String) {
    let args = [&["doctor"], &args[1..], &["-o", "json"]].concat();
    let output = under(first, &args).output().unwrap();
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = checks["checks"].as_array().unwrap();
    let failing = checks.iter().filter(|check| check["state"] == "fail");
    let names = failing.map(|check| check["name"].as_str().unwrap());
    (output.status.code(), names.collect::<Vec<_>>().join(" "))
}

#[test]
fn files_that_run_out_are_named_by_the_report_and_by_doctor_before() {
    let dir = tempfile::tempdir().unwrap();
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap(); // the kernel connects, nobody answers
    let url = format!("mqtt://{}", deaf.local_addr().unwrap());
    let portable = [
        "-X",
        "shards.backend=portable",
        "--devices",
        "400",
        "--for",
        "4s",
    ];
    let args = fleet(dir.path(), &url, &portable);
    let args = borrowed(&args);
    let low = "ulimit -n 128";
    assert_eq!(doctor(low, &args), (Some(1), "files".to_owned()));
    let (report, said) = run(dir.path(), under(low, &args));
    let files = limit(&report, "files");
    assert!(files["count"].as_u64().unwrap() > 0, "{report:#}");
    assert!(
        files["mend"].as_str().unwrap().contains("ulimit -n"),
        "{said}"
    );
    assert!(
        said.contains("limit: ") && said.contains("no file descriptor"),
        "{said}"
    );
    assert_eq!(report["verdict"], "fail");
}

#[test]
fn full_outboxes_are_named_by_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", deaf.local_addr().unwrap());
    let outbox = ["-X", "targets.mqtt.outbox=3", "--interval", "100ms"];
    let more = [&outbox[..], &["--devices", "20", "--for", "3s"]].concat();
    let args = fleet(dir.path(), &url, &more);
    let (report, _) = run(dir.path(), under("true", &borrowed(&args)));
    assert!(limit(&report, "outboxes")["count"].as_u64().unwrap() > 0);
}

#[test]
fn late_ticks_are_named_by_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("r.json").display().to_string();
    let state = dir.path().join("state").display().to_string();
    let base = [
        "start",
        "--no-world",
        "--console",
        "/dev/null",
        "--for",
        "2s",
    ];
    let fleet = ["--devices", "20000", "--interval", "1ms"];
    let kept = ["--report", &report, "--state-dir", &state];
    let args = [&base[..], &fleet, &kept, &QUIET].concat();
    let (report, _) = run(dir.path(), under("true", &args));
    assert!(limit(&report, "late_ticks")["count"].as_u64().unwrap() > 0);
}

#[test]
fn ports_that_run_out_are_named_by_the_report_and_by_doctor_before() {
    let alone = ["-rn", "sh", "-c"];
    let narrow = "ip link set lo up && echo '40000 40019' > /proc/sys/net/ipv4/ip_local_port_range";
    let allowed = Command::new("unshare").args(alone).arg(narrow).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI has namespaces");
        println!("skipped: this host gives no network namespace");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Nobody else is there: the devices call the node's own page, which answers whatever it likes.
    let profile = dir.path().join("caller.yaml");
    let text = "type: caller\nprotocol: http\ntelemetry_interval: 1s\ntelemetry_fields:\n  \
                temperature: {type: gaussian, mean: 20, stddev: 1}\n";
    std::fs::write(&profile, text).unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (report, state, profile) = (path("r.json"), path("state"), path("caller.yaml"));
    let base = ["start", "--no-world", "--profile", &profile, "--for", "4s"];
    let fleet = [
        "--devices",
        "100",
        "--http-endpoint",
        "http://127.0.0.1:39999/",
    ];
    let kept = ["--report", &report, "--state-dir", &state];
    let page = [
        "-X",
        "metrics.listen=127.0.0.1:39999",
        "-X",
        "http.enabled=false",
    ];
    let args = [
        &base[..],
        &fleet,
        &kept,
        &page,
        &["-X", "grpc.enabled=false"],
    ]
    .concat();
    let then = format!("{narrow} && exec \"$@\"");
    let inside = |args: &[&str]| kit::after("unshare", &["-rn", "sh", "-c", &then, "sh"], args);
    let asked = [&["doctor"], &args[1..]].concat();
    let output = inside(&asked).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("FAIL  ports"), "{said}");
    let (report, _) = run(dir.path(), inside(&args));
    let ports = limit(&report, "ports");
    assert!(
        ports["mend"]
            .as_str()
            .unwrap()
            .contains("ip_local_port_range"),
        "{report:#}"
    );
}
