//! Measures timers of cells: a million at 1 Hz, a storm of cancel and reschedule, a million idle.
//!
//! `cargo run --release -p actorsim-actors --example cell_timers [NAME [SECONDS [CELLS]]]`; names
//! are `steady`, `detail` (the same with each step measured), `storm` and `idle`. Bound: `SECONDS`
//! each (10 if not given).
#![allow(clippy::unwrap_used, missing_docs, reason = "an example")]

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{Lateness, ShardConfig, ShardHost, ShardStats, SlabHandle, SlabSpec};
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Clock, Fault, Flow,
    MailboxSpec, Message, MissedTicks, Overflow, System,
};
use rustix::time::{ClockId, clock_gettime};

/// 2^64 / golden ratio: blocks of neighbours are spread evenly over the period.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Neighbours that tick together.
const BLOCK: u32 = 64;
/// Deadlines that a tick of the storm puts off, one by one.
const DEADLINES: u8 = 7;

const TICK: u8 = 0;

#[derive(Clone, Copy)]
struct Plan {
    period: Duration,
    /// Cancel one deadline and put off the others at each tick.
    storm: bool,
}

struct Nothing;
impl Message for Nothing {}

struct Ticker {
    ticks: u64,
}

impl Cell for Ticker {
    type Msg = Nothing;
    type Shared = Plan;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        let period = cx.shared.period;
        let fraction = u64::from(cx.ordinal / BLOCK).wrapping_mul(GOLDEN);
        let phase = (u128::from(fraction) * period.as_nanos()) >> 64;
        let first = cx.now + Duration::from_nanos(phase as u64);
        cx.set_periodic(TICK, first, period, MissedTicks::Skip);
        Ok(Self { ticks: 0 })
    }

    fn handle(&mut self, _: Nothing, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }

    fn timer(&mut self, key: u8, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        if key != TICK {
            return Err(Fault::new("deadline_passed"));
        }
        self.ticks += 1;
        if cx.shared.storm {
            let cancelled = (self.ticks % u64::from(DEADLINES)) as u8 + 1;
            cx.cancel_timer(cancelled);
            for key in 1..=DEADLINES {
                cx.set_timer(key, Duration::from_secs(20 + u64::from(key)));
            }
        }
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

struct Rig {
    clock: Clock,
    host: ShardHost,
    slabs: Vec<SlabHandle<Ticker>>,
}

fn rest(time: Duration) {
    std::thread::park_timeout(time);
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Rig {
    fn new(system: &System, cells: u32, plan: Plan) -> Self {
        let host = ShardHost::start(system, &ShardConfig::default()).unwrap();
        let shards = host.shards();
        let each = cells.div_ceil(shards.len() as u32).next_multiple_of(256);
        let slab = |index: usize| {
            let first = index as u32 * each;
            let spec = SlabSpec {
                path: ActorPath::root().join("tickers"),
                name: Arc::new(|ordinal| ordinal.to_string()),
                ordinals: std::iter::once(first.min(cells)..(first + each).min(cells)).collect(),
                shared: plan,
                out: (),
                identity: Box::new(|_| ()),
                mailbox: MailboxSpec::new(8, Overflow::Reject),
                supervisor: Box::new(Up),
            };
            shards[index].add_slab(spec).unwrap()
        };
        let slabs: Vec<_> = (0..shards.len()).map(slab).collect();
        while slabs.iter().map(|s| s.counts().running).sum::<u64>() < u64::from(cells) {
            rest(Duration::from_millis(5));
        }
        Self {
            clock: system.clock().clone(),
            host,
            slabs,
        }
    }

    fn stats(&self) -> Vec<ShardStats> {
        self.host.shards().iter().map(|s| s.stats()).collect()
    }

    fn measure(&self, name: &str, warm: Duration, seconds: u64, per_timer: u64) {
        rest(warm);
        let (stats, used, begin) = (self.stats(), cpu(), self.clock.monotonic());
        let end = begin + Duration::from_secs(seconds);
        while self.clock.monotonic() < end {
            rest(end.since(self.clock.monotonic()));
        }
        let time = self.clock.monotonic().since(begin).as_secs_f64();
        let used = (cpu() - used).as_secs_f64();
        let after = self.stats();
        let pairs = || stats.iter().zip(&after);
        let sum = |count: fn(&ShardStats) -> u64| -> u64 {
            pairs().map(|(b, a)| count(a) - count(b)).sum()
        };
        let lateness = pairs().fold(Lateness::default(), |all, (before, after)| {
            all.plus(&after.lateness.since(&before.lateness))
        });
        let timers = sum(|s| s.timers_fired);
        let ms = |share| lateness.quantile_ns(share).unwrap_or(0) as f64 / 1e6;
        let waits = sum(|s| s.waits);
        println!(
            "{name}: {:.4} cores, {:.0} timers/s, {:.1} ns of CPU a timer",
            used / time,
            timers as f64 / time,
            used * 1e9 / (timers * per_timer).max(1) as f64,
        );
        println!(
            "  late p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms; {} missed",
            ms(0.5),
            ms(0.99),
            ms(0.999),
            ms(1.0),
            sum(|s| s.ticks_missed)
        );
        println!(
            "  {:.0} waits/s, {} doorbells, {} faults",
            waits as f64 / time,
            sum(|s| s.rings + s.rings_merged),
            self.slabs.iter().map(|s| s.counts().faults).sum::<u64>()
        );
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_default();
    let seconds = args.next().map_or(10, |n| n.parse().unwrap());
    let cells = args.next().map_or(1_000_000, |n| n.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let run = |name: &str, plan: Plan, warm, per_timer, detail| {
        if !what.is_empty() && what != name {
            return;
        }
        let system = System::new(Clock::wall(), runtime.handle().clone());
        let rig = Rig::new(&system, cells, plan);
        rig.host.set_detail(detail);
        rig.measure(name, Duration::from_secs(warm), seconds, per_timer);
        runtime.block_on(rig.host.stop()).unwrap();
    };
    let second = Duration::from_secs(1);
    let plan = |period, storm| Plan { period, storm };
    run("steady", plan(second, false), 2, 1, false);
    run("detail", plan(second, false), 2, 1, true);
    let storm = 1 + 1 + u64::from(DEADLINES);
    run("storm", plan(second, true), 2, storm, false);
    run("idle", plan(60 * second, false), 1, 1, false);
}
