//! What a supervisor is told about its children: child specs and supervisor specs.
//!
//! A [`ChildSpec`] says how to start a child, when to restart it and how to end it; nothing is
//! started here. Every incarnation of a task actor gets a fresh value from the spec's factory and
//! keeps its [`Addr`]. Bound: as many children as the policy's `max_children`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actorsim_actors::{
    ActorPath, ActorRef, Addr, Fault, Incarnation, MailboxSpec, OnExit, Overflow, System, TaskActor,
};
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::runtime::Handle;

use crate::config::{ChildPolicy, Governance, Labels, Policies};
use crate::policy::{AutoShutdown, PolicyError, Restart, Shutdown, Strategy, SupervisorPolicy};
use crate::report::Supervision;
use crate::supervisor::{self, Cancel, SupervisorMessage, SupervisorRef};

/// How long a worker may take to start: a socket that opens, a file that is read. Longer is a hang.
pub const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that wait for a supervisor: a burst of accepted connections.
pub const REQUESTS_MAX: u32 = 1_024;

/// Code of the fault of a start that declines: OTP's `ignore`. The child is not up and that is no
/// failure: its spec is kept, unless it is temporary or its supervisor `simple_one_for_one`, and
/// nobody starts it again but `restart_child` or a restart of its group.
pub const IGNORE: &str = "ignore";

/// Worker or supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Does the work.
    Worker,
    /// Has children of its own.
    Supervisor,
}

/// What a start function gets.
///
/// `on_exit` must be called, or dropped, exactly when the incarnation has ended and everything it
/// owned is gone: the next incarnation waits for it. [`System::start_task`] does that.
#[non_exhaustive]
pub struct StartContext {
    /// The node.
    pub system: System,
    /// Which life to start.
    pub incarnation: Incarnation,
    /// To be told of its end.
    pub on_exit: OnExit,
    /// Counters and crash reports of the tree.
    pub supervision: Arc<Supervision>,
    pub(crate) cancel: Cancel,
}

impl fmt::Debug for StartContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartContext")
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

impl StartContext {
    pub(crate) fn new(
        system: System,
        incarnation: Incarnation,
        on_exit: OnExit,
        supervision: Arc<Supervision>,
        cancel: Cancel,
    ) -> Self {
        Self {
            system,
            incarnation,
            on_exit,
            supervision,
            cancel,
        }
    }
}

/// Starts one incarnation; the fault is why it did not start.
pub type ChildStart =
    Arc<dyn Fn(StartContext) -> BoxFuture<'static, Result<ActorRef, Fault>> + Send + Sync>;

/// What policies may change of a child spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// When it is started again.
    pub restart: Restart,
    /// How it is ended.
    pub shutdown: Shutdown,
    /// Whether its end may end the supervisor.
    pub significant: bool,
}

type Lives = Arc<dyn Fn() -> Incarnation + Send + Sync>;

/// One child: how it is started, restarted and ended.
#[derive(Clone)]
pub struct ChildSpec {
    /// Its name among its siblings; a segment or more of its path.
    pub id: String,
    /// When it is started again.
    pub restart: Restart,
    /// How it is ended.
    pub shutdown: Shutdown,
    /// Whether its end may end the supervisor, see [`AutoShutdown`].
    pub significant: bool,
    /// Worker or supervisor.
    pub kind: Kind,
    /// How long its start may take; none: as long as its own children take (supervisors).
    pub start_timeout: Option<Duration>,
    /// Where it is found; none for start functions of one's own that did not say.
    pub path: Option<ActorPath>,
    /// Starts it.
    pub start: ChildStart,
    pub(crate) lives: Lives,
    /// It cannot be started again, whatever a policy says.
    pub(crate) spent: bool,
    /// Its terms as the program has them, once a policy was laid over them.
    pub(crate) programmed: Option<Terms>,
    /// Of a subtree: where its first children are found, and theirs.
    pub(crate) below: Arc<[ActorPath]>,
    /// Of a subtree: the shortest time in which the start of one of its first children fails.
    patience_below: Option<Duration>,
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .field("significant", &self.significant)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl ChildSpec {
    /// A worker on the task host: permanent, stopped within 5 s. `factory` makes a fresh actor for
    /// each incarnation.
    pub fn task<A, F>(id: impl Into<String>, addr: &Addr<A::Msg>, factory: F) -> Self
    where
        A: TaskActor,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let (address, lives_of) = (addr.clone(), addr.clone());
        let start = move |cx: StartContext| -> BoxFuture<'static, Result<ActorRef, Fault>> {
            let (address, actor) = (address.clone(), factory());
            Box::pin(async move {
                cx.system
                    .start_task(&address, cx.incarnation, actor, cx.on_exit)
                    .await
            })
        };
        Self {
            path: Some(addr.path().clone()),
            lives: Arc::new(move || lives_of.next_incarnation()),
            ..Self::custom(id, start)
        }
    }

    /// A worker with a start function of its own: permanent, stopped within 5 s.
    pub fn custom<F>(id: impl Into<String>, start: F) -> Self
    where
        F: Fn(StartContext) -> BoxFuture<'static, Result<ActorRef, Fault>> + Send + Sync + 'static,
    {
        let begun = AtomicU32::new(0);
        Self {
            id: id.into(),
            restart: Restart::Permanent,
            shutdown: Shutdown::WORKER,
            significant: false,
            kind: Kind::Worker,
            start_timeout: Some(START_TIMEOUT),
            path: None,
            start: Arc::new(start),
            lives: Arc::new(move || Incarnation(begun.fetch_add(1, Ordering::Relaxed) + 1)),
            spent: false,
            programmed: None,
            below: Arc::default(),
            patience_below: None,
        }
    }

    /// A subtree: permanent, waited for without limit when it is stopped.
    #[must_use]
    pub fn supervisor(id: impl Into<String>, spec: SupervisorSpec) -> Self {
        let lives_of = spec.addr.clone();
        let path = spec.path.clone();
        let below = |child: &Self| child.path.iter().chain(&*child.below).cloned().collect();
        let below: Arc<[_]> = spec.children.iter().flat_map::<Vec<_>, _>(below).collect();
        let patience_below = spec.children.iter().filter_map(Self::start_patience).min();
        let spec = Arc::new(spec);
        let start = move |cx: StartContext| supervisor::start(Arc::clone(&spec), cx);
        Self {
            shutdown: Shutdown::Infinity,
            kind: Kind::Supervisor,
            start_timeout: None,
            path: Some(path),
            lives: Arc::new(move || lives_of.next_incarnation()),
            below,
            patience_below,
            ..Self::custom(id, start)
        }
    }

    /// When it is started again.
    #[must_use]
    pub const fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// How it is ended.
    #[must_use]
    pub const fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Its end may end the supervisor.
    #[must_use]
    pub const fn significant(mut self) -> Self {
        self.significant = true;
        self
    }

    /// On another runtime of the node than its supervisor; its own children follow it.
    #[must_use]
    pub fn on_runtime(mut self, handle: Handle) -> Self {
        let start = self.start;
        self.start = Arc::new(move |mut cx| {
            cx.system = cx.system.on_runtime(handle.clone());
            start(cx)
        });
        self
    }

    /// How long its start may take.
    #[must_use]
    pub const fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = Some(timeout);
        self
    }

    /// The shortest time after which a start of it that hangs has failed: its own or, of a subtree,
    /// that of one of its first children.
    pub(crate) fn start_patience(&self) -> Option<Duration> {
        let both = [self.start_timeout, self.patience_below];
        both.into_iter().flatten().min()
    }

    /// The terms it has under a policy: what that leaves out is as the program has it. A temporary
    /// child that was started stays temporary: what it was made of is gone.
    pub(crate) fn terms_under(&self, policy: &ChildPolicy) -> Terms {
        let own = self.programmed.unwrap_or(self.terms());
        Terms {
            restart: match self.spent {
                true => self.restart,
                false => policy.restart.unwrap_or(own.restart),
            },
            shutdown: policy.shutdown.unwrap_or(own.shutdown),
            significant: policy.significant.unwrap_or(own.significant),
        }
    }

    pub(crate) const fn terms(&self) -> Terms {
        Terms {
            restart: self.restart,
            shutdown: self.shutdown,
            significant: self.significant,
        }
    }

    /// Lays a policy over the terms of the program.
    pub(crate) fn govern(&mut self, policy: &ChildPolicy) {
        let terms = self.terms_under(policy);
        self.programmed.get_or_insert(self.terms());
        (self.restart, self.shutdown) = (terms.restart, terms.shutdown);
        self.significant = terms.significant;
    }

    /// Drops the start function, and all it captured, of a child that is never started again.
    pub(crate) fn spend(&mut self) {
        self.spent = true;
        self.start =
            Arc::new(|_| Box::pin(async { Err(Fault::new("temporary_is_not_restarted")) }));
    }
}

/// A supervisor with its policy and its first children, in start order.
///
/// Its address is made here, so that a [`SupervisorRef`] can be handed out before it is started.
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    /// Where it is found.
    pub path: ActorPath,
    /// What it does about its children.
    pub policy: SupervisorPolicy,
    /// Children, in start order.
    pub children: Vec<ChildSpec>,
    /// Names it can be chosen by in a policy file, besides its path.
    pub labels: Labels,
    /// The strategy that the program needs, whatever policies say.
    pub(crate) needs: Option<Strategy>,
    /// What policies say about children, also of those that come later.
    pub(crate) child_policies: Arc<[(String, ChildPolicy)]>,
    pub(crate) addr: Addr<SupervisorMessage>,
    pub(crate) seat: Arc<supervisor::Seat>,
}

impl SupervisorSpec {
    /// A supervisor without children.
    #[must_use]
    pub fn new(path: ActorPath, policy: SupervisorPolicy) -> Self {
        let addr = Addr::new(
            path.clone(),
            MailboxSpec::new(REQUESTS_MAX, Overflow::Block),
        );
        Self {
            path,
            policy,
            children: Vec::new(),
            labels: Labels::new(),
            needs: None,
            child_policies: Arc::default(),
            addr,
            seat: Arc::default(),
        }
    }

    /// The same with one more child.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// The same with a strategy that the program relies on: policies do not change it.
    #[must_use]
    pub const fn needs(mut self, strategy: Strategy) -> Self {
        self.policy.strategy = strategy;
        self.needs = Some(strategy);
        self
    }

    /// The same with a label, for policy files.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// The same with what the policy files say about it and its children.
    #[must_use]
    pub fn configured(self, policies: &Policies) -> Self {
        let governance = policies.governance(&self.path, &self.labels);
        self.governed(&governance)
    }

    /// The same under another governance.
    #[must_use]
    pub(crate) fn governed(mut self, by: &Governance) -> Self {
        self.policy = by.policy.clone();
        self.policy.strategy = self.needs.unwrap_or(self.policy.strategy);
        self.child_policies = by.children.as_slice().into();
        for child in &mut self.children {
            child.govern(&by.child(&child.id));
        }
        self
    }

    /// The supervisor, whichever incarnation of it lives.
    #[must_use]
    pub fn reference(&self) -> SupervisorRef {
        SupervisorRef::new(self.addr.clone(), Arc::clone(&self.seat))
    }
}

/// What is wrong with a child spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The policy contradicts itself.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The id is empty.
    #[error("missing_id: child {0} has no id")]
    MissingId(usize),
    /// Two children have one id.
    #[error("duplicate_child_name: {0:?} is the id of two children")]
    DuplicateId(String),
    /// A permanent child never ends for good, so its end cannot end the supervisor.
    #[error(
        "bad_combination: child {0:?} is significant and permanent; make it transient or temporary"
    )]
    SignificantPermanent(String),
    /// The supervisor does not look at significance.
    #[error(
        "bad_combination: child {0:?} is significant, but auto_shutdown is never; \
         set auto_shutdown to any_significant or all_significant"
    )]
    SignificantIgnored(String),
    /// Children of `simple_one_for_one` are only added while it runs.
    #[error("a simple_one_for_one supervisor starts without children; {0:?} must be added later")]
    SimpleWithChildren(String),
    /// A running supervisor cannot become, or cease to be, one whose children are all alike.
    #[error("simple_one_for_one: a supervisor that runs is, or is not, of this strategy for good")]
    SimpleForGood,
    /// More children than the policy allows.
    #[error("too many children: {count}, at most {max} (max_children)")]
    TooMany {
        /// How many there are.
        count: usize,
        /// The bound.
        max: u32,
    },
}

/// Checks child specs as OTP's `check_childspecs` does, and lists everything that is wrong.
///
/// # Errors
/// Every [`SpecError`], in the order of the children.
pub fn check_childspecs(
    policy: &SupervisorPolicy,
    children: &[ChildSpec],
) -> Result<(), Vec<SpecError>> {
    let mut errors = policy_errors(policy);
    let mut ids = BTreeSet::new();
    for (index, child) in children.iter().enumerate() {
        if child.id.is_empty() {
            errors.push(SpecError::MissingId(index));
        } else if !ids.insert(child.id.as_str()) {
            errors.push(SpecError::DuplicateId(child.id.clone()));
        }
        errors.extend(check_significance(
            policy.auto_shutdown,
            &child.id,
            child.terms(),
        ));
        if policy.strategy == Strategy::SimpleOneForOne {
            errors.push(SpecError::SimpleWithChildren(child.id.clone()));
        }
    }
    if children.len() > policy.max_children as usize {
        errors.push(SpecError::TooMany {
            count: children.len(),
            max: policy.max_children,
        });
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// What is wrong with the policy itself.
pub(crate) fn policy_errors(policy: &SupervisorPolicy) -> Vec<SpecError> {
    let errors = policy.check().err().unwrap_or_default();
    errors.into_iter().map(SpecError::Policy).collect()
}

/// Checks one child that is added to a running supervisor.
pub(crate) fn check_child(policy: &SupervisorPolicy, child: &ChildSpec) -> Option<SpecError> {
    if child.id.is_empty() {
        return Some(SpecError::MissingId(0));
    }
    check_significance(policy.auto_shutdown, &child.id, child.terms())
}

pub(crate) fn check_significance(auto: AutoShutdown, id: &str, terms: Terms) -> Option<SpecError> {
    match (terms.significant, terms.restart, auto) {
        (true, Restart::Permanent, _) => Some(SpecError::SignificantPermanent(id.to_owned())),
        (true, _, AutoShutdown::Never) => Some(SpecError::SignificantIgnored(id.to_owned())),
        _ => None,
    }
}
