//! The last crash of each actor, in a bounded store that folds repeats.
//!
//! It knows no actor and no clock: a key, what happened last, and how often for which reason.
//! Bound: `max` actors, the one that was quiet longest goes first; [`REASONS_MAX`] reasons of each.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use actorsim_actors::Time;

/// Reasons of one actor that are counted apart; the oldest is forgotten for one more.
pub(crate) const REASONS_MAX: usize = 8;

/// How often an actor ended for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repeats {
    pub(crate) label: &'static str,
    pub(crate) count: u64,
    pub(crate) first: Time,
    /// When it was told last, and how many were held back since.
    pub(crate) told: Option<Time>,
    pub(crate) held_back: u64,
}

#[derive(Debug)]
struct Entry<R> {
    last: R,
    reasons: Vec<Repeats>,
    /// Which of its marks in the order is the valid one.
    mark: u64,
}

/// The last report of each of the actors that crashed last.
#[derive(Debug)]
pub(crate) struct CrashLog<K, R> {
    max: usize,
    entries: BTreeMap<K, Entry<R>>,
    /// Marks by age. One that its entry has overtaken means nothing.
    order: VecDeque<(u64, K)>,
    marks: u64,
    /// Of whom some were held back.
    holding: BTreeSet<K>,
    /// How many were held back whose actor or reason was forgotten since.
    lost: u64,
}

impl<K: Ord + Clone, R> CrashLog<K, R> {
    pub(crate) const fn new(max: usize) -> Self {
        Self {
            max,
            entries: BTreeMap::new(),
            order: VecDeque::new(),
            marks: 0,
            holding: BTreeSet::new(),
            lost: 0,
        }
    }

    /// Keeps the report as the last one of `key`; returns it, and how often it ended for this
    /// reason.
    pub(crate) fn record(
        &mut self,
        key: K,
        label: &'static str,
        now: Time,
        last: R,
    ) -> (&mut R, &mut Repeats) {
        self.marks += 1;
        let mark = self.marks;
        if !self.entries.contains_key(&key) {
            self.make_room();
        } else if self.order.len() >= 2 * self.max {
            self.tidy();
        }
        self.order.push_back((mark, key.clone()));
        let entry = match self.entries.entry(key) {
            Slot::Vacant(vacant) => vacant.insert(Entry {
                last,
                reasons: Vec::with_capacity(1),
                mark,
            }),
            Slot::Occupied(occupied) => {
                let entry = occupied.into_mut();
                (entry.last, entry.mark) = (last, mark);
                entry
            }
        };
        let at = match entry.reasons.iter().position(|r| r.label == label) {
            Some(at) => at,
            None => {
                if entry.reasons.len() == REASONS_MAX {
                    self.lost += entry.reasons.remove(0).held_back;
                }
                entry.reasons.push(Repeats {
                    label,
                    count: 0,
                    first: now,
                    told: None,
                    held_back: 0,
                });
                entry.reasons.len() - 1
            }
        };
        let repeats = &mut entry.reasons[at];
        repeats.count += 1;
        (&mut entry.last, repeats)
    }

    fn make_room(&mut self) {
        while self.entries.len() >= self.max {
            let Some((mark, key)) = self.order.pop_front() else {
                return;
            };
            let Slot::Occupied(entry) = self.entries.entry(key) else {
                continue;
            };
            if entry.get().mark == mark {
                self.holding.remove(entry.key());
                let held_back = entry.remove().reasons.into_iter().map(|one| one.held_back);
                self.lost += held_back.sum::<u64>();
            }
        }
    }

    /// Notes that an end of `key` was held back.
    pub(crate) fn hold(&mut self, key: K) {
        self.holding.insert(key);
    }

    /// Takes out, as told now, those that were held back and of which `tells` says so: the last
    /// report of their actor, the reason and how many.
    pub(crate) fn take_held(
        &mut self,
        now: Time,
        mut tells: impl FnMut(&R, &Repeats) -> bool,
    ) -> Vec<(R, &'static str, u64)>
    where
        R: Clone,
    {
        let (entries, mut taken) = (&mut self.entries, Vec::new());
        self.holding.retain(|key| {
            let Some(entry) = entries.get_mut(key) else {
                return false;
            };
            let mut holds = false;
            for repeats in entry.reasons.iter_mut().filter(|one| one.held_back > 0) {
                if tells(&entry.last, repeats) {
                    let held_back = std::mem::take(&mut repeats.held_back);
                    repeats.told = Some(now);
                    taken.push((entry.last.clone(), repeats.label, held_back));
                } else {
                    holds = true;
                }
            }
            holds
        });
        taken
    }

    /// Takes out how many were held back of actors and for reasons that are forgotten by now.
    pub(crate) const fn take_lost(&mut self) -> u64 {
        std::mem::replace(&mut self.lost, 0)
    }

    /// Drops marks that were overtaken.
    fn tidy(&mut self) {
        let entries = &self.entries;
        let valid = |(mark, key): &(u64, K)| entries.get(key).is_some_and(|e| e.mark == *mark);
        self.order.retain(valid);
    }

    /// The last report of an actor.
    pub(crate) fn get(&self, key: &K) -> Option<&R> {
        self.entries.get(key).map(|entry| &entry.last)
    }

    /// The last reports, the latest first.
    pub(crate) fn latest(&self) -> impl Iterator<Item = (&K, &R)> {
        self.order.iter().rev().filter_map(|(mark, key)| {
            let entry = self.entries.get(key).filter(|entry| entry.mark == *mark)?;
            Some((key, &entry.last))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_by_reason_and_the_last_report_is_kept() {
        let mut log = CrashLog::new(4);
        for (at, reason, count) in [
            (1, "panic", 1),
            (2, "panic", 2),
            (3, "killed", 1),
            (4, "panic", 3),
        ] {
            let (_, repeats) = log.record("a", reason, Time(at), reason);
            assert_eq!(repeats.count, count);
            assert_eq!(repeats.first == Time(1), reason == "panic");
        }
        assert_eq!(log.get(&"a"), Some(&"panic"));
        assert_eq!(log.get(&"b"), None);
    }

    #[test]
    fn the_actor_that_was_quiet_longest_is_forgotten_first() {
        let mut log = CrashLog::new(3);
        for key in [1, 2, 3] {
            log.record(key, "panic", Time(0), "panic");
        }
        log.record(1, "panic", Time(1), "panic");
        log.record(4, "panic", Time(2), "panic");
        let keys: Vec<u64> = log.latest().map(|(key, _)| *key).collect();
        assert_eq!(keys, [4, 1, 3]);
    }

    #[test]
    fn a_restless_actor_does_not_grow_the_log() {
        let mut log = CrashLog::new(3);
        for i in 0..10_000 {
            log.record(i % 3, "panic", Time(i), "panic");
            assert!(log.order.len() <= 6);
        }
        const CODES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        for code in CODES {
            log.record(0, code, Time(0), code);
        }
        assert_eq!(log.entries[&0].reasons.len(), REASONS_MAX);
    }

    #[test]
    fn what_was_held_back_of_a_forgotten_actor_or_reason_is_told_as_lost() {
        let mut log = CrashLog::new(1);
        let mut hold = |key, label, count| {
            let (_, repeats) = log.record(key, label, Time(0), label);
            repeats.held_back += count;
            log.hold(key);
            log.take_lost()
        };
        assert_eq!(hold(1, "panic", 3), 0);
        assert_eq!(hold(1, "killed", 4), 0);
        assert_eq!(hold(2, "first", 5), 7, "no room for another actor");
        for label in ["a", "b", "c", "d", "e", "f", "g"] {
            assert_eq!(hold(2, label, 1), 0);
        }
        assert_eq!(hold(2, "h", 1), 5, "no room for another reason");
    }
}
