//! Conflating mailboxes on each host: what waits is merged, sums are exact, the newest value comes
//! last, and the books say so.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "shard_kit/kit.rs"]
mod kit;

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{ShardHandle, SlabHandle, SlabSpec};
use actorsim_actors::{
    ActorPath, Addr, Books, Cell, CellContext, Clock, Conflation, Fault, Flow, MailboxSpec,
    Message, Overflow, System, TaskActor, TaskContext,
};
use kit::{Host, Script, Threads, Virtual, forgiving};
use parking_lot::Mutex;

/// A value of a meter, or the order to read them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Of { meter: u64, value: u64 },
    Close,
}

impl Message for Reading {
    fn conflation_key(&self) -> Option<u64> {
        match self {
            Self::Of { meter, .. } => Some(*meter),
            Self::Close => None,
        }
    }

    fn absorb(&mut self, newer: Self) -> Result<(), Self> {
        match (self, newer) {
            (Self::Of { value, .. }, Self::Of { value: more, .. }) => {
                *value += more;
                Ok(())
            }
            (_, newer) => Err(newer),
        }
    }
}

type Seen = Arc<Mutex<Vec<Reading>>>;

/// Writes down what it gets: as a task and as a cell.
struct Reader(Seen);

impl TaskActor for Reader {
    type Msg = Reading;

    async fn handle(&mut self, m: Reading, _: &mut TaskContext<Reading>) -> Result<Flow, Fault> {
        self.0.lock().push(m);
        Ok(Flow::Continue)
    }
}

impl Cell for Reader {
    type Msg = Reading;
    type Shared = Seen;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self(Arc::clone(cx.shared)))
    }
    fn handle(&mut self, m: Reading, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        self.0.lock().push(m);
        Ok(Flow::Continue)
    }
    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

const METERS: u64 = 3;
const ROUNDS: u64 = 100;

fn spec(conflation: Conflation) -> MailboxSpec {
    // Less than what is sent, more than what is left of it.
    MailboxSpec::new(8, Overflow::Reject).conflating(conflation)
}

/// Values 1..=100 of three meters, an order, and the same once more.
fn readings() -> impl Iterator<Item = Reading> {
    let half = || {
        let all = (1..=ROUNDS).flat_map(|value| (0..METERS).map(move |meter| (meter, value)));
        all.map(|(meter, value)| Reading::Of { meter, value })
    };
    half().chain([Reading::Close]).chain(half())
}

/// What is left of them.
fn expected(conflation: Conflation) -> Vec<Reading> {
    let value = match conflation {
        Conflation::Sum => ROUNDS * (ROUNDS + 1) / 2,
        _ => ROUNDS,
    };
    let half = || (0..METERS).map(move |meter| Reading::Of { meter, value });
    half().chain([Reading::Close]).chain(half()).collect()
}

fn check(conflation: Conflation, books: &Books, seen: &Seen) {
    assert_eq!(*seen.lock(), expected(conflation));
    let left = 2 * METERS + 1;
    assert_eq!((books.handled, books.rejected, books.dropped), (left, 0, 0));
    assert_eq!(books.conflated, 2 * METERS * (ROUNDS - 1));
    assert!(books.balanced(), "{books:?}");
}

fn slab(shard: &ShardHandle, mailbox: MailboxSpec, seen: &Seen) -> SlabHandle<Reader> {
    shard
        .add_slab(SlabSpec {
            path: ActorPath::new("/fleet/readers").unwrap(),
            name: Arc::new(|ordinal| format!("reader-{ordinal:04}")),
            ordinals: std::iter::once(0..1).collect(),
            shared: Arc::clone(seen),
            out: (),
            identity: Box::new(|_| ()),
            mailbox,
            supervisor: Box::new(Script(forgiving())),
        })
        .unwrap()
}

fn on_shards(mut host: impl Host) {
    for conflation in [Conflation::Newest, Conflation::Sum] {
        let seen = Seen::default();
        let slab = slab(&host.shard(), spec(conflation), &seen);
        // From the shard's own step, so that all of it waits together.
        let sends = slab.with_out({
            let slab = slab.clone();
            move |()| readings().for_each(|reading| slab.send(0, reading).unwrap())
        });
        host.answer(sends).unwrap();
        host.until(|| slab.books().handled == 2 * METERS + 1);
        check(conflation, &slab.books(), &seen);
        host.answer(slab.close()).unwrap();
    }
    host.stop();
}

#[test]
fn what_waits_for_a_cell_is_merged_on_parked_threads() {
    on_shards(Threads::new(Clock::wall()));
}

#[test]
fn what_waits_for_a_cell_is_merged_on_rings() {
    Threads::ring().into_iter().for_each(on_shards);
}

#[test]
fn what_waits_for_a_cell_is_merged_in_virtual_time() {
    on_shards(Virtual::new(1));
}

#[test]
fn what_waits_for_a_full_mailbox_of_a_cell_does_not_overtake() {
    // Block: what does not fit is held aside, and nothing merges past it.
    let mut host = Virtual::new(1);
    let seen = Seen::default();
    let mailbox = MailboxSpec::new(2, Overflow::Block).conflating(Conflation::Newest);
    let slab = slab(&host.shard(), mailbox, &seen);
    let of = |meter, value| Reading::Of { meter, value };
    let sent = [
        of(0, 1),
        of(1, 1),
        of(0, 2),
        Reading::Close,
        of(0, 3),
        of(1, 2),
    ];
    for reading in sent {
        slab.send(0, reading).unwrap();
    }
    host.until(|| slab.books().waiting == 0 && slab.books().offered == 6);
    let last = [of(0, 2), of(1, 1), Reading::Close, of(0, 3), of(1, 2)];
    assert_eq!(*seen.lock(), last);
    assert_eq!(slab.books().conflated, 1);
    assert!(slab.books().balanced());
    host.stop();
}

fn task(mailbox: MailboxSpec, seen: &Seen, send: impl AsyncFnOnce(Addr<Reading>)) -> Books {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let system = System::new(Clock::wall(), runtime.handle().clone());
        let addr = Addr::new(ActorPath::root().join("reader"), mailbox.kept());
        send(addr.clone()).await;
        let life = addr.next_incarnation();
        let reader = Reader(Arc::clone(seen));
        let exited = Box::new(|_| {});
        system
            .start_task(&addr, life, reader, exited)
            .await
            .unwrap();
        let done = async {
            while addr.depth() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(kit::PATIENCE, done).await.unwrap();
        addr.books()
    })
}

#[test]
fn what_waits_for_a_task_is_merged() {
    for conflation in [Conflation::Newest, Conflation::Sum] {
        let seen = Seen::default();
        let books = task(spec(conflation), &seen, async |addr| {
            let sent = addr.try_send_batch(&mut readings().collect());
            assert_eq!(sent, readings().count());
        });
        check(conflation, &books, &seen);
    }
}

#[test]
fn a_sender_that_waits_for_room_goes_on_when_it_can_be_merged() {
    let seen = Seen::default();
    let mailbox = MailboxSpec::new(1, Overflow::Block).conflating(Conflation::Sum);
    let books = task(mailbox, &seen, async |addr| {
        let of = |meter| Reading::Of { meter, value: 1 };
        let patience = kit::PATIENCE;
        addr.send(of(0), patience).await.unwrap();
        addr.send(of(0), patience).await.unwrap();
        let refused = addr.send(of(1), Duration::from_millis(1)).await;
        assert_eq!(refused.unwrap_err().into_message(), of(1));
    });
    assert_eq!(*seen.lock(), [Reading::Of { meter: 0, value: 2 }]);
    assert_eq!((books.offered, books.accepted, books.rejected), (3, 2, 1));
    assert!(books.balanced() && books.conflated == 1, "{books:?}");
}
