//! What a program holds of a supervisor: requests with an answer, and the ordered stop.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{
    ActorPath, ActorRef, Addr, AskError, ExitReason, Incarnation, Reply, SendError,
};
use serde::Serialize;

use super::{
    CallError, DeleteChildError, GetChildspecError, GovernError, ReleaseChildError, Request,
    RestartChildError, Seat, StartChildError, SupervisorMessage, TerminateChildError,
};
use crate::governance::{Governance, Governed, Labels};
use crate::policy::Restart;
use crate::report::Supervision;
use crate::spec::{ChildSpec, Kind};
use crate::strategy::Decision;

/// How long a question may take: the supervisor only reads its table.
pub const QUERY_DEADLINE: Duration = Duration::from_secs(5);
/// How long a start or an end of a child may take; each has a tighter bound of its own.
pub const CHANGE_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// Where a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildState {
    /// It runs.
    Running,
    /// It is starting, or waits for its start.
    Restarting,
    /// It ended without a restart, or was terminated.
    Down,
    /// It is parked: it used up its intensity.
    Quarantined,
}

/// One line of `which_children`.
#[derive(Debug, Clone, Serialize)]
pub struct ChildInfo {
    /// Its id.
    pub id: String,
    /// Where it is found, if its spec says.
    pub path: Option<ActorPath>,
    /// Where it is.
    pub state: ChildState,
    /// Worker or supervisor.
    pub kind: Kind,
    /// Its restart type.
    pub restart: Restart,
    /// The incarnation that runs or ran last.
    pub incarnation: Option<Incarnation>,
    /// Failures in a row.
    pub failures: u32,
}

/// OTP's `count_children`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Children, dead or alive.
    pub specs: u32,
    /// Children that run.
    pub active: u32,
    /// Children that are supervisors.
    pub supervisors: u32,
    /// Children that are workers.
    pub workers: u32,
}

/// What would happen if a child ended now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// What would be done.
    pub decision: Decision,
    /// Siblings that would be stopped, in this order.
    pub stop: Vec<String>,
    /// Children that would be started, in this order.
    pub start: Vec<String>,
    /// The wait before the first start.
    pub delay: Duration,
}

/// A supervisor, whichever incarnation of it lives.
#[derive(Debug, Clone)]
pub struct SupervisorRef {
    addr: Addr<SupervisorMessage>,
    seat: Arc<Seat>,
}

impl SupervisorRef {
    pub(crate) fn new(addr: Addr<SupervisorMessage>, seat: Arc<Seat>) -> Self {
        Self { addr, seat }
    }

    /// Where it is found.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        self.addr.path()
    }

    /// The incarnation that lives.
    #[must_use]
    pub fn actor(&self) -> Option<ActorRef> {
        self.seat.actor()
    }

    /// The counters of the tree it belongs to.
    #[must_use]
    pub fn supervision(&self) -> Arc<Supervision> {
        self.seat.supervision()
    }

    /// Asks and waits for the answer; a supervisor that is down is waited for as long as a query.
    async fn call<R: Send>(
        &self,
        request: impl FnOnce(Reply<R>) -> Request,
        deadline: Duration,
    ) -> Result<R, CallError> {
        let (reply, answer) = Reply::channel();
        let sent = self
            .addr
            .send(SupervisorMessage(request(reply)), QUERY_DEADLINE)
            .await;
        sent.map_err(|refused| match refused {
            SendError::Full(_) => AskError::Full,
            SendError::Closed(_) => AskError::Closed,
            SendError::Timeout(_) if !self.addr.is_up() => AskError::Restarting,
            _ => AskError::Timeout,
        })?;
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(CallError(AskError::Canceled)),
            Err(_) => Err(CallError(AskError::Timeout)),
        }
    }

    /// Adds a child after all others and starts it; answers when it is up. A group restart that
    /// cuts its start short makes another, and that one counts.
    ///
    /// # Errors
    /// [`StartChildError`]; the spec of a child that did not start is dropped, but for one that
    /// declined and is not temporary, as in OTP.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<ActorRef, StartChildError> {
        self.call(
            |reply| Request::Start(Box::new(spec), reply),
            CHANGE_DEADLINE,
        )
        .await?
    }

    /// Stops a child within its shutdown time; answers when it is gone. It stays down; a temporary
    /// one is forgotten, and one that was added and is not up yet. A child that is down already is
    /// no error.
    ///
    /// # Errors
    /// [`TerminateChildError`].
    pub async fn terminate_child(&self, id: &str) -> Result<(), TerminateChildError> {
        self.call(
            |reply| Request::Terminate(id.to_owned(), reply),
            CHANGE_DEADLINE,
        )
        .await?
    }

    /// Starts a child that is down or quarantined; answers when it is up.
    ///
    /// # Errors
    /// [`RestartChildError`].
    pub async fn restart_child(&self, id: &str) -> Result<ActorRef, RestartChildError> {
        self.call(
            |reply| Request::Restart(id.to_owned(), reply),
            CHANGE_DEADLINE,
        )
        .await?
    }

    /// Brings a quarantined child back; its failures are forgotten. Answers when it is up.
    ///
    /// # Errors
    /// [`ReleaseChildError`].
    pub async fn release_child(&self, id: &str) -> Result<ActorRef, ReleaseChildError> {
        self.call(
            |reply| Request::Release(id.to_owned(), reply),
            CHANGE_DEADLINE,
        )
        .await?
    }

    /// Forgets a child that is down.
    ///
    /// # Errors
    /// [`DeleteChildError`].
    pub async fn delete_child(&self, id: &str) -> Result<(), DeleteChildError> {
        self.call(
            |reply| Request::Delete(id.to_owned(), reply),
            QUERY_DEADLINE,
        )
        .await?
    }

    /// All children in start order.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn which_children(&self) -> Result<Vec<ChildInfo>, CallError> {
        self.call(Request::Which, QUERY_DEADLINE).await
    }

    /// How many children there are.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn count_children(&self) -> Result<Counts, CallError> {
        self.call(Request::Count, QUERY_DEADLINE).await
    }

    /// The spec of a child. A temporary one's start function is gone once it has started.
    ///
    /// # Errors
    /// [`GetChildspecError`].
    pub async fn get_childspec(&self, id: &str) -> Result<ChildSpec, GetChildspecError> {
        self.call(
            |reply| Request::GetSpec(id.to_owned(), reply),
            QUERY_DEADLINE,
        )
        .await?
    }

    /// What would happen if the child ended now for this reason; none if there is no such child.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn preview(
        &self,
        id: &str,
        reason: ExitReason,
    ) -> Result<Option<Preview>, CallError> {
        self.call(
            |reply| Request::Preview(id.to_owned(), reason, reply),
            QUERY_DEADLINE,
        )
        .await
    }

    /// Starts a child anew that the supervisor was made with and that was deleted since; it comes
    /// after all others. Answers when it is up.
    ///
    /// # Errors
    /// [`StartChildError`].
    pub async fn start_first_child(&self, id: &str) -> Result<ActorRef, StartChildError> {
        self.call(
            |reply| Request::StartFirst(id.to_owned(), reply),
            CHANGE_DEADLINE,
        )
        .await?
    }

    /// What is in force, or will be when it lives again: the policy, and what is said of children.
    /// None if it has not been started yet, or is gone for good.
    #[must_use]
    pub fn policy(&self) -> Option<Governance> {
        self.seat.governance()
    }

    /// Children with a spec, dead or alive; without a message, so also of one that takes none.
    #[must_use]
    pub fn children(&self) -> usize {
        self.seat.children()
    }

    /// Puts another policy in force, for this incarnation and those after it, or says with
    /// `dry_run` what that would change. It is no message: it holds when this returns, whatever the
    /// supervisor is at and whether it lives. Restarts and stops that are under way keep to the old
    /// one; a strategy that the program needs stays.
    ///
    /// # Errors
    /// [`GovernError`]; nothing has changed then.
    pub fn govern(&self, by: Governance, dry_run: bool) -> Result<Governed, GovernError> {
        self.seat.govern(by, dry_run)
    }

    /// Its labels, for policies.
    #[must_use]
    pub fn labels(&self) -> Labels {
        self.seat.labels()
    }

    /// Stops it in order, children in reverse start order, and waits until all are gone. A
    /// permanent child of another supervisor is started again by that one.
    pub async fn stop(&self) {
        let exited = self.seat.exited();
        if let Some(actor) = self.seat.actor() {
            actor.stop();
            exited.await;
        }
    }

    /// Waits until the incarnation that lives now, and every child of it, is gone; returns why.
    /// `Shutdown` if none lives.
    pub async fn exited(&self) -> ExitReason {
        self.seat.exited().await
    }
}
