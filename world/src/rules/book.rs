//! The rules as the scan judges by them: by type of sensor, with the rows that wait for their time.
//!
//! Made and dropped outside the scan thread; there it allocates nothing. A rule keeps its slot, the
//! bit by which rows remember that it is in force, for as long as it is among the rules.
//!
//! Bound: [`WAITING_MAX`] rows wait for one rule; one more is tried again with its next value. A
//! rule with a time costs 8 bytes for each row that may be.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde::Serialize;

use super::{Field, RULES_MAX, Rule, RuleSet, SLOTS, Side};
use crate::components::KINDS;

/// Rows that wait for one rule's time.
const WAITING_MAX: usize = 65_536;

/// Which slot each rule has, by type of sensor and id.
pub type Slots = BTreeMap<(u8, u64), u8>;

/// What a value means to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Nothing new.
    Rest,
    /// It comes into force.
    Fire,
    /// It is in force no longer.
    End,
    /// Its time begins.
    Begin,
    /// Its time was for nothing.
    Cancel,
}

/// What became of one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuleTally {
    /// See [`Rule::id`]; 0 is none.
    pub id: u64,
    /// How often it came into force.
    pub fired: u64,
    /// How often it ended.
    pub ended: u64,
}

/// A rule in use.
#[derive(Debug)]
pub(crate) struct Armed {
    pub(crate) id: u64,
    pub(crate) field: Field,
    side: Side,
    limit: f64,
    release: f64,
    pub(crate) hold_ns: u64,
    then: f64,
    otherwise: Option<f64>,
    pub(crate) actuator: Option<u16>,
    pub(crate) slot: u8,
    /// Place among the tallies.
    pub(crate) at: usize,
    waiting: Option<Waiting>,
}

impl Armed {
    fn new(rule: &Rule, slot: u8, at: usize, rows: u32) -> Self {
        let release = match rule.side {
            Side::Below => rule.limit + rule.hysteresis,
            Side::Above => rule.limit - rule.hysteresis,
        };
        let timed = !rule.hold.is_zero();
        Self {
            id: rule.id(),
            field: rule.field,
            side: rule.side,
            limit: rule.limit,
            release,
            hold_ns: rule.hold.as_nanos() as u64,
            then: rule.then,
            otherwise: rule.otherwise,
            actuator: rule.actuator,
            slot,
            at,
            waiting: timed.then(|| Waiting::new(rows)),
        }
    }

    /// The bit of its slot.
    pub(crate) fn bit(&self) -> u8 {
        1 << self.slot
    }

    /// What its actuator is set to when it comes into force, or ends.
    pub(crate) fn setpoint(&self, into_force: bool) -> Option<f64> {
        if into_force {
            Some(self.then)
        } else {
            self.otherwise
        }
    }

    /// What a finite `value` of `row` means.
    pub(crate) fn judge(&self, row: u32, in_force: bool, value: f64) -> Judgement {
        let (holds, released) = match self.side {
            Side::Below => (value < self.limit, value >= self.release),
            Side::Above => (value > self.limit, value <= self.release),
        };
        let waits = || {
            self.waiting
                .as_ref()
                .is_some_and(|waiting| waiting.has(row))
        };
        match (in_force, holds) {
            (true, _) if released => Judgement::End,
            (true, _) => Judgement::Rest,
            (false, true) if self.waiting.is_none() => Judgement::Fire,
            (false, true) if !waits() => Judgement::Begin,
            (false, false) if waits() => Judgement::Cancel,
            (false, _) => Judgement::Rest,
        }
    }

    /// `row` waits until `due_ns`; false when there is no room.
    pub(crate) fn begin(&mut self, row: u32, due_ns: u64) -> bool {
        self.waiting
            .as_mut()
            .is_none_or(|waiting| waiting.begin(row, due_ns))
    }

    /// `row` waits no longer.
    pub(crate) fn cancel(&mut self, row: u32) {
        if let Some(waiting) = &mut self.waiting {
            waiting.cancel(row);
        }
    }

    /// The next row whose time is over.
    pub(crate) fn due(&mut self, now_ns: u64) -> Option<u32> {
        self.waiting.as_mut()?.due(now_ns)
    }
}

/// Rows that wait, by the end of their time.
#[derive(Debug)]
struct Waiting {
    /// By row: when its time is over, 0 for none, and whether it is in the heap.
    due_ns: Box<[u64]>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

const LISTED: u64 = 1 << 63;

impl Waiting {
    fn new(rows: u32) -> Self {
        Self {
            // zeroes that the system makes when a row is used first
            due_ns: vec![0; rows as usize].into(),
            heap: BinaryHeap::with_capacity(WAITING_MAX),
        }
    }

    fn has(&self, row: u32) -> bool {
        self.due_ns
            .get(row as usize)
            .is_some_and(|word| word & !LISTED != 0)
    }

    fn begin(&mut self, row: u32, due_ns: u64) -> bool {
        let Some(word) = self.due_ns.get_mut(row as usize) else {
            return false;
        };
        if *word & LISTED == 0 {
            if self.heap.len() == WAITING_MAX {
                return false;
            }
            self.heap.push(Reverse((due_ns, row)));
        }
        // one that is listed for an earlier time is listed anew when that comes
        *word = LISTED | due_ns;
        true
    }

    fn cancel(&mut self, row: u32) {
        if let Some(word) = self.due_ns.get_mut(row as usize) {
            *word &= LISTED;
        }
    }

    fn due(&mut self, now_ns: u64) -> Option<u32> {
        // ends: what is taken out is due, what is put back is not
        while let Some(Reverse((at_ns, row))) = self.heap.peek().copied() {
            if at_ns > now_ns {
                return None;
            }
            self.heap.pop();
            let word = &mut self.due_ns[row as usize];
            match *word & !LISTED {
                0 => *word = 0,
                due_ns if due_ns > now_ns => self.heap.push(Reverse((due_ns, row))),
                _ => {
                    *word = 0;
                    return Some(row);
                }
            }
        }
        None
    }
}

/// The rules in use.
#[derive(Debug)]
pub struct RuleBook {
    pub(crate) armed: [Vec<Armed>; KINDS],
    pub(crate) tallies: [RuleTally; RULES_MAX],
    /// Slots that rows have to forget, by type: their rules are not there any more.
    pub(crate) freed: [u8; KINDS],
}

impl RuleBook {
    /// The rules of `set` for worlds of at most `rows` rows; `slots` goes on from book to book.
    #[must_use]
    pub fn arm(set: &RuleSet, rows: u32, slots: &mut Slots) -> Self {
        let mut freed = [0; KINDS];
        let is_there = |kind: u8, id: u64| set.rules.iter().any(|r| r.kind == kind && r.id() == id);
        slots.retain(|(kind, id), slot| {
            let stays = is_there(*kind, *id);
            freed[usize::from(*kind)] |= u8::from(!stays) << *slot;
            stays
        });
        let mut armed: [Vec<Armed>; KINDS] = Default::default();
        let mut tallies = [RuleTally::default(); RULES_MAX];
        for (at, rule) in set.rules.iter().take(RULES_MAX).enumerate() {
            let key = (rule.kind, rule.id());
            let taken = slots.iter().filter(|((kind, _), _)| *kind == rule.kind);
            let taken = taken.fold(0_u8, |taken, (_, slot)| taken | 1 << slot);
            let free = taken.trailing_ones() as u8;
            if !slots.contains_key(&key) && usize::from(free) >= SLOTS {
                continue; // a set has no more than that
            }
            let slot = *slots.entry(key).or_insert(free);
            let tally = &mut tallies[at];
            tally.id = rule.id();
            armed[usize::from(rule.kind)].push(Armed::new(rule, slot, at, rows));
        }
        Self {
            armed,
            tallies,
            freed,
        }
    }

    /// Goes on with what was counted before.
    pub(crate) fn count_on(&mut self, before: &[RuleTally; RULES_MAX]) {
        for tally in self.tallies.iter_mut().filter(|tally| tally.id != 0) {
            if let Some(same) = before.iter().find(|before| before.id == tally.id) {
                *tally = *same;
            }
        }
    }

    /// Whether a rule judges windows.
    pub(crate) fn has_windows(&self) -> bool {
        let mut rules = self.armed.iter().flatten();
        rules.any(|rule| rule.field.is_of_window())
    }

    /// Types of sensors whose values of this field are judged, as bits.
    pub(crate) fn kinds(&self, field: Field) -> u8 {
        let judged = |kind: &usize| self.armed[*kind].iter().any(|rule| rule.field == field);
        (0..KINDS)
            .filter(judged)
            .fold(0, |kinds, kind| kinds | 1 << kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RuleSet;

    fn set(text: &str) -> RuleSet {
        RuleSet::from_toml("a", text).unwrap()
    }

    fn rule(name: &str, more: &str) -> String {
        format!("[[rule]]\nname = \"{name}\"\nsensor = \"voltage\"\nthen = 0\n{more}\n")
    }

    fn one(more: &str) -> Armed {
        let mut book = RuleBook::arm(&set(&rule("r", more)), 100, &mut Slots::new());
        book.armed[3].pop().unwrap()
    }

    #[test]
    fn hysteresis_keeps_a_rule_in_force_between_limit_and_release() {
        let rule = one("above = 90\nhysteresis = 5");
        assert_eq!(rule.judge(0, false, 90.0), Judgement::Rest, "at the limit");
        assert_eq!(rule.judge(0, false, 90.1), Judgement::Fire);
        assert_eq!(rule.judge(0, true, 86.0), Judgement::Rest);
        assert_eq!(rule.judge(0, true, 85.0), Judgement::End);
        let rule = one("below = 10\nhysteresis = 2");
        assert_eq!(rule.judge(0, true, 11.9), Judgement::Rest);
        assert_eq!(rule.judge(0, true, 12.0), Judgement::End);
    }

    #[test]
    fn a_condition_that_ends_before_its_time_never_fires() {
        let mut rule = one("above = 90\nfor = \"10ns\"");
        assert_eq!(rule.judge(7, false, 91.0), Judgement::Begin);
        assert!(rule.begin(7, 110));
        assert_eq!(
            rule.judge(7, false, 95.0),
            Judgement::Rest,
            "it waits already"
        );
        assert_eq!(rule.judge(7, false, 80.0), Judgement::Cancel);
        rule.cancel(7);
        assert!(rule.begin(7, 115));
        assert_eq!(rule.due(110), None, "the time began anew");
        assert_eq!(rule.due(115), Some(7));
        assert_eq!(rule.due(1_000), None);
    }

    #[test]
    fn flapping_keeps_one_entry_for_a_row_and_a_full_list_says_so() {
        let mut waiting = Waiting::new(WAITING_MAX as u32 + 1);
        for turn in 0..1_000 {
            assert!(waiting.begin(3, 10_000 + turn));
            waiting.cancel(3);
        }
        assert_eq!(waiting.heap.len(), 1);
        assert_eq!(waiting.due(20_000), None);
        for row in 0..WAITING_MAX as u32 {
            assert!(waiting.begin(row, 5));
        }
        assert!(!waiting.begin(WAITING_MAX as u32, 5), "no room");
        assert!(!waiting.has(WAITING_MAX as u32));
    }

    #[test]
    fn a_rule_keeps_its_slot_and_a_freed_one_is_told() {
        let mut slots = Slots::new();
        let (a, b, c) = (
            rule("a", "above = 1"),
            rule("b", "above = 2"),
            rule("c", "above = 3"),
        );
        let book = RuleBook::arm(&set(&(a.clone() + &b)), 10, &mut slots);
        assert_eq!((book.armed[3][1].slot, book.freed[3]), (1, 0));
        let mut before = book.tallies;
        before[1].fired = 9;
        let mut book = RuleBook::arm(&set(&(b + &c)), 10, &mut slots);
        book.count_on(&before);
        let seen: Vec<_> = book.armed[3].iter().map(|rule| rule.slot).collect();
        assert_eq!(
            (seen, book.freed[3]),
            (vec![1, 0], 1),
            "c has the slot of a"
        );
        assert_eq!((book.tallies[0].fired, book.tallies[1].fired), (9, 0));
        assert_eq!(book.kinds(Field::Value), 1 << 3);
        assert_eq!(book.kinds(Field::Smoothed), 0);
    }
}
