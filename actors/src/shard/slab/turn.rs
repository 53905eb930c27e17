//! One step of a slab from outside: its limits, its times, and what it asks of its driver.
//!
//! Values only.

#[cfg(doc)]
use super::AnySlab;
use crate::clock::Time;

/// What one step of a slab may do at most, so that timers, messages and requests take turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Timer steps.
    pub(crate) timers: usize,
    /// Starts and restarts.
    pub(crate) starts: usize,
    /// Messages moved from pair queues into mailboxes.
    pub(crate) deliveries: usize,
    /// Cells visited that have messages.
    pub(crate) visits: usize,
    /// Messages of one cell per visit.
    pub(crate) budget: usize,
    /// Whether messages of cells are delivered in rounds, in the order of their senders, so that it
    /// does not depend on the number of shards. The driver then calls [`AnySlab::exchange`].
    pub(crate) rounds: bool,
}

impl Limits {
    /// On a thread: about a millisecond of small steps, then time is read again.
    pub(crate) const LIVE: Self = Self {
        timers: 4_096,
        starts: 2_048,
        deliveries: 4_096,
        visits: 1_024,
        budget: 16,
        rounds: false,
    };
    /// In virtual time nothing waits, and the order of a cell's steps must not depend on how many
    /// cells share its shard: each phase runs to its end.
    pub(crate) const SIM: Self = Self {
        timers: usize::MAX,
        starts: usize::MAX,
        deliveries: usize::MAX,
        visits: usize::MAX,
        budget: 16,
        rounds: true,
    };
}

/// The times of one step, read once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Simulated.
    pub(crate) now: Time,
    /// Never scaled.
    pub(crate) monotonic: Time,
    /// Stamp of `now`.
    pub(crate) unix_us: u64,
    /// Simulated nanoseconds after which a timer counts as late.
    pub(crate) late_ns: u64,
}

/// What a step asks of its driver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// There is more to do now.
    pub(crate) busy: bool,
    /// Step again by this simulated time.
    pub(crate) next: Option<Time>,
    /// Step again by this monotonic time.
    pub(crate) next_monotonic: Option<Time>,
    /// A slab wants to go to another shard.
    pub(crate) leaves: bool,
}

pub(crate) fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Effects {
    pub(crate) fn merge(self, other: Self) -> Self {
        Self {
            busy: self.busy | other.busy,
            leaves: self.leaves | other.leaves,
            next: earlier(self.next, other.next),
            next_monotonic: earlier(self.next_monotonic, other.next_monotonic),
        }
    }
}
