//! Counts heap calls per thread: one increment for each, of ours only.
//!
//! Bound: one counter per thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Allocations, reallocations and frees of the calling thread so far.
pub(crate) fn calls_of_this_thread() -> u64 {
    CALLS.with(Cell::get)
}

struct Counting;

#[global_allocator]
static HEAP: Counting = Counting;

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

#[expect(
    unsafe_code,
    reason = "a counting allocator is an unsafe trait by nature"
)]
// SAFETY: every call is handed to the system's allocator unchanged; the counter is a constant
// thread-local without a destructor, so counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_and_its_end_are_two_calls() {
        let before = calls_of_this_thread();
        drop(std::hint::black_box(Box::new(7)));
        assert_eq!(calls_of_this_thread() - before, 2);
    }
}
