//! Log lines: human on a terminal, JSON otherwise; and the closed list of named events.
//!
//! It writes to stderr only: stdout belongs to data. A line is one write, and the live status line
//! is lifted before it and redrawn after it, so neither tears the other.
//!
//! Bound: a line is written as it is made; nothing is queued.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::status;

/// Named events, the `event` field of their lines. They are an interface: dashboards select by them.
pub const EVENTS: &[&str] = &[
    "spawned",
    "connected",
    "disconnected",
    "publish_retry",
    "fault_injected",
    "fault_reverted",
    "restarted",
    "quarantined",
    "escalated",
    "stopped",
    "policy_changed",
    "chaos_started",
    "chaos_stopped",
    "commanded",
];

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// `human`, `json`, or `auto`: human if stderr is a terminal.
    #[must_use]
    pub fn from_setting(setting: &str) -> Self {
        match setting {
            "human" => Self::Human,
            "json" => Self::Json,
            _ if io::stderr().is_terminal() => Self::Human,
            _ => Self::Json,
        }
    }
}

/// Checks a filter such as `info` or `warn,actorsim_transport=debug`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_filter(filter: &str) -> Result<(), String> {
    filter
        .parse::<EnvFilter>()
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Installs the process's subscriber; a second call changes nothing (the first one stays).
pub fn install(filter: &str, format: Format) {
    let filter = filter.parse().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr);
    let installed = match format {
        Format::Human => {
            let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(color).with_target(false).try_init()
        }
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    if installed.is_err() {
        tracing::debug!("a log subscriber is already installed; it stays");
    }
}

/// Makes writers that collect a line and write it in one piece.
#[derive(Debug, Clone, Copy)]
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One line, written when it is dropped.
#[derive(Debug)]
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            status::above(|stderr| stderr.write_all(&self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_told_apart_from_a_good_one() {
        assert!(check_filter("info").is_ok());
        assert!(check_filter("warn,actorsim_transport=debug").is_ok());
        assert!(check_filter("actorsim=loud").is_err());
    }
}
