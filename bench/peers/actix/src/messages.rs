//! `ping-pong`, `one-way`, `ring`, `cold`: actors on one arbiter or on two.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use actix::{Actor, Addr, Arbiter, Context, Handler, Message, System};
use peer_probe::{
    COLD_STARTS, Job, Latencies, Line, MAILBOX, Meter, ONE_WAY_MAILBOX, Payload, RING, Spent,
    payload,
};

struct Ball(Payload);

impl Message for Ball {
    type Result = ();
}

type Next = Arc<OnceLock<Addr<Player>>>;

/// Passes every ball on until its hops are used up.
struct Player {
    next: Next,
    done: SyncSender<()>,
}

impl Actor for Player {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Ball> for Player {
    type Result = ();

    fn handle(&mut self, Ball(mut ball): Ball, _: &mut Context<Self>) {
        if ball[0] == 0 {
            let _ = self.done.send(());
            return;
        }
        ball[0] -= 1;
        let next = self.next.get().expect("set before the first ball");
        next.try_send(Ball(ball)).expect("it lives and has room");
    }
}

fn player(arbiter: &Arbiter, next: &Next, done: &SyncSender<()>) -> Addr<Player> {
    let (next, done) = (Arc::clone(next), done.clone());
    Player::start_in_arbiter(&arbiter.handle(), move |_| Player { next, done })
}

/// Two players; the one that begins.
fn pair(arbiters: [&Arbiter; 2], done: &SyncSender<()>) -> Addr<Player> {
    let (to_ping, to_pong) = (Next::default(), Next::default());
    let ping = player(arbiters[0], &to_pong, done);
    let pong = player(arbiters[1], &to_ping, done);
    drop((to_ping.set(ping.clone()), to_pong.set(pong)));
    ping
}

/// Sends the first ball and waits until its hops are used up.
fn play(first: &Addr<Player>, hops: u64, over: &Receiver<()>) -> Spent {
    let meter = Meter::start();
    first.try_send(Ball(payload(hops))).expect("it lives");
    over.recv().expect("somebody plays");
    meter.stop()
}

pub(crate) fn ping_pong(job: &Job) -> Line {
    let _system = System::new();
    let [a, b] = [0, 1].map(crate::arbiter);
    let (done, over) = sync_channel(1);
    let second = if job.shape == "one-shard" { &a } else { &b };
    let ping = pair([&a, second], &done);
    let spent = play(&ping, 2 * job.size, &over);
    Line::new().per("round_trip", "cpu_per_round_trip", job.size, spent)
}

pub(crate) fn ring(job: &Job) -> Line {
    let _system = System::new();
    let arbiters = [0, 1].map(crate::arbiter);
    let (done, over) = sync_channel(1);
    let to_first = Next::default();
    let mut next = player(&arbiters[1], &to_first, &done);
    for place in 1..RING {
        let arbiter = &arbiters[usize::from(place < RING / 2)];
        next = player(arbiter, &Arc::new(OnceLock::from(next)), &done);
    }
    drop(to_first.set(next.clone()));
    let spent = play(&next, job.size, &over);
    Line::new().per("per_hop", "cpu_per_hop", job.size, spent)
}

pub(crate) fn cold(job: &Job) -> Line {
    let mut took = Latencies::default();
    for _ in 0..COLD_STARTS {
        let began = Instant::now();
        let system = System::new();
        let (a, b) = (Arbiter::new(), Arbiter::new());
        let (done, over) = sync_channel(1);
        let ping = pair([&a, &b], &done);
        play(&ping, 2 * job.size, &over);
        for arbiter in [a, b] {
            arbiter.stop();
            arbiter.join().expect("it does not panic");
        }
        drop(system);
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
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(ONE_WAY_MAILBOX);
    }
}

impl Handler<Ball> for Sink {
    type Result = ();

    fn handle(&mut self, _: Ball, _: &mut Context<Self>) {
        self.left -= 1;
        if self.left == 0 {
            let _ = self.done.send(());
        }
    }
}

/// Tries, and where there is no room sends and waits for the answer, which there is no other way to
/// wait for.
pub(crate) fn one_way(job: &Job) -> Line {
    let _system = System::new();
    let [source, arbiter] = [0, 1].map(crate::arbiter);
    let (done, over) = sync_channel(1);
    let all = job.size;
    let sink = Sink::start_in_arbiter(&arbiter.handle(), move |_| Sink { left: all, done });
    let meter = Meter::start();
    source.spawn(async move {
        for number in 0..all {
            let refused = sink.try_send(Ball(payload(number))).err();
            if let Some(refused) = refused {
                sink.send(refused.into_inner()).await.expect("it lives");
            }
        }
    });
    over.recv().expect("it counts");
    Line::new().per("per_message", "cpu_per_message", all, meter.stop())
}
