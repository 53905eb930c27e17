//! Scenarios as an operator runs them: on virtual time, on a node of their own, on one that runs;
//! each shipped one in a short form.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "process_kit/kit.rs"]
mod kit;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use actorsim::report::{RunReport, Verdict};
use actorsim::scenario::{Script, shipped};
use actorsim::sim::{self, SimConfig, Stop};
use actorsim_fleet::Profile;

fn config(script: Script, shards: u32, world: bool) -> SimConfig {
    SimConfig {
        run_id: "test".to_owned(),
        profile: Arc::new(Profile::load("industrial").unwrap().profile),
        devices: 0,
        interval: None,
        seed: 7,
        length: Duration::from_secs(40 * 3_600),
        until: Duration::from_secs(40 * 3_600),
        shards,
        world,
        scan_period: None,
        chaos: None,
        strikes: None,
        wire_log: None,
        console: None,
        scenario: Some(script),
        quiet: true,
    }
}

fn run(script: Script, shards: u32, world: bool) -> RunReport {
    let config = config(script, shards, world);
    sim::run(&config, &Stop::default()).unwrap().report
}

fn shipped(name: &str, args: &[(&str, &str)]) -> Script {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let script = Script::load(name).unwrap();
    script.with_args(args.iter().map(owned).collect())
}

/// Each shipped scenario, short.
const SHORT: [(&str, &[(&str, &str)]); 4] = [
    ("ramp-up", &[("wave", "40"), ("waves", "3")]),
    ("rolling-update", &[("locks", "300"), ("batches", "3")]),
    ("reconnect-storm", &[("devices", "300")]),
    ("day-in-a-minute", &[("devices", "8")]),
];

#[test]
fn every_shipped_scenario_holds_with_and_without_a_twin() {
    assert_eq!(SHORT.len(), shipped::SHIPPED.len());
    for (name, args) in SHORT {
        for world in [false, true] {
            // A day of a hundred scans a second is for a release build: here it is one a minute.
            let slow = world && name == "day-in-a-minute";
            let config = SimConfig {
                scan_period: slow.then_some(Duration::from_secs(60)),
                ..config(shipped(name, args), 1, world)
            };
            let report = sim::run(&config, &Stop::default()).unwrap().report;
            if slow {
                assert_eq!(report.world.scan.period_us, Some(60e6));
            }
            assert_eq!(report.verdict, Verdict::Pass, "{name}: {:?}", report.why);
            let scenario = report.scenario.unwrap();
            assert!(scenario.expectations.len() >= 4, "{name}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_shards() {
    for world in [false, true] {
        let digest = |shards| {
            let (name, args) = SHORT[0];
            let report = run(shipped(name, args), shards, world);
            let scenario = report.scenario.unwrap();
            (report.digest.wire_sha256.unwrap(), scenario)
        };
        let one = digest(1);
        assert_eq!(one, digest(1), "again, world {world}");
        assert_eq!(one, digest(3), "on three shards, world {world}");
    }
}

fn written(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("s.rhai");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_scenario_that_fails_says_where_and_ends_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        "spawn(\"single\", 3);\nwait(\"10s\");\nexpect(status().running == 4, \"four run\");\n";
    let path = written(dir.path(), text);
    let report = dir.path().join("r.json");
    let (path, report) = (path.to_str().unwrap(), report.to_str().unwrap());
    let output = kit::run(&["sim", "--no-world", "--scenario", path, "--report", report]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(":3: at 10.0 s it was not so that four run"),
        "{said}"
    );
    assert!(
        said.contains("actorsim sim --scenario"),
        "how to make it again: {said}"
    );
    let report: RunReport = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let scenario = report.scenario.unwrap();
    assert_eq!((scenario.failed, scenario.simulated_s), (1, 10.0));
    std::fs::write(path, "let a = 1;\nb();\n").unwrap();
    let output = kit::run(&["sim", "--no-world", "--scenario", path]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("s.rhai:2:1: Function not found"), "{said}");
    for (args, words) in [
        (&["check", "/no/such.rhai"][..], "cannot be read"),
        (
            &["run", "ramp-up", "--arg", "wav=3"][..],
            "does not ask for it",
        ),
    ] {
        let output = kit::run(&[&["scenario"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
    std::fs::write(path, "let a = ;\n").unwrap();
    let output = kit::run(&["scenario", "check", path]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("s.rhai:1:9: "), "{said}");
    let list = String::from_utf8(kit::run(&["scenario", "list"]).stdout).unwrap();
    assert_eq!(list.lines().count(), shipped::SHIPPED.len(), "{list}");
}

/// Starts, hits, changes and stops devices; faster than real time.
const LIVE: &str = "let all = spawn(\"industrial\", 200, #{ site: \"x\" }, #{ interval: \"2s\" });
    expect(status().running == 200, \"they run when spawn is back\");
    wait(\"20s\");
    expect(inject_fault(\"site=x,10%\", \"disconnect\", \"10s\") == 20, \"a tenth is told\");
    update_behavior(all.part(0, 50), #{ voltage: #{ type: \"static\", value: 400.0 } });
    wait(\"20s\");
    let s = status();
    expect(s.faults_active == 0, \"faults end on the simulated clock\");
    expect(s.ticks > 200 * 15, \"devices tick as fast as the clock\");
    expect(s.world.voltage.max == 400.0, \"the twin sees the update\");
    expect(stop(all.part(0, 100)) == 100, \"half of them stop\");
    expect(status().requested == 100, \"and the others run on\");
";

#[test]
fn a_node_of_its_own_runs_a_scenario_on_its_faster_clock() {
    let dir = tempfile::tempdir().unwrap();
    let (path, report) = (written(dir.path(), LIVE), dir.path().join("r.json"));
    let state = dir.path().join("state");
    let output = kit::run(&[
        "scenario",
        "run",
        path.to_str().unwrap(),
        "--speed",
        "10",
        "--report",
        report.to_str().unwrap(),
        "--state-dir",
        state.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "-X",
        "metrics.enabled=false",
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: RunReport = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let scenario = report.scenario.unwrap();
    assert_eq!((scenario.failed, scenario.expectations.len()), (0, 7));
    assert!(scenario.simulated_s > 40.0 && report.elapsed_s < scenario.simulated_s);
    assert_eq!(report.devices.running, Some(100));
}

#[test]
fn a_running_node_is_piloted_over_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), LIVE);
    let state = dir.path().join("state");
    let mut node = Command::new(env!("CARGO_BIN_EXE_actorsim"))
        .args([
            "start",
            "--speed",
            "10",
            "--listen",
            "127.0.0.1:0",
            "--for",
            "5m",
        ])
        .args(["-X", "metrics.enabled=false", "-X", "fleet.devices=0"])
        .args(["--state-dir", state.to_str().unwrap()])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let address = state.to_str().unwrap();
    let well = || {
        kit::run(&["attach", address, "-c", "health"])
            .status
            .success()
    };
    assert!((0..2_000).any(|_| well()), "the node did not get well");
    let output = kit::run(&["scenario", "run", path.to_str().unwrap(), "--on", address]);
    let _ = node.kill();
    let _ = node.wait();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
