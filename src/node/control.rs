//! The `/control` subtree: attach server and metrics endpoint as actors of the control runtime.
//!
//! They start first and stop last, on a runtime of their own, so that a busy node can still be
//! looked into. Bound: see [`crate::attach::server`] and [`crate::metrics`].

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use actorsim_actors::{
    ActorPath, Addr, Fault, Flow, MailboxSpec, Message, Overflow, TaskActor, TaskContext,
};
use actorsim_supervision::{ChildSpec, Policies, SupervisorSpec};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::StartError;

use crate::attach::control::ControlPlane;
use crate::attach::server::{self, Limits};
use crate::metrics;
use crate::view::NodeView;

/// Mailbox of an actor without messages: the smallest there is.
const NO_MESSAGES: MailboxSpec = MailboxSpec::new(1, Overflow::Reject);

/// What the subtree is made of.
pub struct Control {
    /// The control runtime.
    pub runtime: Handle,
    /// Socket to bind.
    pub socket: PathBuf,
    /// Who answers.
    pub plane: Arc<dyn ControlPlane>,
    /// Limits of the attach server.
    pub limits: Limits,
    /// The bound metrics listener, from [`bind_metrics`]; `None` when metrics are off.
    pub metrics: Option<TcpListener>,
    /// What the metrics endpoint shows.
    pub view: Arc<dyn NodeView>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl Control {
    /// The subtree `/control`.
    #[must_use]
    pub fn child(self, policies: &Policies) -> ChildSpec {
        let root = ActorPath::root().join("control");
        let mut tree = SupervisorSpec::new(root.clone(), policies.for_path(&root));
        let attach = Addr::new(root.join("attach"), NO_MESSAGES);
        let (socket, plane, limits) = (self.socket, self.plane, self.limits);
        let child = ChildSpec::task("attach", &attach, move || AttachActor {
            socket: socket.clone(),
            plane: Arc::clone(&plane),
            limits,
        });
        tree = tree.child(on_runtime(child, &self.runtime));
        if let Some(listener) = self.metrics {
            let metrics = Addr::new(root.join("metrics"), NO_MESSAGES);
            let actor = MetricsActor {
                listener: Arc::new(Mutex::new(listener)),
                view: self.view,
            };
            let child = ChildSpec::task("metrics", &metrics, move || actor.clone());
            tree = tree.child(on_runtime(child, &self.runtime));
        }
        on_runtime(
            ChildSpec::supervisor("control", tree.configured(policies)),
            &self.runtime,
        )
    }
}

/// The same child, started on another runtime.
fn on_runtime(mut child: ChildSpec, runtime: &Handle) -> ChildSpec {
    let (start, runtime) = (Arc::clone(&child.start), runtime.clone());
    child.start = Arc::new(move |mut cx| {
        cx.system = cx.system.on_runtime(runtime.clone());
        start(cx)
    });
    child
}

/// Binds the metrics endpoint.
///
/// # Errors
/// [`StartError::Listen`] if the port is in use.
pub fn bind_metrics(address: &str) -> Result<TcpListener, StartError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|source| StartError::Listen {
        key: "metrics.listen",
        address: address.to_owned(),
        source,
    })
}

/// Control actors take no messages.
#[derive(Debug)]
pub enum Nothing {}

impl Message for Nothing {}

/// The attach server.
pub struct AttachActor {
    /// Socket to bind.
    pub socket: PathBuf,
    /// Who answers.
    pub plane: Arc<dyn ControlPlane>,
    /// Its limits.
    pub limits: Limits,
}

impl std::fmt::Debug for AttachActor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttachActor")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl TaskActor for AttachActor {
    type Msg = Nothing;

    async fn started(&mut self, cx: &mut TaskContext<Nothing>) -> Result<(), Fault> {
        let listener =
            server::bind(&self.socket).map_err(|error| Fault::with("bind_failed", error))?;
        let (plane, limits) = (Arc::clone(&self.plane), self.limits);
        cx.pump(async move {
            server::serve(listener, plane, limits).await;
            Ok(())
        });
        Ok(())
    }

    async fn handle(&mut self, msg: Nothing, _: &mut TaskContext<Nothing>) -> Result<Flow, Fault> {
        match msg {}
    }
}

/// The metrics endpoint. Its listener is bound once by the node, so that a port in use is refused
/// at start, and shared by all incarnations.
#[derive(Clone)]
pub struct MetricsActor {
    /// The bound listener; each incarnation serves a clone of it.
    pub listener: Arc<Mutex<TcpListener>>,
    /// What is shown.
    pub view: Arc<dyn NodeView>,
}

impl std::fmt::Debug for MetricsActor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsActor")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl TaskActor for MetricsActor {
    type Msg = Nothing;

    async fn started(&mut self, cx: &mut TaskContext<Nothing>) -> Result<(), Fault> {
        let listener = self
            .listener
            .lock()
            .try_clone()
            .and_then(tokio::net::TcpListener::from_std)
            .map_err(|error| Fault::with("bind_failed", error))?;
        let view = Arc::clone(&self.view);
        cx.pump(async move {
            let served = metrics::serve(listener, view).await;
            served.map_err(|error| Fault::with("http_failed", error))
        });
        Ok(())
    }

    async fn handle(&mut self, msg: Nothing, _: &mut TaskContext<Nothing>) -> Result<Flow, Fault> {
        match msg {}
    }
}
