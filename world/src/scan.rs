//! The scan: one thread that owns the world and keeps an absolute grid, and the actor that stands
//! for it in the supervision tree.
//!
//! Reading order: `grid` (when), `clock` (the only clock), `rt` (privileges), `stats` and
//! `snapshot` (what is told), `thread` (the loop), `actor` (the proxy at `/twin/scan`), `bare` (the
//! thread alone, for measuring). Other actors never see the world; they see lanes, snapshots and
//! records.
//!
//! Bound: per cycle [`FILLS_PER_CYCLE`] fills, [`REQUESTS_PER_CYCLE`] requests, and the readings
//! and batches of `systems`.

pub(crate) mod actor;
pub mod bare;
pub mod clock;
pub mod grid;
pub mod rt;
pub mod snapshot;
pub mod stats;
mod thread;

use std::time::Duration;

pub use actor::{Scan, ScanMessage};
pub(crate) use thread::{ScanNews, ScanThread};

/// Row fills that one cycle binds: about 2 ms, only while devices are announced.
pub const FILLS_PER_CYCLE: usize = 32_768;

/// Requests that one cycle answers: they come from people.
pub const REQUESTS_PER_CYCLE: usize = 8;

/// News that one incarnation can have: ready, isolated, ended, and one to spare.
const NEWS_MAX: usize = 4;

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
    /// Counts allocations per cycle, if the program can.
    pub allocations: Option<AllocationCounter>,
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
            allocations: None,
        }
    }
}

impl ScanConfig {
    pub(crate) fn period_ns(&self) -> u64 {
        (self.period.as_nanos() as u64).max(1)
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
