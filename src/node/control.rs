//! The actors of `/control`: attach server and the listeners of remote control, as actors of the
//! control runtime.
//!
//! They start first and stop last, on a runtime of their own, so that a busy node can still be
//! looked into. Bound: see [`crate::attach::server`] and [`crate::remote::serve`].

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use actorsim_actors::{Fault, Flow, Message, TaskActor, TaskContext};
use parking_lot::Mutex;

use crate::attach::control::ControlPlane;
use crate::attach::server::{self, Limits};
use crate::remote::serve::{self, Respond, Served, Speaks};
use crate::remote::tls::Secure;

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

/// A listener of remote control: REST, metrics or gRPC. It is bound once by the node, so that a
/// port in use is refused at start, and shared by all incarnations.
#[derive(Clone)]
pub struct FaceActor {
    /// The bound listener; each incarnation serves a clone of it.
    pub listener: Arc<Mutex<TcpListener>>,
    /// Beyond loopback.
    pub tls: Option<Secure>,
    /// Its protocol.
    pub speaks: Speaks,
    /// Its bounds.
    pub limits: serve::Limits,
    /// Who answers.
    pub respond: Arc<dyn Respond>,
}

impl std::fmt::Debug for FaceActor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaceActor")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl TaskActor for FaceActor {
    type Msg = Nothing;

    async fn started(&mut self, cx: &mut TaskContext<Nothing>) -> Result<(), Fault> {
        let listener = self
            .listener
            .lock()
            .try_clone()
            .and_then(tokio::net::TcpListener::from_std)
            .map_err(|error| Fault::with("bind_failed", error))?;
        let served = Served {
            listener,
            tls: self.tls.clone(),
            speaks: self.speaks,
            limits: self.limits,
            respond: Arc::clone(&self.respond),
        };
        if let Some(tls) = self.tls.clone() {
            let system = cx.system().clone();
            cx.pump(async move { match tls.watch(&system).await {} });
        }
        cx.pump(async move {
            serve::serve(served).await;
            Ok(())
        });
        Ok(())
    }

    async fn handle(&mut self, msg: Nothing, _: &mut TaskContext<Nothing>) -> Result<Flow, Fault> {
        match msg {}
    }
}
