//! A slab whose step has unwound outside of its cells' steps: in its supervisor, its output, or
//! here; and one whose thread dies.
//!
//! Only this slab goes down; its shard goes on. Its cells exit with `host_down` and their
//! supervisor decides, so they come back with their identities, on the same queues: what is under
//! way to them is not lost. A supervisor that unwinds again is not asked a third time: that cell
//! stays down. Bound: [`DOWNS_MAX`] times in [`DOWNS_TIME`]; a slab that goes down once more is
//! closed for good: its owner makes another one.

use std::time::Duration;

use super::super::core::Note;
use super::{Moment, Slab, join};
use crate::cell::Cell;
use crate::events::Level;
use crate::exit::ExitReason;
use crate::guard;
use crate::mailbox::Books;
use crate::shard::spec::CellState;
use crate::shard::wheel::NIL;

/// How often a slab may go down before it is closed.
const DOWNS_MAX: usize = 3;

/// Time in which it may.
const DOWNS_TIME: Duration = Duration::from_secs(60);

impl<C: Cell> Slab<C> {
    /// Ends all cells and lets their supervisor decide. False: it has been down too often.
    pub(super) fn go_down(&mut self, at: &Moment, why: &str) -> bool {
        self.downs.retain(|down| *down + DOWNS_TIME > at.monotonic);
        self.downs.push(at.monotonic);
        let again = self.downs.len() <= DOWNS_MAX;
        self.notes.push(Note {
            level: Level::Error,
            name: "slab_down",
            path: self.board.path().clone(),
            text: match again {
                true => format!("its cells exit with host_down: {why}"),
                false => format!(
                    "closed for good, after {DOWNS_MAX} times in {} s: {why}",
                    DOWNS_TIME.as_secs()
                ),
            },
        });
        if again {
            self.come_back(at);
        }
        again
    }

    /// Ends all cells, and begins again with what their supervisor decides.
    pub(super) fn come_back(&mut self, at: &Moment) {
        // What was cut short, made whole: a queue that was being delivered, cells that waited.
        if let Some(place) = self.delivering.take() {
            std::mem::swap(&mut self.mail.inbound, &mut self.lanes[place].taken);
            let held = self.held.values().map(|backlog| backlog.counted(place));
            self.lanes[place].find_lost(held.sum());
        }
        self.book_in_hand();
        self.due.clear();
        self.late.clear();
        self.newly_due.clear();
        self.run.clear();
        self.ready.clear();
        self.in_hand = None;
        self.fault = None;
        for group in 0..self.groups.len() {
            for place in 0..self.groups[group].slots.len() {
                self.end_cell(join(group, place), at, (group, place) < self.fresh);
            }
        }
        self.touched = true;
        self.changed = true;
        self.publish();
    }

    /// A message whose step was cut short after it was taken has died.
    pub(super) fn book_in_hand(&mut self) {
        let Books {
            accepted,
            handled,
            dropped,
            conflated,
            died,
            ..
        } = self.books;
        let known = handled + dropped + conflated + died + self.waiting;
        self.books.died += accepted.saturating_sub(known);
    }

    /// `begun`: it has been started, or an attempt was made.
    fn end_cell(&mut self, key: u32, at: &Moment, begun: bool) {
        let slot = self.slot(key);
        slot.queued = false;
        match slot.state {
            CellState::Running => {}
            CellState::New if begun => {}
            // Its time is in the wheel of restarts, or has come.
            CellState::Restarting => {
                if slot.timers == NIL {
                    self.ready.push_back(key);
                }
                return;
            }
            CellState::New | CellState::Stopped | CellState::Quarantined => return,
        }
        let asked = guard::step(|| {
            self.exit(key, at, ExitReason::HostDown, true);
            Ok(())
        });
        if asked.is_err() {
            self.leave_down(key);
        }
    }
}
