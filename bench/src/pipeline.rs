//! `pipeline`: a whole node in one process, its fleet sending over QUIC into its own scanned world.
//!
//! The numbers are read from the run report that `start --report` writes. There is no peer that is
//! one program of this shape. Bound: each run lasts [`RUN_FOR`] and ends by its own `--for`.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::scenario::{Metric, Scenario};

/// Long enough for six ticks of each device.
const RUN_FOR: Duration = Duration::from_secs(30);

/// Each device ticks this often: 1.4 readings/s per device of 7 sensors are offered.
const INTERVAL: &str = "5s";

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "pipeline",
    label: "whole node in one child process, T1 at 5 s x 7 sensors through QUIC on loopback into \
            the scanned world: readings applied / s of run; CPU s (user + system, start included) \
            per million applied; p99 from stamp to receipt, first reading of each \
            datagram; peak RSS",
    shapes: &[1_000, 100_000, 1_000_000],
    metrics: &[
        Metric {
            name: "readings_per_s",
            unit: "1/s",
            read: readings_per_s,
        },
        Metric {
            name: "cpu_s_per_million",
            unit: "s",
            read: cpu_s_per_million,
        },
        Metric {
            name: "latency_p99",
            unit: "us",
            read: latency_p99,
        },
        Metric {
            name: "rss_bytes",
            unit: "B",
            read: rss_bytes,
        },
    ],
    child,
    has_peers: false,
    time_limit: Duration::from_secs(300),
    bytes_per_device_max: 4 << 10,
};

fn number(report: &Value, pointer: &str) -> Option<f64> {
    report.pointer(pointer)?.as_f64()
}

fn readings_per_s(report: &Value) -> Option<f64> {
    let elapsed = number(report, "/elapsed_s").filter(|elapsed| *elapsed > 0.0)?;
    Some(number(report, "/world/readings_applied")? / elapsed)
}

fn cpu_s_per_million(report: &Value) -> Option<f64> {
    let applied = number(report, "/world/readings_applied").filter(|applied| *applied > 0.0)?;
    Some(number(report, "/process/cpu_s")? / applied * 1e6)
}

fn latency_p99(report: &Value) -> Option<f64> {
    number(report, "/tiers/t1/latency_us/p99")
}

/// The peak: at the end of a run the devices are gone already.
fn rss_bytes(report: &Value) -> Option<f64> {
    number(report, "/process/rss_peak_bytes")
}

/// Runs `actorsim start` in this process, on free ports and in a state directory of its own.
fn child(devices: u32) -> Result<Value, String> {
    let scratch = std::env::temp_dir().join(format!("actorsim-bench-{}", std::process::id()));
    let outcome = run_node(&scratch, devices);
    drop(fs::remove_dir_all(&scratch));
    outcome
}

fn run_node(scratch: &Path, devices: u32) -> Result<Value, String> {
    fs::create_dir_all(scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let report = scratch.join("report.json");
    let devices = devices.to_string();
    let seconds = format!("{}s", RUN_FOR.as_secs());
    let mut args: Vec<OsString> = [
        "actorsim",
        "start",
        "--devices",
        &devices,
        "--interval",
        INTERVAL,
        "--for",
        &seconds,
        "--listen",
        "127.0.0.1:0",
        "-X",
        "metrics.listen=127.0.0.1:0",
        "-X",
        "log.level=warn",
    ]
    .map(OsString::from)
    .into();
    args.extend([
        "--state-dir".into(),
        scratch.into(),
        "--report".into(),
        report.clone().into(),
    ]);
    let exit = actorsim::cli::run(args);
    let text = fs::read_to_string(&report).map_err(|error| format!("no report: {error}"))?;
    let report: Value = serde_json::from_str(&text).map_err(|error| format!("report: {error}"))?;
    if exit == actorsim::cli::Exit::Ok {
        Ok(report)
    } else {
        Err(format!(
            "{exit:?}, why: {}",
            report.get("why").unwrap_or(&Value::Null)
        ))
    }
}
