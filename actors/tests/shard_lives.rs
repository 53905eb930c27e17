//! What a shard promises when its thread dies: its cells exit with `host_down`, and all that is
//! more than its thread goes on with the next one. On a parked thread, on a ring, on one that is
//! made late and in virtual time.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "shard_kit/kit.rs"]
mod kit;
#[path = "net_kit/kit.rs"]
mod net_kit;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actorsim_actors::shard::{
    Accept, Backend, ReviveError, ShardConfig, ShardCores, ShardHandle, SlabHandle, SocketEnd,
};
use actorsim_actors::{CellDecision, Clock, ExitReason, Incarnation, MailboxSpec, Overflow};
use kit::{Do, Host, LAST, Plan, Probe, Sent, Threads, Virtual};
use net_kit::{Manner, Rules, Seen, Stage};
use parking_lot::Mutex;
use rustix::thread::{CpuSet, sched_setaffinity};

/// So many shards whose slabs wait for their next thread.
fn held(shards: usize) -> ShardConfig {
    ShardConfig {
        shards,
        backend: Backend::Portable,
        hold: true,
        ..ShardConfig::default()
    }
}

/// Runs a test body on all hosts, with so many shards.
macro_rules! on_all_hosts {
    ($($name:ident($shards:expr) => $body:ident;)*) => {
        mod portable {
            use super::*;
            $(#[test] fn $name() {
                $body(Threads::start(Clock::wall(), &held($shards)).unwrap());
            })*
        }
        mod uring {
            use super::*;
            $(#[test] fn $name() {
                if let Some(host) = Threads::rings($shards, held($shards)) { $body(host); }
            })*
        }
        mod made_late {
            use super::*;
            $(#[test] fn $name() { $body(Threads::late($shards, held($shards))); })*
        }
        mod sim {
            use super::*;
            $(#[test] fn $name() { $body(Virtual::new($shards)); })*
        }
    };
}

on_all_hosts! {
    cells_of_a_thread_that_dies_come_back_on_the_next(2) => come_back;
    a_host_that_stops_while_a_shard_is_down_closes_what_waits(1) => stopped_down;
    sockets_of_a_thread_that_dies_are_reset_and_opened_again(2) => sockets;
}

type Exits = Arc<Mutex<Vec<(u32, ExitReason)>>>;

/// Four cells whose messages outlive them, and what they exit with.
fn plan() -> (Plan, Exits) {
    let exits = Exits::default();
    let told = Arc::clone(&exits);
    let plan = Plan {
        mailbox: MailboxSpec::new(64, Overflow::Reject).kept(),
        decide: Box::new(move |ordinal, _, reason, now| {
            told.lock().push((ordinal, reason.clone()));
            CellDecision::Restart { at: now }
        }),
        ..Plan::default()
    };
    (plan, exits)
}

fn down(host: &mut impl Host, shard: &ShardHandle) {
    let life = shard.incarnation();
    shard.kill();
    host.until(|| shard.is_down());
    assert_eq!(host.answer(shard.died()), "killed");
    assert_eq!(shard.incarnation(), life, "the next has not begun");
    assert_eq!(shard.stats().deaths, u64::from(life.0));
}

/// Values that a cell has sent, with the identity at that time.
fn of(sent: &Sent, ordinal: u32) -> Vec<(u64, u64)> {
    let sent = sent.lock();
    let own = sent.iter().filter(|entry| entry.0 == ordinal);
    own.map(|entry| (entry.2, entry.3)).collect()
}

fn all_running(host: &mut impl Host, slab: &SlabHandle<Probe>, restarts: u64) {
    host.until(|| (slab.counts().running, slab.counts().restarts) == (4, restarts));
}

fn come_back(mut host: impl Host) {
    let (shard, other) = (host.shards()[0].clone(), host.shards()[1].clone());
    let (own, exits) = plan();
    let (slab, sent) = own.add(&shard);
    let pinned = plan().0.add_pinned(&shard);
    let (witness, _) = plan().0.add(&other);
    for slab in [&slab, &pinned, &witness] {
        all_running(&mut host, slab, 0);
    }
    for life in 1..=3 {
        slab.send(3, Do::Tick(Duration::from_millis(1), u64::MAX))
            .unwrap();
        (0..3).for_each(|cell| slab.send(cell, Do::Put(u64::from(life))).unwrap());
        let before = of(&sent, 3).len();
        host.until(|| slab.books().handled == u64::from(life) * 8 - 4);
        host.until(|| of(&sent, 3).len() > before);
        let stats = shard.stats();
        down(&mut host, &shard);

        let told: Vec<_> = exits.lock().drain(..).collect();
        let all: Vec<_> = (0..4).map(|cell| (cell, ExitReason::HostDown)).collect();
        assert_eq!(told, all, "each once, in their order");
        assert_eq!(slab.counts().restarting, 4);
        assert!(shard.is_up(), "it takes what its next thread will do");
        (0..4).for_each(|cell| slab.send(cell, Do::Put(7)).unwrap());
        assert_eq!(slab.counts().queued, 4);
        let books = slab.books();
        assert!(books.balanced(), "{books:?}");
        let (late, _) = Plan::default().add(&shard);

        shard.revive().unwrap();
        host.until(|| !shard.is_down());
        assert!(matches!(shard.revive(), Err(ReviveError::Running)));
        let restarts = u64::from(life) * 4;
        all_running(&mut host, &slab, restarts);
        all_running(&mut host, &pinned, restarts);
        host.until(|| slab.books().handled == u64::from(life) * 8);
        host.until(|| late.counts().running == 4);
        host.answer(late.close()).unwrap();
        let info = host.answer(slab.info(2)).unwrap();
        assert_eq!(info.incarnation, Incarnation(life + 1));
        assert_eq!(info.last_exit.as_deref(), Some("host_down"));
        let after = shard.stats();
        assert_eq!(after.incarnation, life + 1);
        assert!(after.messages >= stats.messages + 4, "counters go on");
        assert!(after.timers_fired >= stats.timers_fired && after.steps >= stats.steps);
        assert_eq!(after.migrations_in, 0);
    }
    // What belongs to the slab went on: identities count, a tick of a former life never came.
    let own: Vec<_> = of(&sent, 1);
    let values = [(1, 1), (2, 7), (3, 2), (4, 7), (5, 3), (6, 7)];
    let values: Vec<_> = values.map(|(n, value)| (1_000 + n, value)).into();
    assert_eq!(own, values);
    let counts = witness.counts();
    assert_eq!(
        (counts.running, counts.restarts),
        (4, 0),
        "another thread's"
    );
    let books = slab.books();
    assert!(books.balanced() && books.waiting == 0, "{books:?}");
    host.stop();
    assert_eq!(
        of(&sent, 1).last(),
        Some(&(1_007, LAST)),
        "stopped in order"
    );
}

fn stopped_down(mut host: impl Host) {
    let shard = host.shard();
    let (slab, sent) = plan().0.add(&shard);
    let pinned = plan().0.add_pinned(&shard);
    all_running(&mut host, &slab, 0);
    all_running(&mut host, &pinned, 0);
    down(&mut host, &shard);
    slab.send(1, Do::Put(7)).unwrap();
    host.stop();
    assert!(slab.send(1, Do::Put(8)).is_err() && pinned.send(1, Do::Put(8)).is_err());
    let (books, counts) = (slab.books(), slab.counts());
    assert!(books.balanced() && books.waiting == 0, "{books:?}");
    assert_eq!(
        (counts.stopped, counts.undeliverable, books.offered),
        (4, 1, 1)
    );
    assert!(sent.lock().is_empty(), "nobody lived to take a last step");
    assert!(matches!(shard.revive(), Err(ReviveError::Stopped)));
}

fn sockets(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let (shard, other) = (
        stage.host.shards()[0].clone(),
        stage.host.shards()[1].clone(),
    );
    let far = net_kit::spec(&stage.shared, std::iter::once(64..128).collect());
    let far = other.add_slab(far).unwrap();
    stage.host.until(|| far.counts().running == 64);
    let near = stage.slab.clone();
    for life in 1..=3u64 {
        let at = stage.listen(Manner::Echoes, Accept::Here);
        stage.connect(1, at);
        stage.write(1, b"near");
        stage.until_received(1, b"near");
        // The other end of this one is on a shard that lives on.
        stage.slab = far.clone();
        stage.connect(64, at);
        stage.write(64, b"far");
        stage.until_received(64, b"far");
        stage.shared.log.lock().clear();

        down(&mut stage.host, &shard);
        stage.until_seen(64, |seen| *seen == Seen::Ended(SocketEnd::Reset));
        let stats = shard.stats().net;
        assert!(stats.balanced(), "{stats:?}");
        stage.slab = near.clone();
        shard.revive().unwrap();
        let all = life * 64;
        stage
            .host
            .until(|| (near.counts().running, near.counts().restarts) == (64, all));
        stage.until_alive(0);
        stage.shared.log.lock().clear();
    }
    let far = other.stats().net;
    assert_eq!((far.ends.reset, far.alive()), (3, 0));
    let stats = stage.stop();
    assert_eq!((stats.asked, stats.accepted), (6, 6));
}

#[test]
fn without_a_next_thread_slabs_go_where_they_may_or_are_closed() {
    let config = ShardConfig {
        hold: false,
        ..held(2)
    };
    let mut host = Threads::start(Clock::wall(), &config).unwrap();
    let shard = host.shards()[0].clone();
    let (slab, _) = plan().0.add(&shard);
    let pinned = plan().0.add_pinned(&shard);
    all_running(&mut host, &slab, 0);
    all_running(&mut host, &pinned, 0);
    down(&mut host, &shard);
    assert!(!shard.is_up());
    all_running(&mut host, &slab, 4);
    assert_eq!(slab.shard(), 1);
    slab.send(1, Do::Put(7)).unwrap();
    host.until(|| slab.books().handled == 1);
    assert!(pinned.send(1, Do::Put(7)).is_err());
    assert_eq!(pinned.counts().stopped, 4);
    host.stop();
}

#[test]
fn the_next_thread_stays_on_the_core_of_the_former() {
    let config = ShardConfig {
        cores: ShardCores::Spread,
        ..held(1)
    };
    let mut host = Threads::start(Clock::wall(), &config).unwrap();
    let shard = host.shards()[0].clone();
    let (slab, _) = plan().0.add(&shard);
    all_running(&mut host, &slab, 0);
    let core = ShardCores::allowed().first().copied();
    assert!(core.is_some());
    assert_eq!(shard.stats().core, core);
    down(&mut host, &shard);
    shard.revive().unwrap();
    all_running(&mut host, &slab, 4);
    assert_eq!(shard.stats().core, core);
    host.stop();
}

/// A thread has its mask from the one that starts it, which may be kept on some core itself.
#[test]
fn the_next_thread_stays_on_its_core_also_if_one_of_another_core_starts_it() {
    let allowed = ShardCores::allowed();
    let (own, other) = (allowed[0], allowed[allowed.len() - 1]);
    let config = ShardConfig {
        cores: ShardCores::Listed(vec![own]),
        ..held(1)
    };
    let mut host = Threads::start(Clock::wall(), &config).unwrap();
    let shard = host.shards()[0].clone();
    let (slab, _) = plan().0.add(&shard);
    all_running(&mut host, &slab, 0);
    down(&mut host, &shard);
    let reviver = shard.clone();
    let revived = std::thread::spawn(move || {
        let mut kept = CpuSet::new();
        kept.set(other);
        sched_setaffinity(None, &kept).unwrap();
        reviver.revive()
    });
    revived.join().unwrap().unwrap();
    all_running(&mut host, &slab, 4);
    assert_eq!(shard.stats().core, Some(own));
    host.stop();
}

/// Whichever of both is first: nobody may be left who waits for room in a queue that nobody reads.
#[test]
fn a_host_that_is_dropped_while_a_shard_dies_closes_what_waits() {
    for _ in 0..20 {
        let mut host = Threads::start(Clock::wall(), &held(1)).unwrap();
        let shard = host.shard();
        let slab = plan().0.add_pinned(&shard);
        all_running(&mut host, &slab, 0);
        shard.kill();
        drop(host);
        let until = Instant::now() + kit::PATIENCE;
        while slab.counts().stopped < 4 {
            assert!(Instant::now() < until, "{:?}", slab.counts());
            std::thread::yield_now();
        }
        assert!(slab.send(1, Do::Put(7)).is_err() && slab.books().balanced());
    }
}
