//! A pipeline of three bounded actors: a slow last stage slows the first, and nothing is lost.
//!
//! `cargo run -p actorsim-actors --example bounded_pipeline`
//!
//! Every mailbox holds [`ROOM`] messages and its rule is `Block`: a sender waits for room, so the
//! pressure of the slow stage goes back hop by hop to whoever feeds the pipeline. The edges are
//! told to a [`Wiring`], which refuses a cycle: two actors that wait for each other wait for ever.
#![allow(clippy::unwrap_used, reason = "an example")]

use std::time::Duration;

use actorsim_actors::{
    ActorPath, Addr, Clock, Fault, Flow, MailboxSpec, Message, Overflow, Reply, System, TaskActor,
    TaskContext, Wiring,
};

/// Messages that wait for a stage, at most.
const ROOM: u32 = 4;
/// How long a stage waits for room before it takes its neighbour for dead.
const PATIENCE: Duration = Duration::from_secs(5);
const LINES: u64 = 1_000;

struct Line(String);
impl Message for Line {}

/// Parses lines and hands the numbers on.
struct Parse(Addr<Number>);

impl TaskActor for Parse {
    type Msg = Line;

    async fn handle(&mut self, Line(text): Line, _: &mut TaskContext<Line>) -> Result<Flow, Fault> {
        let number = text.parse().map_err(|_| Fault::with("bad_line", &text))?;
        let sent = self.0.send(Number::Add(number), PATIENCE).await;
        sent.map_err(|_| Fault::new("sum_is_stuck"))?;
        Ok(Flow::Continue)
    }
}

enum Number {
    Add(u64),
    Total(Reply<u64>),
}
impl Message for Number {}

/// Adds up, slowly.
struct Sum(u64);

impl TaskActor for Sum {
    type Msg = Number;

    async fn handle(&mut self, number: Number, _: &mut TaskContext<Number>) -> Result<Flow, Fault> {
        match number {
            Number::Add(n) => {
                tokio::task::yield_now().await; // something slow
                self.0 += n;
            }
            Number::Total(reply) => reply.send(self.0),
        }
        Ok(Flow::Continue)
    }
}

async fn pipeline() {
    let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
    let mailbox = MailboxSpec::new(ROOM, Overflow::Block);
    let parse = Addr::new(ActorPath::root().join("parse"), mailbox);
    let sum = Addr::new(ActorPath::root().join("sum"), mailbox);

    let wiring = Wiring::default().blocks("parse", "sum");
    wiring.check().expect("a pipeline has no cycle");

    let life = sum.next_incarnation();
    let quietly = || Box::new(|_| ());
    system
        .start_task(&sum, life, Sum(0), quietly())
        .await
        .unwrap();
    let (life, stage) = (parse.next_incarnation(), Parse(sum.clone()));
    system
        .start_task(&parse, life, stage, quietly())
        .await
        .unwrap();

    for n in 1..=LINES {
        let sent = parse.send(Line(n.to_string()), PATIENCE).await; // waits for room
        assert!(sent.is_ok(), "the pipeline moves");
    }
    while parse.depth() > 0 {
        tokio::task::yield_now().await;
    }
    let total = sum.ask(Number::Total, PATIENCE).await.unwrap();
    assert_eq!(total, LINES * (LINES + 1) / 2, "nothing is lost");
    for (name, books, highest) in [
        ("parse", parse.books(), parse.highest_depth()),
        ("sum", sum.books(), sum.highest_depth()),
    ] {
        assert!(books.balanced() && highest <= ROOM);
        println!(
            "{name}: handled {}, at most {highest} waited",
            books.handled
        );
    }
    println!("total {total}");
}

pub(crate) fn main() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().build().unwrap().block_on(pipeline());
}
