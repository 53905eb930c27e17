//! Messages for one slab, from their step until they are under way.
//!
//! A message that found no room waits here, and its cell with it; nobody overtakes it. Bound: the
//! room its owner has seen; one waiting message per cell.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::guard;
use super::envelope::{Envelope, Refusal, Returned, returned};
use crate::clock::Time;
use crate::exit::Incarnation;

/// A message that waits for room, and its cell with it.
pub(super) struct Waiter<M> {
    key: u32,
    life: Incarnation,
    until: Time,
    envelope: Envelope<M>,
}

/// The end of a wait.
pub(crate) struct Resumed {
    pub(crate) key: u32,
    pub(crate) timed_out: bool,
    pub(crate) bounce: Option<Returned>,
}

/// Who sends, and when.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) ordinal: u32,
    pub(crate) key: u32,
    pub(crate) life: Incarnation,
    pub(crate) now: Time,
}

/// Messages for one slab until they are under way.
pub(super) struct Stage<M> {
    pub(super) staged: VecDeque<Envelope<M>>,
    pub(super) waiters: VecDeque<Waiter<M>>,
}

impl<M: Send + 'static> Stage<M> {
    pub(super) const fn new() -> Self {
        Self {
            staged: VecDeque::new(),
            waiters: VecDeque::new(),
        }
    }

    pub(super) fn wait(&mut self, by: Sender, patience: Duration, envelope: Envelope<M>) {
        self.waiters.push_back(Waiter {
            key: by.key,
            life: by.life,
            until: by.now + patience,
            envelope,
        });
    }

    /// Stages up to `room` messages that waited, ends waits whose time is up and forgets those of
    /// lives that have ended. Returns how many were staged.
    pub(super) fn resume(
        &mut self,
        mut room: usize,
        now: Time,
        hears: bool,
        alive: &mut dyn FnMut(u32, Incarnation) -> bool,
        done: &mut Vec<Resumed>,
    ) -> usize {
        let before = room;
        for _ in 0..self.waiters.len() {
            let Some(waiter) = self.waiters.pop_front() else {
                break;
            };
            let mut end = |timed_out, bounce| {
                done.push(Resumed {
                    key: waiter.key,
                    timed_out,
                    bounce,
                });
            };
            if !alive(waiter.key, waiter.life) {
                guard::discard(waiter.envelope);
            } else if room > 0 {
                room -= 1;
                self.staged.push_back(waiter.envelope);
                end(false, None);
            } else if waiter.until <= now {
                let bounce = returned(waiter.envelope, Refusal::Timeout);
                end(true, hears.then_some(bounce));
            } else {
                self.waiters.push_back(waiter);
            }
        }
        before - room
    }

    pub(super) fn until(&self) -> Option<Time> {
        self.waiters.iter().map(|w| w.until).min()
    }
}
