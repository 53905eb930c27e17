//! Which certificates of the site are good no more: the authority's signed list of their numbers
//! (RFC 5280, PEM).
//!
//! The list lies beside the authority, and in each identity's directory where a node reads it
//! again when it changes. Listeners refuse handshakes with what it names, links refuse such twins,
//! and connections that are up are closed. Only a list that the authority signed takes the place
//! of another one: a file that vanished, cannot be read, or is another authority's changes nothing
//! until the node starts again. It judges no name. Bound: a PEM file's.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::identity::{CERT_FILE, certificates};
use super::site::Site;
use super::tls::client_verifier;
use super::{CERT_MODE, CertError, read_pem, write_atomically};

/// The list, beside the certificates it is about.
pub const REVOKED_FILE: &str = "revoked.pem";

/// A change of the file is seen so late at most, however often it is asked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

const HELP: &str = "copy the revoked.pem that `actorsim certs revoke` writes, or remove the file";
const HELP_GONE: &str = "put the list back, or start the node again to do without one";

/// A revocation list as a node has it; none is an empty one.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    list: Option<CertificateRevocationListDer<'static>>,
    serials: BTreeSet<Vec<u8>>,
}

impl Revocations {
    /// Reads a list; a file that is not there is an empty one.
    ///
    /// # Errors
    /// [`CertError`] names the file and what to do.
    pub fn load(path: &Path) -> Result<Self, CertError> {
        if !super::site::exists(path)? {
            return Ok(Self::default());
        }
        let fail = |what: String| CertError::Content {
            path: path.into(),
            what,
            help: HELP,
        };
        let bytes = read_pem(path, HELP)?;
        let list = CertificateRevocationListDer::from_pem_slice(&bytes)
            .map_err(|error| fail(error.to_string()))?;
        let (_, parsed) =
            x509_parser::parse_x509_crl(&list).map_err(|error| fail(error.to_string()))?;
        let serials = parsed.iter_revoked_certificates();
        let serials = serials.map(|revoked| plain(revoked.raw_serial()));
        Ok(Self {
            serials: serials.collect(),
            list: Some(list),
        })
    }

    /// Whether an authority signed it; what nobody wrote is nobody's.
    fn is_signed_by(&self, authority: &CertificateDer<'_>) -> bool {
        let Some(list) = &self.list else {
            return true;
        };
        let (Ok((_, list)), Ok((_, authority))) = (
            x509_parser::parse_x509_crl(list),
            x509_parser::parse_x509_certificate(authority),
        ) else {
            return false;
        };
        list.issuer().as_raw() == authority.subject().as_raw()
            && list.verify_signature(authority.public_key()).is_ok()
    }

    /// Whether it names a certificate. One that cannot be read is not named.
    #[must_use]
    pub fn names(&self, certificate: &CertificateDer<'_>) -> bool {
        serial(certificate).is_some_and(|serial| self.serials.contains(&serial))
    }

    /// Certificates named.
    #[must_use]
    pub fn len(&self) -> usize {
        self.serials.len()
    }

    /// Whether it names none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.serials.is_empty()
    }

    pub(super) fn lists(&self) -> Vec<CertificateRevocationListDer<'static>> {
        self.list.iter().cloned().collect()
    }
}

/// A number without the zeros that keep it positive.
fn plain(serial: &[u8]) -> Vec<u8> {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    serial[zeros..].to_vec()
}

/// The number that its authority gave a certificate.
pub(crate) fn serial(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(plain(parsed.raw_serial()))
}

/// The list in an identity's directory, read again when its file changes. The identity's clones
/// share it.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    authorities: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    list: Arc<Revocations>,
    /// The file that it was read from, or that was refused.
    seen: Option<Stamp>,
    looked: tokio::time::Instant,
    /// Why the file does not count, as said before; empty while it does.
    why: String,
    untold: Option<CertError>,
}

/// Tells one state of a file from another: when it last changed in any way, its length, its number.
type Stamp = (i64, i64, u64, u64);

fn stamp(about: &Metadata) -> Stamp {
    (about.ctime(), about.ctime_nsec(), about.len(), about.ino())
}

impl Watched {
    /// The list in a directory now, none included, of one of these authorities, which are `roots`.
    pub(super) fn open(
        dir: &Path,
        authorities: Vec<CertificateDer<'static>>,
        roots: Arc<RootCertStore>,
    ) -> Result<Self, CertError> {
        let path = dir.join(REVOKED_FILE);
        // What changes from here on is seen later.
        let seen = std::fs::metadata(&path).ok();
        let list = read(&path, &authorities, &roots)?;
        let kept = Kept {
            list: Arc::new(list),
            seen: seen.as_ref().map(stamp),
            looked: tokio::time::Instant::now(),
            why: String::new(),
            untold: None,
        };
        Ok(Self {
            path,
            authorities,
            roots,
            kept: Mutex::new(kept),
        })
    }

    /// The list that holds now.
    pub(super) fn list(&self) -> Arc<Revocations> {
        let mut kept = self.kept.lock();
        if kept.looked.elapsed() >= LOOK_AGAIN {
            kept.looked = tokio::time::Instant::now();
            self.look(&mut kept);
        }
        Arc::clone(&kept.list)
    }

    /// Why the file does not count, told once.
    pub(super) fn trouble(&self) -> Option<CertError> {
        self.kept.lock().untold.take()
    }

    fn look(&self, kept: &mut Kept) {
        let found = match std::fs::metadata(&self.path) {
            Ok(about) if kept.seen == Some(stamp(&about)) => return,
            Ok(about) => read(&self.path, &self.authorities, &self.roots).inspect(|_| {
                kept.seen = Some(stamp(&about));
            }),
            Err(_) if kept.list.list.is_none() => Ok(Revocations::default()),
            Err(error) => Err(CertError::Read {
                path: self.path.clone(),
                error,
                help: HELP_GONE,
            }),
        };
        match found {
            Ok(list) => {
                kept.why.clear();
                kept.untold = None;
                if list.list != kept.list.list {
                    kept.list = Arc::new(list);
                }
            }
            Err(error) => {
                let why = error.to_string();
                if kept.why != why {
                    kept.why = why;
                    kept.untold = Some(error);
                }
            }
        }
    }
}

/// Reads a list that one of these authorities signed, and that handshakes can be judged by.
fn read(
    path: &Path,
    authorities: &[CertificateDer<'_>],
    roots: &Arc<RootCertStore>,
) -> Result<Revocations, CertError> {
    let list = Revocations::load(path)?;
    let fail = |what: String| CertError::Content {
        path: path.into(),
        what,
        help: HELP,
    };
    if !authorities.iter().any(|own| list.is_signed_by(own)) {
        return Err(fail("not signed by the authority in ca.pem".into()));
    }
    match client_verifier(roots, &list).build() {
        Ok(_) => Ok(list),
        Err(error) => Err(fail(error.to_string())),
    }
}

impl Site {
    /// Takes back the certificate in a file, or in an identity's directory: adds it to the site's
    /// list, signed, and returns where that is. The list is copied into the directories `to`.
    ///
    /// # Errors
    /// [`CertError`], if the certificate or the list cannot be read or the list not be written.
    pub fn revoke(&self, certificate: &Path, to: &[PathBuf]) -> Result<PathBuf, CertError> {
        let mut shown = certificate.to_owned();
        if shown.is_dir() {
            shown.push(CERT_FILE);
        }
        let fail = |what: String| CertError::Content {
            path: shown.clone(),
            what,
            help: "name the node.pem of the node that is to be kept out",
        };
        let parsed = certificates(&shown)?;
        let number = parsed.first().and_then(serial);
        let number = number.ok_or_else(|| fail("its serial number cannot be read".into()))?;
        let path = self.dir().join(REVOKED_FILE);
        let mut serials = Revocations::load(&path)?.serials;
        serials.insert(number);
        let list = self.signed_list(&serials)?;
        write_atomically(&path, list.as_bytes(), CERT_MODE)?;
        for directory in to {
            write_atomically(&directory.join(REVOKED_FILE), list.as_bytes(), CERT_MODE)?;
        }
        Ok(path)
    }

    pub(super) fn signed_list(&self, serials: &BTreeSet<Vec<u8>>) -> Result<String, CertError> {
        let number = serials.len() as u64;
        // A site's list is good until there is a longer one: its dates say nothing.
        let (from, until) = (date_time_ymd(2026, 1, 1), date_time_ymd(4096, 1, 1));
        let revoked = |serial: &Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: from,
            reason_code: Some(RevocationReason::Unspecified),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: from,
            next_update: until,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(self.issuer())?.pem()?)
    }
}
