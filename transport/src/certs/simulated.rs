//! The identity of simulated nodes: made in memory from fixed keys, so that a handshake has the
//! same size in each run. It protects nothing and is accepted nowhere else.

use std::sync::Arc;

use rcgen::Issuer;
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;

use super::device::ed25519;
use super::site::{authority_params, node_params};
use super::{CertError, Identity};

/// The identity of a simulated node, for any device.
///
/// # Errors
/// [`CertError`], if the cryptography refuses what it made.
pub fn simulated_identity(name: &str) -> Result<Identity, CertError> {
    let (authority, _) = ed25519(&[1; 32])?;
    let params = authority_params();
    let root = params.self_signed(&authority)?.der().clone();
    let issuer = Issuer::new(params, authority);
    let (pair, private) = ed25519(&[2; 32])?;
    let certificate = node_params(name, "*")?.signed_by(&pair, &issuer)?;
    let mut roots = RootCertStore::empty();
    let tls = |error: rustls::Error| CertError::Tls(error.to_string());
    roots.add(root).map_err(tls)?;
    let private = PrivateKeyDer::from(private);
    let chain = vec![certificate.der().clone()];
    let key = CertifiedKey::from_der(chain, private.clone_key(), &super::tls::provider());
    Ok(Identity::new(
        Arc::new(roots),
        Arc::new(key.map_err(tls)?),
        Arc::new(private),
    ))
}
