//! Whether a shard's thread looks at its doorbell a while longer before it goes to sleep.
//!
//! To sleep and be woken costs both sides system calls and, where a core halts, tens of
//! microseconds; a ringer that finds the shard awake makes no call at all. So a shard may look on,
//! for at most `at_most` per wait, as long as that pays: a look is paid from credit, which short
//! sleeps earn and looks answered sooner than a sleep would have cost. A look in vain costs three
//! and halves what later sleeps earn: once is a pause between two bursts, in a row it is the end. A
//! thread that is displaced while it looks may share its core with somebody who can use it: it
//! stops at once, and that costs the same. What ends in a timer, or late, takes all: an idle shard
//! sleeps. Bounds: `at_most` per wait, at most [`SPIN_MAX`]; the core is offered to others every
//! [`OFFER_NS`].

use std::time::Duration;

use super::inbox::Doorbell;
use crate::clock::{Clock, Time, nanos};

/// Longest look that can be asked for: more than many wake-ups take.
pub const SPIN_MAX: Duration = Duration::from_millis(1);

/// Longest look where nothing else is said: one wake-up of a halted core of a virtual machine, so
/// that two shards that answer each other find into step.
pub(super) const SPIN: Duration = Duration::from_micros(100);

/// What it is worth not to sleep and be woken: about 20 us of processor time, and the same again
/// for who waits for the answer. An answered look that took longer has not paid.
const SLEEP_COST_NS: u64 = 30_000;

/// What the wake-ups of a round trip add to a wait, beside the time that the other side works.
const WAKE_UPS_NS: u64 = 100_000;

/// Looks of full length that credit lasts for.
const LOOKS_MAX: u64 = 8;

/// Halvings of what sleeps earn: then less than one wait in a thousand is looked on in vain.
const HALVINGS_MAX: u32 = 10;

/// Time between two offers of the core to whoever waits for it.
const OFFER_NS: u64 = 2_000;

/// Looks of full length that one in vain costs, or one displacement: three in a row cost all.
const LOST_LOOKS: u64 = 3;

/// A pause between two looks that is this long was somebody else's turn.
const DISPLACED_NS: u64 = 30_000;

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// After this time (ns) somebody rang, or the driver had something.
    Answered(u64),
    /// The time was over.
    InVain,
    /// Somebody else ran on this core.
    Displaced,
}

/// Decides, by how the last waits ended, whether a look is worth it.
#[derive(Debug)]
pub(super) struct Spin {
    at_most_ns: u64,
    credit_ns: u64,
    halvings: u32,
    /// Credit has sufficed, and suffices still.
    looks: bool,
}

impl Spin {
    pub(super) fn new(at_most: Duration) -> Self {
        Self {
            at_most_ns: nanos(at_most.min(SPIN_MAX)),
            credit_ns: 0,
            halvings: 0,
            looks: false,
        }
    }

    /// How long this wait may be looked on, if at all.
    pub(super) fn allowance(&self) -> Option<u64> {
        (self.looks && self.at_most_ns > 0).then_some(self.at_most_ns)
    }

    /// A look has ended.
    pub(super) fn looked(&mut self, how: Looked) {
        match how {
            Looked::Answered(ns) => {
                self.halvings -= u32::from(self.halvings > 0 && ns < SLEEP_COST_NS);
                self.earn(SLEEP_COST_NS);
                self.credit_ns = self.credit_ns.saturating_sub(ns);
                self.looks = self.credit_ns >= self.at_most_ns;
            }
            Looked::InVain | Looked::Displaced => {
                self.halvings = (self.halvings + 1).min(HALVINGS_MAX);
                let cost = LOST_LOOKS * self.at_most_ns;
                self.credit_ns = self.credit_ns.saturating_sub(cost);
                self.looks = self.credit_ns >= self.at_most_ns;
            }
        }
    }

    /// A sleep of `slept_ns` has ended, by a ring or otherwise.
    pub(super) fn slept(&mut self, slept_ns: u64, rung: bool) {
        if rung && slept_ns <= self.at_most_ns + WAKE_UPS_NS {
            self.earn((self.at_most_ns / 2) >> self.halvings);
            self.looks |= self.credit_ns >= 2 * self.at_most_ns;
        } else {
            self.credit_ns = 0;
            self.looks = false;
        }
    }

    fn earn(&mut self, ns: u64) {
        self.credit_ns = (self.credit_ns + ns).min(LOOKS_MAX * self.at_most_ns);
    }
}

/// Looks until somebody rings or `pending` says so, for at most `at_most_ns` from `since`.
///
/// The doorbell stays as it is: whoever rings finds the shard awake and needs not wake it.
pub(super) fn look(
    bell: &Doorbell,
    clock: &Clock,
    since: Time,
    at_most_ns: u64,
    mut pending: impl FnMut() -> bool,
) -> Looked {
    /// Looks at the doorbell between two looks at the clock.
    const LOOKS: u32 = 8;
    let end = since.0.saturating_add(at_most_ns);
    let (mut before, mut offered) = (since.0, since.0);
    loop {
        for _ in 0..LOOKS {
            if bell.is_rung() {
                return Looked::Answered(clock.monotonic().0.saturating_sub(since.0));
            }
            std::hint::spin_loop();
        }
        let now = clock.monotonic().0;
        if pending() {
            return Looked::Answered(now.saturating_sub(since.0));
        }
        if now.saturating_sub(before) > DISPLACED_NS {
            return Looked::Displaced;
        }
        if now >= end {
            return Looked::InVain;
        }
        before = now;
        if now - offered >= OFFER_NS {
            std::thread::yield_now();
            offered = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleep_short(spin: &mut Spin, times: u32) {
        (0..times).for_each(|_| spin.slept(30_000, true));
    }

    #[test]
    fn looking_on_is_earned_by_short_sleeps_and_lost_by_a_long_one() {
        let mut spin = Spin::new(SPIN);
        sleep_short(&mut spin, 3);
        assert_eq!(spin.allowance(), None);
        sleep_short(&mut spin, 1);
        assert_eq!(spin.allowance(), Some(100_000));
        spin.slept(10_000_000, true);
        assert_eq!(spin.allowance(), None, "a long wait");
        sleep_short(&mut spin, 3);
        spin.slept(1_000, false);
        sleep_short(&mut spin, 3);
        assert_eq!(spin.allowance(), None, "one was ended by a timer");
    }

    #[test]
    fn looks_that_never_pay_become_one_in_a_thousand_sleeps() {
        let mut spin = Spin::new(SPIN);
        let (mut sleeps, mut looks) = (0, 0);
        while sleeps < 100_000 {
            if spin.allowance().is_some() {
                looks += 1;
                spin.looked(Looked::InVain);
            }
            sleeps += 1;
            sleep_short(&mut spin, 1);
        }
        assert!(looks < 10 + 100_000 / 1_000, "{looks}");
    }

    #[test]
    fn answers_that_come_late_use_up_the_credit_and_quick_ones_do_not() {
        for (ns, lasts) in [(95_000, false), (15_000, true)] {
            let mut spin = Spin::new(SPIN);
            sleep_short(&mut spin, 10);
            let mut looks = 0;
            while spin.allowance().is_some() && looks < 1_000 {
                looks += 1;
                spin.looked(Looked::Answered(ns));
            }
            assert_eq!(looks == 1_000, lasts, "{ns}: {looks}");
        }
    }

    #[test]
    fn who_is_displaced_each_time_hardly_looks_any_more() {
        let mut spin = Spin::new(SPIN);
        let (mut sleeps, mut looks) = (0, 0);
        while sleeps < 100_000 {
            if spin.allowance().is_some() {
                looks += 1;
                spin.looked(Looked::Displaced);
            }
            sleeps += 1;
            sleep_short(&mut spin, 1);
        }
        assert!(looks < 10 + 100_000 / 1_000, "{looks}");
        for _ in 0..10 {
            spin.looked(Looked::Answered(1_000));
        }
        assert_eq!(spin.halvings, 0);
    }

    #[test]
    fn who_is_displaced_or_looks_in_vain_once_looks_on() {
        for how in [Looked::Displaced, Looked::InVain] {
            let mut spin = Spin::new(SPIN);
            sleep_short(&mut spin, 20);
            spin.looked(how);
            assert_eq!(spin.allowance(), Some(100_000));
            spin.looked(how);
            spin.looked(how);
            assert_eq!(spin.allowance(), None);
        }
    }

    #[test]
    fn no_time_to_look_is_never_a_look() {
        let mut spin = Spin::new(Duration::ZERO);
        sleep_short(&mut spin, 100);
        assert_eq!(spin.allowance(), None);
    }
}
