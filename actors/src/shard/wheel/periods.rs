//! The periods of a wheel's periodic timers, each kept once, so that a timer names its own in four
//! bytes.
//!
//! Looking one up when a timer is set takes a search; firing takes an index. Bound: one per
//! periodic timer at most; most slabs have one or two.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cell::MissedTicks;
use crate::clock::Time;

/// Of a timer that fires once.
pub(super) const ONCE: u32 = u32::MAX;

type Rule = (Duration, MissedTicks);

struct Period {
    rule: Rule,
    timers: u32,
}

#[derive(Default)]
pub(super) struct Periods {
    table: Vec<Period>,
    free: Vec<u32>,
    places: BTreeMap<Rule, u32>,
}

impl Periods {
    /// A timer with this period is set.
    pub(super) fn enter(&mut self, period: Duration, missed: MissedTicks) -> u32 {
        let rule = (period, missed);
        if let Some(place) = self.places.get(&rule) {
            self.table[*place as usize].timers += 1;
            return *place;
        }
        let period = Period { rule, timers: 1 };
        let place = match self.free.pop() {
            Some(place) => {
                self.table[place as usize] = period;
                place
            }
            None => {
                self.table.push(period);
                self.table.len() as u32 - 1
            }
        };
        self.places.insert(rule, place);
        place
    }

    /// A timer with this period, or with none, is gone.
    #[inline]
    pub(super) fn leave(&mut self, place: u32) {
        if place == ONCE {
            return;
        }
        let period = &mut self.table[place as usize];
        period.timers -= 1;
        if period.timers == 0 {
            self.places.remove(&period.rule);
            self.free.push(place);
        }
    }

    /// When a timer that fires now, and was due at `due`, is due again, and the ticks it missed.
    #[inline]
    pub(super) fn next(&self, place: u32, due: Time, now: Time) -> (Time, u64) {
        let (period, missed) = self.table[place as usize].rule;
        missed.next(due, period, now)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}
