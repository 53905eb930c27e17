//! Merging a message with one of the same key that waits: which of them, and where it then stands.
//!
//! A merged message takes the place of the one that waits, so it overtakes messages of *other keys*
//! that came between them, and never one without a key: such a message ends merging with everything
//! before it. Without a key, order is kept. The queue of values is the ring's; here are the keys of
//! those that wait, in their order. Bound: one key per waiting message.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Whether a message is merged with one of the same key that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conflation {
    /// Never.
    #[default]
    Off,
    /// The newer replaces the one that waits.
    Newest,
    /// The one that waits takes the newer in, by [`Message::absorb`](super::Message::absorb).
    Sum,
}

/// Keys whose memory an empty index keeps.
const KEPT_KEYS: usize = 32;

/// The keys of the messages that wait in a work lane.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// In the order of the lane.
    keys: VecDeque<Option<u64>>,
    /// Messages that have left at the front: the number of the first that waits.
    left: u64,
    /// Number of the first message that came after the latest one without a key.
    open: u64,
    /// Number of the latest message of a key.
    latest: BTreeMap<u64, u64>,
}

impl Index {
    /// Place in the lane of the message that one of this key is merged with.
    pub(super) fn find(&self, key: u64) -> Option<usize> {
        let number = *self.latest.get(&key)?;
        (number >= self.open).then(|| (number - self.left) as usize)
    }

    /// A message goes to the end of the lane.
    pub(super) fn push(&mut self, key: Option<u64>) {
        let number = self.left + self.keys.len() as u64;
        self.keys.push_back(key);
        match key {
            Some(key) => drop(self.latest.insert(key, number)),
            None => self.open = number + 1,
        }
    }

    /// The first message of the lane leaves.
    pub(super) fn pop(&mut self) {
        if let Some(Some(key)) = self.keys.pop_front()
            && self.latest.get(&key) == Some(&self.left)
        {
            self.latest.remove(&key);
        }
        self.left += 1;
    }

    /// Whether an empty one is small enough to keep.
    pub(super) fn is_small(&self) -> bool {
        self.keys.capacity() <= KEPT_KEYS
    }
}

#[cfg(test)]
#[path = "conflate/tests.rs"]
mod tests;
