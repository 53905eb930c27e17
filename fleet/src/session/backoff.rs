//! When to connect again: exponential, with jitter that differs by device and attempt.
//!
//! A pure function of (seed, attempt): a fleet that lost its broker at once comes back spread, and
//! the same way in each run. It counts nothing. Bound: [`Backoff::max`].

use std::time::Duration;

use crate::generator::noise;

/// Lane of the draws, apart from those of the device's fields.
const LANE: u64 = 0x6261_636b_6f66_6600;

/// How the waits grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Wait before the first attempt, jitter aside.
    pub min: Duration,
    /// No wait is longer.
    pub max: Duration,
    /// From wait to wait, at least 1.
    pub factor: f64,
    /// Share of each wait that is drawn evenly, 0..=1: with 1 a wait is anything from 0 to whole.
    pub jitter: f64,
}

impl Default for Backoff {
    /// From one second to a minute by two, half of it drawn.
    fn default() -> Self {
        Self {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
            factor: 2.0,
            jitter: 0.5,
        }
    }
}

impl Backoff {
    /// The wait before attempt `attempt`, counted from 0 since the last time all was well.
    #[must_use]
    pub fn wait(&self, seed: u64, attempt: u32) -> Duration {
        let (min, max) = (self.min.as_secs_f64(), self.max.as_secs_f64());
        // Beyond 64 doublings every wait has reached its most.
        let grown = libm::pow(self.factor.max(1.0), f64::from(attempt.min(64)));
        let whole = (min * grown).min(max);
        let drawn = noise::uniform(seed, u64::from(attempt), LANE);
        let share = 1.0 - self.jitter.clamp(0.0, 1.0) * drawn;
        Duration::try_from_secs_f64(whole * share).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_most_and_stay_within_their_jitter() {
        let backoff = Backoff::default();
        for attempt in 0..200 {
            let whole = (1u64 << attempt.min(6)).min(60) as f64;
            let wait = backoff.wait(7, attempt).as_secs_f64();
            assert!(wait <= whole && wait >= whole / 2.0, "{attempt}: {wait}");
        }
        assert_eq!(backoff.wait(7, 3), backoff.wait(7, 3));
    }

    #[test]
    fn a_fleet_that_lost_its_broker_comes_back_spread_evenly() {
        let backoff = Backoff {
            jitter: 1.0,
            ..Backoff::default()
        };
        let mut tenths = [0u32; 10];
        for device in 0..10_000u64 {
            let seed = crate::seed::device_seed(1, &format!("pump-{device:04}"));
            let wait = backoff.wait(seed, 0);
            tenths[(wait.as_millis() / 100) as usize % 10] += 1;
        }
        assert!(tenths.iter().all(|n| n.abs_diff(1_000) < 150), "{tenths:?}");
    }
}
