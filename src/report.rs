//! The run report: one JSON object per run, and its verdict.
//!
//! Every key is always present; a number that was not measured is `null`, never 0. The verdict is
//! a pure function of the numbers ([`verdict`]). Written whole or not at all ([`RunReport::write`]).
//!
//! Bound: one object; publish protocols and scan systems are as many as the node has.

pub mod verdict;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Version of the format.
pub const VERSION: u32 = 1;

/// A distribution; `null` as a whole when it was not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 95 %.
    pub p95: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// Largest, exact.
    pub max: f64,
    /// Number of values.
    pub count: u64,
}

impl Quantiles {
    /// Of a histogram whose values times `scale` are in the wanted unit; `None` if it is empty.
    #[must_use]
    pub fn of(histogram: &hdrhistogram::Histogram<u64>, scale: f64) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 * scale;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 * scale,
            count: histogram.len(),
        })
    }
}

/// Passed or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every check held.
    Pass,
    /// At least one did not, or none was made yet.
    #[default]
    Fail,
}

/// The report of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// [`VERSION`].
    pub v: u32,
    /// Name of the run.
    pub run_id: String,
    /// Name of the node.
    pub node: String,
    /// Version of actorsim.
    pub version: String,
    /// Generator versions: bytes are the same only for the same versions.
    pub generators: BTreeMap<String, String>,
    /// Seed.
    pub seed: u64,
    /// From the node being up to the stop.
    pub elapsed_s: f64,
    /// The verdict.
    pub verdict: Verdict,
    /// Every failed check, in words; and notes, which fail nothing.
    pub why: Vec<String>,
    /// The fleet.
    pub devices: Devices,
    /// The tiers.
    pub tiers: Tiers,
    /// Publishers, by protocol.
    pub publish: BTreeMap<String, Publish>,
    /// The world.
    pub world: World,
    /// All mailboxes together.
    pub mailboxes: Mailboxes,
    /// Supervision.
    pub supervision: Supervision,
    /// Digests of what was sent.
    pub digest: Digest,
    /// The process.
    pub process: Process,
}

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
    /// From stamp to receipt.
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
    /// From stamp to application.
    pub latency_us: Option<Quantiles>,
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
    /// Heap allocations per cycle, where counted.
    pub allocations_per_cycle: Option<f64>,
    /// Each system.
    pub systems: BTreeMap<String, System>,
}

/// What the host granted to the scan thread.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScanHost {
    /// Pinned to this core.
    pub pinned: Option<u64>,
    /// Scheduling policy.
    pub policy: Option<String>,
    /// Memory locked.
    pub locked: Option<bool>,
    /// Why something was not granted.
    pub why: Vec<String>,
}

/// One system of the world's schedule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Execution time.
    pub took_us: Option<Quantiles>,
    /// Cycles in which it took longer than its share.
    pub overruns: Option<u64>,
}

/// All mailboxes together. `offered = accepted + rejected`, and
/// `accepted = handled + dropped + conflated + died + waiting`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mailboxes {
    /// Highest depth over capacity of any mailbox.
    pub highest_fill: Option<f64>,
    /// Offered.
    pub offered: u64,
    /// Accepted.
    pub accepted: u64,
    /// Rejected.
    pub rejected: u64,
    /// Handled.
    pub handled: u64,
    /// Dropped by an overflow rule.
    pub dropped: u64,
    /// Merged into another.
    pub conflated: u64,
    /// Lost with their actor.
    pub died: u64,
    /// Waiting at the end.
    pub waiting: u64,
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
    /// `uring`, `portable` or `sim`.
    pub backend: Option<String>,
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

impl RunReport {
    /// Writes the report next to `path`, then renames it into place: a reader sees the old file or
    /// the whole new one.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let name = path
            .file_name()
            .ok_or(io::ErrorKind::InvalidInput)?
            .to_string_lossy();
        let part = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let written = (|| {
            let mut file = File::create(&part)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            std::fs::rename(&part, path)
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn every_key_of_the_contract_is_present_and_unmeasured_is_null() {
        let report = serde_json::to_value(RunReport {
            v: VERSION,
            ..RunReport::default()
        })
        .unwrap();
        let contract: &[(&str, &[&str])] = &[
            (
                "",
                &[
                    "v",
                    "run_id",
                    "node",
                    "version",
                    "generators",
                    "seed",
                    "elapsed_s",
                    "verdict",
                    "why",
                    "devices",
                    "tiers",
                    "publish",
                    "world",
                    "mailboxes",
                    "supervision",
                    "digest",
                    "process",
                ],
            ),
            (
                "/devices",
                &["requested", "running", "restarts", "quarantined", "spawn_s"],
            ),
            (
                "/tiers/t1",
                &[
                    "sent",
                    "received",
                    "dropped",
                    "applied",
                    "dropped_after_receipt",
                    "decode_errors",
                    "latency_us",
                ],
            ),
            (
                "/tiers/t2",
                &[
                    "created",
                    "blocked",
                    "sent",
                    "acked",
                    "applied",
                    "duplicates_dropped",
                    "lost",
                    "latency_us",
                ],
            ),
            (
                "/tiers/t3",
                &[
                    "issued",
                    "acked",
                    "superseded",
                    "expired",
                    "no_route",
                    "dropped",
                    "errors",
                    "rtt_us",
                    "decide_us",
                ],
            ),
            (
                "/world",
                &["entities", "readings_applied", "quality", "scan"],
            ),
            ("/world/quality", &["alignment_ratio", "odte", "stale"]),
            (
                "/world/scan",
                &[
                    "host",
                    "period_us",
                    "cycles",
                    "overruns",
                    "skipped",
                    "jitter_us",
                    "lateness_us",
                    "took_us",
                    "allocations_per_cycle",
                    "systems",
                ],
            ),
            ("/world/scan/host", &["pinned", "policy", "locked", "why"]),
            (
                "/mailboxes",
                &[
                    "highest_fill",
                    "offered",
                    "accepted",
                    "rejected",
                    "handled",
                    "dropped",
                    "conflated",
                    "died",
                    "waiting",
                ],
            ),
            (
                "/supervision",
                &["restarts", "escalations", "kills", "restart_us"],
            ),
            ("/digest", &["wire_sha256"]),
            (
                "/process",
                &[
                    "rss_bytes",
                    "rss_peak_bytes",
                    "cpu_s",
                    "threads",
                    "shards",
                    "backend",
                ],
            ),
        ];
        for (at, keys) in contract {
            let object = report.pointer(at).and_then(Value::as_object).unwrap();
            assert_eq!(
                &object.keys().map(String::as_str).collect::<Vec<_>>(),
                keys,
                "{at}"
            );
        }
        assert_eq!(report.pointer("/tiers/t1/latency_us"), Some(&Value::Null));
        assert_eq!(report.pointer("/verdict"), Some(&json!("fail")));
        let quantiles = serde_json::to_value(Quantiles::default()).unwrap();
        let keys: Vec<_> = quantiles.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["p50", "p95", "p99", "p999", "max", "count"]);
    }

    #[test]
    fn a_report_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        std::fs::write(&path, "old").unwrap();
        let report = RunReport {
            seed: 7,
            ..RunReport::default()
        };
        report.write(&path).unwrap();
        let read: RunReport = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, report);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(report.write(&dir.path().join("none/r.json")).is_err());
    }
}
