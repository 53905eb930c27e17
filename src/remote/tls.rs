//! TLS beyond loopback: mutual, with the certificates of the site.
//!
//! Who may speak for some devices only, or whose certificate does not say, controls no
//! node. Bound: TLS 1.3, no tickets.

use std::sync::Arc;

use actorsim_transport::certs::glob::device_glob;
use actorsim_transport::certs::tls::stream_server;
use actorsim_transport::{CertError, Identity};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::peer::Peer;

/// The server side of a listener, for peers with a certificate of the site.
#[derive(Debug, Clone)]
pub struct Secure {
    identity: Identity,
    alpn: &'static [u8],
}

impl Secure {
    /// With a node's identity.
    ///
    /// # Errors
    /// [`CertError`], if no handshake could be made now.
    pub fn new(identity: &Identity, alpn: &'static [u8]) -> Result<Self, CertError> {
        let secure = Self {
            identity: identity.clone(),
            alpn,
        };
        secure.acceptor().map(|_| secure)
    }

    /// For one connection: what was revoked meanwhile is refused.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, CertError> {
        let revoked = self.identity.revocations()?;
        let config = stream_server(&self.identity, &[self.alpn], &revoked)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Whose certificate the peer has shown.
pub(super) fn peer(stream: &TlsStream<TcpStream>) -> Peer {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    match chain.first().and_then(|own| device_glob(own)) {
        Some(glob) if glob == "*" => Peer::Site,
        _ => Peer::Stranger,
    }
}
