//! When devices sample: a fixed grid per device, spread evenly over the interval.
//!
//! Neighbours in memory share a phase, so that they fire together and run through the cache in
//! order; blocks are spread by the golden ratio, so that any number of them is spread evenly.
//! Blocks meet at [`POINTS_OF_INTERVAL`] points of the interval: a fleet that samples each minute
//! wakes its shards 17 times a second, however large it is. It sets no timer. Bound: none needed,
//! pure functions.

use std::time::Duration;

use actorsim_actors::Time;

use crate::generator::noise;

/// Ordinals that share a phase: 64 devices of seven sensors fill one block of telemetry.
pub const BLOCK_OF_PHASE: u32 = 64;

/// Points of an interval at which devices sample. At one a second they are as dense as ticks of the
/// timer wheel; at longer intervals each wake-up of a shard serves more devices. No burst is larger
/// than a thousandth of the fleet, to the block.
pub const POINTS_OF_INTERVAL: u64 = 1_000;

/// 2^64 / golden ratio: successive multiples spread evenly (Knuth, TAOCP 3, 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The grid of a population.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    origin: Time,
    interval_ns: u64,
    turn: u64,
}

impl Schedule {
    /// A grid that begins at `origin` (simulated time).
    #[must_use]
    pub fn new(origin: Time, interval: Duration, seed: u64) -> Self {
        let interval_ns = u64::try_from(interval.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        Self {
            origin,
            interval_ns,
            turn: noise::bits(seed, 0, 0),
        }
    }

    /// Time between slots.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval_ns)
    }

    /// The time of a device's slot.
    #[must_use]
    pub fn time_of(&self, ordinal: u32, slot: u64) -> Time {
        let since = self
            .phase_ns(ordinal)
            .saturating_add(slot.saturating_mul(self.interval_ns));
        Time(self.origin.0.saturating_add(since))
    }

    /// The first slot of a device that is not past.
    #[must_use]
    pub fn slot_at_or_after(&self, ordinal: u32, now: Time) -> u64 {
        let first = self.time_of(ordinal, 0);
        now.0.saturating_sub(first.0).div_ceil(self.interval_ns)
    }

    fn phase_ns(&self, ordinal: u32) -> u64 {
        let block = u64::from(ordinal / BLOCK_OF_PHASE);
        let fraction = block.wrapping_mul(GOLDEN).wrapping_add(self.turn);
        let points = u128::from(POINTS_OF_INTERVAL);
        let point = (u128::from(fraction) * points) >> 64;
        (point * u128::from(self.interval_ns) / points) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_fleet_is_spread_evenly_over_the_interval() {
        let schedule = Schedule::new(Time::ZERO, Duration::from_secs(5), 42);
        let mut bins = [0u32; 50];
        for ordinal in 0..64_000 {
            bins[(schedule.time_of(ordinal, 0).0 / 100_000_000) as usize] += 1;
        }
        let even = 64_000 / 50;
        assert!(
            bins.iter().all(|n| n.abs_diff(even) <= 2 * BLOCK_OF_PHASE),
            "{bins:?}"
        );
        assert_eq!(schedule.time_of(0, 3), schedule.time_of(63, 3));
        assert_ne!(schedule.time_of(63, 3), schedule.time_of(64, 3));
    }

    #[test]
    fn a_million_devices_of_one_interval_meet_at_a_thousand_points() {
        let schedule = Schedule::new(Time::ZERO, Duration::from_secs(60), 7);
        let mut points = BTreeMap::new();
        for ordinal in 0..1_000_000 {
            *points.entry(schedule.time_of(ordinal, 0)).or_insert(0u32) += 1;
        }
        assert_eq!(points.len() as u64, POINTS_OF_INTERVAL);
        let most = points.values().max();
        assert!(
            most.is_some_and(|n| *n <= 1_000 + 2 * BLOCK_OF_PHASE),
            "{most:?}"
        );
    }

    #[test]
    fn the_next_slot_is_never_in_the_past() {
        let schedule = Schedule::new(Time(1_000), Duration::from_millis(10), 7);
        for now in [0, 1_000, 9_999_999, 10_000_000, 123_456_789] {
            let slot = schedule.slot_at_or_after(200, Time(now));
            assert!(schedule.time_of(200, slot).0 >= now);
            assert!(slot == 0 || schedule.time_of(200, slot - 1).0 < now);
        }
        let exact = schedule.time_of(200, 5);
        assert_eq!(schedule.slot_at_or_after(200, exact), 5);
    }
}
