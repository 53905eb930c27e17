//! The supervisor of cells: one [`CellPolicy`] for a slab, in groups of 256.
//!
//! It calls the same [`verdict`] as supervisors of task actors. A group is the supervisor that the
//! policy is about: its window, its budget; siblings are those of the group. Cells of one slab are
//! told apart by ordinal, so decisions do not depend on how groups are spread over shards.
//!
//! A cell that lost its host has not failed: that is for whoever supervises the thread.
//!
//! It restarts nothing itself: the shard does what it decides. Bound: state for each cell that has
//! failed and for each group with one; none for the healthy.
//!
//! - `governor`: the policy that the slabs of a population share and an operator may change.
//! - `record`: the last crashes of a slab's cells, for whoever asks.

mod governor;
mod record;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use actorsim_actors::hindrance::POISONED;
use actorsim_actors::{
    ActorPath, CellDecision, CellExit, CellSupervisor, ExitReason, GroupMember, System, Time,
};

pub use governor::CellGovernor;
pub use record::CELL_CRASHES_MAX;
pub(crate) use record::CellRecord;

use crate::intensity::{Budget, History, Window, restart_time, seed_of};
use crate::policy::{Behaviour, IntensityScope, PolicyError, Restart, Strategy, SupervisorPolicy};
use crate::report::{CrashPlan, OrderedEnd, Supervision};
use crate::strategy::{Case, Decision, Verdict, Why, verdict};

/// Cells of one group.
pub const GROUP_CELLS: u32 = 256;
/// Crash reports of one slab a second: enough to see what fails; ten thousand devices that fail at
/// once are a number, not ten thousand lines. All are counted; as many again for those that are
/// parked or give up.
pub const REPORTS_PER_S_MAX: u32 = 8;

/// Why a policy cannot be a group's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CellPolicyError {
    /// It contradicts itself.
    #[error(transparent)]
    Invalid(#[from] PolicyError),
    /// A cell is restarted by itself.
    #[error("cells are restarted one_for_one; {0:?} needs supervisors of task actors")]
    OnlyOneForOne(Strategy),
    /// Cells have no significance.
    #[error("auto_shutdown needs significant children; cells are none")]
    AutoShutdown,
}

#[derive(Debug, Default)]
struct Group {
    window: Window,
    budget: Budget,
    /// Times it was started anew since it was last well.
    escalations: u32,
    /// When the last of its cells is back from that, or from the death of its thread since.
    back: Time,
}

impl Group {
    /// Whether it has been whole for a period and has not been started anew since.
    fn is_well(&self, now: Time, policy: &SupervisorPolicy) -> bool {
        now - self.back > policy.period
    }

    /// Whether it is worth while to start it anew: as often in a row as the intensity allows a
    /// child, and at least once.
    fn may_start_anew(&self, now: Time, policy: &SupervisorPolicy) -> bool {
        self.is_well(now, policy) || self.escalations < policy.intensity.max(1)
    }
}

/// Crashes are told by the second.
const SECOND_NS: u64 = 1_000_000_000;

struct Reporter {
    supervision: Arc<Supervision>,
    record: Arc<CellRecord>,
    second: u64,
    /// In this second: those that were answered by a restart or by nothing.
    crashes: u32,
    /// In this second: those that were the last for now.
    news: u32,
    /// Those that were not told since the last one that was.
    held_back: u64,
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.record.tell_held_back(self.held_back);
        self.supervision.retire_cells(&self.record);
    }
}

impl Reporter {
    /// Tells what was held back once its second is over.
    fn tell(&mut self, now: Time) -> Option<Time> {
        if self.held_back == 0 {
            return None;
        }
        let due = Time((self.second + 1) * SECOND_NS);
        if now < due {
            return Some(due);
        }
        self.record
            .tell_held_back(std::mem::take(&mut self.held_back));
        None
    }
}

/// Decides about the cells of one slab.
pub struct CellPolicy {
    policy: SupervisorPolicy,
    restart: Restart,
    governor: Option<(Arc<CellGovernor>, u64)>,
    seed: u64,
    failed: BTreeMap<u32, History>,
    groups: BTreeMap<u32, Group>,
    restarts: u64,
    quarantined: u64,
    reporter: Option<Reporter>,
}

impl fmt::Debug for CellPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CellPolicy")
            .field("policy", &self.policy)
            .field("failed", &self.failed.len())
            .finish_non_exhaustive()
    }
}

impl CellPolicy {
    /// A policy for the groups of the population at `path`; cells are permanent.
    ///
    /// # Errors
    /// [`CellPolicyError`] if the policy asks for what a group cannot do.
    pub fn new(policy: SupervisorPolicy, path: &ActorPath) -> Result<Self, CellPolicyError> {
        governor::check(&policy)?;
        Ok(Self {
            policy,
            restart: Restart::Permanent,
            governor: None,
            seed: seed_of(path.as_str()),
            failed: BTreeMap::new(),
            groups: BTreeMap::new(),
            restarts: 0,
            quarantined: 0,
            reporter: None,
        })
    }

    /// The policy of a population, for one of its slabs; it follows the governor's changes.
    #[must_use]
    pub fn governed(governor: &Arc<CellGovernor>) -> Self {
        let mut seen = u64::MAX;
        let (policy, restart) = governor
            .newer(&mut seen)
            .unwrap_or_else(|| governor.policy());
        Self {
            policy,
            restart,
            governor: Some((Arc::clone(governor), seen)),
            seed: seed_of(governor.path().as_str()),
            failed: BTreeMap::new(),
            groups: BTreeMap::new(),
            restarts: 0,
            quarantined: 0,
            reporter: None,
        }
    }

    fn follow_governor(&mut self) {
        let newer = self.governor.as_mut().and_then(|(g, seen)| g.newer(seen));
        if let Some((policy, restart)) = newer {
            (self.policy, self.restart) = (policy, restart);
        }
    }

    /// The same with another restart type.
    #[must_use]
    pub const fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// The same with crash reports, told and kept: `path` is the population's, `name` gives a
    /// cell's.
    #[must_use]
    pub fn reporting(
        mut self,
        system: &System,
        supervision: &Arc<Supervision>,
        path: &ActorPath,
        name: Arc<dyn Fn(u32) -> String + Send + Sync>,
    ) -> Self {
        let record = CellRecord::new(system, path, name);
        supervision.add_cells(&record);
        self.reporter = Some(Reporter {
            supervision: Arc::clone(supervision),
            record,
            second: 0,
            crashes: 0,
            news: 0,
            held_back: 0,
        });
        self
    }

    /// Cells that have failed and are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.failed.len()
    }

    /// The verdict, and failures of the cell in a row.
    fn decide(&mut self, ordinal: u32, reason: &ExitReason, now: Time) -> (Verdict, u32) {
        let (policy, restart) = (&self.policy, self.restart);
        let why = Why::Exit(reason);
        if !crate::strategy::wants_restart(restart, why) {
            self.failed.remove(&ordinal);
            return (Verdict::Leave, 0);
        }
        if *reason == ExitReason::HostDown {
            return (self.outlives_its_host(ordinal, now), 0);
        }
        let group = self.groups.entry(ordinal / GROUP_CELLS).or_default();
        let history = self.failed.entry(ordinal).or_default();
        let window = match policy.intensity_scope {
            IntensityScope::Supervisor => &group.window,
            IntensityScope::Child => &history.window,
        };
        let seed = self.seed.wrapping_add(u64::from(ordinal));
        let budget = &group.budget;
        let case = Case {
            policy,
            restart,
            why,
            window,
            history,
            budget,
            seed,
            now,
        };
        let verdict = verdict(&case);
        if verdict == Verdict::Escalate && !group.may_start_anew(now, policy) {
            // above the group there is nobody who could do more than start it again
            return (Verdict::Quarantine, history.failures.saturating_add(1));
        }
        let Verdict::Restart { at, failures } = verdict else {
            return (verdict, history.failures.saturating_add(1));
        };
        group.budget.take(at, now, policy.restart_budget_per_s);
        match policy.intensity_scope {
            IntensityScope::Supervisor => group.window.record(now, policy.intensity),
            IntensityScope::Child => history.window.record(now, policy.intensity),
        }
        (history.failures, history.up_since) = (failures, at);
        (verdict, failures)
    }

    /// Its thread has died, and every cell there with it: a failure of nobody here, and nobody's
    /// intensity is used up, however often. It comes back within the budget, after a first wait.
    fn outlives_its_host(&mut self, ordinal: u32, now: Time) -> Verdict {
        let group = self.groups.entry(ordinal / GROUP_CELLS).or_default();
        let seed = self.seed.wrapping_add(u64::from(ordinal));
        let at = restart_time(&self.policy, 1, &group.budget, now, seed);
        group.budget.take(at, now, self.policy.restart_budget_per_s);
        if group.escalations > 0 {
            group.back = group.back.max(at); // not whole before it is back
        }
        if let Some(history) = self.failed.get_mut(&ordinal) {
            history.up_since = at; // the time until then is no life
        }
        let failures = 0;
        Verdict::Restart { at, failures }
    }

    /// Keeps an abnormal end, or one too many, and tells it, if not too many were told in this
    /// second.
    fn report(&mut self, exit: &CellExit<'_>, plan: CrashPlan) {
        let Some(reporter) = self.reporter.as_mut() else {
            return;
        };
        let decision = plan.decision;
        reporter.record.tally(exit.reason, decision);
        if exit.reason.is_normal() && !decision.is_last_resort() {
            return;
        }
        reporter.supervision.count(exit.reason, decision);
        if is_ordered(exit.reason) {
            let (of, ordinal) = (Arc::clone(&reporter.record), exit.ordinal);
            let at = exit.now;
            // before it may be parked for it
            reporter
                .supervision
                .ended_on_order(OrderedEnd { of, ordinal, at });
        }
        if decision == Decision::Quarantine {
            let parking = reporter.record.parking(exit, &self.policy);
            reporter.supervision.park(parking);
        }
        let second = exit.now.as_nanos() / SECOND_NS;
        if reporter.second != second {
            (reporter.second, reporter.crashes, reporter.news) = (second, 0, 0);
        }
        let told = if decision.is_last_resort() {
            &mut reporter.news // a storm of restarts does not hide that one is parked
        } else {
            &mut reporter.crashes
        };
        *told = told.saturating_add(1);
        let tells = *told <= REPORTS_PER_S_MAX;
        if tells || reporter.crashes <= CELL_CRASHES_MAX as u32 {
            reporter.record.keep(exit, plan);
        }
        if !tells {
            reporter.held_back += 1;
            return;
        }
        let held_back = std::mem::take(&mut reporter.held_back);
        reporter.record.tell(exit.ordinal, held_back);
    }
}

/// Whether it failed as somebody wanted.
fn is_ordered(reason: &ExitReason) -> bool {
    matches!(reason, ExitReason::Fault(fault) if fault.code == POISONED)
}

impl CellSupervisor for CellPolicy {
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision {
        let CellExit { ordinal, now, .. } = *exit;
        self.follow_governor();
        let (verdict, failures) = self.decide(ordinal, exit.reason, now);
        let (decision, at) = match verdict {
            Verdict::Leave if self.restart == Restart::Temporary => (Decision::Remove, now),
            Verdict::Leave => (Decision::Leave, now),
            Verdict::Restart { at, .. } => (Decision::Restart, at),
            Verdict::Quarantine => (Decision::Quarantine, now),
            Verdict::Escalate => return CellDecision::Escalate, // told when the group is known
        };
        let (siblings, delay) = (0, at - now);
        let plan = CrashPlan {
            decision,
            failures,
            siblings,
            delay,
        };
        self.report(exit, plan);
        match decision {
            Decision::Restart => {
                self.restarts += 1;
                match self.policy.behaviour {
                    Behaviour::Fresh => CellDecision::Restart { at },
                    Behaviour::Resume => CellDecision::Resume { at },
                }
            }
            Decision::Quarantine => {
                self.quarantined += 1;
                self.failed.remove(&ordinal); // an operator who restarts it gives it a new chance
                CellDecision::Quarantine
            }
            _ => CellDecision::Stop,
        }
    }

    /// The group starts anew and its failures are forgotten, but not that it did: see
    /// [`Group::may_start_anew`]. Who waits for a restart comes first, in the order of promises, so
    /// that whoever fails again and again keeps no neighbour down.
    fn group_restart(&mut self, exit: &CellExit<'_>, members: &mut [GroupMember]) {
        let CellExit { ordinal, now, .. } = *exit;
        let number = ordinal / GROUP_CELLS;
        let cells = number * GROUP_CELLS..=number * GROUP_CELLS + (GROUP_CELLS - 1);
        let failures = self.failed.get(&ordinal).map_or(0, |h| h.failures);
        let failed: Vec<u32> = self.failed.range(cells).map(|(cell, _)| *cell).collect();
        failed
            .iter()
            .for_each(|cell| drop(self.failed.remove(cell)));
        let per_s = self.policy.restart_budget_per_s;
        let group = self.groups.entry(number).or_default();
        if group.is_well(now, &self.policy) {
            group.escalations = 0;
        }
        group.escalations += 1;
        group.window.clear();
        group.budget.give_back(now);
        members.sort_by_key(|cell| (cell.promised.unwrap_or(Time::MAX), cell.ordinal));
        group.back = now;
        for cell in &mut *members {
            cell.at = group.budget.earliest(cell.at, per_s);
            group.budget.take(cell.at, now, per_s);
            group.back = group.back.max(cell.at);
        }
        let own = members.iter().find(|cell| cell.ordinal == ordinal);
        let plan = CrashPlan {
            decision: Decision::Escalate,
            failures: failures.saturating_add(1),
            siblings: members.len().saturating_sub(1),
            delay: own.map_or(now, |own| own.at) - now,
        };
        self.report(exit, plan);
    }

    fn released(&mut self, ordinal: u32) {
        self.failed.remove(&ordinal);
    }

    fn tell(&mut self, now: Time) -> Option<Time> {
        self.reporter.as_mut()?.tell(now)
    }

    fn restarts(&self) -> u64 {
        self.restarts
    }

    fn quarantined(&self) -> u64 {
        self.quarantined
    }
}
