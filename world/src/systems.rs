//! The systems and what they share, as one schedule on one thread.
//!
//! Reading order: `ingest`, `simulation`, `automation`, `export`, `diagnostics`; `own` are those
//! that a program adds, and `schedule` runs all of them. Work follows the readings: only touched
//! rows are visited; what must see every row (aggregates, ageing) walks a slice of the table per
//! cycle. What they share is in `state`; `windows` has the last values of named sensors. No system
//! reads a socket, a ring or another thread's memory: intake and outbox are plain vectors.
//!
//! Bound: [`READINGS_PER_CYCLE`] readings and [`SWEEP_ROWS_PER_CYCLE`] swept rows per cycle.

mod automation;
mod diagnostics;
mod export;
mod fault;
mod ingest;
mod lists;
mod own;
mod rates;
mod rules;
mod schedule;
mod simulation;
mod state;
mod sweep;
mod windows;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

pub use fault::SystemFault;
pub(crate) use lists::{Judged, Kinds, PutOff, RowsOut, Touched};
pub use own::{OwnError, OwnRows, OwnRun, OwnSystem, OwnSystems};
pub use rates::Rates;
pub use rules::WorldRules;
pub(crate) use schedule::{Deciding, Failed, Rows, Schedule, TIMED_WORK, Timings};
pub(crate) use state::CycleState;
pub use sweep::{Aggregate, Sweep};
pub use windows::WindowView;
pub(crate) use windows::Windows;

use crate::batch::RowBatch;
use crate::lanes::RETURN_LANE;
use crate::rules::SLOTS;

/// Readings that one cycle applies: 7 M readings/s at a period of 100 ms.
pub const READINGS_PER_CYCLE: usize = 786_432;

/// Batches that one cycle takes from both lanes together: all that wait.
pub const BATCHES_PER_CYCLE: usize = RETURN_LANE;

/// Rows that aggregates and ageing may walk in one cycle.
pub const SWEEP_ROWS_PER_CYCLE: u32 = 262_144;

/// Systems of every twin.
pub const BUILT_IN: usize = 5;

/// Systems that a program may add.
pub const OWN_MAX: usize = 8;

/// Places for figures by system.
pub const SYSTEMS: usize = BUILT_IN + OWN_MAX;

/// The essential ones of [`SystemId::ALL`], which are the first three, as bits.
pub(crate) const ESSENTIAL: u16 = 0b111;

/// A system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SystemId {
    /// Applies the readings of the cycle.
    Ingest,
    /// Smooths touched rows and counts crossings.
    Simulation,
    /// Commands devices by the rules.
    Automation,
    /// Aggregates per sensor type.
    Export,
    /// Ages rows and counts stale ones.
    Diagnostics,
    /// One that the program added, by its place among them, below [`OWN_MAX`].
    Own(u8),
}

impl SystemId {
    /// Those of every twin, in running order.
    pub const ALL: [Self; BUILT_IN] = [
        Self::Ingest,
        Self::Simulation,
        Self::Automation,
        Self::Export,
        Self::Diagnostics,
    ];

    /// Its place among figures by system.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Ingest => 0,
            Self::Simulation => 1,
            Self::Automation => 2,
            Self::Export => 3,
            Self::Diagnostics => 4,
            Self::Own(at) => BUILT_IN + usize::from(at) % OWN_MAX,
        }
    }

    /// Name of a system of every twin; `own` for the others, which have names of their own.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Simulation => "simulation",
            Self::Automation => "automation",
            Self::Export => "export",
            Self::Diagnostics => "diagnostics",
            Self::Own(_) => "own",
        }
    }

    /// Its bit in a set of systems.
    pub(crate) fn bit(self) -> u16 {
        1 << self.index()
    }

    /// Whether it runs in each cycle, whatever the load: readings and commands do not wait.
    #[must_use]
    pub fn is_essential(self) -> bool {
        ESSENTIAL & self.bit() != 0
    }
}

/// A command decided by the automation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelayCommand {
    /// Device to command.
    pub device: [u8; 16],
    /// Row whose value decided it.
    pub row: u32,
    /// Sensor id of the actuator.
    pub sensor: u16,
    /// Sensor id of the row.
    pub by: u16,
    /// Id of the rule.
    pub rule: u64,
    /// The rule came into force with it; else it ended.
    pub in_force: bool,
    /// Setpoint: 1.0 is start, 0.0 is stop.
    pub value: f64,
    /// When it was decided, nanoseconds of the monotonic clock.
    pub decided_ns: u64,
}

/// Batches of the present cycle.
#[derive(Debug)]
pub(crate) struct Intake {
    /// In the order in which they were taken from the lanes.
    pub(crate) batches: Vec<RowBatch>,
    /// Start of the cycle, nanoseconds of the monotonic clock.
    pub(crate) now_ns: u64,
}

impl Intake {
    fn new() -> Self {
        Self {
            batches: Vec::with_capacity(BATCHES_PER_CYCLE),
            now_ns: 0,
        }
    }
}

/// Commands decided in the present cycle.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) commands: Vec<RelayCommand>,
    /// What the command lane can take.
    pub(crate) room: usize,
    /// When they are decided: a cycle has taken readings in before it comes to that.
    pub(crate) decided_ns: u64,
}

impl Outbox {
    fn new() -> Self {
        Self {
            commands: Vec::with_capacity(crate::lanes::COMMAND_LANE),
            room: 0,
            decided_ns: 0,
        }
    }
}

/// Which rules are in force for which rows, as far as it was commanded, as bits that outlive the
/// world.
///
/// A rule's slot has a bit for each row, made before the rule is armed. The scan thread is the only
/// writer while a scan runs; a rebuilt world reads its mirror from here.
#[derive(Clone, Debug)]
pub struct Commanded {
    slots: Arc<[OnceLock<Box<[AtomicU64]>>; SLOTS]>,
    rows: u32,
}

impl Commanded {
    /// Nothing in force; rows at or above `rows` are not remembered.
    #[must_use]
    pub fn new(rows: u32) -> Self {
        let slots = Arc::new(std::array::from_fn(|_| OnceLock::new()));
        Self { slots, rows }
    }

    /// Makes room for the rule of a slot.
    pub fn prepare(&self, slot: u8) {
        let words = || (0..=self.rows / 64).map(|_| AtomicU64::new(0)).collect();
        self.slots[usize::from(slot) % SLOTS].get_or_init(words);
    }

    /// Slots whose rules are in force for `row`, as bits.
    #[must_use]
    pub fn of(&self, row: u32) -> u8 {
        let slots = 0..SLOTS as u8;
        slots.fold(0, |bits, slot| bits | u8::from(self.has(slot, row)) << slot)
    }

    /// Whether the rule of a slot is in force for `row`.
    pub(crate) fn has(&self, slot: u8, row: u32) -> bool {
        let words = self.slots[usize::from(slot) % SLOTS].get();
        let word = words.and_then(|words| words.get(row as usize / 64));
        word.is_some_and(|word| word.load(Ordering::Acquire) & (1 << (row % 64)) != 0)
    }

    pub(crate) fn set(&self, slot: u8, row: u32, in_force: bool) {
        let words = self.slots[usize::from(slot) % SLOTS].get();
        let Some(word) = words.and_then(|words| words.get(row as usize / 64)) else {
            return;
        };
        if in_force {
            word.fetch_or(1 << (row % 64), Ordering::Release);
        } else {
            word.fetch_and(!(1 << (row % 64)), Ordering::Release);
        }
    }
}

/// Totals of the world since the twin was made; they go on over a rebuild.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Commands decided.
    pub commands: u64,
    /// Commands put off because the command lane was full; one whose opposite is decided before
    /// there is room goes with it.
    pub commands_deferred: u64,
    /// Values that the automation's lists had no room for, or what they mean: they came under no
    /// rule.
    pub samples_missed: u64,
    /// Rows that found no room to wait for a rule's time; their next value tries again.
    pub rules_put_off: u64,
    /// Threshold crossings of smoothed values.
    pub crossings: u64,
}
