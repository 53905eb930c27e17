//! Slabs that move between shards: nothing is lost, doubled, overtaken or late by it, wherever they
//! are stopped on the way. (What every host promises is tried on the move in `shard_conformance`
//! and `shard_messages`.)

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "shard_kit/kit.rs"]
mod kit;
#[path = "message_kit/kit.rs"]
mod office;

use std::time::Duration;

use actorsim_actors::shard::{MigrateError, ShardConfig, SimShards, SlabHandle};
use actorsim_actors::{Books, CellDecision, Clock, MailboxSpec, Overflow, SendError, Time};
use kit::roaming::Roaming;
use kit::{Do, Host, LAST, Plan, Sent, Threads, Virtual};
use office::{Burst, End, Letter, Office, WALKERS, reject};

/// Two rings, or parked threads where the kernel refuses rings.
fn threads(shards: usize) -> Threads {
    Threads::rings(shards, ShardConfig::default()).unwrap_or_else(|| Threads::parked(shards))
}

fn values(sent: &Sent, ordinal: u32) -> Vec<u64> {
    let sent = sent.lock();
    let own = sent.iter().filter(|entry| entry.0 == ordinal);
    own.map(|entry| entry.3).collect()
}

/// Cells send to cells, and threads to both, in four slabs of two that never rest.
fn streams<H: Host>(mut host: Roaming<H>) {
    const EACH: u64 = 400;
    let ordinals = (0..4).map(|n| std::iter::once(n * 2..n * 2 + 2).collect());
    let mailbox = MailboxSpec::new(8, Overflow::Block);
    let office = Office::open(&host.shards(), ordinals.collect(), mailbox, 16);
    // Block edges form no cycle: the first two slabs send to the others.
    let pairs: Vec<_> = (0..4u32)
        .flat_map(|from| [0, 1].map(|n| (from, 4 + (from + n) % 4)))
        .collect();
    for (from, to) in &pairs {
        let burst = Burst {
            to: *to,
            count: EACH,
            patience: Some(Duration::from_secs(3_600)),
            end: End::Well,
        };
        office.send(*from, Letter::Burst(burst));
    }
    // From outside, through lanes of their own.
    let lanes: Vec<_> = office.slabs.iter().map(SlabHandle::lane).collect();
    let outside = |lane: usize| 100 + lane as u32;
    let mut fed = vec![0; lanes.len()];
    let all = pairs.len() as u64 * EACH + lanes.len() as u64 * EACH;
    let shards = host.shards();
    let moves = || shards.iter().map(|s| s.stats().migrations_in).sum::<u64>();
    host.until(|| {
        for (at, lane) in lanes.iter().enumerate() {
            let (from, n) = (outside(at), fed[at]);
            if n < EACH && n <= moves() * 4 {
                match lane.send(at as u32 * 2, Letter::Note { from, n }) {
                    Ok(()) => fed[at] += 1,
                    Err(SendError::Full(_)) => {} // it waits, and holds enough
                    Err(other) => panic!("{other}"),
                }
            }
        }
        office.notes.lock().len() as u64 == all
    });
    for (from, to) in pairs {
        // A cell numbers its letters to both its addressees in one series.
        let got = office.of(to, from);
        assert_eq!(got.len() as u64, EACH, "{from} to {to}");
        assert!(got.is_sorted_by(|a, b| a < b), "{from} to {to}: {got:?}");
    }
    for at in 0..lanes.len() {
        let got = office.of(at as u32 * 2, outside(at));
        assert_eq!(got, (0..EACH).collect::<Vec<_>>());
    }
    let books = || office.slabs.iter().map(SlabHandle::books).sum::<Books>();
    host.until(|| books().waiting == 0);
    assert!(books().balanced() && books().rejected == 0, "{:?}", books());
    assert!(moves() >= EACH / 4 - 1, "only {} moves", moves());
    host.stop();
}

#[test]
fn streams_stay_in_order_while_slabs_move_between_threads() {
    streams(Roaming::new(threads(2)));
    streams(Roaming::new(Threads::parked(3)));
}

#[test]
fn streams_stay_in_order_while_slabs_move_in_virtual_time() {
    streams(Roaming::new(Virtual::new(3)));
}

fn ticks<H: Host>(mut host: Roaming<H>) {
    let (slab, sent) = Plan::default().add(&host.shard());
    for ordinal in 0..4 {
        let every = Duration::from_millis(1 + u64::from(ordinal));
        slab.send(ordinal, Do::Tick(every, u64::MAX)).unwrap();
    }
    let shards = host.shards();
    let moves = || shards.iter().map(|s| s.stats().migrations_in).sum::<u64>();
    host.until(|| moves() > 10 && (0..4).all(|cell| values(&sent, cell).len() >= 60));
    for ordinal in 0..4 {
        let due = values(&sent, ordinal);
        let mut steps = due.windows(2).map(|w| w[1] - w[0]);
        assert!(steps.all(|step| step == 1 + u64::from(ordinal)), "{due:?}");
    }
    host.stop();
}

#[test]
fn timers_go_on_where_their_slab_goes() {
    ticks(Roaming::new(threads(2)));
    ticks(Roaming::new(Virtual::new(2)));
}

#[test]
fn a_restart_that_waits_moves_with_its_supervisor() {
    let mut host = Virtual::new(2);
    let decide = Box::new(|_, _, _: &_, now: Time| CellDecision::Restart {
        at: now + Duration::from_millis(50),
    });
    let plan = Plan {
        decide,
        ..Plan::default()
    };
    let (slab, _) = plan.add(&host.shard());
    host.shards.settle();
    slab.kill(1).unwrap();
    host.shards.run_until(Time(10_000_000));
    assert_eq!(slab.counts().restarting, 1);
    let other = host.shards()[1].clone();
    assert_eq!(host.answer(slab.migrate(&other)), Ok(()));
    assert_eq!((slab.shard(), slab.counts().restarting), (1, 1));
    host.shards.run_until(Time(49_000_000));
    assert_eq!(slab.counts().running, 3);
    host.shards.run_until(Time(51_000_000));
    assert_eq!((slab.counts().running, slab.counts().restarts), (4, 1));
    host.stop();
}

#[test]
fn kills_and_stops_asked_for_on_the_way_are_done_on_the_other_side() {
    let mut host = threads(2);
    let shards = host.shards();
    for round in 0..50 {
        let (slab, sent) = Plan::default().add(&shards[round % 2]);
        host.until(|| slab.counts().running == 4);
        slab.move_to(&shards[(round + 1) % 2]).unwrap();
        slab.kill(0).unwrap();
        slab.stop(1).unwrap();
        slab.send(2, Do::PutAndFault(7)).unwrap();
        slab.send(3, Do::Put(8)).unwrap();
        host.until(|| slab.counts().restarts == 2 && slab.counts().stopped == 1);
        host.until(|| slab.books().handled + slab.books().died == 2);
        assert_eq!(slab.shard(), (round + 1) % 2);
        assert_eq!(values(&sent, 1), [LAST]);
        assert_eq!(values(&sent, 3), [8]);
        slab.move_to(&shards[round % 2]).unwrap();
        host.answer(slab.close()).unwrap();
        assert!(slab.books().balanced());
    }
    host.stop();
}

#[test]
fn a_host_that_stops_while_slabs_are_on_their_way_stops_each_cell_in_order_once() {
    for round in 0..40u64 {
        let mut host = threads(2);
        let shards = host.shards();
        let slabs: Vec<_> = (0..6)
            .map(|n| Plan::default().add(&shards[n % 2]))
            .collect();
        host.until(|| slabs.iter().all(|(slab, _)| slab.counts().running == 4));
        for (n, (slab, _)) in slabs.iter().enumerate() {
            slab.move_to(&shards[(n + 1) % 2]).unwrap();
            slab.send(0, Do::Put(round)).unwrap();
        }
        host.stop();
        for (slab, sent) in slabs {
            let (books, counts) = (slab.books(), slab.counts());
            assert!(books.balanced() && books.waiting == 0, "{books:?}");
            assert_eq!((books.offered, counts.stopped), (1, 4));
            assert_eq!(values(&sent, 0).last(), Some(&LAST));
            assert!((1..4).all(|ordinal| values(&sent, ordinal) == [LAST]));
        }
    }
}

#[test]
fn a_slab_goes_only_where_it_may() {
    let mut host = Virtual::new(2);
    let stranger = Virtual::new(2);
    let (slab, _) = Plan::default().add(&host.shard());
    let [here, there] = [0, 1].map(|n| host.shards()[n].clone());
    let foreign = stranger.shard();
    assert_eq!(
        host.answer(slab.migrate(&foreign)),
        Err(MigrateError::Foreign)
    );
    assert_eq!(host.answer(slab.migrate(&here)), Ok(()));
    assert_eq!((slab.shard(), here.stats().migrations_out), (0, 0));
    assert_eq!(host.answer(slab.migrate(&there)), Ok(()));
    host.shards.settle();
    assert_eq!((slab.shard(), here.stats().migrations_out), (1, 1));
    assert_eq!((here.stats().slabs, there.stats().slabs), (0, 1));
    assert_eq!(there.stats().migrations_in, 1);

    let pinned = Plan::default().add_pinned(&here);
    assert!(!pinned.is_movable());
    assert_eq!(
        host.answer(pinned.migrate(&there)),
        Err(MigrateError::Pinned)
    );
    host.answer(slab.close()).unwrap();
    assert_eq!(host.answer(slab.migrate(&here)), Err(MigrateError::Closed));
    host.shards.stop();
    assert_eq!(pinned.move_to(&there), Err(MigrateError::Pinned));
    assert_eq!(slab.move_to(&there), Err(MigrateError::Stopped));
    stranger.stop();
}

/// Random walks with faults, four slabs on `shards` shards; one of them moves in each window.
fn walk(shards: usize, moves: bool) -> Vec<Vec<(u32, u64)>> {
    let mut sim = SimShards::new(Clock::virtual_from(0), shards);
    let ordinals = (0..4).map(|n| std::iter::once(n * 256..(n * 256 + 256).min(WALKERS)).collect());
    let office = Office::open(sim.shards(), ordinals.collect(), reject(3), 64);
    for window in 1..=5u64 {
        if moves {
            for (n, slab) in office.slabs.iter().enumerate() {
                let to = (n + window as usize) % shards;
                slab.move_to(&sim.shards()[to]).unwrap();
            }
        }
        for walker in 0..400u32 {
            let state = 7u64.wrapping_mul(u64::from(walker + 1) * window);
            office.send(walker * 5 % WALKERS, Letter::Walk { hops: 40, state });
        }
        sim.run_until(Time(window * 1_000_000));
    }
    assert_eq!(sim.shards()[0].stats().migrations_in > 0, moves);
    sim.stop();
    let mut cells = vec![Vec::new(); WALKERS as usize];
    for (ordinal, hops, state) in office.notes.lock().iter() {
        cells[*ordinal as usize].push((*hops, *state));
    }
    cells
}

#[test]
fn in_virtual_time_nothing_depends_on_where_slabs_are() {
    let resting = walk(1, false);
    assert!(resting.iter().map(Vec::len).sum::<usize>() > 10_000);
    assert_eq!(resting, walk(3, true));
    assert_eq!(resting, walk(2, true));
}
