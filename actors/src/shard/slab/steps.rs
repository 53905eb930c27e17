//! What runs in a step of a slab: requests, timers, starts, deliveries, messages, flush.
//!
//! Each phase goes on where it was cut short. Bound: the [`Limits`] of the driver, per step.

use super::super::guard;
use super::super::handle::Control;
use super::{AnySlab, LaneEnd, Limits, Moment, POOL_MAX, Slab, split};
use crate::cell::{Cell, CellContext, CellTimers, Outbox};
use crate::clock::Time;
use crate::exit::{ExitReason, Fault, Flow, Incarnation};
use crate::mailbox::{Offered, OnRestart};
use crate::shard::spec::CellState;
use crate::shard::wheel::NIL;

/// Requests taken per step.
pub(in crate::shard) const REQUESTS_PER_STEP: usize = 256;

/// Shortest pause between two flushes that an outbox asks for, in nanoseconds: a wish for "now"
/// must not keep a thread awake.
const FLUSH_PAUSE_MIN_NS: u64 = 100_000;

impl<C: Cell> Slab<C> {
    /// Runs one step of a cell; undoes what it wrote if it faults or unwinds.
    fn run_step(
        &mut self,
        key: u32,
        at: &Moment,
        due: Time,
        run: impl FnOnce(&mut C, &mut CellContext<'_, C>) -> Result<Flow, Fault>,
    ) -> Result<Flow, Fault> {
        let (group, place) = split(key);
        let group = &mut self.groups[group];
        let ordinal = group.first + place as u32;
        let slot = &mut group.slots[place];
        let Some(cell) = slot.cell.as_mut() else {
            return Ok(Flow::Continue);
        };
        let saved = slot.identity;
        let mark = self.out.mark();
        self.touched = true;
        self.changed = true;
        let mut cx = CellContext {
            ordinal,
            incarnation: slot.incarnation,
            now: at.now,
            due,
            unix_us: at.unix_us,
            monotonic: at.monotonic,
            shared: &self.shared,
            identity: &mut slot.identity,
            out: &mut self.out,
            timers: CellTimers {
                wheel: &mut self.wheel,
                head: &mut slot.timers,
                owner: key,
            },
        };
        let result = guard::step(|| run(cell, &mut cx));
        if result.is_err() {
            slot.identity = saved;
            self.out.cut(mark);
        }
        result
    }

    /// Starts the next incarnation of a cell; a fault is an exit asked of the supervisor.
    fn start_cell(&mut self, key: u32, at: &Moment) {
        let ordinal = self.ordinal(key);
        let (group, place) = split(key);
        let slot = &mut self.groups[group].slots[place];
        slot.incarnation = slot.incarnation.next();
        let saved = slot.identity;
        let mark = self.out.mark();
        self.touched = true;
        let mut cx = CellContext {
            ordinal,
            incarnation: slot.incarnation,
            now: at.now,
            due: at.now,
            unix_us: at.unix_us,
            monotonic: at.monotonic,
            shared: &self.shared,
            identity: &mut slot.identity,
            out: &mut self.out,
            timers: CellTimers {
                wheel: &mut self.wheel,
                head: &mut slot.timers,
                owner: key,
            },
        };
        match guard::step(|| C::start(&mut cx)) {
            Ok(cell) => {
                slot.cell = Some(cell);
                let waits = slot.mailbox.as_ref().is_some_and(|ring| !ring.is_empty());
                if waits && !std::mem::replace(&mut slot.queued, true) {
                    self.run.push_back(key);
                }
                if slot.incarnation > Incarnation::FIRST {
                    self.counts.restarts += 1;
                }
                self.set_state(key, CellState::Running);
            }
            Err(fault) => {
                slot.identity = saved;
                self.out.cut(mark);
                self.wheel.cancel_all(&mut slot.timers);
                self.exit(key, at, ExitReason::Fault(fault), true);
            }
        }
    }

    /// What a step returned, turned into an exit where it ends the incarnation.
    fn settle(&mut self, key: u32, at: &Moment, result: Result<Flow, Fault>) {
        match result {
            Ok(Flow::Continue) => {}
            Ok(Flow::Stop) => {
                self.last_step(key, at);
                self.exit(key, at, ExitReason::Normal, false);
            }
            Err(fault) => self.exit(key, at, ExitReason::Fault(fault), false),
        }
    }

    /// The ordered end of a live cell; a fault in it changes nothing.
    pub(super) fn last_step(&mut self, key: u32, at: &Moment) {
        let stopped = self.run_step(key, at, at.now, |cell, cx| {
            cell.stopping(cx);
            Ok(Flow::Stop)
        });
        drop(stopped);
    }

    /// Fires what is due, in ordinal order within a tick. True if some of it is left.
    pub(super) fn fire_timers(&mut self, at: &Moment, limits: &Limits) -> bool {
        if self.due_next == self.due.len() {
            self.due.clear();
            self.due_next = 0;
            self.wheel.advance(at.now, &mut self.due);
        }
        let end = self
            .due
            .len()
            .min(self.due_next.saturating_add(limits.timers));
        for index in self.due_next..end {
            let due = self.due[index];
            let (group, place) = split(due.owner);
            let slot = &mut self.groups[group].slots[place];
            // While it is down the list is of the other wheel; it has no entries here then.
            if slot.state != CellState::Running || !self.wheel.fire(&mut slot.timers, due) {
                continue;
            }
            let late = at.now.0.saturating_sub(due.at.0);
            self.counts.timers_fired += 1;
            self.counts.timers_late += u64::from(late > at.late_ns);
            self.counts.timer_lateness_ns_max = self.counts.timer_lateness_ns_max.max(late);
            let result = self.run_step(due.owner, at, due.at, |cell, cx| cell.timer(due.key, cx));
            self.settle(due.owner, at, result);
        }
        self.due_next = end;
        if end == self.due.len() && self.due.capacity() > 16_384 {
            self.due = Vec::new();
            self.due_next = 0;
        }
        self.due_next < self.due.len()
    }

    /// Starts cells: those whose restart is due, then new ones in ordinal order. True if some are
    /// left.
    pub(super) fn start_cells(&mut self, at: &Moment, limits: &Limits) -> bool {
        let mut due = Vec::new();
        self.restarts.advance(at.monotonic, &mut due);
        for entry in due {
            let (group, place) = split(entry.owner);
            let slot = &mut self.groups[group].slots[place];
            if slot.state == CellState::Restarting && self.restarts.fire(&mut slot.timers, entry) {
                self.ready.push_back(entry.owner);
            }
        }
        // What is made ready from here on (a restart at once) waits for the next step.
        let mut left = limits.starts;
        for _ in 0..self.ready.len().min(left) {
            let Some(key) = self.ready.pop_front() else {
                break;
            };
            let slot = self.slot(key);
            // With a list it has been put off since: its group is restarted later, as one.
            if slot.state == CellState::Restarting && slot.timers == NIL {
                self.start_cell(key, at);
                left -= 1;
            }
        }
        while left > 0 && self.fresh.0 < self.groups.len() {
            let (group, place) = self.fresh;
            if place == self.groups[group].slots.len() {
                self.fresh = (group + 1, 0);
                continue;
            }
            self.fresh = (group, place + 1);
            let key = super::join(group, place);
            if self.slot(key).state == CellState::New {
                self.start_cell(key, at);
                left -= 1;
            }
        }
        self.fresh.0 < self.groups.len()
    }

    /// Moves messages from the pair queues into mailboxes, each queue its share. True if some are
    /// or may be left: a queue that was not drained may hold what has been rung for already.
    pub(super) fn deliver(&mut self, limits: &Limits) -> bool {
        let share = (limits.deliveries / self.lanes.len().max(1)).max(1);
        let mut left = false;
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            if lane.taken.is_empty() {
                lane.queue.drain(&mut lane.taken);
            } else {
                left = true;
            }
            let n = lane.taken.len().min(share);
            if n == 0 {
                continue;
            }
            for _ in 0..n {
                let Some((ordinal, message)) = self.lanes[index].taken.pop_front() else {
                    break;
                };
                self.offer(ordinal, message);
            }
            let lane = &self.lanes[index];
            lane.queue.delivered(n);
            left |= !lane.taken.is_empty();
            self.changed = true;
        }
        left
    }

    /// Offers a message to the mailbox of a cell, which applies its rule.
    fn offer(&mut self, ordinal: u32, message: C::Msg) {
        let Some(key) = self.find(ordinal) else {
            self.books.refuse();
            self.counts.undeliverable += 1;
            guard::discard(message);
            return;
        };
        let kept = self.mailbox.on_restart == OnRestart::Kept;
        let (group, place) = split(key);
        let slot = &mut self.groups[group].slots[place];
        let open = match slot.state {
            CellState::New | CellState::Running => true,
            CellState::Restarting => kept,
            CellState::Stopped | CellState::Quarantined => false,
        };
        if !open {
            self.books.refuse();
            self.counts.undeliverable += 1;
            guard::discard(message);
            return;
        }
        let pool = &mut self.pool;
        let ring = slot
            .mailbox
            .get_or_insert_with(|| pool.pop().unwrap_or_default());
        match ring.offer(&self.mailbox, &mut self.books, message) {
            Ok(Offered::Queued) => self.waiting += 1,
            Ok(Offered::Displaced(message) | Offered::Discarded(message)) => {
                guard::discard(message);
            }
            Err(message) => {
                self.counts.bounced += 1;
                guard::discard(message);
            }
        }
        if slot.state == CellState::Running && !std::mem::replace(&mut slot.queued, true) {
            self.run.push_back(key);
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
        !self.run.is_empty()
    }

    fn visit(&mut self, key: u32, at: &Moment, budget: usize) {
        for _ in 0..budget {
            let slot = self.slot(key);
            if slot.state != CellState::Running {
                break;
            }
            let Some(message) = slot.mailbox.as_mut().and_then(|ring| ring.take()) else {
                break;
            };
            let result = self.run_step(key, at, at.now, |cell, cx| cell.handle(message, cx));
            self.waiting -= 1;
            if result.is_ok() {
                self.books.handled += 1;
                let slot = self.slot(key);
                slot.handled = slot.handled.wrapping_add(1);
            } else {
                self.books.died += 1;
            }
            self.settle(key, at, result);
        }
        let slot = self.slot(key);
        let waits = slot.mailbox.as_ref().is_some_and(|ring| !ring.is_empty());
        slot.queued = waits && slot.state == CellState::Running;
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

    /// Flushes the output if a cell may have written, or if the outbox asked for it by now.
    pub(super) fn flush(&mut self, at: &Moment) {
        if !self.touched && self.flush_at.is_none_or(|t| t > at.monotonic) {
            return;
        }
        self.touched = false;
        let pause = Time(at.monotonic.0.saturating_add(FLUSH_PAUSE_MIN_NS));
        self.flush_at = self.out.flush(at.monotonic).map(|t| t.max(pause));
    }

    /// Does what handles asked for, before everything else. True if requests are or may be left.
    pub(super) fn requests(&mut self, at: &Moment) -> bool {
        let mut left = false;
        if self.control.is_empty() {
            self.board.control().drain(&mut self.control);
        } else {
            left = true;
        }
        let n = self.control.len().min(REQUESTS_PER_STEP);
        for _ in 0..n {
            let Some(request) = self.control.pop_front() else {
                break;
            };
            self.request(request, at);
        }
        if n > 0 {
            self.board.control().delivered(n);
        }
        left || !self.control.is_empty()
    }

    fn request(&mut self, request: Control<C>, at: &Moment) {
        match request {
            Control::Kill(ordinal, reply) => reply.send(self.kill(ordinal, at)),
            Control::Stop(ordinal, reply) => reply.send(self.stop_one(ordinal, at)),
            Control::Restart(ordinal, reply) => reply.send(self.restart_one(ordinal, at)),
            Control::WithOut(run) => {
                self.touched = true;
                // A panic in it drops its reply, which tells the asker.
                let _ = guard::step(|| {
                    run(&mut self.out);
                    Ok(())
                });
            }
            Control::Info(ordinals, reply) => {
                reply.send(ordinals.into_iter().filter_map(|o| self.info(o)).collect());
            }
            Control::Select(state, from, n, reply) => reply.send(self.select(state, from, n)),
            Control::Lane(queue) => {
                // Queues whose last sender is gone make room; the first belongs to the board.
                self.lanes.retain(|lane| {
                    std::sync::Arc::strong_count(&lane.queue) > 2
                        || lane.queue.len() > 0
                        || !lane.taken.is_empty()
                });
                self.lanes.push(LaneEnd {
                    queue,
                    taken: std::collections::VecDeque::new(),
                });
            }
            Control::Close(reply) => {
                AnySlab::stop(self, at);
                reply.send(());
            }
        }
    }
}
