//! The live status line: one line on a terminal, one plain log line every ten seconds elsewhere.
//!
//! It only shows; the numbers come from [`crate::view`]. The line and log lines share one lock, so
//! that a log line lifts the status line and puts it back.
//!
//! Bound: one line, cut to [`WIDTH_MAX`] characters, drawn once a second.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use parking_lot::Mutex;

use crate::view::NodeSnapshot;

/// Characters of the line: more wraps on a common terminal, and a wrapped line cannot be lifted.
pub const WIDTH_MAX: usize = 100;

/// Interval on a terminal.
pub const LIVE_EVERY: Duration = Duration::from_secs(1);

/// Interval elsewhere: enough to see progress in a CI log, too little to fill it.
pub const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Time after which what is not up yet is worth showing.
const SETTLED: Duration = Duration::from_secs(3);

/// The line on the terminal, empty when there is none.
static SHOWN: Mutex<String> = Mutex::new(String::new());

/// Writes to stderr with the status line lifted. A failed write is dropped: there is nowhere to
/// say it.
pub fn above(write: impl FnOnce(&mut io::StderrLock<'_>) -> io::Result<()>) {
    let shown = SHOWN.lock();
    let mut stderr = io::stderr().lock();
    let lift = if shown.is_empty() {
        Ok(())
    } else {
        stderr.write_all(b"\r\x1b[K")
    };
    let _ = lift.and_then(|()| write(&mut stderr));
    let _ = stderr
        .write_all(shown.as_bytes())
        .and_then(|()| stderr.flush());
}

/// Shows a line on the terminal in place of the former one; an empty one takes it away.
pub(crate) fn show(line: &str) {
    let mut shown = SHOWN.lock();
    let mut stderr = io::stderr().lock();
    *shown = line.chars().take(WIDTH_MAX).collect();
    let _ = write!(stderr, "\r\x1b[K{shown}").and_then(|()| stderr.flush());
}

/// The status of a run: call [`Status::tick`] with snapshots, about once a second.
#[derive(Debug)]
pub struct Status {
    live: bool,
    last: Option<(Duration, u64)>,
    plain_at: Duration,
}

impl Default for Status {
    fn default() -> Self {
        Self::new(
            io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb"),
        )
    }
}

impl Status {
    /// A live line, or plain lines.
    #[must_use]
    pub fn new(live: bool) -> Self {
        Self {
            live,
            last: None,
            plain_at: PLAIN_EVERY,
        }
    }

    /// Shows a snapshot.
    pub fn tick(&mut self, snapshot: &NodeSnapshot) {
        let applied = snapshot
            .world
            .as_ref()
            .map_or(0, |world| world.readings_applied);
        let rate = self.last.and_then(|(at, before)| {
            let seconds = snapshot.uptime.saturating_sub(at).as_secs_f64();
            (seconds > 0.0).then(|| applied.saturating_sub(before) as f64 / seconds)
        });
        let due = self.live || snapshot.uptime >= self.plain_at;
        if !due {
            self.last.get_or_insert((snapshot.uptime, applied));
            return;
        }
        self.last = Some((snapshot.uptime, applied));
        let line = line(snapshot, rate);
        if self.live {
            show(&line);
        } else {
            self.plain_at = snapshot.uptime + PLAIN_EVERY;
            tracing::info!("{line}");
        }
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        if self.live {
            show("");
        }
    }
}

fn line(snapshot: &NodeSnapshot, rate: Option<f64>) -> String {
    let mut parts = vec![clock(snapshot.uptime)];
    if let Some(devices) = &snapshot.devices {
        parts.push(format!(
            "{}/{} devices",
            grouped(devices.in_state("running")),
            grouped(devices.requested)
        ));
    }
    if let Some(world) = &snapshot.world {
        let rate = rate.map_or_else(|| "-".into(), |rate| grouped(rate.round() as u64));
        parts.push(format!("{rate} readings/s in the world"));
        let jitter = world
            .jitter_p99
            .map_or_else(|| "-".into(), |p99| p99.as_micros().to_string());
        parts.push(format!("scan jitter p99 {jitter} us"));
    }
    parts.push(format!("{} restarts", grouped(snapshot.restarts)));
    if snapshot.uptime >= SETTLED
        && let Some(first) = snapshot.unhealthy.first()
    {
        parts.push(format!("! {first}"));
    }
    for limit in &snapshot.limits {
        parts.push(format!("! {}: {}", limit.name, grouped(limit.count)));
    }
    parts.join("  ")
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// A number with commas between thousands.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{DevicesView, WorldView};

    #[test]
    fn the_line_names_devices_rate_restarts_and_jitter() {
        let snapshot = NodeSnapshot {
            uptime: Duration::from_secs(75),
            devices: Some(DevicesView {
                requested: 100_000,
                states: vec![("industrial".into(), "quic", "running", 99_999)],
                ..DevicesView::default()
            }),
            world: Some(WorldView {
                jitter_p99: Some(Duration::from_micros(42)),
                ..WorldView::default()
            }),
            restarts: 3,
            ..NodeSnapshot::default()
        };
        let expected = "00:01:15  99,999/100,000 devices  140,000 readings/s in the world  \
                        scan jitter p99 42 us  3 restarts";
        assert_eq!(line(&snapshot, Some(140_000.2)), expected);
    }

    #[test]
    fn the_line_names_the_limits_that_bite() {
        let limit = crate::report::Limit {
            name: "ports".to_owned(),
            count: 1_200,
            text: String::new(),
            mend: String::new(),
        };
        let snapshot = NodeSnapshot {
            limits: vec![limit],
            ..NodeSnapshot::default()
        };
        assert!(line(&snapshot, None).ends_with("  ! ports: 1,200"));
    }

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
