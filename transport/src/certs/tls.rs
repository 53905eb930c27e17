//! TLS for QUIC: mutual beyond loopback, TLS 1.3 only, nothing sent before the handshake is done.
//!
//! Session tickets are off on both sides, so that each connection shows its certificate anew and no
//! 0-RTT data exists. It opens no socket.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::RootCertStore;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientCertVerifierBuilder, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls_pki_types::CertificateDer;

use super::{CertError, Identity, Revocations};

/// The guide's protocol as it stands.
pub const ALPN_DT1: &[u8] = b"dt/1";
/// Ours.
pub const ALPN_ACTORSIM1: &[u8] = b"actorsim/1";
/// Ours, of a link that takes commands over a connection of their own where there is one.
pub const ALPN_ACTORSIM1_COMMANDS: &[u8] = b"actorsim/1+commands";
/// That connection.
pub const ALPN_COMMANDS: &[u8] = b"actorsim-commands/1";

/// What a listener asks of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// A certificate of the site, from everybody.
    Required,
    /// A client may come without a certificate; one that shows a foreign one is refused.
    Optional,
}

/// The cryptography: ring, chosen here so that no process-wide default is needed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn tls(error: impl std::fmt::Display) -> CertError {
    CertError::Tls(error.to_string())
}

/// The server side of a listener. An empty `alpn` serves clients that offer none.
///
/// # Errors
/// [`CertError::Tls`].
pub fn server_crypto(
    identity: &Identity,
    alpn: &[&[u8]],
    clients: ClientAuth,
    revoked: &Revocations,
) -> Result<QuicServerConfig, CertError> {
    QuicServerConfig::try_from(server(identity, alpn, clients, revoked)?).map_err(tls)
}

/// The server side of a TCP connection: a certificate of the site, from everybody.
///
/// # Errors
/// [`CertError::Tls`].
pub fn stream_server(
    identity: &Identity,
    alpn: &[&[u8]],
    revoked: &Revocations,
) -> Result<rustls::ServerConfig, CertError> {
    server(identity, alpn, ClientAuth::Required, revoked)
}

/// Judges the certificates of clients.
pub(super) fn client_verifier(
    roots: &Arc<RootCertStore>,
    revoked: &Revocations,
) -> ClientCertVerifierBuilder {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider())
        .with_crls(revoked.lists())
        .only_check_end_entity_revocation()
}

fn server(
    identity: &Identity,
    alpn: &[&[u8]],
    clients: ClientAuth,
    revoked: &Revocations,
) -> Result<rustls::ServerConfig, CertError> {
    let verifier = client_verifier(&identity.roots(), revoked);
    let verifier = match clients {
        ClientAuth::Required => verifier,
        ClientAuth::Optional => verifier.allow_unauthenticated(),
    };
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(tls)?
        .with_client_cert_verifier(verifier.build().map_err(tls)?)
        .with_single_cert(identity.chain().to_vec(), identity.private_key())
        .map_err(tls)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The client side of a link, which offers the protocols `alpn`.
///
/// # Errors
/// [`CertError::Tls`].
pub fn client_crypto(
    identity: &Identity,
    alpn: &[&[u8]],
    revoked: &Revocations,
) -> Result<QuicClientConfig, CertError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(identity.roots(), provider())
        .with_crls(revoked.lists())
        .only_check_end_entity_revocation();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(tls)?
        .with_webpki_verifier(verifier.build().map_err(tls)?)
        .with_client_auth_cert(identity.chain().to_vec(), identity.private_key())
        .map_err(tls)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    QuicClientConfig::try_from(config).map_err(tls)
}

/// The certificate a peer showed in its handshake, if it showed one.
#[must_use]
pub fn peer_certificate(connection: &quinn::Connection) -> Option<CertificateDer<'static>> {
    let chain = connection
        .peer_identity()?
        .downcast::<Vec<CertificateDer<'static>>>()
        .ok()?;
    chain.into_iter().next()
}

/// The protocol a connection agreed on; `None` without ALPN.
#[must_use]
pub fn agreed_alpn(connection: &quinn::Connection) -> Option<Vec<u8>> {
    let data = connection.handshake_data()?;
    data.downcast::<quinn::crypto::rustls::HandshakeData>()
        .ok()?
        .protocol
}
