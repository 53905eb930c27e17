//! The listeners of remote control: metrics, HTTP and gRPC, bound and ready to be served.
//!
//! Beyond loopback HTTP and gRPC speak mutual TLS with the node's identity; metrics are plain
//! everywhere, as they name no device. Bounds: [`METRICS`], [`CONTROL`].

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use actorsim_transport::{Identity, SITE_SERVER_NAME};
use parking_lot::Mutex;

use super::StartError;
use super::build::{address, config_error};
use super::control::FaceActor;
use crate::attach::control::ControlPlane;
use crate::config::NodeConfig;
use crate::config::node::Face as Asked;
use crate::metrics::Page;
use crate::remote::access::Access;
use crate::remote::desk::Desk;
use crate::remote::http::{Api, Http};
use crate::remote::serve::{Limits, Respond, Speaks};
use crate::remote::tls::Secure;
use crate::remote::token::Token;
use crate::view::NodeView;

/// Scrapers and probes.
const METRICS: Limits = Limits {
    connections_max: 32,
    strangers_max: 32,
};

/// Clients of the API; strangers are those who will have to show the token.
const CONTROL: Limits = Limits {
    connections_max: 64,
    strangers_max: 16,
};

/// A listener, as a child of `/control`.
pub(super) struct Face {
    pub(super) name: &'static str,
    pub(super) actor: FaceActor,
}

/// What the listeners show and act on.
pub(super) struct Behind {
    pub(super) view: Arc<dyn NodeView>,
    pub(super) plane: Arc<dyn ControlPlane>,
    pub(super) desk: Arc<dyn Desk>,
    pub(super) token: Token,
}

/// Binds the listeners that are asked for.
///
/// # Errors
/// An address that is in use or wrong, with its key.
pub(super) fn faces(
    config: &NodeConfig,
    identity: &Identity,
    behind: Behind,
) -> Result<Vec<Face>, StartError> {
    let mut faces = Vec::new();
    let access = |listen: &str, listener: &TcpListener, key| {
        let bound = listener.local_addr();
        let bound = bound.map_err(|error| config_error(key, error))?;
        let names = [config.name.as_str(), SITE_SERVER_NAME];
        Ok::<_, StartError>(Access::new(listen, bound, &names, behind.token.clone()))
    };
    if let Some(listen) = &config.metrics {
        const KEY: &str = "metrics.listen";
        let listener = bind(KEY, listen)?;
        let access = access(listen, &listener, KEY)?;
        let http = Http::new(access, Page::new(Arc::clone(&behind.view)), None);
        faces.push(face(
            "metrics",
            (listener, METRICS),
            Speaks::Http1,
            None,
            Arc::new(http),
        ));
    }
    let secure = |listener: &TcpListener, key, alpn: &'static [u8]| {
        let bound = listener.local_addr();
        let bound = bound.map_err(|error| config_error(key, error))?;
        let beyond = !bound.ip().is_loopback();
        let tls = beyond.then(|| Secure::new(identity, alpn)).transpose();
        tls.map_err(|error| config_error(key, error))
    };
    if let Some((asked, listener)) = open("http.listen", config.http.as_ref())? {
        const KEY: &str = "http.listen";
        let access = access(&asked.listen, &listener, KEY)?;
        let api = Api {
            desk: Arc::clone(&behind.desk),
            plane: Arc::clone(&behind.plane),
        };
        let http = Http::new(access, Page::new(Arc::clone(&behind.view)), Some(api));
        let tls = secure(&listener, KEY, b"http/1.1")?;
        faces.push(face(
            "http",
            (listener, CONTROL),
            Speaks::Http1,
            tls,
            Arc::new(http),
        ));
    }
    #[cfg(feature = "grpc")]
    if let Some((asked, listener)) = open("grpc.listen", config.grpc.as_ref())? {
        const KEY: &str = "grpc.listen";
        let access = access(&asked.listen, &listener, KEY)?;
        let grpc = crate::remote::grpc::Grpc::new(Arc::clone(&behind.desk), access);
        let tls = secure(&listener, KEY, b"h2")?;
        faces.push(face(
            "grpc",
            (listener, CONTROL),
            Speaks::Http2,
            tls,
            Arc::new(grpc),
        ));
    }
    Ok(faces)
}

fn face(
    name: &'static str,
    (listener, limits): (TcpListener, Limits),
    speaks: Speaks,
    tls: Option<Secure>,
    respond: Arc<dyn Respond>,
) -> Face {
    Face {
        name,
        actor: FaceActor {
            listener: Arc::new(Mutex::new(listener)),
            tls,
            speaks,
            limits,
            respond,
        },
    }
}

/// The listener of an address that may be a built-in one: then the node does without if it is in
/// use, as by another node of this machine.
fn open<'a>(
    key: &'static str,
    asked: Option<&'a Asked>,
) -> Result<Option<(&'a Asked, TcpListener)>, StartError> {
    let Some(asked) = asked else { return Ok(None) };
    match bind(key, &asked.listen) {
        Ok(listener) => Ok(Some((asked, listener))),
        Err(StartError::Listen { source, .. })
            if asked.built_in && source.kind() == io::ErrorKind::AddrInUse =>
        {
            tracing::warn!(
                "{} is in use, so this node does not listen there; {key} names another address, \
                 --port-offset N moves every default port",
                asked.listen
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn bind(key: &'static str, listen: &str) -> Result<TcpListener, StartError> {
    let address = address(key, listen)?;
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|source| StartError::Listen {
        key,
        address: listen.to_owned(),
        source,
    })
}
