//! The run report: one JSON object per run, and its verdict.
//!
//! Every key is always present; a number that was not measured is `null`, never 0. The verdict is
//! a pure function of the numbers ([`verdict`]). Written whole or not at all
//! ([`RunReport::write`]).
//!
//! Bound: one object; publish protocols and scan systems are as many as the node has.

pub mod invariants;
pub mod parts;
pub mod verdict;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use parts::*;

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
    /// What QUIC counted on all connections, accepted and dialled; empty where none was measured.
    pub quic: BTreeMap<String, u64>,
    /// The world.
    pub world: World,
    /// All mailboxes together.
    pub mailboxes: Mailboxes,
    /// Supervision.
    pub supervision: Supervision,
    /// What chaos did; `null` if no plan ran.
    pub chaos: Option<Chaos>,
    /// What a scenario expected; `null` if none ran.
    pub scenario: Option<Scenario>,
    /// Limits of the host or of the configuration that have bitten the node.
    pub limits: Vec<Limit>,
    /// What was left behind.
    pub leaks: Leaks,
    /// Digests of what was sent.
    pub digest: Digest,
    /// The process.
    pub process: Process,
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

    /// The contract: where, and the keys there, in order.
    const CONTRACT: &[(&str, &str)] = &[
        (
            "",
            "v run_id node version generators seed elapsed_s verdict why devices tiers \
             publish quic world mailboxes supervision chaos scenario limits leaks digest process",
        ),
        (
            "/devices",
            "requested running restarts quarantined spawn_s ticks_missed tick_lateness_us",
        ),
        (
            "/tiers/t1",
            "sent received dropped applied dropped_after_receipt decode_errors latency_us",
        ),
        (
            "/tiers/t2",
            "created blocked sent acked applied duplicates_dropped lost latency_us \
             acked_ledger applied_ledger",
        ),
        (
            "/tiers/t3",
            "issued acked superseded expired no_route dropped errors rtt_us decide_us",
        ),
        ("/tiers/clock", "offset_us within_us"),
        (
            "/world",
            "entities readings_applied quality scan rules export",
        ),
        (
            "/world/quality",
            "alignment_ratio odte stale stale_by_type timeliness reliability availability",
        ),
        (
            "/world/scan",
            "host period_us cycles overruns skipped jitter_us lateness_us took_us window \
             allocations_per_cycle systems walk_every faulted incarnations overrun fallbacks \
             fallback_cycles in_fallback rests core_share wedged first_error",
        ),
        (
            "/world/scan/host",
            "pinned policy locked large_pages timer_slack_ns asked why",
        ),
        (
            "/world/scan/host/asked",
            "pinned policy locked large_pages timer_slack_ns",
        ),
        (
            "/mailboxes",
            "highest_fill offered accepted rejected handled dropped conflated died waiting",
        ),
        ("/leaks", "actors tasks threads files"),
        (
            "/supervision",
            "restarts escalations kills restart_us restart_work_us",
        ),
        ("/digest", "wire_sha256"),
        (
            "/process",
            "rss_bytes rss_peak_bytes cpu_s threads shards backend rings",
        ),
    ];

    #[test]
    fn every_key_of_the_contract_is_present_and_unmeasured_is_null() {
        let report = serde_json::to_value(RunReport {
            v: VERSION,
            ..RunReport::default()
        })
        .unwrap();
        for (at, keys) in CONTRACT {
            let object = report.pointer(at).and_then(Value::as_object).unwrap();
            let found: Vec<_> = object.keys().map(String::as_str).collect();
            assert_eq!(found.join(" "), *keys, "{at}");
        }
        // Nobody measured anything: no number but those that are of the run itself.
        let own = ["/v", "/seed", "/elapsed_s"];
        for (at, keys) in CONTRACT {
            for key in keys.split(' ').map(|key| format!("{at}/{key}")) {
                let is_number = report.pointer(&key).is_some_and(Value::is_number);
                assert_eq!(is_number, own.contains(&&*key), "{key}");
            }
        }
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
