//! Which certificates of the site are good no more: the authority's signed list of their numbers
//! (RFC 5280, PEM).
//!
//! The list lies beside the authority, and in each identity's directory where a node reads it
//! again when it changes. Listeners refuse handshakes with what it names, links refuse such twins,
//! and connections that are up are closed. It judges no name. Bound: a PEM file's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::identity::{CERT_FILE, certificates};
use super::site::Site;
use super::{CERT_MODE, CertError, read_pem, write_atomically};

/// The list, beside the certificates it is about.
pub const REVOKED_FILE: &str = "revoked.pem";

const HELP: &str = "copy the revoked.pem that `actorsim certs revoke` writes, or remove the file";

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

fn serial(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(plain(parsed.raw_serial()))
}

/// A list that is read again when its file changes.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
}

impl Watched {
    /// Of an identity's directory. The first look finds news.
    pub(crate) fn new(identity: &Path) -> Self {
        Self {
            path: identity.join(REVOKED_FILE),
            seen: None,
        }
    }

    /// The list, if the file is not as it was; one that cannot be read is told once.
    pub(crate) fn news(&mut self) -> Option<Result<Revocations, CertError>> {
        let about = std::fs::metadata(&self.path).ok();
        let seen = about.and_then(|about| Some((about.modified().ok()?, about.len())));
        if std::mem::replace(&mut self.seen, seen) == seen {
            return None;
        }
        Some(Revocations::load(&self.path))
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

    fn signed_list(&self, serials: &BTreeSet<Vec<u8>>) -> Result<String, CertError> {
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
