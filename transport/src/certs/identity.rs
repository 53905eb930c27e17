//! What a node carries: the authority it trusts, its certificate, its key.
//!
//! Three files in one directory: `ca.pem`, `node.pem`, `node.key`; and `revoked.pem`, if the site
//! took certificates back. It signs nothing. Bound: the
//! files' size.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::glob::device_glob;
use super::revocation::{Revocations, Watched};
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
    /// None is watched where there is no directory.
    revoked: Option<Arc<Watched>>,
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
        let authorities = certificates(&dir.join(CA_FILE))?;
        for root in &authorities {
            roots
                .add(root.clone())
                .map_err(|error| content(dir, CA_FILE, error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&dir.join(CERT_FILE))?;
        let bytes = read_pem(&dir.join(KEY_FILE), HELP)?;
        let private =
            PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| content(dir, KEY_FILE, error))?;
        let provider = super::tls::provider();
        let key = CertifiedKey::from_der(chain, private.clone_key(), &provider)
            .map_err(|error| content(dir, KEY_FILE, error))?;
        Ok(Self {
            dir: dir.into(),
            key: Arc::new(key),
            private: Arc::new(private),
            revoked: Some(Arc::new(Watched::open(
                dir,
                authorities,
                Arc::clone(&roots),
            )?)),
            roots,
        })
    }

    /// Of parts that fit together, without a directory.
    pub(super) const fn new(
        roots: Arc<RootCertStore>,
        key: Arc<CertifiedKey>,
        private: Arc<PrivateKeyDer<'static>>,
    ) -> Self {
        Self {
            dir: PathBuf::new(),
            roots,
            key,
            private,
            revoked: None,
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

    /// The site's list of revoked certificates that holds now: the one in its directory, read
    /// again after a change, as long as the authority signed it; else the one before.
    #[must_use]
    pub fn revocations(&self) -> Arc<Revocations> {
        let watched = self.revoked.as_ref();
        watched.map(|watched| watched.list()).unwrap_or_default()
    }

    /// Why the list in its directory does not count, told once.
    #[must_use]
    pub fn revocations_trouble(&self) -> Option<CertError> {
        self.revoked.as_ref()?.trouble()
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
