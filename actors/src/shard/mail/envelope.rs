//! A message under way between cells, its pair queue, and how it comes back.
//!
//! Values only.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use tokio::sync::Notify;

use super::super::inbox::{Door, Queue};
use super::jams::Jams;
use crate::fifo::Fifo;

/// The sender of messages that come from outside the shards.
pub(crate) const NOBODY: u32 = u32::MAX;

/// How a message went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Now,
    /// It waits for room, and so does its cell.
    Waits,
}

/// Why a message came back to the cell that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The mailbox was full, and its rule is `Reject`.
    Full,
    /// The cell was down.
    Down,
    /// Its slab has been closed.
    Closed,
    /// No room came free in time; see [`CellContext::send_or_wait`](crate::CellContext).
    Timeout,
}

/// A message that came back after `Ok`.
pub struct Bounce {
    /// Ordinal it was for.
    pub to: u32,
    /// Why it came back.
    pub why: Refusal,
    /// The message, for `downcast`.
    pub message: Box<dyn Any + Send>,
}

impl fmt::Debug for Bounce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bounce({:?} from {})", self.why, self.to)
    }
}

/// A bounce and the cell it is for.
pub(crate) type Returned = (u32, Bounce);

pub(crate) fn returned<M: Send + 'static>(envelope: Envelope<M>, why: Refusal) -> Returned {
    let Envelope { to, from, message } = envelope;
    let message = Box::new(message);
    (from, Bounce { to, why, message })
}

#[derive(Debug)]
pub(crate) struct Envelope<M> {
    pub(crate) to: u32,
    pub(crate) from: u32,
    pub(crate) message: M,
}

/// The pair queue of a sender and a slab.
pub(crate) struct Pair<M> {
    pub(crate) queue: Queue<Envelope<M>>,
    /// The slab that sends; none: threads.
    pub(crate) origin: Option<Origin>,
    /// Tells tasks that wait for room of some, and of the end.
    pub(crate) room: Notify,
    /// Cells that take no more of it for now.
    pub(crate) jams: Jams,
}

impl<M> Pair<M> {
    /// A cell takes messages again: whoever waits for that is told.
    pub(crate) fn clear(&self, to: u32) {
        if self.jams.clear(to, self.origin.is_some()) {
            self.tell_of_room(Door::ring);
        }
    }

    /// There is room, or will be none any more.
    pub(crate) fn tell_of_room(&self, ring: fn(&Door)) {
        match &self.origin {
            Some(origin) => ring(&origin.bell),
            None => self.room.notify_waiters(),
        }
    }

    /// Refuses messages from now on, and lets waiting senders know. Returns what was not drained.
    pub(crate) fn close(&self) -> Fifo<Envelope<M>> {
        let rest = self.queue.close();
        self.jams.clear_all();
        self.tell_of_room(Door::ring);
        rest
    }
}

/// What a destination knows of a slab that sends.
#[derive(Clone)]
pub(crate) struct Origin {
    /// The same for a population on any number of shards: orders deliveries in virtual time.
    pub(crate) rank: u64,
    /// Rung when a sender waits for room.
    pub(crate) bell: Arc<Door>,
    /// Where bounces go, if its cells want them.
    pub(crate) returns: Option<Arc<Queue<Returned>>>,
}
