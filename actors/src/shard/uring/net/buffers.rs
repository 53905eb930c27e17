//! Receive buffers that a ring takes from and the host gives back: a provided buffer ring.
//!
//! A buffer is the kernel's from [`Buffers::give`] until a completion names it; that completion
//! makes it [`Taken`], which is what its bytes are read by and what is given back. Bound: a power
//! of two, at most 2^15.

#![expect(
    unsafe_code,
    reason = "memory shared with the kernel: a ring of buffers that it takes from"
)]

use std::alloc::{self, Layout};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue};

/// The one group of buffers of a ring.
pub(super) const GROUP: u16 = 0;

/// The ring of buffers starts a page; the buffers start cache lines.
const PAGE: usize = 4_096;

/// A buffer that a completion has filled.
#[derive(Debug)]
pub(super) struct Taken {
    id: u16,
    len: u32,
}

/// The buffers of one ring.
pub(super) struct Buffers {
    ring: NonNull<BufRingEntry>,
    data: NonNull<u8>,
    count: u16,
    size: u32,
    tail: u16,
}

impl Buffers {
    /// Makes them and registers them with `ring`. They must outlive it, and all its receives.
    pub(super) fn register(ring: &IoUring, count: u16, size: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15 && size > 0);
        let (ring_layout, data_layout) = layouts(count, size);
        // SAFETY: neither layout is empty, as `count` and `size` are not zero.
        let (base, data) = unsafe {
            (
                alloc::alloc_zeroed(ring_layout),
                alloc::alloc_zeroed(data_layout),
            )
        };
        let mut buffers = Self {
            ring: NonNull::new(base.cast())
                .unwrap_or_else(|| alloc::handle_alloc_error(ring_layout)),
            data: NonNull::new(data).unwrap_or_else(|| alloc::handle_alloc_error(data_layout)),
            count,
            size,
            tail: 0,
        };
        // SAFETY: `base` is valid for `count` entries, zeroed and page-aligned. It is freed only by
        // `drop`, and whoever owns both drops the ring first (`Satellite`).
        unsafe {
            let submitter = ring.submitter();
            submitter.register_buf_ring_with_flags(base.addr() as u64, count, GROUP, 0)?;
        }
        for id in 0..count {
            buffers.give(Taken { id, len: 0 });
        }
        Ok(buffers)
    }

    /// What a completion has filled, if it names a buffer. To be called once for each.
    pub(super) fn taken(&self, flags: u32, result: i32) -> Option<Taken> {
        let id = cqueue::buffer_select(flags)?;
        assert!(id < self.count, "a buffer that was never given");
        let len = (result.max(0) as u32).min(self.size);
        Some(Taken { id, len })
    }

    /// The bytes in it.
    pub(super) fn bytes(&self, taken: &Taken) -> &[u8] {
        let at = usize::from(taken.id) * self.size as usize;
        // SAFETY: `id < count` and `len <= size`, so it is inside `data`, which is initialised
        // (zeroed). The kernel has handed this buffer over with the completion that made `taken`
        // and writes to it again only after `give`, which consumes `taken`; the slice borrows it
        // until then.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().add(at), taken.len as usize) }
    }

    /// Gives a buffer to the kernel.
    pub(super) fn give(&mut self, taken: Taken) {
        let at = usize::from(taken.id) * self.size as usize;
        let place = usize::from(self.tail & (self.count - 1));
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `place < count`, and the entries are initialised (zeroed). There are `count`
        // buffers, each given once between two takings, so the entry at `place` has been consumed
        // by the kernel. It reads entries below the tail only; the tail lies over a field of the
        // first entry that nobody else writes, is aligned for its type and stored last, with
        // release, which the kernel's acquire pairs with.
        unsafe {
            let entry = &mut *self.ring.as_ptr().add(place);
            entry.set_addr(self.data.as_ptr().add(at).expose_provenance() as u64);
            entry.set_len(self.size);
            entry.set_bid(taken.id);
            let tail = BufRingEntry::tail(self.ring.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.count as usize
    }
}

// SAFETY: it owns both allocations, and nothing else on this side refers to them.
unsafe impl Send for Buffers {}

impl Drop for Buffers {
    fn drop(&mut self) {
        let (ring_layout, data_layout) = layouts(self.count, self.size);
        // SAFETY: both were allocated with these layouts and are freed once. The ring that took
        // from them is gone, and nothing was under way on it (`Satellite::drop`).
        unsafe {
            alloc::dealloc(self.ring.as_ptr().cast(), ring_layout);
            alloc::dealloc(self.data.as_ptr(), data_layout);
        }
    }
}

fn layouts(count: u16, size: u32) -> (Layout, Layout) {
    let count = usize::from(count);
    let layout = |size, align| {
        Layout::from_size_align(size, align).expect("at most 2^15 buffers of at most 4 GiB")
    };
    (
        layout(count * size_of::<BufRingEntry>(), PAGE),
        layout(count * size as usize, 64),
    )
}
