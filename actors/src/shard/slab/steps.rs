//! What runs in a step of a slab: requests, timers, starts, flush; messages are in `delivery`.
//!
//! Each phase goes on where it was cut short. Bound: the [`Limits`] of the driver, per step.

use std::collections::VecDeque;

use super::super::core::Tally;
use super::super::handle::Control;
use super::super::moving::{Departure, MigrateError};
use super::lanes::LaneEnd;
use super::{AnySlab, Limits, Moment, Slab, split};
use crate::cell::{Cell, CellContext, CellTimers, Outbox};
use crate::clock::Time;
use crate::exit::{ExitReason, Fault, Flow, Incarnation, PANIC};
use crate::guard::{self, Faulted};
use crate::shard::spec::CellState;
use crate::shard::wheel::{Due, NIL};

/// Requests taken per step.
pub(in crate::shard) const REQUESTS_PER_STEP: usize = 256;

/// What a fault costs in timer steps: unwinding, a supervisor's decision, a report. A panic takes
/// some 2 us, a plain step well under 100 ns.
const FAULT_COST: usize = 32;

/// Shortest pause between two flushes that an outbox asks for, in nanoseconds: a wish for "now"
/// must not keep a thread awake.
const FLUSH_PAUSE_MIN_NS: u64 = 100_000;

impl<C: Cell> Slab<C> {
    /// Runs one step of a cell that takes this many messages (one or none); undoes what it wrote if
    /// it faults or unwinds.
    #[inline]
    pub(super) fn run_step(
        &mut self,
        key: u32,
        at: &Moment,
        due: Time,
        messages: u32,
        run: impl FnOnce(&mut C, &mut CellContext<'_, C>) -> Result<Flow, Fault>,
    ) -> Result<Flow, Faulted> {
        let (group, place) = split(key);
        let group = &mut self.groups[group];
        let ordinal = group.first + place as u32;
        let slot = &mut group.slots[place];
        let Some(cell) = slot.cell.as_mut() else {
            return Ok(Flow::Continue);
        };
        let saved = slot.identity;
        let mark = self.out.mark();
        let mail = self.mail.mark(slot.parked);
        self.touched = true;
        self.changed = true;
        let mut cx = CellContext {
            ordinal,
            incarnation: slot.incarnation,
            now: at.now,
            due,
            missed: 0,
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
            mail: &mut self.mail,
            net: self.net.seat(),
        };
        let result = guard::flow(&mut self.fault, || run(cell, &mut cx));
        if result.is_err() {
            let net = cx.net.mark;
            slot.identity = saved;
            self.mail.cut(mail);
            self.net.cut(net);
            self.out.cut(mark);
            return result;
        }
        slot.handled = slot.handled.wrapping_add(messages);
        if self.mail.keep() {
            slot.parked = true;
        }
        result
    }

    /// When a step begins, if anybody wants to know.
    #[inline]
    pub(super) fn begin_detail(&self) -> Option<Time> {
        self.detail.as_ref().map(|detail| detail.now())
    }

    /// The step that began then has ended.
    #[inline]
    pub(super) fn end_detail(&mut self, key: u32, kind: &'static str, begun: Option<Time>) {
        if let (Some(begun), Some(detail)) = (begun, &mut self.detail) {
            detail.record(key, kind, begun);
        }
    }

    /// Starts the next incarnation of a cell; a fault is an exit asked of the supervisor.
    fn start_cell(&mut self, key: u32, at: &Moment) {
        let ordinal = self.ordinal(key);
        let (group, place) = split(key);
        let slot = &mut self.groups[group].slots[place];
        slot.incarnation = slot.incarnation.next();
        let former = slot.cell.take();
        let saved = slot.identity;
        let mark = self.out.mark();
        let mail = self.mail.mark(false);
        self.touched = true;
        let mut cx = CellContext {
            ordinal,
            incarnation: slot.incarnation,
            now: at.now,
            due: at.now,
            missed: 0,
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
            mail: &mut self.mail,
            net: self.net.seat(),
        };
        let begin = || match former {
            Some(former) => former.resume(&mut cx),
            None => C::start(&mut cx),
        };
        match guard::step(begin) {
            Ok(cell) => {
                slot.cell = Some(cell);
                slot.parked = self.mail.keep();
                let waits = slot.mailbox.as_ref().is_some_and(|ring| !ring.is_empty());
                if waits && !slot.parked && !std::mem::replace(&mut slot.queued, true) {
                    self.run.push_back(key);
                }
                let again = slot.incarnation > Incarnation::FIRST;
                self.set_state(key, CellState::Running);
                if !self.slot(key).parked {
                    self.takes_again(key);
                }
                if again {
                    self.counts.restarts += 1;
                    self.note_restart(key);
                }
            }
            Err(fault) => {
                let net = cx.net.mark;
                slot.identity = saved;
                self.mail.cut(mail);
                self.net.cut(net);
                self.out.cut(mark);
                self.wheel.cancel_all(&mut slot.timers);
                self.in_hand = Some("start");
                self.exit(key, at, ExitReason::Fault(fault), true);
            }
        }
    }

    /// What a step returned, turned into an exit where it ends the incarnation.
    #[inline]
    pub(super) fn settle(&mut self, key: u32, at: &Moment, result: Result<Flow, Faulted>) {
        if result != Ok(Flow::Continue) {
            self.ended(key, at, result);
        }
    }

    #[cold]
    fn ended(&mut self, key: u32, at: &Moment, result: Result<Flow, Faulted>) {
        match result {
            Ok(Flow::Continue) => {}
            Ok(Flow::Stop) => {
                self.last_step(key, at);
                self.exit(key, at, ExitReason::Normal, false);
            }
            Err(Faulted) => {
                let fault = self.fault.take().unwrap_or(Fault::new(PANIC));
                self.exit(key, at, ExitReason::Fault(fault), false);
            }
        }
    }

    /// The ordered end of a live cell; a fault in it changes nothing.
    pub(super) fn last_step(&mut self, key: u32, at: &Moment) {
        let stopped = self.run_step(key, at, at.now, 0, |cell, cx| {
            cell.stopping(cx);
            Ok(Flow::Stop)
        });
        if stopped.is_err() {
            self.fault = None;
        }
    }

    /// Fires what is due, in ordinal order within a tick. True if some of it is left.
    ///
    /// What a step leaves because of faults is late from then on, and shares the next steps with
    /// what is due by then: a storm makes nobody else late. What it leaves because there is much to
    /// do is first in the next: a step that took long puts nobody behind the storm. A cell's own
    /// timers never overtake each other.
    #[inline(never)] // see `guard::flow`
    pub(super) fn fire_timers(&mut self, at: &Moment, limits: &Limits, tally: &mut Tally) -> bool {
        let due = &mut self.newly_due;
        self.wheel.advance(at.now, due);
        self.due.extend(due.drain(..));
        if !self.due.is_empty() || !self.late.is_empty() {
            tally.look(at);
        }
        let mut left = limits.timers;
        let for_late = if self.late.is_empty() { 0 } else { left / 2 };
        let (for_due, mut for_faults) = (left - for_late, 0);
        while left > for_late
            && let Some(due) = self.due.pop_front()
        {
            let cost = if self.follows_late(&due) {
                self.late.push_back(due);
                1
            } else {
                self.fire(due, at, tally)
            };
            for_faults += if cost == FAULT_COST { cost } else { 0 };
            left = left.saturating_sub(cost);
        }
        if for_faults > for_due / 2 {
            self.late.append(&mut self.due);
        }
        while left > 0
            && let Some(due) = self.late.pop_front()
        {
            let cost = self.fire(due, at, tally);
            left = left.saturating_sub(cost);
        }
        /// Slots kept: the timers of a step.
        const KEPT_SLOTS: usize = 16_384;
        let idle = self.late.is_empty() && self.due.is_empty();
        if idle && self.due.capacity().max(self.late.capacity()) > KEPT_SLOTS {
            self.due = VecDeque::new();
            self.late = VecDeque::new();
            self.newly_due = Vec::new();
        }
        !idle
    }

    /// Whether an earlier timer of the same cell is among the late ones.
    #[inline]
    fn follows_late(&self, due: &Due) -> bool {
        if self.late.is_empty() {
            return false;
        }
        let (group, place) = split(due.owner);
        let slot = &self.groups[group].slots[place];
        slot.state == CellState::Running && self.wheel.has_earlier_due(slot.timers, due)
    }

    /// Fires one timer, if it still stands. Returns what that costs, in plain steps.
    fn fire(&mut self, due: Due, at: &Moment, tally: &mut Tally) -> usize {
        let (group, place) = split(due.owner);
        let slot = &mut self.groups[group].slots[place];
        // While it is down the list is of the other wheel; it has no entries here then.
        if slot.state != CellState::Running {
            return 1;
        }
        let fired = self
            .wheel
            .fire(&mut slot.timers, due, at.now, &mut self.due);
        let Some(missed) = fired else {
            return 1;
        };
        let late = tally.fired(due.at, at);
        self.counts.timers_fired += 1;
        self.counts.timers_late += u64::from(late > at.late_ns);
        self.counts.timer_lateness_ns_max = self.counts.timer_lateness_ns_max.max(late);
        self.counts.ticks_missed += missed;
        tally.ticks_missed += missed;
        let begun = self.begin_detail();
        let result = self.run_step(due.owner, at, due.at, 0, |cell, cx| {
            cx.missed = missed;
            cell.timer(due.key, cx)
        });
        self.end_detail(due.owner, "timer", begun);
        let faulted = result.is_err();
        self.in_hand = faulted.then_some("timer");
        self.settle(due.owner, at, result);
        if faulted { FAULT_COST } else { 1 }
    }

    /// Starts cells: those whose restart is due, then new ones in ordinal order. True if some are
    /// left.
    pub(super) fn start_cells(&mut self, at: &Moment, limits: &Limits) -> bool {
        let mut due = Vec::new();
        self.restarts.advance(at.monotonic, &mut due);
        for entry in due {
            let (group, place) = split(entry.owner);
            let slot = &mut self.groups[group].slots[place];
            if slot.state != CellState::Restarting {
                continue;
            }
            let fired = self
                .restarts
                .fire(&mut slot.timers, entry, at.monotonic, &mut Vec::new());
            if fired.is_some() {
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

    /// Flushes the output if a cell may have written, or if the outbox asked for it by now.
    pub(super) fn flush(&mut self, at: &Moment) {
        if !self.touched && self.flush_at.is_none_or(|t| t > at.monotonic) {
            return;
        }
        self.touched = false;
        let pause = Time(at.monotonic.0.saturating_add(FLUSH_PAUSE_MIN_NS));
        self.flush_at = self.out.flush(at.monotonic).map(|t| t.max(pause));
    }

    /// Does what handles asked for, before everything else.
    pub(super) fn requests(&mut self, at: &Moment) {
        if self.control.is_empty() {
            self.board.control().drain(&mut self.control);
        }
        let n = self.control.len().min(REQUESTS_PER_STEP);
        for _ in 0..n {
            let Some(request) = self.control.pop_front() else {
                break;
            };
            // Its place is free whatever becomes of it: it may unwind.
            self.board.control().delivered(1);
            self.request(request, at);
        }
        if self.control.is_empty() && !self.closed {
            // What was pushed meanwhile rang a bell that has been answered by now.
            self.board.control().drain(&mut self.control);
        }
    }

    fn request(&mut self, request: Control<C>, at: &Moment) {
        match request {
            Control::Kill(ordinal, reply) => reply.send(self.kill(ordinal, at)),
            Control::Stop(ordinal, reply) => reply.send(self.stop_one(ordinal, true, at)),
            Control::StopMany(ordinals, in_order, reply) => {
                let stopped = ordinals
                    .into_iter()
                    .filter(|o| self.stop_one(*o, in_order, at));
                reply.send(stopped.count() as u64);
            }
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
            Control::Detail(reply) => {
                let detail = self.detail.as_ref();
                reply.send(detail.map(|detail| detail.tell(|key| self.ordinal(key))));
            }
            Control::Migrate(to, reply) => {
                let again = self.departure.replace(Departure { to, reply });
                if let Some(former) = again {
                    former.reply.send(Err(MigrateError::Busy));
                }
            }
            Control::Lane(lane) => {
                // Its sender may have looked for this slab where it was before it moved here.
                lane.queue.sync();
                // The first belongs to the board.
                let mut ends = self.lanes.iter_mut().skip(1);
                match ends.find(|end| end.is_done()) {
                    Some(end) => *end = LaneEnd::new(lane),
                    None => self.lanes.push(LaneEnd::new(lane)),
                }
            }
            Control::Close(reply) => {
                AnySlab::stop(self, at);
                reply.send(());
            }
        }
    }
}
