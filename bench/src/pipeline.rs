//! `pipeline`: a whole node in one process, its fleet sending over QUIC into its own scanned world.
//!
//! The numbers are read from the run report that `start --report` writes. There is no peer that is
//! one program of this shape. Bound: each run ends by its own `--for`.

use peer_probe::Job;
use serde_json::{Value, json};

use crate::node::report_of;
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "pipeline",
    label: "whole node in one child process, T1 at 5 s x 7 sensors through QUIC on loopback into \
            the world scanned at 10 Hz, start included: readings applied / s of run; CPU s (user + \
            system) per million applied, and as the share of a core; p99 from stamp to receipt, \
            first reading of each datagram; readings dropped anywhere, and their share; overruns \
            and skipped slots of the scan; peak RSS",
    shapes: Shapes::Sizes {
        forms: &[("", &[1_000, 100_000, 1_000_000])],
        seconds: 30, // six ticks of each device
    },
    smoke: Load {
        size: 100,
        seconds: 6,
    },
    metrics: &[
        metric("readings_per_s", "1/s"),
        metric("cpu_s_per_million", "s"),
        metric("core_share", "1"),
        metric("latency_p99", "us"),
        metric("dropped", "1"),
        metric("dropped_ratio", "1"),
        metric("overruns", "1"),
        metric("skipped", "1"),
        metric("rss_bytes", "B"),
    ],
    child,
    peers: &[],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 4 << 10,
};

/// The numbers of a run report.
fn numbers(report: &Value) -> Value {
    json!({
        "readings_per_s": readings_per_s(report),
        "cpu_s_per_million": cpu_s_per_million(report),
        "core_share": core_share(report),
        "latency_p99": number(report, "/tiers/t1/latency_us/p99"),
        "dropped": dropped(report),
        "dropped_ratio": dropped_ratio(report),
        "overruns": number(report, "/world/scan/overruns"),
        "skipped": number(report, "/world/scan/skipped"),
        "rss_bytes": number(report, "/process/rss_peak_bytes"), // at the end all devices are gone
    })
}

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

fn core_share(report: &Value) -> Option<f64> {
    let elapsed = number(report, "/elapsed_s").filter(|elapsed| *elapsed > 0.0)?;
    Some(number(report, "/process/cpu_s")? / elapsed)
}

fn dropped(report: &Value) -> Option<f64> {
    let ways = ["/tiers/t1/dropped", "/tiers/t1/dropped_after_receipt"];
    ways.iter().map(|way| number(report, way)).sum()
}

fn dropped_ratio(report: &Value) -> Option<f64> {
    let applied = number(report, "/world/readings_applied")?;
    let dropped = dropped(report)?;
    Some(dropped / (applied + dropped)).filter(|ratio| ratio.is_finite())
}

/// Runs `actorsim start` in this process, on free ports and in a state directory of its own.
fn child(job: &Job) -> Result<Value, String> {
    let flags = ["--listen", "127.0.0.1:0", "-X", "scan.period=100ms"];
    report_of(job, &flags).map(|report| numbers(&report))
}
