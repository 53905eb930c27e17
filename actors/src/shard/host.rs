//! Starts and stops the shards of a node: one thread each.
//!
//! It hosts cells only through their slabs and decides nothing about them. A shard whose driver
//! fails, or whose thread panics (not a cell, nor a slab: those are caught), is told as
//! `shard_down`, and its cells exit with `host_down`. Then either its slabs wait for its next
//! thread ([`ShardConfig::hold`]), or it takes no slabs any more: those that may move go to the
//! others, the rest is closed. Bounds: [`SHARDS_MAX`] threads; a stop waits for at most
//! [`STOP_MAX`], slabs wait for a thread of their own for [`HOLD_MAX`].

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::backend::{self, Backend, Chosen, Heir};
use super::balance::{BalanceRule, Balancing};
use super::core::{Common, Port, ShardCore};
use super::cores::{self, ShardCores};
use super::driver::{self, Driver};
use super::handle::ShardHandle;
use super::inbox::{Bells, Doorbell};
use super::life::{ReviveError, Reviver};
use super::net::{BUFFER_BYTES_MIN, DATAGRAM_MAX, NetConfig, SOCKETS_MAX};
use super::slab::{Limits, Moment};
#[cfg(doc)]
use super::spec::ShardStats;
use super::spin::SPIN;
#[cfg(doc)]
use super::spin::SPIN_MAX;
use super::uring::{COMPLETIONS_MAX, ENTRIES_MAX, RingConfig, RingRefused};
use crate::clock::Clock;
use crate::events::Level;
use crate::exit::{Fault, Incarnation};
use crate::guard;
use crate::slice;
use crate::system::System;

/// Most shards of one host: more threads than any machine this is meant for has cores.
pub const SHARDS_MAX: usize = 1_024;

/// Longest wait for the shards to stop their cells: a million ordered stops take well under a
/// second here, so a shard that needs longer is stuck in a step.
pub const STOP_MAX: Duration = Duration::from_secs(30);

/// Longest wait of slabs for the next thread of their shard, where others run: then those that may
/// move go there. Long enough for a supervisor's first attempts, short for who misses the cells.
pub const HOLD_MAX: Duration = Duration::from_secs(5);

/// How many shards, of which kind, and where.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Threads; 0 means one per core the process may use.
    pub shards: usize,
    /// What they wait on.
    pub backend: Backend,
    /// The rings, where they wait on rings.
    pub ring: RingConfig,
    /// Sizes of their sockets.
    pub net: NetConfig,
    /// Moves slabs from busy shards to idle ones, if wanted: see [`ShardHost::balance`].
    pub balance: Option<BalanceRule>,
    /// Cores to stay on.
    pub cores: ShardCores,
    /// Longest look at its doorbell before a shard sleeps, where lately such looks were answered;
    /// 0 is none, at most [`SPIN_MAX`].
    pub spin: Duration,
    /// Slice that the threads ask for ([`slice::ask`]); 0 leaves it to the host.
    pub slice: Duration,
    /// Whether the slabs of a shard whose thread has died wait for its next one, which somebody
    /// starts by [`ShardHandle::revive`]; after [`HOLD_MAX`] those that may move go to the others,
    /// where there are any.
    pub hold: bool,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            shards: 0,
            backend: Backend::Auto,
            ring: RingConfig::default(),
            net: NetConfig::default(),
            balance: None,
            cores: ShardCores::Any,
            spin: SPIN,
            slice: slice::SLICE_MIN,
            hold: false,
        }
    }
}

/// Why no shard was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartShardsError {
    /// Threads cannot wait for time that only moves when told.
    #[error("the node's clock is virtual; use simulated shards")]
    VirtualClock,
    /// More than [`SHARDS_MAX`].
    #[error("{0} shards are too many, at most {SHARDS_MAX} are allowed")]
    TooMany(usize),
    /// Sizes of rings that the kernel would refuse.
    #[error(
        "a ring has 1 to {ENTRIES_MAX} entries and, at least as many, up to {COMPLETIONS_MAX} \
         completions, not {} and {}", .0.entries, .0.completions
    )]
    RingSize(RingConfig),
    /// Sizes of sockets that no driver has.
    #[error(
        "sockets need at least one satellite, a power of two of receive buffers of at least \
         {BUFFER_BYTES_MIN} bytes, a queue of at least {DATAGRAM_MAX}, at most {SOCKETS_MAX} \
         places: {0:?}"
    )]
    NetSize(NetConfig),
    /// Rings were asked for, and nothing else, and the kernel has none for us.
    #[error("io_uring cannot be used: {0}")]
    Ring(#[from] RingRefused),
    /// The host refused a thread.
    #[error("the host gave no thread for shard {shard}: {source}")]
    Thread {
        /// Which shard.
        shard: usize,
        /// What the host said.
        source: std::io::Error,
    },
}

/// Why the shards have not stopped in order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopShardsError {
    /// Still in a step after [`STOP_MAX`].
    #[error("shards {0:?} are stuck in a step")]
    Stuck(Vec<usize>),
}

/// One thread of a shard.
struct Thread {
    done: oneshot::Receiver<()>,
    join: JoinHandle<()>,
}

/// Where the threads of one shard are started, one after the other.
struct Post {
    port: Arc<Port>,
    /// Makes drivers for further ones.
    heir: Heir,
    core: Option<usize>,
    /// Cores that whoever made the host may run on.
    allowed: Vec<usize>,
    net: NetConfig,
    spin: Duration,
    slice: Duration,
    hold: bool,
    clock: Clock,
    thread: Mutex<Option<Thread>>,
}

/// The shards of a node. Dropping it asks them to stop and does not wait.
#[derive(Debug)]
pub struct ShardHost {
    handles: Vec<ShardHandle>,
    posts: Vec<Arc<Post>>,
    balancing: Mutex<Option<Balancing>>,
    backend: Backend,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "shard-{}", self.port.index)
    }
}

impl ShardHost {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`StartShardsError`]; threads already started are asked to stop.
    pub fn start(system: &System, config: &ShardConfig) -> Result<Self, StartShardsError> {
        if system.clock().is_virtual() {
            return Err(StartShardsError::VirtualClock);
        }
        let shards = match config.shards {
            0 => core_count(),
            n if n > SHARDS_MAX => return Err(StartShardsError::TooMany(n)),
            n => n,
        };
        if !config.net.is_sound() {
            return Err(StartShardsError::NetSize(config.net));
        }
        let Chosen {
            backend,
            drivers,
            level,
            why,
        } = backend::choose(shards, config, system)?;
        let events = system.events();
        events.publish(level, "shards_backend", None, why);
        guard::install();
        // On one core whoever is waited for would wait for the core.
        let spin = match core_count() {
            1 => Duration::ZERO,
            _ => config.spin,
        };
        let mut host = Self {
            handles: Vec::new(),
            posts: Vec::new(),
            balancing: Mutex::default(),
            backend,
        };
        let allowed = ShardCores::allowed();
        let cores = config.cores.plan(shards, &allowed);
        if cores.is_empty() && config.cores == ShardCores::Spread {
            let text = "no shard is kept on a core: the host does not say which there are";
            events.publish(Level::Warn, "shard_not_pinned", None, text);
        }
        let bells = drivers.iter().map(|(driver, _)| driver.bell());
        let bells: Bells = bells.map(Doorbell::new).collect();
        let common = Common::of(bells);
        for (index, (driver, heir)) in drivers.into_iter().enumerate() {
            let post = Arc::new(Post {
                port: Port::new(index, &common, Some(system.clone())),
                heir,
                core: cores.get(index).copied(),
                allowed: allowed.clone(),
                net: config.net,
                spin,
                slice: config.slice,
                hold: config.hold,
                clock: system.clock().clone(),
                thread: Mutex::default(),
            });
            let reviver: Weak<dyn Reviver> = Arc::downgrade(&post) as _;
            post.port.lives.revived_by(reviver);
            let thread = post.spawn(driver);
            let thread = thread.map_err(|source| StartShardsError::Thread {
                shard: index,
                source,
            })?;
            *post.thread.lock() = Some(thread);
            host.handles.push(ShardHandle::new(&post.port));
            host.posts.push(post);
        }
        *host.balancing.get_mut() = config.balance.map(|rule| host.balance(system, rule));
        Ok(host)
    }

    /// The shards, in the order of their numbers.
    #[must_use]
    pub fn shards(&self) -> &[ShardHandle] {
        &self.handles
    }

    /// What the threads wait on. [`Backend::Auto`]: each in a ring as soon as that pays and the
    /// host grants it, which [`ShardStats::ring`] tells.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// See [`ShardHandle::set_detail`]: of all shards.
    pub fn set_detail(&self, on: bool) {
        for shard in &self.handles {
            shard.set_detail(on);
        }
    }

    /// Moves slabs from busy shards to idle ones by this rule, as long as the guard is kept. Only
    /// slabs that were added as movable move, and these only while no cell of theirs has a socket.
    pub fn balance(&self, system: &System, rule: BalanceRule) -> Balancing {
        let ports = self.handles.iter().map(|shard| Arc::clone(shard.port()));
        Balancing::start(system, ports.collect(), rule)
    }

    /// Stops all slabs in order (last steps, flush) and ends the threads. A second call has nothing
    /// to do.
    ///
    /// # Errors
    /// [`StopShardsError::Stuck`] after [`STOP_MAX`]; those threads are left behind.
    pub async fn stop(&self) -> Result<(), StopShardsError> {
        drop(self.balancing.lock().take());
        for post in &self.posts {
            post.port.ask_to_stop();
        }
        let until = tokio::time::Instant::now() + STOP_MAX;
        let mut stuck = Vec::new();
        for post in &self.posts {
            let Some(thread) = post.thread.lock().take() else {
                continue;
            };
            if tokio::time::timeout_at(until, thread.done).await.is_err() {
                stuck.push(post.port.index);
                continue;
            }
            // It has nothing left to do; its panics were caught and told.
            drop(thread.join.join());
            post.close();
        }
        if stuck.is_empty() {
            Ok(())
        } else {
            Err(StopShardsError::Stuck(stuck))
        }
    }
}

impl Drop for ShardHost {
    fn drop(&mut self) {
        for post in &self.posts {
            post.port.ask_to_stop();
            post.close();
        }
    }
}

impl Post {
    /// Starts a thread that lives as long as nothing goes wrong.
    fn spawn(self: &Arc<Self>, driver: Box<dyn Driver>) -> std::io::Result<Thread> {
        let (done_tx, done) = oneshot::channel();
        let held = Arc::clone(self);
        let join = thread::Builder::new()
            .name(format!("shard-{}", self.port.index))
            .spawn(move || {
                held.live(driver);
                let _ = done_tx.send(());
            })?;
        Ok(Thread { done, join })
    }

    /// The life of a thread.
    fn live(self: &Arc<Self>, mut driver: Box<dyn Driver>) {
        let (port, clock) = (&self.port, &self.clock);
        port.stats.lock().core = None;
        let _ = cores::keep_on(&self.allowed, &self.allowed); // as its starter's then
        if let Some(core) = self.core {
            pin(port, core, &self.allowed);
        }
        if !self.slice.is_zero()
            && let Err(error) = slice::ask(self.slice)
        {
            let text = format!("has the slice that the host gives: {error}");
            port.tell(Level::Info, "shard_slice", &text);
        }
        let mut core = ShardCore::new(Arc::clone(port), Limits::LIVE).with_net(self.net);
        let run = AssertUnwindSafe(|| driver::run(&mut core, &mut *driver, clock, self.spin));
        let why = match panic::catch_unwind(run) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("its driver failed: {error}"),
            Err(payload) => {
                let fault = Fault::from_panic(&*payload);
                guard::discard(payload);
                fault
                    .detail
                    .map_or_else(|| fault.code.to_owned(), String::from)
            }
        };
        driver::die(&mut core, &mut *driver, clock);
        let counts = driver.counts();
        // On this thread: what it still has to ring is its own.
        guard::discard(driver);
        let _ = guard::step(|| {
            let hold = self.hold && !port.is_stopping();
            core.pass_on(&Moment::of(clock), counts, hold);
            core.tell(port.system.as_ref().map(System::events));
            Ok(())
        });
        guard::discard(core);
        port.end_life(&why);
        if port.is_stopping() {
            self.close(); // whoever asked for that may have looked before this life had ended
        } else {
            self.hold_on();
        }
    }

    /// Lets those slabs go that may move, if no thread comes for them in time.
    fn hold_on(self: &Arc<Self>) {
        let (post, life) = (Arc::downgrade(self), self.port.lives.incarnation());
        if let Some(system) = self.port.system.as_ref().filter(|_| self.hold) {
            system.detached(async move {
                tokio::time::sleep(HOLD_MAX).await;
                if let Some(post) = post.upgrade() {
                    post.disperse(life);
                }
            });
        }
    }

    /// Sends slabs that wait for a thread since the end of that life to other shards.
    fn disperse(&self, life: Incarnation) {
        let no_thread_begins = self.thread.lock();
        let lives = &self.port.lives;
        if !lives.is_down() || lives.incarnation() != life || self.port.is_stopping() {
            return;
        }
        let moved = self.port.hand_out();
        drop(no_thread_begins);
        if moved > 0 {
            let text = format!("{moved} slabs have gone to other shards, as no thread came");
            self.port.tell(Level::Warn, "slabs_moved", &text);
        }
    }

    /// Closes what waits for a thread that will not come.
    fn close(&self) {
        if self.port.lives.is_down() {
            let mut core = ShardCore::new(Arc::clone(&self.port), Limits::LIVE);
            let at = Moment::of(&self.clock);
            let _ = guard::step(|| {
                core.stop(&at);
                core.tell(self.port.system.as_ref().map(System::events));
                Ok(())
            });
            guard::discard(core);
        }
    }
}

impl Reviver for Post {
    fn revive(self: Arc<Self>) -> Result<(), ReviveError> {
        let mut thread = self.thread.lock();
        if self.port.is_stopping() {
            return Err(ReviveError::Stopped);
        }
        if !self.port.lives.is_down() {
            return Err(ReviveError::Running);
        }
        let driver = self.heir.driver()?;
        self.port.begin_life();
        match self.spawn(driver) {
            Ok(spawned) => *thread = Some(spawned),
            Err(error) => {
                self.port
                    .end_life(&format!("the host gave no thread: {error}"));
                if self.port.is_stopping() {
                    self.close(); // as at the end of a life
                }
                return Err(ReviveError::Thread(error));
            }
        }
        Ok(())
    }
}

/// Cores' worth of time that this process may use: asked for once, as the host is asked by reading
/// files.
fn core_count() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Keeps this thread on a core, if the host grants it.
fn pin(port: &Port, core: usize, allowed: &[usize]) {
    match cores::keep_on(&[core], allowed) {
        Ok(()) => port.stats.lock().core = Some(core),
        Err(error) => {
            let text = format!("is not kept on core {core}: {error}");
            port.tell(Level::Warn, "shard_not_pinned", &text);
        }
    }
}
