//! Swizzle (FoundationDB's swizzle-clog): links clog one by one, and are freed in another order.
//!
//! Which of those that can be hit, and when each is clogged and freed: draws from (seed, number)
//! alone. The first is clogged at once and the last is freed at the end of the strike; half way all
//! of them are clogged. It clogs nothing. Bound: [`PARTS_MAX`].

use std::time::Duration;

use actorsim_actors::clock::nanos;

use super::draw;

/// Fewer have no order.
pub(super) const PARTS_MIN: usize = 2;
/// More are not struck at once: the orders of so many are not to be told apart.
pub(super) const PARTS_MAX: usize = 64;

const LANE_COUNT: u64 = 16;
const LANE_WHICH: u64 = 17;
const LANE_ORDER: u64 = 18;
const LANE_CLOG: u64 = 19;
const LANE_FREE: u64 = 20;

/// Draws of one strike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Swizzle {
    pub(super) seed: u64,
    pub(super) number: u64,
}

impl Swizzle {
    fn below(self, lane: u64, at: usize, below: usize) -> usize {
        let lane = lane + ((at as u64 + 1) << 8);
        draw::below(self.seed, self.number, lane, below as u64) as usize
    }

    /// Fisher and Yates: the first `count` are a drawn choice in a drawn order.
    fn shuffle<T>(self, lane: u64, all: &mut [T], count: usize) {
        for at in 0..count.min(all.len()) {
            all.swap(at, at + self.below(lane, at, all.len() - at));
        }
    }

    /// Some of these, `most` at most, in the order in which they clog; none if two are not
    /// possible.
    pub(super) fn choose<T>(self, mut all: Vec<T>, most: usize) -> Vec<T> {
        let most = most.min(all.len()).min(PARTS_MAX);
        if most < PARTS_MIN {
            return Vec::new();
        }
        let count = PARTS_MIN + self.below(LANE_COUNT, 0, most - PARTS_MIN + 1);
        self.shuffle(LANE_WHICH, &mut all, count);
        all.truncate(count);
        all
    }

    /// From when until when each is clogged, counted from the beginning of the strike, in the order
    /// in which they clog; the order in which they are freed is another.
    pub(super) fn times(self, count: usize, lasts: Duration) -> Vec<(Duration, Duration)> {
        let mut freed: Vec<usize> = (0..count).collect();
        self.shuffle(LANE_ORDER, &mut freed, count);
        if freed.is_sorted() {
            freed.rotate_left(1);
        }
        let lasts = nanos(lasts);
        let slot = lasts / 2 / (count as u64).max(1);
        // In the n-th slot of a half, at a drawn moment; the one at the edge right there.
        let moment = |lane, place: usize| {
            let within = self.below(lane, place, slot as usize) as u64;
            slot * place as u64 + if place == 0 { 0 } else { within }
        };
        let turn = |(place, freed): (usize, usize)| {
            let until = lasts - moment(LANE_FREE, count - 1 - freed);
            let [from, until] = [moment(LANE_CLOG, place), until].map(Duration::from_nanos);
            (from, until)
        };
        freed.into_iter().enumerate().map(turn).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(2);

    #[test]
    fn each_clogs_after_the_one_before_and_all_are_freed_in_another_order_by_the_end() {
        let mut orders = std::collections::BTreeSet::new();
        for number in 0..200 {
            let swizzle = Swizzle { seed: 7, number };
            let times = swizzle.times(4, LASTS);
            assert_eq!(times[0].0, Duration::ZERO);
            let half = LASTS / 2;
            assert!(times.iter().is_sorted_by(|a, b| a.0 < b.0), "{times:?}");
            assert!(
                times
                    .iter()
                    .all(|(from, until)| *from < half && half <= *until)
            );
            let mut freed: Vec<usize> = (0..4).collect();
            freed.sort_by_key(|place| times[*place].1);
            assert!(!freed.is_sorted(), "freed as they were clogged: {times:?}");
            assert_eq!(times[freed[3]].1, LASTS);
            orders.insert(freed);
        }
        assert_eq!(orders.len(), 23, "every other order of four");
    }

    #[test]
    fn a_choice_is_of_two_to_as_many_as_may_be_down() {
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..200 {
            let swizzle = Swizzle { seed: 7, number };
            let mut chosen = swizzle.choose((0..9).collect(), 3);
            assert_eq!(chosen, swizzle.choose((0..9).collect(), 3));
            chosen.sort_unstable();
            chosen.dedup();
            seen.extend(chosen.iter().copied());
            assert!((2..=3).contains(&chosen.len()), "{chosen:?}");
        }
        assert_eq!(seen.len(), 9);
        let one = Swizzle { seed: 7, number: 0 };
        assert!(one.choose(vec![1], 3).is_empty() && one.choose(vec![1, 2], 1).is_empty());
    }
}
