//! What every participant is measured with, ours included: the command line, clocks, workloads
//! and the one JSON line. std and libc only, so that it adds nothing to a peer's process.
//!
//! Bound: a participant prints one line.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

mod broker;
mod deaths;
mod machine;
mod scan;
mod workload;

pub use broker::*;
pub use deaths::Deaths;
pub use machine::{cpu_s, pin, resident_bytes};
pub use scan::*;
pub use workload::*;

/// The timer every actor holds while memory is read.
pub const TIMER: Duration = Duration::from_secs(60);

/// What a participant is asked to do: `SCENARIO SHAPE SIZE SECONDS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The scenario's name.
    pub scenario: String,
    /// The variant; `-` where there is only one.
    pub shape: String,
    /// Actors, messages or restarts: the scenario says which.
    pub size: u64,
    /// How long a scenario lasts that is measured by time.
    pub seconds: u64,
}

impl Job {
    /// From the arguments after the program's name.
    #[must_use]
    pub fn parse(args: impl Iterator<Item = String>) -> Option<Self> {
        let args: Vec<String> = args.collect();
        let [scenario, shape, size, seconds] = args.as_slice() else {
            return None;
        };
        Some(Self {
            scenario: scenario.clone(),
            shape: shape.clone(),
            size: size.parse().ok()?,
            seconds: seconds.parse().ok()?,
        })
    }

    /// From this process's command line.
    ///
    /// # Panics
    /// On any other command line: the harness is the only caller.
    #[must_use]
    pub fn of_args() -> Self {
        Self::parse(std::env::args().skip(1)).expect("usage: PEER SCENARIO SHAPE SIZE SECONDS")
    }

    /// The size as a count of things in memory.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.size as usize
    }

    /// The length of what is measured by time.
    #[must_use]
    pub const fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Wall time and CPU time of this process since it was made.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    began: Instant,
    cpu_s: f64,
}

impl Meter {
    /// Starts measuring.
    #[must_use]
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
            cpu_s: cpu_s(),
        }
    }

    /// What has passed until now.
    #[must_use]
    pub fn stop(self) -> Spent {
        Spent {
            wall_s: self.began.elapsed().as_secs_f64(),
            cpu_s: cpu_s() - self.cpu_s,
        }
    }
}

/// What was spent on something.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// Seconds on the wall.
    pub wall_s: f64,
    /// CPU seconds of all threads, user and system.
    pub cpu_s: f64,
}

impl Spent {
    /// Nanoseconds on the wall for each of `n`.
    #[must_use]
    pub fn ns_per(&self, n: u64) -> f64 {
        self.wall_s * 1e9 / n as f64
    }

    /// CPU nanoseconds for each of `n`.
    #[must_use]
    pub fn cpu_ns_per(&self, n: u64) -> f64 {
        self.cpu_s * 1e9 / n as f64
    }
}

/// The metrics of one run, by name.
#[derive(Debug, Clone, Default)]
pub struct Line(Vec<(&'static str, f64)>);

impl Line {
    /// A line without metrics.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same line with one more metric.
    #[must_use]
    pub fn with(mut self, metric: &'static str, value: f64) -> Self {
        self.0.push((metric, value));
        self
    }

    /// Wall and CPU nanoseconds of each of `n`, under two names.
    #[must_use]
    pub fn per(self, wall: &'static str, cpu: &'static str, n: u64, spent: Spent) -> Self {
        self.with(wall, spent.ns_per(n))
            .with(cpu, spent.cpu_ns_per(n))
    }

    /// `n` things per CPU second and per second, under two names.
    #[must_use]
    pub fn rate(self, cpu: &'static str, wall: &'static str, n: u64, spent: Spent) -> Self {
        self.with(cpu, n as f64 / spent.cpu_s)
            .with(wall, n as f64 / spent.wall_s)
    }

    /// Resident bytes of each of `n` actors, as scenario `memory` has it.
    #[must_use]
    pub fn memory(self, n: usize, before: u64, after: u64) -> Self {
        let bytes = after.saturating_sub(before) as f64;
        self.with("bytes_per_actor", bytes / n as f64)
    }

    /// One JSON object; what is not a number is null.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = String::from("{");
        for (index, (metric, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let value = Some(value).filter(|value| value.is_finite());
            let value = value.map_or_else(|| "null".to_owned(), f64::to_string);
            let _ = write!(text, "{comma}\"{metric}\":{value}");
        }
        text + "}"
    }

    /// Prints it for the harness and ends the process: a peer's teardown is not measured.
    pub fn report(&self) -> ! {
        println!("{}", self.to_json());
        std::process::exit(0)
    }
}

/// Durations, to be read as percentiles.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// None yet, with room for `n`.
    #[must_use]
    pub fn with_capacity(n: usize) -> Self {
        Self(Vec::with_capacity(n))
    }

    /// One more, in nanoseconds.
    pub fn push(&mut self, ns: u64) {
        self.0.push(ns);
    }

    /// One more, which began at `since` and ends now.
    pub fn since(&mut self, since: Instant) {
        self.0.push(since.elapsed().as_nanos() as u64);
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all but the first `n`.
    pub fn truncate(&mut self, n: usize) {
        self.0.truncate(n);
    }

    /// These and those.
    pub fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    /// Percentile `share` (0 to 1) in microseconds; not a number if there are none.
    #[must_use]
    pub fn us(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        let place = (last as f64 * share).ceil() as usize;
        let value = self.0.get(place.min(last));
        value.map_or(f64::NAN, |ns| *ns as f64 / 1e3)
    }
}

/// A panic hook that says nothing, as each participant of a panic scenario has.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_and_what_is_no_number_is_null() {
        let line = Line::new().with("a", 0.000_04).with("b", f64::NAN);
        assert_eq!(line.to_json(), r#"{"a":0.00004,"b":null}"#);
    }

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        let mut latencies = Latencies::with_capacity(0);
        assert!(latencies.us(0.5).is_nan());
        (1..=100).rev().for_each(|us| latencies.push(us * 1_000));
        assert!((latencies.us(1.0) - 100.0).abs() < 1e-9);
        assert!((latencies.us(0.0) - 1.0).abs() < 1e-9);
    }
}
