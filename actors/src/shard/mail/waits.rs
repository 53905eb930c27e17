//! Messages that wait for room, and their cells with them. Bound: one per cell.

use std::any::Any;
use std::time::Duration;

use super::link::Link;
use super::stage::Look;
use super::{Envelope, Mail, Resumed, Sender, address};
use crate::cell::Cell;
use crate::clock::Time;
use crate::exit::Incarnation;
use crate::shard::SlabHandle;

/// Waits of lives that have ended are looked for above this many: a look passes all that wait.
const ORPHANS_MIN: usize = 64;

impl<C: Cell> Mail<C> {
    /// Lets a message, just refused as full, and its cell wait for room; gives it back if that
    /// has one waiting already.
    pub(crate) fn wait<D: Cell>(
        &mut self,
        handle: &SlabHandle<D>,
        by: Sender,
        to: u32,
        message: D::Msg,
        patience: Duration,
    ) -> Result<(), D::Msg> {
        if self.parked || self.waits.is_some() {
            return Err(message);
        }
        let from = by.ordinal;
        let envelope = Envelope { to, from, message };
        if address(handle.board()) == address(&self.board)
            && let Some(own) = (self as &mut dyn Any).downcast_mut::<Mail<D>>()
        {
            own.own.wait(by, patience, envelope, &own.jams);
            self.waits = Some(None);
        } else {
            let Some(index) = self.link(handle) else {
                return Err(envelope.message);
            };
            let link: &mut dyn Any = &mut *self.links[index].1;
            let Some(link) = link.downcast_mut::<Link<D>>() else {
                return Err(envelope.message);
            };
            // What it was refused for may have ended meanwhile, and nobody tells of that.
            self.again |= link.wait(by, patience, envelope);
            self.waits = Some(Some(index));
        }
        self.counts.refused -= 1;
        self.counts.waits += 1;
        self.waiting += 1;
        Ok(())
    }

    /// Ends waits: there is room, or the time is up.
    pub(crate) fn resume(
        &mut self,
        now: Time,
        alive: &mut dyn FnMut(u32, Incarnation) -> bool,
        done: &mut Vec<Resumed>,
    ) {
        let look = &mut Look {
            now,
            hears: C::HEARS_BOUNCES,
            alive,
            done,
        };
        self.again = false;
        if self.orphans > ORPHANS_MIN + self.waiting / 2 {
            self.orphans = 0;
            self.own.sweep(look);
            self.links.iter_mut().for_each(|(_, link)| link.sweep(look));
        }
        let room = self.room();
        self.own.hear_of(&self.jams);
        let mut staged = self.own.resume(room, &self.jams, look);
        self.own.expire(look);
        let mut left = self.own.waiters.len();
        for (_, link) in &mut self.links {
            if link.waiting() > 0 {
                staged += link.resume(look);
                left += link.waiting();
            }
        }
        let ended = look.done.len();
        self.counts.sent += staged as u64;
        self.counts.timeouts += (ended - staged) as u64;
        // The rest were of lives that have ended.
        self.counts.cut += (self.waiting - left - ended) as u64;
        self.waiting = left;
    }

    /// Free places of the local queue.
    fn room(&self) -> usize {
        self.capacity
            .saturating_sub(self.own.staged.len() + self.held)
    }

    /// Whether a message need not wait any more.
    pub(crate) fn can_resume(&self) -> bool {
        let own = || self.own.wants_room() && self.room() > 0;
        self.waiting > 0 && (self.again || self.jams.has_news() || own())
    }

    /// A cell has ended that waited.
    pub(crate) const fn orphan(&mut self) {
        self.orphans += 1;
    }

    /// Messages that wait for room.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// When the first wait ends.
    pub(crate) fn until(&self) -> Option<Time> {
        if self.waiting == 0 {
            return None;
        }
        let links = self.links.iter().filter_map(|(_, link)| link.until());
        links.chain(self.own.waiters.until()).min()
    }
}
