//! Questions of cells to task actors, on two parked threads, on two rings and in virtual time, with
//! slabs that stay and slabs that roam: answers, why there are none, and lives that end in between.
//!
//! The actor runs on a thread of tokio's in each of them. Rings that the kernel refuses are
//! skipped, with the reason printed.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "shard_kit/kit.rs"]
mod kit;
#[macro_use]
#[path = "message_kit/kit.rs"]
mod office;

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{ASKS_MAX, SlabHandle, SlabSpec};
use actorsim_actors::{
    ActorPath, Addr, AskError, AskId, Cell, CellContext, CellDecision, CellExit, CellSupervisor,
    Clock, Fault, Flow, MailboxSpec, Message, OnRestart, Reply, System, TaskActor, TaskContext,
    Time,
};
use kit::roaming::{Roaming, added};
use kit::{Host, Virtual};
use office::{End, Live, reject};
use parking_lot::Mutex;

on_each_host! {
    answers_come_as_steps_of_the_cell_that_asked => answers;
    a_deadline_is_told_and_the_late_answer_is_not => timeout;
    a_question_that_no_mailbox_takes_is_told_why => refusals;
    a_reply_that_is_dropped_is_canceled => dropped;
    a_cell_cancels_its_question_and_the_actor_sees_it => canceled;
    no_answer_reaches_the_next_incarnation => ended_lives;
    a_step_that_fails_has_asked_nothing => cut;
    a_fault_in_the_step_of_an_answer_is_of_that_step => faulty_answer;
    open_questions_are_bounded_and_end_with_their_slab => bounded;
}

/// Beyond the end of every test, also in virtual time.
const LONG: Duration = Duration::from_secs(1_000_000);
const SHORT: Duration = Duration::from_millis(20);

/// What the actor is asked.
enum Query {
    Double(u64, Reply<u64>),
    /// Do not answer for now.
    Keep(Reply<u64>),
    Drop(Reply<u64>),
    /// Answer all that were kept; say how many of these nobody waits for.
    Release(Reply<(usize, usize)>),
    /// Kept, and of these canceled.
    Kept(Reply<(usize, usize)>),
}

impl Message for Query {}

#[derive(Default)]
struct Oracle(Vec<Reply<u64>>);

impl Oracle {
    fn count(&self) -> (usize, usize) {
        let canceled = self.0.iter().filter(|reply| reply.is_canceled());
        (self.0.len(), canceled.count())
    }
}

impl TaskActor for Oracle {
    type Msg = Query;

    async fn handle(&mut self, query: Query, _: &mut TaskContext<Query>) -> Result<Flow, Fault> {
        match query {
            Query::Double(n, reply) => reply.send(2 * n),
            Query::Keep(reply) => self.0.push(reply),
            Query::Drop(reply) => drop(reply),
            Query::Release(reply) => {
                reply.send(self.count());
                self.0.drain(..).for_each(|kept| kept.send(0));
            }
            Query::Kept(reply) => reply.send(self.count()),
        }
        Ok(Flow::Continue)
    }
}

/// The actor on a thread of its own.
struct Temple {
    runtime: tokio::runtime::Runtime,
    addr: Addr<Query>,
}

/// Of an actor that has not been started; whether it takes messages until then.
fn address(capacity: u32, on_restart: OnRestart) -> Addr<Query> {
    let spec = MailboxSpec {
        on_restart,
        ..reject(capacity)
    };
    Addr::new(ActorPath::new("/temple/oracle").unwrap(), spec)
}

impl Temple {
    fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let system = System::new(Clock::wall(), runtime.handle().clone());
        let addr = address(2 * ASKS_MAX as u32, OnRestart::Kept);
        let life = addr.next_incarnation();
        let start = system.start_task(&addr, life, Oracle::default(), Box::new(|_| {}));
        runtime.block_on(start).unwrap();
        Self { runtime, addr }
    }

    fn ask(&self, query: fn(Reply<(usize, usize)>) -> Query) -> (usize, usize) {
        let asked = self.addr.ask(query, kit::PATIENCE);
        self.runtime.block_on(asked).unwrap()
    }
}

/// What a cell is told to do.
enum Order {
    /// Ask so, this often, then end so.
    Ask(How, u32, End),
    /// Fault when the answer comes.
    Choke,
    /// Cancel the first and the last question; say what became of that.
    Cancel(Reply<[bool; 2]>),
}

#[derive(Clone, Copy)]
enum How {
    Double,
    Keep(Duration),
    Drop,
    /// Another address.
    Of(usize),
}

impl Message for Order {}

/// Ordinal, incarnation, and the answer or not, as a cell heard it.
type Heard = (u32, u32, Result<u64, AskError>);

struct Shared {
    actors: Vec<Addr<Query>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

#[derive(Default)]
struct Asker {
    asks: Vec<AskId>,
    chokes: bool,
}

impl Asker {
    fn ask(&mut self, how: How, n: u32, cx: &mut CellContext<'_, Self>) {
        let (actors, asked) = (&cx.shared.actors, cx.monotonic);
        let (actor, deadline) = match how {
            How::Of(index) => (&actors[index], LONG),
            How::Keep(deadline) => (&actors[0], deadline),
            How::Double | How::Drop => (&actors[0], LONG),
        };
        let question = |reply| match how {
            How::Keep(_) => Query::Keep(reply),
            How::Drop => Query::Drop(reply),
            How::Double | How::Of(_) => Query::Double(u64::from(n), reply),
        };
        let told = move |cell: &mut Self, answer, cx: &mut CellContext<'_, Self>| {
            let due = asked + deadline;
            assert!(cx.monotonic >= due || answer != Err(AskError::Timeout));
            cell.heard(answer, cx)
        };
        self.asks.extend(cx.ask(actor, question, deadline, told));
    }

    fn heard(
        &mut self,
        answer: Result<u64, AskError>,
        cx: &mut CellContext<'_, Self>,
    ) -> Result<Flow, Fault> {
        let heard = (cx.ordinal, cx.incarnation.0, answer);
        cx.shared.heard.lock().push(heard);
        match self.chokes {
            true => Err(Fault::new("choked")),
            false => Ok(Flow::Continue),
        }
    }
}

impl Cell for Asker {
    type Msg = Order;
    type Shared = Shared;
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self::default())
    }

    fn handle(&mut self, order: Order, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        match order {
            Order::Ask(how, times, end) => {
                (0..times).for_each(|n| self.ask(how, n, cx));
                match end {
                    End::Well => {}
                    End::Fault | End::Sick => return Err(Fault::new("told_to")),
                    End::Panic => panic!("told to"),
                }
            }
            Order::Choke => self.chokes = true,
            Order::Cancel(reply) => {
                let ends = [*self.asks.first().unwrap(), *self.asks.last().unwrap()];
                reply.send(ends.map(|ask| cx.cancel_ask(ask)));
            }
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

/// Restarts at once, and writes down the step that failed.
struct Clerk(Arc<Mutex<Vec<Option<&'static str>>>>);

impl CellSupervisor for Clerk {
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision {
        self.0.lock().push(exit.in_hand);
        CellDecision::Restart { at: exit.now }
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

/// Four cells and whom they ask.
struct Queue {
    slab: SlabHandle<Asker>,
    temple: Temple,
    heard: Arc<Mutex<Vec<Heard>>>,
    failed: Arc<Mutex<Vec<Option<&'static str>>>>,
}

impl Queue {
    fn open(host: &mut impl Host, others: impl IntoIterator<Item = Addr<Query>>) -> Self {
        let temple = Temple::open();
        let (heard, failed) = <(Arc<Mutex<Vec<Heard>>>, Arc<_>)>::default();
        let actors = std::iter::once(temple.addr.clone()).chain(others);
        let slab = host.shard().add_movable_slab(SlabSpec {
            path: ActorPath::new("/fleet/queue").unwrap(),
            name: Arc::new(|ordinal| format!("asker-{ordinal}")),
            ordinals: std::iter::once(0..4).collect(),
            shared: Shared {
                actors: actors.collect(),
                heard: Arc::clone(&heard),
            },
            out: (),
            identity: Box::new(|_| ()),
            mailbox: reject(64),
            supervisor: Box::new(Clerk(Arc::clone(&failed))),
        });
        let slab = slab.unwrap();
        added(&slab);
        host.until(|| slab.counts().running == 4);
        Self {
            slab,
            temple,
            heard,
            failed,
        }
    }

    fn ask(&self, ordinal: u32, how: How) {
        let order = Order::Ask(how, 1, End::Well);
        self.slab.send(ordinal, order).unwrap();
    }

    /// Lets a cell ask, until the actor has the question and does not answer it.
    fn keep(&self, host: &mut impl Host, ordinal: u32, deadline: Duration) {
        self.ask(ordinal, How::Keep(deadline));
        host.until(|| self.temple.ask(Query::Kept).0 == 1);
    }

    fn hears(&self, host: &mut impl Host, all: &[Heard]) {
        host.until(|| self.heard.lock().len() >= all.len());
        assert_eq!(*self.heard.lock(), all);
    }

    /// The equation holds and nothing is open.
    fn is_settled(&self, told: u64, canceled: u64) -> bool {
        let c = self.slab.counts();
        assert_eq!(c.asks, c.asks_told + c.asks_canceled + c.asks_open);
        assert!(self.slab.books().balanced());
        (c.asks_told, c.asks_canceled, c.asks_open) == (told, canceled, 0)
    }
}

fn answers(mut host: impl Host) {
    let queue = Queue::open(&mut host, None);
    for ordinal in 0..4 {
        let order = Order::Ask(How::Double, 50, End::Well);
        queue.slab.send(ordinal, order).unwrap();
    }
    host.until(|| queue.heard.lock().len() == 200);
    for ordinal in 0..4 {
        let heard = queue.heard.lock();
        let of = heard.iter().filter(|h| h.0 == ordinal);
        let want = (0..50).map(|n| (ordinal, 1, Ok(2 * n)));
        assert!(of.copied().eq(want), "in the order asked: {heard:?}");
    }
    host.until(|| queue.is_settled(200, 0));
    // An answer is no message.
    assert_eq!(queue.slab.books().handled, 4);
    host.stop();
}

fn timeout(mut host: impl Host) {
    let queue = Queue::open(&mut host, None);
    queue.ask(1, How::Keep(SHORT));
    queue.hears(&mut host, &[(1, 1, Err(AskError::Timeout))]);
    host.until(|| queue.temple.ask(Query::Kept) == (1, 1));
    assert_eq!(queue.temple.ask(Query::Release), (1, 1));
    queue.ask(1, How::Double);
    let told = [(1, 1, Err(AskError::Timeout)), (1, 1, Ok(0))];
    queue.hears(&mut host, &told);
    host.until(|| queue.is_settled(2, 0));
    assert_eq!(queue.slab.counts().asks_timeouts, 1);
    host.stop();
}

fn refusals(mut host: impl Host) {
    let [full, closed] = [0; 2].map(|_| address(1, OnRestart::Kept));
    let (reply, _answer) = Reply::channel();
    full.try_send(Query::Drop(reply)).unwrap();
    closed.close();
    let down = address(1, OnRestart::Dropped);
    let queue = Queue::open(&mut host, [full, closed, down]);
    let why = [AskError::Full, AskError::Closed, AskError::Restarting];
    let mut told = Vec::new();
    for (index, why) in (1..).zip(why) {
        queue.ask(2, How::Of(index));
        told.push((2, 1, Err(why)));
        queue.hears(&mut host, &told);
    }
    host.until(|| queue.is_settled(3, 0));
    host.stop();
}

fn dropped(mut host: impl Host) {
    // One whose actor ends drops the questions in its mailbox.
    let ends = address(1, OnRestart::Kept);
    let queue = Queue::open(&mut host, [ends.clone()]);
    queue.ask(0, How::Drop);
    let mut told = vec![(0, 1, Err(AskError::Canceled))];
    queue.hears(&mut host, &told);
    queue.ask(0, How::Of(1));
    host.until(|| ends.depth() == 1);
    ends.close();
    told.push((0, 1, Err(AskError::Canceled)));
    queue.hears(&mut host, &told);
    host.until(|| queue.is_settled(2, 0));
    host.stop();
}

fn canceled(mut host: impl Host) {
    let queue = Queue::open(&mut host, None);
    queue.ask(3, How::Double);
    queue.hears(&mut host, &[(3, 1, Ok(0))]);
    queue.keep(&mut host, 3, LONG);
    let (reply, answer) = Reply::channel();
    queue.slab.send(3, Order::Cancel(reply)).unwrap();
    assert_eq!(host.answer(answer), Ok([false, true]), "told, then open");
    assert_eq!(queue.temple.ask(Query::Release), (1, 1));
    host.until(|| queue.is_settled(1, 1));
    assert_eq!(queue.heard.lock().len(), 1);
    host.stop();
}

fn ended_lives(mut host: impl Host) {
    let queue = Queue::open(&mut host, None);
    let slab = &queue.slab;
    let ends: [fn(&SlabHandle<Asker>); 3] = [
        |slab| slab.kill(2).unwrap(),
        |slab| slab.restart(2).unwrap(),
        |slab| slab.send(2, Order::Ask(How::Drop, 0, End::Fault)).unwrap(),
    ];
    for (restarts, end) in (1..).zip(ends) {
        queue.keep(&mut host, 2, LONG);
        end(slab);
        host.until(|| slab.counts().restarts == restarts && slab.counts().running == 4);
        // The actor sees it before it works for nothing, and its answer reaches nobody.
        assert_eq!(queue.temple.ask(Query::Release), (1, 1));
    }
    queue.ask(2, How::Double);
    queue.hears(&mut host, &[(2, 4, Ok(0))]);
    queue.keep(&mut host, 2, LONG);
    slab.stop(2).unwrap();
    host.until(|| queue.is_settled(1, 4));
    assert_eq!(queue.temple.ask(Query::Kept), (1, 1));
    host.stop();
}

fn cut(mut host: impl Host) {
    let queue = Queue::open(&mut host, None);
    for (restarts, end) in [(1, End::Fault), (2, End::Panic)] {
        let order = Order::Ask(How::Keep(LONG), 3, end);
        queue.slab.send(1, order).unwrap();
        host.until(|| queue.slab.counts().restarts == restarts);
    }
    host.until(|| queue.is_settled(0, 6));
    assert_eq!(queue.temple.ask(Query::Kept), (0, 0), "none went out");
    queue.ask(1, How::Double);
    queue.hears(&mut host, &[(1, 3, Ok(0))]);
    host.stop();
}

fn faulty_answer(mut host: impl Host) {
    let queue = Queue::open(&mut host, None);
    queue.slab.send(0, Order::Choke).unwrap();
    let order = Order::Ask(How::Drop, 2, End::Well);
    queue.slab.send(0, order).unwrap();
    host.until(|| queue.slab.counts().restarts == 1);
    assert_eq!(*queue.failed.lock(), [Some("answered")]);
    // The second answer was of the same life.
    host.until(|| queue.is_settled(1, 1));
    assert_eq!(queue.slab.books().died, 0);
    host.stop();
}

fn bounded(mut host: impl Host) {
    let queue = Queue::open(&mut host, None);
    let most = ASKS_MAX as u32;
    for ordinal in [0, 1] {
        let order = Order::Ask(How::Keep(LONG), most - 1, End::Well);
        queue.slab.send(ordinal, order).unwrap();
    }
    host.until(|| queue.temple.ask(Query::Kept).0 == ASKS_MAX);
    host.until(|| queue.slab.counts().asks_refused == u64::from(most) - 2);
    assert_eq!(queue.slab.counts().asks_open, u64::from(most));
    // There is room again when they are answered.
    assert_eq!(queue.temple.ask(Query::Release), (ASKS_MAX, 0));
    host.until(|| queue.is_settled(u64::from(most), 0));
    queue.keep(&mut host, 3, LONG);
    host.answer(queue.slab.close()).unwrap();
    host.until(|| queue.is_settled(u64::from(most), 1));
    assert_eq!(queue.temple.ask(Query::Kept), (1, 1));
    host.stop();
}

#[test]
fn in_virtual_time_a_deadline_is_told_at_its_instant() {
    let mut host = Virtual::new(1);
    let queue = Queue::open(&mut host, None);
    let asked = host.shards.now();
    queue.ask(0, How::Keep(SHORT));
    host.shards.settle();
    let due = asked + SHORT;
    host.shards.run_until(Time(due.0 - 1));
    assert!(queue.heard.lock().is_empty());
    assert_eq!(host.shards.settle(), Some(due));
    host.shards.run_until(due);
    assert_eq!(*queue.heard.lock(), [(0, 1, Err(AskError::Timeout))]);
    host.stop();
}
