//! What can go wrong with a supervisor: one closed set for each operation, as in OTP.

use actorsim_actors::{ActorRef, AskError, Fault};

use super::ChildState;
use crate::spec::SpecError;

/// The supervisor did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the supervisor did not answer: {0}")]
pub struct CallError(#[from] pub AskError);

/// Why `start_root` failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The child specs are wrong.
    #[error("invalid child specs: {}", list(.0))]
    Invalid(Vec<SpecError>),
    /// A child did not start; those before it are stopped again.
    #[error("failed_to_start_child {id:?}: {fault}")]
    FailedToStartChild {
        /// Which.
        id: String,
        /// Why.
        fault: Fault,
    },
    /// The supervisor itself did not start, or gave up before its children were up.
    #[error("the supervisor did not start: {0}")]
    Failed(Fault),
}

impl From<StartError> for Fault {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Invalid(_) => Self::with("invalid_child_spec", error),
            StartError::FailedToStartChild { id, fault } => {
                Self::with("failed_to_start_child", format_args!("{id}: {fault}"))
            }
            StartError::Failed(fault) => fault,
        }
    }
}

fn list(errors: &[SpecError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Why `start_child` failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StartChildError {
    /// A child with this id is down; restart or delete it.
    #[error("already_present: a child of this id is down; use restart_child or delete_child")]
    AlreadyPresent,
    /// A child with this id runs.
    #[error("already_started: {0:?}")]
    AlreadyStarted(ActorRef),
    /// A child with this id is about to start.
    #[error("already_started: a child of this id is being started")]
    Restarting,
    /// There is no spec of this id to start from.
    #[error("not_found: the supervisor was not made with a child of this id")]
    NotFound,
    /// The spec is wrong.
    #[error("invalid child spec: {0}")]
    Invalid(#[from] SpecError),
    /// The supervisor has as many children as it may have.
    #[error("too many children: at most {max} (max_children)")]
    TooMany {
        /// The bound.
        max: u32,
    },
    /// The child did not start; its spec is dropped.
    #[error("the child did not start: {0}")]
    Failed(Fault),
    /// The child declined to start ([`IGNORE`](crate::spec::IGNORE)).
    #[error("ignore: the child declined to start")]
    Ignored,
    /// The supervisor ends.
    #[error("the supervisor is stopping")]
    Stopping,
    /// The supervisor did not answer.
    #[error(transparent)]
    Unavailable(#[from] CallError),
}

/// Why `terminate_child` failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TerminateChildError {
    /// There is no such child.
    #[error("not_found: no child of this id")]
    NotFound,
    /// The supervisor did not answer.
    #[error(transparent)]
    Unavailable(#[from] CallError),
}

/// Why `restart_child` failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestartChildError {
    /// It runs.
    #[error("running: terminate it first")]
    Running,
    /// It is being restarted already.
    #[error("restarting")]
    Restarting,
    /// There is no such child.
    #[error("not_found: no child of this id")]
    NotFound,
    /// Children of a `simple_one_for_one` supervisor have no spec of their own.
    #[error("simple_one_for_one: start a new child instead")]
    SimpleOneForOne,
    /// It did not start; it stays down.
    #[error("the child did not start: {0}")]
    Failed(Fault),
    /// It declined to start ([`IGNORE`](crate::spec::IGNORE)).
    #[error("ignore: the child declined to start")]
    Ignored,
    /// The supervisor ends.
    #[error("the supervisor is stopping")]
    Stopping,
    /// The supervisor did not answer.
    #[error(transparent)]
    Unavailable(#[from] CallError),
}

/// Why `release_child` failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseChildError {
    /// It is not parked.
    #[error("not_quarantined: it is {}", word(*.0))]
    NotQuarantined(ChildState),
    /// There is no such child.
    #[error("not_found: no child of this id")]
    NotFound,
    /// It did not start; it stays down, no longer quarantined.
    #[error("the child did not start: {0}")]
    Failed(Fault),
    /// It declined to start ([`IGNORE`](crate::spec::IGNORE)); the same holds then.
    #[error("ignore: the child declined to start")]
    Ignored,
    /// The supervisor ends.
    #[error("the supervisor is stopping")]
    Stopping,
    /// The supervisor did not answer.
    #[error(transparent)]
    Unavailable(#[from] CallError),
}

fn word(state: ChildState) -> &'static str {
    match state {
        ChildState::Running => "running",
        ChildState::Restarting => "restarting",
        ChildState::Down => "down",
        ChildState::Quarantined => "quarantined",
    }
}

/// Why `delete_child` failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteChildError {
    /// It runs.
    #[error("running: terminate it first")]
    Running,
    /// It is being restarted.
    #[error("restarting: terminate it first")]
    Restarting,
    /// There is no such child.
    #[error("not_found: no child of this id")]
    NotFound,
    /// Children of a `simple_one_for_one` supervisor are forgotten when they end.
    #[error("simple_one_for_one: terminate the child instead")]
    SimpleOneForOne,
    /// The supervisor did not answer.
    #[error(transparent)]
    Unavailable(#[from] CallError),
}

/// Why `get_childspec` failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetChildspecError {
    /// There is no such child.
    #[error("not_found: no child of this id")]
    NotFound,
    /// The supervisor did not answer.
    #[error(transparent)]
    Unavailable(#[from] CallError),
}

/// Why a policy was not put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GovernError {
    /// It does not fit the children; everything that is wrong.
    #[error("invalid policy: {}", list(.0))]
    Invalid(Vec<SpecError>),
    /// It has not been started yet, or nobody starts it again.
    #[error("the supervisor is not there: not started yet, or gone for good")]
    Gone,
}
