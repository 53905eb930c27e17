//! A population as parts: slabs that are placed by one rule and may move.
//!
//! It finds the slab of an ordinal at once, wherever that is now. It decides nothing about who
//! moves. Bound: cells may send to a few hundred slabs, so a population whose cells send to each
//! other has no more parts than that.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::handle::{ShardHandle, SlabHandle};
use super::placement::{Placement, part_size};
use super::spec::{AddSlabError, SlabSpec};
use crate::addr::SendError;
use crate::cell::Cell;
use crate::mailbox::Books;

/// The parts of a population. Clones share them.
pub struct Population<C: Cell> {
    parts: Arc<[SlabHandle<C>]>,
    /// Number of the first part.
    first: u32,
    size: u32,
}

impl<C: Cell> Clone for Population<C> {
    fn clone(&self) -> Self {
        Self {
            parts: Arc::clone(&self.parts),
            ..*self
        }
    }
}

impl<C: Cell> fmt::Debug for Population<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts.iter()).finish()
    }
}

impl<C: Cell + Send> Population<C> {
    /// Places cells as parts of `groups` groups each. `spec` makes a part from its ordinals.
    ///
    /// # Errors
    /// [`AddSlabError`]; parts that were added by then are closed.
    pub fn start(
        shards: &[ShardHandle],
        placement: Placement,
        ordinals: Range<u32>,
        groups: u32,
        mut spec: impl FnMut(Range<u32>) -> SlabSpec<C>,
    ) -> Result<Self, AddSlabError> {
        let size = part_size(groups);
        let first = ordinals.start / size;
        let mut parts: Vec<SlabHandle<C>> = Vec::new();
        for part in placement.deal(ordinals, groups, shards.len()) {
            let spec = SlabSpec {
                ordinals: std::iter::once(part.ordinals.clone()).collect(),
                ..spec(part.ordinals)
            };
            let shard = shards.get(part.shard).ok_or(AddSlabError::Stopped)?;
            match shard.add_part(spec, placement) {
                Ok(slab) => parts.push(slab),
                Err(error) => {
                    parts.iter().for_each(SlabHandle::ask_to_close);
                    return Err(error);
                }
            }
        }
        if parts.is_empty() {
            return Err(AddSlabError::Empty);
        }
        Ok(Self {
            parts: parts.into(),
            first,
            size,
        })
    }
}

impl<C: Cell> Population<C> {
    /// Neighbours as one: each begins where the one before ends, with parts of the same size. None
    /// if they do not.
    #[must_use]
    pub fn joined(neighbours: &[Self]) -> Option<Self> {
        let begin = neighbours.first()?;
        let mut parts = Vec::new();
        for next in neighbours {
            let place = begin.first as usize + parts.len();
            if next.size != begin.size || next.first as usize != place {
                return None;
            }
            parts.extend(next.parts.iter().cloned());
        }
        Some(Self {
            parts: parts.into(),
            ..*begin
        })
    }

    /// The parts, in the order of their ordinals.
    #[must_use]
    pub fn parts(&self) -> &[SlabHandle<C>] {
        &self.parts
    }

    /// The part of an ordinal.
    #[must_use]
    #[inline]
    pub fn part_of(&self, ordinal: u32) -> Option<&SlabHandle<C>> {
        let index = (ordinal / self.size).checked_sub(self.first)?;
        self.parts.get(index as usize)
    }

    /// Sends a message to a cell; see [`SlabHandle::send`].
    ///
    /// # Errors
    /// With the message, as there; `Closed` if there is no such cell.
    pub fn send(&self, ordinal: u32, message: C::Msg) -> Result<(), SendError<C::Msg>> {
        match self.part_of(ordinal) {
            Some(part) => part.send(ordinal, message),
            None => Err(SendError::Closed(message)),
        }
    }

    /// Counters of all mailboxes.
    #[must_use]
    pub fn books(&self) -> Books {
        self.parts.iter().map(SlabHandle::books).sum()
    }

    /// Cells alive.
    #[must_use]
    pub fn running(&self) -> u64 {
        self.parts.iter().map(|part| part.counts().running).sum()
    }

    /// Stops all cells in order and takes the parts off their shards, the last one first.
    pub async fn close(&self) {
        for part in self.parts.iter().rev() {
            // Closed already is closed.
            let _ = part.close().await;
        }
    }
}
