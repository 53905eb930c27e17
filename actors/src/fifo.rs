//! What a program has made and what waits, in order: dropped one by one.
//!
//! A destructor may panic. A collection that is dropped whole goes on with the others while it
//! unwinds, and the second one to panic ends the process; here each item ends by itself
//! ([`discard`]), and nothing unwinds. So a [`Fifo`] has no method that drops several at once. It
//! bounds nothing: its owner does.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::mem::{needs_drop, take};

use crate::guard::discard;

/// Discards many, none of which keeps the others from their end.
pub(crate) fn discard_each<T>(values: impl IntoIterator<Item = T>) {
    for value in values {
        discard(value);
    }
}

/// A queue whose items are dropped one by one.
#[derive(Debug)]
pub(crate) struct Fifo<T>(VecDeque<T>);

impl<T> Fifo<T> {
    pub(crate) const fn new() -> Self {
        Self(VecDeque::new())
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&T> {
        self.0.front()
    }

    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.0.get_mut(place)
    }

    pub(crate) fn iter(&self) -> Iter<'_, T> {
        self.0.iter()
    }

    #[inline]
    pub(crate) fn push_back(&mut self, item: T) {
        self.0.push_back(item);
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        self.0.pop_front()
    }

    #[inline]
    pub(crate) fn pop_back(&mut self) -> Option<T> {
        self.0.pop_back()
    }

    /// Takes all items of another one.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    /// Takes up to `n` items from the front of another one.
    pub(crate) fn take_first(&mut self, n: usize, other: &mut Self) {
        let n = n.min(other.len());
        self.0.extend(other.0.drain(..n));
    }

    /// Hands its items out from the front and keeps its memory; what is not taken stays.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        std::iter::from_fn(move || self.pop_front())
    }

    /// Keeps those of which `keep` says so.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for item in take(self) {
            if keep(&item) {
                self.push_back(item);
            } else {
                let _ = discard(item);
            }
        }
    }

    pub(crate) fn sort_by_key<K: Ord>(&mut self, key: impl FnMut(&T) -> K) {
        self.0.make_contiguous().sort_by_key(key);
    }

    /// Without the care, for whoever made the items.
    pub(crate) fn into_vec(mut self) -> Vec<T> {
        take(&mut self.0).into()
    }
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for Fifo<T> {
    fn drop(&mut self) {
        if needs_drop::<T>() {
            discard_each(self.drain());
        }
    }
}

impl<T> From<Vec<T>> for Fifo<T> {
    fn from(items: Vec<T>) -> Self {
        Self(items.into())
    }
}

impl<T> FromIterator<T> for Fifo<T> {
    /// What was collected before the iterator panics is dropped one by one, too.
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items = items.into_iter();
        let mut all = Self(VecDeque::with_capacity(items.size_hint().0));
        items.for_each(|item| all.push_back(item));
        all
    }
}

/// The items from the front; what is left when it is dropped is dropped one by one, too.
pub(crate) struct IntoIter<T>(Fifo<T>);

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.pop_front()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

impl<T> IntoIterator for Fifo<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::mem::forget;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Panics when it is dropped, and counts that.
    struct Grenade<'a>(&'a Cell<u32>);

    impl Drop for Grenade<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            panic!("in the destructor of an item");
        }
    }

    #[test]
    fn destructors_that_panic_end_one_by_one_also_while_something_unwinds() {
        let gone = Cell::new(0);
        let some = |n: usize| -> Fifo<_> { (0..n).map(|_| Grenade(&gone)).collect() };
        drop(some(3));
        assert_eq!(gone.take(), 3);
        let mut begun = some(3).into_iter();
        forget(begun.next());
        drop(begun);
        assert_eq!(gone.take(), 2);
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _fifo = some(3);
            panic!("somebody else");
        }));
        assert!(unwound.is_err());
        assert_eq!(gone.take(), 3);
        let (mut kept, mut seen) = (some(3), 0);
        kept.retain(|_| {
            seen += 1;
            seen == 2
        });
        assert_eq!((kept.len(), gone.take()), (1, 2));
        drop(kept);
        assert_eq!(gone.take(), 1);
        discard_each(some(2).into_vec());
        assert_eq!(gone.take(), 2);
    }

    #[test]
    fn what_was_collected_until_something_unwinds_ends_one_by_one() {
        let gone = Cell::new(0);
        let unwound = catch_unwind(AssertUnwindSafe(|| -> Fifo<_> {
            let made = (0..4).map(|n| match n {
                3 => panic!("whoever makes them"),
                _ => Grenade(&gone),
            });
            made.collect()
        }));
        assert!(unwound.is_err());
        assert_eq!(gone.take(), 3);
    }

    #[test]
    fn items_go_from_one_to_another_in_their_order_and_none_is_dropped() {
        let gone = Cell::new(0);
        let mut from: Fifo<_> = (0..5).map(|n| (n, Grenade(&gone))).collect();
        let mut to = Fifo::new();
        to.take_first(2, &mut from);
        to.append(&mut from);
        to.take_first(7, &mut from);
        from.append(&mut to);
        from.sort_by_key(|(n, _)| 4 - n);
        let capacity = from.capacity();
        forget(from.drain().next());
        assert_eq!(
            from.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
            [3, 2, 1, 0]
        );
        from.drain().for_each(forget);
        assert_eq!((from.capacity(), gone.take()), (capacity, 0));
    }
}
