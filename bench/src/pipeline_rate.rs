//! `pipeline-rate`: a million devices and their twin in one process, faster and faster.
//!
//! As `pipeline`, with the scan at 10 Hz, and measured in a window after the start: what is
//! offered, what is applied, where the rest went. Bound: the window and its warm-up.

use std::time::{Duration, Instant};

use actorsim_transport::{DropReason, TransportStats};
use peer_probe::{Job, cpu_s, resident_bytes};
use serde_json::{Value, json};

use crate::node::Running;
use crate::scenario::{Load, Scenario, Shapes, metric};

/// Devices of the measured sizes.
const DEVICES: u64 = 1_000_000;
/// Sensors of a device.
const SENSORS: u64 = 7;
/// After the start of all devices.
const WARM_UP: Duration = Duration::from_secs(10);

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "pipeline-rate",
    label: "a whole node in one child process, 1,000,000 devices x 7 sensors through QUIC on \
            loopback into the world scanned at 10 Hz, at `size` readings/s: readings applied / s, \
            the share of a core of the whole process, the share of readings dropped anywhere, p99 \
            from stamp to receipt, scan overruns and skipped slots, resident memory; all of a \
            window after the start",
    shapes: Shapes::Sizes {
        sizes: &[1_400_000, 2_800_000, 4_000_000, 5_600_000, 7_000_000],
        seconds: 60,
    },
    smoke: Load {
        size: 700,
        seconds: 2,
    },
    metrics: &[
        metric("readings_per_s", "1/s"),
        metric("core_share", "1"),
        metric("dropped_ratio", "1"),
        metric("dropped_sender", "1"),
        metric("dropped_network", "1"),
        metric("dropped_after", "1"),
        metric("latency_p99", "us"),
        metric("overruns", "1"),
        metric("skipped", "1"),
        metric("rss_bytes", "B"),
    ],
    child,
    peers: &[],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: Duration::from_secs(300),
    bytes_each_max: 512,
};

/// Readings lost so far: at the sender, on the way, after receipt.
fn lost(stats: &TransportStats) -> [u64; 3] {
    let dropped = &stats.t1.dropped;
    let sender = dropped.get(DropReason::Sender);
    // What QUIC lost is settled with the goodbye only; until then it is what did not come.
    let network = stats.t1.sent.get().saturating_sub(stats.t1.received.get());
    let settled = dropped.get(DropReason::Network);
    [sender, network, dropped.total() - sender - settled]
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
    Running::under_any_load(&settings, async |node| {
        node.settled(WARM_UP.min(5 * job.time())).await?;
        let stats = node.stats();
        let scanned = || {
            let report = node.twin().map(|twin| twin.report().scan);
            report.map_or([0; 2], |scan| [scan.overruns, scan.skipped])
        };
        let (began, cpu, applied) = (Instant::now(), cpu_s(), stats.t1.applied.get());
        let (latency, lost_before) = (stats.t1.latency.snapshot(), lost(stats));
        let slots = scanned();
        tokio::time::sleep(job.time()).await;
        let (wall_s, cpu) = (began.elapsed().as_secs_f64(), cpu_s() - cpu);
        let applied = stats.t1.applied.get() - applied;
        let now = lost(stats);
        let lost = [0, 1, 2].map(|at| now[at].saturating_sub(lost_before[at]) as f64);
        let all = applied as f64 + lost.iter().sum::<f64>();
        let slots_now = scanned();
        let latency = stats.t1.latency.quantiles_since(&latency);
        Ok(json!({
            "readings_per_s": applied as f64 / wall_s,
            "core_share": cpu / wall_s,
            "dropped_ratio": lost.iter().sum::<f64>() / all,
            "dropped_sender": lost[0] / all,
            "dropped_network": lost[1] / all,
            "dropped_after": lost[2] / all,
            "latency_p99": latency.map(|times| times.p99),
            "overruns": slots_now[0] - slots[0],
            "skipped": slots_now[1] - slots[1],
            "rss_bytes": resident_bytes(),
        }))
    })
}
