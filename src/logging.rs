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

/// Named events, the `event` field of their lines, and what each says. They are an interface:
/// dashboards select by them. The last ones of this list are ours, the others the design's.
pub const EVENTS: &[(&str, &str)] = &[
    ("spawned", "the devices of this node have started"),
    ("connected", "a link or an accepted connection is up"),
    (
        "disconnected",
        "a link or an accepted connection is gone, and why",
    ),
    (
        "connect_failed",
        "a link cannot reach its twin, or is refused by it, and why",
    ),
    (
        "foreign_certificate",
        "a peer was refused over its certificate, or for want of one",
    ),
    (
        "handshake_failed",
        "a peer did not get through its handshake, and why",
    ),
    (
        "connection_refused",
        "a peer was refused for want of room, or over what it may do",
    ),
    (
        "connection_displaced",
        "a connection that does not answer gave its place to another of the same peer",
    ),
    (
        "devices_refused",
        "devices beyond a quota were announced: which, and what the quota is",
    ),
    ("publish_retry", "a publisher tries again"),
    ("fault_injected", "a fault was put in on purpose"),
    ("fault_reverted", "a fault was taken out again"),
    (
        "restarted",
        "an actor is in service again, and why it ended",
    ),
    (
        "quarantined",
        "an actor failed too often and is parked by its policy",
    ),
    ("escalated", "a supervisor gave up"),
    ("stopped", "an actor was stopped and stays down"),
    ("updated", "devices behave otherwise from now on"),
    ("scenario_started", "a scenario runs"),
    (
        "scenario_ended",
        "a scenario is over: what it expected and what held",
    ),
    (
        "policy_planned",
        "policies are read again for a signal: every value that will change",
    ),
    ("policy_changed", "a supervision policy was changed"),
    (
        "certificates_revoked",
        "the list of revoked certificates changed, and whom that cut off",
    ),
    (
        "revocations_unread",
        "the list of revoked certificates cannot be read: the former one holds",
    ),
    ("chaos_started", "a chaos plan runs"),
    ("chaos_stopped", "a chaos plan ended"),
    (
        "commanded",
        "an operator gave a command that is not read-only",
    ),
    ("crash", "an actor ended abnormally: the crash report"),
    (
        "group_restarted",
        "a group of 256 devices is restarted as one",
    ),
    (
        "scan_started",
        "the scan runs, and what the host granted it",
    ),
    (
        "system_isolated",
        "a system of the scan failed and runs no more in this world; the others do",
    ),
    (
        "scan_fallback",
        "a cycle overran its period: only what is essential runs",
    ),
    (
        "row_files",
        "rows could not be written to their files, or a file that was cut off was repaired",
    ),
    ("scan_recovered", "cycles fit again: all systems run"),
    (
        "scan_rests",
        "the real-time scan takes more than 90 % of its core: it rests between cycles",
    ),
    (
        "scan_rested",
        "the scan has not had to rest for ten seconds",
    ),
    (
        "scan_wedged",
        "a cycle, or the building of the world, does not end; the scan is out of its class",
    ),
    (
        "journal_opened",
        "the journal is open: what it holds, and what is still to be applied",
    ),
    (
        "journal_repaired",
        "the journal was not closed in order: verified, a torn tail cut back to the last commit",
    ),
    (
        "journal_lost",
        "there was a checkpoint and no journal: a new one goes on from it, as an operator said",
    ),
    (
        "journal_corrupt",
        "records of the journal cannot be read; their events are lost",
    ),
    (
        "journal_refused",
        "the disk refuses the journal: events wait until it does not",
    ),
    ("journal_writes_again", "the disk takes the journal again"),
    ("checkpoint_failed", "no checkpoint was written at the stop"),
    ("shards_backend", "what the shard threads wait on, and why"),
    (
        "slab_down",
        "a slab unwound outside its cells' steps: they exit with host_down; the fourth time in \
         60 s it is closed for good, which `health` tells",
    ),
    (
        "slabs_moved",
        "a busy shard is relieved by an idle one, or one without a thread by those that have one",
    ),
    (
        "shard_not_pinned",
        "a shard thread is not pinned to its core, and why",
    ),
    (
        "shard_slice",
        "a shard thread keeps its core for as long as any other would, and why",
    ),
    (
        "shard_down",
        "the thread of a shard has died, and why; its cells exit with host_down",
    ),
    (
        "shard_up",
        "the next thread of a shard takes the place of one that died",
    ),
    (
        "stuck",
        "an actor did not end within its shutdown time and was killed",
    ),
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
    // The task host's library wraps every line in a span of its own; its ids mean nothing here.
    let quiet = if filter.contains("ractor") {
        String::new()
    } else {
        ",ractor=error".into()
    };
    let filter = format!("{filter}{quiet}")
        .parse()
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr);
    let installed = match format {
        Format::Human => {
            let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(color).with_target(false).try_init()
        }
        Format::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
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
