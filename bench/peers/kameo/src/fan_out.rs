//! `fan-out`: an actor to 10,000; the join form asks all branches and then awaits each reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::error::Infallible;
use kameo::mailbox;
use kameo::message::{Context, Message};
use peer_probe::{FAN_OUT_ROUNDS, Job, Join, Latencies, Line, MAILBOX, Meter, Payload, payload};
use peer_runtimes::{hosted, two_workers};

struct Ball(#[expect(dead_code, reason = "what it would carry")] Payload);

#[derive(Clone)]
struct Counter {
    seen: u64,
    left: Arc<AtomicU64>,
    done: SyncSender<()>,
}

impl Actor for Counter {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(counter: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(counter)
    }
}

impl Message<Ball> for Counter {
    type Reply = ();

    async fn handle(&mut self, _: Ball, _: &mut Context<Self, ()>) {
        self.seen += 1;
        if self.seen == FAN_OUT_ROUNDS && self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.done.send(());
        }
    }
}

/// Sends to all of them.
struct Source(Vec<ActorRef<Counter>>);

impl Actor for Source {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(source: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(source)
    }
}

struct Begin;

impl Message<Begin> for Source {
    type Reply = ();

    async fn handle(&mut self, _: Begin, _: &mut Context<Self, ()>) {
        for _ in 0..FAN_OUT_ROUNDS {
            for actor in &self.0 {
                actor.tell(Ball(payload(0))).await.expect("it lives");
            }
        }
    }
}

pub(crate) fn run(job: &Job) -> Line {
    let line = messages(job.size);
    let joined = |skewed| {
        let runtime = two_workers();
        let join = runtime.spawn(joined(Join { skewed }));
        runtime.block_on(join).expect("it does not panic")
    };
    line.with("join_balanced", joined(false))
        .with("join_skewed", joined(true))
}

fn messages(actors: u64) -> Line {
    let (done, over) = sync_channel(1);
    let source = hosted(move || async move {
        let left = Arc::new(AtomicU64::new(actors));
        let seen = 0;
        let counter = Counter { seen, left, done };
        let spawn = |_| Counter::spawn_with_mailbox(counter.clone(), mailbox::bounded(MAILBOX));
        let source = Source((0..actors).map(spawn).collect());
        for actor in &source.0 {
            actor.wait_for_startup().await;
        }
        Source::spawn_with_mailbox(source, mailbox::bounded(MAILBOX))
    });
    let meter = Meter::start();
    source.tell(Begin).try_send().expect("it lives");
    over.recv().expect("they count");
    let all = actors * FAN_OUT_ROUNDS;
    Line::new().per("per_message", "cpu_per_message", all, meter.stop())
}

struct Branch {
    join: Join,
    number: u64,
}

impl Actor for Branch {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(branch: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(branch)
    }
}

struct Request(u64);

impl Message<Request> for Branch {
    type Reply = u64;

    async fn handle(&mut self, request: Request, _: &mut Context<Self, u64>) -> u64 {
        self.join.branch(request.0, self.number)
    }
}

async fn joined(join: Join) -> f64 {
    let spawn = |number| {
        let bound = mailbox::bounded(MAILBOX);
        Branch::spawn_with_mailbox(Branch { join, number }, bound)
    };
    let branches: Vec<_> = (0..Join::BRANCHES).map(spawn).collect();
    let (mut took, sum) = (Latencies::default(), join.sum());
    for _ in 0..Join::REPEATS {
        let (began, mut all) = (Instant::now(), 0_u64);
        for request in 0..Join::REQUESTS {
            let mut replies = Vec::new();
            for branch in &branches {
                let asked = branch.ask(Request(request)).enqueue().await;
                replies.push(asked.expect("it lives"));
            }
            for reply in replies {
                all = all.wrapping_add(reply.await.expect("it answers"));
            }
        }
        assert_eq!(all, sum);
        took.since(began);
    }
    took.us(0.5)
}
