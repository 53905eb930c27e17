//! Messages to cells: from pair queues and the local queue into mailboxes, and handled.
//!
//! A message for a cell that has nothing else to do is handled from its queue without a mailbox.
//! What a full `Block` mailbox has no room for is held aside (`held`). Everything else that is
//! refused bounces. In virtual time there are
//! rounds: what is sent in one is delivered in the next, in the order of its senders. Bound: the
//! [`Limits`] of the driver; the pair queues.

use super::super::inbox::Door;
use super::super::mail::{Envelope, Mail, Refusal};
use super::{Limits, Moment, POOL_MAX, Slab, split};
use crate::cell::{Cell, CellContext};
use crate::exit::Flow;
use crate::fifo::Fifo;
use crate::guard;
use crate::mailbox::{Conflation, Message, Offered, OnRestart, Overflow};
use crate::shard::spec::CellState;

/// Place of the local queue, which is no lane.
pub(super) const LOCAL: usize = usize::MAX;

impl<C: Cell> Slab<C> {
    /// Moves messages from the pair queues into mailboxes, each queue its share. True if some are
    /// left.
    pub(super) fn deliver(&mut self, at: &Moment, limits: &Limits) -> bool {
        for lane in &mut self.lanes {
            if lane.taken.is_empty() {
                lane.lane.queue.drain(&mut lane.taken);
            }
        }
        if limits.rounds {
            self.deliver_round();
            self.settle_lanes();
            return false;
        }
        let filled = self.lanes.iter().filter(|lane| !lane.taken.is_empty());
        let share = (limits.deliveries / filled.count().max(1)).max(1);
        let mut left = false;
        for place in 0..self.lanes.len() {
            if !self.lanes[place].taken.is_empty() {
                self.deliver_lane(place, share, at, limits.budget);
            }
            let end = &mut self.lanes[place];
            if end.taken.is_empty() {
                // Where something was left by an earlier step, what has been pushed since rang a
                // bell that has been answered by now.
                end.lane.queue.drain(&mut end.taken);
            }
            left |= !end.taken.is_empty();
        }
        self.settle_lanes();
        left
    }

    /// Delivers up to `share` messages of one pair queue: those for a cell that has nothing else to
    /// do are handled from there, a budget of them in a row and as many as there are if nobody else
    /// waits; the rest goes into mailboxes.
    #[inline(never)] // see `guard::flow`
    fn deliver_lane(&mut self, place: usize, share: usize, at: &Moment, budget: usize) {
        self.delivering = Some(place);
        std::mem::swap(&mut self.mail.inbound, &mut self.lanes[place].taken);
        let (mut last, mut turn) = (None, 0);
        // Whether all that is left is for one cell: found out once, when one has had its turn.
        let mut alone = None;
        for _ in 0..share {
            let Some(to) = self.mail.inbound.front().map(|envelope| envelope.to) else {
                break;
            };
            turn = if last == Some(to) { turn + 1 } else { 0 };
            last = Some(to);
            if turn == budget
                && *alone.get_or_insert_with(|| self.is_alone(place, to, share))
                && self.run.is_empty()
            {
                turn = 0;
            }
            match self.idle(to) {
                Some(key) if turn < budget => {
                    self.handle_at_once(key, at, |mail| mail.inbound.pop_front());
                    self.lanes[place].settled += 1;
                }
                _ => {
                    if let Some(envelope) = self.mail.inbound.pop_front() {
                        self.offer(place, envelope);
                    }
                }
            }
            // Room is told of in bulk, while there is still work: its sender goes on meanwhile.
            if self.lanes[place].settled >= self.lanes[place].bulk {
                self.settle_lane(place, Door::ring_at_once);
            }
        }
        std::mem::swap(&mut self.mail.inbound, &mut self.lanes[place].taken);
        self.delivering = None;
    }

    /// Whether the next messages of this queue are all for one cell, and no other queue has any.
    fn is_alone(&self, place: usize, to: u32, share: usize) -> bool {
        let mut lanes = self.lanes.iter().enumerate();
        lanes.all(|(other, lane)| other == place || lane.taken.is_empty())
            && self.mail.inbound.iter().take(share).all(|e| e.to == to)
    }

    /// Key of a cell that can handle a message at once: none waits before it.
    #[inline]
    fn idle(&self, to: u32) -> Option<u32> {
        let key = self.find(to)?;
        let (group, place) = split(key);
        let slot = &self.groups[group].slots[place];
        let idle = slot.state == CellState::Running && slot.mailbox.is_none() && !slot.parked;
        // What arrives together is merged before it is handled.
        (idle && self.mailbox.conflation == Conflation::Off).then_some(key)
    }

    /// Handles a message that never was in a mailbox. Taken in the step itself: a message moved
    /// through it is a message copied.
    #[inline]
    fn handle_at_once(
        &mut self,
        key: u32,
        at: &Moment,
        take: impl FnOnce(&mut Mail<C>) -> Option<Envelope<C::Msg>>,
    ) {
        self.books.offered += 1;
        self.books.accepted += 1;
        self.handle(key, at, |cx| take(cx.mail).map(|envelope| envelope.message));
    }

    /// Delivers all that waits, ordered by sender: population, then ordinal, then as it was sent.
    fn deliver_round(&mut self) {
        let mut round = Vec::new();
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            let rank = lane.lane.origin.as_ref().map_or(0, |origin| origin.rank);
            round.extend(lane.taken.drain().map(|e| (rank, place, e)));
        }
        let rank = self.mail.rank();
        while let Some(envelope) = self.mail.next() {
            round.push((rank, LOCAL, envelope));
        }
        round.sort_by_key(|(rank, _, envelope)| (*rank, envelope.from));
        for (_, place, envelope) in Fifo::from(round) {
            self.offer(place, envelope);
        }
    }

    /// Tells the pair queues what has been delivered, and waiting senders of room.
    fn settle_lanes(&mut self) {
        for place in 0..self.lanes.len() {
            if self.lanes[place].settled > 0 {
                self.settle_lane(place, Door::ring);
            }
        }
    }

    fn settle_lane(&mut self, place: usize, ring: fn(&Door)) {
        let end = &mut self.lanes[place];
        self.changed = true;
        if end.lane.queue.delivered(std::mem::take(&mut end.settled)) {
            end.lane.tell_of_room(ring);
        }
    }

    pub(super) fn settled(&mut self, place: usize) {
        if place != LOCAL {
            self.lanes[place].settled += 1;
        }
    }

    /// Offers a message to the mailbox of a cell, which applies its rule.
    fn offer(&mut self, place: usize, envelope: Envelope<C::Msg>) {
        self.changed = true;
        let Some(key) = self.find(envelope.to) else {
            self.settled(place);
            self.undeliverable(place, envelope);
            return;
        };
        if !self.is_open(key) {
            self.settled(place);
            self.undeliverable(place, envelope);
            return;
        }
        if self.mailbox.overflow == Overflow::Block {
            let capacity = self.mailbox.capacity as usize;
            let ring = self.slot(key).mailbox.as_ref();
            if ring.is_some_and(|ring| ring.work_len() >= capacity) {
                let Some(envelope) = self.merge(key, envelope) else {
                    self.settled(place);
                    return;
                };
                self.hold(place, key, envelope);
                return;
            }
        }
        self.settled(place);
        self.put(place, key, envelope);
    }

    fn is_open(&mut self, key: u32) -> bool {
        let kept = self.mailbox.on_restart == OnRestart::Kept;
        match self.slot(key).state {
            CellState::New | CellState::Running => true,
            CellState::Restarting => kept,
            CellState::Stopped | CellState::Quarantined => false,
        }
    }

    pub(super) fn put(&mut self, place: usize, key: u32, envelope: Envelope<C::Msg>) {
        let (group, at) = split(key);
        let slot = &mut self.groups[group].slots[at];
        let pool = &mut self.pool;
        let ring = slot
            .mailbox
            .get_or_insert_with(|| pool.pop().unwrap_or_default());
        let Envelope { to, from, message } = envelope;
        match ring.offer(&self.mailbox, &mut self.books, message) {
            Ok(Offered::Queued) => self.waiting += 1,
            Ok(Offered::Displaced(message) | Offered::Discarded(message)) => {
                guard::discard(message);
            }
            Ok(Offered::Merged(replaced)) => drop(guard::discard(replaced)),
            Ok(Offered::Broken) => {}
            Err(message) => {
                self.counts.bounced += 1;
                self.bounce(place, Envelope { to, from, message }, Refusal::Full);
            }
        }
        let slot = self.slot(key);
        if slot.state == CellState::Running
            && !slot.parked
            && !std::mem::replace(&mut slot.queued, true)
        {
            self.run.push_back(key);
        }
    }

    /// Merges a message with one that waits in a full mailbox, and gives it back if there is none
    /// or if it would overtake one that is held.
    fn merge(&mut self, key: u32, envelope: Envelope<C::Msg>) -> Option<Envelope<C::Msg>> {
        let (group, at) = split(key);
        let ring = self.groups[group].slots[at].mailbox.as_mut();
        let Some(ring) = ring.filter(|_| {
            self.mailbox.conflation != Conflation::Off && !self.held.contains_key(&key)
        }) else {
            return Some(envelope);
        };
        let Envelope { to, from, message } = envelope;
        match ring.merge(&self.mailbox, &mut self.books, message) {
            Ok(Offered::Merged(Some(replaced))) => {
                guard::discard(replaced);
                None
            }
            Ok(_) => None,
            Err((message, _)) => Some(Envelope { to, from, message }),
        }
    }

    /// Visits cells that have messages, each for its budget, then the next. True if some are left.
    pub(super) fn run_cells(&mut self, at: &Moment, limits: &Limits) -> bool {
        let mut visits = limits.visits;
        while visits > 0 {
            let Some(key) = self.run.pop_front() else {
                break;
            };
            self.visit(key, at, limits.budget);
            visits -= 1;
        }
        self.settle_lanes();
        !self.run.is_empty()
    }

    /// Handles messages between cells of this slab. True if some are left.
    #[inline(never)] // see `guard::flow`
    pub(super) fn run_local(&mut self, at: &Moment, limits: &Limits) -> bool {
        if limits.rounds {
            return false;
        }
        // A cell that gets more than its budget in a row takes the rest from its mailbox, in turn.
        let (mut last, mut turn) = (None, 0);
        let mut generation = 0;
        for _ in 0..limits.deliveries {
            if generation == 0 {
                generation = self.mail.len();
                self.send_ahead(limits);
            }
            generation = generation.saturating_sub(1);
            let Some(to) = self.mail.next_to() else {
                self.mail.tidy();
                break;
            };
            turn = if last == Some(to) { turn + 1 } else { 0 };
            last = Some(to);
            match self.idle(to) {
                Some(key) if turn < limits.budget => self.handle_at_once(key, at, Mail::next),
                _ => {
                    if let Some(envelope) = self.mail.next() {
                        self.offer(LOCAL, envelope);
                    }
                }
            }
        }
        self.mail.len() > 0 || !self.run.is_empty()
    }

    /// Sends messages to other slabs on their way now if there is more to do here: they do not
    /// wait for what has nothing to do with them.
    #[inline]
    pub(super) fn send_ahead(&mut self, limits: &Limits) {
        if !limits.rounds && (self.mail.len() > 0 || !self.run.is_empty()) {
            self.mail.send_ahead();
        }
    }

    /// One message, taken from its mailbox or never put there.
    #[inline]
    fn handle(
        &mut self,
        key: u32,
        at: &Moment,
        take: impl FnOnce(&mut CellContext<'_, C>) -> Option<C::Msg>,
    ) {
        let mut kind = "";
        let begun = self.begin_detail();
        let result = self.run_step(key, at, at.now, 1, |cell, cx| match take(cx) {
            Some(message) => {
                kind = message.kind();
                cell.handle(message, cx)
            }
            None => Ok(Flow::Continue),
        });
        self.end_detail(key, kind, begun);
        if result.is_ok() {
            self.books.handled += 1;
        } else {
            self.books.died += 1;
            self.in_hand = Some(kind);
        }
        self.settle(key, at, result);
    }

    #[inline(never)] // see `guard::flow`
    fn visit(&mut self, key: u32, at: &Moment, budget: usize) {
        for _ in 0..budget {
            let slot = self.slot(key);
            if slot.state != CellState::Running || slot.parked {
                break;
            }
            let mut message = slot.mailbox.as_mut().and_then(|ring| ring.take());
            if message.is_none() {
                break;
            }
            self.waiting -= 1;
            self.handle(key, at, |_| message.take());
        }
        if !self.held.is_empty() {
            self.refill(key);
        }
        let slot = self.slot(key);
        let waits = slot.mailbox.as_ref().is_some_and(|ring| !ring.is_empty());
        slot.queued = waits && !slot.parked && slot.state == CellState::Running;
        if slot.queued {
            self.run.push_back(key);
        } else if !waits {
            self.release_mailbox(key);
        }
    }

    /// Takes an empty mailbox from its slot.
    pub(super) fn release_mailbox(&mut self, key: u32) {
        if let Some(ring) = self.slot(key).mailbox.take()
            && self.pool.len() < POOL_MAX
        {
            self.pool.push(ring);
        }
    }
}
