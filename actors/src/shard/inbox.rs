//! Queues into a shard from other threads, and the doorbell that wakes it.
//!
//! One queue per (sender, slab) pair, many producers behind one short lock, drained whole by the
//! shard. Only the push that finds the queue empty rings, and a ring costs a system call only when
//! the shard sleeps: awake, it looks again before it goes to sleep. Bound: `capacity`, counted
//! until the shard has *delivered* a message, so that a slow shard does not hide a second queue
//! behind the first.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

mod door;

use sync::{AtomicBool, AtomicU8, Mutex, Ordering};

pub(crate) use self::door::{Bells, Door};

use crate::fifo::Fifo;

#[cfg(not(all(test, loom)))]
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

    pub(super) use parking_lot::Mutex;
}

#[cfg(all(test, loom))]
#[path = "inbox/model_sync.rs"]
mod sync;

#[cfg(loom)]
#[cfg(test)]
mod model;

/// Messages of one pair queue: a step's worth of deliveries several times over, 1 MiB or so at most
/// for small messages. It allocates as it fills.
pub(crate) const LANE_CAPACITY: usize = 65_536;

/// Pair queues of one slab: the links and tiers of a node; more share the first.
pub(crate) const LANES_MAX: usize = 64;

/// Requests of the control plane that wait for one slab.
pub(crate) const CONTROL_CAPACITY: usize = 1_024;

/// Wakes a shard that waits.
pub(crate) trait Bell: Send + Sync {
    /// Wakes the shard, or makes its next wait return at once. May wait for the end of the step
    /// that rings.
    fn ring(&self);

    /// The same, without waiting.
    fn ring_at_once(&self) {
        self.ring();
    }
}

/// The shard works, and looks at this before it sleeps.
const AWAKE: u8 = 0;
/// Somebody has written something since the shard looked last.
const RUNG: u8 = 1;
/// The shard waits for its bell, or is about to.
const ASLEEP: u8 = 2;

/// One word between those who write into queues and the shard that drains them.
///
/// Writers swap in `RUNG`; the one that finds `ASLEEP` rings the bell, so there is at most one ring
/// per sleep. The shard swaps in `AWAKE` before it drains and may sleep only by exchanging `AWAKE`
/// for `ASLEEP`. All of these change the same word, so of a ring and a sleep one sees the other.
pub(crate) struct Doorbell {
    state: AtomicU8,
    rings: AtomicU64,
    merged: AtomicU64,
    bell: Box<dyn Bell>,
}

impl Doorbell {
    pub(crate) fn new(bell: Box<dyn Bell>) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(AWAKE),
            rings: AtomicU64::new(0),
            merged: AtomicU64::new(0),
            bell,
        })
    }

    /// What was written before is seen by the shard's next step; wakes it if it sleeps.
    pub(crate) fn ring(&self) {
        if self.wakes() {
            self.bell.ring();
        }
    }

    /// The same from the middle of a step, whose end the sleeper should not wait for.
    pub(crate) fn ring_at_once(&self) {
        if self.wakes() {
            self.bell.ring_at_once();
        }
    }

    /// Notes a ring; whether the shard sleeps and must be woken.
    fn wakes(&self) -> bool {
        let sleeps = self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP;
        let counter = if sleeps { &self.rings } else { &self.merged };
        counter.fetch_add(1, Ordering::Relaxed);
        sleeps
    }

    /// The shard looks: rings from here on are for its next step. Call before draining, and before
    /// reading whatever else is written ahead of a ring. Whether somebody has rung.
    pub(crate) fn answer(&self) -> bool {
        self.state.swap(AWAKE, Ordering::AcqRel) == RUNG
    }

    /// The shard wants to sleep. False if somebody rang since the last [`Doorbell::answer`]; if
    /// true, the next ring reaches the bell.
    #[must_use]
    pub(crate) fn doze(&self) -> bool {
        self.state
            .compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Whether somebody rang since the last [`Doorbell::answer`].
    pub(crate) fn is_rung(&self) -> bool {
        self.state.load(Ordering::Acquire) == RUNG
    }

    /// Rings that reached the bell, and rings that needed not to.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.rings.load(Ordering::Relaxed),
            self.merged.load(Ordering::Relaxed),
        )
    }
}

/// Why a push was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused<T> {
    Full(T),
    Closed(T),
}

struct State<T> {
    items: Fifo<T>,
    /// Drained but not delivered yet.
    out: usize,
    /// A sender has found it full and wants to be told of room.
    hungry: bool,
    closed: bool,
}

/// A bounded queue with many senders and one shard.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Whether `items` may hold something: lets the shard pass by without the lock.
    dirty: AtomicBool,
    capacity: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State {
            items: Fifo::new(),
            out: 0,
            hungry: false,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            dirty: AtomicBool::new(false),
            capacity,
        }
    }

    /// Appends. `Ok(true)`: the queue was empty, ring the doorbell.
    pub(crate) fn push(&self, item: T) -> Result<bool, Refused<T>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refused::Closed(item));
        }
        if state.items.len() + state.out >= self.capacity {
            return Err(Refused::Full(item));
        }
        let edge = state.items.is_empty();
        state.items.push_back(item);
        self.dirty.store(true, Ordering::Release);
        Ok(edge)
    }

    /// Appends from the front of `items` what there is room for; the rest stays. `true`: the queue
    /// was empty and is not any more, ring the doorbell.
    pub(crate) fn push_many(&self, items: &mut Fifo<T>) -> bool {
        let mut state = self.state.lock();
        let under_way = state.items.len() + state.out;
        let n = match state.closed {
            true => 0,
            false => items.len().min(self.capacity.saturating_sub(under_way)),
        };
        let edge = state.items.is_empty() && n > 0;
        state.items.take_first(n, items);
        self.dirty.store(true, Ordering::Release);
        edge
    }

    /// Appends all of `items`, for which its only sender has seen room. `Ok(true)`: the queue was
    /// empty, ring the doorbell.
    ///
    /// # Errors
    /// It is closed; the items are still there.
    pub(crate) fn append(&self, items: &mut Fifo<T>) -> Result<bool, ()> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(());
        }
        let edge = state.items.is_empty();
        if edge {
            std::mem::swap(&mut state.items, items);
        } else {
            state.items.append(items);
        }
        self.dirty.store(true, Ordering::Release);
        Ok(edge)
    }

    /// Free places, less `staged` that their sender is about to append. If there are none, the next
    /// delivery tells of room.
    pub(crate) fn room(&self, staged: usize) -> usize {
        let mut state = self.state.lock();
        let taken = state.items.len() + state.out + staged;
        let free = self.capacity.saturating_sub(taken);
        state.hungry = free == 0;
        free
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Takes everything into `into`, which must be empty; its memory becomes the queue's.
    pub(crate) fn drain(&self, into: &mut Fifo<T>) {
        debug_assert!(into.is_empty());
        if !self.dirty.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        self.dirty.store(false, Ordering::Release);
        std::mem::swap(&mut state.items, into);
        state.out += into.len();
        // A burst's memory is not kept for ever.
        if state.items.capacity() > 1_024 && into.len() < 64 {
            state.items = Fifo::new();
        }
    }

    /// What was pushed before is seen by the next [`Queue::drain`]; who pushes after sees what this
    /// thread has written before.
    pub(crate) fn sync(&self) {
        drop(self.state.lock());
    }

    /// `n` drained items have been delivered. True if a sender wants to be told.
    pub(crate) fn delivered(&self, n: usize) -> bool {
        let mut state = self.state.lock();
        state.out = state.out.saturating_sub(n);
        std::mem::take(&mut state.hungry)
    }

    /// Puts what was drained, or was there before, in front of what waits, whatever the bound: it
    /// has been within that already. Without a word if it is closed.
    pub(crate) fn put_back(&self, mut items: Fifo<T>) {
        let mut state = self.state.lock();
        state.out = 0;
        if !state.closed {
            items.append(&mut state.items);
            state.items = items;
            self.dirty.store(true, Ordering::Release);
        }
    }

    /// Refuses everything from now on and returns what was not drained.
    pub(crate) fn close(&self) -> Fifo<T> {
        let mut state = self.state.lock();
        state.closed = true;
        std::mem::take(&mut state.items)
    }

    /// Places, taken ones included.
    pub(crate) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Items drained and not delivered yet.
    pub(crate) fn under_way(&self) -> usize {
        self.state.lock().out
    }

    /// Items not delivered yet.
    pub(crate) fn len(&self) -> usize {
        let state = self.state.lock();
        state.items.len() + state.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_until_delivery_and_only_the_first_push_is_an_edge() {
        let queue = Queue::new(3);
        assert_eq!(queue.push(1), Ok(true));
        assert_eq!(queue.push(2), Ok(false));
        let mut taken = Fifo::new();
        queue.drain(&mut taken);
        assert!(taken.drain().eq([1, 2]));
        assert_eq!(queue.push(3), Ok(true));
        assert_eq!(queue.push(4), Err(Refused::Full(4)));
        queue.delivered(2);
        assert_eq!(queue.push(4), Ok(false));
        assert!(queue.close().into_iter().eq([3, 4]));
        assert_eq!(queue.push(5), Err(Refused::Closed(5)));
    }

    #[test]
    fn only_a_sleeping_shard_is_rung_and_only_once() {
        struct Silent;
        impl Bell for Silent {
            fn ring(&self) {}
        }
        let bell = Doorbell::new(Box::new(Silent));
        bell.ring();
        bell.ring();
        assert!(bell.is_rung());
        assert!(!bell.doze(), "it was rung");
        bell.answer();
        assert!(!bell.is_rung());
        assert!(bell.doze());
        bell.ring();
        bell.ring();
        assert_eq!(bell.counts(), (1, 3));
    }
}
