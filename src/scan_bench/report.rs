//! What a bench found, as plain data; its keys for the scan are those of the run report.
//!
//! It measures nothing; what was not measured is `null`. Bound: one entry per task and per pair.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use actorsim_world::scan::rt::HostReport;
use actorsim_world::scan::stats::Quantiles;
use serde::Serialize;

use crate::report::Verdict;

/// The report of one bench.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Version of this form.
    pub v: u32,
    /// Version of the build.
    pub version: &'static str,
    /// Kernel of the host.
    pub kernel: String,
    /// Whether that kernel says it is `PREEMPT_RT`.
    pub preempt_rt: bool,
    /// Cores that this process may use.
    pub cores: usize,
    /// The whole bench.
    pub elapsed_s: f64,
    /// Every check held.
    pub verdict: Verdict,
    /// The checks that did not.
    pub why: Vec<String>,
    /// Rows of each task's world.
    pub entities: u32,
    /// Scans side by side.
    pub tasks: usize,
    /// What the machine did beside it; `null` when idle.
    pub load: Option<String>,
    /// The first task.
    pub scan: ScanPart,
    /// The others, by name.
    pub others: BTreeMap<String, ScanPart>,
    /// The kernel's own, alternating with ours; `null` when it was not asked for.
    pub cyclictest: Option<Pairs>,
}

/// Cycles of one task.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScanPart {
    /// What the host gave.
    pub host: Option<HostReport>,
    /// Period of the grid.
    pub period_us: f64,
    /// Cycles measured.
    pub cycles: u64,
    /// Of those, longer than the period.
    pub overruns: u64,
    /// Slots without a cycle.
    pub skipped: u64,
    /// Cycles with a failed system.
    pub faulted: u64,
    /// Cycles whose record was lost to a full ring; they are in nothing else here.
    pub records_lapped: u64,
    /// Distance of actual periods from nominal ones.
    pub jitter_us: Option<Quantiles>,
    /// Start after the slot was due.
    pub lateness_us: Option<Quantiles>,
    /// Length of cycles.
    pub took_us: Option<Quantiles>,
    /// Mean heap allocations per cycle; `null` where nobody counts them.
    pub allocations_per_cycle: Option<f64>,
    /// Length of each system.
    pub systems: BTreeMap<&'static str, SystemPart>,
    /// Gaps made by the host; `null` without a witness.
    pub host_gaps: Option<HostGaps>,
    /// Why there was no witness.
    pub no_witness: Option<String>,
}

/// One system.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SystemPart {
    /// Length of its runs.
    pub took_us: Option<Quantiles>,
}

/// Gaps made by the host, and the cycles without them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HostGaps {
    /// Gaps that the witnesses saw.
    pub gaps: u64,
    /// The longest; `null` when there was none.
    pub longest_us: Option<f64>,
    /// Gaps that could not be kept.
    pub missed: u64,
    /// Cycles that a gap touched.
    pub cycles_touched: u64,
    /// Jitter of the other cycles.
    pub jitter_us: Option<Quantiles>,
    /// Lateness of the other cycles.
    pub lateness_us: Option<Quantiles>,
    /// Length of the other cycles.
    pub took_us: Option<Quantiles>,
}

/// Pairs of runs, ours then cyclictest's, gaps made by the host left out where there was a witness.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pairs {
    /// Each pair's lateness.
    pub pairs: Vec<Pair>,
    /// Median over the pairs, of each percentile.
    pub ours_us: Option<Medians>,
    /// The same of cyclictest.
    pub cyclictest_us: Option<Medians>,
    /// Ours by cyclictest's.
    pub ratio: Option<Medians>,
}

/// One pair.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pair {
    /// Lateness of the scan.
    pub ours_us: Option<Quantiles>,
    /// Latency that cyclictest found.
    pub cyclictest_us: Option<Quantiles>,
}

/// Medians over pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Medians {
    /// Of the medians.
    pub p50: f64,
    /// Of the 99th percentiles.
    pub p99: f64,
    /// Of the 99.9th percentiles.
    pub p999: f64,
}

impl Pairs {
    pub(super) fn of(pairs: Vec<Pair>) -> Self {
        let ours_us = Medians::of(pairs.iter().filter_map(|pair| pair.ours_us));
        let cyclictest_us = Medians::of(pairs.iter().filter_map(|pair| pair.cyclictest_us));
        let ratio = ours_us.zip(cyclictest_us).map(|(ours, theirs)| Medians {
            p50: ours.p50 / theirs.p50,
            p99: ours.p99 / theirs.p99,
            p999: ours.p999 / theirs.p999,
        });
        Self {
            pairs,
            ours_us,
            cyclictest_us,
            ratio,
        }
    }
}

impl Medians {
    fn of(all: impl Iterator<Item = Quantiles>) -> Option<Self> {
        let all: Vec<Quantiles> = all.collect();
        let median = |pick: fn(&Quantiles) -> f64| {
            let mut values: Vec<f64> = all.iter().map(pick).collect();
            values.sort_unstable_by(f64::total_cmp);
            let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
            f64::midpoint(low, high)
        };
        (!all.is_empty()).then(|| Self {
            p50: median(|q| q.p50),
            p99: median(|q| q.p99),
            p999: median(|q| q.p999),
        })
    }
}

impl BenchReport {
    /// Writes it to a file, as one object.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        std::fs::write(path, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_medians_over_pairs() {
        let q = |us: f64| {
            Some(Quantiles {
                p50: us,
                p95: us,
                p99: us,
                p999: us,
                max: us,
                count: 1,
            })
        };
        let pair = |ours, theirs| Pair {
            ours_us: q(ours),
            cyclictest_us: q(theirs),
        };
        let found = Pairs::of(vec![pair(3.0, 2.0), pair(90.0, 1.0), pair(2.0, 4.0)]);
        assert_eq!(found.ours_us.unwrap().p50, 3.0);
        assert_eq!(found.ratio.unwrap().p99, 1.5);
        assert_eq!(Pairs::of(Vec::new()).ratio, None);
    }
}
