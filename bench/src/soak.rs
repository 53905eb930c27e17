//! `soak`: a whole node at an even load for a long time: does it grow?
//!
//! Memory, files and threads are read every minute and told on standard error; the numbers compare
//! the first of these readings after a warm-up of a tenth of the time with the most and the last.
//! `--seconds` is how long. Bound: the time and its warm-up.

use std::fs;
use std::time::Duration;

use peer_probe::{Job, resident_bytes};
use serde_json::{Value, json};

use crate::node::Running;
use crate::scenario::{Load, Scenario, Shapes, metric};

/// Readings a second of one device: seven sensors every 5 s.
const PER_DEVICE: f64 = 7.0 / 5.0;
/// Events and commands a second beside the readings.
const EVENTS: f64 = 1_000.0;
const COMMANDS: &str = "t3.synthetic_rate=100";
/// Readings of memory, files and threads.
const SAMPLES: u32 = 60;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "soak",
    label: "a whole node at `size` readings/s, 1,000 events/s and 100 commands/s for an hour: \
            growth of resident memory after a warm-up of a tenth, and the most files and threads \
            above those after it",
    shapes: Shapes::One(Load {
        size: 100_000,
        seconds: 3_600,
    }),
    smoke: Load {
        size: 700,
        seconds: 3,
    },
    metrics: &[
        metric("readings_per_s", "1/s"),
        metric("rss_bytes", "B"),
        metric("rss_growth", "1"),
        metric("rss_growth_max", "1"),
        metric("files_more", "1"),
        metric("threads_more", "1"),
    ],
    child,
    peers: &[],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: Duration::from_secs(4 * 3_600),
    bytes_each_max: 4 << 10,
};

/// What must not grow.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    rss: u64,
    files: u64,
    threads: u64,
}

impl Held {
    fn now() -> Self {
        let entries = |path| fs::read_dir(path).map_or(0, |entries| entries.count() as u64);
        Self {
            rss: resident_bytes(),
            files: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            rss: self.rss.max(other.rss),
            files: self.files.max(other.files),
            threads: self.threads.max(other.threads),
        }
    }
}

fn child(job: &Job) -> Result<Value, String> {
    let devices = (job.size as f64 / PER_DEVICE).ceil().max(1.0);
    let events = format!("tiers.t2_rate={}", (EVENTS / devices).min(1_000.0));
    let devices = format!("fleet.devices={devices}");
    let settings = [&devices, "fleet.interval=5s", &*events, COMMANDS];
    Running::with(&settings, async |node| {
        node.settled(job.time() / 10).await?;
        let (first, applied) = (Held::now(), node.stats().t1.applied.get());
        let (mut last, mut most) = (first, first);
        for sample in 1..=SAMPLES {
            tokio::time::sleep(job.time() / SAMPLES).await;
            last = Held::now();
            most = most.most(last);
            eprintln!("soak {sample}/{SAMPLES}: {last:?}");
        }
        let applied = node.stats().t1.applied.get() - applied;
        let growth = |rss: u64| rss as f64 / first.rss as f64 - 1.0;
        Ok(json!({
            "readings_per_s": applied as f64 / job.time().as_secs_f64(),
            "rss_bytes": last.rss,
            "rss_growth": growth(last.rss),
            "rss_growth_max": growth(most.rss),
            "files_more": most.files - first.files,
            "threads_more": most.threads - first.threads,
        }))
    })
}
