//! The identity of simulated nodes: made in memory from fixed keys, so that a handshake has the
//! same size in each run. It protects nothing and is accepted nowhere else.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{Issuer, KeyPair, PKCS_ED25519};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::site::{authority_params, node_params};
use super::{CertError, Identity};

/// PKCS #8 of an Ed25519 key (RFC 8410), up to its 32 bytes.
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

fn key(number: u8) -> Result<(KeyPair, PrivatePkcs8KeyDer<'static>), CertError> {
    let mut der = PKCS8_HEAD.to_vec();
    der.extend([number; 32]);
    let der = PrivatePkcs8KeyDer::from(der);
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)?;
    Ok((pair, der))
}

/// The identity of a simulated node, for any device.
///
/// # Errors
/// [`CertError`], if the cryptography refuses what it made.
pub fn simulated_identity(name: &str) -> Result<Identity, CertError> {
    let (authority, _) = key(1)?;
    let params = authority_params();
    let root = params.self_signed(&authority)?.der().clone();
    let issuer = Issuer::new(params, authority);
    let (pair, private) = key(2)?;
    let certificate = node_params(name, "*")?.signed_by(&pair, &issuer)?;
    let mut roots = RootCertStore::empty();
    let tls = |error: rustls::Error| CertError::Tls(error.to_string());
    roots.add(root).map_err(tls)?;
    let private = PrivateKeyDer::from(private);
    let chain = vec![certificate.der().clone()];
    let key = CertifiedKey::from_der(chain, private.clone_key(), &super::tls::provider());
    Ok(Identity::new(
        PathBuf::new(),
        Arc::new(roots),
        Arc::new(key.map_err(tls)?),
        Arc::new(private),
    ))
}
