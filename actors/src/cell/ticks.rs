//! What a periodic timer does about ticks that it missed.
//!
//! A pure function of when it was due, its period, and now. A tick is missed when the next one is
//! due before it has fired: being late by less than a period never moves the grid.

use std::time::Duration;

use crate::clock::{Time, nanos};

/// Shortest period of a periodic timer; a shorter one counts as this. Timers fire on whole ticks of
/// the wheel, so below that several are due at once.
pub const PERIOD_MIN: Duration = Duration::from_micros(1);

/// What a periodic timer does when it fires a whole period or more after it was due. The words are
/// tokio's (`MissedTickBehavior`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MissedTicks {
    /// Every tick fires, as fast as its cell takes them, until it is back on its grid: none is
    /// missed.
    Burst,
    /// The grid moves: the next tick is due a period from now.
    Delay,
    /// The grid stays: the next tick is due at the first point of it that is not past.
    #[default]
    Skip,
}

impl MissedTicks {
    /// The word in configuration and listings.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Burst => "burst",
            Self::Delay => "delay",
            Self::Skip => "skip",
        }
    }

    /// The behaviour a word means.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::Burst, Self::Delay, Self::Skip]
            .into_iter()
            .find(|missed| missed.label() == label)
    }

    /// When the tick after the one that was due at `due` and fires `now` is due, and how many ticks
    /// are missed between the two.
    #[must_use]
    pub fn next(self, due: Time, period: Duration, now: Time) -> (Time, u64) {
        let period = nanos(period.max(PERIOD_MIN));
        let missed = match self {
            Self::Burst => 0,
            Self::Delay | Self::Skip => now.0.saturating_sub(due.0) / period,
        };
        let next = match self {
            Self::Delay if missed > 0 => now.0.saturating_add(period),
            _ => {
                let ahead = period.saturating_mul(missed.saturating_add(1));
                due.0.saturating_add(ahead)
            }
        };
        (Time(next), missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_tick_within_its_period_stays_on_its_grid_whatever_the_behaviour() {
        for missed in [MissedTicks::Burst, MissedTicks::Delay, MissedTicks::Skip] {
            let (next, count) = missed.next(Time(1_000_000), 10 * MS, Time(10_999_999));
            assert_eq!((next, count), (Time(11_000_000), 0), "{missed:?}");
            assert_eq!(MissedTicks::from_label(missed.label()), Some(missed));
        }
        assert_eq!(MissedTicks::from_label("Burst"), None);
    }

    #[test]
    fn missed_ticks_are_made_up_moved_or_skipped() {
        // Due at 10, 20, 30, ..; the first fires at 35.
        let next = |missed: MissedTicks| {
            let (next, count) = missed.next(Time(10_000_000), 10 * MS, Time(35_000_000));
            (next.0 / 1_000_000, count)
        };
        assert_eq!(next(MissedTicks::Burst), (20, 0));
        assert_eq!(next(MissedTicks::Delay), (45, 2));
        assert_eq!(next(MissedTicks::Skip), (40, 2));
    }

    #[test]
    fn the_ends_of_time_and_periods_of_nothing_are_no_trap() {
        for missed in [MissedTicks::Burst, MissedTicks::Delay, MissedTicks::Skip] {
            assert_eq!(missed.next(Time::MAX, MS, Time::MAX).0, Time::MAX);
            assert_eq!(missed.next(Time(1), Duration::MAX, Time(9)).0, Time::MAX);
            let (next, _) = missed.next(Time(0), Duration::ZERO, Time(0));
            assert_eq!(next, Time(1_000));
        }
    }
}
