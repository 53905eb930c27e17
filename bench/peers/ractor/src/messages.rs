//! `ping-pong`, `one-way`, `ring`, `cold`: actors that send to each other.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use peer_probe::{COLD_STARTS, Job, Latencies, Line, Meter, Payload, RING, Spent, payload};
use peer_runtimes::{hosted, two_workers, two_workers_anywhere};
use ractor::{Actor, ActorProcessingErr, ActorRef};

struct Ball(Payload);

type Next = Arc<OnceLock<ActorRef<Ball>>>;

/// Passes every ball on until its hops are used up.
struct Player {
    next: Next,
    done: SyncSender<()>,
}

impl Actor for Player {
    type Msg = Ball;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ball>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Ball>,
        Ball(mut ball): Ball,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if ball[0] == 0 {
            return Ok(self.done.send(())?);
        }
        ball[0] -= 1;
        let next = self.next.get().expect("set before the first ball");
        Ok(next.send_message(Ball(ball))?)
    }
}

async fn player(next: Next, done: SyncSender<()>) -> ActorRef<Ball> {
    let player = Actor::spawn(None, Player { next, done }, ()).await;
    player.expect("an actor").0
}

/// Two players in the runtime that this is awaited in; the one that begins.
async fn pair(done: SyncSender<()>) -> ActorRef<Ball> {
    let (to_ping, to_pong) = (Next::default(), Next::default());
    let ping = player(to_pong.clone(), done.clone()).await;
    let pong = player(to_ping.clone(), done).await;
    drop((to_ping.set(ping.clone()), to_pong.set(pong)));
    ping
}

/// Sends the first ball and waits until its hops are used up.
fn play(first: &ActorRef<Ball>, hops: u64, over: &Receiver<()>) -> Spent {
    let meter = Meter::start();
    first.send_message(Ball(payload(hops))).expect("it lives");
    over.recv().expect("somebody plays");
    meter.stop()
}

pub(crate) fn ping_pong(job: &Job) -> Line {
    let (done, over) = sync_channel(1);
    let ping = if job.shape == "one-shard" {
        hosted(move || pair(done))
    } else {
        let (to_ping, to_pong) = (Next::default(), Next::default());
        let (next, other) = (to_pong.clone(), done.clone());
        let ping = hosted(move || player(next, other));
        let next = to_ping.clone();
        let pong = hosted(move || player(next, done));
        drop((to_ping.set(ping.clone()), to_pong.set(pong)));
        ping
    };
    let spent = play(&ping, 2 * job.size, &over);
    Line::new().per("round_trip", "cpu_per_round_trip", job.size, spent)
}

pub(crate) fn ring(job: &Job) -> Line {
    let (done, over) = sync_channel(1);
    let runtime = two_workers();
    let first = runtime.block_on(async {
        let to_first = Next::default();
        let last = player(to_first.clone(), done.clone()).await;
        let mut next = last;
        for _ in 1..RING {
            next = player(Arc::new(OnceLock::from(next)), done.clone()).await;
        }
        drop(to_first.set(next.clone()));
        next
    });
    let spent = play(&first, job.size, &over);
    Line::new().per("per_hop", "cpu_per_hop", job.size, spent)
}

pub(crate) fn cold(job: &Job) -> Line {
    let mut took = Latencies::default();
    for _ in 0..COLD_STARTS {
        let began = Instant::now();
        let (done, over) = sync_channel(1);
        let runtime = two_workers_anywhere();
        let ping = runtime.block_on(pair(done));
        play(&ping, 2 * job.size, &over);
        drop(runtime);
        took.since(began);
    }
    Line::new().with("up_and_down", took.us(0.5))
}

/// Counts, and says when it has seen all.
struct Sink {
    all: u64,
    done: SyncSender<()>,
}

impl Actor for Sink {
    type Msg = Ball;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ball>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Ball>,
        _: Ball,
        seen: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        *seen += 1;
        if *seen == self.all {
            self.done.send(())?;
        }
        Ok(())
    }
}

/// Without a bound the sender runs ahead as far as it can.
pub(crate) fn one_way(job: &Job) -> Line {
    let (done, over) = sync_channel(1);
    let all = job.size;
    let sink = hosted(move || async move {
        let sink = Actor::spawn(None, Sink { all, done }, ()).await;
        sink.expect("an actor").0
    });
    let meter = Meter::start();
    for number in 0..all {
        sink.send_message(Ball(payload(number))).expect("it lives");
    }
    over.recv().expect("it counts");
    Line::new().per("per_message", "cpu_per_message", all, meter.stop())
}
