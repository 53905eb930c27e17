//! `ping-pong`, `one-way`, `ring`, `cold`: actors that tell each other and wait for room.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::error::Infallible;
use kameo::mailbox;
use kameo::message::{Context, Message};
use peer_probe::{
    COLD_STARTS, Job, Latencies, Line, MAILBOX, Meter, ONE_WAY_MAILBOX, Payload, RING, Spent,
    payload,
};
use peer_runtimes::{hosted, on_own_thread, two_workers, two_workers_anywhere};

struct Ball(Payload);

type Next = Arc<OnceLock<ActorRef<Player>>>;

/// Passes every ball on until its hops are used up.
struct Player {
    next: Next,
    done: SyncSender<()>,
}

impl Actor for Player {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(player: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(player)
    }
}

impl Message<Ball> for Player {
    type Reply = ();

    async fn handle(&mut self, Ball(mut ball): Ball, _: &mut Context<Self, ()>) {
        if ball[0] == 0 {
            let _ = self.done.send(());
            return;
        }
        ball[0] -= 1;
        let next = self.next.get().expect("set before the first ball");
        next.tell(Ball(ball)).await.expect("it lives");
    }
}

async fn player(next: Next, done: SyncSender<()>) -> ActorRef<Player> {
    let player = Player { next, done };
    Player::spawn_with_mailbox(player, mailbox::bounded(MAILBOX))
}

/// Two players in the runtime that this is awaited in; the one that begins.
async fn pair(done: SyncSender<()>) -> ActorRef<Player> {
    let (to_ping, to_pong) = (Next::default(), Next::default());
    let ping = player(to_pong.clone(), done.clone()).await;
    let pong = player(to_ping.clone(), done).await;
    drop((to_ping.set(ping.clone()), to_pong.set(pong)));
    ping
}

/// Sends the first ball and waits until its hops are used up.
fn play(first: &ActorRef<Player>, hops: u64, over: &Receiver<()>) -> Spent {
    let meter = Meter::start();
    first
        .tell(Ball(payload(hops)))
        .try_send()
        .expect("it lives");
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
        let mut next = player(to_first.clone(), done.clone()).await;
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
    left: u64,
    done: SyncSender<()>,
}

impl Actor for Sink {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(sink: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(sink)
    }
}

impl Message<Ball> for Sink {
    type Reply = ();

    async fn handle(&mut self, _: Ball, _: &mut Context<Self, ()>) {
        self.left -= 1;
        if self.left == 0 {
            let _ = self.done.send(());
        }
    }
}

pub(crate) fn one_way(job: &Job) -> Line {
    let (done, over) = sync_channel(1);
    let all = job.size;
    let sink = Sink { left: all, done };
    let bound = mailbox::bounded(ONE_WAY_MAILBOX);
    let sink = hosted(move || async move { Sink::spawn_with_mailbox(sink, bound) });
    let meter = Meter::start();
    on_own_thread(move || async move {
        for number in 0..all {
            sink.tell(Ball(payload(number))).await.expect("it lives");
        }
        sink // it ends with its last reference
    });
    over.recv().expect("it counts");
    Line::new().per("per_message", "cpu_per_message", all, meter.stop())
}
