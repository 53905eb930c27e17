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
    last: Option<(Duration, Done)>,
    plain_at: Duration,
}

/// What has been done: readings applied to the world, messages that brokers took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Done {
    applied: u64,
    acked: u64,
}

impl Done {
    fn of(snapshot: &NodeSnapshot) -> Self {
        let world = snapshot.world.as_ref();
        let devices = snapshot.devices.iter();
        let published = devices.flat_map(|devices| &devices.published);
        Self {
            applied: world.map_or(0, |world| world.readings_applied),
            acked: published.map(|one| one.acked).sum(),
        }
    }
}

/// The same in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rates {
    applied: f64,
    acked: f64,
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
        let done = Done::of(snapshot);
        let rates = self.last.and_then(|(at, before)| {
            let seconds = snapshot.uptime.saturating_sub(at).as_secs_f64();
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            (seconds > 0.0).then(|| Rates {
                applied: rate(done.applied, before.applied),
                acked: rate(done.acked, before.acked),
            })
        });
        let due = self.live || snapshot.uptime >= self.plain_at;
        if !due {
            self.last.get_or_insert((snapshot.uptime, done));
            return;
        }
        self.last = Some((snapshot.uptime, done));
        let line = line(snapshot, rates);
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

fn line(snapshot: &NodeSnapshot, rates: Option<Rates>) -> String {
    let per_s = |of: fn(Rates) -> f64| {
        let rate = rates.map(|rates| grouped(of(rates).round() as u64));
        rate.unwrap_or_else(|| "-".into())
    };
    let mut parts = vec![clock(snapshot.uptime)];
    if let Some(devices) = &snapshot.devices {
        parts.push(format!(
            "{}/{} devices",
            grouped(devices.in_state("running")),
            grouped(devices.requested)
        ));
        for one in &devices.published {
            let (connected, all) = (grouped(one.connected), grouped(one.devices));
            parts.push(format!("{} {connected}/{all} up", one.protocol));
        }
        if !devices.published.is_empty() {
            parts.push(format!("{} acked/s", per_s(|rates| rates.acked)));
        }
    }
    if let Some(world) = &snapshot.world {
        let rate = per_s(|rates| rates.applied);
        parts.push(format!("{rate} readings/s in the world"));
        let jitter = world
            .jitter_p99
            .map_or_else(|| "-".into(), |p99| p99.as_micros().to_string());
        parts.push(format!("scan jitter p99 {jitter} us"));
    }
    if snapshot.uptime >= SETTLED
        && let Some(first) = snapshot.unhealthy.first()
    {
        parts.push(format!("! {first}"));
    }
    for limit in &snapshot.limits {
        parts.push(format!("! {}: {}", limit.name, grouped(limit.count)));
    }
    // last, as it may be cut off
    parts.push(format!("{} restarts", grouped(snapshot.restarts)));
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
    use crate::view::{DevicesView, PublishView, WorldView};

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
        assert_eq!(line(&snapshot, rates(140_000.2, 0.0)), expected);
    }

    fn rates(applied: f64, acked: f64) -> Option<Rates> {
        Some(Rates { applied, acked })
    }

    #[test]
    fn the_line_of_a_fleet_on_a_broker_names_sessions_and_what_the_broker_took() {
        let mqtt = PublishView {
            protocol: "mqtt",
            devices: 15_000,
            connected: 14_998,
            acked: 6_000,
            ..PublishView::default()
        };
        let mut snapshot = NodeSnapshot {
            devices: Some(DevicesView {
                published: vec![mqtt],
                ..DevicesView::default()
            }),
            ..NodeSnapshot::default()
        };
        let shown = line(&snapshot, rates(0.0, 3_000.4));
        let expected = "mqtt 14,998/15,000 up  3,000 acked/s  0 restarts";
        assert!(shown.ends_with(expected), "{shown}");
        assert_eq!(Done::of(&snapshot).acked, 6_000);
        snapshot.devices = None;
        assert_eq!(line(&snapshot, None), "00:00:00  0 restarts");
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
        assert!(line(&snapshot, None).contains("  ! ports: 1,200  "));
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
