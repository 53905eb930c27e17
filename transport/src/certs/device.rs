//! Certificates of devices: made where they are needed, kept nowhere.
//!
//! A device's key follows from the authority's key and the device's name, so it is the same in each
//! run and on each node of the site, and a hundred thousand devices have no files. Who has the
//! authority's key could sign for any device anyway. A certificate names its device as common name
//! and as the only one that it may speak for. Bound: one certificate, made in tens of microseconds.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ED25519,
    SanType,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};

use super::glob::GLOB_URI;
use super::site::{Site, check_name};
use super::{CERT_MODE, CertError, KEY_MODE, make_dir, write_atomically};

/// What is hashed before the authority's key; a new way of making keys needs a new text.
const KEY_CONTEXT: &[u8] = b"actorsim device key 1";

/// PKCS #8 of an Ed25519 key (RFC 8410), up to its 32 bytes.
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A key, in two forms.
type Key = (KeyPair, PrivatePkcs8KeyDer<'static>);

/// An Ed25519 key of these 32 bytes.
pub(super) fn ed25519(
    seed: &[u8; 32],
) -> Result<(KeyPair, PrivatePkcs8KeyDer<'static>), CertError> {
    let der = [&PKCS8_HEAD[..], seed].concat();
    let der = PrivatePkcs8KeyDer::from(der);
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)?;
    Ok((pair, der))
}

impl Site {
    /// The certificate and key of a device, to show to a server.
    ///
    /// # Errors
    /// [`CertError::Name`], or what the cryptography refuses.
    pub fn device(&self, name: &str) -> Result<Arc<CertifiedKey>, CertError> {
        let (pair, private) = self.device_key(name)?;
        let certificate = device_params(name)?.signed_by(&pair, self.issuer())?;
        let chain = vec![certificate.der().clone()];
        let private = PrivateKeyDer::from(private);
        let key = CertifiedKey::from_der(chain, private, &super::tls::provider());
        let key = key.map_err(|error| CertError::Tls(error.to_string()))?;
        Ok(Arc::new(key))
    }

    /// Writes the certificate and key of a device as `NAME.pem` and `NAME.key` (mode 0600), the
    /// same that [`Site::device`] makes: for brokers that must know them before.
    ///
    /// # Errors
    /// As [`Site::device`], or what the file system refuses.
    pub fn issue_device(&self, name: &str, out: &Path) -> Result<(), CertError> {
        let (pair, _) = self.device_key(name)?;
        let certificate = device_params(name)?.signed_by(&pair, self.issuer())?;
        make_dir(out)?;
        let (key, pem) = (pair.serialize_pem(), certificate.pem());
        write_atomically(&out.join(format!("{name}.key")), key.as_bytes(), KEY_MODE)?;
        write_atomically(&out.join(format!("{name}.pem")), pem.as_bytes(), CERT_MODE)
    }

    fn device_key(&self, name: &str) -> Result<Key, CertError> {
        check_name(name)?;
        let authority = self.issuer().key().serialize_der();
        let mut hash = Sha256::new();
        hash.update(KEY_CONTEXT);
        hash.update((authority.len() as u64).to_be_bytes());
        hash.update(&authority);
        hash.update(name);
        ed25519(&hash.finalize().into())
    }
}

/// What a device's certificate says.
fn device_params(name: &str) -> Result<CertificateParams, CertError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(format!("{GLOB_URI}{name}").try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}
