//! Cells that send to cells as they are told, dealt over the shards of a host.
//!
//! Not a test by itself. Bound: as the shard kit.
#![allow(dead_code, unused_macros, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actorsim_actors::shard::{
    Backend, Bounce, Refusal, ShardConfig, ShardHandle, ShardHost, SlabHandle, SlabSpec,
    StartShardsError,
};
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, Clock, ExitReason, Fault, Flow, MailboxSpec,
    Message, Outbox, Overflow, Reply, System, Time,
};
use parking_lot::Mutex;

use crate::kit::roaming::added;
use crate::kit::{Host, Script};

/// Tests of one body each, on every kind of host, with slabs that stay and slabs that roam.
macro_rules! on_each_host {
    ($($name:ident => $body:ident;)*) => {
        mod portable {
            use super::*;
            $(#[test] fn $name() { $body(Live::portable()); })*
        }
        mod uring {
            use super::*;
            $(#[test] fn $name() { Live::rings().into_iter().for_each($body); })*
        }
        mod late {
            use super::*;
            $(#[test] fn $name() { $body(Live::late()); })*
        }
        mod sim {
            use super::*;
            $(#[test] fn $name() { $body(Virtual::new(2)); })*
        }
        mod roaming_threads {
            use super::*;
            $(#[test] fn $name() { $body(Roaming::new(Live::portable())); })*
        }
        mod roaming_rings {
            use super::*;
            $(#[test] fn $name() {
                Live::rings().into_iter().map(Roaming::new).for_each($body);
            })*
        }
        mod roaming_sim {
            use super::*;
            $(#[test] fn $name() { $body(Roaming::new(Virtual::new(3))); })*
        }
    };
}

/// What a letter is.
#[derive(Debug)]
pub(crate) enum Letter {
    /// Written down.
    Note { from: u32, n: u64 },
    /// Send this many notes to an ordinal, numbered on; then end so.
    Burst(Burst),
    /// Written down, and sent on to where `state` says, this many times.
    Walk { hops: u32, state: u64 },
    /// Answer.
    Ask(Reply<u64>),
    /// Do not answer for now.
    Keep(Reply<u64>),
    /// Say whether the kept question has been dropped by its asker.
    IsDropped(Reply<bool>),
    /// Forget the kept question.
    Forget,
    /// Send notes to an ordinal in one batch; answer how many were accepted.
    Batch(u32, u64, Reply<usize>),
    /// Send to the other for ever.
    Rally(u32),
}

impl Message for Letter {}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Burst {
    pub(crate) to: u32,
    pub(crate) count: u64,
    /// Wait for room so long.
    pub(crate) patience: Option<Duration>,
    pub(crate) end: End,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Well,
    Fault,
    /// A fault from which it is back when it is told to restart.
    Sick,
    Panic,
}

const SICK: &str = "sick";

/// How long a sick clerk stays away.
const LONG: Duration = Duration::from_secs(3_600);

/// Ordinal, sender, number.
pub(crate) type Notes = Arc<Mutex<Vec<(u32, u32, u64)>>>;
/// Sender, addressee, why.
pub(crate) type Bounces = Arc<Mutex<Vec<(u32, u32, Refusal)>>>;

pub(crate) struct Book {
    pending: Vec<(u32, u32, u64)>,
    notes: Notes,
}

impl Outbox for Book {
    type Mark = usize;
    fn mark(&self) -> usize {
        self.pending.len()
    }
    fn cut(&mut self, mark: usize) {
        self.pending.truncate(mark);
    }
    fn flush(&mut self, _: Time) -> Option<Time> {
        self.notes.lock().append(&mut self.pending);
        None
    }
}

pub(crate) struct Shared {
    pub(crate) slabs: Arc<OnceLock<Vec<SlabHandle<Clerk>>>>,
    bounces: Bounces,
}

impl Shared {
    fn slab(&self, ordinal: u32) -> &SlabHandle<Clerk> {
        let slabs = self.slabs.get().unwrap();
        slabs.iter().find(|s| s.has(ordinal)).unwrap_or(&slabs[0])
    }
}

pub(crate) struct Clerk {
    kept: Option<Reply<u64>>,
}

impl Clerk {
    fn burst(burst: Burst, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        let Burst { to, mut count, .. } = burst;
        let shared = cx.shared;
        let slab = shared.slab(to);
        while count > 0 {
            let (from, n) = (cx.ordinal, *cx.identity);
            let note = Letter::Note { from, n };
            *cx.identity += 1;
            count -= 1;
            let Some(patience) = burst.patience else {
                if cx.send_to(slab, to, note).is_err() {
                    break;
                }
                continue;
            };
            let sent = cx.send_or_wait(slab, to, note, patience).unwrap();
            if sent == actorsim_actors::shard::Sent::Waits {
                let rest = Letter::Burst(Burst { count, ..burst });
                cx.send(cx.ordinal, rest).unwrap();
                break;
            }
        }
        match burst.end {
            End::Well => Ok(Flow::Continue),
            End::Fault => Err(Fault::new("told_to")),
            End::Sick => Err(Fault::new(SICK)),
            End::Panic => panic!("told to"),
        }
    }
}

impl Cell for Clerk {
    type Msg = Letter;
    type Shared = Shared;
    type Identity = u64;
    type Out = Book;
    const HEARS_BOUNCES: bool = true;

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self { kept: None })
    }

    fn handle(&mut self, letter: Letter, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        match letter {
            Letter::Note { from, n } => cx.out.pending.push((cx.ordinal, from, n)),
            Letter::Burst(burst) => return Self::burst(burst, cx),
            Letter::Walk { hops, state } => {
                cx.out.pending.push((cx.ordinal, hops, state));
                let state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407 + *cx.identity);
                *cx.identity += 1;
                if hops > 0 {
                    let (to, hops) = ((state >> 33) as u32 % WALKERS, hops - 1);
                    cx.send_to(cx.shared.slab(to), to, Letter::Walk { hops, state })
                        .unwrap();
                }
                if state >> 58 == 0 {
                    return Err(Fault::new("stumbled"));
                }
            }
            Letter::Ask(reply) => reply.send(*cx.identity),
            Letter::Keep(reply) => self.kept = Some(reply),
            Letter::IsDropped(reply) => {
                reply.send(self.kept.as_ref().is_some_and(Reply::is_canceled));
            }
            Letter::Forget => self.kept = None,
            Letter::Batch(to, count, reply) => {
                let from = cx.ordinal;
                let mut batch: VecDeque<_> =
                    (0..count).map(|n| (to, Letter::Note { from, n })).collect();
                let slab = cx.shared.slab(to);
                reply.send(cx.send_batch(slab, &mut batch));
            }
            Letter::Rally(other) => {
                let (to, back) = (other, cx.ordinal);
                cx.send(to, Letter::Rally(back)).unwrap();
            }
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }

    fn bounced(&mut self, bounce: Bounce, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        assert!(bounce.message.is::<Letter>());
        let mut bounces = cx.shared.bounces.lock();
        bounces.push((cx.ordinal, bounce.to, bounce.why));
        let entry = (cx.ordinal, BOUNCED, u64::from(bounce.to));
        cx.out.pending.push(entry);
        Ok(Flow::Continue)
    }
}

/// Stands for the sender in the note of a bounce.
pub(crate) const BOUNCED: u32 = u32::MAX;

/// Cells of the walk.
pub(crate) const WALKERS: u32 = 1_000;

/// A population dealt over shards.
pub(crate) struct Office {
    pub(crate) slabs: Vec<SlabHandle<Clerk>>,
    pub(crate) notes: Notes,
    pub(crate) bounces: Bounces,
}

impl Office {
    /// Ranges of ordinals, one list per shard, in turn over `shards`.
    pub(crate) fn open(
        shards: &[ShardHandle],
        ordinals: Vec<Vec<Range<u32>>>,
        mailbox: MailboxSpec,
        link_capacity: u32,
    ) -> Self {
        let (notes, bounces) = (Notes::default(), Bounces::default());
        let directory = Arc::new(OnceLock::new());
        let slabs: Vec<_> = ordinals
            .into_iter()
            .enumerate()
            .map(|(index, ordinals)| {
                let spec = SlabSpec {
                    path: ActorPath::new("/fleet/office").unwrap(),
                    name: Arc::new(|ordinal| format!("clerk-{ordinal:04}")),
                    ordinals,
                    shared: Shared {
                        slabs: Arc::clone(&directory),
                        bounces: Arc::clone(&bounces),
                    },
                    out: Book {
                        pending: Vec::new(),
                        notes: Arc::clone(&notes),
                    },
                    identity: Box::new(|_| 0),
                    mailbox,
                    supervisor: Box::new(Script(Box::new(|_, _, why, now| {
                        let sick = matches!(why, ExitReason::Fault(fault) if fault.code == SICK);
                        let pause = if sick { LONG } else { Duration::ZERO };
                        CellDecision::Restart { at: now + pause }
                    }))),
                };
                let slab = shards[index % shards.len()].add_movable_slab(spec);
                let slab = slab.unwrap();
                added(&slab);
                slab.with_link_capacity(link_capacity)
            })
            .collect();
        assert!(directory.set(slabs.clone()).is_ok());
        Self {
            slabs,
            notes,
            bounces,
        }
    }

    /// Two slabs: 0..4 and 4..8.
    pub(crate) fn pair(host: &impl Host, mailbox: MailboxSpec, link_capacity: u32) -> Self {
        let ordinals = [0..4, 4..8].map(|range| vec![range]).to_vec();
        Self::open(&host.shards(), ordinals, mailbox, link_capacity)
    }

    pub(crate) fn send(&self, ordinal: u32, letter: Letter) {
        let slab = self.slabs.iter().find(|slab| slab.has(ordinal)).unwrap();
        slab.send(ordinal, letter).unwrap();
    }

    /// Notes that a cell has written down of a sender, in order.
    pub(crate) fn of(&self, ordinal: u32, from: u32) -> Vec<u64> {
        let notes = self.notes.lock();
        let of = notes.iter().filter(|n| (n.0, n.1) == (ordinal, from));
        of.map(|n| n.2).collect()
    }

    pub(crate) fn all_running(&self) -> bool {
        let mut counts = self.slabs.iter().map(SlabHandle::counts);
        counts.all(|c| c.running == c.cells)
    }
}

pub(crate) fn reject(capacity: u32) -> MailboxSpec {
    MailboxSpec::new(capacity, Overflow::Reject)
}

/// Two real threads.
pub(crate) struct Live {
    runtime: tokio::runtime::Runtime,
    system: System,
    host: ShardHost,
}

impl Live {
    pub(crate) fn portable() -> Self {
        Self::start(Backend::Portable).unwrap()
    }

    /// Two parked threads that get rings when these pay.
    pub(crate) fn late() -> Self {
        Self::start(Backend::Auto).unwrap()
    }

    /// Two rings; none, and the reason printed, where the kernel refuses.
    pub(crate) fn rings() -> Option<Self> {
        match Self::start(Backend::Uring) {
            Err(StartShardsError::Ring(reason)) => {
                println!("skipped: {reason}");
                None
            }
            started => Some(started.unwrap()),
        }
    }

    fn start(backend: Backend) -> Result<Self, StartShardsError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let system = System::new(Clock::wall(), runtime.handle().clone());
        let config = ShardConfig {
            shards: 2,
            backend,
            ..ShardConfig::default()
        };
        let host = ShardHost::start(&system, &config)?;
        Ok(Self {
            runtime,
            system,
            host,
        })
    }
}

impl Host for Live {
    fn system(&self) -> &System {
        &self.system
    }
    fn shards(&self) -> Vec<ShardHandle> {
        self.host.shards().to_vec()
    }
    fn until(&mut self, mut done: impl FnMut() -> bool) {
        let begin = std::time::Instant::now();
        while !done() {
            assert!(begin.elapsed() < crate::kit::PATIENCE, "waited in vain");
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
