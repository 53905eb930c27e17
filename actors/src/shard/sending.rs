//! Messages, batches and questions from threads and tasks to cells, and their pair queues.
//!
//! A question is a message with a [`Reply`] in it: it goes the way of all messages. A dropped
//! request cancels: the cell sees [`Reply::is_canceled`]. Bound: the
//! pair queue of the handle; [`LANES_MAX`] and [`LINKS_MAX`] of them per slab.

mod cell_addr;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use self::cell_addr::CellAddr;
use super::handle::{Board, Control, Lane, SlabHandle, pair};
use super::inbox::{LANE_CAPACITY, LANES_MAX, Refused};
use super::mail::{Envelope, LINKS_MAX, NOBODY, Origin};
use crate::addr::{AskError, Reply, SendError};
use crate::cell::Cell;
use crate::fifo::Fifo;

impl<C: Cell> SlabHandle<C> {
    /// Sends a message to a cell. `Ok`: the pair queue took it; the cell's mailbox applies its
    /// rule. Messages of one lane to one cell keep their order.
    ///
    /// # Errors
    /// With the message: `Full` when the pair queue is full, or when the cell's mailbox blocks and
    /// enough waits for it already; `Closed` when the ordinal does not live here or the slab has
    /// been stopped.
    pub fn send(&self, ordinal: u32, message: C::Msg) -> Result<(), SendError<C::Msg>> {
        let sent = self.push(ordinal, message);
        if let Err(SendError::Full(_)) = sent {
            self.board.queue_full.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// Sends, waiting for room in the pair queue, and at the cell, for at most `patience`.
    ///
    /// # Errors
    /// With the message: `Timeout` when none came free, `Closed` as in [`SlabHandle::send`].
    pub async fn send_or_wait(
        &self,
        ordinal: u32,
        message: C::Msg,
        patience: Duration,
    ) -> Result<(), SendError<C::Msg>> {
        let mut message = match self.push(ordinal, message) {
            Err(SendError::Full(message)) => message,
            sent => return sent,
        };
        let until = tokio::time::sleep(patience);
        tokio::pin!(until);
        loop {
            let room = self.lane.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            // To be told that there is none is what makes the slab tell of room.
            let jammed = self.lane.jams.waits_for(ordinal);
            if jammed || (self.lane.queue.room(0) == 0 && !self.lane.queue.is_closed()) {
                tokio::select! {
                    biased;
                    () = &mut until => {
                        self.board.queue_full.fetch_add(1, Ordering::Relaxed);
                        return Err(SendError::Timeout(message));
                    }
                    () = &mut room => {}
                }
            }
            message = match self.push(ordinal, message) {
                Err(SendError::Full(message)) => message,
                sent => return sent,
            };
        }
    }

    fn push(&self, ordinal: u32, message: C::Msg) -> Result<(), SendError<C::Msg>> {
        if !self.board.has(ordinal) {
            self.board.unknown.fetch_add(1, Ordering::Relaxed);
            return Err(SendError::Closed(message));
        }
        if self.lane.jams.has(ordinal) {
            return Err(SendError::Full(message));
        }
        let envelope = Envelope {
            to: ordinal,
            from: NOBODY,
            message,
        };
        match self.lane.queue.push(envelope) {
            Ok(edge) => {
                if edge {
                    self.board.bell.ring();
                }
                Ok(())
            }
            Err(Refused::Full(envelope)) => Err(SendError::Full(envelope.message)),
            Err(Refused::Closed(envelope)) => Err(SendError::Closed(envelope.message)),
        }
    }

    /// A handle with a pair queue of its own: one sender's flood does not fill another's. Where
    /// there are too many already, or the slab is closed, it shares this one's.
    #[must_use]
    pub fn lane(&self) -> Self {
        self.lane_of(LANE_CAPACITY as u32)
    }

    /// The same with a queue of `capacity` messages, at most those of [`SlabHandle::lane`].
    #[must_use]
    pub fn lane_of(&self, capacity: u32) -> Self {
        let capacity = (capacity as usize).clamp(1, LANE_CAPACITY);
        let lane = self.open(LANES_MAX, capacity, None);
        Self {
            lane: lane.unwrap_or_else(|| Arc::clone(&self.lane)),
            ..self.clone()
        }
    }

    /// The address of one cell.
    #[must_use]
    pub fn addr(&self, ordinal: u32) -> CellAddr<C> {
        CellAddr::new(self.clone(), ordinal)
    }

    /// The same handle, where cells that send through it get pair queues of `capacity` messages.
    /// It counts where a slab has not sent here yet.
    #[must_use]
    pub fn with_link_capacity(self, capacity: u32) -> Self {
        Self {
            link_capacity: capacity.max(1),
            ..self
        }
    }

    /// A pair queue for a slab that sends here; none if the slab is closed or there are too many.
    pub(crate) fn pair(&self, capacity: usize, origin: Origin) -> Option<Lane<C>> {
        self.open(LINKS_MAX, capacity, Some(origin))
    }

    fn open(&self, most: usize, capacity: usize, origin: Option<Origin>) -> Option<Lane<C>> {
        let mut lanes = self.board.lanes.lock();
        // Held by the board and the slab only: nobody sends there any more.
        let first = Arc::clone(&lanes[0]);
        lanes.retain(|l| Arc::ptr_eq(l, &first) || Arc::strong_count(l) > 2 || l.queue.len() > 0);
        if lanes
            .iter()
            .filter(|l| l.origin.is_some() == origin.is_some())
            .count()
            >= most
        {
            return None;
        }
        let lane = pair(capacity, origin);
        let request = Control::Lane(Arc::clone(&lane));
        self.board.request(request).ok()?;
        lanes.push(Arc::clone(&lane));
        Some(lane)
    }

    pub(crate) const fn board(&self) -> &Arc<Board<C>> {
        &self.board
    }

    pub(crate) const fn link_capacity(&self) -> usize {
        self.link_capacity as usize
    }

    /// Asks a cell and waits for its answer for at most `deadline`.
    ///
    /// # Errors
    /// `Full`: the pair queue has no room. `Closed`: the ordinal does not live here, or the slab
    /// has been closed. `Timeout`. `Canceled`: the question was dropped without an answer, by the
    /// cell, with it, or because it was down or its mailbox full.
    pub async fn ask<R>(
        &self,
        ordinal: u32,
        question: impl FnOnce(Reply<R>) -> C::Msg,
        deadline: Duration,
    ) -> Result<R, AskError> {
        let (reply, answer) = Reply::channel();
        self.send(ordinal, question(reply)).map_err(|e| match e {
            SendError::Full(_) | SendError::Timeout(_) => AskError::Full,
            SendError::Restarting(_) | SendError::Closed(_) => AskError::Closed,
        })?;
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(AskError::Canceled),
            Err(_) => Err(AskError::Timeout),
        }
    }

    /// Sends many, in order, from the front until one is refused; that one and the rest stay. It
    /// takes one lock and rings at most once. Returns how many were accepted.
    pub fn send_batch(&self, messages: &mut VecDeque<(u32, C::Msg)>) -> usize {
        let before = messages.len();
        let jams = &self.lane.jams;
        let known = messages
            .iter()
            .take_while(|m| self.has(m.0) && !jams.has(m.0));
        let known = known.count();
        let mut batch: Fifo<_> = messages.drain(..known).map(sealed).collect();
        if self.lane.queue.push_many(&mut batch) {
            self.board.bell().ring();
        }
        let next = messages.front().filter(|_| batch.is_empty());
        let unknown = next.is_some_and(|m| !self.has(m.0));
        let refused = !batch.is_empty() || (next.is_some() && !unknown);
        let full = refused && !self.lane.queue.is_closed();
        let board = &self.board;
        board
            .queue_full
            .fetch_add(u64::from(full), Ordering::Relaxed);
        board
            .unknown
            .fetch_add(u64::from(unknown), Ordering::Relaxed);
        while let Some(Envelope { to, message, .. }) = batch.pop_back() {
            messages.push_front((to, message));
        }
        before - messages.len()
    }
}

fn sealed<M>((to, message): (u32, M)) -> Envelope<M> {
    let from = NOBODY;
    Envelope { to, from, message }
}
