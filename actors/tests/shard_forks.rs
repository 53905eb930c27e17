//! Forks of cells, on parked threads, on threads that get rings, on rings and in virtual time, with
//! slabs that stay and slabs that roam: answers in order, panics, what is refused.
//!
//! Rings that the kernel refuses are skipped, with the reason printed.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "shard_kit/kit.rs"]
mod kit;
#[macro_use]
#[path = "message_kit/kit.rs"]
mod office;

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{BRANCHES_MAX, SlabHandle, SlabSpec};
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Fault, Flow, ForkError,
    ForkRefused, Message,
};
use kit::roaming::{Roaming, added};
use kit::{Host, Virtual};
use office::{End, Live, reject};
use parking_lot::Mutex;

on_each_host! {
    answers_come_in_the_order_of_their_branches => in_order;
    a_branch_that_panics_ends_its_fork_only => panics;
    a_fork_has_none_or_many_branches_but_not_too_many => sizes;
    a_step_that_fails_has_forked_nothing => cut;
    a_fault_in_the_step_of_a_join_is_of_that_step => faulty_join;
}

/// Beyond the end of every test, also in virtual time.
const LONG: Duration = Duration::from_secs(1_000_000);

/// The branch that panics, where one does.
const BAD: u32 = 5;

struct Order {
    branches: u32,
    panics: bool,
    /// Fault when it is joined.
    chokes: bool,
    end: End,
}

impl Message for Order {}

fn split(branches: u32) -> Order {
    Order {
        branches,
        panics: false,
        chokes: false,
        end: End::Well,
    }
}

/// Ordinal and what came of its fork, or why nothing was forked.
type Joined = (u32, Result<Result<Vec<u64>, ForkError>, ForkRefused>);

#[derive(Default)]
struct Seen {
    joined: Mutex<Vec<Joined>>,
    failed: Mutex<Vec<Option<&'static str>>>,
}

struct Forker;

impl Cell for Forker {
    type Msg = Order;
    type Shared = Arc<Seen>;
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn handle(&mut self, order: Order, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        let Order { panics, chokes, .. } = order;
        let own = u64::from(cx.ordinal) << 32;
        let work = move |branch| {
            assert!(!panics || branch != BAD, "told to");
            own + u64::from(branch)
        };
        let joined = move |_: &mut Self, all, cx: &mut CellContext<'_, Self>| {
            cx.shared.joined.lock().push((cx.ordinal, Ok(all)));
            match chokes {
                true => Err(Fault::new("choked")),
                false => Ok(Flow::Continue),
            }
        };
        if let Err(refused) = cx.fork(order.branches, work, LONG, joined) {
            cx.shared.joined.lock().push((cx.ordinal, Err(refused)));
        }
        match order.end {
            End::Well => Ok(Flow::Continue),
            End::Fault | End::Sick => Err(Fault::new("told_to")),
            End::Panic => panic!("told to"),
        }
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

/// Restarts at once, and writes down the step that failed.
struct Clerk(Arc<Seen>);

impl CellSupervisor for Clerk {
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision {
        self.0.failed.lock().push(exit.in_hand);
        CellDecision::Restart { at: exit.now }
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

/// Four cells that fork.
struct Forest {
    slab: SlabHandle<Forker>,
    seen: Arc<Seen>,
}

impl Forest {
    fn plant(host: &mut impl Host) -> Self {
        let seen = Arc::<Seen>::default();
        let slab = host.shard().add_movable_slab(SlabSpec {
            path: ActorPath::new("/fleet/forest").unwrap(),
            name: Arc::new(|ordinal| format!("forker-{ordinal}")),
            ordinals: std::iter::once(0..4).collect(),
            shared: Arc::clone(&seen),
            out: (),
            identity: Box::new(|_| ()),
            mailbox: reject(64),
            supervisor: Box::new(Clerk(Arc::clone(&seen))),
        });
        let slab = slab.unwrap();
        added(&slab);
        host.until(|| slab.counts().running == 4);
        Self { slab, seen }
    }

    /// What comes of so many forks, by ordinal.
    fn joined(&self, host: &mut impl Host, forks: usize) -> Vec<Joined> {
        host.until(|| self.seen.joined.lock().len() >= forks);
        let mut joined = std::mem::take(&mut *self.seen.joined.lock());
        joined.sort_by_key(|(ordinal, _)| *ordinal);
        assert_eq!(joined.len(), forks);
        joined
    }
}

fn all(ordinal: u32, branches: u32) -> Joined {
    let answer = |branch| (u64::from(ordinal) << 32) + u64::from(branch);
    (ordinal, Ok(Ok((0..branches).map(answer).collect())))
}

fn in_order(mut host: impl Host) {
    let forest = Forest::plant(&mut host);
    for _ in 0..20 {
        for ordinal in 0..4 {
            forest.slab.send(ordinal, split(100 + ordinal)).unwrap();
        }
        let joined = forest.joined(&mut host, 4);
        let expected: Vec<_> = (0..4).map(|ordinal| all(ordinal, 100 + ordinal)).collect();
        assert_eq!(joined, expected);
    }
    let branches = |stats: &[actorsim_actors::shard::ShardStats]| -> u64 {
        stats.iter().map(|stats| stats.branches).sum()
    };
    let shards = host.shards();
    let stats = || shards.iter().map(|s| s.stats()).collect::<Vec<_>>();
    host.until(|| [0, 20 * 406].contains(&branches(&stats())));
    host.stop();
}

fn panics(mut host: impl Host) {
    let forest = Forest::plant(&mut host);
    let bad = Order {
        panics: true,
        ..split(64)
    };
    forest.slab.send(1, bad).unwrap();
    forest.slab.send(2, split(64)).unwrap();
    let joined = forest.joined(&mut host, 2);
    let (1, Ok(Err(ForkError::Panicked(fault)))) = &joined[0] else {
        panic!("{joined:?}");
    };
    assert_eq!(fault.detail.as_deref(), Some("told to"));
    assert_eq!(joined[1], all(2, 64));
    assert_eq!(forest.slab.counts().running, 4);
    assert!(forest.seen.failed.lock().is_empty());
    host.stop();
}

fn sizes(mut host: impl Host) {
    let forest = Forest::plant(&mut host);
    let many = BRANCHES_MAX + 1;
    for (ordinal, branches) in [0, 1, BRANCHES_MAX, many].into_iter().enumerate() {
        forest.slab.send(ordinal as u32, split(branches)).unwrap();
    }
    let joined = forest.joined(&mut host, 4);
    assert_eq!(joined[..3], [all(0, 0), all(1, 1), all(2, BRANCHES_MAX)]);
    assert_eq!(joined[3], (3, Err(ForkRefused::Branches(many))));
    host.stop();
}

fn cut(mut host: impl Host) {
    let forest = Forest::plant(&mut host);
    for (failures, end) in [End::Fault, End::Panic].into_iter().enumerate() {
        forest.slab.send(0, Order { end, ..split(8) }).unwrap();
        host.until(|| forest.seen.failed.lock().len() == failures + 1);
        host.until(|| forest.slab.counts().running == 4);
    }
    forest.slab.send(0, split(2)).unwrap();
    assert_eq!(forest.joined(&mut host, 1), [all(0, 2)]);
    host.until(|| forest.slab.counts().asks_told == 1);
    let counts = forest.slab.counts();
    assert_eq!((counts.asks_canceled, counts.asks_open), (2, 0));
    host.stop();
}

fn faulty_join(mut host: impl Host) {
    let forest = Forest::plant(&mut host);
    let order = Order {
        chokes: true,
        ..split(8)
    };
    forest.slab.send(3, order).unwrap();
    assert_eq!(forest.joined(&mut host, 1), [all(3, 8)]);
    host.until(|| *forest.seen.failed.lock() == [Some("answered")]);
    host.stop();
}
