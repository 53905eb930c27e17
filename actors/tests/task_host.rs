//! The task host: life, death, and what is told about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actorsim_actors::{
    ActorPath, ActorRef, Addr, AskError, Clock, Exit, ExitReason, Fault, Flow, MailboxSpec,
    Message, OnExit, Overflow, Reply, SendError, System, TaskActor, TaskContext,
};
use futures_util::FutureExt as _;
use tokio::sync::mpsc;

const SOON: Duration = Duration::from_secs(5);

enum Job {
    Count,
    Total(Reply<u32>),
    Fail,
    Panic,
    Finish,
    Hang,
    Sleep(Duration),
    Pump(&'static str),
}

impl Message for Job {
    fn kind(&self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Panic => "panic",
            _ => "job",
        }
    }
}

struct Worker {
    total: u32,
    stopped_in_order: Arc<AtomicU32>,
}

impl TaskActor for Worker {
    type Msg = Job;

    async fn handle(&mut self, job: Job, cx: &mut TaskContext<Job>) -> Result<Flow, Fault> {
        match job {
            Job::Count => self.total += 1,
            Job::Total(reply) => reply.send(self.total),
            Job::Fail => return Err(Fault::with("broken", "on request")),
            Job::Panic => panic!("on request"),
            Job::Finish => return Ok(Flow::Stop),
            Job::Hang => std::future::pending().await,
            Job::Sleep(time) => tokio::time::sleep(time).await,
            Job::Pump("fail") => cx.pump(async { Err(Fault::new("pump_broke")) }),
            Job::Pump("panic") => cx.pump(async { panic!("pump") }),
            Job::Pump(_) => cx.pump(async { Ok(()) }),
        }
        Ok(Flow::Continue)
    }

    async fn stopping(&mut self, _: &mut TaskContext<Job>) {
        self.stopped_in_order.fetch_add(1, Ordering::SeqCst);
    }
}

struct Bench {
    system: System,
    addr: Addr<Job>,
    stopped: Arc<AtomicU32>,
    exits: mpsc::Receiver<Exit>,
    tx: mpsc::Sender<Exit>,
}

impl Bench {
    fn new(spec: MailboxSpec) -> Self {
        let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
        let addr = Addr::new(ActorPath::root().join("worker"), spec);
        let (tx, exits) = mpsc::channel(16);
        Self {
            system,
            addr,
            stopped: Arc::default(),
            exits,
            tx,
        }
    }

    async fn start(&self) -> ActorRef {
        let tx = self.tx.clone();
        let on_exit: OnExit = Box::new(move |exit| tx.try_send(exit).expect("room for exits"));
        let worker = Worker {
            total: 0,
            stopped_in_order: Arc::clone(&self.stopped),
        };
        let life = self.addr.next_incarnation();
        self.system
            .start_task(&self.addr, life, worker, on_exit)
            .await
            .expect("starts")
    }

    async fn exit(&mut self) -> Exit {
        tokio::time::timeout(SOON, self.exits.recv())
            .await
            .expect("in time")
            .expect("an exit")
    }
}

#[tokio::test(start_paused = true)]
async fn every_way_to_end_has_its_reason() {
    for (job, reason) in [
        (Job::Finish, ExitReason::Normal),
        (
            Job::Fail,
            ExitReason::Fault(Fault::with("broken", "on request")),
        ),
        (
            Job::Panic,
            ExitReason::Fault(Fault::with("panic", "on request")),
        ),
        (
            Job::Pump("fail"),
            ExitReason::Fault(Fault::new("pump_broke")),
        ),
        (
            Job::Pump("panic"),
            ExitReason::Fault(Fault::with("panic", "pump")),
        ),
    ] {
        let mut bench = Bench::new(MailboxSpec::new(8, Overflow::Block));
        let actor = bench.start().await;
        bench.addr.try_send(job).unwrap();
        let exit = bench.exit().await;
        assert_eq!(exit.reason, reason);
        assert_eq!(exit.incarnation, actor.incarnation());
        actor.exited().await;
        assert!(bench.addr.books().balanced() && bench.addr.books().waiting == 0);
    }
}

#[tokio::test(start_paused = true)]
async fn stop_is_ordered_and_kill_is_not() {
    let mut bench = Bench::new(MailboxSpec::new(8, Overflow::Block));
    bench.start().await.stop();
    assert_eq!(bench.exit().await.reason, ExitReason::Shutdown);
    assert_eq!(bench.stopped.load(Ordering::SeqCst), 1);

    let actor = bench.start().await;
    bench.addr.try_send(Job::Hang).unwrap();
    actor.kill();
    let exit = bench.exit().await;
    assert_eq!(exit.reason, ExitReason::Killed);
    assert_eq!(exit.incarnation.0, 2);
    assert_eq!(bench.stopped.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pump_that_ends_well_leaves_the_actor_alive() {
    let bench = Bench::new(MailboxSpec::new(8, Overflow::Block));
    bench.start().await;
    bench.addr.try_send(Job::Pump("end")).unwrap();
    bench.addr.try_send(Job::Count).unwrap();
    assert_eq!(bench.addr.ask(Job::Total, SOON).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_gets_in_between_messages() {
    let mut bench = Bench::new(MailboxSpec::new(100, Overflow::Block));
    let actor = bench.start().await;
    for _ in 0..50 {
        bench
            .addr
            .try_send(Job::Sleep(Duration::from_millis(100)))
            .unwrap();
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    actor.stop();
    let exit = tokio::time::timeout(Duration::from_secs(1), bench.exit())
        .await
        .unwrap();
    assert_eq!(exit.reason, ExitReason::Shutdown);
    assert!(exit.depth > 40);
    assert!(bench.addr.books().balanced());
}

#[tokio::test(start_paused = true)]
async fn an_address_outlives_a_restart_and_its_senders_wait_through_it() {
    let mut bench = Bench::new(MailboxSpec::new(1, Overflow::Block));
    bench.start().await;
    bench.addr.try_send(Job::Fail).unwrap();
    bench.exit().await;
    assert!(matches!(
        bench.addr.try_send(Job::Count),
        Err(SendError::Restarting(_))
    ));
    assert_eq!(
        bench.addr.ask(Job::Total, Duration::from_millis(30)).await,
        Err(AskError::Timeout)
    );
    let addr = bench.addr.clone();
    let sender = tokio::spawn(async move { addr.send(Job::Count, SOON).await });
    tokio::task::yield_now().await;
    bench.start().await;
    sender.await.unwrap().unwrap();
    assert_eq!(bench.addr.ask(Job::Total, SOON).await, Ok(1));
    assert!(bench.addr.books().balanced());
}

#[tokio::test(start_paused = true)]
async fn a_kept_mailbox_loses_only_the_message_that_killed() {
    let mut bench = Bench::new(MailboxSpec::new(8, Overflow::Block).kept());
    bench.addr.try_send(Job::Fail).unwrap();
    bench.addr.try_send(Job::Count).unwrap();
    bench.addr.try_send(Job::Count).unwrap();
    bench.start().await;
    assert_eq!(bench.exit().await.last_kinds.last(), Some("fail"));
    bench.start().await;
    assert_eq!(bench.addr.ask(Job::Total, SOON).await, Ok(2));
    let books = bench.addr.books();
    assert_eq!((books.died, books.accepted), (1, 4));
    assert!(books.balanced());
}

/// A message whose destructor panics, as that of a program may.
struct Grenade;
impl Message for Grenade {}
impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("in the destructor of a message");
    }
}

struct Bunker;
impl TaskActor for Bunker {
    type Msg = Grenade;

    async fn handle(&mut self, pin: Grenade, _: &mut TaskContext<Grenade>) -> Result<Flow, Fault> {
        std::mem::forget(pin);
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn messages_whose_destructors_panic_keep_no_end_from_being_told() {
    let bench = Bench::new(MailboxSpec::new(8, Overflow::Block));
    let spec = MailboxSpec::new(2, Overflow::DropOldest);
    let addr = Addr::new(ActorPath::root().join("bunker"), spec);
    for life in 1..=2 {
        let (told, mut exits) = mpsc::channel(1);
        let on_exit: OnExit = Box::new(move |exit| told.try_send(exit).expect("room"));
        let next = addr.next_incarnation();
        let started = bench.system.start_task(&addr, next, Bunker, on_exit).await;
        let actor = started.unwrap();
        for _ in 0..4 {
            addr.try_send(Grenade).unwrap();
            tokio::task::yield_now().await;
        }
        actor.kill();
        let exit = tokio::time::timeout(SOON, exits.recv()).await;
        let exit = exit.unwrap().expect("it is told");
        assert_eq!(
            (exit.reason, exit.incarnation.0),
            (ExitReason::Killed, life)
        );
        actor.exited().await;
        assert!(addr.books().balanced() && addr.books().waiting == 0);
    }
    addr.close();
}

#[tokio::test(start_paused = true)]
async fn closing_frees_blocked_senders_at_once() {
    let bench = Bench::new(MailboxSpec::new(1, Overflow::Block));
    bench.start().await;
    bench.addr.try_send(Job::Hang).unwrap();
    bench.addr.send(Job::Count, SOON).await.unwrap();
    let senders: Vec<_> = (0..100)
        .map(|_| {
            let addr = bench.addr.clone();
            tokio::spawn(async move { addr.send(Job::Count, Duration::from_secs(60)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    bench.system.census().retire(bench.addr.path());
    assert!(!bench.addr.is_closed(), "who lives is not retired");
    bench.addr.close();
    for sender in senders {
        assert!(matches!(sender.await.unwrap(), Err(SendError::Closed(_))));
    }
}

/// Opens a pump, then waits for leave to start.
struct Slow {
    leave: Arc<tokio::sync::Semaphore>,
    held_by_pump: Option<Arc<()>>,
}

impl TaskActor for Slow {
    type Msg = Job;

    async fn started(&mut self, cx: &mut TaskContext<Job>) -> Result<(), Fault> {
        let held = self.held_by_pump.take();
        cx.pump(async move {
            let _held = held;
            std::future::pending().await
        });
        drop(self.leave.acquire().await);
        Ok(())
    }

    async fn handle(&mut self, _: Job, _: &mut TaskContext<Job>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_start_leaves_nothing_behind_and_its_exit_is_let_go_after_all_else() {
    for permits in [0, 1] {
        let bench = Bench::new(MailboxSpec::new(1, Overflow::Block));
        let owned = Arc::new(());
        let slow = Slow {
            leave: Arc::new(tokio::sync::Semaphore::new(permits)),
            held_by_pump: Some(Arc::clone(&owned)),
        };
        let (told, mut gone) = mpsc::channel::<()>(1);
        let on_exit: OnExit = Box::new(move |_| drop(told));
        let life = bench.addr.next_incarnation();
        let mut starting = Box::pin(bench.system.start_task(&bench.addr, life, slow, on_exit));
        assert!((&mut starting).now_or_never().is_none());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.addr.is_up(), permits == 1);
        drop(starting); // the start is under way, or over and not looked at
        let end = tokio::time::timeout(SOON, gone.recv()).await;
        assert_eq!(end, Ok(None), "{permits} permits");
        assert_eq!(Arc::strong_count(&owned), 1, "the pump is gone");
        assert!(!bench.addr.is_up());
    }
}

#[tokio::test(start_paused = true)]
async fn the_census_follows_a_life() {
    let mut bench = Bench::new(MailboxSpec::new(4, Overflow::Reject));
    let actor = bench.start().await;
    let row = bench.system.census().row(actor.path()).await.unwrap();
    assert_eq!(
        (row.state, row.incarnation.0, row.capacity),
        ("running", 1, 4)
    );
    actor.kill();
    bench.exit().await;
    let row = bench.system.census().row(actor.path()).await.unwrap();
    assert_eq!(
        (row.state, row.last_exit.as_deref()),
        ("restarting", Some("killed"))
    );
    let books = bench.system.census().books();
    bench.system.census().retire(actor.path());
    assert!(bench.system.census().row(actor.path()).await.is_none());
    assert_eq!(bench.system.census().books(), books);
}

#[tokio::test(start_paused = true)]
async fn the_sum_of_all_books_counts_each_message_once_however_often_its_actor_comes_back() {
    let mut bench = Bench::new(MailboxSpec::new(4, Overflow::Reject));
    let census = bench.system.clone();
    let census = census.census();
    for round in 1..=3 {
        bench.start().await;
        assert_eq!(bench.addr.ask(Job::Total, SOON).await, Ok(0));
        bench.addr.try_send(Job::Finish).unwrap();
        bench.exit().await;
        assert_eq!(census.books().handled, 2 * round);
        census.retire(bench.addr.path());
        assert_eq!(census.books().handled, 2 * round, "retired");
    }
    // Another mailbox at the same path: the former one's counters stay.
    bench.start().await;
    bench.addr = Addr::new(bench.addr.path().clone(), *bench.addr.spec());
    bench.start().await;
    bench.addr.try_send(Job::Finish).unwrap();
    bench.exit().await;
    assert_eq!(census.books(), census.books().with_waiting(0));
    assert_eq!(census.books().handled, 7);
    assert!(census.books().balanced());
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_stays_down_is_not_shown_as_restarting() {
    let mut bench = Bench::new(MailboxSpec::new(4, Overflow::Reject));
    let actor = bench.start().await;
    let system = bench.system.clone();
    let state = async || system.census().row(actor.path()).await.map(|row| row.state);
    system.census().rest(actor.path(), false);
    assert_eq!(state().await, Some("running"), "only who is down can rest");
    actor.stop();
    bench.exit().await;
    assert_eq!(state().await, Some("restarting"));
    system.census().rest(actor.path(), false);
    assert_eq!(state().await, Some("stopped"));
    system.census().rest(actor.path(), true);
    assert_eq!(state().await, Some("quarantined"));
    bench.start().await;
    assert_eq!(state().await, Some("running"));
}
