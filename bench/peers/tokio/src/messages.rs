//! `ping-pong`, `one-way`, `ring`, `cold`: tasks with `mpsc` channels.
//!
//! In `one-way` both ends take what there is at once: `reserve_many` and `recv_many`.

use std::time::Instant;

use peer_probe::{
    COLD_STARTS, Job, Latencies, Line, MAILBOX, Meter, ONE_WAY_MAILBOX, Payload, RING, payload,
};
use peer_runtimes::{on_own_thread, two_workers_anywhere};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Passes every ball on until its hops are used up.
async fn player(mut balls: Receiver<Payload>, to: Sender<Payload>) {
    while let Some(mut ball) = balls.recv().await {
        if ball[0] == 0 {
            return;
        }
        ball[0] -= 1;
        if to.send(ball).await.is_err() {
            return;
        }
    }
}

/// The first player, who begins and measures.
async fn first(mut balls: Receiver<Payload>, to: Sender<Payload>, round_trips: u64) -> Line {
    let meter = Meter::start();
    for _ in 0..round_trips {
        to.send(payload(u64::MAX)).await.expect("the other lives");
        balls.recv().await.expect("the other lives");
    }
    Line::new().per(
        "round_trip",
        "cpu_per_round_trip",
        round_trips,
        meter.stop(),
    )
}

pub(crate) fn one_thread(job: &Job) -> Line {
    let (to_pong, pong) = channel(MAILBOX);
    let (to_ping, ping) = channel(MAILBOX);
    let round_trips = job.size;
    peer_runtimes::one_thread().block_on(async move {
        tokio::spawn(player(pong, to_ping));
        let first = tokio::spawn(first(ping, to_pong, round_trips));
        first.await.expect("it does not panic")
    })
}

pub(crate) fn two_threads(job: &Job) -> Line {
    let (to_pong, pong) = channel(MAILBOX);
    let (to_ping, ping) = channel(MAILBOX);
    let round_trips = job.size;
    on_own_thread(move || player(pong, to_ping));
    let first = on_own_thread(move || first(ping, to_pong, round_trips));
    first.join().expect("it does not panic")
}

pub(crate) fn one_way(job: &Job) -> Line {
    let (sender, mut receiver) = channel::<Payload>(ONE_WAY_MAILBOX);
    let all = job.size;
    let meter = Meter::start();
    on_own_thread(move || async move {
        let mut left = all;
        while left > 0 {
            let batch = left.min(ONE_WAY_MAILBOX as u64 / 4) as usize;
            let permits = sender.reserve_many(batch).await.expect("it receives");
            for permit in permits {
                permit.send(payload(left));
            }
            left -= batch as u64;
        }
    });
    let sink = on_own_thread(move || async move {
        let (mut seen, mut batch) = (0, Vec::with_capacity(ONE_WAY_MAILBOX));
        while receiver.recv_many(&mut batch, ONE_WAY_MAILBOX).await > 0 {
            seen += batch.drain(..).count() as u64;
        }
        seen
    });
    assert_eq!(sink.join().expect("it does not panic"), all);
    Line::new().per("per_message", "cpu_per_message", all, meter.stop())
}

pub(crate) async fn ring(job: Job) -> Line {
    let (first, mut last) = channel(MAILBOX);
    let mut next = first;
    for _ in 1..RING {
        let (sender, receiver) = channel(MAILBOX);
        tokio::spawn(player(receiver, next));
        next = sender;
    }
    let meter = Meter::start();
    let all = job.size;
    let home = tokio::spawn(async move {
        let mut hops = 0;
        while hops < all {
            next.send(payload(u64::MAX)).await.expect("it lives");
            last.recv().await.expect("it lives");
            hops += RING as u64;
        }
        hops
    });
    let hops = home.await.expect("it does not panic");
    Line::new().per("per_hop", "cpu_per_hop", hops, meter.stop())
}

pub(crate) fn cold(job: &Job) -> Line {
    let mut took = Latencies::default();
    for _ in 0..COLD_STARTS {
        let began = Instant::now();
        let runtime = two_workers_anywhere();
        let (to_pong, pong) = channel(MAILBOX);
        let (to_ping, ping) = channel(MAILBOX);
        runtime.spawn(player(pong, to_ping));
        let first = runtime.spawn(first(ping, to_pong, job.size));
        runtime.block_on(first).expect("it does not panic");
        drop(runtime);
        took.since(began);
    }
    Line::new().with("up_and_down", took.us(0.5))
}
