//! The sending end of a pair of slabs.
//!
//! A slab is the only sender of its pair queue, so the room it has seen there stays, and what it
//! stages always fits. Bound: the capacity of the pair queue, staged messages included.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::super::handle::{Board, Lane};
use super::super::inbox::Door;
use super::envelope::{Envelope, Refusal, Returned};
use super::stage::{Look, Sender, Stage, give_back};
use crate::addr::SendError;
use crate::cell::Cell;
use crate::clock::Time;
use crate::guard;

/// The sending end of one pair of slabs.
pub(super) struct Link<D: Cell> {
    board: Arc<Board<D>>,
    pair: Lane<D>,
    stage: Stage<D::Msg>,
    /// Free places that the queue is known to have, staged ones taken off.
    room: usize,
    closed: bool,
}

impl<D: Cell> Link<D> {
    pub(super) const fn new(board: Arc<Board<D>>, pair: Lane<D>) -> Self {
        Self {
            board,
            pair,
            stage: Stage::new(),
            room: 0,
            closed: false,
        }
    }

    fn look_for_room(&mut self) -> usize {
        if self.room == 0 {
            self.room = self.pair.queue.room(self.stage.staged.len());
        }
        self.room
    }

    pub(super) fn push(
        &mut self,
        envelope: Envelope<D::Msg>,
    ) -> Result<(), SendError<Envelope<D::Msg>>> {
        if self.closed {
            return Err(SendError::Closed(envelope));
        }
        if self.stage.holds_up(envelope.to, &self.pair.jams) || self.look_for_room() == 0 {
            return Err(SendError::Full(envelope));
        }
        self.room -= 1;
        self.stage.staged.push_back(envelope);
        Ok(())
    }

    /// Lets a message wait. True: it could go out by now.
    pub(super) fn wait(
        &mut self,
        by: Sender,
        patience: Duration,
        envelope: Envelope<D::Msg>,
    ) -> bool {
        let for_cell = self.stage.wait(by, patience, envelope, &self.pair.jams);
        !for_cell && self.room > 0
    }
}

/// A link, whatever its messages are.
pub(super) trait AnyLink: Any + Send {
    /// Takes back the latest message.
    fn cut(&mut self);
    /// Takes back the latest wait.
    fn cut_wait(&mut self);
    /// Puts what is staged into the pair queue; what a closed one refuses comes back.
    fn flush(&mut self, ring: fn(&Door), lost: &mut dyn FnMut(u64, Option<Returned>), hears: bool);
    /// Stages what waited and need not any more, and ends waits whose time is up. Returns how many
    /// were staged.
    fn resume(&mut self, look: &mut Look<'_>) -> usize;
    /// Forgets waits of lives that have ended.
    fn sweep(&mut self, look: &mut Look<'_>);
    /// When the first wait ends.
    fn until(&self) -> Option<Time>;
    /// Messages that wait.
    fn waiting(&self) -> usize;
    /// Whether a flush has found the slab closed.
    fn is_closed(&self) -> bool;
}

impl<D: Cell> AnyLink for Link<D> {
    fn cut(&mut self) {
        guard::discard(self.stage.staged.pop_back());
        self.room += 1;
    }

    fn cut_wait(&mut self) {
        guard::discard(self.stage.waiters.pop_last().map(|waiter| waiter.envelope));
    }

    fn flush(&mut self, ring: fn(&Door), lost: &mut dyn FnMut(u64, Option<Returned>), hears: bool) {
        if self.stage.staged.is_empty() {
            return;
        }
        if let Ok(edge) = self.pair.queue.append(&mut self.stage.staged) {
            if edge {
                ring(self.board.bell());
            }
            return;
        }
        self.closed = true;
        for envelope in self.stage.staged.drain() {
            lost(1, give_back(envelope, Refusal::Closed, hears));
        }
    }

    fn resume(&mut self, look: &mut Look<'_>) -> usize {
        let mut all = 0;
        self.stage.hear_of(&self.pair.jams);
        // Who still waits in the end has been told that there is no room: that is what makes the
        // other side ring when there is some.
        while self.stage.wants_room() {
            // A closed queue takes what waits, and gives it back as refused.
            self.closed |= self.pair.queue.is_closed();
            let room = match self.closed {
                true => usize::MAX,
                false => self.look_for_room(),
            };
            let staged = self.stage.resume(room, &self.pair.jams, look);
            self.room = self.room.saturating_sub(staged);
            all += staged;
            if room == 0 {
                break;
            }
        }
        self.stage.expire(look);
        all
    }

    fn sweep(&mut self, look: &mut Look<'_>) {
        self.stage.sweep(look);
    }

    fn until(&self) -> Option<Time> {
        self.stage.waiters.until()
    }

    fn waiting(&self) -> usize {
        self.stage.waiters.len()
    }

    fn is_closed(&self) -> bool {
        self.closed
    }
}
