//! `fan-out`: an actor to 10,000 on one arbiter; in the join form a task sends to eight branches on
//! its own thread and to eight on another, and awaits each answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, System};
use peer_probe::{FAN_OUT_ROUNDS, Job, Join, Latencies, Line, MAILBOX, Meter, Payload, payload};

struct Ball(#[expect(dead_code, reason = "what it would carry")] Payload);

impl Message for Ball {
    type Result = ();
}

struct Counter {
    seen: u64,
    left: Arc<AtomicU64>,
    done: SyncSender<()>,
}

impl Actor for Counter {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Ball> for Counter {
    type Result = ();

    fn handle(&mut self, _: Ball, _: &mut Context<Self>) {
        self.seen += 1;
        if self.seen == FAN_OUT_ROUNDS && self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.done.send(());
        }
    }
}

struct Source(Vec<Addr<Counter>>);

impl Actor for Source {
    type Context = Context<Self>;
}

struct Round(u64);

impl Message for Round {
    type Result = ();
}

impl Handler<Round> for Source {
    type Result = ();

    fn handle(&mut self, Round(left): Round, context: &mut Context<Self>) {
        for actor in &self.0 {
            actor
                .try_send(Ball(payload(0)))
                .expect("a round leaves room");
        }
        if left > 1 {
            context.notify(Round(left - 1));
        }
    }
}

pub(crate) fn run(job: &Job) -> Line {
    let line = messages(job.size);
    line.with("join_balanced", joined(Join { skewed: false }))
        .with("join_skewed", joined(Join { skewed: true }))
}

fn messages(actors: u64) -> Line {
    let _system = System::new();
    let arbiter = crate::arbiter(0);
    let (done, over) = sync_channel(1);
    let (started, starts) = sync_channel(1);
    arbiter.spawn_fn(move || {
        let left = Arc::new(AtomicU64::new(actors));
        let start = |_| {
            let (left, done) = (Arc::clone(&left), done.clone());
            Counter {
                seen: 0,
                left,
                done,
            }
            .start()
        };
        let _ = started.send(Source((0..actors).map(start).collect()).start());
    });
    let source = starts.recv().expect("it starts");
    let meter = Meter::start();
    source.try_send(Round(FAN_OUT_ROUNDS)).expect("it lives");
    over.recv().expect("they count");
    let all = actors * FAN_OUT_ROUNDS;
    Line::new().per("per_message", "cpu_per_message", all, meter.stop())
}

struct Branch {
    join: Join,
    number: u64,
}

impl Actor for Branch {
    type Context = Context<Self>;
}

struct Request(u64);

impl Message for Request {
    type Result = u64;
}

impl Handler<Request> for Branch {
    type Result = u64;

    fn handle(&mut self, request: Request, _: &mut Context<Self>) -> u64 {
        self.join.branch(request.0, self.number)
    }
}

fn joined(join: Join) -> f64 {
    let system = System::new();
    peer_probe::pin(0);
    let other = crate::arbiter(1);
    system.block_on(async move {
        let start = |number| match number < Join::BRANCHES / 2 {
            true => Branch { join, number }.start(),
            false => Branch::start_in_arbiter(&other.handle(), move |_| Branch { join, number }),
        };
        // those on the other thread are asked first
        let branches: Vec<_> = (0..Join::BRANCHES).rev().map(start).collect();
        let (mut took, sum) = (Latencies::default(), join.sum());
        for _ in 0..Join::REPEATS {
            let (began, mut all) = (Instant::now(), 0_u64);
            for request in 0..Join::REQUESTS {
                let answers: Vec<_> = branches.iter().map(|b| b.send(Request(request))).collect();
                for answer in answers {
                    all = all.wrapping_add(answer.await.expect("it lives"));
                }
            }
            assert_eq!(all, sum);
            took.since(began);
        }
        took.us(0.5)
    })
}
