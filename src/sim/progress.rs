//! How far a simulation is: a line on a terminal, plain lines elsewhere.
//!
//! The only place of a simulation that reads the host's clock, and nothing that runs sees it.
//! Bound: one line a second on a terminal, one every ten elsewhere.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use actorsim_actors::{Clock, Time};

use crate::status;

/// Shows how far a run is.
#[derive(Debug)]
pub struct Progress {
    clock: Clock,
    whole: Duration,
    live: bool,
    next: Time,
}

impl Progress {
    /// Of a run of so much virtual time.
    #[must_use]
    pub fn new(whole: Duration) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let live = std::io::stderr().is_terminal() && !dumb;
        let mut progress = Self {
            clock: Clock::wall(),
            whole,
            live,
            next: Time::ZERO,
        };
        progress.next = progress.clock.monotonic() + progress.every();
        progress
    }

    fn every(&self) -> Duration {
        if self.live {
            status::LIVE_EVERY
        } else {
            status::PLAIN_EVERY
        }
    }

    /// The run has reached this much virtual time.
    pub fn at(&mut self, reached: Duration) {
        let now = self.clock.monotonic();
        if now < self.next {
            return;
        }
        self.next = now + self.every();
        let line = line(reached, self.whole, now - Time::ZERO);
        if self.live {
            status::show(&line);
        } else {
            status::above(|stderr| std::io::Write::write_fmt(stderr, format_args!("{line}\n")));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.live {
            status::show("");
        }
    }
}

fn line(reached: Duration, whole: Duration, took: Duration) -> String {
    let seconds = |time: Duration| humantime::format_duration(Duration::from_secs(time.as_secs()));
    let share = reached.as_secs_f64() / whole.as_secs_f64().max(f64::MIN_POSITIVE);
    let mut text = format!("sim {} of {}", seconds(reached), seconds(whole));
    let speed = reached.as_secs_f64() / took.as_secs_f64().max(0.001);
    let _ = write!(text, "  {:.0} %  {speed:.0} x real time", share * 100.0);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_the_time_the_share_and_the_speed() {
        let at = line(
            Duration::from_secs(3_600),
            Duration::from_secs(86_400),
            Duration::from_secs(2),
        );
        assert_eq!(at, "sim 1h of 1day  4 %  1800 x real time");
    }
}
