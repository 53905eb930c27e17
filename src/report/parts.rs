//! The parts of the run report, as plain data.
//!
//! They measure and judge nothing. Bound: systems are as many as the world's schedule has.

use std::collections::BTreeMap;

use actorsim_supervision::chaos::Counts;
use serde::{Deserialize, Serialize};

use super::Quantiles;

/// The fleet; `null` where the node runs none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Devices {
    /// Asked for.
    pub requested: Option<u64>,
    /// Running at the end.
    pub running: Option<u64>,
    /// Restarts of devices.
    pub restarts: Option<u64>,
    /// Quarantined at the end.
    pub quarantined: Option<u64>,
    /// Time to spawn them all.
    pub spawn_s: Option<f64>,
    /// Samples not taken because the device was down or late.
    #[serde(default)]
    pub ticks_missed: Option<u64>,
    /// How late timers of the shards fired: samples, and all that devices wait for.
    #[serde(default)]
    pub tick_lateness_us: Option<Quantiles>,
}

/// The tiers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tiers {
    /// Telemetry.
    pub t1: T1,
    /// Events.
    pub t2: T2,
    /// Commands.
    pub t3: T3,
    /// The clock of the links that is furthest from the twin's; latencies are corrected by it.
    #[serde(default)]
    pub clock: LinkClock,
}

/// How far a link's clock is ahead, as estimated over its connection. `null` where no link told its
/// time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkClock {
    /// Ahead of the twin's; negative: behind.
    pub offset_us: Option<i64>,
    /// Wrong by this at most: half of the best round trip.
    pub within_us: Option<u64>,
}

/// T1: telemetry. `null` for the end that is not in this node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct T1 {
    /// Readings handed to the tier by devices.
    pub sent: Option<u64>,
    /// Readings received by the twin.
    pub received: Option<u64>,
    /// Readings that never came to the twin's connections: at the sender, in the network.
    pub dropped: Option<u64>,
    /// Readings applied to the world.
    pub applied: Option<u64>,
    /// Readings lost after receipt: full mailboxes, killed actors.
    pub dropped_after_receipt: Option<u64>,
    /// Undecodable.
    pub decode_errors: Option<u64>,
    /// From stamp to receipt, of the first reading of each datagram.
    pub latency_us: Option<Quantiles>,
}

/// T2: events. `null` for the end that is not in this node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct T2 {
    /// Events made by devices.
    pub created: Option<u64>,
    /// Samples skipped because the outbox was full.
    pub blocked: Option<u64>,
    /// Events sent, repeats included.
    pub sent: Option<u64>,
    /// Events acknowledged to their devices.
    pub acked: Option<u64>,
    /// Events applied to the world.
    pub applied: Option<u64>,
    /// Repeats that were recognised and dropped.
    pub duplicates_dropped: Option<u64>,
    /// Events acknowledged but not applied, or never acknowledged at a quiet end.
    pub lost: Option<u64>,
    /// From stamp to receipt, of the first event of each batch.
    pub latency_us: Option<Quantiles>,
    /// What was acknowledged to each device of this node, since its start; `null` unless
    /// `journal.ledger`.
    pub acked_ledger: Option<Ledger>,
    /// What was applied of each device, over the life of the journal; `null` unless
    /// `journal.ledger`.
    pub applied_ledger: Option<Ledger>,
}

/// All events of all devices in three figures: two that are equal mean the same events of each
/// device in the same order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Devices that have events.
    pub devices: u64,
    /// Their events.
    pub events: u64,
    /// Hash over devices, in the order of their ids, and their events' keys, in order.
    pub digest: String,
}

/// T3: commands. `null` for the end that is not in this node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct T3 {
    /// Commands decided by the world or an operator.
    pub issued: Option<u64>,
    /// Acknowledged by the device.
    pub acked: Option<u64>,
    /// Answered as overtaken by a later one.
    pub superseded: Option<u64>,
    /// Not answered by their deadline.
    pub expired: Option<u64>,
    /// For a device without a connection.
    pub no_route: Option<u64>,
    /// Dropped by a full queue.
    pub dropped: Option<u64>,
    /// Failed on the wire.
    pub errors: Option<u64>,
    /// From sending to acknowledgement.
    pub rtt_us: Option<Quantiles>,
    /// From the decision to acknowledgement.
    pub decide_us: Option<Quantiles>,
}

/// One publisher protocol.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Publish {
    /// Sessions.
    pub sessions: Option<u64>,
    /// Of those, connected.
    pub connected: Option<u64>,
    /// Messages sent.
    pub sent: Option<u64>,
    /// Messages acknowledged.
    pub acked: Option<u64>,
    /// Errors.
    pub errors: Option<u64>,
    /// Messages dropped.
    pub dropped: Option<u64>,
    /// Publish to acknowledgement.
    pub latency_us: Option<Quantiles>,
    /// Times that sessions have come up, reconnects included.
    #[serde(default)]
    pub connects: Option<u64>,
    /// TLS; `null` where there is none.
    #[serde(default)]
    pub tls: Option<PublishTls>,
}

/// TLS of one publisher protocol.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PublishTls {
    /// Handshakes that were done.
    pub handshakes: Option<u64>,
    /// Connections without one: not trusted, not in time, no TLS. Among the errors, too.
    pub failed: Option<u64>,
    /// Connection to the end of its handshake.
    pub handshake_us: Option<Quantiles>,
}

/// The world; `null` where the node runs none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// Entities in use.
    pub entities: Option<u64>,
    /// Readings applied.
    pub readings_applied: Option<u64>,
    /// Twin quality.
    pub quality: Quality,
    /// The scan.
    pub scan: Scan,
    /// Rules of the automation, by name.
    pub rules: BTreeMap<String, Rule>,
    /// Rows written to files; `null` where none are.
    pub export: Option<Export>,
}

/// Twin quality.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Twin alignment ratio.
    pub alignment_ratio: Option<f64>,
    /// Overall digital twin entanglement.
    pub odte: Option<f64>,
    /// Entities without a recent reading.
    pub stale: Option<u64>,
    /// The same by type of sensor.
    pub stale_by_type: BTreeMap<String, u64>,
    /// Share of readings that came in time; one factor of `odte`, as the next two.
    pub timeliness: Option<f64>,
    /// Share of the readings that were sent which came.
    pub reliability: Option<f64>,
    /// Share of the slots of the grid that were served without a fault.
    pub availability: Option<f64>,
}

/// The scan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// What the host granted.
    pub host: ScanHost,
    /// Period.
    pub period_us: Option<f64>,
    /// Cycles run.
    pub cycles: Option<u64>,
    /// Cycles longer than the period.
    pub overruns: Option<u64>,
    /// Slots skipped.
    pub skipped: Option<u64>,
    /// Deviation between neighbouring cycles.
    pub jitter_us: Option<Quantiles>,
    /// Start after its slot.
    pub lateness_us: Option<Quantiles>,
    /// Execution time.
    pub took_us: Option<Quantiles>,
    /// The same three of the last cycles.
    pub window: ScanWindow,
    /// Heap allocations per cycle, where counted.
    pub allocations_per_cycle: Option<f64>,
    /// Each system.
    pub systems: BTreeMap<String, System>,
    /// Export and diagnostics walk in every so-many-th cycle.
    pub walk_every: Option<u64>,
    /// Cycles in which a system failed.
    pub faulted: Option<u64>,
    /// Incarnations of the scan thread.
    pub incarnations: Option<u64>,
    /// What is done about overruns.
    pub overrun: Option<String>,
    /// How often only the essential was run from then on.
    pub fallbacks: Option<u64>,
    /// Cycles in which only the essential ran.
    pub fallback_cycles: Option<u64>,
    /// Only the essential runs.
    pub in_fallback: Option<bool>,
    /// Cycles put off so that the scan leaves its core to others.
    pub rests: Option<u64>,
    /// Share of its core that the scan took in the last second.
    pub core_share: Option<f64>,
    /// Cycles that did not end.
    pub wedged: Option<u64>,
    /// The first failure of all incarnations.
    pub first_error: Option<String>,
}

/// Times of the sliding window: the last 1,024 cycles.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScanWindow {
    /// Deviation between neighbouring cycles.
    pub jitter_us: Option<Quantiles>,
    /// Start after its slot.
    pub lateness_us: Option<Quantiles>,
    /// Execution time.
    pub took_us: Option<Quantiles>,
}

/// What the scan thread asked of its host, what it got, and why not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScanHost {
    /// What the host granted.
    #[serde(flatten)]
    pub got: HostTerms,
    /// What was asked for.
    pub asked: HostTerms,
    /// Why something was not granted.
    pub why: Vec<String>,
}

/// What a scan thread asks of its host, or gets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostTerms {
    /// Pinned to this core.
    pub pinned: Option<u64>,
    /// Scheduling policy.
    pub policy: Option<String>,
    /// Memory locked.
    pub locked: Option<bool>,
    /// Rows on large pages; not asked for a table that has none.
    pub large_pages: Option<bool>,
    /// How much later than asked the kernel may wake the thread, nanoseconds.
    pub timer_slack_ns: Option<u64>,
}

/// One system of the world's schedule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Execution time.
    pub took_us: Option<Quantiles>,
    /// The same of the last cycles.
    pub took_window_us: Option<Quantiles>,
    /// Cycles in which it took longer than its share.
    pub overruns: Option<u64>,
    /// False while it is isolated.
    pub enabled: Option<bool>,
}

/// Rows written to files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Records written.
    pub written: u64,
    /// Records that the ring or the disk did not take.
    pub lapped: u64,
    /// Refusals of the disk.
    pub errors: u64,
    /// Files brought back to their last whole line or row group.
    pub repaired: u64,
}

/// A rule of the automation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// How often it came into force.
    pub fired: u64,
    /// How often it ended.
    pub ended: u64,
}

/// All mailboxes together. `offered = accepted + rejected`, and
/// `accepted = handled + dropped + conflated + died + waiting`. `null` where nobody counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mailboxes {
    /// Highest depth over capacity of any mailbox.
    pub highest_fill: Option<f64>,
    /// Offered.
    pub offered: Option<u64>,
    /// Accepted.
    pub accepted: Option<u64>,
    /// Rejected.
    pub rejected: Option<u64>,
    /// Handled.
    pub handled: Option<u64>,
    /// Dropped by an overflow rule.
    pub dropped: Option<u64>,
    /// Merged into another.
    pub conflated: Option<u64>,
    /// Lost with their actor.
    pub died: Option<u64>,
    /// Waiting at the end.
    pub waiting: Option<u64>,
    /// Where they wait, such as `/twin/apply (stopped): 2`; absent if none do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_in: Vec<String>,
}

impl Mailboxes {
    /// The sum of all books, and the highest fill of any mailbox.
    #[must_use]
    pub fn of(books: actorsim_actors::Books, highest_fill: Option<f64>) -> Self {
        Self {
            waiting_in: Vec::new(),
            highest_fill,
            offered: Some(books.offered),
            accepted: Some(books.accepted),
            rejected: Some(books.rejected),
            handled: Some(books.handled),
            dropped: Some(books.dropped),
            conflated: Some(books.conflated),
            died: Some(books.died),
            waiting: Some(books.waiting),
        }
    }

    /// The sums, if somebody counted.
    #[must_use]
    pub fn books(&self) -> Option<actorsim_actors::Books> {
        Some(actorsim_actors::Books {
            offered: self.offered?,
            accepted: self.accepted?,
            rejected: self.rejected?,
            handled: self.handled?,
            dropped: self.dropped?,
            conflated: self.conflated?,
            died: self.died?,
            waiting: self.waiting?,
        })
    }
}

/// Supervision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Supervision {
    /// Restarts, of cells and actors.
    pub restarts: Option<u64>,
    /// Supervisors that gave up.
    pub escalations: Option<u64>,
    /// Actors killed, by an operator or after their shutdown time.
    pub kills: Option<u64>,
    /// From an exit to its replacement in service.
    pub restart_us: Option<Quantiles>,
    /// Of that what is no backoff of a policy.
    pub restart_work_us: Option<Quantiles>,
}

/// A limit that has bitten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Its name.
    pub name: String,
    /// How often.
    pub count: u64,
    /// What happened, in words.
    pub text: String,
    /// What to do about it.
    pub mend: String,
}

/// What a script expected, and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// The shipped name, or the file.
    pub script: String,
    /// SHA-256 of its text.
    pub sha256: String,
    /// Simulated seconds from its begin to its end.
    pub simulated_s: f64,
    /// Expectations that did not hold.
    pub failed: u64,
    /// What ended it before its end, with line and column.
    pub error: Option<String>,
    /// Everything that it expected, in order.
    pub expectations: Vec<Expectation>,
    /// The last lines that it logged.
    pub log: Vec<String>,
}

/// Something that a script expected.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// What, in its words.
    pub text: String,
    /// Whether it was so.
    pub held: bool,
    /// Line of the script.
    pub line: u64,
    /// Simulated seconds since its begin.
    pub at_s: f64,
}

/// What chaos did on purpose.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Chaos {
    /// Seed of the last plan.
    pub seed: u64,
    /// The last plan, in words.
    pub plan: String,
    /// Strikes of all plans, by kind of actor and fault: each kind that was in reach of one, also
    /// one that was not hit.
    pub strikes: BTreeMap<String, BTreeMap<String, u64>>,
    /// Strikes on the kind that was hit least.
    pub least: u64,
    /// Strikes of the last plan that found nobody.
    pub missed: u64,
    /// Faults of the last plan that were due and never found a victim: its numbers, its scope or
    /// the node leave them none.
    #[serde(default)]
    pub found_nobody: Vec<String>,
    /// Why the last plan ended; `null` while it runs.
    pub over: Option<String>,
    /// Plans that fell short of what they were to show, and why: ended before their time, or
    /// struck nobody.
    pub fell_short: Vec<String>,
    /// How often policies parked a child while plans ran, or so soon after that it may be their
    /// doing.
    #[serde(default)]
    pub parked: u64,
    /// How many of these could not be judged, as too little was remembered; they break nothing.
    #[serde(default)]
    pub parked_not_judged: u64,
    /// Those of them that no plan gave reason to park, in words.
    #[serde(default)]
    pub parked_without_cause: Vec<String>,
    /// Packets lost in a simulated network, or on the lines of a running node's links: since its
    /// start, those of `transport.line.loss` among them.
    pub packets_lost: Option<u64>,
    /// Each invariant that was checked at the end: `held`, or what broke it.
    pub invariants: BTreeMap<String, String>,
}

/// Plans that fell short that a report names at most.
const SHORT_PLANS_MAX: usize = 16;

impl Chaos {
    /// Strikes of all plans.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.strikes.values().flat_map(BTreeMap::values).sum()
    }

    /// Takes over what the schedule of its last plan has counted.
    pub fn counted(&mut self, counts: &Counts) {
        self.missed = counts.missed();
        let nobody = counts.found_nobody().into_iter();
        self.found_nobody = nobody.map(str::to_owned).collect();
        for kind in counts.strikes.keys() {
            self.strikes.entry(kind.clone()).or_default();
        }
    }

    /// Notes that a plan fell short.
    pub fn falls_short(&mut self, why: String) {
        if self.fell_short.len() < SHORT_PLANS_MAX {
            self.fell_short.push(why);
        }
    }

    /// Fills in what follows from the strikes.
    #[must_use]
    pub fn summed(mut self) -> Self {
        let sums = self.strikes.values().map(|faults| faults.values().sum());
        self.least = sums.min().unwrap_or(0);
        self
    }
}

/// What a node left behind when it had stopped, by its own count; `null` where it could not tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Leaks {
    /// Actors that still ran.
    pub actors: Option<Vec<String>>,
    /// Tasks of its runtimes that still lived.
    pub tasks: Option<u64>,
    /// Threads it had started besides those of its runtimes.
    pub threads: Option<Vec<String>>,
    /// Open files and sockets that were not open before.
    pub files: Option<Vec<String>>,
}

impl Leaks {
    /// All of it, in words.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        let lists = [&self.actors, &self.threads, &self.files];
        let named = lists.into_iter().flatten().flatten().cloned();
        let tasks = self.tasks.filter(|tasks| *tasks > 0);
        named
            .chain(tasks.map(|tasks| format!("{tasks} tasks")))
            .collect()
    }
}

impl Leaks {
    /// Whether nothing is known to be left.
    #[must_use]
    pub fn is_none(&self) -> bool {
        let none = |left: &Option<Vec<String>>| left.as_ref().is_none_or(Vec::is_empty);
        let lists = [&self.actors, &self.threads, &self.files];
        lists.into_iter().all(none) && self.tasks.unwrap_or(0) == 0
    }
}

/// Digests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Digest {
    /// SHA-256 over the devices' own digests, in device order.
    pub wire_sha256: Option<String>,
}

/// The process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Resident memory at the end.
    pub rss_bytes: Option<u64>,
    /// Its highest.
    pub rss_peak_bytes: Option<u64>,
    /// User and system time.
    pub cpu_s: Option<f64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Shard threads.
    pub shards: Option<u64>,
    /// `uring` (all shards slept in rings at last), `portable` or `sim`.
    pub backend: Option<String>,
    /// Shards that slept in rings at last; none in a simulation.
    pub rings: Option<u64>,
}

impl Process {
    /// Takes over what the kernel says of the process.
    pub fn measure(&mut self, view: crate::view::ProcessView) {
        self.rss_bytes = view.rss_bytes;
        self.rss_peak_bytes = view.rss_peak_bytes;
        self.cpu_s = view.cpu_s;
        self.threads = view.threads;
    }
}
