//! TLS over TCP, from a device's side: whom it trusts, and what it shows.
//!
//! TLS 1.3 and 1.2, since brokers of the field speak both. Names are always checked. Sessions are
//! not resumed: what a resumption needs would be kept by each device, and each connection shows its
//! certificate anew. It opens no socket. Bounds: [`BUNDLE_LEN_MAX`].

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::tls::provider;
use super::{CertError, PEM_LEN_MAX, read_bounded};

/// Bytes of a file with authorities at most: a system's bundle has a few hundred thousand.
pub const BUNDLE_LEN_MAX: u64 = 1 << 20;

const HELP_ROOTS: &str = "give a PEM file with the certificate of each authority to trust";
const HELP_CHAIN: &str = "give a PEM file with the certificate, its own first";
const HELP_KEY: &str = "give the PEM file with the key of that certificate";

fn content(path: &Path, what: impl std::fmt::Display, help: &'static str) -> CertError {
    CertError::Content {
        path: path.into(),
        what: what.to_string(),
        help,
    }
}

fn certificates(
    path: &Path,
    most: u64,
    help: &'static str,
) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let bytes = read_bounded(path, most, help)?;
    let all: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| content(path, error, help))?;
    match all.is_empty() {
        true => Err(content(path, "no certificate in it", help)),
        false => Ok(all),
    }
}

/// The authorities in a PEM file.
///
/// # Errors
/// [`CertError`] names the file and what to do.
pub fn roots(path: &Path) -> Result<Arc<RootCertStore>, CertError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(path, BUNDLE_LEN_MAX, HELP_ROOTS)? {
        let added = roots.add(root);
        added.map_err(|error| content(path, error, HELP_ROOTS))?;
    }
    Ok(Arc::new(roots))
}

/// A certificate and its key in PEM files.
///
/// # Errors
/// [`CertError`] names the file and what to do, also where the two do not fit together.
pub fn certified(chain: &Path, key: &Path) -> Result<Arc<CertifiedKey>, CertError> {
    let certificates = certificates(chain, PEM_LEN_MAX, HELP_CHAIN)?;
    let bytes = read_bounded(key, PEM_LEN_MAX, HELP_KEY)?;
    let private =
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| content(key, error, HELP_KEY))?;
    let certified = CertifiedKey::from_der(certificates, private, &provider());
    let certified = certified.map_err(|error| content(key, error, HELP_KEY))?;
    Ok(Arc::new(certified))
}

/// The client side of streams to servers of these authorities; with a certificate that all show, or
/// none.
///
/// # Errors
/// [`CertError::Tls`].
pub fn stream_client(
    roots: Arc<RootCertStore>,
    shown: Option<Arc<CertifiedKey>>,
) -> Result<ClientConfig, CertError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| CertError::Tls(error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match shown {
        Some(key) => {
            let key = CertifiedKey::clone(&key);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
        None => builder.with_no_client_auth(),
    };
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}
