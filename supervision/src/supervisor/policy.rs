//! What governs a supervisor: its policy, and what is said of its children.
//!
//! A change is no message to the supervisor: it is kept in the seat, which outlives incarnations,
//! and put in force at the table of the one that lives, between two steps of it. So it holds at
//! once, also where the supervisor hangs, has no room in its mailbox, or is down. It is checked
//! against the children that are there and those that the next incarnation starts with, and
//! restarts nobody. Locks: the rule of a seat, then a table, never the other way round. Bound: one
//! pass over the children for a change.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use actorsim_actors::{ActorPath, ActorRef, Level, Reply, System, Time};

use super::children::Inner;
use super::table::Table;
use super::{GovernError, Seat, StartChildError, StartError};
use crate::config::ChildPolicy;
use crate::governance::{Governance, Governed, child_policy, differences, term_differences};
use crate::policy::{Strategy, SupervisorPolicy};
use crate::spec::{ChildSpec, SpecError, SupervisorSpec, check_significance, policy_errors};

/// What a supervisor was told when it was made and since.
pub(super) struct Orders {
    /// What is said of children, also of those that come later.
    children: Arc<[(String, ChildPolicy)]>,
    /// The strategy that the program needs.
    needs: Option<Strategy>,
    /// The children it was made with.
    firsts: Vec<ChildSpec>,
}

impl Orders {
    pub(super) fn of(spec: &SupervisorSpec) -> Self {
        Self {
            children: Arc::clone(&spec.child_policies),
            needs: spec.needs,
            firsts: spec.children.clone(),
        }
    }

    /// What is said of one child.
    pub(super) fn child(&self, id: &str) -> ChildPolicy {
        child_policy(&self.children, id)
    }
}

/// What governs a seat, and whom.
#[derive(Debug, Default)]
pub(super) struct Rule {
    /// What was put in force since it was made; none: as its spec has it.
    own: Option<Governance>,
    /// What each life is made of; gone when nobody can start one any more.
    spec: Weak<SupervisorSpec>,
    /// The children of the life that is under way.
    table: Weak<Table>,
    /// Where changes are told, and of whom.
    told: Option<(System, ActorPath)>,
}

impl Rule {
    /// What the next life is made of, if there can be one.
    fn next_life(&self) -> Option<SupervisorSpec> {
        let spec = (*self.spec.upgrade()?).clone();
        Some(match &self.own {
            Some(by) => spec.governed(by),
            None => spec,
        })
    }

    fn tell(&self, governed: &Governed) {
        if let (Some((system, path)), false) = (&self.told, governed.changes.is_empty()) {
            let (path, text) = (Some(path), governed.to_string());
            let events = system.events();
            events.publish(Level::Info, "policy_changed", path, text);
        }
    }
}

impl Seat {
    /// Makes the table of a life under what governs it: a change comes before that, or after it.
    pub(super) fn occupy(
        &self,
        spec: &Arc<SupervisorSpec>,
        system: &System,
        make: impl FnOnce(&SupervisorSpec) -> Result<Arc<Table>, StartError>,
    ) -> Result<Arc<Table>, StartError> {
        let mut rule = self.rule.lock();
        rule.spec = Arc::downgrade(spec);
        rule.told
            .get_or_insert_with(|| (system.clone(), spec.path.clone()));
        let table = match &rule.own {
            Some(by) => make(&(**spec).clone().governed(by))?,
            None => make(spec)?,
        };
        rule.table = Arc::downgrade(&table);
        Ok(table)
    }

    /// The life with this table is over.
    pub(super) fn vacate(&self, table: &Arc<Table>) {
        let mut rule = self.rule.lock();
        if rule.table.as_ptr() == Arc::as_ptr(table) {
            rule.table = Weak::new();
        }
    }

    pub(super) fn governance(&self) -> Option<Governance> {
        let rule = self.rule.lock();
        match rule.table.upgrade() {
            Some(table) => Some(table.governance()),
            None => rule.next_life().map(|spec| Governance {
                policy: spec.policy,
                children: spec.child_policies.to_vec(),
            }),
        }
    }

    pub(super) fn children(&self) -> usize {
        let rule = self.rule.lock();
        match rule.table.upgrade() {
            Some(table) => table.children(),
            None => rule.spec.upgrade().map_or(0, |spec| spec.children.len()),
        }
    }

    pub(super) fn govern(&self, by: Governance, dry_run: bool) -> Result<Governed, GovernError> {
        let mut rule = self.rule.lock();
        let governed = match rule.table.upgrade() {
            Some(table) => table.govern(by.clone(), dry_run)?,
            None => {
                let next = rule.next_life().ok_or(GovernError::Gone)?;
                let mut by = by.clone();
                by.policy.strategy = next.needs.unwrap_or(by.policy.strategy);
                weigh(&next.policy, &by, next.children.iter(), [].iter())?
            }
        };
        if !dry_run {
            rule.own = Some(by);
            rule.tell(&governed);
        }
        Ok(governed)
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
        let children = || self.children.values().map(|child| &child.spec);
        let there: BTreeSet<&str> = children().map(|spec| spec.id.as_str()).collect();
        let firsts = self.orders.firsts.iter();
        let back = firsts.filter(|spec| !there.contains(spec.id.as_str()));
        let governed = weigh(&self.core.tree.policy, &by, children(), back)?;
        if !dry_run {
            for (id, child) in &mut self.children {
                child.spec.govern(&by.child(&child.spec.id));
                self.core.set_terms(*id, child.spec.terms());
            }
            self.core.tree.policy = by.policy;
            self.orders.children = by.children.into();
        }
        Ok(governed)
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

/// What a governance changes at a policy and its children; `back` are those that are deleted and
/// come back with the next life.
fn weigh<'a>(
    old: &SupervisorPolicy,
    by: &Governance,
    children: impl Iterator<Item = &'a ChildSpec>,
    back: impl Iterator<Item = &'a ChildSpec>,
) -> Result<Governed, GovernError> {
    let simple = |policy: &SupervisorPolicy| policy.strategy == Strategy::SimpleOneForOne;
    let mut wrong = policy_errors(&by.policy);
    if simple(old) != simple(&by.policy) {
        wrong.push(SpecError::SimpleForGood);
    }
    let mut governed = Governed {
        changes: differences(old, &by.policy),
        children: 0,
    };
    let mut weigh_one = |spec: &ChildSpec| {
        let (now, then) = (spec.terms(), spec.terms_under(&by.child(&spec.id)));
        let auto = by.policy.auto_shutdown;
        wrong.extend(check_significance(auto, &spec.id, then));
        term_differences(&spec.id, now, then)
    };
    for spec in children {
        governed.changes.extend(weigh_one(spec));
        governed.children += 1;
    }
    back.for_each(|spec| drop(weigh_one(spec)));
    let (count, max) = (governed.children as usize, by.policy.max_children);
    if count > max as usize {
        wrong.push(SpecError::TooMany { count, max });
    }
    match wrong.is_empty() {
        true => Ok(governed),
        false => Err(GovernError::Invalid(wrong)),
    }
}
