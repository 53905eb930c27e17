//! What a running node shows of itself: one snapshot, read by metrics, status line and report.
//!
//! It is plain data. A layer that does not run in this node is `None`, never zeros.
//!
//! Bound: lists are by tier, host, kind, type, supervisor or shard; nothing here is per device.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::report::Limit;

use actorsim_supervision::report::Tally;

use actorsim_actors::shard::{Lateness, ShardStats};
use actorsim_world::report::TypeReport;
use actorsim_world::scan::stats::Quantiles;

/// A source of snapshots: the node.
pub trait NodeView: Send + Sync + 'static {
    /// The state now, every distribution included; it must not block.
    fn snapshot(&self) -> NodeSnapshot;

    /// The same without what takes time to add up: health, devices, readings in the world, jitter,
    /// restarts. For who looks each second.
    fn brief(&self) -> NodeSnapshot {
        self.snapshot()
    }
}

/// A distribution in buckets, as Prometheus counts it: each count is of its own bucket only.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buckets {
    /// Sum of the values, in seconds.
    pub sum: f64,
    /// Number of values.
    pub count: u64,
    /// Upper edge in seconds (the last is infinite) and number of values in the bucket.
    pub buckets: Vec<(f64, u64)>,
}

/// Upper edges in seconds for latencies, from 10 microseconds to 10 seconds; then infinity.
pub const LATENCY_EDGES: &[f64] = &[
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

impl Buckets {
    /// From a histogram whose values are `unit` seconds each (1e-6 for microseconds).
    #[must_use]
    pub fn from_histogram(histogram: &hdrhistogram::Histogram<u64>, unit: f64) -> Self {
        let mut buckets: Vec<(f64, u64)> = LATENCY_EDGES
            .iter()
            .map(|edge| (*edge, 0))
            .chain([(f64::INFINITY, 0)])
            .collect();
        let mut sum = 0.0;
        for value in histogram.iter_recorded() {
            let seconds = value.value_iterated_to() as f64 * unit;
            let at = LATENCY_EDGES.partition_point(|edge| *edge < seconds);
            buckets[at].1 += value.count_at_value();
            sum += seconds * value.count_at_value() as f64;
        }
        Self {
            sum,
            count: histogram.len(),
            buckets,
        }
    }

    /// From the lateness of a shard's timers.
    #[must_use]
    pub fn from_lateness(lateness: &Lateness) -> Self {
        let mut below = 0;
        let edges = LATENCY_EDGES.iter().copied().chain([f64::INFINITY]);
        let buckets = edges.map(|edge| {
            // A float that is too large becomes the largest integer.
            let at = lateness.count_at_or_below((edge * 1e9) as u64);
            let own = at - std::mem::replace(&mut below, at);
            (edge, own)
        });
        Self {
            buckets: buckets.collect(),
            sum: lateness.sum_ns() as f64 * 1e-9,
            count: lateness.count(),
        }
    }
}

/// One moment of a node.
#[derive(Debug, Clone, Default)]
pub struct NodeSnapshot {
    /// True once the root supervisor is up and every listener is bound.
    pub ready: bool,
    /// What is wrong, in words; empty when healthy.
    pub unhealthy: Vec<String>,
    /// Limits that have bitten.
    pub limits: Vec<Limit>,
    /// What takes its time now, if anything; in brief snapshots only.
    pub under_way: Option<UnderWay>,
    /// Time since start.
    pub uptime: Duration,
    /// The fleet.
    pub devices: Option<DevicesView>,
    /// Tiers that run in this node, by name (`t1`, `t2`, `t3`).
    pub tiers: Vec<TierView>,
    /// Commands of the tier T3, seen from the twin.
    pub t3: Option<T3View>,
    /// The scanned world.
    pub world: Option<WorldView>,
    /// The journal, and the time of its commits.
    pub journal: Option<(actorsim_world::JournalReport, Buckets)>,
    /// Mailboxes, folded by host and kind of actor.
    pub mailboxes: Vec<MailboxView>,
    /// Actors by host.
    pub actors: Vec<(&'static str, u64)>,
    /// Actors and devices started again, for whatever reason.
    pub restarts: u64,
    /// Abnormal ends, by supervisor and reason, with the restarts and escalations among them.
    pub crashes: Vec<Tally>,
    /// Destructors that panicked when queues dropped what nobody takes any more.
    pub destructor_panics: u64,
    /// From an exit to its replacement in service.
    pub restart_time: Option<Buckets>,
    /// QUIC endpoint counters: name without prefix, label value, count.
    pub quic: Vec<(&'static str, &'static str, u64)>,
    /// Shards.
    pub shards: Vec<ShardView>,
    /// The process.
    pub process: ProcessView,
}

/// Something long that a node is about: so much of it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnderWay {
    /// What.
    pub what: &'static str,
    /// So much is done.
    pub done: u64,
    /// Of so much.
    pub whole: u64,
}

/// One of [`NodeSnapshot::quic`] under a name of its own: `handshakes_accepted`.
#[must_use]
pub fn quic_figure((event, outcome, count): (&str, &str, u64)) -> (String, u64) {
    let name = match outcome {
        "" => event.to_owned(),
        outcome => format!("{event}_{outcome}"),
    };
    (name, count)
}

/// The fleet.
#[derive(Debug, Clone, Default)]
pub struct DevicesView {
    /// Asked for.
    pub requested: u64,
    /// By (device type, protocol, state).
    pub states: Vec<(String, &'static str, &'static str, u64)>,
    /// Messages by (device type, protocol, status).
    pub sent: Vec<(String, &'static str, &'static str, u64)>,
    /// Errors by (device type, error type).
    pub errors: Vec<(String, String, u64)>,
    /// Restarts of devices.
    pub restarts: u64,
    /// By kind of fault: injected so far, and active now.
    pub faults: Vec<(&'static str, u64, u64)>,
    /// Quarantined, by the path of the population.
    pub quarantined: Vec<(String, u64)>,
    /// What publishes to brokers, by protocol.
    pub published: Vec<PublishView>,
    /// How many values were sent at once to clients that look on.
    pub batches: Option<Buckets>,
}

impl DevicesView {
    /// Devices in a state.
    #[must_use]
    pub fn in_state(&self, state: &str) -> u64 {
        self.states
            .iter()
            .filter(|row| row.2 == state)
            .map(|row| row.3)
            .sum()
    }
}

/// Devices that publish to brokers by one protocol.
#[derive(Debug, Clone, Default)]
pub struct PublishView {
    /// Their type, or `all`.
    pub device_type: String,
    /// Their protocol.
    pub protocol: &'static str,
    /// Devices that speak it.
    pub devices: u64,
    /// Of those, connected.
    pub connected: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// From publishing to acknowledgement.
    pub latency: Buckets,
    /// Messages given up for want of room, or with their device.
    pub dropped: u64,
    /// Times that a device slowed down.
    pub slowdowns: u64,
    /// Messages that wait.
    pub waiting: u64,
}

/// One tier.
#[derive(Debug, Clone, Default)]
pub struct TierView {
    /// `t1`, `t2` or `t3`.
    pub tier: &'static str,
    /// Readings or acknowledgements received.
    pub received: u64,
    /// Dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Undecodable.
    pub decode_errors: u64,
    /// From the reading's stamp to its receipt.
    pub latency: Option<Buckets>,
}

/// Commands.
#[derive(Debug, Clone, Copy, Default)]
pub struct T3View {
    /// Commands for a device without a connection.
    pub no_route: u64,
    /// Commands dropped.
    pub dropped: u64,
    /// Commands that failed.
    pub errors: u64,
    /// Commands past their deadline.
    pub expired: u64,
}

/// The world and its scan.
#[derive(Debug, Clone, Default)]
pub struct WorldView {
    /// Entities in use.
    pub entities: u64,
    /// Readings applied.
    pub readings_applied: u64,
    /// Configured period.
    pub period: Duration,
    /// Cycles run.
    pub cycles: u64,
    /// Cycles longer than the period.
    pub overruns: u64,
    /// Slots skipped.
    pub skipped: u64,
    /// Execution time of a cycle.
    pub took: Option<Buckets>,
    /// Deviation of the time between two cycles from the period.
    pub jitter: Option<Buckets>,
    /// Start of a cycle after its slot.
    pub lateness: Option<Buckets>,
    /// 99th percentile of the jitter, of the last cycles.
    pub jitter_p99: Option<Duration>,
    /// Times of the last cycles: name, percentiles.
    pub window: Vec<(&'static str, Quantiles)>,
    /// Cycles in which a system failed.
    pub faulted: u64,
    /// Cycles in which only the essential ran.
    pub fallback_cycles: u64,
    /// Cycles put off so that the scan leaves its core to others.
    pub rests: u64,
    /// Share of its core that the scan took in the last second.
    pub core_share: Option<f64>,
    /// Cycle records that were lost before they were folded.
    pub records_lapped: u64,
    /// Execution time of each system: its name, and the runs longer than the period.
    pub systems: Vec<(&'static str, Buckets, u64)>,
    /// Rules: name, how often each came into force, and ended.
    pub rules: Vec<(String, u64, u64)>,
    /// Records of rows for files: written, lapped.
    pub rows: Option<(u64, u64)>,
    /// Twin quality: name of the figure, value.
    pub quality: Vec<(&'static str, f64)>,
    /// Rows by sensor type.
    pub types: BTreeMap<&'static str, TypeReport>,
}

/// Mailboxes of one kind of actor.
#[derive(Debug, Clone, Default)]
pub struct MailboxView {
    /// `task`, `shard` or `scan`.
    pub host: &'static str,
    /// Kind of actor: `tier-t1`, `conn`, `device`.
    pub kind: String,
    /// Waiting, of all of them.
    pub depth: u64,
    /// Capacity, of all of them.
    pub capacity: u64,
    /// Rejected so far.
    pub rejected: u64,
    /// Dropped so far.
    pub dropped: u64,
}

/// One shard.
#[derive(Debug, Clone, Default)]
pub struct ShardView {
    /// Busy time over time, since the start.
    pub busy_ratio: Option<f64>,
    /// Its counters.
    pub stats: ShardStats,
}

/// The process, as the kernel sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessView {
    /// Resident memory.
    pub rss_bytes: Option<u64>,
    /// Its highest.
    pub rss_peak_bytes: Option<u64>,
    /// User and system time.
    pub cpu_s: Option<f64>,
    /// Threads.
    pub threads: Option<u64>,
}

impl ProcessView {
    /// Reads `/proc/self`; what cannot be read is `None`.
    #[must_use]
    pub fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let kib = |name| field(name).map(|kib| kib * 1024);
        Self {
            rss_bytes: kib("VmRSS:"),
            rss_peak_bytes: kib("VmHWM:"),
            cpu_s: cpu_seconds(),
            threads: field("Threads:"),
        }
    }
}

/// User and system time of the process.
fn cpu_seconds() -> Option<f64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_measured() {
        let process = ProcessView::read();
        assert!(process.rss_bytes > Some(0) && process.rss_peak_bytes >= process.rss_bytes);
        assert!(process.threads > Some(0) && process.cpu_s > Some(0.0));
    }

    #[test]
    fn buckets_keep_count_and_order() {
        let mut histogram = hdrhistogram::Histogram::<u64>::new(3).unwrap();
        for micros in [1, 20, 30, 2_000, 60_000_000] {
            histogram.record(micros).unwrap();
        }
        let buckets = Buckets::from_histogram(&histogram, 1e-6);
        assert_eq!(buckets.count, 5);
        assert_eq!(
            buckets.buckets.iter().map(|bucket| bucket.1).sum::<u64>(),
            5
        );
        assert_eq!(buckets.buckets.first().unwrap(), &(0.00001, 1));
        assert_eq!(buckets.buckets.last().unwrap().1, 1);
    }
}
