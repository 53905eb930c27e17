//! `cold`: a runtime comes up on two threads, two actors make 64 round trips, and it goes down.
//!
//! Where the two are is each runtime's own choice; ours are on one shard. Bound: a
//! fixed number of starts, one after the other; the value is their median.

use std::time::Instant;

use peer_probe::{COLD_ROUND_TRIPS, COLD_STARTS, Job, Latencies, Line};
use serde_json::Value;

use crate::cells::{Shards, value};
use crate::ping_pong;
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "cold",
    label: "runtime up on two threads, two actors make 64 round trips of 64 bytes, all down; \
            median of 21 in one process",
    shapes: Shapes::One(Load {
        size: COLD_ROUND_TRIPS,
        seconds: 0,
    }),
    smoke: Load {
        size: COLD_ROUND_TRIPS,
        seconds: 0,
    },
    metrics: &[metric("up_and_down", "us")],
    child,
    peers: &["tokio", "spargio", "actix", "kameo", "ractor", "rusm-otp"],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 0,
};

fn child(job: &Job) -> Result<Value, String> {
    let mut took = Latencies::default();
    for _ in 0..COLD_STARTS {
        let began = Instant::now();
        let shards = Shards::start_anywhere(2)?;
        ping_pong::one_shard(&shards, job.size)?;
        shards.stop()?;
        took.since(began);
    }
    value(&Line::new().with("up_and_down", took.us(0.5)))
}
