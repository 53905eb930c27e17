//! `ping-pong`, `one-way`, `ring`, `cold`: processes that send the same bytes on.
//!
//! In `one-way` the mailbox is unbounded: bounded it would shed, and there is nothing to wait for.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use peer_probe::{COLD_STARTS, Job, Latencies, Line, MAILBOX, Meter, RING, Spent, payload};
use peer_runtimes::{hosted, two_workers, two_workers_anywhere};
use rusm_otp::{Context, Pid, Runtime};

use crate::{bytes, put, words};

type Next = Arc<OnceLock<Pid>>;

/// Passes every ball on until its hops are used up.
async fn player(runtime: Runtime, mut context: Context, next: Next, done: SyncSender<()>) {
    loop {
        let Some(mut ball) = context.recv().await.message() else {
            continue;
        };
        let [left, _] = words(&ball);
        if left == 0 {
            let _ = done.send(());
            continue;
        }
        put(&mut ball, 0, left - 1);
        let next = *next.get().expect("set before the first ball");
        assert!(runtime.send(next, ball), "it lives");
    }
}

async fn start(runtime: Runtime, next: Next, done: SyncSender<()>) -> Pid {
    let inner = runtime.clone();
    let handle = runtime.spawn(move |context| player(inner, context, next, done));
    handle.pid()
}

/// Two players in the runtime that this is awaited in; the one that begins.
async fn pair(runtime: Runtime, done: SyncSender<()>) -> Pid {
    let (to_ping, to_pong) = (Next::default(), Next::default());
    let ping = start(runtime.clone(), to_pong.clone(), done.clone()).await;
    let pong = start(runtime, to_ping.clone(), done).await;
    let _ = (to_ping.set(ping), to_pong.set(pong));
    ping
}

/// Sends the first ball and waits until its hops are used up.
fn play(runtime: &Runtime, first: Pid, hops: u64, over: &Receiver<()>) -> Spent {
    let meter = Meter::start();
    assert!(runtime.send(first, bytes(payload(hops))), "it lives");
    over.recv().expect("somebody plays");
    meter.stop()
}

pub(crate) fn ping_pong(job: &Job) -> Line {
    let (done, over) = sync_channel(1);
    let runtime = Runtime::with_mailbox_capacity(MAILBOX);
    let (a, b) = (runtime.clone(), runtime.clone());
    let ping = if job.shape == "one-shard" {
        hosted(move || pair(a, done))
    } else {
        let (to_ping, to_pong) = (Next::default(), Next::default());
        let (next, other) = (to_pong.clone(), done.clone());
        let ping = hosted(move || start(a, next, other));
        let next = to_ping.clone();
        let pong = hosted(move || start(b, next, done));
        let _ = (to_ping.set(ping), to_pong.set(pong));
        ping
    };
    let spent = play(&runtime, ping, 2 * job.size, &over);
    Line::new().per("round_trip", "cpu_per_round_trip", job.size, spent)
}

pub(crate) fn ring(job: &Job) -> Line {
    let (done, over) = sync_channel(1);
    let runtime = Runtime::with_mailbox_capacity(MAILBOX);
    let workers = two_workers();
    let first = workers.block_on(async {
        let to_first = Next::default();
        let mut next = start(runtime.clone(), to_first.clone(), done.clone()).await;
        for _ in 1..RING {
            let to_next = Arc::new(OnceLock::from(next));
            next = start(runtime.clone(), to_next, done.clone()).await;
        }
        let _ = to_first.set(next);
        next
    });
    let spent = play(&runtime, first, job.size, &over);
    Line::new().per("per_hop", "cpu_per_hop", job.size, spent)
}

pub(crate) fn cold(job: &Job) -> Line {
    let mut took = Latencies::default();
    for _ in 0..COLD_STARTS {
        let began = Instant::now();
        let (done, over) = sync_channel(1);
        let runtime = Runtime::with_mailbox_capacity(MAILBOX);
        let workers = two_workers_anywhere();
        let ping = workers.block_on(pair(runtime.clone(), done));
        play(&runtime, ping, 2 * job.size, &over);
        drop(workers);
        took.since(began);
    }
    Line::new().with("up_and_down", took.us(0.5))
}

pub(crate) fn one_way(job: &Job) -> Line {
    let (done, over) = sync_channel(1);
    let all = job.size;
    let runtime = Runtime::new();
    let inner = runtime.clone();
    let sink = hosted(move || async move {
        let handle = inner.spawn(move |mut context| async move {
            let mut left = all;
            while left > 0 {
                left -= u64::from(context.recv().await.message().is_some());
            }
            let _ = done.send(());
        });
        handle.pid()
    });
    let meter = Meter::start();
    for number in 0..all {
        assert!(runtime.send(sink, bytes(payload(number))), "it lives");
    }
    over.recv().expect("it counts");
    Line::new().per("per_message", "cpu_per_message", all, meter.stop())
}
