//! What happened, for the operator: a bounded ring of named events, mirrored to `tracing`.
//!
//! It does not persist and never blocks a publisher. Bound: the last [`EVENTS_KEPT`] events; what
//! fell out is visible as a gap in the ids.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::Serialize;

use crate::clock::{Clock, Time};
use crate::path::ActorPath;

/// Events that are kept for `events`: some minutes of a restless node.
pub const EVENTS_KEPT: usize = 4_096;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Life cycle.
    Info,
    /// Retries, backpressure, restarts.
    Warn,
    /// What does not mend itself.
    Error,
}

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Consecutive from 1.
    pub id: u64,
    /// Microseconds since the Unix epoch: its calendar, which may jump.
    pub at_us: u64,
    /// The same moment in simulated time, which never goes back.
    #[serde(skip)]
    pub at: Time,
    /// How bad it is.
    pub level: Level,
    /// Stable name, as in `docs/reference/metrics.md` (`restarted`, `connected`).
    pub name: &'static str,
    /// Whom it concerns.
    pub path: Option<ActorPath>,
    /// The rest, in words.
    pub text: String,
}

/// The ring.
#[derive(Debug)]
pub struct Events {
    clock: Clock,
    ring: Mutex<(u64, VecDeque<Event>)>,
}

impl Events {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            ring: Mutex::new((0, VecDeque::new())),
        }
    }

    /// Records an event and logs it; returns its id.
    pub fn publish(
        &self,
        level: Level,
        name: &'static str,
        path: Option<&ActorPath>,
        text: impl Into<String>,
    ) -> u64 {
        let text = text.into();
        let shown = path.map_or("", ActorPath::as_str);
        match level {
            Level::Info => tracing::info!(event = name, path = shown, "{text}"),
            Level::Warn => tracing::warn!(event = name, path = shown, "{text}"),
            Level::Error => tracing::error!(event = name, path = shown, "{text}"),
        }
        let at = self.clock.now();
        let at_us = self.clock.unix_us_at(at);
        let mut guard = self.ring.lock();
        let (last, ring) = &mut *guard;
        *last += 1;
        if ring.len() == EVENTS_KEPT {
            ring.pop_front();
        }
        ring.push_back(Event {
            id: *last,
            at_us,
            at,
            level,
            name,
            path: path.cloned(),
            text,
        });
        *last
    }

    /// At most `limit` events after id `after`, oldest first.
    #[must_use]
    pub fn since(&self, after: u64, limit: usize) -> Vec<Event> {
        let guard = self.ring.lock();
        guard
            .1
            .iter()
            .filter(|e| e.id > after)
            .take(limit)
            .cloned()
            .collect()
    }

    /// The last `limit` events, oldest first.
    #[must_use]
    pub fn last(&self, limit: usize) -> Vec<Event> {
        let guard = self.ring.lock();
        let skip = guard.1.len().saturating_sub(limit);
        guard.1.iter().skip(skip).cloned().collect()
    }
}
