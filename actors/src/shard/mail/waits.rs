//! Messages that wait for room, and their cells with them. Bound: one per cell.

use std::any::Any;
use std::time::Duration;

use super::link::Link;
use super::{Envelope, Mail, Resumed, Sender, address};
use crate::cell::Cell;
use crate::clock::Time;
use crate::exit::Incarnation;
use crate::shard::SlabHandle;

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
            own.own.wait(by, patience, envelope);
            self.waits = Some(None);
        } else {
            let Some(index) = self.link(handle) else {
                return Err(envelope.message);
            };
            let link: &mut dyn Any = &mut *self.links[index].1;
            let Some(link) = link.downcast_mut::<Link<D>>() else {
                return Err(envelope.message);
            };
            link.wait(by, patience, envelope);
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
        let hears = C::HEARS_BOUNCES;
        let room = self.capacity - (self.own.staged.len() + self.held).min(self.capacity);
        let mut staged = self.own.resume(room, now, hears, alive, done);
        let mut left = self.own.waiters.len();
        for (_, link) in &mut self.links {
            staged += link.resume(now, hears, alive, done);
            left += link.waiting();
        }
        self.counts.sent += staged as u64;
        self.counts.timeouts += done.iter().filter(|end| end.timed_out).count() as u64;
        // The rest were of lives that have ended.
        self.counts.cut += (self.waiting - left - done.len()) as u64;
        self.waiting = left;
    }

    /// Whether a message of the local queue need not wait any more.
    pub(crate) fn can_resume(&self) -> bool {
        !self.own.waiters.is_empty() && self.own.staged.len() + self.held < self.capacity
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
        links.chain(self.own.until()).min()
    }
}
