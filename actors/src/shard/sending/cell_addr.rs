//! The address of one cell for threads and tasks, with the words of [`Addr`](crate::Addr).
//!
//! It names the cell, not its incarnation, and stands for nothing in memory of its own. Bound: that
//! of the pair queue of the handle it was made from.

use std::fmt;
use std::time::Duration;

use super::super::handle::SlabHandle;
use crate::addr::{AskError, Reply, SendError};
use crate::cell::Cell;

/// Sends to one cell; clones send to the same one, in one order.
pub struct CellAddr<C: Cell> {
    slab: SlabHandle<C>,
    ordinal: u32,
}

impl<C: Cell> Clone for CellAddr<C> {
    fn clone(&self) -> Self {
        Self {
            slab: self.slab.clone(),
            ordinal: self.ordinal,
        }
    }
}

impl<C: Cell> fmt::Debug for CellAddr<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.slab.board.path_of(self.ordinal);
        write!(f, "CellAddr({path})")
    }
}

impl<C: Cell> CellAddr<C> {
    pub(super) const fn new(slab: SlabHandle<C>, ordinal: u32) -> Self {
        Self { slab, ordinal }
    }

    /// Number of the cell.
    #[must_use]
    pub const fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// Sends without waiting; see [`SlabHandle::send`].
    ///
    /// # Errors
    /// As there.
    pub fn try_send(&self, message: C::Msg) -> Result<(), SendError<C::Msg>> {
        self.slab.send(self.ordinal, message)
    }

    /// Sends, waiting for room for at most `deadline`; see [`SlabHandle::send_or_wait`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&self, message: C::Msg, deadline: Duration) -> Result<(), SendError<C::Msg>> {
        self.slab
            .send_or_wait(self.ordinal, message, deadline)
            .await
    }

    /// Asks and waits for the answer; `deadline` covers room, the way there, and the answer.
    /// Dropping the future cancels: the cell sees [`Reply::is_canceled`].
    ///
    /// # Errors
    /// As [`SlabHandle::ask`], without `Full`.
    pub async fn ask<R>(
        &self,
        question: impl FnOnce(Reply<R>) -> C::Msg,
        deadline: Duration,
    ) -> Result<R, AskError> {
        let (reply, answer) = Reply::channel();
        let asking = async {
            match self.send(question(reply), deadline).await {
                Ok(()) => answer.await.map_err(|_| AskError::Canceled),
                Err(SendError::Timeout(_) | SendError::Full(_)) => Err(AskError::Timeout),
                Err(SendError::Restarting(_) | SendError::Closed(_)) => Err(AskError::Closed),
            }
        };
        let asked = tokio::time::timeout(deadline, asking).await;
        asked.unwrap_or(Err(AskError::Timeout))
    }
}
