//! How cells of a slab end: faults, kills, stops, escalation; what the supervisor decides; and the
//! notes of their restarts.
//!
//! Every end takes one way through [`Slab::exit`] or the ordered stop: timers and questions
//! cancelled, mailbox kept or booked as died, cell dropped unless the next one is made out of it.
//! A restart is queued, never run from here. Bound: [`NOTES_PER_S_MAX`] notes.

use std::fmt::Write as _;

use super::super::core::Note;
use super::{Group, Moment, RECENT_MAX, Slab, split};
use crate::cell::{Cell, CellDecision, CellExit, GroupMember, Outbox};
use crate::clock::Time;
use crate::events::Level;
use crate::exit::{ExitReason, PANIC};
use crate::fifo::Fifo;
use crate::guard;
use crate::mailbox::OnRestart;
use crate::shard::WHEEL_TICK_NS;
use crate::shard::spec::{CellState, GROUP_SIZE};

/// Notes of one slab a second; a storm is told by its number.
const NOTES_PER_S_MAX: u32 = 16;

/// Least monotonic pause before a group is restarted as one: escalation is the last resort of a
/// policy that has tried single restarts; a group that keeps failing must not keep its shard busy.
const GROUP_RESTART_DELAY_NS: u64 = 1_000_000_000;

/// Key of the one entry that a waiting cell has in the wheel of restarts.
const RESTART: u8 = 0;

impl<C: Cell> Slab<C> {
    /// An incarnation has ended, in whatever way: drop it and do what its supervisor decides.
    /// `starting`: it never ran, so a restart waits for at least a tick instead of spinning.
    pub(super) fn exit(&mut self, key: u32, at: &Moment, reason: ExitReason, starting: bool) {
        let ordinal = self.ordinal(key);
        let in_hand = self.in_hand.take();
        let slot = self.slot(key);
        let incarnation = slot.incarnation;
        let depth = slot.mailbox.as_ref().map_or(0, |ring| ring.len()) as u32;
        self.strip(key, reason.is_normal());
        match &reason {
            ExitReason::Fault(fault) => {
                self.counts.faults += 1;
                self.counts.panics += u64::from(fault.code == PANIC);
            }
            ExitReason::Killed => self.counts.kills += 1,
            _ => {}
        }
        let exit = CellExit {
            ordinal,
            incarnation,
            reason: &reason,
            in_hand,
            depth,
            now: at.monotonic,
        };
        let decision = self.supervisor.exited(&exit);
        let resumes = matches!(decision, CellDecision::Resume { .. }) && is_whole(&reason);
        if !resumes {
            guard::discard(self.slot(key).cell.take());
        }
        match decision {
            CellDecision::Restart { at: when } | CellDecision::Resume { at: when } => {
                let floor = if starting { WHEEL_TICK_NS } else { 0 };
                let when = when.max(Time(at.monotonic.0.saturating_add(floor)));
                self.restart_at(key, when, at);
            }
            CellDecision::Stop => self.rest(key, CellState::Stopped),
            CellDecision::Quarantine => self.rest(key, CellState::Quarantined),
            CellDecision::Escalate => self.restart_group(key, at, &exit),
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((ordinal, reason));
        self.tells_at = self.supervisor.tell(at.monotonic);
        self.changed = true;
    }

    /// Drops a cell with all it has.
    fn lose(&mut self, key: u32, in_order: bool) {
        self.strip(key, in_order);
        guard::discard(self.slot(key).cell.take());
    }

    /// Takes a cell's timers, its questions, its sockets and, by the rule, its mailbox.
    fn strip(&mut self, key: u32, in_order: bool) {
        let ordinal = self.ordinal(key);
        self.net.part_all(key, ordinal, in_order);
        let (group, place) = split(key);
        let slot = &mut self.groups[group].slots[place];
        match slot.state {
            CellState::Restarting => self.restarts.cancel_all(&mut slot.timers),
            _ => self.wheel.cancel_all(&mut slot.timers),
        }
        if std::mem::replace(&mut slot.parked, false) {
            self.mail.orphan();
        }
        self.mail.asks.cancel_all(key);
        if self.mailbox.on_restart == OnRestart::Dropped {
            self.kill_mailbox(key);
        }
    }

    fn kill_mailbox(&mut self, key: u32) {
        let (group, place) = split(key);
        let slot = &mut self.groups[group].slots[place];
        if let Some(ring) = slot.mailbox.as_mut() {
            self.waiting -= ring.len() as u64;
            let dead = ring.die(&mut self.books);
            drop(dead);
            self.release_mailbox(key);
        }
        if !self.held.is_empty() {
            self.refuse_held(key);
        }
    }

    /// A cell whose supervisor unwound when it was asked: it stays down.
    pub(super) fn leave_down(&mut self, key: u32) {
        self.lose(key, false);
        self.rest(key, CellState::Stopped);
    }

    /// The cell is down until somebody restarts it.
    fn rest(&mut self, key: u32, state: CellState) {
        self.kill_mailbox(key);
        self.set_state(key, state);
    }

    fn restart_at(&mut self, key: u32, when: Time, at: &Moment) {
        let (group, place) = split(key);
        let slot = &mut self.groups[group].slots[place];
        if when > at.monotonic {
            self.restarts.set(&mut slot.timers, key, RESTART, when);
        } else {
            self.ready.push_back(key);
        }
        self.set_state(key, CellState::Restarting);
    }

    /// Escalation: every live or restarting cell of the group ends, and gets a new incarnation when
    /// the supervisor allows it. That is asked first: one that unwinds has changed nothing.
    fn restart_group(&mut self, key: u32, at: &Moment, exit: &CellExit<'_>) {
        let (group, _) = split(key);
        let wanted = Time(at.monotonic.0.saturating_add(GROUP_RESTART_DELAY_NS));
        let mut members = self.members(key, wanted);
        self.supervisor.group_restart(exit, &mut members);
        for GroupMember {
            ordinal, at: when, ..
        } in members
        {
            let Some(member) = self.find(ordinal) else {
                continue;
            };
            self.lose(member, false);
            self.restart_at(member, when.max(wanted), at);
        }
        self.counts.group_restarts += 1;
        let number = self.groups[group].first / GROUP_SIZE;
        let text = format!("group {number} is restarted as one");
        if self.may_note() {
            self.note(Level::Error, "group_restarted", key, text);
        }
    }

    /// The cells that are restarted with `failed`, in ordinal order, all of them at `wanted`.
    fn members(&self, failed: u32, wanted: Time) -> Vec<GroupMember> {
        let (group, failed) = split(failed);
        let Group { first, slots } = &self.groups[group];
        let members = slots.iter().enumerate().filter_map(|(place, slot)| {
            let promised = match slot.state {
                _ if place == failed => None,
                CellState::Running => None,
                // one whose time has come waits for its turn
                CellState::Restarting => Some(self.restarts.first(slot.timers).unwrap_or_default()),
                CellState::New | CellState::Stopped | CellState::Quarantined => return None,
            };
            Some(GroupMember {
                ordinal: first + place as u32,
                promised,
                at: wanted,
            })
        });
        members.collect()
    }

    /// Ends a live cell at once; its supervisor decides. False if it is not alive.
    pub(super) fn kill(&mut self, ordinal: u32, at: &Moment) -> bool {
        let Some(key) = self.find(ordinal) else {
            return false;
        };
        if self.slot(key).state != CellState::Running {
            return false;
        }
        self.exit(key, at, ExitReason::Killed, false);
        true
    }

    /// Stops a cell, which stays down: in order, or without its last step. False if it was down for
    /// good already.
    pub(super) fn stop_one(&mut self, ordinal: u32, in_order: bool, at: &Moment) -> bool {
        let Some(key) = self.find(ordinal) else {
            return false;
        };
        match self.slot(key).state {
            CellState::Stopped => return false,
            CellState::Running if in_order => self.last_step(key, at),
            _ => {}
        }
        self.lose(key, in_order);
        self.rest(key, CellState::Stopped);
        true
    }

    /// Gives a cell a new incarnation; a live one is stopped in order first.
    pub(super) fn restart_one(&mut self, ordinal: u32, at: &Moment) -> bool {
        let Some(key) = self.find(ordinal) else {
            return false;
        };
        match self.slot(key).state {
            CellState::New => return true,
            CellState::Running => self.last_step(key, at),
            CellState::Restarting | CellState::Stopped | CellState::Quarantined => {}
        }
        self.supervisor.released(ordinal);
        self.lose(key, true);
        self.restart_at(key, at.monotonic, at);
        true
    }

    /// The end of the slab: what its queues hold is refused, every cell stopped in order, output
    /// flushed.
    pub(super) fn stop_all(&mut self, at: &Moment) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.close_mail();
        for group in 0..self.groups.len() {
            for place in 0..self.groups[group].slots.len() {
                self.stop_one(self.groups[group].first + place as u32, true, at);
            }
        }
        // What last steps have sent within the slab.
        self.close_mail();
        self.send_away();
        self.mail.close();
        self.control = Fifo::new();
        self.run.clear();
        self.ready.clear();
        self.touched = false;
        self.flush_at = None;
        // Twice at most: an outbox may hold back a part for its linger time.
        if self.out.flush(at.monotonic).is_some() {
            self.out.flush(Time::MAX);
        }
        self.changed = true;
    }

    /// A cell is in service again; how it ended is its supervisor's to tell.
    pub(super) fn note_restart(&mut self, key: u32) {
        if !self.may_note() {
            return;
        }
        let ordinal = self.ordinal(key);
        let mut text = format!("incarnation {}", self.slot(key).incarnation);
        if let Some((_, why)) = self.recent.iter().rev().find(|(o, _)| *o == ordinal) {
            let _ = write!(text, " ({why})");
        }
        self.note(Level::Info, "restarted", key, text);
    }

    /// Whether one more may be told in this second; counted if not.
    fn may_note(&mut self) -> bool {
        let may = self.notes_told < NOTES_PER_S_MAX;
        *(if may {
            &mut self.notes_told
        } else {
            &mut self.notes_lost
        }) += 1;
        may
    }

    fn note(&mut self, level: Level, name: &'static str, key: u32, text: String) {
        let path = self.board.path_of(self.ordinal(key));
        self.notes.push(Note {
            level,
            name,
            path,
            text,
        });
    }

    /// With a new second notes are told again, and one line for those that were not.
    pub(super) fn begin_notes(&mut self, at: &Moment) {
        let second = at.monotonic.0 / 1_000_000_000;
        if self.notes_second != second {
            (self.notes_second, self.notes_told) = (second, 0);
            self.tell_lost_notes();
        }
    }

    pub(super) fn tell_lost_notes(&mut self) {
        let lost = std::mem::take(&mut self.notes_lost);
        if lost > 0 {
            let text = format!("{lost} more within a second");
            let path = self.board.path().clone();
            self.notes.push(Note {
                level: Level::Info,
                name: "restarted",
                path,
                text,
            });
        }
    }
}

/// Whether a cell that ended so was between two steps, as it left itself.
fn is_whole(reason: &ExitReason) -> bool {
    match reason {
        ExitReason::Fault(fault) => fault.code != PANIC,
        ExitReason::HostDown => false,
        _ => true,
    }
}
