//! What each kind of step and each cell cost: kept only while somebody wants to know.
//!
//! Off it is a null pointer, looked at once per step. On it reads the clock twice per step and
//! counts by kind and by cell; 16 bytes a cell. Bound: [`KINDS_MAX`] kinds, more are one;
//! [`HOTTEST`] cells are told.

use std::cmp::Reverse;

use serde::Serialize;

use crate::clock::{Clock, Time, nanos};

/// Kinds told apart: messages of one type have a handful.
const KINDS_MAX: usize = 64;

/// Kind of those above the bound.
const OTHERS: &str = "others";

/// Cells that are told, those that took longest first.
pub(crate) const HOTTEST: usize = 32;

/// Steps of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct KindDetail {
    /// Kind of the message, or `timer`, `socket`, `bounced` or `answered`.
    pub kind: &'static str,
    /// Steps.
    pub steps: u64,
    /// Nanoseconds in them.
    pub ns: u64,
    /// The longest one, nanoseconds.
    pub ns_max: u64,
}

/// Steps of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CellDetail {
    /// Its number.
    pub ordinal: u32,
    /// Steps.
    pub steps: u64,
    /// Nanoseconds in them.
    pub ns: u64,
}

/// What the steps of a slab cost since detail was switched on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SlabDetail {
    /// By kind, in the order in which they were first seen.
    pub kinds: Vec<KindDetail>,
    /// The cells that took longest.
    pub hottest: Vec<CellDetail>,
}

pub(super) struct Detail {
    clock: Option<Clock>,
    kinds: Vec<KindDetail>,
    /// Steps and nanoseconds by key.
    cells: Vec<(u64, u64)>,
}

impl Detail {
    /// For keys below `keys`; without a clock only steps are counted.
    pub(super) fn new(clock: Option<Clock>, keys: usize) -> Box<Self> {
        Box::new(Self {
            clock,
            kinds: Vec::new(),
            cells: vec![(0, 0); keys],
        })
    }

    pub(super) fn now(&self) -> Time {
        self.clock.as_ref().map_or(Time::ZERO, Clock::monotonic)
    }

    #[cold]
    pub(super) fn record(&mut self, key: u32, kind: &'static str, begun: Time) {
        let ns = nanos(self.now().since(begun));
        let known = self.kinds.iter().position(|of| of.kind == kind);
        let at = known.unwrap_or_else(|| {
            if self.kinds.len() <= KINDS_MAX {
                let kind = if self.kinds.len() < KINDS_MAX {
                    kind
                } else {
                    OTHERS
                };
                self.kinds.push(KindDetail {
                    kind,
                    ..KindDetail::default()
                });
            }
            self.kinds.len() - 1
        });
        let of = &mut self.kinds[at];
        of.steps += 1;
        of.ns += ns;
        of.ns_max = of.ns_max.max(ns);
        if let Some((steps, all)) = self.cells.get_mut(key as usize) {
            *steps += 1;
            *all += ns;
        }
    }

    /// Steps and nanoseconds of a cell.
    pub(super) fn of(&self, key: u32) -> (u64, u64) {
        self.cells.get(key as usize).copied().unwrap_or_default()
    }

    /// `ordinal`: of a key.
    pub(super) fn tell(&self, ordinal: impl Fn(u32) -> u32) -> SlabDetail {
        let cells = self.cells.iter().zip(0u32..);
        let mut busy: Vec<_> = cells.filter(|((steps, _), _)| *steps > 0).collect();
        let rank = |cell: &(&(u64, u64), u32)| (Reverse(cell.0.1), Reverse(cell.0.0), cell.1);
        if busy.len() > HOTTEST {
            busy.select_nth_unstable_by_key(HOTTEST, rank);
            busy.truncate(HOTTEST);
        }
        busy.sort_unstable_by_key(rank);
        let hottest = busy.into_iter().map(|((steps, ns), key)| CellDetail {
            ordinal: ordinal(key),
            steps: *steps,
            ns: *ns,
        });
        SlabDetail {
            kinds: self.kinds.clone(),
            hottest: hottest.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_cells_are_counted_and_the_hottest_are_told_first() {
        const KINDS: [&str; 70] = ["kind"; 70];
        let clock = Clock::virtual_from(0);
        let mut detail = Detail::new(Some(clock.clone()), 1_000);
        for key in 0..1_000 {
            let begun = detail.now();
            clock.advance_to(Time(begun.0 + u64::from(key)));
            detail.record(key, KINDS[0], begun);
        }
        detail.record(7, "timer", detail.now());
        let told = detail.tell(|key| key + 5_000);
        assert_eq!(told.kinds.len(), 2);
        assert_eq!((told.kinds[0].steps, told.kinds[0].ns_max), (1_000, 999));
        assert_eq!(told.kinds[0].ns, 999 * 1_000 / 2);
        let hottest: Vec<_> = told.hottest.iter().map(|cell| cell.ordinal).collect();
        assert_eq!(hottest, (5_968..6_000).rev().collect::<Vec<_>>());
        assert_eq!(detail.of(7), (2, 7));
    }

    #[test]
    fn kinds_above_the_bound_are_one() {
        let mut detail = Detail::new(None, 1);
        let names: Vec<&'static str> = (0..100).map(|n| &*n.to_string().leak()).collect();
        for name in &names {
            detail.record(0, name, Time::ZERO);
        }
        let kinds = detail.tell(|key| key).kinds;
        assert_eq!(kinds.len(), KINDS_MAX + 1);
        assert_eq!(
            (kinds[KINDS_MAX].kind, kinds[KINDS_MAX].steps),
            (OTHERS, 36)
        );
        assert_eq!(detail.of(0), (100, 0));
    }
}
