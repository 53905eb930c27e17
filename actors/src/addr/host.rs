//! The host's end of an address: lives begin and end, messages are taken one at a time.
//!
//! It wakes senders that wait and runs nothing. Bound: one message in hand.

use std::sync::Arc;

use super::{Addr, Phase, Wake};
use crate::exit::{Incarnation, Kinds};
use crate::mailbox::{Books, Message, OnRestart};

/// What a host finds when it asks for the next message.
pub(crate) enum Next<M> {
    Message(M),
    Empty,
}

/// The host's end.
impl<M: Message> Addr<M> {
    /// The counters without what has been handed to [`Addr::retire_books`] before.
    pub(crate) fn books_to_add(&self) -> Books {
        let state = self.0.state.lock();
        let waiting = state.ring.len() as u64 + u64::from(state.in_hand);
        state.books.since(&state.retired).with_waiting(waiting)
    }

    /// Hands out the counters to be added up for good. A later life counts from here.
    pub(crate) fn retire_books(&self) -> Books {
        let books = self.books_to_add();
        let mut state = self.0.state.lock();
        state.retired += books.with_waiting(0);
        books
    }

    /// Takes the room of the work lane, on purpose, or gives it back.
    pub(crate) fn set_full(&self, full: bool) {
        self.0.state.lock().full = full;
        if !full {
            self.0.room.notify_waiters();
        }
    }

    /// Whether both are addresses of one mailbox.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as *const () as usize
    }

    /// An incarnation begins: senders are let in. False, and nothing begins, while another lives.
    #[must_use]
    pub(crate) fn begin(&self, incarnation: Incarnation, wake: Wake) -> bool {
        let pending = {
            let mut state = self.0.state.lock();
            if state.phase == Phase::Up {
                return false;
            }
            state.phase = Phase::Up;
            state.incarnation = incarnation;
            state.begun = state.begun.max(incarnation.0);
            state.last_kinds = Kinds::default();
            state.scheduled = !state.ring.is_empty();
            state.wake = Some(Arc::clone(&wake));
            state.scheduled
        };
        if pending {
            wake();
        }
        self.0.room.notify_waiters();
        true
    }

    /// Books the message in hand as handled and takes the next one. After `Empty` the next push
    /// wakes the host again.
    pub(crate) fn next(&self) -> Next<M> {
        let mut state = self.0.state.lock();
        if std::mem::take(&mut state.in_hand) {
            state.books.handled += 1;
        }
        let Some(message) = state.ring.take() else {
            state.scheduled = false;
            return Next::Empty;
        };
        state.in_hand = true;
        state.last_kinds.push(message.kind());
        let waiters = state.waiters;
        drop(state);
        if waiters > 0 {
            self.0.room.notify_one();
        }
        Next::Message(message)
    }

    /// Books the message in hand as handled.
    pub(crate) fn done(&self) {
        let mut state = self.0.state.lock();
        if std::mem::take(&mut state.in_hand) {
            state.books.handled += 1;
        }
    }

    /// An incarnation has ended: the message in hand died, waiting ones by the rule.
    /// Returns what waited and the kinds of the last messages.
    pub(crate) fn end(&self) -> (u32, Kinds) {
        let (dead, depth, last_kinds) = {
            let mut guard = self.0.state.lock();
            let state = &mut *guard;
            if state.phase == Phase::Up {
                state.phase = Phase::Down;
            }
            state.wake = None;
            state.scheduled = false;
            let depth = u32::try_from(state.ring.len()).unwrap_or(u32::MAX);
            if std::mem::take(&mut state.in_hand) {
                state.books.died += 1;
            }
            let dead = match self.0.spec.on_restart {
                OnRestart::Dropped => Some(state.ring.die(&mut state.books)),
                OnRestart::Kept => None,
            };
            (dead, depth, state.last_kinds)
        };
        drop(dead); // outside the lock: a message's destructor may do anything
        if self.0.spec.on_restart == OnRestart::Dropped {
            self.0.room.notify_waiters();
        }
        (depth, last_kinds)
    }
}
