//! The scan: one thread that owns the world and keeps an absolute grid, and the actor that stands
//! for it in the supervision tree.
//!
//! Reading order: `grid` (when), `clock` (the only clock), `stopwatch` (parts of a cycle), `rt`
//! (privileges), `portion` (how much a cycle takes in), `overrun` (what too long a cycle means),
//! `duty` (how much of its core it takes), `stats`, `snapshot` and `news` (what is told), `thread`
//! (the loop), `watchdog` (a cycle that never ends), `actor` (the proxy at `/twin/scan`), `bare`
//! (the thread alone, for measuring). Other actors never see the world; they see lanes, snapshots
//! and records.
//!
//! Bound: per cycle a lane of fills ([`crate::lanes::fill_lane`]), [`REQUESTS_PER_CYCLE`] requests,
//! and the readings and batches of `systems`.

pub(crate) mod actor;
pub mod bare;
pub mod clock;
pub mod duty;
pub mod grid;
mod news;
pub mod overrun;
pub mod portion;
pub mod rt;
pub mod snapshot;
pub mod stats;
pub(crate) mod stopwatch;
mod thread;
pub mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::systems::{OwnSystems, SystemFault, SystemId};
pub use actor::{Scan, ScanMessage};
pub(crate) use news::{NewsIn, NewsOut, ScanNews, news};
use overrun::OverrunPolicy;
pub(crate) use thread::ScanThread;

/// Requests that one cycle answers: they come from people.
pub const REQUESTS_PER_CYCLE: usize = 8;

/// Readings that a cycle takes while only what is essential runs.
pub const READINGS_IN_FALLBACK: usize = 16_384;

/// Stack of the scan thread: what is touched ahead, and room above it.
const STACK: usize = 2 * 1024 * 1024;

/// Counts heap allocations of the calling thread; given by a program that installs a counting
/// allocator.
pub type AllocationCounter = fn() -> u64;

/// How the scan runs.
#[derive(Clone, Debug)]
pub struct ScanConfig {
    /// Time between cycles.
    pub period: Duration,
    /// Pin the thread to one core.
    pub pin: bool,
    /// That core; `None` takes the highest allowed one.
    pub core: Option<usize>,
    /// Priority in `SCHED_FIFO`.
    pub priority: u8,
    /// Ask for `SCHED_FIFO`.
    pub fifo: bool,
    /// Ask for locked memory.
    pub lock_memory: bool,
    /// Rows spawned blank at the start.
    pub capacity: u32,
    /// Rows that growth may reach.
    pub capacity_max: u32,
    /// Export and diagnostics walk their slice in every so-many-th cycle.
    pub walk_every: u32,
    /// Systems of the program's own.
    pub own: OwnSystems,
    /// What is done about cycles longer than the period.
    pub overrun: OverrunPolicy,
    /// A cycle that takes longer never ends, and is told, as is a step of building the world that
    /// takes twelve times as long; `None` watches nothing.
    pub watchdog: Option<Duration>,
    /// What one that never ends brings about, beside its event.
    pub on_wedged: Option<OnWedged>,
    /// Counts allocations per cycle, if the program can.
    pub allocations: Option<AllocationCounter>,
}

/// Called on the watchdog's thread; it may end the process.
#[derive(Clone)]
pub struct OnWedged(pub Arc<dyn Fn(&watchdog::Wedged) + Send + Sync>);

impl std::fmt::Debug for OnWedged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnWedged")
    }
}

/// Why an incarnation of the scan ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ScanFault {
    /// A system failed, and it was the second one, or one that a twin cannot be without.
    #[error("{0}")]
    System(#[from] SystemFault),
    /// Cycles in a row were longer than the period.
    #[error("{in_a_row} cycles in a row overran their period; the last one took {took_us} us")]
    Overrun {
        /// Cycles.
        in_a_row: u32,
        /// Length of the last one.
        took_us: u64,
    },
}

impl Default for ScanConfig {
    fn default() -> Self {
        Self {
            period: Duration::from_millis(10),
            pin: true,
            core: None,
            priority: 80,
            fifo: true,
            lock_memory: true,
            capacity: 8_192,
            capacity_max: 16_777_216,
            walk_every: 1,
            own: OwnSystems::default(),
            overrun: OverrunPolicy::Count,
            watchdog: Some(Duration::from_secs(5)),
            on_wedged: None,
            allocations: None,
        }
    }
}

impl ScanConfig {
    pub(crate) fn period_ns(&self) -> u64 {
        (self.period.as_nanos() as u64).max(1)
    }

    /// Names of all systems, the five first.
    #[must_use]
    pub fn systems(&self) -> Vec<(SystemId, &'static str)> {
        let named = |system| (system, self.own.name(system));
        self.own.ids().into_iter().map(named).collect()
    }

    pub(crate) fn host_request(&self) -> rt::HostRequest {
        rt::HostRequest {
            pin: self.pin,
            core: self.core,
            priority: self.fifo.then_some(self.priority),
            lock_memory: self.lock_memory,
        }
    }
}
