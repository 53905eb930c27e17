//! The numbers by which the systems work. Plain data; nothing is decided here. What values mean for
//! devices is in [`crate::rules`].
//!
//! Bound: one threshold per sensor type.

use std::time::Duration;

use crate::components::{AGE_MAX, KIND_BITS, KINDS};
use crate::windows::WindowSet;

/// Smoothing, thresholds and staleness.
#[derive(Clone, Debug, PartialEq)]
pub struct WorldRules {
    /// Weight of a new value in the smoothed one.
    pub alpha: f64,
    /// Threshold per sensor type whose crossings by the smoothed value are counted.
    pub thresholds: [f64; KINDS],
    /// How long one walk over the whole table takes, for aggregates and ageing.
    pub sweep: Duration,
    /// A row without a value for this long is stale (up to one ageing sweep later).
    pub stale_after: Duration,
    /// Sensors whose last values are kept.
    pub windows: WindowSet,
}

impl Default for WorldRules {
    fn default() -> Self {
        Self {
            alpha: 0.125,
            thresholds: [80.0, 80.0, 8.0, 240.0, 16.0, 1.0, 1.0],
            sweep: Duration::from_secs(1),
            stale_after: Duration::from_secs(15),
            windows: WindowSet::default(),
        }
    }
}

impl WorldRules {
    /// The thresholds for every type that the bits of a row can hold.
    pub(crate) fn thresholds_by_kind(&self) -> [f64; KIND_BITS] {
        std::array::from_fn(|kind| self.thresholds[kind % KINDS])
    }

    /// (every how many sweeps rows age, at which age they are stale), so that the stale time fits
    /// the four bits of an age.
    #[must_use]
    pub fn ageing(&self) -> (u64, u16) {
        let sweep_ns = self.sweep.as_nanos().max(1);
        let sweeps = self.stale_after.as_nanos().div_ceil(sweep_ns).max(1) as u64;
        let every = sweeps.div_ceil(u64::from(AGE_MAX) - 1);
        // one more than the quotient: the first ageing may follow a value at once
        let age = sweeps.div_ceil(every) as u16 + 1;
        (every, age.min(AGE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_time_of_any_length_fits_an_age() {
        for seconds in [0, 1, 2, 14, 15, 16, 60, 3_600, 86_400] {
            let stale_after = Duration::from_secs(seconds);
            let (every, age) = WorldRules {
                stale_after,
                ..WorldRules::default()
            }
            .ageing();
            assert!((2..=AGE_MAX).contains(&age), "{seconds} s: age {age}");
            assert!(
                every * (u64::from(age) - 1) >= seconds,
                "{seconds} s is stale too early"
            );
        }
    }
}
