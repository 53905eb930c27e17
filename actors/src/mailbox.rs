//! The one mailbox of all hosts, as a pure core: a bounded ring with two lanes, and its books.
//!
//! ```text
//!              offered
//!                 │          rejected ──> given back to the sender
//!                 ├─────────────^
//!              accepted
//!      ┌──────────┴──────────┐
//!   control (first)      work (capacity, overflow rule) ──> dropped, conflated
//!      └──────────┬──────────┘
//!              in hand ──> handled | died
//! ```
//!
//! At every quiescent point `offered = accepted + rejected` and
//! `accepted = handled + dropped + conflated + died + waiting`; waiting includes the message in
//! hand, died are those lost with their actor. The task host puts a [`Ring`] behind a lock inside
//! [`Addr`](crate::Addr); the shard host keeps one in the slab, without a lock.
//!
//! It does not wait, wake or know who sends. Bound: `capacity` messages of work and
//! [`CONTROL_CAPACITY`] of control; an empty ring owns no memory.

use std::collections::VecDeque;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// Room in the control lane: enough for a supervisor's children and a few commands; one exit per
/// child is in flight at most. A fuller lane is a broken sender and is refused.
pub const CONTROL_CAPACITY: u32 = 65_536;

/// What a full mailbox does with one more message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The sender waits for room, up to its deadline; `try_send` gives the message back.
    Block,
    /// The message is given back.
    Reject,
    /// The oldest waiting message is dropped and counted: newest value wins.
    DropOldest,
    /// The new message is dropped and counted.
    DropNewest,
}

/// What becomes of waiting messages when the actor is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRestart {
    /// They die with the incarnation.
    Dropped,
    /// The next incarnation gets them, without the message that killed.
    Kept,
}

/// Bound and rules of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxSpec {
    /// Most messages that wait in the work lane; at least 1.
    pub capacity: u32,
    /// What happens to one more.
    pub overflow: Overflow,
    /// What happens to them on a restart.
    pub on_restart: OnRestart,
}

impl MailboxSpec {
    /// A mailbox that is dropped on restart.
    #[must_use]
    pub const fn new(capacity: u32, overflow: Overflow) -> Self {
        let capacity = if capacity == 0 { 1 } else { capacity };
        Self {
            capacity,
            overflow,
            on_restart: OnRestart::Dropped,
        }
    }

    /// The same, kept across restarts.
    #[must_use]
    pub const fn kept(self) -> Self {
        Self {
            on_restart: OnRestart::Kept,
            ..self
        }
    }
}

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

/// What can be put in a mailbox.
pub trait Message: Send + 'static {
    /// A short name for crash reports and traces.
    fn kind(&self) -> &'static str {
        "message"
    }
}

/// What became of an accepted message. A value that is dropped is handed out, so that its
/// destructor runs outside the caller's lock.
#[derive(Debug, PartialEq, Eq)]
pub enum Offered<M> {
    /// It waits.
    Queued,
    /// It waits, and this oldest one was dropped for it.
    Displaced(M),
    /// It was dropped itself.
    Discarded(M),
}

/// Two lanes of waiting messages. The caller owns the rules and the books.
#[derive(Debug)]
pub struct Ring<M> {
    control: VecDeque<M>,
    work: VecDeque<M>,
}

impl<M> Default for Ring<M> {
    fn default() -> Self {
        Self {
            control: VecDeque::new(),
            work: VecDeque::new(),
        }
    }
}

impl<M> Ring<M> {
    /// Offers a message to the work lane and books what became of it.
    ///
    /// # Errors
    /// The message, if the lane is full and the rule is `Block` or `Reject`.
    pub fn offer(
        &mut self,
        spec: &MailboxSpec,
        books: &mut Books,
        message: M,
    ) -> Result<Offered<M>, M> {
        books.offered += 1;
        if self.work.len() < spec.capacity as usize {
            books.accepted += 1;
            self.work.push_back(message);
            return Ok(Offered::Queued);
        }
        match spec.overflow {
            Overflow::Block | Overflow::Reject => {
                books.rejected += 1;
                Err(message)
            }
            Overflow::DropNewest => {
                books.accepted += 1;
                books.dropped += 1;
                Ok(Offered::Discarded(message))
            }
            Overflow::DropOldest => {
                books.accepted += 1;
                books.dropped += 1;
                let oldest = self.work.pop_front();
                self.work.push_back(message);
                Ok(oldest.map_or(Offered::Queued, Offered::Displaced))
            }
        }
    }

    /// Offers a message to the control lane, which overtakes work.
    ///
    /// # Errors
    /// The message, if [`CONTROL_CAPACITY`] messages wait there already.
    pub fn offer_control(&mut self, books: &mut Books, message: M) -> Result<(), M> {
        books.offered += 1;
        if self.control.len() >= CONTROL_CAPACITY as usize {
            books.rejected += 1;
            return Err(message);
        }
        books.accepted += 1;
        self.control.push_back(message);
        Ok(())
    }

    /// Takes the next message in hand, control first. It stays waiting in the books until the
    /// caller adds one to `handled` or `died`.
    pub fn take(&mut self) -> Option<M> {
        let message = self.control.pop_front().or_else(|| self.work.pop_front());
        if self.is_empty() {
            self.release();
        }
        message
    }

    /// Books all waiting messages as died and hands them out to be dropped.
    #[must_use]
    pub fn die(&mut self, books: &mut Books) -> Self {
        books.died += self.len() as u64;
        std::mem::take(self)
    }

    /// Messages in both lanes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.control.len() + self.work.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.work.is_empty()
    }

    /// Whether the work lane would give one more message back.
    #[must_use]
    pub fn refuses(&self, spec: &MailboxSpec) -> bool {
        let full = self.work.len() >= spec.capacity as usize;
        full && matches!(spec.overflow, Overflow::Block | Overflow::Reject)
    }

    /// Messages in the work lane.
    #[must_use]
    pub fn work_len(&self) -> usize {
        self.work.len()
    }

    /// Gives back memory above what a short burst needs again at once.
    fn release(&mut self) {
        /// Slots an empty lane keeps, so that a steady trickle does not allocate each time.
        const KEPT_SLOTS: usize = 32;
        if self.work.capacity() > KEPT_SLOTS {
            self.work = VecDeque::new();
        }
        if self.control.capacity() > KEPT_SLOTS {
            self.control = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(overflow: Overflow, offers: u32) -> (Ring<u32>, Books, Vec<u32>) {
        let spec = MailboxSpec::new(3, overflow);
        let (mut ring, mut books) = (Ring::default(), Books::default());
        for n in 0..offers {
            let _ = ring.offer(&spec, &mut books, n);
        }
        let waiting = ring.len() as u64;
        let mut order = Vec::new();
        while let Some(n) = ring.take() {
            order.push(n);
        }
        (ring, books.with_waiting(waiting), order)
    }

    #[test]
    fn each_overflow_rule_keeps_what_it_promises() {
        for (overflow, kept, rejected, dropped) in [
            (Overflow::Block, vec![0, 1, 2], 2, 0),
            (Overflow::Reject, vec![0, 1, 2], 2, 0),
            (Overflow::DropOldest, vec![2, 3, 4], 0, 2),
            (Overflow::DropNewest, vec![0, 1, 2], 0, 2),
        ] {
            let (_, books, order) = fill(overflow, 5);
            assert_eq!(order, kept, "{overflow:?}");
            assert_eq!(
                (books.rejected, books.dropped),
                (rejected, dropped),
                "{overflow:?}"
            );
            assert!(books.balanced(), "{overflow:?} {books:?}");
        }
    }

    #[test]
    fn control_overtakes_work() {
        let spec = MailboxSpec::new(2, Overflow::Reject);
        let (mut ring, mut books) = (Ring::default(), Books::default());
        ring.offer(&spec, &mut books, "work").unwrap();
        ring.offer_control(&mut books, "control").unwrap();
        assert_eq!(
            [ring.take(), ring.take(), ring.take()],
            [Some("control"), Some("work"), None]
        );
    }

    #[test]
    fn death_books_everything_that_waited() {
        let spec = MailboxSpec::new(9, Overflow::Reject);
        let (mut ring, mut books) = (Ring::default(), Books::default());
        for n in 0..4 {
            ring.offer(&spec, &mut books, n).unwrap();
        }
        assert_eq!(ring.die(&mut books).len(), 4);
        assert!(ring.is_empty() && books.died == 4 && books.balanced());
    }
}
