//! `actorsim sim`: the same bytes over runs, processes and shard counts, whatever is broken; what a
//! failed run says; what the wire log holds.
//!
//! Small fleets on virtual time: seconds of CPU for hours of devices.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "process_kit/kit.rs"]
mod kit;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actorsim::report::{RunReport, Verdict};
use actorsim::sim::{self, SimConfig, Stop};
use actorsim_fleet::Profile;
use actorsim_fleet::wire::wire_sha256;
use actorsim_supervision::chaos::{Place, Plan};
use sha2::{Digest, Sha256};

const KILL_ANYTHING: &str = "config/chaos/kill-anything.toml";

fn report(path: &Path) -> RunReport {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Runs the binary and reads its report.
fn run(dir: &Path, args: &[&str]) -> RunReport {
    let path = dir.join("r.json");
    let mut all = vec!["sim", "--report", path.to_str().unwrap()];
    all.extend(args);
    let output = kit::run(&all);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    report(&path)
}

fn config(seed: u64, until: u64, plan: Option<&str>) -> SimConfig {
    let chaos = plan.map(|text| Plan::from_toml("plan.toml", text, Place::Sim).unwrap());
    SimConfig {
        run_id: "test".to_owned(),
        profile: Arc::new(Profile::load("industrial").unwrap().profile),
        devices: 96,
        interval: Some(Duration::from_secs(1)),
        seed,
        length: Duration::from_secs(until),
        until: Duration::from_secs(until),
        shards: 1,
        world: true,
        scan_period: None,
        chaos,
        strikes: None,
        wire_log: None,
        console: None,
        scenario: None,
        quiet: true,
    }
}

#[test]
fn two_processes_and_other_shard_counts_give_the_same_bytes_whatever_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let base = ["--devices", "600", "--interval", "1s", "--until", "40s"];
    let with = |more: &[&str]| {
        let args: Vec<_> = base.iter().chain(more).copied().collect();
        let report = run(dir.path(), &args);
        (
            report.digest.wire_sha256.unwrap(),
            report.chaos,
            report.tiers,
        )
    };
    let chaos = ["--chaos", KILL_ANYTHING, "--seed", "7"];
    let one = with(&chaos);
    let again = with(&chaos);
    assert_eq!(one, again, "the same run in another process");
    let three = with(&[&chaos[..], &["--shards", "3"]].concat());
    assert_eq!(one, three, "the same run on three shards");
    let other = with(&["--chaos", KILL_ANYTHING, "--seed", "8"]);
    assert_ne!(one.0, other.0, "another seed is another run");
}

#[test]
fn twenty_seeds_of_anything_killed_lose_no_event_and_leave_nothing() {
    let mut plan = std::fs::read_to_string(KILL_ANYTHING).unwrap();
    plan = plan.replace("rate = \"2/1s\"", "rate = \"5/1s\"");
    plan = plan.replace("swarm = false", "swarm = true");
    sim::quiet_injected_panics();
    let mut kinds = BTreeMap::new();
    for seed in 1..=20 {
        let config = config(seed, 24, Some(&plan));
        let outcome = sim::run(&config, &Stop::default()).unwrap();
        let report = outcome.report;
        let why = &report.why;
        assert_eq!(report.verdict, Verdict::Pass, "seed {seed}: {why:?}");
        assert_eq!(report.tiers.t2.lost, Some(0), "seed {seed}");
        let chaos = report.chaos.unwrap();
        assert_eq!(chaos.invariants.len(), 4, "{:?}", chaos.invariants);
        assert!(chaos.invariants.values().all(|told| told == "held"));
        for (kind, faults) in chaos.strikes {
            *kinds.entry(kind).or_insert(0) += faults.values().sum::<u64>();
        }
    }
    for kind in ["device", "link", "conn", "listener", "supervisor", "scan"] {
        assert!(kinds[kind] >= 10, "{kind}: {kinds:?}");
    }
    for kind in ["route", "apply", "actuate", "tier-t1", "tier-t2", "tier-t3"] {
        assert!(kinds[kind] >= 10, "{kind}: {kinds:?}");
    }
}

#[test]
fn threads_of_shards_that_die_cost_no_event_and_leave_the_bytes_to_the_seed() {
    let plan = "seed = 5\nrate = \"1/4s\"\n[faults]\nhost_down = { for = \"300ms\" }\n";
    let mut bytes = Vec::new();
    for (world, plan) in [(false, None), (false, Some(plan)), (true, Some(plan))] {
        let config = SimConfig {
            devices: 300, // a group on one shard, what is left on the other
            shards: 2,
            world,
            ..config(7, 20, plan)
        };
        let run = || sim::run(&config, &Stop::default()).unwrap().report;
        let [report, again] = [run(), run()];
        let why = &report.why;
        assert_eq!(report.verdict, Verdict::Pass, "{world}: {why:?}");
        assert_eq!(report.digest.wire_sha256, again.digest.wire_sha256);
        let devices = &report.devices;
        assert_eq!((devices.running, devices.quarantined), (Some(300), Some(0)));
        if let Some(chaos) = &report.chaos {
            let strikes = chaos.strikes["shard"]["host_down"];
            assert!(strikes >= 3 && devices.restarts >= Some(strikes * 44));
        }
        bytes.push(report.digest.wire_sha256);
    }
    assert_ne!(bytes[0], bytes[1], "some samples were never taken");
}

#[test]
fn a_device_that_is_down_counts_against_the_plan_s_bounds() {
    let plan = "rate = \"100/1s\"\nscope = \"/fleet/default\"\nblast_radius = 0.0\n\
                max_concurrent = 8\n";
    let config = SimConfig {
        world: false,
        ..config(5, 16, Some(plan))
    };
    let report = sim::run(&config, &Stop::default()).unwrap().report;
    assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.why);
    let chaos = report.chaos.unwrap();
    assert!(
        chaos.total() > 0 && chaos.missed > chaos.total(),
        "{chaos:?}"
    );
    let checked: Vec<_> = chaos.invariants.keys().map(String::as_str).collect();
    assert_eq!(checked, ["I5 books balance", "I9 all are back"]);
    assert!(chaos.invariants.values().all(|told| told == "held"));
}

#[test]
fn links_that_clog_one_by_one_and_are_freed_in_another_order_lose_no_event() {
    let plan = "seed = 3\nrate = \"1/3s\"\nmax_concurrent = 4\n[faults]\n\
                swizzle = { for = \"2s\" }\n";
    let run = || sim::run(&config(7, 24, Some(plan)), &Stop::default()).unwrap();
    let (outcome, again) = (run(), run());
    let report = outcome.report;
    assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.why);
    assert_eq!(report.digest.wire_sha256, again.report.digest.wire_sha256);
    let told = report.chaos.unwrap();
    let strikes = told.strikes["link"]["swizzle"];
    let chaos = outcome.chaos.unwrap();
    let parts = chaos.strikes().count() as u64;
    assert!(strikes >= 4 && parts >= 2 * strikes, "{parts} of {strikes}");
    assert_eq!(told.total(), strikes, "one strike, whatever its parts");
}

#[test]
fn links_that_are_cut_for_longer_than_their_connections_live_lose_no_event() {
    let plan = "seed = 3\nrate = \"1/20s\"\n[faults]\npartition = { for = \"14s\" }\n";
    let outcome = sim::run(&config(7, 60, Some(plan)), &Stop::default()).unwrap();
    let report = outcome.report;
    assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.why);
    assert!(report.chaos.unwrap().strikes["link"]["partition"] >= 2);
    assert_eq!(report.tiers.t2.lost, Some(0));
}

#[test]
fn a_device_that_was_killed_too_often_is_parked_and_told_apart() {
    let plan = "rate = \"2/1s\"\nscope = \"/fleet/default\"\n";
    let config = SimConfig {
        devices: 1,
        world: false,
        ..config(5, 60, Some(plan))
    };
    let report = sim::run(&config, &Stop::default()).unwrap().report;
    assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.why);
    let devices = &report.devices;
    assert_eq!((devices.running, devices.quarantined), (Some(0), Some(1)));
    let chaos = report.chaos.unwrap();
    assert!(chaos.total() > 5, "five are allowed");
    assert_eq!((chaos.parked, chaos.parked_not_judged), (1, 0));
    assert_eq!(chaos.parked_without_cause, Vec::<String>::new());
    assert!(
        report
            .why
            .iter()
            .any(|why| why.contains("1 parkings by policy"))
    );
}

#[test]
fn a_plan_that_strikes_nobody_shows_nothing() {
    let plan = "rate = \"1/1s\"\nscope = \"/no/such/path\"\n";
    let config = SimConfig {
        world: false,
        ..config(5, 16, Some(plan))
    };
    let report = sim::run(&config, &Stop::default()).unwrap().report;
    assert_eq!(report.verdict, Verdict::Fail);
    let why = &report.why[0];
    assert!(why.starts_with("chaos: it struck nobody"), "{why}");
}

#[test]
fn devices_alone_are_the_same_on_any_number_of_shards() {
    let dir = tempfile::tempdir().unwrap();
    let hash = |shards: &str| {
        let args = [
            "--no-world",
            "--devices",
            "1200",
            "--hours",
            "0.05",
            "--shards",
            shards,
        ];
        let chaos = ["--chaos", KILL_ANYTHING];
        let report = run(dir.path(), &[&args[..], &chaos[..]].concat());
        assert!(report.devices.restarts.unwrap() > 50);
        report.digest.wire_sha256.unwrap()
    };
    let one = hash("1");
    assert_eq!(one, hash("2"));
    assert_eq!(one, hash("7"));
}

#[test]
fn the_closed_loop_runs_on_virtual_time() {
    let config = config(3, 60, None);
    let report = sim::run(&config, &Stop::default()).unwrap().report;
    assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.why);
    let t3 = &report.tiers.t3;
    assert!(
        t3.issued.unwrap() > 10,
        "presence left, and the relay was told"
    );
    assert_eq!(t3.issued, t3.acked);
    assert_eq!(report.tiers.t1.applied, Some(96 * 60 * 7));
    assert_eq!(report.world.scan.skipped, Some(0));
    assert_eq!(
        report.world.scan.took_us, None,
        "nothing of the host's time"
    );
}

#[test]
fn a_run_that_fails_says_how_to_make_it_again_and_what_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan.toml");
    // Links that cannot say hello before the run is over; any one of them is enough to fail it.
    let text = "rate = \"4000/1s\"\nmax_concurrent = 4\n[faults]\n\
                partition = { weight = 1, for = \"2s\" }\n";
    std::fs::write(&plan, text).unwrap();
    let plan = plan.to_str().unwrap();
    let base = ["sim", "--devices", "64", "--until", "0.5s", "--seed", "5"];
    let output = kit::run(&[&base[..], &["--chaos", plan]].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let first = said.lines().next().unwrap();
    assert!(first.starts_with("actorsim sim --devices 64"), "{said}");
    assert!(
        first.contains("--seed 5 ") && first.contains("--hours 0.000138"),
        "{said}"
    );
    assert!(said.contains("faults: 1,"), "one strike is enough: {said}");
    assert!(said.contains("links never reached their twin"), "{said}");
    assert!(said.contains(sim::failure::COLUMNS), "{said}");
    let replay: Vec<&str> = first.split_whitespace().skip(1).collect();
    let again = kit::run(&replay);
    assert_eq!(again.status.code(), Some(1), "the command makes it again");
    assert!(String::from_utf8_lossy(&again.stderr).contains("1 of 4 links never"));
}

#[test]
fn the_wire_log_holds_every_byte_that_was_hashed() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("wire.log");
    let args = [
        "--devices",
        "300",
        "--until",
        "20s",
        "--wire-log",
        log.to_str().unwrap(),
    ];
    let found = run(dir.path(), &args).digest.wire_sha256.unwrap();
    assert_eq!(
        hashed(&std::fs::read(&log).unwrap(), "industrial", 300),
        found
    );
}

/// The digest of everything in a wire log of so many devices of one type.
fn hashed(log: &[u8], device_type: &str, devices: usize) -> String {
    let rest = log.strip_prefix(sim::wire_log::MAGIC.as_bytes()).unwrap();
    let line = rest.iter().position(|b| *b == b'\n').unwrap();
    let head: serde_json::Value = serde_json::from_slice(&rest[..line]).unwrap();
    assert_eq!(head["devices"], devices);
    let mut rest = &rest[line + 1..];
    let mut hashes = vec![Sha256::new(); devices];
    let mut last = 0;
    while !rest.is_empty() {
        let at = u64::from_le_bytes(rest[..8].try_into().unwrap());
        let device = u32::from_le_bytes(rest[8..12].try_into().unwrap());
        let length = usize::from(u16::from_le_bytes(rest[14..16].try_into().unwrap()));
        if let 0 | 255 = rest[12] {
            rest = &rest[16 + length..];
            continue;
        }
        assert!((1..=5).contains(&rest[12]) && at >= last);
        last = at;
        hashes[device as usize].update(&rest[16..16 + length]);
        rest = &rest[16 + length..];
    }
    let named = hashes.into_iter().enumerate();
    let named = named.map(|(at, hash)| (format!("{device_type}-{at:04}"), hash.finalize().into()));
    wire_sha256(named.collect())
}

/// A profile of devices that speak a protocol.
fn speaking(dir: &Path, protocol: &str) -> String {
    let path = dir.join(format!("{protocol}.yaml"));
    let text = format!(
        "type: talker\nprotocol: {protocol}\ntelemetry_interval: 2s\nqos: 2\n\
         telemetry_fields:\n  voltage: {{type: gaussian, mean: 230, stddev: 2}}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn sessions_with_brokers_are_the_same_bytes_on_any_number_of_shards() {
    let dir = tempfile::tempdir().unwrap();
    for protocol in ["mqtt", "http", "coap", "amqp"] {
        let profile = speaking(dir.path(), protocol);
        let log = dir.path().join("wire.log");
        let base = ["--devices", "600", "--until", "40s", "--profile", &profile];
        let simulated = |more: &[&str]| {
            let log = ["--wire-log", log.to_str().unwrap()];
            let report = run(dir.path(), &[&base[..], &log, more].concat());
            let publish = &report.publish[protocol];
            assert_eq!(
                (publish.sessions, publish.connected),
                (Some(600), Some(600))
            );
            let (sent, acked) = (publish.sent.unwrap(), publish.acked.unwrap());
            let gone = publish.dropped.unwrap() + publish.errors.unwrap();
            assert!(
                sent > 600 * 15 && acked + gone >= sent,
                "{protocol}: {publish:?}"
            );
            (
                report.digest.wire_sha256.unwrap(),
                std::fs::read(log[1]).unwrap(),
            )
        };
        let shards = |n| simulated(&["--no-world", "--chaos", KILL_ANYTHING, "--shards", n]);
        let one = shards("1");
        assert_eq!(
            one.0,
            hashed(&one.1, "talker", 600),
            "{protocol}: all is in the log"
        );
        for n in ["2", "7"] {
            let other = shards(n);
            assert_eq!(one.0, other.0, "{protocol} on {n} shards");
            assert!(
                one.1 == other.1,
                "{protocol}: the log on {n} shards is another"
            );
        }
        if protocol == "mqtt" {
            let whole = ["1", "3"].map(|n| simulated(&["--shards", n]));
            assert!(whole[0] == whole[1], "beside a twin");
        }
    }
}

#[test]
fn a_secret_of_the_environment_is_no_part_of_a_simulation() {
    let dir = tempfile::tempdir().unwrap();
    let (log, path) = (dir.path().join("wire.log"), dir.path().join("r.json"));
    for protocol in ["mqtt", "http", "amqp"] {
        let profile = speaking(dir.path(), protocol);
        let simulated = |secret: Option<&str>| {
            let mut command = kit::actorsim(&["sim", "--no-world", "--devices", "8"]);
            command.args(["--until", "10s", "--profile", &profile]);
            command.arg("--wire-log").arg(&log);
            command.arg("--report").arg(&path);
            for variable in ["MQTT_PASSWORD", "AMQP_PASSWORD", "HTTP_AUTHORIZATION"] {
                let variable = format!("ACTORSIM_{variable}");
                match secret {
                    Some(secret) => command.env(variable, secret),
                    None => command.env_remove(variable),
                };
            }
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{protocol}: {said}");
            let wire = std::fs::read(&log).unwrap();
            (report(&path).digest.wire_sha256.unwrap(), wire)
        };
        let without = simulated(None);
        let said = ["open sesame", "not\none\nline"].map(|secret| simulated(Some(secret)));
        assert!(said.iter().all(|with| *with == without), "{protocol}");
    }
}

#[test]
fn what_sim_cannot_do_is_refused_before_anything_runs() {
    let cases: [(&[&str], &str); 6] = [
        (&["--scenario", "x.rhai"], "x.rhai: cannot be read"),
        (&["--devices", "0"], "--devices"),
        (&["--shards", "0"], "--shards"),
        (&["--hours", "0"], "--hours 0"),
        (&["--profile", "no-such"], "no-such"),
        (&["--chaos", "no-such.toml"], "no-such.toml: cannot be read"),
    ];
    for (args, words) in cases {
        let output = kit::run(&[&["sim"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}
