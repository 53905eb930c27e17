//! The site authority: one key that signs the nodes and devices of a site.
//!
//! Ed25519 throughout (small, the same size each time, no parameters). Certificates do not end: the
//! authority is a directory on one machine, and making a new one is how it is replaced. It keeps no
//! list of what it signed.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SanType,
};

use super::device::ed25519;
use super::glob::{GLOB_LEN_MAX, GLOB_URI};
use super::identity::{CA_FILE, CERT_FILE, Identity, KEY_FILE};
use super::revocation::REVOKED_FILE;
use super::{
    CERT_MODE, CertError, KEY_MODE, SITE_SERVER_NAME, make_dir, read_pem, write_atomically,
};

/// The authority's key, beside its `ca.pem`.
pub const CA_KEY_FILE: &str = "ca.key";

/// Characters of a node's name at most: those of a DNS label.
const NAME_LEN_MAX: usize = 63;
const HELP: &str = "put it back from a copy, or remove ca.pem and ca.key to make a new authority";

/// A site authority.
pub struct Site {
    dir: PathBuf,
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Site {
    /// Opens the authority in `dir`, or makes one there on first use.
    ///
    /// # Errors
    /// [`CertError`] names the file and what to do; half an authority is never overwritten.
    pub fn open_or_create(dir: &Path) -> Result<Self, CertError> {
        let (ca, key) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
        match (exists(&ca)?, exists(&key)?) {
            (true, true) => Self::open(dir, &ca, &key),
            (false, false) => Self::create(dir, &ca, &key),
            _ => Err(CertError::HalfAuthority { dir: dir.into() }),
        }
    }

    fn open(dir: &Path, ca: &Path, key: &Path) -> Result<Self, CertError> {
        let bad = |path: &Path, what: String| CertError::Content {
            path: path.into(),
            what,
            help: HELP,
        };
        let text = |path: &Path| {
            String::from_utf8(read_pem(path, HELP)?).map_err(|e| bad(path, e.to_string()))
        };
        let key_pair = KeyPair::from_pem(&text(key)?).map_err(|e| bad(key, e.to_string()))?;
        let ca_pem = text(ca)?;
        let issuer =
            Issuer::from_ca_cert_pem(&ca_pem, key_pair).map_err(|e| bad(ca, e.to_string()))?;
        Ok(Self {
            dir: dir.into(),
            ca_pem,
            issuer,
        })
    }

    fn create(dir: &Path, ca: &Path, key: &Path) -> Result<Self, CertError> {
        make_dir(dir)?;
        let key_pair = KeyPair::generate_for(&PKCS_ED25519)?;
        let params = authority_params();
        let ca_pem = params.self_signed(&key_pair)?.pem();
        write_atomically(key, key_pair.serialize_pem().as_bytes(), KEY_MODE)?;
        write_atomically(ca, ca_pem.as_bytes(), CERT_MODE)?;
        Ok(Self {
            dir: dir.into(),
            ca_pem,
            issuer: Issuer::new(params, key_pair),
        })
    }

    /// Where it lives.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// Signs a new node: writes `ca.pem`, `node.pem` and `node.key` (mode 0600) into `out`.
    ///
    /// With them goes the site's list of revoked certificates, if it has one. The certificate is
    /// good as a server (for `name`, [`SITE_SERVER_NAME`], `localhost` and the
    /// loopback addresses) and as a client, for the devices whose names match `devices`.
    ///
    /// # Errors
    /// [`CertError::Name`], [`CertError::Glob`], or what the file system refuses.
    pub fn issue(&self, name: &str, devices: &str, out: &Path) -> Result<(), CertError> {
        check_name(name)?;
        let visible = devices.chars().all(|c| c.is_ascii_graphic());
        if devices.is_empty() || devices.len() > GLOB_LEN_MAX || !visible {
            return Err(CertError::Glob {
                glob: devices.into(),
            });
        }
        let key = random_key()?;
        let params = node_params(name, devices)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        make_dir(out)?;
        write_atomically(
            &out.join(KEY_FILE),
            key.serialize_pem().as_bytes(),
            KEY_MODE,
        )?;
        write_atomically(
            &out.join(CERT_FILE),
            certificate.pem().as_bytes(),
            CERT_MODE,
        )?;
        let revoked = self.dir.join(REVOKED_FILE);
        if exists(&revoked)? {
            let list = read_pem(&revoked, HELP)?;
            write_atomically(&out.join(REVOKED_FILE), &list, CERT_MODE)?;
        }
        self.write_ca(out)
    }

    /// Writes its certificate as `ca.pem` into `out`.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn write_ca(&self, out: &Path) -> Result<(), CertError> {
        write_atomically(&out.join(CA_FILE), self.ca_pem.as_bytes(), CERT_MODE)
    }

    /// The identity in `out`, issued first if there is none, or if it is another authority's.
    ///
    /// # Errors
    /// As [`Site::issue`] and [`Identity::load`].
    pub fn identity(&self, name: &str, devices: &str, out: &Path) -> Result<Identity, CertError> {
        let ca = out.join(CA_FILE);
        if !exists(&ca)? || read_pem(&ca, HELP)? != self.ca_pem.as_bytes() {
            self.issue(name, devices, out)?;
        }
        Identity::load(out)
    }
}

/// A new key in the form that OpenSSL reads, too: without its public half (RFC 8410), which
/// [`KeyPair::generate_for`] adds.
fn random_key() -> Result<KeyPair, CertError> {
    let mut seed = [0; 32];
    let filled = super::tls::provider().secure_random.fill(&mut seed);
    filled.map_err(|_| CertError::Tls("the system has no randomness".to_owned()))?;
    Ok(ed25519(&seed)?.0)
}

/// Whether a name can stand in a certificate.
pub(super) fn check_name(name: &str) -> Result<(), CertError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(plain) {
        return Err(CertError::Name { name: name.into() });
    }
    Ok(())
}

/// What an authority's certificate says.
pub(super) fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "actorsim site authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// What a node's certificate says.
pub(super) fn node_params(name: &str, devices: &str) -> Result<CertificateParams, CertError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![
        SanType::DnsName(name.try_into()?),
        SanType::DnsName(SITE_SERVER_NAME.try_into()?),
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
        SanType::URI(format!("{GLOB_URI}{devices}").try_into()?),
    ];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(params)
}

pub(super) fn exists(path: &Path) -> Result<bool, CertError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let help = "make the directory readable";
            Err(CertError::Read {
                path: path.into(),
                error,
                help,
            })
        }
    }
}
