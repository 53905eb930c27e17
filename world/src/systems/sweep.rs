//! The walk over all rows in slices: which rows the present cycle visits, and what the walk finds.
//!
//! A whole walk takes `WorldRules::sweep`; its results replace the published ones when it ends. It
//! visits no row itself.
//!
//! Bound: [`SWEEP_ROWS_PER_CYCLE`] rows per cycle.

use std::ops::Range;

use serde::Serialize;

use super::SWEEP_ROWS_PER_CYCLE;
use crate::components::{KIND_BITS, KINDS};

/// Of a value that is added up: a power of two, so that it is exact, and so small that no sum over
/// a table of finite values is infinite.
const PART: f64 = 1.0 / (1_u64 << 32) as f64;

/// Values of one sensor type over all rows that hold a finite value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Aggregate {
    /// Rows that count.
    pub count: u64,
    /// Sum of their values, each [`PART`] of itself.
    part_sum: f64,
    /// Least value; meaningless when `count` is 0.
    pub min: f64,
    /// Greatest value; meaningless when `count` is 0.
    pub max: f64,
}

impl Aggregate {
    /// No value yet: any is less than the least and greater than the greatest.
    pub(crate) const NONE: Self = Self {
        count: 0,
        part_sum: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
    };

    /// Takes one finite value in.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        // comparisons, not `f64::min`: a value is never NaN, and one instruction is enough
        if value < self.min {
            self.min = value;
        }
        if value > self.max {
            self.max = value;
        }
        self.count += 1;
        self.part_sum += value * PART;
    }

    /// As it is told.
    pub(crate) fn told(self) -> Self {
        if self.count == 0 {
            Self::default()
        } else {
            self
        }
    }

    /// Mean; `None` when there is no value.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let whole = self.part_sum / self.count as f64 / PART;
        // what was rounded may lie beyond all of them
        (self.count > 0).then(|| whole.clamp(self.min, self.max))
    }
}

/// State of the walk.
#[derive(Clone, Debug)]
pub struct Sweep {
    next: u32,
    cycle: u64,
    /// Whole walks so far.
    pub sweeps: u64,
    /// This walk ages rows.
    pub(crate) ageing: bool,
    pub(crate) range: Range<usize>,
    pub(crate) ends: bool,
    pub(crate) partial: [Aggregate; KIND_BITS],
    pub(crate) partial_stale: [u32; KIND_BITS],
    /// Result of the last whole walk, per sensor type.
    pub aggregates: [Aggregate; KINDS],
    /// Stale rows found by the last whole walk, per sensor type.
    pub stale: [u32; KINDS],
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            next: 0,
            cycle: 0,
            sweeps: 0,
            ageing: false,
            range: 0..0,
            ends: false,
            partial: [Aggregate::NONE; KIND_BITS],
            partial_stale: [0; KIND_BITS],
            aggregates: [Aggregate::default(); KINDS],
            stale: [0; KINDS],
        }
    }
}

impl Sweep {
    /// The next cycle visits no row.
    pub(crate) fn rest(&mut self) {
        self.range = 0..0;
        self.ends = false;
    }

    /// Chooses the slice of the next cycle: the table is `rows` long and a whole walk shall take
    /// `cycles`, never less; rows age in every `age_every`-th walk.
    pub fn advance(&mut self, rows: u32, cycles: u64, age_every: u64) {
        let cycles = cycles.max(1);
        if self.cycle == 0 {
            self.ageing = self.sweeps.is_multiple_of(age_every.max(1));
        }
        self.cycle += 1;
        let wanted = u64::from(rows) * self.cycle.min(cycles) / cycles;
        let most = self.next.saturating_add(SWEEP_ROWS_PER_CYCLE);
        let end = (wanted as u32).min(most).max(self.next);
        self.range = self.next as usize..end as usize;
        self.ends = self.cycle >= cycles && end >= rows;
        (self.next, self.cycle) = if self.ends { (0, 0) } else { (end, self.cycle) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows seen by one whole walk, and its cycles.
    fn walk(rows: u32, cycles: u64) -> (Vec<u32>, u64) {
        let (mut sweep, mut seen) = (Sweep::default(), vec![0; rows as usize]);
        for cycle in 1..1_000_000 {
            sweep.advance(rows, cycles, 1);
            seen[sweep.range.clone()]
                .iter_mut()
                .for_each(|times| *times += 1);
            if sweep.ends {
                return (seen, cycle);
            }
        }
        panic!("a walk must end");
    }

    #[test]
    fn a_walk_visits_each_row_once_in_its_time() {
        for (rows, cycles) in [(1_003, 100), (7, 100), (0, 100), (5, 1), (100, 100)] {
            let (seen, took) = walk(rows, cycles);
            assert!(seen.iter().all(|times| *times == 1), "{rows} rows");
            assert_eq!(took, cycles, "{rows} rows");
        }
    }

    #[test]
    fn a_walk_over_too_many_rows_takes_longer_not_more_per_cycle() {
        let (seen, took) = walk(SWEEP_ROWS_PER_CYCLE * 3, 2);
        assert!(seen.iter().all(|times| *times == 1));
        assert_eq!(took, 3);
    }
}
