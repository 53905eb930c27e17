//! How many readings a cycle takes in, from what one has cost lately, as a pure state machine.
//!
//! After a pause of the host, or of whoever sends, more readings wait than fit a period. Taken at
//! once they would make a cycle that overruns out of a gap that is over, and put the next ones off;
//! so they are taken over several cycles, each of which fits. Time is passed in.
//!
//! Bound: [`READINGS_MIN`] to [`READINGS_PER_CYCLE`] readings.

use crate::systems::{READINGS_PER_CYCLE, TIMED_WORK};

/// However slow the host is, a cycle takes as many as that if they are there.
pub const READINGS_MIN: usize = 4_096;

/// What readings may cost of a period: the rest is for the walk, for what the twin tells, and for
/// readings that cost more than those before.
const SHARE: f64 = 0.5;

/// Nanoseconds of a reading before any was measured, and of one at least: rows far apart in a large
/// table. Those that wait after a pause are in nobody's cache: each costs twice what one of the few
/// of a usual cycle does.
const COST_NS: f64 = 50.0;

/// Fewer readings in a cycle do not tell what one costs; so many are timed in each.
const TELLING: usize = TIMED_WORK;

/// Weight of a cycle in what a reading costs.
const WEIGHT: f64 = 0.125;

/// One cycle counts as at most so many times the cost so far: it may have been interrupted.
const JUMP: f64 = 2.0;

/// What a reading costs, by the cycles so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Portion {
    cost_ns: f64,
}

impl Default for Portion {
    fn default() -> Self {
        Self { cost_ns: COST_NS }
    }
}

impl Portion {
    /// Readings that the next cycle may take.
    #[must_use]
    pub fn readings(&self, period_ns: u64) -> usize {
        let fit = period_ns as f64 * SHARE / self.cost_ns.max(COST_NS);
        (fit as usize).clamp(READINGS_MIN, READINGS_PER_CYCLE)
    }

    /// A cycle spent `took_ns` on so many readings.
    pub fn spent(&mut self, readings: usize, took_ns: u64) {
        if readings < TELLING {
            return;
        }
        let cost_ns = (took_ns.max(1) as f64 / readings as f64).min(self.cost_ns * JUMP);
        self.cost_ns += (cost_ns - self.cost_ns) * WEIGHT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn portion(cost_ns: u64) -> Portion {
        let mut portion = Portion::default();
        for _ in 0..200 {
            portion.spent(1_000, 1_000 * cost_ns);
        }
        portion
    }

    #[test]
    fn what_a_cycle_takes_costs_half_of_its_period_though_usual_cycles_are_cheaper() {
        let near = |readings: usize, expected: usize| readings.abs_diff(expected) <= 2;
        assert!(near(portion(25).readings(MS), 10_000));
        assert!(near(portion(50).readings(MS), 10_000));
        assert!(near(portion(100).readings(10 * MS), 50_000));
    }

    #[test]
    fn it_keeps_its_bounds() {
        assert_eq!(portion(5_000).readings(MS), READINGS_MIN);
        assert_eq!(portion(5).readings(100 * MS), READINGS_PER_CYCLE);
        assert_eq!(portion(0).readings(MS), 10_000);
    }

    #[test]
    fn one_interrupted_cycle_changes_little_and_a_small_one_nothing() {
        let (before, mut after) = (portion(50), portion(50));
        after.spent(1_000, 80 * MS);
        assert!(after.readings(MS) > before.readings(MS) * 8 / 10);
        let kept = after;
        after.spent(TELLING - 1, 80 * MS);
        assert_eq!(after, kept);
    }
}
