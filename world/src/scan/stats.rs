//! Cycle statistics: one record per cycle from the scan, folded into histograms when read.
//!
//! The scan thread writes one plain record into a ring (tens of nanoseconds); everything else
//! happens outside it. What was not measured is `None`, never 0. Extremes are exact, percentiles
//! are within the histogram's two digits.
//!
//! Bound: fixed-size histograms from [`LOWEST_NS`] to [`HIGHEST_NS`]; [`WINDOW`] cycles in the
//! sliding window.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::systems::{SYSTEMS, SystemId};

/// Shortest time a histogram tells apart.
pub const LOWEST_NS: u64 = 1;

/// Longest time a histogram tells apart; longer ones count as this (the exact maximum is kept).
pub const HIGHEST_NS: u64 = 10_000_000_000;

/// Significant digits of percentiles: within 1 %.
const DIGITS: u8 = 2;

/// Cycles of the sliding window.
pub const WINDOW: usize = 1_024;

/// One cycle, as the scan saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CycleRecord {
    /// Number of the cycle, from 0, over all incarnations.
    pub cycle: u64,
    /// Start of the cycle, nanoseconds of the monotonic clock.
    pub ts_ns: u64,
    /// Nominal period.
    pub period_ns: u64,
    /// Time since the previous start; `None` for an incarnation's first cycle.
    pub actual_period_ns: Option<u64>,
    /// Distance of the actual period from `1 + skipped` nominal ones.
    pub jitter_ns: Option<u64>,
    /// Start after the slot was due.
    pub late_ns: u64,
    /// Length of the cycle.
    pub took_ns: u64,
    /// The systems that were to run, as bits by [`SystemId::index`].
    pub ran: u16,
    /// Length of each system; `None` where it did not run, or was not timed since the cycle was
    /// short.
    pub systems_ns: [Option<u64>; SYSTEMS],
    /// Readings that it took in.
    pub readings: usize,
    /// Slots abandoned before this one.
    pub skipped: u64,
    /// Heap allocations on the scan thread; `None` when nobody counts them.
    pub allocations: Option<u64>,
    /// A system failed.
    pub faulted: bool,
    /// The table grew, or rows forgot a rule.
    pub maintenance: bool,
    /// Only what is essential ran.
    pub fallback: bool,
}

impl CycleRecord {
    /// Whether a system was to run.
    #[must_use]
    pub fn has_run(&self, system: SystemId) -> bool {
        self.ran & system.bit() != 0
    }
}

/// Percentiles and maximum of a set of times, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Exact maximum.
    pub max: f64,
    /// Number of times.
    pub count: u64,
}

/// A histogram of nanoseconds with an exact maximum.
#[derive(Clone, Debug)]
pub struct Times {
    histogram: Histogram<u64>,
    max_ns: u64,
}

impl Default for Times {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS)
            .expect("the bounds and digits are constants that hdrhistogram accepts");
        Self {
            histogram,
            max_ns: 0,
        }
    }
}

impl Times {
    /// Takes one time in.
    pub fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Percentiles; `None` when nothing was recorded.
    #[must_use]
    pub fn quantiles(&self) -> Option<Quantiles> {
        let count = self.histogram.len();
        let us = |ns: u64| ns as f64 / 1_000.0;
        let at = |quantile| us(self.histogram.value_at_quantile(quantile).min(self.max_ns));
        (count > 0).then(|| Quantiles {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: us(self.max_ns),
            count,
        })
    }

    /// Recorded times at or below `ns`, for a metrics exposition.
    #[must_use]
    pub fn count_at_or_below(&self, ns: u64) -> u64 {
        self.histogram.count_between(0, ns)
    }

    /// Number of recorded times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Sum of all times in nanoseconds, within the histogram's digits.
    #[must_use]
    pub fn sum_ns(&self) -> f64 {
        self.histogram.mean() * self.histogram.len() as f64
    }
}

/// All times of the whole run, and the records of the sliding window.
#[derive(Clone, Debug, Default)]
pub struct CycleTimes {
    /// Jitter.
    pub jitter: Times,
    /// Lateness.
    pub lateness: Times,
    /// Length of cycles.
    pub took: Times,
    /// Length of each system.
    pub systems: [Times; SYSTEMS],
    window: VecDeque<CycleRecord>,
    /// Start of the first slot, and of the last cycle.
    span_ns: Option<(u64, u64)>,
    counted: u64,
    allocations: u64,
}

impl CycleTimes {
    /// Takes one cycle in.
    pub fn fold(&mut self, record: &CycleRecord) {
        if let Some(jitter_ns) = record.jitter_ns {
            self.jitter.record(jitter_ns);
        }
        let skipped_ns = record.skipped.saturating_mul(record.period_ns);
        let laid = record.ts_ns.saturating_sub(skipped_ns);
        let first = self.span_ns.map_or(laid, |(first, _)| first);
        self.span_ns = Some((first, record.ts_ns));
        self.lateness.record(record.late_ns);
        self.took.record(record.took_ns);
        for (times, took_ns) in self.systems.iter_mut().zip(record.systems_ns) {
            if let Some(took_ns) = took_ns {
                times.record(took_ns);
            }
        }
        if let Some(allocations) = record.allocations {
            self.counted += 1;
            self.allocations += allocations;
        }
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(*record);
    }

    /// Time from the start of the first slot to that of the last cycle, over all incarnations: the
    /// one that laid the grid may have ended before its first cycle, and those slots are skipped.
    #[must_use]
    pub fn span(&self) -> Option<Duration> {
        self.span_ns
            .map(|(first, last)| Duration::from_nanos(last.saturating_sub(first)))
    }

    /// The latest cycles, oldest first.
    pub fn window(&self) -> impl Iterator<Item = &CycleRecord> {
        self.window.iter()
    }

    /// One time of each cycle of the sliding window that has it: `time` chooses which.
    #[must_use]
    pub fn window_of(&self, time: impl Fn(&CycleRecord) -> Option<u64>) -> Option<Quantiles> {
        let mut times = Times::default();
        self.window
            .iter()
            .filter_map(time)
            .for_each(|ns| times.record(ns));
        times.quantiles()
    }

    /// Mean heap allocations per cycle; `None` when nobody counts them.
    #[must_use]
    pub fn allocations_per_cycle(&self) -> Option<f64> {
        (self.counted > 0).then(|| self.allocations as f64 / self.counted as f64)
    }

    /// Times of one system.
    #[must_use]
    pub fn system(&self, system: SystemId) -> &Times {
        &self.systems[system.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_measured_is_none_not_zero() {
        let times = CycleTimes::default();
        assert_eq!(times.jitter.quantiles(), None);
        assert_eq!(times.allocations_per_cycle(), None);
        assert_eq!(times.window_of(|record| Some(record.took_ns)), None);
    }

    #[test]
    fn extremes_are_exact_and_percentiles_within_two_digits() {
        let mut times = Times::default();
        for ns in 1..=100_000_u64 {
            times.record(ns * 10);
        }
        let quantiles = times.quantiles().unwrap();
        assert_eq!(quantiles.max, 1_000.0);
        assert_eq!(quantiles.count, 100_000);
        for (got, exact) in [(quantiles.p50, 500.0), (quantiles.p99, 990.0)] {
            assert!((got - exact).abs() <= exact * 0.01, "{got} for {exact}");
        }
    }

    #[test]
    fn a_time_beyond_the_histogram_keeps_its_exact_maximum() {
        let mut times = Times::default();
        times.record(HIGHEST_NS * 5);
        assert_eq!(
            times.quantiles().unwrap().max,
            HIGHEST_NS as f64 * 5.0 / 1_000.0
        );
    }

    #[test]
    fn a_system_that_did_not_run_has_no_time() {
        let mut times = CycleTimes::default();
        let mut record = CycleRecord {
            took_ns: 5_000,
            late_ns: 7,
            ..CycleRecord::default()
        };
        record.systems_ns[SystemId::Ingest.index()] = Some(1_000);
        times.fold(&record);
        assert_eq!(times.system(SystemId::Ingest).count(), 1);
        assert_eq!(times.system(SystemId::Export).quantiles(), None);
        assert_eq!(
            times.jitter.quantiles(),
            None,
            "a first cycle has no jitter"
        );
    }

    #[test]
    fn slots_skipped_before_the_first_cycle_are_in_the_span() {
        let mut times = CycleTimes::default();
        for (cycle, ts_ns, skipped) in [(0, 5_100, 4), (1, 6_000, 0), (2, 8_000, 1)] {
            times.fold(&CycleRecord {
                cycle,
                ts_ns,
                period_ns: 1_000,
                skipped,
                ..CycleRecord::default()
            });
        }
        let span = times.span().unwrap();
        let slots = span.as_nanos() as f64 / 1e3 + 1.0; // the last one is served, too
        assert_eq!(slots.round(), 3.0 + 5.0, "served and skipped");
    }

    #[test]
    fn the_window_forgets_and_the_run_does_not() {
        let mut times = CycleTimes::default();
        for cycle in 0..(WINDOW as u64 + 10) {
            let ns = if cycle < 10 { 1_000_000 } else { 1_000 };
            let mut systems_ns = [None; SYSTEMS];
            systems_ns[SystemId::Ingest.index()] = cycle.is_multiple_of(2).then_some(ns);
            times.fold(&CycleRecord {
                cycle,
                jitter_ns: Some(ns),
                late_ns: 2 * ns,
                took_ns: 3 * ns,
                systems_ns,
                ..CycleRecord::default()
            });
        }
        assert_eq!(times.window().count(), WINDOW);
        let max = |time: fn(&CycleRecord) -> Option<u64>| times.window_of(time).unwrap().max;
        assert_eq!(max(|record| record.jitter_ns), 1.0);
        assert_eq!(max(|record| Some(record.late_ns)), 2.0);
        assert_eq!(max(|record| Some(record.took_ns)), 3.0);
        let ingest = times.window_of(|record| record.systems_ns[SystemId::Ingest.index()]);
        let ingest = ingest.map(|of| (of.max, of.count));
        assert_eq!(
            ingest,
            Some((1.0, WINDOW as u64 / 2)),
            "of cycles that timed it"
        );
        let whole = [&times.jitter, &times.lateness, &times.took];
        let whole = whole.map(|times| times.quantiles().unwrap().max);
        assert_eq!(whole, [1_000.0, 2_000.0, 3_000.0]);
    }
}
