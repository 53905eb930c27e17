//! Which slabs move from a busy shard to an idle one: a pure decision, once per window of time.
//!
//! It sees how busy each shard was in the window, and how much work each movable slab did, and
//! names moves. It moves nothing itself: that is [`Balancing`]. It acts late and seldom: a
//! difference must last, a slab that has moved rests, and moves that would not make the difference
//! clearly smaller are not made. Bound: [`BalanceRule::moves_max`] moves per window.

mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

pub use self::watch::Balancing;

/// When slabs move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BalanceRule {
    /// Length of a window.
    pub every: Duration,
    /// Busy share below which a shard is not relieved: it has room.
    pub busy_min: f64,
    /// Difference of busy shares up to which nothing moves.
    pub margin: f64,
    /// Windows for which a difference must last.
    pub patience: u32,
    /// Windows for which a slab that has moved stays.
    pub rest: u32,
    /// Most moves per window.
    pub moves_max: usize,
}

impl Default for BalanceRule {
    /// Reacts to a lasting skew within a third of a second, and not to one that is over by then.
    fn default() -> Self {
        Self {
            every: Duration::from_millis(100),
            busy_min: 0.6,
            margin: 0.15,
            patience: 2,
            rest: 10,
            moves_max: 64,
        }
    }
}

/// A movable slab in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlabLoad {
    /// Its number, of the caller's choice, the same in every window.
    pub slab: u64,
    /// The shard that it is on.
    pub shard: usize,
    /// Messages and timers that its cells took.
    pub work: u64,
}

/// A shard in one window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ShardLoad {
    /// Time in steps over time.
    pub busy: f64,
    /// Messages and timers that its cells took, those of slabs that cannot move included.
    pub work: u64,
}

/// A slab that is to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Its number.
    pub slab: u64,
    /// The shard to move to.
    pub to: usize,
}

/// Decides from window to window.
#[derive(Debug, Clone, Default)]
pub struct Balancer {
    rule: BalanceRule,
    window: u64,
    /// The busiest shard, and for how many windows in a row it has been.
    skewed: (usize, u32),
    /// The window in which a slab moved.
    moved: BTreeMap<u64, u64>,
}

impl Balancer {
    /// By this rule.
    #[must_use]
    pub fn new(rule: BalanceRule) -> Self {
        Self {
            rule,
            ..Self::default()
        }
    }

    /// What is to move after a window with these loads.
    pub fn decide(&mut self, shards: &[ShardLoad], slabs: &[SlabLoad]) -> Vec<Move> {
        self.window += 1;
        let (window, rest) = (self.window, u64::from(self.rule.rest));
        self.moved.retain(|_, moved| window - *moved <= rest);
        let Some((from, to)) = self.extremes(shards) else {
            self.skewed.1 = 0;
            return Vec::new();
        };
        let lasted = if self.skewed.0 == from {
            self.skewed.1
        } else {
            0
        };
        self.skewed = (from, lasted + 1);
        if self.skewed.1 < self.rule.patience {
            return Vec::new();
        }
        let share = |load: &SlabLoad| {
            let all = shards[from].work.max(1);
            shards[from].busy * load.work as f64 / all as f64
        };
        let mut candidates: Vec<_> = slabs
            .iter()
            .filter(|load| load.shard == from && load.work > 0)
            .filter(|load| !self.moved.contains_key(&load.slab))
            .map(|load| (share(load), load.slab))
            .collect();
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let moves = self.pick(&candidates, shards[from].busy - shards[to].busy);
        if !moves.is_empty() {
            // What has moved must be seen before more moves.
            self.skewed.1 = 0;
        }
        self.moved.extend(moves.iter().map(|slab| (*slab, window)));
        moves.into_iter().map(|slab| Move { slab, to }).collect()
    }

    /// The busiest and the idlest shard, if the one is to be relieved by the other.
    fn extremes(&self, shards: &[ShardLoad]) -> Option<(usize, usize)> {
        let by_busy = |a: &usize, b: &usize| shards[*a].busy.total_cmp(&shards[*b].busy);
        let from = (0..shards.len()).max_by(by_busy)?;
        let to = (0..shards.len()).min_by(by_busy)?;
        let gap = shards[from].busy - shards[to].busy;
        (shards[from].busy >= self.rule.busy_min && gap > self.rule.margin).then_some((from, to))
    }

    /// The largest slabs that fit into half the difference, one after the other; where none fits,
    /// the one that leaves the smallest difference.
    fn pick(&self, candidates: &[(f64, u64)], gap: f64) -> Vec<u64> {
        let (mut picked, mut left) = (Vec::new(), gap);
        for (share, slab) in candidates {
            if picked.len() == self.rule.moves_max || left <= self.rule.margin {
                break;
            }
            if *share * 2.0 <= left {
                picked.push(*slab);
                left -= *share * 2.0;
            }
        }
        if picked.is_empty() {
            let after = |share: f64| (gap - 2.0 * share).abs();
            let best = candidates
                .iter()
                .min_by(|a, b| after(a.0).total_cmp(&after(b.0)));
            let pays = best.filter(|best| after(best.0) < gap - self.rule.margin);
            picked.extend(pays.map(|best| best.1));
        }
        picked
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Loads of slabs that stand on `on` and do this much of a core each.
    fn loads(on: &[usize], work: &[u64], shards: usize) -> (Vec<ShardLoad>, Vec<SlabLoad>) {
        let mut all = vec![ShardLoad::default(); shards];
        let slabs = on.iter().zip(work).enumerate();
        let slabs = slabs
            .map(|(slab, (shard, work))| SlabLoad {
                slab: slab as u64,
                shard: *shard,
                work: *work,
            })
            .collect::<Vec<_>>();
        for slab in &slabs {
            all[slab.shard].work += slab.work;
        }
        for shard in &mut all {
            shard.busy = (shard.work as f64 / 1_000.0).min(1.0);
        }
        (all, slabs)
    }

    /// Lets a balancer work until it rests; where the slabs are then, and how many moves it took.
    fn run(work: &[u64], mut on: Vec<usize>, shards: usize) -> (Vec<usize>, usize) {
        let mut balancer = Balancer::default();
        let mut moves = 0;
        for _ in 0..100 {
            let (all, slabs) = loads(&on, work, shards);
            for m in balancer.decide(&all, &slabs) {
                on[m.slab as usize] = m.to;
                moves += 1;
            }
        }
        (on, moves)
    }

    fn gap(on: &[usize], work: &[u64], shards: usize) -> f64 {
        let busy = loads(on, work, shards).0.into_iter().map(|s| s.busy);
        let (low, high) = busy.fold((1.0, 0.0), |(low, high): (f64, f64), b| {
            (low.min(b), high.max(b))
        });
        high - low
    }

    #[test]
    fn a_lasting_skew_is_spread_in_few_moves() {
        // Ten hot slabs and ten cold ones, all hot ones on shard 0.
        let work: Vec<_> = (0..20).map(|n| if n < 10 { 90 } else { 10 }).collect();
        let on = work.iter().map(|w| usize::from(*w == 10)).collect();
        let (on, moves) = run(&work, on, 2);
        assert!(gap(&on, &work, 2) <= 0.15);
        assert!(moves <= 5, "{moves}");
    }

    #[test]
    fn a_difference_that_does_not_last_moves_nothing() {
        let mut balancer = Balancer::default();
        for window in 0..100 {
            let on = [0, 0, 1, 1].map(|shard| (shard + window) % 2);
            let (all, slabs) = loads(&on, &[450, 450, 5, 5], 2);
            assert_eq!(balancer.decide(&all, &slabs), []);
        }
    }

    #[test]
    fn a_shard_with_room_is_left_alone() {
        let (all, slabs) = loads(&[0, 0, 1], &[250, 250, 1], 2);
        let mut balancer = Balancer::default();
        assert!((0..10).all(|_| balancer.decide(&all, &slabs).is_empty()));
    }

    #[test]
    fn one_hot_slab_keeps_its_shard_and_the_others_make_room() {
        let work = [800, 50, 50, 50, 50, 10];
        let (on, moves) = run(&work, vec![0, 0, 0, 0, 0, 1], 2);
        assert_eq!(on, [0, 1, 1, 1, 1, 1]);
        assert_eq!(moves, 4);
    }

    #[test]
    fn a_slab_that_has_moved_rests() {
        let mut balancer = Balancer::default();
        let mut on = vec![0, 0];
        let mut windows_of_moves = Vec::new();
        for window in 0..30 {
            // Whoever has moved is the hot one at once.
            let work = [[100, 900], [900, 100]][on[0]];
            let (all, slabs) = loads(&on, &work, 2);
            for m in balancer.decide(&all, &slabs) {
                on[m.slab as usize] = m.to;
                windows_of_moves.push((m.slab, window));
            }
        }
        for slab in 0..2 {
            let own = windows_of_moves.iter().filter(|m| m.0 == slab);
            let own: Vec<_> = own.map(|m| m.1).collect();
            assert!(own.windows(2).all(|w| w[1] - w[0] > 10), "{own:?}");
        }
    }

    proptest! {
        #[test]
        fn it_comes_to_rest_and_never_makes_the_difference_larger(
            slabs in proptest::collection::vec((0usize..3, 1u64..300), 1..24),
        ) {
            let (on, work): (Vec<_>, Vec<_>) = slabs.into_iter().unzip();
            let total: u64 = work.iter().sum();
            prop_assume!(total <= 2_000);
            let before = gap(&on, &work, 3);
            let (rested, _) = run(&work, on, 3);
            prop_assert!(gap(&rested, &work, 3) <= before.max(0.15) + 1e-9);
            let (_, moves) = run(&work, rested, 3);
            prop_assert!(moves <= 2, "{moves} more moves");
        }
    }
}
