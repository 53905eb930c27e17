//! `loss`: entities by packet loss: a whole node in a network namespace that loses packets both
//! ways, beside the same readings over plain TCP.
//!
//! The rows are those of the guide's own sweep. Each is a process of its own in a namespace of its
//! own, in which loss is proved in both directions before anything is measured; the baseline has
//! another one and runs at the same time, which halves the hour that all rows would take. What is
//! measured follows a warm-up of two fifths of the window. Bound: the window.

mod tcp;

use std::time::{Duration, Instant};

use peer_probe::{Job, resident_bytes};
use serde_json::{Value, json};

use crate::netns;
use crate::node::Running;
use crate::scenario::{Load, Scenario, Shapes, metric};

/// Sensors of a device: an entity is one of them.
pub(crate) const SENSORS: u64 = 7;
/// Between two samples of a device.
const INTERVAL: Duration = Duration::from_secs(5);
/// Events a second of all devices, and commands a second.
pub(crate) const EVENTS: u64 = 1_000;
pub(crate) const COMMANDS: u64 = 100;
/// An event that is not acknowledged so long after the window counts as lost.
const LATE: Duration = Duration::from_secs(10);
/// The baseline, which is of this binary.
pub(crate) const TCP: &str = "tcp";
/// Participants of this binary beside ours.
pub(crate) const BASELINES: &[&str] = &[TCP];

/// The guide's window; its warm-up of 20 s is two fifths of it.
const fn row(size: u64) -> Load {
    Load { size, seconds: 50 }
}

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "loss",
    label: "ENTITIES-LOSS: a whole node in a network namespace of its own, where netem or nftables \
            drop that share of all packets both ways; devices at 5 s x 7 sensors, 1,000 events/s, \
            100 commands/s; p99 from stamp to receipt (T1, T2) and of a round trip (T3). tcp: the \
            same readings, events and commands over a plain TCP connection each, at the same time \
            in a namespace of its own. -10ms: our own sockets bring each packet so much later, \
            each way",
    shapes: Shapes::Named(&[
        ("10k-0%", row(10_000)),
        ("10k-1%", row(10_000)),
        ("10k-2%", row(10_000)),
        ("10k-5%", row(10_000)),
        ("50k-0%", row(50_000)),
        ("50k-1%", row(50_000)),
        ("50k-2%", row(50_000)),
        ("50k-5%", row(50_000)),
        ("100k-0%", row(100_000)),
        ("100k-1%", row(100_000)),
        ("100k-2%", row(100_000)),
        ("100k-5%", row(100_000)),
        ("200k-0%", row(200_000)),
        ("200k-1%", row(200_000)),
        ("200k-2%", row(200_000)),
        ("200k-5%", row(200_000)),
        ("10k-0%-10ms", row(10_000)),
        ("10k-5%-10ms", row(10_000)),
    ]),
    smoke: Load {
        size: 700,
        seconds: 1,
    },
    metrics: &[
        metric("t1_latency_p50", "us"),
        metric("t1_latency_p99", "us"),
        metric("t1_delivered_ratio", "1"),
        metric("t2_latency_p50", "us"),
        metric("t2_latency_p99", "us"),
        metric("t2_delivered_ratio", "1"),
        metric("t3_rtt_p50", "us"),
        metric("t3_rtt_p99", "us"),
        metric("t3_delivered_ratio", "1"),
        metric("tick", "us"),
        metric("ticks_per_s", "1/s"),
        metric("bytes_per_entity", "B"),
        metric("rss_bytes", "B"),
    ],
    child,
    peers: BASELINES,
    own_shapes: &[("10k-0%-10ms", &[]), ("10k-5%-10ms", &[])],
    peer_sizes: &[],
    time_limit: Duration::from_secs(300),
    bytes_each_max: 16 << 10,
};

/// The loss of a shape, of a hundred.
fn percent(shape: &str) -> Option<u32> {
    let mut shares = shape.split('-').filter_map(|part| part.strip_suffix('%'));
    shares.next_back()?.parse().ok()
}

/// How much later packets come, for the key of our node.
fn delay(shape: &str) -> Option<&str> {
    shape.rsplit('-').next().filter(|part| part.ends_with("ms"))
}

fn child(job: &Job) -> Result<Value, String> {
    let percent = percent(&job.shape).ok_or_else(|| format!("no shape {:?}", job.shape))?;
    if !netns::inside() {
        return netns::lossy(percent, job);
    }
    let by = netns::prove(percent)?;
    let measured = match job.shape.strip_prefix(TCP) {
        Some(_) => tcp::measure(job),
        None => ours(job),
    };
    measured.map(|numbers| netns::with(numbers, &by))
}

/// What devices do a second, ours and those of the baseline alike.
struct Offered {
    devices: u64,
    readings: u64,
}

impl Offered {
    fn of(job: &Job) -> Self {
        let devices = (job.size / SENSORS).max(1);
        let readings = devices * SENSORS / interval(job).as_secs();
        Self { devices, readings }
    }
}

/// No longer than the window, in which each device reports then.
fn interval(job: &Job) -> Duration {
    INTERVAL.min(job.time())
}

fn warm_up(job: &Job) -> Duration {
    job.time() * 2 / 5
}

fn ours(job: &Job) -> Result<Value, String> {
    let empty = resident_bytes();
    let offered = Offered::of(job);
    let devices = format!("fleet.devices={}", offered.devices);
    let interval = format!("fleet.interval={}s", interval(job).as_secs());
    let events = EVENTS as f64 / offered.devices as f64;
    let events = format!("tiers.t2_rate={events}");
    let commands = format!("t3.synthetic_rate={COMMANDS}");
    let delay = delay(&job.shape).unwrap_or("0ms");
    let delay = format!("transport.line.delay={delay}");
    let settings = [&*devices, &interval, &events, &commands, &delay];
    Running::with(&settings, async |node| {
        node.settled(warm_up(job)).await?;
        let stats = node.stats();
        let (t1, t2, t3) = (&stats.t1, &stats.t2, &stats.t3);
        let before = (
            t1.latency.snapshot(),
            t2.latency.snapshot(),
            t3.rtt.snapshot(),
        );
        let (sent, received) = (t1.sent.get(), t1.received.get());
        let (acked, settled) = (t3.acked.get(), t3.settled());
        let cycles = || node.twin().map(|twin| twin.snapshot().cycles);
        let (began, ticked) = (Instant::now(), cycles());
        tokio::time::sleep(job.time()).await;
        let ticks = cycles().zip(ticked).map(|(now, then)| now - then);
        let ticks_per_s = ticks.map(|ticks| ticks as f64 / began.elapsed().as_secs_f64());
        let ratio = |came: u64, of: u64| (of > 0).then(|| (came as f64 / of as f64).min(1.0));
        let t1_ratio = ratio(t1.received.get() - received, t1.sent.get() - sent);
        let created = t2.created.get();
        let patience = Instant::now() + LATE;
        while t2.acked.get() < created && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let t2_ratio = ratio(t2.acked.get(), created);
        let t3_ratio = ratio(t3.acked.get() - acked, t3.settled() - settled);
        let [t1, t2, t3] = [
            t1.latency.quantiles_since(&before.0),
            t2.latency.quantiles_since(&before.1),
            t3.rtt.quantiles_since(&before.2),
        ];
        let tick = node.twin().and_then(|twin| twin.report().scan.took_us);
        let rss = resident_bytes();
        Ok(json!({
            "t1_latency_p50": t1.map(|q| q.p50),
            "t1_latency_p99": t1.map(|q| q.p99),
            "t1_delivered_ratio": t1_ratio,
            "t2_latency_p50": t2.map(|q| q.p50),
            "t2_latency_p99": t2.map(|q| q.p99),
            "t2_delivered_ratio": t2_ratio,
            "t3_rtt_p50": t3.map(|q| q.p50),
            "t3_rtt_p99": t3.map(|q| q.p99),
            "t3_delivered_ratio": t3_ratio,
            "tick": tick.map(|times| times.p50),
            "ticks_per_s": ticks_per_s,
            "bytes_per_entity": rss.saturating_sub(empty) as f64 / job.size as f64,
            "rss_bytes": rss,
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_of_each_shape_is_in_its_name() {
        let Shapes::Named(shapes) = SCENARIO.shapes else {
            panic!("its shapes are named");
        };
        assert!(shapes.iter().all(|(name, _)| percent(name).is_some()));
        assert_eq!((percent("tcp-10k-5%"), percent("10k")), (Some(5), None));
        let line = (percent("10k-2%-10ms"), delay("10k-2%-10ms"));
        assert_eq!((line, delay("10k-5%")), ((Some(2), Some("10ms")), None));
    }
}
