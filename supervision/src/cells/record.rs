//! What the supervisor of a slab's cells shares with the node: last crashes and counters.
//!
//! The slab's thread writes, whoever asks reads; names are made when somebody asks. It decides
//! nothing. Bound: [`CELL_CRASHES_MAX`] cells of a slab, [`REASONS_MAX`] reasons.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use actorsim_actors::{ActorPath, CellExit, ExitReason, Incarnation, Level, System, Time};
use parking_lot::Mutex;

use crate::policy::SupervisorPolicy;
use crate::report::log::CrashLog;
use crate::report::{self, CrashPlan, CrashReport, Ends, Parking};
use crate::strategy::Decision;

/// Cells of one slab whose last crash is kept, and crashes that are kept in a second: four groups.
/// What is beyond, in a storm, is counted only.
pub const CELL_CRASHES_MAX: usize = 1_024;
/// Reasons that the ends of a slab's cells are counted by; the rest is counted as `other`.
const REASONS_MAX: usize = 64;

type NameOf = Arc<dyn Fn(u32) -> String + Send + Sync>;

/// A crash without what is known anyway: a thousand of them a second are kept, few are read.
#[derive(Debug, Clone)]
struct CellCrash {
    incarnation: Incarnation,
    reason: ExitReason,
    in_hand: Option<&'static str>,
    depth: u32,
    plan: CrashPlan,
    count: u64,
    first: Time,
    at: Time,
}

#[derive(Debug)]
struct Kept {
    crashes: CrashLog<u32, CellCrash>,
    ends: Vec<(&'static str, Ends)>,
}

/// The record of one slab.
pub(crate) struct CellRecord {
    system: System,
    path: ActorPath,
    name: NameOf,
    kept: Mutex<Kept>,
}

impl fmt::Debug for CellRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CellRecord({})", self.path)
    }
}

impl CellRecord {
    pub(super) fn new(system: &System, path: &ActorPath, name: NameOf) -> Arc<Self> {
        Arc::new(Self {
            system: system.clone(),
            path: path.clone(),
            name,
            kept: Mutex::new(Kept {
                crashes: CrashLog::new(CELL_CRASHES_MAX),
                ends: Vec::new(),
            }),
        })
    }

    /// Counts an end that was abnormal or had a consequence.
    pub(super) fn tally(&self, reason: &ExitReason, decision: Decision) {
        let quiet = decision != Decision::Restart && !decision.is_last_resort();
        if !(quiet && reason.is_normal()) {
            count(&mut self.kept.lock().ends, reason.label()).add(decision);
        }
    }

    /// What is noted of a cell that is parked.
    pub(super) fn parking(&self, exit: &CellExit<'_>, policy: &SupervisorPolicy) -> Parking {
        // A cell starts within a step: nothing of that can hang.
        Parking::new(
            self.path_of(exit.ordinal),
            &self.path,
            exit.now,
            policy,
            None,
        )
    }

    /// Where a cell is found.
    pub(crate) fn path_of(&self, ordinal: u32) -> ActorPath {
        self.path.join(&(self.name)(ordinal))
    }

    /// Keeps a crash as the last one of its cell.
    pub(super) fn keep(&self, exit: &CellExit<'_>, plan: CrashPlan) {
        let label = exit.reason.label();
        let crashes = &mut self.kept.lock().crashes;
        let crash = CellCrash {
            incarnation: exit.incarnation,
            reason: exit.reason.clone(),
            in_hand: exit.in_hand,
            depth: exit.depth,
            plan,
            count: 1,
            first: exit.now,
            at: exit.now,
        };
        let (crash, repeats) = crashes.record(exit.ordinal, label, exit.now, crash);
        (crash.count, crash.first) = (repeats.count, repeats.first);
    }

    /// Tells how many crashes were not told.
    pub(super) fn tell_held_back(&self, held_back: u64) {
        if held_back > 0 {
            let text = format!("{held_back} more, in a second with too many");
            let (events, path) = (self.system.events(), Some(&self.path));
            events.publish(Level::Warn, "crash", path, text);
        }
    }

    /// Tells the last crash of a cell, and before it how many were not told.
    pub(super) fn tell(&self, ordinal: u32, held_back: u64) {
        self.tell_held_back(held_back);
        let crash = self.kept.lock().crashes.get(&ordinal).cloned();
        if let Some(crash) = crash {
            report::tell(&self.system, &self.report(ordinal, &crash), 0);
        }
    }

    fn report(&self, ordinal: u32, crash: &CellCrash) -> CrashReport {
        let clock = self.system.clock();
        let unix_us = |at| clock.unix_us_at(clock.simulated_at(at));
        CrashReport {
            path: self.path_of(ordinal),
            supervisor: self.path.clone(),
            incarnation: Some(crash.incarnation),
            reason: crash.reason.clone(),
            last_kinds: crash.in_hand.into(),
            depth: crash.depth,
            restarts: crash.incarnation.0.saturating_sub(1),
            plan: crash.plan,
            count: crash.count,
            first_us: unix_us(crash.first),
            at_us: unix_us(crash.at),
        }
    }

    /// The last crash of a cell of this slab, by its path.
    pub(crate) fn crash(&self, path: &ActorPath) -> Option<CrashReport> {
        let name = path.as_str().strip_prefix(self.path.as_str())?;
        let name = name.strip_prefix('/')?;
        let kept: Vec<u32> = {
            let kept = self.kept.lock();
            kept.crashes.latest().map(|(ordinal, _)| *ordinal).collect()
        };
        // names are made without the lock: the slab's thread needs it
        let ordinal = kept
            .into_iter()
            .find(|ordinal| (self.name)(*ordinal) == name)?;
        let crash = self.kept.lock().crashes.get(&ordinal).cloned()?;
        Some(self.report(ordinal, &crash))
    }

    /// The last crashes, the latest first.
    pub(crate) fn crashes(&self, limit: usize) -> Vec<CrashReport> {
        let latest: Vec<(u32, CellCrash)> = {
            let kept = self.kept.lock();
            let latest = kept.crashes.latest().take(limit);
            latest
                .map(|(ordinal, crash)| (*ordinal, crash.clone()))
                .collect()
        };
        let reports = latest
            .iter()
            .map(|(ordinal, crash)| self.report(*ordinal, crash));
        reports.collect()
    }

    pub(crate) fn add_tallies(&self, sums: &mut BTreeMap<(ActorPath, &'static str), Ends>) {
        for (reason, ends) in &self.kept.lock().ends {
            let sum = sums.entry((self.path.clone(), reason)).or_default();
            sum.ends += ends.ends;
            sum.restarts += ends.restarts;
            sum.escalations += ends.escalations;
        }
    }
}

/// The counters of a reason, or of the others where there are too many.
fn count<'a>(ends: &'a mut Vec<(&'static str, Ends)>, label: &'static str) -> &'a mut Ends {
    let find = |ends: &[(&'static str, Ends)], label| ends.iter().position(|(l, _)| *l == label);
    let label = match find(ends, label) {
        None if ends.len() >= REASONS_MAX => "other",
        _ => label,
    };
    let at = find(ends, label).unwrap_or_else(|| {
        ends.push((label, Ends::default()));
        ends.len() - 1
    });
    &mut ends[at].1
}
