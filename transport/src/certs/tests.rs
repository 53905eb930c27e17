//! The authority and identities on disk.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::glob::device_glob;
use super::identity::{CA_FILE, CERT_FILE, KEY_FILE};
use super::revocation::REVOKED_FILE;
use super::site::CA_KEY_FILE;
use super::*;

#[test]
fn an_authority_is_made_once_and_its_keys_are_its_owners_only() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::open_or_create(&dir.path().join("site")).unwrap();
    let again = Site::open_or_create(&dir.path().join("site")).unwrap();
    assert_eq!(site.ca_pem(), again.ca_pem());
    let out = dir.path().join("node");
    again.issue("node-1", "pump-*", &out).unwrap();
    for key in [site.dir().join(CA_KEY_FILE), out.join(KEY_FILE)] {
        assert_eq!(
            fs::metadata(key).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let identity = Identity::load(&out).unwrap();
    assert_eq!(identity.devices().as_deref(), Some("pump-*"));
    assert_eq!(device_glob(&identity.chain()[0]), identity.devices());
    let none = Revocations::default();
    tls::server_crypto(
        &identity,
        &[tls::ALPN_DT1],
        tls::ClientAuth::Required,
        &none,
    )
    .unwrap();
    tls::client_crypto(&identity, &[tls::ALPN_DT1], &none).unwrap();
}

#[test]
fn a_device_has_the_same_certificate_each_time_and_its_neighbour_another() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::open_or_create(&dir.path().join("site")).unwrap();
    let again = Site::open_or_create(&dir.path().join("site")).unwrap();
    let (first, same) = (
        site.device("pump-0001").unwrap(),
        again.device("pump-0001").unwrap(),
    );
    assert_eq!(first.cert, same.cert);
    assert_ne!(first.cert, site.device("pump-0002").unwrap().cert);
    assert_eq!(device_glob(&first.cert[0]).as_deref(), Some("pump-0001"));
    let other = Site::open_or_create(&dir.path().join("other")).unwrap();
    assert_ne!(first.cert, other.device("pump-0001").unwrap().cert);
    // on disk it is the same, and its key is its owner's only
    let out = dir.path().join("devices");
    site.issue_device("pump-0001", &out).unwrap();
    let (pem, key) = (out.join("pump-0001.pem"), out.join("pump-0001.key"));
    let loaded = stream::certified(&pem, &key).unwrap();
    assert_eq!(loaded.cert, first.cert);
    let mode = fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(site.device("a/b"), Err(CertError::Name { .. })));
    // a key that is another certificate's is told so
    site.issue_device("pump-0002", &out).unwrap();
    let error = stream::certified(&pem, &out.join("pump-0002.key")).unwrap_err();
    assert!(error.to_string().contains("pump-0002.key"), "{error}");
}

#[test]
fn half_an_authority_is_refused_and_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    Site::open_or_create(dir.path()).unwrap();
    fs::remove_file(dir.path().join(CA_KEY_FILE)).unwrap();
    let error = Site::open_or_create(dir.path()).unwrap_err();
    assert!(matches!(error, CertError::HalfAuthority { .. }));
    assert!(!dir.path().join(CA_KEY_FILE).exists());
}

#[test]
fn what_is_wrong_with_an_identity_is_told_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::open_or_create(&dir.path().join("site")).unwrap();
    let other = dir.path().join("other");
    site.issue("other", "*", &other).unwrap();
    let breakers: [(&str, Option<&[u8]>); 5] = [
        (CA_FILE, None),
        (CERT_FILE, Some(b"no pem")),
        (KEY_FILE, None),
        (KEY_FILE, Some(b"no key")),
        (CERT_FILE, Some(&vec![b'x'; PEM_LEN_MAX as usize + 1])),
    ];
    for (n, (file, content)) in breakers.into_iter().enumerate() {
        let out = dir.path().join(format!("node-{n}"));
        site.issue("node", "*", &out).unwrap();
        match content {
            Some(bytes) => fs::write(out.join(file), bytes).unwrap(),
            None => fs::remove_file(out.join(file)).unwrap(),
        }
        let error = Identity::load(&out).unwrap_err().to_string();
        assert!(
            error.contains(file) && error.contains("certs issue"),
            "{error}"
        );
    }
    let mixed = dir.path().join("mixed");
    site.issue("mixed", "*", &mixed).unwrap();
    fs::copy(other.join(KEY_FILE), mixed.join(KEY_FILE)).unwrap();
    assert!(
        Identity::load(&mixed).is_err(),
        "a key of another certificate"
    );
}

#[test]
fn names_and_globs_that_cannot_stand_in_a_certificate_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::open_or_create(dir.path()).unwrap();
    for name in ["", "a b", "ä", &"x".repeat(64)] {
        assert!(matches!(
            site.issue(name, "*", dir.path()),
            Err(CertError::Name { .. })
        ));
    }
    for glob in ["", "a b", "ü*", &"x".repeat(129)] {
        assert!(matches!(
            site.issue("n", glob, dir.path()),
            Err(CertError::Glob { .. })
        ));
    }
}

#[test]
fn a_node_whose_authority_was_replaced_gets_a_new_identity() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("node");
    let first = Site::open_or_create(&dir.path().join("a")).unwrap();
    let old = first.identity("node", "*", &out).unwrap();
    assert_eq!(
        first.identity("node", "*", &out).unwrap().chain(),
        old.chain()
    );
    let second = Site::open_or_create(&dir.path().join("b")).unwrap();
    assert_ne!(
        second.identity("node", "*", &out).unwrap().chain(),
        old.chain()
    );
}

#[test]
fn what_a_site_takes_back_is_named_by_its_list_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::open_or_create(&dir.path().join("site")).unwrap();
    let identity = |name: &str| site.identity(name, "*", &dir.path().join(name)).unwrap();
    let at = |name: &str| dir.path().join(name);
    let [first, second, third] = ["first", "second", "third"].map(identity);
    let list = |site: &Site| Revocations::load(&site.dir().join(REVOKED_FILE)).unwrap();
    assert!(list(&site).is_empty());
    site.revoke(&at("first"), &[]).unwrap();
    site.revoke(&at("first").join(CERT_FILE), &[]).unwrap();
    let path = site.revoke(&at("third"), &[at("second")]).unwrap();
    assert_eq!(
        Identity::load(&at("second")).unwrap().revocations().len(),
        2,
        "it was given the list"
    );
    let list = list(&site);
    let named = [&first, &second, &third].map(|identity| list.names(&identity.chain()[0]));
    assert_eq!((named, list.len()), ([true, false, true], 2));
    fs::write(&path, "no list").unwrap();
    let error = Revocations::load(&path).unwrap_err().to_string();
    assert!(
        error.contains(REVOKED_FILE) && error.contains("certs revoke"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn only_a_list_of_the_authority_takes_the_place_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let site = Site::open_or_create(&at("site")).unwrap();
    let other = Site::open_or_create(&at("other-site")).unwrap();
    let node = site.identity("node", "*", &at("node")).unwrap();
    let peer = site.identity("peer", "*", &at("peer")).unwrap();
    let stranger = other.identity("stranger", "*", &at("stranger")).unwrap();
    let file = at("node").join(REVOKED_FILE);
    let list = async || {
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        (node.revocations(), node.revocations_trouble().is_some())
    };
    let (none, troubled) = list().await;
    assert!(none.is_empty() && !troubled);
    site.revoke(&at("peer"), &[at("node")]).unwrap();
    let (named, troubled) = list().await;
    assert!(named.names(&peer.chain()[0]) && !troubled);
    // Gone, half written, another authority's: what was revoked stays so, and that is told once.
    let foreign = other.revoke(&at("stranger"), &[]).unwrap();
    let foreign = fs::read(foreign).unwrap();
    for content in [None, Some(&b"-----BEGIN X509"[..]), Some(&foreign)] {
        match content {
            None => fs::remove_file(&file).unwrap(),
            Some(bytes) => fs::write(&file, bytes).unwrap(),
        }
        for first in [true, false] {
            let (kept, troubled) = list().await;
            assert!(Arc::ptr_eq(&kept, &named) && troubled == first);
        }
    }
    assert!(!named.names(&stranger.chain()[0]));
    // A node does not start with such a list either.
    let error = Identity::load(&at("node")).unwrap_err().to_string();
    assert!(error.contains("not signed"), "{error}");
    // A list of the authority that names nobody is one.
    fs::write(&file, site.signed_list(&Default::default()).unwrap()).unwrap();
    let (emptied, troubled) = list().await;
    assert!(emptied.is_empty() && !troubled);
    // Who joins later is given the list.
    site.issue("late", "*", &at("late")).unwrap();
    assert_eq!(Identity::load(&at("late")).unwrap().revocations().len(), 1);
}
