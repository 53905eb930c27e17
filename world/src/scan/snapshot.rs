//! What the scan publishes at the end of each good cycle, over a triple buffer.
//!
//! Plain copyable totals; readers never block the scan. Percentiles are not here: they are folded
//! from cycle records outside the thread (`stats`).
//!
//! Bound: fixed size, no heap.

use serde::Serialize;

use crate::components::KINDS;
use crate::rules::{RULES_MAX, RuleTally};
use crate::systems::{Aggregate, SYSTEMS, Tally};

/// Totals of the scan and its world; they go on over restarts of the scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ScanSnapshot {
    /// Cycles that ran, faulted ones included.
    pub cycles: u64,
    /// Slots of the grid that passed without a cycle.
    pub skipped: u64,
    /// Cycles that took longer than the period.
    pub overruns: u64,
    /// Overruns per system: it alone took longer than the period.
    pub system_overruns: [u64; SYSTEMS],
    /// Cycles in which a system failed; they were not published.
    pub faulted: u64,
    /// Cycles in which the table grew, or rows forgot a rule.
    pub maintenance: u64,
    /// How often only the essential was run from then on.
    pub fallbacks: u64,
    /// Cycles in which only the essential ran.
    pub fallback_cycles: u64,
    /// Only the essential runs now.
    pub in_fallback: bool,
    /// Cycles that were put off, so that the thread leaves its core to others.
    pub rests: u64,
    /// Share of its core that the scan took in the last whole second; `None` before its end.
    pub core_share: Option<f64>,
    /// Rows with a window of their last values.
    pub windows: u32,
    /// Rows for whose window there was no room.
    pub windows_refused: u64,
    /// Incarnations of the scan thread.
    pub incarnations: u64,
    /// Greatest jitter, nanoseconds; `None` before the second cycle.
    pub jitter_ns_max: Option<u64>,
    /// Greatest lateness, nanoseconds.
    pub late_ns_max: Option<u64>,
    /// Longest cycle, nanoseconds.
    pub took_ns_max: Option<u64>,
    /// Rows bound to a (device, sensor), per sensor type.
    pub entities_by_kind: [u32; KINDS],
    /// Rows in the table.
    pub rows: u32,
    /// Stale rows per sensor type at the end of the last whole sweep.
    pub stale_by_kind: [u32; KINDS],
    /// Whole sweeps of the present world.
    pub sweeps: u64,
    /// Totals of the world.
    pub tally: Tally,
    /// Values per sensor type at the end of the last whole sweep.
    pub aggregates: [Aggregate; KINDS],
    /// What became of each rule.
    pub rules: [RuleTally; RULES_MAX],
    /// Systems that are not isolated.
    pub enabled: [bool; SYSTEMS],
}

impl ScanSnapshot {
    /// Rows bound to a (device, sensor).
    #[must_use]
    pub fn entities(&self) -> u32 {
        self.entities_by_kind.iter().sum()
    }

    /// Stale rows at the end of the last whole sweep; `None` before the first.
    #[must_use]
    pub fn stale(&self) -> Option<u64> {
        let stale = self.stale_by_kind.iter().copied();
        (self.sweeps > 0).then(|| stale.map(u64::from).sum())
    }

    /// Readings of both tiers that are in the world.
    #[must_use]
    pub const fn readings_applied(&self) -> u64 {
        let tally = &self.tally;
        (tally.t1_applied + tally.t2_applied).saturating_sub(tally.unplaced)
    }
}
