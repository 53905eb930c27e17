//! The receiving ends of a slab's pair queues. Bound: that of the queue.

use std::sync::Arc;

use super::super::handle::Lane;
use super::super::mail::{Envelope, Returned};
use crate::cell::Cell;
use crate::fifo::Fifo;

/// The receiving end of a pair queue. Its place in the slab is its name: places are used again, not
/// moved.
pub(super) struct LaneEnd<C: Cell> {
    pub(super) lane: Lane<C>,
    pub(super) taken: Fifo<Envelope<C::Msg>>,
    /// Delivered, and its queue not told yet.
    pub(super) settled: usize,
    /// Messages that are held, and have been settled ahead.
    pub(super) aside: usize,
    /// How much of it is told at once: half of its places, so that no side waits for the other.
    pub(super) bulk: usize,
    /// Bounces for the slab that sends.
    pub(super) back: Fifo<Returned>,
}

impl<C: Cell> LaneEnd<C> {
    pub(super) fn new(lane: Lane<C>) -> Self {
        let bulk = lane.queue.capacity().div_ceil(2);
        Self {
            lane,
            bulk,
            taken: Fifo::new(),
            settled: 0,
            aside: 0,
            back: Fifo::new(),
        }
    }

    /// Refuses messages from now on, and lets waiting senders know.
    pub(super) fn close(&self) -> Fifo<Envelope<C::Msg>> {
        self.lane.close()
    }

    /// Settles a message that has been taken, and got lost in a step that was cut short. `held`:
    /// how many are, with their places.
    pub(super) fn find_lost(&mut self, held: usize) {
        let known = self.taken.len() + self.settled + held;
        self.settled += self.lane.queue.under_way().saturating_sub(known);
    }

    /// Nobody sends there any more; the other owner is the board.
    pub(super) fn is_done(&self) -> bool {
        let nothing = self.aside == 0 && self.back.is_empty() && !self.lane.jams.any();
        Arc::strong_count(&self.lane) <= 2 && nothing && self.lane.queue.len() == 0
    }
}
