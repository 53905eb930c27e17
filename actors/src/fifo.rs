//! What a program has made and what waits, in order: dropped one by one.
//!
//! A destructor may panic. A collection that is dropped whole goes on with the others while it
//! unwinds, and the second one to panic ends the process; here each of them ends by itself, and
//! nothing unwinds. It bounds nothing: its owner does.

use std::collections::VecDeque;
use std::mem::{forget, needs_drop, take};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Drops what a program has made; a panic in its destructor ends here.
pub(crate) fn discard<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(move || drop(value))) {
        forget(payload); // any value, whose destructor may panic, too
    }
}

/// The same for many, none of which keeps the others from their end.
pub(crate) fn discard_each<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(discard);
}

/// A queue whose items are dropped one by one.
#[derive(Debug)]
pub(crate) struct Fifo<T>(VecDeque<T>);

impl<T> Fifo<T> {
    pub(crate) const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Keeps those of which `keep` says so.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for item in take(self) {
            match keep(&item) {
                true => self.0.push_back(item),
                false => discard(item),
            }
        }
    }

    /// Without the care, for whoever made the items.
    pub(crate) fn into_inner(mut self) -> VecDeque<T> {
        take(&mut self.0)
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
            discard_each(std::iter::from_fn(|| self.0.pop_front()));
        }
    }
}

impl<T> Deref for Fifo<T> {
    type Target = VecDeque<T>;

    fn deref(&self) -> &VecDeque<T> {
        &self.0
    }
}

impl<T> DerefMut for Fifo<T> {
    fn deref_mut(&mut self) -> &mut VecDeque<T> {
        &mut self.0
    }
}

impl<T> From<Vec<T>> for Fifo<T> {
    fn from(items: Vec<T>) -> Self {
        Self(items.into())
    }
}

impl<T> FromIterator<T> for Fifo<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().collect())
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
        discard_each(some(2).into_inner());
        assert_eq!(gone.take(), 2);
    }
}
