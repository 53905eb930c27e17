//! The workload of `scan`: which rows of a table get a reading in a tick, and which.
//!
//! Rows are drawn in a random order without repetition, so that a tick touches as many rows as it
//! has readings and neighbours in a tick are strangers in memory.

/// Sensor types; row `n` has type `n % KINDS`.
pub const KINDS: usize = 7;
/// Readings in a batch, as a link sends them.
pub const BATCH: usize = 256;
/// Time between two ticks, in nanoseconds.
pub const PERIOD_NS: u64 = 10_000_000;
/// Ticks of one walk over all rows, for aggregates and ageing: one second.
pub const WALK: u64 = 100;
/// A row without a value for so many walks is stale.
pub const STALE: u16 = 15;
/// Weight of a new value in the smoothed one.
pub const ALPHA: f64 = 0.125;
/// Thresholds whose crossings are counted, by type.
pub const THRESHOLDS: [f64; KINDS] = [80.0, 80.0, 8.0, 240.0, 16.0, 1.0, 1.0];
/// The type whose rows command a relay, below the value.
pub const PRESENCE: (u8, f64) = (5, 1.0);

/// A reading that knows its row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowValue {
    /// Row of the table.
    pub row: u32,
    /// Value.
    pub value: f64,
    /// Stamp, microseconds.
    pub at_us: u64,
    /// Sequence of the row.
    pub sequence: u32,
}

/// The readings of all ticks of one run.
#[derive(Clone, Debug)]
pub struct RowLoad {
    order: Vec<u32>,
    each: usize,
}

impl RowLoad {
    /// Ticks that touch `percent` of `rows`.
    #[must_use]
    pub fn new(rows: u32, percent: usize) -> Self {
        let mut order: Vec<u32> = (0..rows).collect();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for at in (1..order.len()).rev() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            order.swap(at, (state % (at as u64 + 1)) as usize);
        }
        let each = (order.len() * percent / 100).max(1);
        Self { order, each }
    }

    /// Readings of a tick.
    #[must_use]
    pub const fn each(&self) -> usize {
        self.each
    }

    /// The readings of tick `round`, from 1.
    pub fn of(&self, round: u64) -> impl Iterator<Item = RowValue> + '_ {
        let first = (round as usize - 1) * self.each % self.order.len();
        let rows = self.order[first..].iter().chain(&self.order);
        rows.take(self.each).map(move |row| RowValue {
            row: *row,
            // present for ever: what a command costs is not measured
            value: 20.0 + f64::from((row * 7 + round as u32) % 100),
            at_us: round * PERIOD_NS / 1_000,
            sequence: round as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_round_touches_each_row_once() {
        let load = RowLoad::new(1_003, 10);
        let mut rows: Vec<u32> = (1..=10).flat_map(|n| load.of(n)).map(|r| r.row).collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!((load.each(), rows.len()), (100, 1_000));
    }
}
