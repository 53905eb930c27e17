//! `idle`: what actors cost that do nothing but hold a timer of 60 s, as in `memory`.
//!
//! Bound: the given number of seconds.

use peer_probe::{Job, Line, Meter};
use serde_json::Value;

use crate::cells::value;
use crate::devices::{Devices, runtime};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "idle",
    label: "idle supervised actors as in `memory`, each with a live timer of 60 s that is set \
            again when it fires, spread over the 60 s: share of one core (user + system); ours: \
            sleeps of the shards per second, and timers fired",
    shapes: Shapes::One(Load {
        size: 1_000_000,
        seconds: 60,
    }),
    smoke: Load {
        size: 1_000,
        seconds: 1,
    },
    metrics: &[
        metric("core_share", "1"),
        metric("sleeps_per_s", "1/s"),
        metric("timers_per_s", "1/s"),
    ],
    child,
    peers: &["tokio"],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 4 << 10,
};

fn child(job: &Job) -> Result<Value, String> {
    runtime()?.block_on(measure(job))
}

async fn measure(job: &Job) -> Result<Value, String> {
    let node = Devices::start(job.size as u32, 1.0)?;
    let fleet = node.fleet().await?;
    let seen = || {
        let sleeps: u64 = node
            .host
            .shards()
            .iter()
            .map(|shard| shard.stats().waits)
            .sum();
        let counts = fleet.slab_counts();
        let fired: u64 = counts.iter().map(|counts| counts.timers_fired).sum();
        (sleeps as f64, fired as f64)
    };
    let (meter, before) = (Meter::start(), seen());
    tokio::time::sleep(job.time()).await;
    let (spent, after) = (meter.stop(), seen());
    fleet.stop().await;
    node.stop().await?;
    let line = Line::new()
        .with("core_share", spent.cpu_s / spent.wall_s)
        .with("sleeps_per_s", (after.0 - before.0) / spent.wall_s)
        .with("timers_per_s", (after.1 - before.1) / spent.wall_s);
    value(&line)
}
