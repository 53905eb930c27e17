//! Questions and batches from threads and tasks to cells.
//!
//! A question is a message with a [`Reply`] in it: it goes the way of all messages. A dropped
//! request cancels: the cell sees [`Reply::is_canceled`]. Bound: the pair queue of the handle.

use std::collections::VecDeque;
use std::time::Duration;

use super::handle::SlabHandle;
use super::mail::{Envelope, NOBODY};
use crate::addr::{AskError, Reply, SendError};
use crate::cell::Cell;

impl<C: Cell> SlabHandle<C> {
    /// Asks a cell and waits for its answer for at most `deadline`.
    ///
    /// # Errors
    /// `Full`: the pair queue has no room. `Closed`: the ordinal does not live here, or the slab has
    /// been closed. `Timeout`. `Canceled`: the question was dropped without an answer, by the cell,
    /// with it, or because it was down or its mailbox full.
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
        let known = messages.iter().take_while(|m| self.has(m.0)).count();
        let mut batch: VecDeque<_> = messages.drain(..known).map(sealed).collect();
        if self.own_lane().queue.push_many(&mut batch) {
            self.board().bell().ring();
        }
        let full = !batch.is_empty() && !self.own_lane().queue.is_closed();
        let unknown = batch.is_empty() && !messages.is_empty();
        self.count_refused(u64::from(full), u64::from(unknown));
        for Envelope { to, message, .. } in batch.into_iter().rev() {
            messages.push_front((to, message));
        }
        before - messages.len()
    }
}

fn sealed<M>((to, message): (u32, M)) -> Envelope<M> {
    let from = NOBODY;
    Envelope { to, from, message }
}
