//! Which devices a certificate may speak for: a glob over names, carried in its SAN.
//!
//! `*` stands for any run of characters, `?` for one. It judges names only; ids are derived from
//! names by the twin. Bound: [`GLOB_LEN_MAX`] characters, and matching that never backtracks twice.

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

/// Characters of a glob at most.
pub const GLOB_LEN_MAX: usize = 128;

/// How the glob is written in the certificate: a URI in the subject's alternative names.
pub(crate) const GLOB_URI: &str = "urn:actorsim:devices:";

/// Whether `name` is one of the names `glob` stands for.
///
/// ```
/// use actorsim_transport::glob_matches;
/// assert!(glob_matches("pump-*", "pump-0017"));
/// assert!(!glob_matches("pump-??", "pump-0017"));
/// ```
#[must_use]
pub fn glob_matches(glob: &str, name: &str) -> bool {
    let (glob, name) = (glob.as_bytes(), name.as_bytes());
    let (mut g, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, n));
                g += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                g += 1;
                n += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                g = at + 1;
                n = from + 1;
            }
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}

/// The glob of a certificate; `None` if it names none, and then it may speak for any device.
#[must_use]
pub fn device_glob(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(GLOB_URI).map(str::to_owned),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_stands_for_the_names_it_should() {
        let cases = [
            ("*", "", true),
            ("*", "anything", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("", "", true),
            ("", "a", false),
            ("?", "a", true),
            ("pump-*", "pump-", true),
            ("pump-*", "pum", false),
            ("*-0001", "fan-0001", true),
        ];
        for (glob, name, expected) in cases {
            assert_eq!(glob_matches(glob, name), expected, "{glob} {name}");
        }
    }

    #[test]
    fn a_hostile_glob_does_not_take_for_ever() {
        let glob = "*a".repeat(60) + "b";
        assert!(!glob_matches(&glob, &"a".repeat(4096)));
    }
}
