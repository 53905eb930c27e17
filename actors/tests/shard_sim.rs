//! What virtual time adds: the same bytes for the same seed, on any number of shards; exact ticks;
//! fairness counted in steps, not in seconds.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "shard_kit/kit.rs"]
mod kit;

use std::time::Duration;

use actorsim_actors::shard::SimShards;
use actorsim_actors::{CellDecision, Clock, ExitReason, MailboxSpec, Overflow, Time};
use kit::{Do, Host, Plan, Rules, Sent, Threads, Virtual};

const MS: u64 = 1_000_000;

/// A run with faults, kills and ticks; per cell what it sent, in order.
fn run(shards: usize, seed: u64) -> Vec<Vec<(u32, u32, u64, u64)>> {
    const CELLS: u32 = 1_000;
    let mut sim = SimShards::new(Clock::virtual_from(0), shards);
    let sent = Sent::default();
    let slabs: Vec<_> = (0..shards)
        .map(|shard| {
            // Groups of 256 dealt round.
            let ordinals = (0..CELLS.div_ceil(256))
                .filter(|g| *g as usize % shards == shard)
                .map(|g| g * 256..(g * 256 + 256).min(CELLS))
                .collect();
            let decide = Box::new(
                |ordinal: u32, _, _: &ExitReason, now| CellDecision::Restart {
                    at: now + Duration::from_millis(u64::from(ordinal % 7)),
                },
            );
            let mailbox = MailboxSpec::new(4, Overflow::DropOldest);
            let plan = Plan {
                ordinals,
                decide,
                mailbox,
                ..Plan::default()
            };
            plan.add_to(&sim.shards()[shard], &sent)
        })
        .collect();
    let mut state = seed;
    for window in 1..=20u64 {
        for _ in 0..500 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let draw = state >> 33;
            let ordinal = (draw % u64::from(CELLS)) as u32;
            let slab = slabs.iter().find(|slab| slab.has(ordinal)).unwrap();
            let order = match draw % 11 {
                0 => Do::PutAndFault(draw),
                1 => Do::PutAndPanic(draw),
                2 => Do::Tick(Duration::from_millis(1 + draw % 40), 3),
                3 => Do::End,
                _ => Do::Put(draw),
            };
            slab.send(ordinal, order).unwrap();
            if draw.is_multiple_of(97) {
                slab.kill(ordinal).unwrap();
            }
        }
        sim.run_until(Time(window * 10 * MS));
    }
    assert!(slabs.iter().all(|slab| slab.books().balanced()));
    sim.stop();
    let mut cells = vec![Vec::new(); CELLS as usize];
    for entry in sent.lock().iter() {
        cells[entry.0 as usize].push(*entry);
    }
    cells
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_one_and_three_shards() {
    let one = run(1, 7);
    assert_eq!(one, run(1, 7));
    assert_eq!(one, run(3, 7));
    assert_ne!(one, run(1, 8), "the seed must matter");
}

#[test]
fn ticks_come_at_their_time_and_cancelled_ones_do_not() {
    let mut host = Virtual::new(1);
    let (slab, sent) = Plan::default().add(&host.shard());
    host.shards.settle();
    slab.send(0, Do::Tick(Duration::from_millis(250), 5))
        .unwrap();
    slab.send(1, Do::Tick(Duration::from_millis(100), 50))
        .unwrap();
    host.shards.run_until(Time(450 * MS));
    slab.send(1, Do::Silence).unwrap();
    host.shards.run_until(Time(3_600_000 * MS));
    let of = |o| {
        sent.lock()
            .iter()
            .filter(|s| s.0 == o)
            .map(|s| s.3)
            .collect::<Vec<_>>()
    };
    assert_eq!(of(0), [250, 500, 750, 1_000, 1_250]);
    assert_eq!(of(1), [100, 200, 300, 400]);
    let counts = slab.counts();
    assert_eq!(
        (counts.timers_fired, counts.timers_late, counts.timers),
        (9, 0, 0)
    );
    host.stop();
}

#[test]
fn a_flooded_cell_does_not_starve_its_neighbour() {
    let mut host = Virtual::new(1);
    let mailbox = MailboxSpec::new(50_000, Overflow::Reject);
    let (slab, sent) = Plan {
        mailbox,
        ..Plan::default()
    }
    .add(&host.shard());
    for n in 0..50_000 {
        slab.send(0, Do::Put(n)).unwrap();
    }
    slab.send(1, Do::Put(1)).unwrap();
    host.shards.settle();
    let turn = sent.lock().iter().position(|s| s.0 == 1).unwrap();
    assert!(turn <= 16, "the neighbour had to wait for {turn} messages");
    assert_eq!(slab.books().handled, 50_001);
    host.stop();
}

#[test]
fn timers_die_with_their_incarnation() {
    let mut host = Virtual::new(1);
    let (slab, sent) = Plan::default().add(&host.shard());
    host.shards.settle();
    slab.send(0, Do::Tick(Duration::from_millis(10), 100))
        .unwrap();
    host.shards.run_until(Time(25 * MS));
    slab.kill(0).unwrap();
    host.shards.run_until(Time(1_000 * MS));
    assert_eq!(sent.lock().len(), 2);
    assert_eq!((slab.counts().timers, slab.counts().running), (0, 4));
    host.stop();
}

#[test]
fn a_scaled_clock_ticks_faster_and_backs_off_in_real_time() {
    let clock = Clock::scaled(1_000.0);
    let mut host = Threads::new(clock.clone());
    let pause = Duration::from_millis(30);
    let decide =
        Box::new(move |_, _, _: &ExitReason, now| CellDecision::Restart { at: now + pause });
    let (slab, sent) = Plan {
        decide,
        ..Plan::default()
    }
    .add(&host.shard());
    let begin = clock.monotonic();
    slab.send(0, Do::Tick(Duration::from_secs(60), 3)).unwrap();
    host.until(|| sent.lock().len() == 3);
    let took = clock.monotonic().since(begin);
    assert!(
        took >= Duration::from_millis(179),
        "three simulated minutes took {took:?}"
    );
    let begin = clock.monotonic();
    slab.kill(1).unwrap();
    host.until(|| slab.counts().restarts == 1);
    assert!(clock.monotonic().since(begin) >= pause);
    host.stop();
}

#[test]
fn a_start_that_always_fails_does_not_stop_time() {
    let mut host = Virtual::new(1);
    let rules = Rules {
        start_faults_below: Some((1, u32::MAX)),
        ..Rules::default()
    };
    let (slab, _) = Plan {
        rules,
        ..Plan::default()
    }
    .add(&host.shard());
    host.shards.run_until(Time(100 * MS));
    let counts = slab.counts();
    assert!(
        (90..=101).contains(&counts.faults),
        "{} starts in 100 ms",
        counts.faults
    );
    assert_eq!(
        (counts.running, counts.restarting, counts.timers),
        (3, 1, 0)
    );
    host.stop();
}
