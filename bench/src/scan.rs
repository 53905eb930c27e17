//! `scan`: what a tick of the twin costs, and what the scan keeps on a grid of 1 ms.
//!
//! - `tick`: the world alone, stepped; beside it the same columns as plain arrays in one loop.
//! - `live`: a whole twin on its real-time thread while a million readings a second come in.
//!
//! Shapes are named by entities, then by the share of them that gets a reading in each tick, or
//! `live`. Bound: the seconds of the job.

mod live;
mod tick;

use peer_probe::Job;
use serde_json::Value;

use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

const fn load(size: u64, seconds: u64) -> Load {
    Load { size, seconds }
}

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "scan",
    label: "one tick of the twin's world: readings for a share of its rows, in random order, \
            smoothed, judged, and 1 % of the rows walked; peer: the same columns as plain arrays \
            in one loop. live: a whole twin at 1 kHz while 1 M readings/s come in; \
            budget_share_p99 is of its period, overruns are those that no gap of the host explains",
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
    peers: &["soa"],
    own_shapes: &[
        ("10k-live", &[]),
        ("200k-live", &[]),
        ("1m-live", &[]),
        ("7m-live", &[]),
    ],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 512,
};

fn child(job: &Job) -> Result<Value, String> {
    let shape = job.shape.rsplit('-').next().unwrap_or_default();
    match shape.parse() {
        Ok(percent) => tick::measure(job, percent),
        Err(_) => live::measure(job),
    }
}
