//! `scan`: what a tick of the twin costs, and what the scan keeps on a grid of 1 ms.
//!
//! - `tick`: the world alone, stepped; beside it the same columns as plain arrays in one loop.
//! - `live`: a whole twin on its real-time thread while a million readings a second come in at its
//!   stages, from within its process; beside it the kernel's own `cyclictest`.
//! - `quic`: a whole node, whose fleet makes as many, and they come over QUIC.
//!
//! Shapes are named by entities, then by the share of them that gets a reading in each tick, or by
//! `live` or `quic`. Bound: the seconds of the job.

pub(crate) mod kernel;
mod live;
mod quic;
mod tick;
mod watch;

use std::time::Duration;

use peer_probe::Job;
use serde_json::Value;

use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

/// Sensors of a device: a row each.
const SENSORS: u64 = 7;
/// Period of the scan, live.
const PERIOD: Duration = Duration::from_millis(1);
/// Readings that come in each second.
const PACE: u64 = 1_000_000;

/// Who has the shapes of a tick, and who the live ones.
const TICK: &[&str] = &["soa"];
const LIVE: &[&str] = &["cyclictest"];

const fn load(size: u64, seconds: u64) -> Load {
    Load { size, seconds }
}

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "scan",
    label: "one tick of the twin's world: readings for a share of its rows, in random order, \
            smoothed, judged, and 1 % of the rows walked; peer: the same columns as plain arrays \
            in one loop. live: a whole twin at 1 kHz while 1 M readings/s come in at its stages, \
            without QUIC; quic: a whole node at 1 kHz, whose fleet sends as many over QUIC; \
            budget_share_p99 is of the period, overruns are those that no gap of the host \
            explains. cyclictest: on the same core with the same priority, and nothing beside it",
    shapes: Shapes::Named(&[
        ("10k-1", load(10_000, 2)),
        ("10k-10", load(10_000, 2)),
        ("10k-100", load(10_000, 2)),
        ("200k-1", load(200_000, 2)),
        ("200k-10", load(200_000, 2)),
        ("200k-100", load(200_000, 2)),
        ("1m-1", load(1_000_000, 3)),
        ("1m-10", load(1_000_000, 3)),
        ("1m-100", load(1_000_000, 3)),
        ("7m-1", load(7_000_000, 6)),
        ("7m-10", load(7_000_000, 6)),
        ("7m-100", load(7_000_000, 6)),
        ("10k-live", load(10_000, 8)),
        ("200k-live", load(200_000, 8)),
        ("1m-live", load(1_000_000, 8)),
        ("7m-live", load(7_000_000, 8)),
        ("200k-quic", load(200_000, 10)),
        ("1m-quic", load(1_000_000, 10)),
    ]),
    smoke: load(7_000, 1),
    metrics: &[
        metric("tick", "us"),
        metric("per_entity", "ns"),
        metric("allocations_per_cycle", "1"),
        metric("budget_share_p99", "1"),
        metric("jitter_p999", "us"),
        metric("jitter_max", "us"),
        metric("overruns", "1"),
        metric("overruns_host", "1"),
        metric("readings_per_s", "1/s"),
    ],
    child,
    peers: &["soa", "cyclictest"],
    own_shapes: &[
        ("10k-1", TICK),
        ("10k-10", TICK),
        ("10k-100", TICK),
        ("200k-1", TICK),
        ("200k-10", TICK),
        ("200k-100", TICK),
        ("1m-1", TICK),
        ("1m-10", TICK),
        ("1m-100", TICK),
        ("7m-1", TICK),
        ("7m-10", TICK),
        ("7m-100", TICK),
        ("10k-live", LIVE),
        ("200k-live", LIVE),
        ("1m-live", LIVE),
        ("7m-live", LIVE),
        ("200k-quic", &[]),
        ("1m-quic", &[]),
    ],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 512,
};

fn child(job: &Job) -> Result<Value, String> {
    match job.shape.rsplit('-').next().unwrap_or_default() {
        "live" => live::measure(job),
        "quic" => quic::measure(job),
        percent => match percent.parse() {
            Ok(percent) => tick::measure(job, percent),
            Err(_) => Err(format!("no shape {:?}", job.shape)),
        },
    }
}

#[cfg(test)]
mod tests {
    use actorsim_transport::SensorType;

    use super::*;

    #[test]
    fn a_device_has_a_sensor_of_each_type() {
        assert_eq!(SENSORS, SensorType::ALL.len() as u64);
    }
}
