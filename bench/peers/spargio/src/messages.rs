//! `ping-pong`, `one-way`, `cold`: ring messages between two shards.
//!
//! There is no backpressure to wait for (what is above the bound is dropped in silence), so
//! `one-way` sends batches of half the bound and waits for the acknowledgement of the last but one.

use std::time::Instant;

use futures::executor::block_on;
use peer_probe::{COLD_STARTS, Job, Latencies, Line, Meter, ONE_WAY_MAILBOX};
use spargio::{Event, JoinHandle, RemoteShard, Runtime, ShardCtx};

use crate::{runtime, runtime_anywhere};

const BALL: u16 = 1;
const ACK: u16 = 2;
const END: u16 = 3;
/// Messages sent at once.
const BATCH: u32 = ONE_WAY_MAILBOX as u32 / 2;

fn peer(shard: u16) -> RemoteShard {
    let context = ShardCtx::current().expect("on a shard");
    context.remote(shard).expect("there are two")
}

async fn received() -> (u16, u32) {
    let next = ShardCtx::current().expect("on a shard").next_event();
    let Event::RingMsg { tag, val, .. } = next.await;
    (tag, val)
}

/// Sends every ball back.
fn pong(runtime: &Runtime) -> JoinHandle<()> {
    let pong = runtime.spawn_on(1, async {
        let peer = peer(0);
        while let (BALL, number) = received().await {
            peer.send_raw_nowait(BALL, number).expect("it lives");
        }
    });
    pong.expect("shard 1 lives")
}

fn play(runtime: &Runtime, round_trips: u64) -> Line {
    let pong = pong(runtime);
    let ping = runtime.spawn_on(0, async move {
        let peer = peer(1);
        let meter = Meter::start();
        for number in 0..round_trips {
            peer.send_raw_nowait(BALL, number as u32).expect("it lives");
            received().await;
        }
        let spent = meter.stop();
        peer.send_raw_nowait(END, 0).expect("it lives");
        Line::new().per("round_trip", "cpu_per_round_trip", round_trips, spent)
    });
    let line = block_on(ping.expect("shard 0 lives")).expect("it does not panic");
    block_on(pong).expect("it does not panic");
    line
}

pub(crate) fn ping_pong(job: &Job) -> Line {
    if job.shape == "one-shard" {
        return Line::new(); // a shard has no messages to itself
    }
    play(&runtime(2), job.size)
}

pub(crate) fn cold(job: &Job) -> Line {
    let mut took = Latencies::default();
    for _ in 0..COLD_STARTS {
        let began = Instant::now();
        let mut runtime = runtime_anywhere(2);
        play(&runtime, job.size);
        block_on(runtime.shutdown());
        took.since(began);
    }
    Line::new().with("up_and_down", took.us(0.5))
}

pub(crate) fn one_way(job: &Job) -> Line {
    let runtime = runtime(2);
    let batches = job.size.div_ceil(u64::from(BATCH));
    let sink = runtime.spawn_on(1, async move {
        let peer = peer(0);
        for _ in 0..batches {
            for _ in 0..BATCH {
                received().await;
            }
            peer.send_raw_nowait(ACK, 0).expect("it lives");
        }
    });
    let source = runtime.spawn_on(0, async move {
        let peer = peer(1);
        let meter = Meter::start();
        for batch in 0..batches {
            let messages = (0..BATCH).map(|number| (BALL, number));
            peer.send_many_raw_nowait(messages).expect("it lives");
            if batch > 0 {
                received().await;
            }
        }
        received().await;
        meter.stop()
    });
    let spent = block_on(source.expect("shard 0 lives")).expect("it does not panic");
    block_on(sink.expect("shard 1 lives")).expect("it does not panic");
    let all = batches * u64::from(BATCH);
    Line::new().per("per_message", "cpu_per_message", all, spent)
}
