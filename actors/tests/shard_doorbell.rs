//! The doorbell under load and at rest, on parked threads and on rings: every message wakes a shard
//! that sleeps, and a shard without work does not wake.
//!
//! A message that nobody wakes the shard for shows as a test that gives up after its patience.
//! Rings that the kernel refuses are skipped, with the reason printed.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "shard_kit/kit.rs"]
mod kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use actorsim_actors::shard::{
    Backend, RingConfig, ShardConfig, ShardHandle, SlabHandle, StartShardsError,
};
use actorsim_actors::{Clock, Level, MailboxSpec, Overflow};
use kit::{Do, Host, PATIENCE, Plan, Probe, Threads};

/// All kinds of threads, `shards` of them: parked, parked until they get rings, on rings.
fn hosts(shards: usize) -> Vec<Threads> {
    let start = |backend| {
        let config = ShardConfig {
            shards,
            backend,
            ..ShardConfig::default()
        };
        Threads::start(Clock::wall(), &config).unwrap()
    };
    let rings = Threads::rings(shards, ShardConfig::default());
    let parked = [Backend::Portable, Backend::Auto].map(start);
    parked.into_iter().chain(rings).collect()
}

fn add(shard: &ShardHandle) -> SlabHandle<Probe> {
    let mailbox = MailboxSpec::new(1_024, Overflow::Reject);
    let plan = Plan {
        mailbox,
        ..Plan::default()
    };
    plan.add(shard).0
}

fn all_run(host: &mut Threads, slabs: &[SlabHandle<Probe>]) {
    host.until(|| slabs.iter().all(|slab| slab.counts().running == 4));
}

/// All cells run and all shards sleep: whoever is the first to send must ring.
fn all_sleep(host: &mut Threads, slabs: &[SlabHandle<Probe>]) {
    all_run(host, slabs);
    let shards = host.host().shards().to_vec();
    host.until(|| shards.iter().all(|shard| shard.stats().waits > 0));
}

#[test]
fn no_message_of_many_senders_with_idle_gaps_is_left_behind() {
    const SENDERS: u64 = 8;
    const EACH: u64 = 1_500;
    for mut host in hosts(1) {
        let slab = add(&host.shard());
        all_sleep(&mut host, std::slice::from_ref(&slab));
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let slab = slab.lane();
                thread::spawn(move || {
                    let mut state = sender + 1;
                    for n in 0..EACH {
                        slab.send((n % 4) as u32, Do::Put(n)).unwrap();
                        state = state.wrapping_mul(6_364_136_223_846_793_005) + 1;
                        // Mostly bursts, at times long enough for the shard to fall asleep.
                        if (state >> 60) < 3 {
                            thread::park_timeout(Duration::from_micros(state >> 57));
                        }
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.join().unwrap();
        }
        host.until(|| slab.books().offered == SENDERS * EACH && slab.books().waiting == 0);
        assert!(slab.books().balanced());
        let stats = host.shard().stats();
        assert!(stats.rings > 0 && stats.rings <= stats.waits, "{stats:?}");
        host.stop();
    }
}

#[test]
fn each_single_message_wakes_a_sleeping_shard() {
    const TIMES: u64 = 2_000;
    for mut host in hosts(1) {
        let slab = add(&host.shard());
        all_sleep(&mut host, std::slice::from_ref(&slab));
        for n in 1..=TIMES {
            slab.send(1, Do::Put(n)).unwrap();
            host.until(|| slab.books().handled == n);
        }
        let stats = host.shard().stats();
        assert!(stats.rings > 0 && stats.rings <= stats.waits, "{stats:?}");
        host.stop();
    }
}

#[test]
fn shards_wake_each_other_back_and_forth() {
    const HOPS: u64 = 4_000;
    for (kind, mut host) in hosts(2).into_iter().enumerate() {
        let shards = host.host().shards().to_vec();
        let slabs = Arc::new([add(&shards[0]), add(&shards[1])]);
        all_sleep(&mut host, &*slabs);
        let hops = Arc::new(AtomicU64::new(0));
        hop(&slabs, &hops, HOPS);
        host.until(|| hops.load(Ordering::Relaxed) == HOPS);
        let stats = shards.iter().map(ShardHandle::stats);
        let doorbells: u64 = stats.clone().map(|s| s.doorbells).sum();
        let rings: u64 = stats.map(|s| s.rings).sum();
        match kind {
            0 => assert_eq!(doorbells, 0),
            // It may be over before there are rings.
            1 => assert!(doorbells <= rings, "{doorbells} {rings}"),
            _ => assert!(doorbells > 0 && doorbells <= rings, "{doorbells} {rings}"),
        }
        host.stop();
    }
}

/// Runs on one shard, and asks the other one to run the rest.
fn hop(slabs: &Arc<[SlabHandle<Probe>; 2]>, hops: &Arc<AtomicU64>, left: u64) {
    if left == 0 {
        return;
    }
    let (all, count) = (Arc::clone(slabs), Arc::clone(hops));
    let asked = slabs[(left % 2) as usize].with_out(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        hop(&all, &count, left - 1);
    });
    // The request is queued by the first poll; nobody waits for the answer.
    let _ = futures_util::FutureExt::now_or_never(asked);
}

#[test]
fn a_shard_without_work_does_not_wake() {
    for mut host in hosts(2) {
        let shards = host.host().shards().to_vec();
        let slabs: Vec<_> = shards.iter().map(add).collect();
        all_run(&mut host, &slabs);
        // One message over, so that a ring that was woken is what comes to rest.
        slabs[0].send(0, Do::Put(1)).unwrap();
        host.until(|| slabs[0].books().handled == 1);
        let stats = || shards.iter().map(ShardHandle::stats).collect::<Vec<_>>();
        let mut before = stats();
        // Whoever wakes at all wakes in each half second; who has not come to rest yet may once.
        host.until(|| {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(500) {
                thread::park_timeout(Duration::from_millis(100));
            }
            let after = stats();
            let mut pairs = before.iter().zip(&after);
            let rests = pairs.all(|(before, after)| {
                after.waits - before.waits <= 2 && after.enters - before.enters <= 2
            });
            println!("{before:?} {after:?}");
            before = after;
            rests
        });
        host.stop();
    }
}

#[test]
fn ticks_come_in_time_and_nothing_else_wakes_the_shard() {
    const TICKS: u64 = 20;
    for mut host in hosts(1) {
        let slab = add(&host.shard());
        all_run(&mut host, std::slice::from_ref(&slab));
        let before = host.shard().stats().waits;
        slab.send(0, Do::Tick(Duration::from_millis(10), TICKS))
            .unwrap();
        host.until(|| slab.counts().timers_fired == TICKS);
        let waits = host.shard().stats().waits - before;
        // One that comes a period late is followed by the next without a wait; a tick that is due
        // within the shortest wait may take a second one.
        let late = slab.counts().timers_late;
        assert!(waits + late >= TICKS - 1, "{waits} waits, {late} late");
        assert!(waits <= 3 * TICKS, "{waits} waits");
        host.stop();
    }
}

#[test]
fn the_backend_is_chosen_at_start_and_said() {
    let said = |config: &ShardConfig| {
        let host = Threads::start(Clock::wall(), config).unwrap();
        let events = host.system().events().last(9);
        let event = events.iter().find(|e| e.name == "shards_backend").unwrap();
        let said = (host.host().backend(), event.level, event.text.clone());
        host.stop();
        said
    };
    let mut config = ShardConfig {
        shards: 2,
        backend: Backend::Portable,
        ..ShardConfig::default()
    };
    let (backend, level, text) = said(&config);
    assert_eq!((backend, level), (Backend::Portable, Level::Info));
    assert_eq!(text, "portable: 2 parked threads, as configured");

    config.backend = Backend::Auto;
    let (backend, level, text) = said(&config);
    println!("{text}");
    match backend {
        Backend::Auto => assert_eq!(level, Level::Info),
        _ => assert_eq!(level, Level::Warn, "a fall-back is a warning"),
    }
    assert!(text.starts_with(backend.label()), "{text}");
}

#[test]
fn each_shard_tells_whether_it_has_a_ring() {
    for mut host in hosts(2) {
        let shards = host.host().shards().to_vec();
        let slabs: Vec<_> = shards.iter().map(add).collect();
        all_run(&mut host, &slabs);
        for slab in &slabs {
            slab.send(0, Do::Tick(Duration::from_millis(1), 1_000_000))
                .unwrap();
        }
        host.until(|| slabs.iter().all(|slab| slab.counts().timers_fired >= 20));
        let has = host.host().backend() != Backend::Portable;
        host.until(|| shards.iter().all(|shard| shard.stats().ring == has));
        host.stop();
    }
}

#[test]
fn ring_sizes_are_the_operators_to_choose() {
    let entries = |entries, completions| ShardConfig {
        backend: Backend::Uring,
        ring: RingConfig {
            entries,
            completions,
            sqpoll: None,
        },
        ..ShardConfig::default()
    };
    let refused = Threads::start(Clock::wall(), &entries(8, 4)).err().unwrap();
    assert!(
        matches!(refused, StartShardsError::RingSize(_)),
        "{refused}"
    );
    let Some(mut host) = Threads::rings(2, entries(1, 1)) else {
        return;
    };
    let shards = host.host().shards().to_vec();
    let slabs: Vec<_> = shards.iter().map(add).collect();
    all_run(&mut host, &slabs);
    let begin = Instant::now();
    for n in 1..=500 {
        slabs.iter().for_each(|s| s.send(0, Do::Put(n)).unwrap());
        host.until(|| slabs.iter().all(|slab| slab.books().handled == n));
        assert!(begin.elapsed() < PATIENCE);
    }
    host.stop();
}
