//! What a slab is made from, what can go wrong with it, and what it counts.
//!
//! Values only.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use super::lateness::Lateness;
use super::net::NetStats;
use super::slab::CellDetail;
use crate::cell::{Cell, CellSupervisor};
use crate::exit::Incarnation;
use crate::mailbox::MailboxSpec;
use crate::path::ActorPath;

/// Cells of one group: what is placed, escalated and restarted as one.
pub const GROUP_SIZE: u32 = 256;

/// Most cells of one slab: what 24 bits of group and 8 bits of place address, less the marker.
pub(crate) const CELLS_MAX: u64 = u32::MAX as u64 - 1;

/// The cells of one population on one shard.
pub struct SlabSpec<C: Cell> {
    /// The population: cells are shown as `<path>/<device id>`.
    pub path: ActorPath,
    /// Device id of an ordinal: one path segment, unique in the population. It is asked about any
    /// number, also one that no device has.
    pub name: Arc<dyn Fn(u32) -> String + Send + Sync>,
    /// The ordinals on this shard, best whole groups of [`GROUP_SIZE`].
    pub ordinals: Vec<Range<u32>>,
    /// What all cells read.
    pub shared: C::Shared,
    /// Where their output goes.
    pub out: C::Out,
    /// Identity of an ordinal before its first incarnation.
    pub identity: Box<dyn FnMut(u32) -> C::Identity + Send>,
    /// Bound and rules of each cell's mailbox.
    pub mailbox: MailboxSpec,
    /// Decides about exits.
    pub supervisor: Box<dyn CellSupervisor>,
}

impl<C: Cell> fmt::Debug for SlabSpec<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlabSpec")
            .field("path", &self.path)
            .field("ordinals", &self.ordinals)
            .field("mailbox", &self.mailbox)
            .finish_non_exhaustive()
    }
}

/// Why a slab was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddSlabError {
    /// There is not one ordinal in it.
    #[error("the slab has no cells")]
    Empty,
    /// Two ranges share an ordinal.
    #[error("ordinal {0} is listed twice")]
    Overlap(u32),
    /// More cells than can be addressed.
    #[error("the slab has {0} cells, at most {CELLS_MAX} are allowed")]
    TooMany(u64),
    /// Too many slabs wait to be added.
    #[error("the shard has too many slabs waiting to be added")]
    Busy,
    /// The shard has been stopped.
    #[error("the shard has been stopped")]
    Stopped,
}

/// Why a slab did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlabError {
    /// No such ordinal on this shard.
    #[error("there is no cell {0} in this slab")]
    Unknown(u32),
    /// More cells in one request than [`STOPS_MAX`].
    #[error("{0} cells are too many for one request, at most {STOPS_MAX} are allowed")]
    TooMany(usize),
    /// Too many requests wait for the shard.
    #[error("the shard has too many requests waiting")]
    Busy,
    /// The slab has been closed.
    #[error("the slab has been closed")]
    Closed,
}

/// Most cells that one request stops: about a millisecond, so that the shard goes on with others
/// meanwhile.
pub const STOPS_MAX: usize = 1_024;

/// Where a cell is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CellState {
    /// Not started for the first time yet; its mailbox is open.
    New,
    /// Alive.
    Running,
    /// Between two incarnations.
    Restarting,
    /// Down until an operator restarts it.
    Stopped,
    /// Down because it failed too often, until an operator restarts it.
    Quarantined,
}

impl CellState {
    /// The word shown to operators.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::New => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
            Self::Quarantined => "quarantined",
        }
    }

    /// The state an operator's word means.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        [
            Self::New,
            Self::Running,
            Self::Restarting,
            Self::Stopped,
            Self::Quarantined,
        ]
        .into_iter()
        .find(|state| state.label() == label)
    }
}

/// One cell, as it was when its shard was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CellInfo {
    /// Number in its population.
    pub ordinal: u32,
    /// Which life it is in, or was in last; 0 before the first.
    pub incarnation: Incarnation,
    /// Where it is in its life.
    pub state: CellState,
    /// Messages that wait.
    pub depth: u32,
    /// Messages it has handled, all incarnations; wraps.
    pub handled: u32,
    /// Timers that are set.
    pub timers: u32,
    /// What its steps have cost, while detail is on.
    pub detail: Option<CellDetail>,
    /// Why the former incarnation ended, if that was lately.
    pub last_exit: Option<String>,
}

/// Counters of one slab, as of the end of its shard's last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SlabCounts {
    /// Cells of the slab, in whatever state.
    pub cells: u64,
    /// Alive.
    pub running: u64,
    /// Not started for the first time yet.
    pub starting: u64,
    /// Between two incarnations.
    pub restarting: u64,
    /// Down for good, or until an operator restarts them.
    pub stopped: u64,
    /// Quarantined now.
    pub quarantined: u64,
    /// Incarnations begun after the first, whoever asked for them.
    pub restarts: u64,
    /// Groups restarted as one because their supervisor escalated.
    pub group_restarts: u64,
    /// Exits by fault or panic.
    pub faults: u64,
    /// Of these by panic.
    pub panics: u64,
    /// Exits by kill.
    pub kills: u64,
    /// Timer steps run.
    pub timers_fired: u64,
    /// Timer steps run more than 10 ms (of real time) after they were due.
    pub timers_late: u64,
    /// Ticks of periodic timers that did not fire, as whole periods had passed.
    pub ticks_missed: u64,
    /// The latest timer step, nanoseconds of simulated time after it was due.
    pub timer_lateness_ns_max: u64,
    /// Timers that are set.
    pub timers: u64,
    /// Sockets that cells have. A slab with any stays on its shard.
    pub sockets: u64,
    /// Messages that the pair queues refused: the sender got `Full` and no mailbox saw them.
    pub queue_full: u64,
    /// Messages in the pair queues.
    pub queued: u64,
    /// Messages for ordinals that this slab does not have: the sender got `Closed`.
    pub unknown: u64,
    /// Messages accepted by a pair queue that the mailbox of a live cell then refused.
    pub bounced: u64,
    /// Messages accepted by a pair queue for a cell that was down.
    pub undeliverable: u64,
    /// Messages taken from a pair queue that wait until a `Block` mailbox has room.
    pub held: u64,
    /// Messages that these cells have sent to cells, this slab's own included.
    pub sent: u64,
    /// Sends of these cells that were refused at once: the step got `Full` or `Closed`.
    pub send_refused: u64,
    /// Messages of steps that then faulted or unwound, or that waited for room when their cell
    /// ended: they never went out.
    pub send_cut: u64,
    /// Messages whose pair queue was closed before they got there, or that waited for room when
    /// their own slab was closed.
    pub send_lost: u64,
    /// Messages that waited for room, and their cells with them.
    pub send_waits: u64,
    /// Of these those for which none came in time.
    pub send_timeouts: u64,
    /// Bounces that cells of this slab have been told.
    pub bounces_told: u64,
    /// Bounces for cells that were down by then, or above the bound.
    pub bounces_lost: u64,
    /// Questions of these cells to task actors: `asks = asks_told + asks_canceled + asks_open`.
    pub asks: u64,
    /// Questions refused at once: there were too many.
    pub asks_refused: u64,
    /// Questions whose cell has been told the answer, or why there is none.
    pub asks_told: u64,
    /// Of these those with no answer in time.
    pub asks_timeouts: u64,
    /// Questions canceled: by their cell, with it, or as the step that asked failed and they never
    /// went out.
    pub asks_canceled: u64,
    /// Questions that are open.
    pub asks_open: u64,
}

/// Counters of one shard, as of the end of its last step. Slabs that have left it are counted with
/// what they did here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ShardStats {
    /// Its number.
    pub index: usize,
    /// Which life it is in, or was in last.
    pub incarnation: u32,
    /// Lives that have ended by the death of its thread.
    pub deaths: u64,
    /// Whether its thread sleeps in a ring; false: it parks, or time is virtual.
    pub ring: bool,
    /// Slabs on it.
    pub slabs: u64,
    /// Steps run.
    pub steps: u64,
    /// Nanoseconds spent in steps.
    pub busy_ns: u64,
    /// Times the thread went to sleep.
    pub waits: u64,
    /// Times it looked on before that for some microseconds, because lately that had paid.
    pub looks: u64,
    /// Of these those in which somebody rang.
    pub looks_answered: u64,
    /// Times somebody woke it, doorbells received: at most one per sleep.
    pub rings: u64,
    /// Times a sender found it awake, or rung already: doorbells that were not sent.
    pub rings_merged: u64,
    /// Calls into the kernel to submit, to wait, or both; 0 without a ring.
    pub enters: u64,
    /// Doorbells of other shards that it rang through its ring.
    pub doorbells: u64,
    /// Requests handed to the kernel through its ring.
    pub submissions: u64,
    /// Calls that the kernel refused for now and that were made again.
    pub retries: u64,
    /// Messages that its cells have handled.
    pub messages: u64,
    /// Branches of forks that it has computed, for its own cells and those of others.
    pub branches: u64,
    /// Timer steps run.
    pub timers_fired: u64,
    /// Of these more than 10 ms (of real time) after they were due.
    pub timers_late: u64,
    /// Ticks of periodic timers that did not fire.
    pub ticks_missed: u64,
    /// How late timer steps were, in simulated time.
    pub lateness: Lateness,
    /// Slabs that came from other shards.
    pub migrations_in: u64,
    /// Slabs that went to other shards.
    pub migrations_out: u64,
    /// Sockets of its cells.
    pub net: NetStats,
    /// Core it was asked to stay on, if the host granted that.
    pub core: Option<usize>,
}
