//! Several rates on one grid: each system runs in every n-th slot, as a pure function of slots.
//!
//! All rates count from the grid's first slot, so that harmonic ones stay in phase. A slot that was
//! skipped is served once, by the next cycle. Bound: [`EVERY_MAX`].

use super::{SYSTEMS, SystemId};

/// Slowest rate, in slots: an hour at 1 kHz.
pub(super) const EVERY_MAX: u32 = 3_600_000;

/// How often each system runs, and when it ran last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    every: [u32; SYSTEMS],
    last_slot: Option<u64>,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            every: [1; SYSTEMS],
            last_slot: None,
        }
    }
}

impl Rates {
    /// Lets a system run in every `every`-th slot; essential ones always run in each, and export
    /// and diagnostics, which share a walk, at one rate.
    pub fn set(&mut self, system: SystemId, every: u32) {
        let walk = [SystemId::Export, SystemId::Diagnostics];
        let systems = if walk.contains(&system) {
            &walk[..]
        } else {
            &[system][..]
        };
        for system in systems.iter().filter(|system| !system.is_essential()) {
            self.every[system.index()] = every.clamp(1, EVERY_MAX);
        }
    }

    /// Slots between two runs of a system.
    #[must_use]
    pub fn every(&self, system: SystemId) -> u32 {
        self.every[system.index()]
    }

    /// Slots are those of another grid from now on.
    pub fn restart(&mut self) {
        self.last_slot = None;
    }

    /// Systems that are due in `slot`, as bits; slots come in rising order.
    pub fn due(&mut self, slot: u64) -> u16 {
        let last = self.last_slot.replace(slot);
        let is_due = |every: u64| last.is_none_or(|last| last / every < slot / every);
        // most systems run in each slot, which needs no division
        let bits = self.every.iter().enumerate();
        bits.fold(0, |due, (at, every)| {
            let is_due = *every == 1 || is_due(u64::from(*every));
            due | u16::from(is_due) << at
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(rates: &mut Rates, slots: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let bit = 1 << SystemId::Export.index();
        slots
            .into_iter()
            .filter(|slot| rates.due(*slot) & bit != 0)
            .collect()
    }

    fn rates(every: u32) -> Rates {
        let mut rates = Rates::default();
        rates.set(SystemId::Export, every);
        rates
    }

    #[test]
    fn a_divisor_runs_in_its_slots_and_in_phase() {
        assert_eq!(runs(&mut rates(4), 0..13), [0, 4, 8, 12]);
        assert_eq!(
            runs(&mut rates(4), 6..13),
            [6, 8, 12],
            "the first cycle runs all"
        );
    }

    #[test]
    fn a_skipped_slot_is_served_once_by_the_next_cycle() {
        assert_eq!(runs(&mut rates(4), [0, 1, 2, 3, 6, 7, 8]), [0, 6, 8]);
        assert_eq!(
            runs(&mut rates(4), [0, 1, 30, 31, 32]),
            [0, 30, 32],
            "never a burst"
        );
    }

    #[test]
    fn what_takes_readings_and_commands_runs_in_each_slot() {
        let mut rates = Rates::default();
        rates.set(SystemId::Ingest, 10);
        rates.set(SystemId::Own(0), 0);
        assert_eq!(rates.every(SystemId::Ingest), 1);
        assert_eq!(rates.every(SystemId::Own(0)), 1);
    }
}
