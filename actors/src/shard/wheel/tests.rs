//! The wheel beside a sorted map that does the same, and its costs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MS: u64 = WHEEL_TICK_NS;

/// The wheel with the lists of its owners, beside a sorted map that does the same.
struct Pair {
    wheel: Wheel,
    heads: Vec<u32>,
    model: BTreeMap<(u32, u8), u64>,
    tick: u64,
    fires: BTreeMap<(u32, u8), u64>,
}

impl Pair {
    fn new(owners: usize) -> Self {
        Self {
            wheel: Wheel::new(Time(0)),
            heads: vec![NIL; owners],
            model: BTreeMap::new(),
            tick: 0,
            fires: BTreeMap::new(),
        }
    }

    fn set(&mut self, owner: u32, key: u8, at: u64) {
        let set = self
            .wheel
            .set(&mut self.heads[owner as usize], owner, key, Time(at));
        assert!(set);
        self.model.insert((owner, key), at);
        self.fires
            .insert((owner, key), at.div_ceil(MS).max(self.tick + 1));
    }

    fn cancel(&mut self, owner: u32, key: u8) {
        let had = self.wheel.cancel(&mut self.heads[owner as usize], key);
        assert_eq!(had, self.model.remove(&(owner, key)).is_some());
        self.fires.remove(&(owner, key));
    }

    fn advance(&mut self, now: u64) {
        let target = self.tick.max(now / MS);
        let mut expected: Vec<_> = self
            .fires
            .iter()
            .filter(|(_, tick)| **tick <= target)
            .map(|((owner, key), tick)| (*tick, *owner, self.model[&(*owner, *key)], *key))
            .collect();
        expected.sort_unstable();
        let mut due = Vec::new();
        self.wheel.advance(Time(now), &mut due);
        self.tick = target;
        let got: Vec<_> = due.iter().map(|d| (d.owner, d.at.0, d.key)).collect();
        let want: Vec<_> = expected.iter().map(|(_, o, at, k)| (*o, *at, *k)).collect();
        assert_eq!(got, want);
        for d in due {
            let head = &mut self.heads[d.owner as usize];
            assert!(
                self.wheel
                    .fire(head, d, Time(now), &mut Vec::new())
                    .is_some()
            );
            self.model.remove(&(d.owner, d.key));
            self.fires.remove(&(d.owner, d.key));
        }
        assert_eq!(self.wheel.len(), self.model.len());
        // Never sleeps past the next timer.
        let next = self.fires.values().min().map(|tick| Time(tick * MS));
        assert_eq!(next.is_some(), self.wheel.next_at().is_some());
        assert!(self.wheel.next_at() <= next.or(self.wheel.next_at()));
        assert!(self.wheel.next_at().is_none_or(|t| t > Time(now / MS * MS)));
    }
}

#[derive(Debug, Clone)]
enum Op {
    Set { owner: u32, key: u8, after: u64 },
    Cancel { owner: u32, key: u8 },
    Advance(u64),
}

/// Spans from below a tick to beyond the last level.
fn span() -> impl Strategy<Value = u64> {
    (0u32..58, any::<u64>()).prop_map(|(bits, n)| n & ((1 << bits) - 1))
}

fn op() -> impl Strategy<Value = Op> {
    let set =
        (0u32..12, 0u8..4, span()).prop_map(|(owner, key, after)| Op::Set { owner, key, after });
    let cancel = (0u32..12, 0u8..4).prop_map(|(owner, key)| Op::Cancel { owner, key });
    prop_oneof![4 => set, 1 => cancel, 3 => span().prop_map(Op::Advance)]
}

proptest! {
    #[test]
    fn the_wheel_does_what_a_sorted_map_does(ops in prop::collection::vec(op(), 1..120)) {
        let mut pair = Pair::new(12);
        let mut now = 0u64;
        for op in ops {
            match op {
                Op::Set { owner, key, after } => {
                    pair.set(owner, key, now.saturating_add(after));
                }
                Op::Cancel { owner, key } => pair.cancel(owner, key),
                Op::Advance(by) => {
                    now = now.saturating_add(by).min(u64::MAX / 4);
                    pair.advance(now);
                }
            }
        }
    }
}

#[test]
fn a_timer_is_never_early_at_any_distance() {
    for at in [
        1,
        MS - 1,
        MS,
        MS + 1,
        4_095 * MS,
        4_096 * MS,
        4_097 * MS,
        1 << 40,
        1 << 57,
    ] {
        let mut pair = Pair::new(1);
        pair.set(0, 0, at);
        pair.advance((at.div_ceil(MS) - 1) * MS);
        assert_eq!(pair.wheel.len(), 1, "{at} was early");
        pair.advance(at.div_ceil(MS) * MS);
        assert_eq!(pair.wheel.len(), 0, "{at} was late");
    }
}

#[test]
fn neighbours_that_are_due_together_fire_in_ordinal_order() {
    let mut pair = Pair::new(100);
    for owner in (0..100).rev() {
        pair.set(owner, 0, 10 * MS - u64::from(owner));
    }
    pair.advance(10 * MS);
    assert_eq!(pair.wheel.len(), 0);
}

#[test]
fn a_due_timer_that_is_cancelled_or_moved_meanwhile_does_not_fire() {
    let mut wheel = Wheel::new(Time(0));
    let (mut a, mut b) = (NIL, NIL);
    wheel.set(&mut a, 0, 0, Time(MS));
    wheel.set(&mut b, 1, 0, Time(MS));
    let mut due = Vec::new();
    wheel.advance(Time(MS), &mut due);
    assert!(wheel.cancel(&mut a, 0));
    assert!(wheel.set(&mut b, 1, 0, Time(3 * MS)));
    let fire = |wheel: &mut Wheel, head: &mut u32, due: Due| {
        let fired = wheel.fire(head, due, due.at, &mut Vec::new());
        fired.is_some()
    };
    assert!(!fire(&mut wheel, &mut a, due[0]));
    assert!(!fire(&mut wheel, &mut b, due[1]));
    due.clear();
    wheel.advance(Time(3 * MS), &mut due);
    assert!(fire(&mut wheel, &mut b, due[0]));
    assert_eq!((wheel.len(), wheel.next_at()), (0, None));
}

#[test]
fn a_periodic_timer_keeps_its_entry_and_its_grid_until_it_is_cancelled() {
    let mut wheel = Wheel::new(Time(0));
    let mut head = NIL;
    let period = Duration::from_micros(2_500);
    wheel.set_periodic(&mut head, 7, 1, Time(MS), (period, MissedTicks::Skip));
    let mut fired = Vec::new();
    for tick in 1..=20 {
        let mut due = Vec::new();
        wheel.advance(Time(tick * MS), &mut due);
        for d in due {
            let missed = wheel.fire(&mut head, d, Time(tick * MS), &mut Vec::new());
            assert_eq!(missed, Some(0));
            fired.push((tick, d.at.0 / 1_000));
        }
    }
    let grid: Vec<_> = (0..8).map(|n| 1_000 + n * 2_500).collect();
    assert_eq!(fired.iter().map(|f| f.1).collect::<Vec<_>>(), grid);
    assert!(fired.iter().all(|(tick, at)| *tick == at.div_ceil(1_000)));
    assert_eq!(
        (wheel.len(), wheel.entries.len(), wheel.periods.len()),
        (1, 1, 1)
    );
    assert!(
        wheel.set(&mut head, 7, 1, Time(30 * MS)),
        "now it fires once"
    );
    assert_eq!(wheel.periods.len(), 0);
    wheel.set_periodic(&mut head, 7, 1, Time(MS), (period, MissedTicks::Burst));
    assert!(wheel.cancel(&mut head, 1));
    assert_eq!((wheel.len(), wheel.periods.len(), head), (0, 0, NIL));
}

#[test]
fn a_burst_is_due_again_at_once_until_it_is_back_on_its_grid() {
    let mut wheel = Wheel::new(Time(0));
    let mut head = NIL;
    let rule = (Duration::from_millis(10), MissedTicks::Burst);
    wheel.set_periodic(&mut head, 0, 0, Time(10 * MS), rule);
    let mut due = Vec::new();
    wheel.advance(Time(35 * MS), &mut due);
    let mut times = Vec::new();
    while let Some(d) = due.pop() {
        assert_eq!(wheel.fire(&mut head, d, Time(35 * MS), &mut due), Some(0));
        times.push(d.at.0 / MS);
    }
    assert_eq!(times, [10, 20, 30]);
    assert_eq!(wheel.next_at(), Some(Time(40 * MS)));
}

#[test]
fn an_owner_has_a_bounded_number_of_timers() {
    let mut wheel = Wheel::new(Time(0));
    let mut head = NIL;
    for key in 0..TIMERS_PER_CELL_MAX as u8 {
        assert!(wheel.set(&mut head, 0, key, Time(1)));
    }
    assert!(!wheel.set(&mut head, 0, 99, Time(1)));
    assert!(
        wheel.set(&mut head, 0, 3, Time(2)),
        "a set one can be moved"
    );
    assert_eq!(wheel.count(head), TIMERS_PER_CELL_MAX);
    wheel.cancel_all(&mut head);
    assert_eq!((wheel.len(), head, wheel.next_at()), (0, NIL, None));
}

#[test]
fn a_timer_costs_32_bytes() {
    assert_eq!(size_of::<Entry>(), 32);
}
