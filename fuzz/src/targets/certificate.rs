//! Certificates: which devices one may speak for, files of PEM, and lists of what is revoked. What
//! cannot be read speaks for nobody.

use std::sync::LazyLock;

use actorsim_actors::census::glob_matches;
use actorsim_transport::certs::glob::device_glob;
use actorsim_transport::certs::{Revocations, Site, stream};
use rustls_pki_types::CertificateDer;

use super::Target;
use super::text::text;
use crate::scratch::Folder;
use crate::script::{Script, Steps};

pub(crate) const TARGET: Target = Target {
    name: "certificate",
    about: "certificates, their device globs, PEM files, revocation lists",
    run,
    seeds,
    words: &[
        "-----BEGIN CERTIFICATE-----\n",
        "-----END CERTIFICATE-----\n",
        "-----BEGIN X509 CRL-----\n",
        "-----END X509 CRL-----\n",
        "urn:actorsim:devices:",
        "*",
        "?",
    ],
    len_max: 4_096,
    heap_max: 4 << 20,
};

/// What a site makes: a certificate for some devices in both forms, and a revocation list.
struct Made {
    der: Vec<u8>,
    pem: Vec<u8>,
    revoked: Vec<u8>,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let dir = Folder::new();
    let site = Site::open_or_create(&dir.path().join("site")).expect("a site");
    let out = dir.path().join("out");
    site.issue("gateway", "pump-*", &out).expect("an identity");
    let identity = actorsim_transport::Identity::load(&out).expect("as it was written");
    let revoked = site.revoke(&out, &[]).expect("a list");
    Made {
        der: identity.chain()[0].to_vec(),
        pem: std::fs::read(out.join("node.pem")).expect("a file"),
        revoked: std::fs::read(revoked).expect("a file"),
    }
});

fn seeds() -> Vec<Vec<u8>> {
    let Made { der, pem, revoked } = &*MADE;
    let globs = [
        ("*-0?", "pump-01"),
        ("a*b*c", "aabbcc"),
        ("", ""),
        ("**", "x"),
        ("?", "\u{e9}"),
    ];
    let globs = globs.map(|(glob, name)| {
        Steps::new()
            .byte(3)
            .bytes(glob.as_bytes())
            .rest(name.as_bytes())
    });
    let files = [(0, der), (1, pem), (2, revoked)];
    let files = files.map(|(kind, bytes)| Steps::new().byte(kind).rest(bytes));
    files.into_iter().chain(globs).collect()
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    match script.byte() % 4 {
        0 => {
            let der = CertificateDer::from(script.rest());
            if let Some(glob) = device_glob(&der) {
                assert!(glob.len() <= der.len());
                assert!(!glob.is_empty() || !glob_matches(&glob, "pump-0001"));
            }
            assert!(!Revocations::default().names(&der));
        }
        kind @ (1 | 2) => {
            let folder = Folder::new();
            let file = folder.file(script.rest());
            match kind {
                1 => drop(stream::roots(&file)),
                _ => drop(Revocations::load(&file)),
            }
        }
        _ => {
            let (glob, name) = (script.bytes(), script.rest());
            if let (Some(glob), Some(name)) = (text(glob), text(name)) {
                assert_eq!(
                    glob_matches(glob, name),
                    matches(glob, name),
                    "{glob:?} {name:?}"
                );
            }
        }
    }
}

/// What a glob means, as simply as it can be said.
fn matches(glob: &str, name: &str) -> bool {
    let mut ends = vec![true];
    let name: Vec<char> = name.chars().collect();
    ends.resize(name.len() + 1, false);
    for wanted in glob.chars() {
        let before = ends.clone();
        for at in 0..ends.len() {
            let one = at > 0 && before[at - 1];
            ends[at] = match wanted {
                '*' => before[at] || (at > 0 && ends[at - 1]),
                '?' => one,
                exact => one && name[at - 1] == exact,
            };
        }
    }
    ends[name.len()]
}
