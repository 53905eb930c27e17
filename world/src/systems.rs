//! The five systems and the resources they share, as one schedule on one thread.
//!
//! Reading order: `ingest` (PreUpdate), `simulation`, `automation` (Update), `export`,
//! `diagnostics` (PostUpdate). Work follows the readings: only touched rows are visited; what must
//! see every row (aggregates, ageing) walks a slice of the table per cycle. No system reads a
//! socket, a ring or another thread's memory: intake and outbox are plain vectors.
//!
//! Bound: [`READINGS_PER_CYCLE`] readings and [`SWEEP_ROWS_PER_CYCLE`] swept rows per cycle.

mod automation;
mod diagnostics;
mod export;
mod fault;
mod ingest;
mod rules;
mod simulation;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bevy_ecs::prelude::*;
use bevy_ecs::schedule::SingleThreadedExecutor;
use serde::{Deserialize, Serialize};

pub use fault::SystemFault;
pub(crate) use fault::{record, take_fault};
pub use rules::WorldRules;
pub use sweep::{Aggregate, Sweep};

use crate::batch::RowBatch;
use crate::scan::clock::now_ns;

/// Readings that one cycle applies: more than 25 M readings/s at the default period of 10 ms.
pub const READINGS_PER_CYCLE: usize = 262_144;

/// Batches that one cycle takes from both lanes together.
pub const BATCHES_PER_CYCLE: usize = 4_096;

/// Rows that aggregates and ageing may walk in one cycle.
pub const SWEEP_ROWS_PER_CYCLE: u32 = 262_144;

/// Number of systems.
pub const SYSTEMS: usize = 5;

/// The five systems, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SystemId {
    /// Applies the readings of the cycle.
    Ingest,
    /// Smooths touched rows and counts crossings.
    Simulation,
    /// Commands relays from presence.
    Automation,
    /// Aggregates per sensor type.
    Export,
    /// Ages rows and counts stale ones.
    Diagnostics,
}

impl SystemId {
    /// All of them, in running order.
    pub const ALL: [Self; SYSTEMS] = [
        Self::Ingest,
        Self::Simulation,
        Self::Automation,
        Self::Export,
        Self::Diagnostics,
    ];

    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Simulation => "simulation",
            Self::Automation => "automation",
            Self::Export => "export",
            Self::Diagnostics => "diagnostics",
        }
    }
}

/// A relay command decided by the automation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelayCommand {
    /// Device to command.
    pub device: [u8; 16],
    /// Presence row that decided it.
    pub row: u32,
    /// Sensor id of the relay.
    pub sensor: u16,
    /// Sensor id of the presence row.
    pub by: u16,
    /// Start (1.0) or stop (0.0).
    pub start: bool,
    /// When it was decided, nanoseconds of the monotonic clock.
    pub decided_ns: u64,
}

/// Batches of the present cycle.
#[derive(Resource, Debug)]
pub struct Intake {
    /// In the order in which they were taken from the lanes.
    pub batches: Vec<RowBatch>,
    /// Start of the cycle, nanoseconds of the monotonic clock.
    pub now_ns: u64,
}

/// A presence value that the automation has not acted on yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PresenceSample {
    pub(crate) row: u32,
    pub(crate) value: f64,
}

/// Rows that the present cycle's readings touched.
#[derive(Resource, Debug)]
pub struct Touched {
    pub(crate) rows: Vec<u32>,
    pub(crate) presence: Vec<PresenceSample>,
    /// How many of them, from the front, were put off by an earlier cycle.
    pub(crate) deferred: usize,
}

/// Commands decided in the present cycle; `room` is what the command lane can take.
#[derive(Resource, Debug)]
pub struct Outbox {
    pub(crate) commands: Vec<RelayCommand>,
    pub(crate) room: usize,
}

/// Commanded state per presence row, as bits that outlive the world.
///
/// The scan thread is the only writer; a rebuilt world reads its mirror from here.
#[derive(Resource, Clone, Debug)]
pub struct Commanded(Arc<[AtomicU64]>);

impl Commanded {
    /// All rows started; rows at or above `rows` are not remembered.
    #[must_use]
    pub fn new(rows: u32) -> Self {
        Self((0..=rows / 64).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether the command in force for `row` is stop.
    #[must_use]
    pub fn is_stopped(&self, row: u32) -> bool {
        let word = self
            .0
            .get(row as usize / 64)
            .map_or(0, |word| word.load(Ordering::Acquire));
        word & (1 << (row % 64)) != 0
    }

    pub(crate) fn set_stopped(&self, row: u32, stopped: bool) {
        let Some(word) = self.0.get(row as usize / 64) else {
            return;
        };
        if stopped {
            word.fetch_or(1 << (row % 64), Ordering::Release);
        } else {
            word.fetch_and(!(1 << (row % 64)), Ordering::Release);
        }
    }
}

/// Totals of the world since the twin was made; they go on over a rebuild.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Readings taken into the world over T1, late ones included.
    pub t1_applied: u64,
    /// Readings taken into the world over T2, late ones included.
    pub t2_applied: u64,
    /// Offset in the journal of the last T2 batch applied; the next one is one more.
    pub applied_offset: u64,
    /// Readings of T2 batches that were fed again although the world had them.
    pub t2_duplicates: u64,
    /// Readings of T2 batches that came before their predecessor and were fed again after it.
    pub t2_gaps: u64,
    /// Applied readings that were older than their row's value and did not overwrite it.
    pub late: u64,
    /// T1 readings missing by sequence, less those that came late.
    pub lost: u64,
    /// Series that began again below their last sequence with a newer stamp.
    pub series_restarts: u64,
    /// Readings that were NaN or infinite.
    pub non_finite: u64,
    /// Readings for which there was no row.
    pub unplaced: u64,
    /// Relay commands decided.
    pub commands: u64,
    /// Commands put off to a later cycle because the command lane was full.
    pub commands_deferred: u64,
    /// Presence samples that found the automation's list full.
    pub presence_missed: u64,
    /// Threshold crossings of smoothed values.
    pub crossings: u64,
}

/// Which systems may run.
#[derive(Resource, Clone, Copy, Debug)]
pub struct Health {
    pub(crate) enabled: [bool; SYSTEMS],
}

/// What each system took in the present cycle, and the fault injected into the next run.
#[derive(Resource, Clone, Copy, Debug, Default)]
pub struct Timings {
    pub(crate) took_ns: [Option<u64>; SYSTEMS],
    pub(crate) inject: Option<SystemId>,
}

/// Measures a system from its entry to its end, an unwind included.
pub(crate) struct Running<'a> {
    timings: &'a mut Timings,
    system: SystemId,
    started_ns: u64,
}

impl Timings {
    pub(crate) fn enter(&mut self, system: SystemId) -> Running<'_> {
        fault::entered(system);
        let inject = self.inject == Some(system);
        let running = Running {
            timings: self,
            system,
            started_ns: now_ns(),
        };
        if inject {
            running.timings.inject = None;
            panic!("injected into {}", system.name());
        }
        running
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let took_ns = now_ns().saturating_sub(self.started_ns);
        self.timings.took_ns[self.system as usize] = Some(took_ns);
    }
}

#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    PreUpdate,
    Update,
    PostUpdate,
}

/// The schedule: five systems in three chained phases, each with its own switch.
#[must_use]
pub fn schedule() -> Schedule {
    let runs = |system: SystemId| move |health: Res<'_, Health>| health.enabled[system as usize];
    let mut schedule = Schedule::default();
    // feature unification must never bring worker threads into the cycle
    schedule.set_executor(SingleThreadedExecutor::new());
    schedule.configure_sets((Phase::PreUpdate, Phase::Update, Phase::PostUpdate).chain());
    schedule.add_systems(
        ingest::ingest
            .in_set(Phase::PreUpdate)
            .run_if(runs(SystemId::Ingest)),
    );
    schedule.add_systems(
        (
            simulation::simulation.run_if(runs(SystemId::Simulation)),
            automation::automation.run_if(runs(SystemId::Automation)),
        )
            .chain()
            .in_set(Phase::Update),
    );
    schedule.add_systems(
        (
            export::export.run_if(runs(SystemId::Export)),
            diagnostics::diagnostics.run_if(runs(SystemId::Diagnostics)),
        )
            .chain()
            .in_set(Phase::PostUpdate),
    );
    schedule
}
