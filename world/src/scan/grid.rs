//! The absolute grid on which cycles run, as a pure state machine: time is passed in.
//!
//! Slot `n` is due at `origin + n * period`. A cycle that comes late never shifts the grid; slots
//! that passed unserved are skipped and counted on the next dispatch, which realigns. There is
//! never a burst: one call of [`Grid::take`] gives at most one slot, the newest that is due.
//! Nothing here reads a clock or sleeps.
//!
//! Bound: `u64` nanoseconds since the clock's origin (584 years).

/// One dispatch of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Number of the slot, counted from the grid's origin.
    pub index: u64,
    /// When it was due, nanoseconds.
    pub due_ns: u64,
    /// How late it is served, nanoseconds; always less than one period.
    pub late_ns: u64,
    /// Slots abandoned between the previous dispatch and this one.
    pub skipped: u64,
}

/// Absolute, drift-free cycle grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    origin_ns: u64,
    period_ns: u64,
    next: u64,
}

impl Grid {
    /// A grid whose slot 0 is due at `origin_ns`; a period of 0 is taken as 1 ns.
    #[must_use]
    pub fn new(origin_ns: u64, period_ns: u64) -> Self {
        Self {
            origin_ns,
            period_ns: period_ns.max(1),
            next: 0,
        }
    }

    /// Nanoseconds between slots.
    #[must_use]
    pub fn period_ns(&self) -> u64 {
        self.period_ns
    }

    /// When the next unserved slot is due.
    #[must_use]
    pub fn next_due_ns(&self) -> u64 {
        self.due(self.next)
    }

    /// Serves the newest slot that is due at `now_ns`, or nothing before the next one is.
    pub fn take(&mut self, now_ns: u64) -> Option<Slot> {
        let due_ns = self.next_due_ns();
        if now_ns < due_ns {
            return None;
        }
        let skipped = (now_ns - due_ns) / self.period_ns;
        let index = self.next + skipped;
        let due_ns = self.due(index);
        self.next = index + 1;
        Some(Slot {
            index,
            due_ns,
            late_ns: now_ns - due_ns,
            skipped,
        })
    }

    fn due(&self, slot: u64) -> u64 {
        self.origin_ns + slot * self.period_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: u64 = 1_000;

    fn grid() -> Grid {
        Grid::new(10_000, P)
    }

    #[test]
    fn nothing_before_the_first_slot() {
        let mut grid = grid();
        assert_eq!(grid.take(9_999), None);
        assert_eq!(grid.next_due_ns(), 10_000);
    }

    #[test]
    fn exact_slot_boundary_is_due() {
        let slot = grid().take(10_000);
        assert_eq!(
            slot,
            Some(Slot {
                index: 0,
                due_ns: 10_000,
                late_ns: 0,
                skipped: 0
            })
        );
    }

    #[test]
    fn varying_lateness_never_accumulates() {
        let mut grid = grid();
        for (index, late) in [0, 999, 1, 500, 998, 0, 3].into_iter().enumerate() {
            let index = index as u64;
            let due_ns = 10_000 + index * P;
            let slot = grid.take(due_ns + late);
            assert_eq!(
                slot,
                Some(Slot {
                    index,
                    due_ns,
                    late_ns: late,
                    skipped: 0
                })
            );
            assert_eq!(grid.take(due_ns + late), None, "one dispatch per slot");
        }
        assert_eq!(grid.next_due_ns(), 10_000 + 7 * P);
    }

    #[test]
    fn a_stall_dispatches_once_and_realigns() {
        let mut grid = grid();
        assert_eq!(grid.take(10_000).map(|slot| slot.index), Some(0));
        // 5.3 periods later: slots 1 to 4 are gone, slot 5 is served late
        let slot = grid.take(15_300);
        assert_eq!(
            slot,
            Some(Slot {
                index: 5,
                due_ns: 15_000,
                late_ns: 300,
                skipped: 4
            })
        );
        assert_eq!(grid.take(15_300), None);
        assert_eq!(grid.take(16_000).map(|slot| slot.skipped), Some(0));
    }

    #[test]
    fn late_by_exactly_one_period_skips_one() {
        let mut grid = grid();
        let slot = grid.take(11_000);
        assert_eq!(
            slot,
            Some(Slot {
                index: 1,
                due_ns: 11_000,
                late_ns: 0,
                skipped: 1
            })
        );
    }

    #[test]
    fn late_by_one_nanosecond_less_skips_none() {
        let slot = grid().take(10_999);
        assert_eq!(
            slot,
            Some(Slot {
                index: 0,
                due_ns: 10_000,
                late_ns: 999,
                skipped: 0
            })
        );
    }

    #[test]
    fn back_to_back_stalls_each_count_their_own_slots() {
        let mut grid = grid();
        let skipped: Vec<_> = [12_500, 15_999, 16_000]
            .iter()
            .filter_map(|now| grid.take(*now))
            .collect();
        let skipped: Vec<_> = skipped
            .iter()
            .map(|slot| (slot.index, slot.skipped))
            .collect();
        assert_eq!(skipped, [(2, 2), (5, 2), (6, 0)]);
    }

    #[test]
    fn served_plus_skipped_is_the_number_of_slots() {
        let mut grid = grid();
        let (mut served, mut skipped, mut now) = (0, 0, 10_000);
        for step in 0..1_000_u64 {
            now += (step * 7_919) % 4_321;
            if let Some(slot) = grid.take(now) {
                served += 1;
                skipped += slot.skipped;
                assert!(slot.late_ns < P);
            }
        }
        assert_eq!(served + skipped, (grid.next_due_ns() - 10_000) / P);
    }

    #[test]
    fn a_zero_period_does_not_divide_by_zero() {
        assert!(Grid::new(0, 0).take(5).is_some());
    }
}
