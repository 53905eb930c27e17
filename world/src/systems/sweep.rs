//! The walk over all rows in slices: which rows the present cycle visits, and what the walk finds.
//!
//! A whole walk takes `WorldRules::sweep`; its results replace the published ones when it ends. It
//! visits no row itself.
//!
//! Bound: [`SWEEP_ROWS_PER_CYCLE`] rows per cycle.

use std::ops::Range;

use bevy_ecs::prelude::Resource;
use serde::Serialize;

use super::SWEEP_ROWS_PER_CYCLE;
use crate::components::KINDS;

/// Values of one sensor type over all rows that hold a finite value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Aggregate {
    /// Rows that count.
    pub count: u64,
    /// Sum of their values.
    pub sum: f64,
    /// Least value; meaningless when `count` is 0.
    pub min: f64,
    /// Greatest value; meaningless when `count` is 0.
    pub max: f64,
}

impl Aggregate {
    /// Takes one finite value in.
    pub fn add(&mut self, value: f64) {
        if self.count == 0 {
            (self.min, self.max) = (value, value);
        } else {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
        self.count += 1;
        self.sum += value;
    }

    /// Mean; `None` when there is no value.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// State of the walk.
#[derive(Resource, Clone, Debug, Default)]
pub struct Sweep {
    next: u32,
    per_cycle: u32,
    /// Whole walks so far.
    pub sweeps: u64,
    /// This walk ages rows.
    pub(crate) ageing: bool,
    pub(crate) range: Range<usize>,
    pub(crate) ends: bool,
    pub(crate) partial: [Aggregate; KINDS],
    pub(crate) partial_stale: u64,
    /// Result of the last whole walk, per sensor type.
    pub aggregates: [Aggregate; KINDS],
    /// Stale rows found by the last whole walk.
    pub stale: u64,
}

impl Sweep {
    /// Chooses the slice of the next cycle: the table is `rows` long and a whole walk shall take
    /// `cycles`; rows age in every `age_every`-th walk.
    pub fn advance(&mut self, rows: u32, cycles: u64, age_every: u64) {
        if self.next == 0 {
            let per_cycle = u64::from(rows).div_ceil(cycles.max(1));
            self.per_cycle = (per_cycle as u32).clamp(1, SWEEP_ROWS_PER_CYCLE);
            self.ageing = self.sweeps.is_multiple_of(age_every.max(1));
        }
        let end = self.next.saturating_add(self.per_cycle).min(rows);
        self.range = self.next as usize..end as usize;
        self.ends = end == rows;
        self.next = if self.ends { 0 } else { end };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_visits_each_row_once_in_its_time() {
        let mut sweep = Sweep::default();
        let mut seen = vec![0; 1_003];
        let mut cycles = 0;
        loop {
            sweep.advance(1_003, 100, 1);
            cycles += 1;
            for row in sweep.range.clone() {
                seen[row] += 1;
            }
            if sweep.ends {
                break;
            }
        }
        assert!(seen.iter().all(|times| *times == 1));
        assert!((90..=100).contains(&cycles), "{cycles}");
    }

    #[test]
    fn an_empty_table_is_walked_without_rows() {
        let mut sweep = Sweep::default();
        sweep.advance(0, 100, 1);
        assert!(sweep.range.is_empty());
        assert!(sweep.ends);
    }
}
