//! Messages on their way out of a slab: to other slabs, back to their senders, and waits for room;
//! answers to its cells' questions.
//!
//! A bounce goes to the slab that sent, is told in a step of its own, and is counted if nobody
//! hears. Bound: [`RETURNS_MAX`] bounces per sending slab.

use super::super::mail::{Envelope, NOBODY, RETURNS_MAX, Refusal, Returned, returned};
use super::delivery::LOCAL;
use super::{Limits, Moment, Slab, split};
use crate::cell::Cell;
use crate::guard;
use crate::shard::spec::CellState;

impl<C: Cell> Slab<C> {
    /// A message for a cell that is down, or not here.
    pub(super) fn undeliverable(&mut self, place: usize, envelope: Envelope<C::Msg>) {
        self.books.refuse();
        self.counts.undeliverable += 1;
        let why = if self.closed {
            Refusal::Closed
        } else {
            Refusal::Down
        };
        self.bounce(place, envelope, why);
    }

    /// Gives a refused message back to the cell that sent it, if that hears.
    pub(super) fn bounce(&mut self, place: usize, envelope: Envelope<C::Msg>, why: Refusal) {
        if envelope.from == NOBODY {
            guard::discard(envelope);
        } else if place == LOCAL {
            match C::HEARS_BOUNCES {
                true => self.mail.bounce(returned(envelope, why)),
                false => drop(guard::discard(envelope)),
            }
        } else {
            let end = &mut self.lanes[place];
            let hears = end
                .lane
                .origin
                .as_ref()
                .is_some_and(|o| o.returns.is_some());
            if hears && end.back.len() < RETURNS_MAX {
                end.back.push_back(returned(envelope, why));
            } else {
                self.counts.bounces_lost += u64::from(hears);
                guard::discard(envelope);
            }
        }
    }

    /// Whether cells have messages or bounces to take now.
    pub(super) fn has_mail(&self) -> bool {
        self.mail.len() > 0 || !self.mail.returns.is_empty() || self.mail.can_resume()
    }

    /// Sends messages to other slabs, and bounces, on their way.
    pub(super) fn send_away(&mut self) {
        self.mail.flush();
        for end in &mut self.lanes {
            let Some(origin) = end.lane.origin.as_ref().filter(|_| !end.back.is_empty()) else {
                continue;
            };
            let mut edge = false;
            if let Some(returns) = &origin.returns {
                edge = returns.push_many(&mut end.back);
            }
            if edge {
                origin.bell.ring();
            }
            self.counts.bounces_lost += end.back.len() as u64;
            self.changed = true;
            guard::discard(std::mem::take(&mut end.back));
        }
    }

    /// Tells cells of messages that came back.
    pub(super) fn tell_bounces(&mut self, at: &Moment) {
        if !C::HEARS_BOUNCES {
            return;
        }
        self.mail.collect_returns();
        let bounces = &mut self.mail.returns;
        bounces.sort_by_key(|(from, bounce)| (*from, bounce.to));
        // One by one: if a step unwinds, the others are told in the next.
        for _ in 0..bounces.len() {
            if let Some(back) = self.mail.returns.pop_front() {
                self.tell_bounce(at, back);
            }
        }
    }

    fn tell_bounce(&mut self, at: &Moment, (from, bounce): Returned) {
        let key = self.find(from);
        let alive = key.filter(|key| self.slot(*key).state == CellState::Running);
        let Some(key) = alive else {
            self.counts.bounces_lost += 1;
            guard::discard(bounce);
            return;
        };
        self.counts.bounces_told += 1;
        let begun = self.begin_detail();
        let result = self.run_step(key, at, at.now, 0, |cell, cx| cell.bounced(bounce, cx));
        self.end_detail(key, "bounced", begun);
        self.in_hand = result.is_err().then_some("bounced");
        self.settle(key, at, result);
    }

    /// Tells cells the answers to their questions, and that there will be none.
    #[inline(never)] // see `guard::flow`
    pub(super) fn tell_answers(&mut self, at: &Moment) {
        for place in self.mail.asks.ripe(at.monotonic) {
            // Only a live cell has open questions; they end with its life.
            let Some(question) = self.mail.asks.take(place) else {
                continue;
            };
            let (key, _) = place;
            let begun = self.begin_detail();
            let result = self.run_step(key, at, at.now, 0, |cell, cx| question.tell(cell, cx));
            self.end_detail(key, "answered", begun);
            self.in_hand = result.is_err().then_some("answered");
            self.settle(key, at, result);
        }
    }

    /// Ends the waits of parked cells for which there is room, or whose time is up.
    pub(super) fn resume(&mut self, at: &Moment, limits: &Limits) {
        if limits.rounds {
            self.mail.make_roomy();
        }
        if self.mail.waiting() == 0 {
            return;
        }
        let groups = &self.groups;
        let mut done = std::mem::take(&mut self.resumed);
        let mut alive = |key, life| {
            let (group, place) = split(key);
            let slot = &groups[group].slots[place];
            slot.state == CellState::Running && slot.parked && slot.incarnation == life
        };
        let before = self.mail.waiting();
        self.mail.resume(at.monotonic, &mut alive, &mut done);
        self.changed |= self.mail.waiting() != before;
        for end in done.drain(..) {
            let slot = self.slot(end.key);
            slot.parked = false;
            let waits = slot.mailbox.as_ref().is_some_and(|ring| !ring.is_empty());
            if waits && !std::mem::replace(&mut slot.queued, true) {
                self.run.push_back(end.key);
            }
            self.takes_again(end.key);
            if let Some(back) = end.bounce {
                self.mail.bounce(back);
            }
        }
        self.resumed = done;
    }

    /// Puts the counters of what cells send where handles read them.
    pub(super) fn count_mail(&mut self) {
        let mail = &self.mail.counts;
        self.counts.sent = mail.sent;
        self.counts.send_refused = mail.refused;
        self.counts.send_cut = mail.cut;
        self.counts.send_lost = mail.lost;
        self.counts.send_waits = mail.waits;
        self.counts.send_timeouts = mail.timeouts;
        self.counts.bounces_lost += std::mem::take(&mut self.mail.counts.returns_lost);
        let asks = &self.mail.asks;
        self.counts.asks = asks.counts.asked;
        self.counts.asks_refused = asks.counts.refused;
        self.counts.asks_told = asks.counts.told;
        self.counts.asks_timeouts = asks.counts.timeouts;
        self.counts.asks_canceled = asks.counts.canceled;
        self.counts.asks_open = asks.len() as u64;
    }

    /// Refuses what is under way to cells of this slab, and what its own cells would have sent.
    pub(super) fn close_mail(&mut self) {
        for place in 0..self.lanes.len() {
            let rest = self.lanes[place].close();
            let taken = std::mem::take(&mut self.lanes[place].taken);
            for envelope in taken.into_iter().chain(rest) {
                self.undeliverable(place, envelope);
            }
        }
        while let Some(envelope) = self.mail.next() {
            self.undeliverable(LOCAL, envelope);
        }
        // Those of queues that this slab has not been told of yet.
        for mut envelope in self.board.close() {
            envelope.from = NOBODY;
            self.undeliverable(LOCAL, envelope);
        }
    }
}
