//! The scan's scheduling clock: `CLOCK_MONOTONIC`, read and slept on directly.
//!
//! The only place of this crate that reads a clock of the operating system. It is a type of its
//! own so that a scaled telemetry clock can never move the grid, and the grid cannot hide its own
//! drift. In a simulation all time is virtual, the scan's too: [`ScanClock`].
//!
//! Bound: [`sleep_until_ns`] returns no earlier than its deadline and survives signals.

use actorsim_actors::Clock;
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

const NS_PER_S: u64 = 1_000_000_000;

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[must_use]
#[inline]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * NS_PER_S + now.tv_nsec as u64
}

/// Sleeps until `deadline_ns` of `CLOCK_MONOTONIC`; a signal does not end the sleep.
pub fn sleep_until_ns(deadline_ns: u64) {
    let request = Timespec {
        tv_sec: (deadline_ns / NS_PER_S) as i64,
        tv_nsec: (deadline_ns % NS_PER_S) as i64,
    };
    // EINTR is the only error of an absolute sleep on a valid clock; the loop cannot spin on
    // another one, because it ends as soon as the deadline has passed
    while clock_nanosleep_absolute(ClockId::Monotonic, &request).is_err() {
        if now_ns() >= deadline_ns {
            return;
        }
    }
}

/// What a twin's scan goes by: the host's clock, or virtual time in a simulation.
#[derive(Clone, Debug)]
pub(crate) enum ScanClock {
    /// `CLOCK_MONOTONIC`.
    Host,
    /// A clock that moves when it is told to.
    Virtual(Clock),
}

impl ScanClock {
    /// The scan of a node with this clock. A scaled clock does not move the grid.
    pub(crate) fn of(clock: &Clock) -> Self {
        if clock.is_virtual() {
            Self::Virtual(clock.clone())
        } else {
            Self::Host
        }
    }

    /// Nanoseconds.
    pub(crate) fn now_ns(&self) -> u64 {
        match self {
            Self::Host => now_ns(),
            Self::Virtual(clock) => clock.monotonic().0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_never_ends_early() {
        let deadline = now_ns() + 200_000;
        sleep_until_ns(deadline);
        assert!(now_ns() >= deadline);
    }

    #[test]
    fn a_passed_deadline_does_not_sleep() {
        sleep_until_ns(1);
    }
}
