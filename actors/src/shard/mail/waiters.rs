//! Messages that wait for room, each for one of two things: any place in the queue, or one at a
//! cell that takes no more for now.
//!
//! Those of one kind are in the order in which they came; deadlines have an order of their own, so
//! that whoever looks finds at once that there is nothing to do. Bound: one for each cell that
//! waits, and as many again of cells that are no more.

use std::collections::{BTreeMap, BTreeSet};

use super::envelope::Envelope;
use crate::clock::Time;
use crate::exit::Incarnation;
use crate::fifo::discard_each;

/// What a message waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum For {
    /// A place in the queue.
    Room,
    /// That this cell takes messages again.
    Cell(u32),
}

/// What it waits for, and when it came.
type Place = (For, u64);

/// A message that waits, and its cell with it.
pub(super) struct Waiter<M> {
    pub(super) key: u32,
    pub(super) life: Incarnation,
    pub(super) until: Time,
    pub(super) envelope: Envelope<M>,
}

/// All that wait on one way.
pub(super) struct Waiters<M> {
    all: BTreeMap<Place, Waiter<M>>,
    ends: BTreeSet<(Time, Place)>,
    came: u64,
    /// What came last.
    last: Option<Place>,
}

impl<M> Drop for Waiters<M> {
    fn drop(&mut self) {
        discard_each(std::iter::from_fn(|| self.all.pop_first()));
    }
}

impl<M> Waiters<M> {
    pub(super) const fn new() -> Self {
        Self {
            all: BTreeMap::new(),
            ends: BTreeSet::new(),
            came: 0,
            last: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether one waits for that.
    pub(super) fn has(&self, what: For) -> bool {
        let mut those = self.all.range((what, 0)..=(what, u64::MAX));
        those.next().is_some()
    }

    pub(super) fn push(&mut self, what: For, waiter: Waiter<M>) {
        self.came += 1;
        let place = (what, self.came);
        self.last = Some(place);
        self.insert(place, waiter);
    }

    fn insert(&mut self, place: Place, waiter: Waiter<M>) {
        self.ends.insert((waiter.until, place));
        self.all.insert(place, waiter);
    }

    fn remove(&mut self, place: Place) -> Option<Waiter<M>> {
        let waiter = self.all.remove(&place)?;
        self.ends.remove(&(waiter.until, place));
        Some(waiter)
    }

    /// Takes back what was pushed last, in the same step.
    pub(super) fn pop_last(&mut self) -> Option<Waiter<M>> {
        let last = self.last.take()?;
        self.remove(last)
    }

    /// The first that waits for that.
    pub(super) fn pop(&mut self, what: For) -> Option<Waiter<M>> {
        self.take_first(what).map(|(_, waiter)| waiter)
    }

    fn take_first(&mut self, what: For) -> Option<(Place, Waiter<M>)> {
        let mut those = self.all.range((what, 0)..=(what, u64::MAX));
        let place = *those.next()?.0;
        self.remove(place).map(|waiter| (place, waiter))
    }

    /// For whom the first that waits for a place is.
    pub(super) fn first_to(&self) -> Option<u32> {
        let (place, first) = self.all.first_key_value()?;
        (place.0 == For::Room).then_some(first.envelope.to)
    }

    /// Lets the first that waits for a place wait for its cell.
    pub(super) fn put_off(&mut self) {
        if let Some(((_, came), waiter)) = self.take_first(For::Room) {
            self.insert((For::Cell(waiter.envelope.to), came), waiter);
        }
    }

    /// One whose time is up.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Waiter<M>> {
        let (until, place) = *self.ends.first()?;
        if until > now {
            return None;
        }
        self.remove(place)
    }

    /// When the first wait ends.
    pub(super) fn until(&self) -> Option<Time> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Takes out those of lives that have ended.
    pub(super) fn take_dead(
        &mut self,
        alive: &mut dyn FnMut(u32, Incarnation) -> bool,
    ) -> Vec<Waiter<M>> {
        let dead = self.all.iter().filter(|(_, w)| !alive(w.key, w.life));
        let dead: Vec<Place> = dead.map(|(place, _)| *place).collect();
        dead.into_iter().filter_map(|p| self.remove(p)).collect()
    }
}
