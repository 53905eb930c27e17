//! Shards with supervised cells, as the scenarios need them: started, filled, waited for, stopped.
//!
//! Everything through the public API of `actorsim-actors` and `actorsim-supervision`. Bound: a wait
//! ends with an error after [`WAIT_MAX`].

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use actorsim_actors::shard::{
    ShardConfig, ShardCores, ShardHost, SlabCounts, SlabHandle, SlabSpec,
};
use actorsim_actors::{
    ActorPath, Cell, Clock, Fault, MailboxSpec, Message, Outbox, Overflow, System, Time,
};
use actorsim_supervision::{CellPolicy, Policies, Strategy, Supervision, SupervisorPolicy};
use peer_probe::{Latencies, Payload};
use serde_json::Value;
use tokio::runtime::Runtime;

/// Longest wait of a child for anything: less than the harness waits for the child.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(100);

/// Shards of this process.
#[derive(Debug)]
pub(crate) struct Shards {
    pub(crate) runtime: Runtime,
    pub(crate) system: System,
    pub(crate) host: ShardHost,
    supervision: Arc<Supervision>,
}

impl Shards {
    /// Starts `count` shards, each on a core of its own if there are as many.
    pub(crate) fn start(count: usize) -> Result<Self, String> {
        Self::start_on(count, ShardCores::Spread)
    }

    /// Starts `count` shards wherever the host puts them, which is faster; 0 is one per core.
    pub(crate) fn start_anywhere(count: usize) -> Result<Self, String> {
        Self::start_on(count, ShardCores::Any)
    }

    fn start_on(count: usize, cores: ShardCores) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| format!("runtime: {error}"))?;
        let system = System::new(Clock::wall(), runtime.handle().clone());
        let config = ShardConfig {
            shards: count,
            cores,
            ..ShardConfig::default()
        };
        let host = ShardHost::start(&system, &config).map_err(|error| error.to_string())?;
        Ok(Self {
            runtime,
            system,
            host,
            supervision: Arc::default(),
        })
    }

    /// Adds cells to a shard under [`always`], with mailboxes of `room`.
    pub(crate) fn add<C: Cell>(
        &self,
        shard: usize,
        ordinals: Range<u32>,
        shared: C::Shared,
        room: usize,
    ) -> Result<SlabHandle<C>, String>
    where
        C::Identity: Default,
        C::Out: Default,
    {
        let path = ActorPath::root()
            .join("bench")
            .join(&format!("shard-{shard}"));
        self.add_under(&always(), &path, shard, ordinals, shared, room)
    }

    /// Adds cells to a shard under the shipped policy of populations.
    pub(crate) fn add_population<C: Cell>(
        &self,
        shard: usize,
        ordinals: Range<u32>,
        shared: C::Shared,
        room: usize,
    ) -> Result<SlabHandle<C>, String>
    where
        C::Identity: Default,
        C::Out: Default,
    {
        let path = ActorPath::root().join("fleet").join("bench");
        let policy = Policies::shipped().for_path(&path);
        self.add_under(&policy, &path, shard, ordinals, shared, room)
    }

    fn add_under<C: Cell>(
        &self,
        policy: &SupervisorPolicy,
        path: &ActorPath,
        shard: usize,
        ordinals: Range<u32>,
        shared: C::Shared,
        room: usize,
    ) -> Result<SlabHandle<C>, String>
    where
        C::Identity: Default,
        C::Out: Default,
    {
        let spec = self.spec(policy, path, ordinals, shared, room)?;
        let shards = self.host.shards();
        shards[shard]
            .add_slab(spec)
            .map_err(|error| error.to_string())
    }

    /// What cells under this policy are made of.
    pub(crate) fn spec<C: Cell>(
        &self,
        policy: &SupervisorPolicy,
        path: &ActorPath,
        ordinals: Range<u32>,
        shared: C::Shared,
        room: usize,
    ) -> Result<SlabSpec<C>, String>
    where
        C::Identity: Default,
        C::Out: Default,
    {
        let name: Arc<dyn Fn(u32) -> String + Send + Sync> = Arc::new(|n| n.to_string());
        let supervisor = CellPolicy::new(policy.clone(), path)
            .map_err(|error| error.to_string())?
            .reporting(&self.system, &self.supervision, path, Arc::clone(&name));
        Ok(SlabSpec {
            path: path.clone(),
            name,
            ordinals: vec![ordinals],
            shared,
            out: C::Out::default(),
            identity: Box::new(|_| C::Identity::default()),
            mailbox: MailboxSpec::new(room as u32, Overflow::Block),
            supervisor: Box::new(supervisor),
        })
    }

    /// Waits for a future.
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Stops everything in order.
    pub(crate) fn stop(self) -> Result<(), String> {
        let stopped = self.runtime.block_on(self.host.stop());
        stopped.map_err(|error| error.to_string())
    }
}

/// The ordinals of `all` on shard `shard` of `shards`, in equal parts.
pub(crate) fn part(all: u64, shard: usize, shards: usize) -> Range<u32> {
    let border = |shard| (all * shard as u64 / shards as u64) as u32;
    border(shard)..border(shard + 1)
}

/// Restarts as soon as it takes, and counts each: 10,000 in 100 us are allowed, more than can be.
pub(crate) fn always() -> SupervisorPolicy {
    SupervisorPolicy::new(Strategy::OneForOne).intensity(10_000, Duration::from_micros(100))
}

/// Looks every `pause` until the counters of all slabs say so.
pub(crate) fn until<C: Cell>(
    slabs: &[SlabHandle<C>],
    pause: Duration,
    done: impl Fn(&SlabCounts) -> bool,
) -> Result<(), String> {
    let began = Instant::now();
    while !slabs.iter().all(|slab| done(&slab.counts())) {
        if began.elapsed() > WAIT_MAX {
            return Err("the cells did not get there in time".to_owned());
        }
        thread::park_timeout(pause);
    }
    Ok(())
}

/// Counts down to the end of a measurement and wakes the thread that waits for it.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<(AtomicU64, Thread)>);

impl Gate {
    /// Opens when `n` have arrived, for the thread that makes it.
    pub(crate) fn new(n: u64) -> Self {
        Self(Arc::new((AtomicU64::new(n), thread::current())))
    }

    /// One more.
    pub(crate) fn arrive(&self) {
        if self.0.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.1.unpark();
        }
    }

    /// Waits until all have.
    pub(crate) fn wait(&self) -> Result<(), String> {
        let began = Instant::now();
        while let Some(patience) = self.patience(began)? {
            thread::park_timeout(patience);
        }
        Ok(())
    }

    /// The same where tasks of the waiting thread's runtime have something to do meanwhile.
    pub(crate) async fn opened(&self) -> Result<(), String> {
        let began = Instant::now();
        while self.patience(began)?.is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Longest time for which a wait since `began` may go on; `None` once all have arrived.
    fn patience(&self, began: Instant) -> Result<Option<Duration>, String> {
        let left = self.0.0.load(Ordering::Acquire);
        if left == 0 {
            return Ok(None);
        }
        let patience = WAIT_MAX.checked_sub(began.elapsed());
        let late = || format!("{left} have not arrived in time");
        patience.map(Some).ok_or_else(late)
    }
}

/// What most scenarios send: 64 bytes.
#[derive(Debug)]
pub(crate) struct Ball(pub(crate) Payload);

impl Message for Ball {}

/// Says that a send was refused where the workload leaves room for all.
pub(crate) fn refused<E>(_: E) -> Fault {
    Fault::new("refused")
}

/// Delays seen by the cells of a slab: taken from there when it is over.
#[derive(Debug, Default)]
pub(crate) struct Delays(pub(crate) Latencies);

impl Outbox for Delays {
    type Mark = usize;

    fn mark(&self) -> usize {
        self.0.len()
    }

    fn cut(&mut self, mark: usize) {
        self.0.truncate(mark);
    }

    fn flush(&mut self, _: Time) -> Option<Time> {
        None
    }
}

/// Takes what the cells of all slabs have noted so far.
pub(crate) fn delays<C: Cell<Out = Delays>>(
    shards: &Shards,
    slabs: &[SlabHandle<C>],
) -> Result<Latencies, String> {
    let mut all = Latencies::default();
    for slab in slabs {
        let taken = slab.with_out(|out| std::mem::take(&mut out.0));
        let mut taken = shards.wait(taken).map_err(|error| error.to_string())?;
        all.append(&mut taken);
    }
    Ok(all)
}

/// A line of metrics as the harness reads it.
pub(crate) fn value(line: &peer_probe::Line) -> Result<Value, String> {
    serde_json::from_str(&line.to_json()).map_err(|error| error.to_string())
}
