//! Cells that take no more messages of one pair for now, as their slab tells whoever sends there.
//!
//! One stuck cell must not fill a pair: once enough is held for it, messages for it, and only
//! those, wait where they come from. The destination writes; a sender looks before it sends, and
//! leaves word if it waits for the end. Bound: the cells of the destination for which something of
//! this pair is held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// The jammed cells of a pair. In cache lines of its own: senders look at it for each message.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Jams {
    /// How many: lets a sender pass by without the lock. One that looks too early sends a message
    /// more, which is held, too.
    count: AtomicUsize,
    /// Whether `cleared` may hold something.
    news: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By ordinal; whether a sender waits for the end.
    jammed: BTreeMap<u32, bool>,
    /// Those that a sender waits for, and that are not jammed any more.
    cleared: BTreeSet<u32>,
}

impl Jams {
    /// Whether there are any.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Whether a cell takes no more for now.
    #[inline]
    pub(crate) fn has(&self, to: u32) -> bool {
        self.any() && self.state.lock().jammed.contains_key(&to)
    }

    /// The same for a sender that waits for the end of it, and will be told.
    pub(crate) fn waits_for(&self, to: u32) -> bool {
        if !self.any() {
            return false;
        }
        let mut state = self.state.lock();
        let Some(waits) = state.jammed.get_mut(&to) else {
            return false;
        };
        *waits = true;
        true
    }

    /// A cell takes no more from now on.
    pub(crate) fn jam(&self, to: u32) {
        let mut state = self.state.lock();
        state.jammed.entry(to).or_default();
        self.count.store(state.jammed.len(), Ordering::Relaxed);
    }

    /// A cell takes messages again. True if a sender waits for that; it is news for one that asks.
    pub(crate) fn clear(&self, to: u32, asks: bool) -> bool {
        let mut state = self.state.lock();
        let waits = state.jammed.remove(&to).unwrap_or_default();
        if waits && asks {
            state.cleared.insert(to);
            self.news.store(true, Ordering::Release);
        }
        self.count.store(state.jammed.len(), Ordering::Relaxed);
        waits
    }

    /// The end of all of them.
    pub(crate) fn clear_all(&self) {
        let mut state = self.state.lock();
        let State { jammed, cleared } = &mut *state;
        cleared.extend(
            jammed
                .iter()
                .filter(|(_, waits)| **waits)
                .map(|(to, _)| *to),
        );
        jammed.clear();
        self.news.store(!cleared.is_empty(), Ordering::Release);
        self.count.store(0, Ordering::Relaxed);
    }

    /// Whether a cell that a sender waits for takes messages again.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// Moves out which ones.
    pub(crate) fn take_news(&self, into: &mut BTreeSet<u32>) {
        if self.has_news() {
            let mut state = self.state.lock();
            self.news.store(false, Ordering::Release);
            into.append(&mut state.cleared);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_the_end_of_a_jam_is_told_and_nobody_else() {
        let jams = Jams::default();
        let mut told = BTreeSet::new();
        assert!(!jams.waits_for(7), "it is not jammed");
        jams.jam(7);
        jams.jam(8);
        assert!(jams.has(7) && jams.has(8) && !jams.has(9));
        assert!(jams.waits_for(7));
        assert!(!jams.clear(8, true) && jams.clear(7, true));
        assert!(!jams.any() && jams.has_news());
        jams.take_news(&mut told);
        assert!(told.contains(&7) && told.len() == 1 && !jams.has_news());
        jams.jam(9);
        assert!(jams.waits_for(9));
        jams.clear_all();
        jams.take_news(&mut told);
        assert!(told.contains(&9) && !jams.any());
    }
}
