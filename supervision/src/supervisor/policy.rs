//! What governs a running supervisor: its policy, and what is said of its children.
//!
//! A change is checked against the children that are there, put in force between two steps, and
//! kept in the seat, so that the next incarnation has it too. It restarts nobody. Bound: one pass
//! over the children for a change.

use std::sync::Arc;

use actorsim_actors::{ActorRef, Reply, Time};

use super::children::Inner;
use super::{GovernError, Seat, StartChildError};
use crate::config::ChildPolicy;
use crate::governance::{Governance, Governed, child_policy, differences, term_differences};
use crate::policy::Strategy;
use crate::spec::{ChildSpec, SpecError, SupervisorSpec, Terms, check_significance, policy_errors};
use crate::strategy::ChildId;

/// What a supervisor was told when it was made and since.
pub(super) struct Orders {
    /// What is said of children, also of those that come later.
    children: Arc<[(String, ChildPolicy)]>,
    /// The strategy that the program needs.
    needs: Option<Strategy>,
    /// The children it was made with.
    firsts: Vec<ChildSpec>,
    /// Where a change is kept for the next incarnation.
    seat: Arc<Seat>,
}

impl Orders {
    pub(super) fn of(spec: &SupervisorSpec) -> Self {
        Self {
            children: Arc::clone(&spec.child_policies),
            needs: spec.needs,
            firsts: spec.children.clone(),
            seat: Arc::clone(&spec.seat),
        }
    }

    /// What is said of one child.
    pub(super) fn child(&self, id: &str) -> ChildPolicy {
        child_policy(&self.children, id)
    }
}

impl Inner {
    /// What is in force.
    pub(super) fn governance(&self) -> Governance {
        Governance {
            policy: self.core.tree.policy.clone(),
            children: self.orders.children.to_vec(),
        }
    }

    /// Puts a governance in force, or says what that would change.
    pub(super) fn govern(
        &mut self,
        mut by: Governance,
        dry_run: bool,
    ) -> Result<Governed, GovernError> {
        by.policy.strategy = self.orders.needs.unwrap_or(by.policy.strategy);
        let mut changes = differences(&self.core.tree.policy, &by.policy);
        let mut moved: Vec<(ChildId, Terms)> = Vec::new();
        let mut wrong = self.refusals(&by);
        for (id, child) in &self.children {
            let (old, new) = (
                child.spec.terms(),
                child.spec.terms_under(&by.child(&child.spec.id)),
            );
            wrong.extend(check_significance(
                by.policy.auto_shutdown,
                &child.spec.id,
                new,
            ));
            if old != new {
                changes.extend(term_differences(&child.spec.id, old, new));
                moved.push((*id, new));
            }
        }
        if !wrong.is_empty() {
            return Err(GovernError::Invalid(wrong));
        }
        let children = self.children.len() as u64;
        if !dry_run {
            for (id, terms) in moved {
                self.core.set_terms(id, terms);
                if let Some(child) = self.children.get_mut(&id) {
                    let said = by.child(&child.spec.id);
                    child.spec.govern(&said);
                }
            }
            self.core.tree.policy = by.policy.clone();
            self.orders.children = by.children.as_slice().into();
            self.orders.seat.govern(by);
        }
        Ok(Governed { changes, children })
    }

    /// What a policy may not be here, whatever its children.
    fn refusals(&self, by: &Governance) -> Vec<SpecError> {
        let simple = |strategy| strategy == Strategy::SimpleOneForOne;
        let old = &self.core.tree.policy;
        let mut wrong = policy_errors(&by.policy);
        if simple(old.strategy) != simple(by.policy.strategy) {
            wrong.push(SpecError::SimpleForGood);
        }
        let (count, max) = (self.children.len(), by.policy.max_children);
        if count > max as usize {
            wrong.push(SpecError::TooMany { count, max });
        }
        wrong
    }

    /// Starts one of the first children anew, as the program had it.
    pub(super) fn start_first_child(
        &mut self,
        id: &str,
        reply: Reply<Result<ActorRef, StartChildError>>,
        now: Time,
    ) {
        let known = self.children.values().map(|child| &child.spec);
        let spec = known.chain(&self.orders.firsts).find(|spec| spec.id == id);
        match spec.cloned() {
            Some(spec) => self.start_child(spec, reply, now),
            None => reply.send(Err(StartChildError::NotFound)),
        }
    }
}
