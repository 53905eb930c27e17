//! TLS beyond loopback: mutual, with the certificates of the site, for as long as they are good.
//!
//! Who may speak for some devices only, or whose certificate does not say, controls no
//! node. Bound: TLS 1.3, no tickets.

use std::convert::Infallible;
use std::sync::Arc;

use actorsim_actors::System;
use actorsim_transport::certs::glob::device_glob;
use actorsim_transport::certs::tls::stream_server;
use actorsim_transport::trust::{self, REVOCATION_LOOK};
use actorsim_transport::{CertError, Identity};
use rustls_pki_types::CertificateDer;
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
        let revoked = self.identity.revocations();
        let config = stream_server(&self.identity, &[self.alpn], &revoked)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Waits until the certificate that the peer has shown is taken back.
    pub(super) async fn revoked(&self, shown: Option<CertificateDer<'static>>) {
        let named = || {
            let list = self.identity.revocations();
            shown.as_ref().is_some_and(|shown| list.names(shown))
        };
        while !named() {
            tokio::time::sleep(REVOCATION_LOOK).await;
        }
    }

    /// Says why a list of revoked certificates does not count.
    pub async fn watch(&self, system: &System) -> Infallible {
        loop {
            trust::list(&self.identity, system);
            tokio::time::sleep(REVOCATION_LOOK).await;
        }
    }
}

/// The certificate that the peer has shown.
pub(super) fn shown(stream: &TlsStream<TcpStream>) -> Option<CertificateDer<'static>> {
    let chain = stream.get_ref().1.peer_certificates()?;
    Some(chain.first()?.clone().into_owned())
}

/// Whose certificate the peer has shown.
pub(super) fn peer(stream: &TlsStream<TcpStream>) -> Peer {
    match shown(stream).and_then(|own| device_glob(&own)) {
        Some(glob) if glob == "*" => Peer::Site,
        _ => Peer::Stranger,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use actorsim_transport::certs::stream::{certified, roots, stream_client};
    use actorsim_transport::{SITE_SERVER_NAME, Site};
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;
    use hyper::body::Incoming;
    use hyper::{Request, Response};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::remote::serve::{Body, Limits, Respond, Served, Speaks, serve};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Answers nothing, for ever; counts what it is asked.
    struct Silent(watch::Sender<u32>);

    impl Respond for Silent {
        fn respond(
            self: Arc<Self>,
            _: Request<Incoming>,
            _: Peer,
        ) -> BoxFuture<'static, Response<Body>> {
            self.0.send_modify(|asked| *asked += 1);
            std::future::pending().boxed()
        }
    }

    /// A request that is under way, with the certificate in a directory; then how it ends.
    async fn ask(dir: &Path, at: std::net::SocketAddr) -> std::io::Result<usize> {
        let file = |name: &str| dir.join(name);
        let own = certified(&file("node.pem"), &file("node.key")).unwrap();
        let config = stream_client(roots(&file("ca.pem")).unwrap(), Some(own)).unwrap();
        let name = SITE_SERVER_NAME.try_into().unwrap();
        let stream = TcpStream::connect(at).await.unwrap();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let mut stream = connecting.await?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await?;
        stream.read(&mut [0]).await
    }

    #[tokio::test]
    async fn an_open_connection_ends_when_its_certificate_is_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let site = Site::open_or_create(&at("site")).unwrap();
        let node = site.identity("node", "*", &at("node")).unwrap();
        for name in ["kept", "revoked"] {
            site.issue(name, "*", &at(name)).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bound = listener.local_addr().unwrap();
        let (asked, mut heard) = watch::channel(0);
        let serving = serve(Served {
            listener,
            tls: Some(Secure::new(&node, b"http/1.1").unwrap()),
            speaks: Speaks::Http1,
            limits: Limits {
                connections_max: 8,
                strangers_max: 8,
            },
            respond: Arc::new(Silent(asked)),
        });
        let (kept, revoked) = (at("kept"), at("revoked"));
        let asking = async {
            tokio::select! {
                biased;
                ended = ask(&kept, bound) => panic!("the other one ended: {ended:?}"),
                ended = ask(&revoked, bound) => ended,
            }
        };
        let revoking = async {
            heard.wait_for(|asked| *asked == 2).await.unwrap();
            site.revoke(&at("revoked"), &[at("node")]).unwrap();
        };
        let both = async { tokio::join!(asking, revoking).0 };
        let ended = tokio::select! {
            biased;
            () = serving => panic!("it serves until it is dropped"),
            ended = tokio::time::timeout(PATIENCE, both) => ended.expect("it went on"),
        };
        assert!(!matches!(ended, Ok(1..)), "no answer: {ended:?}");
    }
}
