//! Measures messages between cells: ping-pong, fan-out, one-way across two shards, ring; and
//! questions from a task to a cell.
//!
//! `cargo run --release -p actorsim-actors --example cell_messages [NAME [TIMES [SPIN_US]]]`; names
//! are `ping-pong`, `fan-out`, `one-way`, `ring`, `ask` and `all`. Bound: each runs for about a
//! second.
#![allow(clippy::unwrap_used, missing_docs, reason = "an example")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actorsim_actors::shard::{
    ShardConfig, ShardCores, ShardHandle, ShardHost, SlabHandle, SlabSpec,
};
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Clock, Fault, Flow,
    MailboxSpec, Message, Overflow, Reply, System,
};

enum Msg {
    /// Hops left; 64 bytes with its tag.
    Ball([u64; 7]),
    FanOut {
        to: u32,
        rounds: u32,
    },
    Flood {
        left: u64,
    },
    Ask(Reply<u64>),
}
impl Message for Msg {}

struct Shared {
    next: fn(u32) -> u32,
    other: Arc<OnceLock<SlabHandle<Player>>>,
    cross: fn(u32) -> bool,
    done: Arc<AtomicU64>,
}

struct Player {
    seen: u64,
}

impl Cell for Player {
    type Msg = Msg;
    type Shared = Shared;
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self { seen: 0 })
    }

    fn handle(&mut self, msg: Msg, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        let shared = cx.shared;
        match msg {
            Msg::Ask(reply) => reply.send(self.seen),
            Msg::Ball(mut ball) => {
                self.seen += 1;
                match ball[0] {
                    0 => drop(shared.done.fetch_add(1, Ordering::SeqCst)),
                    u64::MAX => {
                        if self.seen == ball[1] {
                            shared.done.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    _ => {
                        ball[0] -= 1;
                        let to = (shared.next)(cx.ordinal);
                        if (shared.cross)(cx.ordinal) {
                            cx.send_to(shared.other.get().unwrap(), to, Msg::Ball(ball))
                                .unwrap();
                        } else {
                            cx.send(to, Msg::Ball(ball)).unwrap();
                        }
                    }
                }
            }
            Msg::FanOut { to, rounds } => {
                for ordinal in 1..=to {
                    let ball = [u64::MAX, u64::from(rounds) + self.seen, 0, 0, 0, 0, 0];
                    cx.send(ordinal, Msg::Ball(ball)).unwrap();
                }
                self.seen += 1;
                if rounds > 1 {
                    let rounds = rounds - 1;
                    cx.send(0, Msg::FanOut { to, rounds }).unwrap();
                }
            }
            Msg::Flood { mut left } => {
                let all = left + self.seen;
                let other = shared.other.get().unwrap();
                while left > 0 {
                    left -= 1;
                    self.seen += 1;
                    let ball = [u64::MAX, all, 0, 0, 0, 0, 0];
                    let patience = Duration::from_secs(10);
                    let sent = cx.send_or_wait(other, SINK, Msg::Ball(ball), patience);
                    if sent.unwrap() == actorsim_actors::shard::Sent::Waits {
                        break;
                    }
                }
                if left > 0 {
                    cx.send(cx.ordinal, Msg::Flood { left }).unwrap();
                }
            }
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

struct Up;
impl CellSupervisor for Up {
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision {
        panic!("{exit:?}")
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

type Other = Arc<OnceLock<SlabHandle<Player>>>;

struct Slab {
    ordinals: std::ops::Range<u32>,
    next: fn(u32) -> u32,
    cross: fn(u32) -> bool,
    mailbox: u32,
}

impl Slab {
    fn add(self, shard: &ShardHandle, other: &Other, done: &Arc<AtomicU64>) -> SlabHandle<Player> {
        shard
            .add_slab(SlabSpec {
                path: ActorPath::new("/players").unwrap(),
                name: Arc::new(|o| o.to_string()),
                ordinals: std::iter::once(self.ordinals).collect(),
                shared: Shared {
                    next: self.next,
                    cross: self.cross,
                    other: Arc::clone(other),
                    done: Arc::clone(done),
                },
                out: (),
                identity: Box::new(|_| ()),
                mailbox: MailboxSpec::new(self.mailbox, Overflow::Block),
                supervisor: Box::new(Up),
            })
            .unwrap()
    }
}

const SINK: u32 = 1_000_000;

const fn ball(hops: u64) -> Msg {
    Msg::Ball([hops, 0, 0, 0, 0, 0, 0])
}

fn wait(done: &AtomicU64, n: u64) {
    while done.load(Ordering::SeqCst) < n {
        std::thread::park_timeout(Duration::from_micros(200));
    }
    done.store(0, Ordering::SeqCst);
}

/// Wall time, and CPU time of the process: what other processes take does not count.
fn now() -> (Instant, u64) {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    (
        Instant::now(),
        cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64,
    )
}

fn report(name: &str, unit: &str, n: u64, begin: (Instant, u64)) {
    let wall = begin.0.elapsed().as_nanos() as f64 / n as f64;
    let cpu = (now().1 - begin.1) as f64 / n as f64;
    println!("{name:28} {wall:8.1} ns a {unit}, {cpu:8.1} ns of CPU");
}

/// What each measurement needs.
struct Bench {
    shards: [ShardHandle; 2],
    done: Arc<AtomicU64>,
}

impl Bench {
    fn ping_pong(&self) {
        let [a, b] = &self.shards;
        let next = |o| 1 - o;
        let slab = |ordinals, cross| Slab {
            ordinals,
            next,
            cross,
            mailbox: 64,
        };
        let both = slab(0..2, |_| false).add(a, &Other::default(), &self.done);
        let begin = now();
        both.send(0, ball(10_000_000)).unwrap();
        wait(&self.done, 1);
        report("ping-pong, one shard", "round trip", 5_000_000, begin);

        let (to_a, to_b) = (Other::default(), Other::default());
        let ping = slab(0..1, |_| true).add(a, &to_b, &self.done);
        let pong = slab(1..2, |_| true).add(b, &to_a, &self.done);
        to_b.set(pong).unwrap();
        to_a.set(ping.clone()).unwrap();
        let begin = now();
        ping.send(0, ball(100_000)).unwrap();
        wait(&self.done, 1);
        report("ping-pong, two shards", "round trip", 50_000, begin);
    }

    fn fan_out(&self) {
        let slab = Slab {
            ordinals: 0..10_001,
            next: |o| o,
            cross: |_| false,
            mailbox: 64,
        };
        let slab = slab.add(&self.shards[0], &Other::default(), &self.done);
        while slab.counts().running < 10_001 {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let begin = now();
        let (to, rounds) = (10_000, 50);
        slab.send(0, Msg::FanOut { to, rounds }).unwrap();
        wait(&self.done, 10_000);
        report("fan-out 1 -> 10,000 x 50", "message", 500_000, begin);
    }

    fn one_way(&self) {
        let [a, b] = &self.shards;
        let to_b = Other::default();
        let slab = |ordinals| Slab {
            ordinals,
            next: |o| o,
            cross: |_| true,
            mailbox: 1_024,
        };
        let source = slab(0..1).add(a, &to_b, &self.done);
        let sink = slab(SINK..SINK + 1).add(b, &Other::default(), &self.done);
        to_b.set(sink.with_link_capacity(1_024)).unwrap();
        let begin = now();
        let left = 10_000_000;
        source.send(0, Msg::Flood { left }).unwrap();
        wait(&self.done, 1);
        report("one-way, two shards, 1,024", "message", left, begin);
    }

    fn ring(&self) {
        let [a, b] = &self.shards;
        let next = |o| (o + 1) % 1_000;
        let slab = |ordinals, cross| Slab {
            ordinals,
            next,
            cross,
            mailbox: 64,
        };
        let all = slab(0..1_000, |_| false).add(a, &Other::default(), &self.done);
        let begin = now();
        all.send(0, ball(10_000_000)).unwrap();
        wait(&self.done, 1);
        report("ring of 1,000, one shard", "hop", 10_000_000, begin);

        let (to_a, to_b) = (Other::default(), Other::default());
        let low = slab(0..500, |o| o == 499).add(a, &to_b, &self.done);
        let high = slab(500..1_000, |o| o == 999).add(b, &to_a, &self.done);
        to_b.set(high).unwrap();
        to_a.set(low.clone()).unwrap();
        let begin = now();
        low.send(0, ball(1_000_000)).unwrap();
        wait(&self.done, 1);
        report("ring of 1,000, two shards", "hop", 1_000_000, begin);
    }
}

/// One question after the other, each with its own clock readings.
async fn ask(bench: &Bench) {
    const TIMES: usize = 20_000;
    let slab = Slab {
        ordinals: 0..1,
        next: |o| o,
        cross: |_| false,
        mailbox: 64,
    };
    let slab = slab.add(&bench.shards[0], &Other::default(), &bench.done);
    let cell = slab.addr(0);
    let begin = now();
    let mut took = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let asked = Instant::now();
        cell.ask(Msg::Ask, Duration::from_secs(9)).await.unwrap();
        took.push(asked.elapsed());
    }
    report("ask, task to cell and back", "answer", TIMES as u64, begin);
    took.sort_unstable();
    let at = |percent: usize| took[TIMES * percent / 100].as_nanos() as f64 / 1e3;
    println!("{:28} p50 {:.1} us, p99 {:.1} us", "", at(50), at(99));
}

fn main() {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_default();
    let times = args.next().map_or(3, |n| n.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let system = System::new(Clock::wall(), runtime.handle().clone());
    let spin = args
        .next()
        .map(|n| Duration::from_micros(n.parse().unwrap()));
    let config = ShardConfig {
        shards: 2,
        cores: ShardCores::Spread,
        spin: spin.unwrap_or(ShardConfig::default().spin),
        ..ShardConfig::default()
    };
    let host = ShardHost::start(&system, &config).unwrap();
    let shards = [host.shards()[0].clone(), host.shards()[1].clone()];
    let done = Arc::default();
    let bench = Bench { shards, done };
    for _ in 0..times {
        match what.as_str() {
            "ping-pong" => bench.ping_pong(),
            "fan-out" => bench.fan_out(),
            "one-way" => bench.one_way(),
            "ring" => bench.ring(),
            "ask" => runtime.block_on(ask(&bench)),
            _ => {
                bench.ping_pong();
                bench.fan_out();
                bench.one_way();
                bench.ring();
                runtime.block_on(ask(&bench));
            }
        }
    }
    for shard in host.shards() {
        let stats = shard.stats();
        println!(
            "shard {}: {} steps, {} looks, {} answered, {} sleeps",
            stats.index, stats.steps, stats.looks, stats.looks_answered, stats.waits
        );
    }
    runtime.block_on(host.stop()).unwrap();
}
