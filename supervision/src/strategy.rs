//! What to do when a child ends: pure decisions, the same for tasks, cells, previews and tests.
//!
//! [`plan`] looks at a [`Tree`] and changes nothing; [`Tree::commit`] remembers what was decided.
//! A plan costs O(1) amortised, plus one entry for each child that it names. Nothing here waits,
//! loops over attempts or reads a clock.

use std::collections::BTreeMap;

use actorsim_actors::{ExitReason, Time};
use serde::Serialize;

use crate::intensity::{Budget, History, Window, restart_time};
use crate::policy::{AutoShutdown, IntensityScope, Restart, Strategy, SupervisorPolicy};

/// A child of one supervisor; the order of ids is the start order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ChildId(pub u64);

/// What happened to a child.
#[derive(Debug, Clone, Copy)]
pub enum Why<'a> {
    /// It ended.
    Exit(&'a ExitReason),
    /// It was to be restarted and did not start. Tried again whatever its restart type.
    StartFailed,
}

/// Whether OTP's restart type asks for a restart.
#[must_use]
pub const fn wants_restart(restart: Restart, why: Why<'_>) -> bool {
    match (restart, why) {
        (Restart::Temporary, _) => false,
        (Restart::Permanent, _) | (_, Why::StartFailed) => true,
        (Restart::Transient, Why::Exit(reason)) => !ends_in_order(reason),
    }
}

/// Whether OTP calls the end orderly. A supervisor that gives up ends with `shutdown` there; here
/// the reason says what it was, and means the same.
const fn ends_in_order(reason: &ExitReason) -> bool {
    reason.is_normal() || matches!(reason, ExitReason::Escalated)
}

/// One child's case, with everything that a verdict depends on.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// Its supervisor's policy.
    pub policy: &'a SupervisorPolicy,
    /// Its restart type.
    pub restart: Restart,
    /// What happened.
    pub why: Why<'a>,
    /// The window that counts: the supervisor's or the child's, by the policy's scope.
    pub window: &'a Window,
    /// Its failures so far.
    pub history: &'a History,
    /// The supervisor's restart budget.
    pub budget: &'a Budget,
    /// Seed of its jitter.
    pub seed: u64,
    /// When it happened, in monotonic time.
    pub now: Time,
}

/// What becomes of the child itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It stays down.
    Leave,
    /// It is started again at `at`, after `failures` failures in a row.
    Restart {
        /// When, in monotonic time.
        at: Time,
        /// Failures in a row, this one included.
        failures: u32,
    },
    /// It is parked: it has used up its own intensity.
    Quarantine,
    /// Its supervisor gives up.
    Escalate,
}

/// The verdict on one child.
#[must_use]
pub fn verdict(case: &Case<'_>) -> Verdict {
    let Case { policy, now, .. } = *case;
    if !wants_restart(case.restart, case.why) {
        return Verdict::Leave;
    }
    if !case.window.allows(now, policy.intensity, policy.period) {
        let parks = policy.quarantine && policy.intensity_scope == IntensityScope::Child;
        return if parks {
            Verdict::Quarantine
        } else {
            Verdict::Escalate
        };
    }
    let lived = matches!(case.why, Why::Exit(_));
    let failures = case
        .history
        .failures_with(now, lived, policy.backoff.as_ref());
    let at = restart_time(policy, failures, case.budget, now, case.seed);
    Verdict::Restart { at, failures }
}

/// Where a child is, as far as decisions depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// Specified and not running: ended without restart, or terminated on request.
    Down,
    /// About to be started.
    Waiting,
    /// Starting, running or being stopped.
    Up,
    /// Parked.
    Quarantined,
}

/// A child as decisions see it.
#[derive(Debug, Clone)]
pub struct TreeChild {
    /// Its restart type.
    pub restart: Restart,
    /// Whether its end may end the supervisor.
    pub significant: bool,
    /// Where it is.
    pub life: Life,
    /// Its failures.
    pub history: History,
}

/// A supervisor's children in start order and what is remembered of their failures.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The policy; may be changed while it runs.
    pub policy: SupervisorPolicy,
    /// Seed of all jitter.
    pub seed: u64,
    /// Children by start order.
    pub children: BTreeMap<ChildId, TreeChild>,
    /// Restarts of all children, where they are counted together.
    pub window: Window,
    /// Restarts a second.
    pub budget: Budget,
}

/// What a supervisor does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The child stays down and keeps its spec.
    Leave,
    /// The child's spec is dropped: it was temporary, or its supervisor keeps none.
    Remove,
    /// Children are stopped and started as the plan lists.
    Restart,
    /// The child is parked.
    Quarantine,
    /// The supervisor ends in order: its significant children are done.
    AutoShutdown,
    /// The supervisor stops its children and ends with `escalated`.
    Escalate,
}

impl Decision {
    /// Restarting has come to its end: somebody should know, however orderly the last end was.
    #[must_use]
    pub const fn is_last_resort(self) -> bool {
        matches!(self, Self::Quarantine | Self::Escalate)
    }
}

/// A decision and whom it touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What to do.
    pub decision: Decision,
    /// Children to stop, in reverse start order; none that is down already.
    pub stop: Vec<ChildId>,
    /// Children to start, in start order, when all of `stop` have ended.
    pub start: Vec<ChildId>,
    /// The earliest time of the first start, in monotonic time.
    pub at: Time,
    /// Failures in a row of the child that ended.
    pub failures: u32,
}

impl Plan {
    const fn of(decision: Decision, at: Time) -> Self {
        Self {
            decision,
            stop: Vec::new(),
            start: Vec::new(),
            at,
            failures: 0,
        }
    }
}

/// What the supervisor of `tree` does about `child`, to whom `why` happened at `now`.
///
/// Unknown children are left alone.
#[must_use]
pub fn plan(tree: &Tree, child: ChildId, why: Why<'_>, now: Time) -> Plan {
    let Some(node) = tree.children.get(&child) else {
        return Plan::of(Decision::Leave, now);
    };
    match verdict(&tree.case(child, node, why, now)) {
        Verdict::Leave => Plan::of(left(tree, child, node), now),
        Verdict::Quarantine => Plan::of(Decision::Quarantine, now),
        Verdict::Escalate => Plan {
            stop: tree.alive_except(child, ..).collect(),
            ..Plan::of(Decision::Escalate, now)
        },
        Verdict::Restart { at, failures } => {
            let (stop, start) = affected(tree, child);
            Plan {
                decision: Decision::Restart,
                stop,
                start,
                at,
                failures,
            }
        }
    }
}

/// The decision on a child that is not restarted.
fn left(tree: &Tree, child: ChildId, node: &TreeChild) -> Decision {
    let others_run = || {
        tree.children.iter().any(|(id, c)| {
            *id != child && c.significant && matches!(c.life, Life::Up | Life::Waiting)
        })
    };
    let ends = node.significant
        && match tree.policy.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => !others_run(),
        };
    if ends {
        Decision::AutoShutdown
    } else if tree.forgets(child) {
        Decision::Remove
    } else {
        Decision::Leave
    }
}

/// Whom a restart of `child` stops (in reverse start order) and starts (in start order).
fn affected(tree: &Tree, child: ChildId) -> (Vec<ChildId>, Vec<ChildId>) {
    match tree.policy.strategy {
        Strategy::OneForOne | Strategy::SimpleOneForOne => (Vec::new(), vec![child]),
        Strategy::OneForAll => (
            tree.alive_except(child, ..).collect(),
            tree.startable(child, ..).collect(),
        ),
        Strategy::RestForOne => (
            tree.alive_except(child, child..).collect(),
            tree.startable(child, child..).collect(),
        ),
    }
}

impl Tree {
    /// An empty tree.
    #[must_use]
    pub fn new(policy: SupervisorPolicy, seed: u64) -> Self {
        Self {
            policy,
            seed,
            ..Self::default()
        }
    }

    /// Whether a child that is down is forgotten: a temporary one, and whoever was only added while
    /// a `simple_one_for_one` supervisor ran.
    #[must_use]
    pub fn forgets(&self, child: ChildId) -> bool {
        let restart = self.children.get(&child).map(|node| node.restart);
        self.policy.strategy == Strategy::SimpleOneForOne || restart == Some(Restart::Temporary)
    }

    /// Remembers that a life of `child` began at `now`.
    pub fn up(&mut self, child: ChildId, now: Time) {
        if let Some(node) = self.children.get_mut(&child) {
            node.history.up_since = now;
        }
    }

    /// Everything the verdict on `child` depends on.
    fn case<'a>(
        &'a self,
        child: ChildId,
        node: &'a TreeChild,
        why: Why<'a>,
        now: Time,
    ) -> Case<'a> {
        let window = match self.policy.intensity_scope {
            IntensityScope::Supervisor => &self.window,
            IntensityScope::Child => &node.history.window,
        };
        Case {
            policy: &self.policy,
            restart: node.restart,
            why,
            window,
            history: &node.history,
            budget: &self.budget,
            seed: self.seed.wrapping_add(child.0),
            now,
        }
    }

    /// Children that run, in reverse start order, but for `child`.
    fn alive_except(
        &self,
        child: ChildId,
        range: impl std::ops::RangeBounds<ChildId>,
    ) -> impl Iterator<Item = ChildId> {
        let alive = self.children.range(range).rev();
        alive
            .filter(move |(id, c)| **id != child && c.life == Life::Up)
            .map(|(id, _)| *id)
    }

    /// Children that a group restart starts: as in OTP those that were down too; never temporary
    /// bystanders, and not the parked ones.
    fn startable(
        &self,
        child: ChildId,
        range: impl std::ops::RangeBounds<ChildId>,
    ) -> impl Iterator<Item = ChildId> {
        let inside = self.children.range(range);
        inside
            .filter(move |(id, c)| {
                **id == child || (c.restart != Restart::Temporary && c.life != Life::Quarantined)
            })
            .map(|(id, _)| *id)
    }

    /// Remembers that `plan` for `child` was followed at `now`.
    pub fn commit(&mut self, child: ChildId, plan: &Plan, now: Time) {
        if plan.decision != Decision::Restart {
            return;
        }
        let intensity = self.policy.intensity;
        self.budget
            .take(plan.at, now, self.policy.restart_budget_per_s);
        if self.policy.intensity_scope == IntensityScope::Supervisor {
            self.window.record(now, intensity);
        }
        if let Some(node) = self.children.get_mut(&child) {
            if self.policy.intensity_scope == IntensityScope::Child {
                node.history.window.record(now, intensity);
            }
            node.history.failures = plan.failures;
        }
    }
}
