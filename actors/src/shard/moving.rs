//! Slabs that move between the shards of a host.
//!
//! A slab is the unit that moves: its cells, mailboxes, timers, restarts, supervisor, output, the
//! messages its cells have staged and the pair queues into it are one value, which goes to the
//! other thread by pointer. Nothing is forwarded: senders keep their queues, so nothing is lost or
//! overtaken; see [`Door`](super::inbox::Door) for who is rung. A slab leaves between two steps and
//! is stepped next on the other shard. It decides nothing about who moves: that is `balance`.
//! Bound: a move is one place in the queue of slabs that wait to be added to a shard.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::core::Port;
use super::handle::{Board, Control};
use super::slab::{AnySlab, Moment};
use crate::addr::Reply;
use crate::cell::Cell;

/// Why a slab was not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// It was added by `add_slab`: its cells may belong to their thread.
    #[error("the slab is pinned to its shard: only slabs added as movable move")]
    Pinned,
    /// Cells of it have sockets, which stay where they are.
    #[error("cells of the slab have sockets")]
    Sockets,
    /// The other shard is of another host.
    #[error("the shard belongs to another host")]
    Foreign,
    /// The other shard has been stopped, or has died.
    #[error("the shard has been stopped")]
    Stopped,
    /// Too many requests wait for the slab, or too many slabs for the shard.
    #[error("the shard has too many requests waiting")]
    Busy,
    /// The slab has been closed.
    #[error("the slab has been closed")]
    Closed,
}

/// A slab on its shard.
pub(crate) enum Resident {
    /// It stays: its cells may belong to this thread.
    Pinned(Box<dyn AnySlab>),
    /// It may move.
    Movable(Box<dyn AnySlab + Send>),
}

impl Deref for Resident {
    type Target = dyn AnySlab;
    fn deref(&self) -> &Self::Target {
        match self {
            Self::Pinned(slab) => &**slab,
            Self::Movable(slab) => &**slab,
        }
    }
}

impl DerefMut for Resident {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Pinned(slab) => &mut **slab,
            Self::Movable(slab) => &mut **slab,
        }
    }
}

/// Where a slab has been asked to go, and who asked.
pub(crate) struct Departure {
    pub(crate) to: Arc<Port>,
    pub(crate) reply: Reply<Result<(), MigrateError>>,
}

/// A slab on its way to another shard.
pub(crate) struct Parcel {
    pub(crate) slab: Box<dyn AnySlab + Send>,
    /// The last time that its cells have seen: it goes on from there, as its new shard may have
    /// read the clock before.
    pub(crate) left: Moment,
    pub(crate) reply: Reply<Result<(), MigrateError>>,
}

/// A slab that may move, as a balancer sees it.
pub(crate) trait Movable: Send + Sync {
    /// The shard that it is on.
    fn shard(&self) -> usize;
    /// Messages and timers that its cells have taken so far.
    fn work(&self) -> u64;
    /// Whether its cells have sockets, with which it stays.
    fn has_sockets(&self) -> bool;
    /// Asks it to move; false if the request was not taken.
    fn move_to(&self, to: &Arc<Port>) -> bool;
}

impl<C: Cell> Movable for Board<C> {
    fn shard(&self) -> usize {
        self.shard()
    }

    fn work(&self) -> u64 {
        let report = self.report();
        report.books.handled + report.counts.timers_fired
    }

    fn has_sockets(&self) -> bool {
        self.report().counts.sockets > 0
    }

    fn move_to(&self, to: &Arc<Port>) -> bool {
        let reply = Reply::channel().0;
        let request = Control::Migrate(Arc::clone(to), reply);
        self.request(request).is_ok()
    }
}

/// The shards of a host, and its movable slabs by number.
#[derive(Default)]
pub(crate) struct Movables(Mutex<Numbered>);

#[derive(Default)]
struct Numbered {
    next: u64,
    slabs: BTreeMap<u64, Weak<dyn Movable>>,
    ports: Vec<Weak<Port>>,
}

impl Movables {
    pub(crate) fn seat(&self, port: &Arc<Port>) {
        self.0.lock().ports.push(Arc::downgrade(port));
    }

    /// The shards that take slabs, but for this one.
    pub(crate) fn ports(&self, but: usize) -> Vec<Arc<Port>> {
        let all = self.0.lock();
        let there = all.ports.iter().filter_map(Weak::upgrade);
        there
            .filter(|port| port.index != but && !port.is_stopping() && !port.lives.is_down())
            .collect()
    }

    pub(crate) fn add(&self, slab: Weak<dyn Movable>) {
        let mut all = self.0.lock();
        // Those that are gone are forgotten now and then, also where nobody asks for all.
        if all.slabs.len().is_power_of_two() {
            all.slabs.retain(|_, slab| slab.strong_count() > 0);
        }
        let number = all.next;
        all.next += 1;
        all.slabs.insert(number, slab);
    }

    /// Those that are still there.
    pub(crate) fn all(&self) -> BTreeMap<u64, Arc<dyn Movable>> {
        let mut all = self.0.lock();
        all.slabs.retain(|_, slab| slab.strong_count() > 0);
        let there = all.slabs.iter();
        there
            .filter_map(|(number, slab)| Some((*number, slab.upgrade()?)))
            .collect()
    }
}
