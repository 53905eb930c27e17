//! A cell that does as it is told, a supervisor that follows a script, and the two hosts it runs
//! on.
//!
//! Not a test by itself. Bound: a wait gives up after [`PATIENCE`].
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "roaming.rs"]
pub(crate) mod roaming;

use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actorsim_actors::shard::{
    Backend, ShardConfig, ShardHandle, ShardHost, SimShards, SlabHandle, SlabSpec, StartShardsError,
};
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Clock, ExitReason, Fault,
    Flow, Incarnation, MailboxSpec, Message, Outbox, Overflow, Reply, System, Time,
};
use parking_lot::Mutex;

use self::roaming::added;

/// Longest wait for something that must happen: on a machine that is busy with much else, too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// What flushes have sent: ordinal, incarnation, identity at that time, value.
pub(crate) type Sent = Arc<Mutex<Vec<(u32, u32, u64, u64)>>>;

/// Output that is kept until flushed.
pub(crate) struct Log {
    pub(crate) pending: Vec<(u32, u32, u64, u64)>,
    pub(crate) sent: Sent,
}

impl Outbox for Log {
    type Mark = usize;
    fn mark(&self) -> usize {
        self.pending.len()
    }
    fn cut(&mut self, mark: usize) {
        self.pending.truncate(mark);
    }
    fn flush(&mut self, _now: Time) -> Option<Time> {
        self.sent.lock().append(&mut self.pending);
        None
    }
}

/// Orders.
pub(crate) enum Do {
    /// Write the value.
    Put(u64),
    /// Write the value, count it in the identity, then fault.
    PutAndFault(u64),
    /// The same, then panic.
    PutAndPanic(u64),
    /// Nothing more to do.
    End,
    /// Say how often this incarnation was ordered.
    Count(Reply<u64>),
    /// Tick every so often, this many times.
    Tick(Duration, u64),
    /// No more ticks.
    Silence,
}

impl Message for Do {}

/// What all probes share.
#[derive(Default)]
pub(crate) struct Rules {
    /// Ordinals whose starts fault until the incarnation given.
    pub(crate) start_faults_below: Option<(u32, u32)>,
    /// Ordinals whose destructor panics.
    pub(crate) drop_panics: Option<u32>,
}

pub(crate) struct Probe {
    orders: u64,
    every: Duration,
    left: u64,
    drop_panics: bool,
}

impl Drop for Probe {
    fn drop(&mut self) {
        assert!(
            !self.drop_panics || std::thread::panicking(),
            "in the destructor"
        );
    }
}

impl Probe {
    fn put(cx: &mut CellContext<'_, Self>, value: u64) {
        *cx.identity += 1;
        cx.out
            .pending
            .push((cx.ordinal, cx.incarnation.0, *cx.identity, value));
    }
}

pub(crate) const TICK: u8 = 0;
pub(crate) const LAST: u64 = u64::MAX;

impl Cell for Probe {
    type Msg = Do;
    type Shared = Rules;
    type Identity = u64;
    type Out = Log;

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        if let Some((ordinal, below)) = cx.shared.start_faults_below
            && cx.ordinal == ordinal
            && cx.incarnation.0 < below
        {
            Self::put(cx, 999);
            cx.set_timer(7, Duration::from_millis(1));
            return Err(Fault::new("no_start"));
        }
        let drop_panics = cx.shared.drop_panics == Some(cx.ordinal) && cx.incarnation.0 == 1;
        Ok(Self {
            orders: 0,
            every: Duration::ZERO,
            left: 0,
            drop_panics,
        })
    }

    fn handle(&mut self, order: Do, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        self.orders += 1;
        match order {
            Do::Put(value) => Self::put(cx, value),
            Do::PutAndFault(value) => {
                Self::put(cx, value);
                return Err(Fault::new("told_to"));
            }
            Do::PutAndPanic(value) => {
                Self::put(cx, value);
                panic!("told to with {value}");
            }
            Do::End => return Ok(Flow::Stop),
            Do::Count(reply) => reply.send(self.orders),
            Do::Tick(every, times) => {
                (self.every, self.left) = (every, times);
                assert!(cx.set_timer(TICK, every));
            }
            Do::Silence => assert!(cx.cancel_timer(TICK)),
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, key: u8, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        assert_eq!(key, TICK, "a timer of an incarnation that never lived");
        assert!(cx.now >= cx.due, "early");
        Self::put(cx, cx.due.0 / 1_000_000);
        self.left -= 1;
        if self.left > 0 {
            cx.set_timer_at(TICK, cx.due + self.every);
        }
        Ok(Flow::Continue)
    }

    fn stopping(&mut self, cx: &mut CellContext<'_, Self>) {
        Self::put(cx, LAST);
    }
}

type Decide = Box<dyn FnMut(u32, Incarnation, &ExitReason, Time) -> CellDecision + Send>;

/// A supervisor that follows a script.
pub(crate) struct Script(pub(crate) Decide);

impl CellSupervisor for Script {
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision {
        (self.0)(exit.ordinal, exit.incarnation, exit.reason, exit.now)
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

/// Restarts at once, whatever happens.
pub(crate) fn forgiving() -> Decide {
    Box::new(|_, _, _, now| CellDecision::Restart { at: now })
}

/// What a slab of probes is made from.
pub(crate) struct Plan {
    pub(crate) ordinals: Vec<Range<u32>>,
    pub(crate) mailbox: MailboxSpec,
    pub(crate) rules: Rules,
    pub(crate) decide: Decide,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            ordinals: std::iter::once(0..4).collect(),
            mailbox: MailboxSpec::new(64, Overflow::Reject),
            rules: Rules::default(),
            decide: forgiving(),
        }
    }
}

impl Plan {
    pub(crate) fn add(self, shard: &ShardHandle) -> (SlabHandle<Probe>, Sent) {
        let sent = Sent::default();
        let handle = self.add_to(shard, &sent);
        (handle, sent)
    }

    pub(crate) fn add_to(self, shard: &ShardHandle, sent: &Sent) -> SlabHandle<Probe> {
        let slab = shard.add_movable_slab(self.spec(sent)).unwrap();
        added(&slab);
        slab
    }

    pub(crate) fn add_pinned(self, shard: &ShardHandle) -> SlabHandle<Probe> {
        shard.add_slab(self.spec(&Sent::default())).unwrap()
    }

    fn spec(self, sent: &Sent) -> SlabSpec<Probe> {
        SlabSpec {
            path: ActorPath::new("/fleet/test").unwrap(),
            name: Arc::new(|ordinal| format!("probe-{ordinal:04}")),
            ordinals: self.ordinals,
            shared: self.rules,
            out: Log {
                pending: Vec::new(),
                sent: Arc::clone(sent),
            },
            identity: Box::new(|ordinal| u64::from(ordinal) * 1_000),
            mailbox: self.mailbox,
            supervisor: Box::new(Script(self.decide)),
        }
    }
}

/// A host under test.
pub(crate) trait Host {
    fn system(&self) -> &System;
    fn shard(&self) -> ShardHandle {
        self.shards()[0].clone()
    }
    fn shards(&self) -> Vec<ShardHandle>;
    /// Lets the shards work until `done`.
    fn until(&mut self, done: impl FnMut() -> bool);
    /// Lets the shards work until the answer is there.
    fn answer<T>(&mut self, asked: impl Future<Output = T>) -> T;
    /// The ordered end.
    fn stop(self);
}

/// Real threads.
pub(crate) struct Threads {
    runtime: tokio::runtime::Runtime,
    system: System,
    host: ShardHost,
}

impl Threads {
    /// So many parked threads.
    pub(crate) fn parked(shards: usize) -> Self {
        let config = ShardConfig {
            shards,
            backend: Backend::Portable,
            ..ShardConfig::default()
        };
        Self::start(Clock::wall(), &config).unwrap()
    }

    /// One parked thread.
    pub(crate) fn new(clock: Clock) -> Self {
        let config = ShardConfig {
            shards: 1,
            backend: Backend::Portable,
            ..ShardConfig::default()
        };
        Self::start(clock, &config).unwrap()
    }

    /// So many parked threads that get rings when these pay.
    pub(crate) fn late(shards: usize, config: ShardConfig) -> Self {
        let config = ShardConfig {
            shards,
            backend: Backend::Auto,
            ..config
        };
        Self::start(Clock::wall(), &config).unwrap()
    }

    /// One ring; none, and the reason printed, where the kernel refuses.
    pub(crate) fn ring() -> Option<Self> {
        Self::rings(1, ShardConfig::default())
    }

    /// So many rings.
    pub(crate) fn rings(shards: usize, config: ShardConfig) -> Option<Self> {
        let config = ShardConfig {
            shards,
            backend: Backend::Uring,
            ..config
        };
        match Self::start(Clock::wall(), &config) {
            Err(StartShardsError::Ring(reason)) => {
                println!("skipped: {reason}");
                None
            }
            started => Some(started.unwrap()),
        }
    }

    pub(crate) fn start(clock: Clock, config: &ShardConfig) -> Result<Self, StartShardsError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let system = System::new(clock, runtime.handle().clone());
        let host = ShardHost::start(&system, config)?;
        Ok(Self {
            runtime,
            system,
            host,
        })
    }

    pub(crate) fn host(&self) -> &ShardHost {
        &self.host
    }
}

impl Host for Threads {
    fn system(&self) -> &System {
        &self.system
    }
    fn shards(&self) -> Vec<ShardHandle> {
        self.host.shards().to_vec()
    }
    fn until(&mut self, mut done: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < PATIENCE, "waited in vain");
            std::thread::yield_now();
        }
    }
    fn answer<T>(&mut self, asked: impl Future<Output = T>) -> T {
        self.runtime.block_on(asked)
    }
    fn stop(self) {
        self.runtime.block_on(self.host.stop()).unwrap();
    }
}

/// Virtual time.
pub(crate) struct Virtual {
    _runtime: tokio::runtime::Runtime,
    system: System,
    pub(crate) shards: SimShards,
}

impl Virtual {
    pub(crate) fn new(shards: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let system = System::new(Clock::virtual_from(0), runtime.handle().clone());
        let shards = SimShards::of(&system, shards);
        Self {
            _runtime: runtime,
            system,
            shards,
        }
    }
}

impl Host for Virtual {
    fn system(&self) -> &System {
        &self.system
    }
    fn shards(&self) -> Vec<ShardHandle> {
        self.shards.shards().to_vec()
    }
    fn until(&mut self, mut done: impl FnMut() -> bool) {
        let begin = Instant::now();
        self.shards.settle();
        while !done() {
            assert!(begin.elapsed() < PATIENCE, "waited in vain");
            let next = self.shards.now() + Duration::from_millis(1);
            self.shards.run_until(next);
        }
    }
    fn answer<T>(&mut self, asked: impl Future<Output = T>) -> T {
        let mut asked = pin!(asked);
        let begin = Instant::now();
        loop {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            if let Poll::Ready(answer) = asked.as_mut().poll(&mut cx) {
                return answer;
            }
            assert!(begin.elapsed() < PATIENCE, "waited in vain");
            self.shards.settle();
        }
    }
    fn stop(mut self) {
        self.shards.stop();
    }
}
