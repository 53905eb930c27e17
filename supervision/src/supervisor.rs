//! Supervisors of task actors: a [`TaskActor`] with an ordered table of children.
//!
//! - `core`: the children's life as a pure state machine.
//! - `table`: the shell around it: carries out starts, stops and answers; lives outside the actor,
//!   so that a killed supervisor's children are still taken in order.
//! - `children`: their specs, and the answers to requests.
//! - `policy`: what governs a supervisor, whether it lives or not, and changes of it.
//! - `seats`: the supervisors of a tree, by path.
//! - `start`: how a supervisor starts, and what happens when it ends in whatever way.
//! - [`mod@reference`], [`errors`]: what a program calls, with OTP's closed error sets.
//!
//! A supervisor's own exit is reported to its parent after its children are gone: in reverse start
//! order, each within its shutdown time. It does not handle messages of its children and never
//! blocks on one: it keeps answering while children start and stop.
//!
//! Bound: `max_children` children; [`REQUESTS_MAX`](crate::spec::REQUESTS_MAX) waiting requests;
//! one start result and one exit in flight for each child.

mod children;
pub(crate) mod core;
pub mod errors;
mod policy;
pub mod reference;
mod seats;
mod start;
mod table;

use std::sync::Arc;

use actorsim_actors::{ActorRef, ExitReason, Fault, Flow, Message, Reply, TaskActor, TaskContext};

pub use errors::{
    CallError, DeleteChildError, GetChildspecError, GovernError, ReleaseChildError,
    RestartChildError, StartChildError, StartError, TerminateChildError,
};
pub use reference::{ChildInfo, ChildState, Counts, Preview, SupervisorRef};
pub(crate) use seats::Seats;
pub use start::start_root;
pub(crate) use start::{Cancel, Seat, start};
use table::Table;

use crate::spec::ChildSpec;

/// A request to a supervisor; made by [`SupervisorRef`].
#[derive(Debug)]
pub struct SupervisorMessage(pub(crate) Request);

#[derive(Debug)]
pub(crate) enum Request {
    Start(Box<ChildSpec>, Reply<Result<ActorRef, StartChildError>>),
    Terminate(String, Reply<Result<(), TerminateChildError>>),
    Restart(String, Reply<Result<ActorRef, RestartChildError>>),
    Release(String, Reply<Result<ActorRef, ReleaseChildError>>),
    Delete(String, Reply<Result<(), DeleteChildError>>),
    Which(Reply<Vec<ChildInfo>>),
    Count(Reply<Counts>),
    GetSpec(String, Reply<Result<ChildSpec, GetChildspecError>>),
    Preview(String, ExitReason, Reply<Option<Preview>>),
    /// Starts one of the first children again that was deleted.
    StartFirst(String, Reply<Result<ActorRef, StartChildError>>),
    /// The supervisor ends by itself: its children are gone.
    Finish,
}

impl Message for SupervisorMessage {
    fn kind(&self) -> &'static str {
        match self.0 {
            Request::Start(..) => "start_child",
            Request::Terminate(..) => "terminate_child",
            Request::Restart(..) => "restart_child",
            Request::Release(..) => "release_child",
            Request::Delete(..) => "delete_child",
            Request::Which(..) => "which_children",
            Request::Count(..) => "count_children",
            Request::GetSpec(..) => "get_childspec",
            Request::Preview(..) => "preview",
            Request::StartFirst(..) => "start_child",
            Request::Finish => "finish",
        }
    }
}

/// The actor: requests go to the table, its pump drives the table.
struct SupervisorActor {
    table: Arc<Table>,
}

impl TaskActor for SupervisorActor {
    type Msg = SupervisorMessage;

    async fn started(&mut self, cx: &mut TaskContext<SupervisorMessage>) -> Result<(), Fault> {
        let (table, addr) = (Arc::clone(&self.table), cx.addr().clone());
        cx.pump(async move {
            table.drive().await;
            if table.ends_by_itself() {
                let finish = addr.try_send_control(SupervisorMessage(Request::Finish));
                finish.map_err(|_| Fault::new("supervisor_ended"))?;
            }
            Ok(())
        });
        Ok(())
    }

    async fn handle(
        &mut self,
        SupervisorMessage(request): SupervisorMessage,
        _: &mut TaskContext<SupervisorMessage>,
    ) -> Result<Flow, Fault> {
        if matches!(request, Request::Finish) {
            return Ok(Flow::Stop);
        }
        self.table.request(request);
        Ok(Flow::Continue)
    }

    async fn stopping(&mut self, _: &mut TaskContext<SupervisorMessage>) {
        self.table.end();
        self.table.drive().await;
    }
}
