//! What holds a task actor up on purpose: it acts, it costs nobody else, and it is gone at its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actorsim_actors::hindrance::START_FAILS;
use actorsim_actors::{
    ActorPath, ActorRef, Addr, Clock, Exit, ExitReason, Fault, Flow, Hindrance, MailboxSpec,
    Message, Overflow, Reach, SendError, System, TaskActor, TaskContext,
};
use tokio::sync::oneshot;

const TICK: Duration = Duration::from_millis(10);

#[derive(Debug, PartialEq)]
struct Note;
impl Message for Note {}

/// Counts messages; its pump counts ticks.
#[derive(Clone, Default)]
struct Counter {
    handled: Arc<AtomicU32>,
    ticks: Arc<AtomicU32>,
}

impl TaskActor for Counter {
    type Msg = Note;

    async fn started(&mut self, cx: &mut TaskContext<Note>) -> Result<(), Fault> {
        let ticks = Arc::clone(&self.ticks);
        cx.pump(async move {
            loop {
                tokio::time::sleep(TICK).await;
                ticks.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(())
    }

    async fn handle(&mut self, Note: Note, _: &mut TaskContext<Note>) -> Result<Flow, Fault> {
        self.handled.fetch_add(1, Ordering::Relaxed);
        Ok(Flow::Continue)
    }
}

struct Stage {
    system: System,
    addr: Addr<Note>,
    counter: Counter,
}

impl Stage {
    fn new(overflow: Overflow) -> Self {
        let path = ActorPath::root().join("group").join("counter");
        Self {
            system: System::new(Clock::of_runtime(0), tokio::runtime::Handle::current()),
            addr: Addr::new(path, MailboxSpec::new(4, overflow)),
            counter: Counter::default(),
        }
    }

    fn begin(&self, what: Hindrance) -> actorsim_actors::HindranceId {
        let path = self.addr.path().clone();
        self.system.hindrances().begin(path, Reach::One, what)
    }

    async fn start(&self) -> Result<(ActorRef, oneshot::Receiver<Exit>), Fault> {
        let (tx, rx) = oneshot::channel();
        let life = self.addr.next_incarnation();
        let told = Box::new(move |exit| drop(tx.send(exit)));
        let actor = self.counter.clone();
        let started = self.system.start_task(&self.addr, life, actor, told);
        started.await.map(|actor| (actor, rx))
    }

    fn seen(&self) -> (u32, u32) {
        let Counter { handled, ticks } = &self.counter;
        (
            handled.load(Ordering::Relaxed),
            ticks.load(Ordering::Relaxed),
        )
    }
}

async fn pass(ticks: u32) {
    tokio::time::sleep(TICK * ticks).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_stops_at_a_full_mailbox_and_keeps_the_rest() {
    let stage = Stage::new(Overflow::Block);
    let (_actor, _exit) = stage.start().await.unwrap();
    let mut notes = VecDeque::from([Note, Note, Note, Note, Note]);
    assert_eq!((stage.addr.try_send_batch(&mut notes), notes.len()), (4, 1));
    pass(1).await;
    assert_eq!((stage.addr.try_send_batch(&mut notes), notes.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_held_actor_does_nothing_and_then_goes_on_where_it_was() {
    let stage = Stage::new(Overflow::Block);
    let (actor, exit) = stage.start().await.unwrap();
    pass(5).await;
    let above = ActorPath::root().join("group");
    let held = stage
        .system
        .hindrances()
        .begin(above, Reach::Subtree, Hindrance::Hold);
    assert_eq!(stage.system.hindrances().on(stage.addr.path()), ["held"]);
    let before = stage.seen();
    stage.addr.try_send(Note).unwrap();
    pass(10).await;
    assert_eq!(stage.seen(), before);
    assert_eq!(stage.addr.depth(), 1);
    stage.system.hindrances().end(held);
    pass(5).await;
    assert_eq!(stage.seen().0, 1);
    assert!(stage.seen().1 > before.1, "its pump goes on, too");

    stage.begin(Hindrance::Hold);
    stage.addr.try_send(Note).unwrap();
    pass(1).await;
    actor.stop();
    pass(5).await;
    assert!(
        !actor.has_exited(),
        "an ordered stop waits for an actor that hangs"
    );
    actor.kill();
    assert_eq!(
        exit.await.unwrap().reason,
        ExitReason::Killed,
        "a kill does not"
    );
}

#[tokio::test(start_paused = true)]
async fn each_message_of_a_slow_actor_takes_longer_while_that_lasts() {
    let stage = Stage::new(Overflow::Block);
    let (_actor, _exit) = stage.start().await.unwrap();
    let slow = stage.begin(Hindrance::Slow(TICK * 10));
    assert_eq!(stage.addr.try_send_batch(&mut [Note, Note, Note].into()), 3);
    pass(15).await;
    assert_eq!(stage.seen().0, 1);
    stage.system.hindrances().end(slow);
    pass(10).await;
    assert_eq!(stage.seen().0, 3);
}

#[tokio::test(start_paused = true)]
async fn so_many_starts_fail_and_the_next_does_not() {
    let stage = Stage::new(Overflow::Block);
    stage.begin(Hindrance::StartFails(2));
    for _ in 0..2 {
        assert_eq!(stage.start().await.unwrap_err().code, START_FAILS);
    }
    assert!(stage.start().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_ends_when_the_hindrance_does_or_when_nobody_waits() {
    let stage = Stage::new(Overflow::Block);
    let hangs = stage.begin(Hindrance::StartHangs);
    assert!(
        tokio::time::timeout(TICK * 10, stage.start())
            .await
            .is_err()
    );
    pass(1).await;
    let starting = async {
        pass(10).await;
        stage.system.hindrances().end(hangs);
    };
    let (started, ()) = tokio::join!(stage.start(), starting);
    assert!(started.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_does_as_its_rule_says_and_gets_its_room_back() {
    for (overflow, rejected, dropped) in [
        (Overflow::Block, 3, 0),
        (Overflow::Reject, 3, 0),
        (Overflow::DropNewest, 0, 3),
        (Overflow::DropOldest, 0, 3),
    ] {
        let stage = Stage::new(overflow);
        let (_actor, _exit) = stage.start().await.unwrap();
        assert!(stage.system.census().set_full(stage.addr.path(), true));
        for _ in 0..3 {
            let sent = stage.addr.try_send(Note);
            assert!(
                matches!(sent, Ok(()) | Err(SendError::Full(Note))),
                "{overflow:?}"
            );
        }
        let books = stage.addr.books();
        assert_eq!(
            (books.rejected, books.dropped),
            (rejected, dropped),
            "{overflow:?}"
        );
        let waiting = stage.addr.send(Note, TICK * 100);
        let healing = async {
            pass(10).await;
            stage.system.census().set_full(stage.addr.path(), false);
        };
        let (sent, ()) = tokio::join!(waiting, healing);
        assert_eq!(sent.is_ok(), overflow != Overflow::Reject, "{overflow:?}");
        pass(1).await;
        assert!(
            stage.addr.books().balanced(),
            "{overflow:?} {:?}",
            stage.addr.books()
        );
        assert!(stage.addr.try_send(Note).is_ok(), "{overflow:?}");
    }
}
