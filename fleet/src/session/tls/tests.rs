//! The client's side against a server of rustls' buffered form.

use std::io::{Read as _, Write as _};
use std::path::Path;

use actorsim_transport::certs::stream;
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::CertificateDer;

use super::*;

/// An authority, a server of it, and terms to call that.
struct Rig {
    _dir: tempfile::TempDir,
    site: Arc<Site>,
    server: Arc<ServerConfig>,
    terms: Terms,
}

fn site(dir: &Path) -> Arc<Site> {
    Arc::new(Site::open_or_create(dir).unwrap())
}

fn rig(called: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir.path().join("site"));
    let out = dir.path().join("server");
    site.issue("broker", "*", &out).unwrap();
    let roots = stream::roots(&out.join("ca.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = Arc::clone(&roots);
    let verifier = WebPkiClientVerifier::builder_with_provider(clients, provider.clone());
    let key = stream::certified(&out.join("node.pem"), &out.join("node.key")).unwrap();
    let resolver = rustls::sign::SingleCertAndKey::from(CertifiedKey::clone(&key));
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_cert_resolver(Arc::new(resolver));
    let config = stream::stream_client(roots, None).unwrap();
    let terms = Terms::new(config, called)
        .unwrap()
        .per_device(Arc::clone(&site));
    Rig {
        _dir: dir,
        site,
        server: Arc::new(server),
        terms,
    }
}

/// What the server wants to send.
fn say(server: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Hands bytes to the server; what it read of them.
fn hear(server: &mut ServerConnection, mut wire: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut plain = Vec::new();
    while !wire.is_empty() {
        server.read_tls(&mut wire).unwrap();
        server.process_new_packets()?;
        let mut buffer = [0; 4_096];
        while let Ok(len @ 1..) = server.reader().read(&mut buffer) {
            plain.extend_from_slice(&buffer[..len]);
        }
    }
    Ok(plain)
}

/// Shakes hands, the server's bytes cut into pieces of `cut`.
fn open(rig: &Rig, cut: usize) -> Result<(Tls, ServerConnection), TlsError> {
    let mut wire = Vec::new();
    let mut client = Tls::new(&rig.terms, "pump-0007", &mut wire)?;
    let mut server = ServerConnection::new(Arc::clone(&rig.server)).unwrap();
    while !client.is_open() || !wire.is_empty() {
        hear(&mut server, &std::mem::take(&mut wire)).unwrap();
        for part in say(&mut server).chunks(cut) {
            client.received(part, &mut Vec::new(), &mut wire)?;
        }
    }
    Ok((client, server))
}

#[test]
fn both_sides_show_certificates_and_bytes_pass_however_they_are_cut() {
    let rig = rig("localhost");
    for cut in [1, 7, 1_000, usize::MAX] {
        let (mut client, mut server) = open(&rig, cut).unwrap();
        let shown: &[CertificateDer<'_>] = server.peer_certificates().unwrap();
        assert_eq!(shown, &rig.site.device("pump-0007").unwrap().cert[..]);
        let (mut plain, mut wire) = (Vec::new(), Vec::new());
        let long = vec![7; 40_000];
        client.write(&long, &mut wire).unwrap();
        assert_eq!(hear(&mut server, &wire).unwrap(), long);
        wire.clear();
        server.writer().write_all(b"and back").unwrap();
        for part in say(&mut server).chunks(cut) {
            client.received(part, &mut plain, &mut wire).unwrap();
        }
        assert_eq!(plain, b"and back");
        assert!(wire.is_empty());
        assert_eq!(client.partial.capacity(), 0, "an idle one has no buffers");
        client.close(&mut wire);
        hear(&mut server, &wire).unwrap();
        assert!(
            matches!(server.reader().read(&mut [0; 8]), Ok(0)),
            "a goodbye"
        );
        let late = client.write(b"late", &mut wire);
        assert_eq!(late, Err(TlsError::NotOpen));
    }
}

#[test]
fn a_server_of_another_name_or_authority_is_told_why_it_is_left() {
    let wrong_name = rig("elsewhere.example");
    let mut foreign = rig("localhost");
    foreign.server = rig("localhost").server;
    for rig in [wrong_name, foreign] {
        let mut wire = Vec::new();
        let mut client = Tls::new(&rig.terms, "pump-0007", &mut wire).unwrap();
        let mut server = ServerConnection::new(Arc::clone(&rig.server)).unwrap();
        hear(&mut server, &std::mem::take(&mut wire)).unwrap();
        let answer = say(&mut server);
        let error = client.received(&answer, &mut Vec::new(), &mut wire);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
        assert!(!client.is_open());
        let told = hear(&mut server, &wire).unwrap_err();
        assert!(matches!(told, rustls::Error::AlertReceived(_)), "{told}");
    }
}

#[test]
fn whoever_does_not_speak_tls_is_left() {
    let rig = rig("127.0.0.1");
    let lies: [&[u8]; 5] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0x20, 0x02, 0x00, 0x00, 0x00, 0x00],
        &[0x16, 0x03, 0x03, 0x00, 0x04, 0x02, 0xff, 0xff, 0xff],
        &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28],
        &[0x17, 0x03, 0x03, 0xff, 0xff, 0x00],
    ];
    for lie in lies {
        let mut client = Tls::new(&rig.terms, "pump-0007", &mut Vec::new()).unwrap();
        let (mut plain, mut wire) = (Vec::new(), Vec::new());
        let mut heard = Ok(());
        for byte in lie {
            heard = heard.and_then(|()| client.received(&[*byte], &mut plain, &mut wire));
        }
        assert!(heard.is_err() || !client.is_open(), "{lie:?}");
        assert!(plain.is_empty());
    }
    let mut client = Tls::new(&rig.terms, "pump-0007", &mut Vec::new()).unwrap();
    let much = vec![0; PARTIAL_MAX + 1];
    assert_eq!(client.hold(&much), Err(TlsError::TooLarge));
}

#[test]
fn a_handshake_with_a_changed_byte_fails_and_never_panics() {
    let rig = rig("localhost");
    let (mut wire, mut failed) = (Vec::new(), 0);
    for seed in 0..300u64 {
        wire.clear();
        let mut client = Tls::new(&rig.terms, "pump-0007", &mut wire).unwrap();
        let mut server = ServerConnection::new(Arc::clone(&rig.server)).unwrap();
        hear(&mut server, &wire).unwrap();
        let mut answer = say(&mut server);
        let bits = crate::generator::noise::bits(seed, 1, 2);
        let at = bits as usize % answer.len();
        answer[at] ^= (bits >> 32) as u8 | 1;
        let (mut plain, mut sent) = (Vec::new(), Vec::new());
        let heard = client.received(&answer, &mut plain, &mut sent);
        // a length that has grown waits for the rest
        failed += u32::from(heard.is_err() || !client.is_open());
        assert!(plain.is_empty() && client.partial.len() <= PARTIAL_MAX);
    }
    // the version of a record is not looked at (RFC 8446, 5.1)
    assert!(failed >= 290, "{failed} of 300");
}

#[test]
fn nothing_secret_is_shown() {
    let rig = rig("localhost");
    let (client, _server) = open(&rig, usize::MAX).unwrap();
    let shown = format!("{client:?} {:?}", rig.terms);
    assert!(shown.len() < 200, "{shown}");
    let error = Terms::new(
        stream::stream_client(Arc::new(rustls::RootCertStore::empty()), None).unwrap(),
        "no name",
    );
    assert!(matches!(error, Err(TlsError::ServerName(_))));
}
