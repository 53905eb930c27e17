//! How much memory an input takes.
//!
//! Every allocation of the process is counted, but those of the fuzzing runtime, which is no Rust.
//! Bound: [`LIVE_MAX`]; what asks for more is refused, and ends the process.

#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes of the whole process.
const LIVE_MAX: usize = 1 << 30;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTED: Counted = Counted;

struct Counted;

impl Counted {
    fn take(bytes: usize) -> bool {
        let live = LIVE.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if live > LIVE_MAX {
            LIVE.fetch_sub(bytes, Relaxed);
            return false;
        }
        PEAK.fetch_max(live, Relaxed);
        true
    }
}

// SAFETY: memory is the system's, which keeps the contract; counting touches none of it.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !Self::take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise, and `at` came from the system.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Runs something; returns the most bytes that it held at once, above those that were held before.
pub(crate) fn peak_of(run: impl FnOnce()) -> usize {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    run();
    PEAK.load(Relaxed).saturating_sub(before)
}
