//! Which devices a certificate may speak for: a glob over names, carried in its SAN.
//!
//! `*` stands for any run of characters, `?` for one. It judges names only; ids are derived from
//! names by the twin, and matching is [`actorsim_actors::census::glob_matches`]. Bound:
//! [`GLOB_LEN_MAX`] characters.

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

/// Characters of a glob at most.
pub const GLOB_LEN_MAX: usize = 128;

/// The glob of a certificate that may speak for any device.
pub(crate) const ANY_DEVICE: &str = "*";

/// How the glob is written in the certificate: a URI in the subject's alternative names.
pub(crate) const GLOB_URI: &str = "urn:actorsim:devices:";

/// The glob of a certificate; `None` if it names none, and then it may speak for any device. One
/// that cannot be read speaks for none: its glob is empty.
#[must_use]
pub fn device_glob(certificate: &CertificateDer<'_>) -> Option<String> {
    let nothing = || Some(String::new());
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return nothing();
    };
    let names = match parsed.subject_alternative_name() {
        Ok(names) => names?,
        Err(_) => return nothing(),
    };
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(GLOB_URI).map(str::to_owned),
            _ => None,
        })
}
