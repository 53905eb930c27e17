//! `timers`: actors that tick once a second, and that set another timer again at each tick.
//!
//! Bound: the given number of seconds for each of the two, after a second or two of settling.

use std::thread::sleep;
use std::time::Duration;

use peer_probe::{Job, Line, Meter};
use serde_json::Value;

use crate::cells::{Shards, delays, until, value};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};
use crate::ticker::{self, Habit};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "timers",
    label: "actors ticking at 1 Hz, spread over the second: share of one core (user + system) and \
            p99 lateness of a tick, when its step runs; the same if each tick also cancels and \
            sets again a timer of 30 s",
    shapes: Shapes::One(Load {
        size: 1_000_000,
        seconds: 10,
    }),
    smoke: Load {
        size: 1_000,
        seconds: 1,
    },
    metrics: &[
        metric("core_share", "1"),
        metric("lateness_p99", "us"),
        metric("rescheduling_core_share", "1"),
        metric("rescheduling_lateness_p99", "us"),
    ],
    child,
    peers: &["tokio"],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 4 << 10,
};

/// From the last start to the first tick that counts.
const SETTLE: Duration = Duration::from_secs(2);

fn child(job: &Job) -> Result<Value, String> {
    let (share, p99) = measure(job, Habit::Tick)?;
    let line = Line::new()
        .with("core_share", share)
        .with("lateness_p99", p99);
    let (share, p99) = measure(job, Habit::Reschedule)?;
    let line = line.with("rescheduling_core_share", share);
    value(&line.with("rescheduling_lateness_p99", p99))
}

fn measure(job: &Job, habit: Habit) -> Result<(f64, f64), String> {
    let shards = Shards::start_anywhere(0)?;
    // the start of a million is not what is measured
    let from = shards.system.clock().now() + SETTLE + Duration::from_micros(job.size * 2);
    let slabs = ticker::add(&shards, job.size, from, habit)?;
    until(&slabs, Duration::from_millis(1), |counts| {
        counts.running == counts.cells
    })?;
    sleep(from.since(shards.system.clock().now()));
    let meter = Meter::start();
    sleep(job.time());
    let spent = meter.stop();
    let mut late = delays(&shards, &slabs)?;
    shards.stop()?;
    Ok((spent.cpu_s / spent.wall_s, late.us(0.99)))
}
