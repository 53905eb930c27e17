//! `fan-out`: a task to 10,000, which take what there is at once (`recv_many`); the join form
//! spawns a task for each branch and awaits them.

use std::time::Instant;

use peer_probe::{FAN_OUT_ROUNDS, Job, Join, Latencies, Line, MAILBOX, Meter, Payload, payload};
use peer_runtimes::{one_thread, two_workers};
use tokio::sync::mpsc::{Receiver, channel};

async fn counter(mut balls: Receiver<Payload>) -> u64 {
    let (mut seen, mut batch) = (0, Vec::with_capacity(MAILBOX));
    while seen < FAN_OUT_ROUNDS {
        balls.recv_many(&mut batch, MAILBOX).await;
        seen += batch.drain(..).count() as u64;
    }
    seen
}

pub(crate) fn run(job: &Job) -> Line {
    let line = one_thread().block_on(messages(job.count()));
    let runtime = two_workers();
    let join = |skewed| {
        let join = runtime.spawn(joined(Join { skewed }));
        runtime.block_on(join).expect("it does not panic")
    };
    line.with("join_balanced", join(false))
        .with("join_skewed", join(true))
}

async fn messages(actors: usize) -> Line {
    let (mut senders, mut counters) = (Vec::new(), Vec::new());
    for _ in 0..actors {
        let (sender, receiver) = channel(MAILBOX);
        counters.push(tokio::spawn(counter(receiver)));
        senders.push(sender);
    }
    tokio::task::yield_now().await; // they wait
    let meter = Meter::start();
    for _ in 0..FAN_OUT_ROUNDS {
        for sender in &senders {
            sender.send(payload(0)).await.expect("it lives");
        }
    }
    for counter in counters {
        counter.await.expect("it does not panic");
    }
    let all = actors as u64 * FAN_OUT_ROUNDS;
    Line::new().per("per_message", "cpu_per_message", all, meter.stop())
}

async fn joined(join: Join) -> f64 {
    let (mut took, sum) = (Latencies::default(), join.sum());
    for _ in 0..Join::REPEATS {
        let (began, mut all) = (Instant::now(), 0_u64);
        for request in 0..Join::REQUESTS {
            let branch = |branch| tokio::spawn(async move { join.branch(request, branch) });
            let branches: Vec<_> = (0..Join::BRANCHES).map(branch).collect();
            for branch in branches {
                all = all.wrapping_add(branch.await.expect("it does not panic"));
            }
        }
        assert_eq!(all, sum);
        took.since(began);
    }
    took.us(0.5)
}
