//! Measures what moving slabs is worth under skew: 10 % of the cells get 90 % of the messages, and
//! all of them begin on shard 0; also a hot cell that changes.
//!
//! `cargo run --release -p actorsim-actors --example cell_skew [SECONDS [WORK_NS [PARTS]]]`. Bound:
//! `SECONDS` (5 if not given) for each of five runs.
#![allow(clippy::unwrap_used, missing_docs, reason = "an example")]

use std::hint::black_box;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actorsim_actors::shard::{
    BalanceRule, Placement, Population, ShardConfig, ShardHost, SlabSpec,
};
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Clock, Fault, Flow,
    MailboxSpec, Message, Overflow, System, Time,
};

/// Cells: 256 groups.
const CELLS: u32 = 65_536;
/// Messages in flight: enough to keep two shards at work.
const TOKENS: u32 = 512;
/// How long the hot cell stays the same.
const ROTATION: Duration = Duration::from_millis(1_500);

/// Who is hot.
#[derive(Clone, Copy, PartialEq)]
enum Heat {
    /// Every tenth cell: as hot on each shard.
    Even,
    /// The first tenth of the cells, all of which begin on shard 0.
    First,
    /// One cell gets half of the messages, and another one after a while.
    Rotating,
}

struct Token(u64);
impl Message for Token {}

struct Shared {
    all: Arc<OnceLock<Population<Walker>>>,
    heat: Heat,
    /// Rounds of arithmetic per message.
    rounds: u32,
    /// Cells of shard 0 at the beginning.
    low: u32,
}

impl Shared {
    /// Whom a token goes to next.
    fn next(&self, draw: u64, now: Time) -> u32 {
        let percent = (draw >> 40) % 100;
        let number = (draw >> 8) as u32;
        let hot = CELLS / 10;
        match self.heat {
            Heat::Even if percent < 90 => number % hot * 10,
            Heat::First if percent < 90 => number % hot,
            Heat::Rotating if percent < 50 => {
                let turn = now.0 / ROTATION.as_nanos() as u64;
                // Far apart, so that it is another slab each time.
                (turn as u32).wrapping_mul(0x9e37_79b1) % self.low
            }
            _ => number % CELLS,
        }
    }
}

struct Walker {
    sum: u64,
}

fn work(mut x: u64, rounds: u32) -> u64 {
    for _ in 0..rounds {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }
    x
}

impl Cell for Walker {
    type Msg = Token;
    type Shared = Shared;
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self { sum: 0 })
    }

    fn handle(&mut self, token: Token, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        self.sum ^= black_box(work(token.0, cx.shared.rounds));
        let draw = work(token.0 ^ 0x5851_f42d_4c95_7f2d, 2);
        let to = cx.shared.next(draw, cx.now);
        let all = cx.shared.all.get().ok_or(Fault::new("no_population"))?;
        let part = all.part_of(to).ok_or(Fault::new("no_cell"))?;
        let sent = cx.send_to(part, to, Token(draw));
        sent.map_err(|_| Fault::new("no_room"))?;
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

struct Up;
impl CellSupervisor for Up {
    fn exited(&mut self, _: &CellExit<'_>) -> CellDecision {
        CellDecision::Stop
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

/// Nanoseconds of a round of arithmetic.
fn calibrate() -> f64 {
    let begin = Instant::now();
    let rounds = 20_000_000;
    black_box(work(black_box(1), rounds));
    begin.elapsed().as_nanos() as f64 / f64::from(rounds)
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn rest(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::thread::park_timeout(end - Instant::now());
    }
}

struct Plan {
    heat: Heat,
    migrating: bool,
    seconds: u64,
    rounds: u32,
    parts: u32,
}

/// Messages handled per second.
fn run(runtime: &tokio::runtime::Runtime, plan: &Plan) -> f64 {
    let system = System::new(Clock::wall(), runtime.handle().clone());
    let config = ShardConfig {
        shards: 2,
        ..ShardConfig::default()
    };
    let host = ShardHost::start(&system, &config).unwrap();
    let directory = Arc::new(OnceLock::new());
    let each = CELLS / plan.parts;
    let low = CELLS / 2;
    let spec = |_| SlabSpec {
        path: ActorPath::root().join("walkers"),
        name: Arc::new(|ordinal| ordinal.to_string()),
        ordinals: Vec::new(),
        shared: Shared {
            all: Arc::clone(&directory),
            heat: plan.heat,
            rounds: plan.rounds,
            low,
        },
        out: (),
        identity: Box::new(|_| ()),
        mailbox: MailboxSpec::new(TOKENS * 2, Overflow::Reject),
        supervisor: Box::new(Up),
    };
    // The lower half on shard 0, the upper on shard 1.
    let groups = each / 256;
    let shards = host.shards();
    let halves = [0..low, low..CELLS].into_iter().enumerate();
    let halves: Vec<_> = halves
        .map(|(shard, half)| {
            let placement = Placement::Pinned(shard);
            Population::start(shards, placement, half, groups, spec).unwrap()
        })
        .collect();
    let all = Population::joined(&halves).unwrap();
    assert!(directory.set(all.clone()).is_ok());
    while all.running() < u64::from(CELLS) {
        rest(Duration::from_millis(5));
    }
    let balancing = plan
        .migrating
        .then(|| host.balance(&system, BalanceRule::default()));
    for token in 0..TOKENS {
        let draw = work(u64::from(token), 3);
        let to = (draw >> 8) as u32 % CELLS;
        all.send(to, Token(draw)).unwrap();
    }
    rest(Duration::from_millis(1_500));
    let (begin, used, before) = (Instant::now(), cpu(), all.books().handled);
    rest(Duration::from_secs(plan.seconds));
    let time = begin.elapsed().as_secs_f64();
    let rate = (all.books().handled - before) as f64 / time;
    let used = (cpu() - used).as_secs_f64() / time;
    let moved: u64 = shards.iter().map(|s| s.stats().migrations_in).sum();
    println!("  {rate:12.0} messages/s, {used:.2} cores, {moved} slabs moved");
    drop(balancing);
    runtime.block_on(host.stop()).unwrap();
    rate
}

fn main() {
    let mut args = std::env::args().skip(1).map(|n| n.parse::<u32>().unwrap());
    let seconds = u64::from(args.next().unwrap_or(5));
    let work_ns = args.next().unwrap_or(1_000);
    let parts = args.next().unwrap_or(32);
    let rounds = (f64::from(work_ns) / calibrate()) as u32;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    println!(
        "{CELLS} cells in {parts} parts, {TOKENS} messages in flight, {work_ns} ns of work each"
    );
    let of = |name: &str, heat, migrating| {
        println!("{name}");
        let plan = Plan {
            heat,
            migrating,
            seconds,
            rounds,
            parts,
        };
        run(&runtime, &plan)
    };
    let balanced = of("balanced", Heat::Even, false);
    let pinned = of("skewed, pinned", Heat::First, false);
    let migrating = of("skewed, migrating", Heat::First, true);
    let pinned_key = of("rotating hot cell, pinned", Heat::Rotating, false);
    let migrating_key = of("rotating hot cell, migrating", Heat::Rotating, true);
    println!(
        "of balanced: pinned {:.2}, migrating {:.2}; rotating: pinned {:.2}, migrating {:.2}",
        pinned / balanced,
        migrating / balanced,
        pinned_key / balanced,
        migrating_key / balanced,
    );
    println!(
        "migrating / pinned: skewed {:.2}, rotating {:.2}",
        migrating / pinned,
        migrating_key / pinned_key
    );
}
