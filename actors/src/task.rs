//! The task host: actors that await, each a `ractor` actor on tokio that drains our mailbox.
//!
//! ractor gives the loop and orders its ports right (kill before stop before message); mailbox,
//! exit reason and supervision are ours. One coalesced wake-up is in ractor's queue at most: the
//! actor drains up to [`DRAIN_BUDGET`] messages, then wakes itself again, so that stop and kill get
//! in between.
//!
//! It does not restart anything. Bound: a mailbox per actor; pumps are bounded by who opens them
//! (streams by QUIC's limit, commands by the in-flight cap).

mod context;
mod host;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

pub use context::TaskContext;
use host::{Life, Wake};

use crate::exit::{ExitReason, Fault, Flow, Incarnation};
use crate::mailbox::Message;
use crate::path::ActorPath;

/// Messages handled per wake-up before the host looks at its control ports again.
pub const DRAIN_BUDGET: u32 = 64;

/// An actor that may await.
///
/// A new value is made for each incarnation. A handler that returns a [`Fault`] or panics ends the
/// incarnation; so does a pump that fails.
pub trait TaskActor: Send + Sized + 'static {
    /// What it is sent.
    type Msg: Message;

    /// Runs before the first message; a fault here is a failed start.
    fn started(
        &mut self,
        cx: &mut TaskContext<Self::Msg>,
    ) -> impl Future<Output = Result<(), Fault>> + Send {
        let _ = cx;
        async { Ok(()) }
    }

    /// Handles one message.
    fn handle(
        &mut self,
        message: Self::Msg,
        cx: &mut TaskContext<Self::Msg>,
    ) -> impl Future<Output = Result<Flow, Fault>> + Send;

    /// Runs on an ordered stop, never on a kill or a fault.
    fn stopping(&mut self, cx: &mut TaskContext<Self::Msg>) -> impl Future<Output = ()> + Send {
        let _ = cx;
        async {}
    }
}

/// How a handler breaks on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Breakage {
    /// It panics.
    Panic = 1,
    /// It returns a fault, `injected_failure`.
    Fault = 2,
}

/// One incarnation of a task actor, whatever its message type.
#[derive(Clone)]
pub struct ActorRef {
    path: ActorPath,
    incarnation: Incarnation,
    cell: ractor::ActorCell,
    life: Arc<Life>,
}

impl fmt::Debug for ActorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorRef({}#{})", self.path, self.incarnation)
    }
}

impl ActorRef {
    /// The actor.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        &self.path
    }

    /// Which life of it.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Asks for an ordered stop after the message in hand; the exit reason is `Shutdown`.
    pub fn stop(&self) {
        self.life.request_stop();
        self.cell.stop(None);
    }

    /// Ends it at its next await point, without `stopping`; the exit reason is `Killed`.
    pub fn kill(&self) {
        self.life.end_with(ExitReason::Killed);
        self.cell.kill();
    }

    /// Lets its next handler break instead of doing its work, at once if it has nothing to do: it
    /// ends as by a defect of its own, and the message in hand with it.
    pub fn break_with(&self, how: Breakage) {
        self.life.break_with(how);
        drop(self.cell.send_message(Wake)); // an error is that it has ended
    }

    /// Waits until the incarnation has ended and everything it owned is dropped.
    pub async fn exited(&self) {
        self.life.exited().await;
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        self.life.has_exited()
    }
}
