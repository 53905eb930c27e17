//! A latency histogram that many tasks share, and its quantiles.
//!
//! Recording takes a short lock; batches record several values under one. Percentiles are computed
//! when read. Bound: a fixed number of buckets, three significant digits up to one hour.

use std::fmt;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Longest latency told apart, microseconds: one hour; longer ones count as one hour.
const LATENCY_MAX_US: u64 = 3_600_000_000;
/// Significant decimal digits kept: an error below 0.1 %.
const LATENCY_DIGITS: u8 = 3;

/// The quantiles of the run report; a histogram without values has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Quantiles {
    /// Median.
    pub p50: u64,
    /// 95th percentile.
    pub p95: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Largest.
    pub max: u64,
    /// Values recorded.
    pub count: u64,
}

impl Quantiles {
    /// The quantiles of a histogram, `None` while it is empty.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        Some(Self {
            p50: histogram.value_at_quantile(0.50),
            p95: histogram.value_at_quantile(0.95),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
            count: histogram.len(),
        })
    }
}

/// Microseconds, recorded by many, read by few.
pub struct LatencyHistogram(Mutex<Histogram<u64>>);

impl Default for LatencyHistogram {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_US, LATENCY_DIGITS)
            .expect("1 .. one hour with three digits are bounds hdrhistogram accepts");
        Self(Mutex::new(histogram))
    }
}

impl fmt::Debug for LatencyHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LatencyHistogram")
            .field(&self.quantiles())
            .finish()
    }
}

impl LatencyHistogram {
    /// Records one value.
    pub fn record(&self, us: u64) {
        self.0.lock().saturating_record(us);
    }

    /// Records several under one lock: a value, and how often in a row.
    pub fn record_runs(&self, runs: &[(u64, u64)]) {
        if runs.is_empty() {
            return;
        }
        let mut histogram = self.0.lock();
        for (us, count) in runs {
            histogram.saturating_record_n(*us, *count);
        }
    }

    /// The quantiles so far; `None` if nothing was recorded.
    #[must_use]
    pub fn quantiles(&self) -> Option<Quantiles> {
        Quantiles::of(&self.0.lock())
    }

    /// The quantiles of what was recorded after `earlier` was copied; `None` if nothing was.
    #[must_use]
    pub fn quantiles_since(&self, earlier: &Histogram<u64>) -> Option<Quantiles> {
        let mut since = self.snapshot();
        // An earlier copy of the same histogram holds no value that this one has not.
        since.subtract(earlier).ok()?;
        Quantiles::of(&since)
    }

    /// A copy, for a metrics page that wants its own buckets.
    #[must_use]
    pub fn snapshot(&self) -> Histogram<u64> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_none_and_not_zero() {
        let histogram = LatencyHistogram::default();
        assert_eq!(histogram.quantiles(), None);
        histogram.record_runs(&[]);
        assert_eq!(histogram.quantiles(), None);
    }

    #[test]
    fn a_window_holds_what_came_after_its_begin() {
        let histogram = LatencyHistogram::default();
        histogram.record_runs(&[(9_000, 50)]);
        let begin = histogram.snapshot();
        assert_eq!(histogram.quantiles_since(&begin), None);
        histogram.record_runs(&[(3, 1), (5, 1)]);
        let window = histogram.quantiles_since(&begin).unwrap();
        assert_eq!((window.count, window.p999, window.max), (2, 5, 5));
    }

    #[test]
    fn quantiles_are_ordered_and_counted() {
        let histogram = LatencyHistogram::default();
        histogram.record_runs(&(1..=1000).map(|us| (us, 1)).collect::<Vec<_>>());
        histogram.record(u64::MAX);
        let q = histogram.quantiles().unwrap();
        assert_eq!(q.count, 1001);
        assert!((495..=505).contains(&q.p50), "{q:?}");
        assert!(q.p50 <= q.p95 && q.p95 <= q.p99 && q.p99 <= q.p999 && q.p999 <= q.max);
    }
}
