//! What a task actor's handlers see of their host.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;

use super::host::Life;
use crate::addr::Addr;
use crate::clock::Clock;
use crate::exit::{ExitReason, Fault, Incarnation};
use crate::path::ActorPath;
use crate::system::System;

/// The host's face to one incarnation.
pub struct TaskContext<M> {
    addr: Addr<M>,
    incarnation: Incarnation,
    system: System,
    cell: ractor::ActorCell,
    life: Arc<Life>,
}

impl<M> fmt::Debug for TaskContext<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskContext({:?}#{})", self.addr, self.incarnation)
    }
}

impl<M: crate::mailbox::Message> TaskContext<M> {
    pub(super) fn new(
        addr: Addr<M>,
        incarnation: Incarnation,
        system: System,
        cell: ractor::ActorCell,
        life: Arc<Life>,
    ) -> Self {
        Self {
            addr,
            incarnation,
            system,
            cell,
            life,
        }
    }

    /// The actor's path.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        self.addr.path()
    }

    /// Which life this is.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The actor's own address.
    #[must_use]
    pub fn addr(&self) -> &Addr<M> {
        &self.addr
    }

    /// The node's time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        self.system.clock()
    }

    /// The node.
    #[must_use]
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Runs a future beside the handlers, tied to this incarnation: it is aborted, and waited for,
    /// when the incarnation ends. If it returns a fault or panics, the actor ends with that fault;
    /// `Ok` ends the pump alone. Use it to read sockets.
    pub fn pump(&self, work: impl Future<Output = Result<(), Fault>> + Send + 'static) {
        let life = Arc::clone(&self.life);
        let cell = self.cell.clone();
        let (system, path) = (self.system.clone(), self.path().clone());
        let task = async move {
            let work = AssertUnwindSafe(work).catch_unwind();
            let fault = match system.hindrances().run(&path, work).await {
                Ok(Ok(())) => return,
                Ok(Err(fault)) => fault,
                Err(payload) => Fault::from_panic(&*payload),
            };
            life.end_with(ExitReason::Fault(fault));
            cell.kill();
        };
        self.life.add_pump(self.system.handle().spawn(task));
    }
}
