//! How long a sleeping shard takes to hear a message, and what an idle one costs.
//!
//! `cargo run --release -p actorsim-actors --example wake -- [uring|portable] [idle seconds]`;
//! without a backend: both, one after the other. Bound: [`WAKES`] messages, [`HOPS`] hops.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{env, thread};

use actorsim_actors::shard::{Backend, ShardConfig, ShardCores, ShardHost, SlabHandle, SlabSpec};
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Clock, Fault, Flow,
    MailboxSpec, Message, Overflow, System, Time,
};
use rustix::time::{ClockId, clock_gettime};

const WAKES: usize = 20_000;
const HOPS: u64 = 100_000;
const IDLE_CELLS: u32 = 100_000;

type Failure = Box<dyn Error + Send + Sync>;

enum Ask {
    /// Note how long ago this was.
    Since(Time),
    /// Pass it on until none are left.
    Hop(u64),
}

impl Message for Ask {}

struct Shared {
    clock: Clock,
    last_ns: Arc<AtomicU64>,
    peer: Arc<OnceLock<SlabHandle<Probe>>>,
}

struct Probe;

impl Cell for Probe {
    type Msg = Ask;
    type Shared = Shared;
    type Identity = u64;
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        cx.set_timer(0, Duration::from_secs(60));
        Ok(Self)
    }

    fn handle(&mut self, ask: Ask, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        let done = &cx.shared.last_ns;
        match ask {
            Ask::Since(then) => {
                let late = cx.shared.clock.monotonic().since(then).as_nanos() as u64;
                done.store(late.max(1), Ordering::Release);
            }
            Ask::Hop(0) => done.store(1, Ordering::Release),
            Ask::Hop(left) => {
                if let Some(peer) = cx.shared.peer.get() {
                    let _ = peer.send(0, Ask::Hop(left - 1));
                }
            }
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, key: u8, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        cx.set_timer(key, Duration::from_secs(60));
        Ok(Flow::Continue)
    }
}

struct Stop;

impl CellSupervisor for Stop {
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

/// A node of two shards, each kept on its core, with one slab each.
struct Rig {
    clock: Clock,
    host: ShardHost,
    slabs: [SlabHandle<Probe>; 2],
    last_ns: Arc<AtomicU64>,
}

impl Rig {
    fn new(system: &System, backend: Backend) -> Result<Self, Failure> {
        let config = ShardConfig {
            shards: 2,
            cores: ShardCores::Spread,
            backend,
            ..ShardConfig::default()
        };
        let host = ShardHost::start(system, &config)?;
        let clock = system.clock().clone();
        let last_ns = Arc::new(AtomicU64::new(0));
        let peers: [Arc<OnceLock<_>>; 2] = Default::default();
        let slab = |index: usize| {
            host.shards()[index].add_slab(SlabSpec {
                path: ActorPath::root().join("probe").join(&index.to_string()),
                name: Arc::new(|ordinal| ordinal.to_string()),
                ordinals: std::iter::once(0..IDLE_CELLS / 2).collect(),
                shared: Shared {
                    clock: clock.clone(),
                    last_ns: Arc::clone(&last_ns),
                    peer: Arc::clone(&peers[index]),
                },
                out: (),
                identity: Box::new(|_| 0),
                mailbox: MailboxSpec::new(8, Overflow::Reject),
                supervisor: Box::new(Stop),
            })
        };
        let slabs = [slab(0)?, slab(1)?];
        let _ = peers[0].set(slabs[1].clone());
        let _ = peers[1].set(slabs[0].clone());
        while slabs
            .iter()
            .any(|slab| slab.counts().running < u64::from(IDLE_CELLS / 2))
        {
            thread::park_timeout(Duration::from_millis(5));
        }
        Ok(Self {
            clock,
            host,
            slabs,
            last_ns,
        })
    }

    fn answer(&self) -> u64 {
        loop {
            match self.last_ns.swap(0, Ordering::Acquire) {
                0 => thread::yield_now(),
                ns => return ns,
            }
        }
    }

    /// From this thread, which has no ring, to a shard that sleeps.
    fn wakes(&self) -> Result<(), Failure> {
        let mut late = Vec::with_capacity(WAKES);
        for _ in 0..WAKES {
            thread::park_timeout(Duration::from_micros(150));
            self.slabs[0].send(0, Ask::Since(self.clock.monotonic()))?;
            late.push(self.answer());
        }
        late.sort_unstable();
        let at = |share: f64| late[(share * (WAKES - 1) as f64) as usize] as f64 / 1e3;
        println!(
            "  wake from a thread: p50 {:.1} us, p90 {:.1} us, p99 {:.1} us",
            at(0.5),
            at(0.9),
            at(0.99)
        );
        Ok(())
    }

    /// One message in flight between two shards.
    fn hops(&self) -> Result<(), Failure> {
        let (begin, cpu) = (self.clock.monotonic(), cpu());
        let before = self.enters();
        self.slabs[0].send(0, Ask::Hop(HOPS))?;
        while self.last_ns.swap(0, Ordering::Acquire) == 0 {
            thread::park_timeout(Duration::from_millis(1));
        }
        let ns = self.clock.monotonic().since(begin).as_nanos() as u64;
        println!(
            "  shard to shard: {} ns a hop, {} ns of processor, {:.2} enters",
            ns / HOPS,
            (cpu_since(cpu)).as_nanos() as u64 / HOPS,
            (self.enters() - before) as f64 / HOPS as f64
        );
        Ok(())
    }

    fn enters(&self) -> u64 {
        self.host.shards().iter().map(|s| s.stats().enters).sum()
    }

    fn idle(&self, seconds: u64) {
        thread::park_timeout(Duration::from_secs(1));
        let waits = || -> u64 { self.host.shards().iter().map(|s| s.stats().waits).sum() };
        let (cpu, before) = (cpu(), waits());
        let begin = self.clock.monotonic();
        let time = Duration::from_secs(seconds);
        while self.clock.monotonic().since(begin) < time {
            thread::park_timeout(time);
        }
        let used = cpu_since(cpu);
        println!(
            "  {IDLE_CELLS} idle cells with a timer each: {:.4} % of a core, {} waits, {seconds} s",
            used.as_secs_f64() / seconds as f64 * 100.0,
            waits() - before
        );
    }
}

/// Processor time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn cpu_since(before: Duration) -> Duration {
    cpu().saturating_sub(before)
}

fn main() -> Result<(), Failure> {
    let mut args = env::args().skip(1);
    let backends = match args.next().as_deref() {
        Some(word) => vec![Backend::from_label(word).ok_or("uring, portable or auto")?],
        None => vec![Backend::Portable, Backend::Uring],
    };
    let idle: u64 = args.next().map_or(Ok(10), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    for backend in backends {
        let system = System::new(Clock::wall(), runtime.handle().clone());
        let rig = Rig::new(&system, backend)?;
        println!("{}", rig.host.backend().label());
        rig.wakes()?;
        rig.hops()?;
        rig.idle(idle);
        runtime.block_on(rig.host.stop())?;
    }
    Ok(())
}
