//! How often and how soon: the restart window, the backoff and the restart budget.
//!
//! Values with a few integers each; every operation is O(1), but for the budget's, which are
//! O(log n) in the restarts to come. They read no clock and hold no random state: jitter is a
//! function of a seed and the number of the attempt.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use actorsim_actors::Time;

use crate::policy::{Backoff, INTENSITY_MAX, SupervisorPolicy};

/// The times of the latest restarts: at most one for each that the intensity allows.
#[derive(Debug, Clone, Default)]
pub struct Window {
    times: VecDeque<Time>,
}

impl Window {
    /// Whether one more restart at `now` keeps to `intensity` restarts within `period`.
    ///
    /// As in OTP, a restart exactly `period` ago still counts.
    #[must_use]
    pub fn allows(&self, now: Time, intensity: u32, period: Duration) -> bool {
        let intensity = intensity.min(INTENSITY_MAX) as usize;
        if intensity == 0 {
            return false;
        }
        match self
            .times
            .len()
            .checked_sub(intensity)
            .and_then(|i| self.times.get(i))
        {
            Some(oldest) => now - *oldest > period,
            None => true,
        }
    }

    /// Remembers a restart at `now`.
    pub fn record(&mut self, now: Time, intensity: u32) {
        let keep = intensity.min(INTENSITY_MAX) as usize;
        while self.times.len() >= keep.max(1) {
            self.times.pop_front();
        }
        self.times.push_back(now);
    }

    /// Restarts remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.times.clear();
    }
}

/// What is remembered of one child's failures.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Its restarts, where they are counted by child.
    pub window: Window,
    /// Failures in a row, for the backoff.
    pub failures: u32,
    /// When the present life began; meaningless while `failures` is 0.
    pub up_since: Time,
}

impl History {
    /// Failures in a row if there is one more at `now`; `lived`: it was up until then.
    #[must_use]
    pub fn failures_with(&self, now: Time, lived: bool, backoff: Option<&Backoff>) -> u32 {
        let life = now - self.up_since;
        match backoff {
            Some(backoff) if lived && self.failures > 0 && life >= backoff.reset_after => 1,
            _ => self.failures.saturating_add(1),
        }
    }
}

/// The wait before restart number `failures` (the first is 1) in a row.
#[must_use]
pub fn backoff_delay(backoff: &Backoff, failures: u32, seed: u64) -> Duration {
    let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
    let max = backoff.max.max(backoff.min).as_secs_f64();
    let full = backoff.min.as_secs_f64() * backoff.factor.max(1.0).powi(exponent);
    let full = if full.is_finite() { full.min(max) } else { max };
    let random = unit(mix(seed ^ u64::from(failures)));
    let delay = full * (1.0 - backoff.jitter.clamp(0.0, 1.0) * random);
    Duration::try_from_secs_f64(delay).unwrap_or(backoff.min)
}

/// A bound on restarts a second: restarts beyond it are put off, never dropped.
///
/// A calendar of slots, one restart long each. A restart takes the first free one from when it is
/// wanted: one that waits out a long backoff is in nobody's way before. A quiet budget lets a burst
/// of [`BURST_NS`] through at once. Another rate begins an empty calendar: what was promised keeps
/// its time.
///
/// Bound: one entry for each run of taken slots to come, so at most one for each restart to come.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    slot_ns: u64,
    /// Slots that are taken: the first of a run, and the one behind its last.
    taken: BTreeMap<u64, u64>,
}

/// How much of the time to come a quiet budget gives away at once: a tenth of a second.
pub const BURST_NS: u64 = 100_000_000;

impl Budget {
    /// The earliest time at or after `wanted` that the budget of `per_s` allows.
    #[must_use]
    pub fn earliest(&self, wanted: Time, per_s: Option<u32>) -> Time {
        let Some(slot_ns) = per_s.map(slot_ns) else {
            return wanted;
        };
        let due = self.free_slot(wanted, slot_ns).saturating_mul(slot_ns);
        let ahead = BURST_NS.saturating_sub(slot_ns);
        wanted.max(Time(due.saturating_sub(ahead)))
    }

    /// Takes a place for a restart at `at`, and forgets those that were due before `now`.
    pub fn take(&mut self, at: Time, now: Time, per_s: Option<u32>) {
        let Some(slot_ns) = per_s.map(slot_ns) else {
            return;
        };
        if self.slot_ns != slot_ns {
            (self.slot_ns, self.taken) = (slot_ns, BTreeMap::new());
        }
        let present = now.0 / slot_ns;
        while let Some(run) = self.taken.first_entry()
            && *run.get() <= present
        {
            run.remove();
        }
        let slot = self.free_slot(at, slot_ns);
        let end = self.taken.remove(&(slot + 1)).unwrap_or(slot + 1);
        match self.taken.range_mut(..slot).next_back() {
            Some((_, before)) if *before == slot => *before = end,
            _ => drop(self.taken.insert(slot, end)),
        }
    }

    /// Gives back at `now` what was promised for later: whoever waits asks again. What a burst may
    /// have used in advance stays taken.
    pub fn give_back(&mut self, now: Time) {
        let ahead = now.0.saturating_add(BURST_NS);
        let Some(used) = ahead.checked_div(self.slot_ns) else {
            return; // nothing was ever taken
        };
        self.taken.split_off(&(used + 1));
        if let Some(mut last) = self.taken.last_entry() {
            let end = (*last.get()).min(used + 1);
            *last.get_mut() = end;
        }
    }

    /// The first slot that is free when a restart is wanted, or after.
    fn free_slot(&self, wanted: Time, slot_ns: u64) -> u64 {
        let slot = wanted.0 / slot_ns;
        let run = self.taken.range(..=slot).next_back();
        let end = run.map_or(0, |(_, end)| *end);
        if self.slot_ns == slot_ns {
            slot.max(end)
        } else {
            slot
        }
    }
}

fn slot_ns(per_s: u32) -> u64 {
    1_000_000_000 / u64::from(per_s.max(1))
}

/// The seed of a path, stable across runs and machines (FNV-1a).
#[must_use]
pub fn seed_of(path: &str) -> u64 {
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// SplitMix64's finaliser: neighbouring seeds give unrelated numbers.
const fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 53 random bits as a number from 0 to below 1.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// How soon a restart may come: backoff first, then the budget at that time.
#[must_use]
pub fn restart_time(
    policy: &SupervisorPolicy,
    failures: u32,
    budget: &Budget,
    now: Time,
    seed: u64,
) -> Time {
    let wait = policy
        .backoff
        .as_ref()
        .map_or(Duration::ZERO, |b| backoff_delay(b, failures, seed));
    budget.earliest(now + wait, policy.restart_budget_per_s)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn one_restart_in_five_seconds_is_allowed_and_a_second_is_not() {
        let mut window = Window::default();
        let period = Duration::from_secs(5);
        assert!(window.allows(Time(0), 1, period));
        window.record(Time(0), 1);
        assert!(
            !window.allows(Time(5_000 * MS), 1, period),
            "exactly a period ago still counts"
        );
        assert!(window.allows(Time(5_000 * MS + 1), 1, period));
        assert!(
            !Window::default().allows(Time(0), 0, period),
            "intensity 0 allows none"
        );
    }

    #[test]
    fn backoff_grows_to_its_maximum_and_jitter_only_shortens() {
        let backoff = Backoff {
            jitter: 0.0,
            ..Backoff::default()
        };
        let waits: Vec<_> = (1..12)
            .map(|n| backoff_delay(&backoff, n, 7).as_millis())
            .collect();
        assert_eq!(
            waits,
            [
                50, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000
            ]
        );
        assert_eq!(backoff_delay(&backoff, u32::MAX, 7), backoff.max);
        let jittered = Backoff {
            jitter: 0.5,
            ..backoff
        };
        let distinct: std::collections::BTreeSet<_> = (0..100)
            .map(|seed| backoff_delay(&jittered, 3, seed))
            .collect();
        assert!(distinct.len() > 90);
        assert!(
            distinct
                .iter()
                .all(|d| (100..=200).contains(&d.as_millis()))
        );
    }

    #[test]
    fn a_long_life_is_forgiven() {
        let backoff = Backoff::default();
        let history = History {
            failures: 6,
            up_since: Time(0),
            ..History::default()
        };
        let failures = |ms, lived| history.failures_with(Time(ms * MS), lived, Some(&backoff));
        assert_eq!(failures(59_999, true), 7);
        assert_eq!(failures(60_000, true), 1);
        assert_eq!(failures(60_000, false), 7, "a start that hung was no life");
    }

    #[test]
    fn a_budget_spreads_a_storm_and_lets_a_small_burst_through() {
        let mut budget = Budget::default();
        let mut times = Vec::new();
        for _ in 0..200 {
            let at = budget.earliest(Time(1_000 * MS), Some(100));
            budget.take(at, Time(1_000 * MS), Some(100));
            times.push(at.0 / MS);
        }
        assert_eq!(times.iter().filter(|t| **t == 1_000).count(), 10);
        assert_eq!(times[199], 1_000 + 1_900);
        assert!(times.is_sorted());
        assert_eq!(budget.taken.len(), 1, "neighbours are one entry");
        budget.take(Time(9_000 * MS), Time(9_000 * MS), Some(100));
        assert_eq!(budget.taken.len(), 1, "the past is forgotten");
    }

    #[test]
    fn a_restart_in_long_backoff_holds_up_nobody_who_is_due_before() {
        let mut budget = Budget::default();
        for (wanted, per_s) in [(25_000, 1_000), (100, 1_000), (101, 1_000), (24_999, 1_000)] {
            let at = budget.earliest(Time(wanted * MS), Some(per_s));
            assert_eq!(at, Time(wanted * MS));
            budget.take(at, Time(0), Some(per_s));
        }
    }

    #[test]
    fn a_budget_takes_back_what_it_promised_and_not_what_was_used() {
        let per_s = Some(100);
        let mut budget = Budget::default();
        budget.give_back(Time(0));
        for _ in 0..200 {
            let at = budget.earliest(Time(1_000 * MS), per_s);
            budget.take(at, Time(1_000 * MS), per_s);
        }
        assert_eq!(budget.earliest(Time(2_000 * MS), per_s), Time(2_910 * MS));
        budget.give_back(Time(1_000 * MS));
        assert_eq!(budget.earliest(Time(2_000 * MS), per_s), Time(2_000 * MS));
        let soon = budget.earliest(Time(1_000 * MS), per_s);
        assert!(soon > Time(1_000 * MS), "its burst was used");
    }

    proptest! {
        #[test]
        fn window_agrees_with_a_list_of_all_restarts(
            gaps in proptest::collection::vec(0_u64..40, 1..200),
            intensity in 0_u32..8,
            period in 0_u64..100,
        ) {
            let mut window = Window::default();
            let mut all: Vec<u64> = Vec::new();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                let recent = all.iter().filter(|t| now - **t <= period).count();
                let naive = recent < intensity as usize;
                let ours = window.allows(Time(now), intensity, Duration::from_nanos(period));
                prop_assert_eq!(ours, naive);
                if ours {
                    window.record(Time(now), intensity);
                    all.push(now);
                }
                prop_assert!(window.len() <= (intensity as usize).max(1));
            }
        }

        #[test]
        fn budget_never_lets_more_than_its_rate_and_burst_through(
            asks in proptest::collection::vec((0_u64..20, 0_u64..3_000), 1..300),
            per_s in 1_u32..500,
        ) {
            let mut budget = Budget::default();
            let mut granted: Vec<u64> = Vec::new();
            let mut now = 0;
            for (gap, backoff) in asks {
                now += gap * MS;
                let wanted = now + backoff * MS;
                let at = budget.earliest(Time(wanted), Some(per_s));
                prop_assert!(at >= Time(wanted));
                if at > Time(wanted) {
                    // put off only because so many are due just then
                    let slack = BURST_NS.max(slot_ns(per_s));
                    let about = wanted.saturating_sub(slack)..=at.0 + slack;
                    let due = granted.iter().filter(|at| about.contains(at)).count() as u64;
                    let slots = (at.0 - wanted) / slot_ns(per_s);
                    prop_assert!(due >= slots, "{} due, put off by {}", due, slots);
                }
                budget.take(at, Time(now), Some(per_s));
                granted.push(at.0);
            }
            granted.sort_unstable();
            let bound = per_s as usize + per_s as usize / 10 + 2;
            for (i, start) in granted.iter().enumerate() {
                let within = granted[i..].iter().filter(|t| **t < start + 1_000 * MS).count();
                prop_assert!(within <= bound, "{} in a second at {}", within, per_s);
            }
        }
    }
}
