//! Messages that a full `Block` mailbox has no room for: held aside until it has.
//!
//! A cell that is stuck, waiting or on its way back to life, must not hold up the others to which
//! the same sender sends. So what is held gives its place in the pair queue back, and when enough
//! is held for a cell, its senders are told ([`Jams`](super::super::mail::Jams)): what they send it
//! from then on waits with them. What was under way by then is held, too. In virtual time a pair
//! has room for everything, and nobody is told anything: that would depend on threads. Bounds:
//! [`HELD_MAX`] per cell and what is under way; [`ASIDE_MAX`] pair queues' worth per pair, above
//! which what is held keeps its place there.

use super::super::mail::{Envelope, LOCAL_CAPACITY};
use super::delivery::LOCAL;
use super::{Slab, split};
use crate::cell::Cell;
use crate::fifo::Fifo;
use crate::shard::spec::CellState;

/// Messages held for one cell before its senders are told: so many that a busy one is not told of
/// for each burst. A fourth of the pair queue, where that is less; one, for a cell that takes none.
const HELD_MAX: usize = 1_024;

/// How often over a pair queue may be held without counting in it: as many stuck cells may be hit
/// by the longest burst at once.
const ASIDE_MAX: usize = 4;

/// What is held for one cell, in the order in which it came.
pub(super) struct Backlog<M> {
    held: Fifo<Held<M>>,
    /// Places of the lanes that have been told of it.
    jammed: Vec<usize>,
}

struct Held<M> {
    place: usize,
    /// Whether it has given back its place in the queue it came from.
    aside: bool,
    envelope: Envelope<M>,
}

impl<M> Default for Backlog<M> {
    fn default() -> Self {
        Self {
            held: Fifo::new(),
            jammed: Vec::new(),
        }
    }
}

impl<M> Backlog<M> {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Of that lane, those that keep their places.
    pub(super) fn counted(&self, place: usize) -> usize {
        let counted = |held: &&Held<M>| held.place == place && !held.aside;
        self.held.iter().filter(counted).count()
    }
}

impl<C: Cell> Slab<C> {
    /// Holds a message for a cell whose mailbox is full.
    #[cold]
    pub(super) fn hold(&mut self, place: usize, key: u32, envelope: Envelope<C::Msg>) {
        let to = envelope.to;
        let aside = self.set_aside(place);
        let takes = {
            let slot = self.slot(key);
            slot.state == CellState::Running && !slot.parked
        };
        let most = if takes { self.held_max(place) } else { 1 };
        self.counts.held += 1;
        let backlog = self.held.entry(key).or_default();
        backlog.held.push_back(Held {
            place,
            aside,
            envelope,
        });
        let tell = backlog.held.len() >= most && !backlog.jammed.contains(&place);
        if !tell || self.mail.is_roomy() {
            return;
        }
        backlog.jammed.push(place);
        match place {
            LOCAL => self.mail.jams.jam(to),
            _ => self.lanes[place].lane.jams.jam(to),
        }
    }

    /// Gives back the place of a message in the queue it came from, if it may.
    fn set_aside(&mut self, place: usize) -> bool {
        let most = ASIDE_MAX * self.capacity_of(place);
        if place == LOCAL {
            let aside = self.mail.aside < most && !self.mail.is_roomy();
            *(match aside {
                true => &mut self.mail.aside,
                false => &mut self.mail.held,
            }) += 1;
            return aside;
        }
        let aside = self.lanes[place].aside < most && !self.mail.is_roomy();
        if aside {
            self.lanes[place].aside += 1;
            self.settled(place);
        }
        aside
    }

    fn capacity_of(&self, place: usize) -> usize {
        match place {
            LOCAL => LOCAL_CAPACITY,
            _ => self.lanes[place].lane.queue.capacity(),
        }
    }

    fn held_max(&self, place: usize) -> usize {
        (self.capacity_of(place) / 4).clamp(1, HELD_MAX)
    }

    /// Moves held messages into a mailbox that has room again.
    pub(super) fn refill(&mut self, key: u32) {
        if !self.held.contains_key(&key) {
            return;
        }
        let capacity = self.mailbox.capacity as usize;
        let (group, at) = split(key);
        while self.groups[group].slots[at]
            .mailbox
            .as_ref()
            .is_none_or(|ring| ring.work_len() < capacity)
        {
            let next = self.held.get_mut(&key).and_then(|b| b.held.pop_front());
            let Some(Held {
                place,
                aside,
                envelope,
            }) = next
            else {
                break;
            };
            self.unhold(place, aside);
            self.put(place, key, envelope);
        }
        self.clear_jams(key);
    }

    /// A cell that took none goes on: its senders, itself among them, wait for it no more unless
    /// too much is held for one that does.
    #[inline]
    pub(super) fn takes_again(&mut self, key: u32) {
        if !self.held.is_empty() {
            self.clear_jams(key);
        }
    }

    /// Tells senders that a cell takes messages again, when half of what is too much is left.
    fn clear_jams(&mut self, key: u32) {
        let Some(backlog) = self.held.get_mut(&key) else {
            return;
        };
        let left = backlog.held.len();
        let mut jammed = std::mem::take(&mut backlog.jammed);
        if left == 0 {
            self.held.remove(&key);
        }
        let to = self.ordinal(key);
        jammed.retain(|place| {
            let stays = left > self.held_max(*place) / 2;
            if !stays {
                self.clear_jam(*place, to);
            }
            stays
        });
        if let Some(backlog) = self.held.get_mut(&key) {
            backlog.jammed = jammed;
        }
    }

    fn clear_jam(&self, place: usize, to: u32) {
        match place {
            LOCAL => drop(self.mail.jams.clear(to, true)),
            _ => self.lanes[place].lane.clear(to),
        }
    }

    fn unhold(&mut self, place: usize, aside: bool) {
        self.counts.held -= 1;
        match (place, aside) {
            (LOCAL, true) => self.mail.aside -= 1,
            (LOCAL, false) => self.mail.held -= 1,
            (_, true) => self.lanes[place].aside -= 1,
            (_, false) => self.settled(place),
        }
    }

    /// Refuses what is held for a cell that is down.
    pub(super) fn refuse_held(&mut self, key: u32) {
        let Some(backlog) = self.held.remove(&key) else {
            return;
        };
        let to = self.ordinal(key);
        for place in backlog.jammed {
            self.clear_jam(place, to);
        }
        for held in backlog.held {
            self.unhold(held.place, held.aside);
            self.undeliverable(held.place, held.envelope);
        }
    }
}
