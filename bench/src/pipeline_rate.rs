//! `pipeline-rate`: a million devices and their twin in one process, faster and faster.
//!
//! As `pipeline`, with the scan at 10 Hz, and measured in a window after the start: what is
//! offered, what is applied, where the rest went, and which threads had no time left. Bound: the
//! window and its warm-up.

use std::time::{Duration, Instant};

use actorsim_transport::{DropReason, Line};
use peer_probe::{Job, cpu_s, resident_bytes};
use serde_json::{Value, json};

use crate::node::Running;
use crate::scenario::{Load, Scenario, Shapes, metric};
use crate::threads::cpu_s_of;

/// Devices of the measured sizes.
const DEVICES: u64 = 1_000_000;
/// Sensors of a device.
const SENSORS: u64 = 7;
/// Ending of the shapes whose packets are those of a line between two machines, not the larger ones
/// that there are within one.
const ETHERNET: &str = "-ethernet";
/// Threads that may be the narrow place, by the beginning of their names.
const THREADS: [&str; 3] = ["net", "shard-", "scan"];
/// Why readings are dropped that the twin has received.
const AFTER: [DropReason; 4] = [
    DropReason::Overflow,
    DropReason::Tier,
    DropReason::Died,
    DropReason::Refused,
];
/// After the start of all devices.
const WARM_UP: Duration = Duration::from_secs(10);

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "pipeline-rate",
    label: "a whole node in one child process, 1,000,000 devices x 7 sensors through QUIC on \
            loopback into the world scanned at 10 Hz, at `size` readings/s (-ethernet: in frames \
            of Ethernet, else in those within a machine): readings that devices made and that were \
            applied / s; of all readings the share dropped anywhere, and where: at the sender, in \
            the network (the receiver's buffers are), after receipt; p99 from stamp to receipt; \
            scan overruns and skipped slots; the share of a core of the whole process, of the \
            network's thread, of all shards and of the scan; resident memory; all of a window \
            after the start",
    shapes: Shapes::Sizes {
        forms: &[
            (
                "",
                &[
                    1_400_000, 2_800_000, 4_000_000, 5_600_000, 7_000_000, 9_000_000, 11_000_000,
                    14_000_000,
                ],
            ),
            (ETHERNET, &[4_000_000, 7_000_000]),
        ],
        seconds: 60,
    },
    smoke: Load {
        size: 700,
        seconds: 1,
    },
    metrics: &[
        metric("offered_per_s", "1/s"),
        metric("readings_per_s", "1/s"),
        metric("dropped_ratio", "1"),
        metric("dropped_sender", "1"),
        metric("dropped_network", "1"),
        metric("dropped_after", "1"),
        metric("latency_p99", "us"),
        metric("overruns", "1"),
        metric("skipped", "1"),
        metric("core_share", "1"),
        metric("net_core_share", "1"),
        metric("shards_core_share", "1"),
        metric("scan_core_share", "1"),
        metric("rss_bytes", "B"),
    ],
    child,
    peers: &[],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: Duration::from_secs(300),
    bytes_each_max: 512,
};

/// What happened so far, or in a window: the difference of two.
#[derive(Clone, Copy, Debug)]
struct Seen {
    offered: u64,
    applied: u64,
    /// At the sender, on the way, after receipt.
    lost: [u64; 3],
    overruns: u64,
    skipped: u64,
    cpu_s: f64,
    threads_s: [Option<f64>; THREADS.len()],
}

impl Seen {
    fn now(node: &Running) -> Self {
        let t1 = &node.stats().t1;
        let (sent, received) = (t1.sent.get(), t1.received.get());
        let dropped = |reasons: &[DropReason]| -> u64 {
            reasons.iter().map(|reason| t1.dropped.get(*reason)).sum()
        };
        let sender = dropped(&[DropReason::Sender]);
        // until the goodbye settles it, also what is under way
        let network = sent.saturating_sub(received);
        let after = dropped(&AFTER);
        let scan = node.twin().map(|twin| twin.report().scan);
        let slots = scan.map_or([0; 2], |scan| [scan.overruns, scan.skipped]);
        Self {
            offered: sent + sender,
            applied: t1.applied.get(),
            lost: [sender, network, after],
            overruns: slots[0],
            skipped: slots[1],
            cpu_s: cpu_s(),
            threads_s: THREADS.map(cpu_s_of),
        }
    }

    fn since(self, then: Self) -> Self {
        let ran = |at: usize| Some(self.threads_s[at]? - then.threads_s[at]?);
        Self {
            offered: self.offered - then.offered,
            applied: self.applied - then.applied,
            lost: [0, 1, 2].map(|at| self.lost[at].saturating_sub(then.lost[at])),
            overruns: self.overruns - then.overruns,
            skipped: self.skipped - then.skipped,
            cpu_s: self.cpu_s - then.cpu_s,
            threads_s: [0, 1, 2].map(ran),
        }
    }

    fn numbers(&self, wall_s: f64) -> Value {
        let all = (self.applied + self.lost.iter().sum::<u64>()) as f64;
        let share = |lost: u64| lost as f64 / all;
        let [net, shards, scan] = self
            .threads_s
            .map(|ran_s| ran_s.map(|ran_s| ran_s / wall_s));
        json!({
            "offered_per_s": self.offered as f64 / wall_s,
            "readings_per_s": self.applied as f64 / wall_s,
            "dropped_ratio": share(self.lost.iter().sum()),
            "dropped_sender": share(self.lost[0]),
            "dropped_network": share(self.lost[1]),
            "dropped_after": share(self.lost[2]),
            "overruns": self.overruns,
            "skipped": self.skipped,
            "core_share": self.cpu_s / wall_s,
            "net_core_share": net,
            "shards_core_share": shards,
            "scan_core_share": scan,
        })
    }
}

fn child(job: &Job) -> Result<Value, String> {
    let devices = if job.size < DEVICES {
        (job.size / SENSORS).max(1)
    } else {
        DEVICES
    };
    let interval_us = devices * SENSORS * 1_000_000 / job.size;
    let devices = format!("fleet.devices={devices}");
    let interval = format!("fleet.interval={interval_us}us");
    let settings = [&*devices, &interval, "scan.period=100ms"];
    let line = job.shape.ends_with(ETHERNET).then_some(Line::ETHERNET);
    let watched = Running::under_any_load(&settings, line, async |node| {
        node.settled(WARM_UP.min(5 * job.time())).await?;
        let latency = &node.stats().t1.latency;
        let (began, before, times) = (Instant::now(), Seen::now(node), latency.snapshot());
        tokio::time::sleep(job.time()).await;
        let (wall_s, seen) = (began.elapsed().as_secs_f64(), Seen::now(node).since(before));
        let p99 = latency.quantiles_since(&times).map(|times| times.p99);
        Ok((seen, wall_s, p99, resident_bytes()))
    });
    let ((mut seen, wall_s, p99, rss), lost) = watched?;
    // what was under way at the end and is now known to have come was not lost
    seen.lost[1] = seen.lost[1].min(lost);
    let mut numbers = seen.numbers(wall_s);
    numbers["latency_p99"] = json!(p99);
    numbers["rss_bytes"] = json!(rss);
    Ok(numbers)
}
