//! How late timers fired, as counts in buckets a quarter of an octave wide.
//!
//! Recording is one addition, so that every timer of a shard is recorded. Quantiles are the upper
//! edge of their bucket, so they are at most a quarter too high and never too low. It knows no
//! clock. Bound: [`BUCKETS`] counters, from 8 microseconds to 4 minutes; what is outside falls into
//! the first or the last.

use std::fmt;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

/// Lateness below it is not told apart: far below a wheel tick.
const FLOOR_BITS: u32 = 13;
/// Buckets per octave, as a power of two.
const STEP_BITS: u32 = 2;
/// Counters: the first is for what is below the floor.
const BUCKETS: usize = 1 + (25 << STEP_BITS);

/// How late timers fired, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Lateness {
    counts: [u64; BUCKETS],
    count: u64,
    sum_ns: u64,
    max_ns: u64,
}

impl Default for Lateness {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            count: 0,
            sum_ns: 0,
            max_ns: 0,
        }
    }
}

/// The bucket of a value: its octave, and the two bits after its first.
const fn bucket(ns: u64) -> usize {
    if ns >> FLOOR_BITS == 0 {
        return 0;
    }
    let octave = ns.ilog2();
    let step = (ns >> (octave - STEP_BITS)) & ((1 << STEP_BITS) - 1);
    let at = 1 + (((octave - FLOOR_BITS) << STEP_BITS) + step as u32) as usize;
    if at < BUCKETS { at } else { BUCKETS - 1 }
}

/// The largest value of a bucket; of the last one it says nothing.
const fn edge(bucket: usize) -> u64 {
    if bucket == 0 {
        return (1 << FLOOR_BITS) - 1;
    }
    let (octave, step) = ((bucket - 1) >> STEP_BITS, (bucket - 1) & 3);
    let width = 1 << (octave as u32 + FLOOR_BITS - STEP_BITS);
    width * (5 + step as u64) - 1
}

impl Lateness {
    #[inline]
    pub(crate) const fn record(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.count += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
        if ns > self.max_ns {
            self.max_ns = ns;
        }
    }

    /// Timers recorded.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Sum of all, nanoseconds.
    #[must_use]
    pub const fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The latest, nanoseconds, exactly; 0 if there was none.
    #[must_use]
    pub const fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The lateness that this share of timers (0 to 1) did not exceed, nanoseconds; none before
    /// the first timer.
    #[must_use]
    pub fn quantile_ns(&self, share: f64) -> Option<u64> {
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(edge(at).min(self.max_ns));
            }
        }
        None
    }

    /// Timers that were at most this late, as far as buckets tell: one that holds `ns` counts
    /// whole if `ns` is in its upper half.
    #[must_use]
    pub fn count_at_or_below(&self, ns: u64) -> u64 {
        if ns >= self.max_ns {
            return self.count;
        }
        let own = bucket(ns);
        let begin = own.checked_sub(1).map_or(0, edge);
        let half = ns.saturating_sub(begin) * 2 >= edge(own) - begin;
        self.counts[..own + usize::from(half)].iter().sum()
    }

    /// What was recorded since `before`, an earlier state of the same; the maximum is of both.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut out = *self;
        for (count, earlier) in out.counts.iter_mut().zip(before.counts) {
            *count = count.saturating_sub(earlier);
        }
        out.count = self.count.saturating_sub(before.count);
        out.sum_ns = self.sum_ns.saturating_sub(before.sum_ns);
        out
    }

    /// This and another, together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut out = *self;
        for (count, more) in out.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        out.count += other.count;
        out.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        out.max_ns = self.max_ns.max(other.max_ns);
        out
    }
}

impl fmt::Debug for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lateness")
            .field("count", &self.count)
            .field("p50_ns", &self.quantile_ns(0.5))
            .field("p99_ns", &self.quantile_ns(0.99))
            .field("max_ns", &self.max_ns)
            .finish_non_exhaustive()
    }
}

impl Serialize for Lateness {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Lateness", 4)?;
        out.serialize_field("count", &self.count)?;
        out.serialize_field("p50_ns", &self.quantile_ns(0.5))?;
        out.serialize_field("p99_ns", &self.quantile_ns(0.99))?;
        out.serialize_field("max_ns", &(self.count > 0).then_some(self.max_ns))?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_timers_there_are_no_quantiles() {
        let none = Lateness::default();
        assert_eq!((none.quantile_ns(0.99), none.count()), (None, 0));
        assert_eq!(none.count_at_or_below(1), 0);
    }

    #[test]
    fn what_was_recorded_since_a_state_is_told_apart() {
        let mut lateness = Lateness::default();
        lateness.record(1_000_000);
        let before = lateness;
        lateness.record(90_000_000);
        let since = lateness.since(&before);
        assert_eq!((since.count(), since.sum_ns()), (1, 90_000_000));
        assert!(since.quantile_ns(0.0).unwrap() >= 80_000_000);
        assert_eq!(before.plus(&since), lateness);
    }

    proptest! {
        #[test]
        fn a_quantile_is_never_too_low_and_at_most_a_quarter_too_high(
            mut values in proptest::collection::vec(0u64..200_000_000_000, 1..200),
            share in 0.0f64..=1.0,
        ) {
            let mut lateness = Lateness::default();
            values.iter().for_each(|ns| lateness.record(*ns));
            values.sort_unstable();
            let rank = ((values.len() as f64 * share).ceil() as usize).max(1);
            let (exact, told) = (values[rank - 1], lateness.quantile_ns(share).unwrap());
            prop_assert!(told >= exact, "{told} {exact}");
            prop_assert!(told <= exact + exact / 4 || told < 1 << FLOOR_BITS, "{told} {exact}");
            prop_assert_eq!(lateness.max_ns(), *values.last().unwrap());
            prop_assert_eq!(lateness.count_at_or_below(u64::MAX), values.len() as u64);
            let below = lateness.count_at_or_below(exact);
            prop_assert!(below <= values.len() as u64);
        }

        #[test]
        fn every_value_is_at_or_below_the_edge_of_its_bucket_and_above_the_one_before(
            ns in 0u64..=200_000_000_000,
        ) {
            let at = bucket(ns);
            prop_assert!(ns <= edge(at));
            prop_assert!(at == 0 || ns > edge(at - 1));
        }
    }
}
