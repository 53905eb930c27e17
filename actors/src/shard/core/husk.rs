//! A pinned slab on its way from a thread that died to the one that takes its place.
//!
//! Its cells belong to their thread and have ended there; the rest belongs to nobody's thread.
//! Bound: one slab.

#![expect(
    unsafe_code,
    reason = "a slab may go to another thread once none of its cells is left"
)]

use crate::shard::slab::AnySlab;

/// A pinned slab without cells.
pub(crate) struct Husk(Box<dyn AnySlab>);

impl Husk {
    /// Drops what is left of the cells, on their thread.
    pub(super) fn of(mut slab: Box<dyn AnySlab>) -> Self {
        slab.drop_cells();
        Self(slab)
    }

    /// The slab, on the thread where its next cells will live.
    pub(super) fn into_slab(self) -> Box<dyn AnySlab> {
        self.0
    }
}

// SAFETY: `AnySlab` is `Slab<C>` only. All that a slab owns may go to another thread, whatever `C`
// is, but for values of `C` itself: for `C: Send` the compiler proves that where a slab becomes
// `Resident::Movable`, and every boxed closure and question that mentions `C` is `Send` by its
// type. Values of `C` are in its slots and nowhere else, and `of`, the only way here, has emptied
// them.
unsafe impl Send for Husk {}
