//! The door of a slab: rings the shard that it is on, wherever it has moved.
//!
//! A pair queue belongs to its slab, so a slab that moves takes what is under way along, in its
//! order; only who is rung changes. A sender pushes, then looks where the slab is, and may find it
//! where it was. So the shard that takes it in moves the door first, then takes each queue's lock
//! once ([`Queue::sync`](super::Queue::sync)), then drains: of a push and a sync one is first, and
//! either the drain sees the push or the sender sees the new shard. Bound: the shards of a host.

use std::sync::Arc;

use super::Doorbell;
use super::sync::{AtomicUsize, Ordering};

/// The doorbells of a host's shards, by number.
pub(crate) type Bells = Arc<[Arc<Doorbell>]>;

pub(crate) struct Door {
    shard: AtomicUsize,
    bells: Bells,
}

impl Door {
    pub(crate) fn new(shard: usize, bells: &Bells) -> Arc<Self> {
        Arc::new(Self {
            shard: AtomicUsize::new(shard),
            bells: Arc::clone(bells),
        })
    }

    /// Number of the shard that the slab is on, or was on until just now.
    #[inline]
    pub(crate) fn shard(&self) -> usize {
        self.shard.load(Ordering::Acquire)
    }

    /// What was written before is seen by the slab's next step.
    #[inline]
    pub(crate) fn ring(&self) {
        self.bells[self.shard()].ring();
    }

    /// The same from the middle of a step.
    pub(crate) fn ring_at_once(&self) {
        self.bells[self.shard()].ring_at_once();
    }

    /// Whether the slab is on a shard of this host.
    pub(crate) fn is_of(&self, bells: &Bells) -> bool {
        Arc::ptr_eq(&self.bells, bells)
    }

    /// The slab is on this shard from now on, which syncs and drains its queues next.
    pub(crate) fn move_to(&self, shard: usize) {
        debug_assert!(shard < self.bells.len(), "a slab stays on its host");
        self.shard.store(shard, Ordering::Release);
    }
}
