//! What a device costs: every byte that its process allocates for it, counted.

use std::alloc::{GlobalAlloc, Layout, System as Heap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actorsim_actors::shard::SimShards;
use actorsim_actors::{Clock, System};
use actorsim_fleet::device::{Device, Identity};
use actorsim_fleet::{Fleet, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision};
use actorsim_transport::TransportStats;

/// Bytes allocated and not freed.
static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[expect(unsafe_code, reason = "a counting allocator has no safe form")]
// SAFETY: every call goes to the system's allocator unchanged; only sizes are added up.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { Heap.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { Heap.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn an_idle_device_of_seven_sensors_costs_less_than_400_bytes() {
    const DEVICES: u32 = 10_240;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let system = System::new(Clock::virtual_from(0), runtime.handle().clone());
    let profile = Arc::new(Profile::load("industrial").unwrap().profile);
    let mut shards = SimShards::of(&system, 2);
    let before = LIVE.load(Ordering::Relaxed);
    // What waits for a link that is not there is bounded by the link: it is no cost of a device.
    let population = Population {
        t1: false,
        ..Population::new("default", profile, DEVICES, 1)
    };
    let stats = TransportStats::new();
    let uplink = Uplink::Links {
        node: "test".to_owned(),
        stats,
    };
    let fleet = Fleet::new(&system, vec![population], 2, uplink).unwrap();
    let supervision = Arc::new(Supervision::default());
    fleet
        .start(shards.shards(), &Policies::shipped(), &supervision)
        .unwrap();
    // Every cell has ticked once, has a live timer, and answers by name (the directory).
    let end = shards.now() + Duration::from_secs(6);
    shards.run_until(end);
    assert_eq!(fleet.counts().running, u64::from(DEVICES));
    assert!(fleet.tally().ticks >= u64::from(DEVICES));
    let whole = LIVE.load(Ordering::Relaxed) - before;
    let each = whole as u64 / u64::from(DEVICES);
    println!("{each} bytes per device, of these:");
    println!(
        "  identity {} cell {}",
        size_of::<Identity>(),
        size_of::<Device>()
    );
    assert!(each < 400, "{each} bytes per device");
}
