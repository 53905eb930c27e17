//! What a supervisor tells of its children: crashes, who hangs, who stays down.
//!
//! It decides nothing. Bound: one event or one word in the census for each end.

use actorsim_actors::{ExitReason, Level, Time};

use super::super::children::Inner;
use super::super::core::Shown;
use super::Table;
use crate::report::{CrashPlan, CrashReport, Parking};
use crate::strategy::{ChildId, Decision, Plan};

impl Table {
    /// An abnormal end, or one too many, is a crash; an ordered one that leads to a restart counts.
    pub(super) fn tell_end(
        &self,
        inner: &Inner,
        id: ChildId,
        reason: ExitReason,
        plan: &Plan,
        now: Time,
    ) {
        if reason.is_normal() && !plan.decision.is_last_resort() {
            return self.supervision.tally(&self.path, &reason, plan.decision);
        }
        let Some(child) = inner.children.get(&id) else {
            return;
        };
        let path = || {
            child
                .spec
                .path
                .clone()
                .unwrap_or_else(|| self.path.join(&child.spec.id))
        };
        let exit = child
            .last_exit
            .as_ref()
            .filter(|exit| exit.reason == reason);
        if plan.decision == Decision::Quarantine {
            let policy = &inner.core.tree.policy;
            let patience = child.spec.start_patience();
            let parking = Parking::new(path(), &self.path, now, policy, patience);
            self.supervision.park(parking);
        }
        let report = CrashReport {
            path: path(),
            supervisor: self.path.clone(),
            incarnation: exit.map(|exit| exit.incarnation),
            last_kinds: exit.map(|exit| exit.last_kinds).unwrap_or_default(),
            depth: exit.map_or(0, |exit| exit.depth),
            reason,
            restarts: child.restarts,
            plan: CrashPlan {
                decision: plan.decision,
                failures: plan.failures,
                siblings: match plan.decision {
                    Decision::Restart => plan.start.len().saturating_sub(1),
                    _ => plan.stop.len(),
                },
                delay: plan.at - now,
            },
            count: 1,
            first_us: 0,
            at_us: 0,
        };
        if let Some(due) = self.supervision.crashed(&self.system, report) {
            let mut tells_at = self.tells_at.lock();
            *tells_at = Some(tells_at.map_or(due, |at| at.min(due)));
        }
    }

    /// Tells of crashes that were held back, when it is time to; when that is.
    pub(super) fn tell_held_back(&self, now: Time, at_end: bool) -> Option<Time> {
        let mut tells_at = self.tells_at.lock();
        if tells_at.is_some_and(|due| due <= now || at_end) {
            let told = self
                .supervision
                .tell_held_back(&self.system, &self.path, at_end);
            *tells_at = told;
        }
        *tells_at
    }

    /// The census shows who stays down; not at the end, when all do.
    pub(super) fn tell_rest(&self, inner: &Inner, id: ChildId) {
        let quarantined = match inner.core.shown(id) {
            Some(Shown::Down) => false,
            Some(Shown::Quarantined) => true,
            _ => return,
        };
        let path = inner.children.get(&id).and_then(|c| c.spec.path.as_ref());
        if let Some(path) = path.filter(|_| inner.core.ending().is_none()) {
            self.system.census().rest(path, quarantined);
        }
    }

    pub(super) fn tell_stuck(&self, inner: &Inner, id: ChildId) {
        let Some(child) = inner.children.get(&id) else {
            return;
        };
        let path = child
            .spec
            .path
            .clone()
            .unwrap_or_else(|| self.path.join(&child.spec.id));
        let text = "did not end though it was killed: a handler blocks its thread; \
                    it is not started again before it has ended";
        self.system
            .events()
            .publish(Level::Error, "stuck", Some(&path), text);
    }
}
