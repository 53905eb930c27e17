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
//! It does not wait, wake or know who sends. `books`: the counters; `conflate`: which messages are
//! merged, where that is wanted. Bound: `capacity` messages of work and [`CONTROL_CAPACITY`] of
//! control; an empty ring owns no memory.

mod books;
mod conflate;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

pub use books::Books;
pub use conflate::Conflation;
use conflate::Index;

use crate::fifo::Fifo;

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
    /// Whether a message is merged with one of the same key that waits. That needs no room.
    #[serde(default)]
    pub conflation: Conflation,
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
            conflation: Conflation::Off,
        }
    }

    /// The same, merging messages that wait.
    #[must_use]
    pub const fn conflating(self, conflation: Conflation) -> Self {
        Self { conflation, ..self }
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

/// What can be put in a mailbox.
pub trait Message: Send + 'static {
    /// A short name for crash reports and traces.
    fn kind(&self) -> &'static str {
        "message"
    }

    /// In a conflating mailbox: what it is merged by. It must not change while the message waits.
    /// Without a key it is never merged, and nothing that comes after it is merged with what came
    /// before it.
    fn conflation_key(&self) -> Option<u64> {
        None
    }

    /// Takes in a newer message of the same key, under [`Conflation::Sum`]. If it panics, the newer
    /// one counts as dropped.
    ///
    /// # Errors
    /// The newer one, if the two cannot be one (a sum too large): it then waits by itself.
    fn absorb(&mut self, newer: Self) -> Result<(), Self>
    where
        Self: Sized,
    {
        Err(newer)
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
    /// It was merged with one that waits; under [`Conflation::Newest`] this is what it replaced.
    Merged(Option<M>),
    /// It was to be merged, which panicked.
    Broken,
}

/// Two lanes of waiting messages, which are dropped one by one: a destructor that panics is no
/// matter of the others. The caller owns the rules and the books.
#[derive(Debug)]
pub struct Ring<M> {
    control: Fifo<M>,
    work: Fifo<M>,
    /// Of the work lane; only where messages are merged, and only while some wait.
    index: Option<Box<Index>>,
}

impl<M> Default for Ring<M> {
    fn default() -> Self {
        Self {
            control: Fifo::new(),
            work: Fifo::new(),
            index: None,
        }
    }
}

impl<M: Message> Ring<M> {
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
        match spec.conflation {
            Conflation::Off => self.append(spec, books, message, None),
            _ => match self.merge(spec, books, message) {
                Ok(merged) => Ok(merged),
                Err((message, key)) => self.append(spec, books, message, key),
            },
        }
    }

    /// Merges a message with one of its key that waits, and books it.
    ///
    /// # Errors
    /// The message and its key, if there is none that can take it in; nothing is booked.
    pub(crate) fn merge(
        &mut self,
        spec: &MailboxSpec,
        books: &mut Books,
        message: M,
    ) -> Result<Offered<M>, (M, Option<u64>)> {
        let (conflation, index, work) = (spec.conflation, &self.index, &mut self.work);
        // Not half done, whatever panics: the one that waits stays, the newer one is gone.
        let merged = catch_unwind(AssertUnwindSafe(move || {
            let key = message.conflation_key();
            let found = key.and_then(|key| index.as_ref()?.find(key));
            let Some(waiting) = found.and_then(|place| work.get_mut(place)) else {
                return Err((message, key));
            };
            match conflation {
                Conflation::Off => Err((message, key)),
                Conflation::Newest => Ok(Some(std::mem::replace(waiting, message))),
                Conflation::Sum => match waiting.absorb(message) {
                    Ok(()) => Ok(None),
                    Err(newer) => Err((newer, key)),
                },
            }
        }));
        let booked = match merged {
            Ok(Err(alone)) => return Err(alone),
            Ok(Ok(replaced)) => {
                books.conflated += 1;
                Offered::Merged(replaced)
            }
            Err(_) => {
                books.dropped += 1;
                Offered::Broken
            }
        };
        books.offered += 1;
        books.accepted += 1;
        Ok(booked)
    }

    /// Offers a message that is not merged.
    pub(crate) fn append(
        &mut self,
        spec: &MailboxSpec,
        books: &mut Books,
        message: M,
        key: Option<u64>,
    ) -> Result<Offered<M>, M> {
        books.offered += 1;
        if self.work.len() < spec.capacity as usize {
            books.accepted += 1;
            self.push(spec, message, key);
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
                // full without one that waits: there is no room at all
                let Some(oldest) = self.pop_work() else {
                    return Ok(Offered::Discarded(message));
                };
                self.push(spec, message, key);
                Ok(Offered::Displaced(oldest))
            }
        }
    }

    fn push(&mut self, spec: &MailboxSpec, message: M, key: Option<u64>) {
        if spec.conflation != Conflation::Off {
            self.index.get_or_insert_default().push(key);
        }
        self.work.push_back(message);
    }
}

impl<M> Ring<M> {
    fn pop_work(&mut self) -> Option<M> {
        let message = self.work.pop_front()?;
        if let Some(index) = &mut self.index {
            index.pop();
        }
        Some(message)
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
        let message = self.control.pop_front().or_else(|| self.pop_work());
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
            self.work = Fifo::new();
        }
        if self.control.capacity() > KEPT_SLOTS {
            self.control = Fifo::new();
        }
        if self.index.as_ref().is_some_and(|index| !index.is_small()) {
            self.index = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Message for u32 {}
    impl Message for &'static str {}

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
