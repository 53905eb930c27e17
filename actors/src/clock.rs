//! All time comes from here: wall, scaled or virtual.
//!
//! Two readings that must not be mixed: *simulated* time ([`Clock::now`], [`Clock::unix_us`])
//! drives ticks, generators, stamps and faults and runs at the clock's speed; *monotonic* time
//! ([`Clock::monotonic`]) drives supervision, deadlines and keep-alive and is never scaled. On a
//! virtual clock both are the same number and move only by [`Clock::advance_to`].

use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Nanoseconds since the clock's origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Time(pub u64);

impl Time {
    /// The clock's origin.
    pub const ZERO: Self = Self(0);
    /// Later than any time that is reached.
    pub const MAX: Self = Self(u64::MAX);

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(nanos(rhs)))
    }
}

impl Sub for Time {
    type Output = Duration;
    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}

/// A duration in nanoseconds, saturating after 584 years.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Debug)]
struct Wall {
    origin: Instant,
    origin_unix_us: u64,
    speed: f64,
}

#[derive(Debug)]
struct Virtual {
    now: AtomicU64,
    origin_unix_us: u64,
}

#[derive(Debug)]
struct Runtime {
    origin: tokio::time::Instant,
    origin_unix_us: u64,
}

#[derive(Debug, Clone)]
enum Source {
    Wall(Arc<Wall>),
    Virtual(Arc<Virtual>),
    Runtime(Arc<Runtime>),
}

/// A source of time; clones share it.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
    /// By how much the calendar was moved, microseconds.
    shift_us: Arc<AtomicI64>,
}

impl Clock {
    fn of(source: Source) -> Self {
        Self {
            source,
            shift_us: Arc::default(),
        }
    }

    /// Real time.
    #[must_use]
    pub fn wall() -> Self {
        Self::scaled(1.0)
    }

    /// Simulated time that runs `speed` times as fast as real time.
    ///
    /// A `speed` that is not finite and positive counts as 1.
    #[must_use]
    pub fn scaled(speed: f64) -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self::of(Source::Wall(Arc::new(Wall {
            origin: Instant::now(),
            origin_unix_us: u64::try_from(unix.as_micros()).unwrap_or(u64::MAX),
            speed: if speed.is_finite() && speed > 0.0 {
                speed
            } else {
                1.0
            },
        })))
    }

    /// Time that stands still until [`Clock::advance_to`]; its origin is stamped `unix_us`
    /// (microseconds since the Unix epoch).
    #[must_use]
    pub fn virtual_from(unix_us: u64) -> Self {
        let state = Virtual {
            now: AtomicU64::new(0),
            origin_unix_us: unix_us,
        };
        Self::of(Source::Virtual(Arc::new(state)))
    }

    /// The time of the tokio runtime that it is read on: real, or where that runtime's time is
    /// paused (`start_paused`) the time of its timers, for tests. Its origin is now, stamped
    /// `unix_us`.
    #[must_use]
    pub fn of_runtime(unix_us: u64) -> Self {
        Self::of(Source::Runtime(Arc::new(Runtime {
            origin: tokio::time::Instant::now(),
            origin_unix_us: unix_us,
        })))
    }

    /// Moves a virtual clock forward; never back. Other clocks are not moved.
    pub fn advance_to(&self, time: Time) {
        if let Source::Virtual(state) = &self.source {
            state.now.fetch_max(time.0, Ordering::Release);
        }
    }

    /// Simulated time since the origin.
    #[must_use]
    pub fn now(&self) -> Time {
        match &self.source {
            Source::Wall(wall) if wall.speed == 1.0 => Time(nanos(wall.origin.elapsed())),
            Source::Wall(wall) => self.simulated_at(Time(nanos(wall.origin.elapsed()))),
            Source::Virtual(_) | Source::Runtime(_) => self.monotonic(),
        }
    }

    /// Real time since the origin: for deadlines, backoff and keep-alive. Never scaled.
    #[must_use]
    pub fn monotonic(&self) -> Time {
        match &self.source {
            Source::Wall(wall) => Time(nanos(wall.origin.elapsed())),
            Source::Virtual(state) => Time(state.now.load(Ordering::Acquire)),
            Source::Runtime(runtime) => Time(nanos(runtime.origin.elapsed())),
        }
    }

    /// Simulated time at monotonic time `at`.
    #[must_use]
    pub fn simulated_at(&self, at: Time) -> Time {
        match self.speed() {
            1.0 => at,
            speed => Time((at.0 as f64 * speed) as u64),
        }
    }

    /// Monotonic time at which simulated time reaches `at`.
    #[must_use]
    pub fn monotonic_at(&self, at: Time) -> Time {
        match self.speed() {
            1.0 => at,
            speed => Time((at.0 as f64 / speed).ceil() as u64),
        }
    }

    /// Microseconds since the Unix epoch, by simulated time: what stamps carry.
    #[must_use]
    pub fn unix_us(&self) -> u64 {
        self.unix_us_at(self.now())
    }

    /// The stamp of simulated time `at`.
    #[must_use]
    pub fn unix_us_at(&self, at: Time) -> u64 {
        let origin = match &self.source {
            Source::Wall(wall) => wall.origin_unix_us,
            Source::Virtual(state) => state.origin_unix_us,
            Source::Runtime(runtime) => runtime.origin_unix_us,
        };
        let stamp = origin.saturating_add(at.0 / 1_000);
        stamp.saturating_add_signed(self.shift_us.load(Ordering::Relaxed))
    }

    /// Moves the calendar by so many microseconds, as when somebody sets a machine's date: stamps
    /// jump, timers do not. Jumps add up.
    pub fn jump(&self, by_us: i64) {
        self.shift_us.fetch_add(by_us, Ordering::Relaxed);
    }

    /// Simulated seconds per real second.
    #[must_use]
    pub fn speed(&self) -> f64 {
        match &self.source {
            Source::Wall(wall) => wall.speed,
            Source::Virtual(_) | Source::Runtime(_) => 1.0,
        }
    }

    /// Whether time moves only when it is told to.
    #[must_use]
    pub const fn is_virtual(&self) -> bool {
        matches!(self.source, Source::Virtual(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_moves_only_forward_and_when_told() {
        let clock = Clock::virtual_from(1_000);
        assert_eq!((clock.now(), clock.unix_us()), (Time::ZERO, 1_000));
        clock.advance_to(Time(5_000_000));
        clock.advance_to(Time(1));
        assert_eq!(clock.now(), Time(5_000_000));
        assert_eq!(clock.monotonic(), clock.now());
        assert_eq!(clock.unix_us(), 6_000);
    }

    #[test]
    fn a_jump_moves_the_calendar_and_no_timer() {
        let clock = Clock::virtual_from(5_000_000);
        let other = clock.clone();
        other.jump(-2_000_000);
        assert_eq!((clock.unix_us(), clock.now()), (3_000_000, Time::ZERO));
        clock.jump(2_000_000);
        assert_eq!(other.unix_us(), 5_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_paused_runtime_is_that_of_its_timers() {
        let clock = Clock::of_runtime(7);
        assert_eq!((clock.now(), clock.unix_us()), (Time::ZERO, 7));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(clock.monotonic(), Time(3_600_000_000_000));
        assert_eq!(clock.now(), clock.monotonic());
        assert!(!clock.is_virtual(), "nobody moves it by hand");
    }

    #[test]
    fn scaled_time_converts_both_ways_and_leaves_monotonic_time_alone() {
        let clock = Clock::scaled(60.0);
        assert_eq!(clock.simulated_at(Time(1_000)), Time(60_000));
        assert_eq!(clock.monotonic_at(Time(60_000)), Time(1_000));
        assert_eq!(Clock::scaled(f64::NAN).speed(), 1.0);
        assert_eq!(Clock::scaled(-1.0).speed(), 1.0);
    }
}
