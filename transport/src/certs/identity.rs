//! What a node carries: the authority it trusts, its certificate, its key.
//!
//! Three files in one directory: `ca.pem`, `node.pem`, `node.key`. It signs nothing. Bound: the
//! files' size.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::glob::device_glob;
use super::revocation::{REVOKED_FILE, Revocations};
use super::{CertError, read_pem};

/// The authority's certificate.
pub const CA_FILE: &str = "ca.pem";
/// The node's certificate.
pub const CERT_FILE: &str = "node.pem";
/// The node's key.
pub const KEY_FILE: &str = "node.key";

const HELP: &str = "copy the three files that `actorsim certs issue NAME --out DIR` makes";

/// A node's identity, loaded and checked.
#[derive(Clone)]
pub struct Identity {
    dir: PathBuf,
    roots: Arc<RootCertStore>,
    key: Arc<CertifiedKey>,
    private: Arc<PrivateKeyDer<'static>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Loads `ca.pem`, `node.pem` and `node.key` from a directory.
    ///
    /// # Errors
    /// [`CertError`] names the file and what to do.
    pub fn load(dir: &Path) -> Result<Self, CertError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&dir.join(CA_FILE))? {
            roots
                .add(root)
                .map_err(|error| content(dir, CA_FILE, error))?;
        }
        let chain = certificates(&dir.join(CERT_FILE))?;
        let bytes = read_pem(&dir.join(KEY_FILE), HELP)?;
        let private =
            PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| content(dir, KEY_FILE, error))?;
        let provider = super::tls::provider();
        let key = CertifiedKey::from_der(chain, private.clone_key(), &provider)
            .map_err(|error| content(dir, KEY_FILE, error))?;
        Ok(Self {
            dir: dir.into(),
            roots: Arc::new(roots),
            key: Arc::new(key),
            private: Arc::new(private),
        })
    }

    /// Of parts that fit together.
    pub(super) const fn new(
        dir: PathBuf,
        roots: Arc<RootCertStore>,
        key: Arc<CertifiedKey>,
        private: Arc<PrivateKeyDer<'static>>,
    ) -> Self {
        Self {
            dir,
            roots,
            key,
            private,
        }
    }

    /// Where it was loaded from.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The devices it may speak for, if it says.
    #[must_use]
    pub fn devices(&self) -> Option<String> {
        self.key.cert.first().and_then(device_glob)
    }

    /// The revocation list in its directory now.
    ///
    /// # Errors
    /// [`CertError`], if there is one that cannot be read.
    pub fn revocations(&self) -> Result<Revocations, CertError> {
        Revocations::load(&self.dir.join(REVOKED_FILE))
    }

    /// The certificates, the node's own first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        self.private.clone_key()
    }
}

fn content(dir: &Path, file: &str, what: impl fmt::Display) -> CertError {
    CertError::Content {
        path: dir.join(file),
        what: what.to_string(),
        help: HELP,
    }
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let bytes = read_pem(path, HELP)?;
    let fail = |what: String| CertError::Content {
        path: path.into(),
        what,
        help: HELP,
    };
    let all: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| fail(error.to_string()))?;
    if all.is_empty() {
        return Err(fail("no certificate in it".into()));
    }
    Ok(all)
}
