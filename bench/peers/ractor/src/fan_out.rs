//! `fan-out`: an actor to 10,000; the join form calls all branches at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use peer_probe::{FAN_OUT_ROUNDS, Job, Join, Latencies, Line, Meter, Payload, payload};
use peer_runtimes::{hosted, two_workers};
use ractor::rpc::{CallResult, multi_call};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

enum Order {
    Ball(#[expect(dead_code, reason = "what it would carry")] Payload),
    Round(u64),
}

#[derive(Clone)]
struct Counter {
    left: Arc<AtomicU64>,
    done: SyncSender<()>,
    /// Of the one that sends.
    actors: Arc<Vec<ActorRef<Order>>>,
}

impl Actor for Counter {
    type Msg = Order;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Order>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        seen: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        if let Order::Round(left) = order {
            for actor in self.actors.iter() {
                actor.send_message(Order::Ball(payload(0)))?;
            }
            if left > 1 {
                myself.send_message(Order::Round(left - 1))?;
            }
            return Ok(());
        }
        *seen += 1;
        if *seen == FAN_OUT_ROUNDS && self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.send(())?;
        }
        Ok(())
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
    let first = hosted(move || async move {
        let mut counter = Counter {
            left: Arc::new(AtomicU64::new(actors)),
            done,
            actors: Arc::default(),
        };
        let mut counters = Vec::new();
        for _ in 0..actors {
            let started = Actor::spawn(None, counter.clone(), ()).await;
            counters.push(started.expect("an actor").0);
        }
        counter.actors = Arc::new(counters);
        Actor::spawn(None, counter, ()).await.expect("an actor").0
    });
    let meter = Meter::start();
    let sent = first.send_message(Order::Round(FAN_OUT_ROUNDS));
    sent.expect("it lives");
    over.recv().expect("they count");
    let all = actors * FAN_OUT_ROUNDS;
    Line::new().per("per_message", "cpu_per_message", all, meter.stop())
}

struct Branch {
    join: Join,
    number: u64,
}

struct Ask {
    request: u64,
    reply: RpcReplyPort<u64>,
}

impl Actor for Branch {
    type Msg = Ask;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        ask: Ask,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(ask.reply.send(self.join.branch(ask.request, self.number))?)
    }
}

async fn joined(join: Join) -> f64 {
    let mut branches = Vec::new();
    for number in 0..Join::BRANCHES {
        let started = Actor::spawn(None, Branch { join, number }, ()).await;
        branches.push(started.expect("an actor").0);
    }
    let (mut took, sum) = (Latencies::default(), join.sum());
    for _ in 0..Join::REPEATS {
        let (began, mut all) = (Instant::now(), 0_u64);
        for request in 0..Join::REQUESTS {
            let ask = |reply| Ask { request, reply };
            let answers = multi_call(&branches, ask, None).await.expect("they live");
            for answer in answers {
                let CallResult::Success(answer) = answer else {
                    panic!("no answer");
                };
                all = all.wrapping_add(answer);
            }
        }
        assert_eq!(all, sum);
        took.since(began);
    }
    took.us(0.5)
}
