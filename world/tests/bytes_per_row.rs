//! How many heap bytes a row costs, the ECS's own bookkeeping included.
//!
//! In a program of its own, because it installs an allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

use actorsim_world::scanned::{ScannedWorld, WorldSize};
use actorsim_world::systems::{Commanded, Tally, WorldRules};

/// Live heap bytes of the process.
struct Live;

static LIVE: AtomicI64 = AtomicI64::new(0);

#[expect(
    unsafe_code,
    reason = "a counting allocator is an unsafe trait by nature"
)]
// SAFETY: every call is handed to the system's allocator unchanged; only a counter is kept.
unsafe impl GlobalAlloc for Live {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Live = Live;

fn world(capacity: u32) -> (ScannedWorld, i64) {
    let commanded = Commanded::new(capacity);
    let before = LIVE.load(Ordering::Relaxed);
    let size = WorldSize {
        capacity,
        capacity_max: capacity,
    };
    let world = ScannedWorld::new(size, WorldRules::default(), commanded, Tally::default());
    (world, LIVE.load(Ordering::Relaxed) - before)
}

#[test]
fn a_row_costs_no_more_than_its_budget() {
    const BUDGET: f64 = 64.0;
    let (small, fixed) = world(1_000);
    for rows in [200_000, 1_000_000] {
        let (large, bytes) = world(rows);
        let per_row = (bytes - fixed) as f64 / f64::from(rows - 1_000);
        println!("{rows} rows: {per_row:.1} bytes per row");
        assert!(per_row <= BUDGET, "{rows} rows: {per_row:.1} bytes per row");
        assert_eq!(large.rows(), rows);
    }
    drop(small);
}
