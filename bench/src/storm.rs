//! `storm`: one in ten actors panics at the same time, while all tick once a second.
//!
//! Ours: under the shipped policy of populations, its backoff and its restart budget included.
//! Bound: one storm.

use std::thread::sleep;
use std::time::{Duration, Instant};

use peer_probe::{Job, Line, STORM_EACH};
use serde_json::Value;

use crate::cells::{Shards, delays, until, value};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};
use crate::ticker::{self, Habit};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "storm",
    label: "actors ticking at 1 Hz, spread over the second; one in ten panics at the same time: \
            p99 lateness of the next tick of each of the others; seconds until all are back, \
            backoff included",
    shapes: Shapes::One(Load {
        size: 1_000_000,
        seconds: 3,
    }),
    smoke: Load {
        size: 1_000,
        seconds: 1,
    },
    metrics: &[
        metric("survivor_lateness_p99", "us"),
        metric("recovered", "s"),
    ],
    child,
    peers: &["catch_unwind", "ractor"],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 10 << 10,
};

fn child(job: &Job) -> Result<Value, String> {
    let shards = Shards::start_anywhere(0)?;
    let clock = shards.system.clock().clone();
    // all have started and ticked by then
    let storm = clock.now() + job.time() + Duration::from_micros(job.size * 2);
    let slabs = ticker::add(&shards, job.size, storm, Habit::Die(storm))?;
    let pause = Duration::from_millis(1);
    until(&slabs, pause, |counts| counts.running == counts.cells)?;
    if clock.now() > storm {
        return Err("the actors did not start in time".to_owned());
    }
    sleep(storm.since(clock.now()));
    let began = Instant::now();
    let each = STORM_EACH as u64;
    until(&slabs, pause, |counts| {
        counts.panics >= counts.cells / each && counts.running == counts.cells
    })?;
    let recovered = began.elapsed();
    sleep(Duration::from_secs(1).saturating_sub(recovered) + Duration::from_millis(100));
    let mut late = delays(&shards, &slabs)?;
    shards.stop()?;
    let line = Line::new()
        .with("survivor_lateness_p99", late.us(0.99))
        .with("recovered", recovered.as_secs_f64());
    value(&line)
}
