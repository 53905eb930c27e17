//! The counters of a mailbox, and what they must always say. Values only.

use std::ops::{Add, AddAssign};

use serde::Serialize;

/// The counters of a mailbox, or the sum of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Books {
    /// Messages that senders brought.
    pub offered: u64,
    /// Messages that were let in, dropped ones included.
    pub accepted: u64,
    /// Messages given back to their senders.
    pub rejected: u64,
    /// Messages whose handler returned.
    pub handled: u64,
    /// Accepted messages that the overflow rule dropped.
    pub dropped: u64,
    /// Accepted messages merged into another.
    pub conflated: u64,
    /// Messages lost with their actor, the killing one included.
    pub died: u64,
    /// Messages in the lanes or in hand at the time of the snapshot.
    pub waiting: u64,
}

impl Books {
    /// Whether both equations hold.
    #[must_use]
    pub const fn balanced(&self) -> bool {
        self.offered == self.accepted + self.rejected
            && self.accepted
                == self.handled + self.dropped + self.conflated + self.died + self.waiting
    }

    /// The same books with `waiting` messages.
    #[must_use]
    pub const fn with_waiting(self, waiting: u64) -> Self {
        Self { waiting, ..self }
    }

    /// What was counted after `earlier`, an older reading of the same counters.
    pub(crate) const fn since(&self, earlier: &Self) -> Self {
        Self {
            offered: self.offered - earlier.offered,
            accepted: self.accepted - earlier.accepted,
            rejected: self.rejected - earlier.rejected,
            handled: self.handled - earlier.handled,
            dropped: self.dropped - earlier.dropped,
            conflated: self.conflated - earlier.conflated,
            died: self.died - earlier.died,
            waiting: self.waiting,
        }
    }

    pub(crate) const fn refuse(&mut self) {
        self.offered += 1;
        self.rejected += 1;
    }
}

impl Add for Books {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self {
            offered: self.offered + o.offered,
            accepted: self.accepted + o.accepted,
            rejected: self.rejected + o.rejected,
            handled: self.handled + o.handled,
            dropped: self.dropped + o.dropped,
            conflated: self.conflated + o.conflated,
            died: self.died + o.died,
            waiting: self.waiting + o.waiting,
        }
    }
}

impl AddAssign for Books {
    fn add_assign(&mut self, o: Self) {
        *self = *self + o;
    }
}

impl std::iter::Sum for Books {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}
