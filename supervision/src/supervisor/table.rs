//! The shell around a supervisor's [`Core`]: carries out its effects and answers requests.
//!
//! Lives in an `Arc` outside the actor, so that whoever ends the actor, the children can still be
//! taken in order. What happens to children arrives in an inbox that is never full: one start
//! result and one exit for each attempt. Locks are held for a step, never across an await.
//! `reports`: what it tells of its children.

mod reports;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use actorsim_actors::{ActorPath, ActorRef, Exit, ExitReason, Fault, Level, System, Time};
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::children::{Inner, Ready};
use super::core::{Core, Downtime, Effect, End, Origin};
use super::policy::Orders;
use super::start::reason_of;
use super::{GovernError, Request, StartError};
use crate::governance::{Governance, Governed};
use crate::intensity::seed_of;
use crate::report::Supervision;
use crate::spec::{Kind, StartContext, SupervisorSpec};
use crate::strategy::{ChildId, Tree};

/// What happened to an attempt to run a child.
enum Input {
    Started(ChildId, u64, Result<ActorRef, Fault>),
    Gone(ChildId, u64, Option<Exit>),
}

pub(super) struct Table {
    path: ActorPath,
    system: System,
    supervision: Arc<Supervision>,
    inner: Mutex<Inner>,
    inbox: Mutex<Vec<Input>>,
    changed: Notify,
    /// When it tells of crashes that were held back; at once, if a former life has left some.
    tells_at: Mutex<Option<Time>>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({})", self.path)
    }
}

/// Reports the end of one attempt, also when it is dropped uncalled: the start failed, or the
/// runtime went away.
struct ExitPort {
    table: Arc<Table>,
    child: ChildId,
    attempt: u64,
    told: bool,
}

impl ExitPort {
    fn tell(&mut self, exit: Option<Exit>) {
        self.told = true;
        self.table
            .deliver(Input::Gone(self.child, self.attempt, exit));
    }
}

impl Drop for ExitPort {
    fn drop(&mut self) {
        if !self.told {
            self.tell(None);
        }
    }
}

impl Table {
    pub(super) fn new(
        spec: &SupervisorSpec,
        system: System,
        supervision: Arc<Supervision>,
        ready: Ready,
    ) -> Arc<Self> {
        let now = system.clock().monotonic();
        let tree = Tree::new(spec.policy.clone(), seed_of(spec.path.as_str()));
        let mut inner = Inner {
            core: Core::new(tree),
            children: BTreeMap::new(),
            ids: BTreeMap::new(),
            ready: Some(ready),
            orders: Orders::of(spec),
        };
        for child in &spec.children {
            inner.add(child.clone(), Origin::Initial, now);
        }
        Arc::new(Self {
            path: spec.path.clone(),
            system,
            supervision,
            inner: Mutex::new(inner),
            inbox: Mutex::default(),
            changed: Notify::new(),
            tells_at: Mutex::new(Some(now)),
        })
    }

    pub(super) const fn system(&self) -> &System {
        &self.system
    }

    fn deliver(&self, input: Input) {
        self.inbox.lock().push(input);
        self.changed.notify_waiters();
    }

    /// Carries out what happens until all children are gone and the supervisor ends.
    pub(super) async fn drive(self: &Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (deadline, finished) = self.step();
            if finished {
                return;
            }
            match deadline {
                None => changed.await,
                Some(at) => {
                    let wait = at - self.system.clock().monotonic();
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// Takes the inbox and does what is due; returns when to come back, and whether all is over.
    fn step(self: &Arc<Self>) -> (Option<Time>, bool) {
        let mut inner = self.inner.lock();
        let inputs = std::mem::take(&mut *self.inbox.lock());
        let now = self.system.clock().monotonic();
        for input in inputs {
            self.take(&mut inner, input, now);
        }
        self.settle(&mut inner, now);
        let finished = inner.core.finished();
        let times = [
            inner.core.next_deadline(),
            self.tell_held_back(now, finished),
        ];
        (times.into_iter().flatten().min(), finished)
    }

    fn take(&self, inner: &mut Inner, input: Input, now: Time) {
        match input {
            Input::Started(id, attempt, result) => {
                let result = result.map(|actor| {
                    if let Some(child) = inner.children.get_mut(&id) {
                        child.actor = Some(actor);
                    }
                });
                inner.core.started(id, attempt, result, now);
            }
            Input::Gone(id, attempt, exit) => {
                let reason = exit
                    .as_ref()
                    .map_or(ExitReason::HostDown, |e| e.reason.clone());
                if let (Some(child), Some(exit)) = (inner.children.get_mut(&id), exit) {
                    child.last_exit = Some(exit);
                }
                inner.core.exited(id, attempt, &reason, now);
                self.tell_rest(inner, id);
            }
        }
    }

    /// Lets the core do what is due, and carries out every effect.
    fn settle(self: &Arc<Self>, inner: &mut Inner, now: Time) {
        loop {
            inner.core.settle(now);
            let mut idle = true;
            while let Some(effect) = inner.core.next_effect() {
                idle = false;
                self.carry_out(inner, effect, now);
            }
            if idle {
                return;
            }
        }
    }

    fn carry_out(self: &Arc<Self>, inner: &mut Inner, effect: Effect, now: Time) {
        match effect {
            Effect::Start(id, attempt) => self.begin(inner, id, attempt),
            Effect::Stop(id) => inner.with_actor(id, ActorRef::stop),
            Effect::Kill(id) => inner.with_actor(id, ActorRef::kill),
            Effect::Cancel(id) => {
                let cancel = inner
                    .children
                    .get(&id)
                    .and_then(|child| child.cancel.as_ref());
                cancel
                    .into_iter()
                    .for_each(|c| c.send_modify(|level| *level += 1));
            }
            Effect::Stuck(id) => self.tell_stuck(inner, id),
            Effect::Ended {
                child,
                reason,
                plan,
            } => {
                self.tell_end(inner, child, reason, &plan, now);
            }
            Effect::Restarted(id, Downtime { all, backoff }) => {
                self.supervision.restarted(all, backoff);
                let Some(child) = inner.children.get_mut(&id) else {
                    return;
                };
                child.restarts += 1;
                if let Some(actor) = &child.actor {
                    let life = actor.incarnation();
                    let text =
                        format!("incarnation {life} after {all:?}, {backoff:?} of it backoff");
                    let path = Some(actor.path());
                    self.system
                        .events()
                        .publish(Level::Info, "restarted", path, text);
                }
            }
            Effect::Started(id, result) => inner.answer_start(id, result),
            Effect::Down(id) => {
                self.tell_rest(inner, id);
                inner.answer_down(id);
            }
            Effect::Removed(id) => {
                if let Some(child) = inner.children.remove(&id) {
                    if inner.ids.get(&child.spec.id) == Some(&id) {
                        inner.ids.remove(&child.spec.id);
                    }
                    let paths = child.spec.path.iter().chain(&*child.spec.below);
                    paths.for_each(|path| self.system.census().retire(path));
                }
            }
            Effect::Ready => {
                if let Some(ready) = inner.ready.take() {
                    drop(ready.send(Ok(())));
                }
            }
            Effect::Finished => self.changed.notify_waiters(),
        }
    }

    /// Starts an attempt on the runtime: the supervisor goes on meanwhile.
    fn begin(self: &Arc<Self>, inner: &mut Inner, id: ChildId, attempt: u64) {
        let Some(child) = inner.children.get_mut(&id) else {
            return;
        };
        let (cancel, canceled) = watch::channel(0);
        child.actor = None;
        child.cancel = Some(cancel);
        let table = Arc::clone(self);
        let mut port = ExitPort {
            table: Arc::clone(self),
            child: id,
            attempt,
            told: false,
        };
        let cx = StartContext::new(
            self.system.clone(),
            (child.spec.lives)(),
            Box::new(move |exit| port.tell(Some(exit))),
            Arc::clone(&self.supervision),
            canceled.clone(),
        );
        let (start, kind) = (Arc::clone(&child.spec.start), child.spec.kind);
        let timeout = child.spec.start_timeout;
        self.system.detached(async move {
            let starting = AssertUnwindSafe(async move { start(cx).await }).catch_unwind();
            let result = tokio::select! {
                biased;
                result = starting => {
                    result.unwrap_or_else(|payload| Err(Fault::from_panic(&*payload)))
                }
                () = given_up(canceled, kind) => Err(Fault::new("start_canceled")),
                () = after(timeout) => {
                    let limit = timeout.unwrap_or_default();
                    Err(Fault::with("start_timeout", format_args!("not up after {limit:?}")))
                }
            };
            table.deliver(Input::Started(id, attempt, result));
        });
    }

    // ---- the end ----

    /// The supervisor ends: children are stopped in reverse start order.
    pub(super) fn end(&self) {
        self.inner.lock().core.end(End::Asked);
        self.changed.notify_waiters();
    }

    /// Whether it ended without being asked to.
    pub(super) fn ends_by_itself(&self) -> bool {
        self.inner
            .lock()
            .core
            .ending()
            .is_some_and(|end| *end != End::Asked)
    }

    /// Forgets the children that the next incarnation will not know.
    pub(super) fn retire_dynamic(&self) {
        let inner = self.inner.lock();
        let paths = inner
            .children
            .values()
            .filter(|c| !c.first)
            .flat_map(|c| c.spec.path.iter().chain(&*c.spec.below));
        paths.for_each(|path| self.system.census().retire(path));
    }

    /// The exit reason for the parent; and, if the supervisor never was up, who waits and why.
    pub(super) fn outcome(&self, own: ExitReason) -> (ExitReason, Option<(Ready, StartError)>) {
        let mut inner = self.inner.lock();
        let ready = inner.ready.take();
        let reason = reason_of(inner.core.ending(), own);
        let error = match inner.core.ending() {
            Some(End::NotStarted(id, fault)) => StartError::FailedToStartChild {
                id: inner
                    .children
                    .get(id)
                    .map(|c| c.spec.id.clone())
                    .unwrap_or_default(),
                fault: fault.clone(),
            },
            _ => match &reason {
                ExitReason::Fault(fault) => StartError::Failed(fault.clone()),
                other => StartError::Failed(Fault::with("not_started", other)),
            },
        };
        (reason, ready.map(|ready| (ready, error)))
    }

    // ---- policies ----

    /// What is in force.
    pub(super) fn governance(&self) -> Governance {
        self.inner.lock().governance()
    }

    /// Children, dead or alive.
    pub(super) fn children(&self) -> usize {
        self.inner.lock().children.len()
    }

    /// Puts a governance in force between two steps, or says what that would change.
    pub(super) fn govern(
        self: &Arc<Self>,
        by: Governance,
        dry_run: bool,
    ) -> Result<Governed, GovernError> {
        let mut inner = self.inner.lock();
        let governed = inner.govern(by, dry_run)?;
        if !dry_run {
            self.settle(&mut inner, self.system.clock().monotonic());
            drop(inner);
            self.changed.notify_waiters();
        }
        Ok(governed)
    }

    // ---- requests ----

    pub(super) fn request(self: &Arc<Self>, request: Request) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let now = self.system.clock().monotonic();
        match request {
            Request::Start(spec, reply) => inner.start_child(*spec, reply, now),
            Request::Terminate(id, reply) => inner.terminate_child(&id, reply),
            Request::Restart(id, reply) => inner.restart_child(&id, reply, now),
            Request::Release(id, reply) => inner.release_child(&id, reply, now),
            Request::Delete(id, reply) => reply.send(inner.delete_child(&id)),
            Request::Which(reply) => reply.send(inner.which()),
            Request::Count(reply) => reply.send(inner.count()),
            Request::GetSpec(id, reply) => reply.send(inner.spec(&id)),
            Request::Preview(id, reason, reply) => reply.send(inner.preview(&id, &reason, now)),
            Request::StartFirst(id, reply) => inner.start_first_child(&id, reply, now),
            Request::Finish => {}
        }
        self.settle(inner, now);
        drop(guard);
        // a start or a stop has changed when the driver must look again
        self.changed.notify_waiters();
    }
}

/// Ends when a start is given up: a worker's when it is forced, a supervisor's never, for it
/// ends its own start in order.
async fn given_up(mut canceled: watch::Receiver<u8>, kind: Kind) {
    if kind == Kind::Supervisor || canceled.wait_for(|level| *level > 0).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn after(timeout: Option<std::time::Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}
