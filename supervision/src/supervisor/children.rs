//! A supervisor's children with their specs, and the answers to requests about them.
//!
//! The core decides; this keeps what it does not need: specs, references, who waits for an answer.
//! It starts and stops nothing. Bound: one entry per child, one waiter per request that waits.

use std::collections::BTreeMap;

use actorsim_actors::{ActorRef, Exit, ExitReason, Fault, Reply, Time};
use tokio::sync::{oneshot, watch};

use super::core::{Core, Origin, Shown};
use super::policy::Orders;
use super::{
    ChildInfo, ChildState, Counts, DeleteChildError, GetChildspecError, Preview, ReleaseChildError,
    RestartChildError, StartChildError, StartError, TerminateChildError,
};
use crate::policy::{Restart, Strategy};
use crate::spec::{ChildSpec, IGNORE, Kind, check_child};
use crate::strategy::{ChildId, Why, plan};

/// Told once whether the first children are up.
pub(super) type Ready = oneshot::Sender<Result<(), StartError>>;

/// Who waits for a child.
enum Waiter {
    Start(Reply<Result<ActorRef, StartChildError>>),
    Restart(Reply<Result<ActorRef, RestartChildError>>),
    Release(Reply<Result<ActorRef, ReleaseChildError>>),
    Terminate(Reply<Result<(), TerminateChildError>>),
}

impl Waiter {
    fn is_canceled(&self) -> bool {
        match self {
            Self::Start(reply) => reply.is_canceled(),
            Self::Restart(reply) => reply.is_canceled(),
            Self::Release(reply) => reply.is_canceled(),
            Self::Terminate(reply) => reply.is_canceled(),
        }
    }
}

pub(super) struct Child {
    pub(super) spec: ChildSpec,
    /// One of the spec's first children, not added later.
    pub(super) first: bool,
    pub(super) actor: Option<ActorRef>,
    pub(super) cancel: Option<watch::Sender<u8>>,
    pub(super) last_exit: Option<Exit>,
    /// Restarts that were made of it.
    pub(super) restarts: u32,
    waiters: Vec<Waiter>,
}

impl Child {
    fn new(spec: ChildSpec, first: bool) -> Self {
        let (actor, cancel, last_exit) = (None, None, None);
        Self {
            spec,
            first,
            actor,
            cancel,
            last_exit,
            restarts: 0,
            waiters: Vec::new(),
        }
    }

    /// Adds one who waits; those who have given up make room.
    fn waits(&mut self, waiter: Waiter) {
        self.waiters.retain(|w| !w.is_canceled());
        self.waiters.push(waiter);
    }
}

pub(super) struct Inner {
    pub(super) core: Core,
    pub(super) children: BTreeMap<ChildId, Child>,
    pub(super) ids: BTreeMap<String, ChildId>,
    pub(super) ready: Option<Ready>,
    pub(super) orders: Orders,
}

impl Inner {
    pub(super) fn add(&mut self, spec: ChildSpec, origin: Origin, now: Time) -> ChildId {
        let id = self.core.add(
            (spec.restart, spec.significant),
            (spec.kind, spec.shutdown),
            origin,
            now,
        );
        self.ids.insert(spec.id.clone(), id);
        self.children
            .insert(id, Child::new(spec, origin == Origin::Initial));
        id
    }

    fn child(&mut self, id: &str) -> Option<(ChildId, &mut Child)> {
        let id = *self.ids.get(id)?;
        self.children.get_mut(&id).map(|child| (id, child))
    }

    pub(super) fn spec(&self, id: &str) -> Result<ChildSpec, GetChildspecError> {
        let child = self.ids.get(id).and_then(|id| self.children.get(id));
        child
            .map(|child| child.spec.clone())
            .ok_or(GetChildspecError::NotFound)
    }

    pub(super) fn with_actor(&self, id: ChildId, act: impl FnOnce(&ActorRef)) {
        if let Some(actor) = self
            .children
            .get(&id)
            .and_then(|child| child.actor.as_ref())
        {
            act(actor);
        }
    }

    fn is_simple(&self) -> bool {
        self.core.tree.policy.strategy == Strategy::SimpleOneForOne
    }

    pub(super) fn start_child(
        &mut self,
        spec: ChildSpec,
        reply: Reply<Result<ActorRef, StartChildError>>,
        now: Time,
    ) {
        let mut spec = spec;
        spec.govern(&self.orders.child(&spec.id));
        if let Some(error) = self.refusal(&spec) {
            return reply.send(Err(error));
        }
        let id = self.add(spec, Origin::Added, now);
        if let Some(child) = self.children.get_mut(&id) {
            child.waits(Waiter::Start(reply));
        }
    }

    /// Why a child may not be added.
    fn refusal(&self, spec: &ChildSpec) -> Option<StartChildError> {
        let policy = &self.core.tree.policy;
        let max = policy.max_children;
        if self.core.ending().is_some() {
            return Some(StartChildError::Stopping);
        }
        if let Some(id) = self.ids.get(&spec.id) {
            let actor = self.children.get(id).and_then(|child| child.actor.clone());
            return Some(match (self.core.shown(*id), actor) {
                (Some(Shown::Up), Some(actor)) => StartChildError::AlreadyStarted(actor),
                (Some(Shown::Down | Shown::Quarantined), _) => StartChildError::AlreadyPresent,
                _ => StartChildError::Restarting,
            });
        }
        if self.children.len() >= max as usize {
            return Some(StartChildError::TooMany { max });
        }
        check_child(policy, spec).map(StartChildError::Invalid)
    }

    pub(super) fn terminate_child(
        &mut self,
        id: &str,
        reply: Reply<Result<(), TerminateChildError>>,
    ) {
        match self.child(id) {
            None => reply.send(Err(TerminateChildError::NotFound)),
            Some((id, child)) => {
                child.waits(Waiter::Terminate(reply));
                self.core.terminate(id);
            }
        }
    }

    pub(super) fn restart_child(
        &mut self,
        id: &str,
        reply: Reply<Result<ActorRef, RestartChildError>>,
        now: Time,
    ) {
        let simple = self.is_simple();
        let ending = self.core.ending().is_some();
        let Some(id) = self.ids.get(id).copied() else {
            return reply.send(Err(RestartChildError::NotFound));
        };
        let refusal = match self.core.shown(id) {
            _ if ending => Some(RestartChildError::Stopping),
            // a parked child is brought back by the operator, whatever the strategy
            _ if simple && self.core.shown(id) != Some(Shown::Quarantined) => {
                Some(RestartChildError::SimpleOneForOne)
            }
            Some(Shown::Up) => Some(RestartChildError::Running),
            Some(Shown::Restarting) => Some(RestartChildError::Restarting),
            Some(Shown::Down | Shown::Quarantined) => None,
            None => Some(RestartChildError::NotFound),
        };
        if let Some(error) = refusal {
            return reply.send(Err(error));
        }
        if let Some(child) = self.children.get_mut(&id) {
            child.waits(Waiter::Restart(reply));
        }
        self.core.restart(id, now);
    }

    pub(super) fn release_child(
        &mut self,
        id: &str,
        reply: Reply<Result<ActorRef, ReleaseChildError>>,
        now: Time,
    ) {
        let Some(id) = self.ids.get(id).copied() else {
            return reply.send(Err(ReleaseChildError::NotFound));
        };
        if self.core.ending().is_some() {
            return reply.send(Err(ReleaseChildError::Stopping));
        }
        match self.state(id) {
            ChildState::Quarantined => {}
            other => return reply.send(Err(ReleaseChildError::NotQuarantined(other))),
        }
        if let Some(child) = self.children.get_mut(&id) {
            child.waits(Waiter::Release(reply));
        }
        self.core.restart(id, now);
    }

    pub(super) fn delete_child(&mut self, id: &str) -> Result<(), DeleteChildError> {
        if self.is_simple() {
            return Err(DeleteChildError::SimpleOneForOne);
        }
        let id = *self.ids.get(id).ok_or(DeleteChildError::NotFound)?;
        match self.core.shown(id) {
            Some(Shown::Up) => Err(DeleteChildError::Running),
            Some(Shown::Restarting) => Err(DeleteChildError::Restarting),
            Some(Shown::Down | Shown::Quarantined) => {
                self.core.delete(id);
                Ok(())
            }
            None => Err(DeleteChildError::NotFound),
        }
    }

    fn state(&self, id: ChildId) -> ChildState {
        match self.core.shown(id) {
            Some(Shown::Up) => ChildState::Running,
            Some(Shown::Restarting) => ChildState::Restarting,
            Some(Shown::Quarantined) => ChildState::Quarantined,
            Some(Shown::Down) | None => ChildState::Down,
        }
    }

    pub(super) fn which(&self) -> Vec<ChildInfo> {
        let infos = self.children.iter().map(|(id, child)| ChildInfo {
            id: child.spec.id.clone(),
            path: child.spec.path.clone(),
            state: self.state(*id),
            kind: child.spec.kind,
            restart: child.spec.restart,
            incarnation: child.actor.as_ref().map(ActorRef::incarnation),
            failures: self
                .core
                .tree
                .children
                .get(id)
                .map_or(0, |node| node.history.failures),
        });
        infos.collect()
    }

    pub(super) fn count(&self) -> Counts {
        let mut counts = Counts::default();
        for (id, child) in &self.children {
            counts.specs += 1;
            counts.active += u32::from(self.core.shown(*id) == Some(Shown::Up));
            match child.spec.kind {
                Kind::Worker => counts.workers += 1,
                Kind::Supervisor => counts.supervisors += 1,
            }
        }
        counts
    }

    pub(super) fn preview(&self, id: &str, reason: &ExitReason, now: Time) -> Option<Preview> {
        let id = *self.ids.get(id)?;
        let plan = plan(&self.core.tree, id, Why::Exit(reason), now);
        let names = |ids: &[ChildId]| {
            let specs = ids.iter().filter_map(|id| self.children.get(id));
            specs.map(|child| child.spec.id.clone()).collect()
        };
        Some(Preview {
            decision: plan.decision,
            stop: names(&plan.stop),
            start: names(&plan.start),
            delay: plan.at - now,
        })
    }

    pub(super) fn answer_start(&mut self, id: ChildId, result: Result<(), Fault>) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        child.cancel = None;
        let Child { actor, waiters, .. } = child;
        let outcome = result.and_then(|()| actor.clone().ok_or_else(|| Fault::new("gone")));
        for waiter in std::mem::take(waiters) {
            match (waiter, outcome.clone()) {
                (Waiter::Start(reply), result) => {
                    reply.send(result.map_err(|fault| match fault.code {
                        IGNORE => StartChildError::Ignored,
                        _ => StartChildError::Failed(fault),
                    }));
                }
                (Waiter::Restart(reply), result) => {
                    reply.send(result.map_err(|fault| match fault.code {
                        IGNORE => RestartChildError::Ignored,
                        _ => RestartChildError::Failed(fault),
                    }));
                }
                (Waiter::Release(reply), result) => {
                    reply.send(result.map_err(|fault| match fault.code {
                        IGNORE => ReleaseChildError::Ignored,
                        _ => ReleaseChildError::Failed(fault),
                    }));
                }
                (other, _) => waiters.push(other),
            }
        }
        if outcome.is_ok() && child.spec.restart == Restart::Temporary {
            child.spec.spend();
        }
    }

    pub(super) fn answer_down(&mut self, id: ChildId) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        let Child { waiters, .. } = child;
        for waiter in std::mem::take(waiters) {
            match waiter {
                Waiter::Terminate(reply) => reply.send(Ok(())),
                other => waiters.push(other),
            }
        }
    }
}
