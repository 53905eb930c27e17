//! `connect-storm`: all devices lose their broker at once, and come back.
//!
//! As `mqtt`; once all sessions are up, and for [`QUIET`] more, the sink resets every connection.
//! Bound: each run ends by its own `--for`.

use std::time::Duration;

use peer_probe::{Broker, Job};
use serde_json::{Value, json};

use crate::mqtt::{LOOK, Way, measure};
use crate::scenario::{Load, Scenario, Shapes, metric};

/// From the time all sessions are up until they are dropped: longer than what a device takes for a
/// good session, so that each waits as after its first loss.
const QUIET: Duration = Duration::from_secs(12);

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "connect-storm",
    label: "as mqtt; 12 s after all sessions are up the broker resets every connection: sessions \
            up at the end; seconds from the reset until half, 99 of 100 and all are up again; the \
            latest timer of the whole run (ticks and deadlines of all devices); samples that were \
            not taken; CPU s of the node for the whole run",
    shapes: Shapes::One(Load {
        size: 100_000,
        seconds: 180,
    }),
    smoke: Load {
        size: 100,
        seconds: 20,
    },
    metrics: &[
        metric("connected", "1"),
        metric("half_back", "s"),
        metric("most_back", "s"),
        metric("all_back", "s"),
        metric("tick_latest", "ms"),
        metric("ticks_missed", "1"),
        metric("cpu_s", "s"),
    ],
    child,
    peers: &[],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: Duration::from_secs(600),
    bytes_each_max: 16 << 10,
};

fn child(job: &Job) -> Result<Value, String> {
    let storm = |broker: &mut Broker, over: &dyn Fn() -> bool| {
        std::thread::park_timeout(QUIET);
        broker.drop_all()?;
        while !over() && broker.counts()?.connects < 2 * job.size {
            std::thread::park_timeout(LOOK);
        }
        Ok(())
    };
    let run = measure(job, &Way::Plain, storm)?;
    let [half, most, all] = run.counts.back_ms.map(|ms| ms as f64 / 1e3);
    let back = run.counts.connects >= 2 * job.size;
    Ok(json!({
        "connected": run.number("/publish/mqtt/connected"),
        "half_back": half,
        "most_back": most,
        "all_back": back.then_some(all),
        "tick_latest": run.number("/devices/tick_lateness_us/max").map(|us| us / 1e3),
        "ticks_missed": run.number("/devices/ticks_missed"),
        "cpu_s": run.number("/process/cpu_s"),
    }))
}
