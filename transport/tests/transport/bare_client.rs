//! A peer that knows bare quinn and the 39 bytes, and nothing of our crates.
//!
//! Its encoding is written by hand here, from the contract, on purpose.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actorsim_transport::Listening;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::rig::{Rig, until};

/// Little endian: device 16, sensor 2, value 8, stamp 8, sequence 4, type 1.
pub(crate) fn encode(
    device: [u8; 16],
    sensor: u16,
    value: f64,
    sequence: u32,
    kind: u8,
) -> Vec<u8> {
    let mut bytes = device.to_vec();
    bytes.extend(sensor.to_le_bytes());
    bytes.extend(value.to_le_bytes());
    bytes.extend(1_700_000_000_000_000_u64.to_le_bytes());
    bytes.extend(sequence.to_le_bytes());
    bytes.push(kind);
    assert_eq!(bytes.len(), 39);
    bytes
}

/// A client that trusts a PEM file and shows no certificate.
pub(crate) fn client(ca_pem: &str, alpn: Option<&[u8]>) -> Endpoint {
    client_at(Ipv4Addr::LOCALHOST, ca_pem, alpn)
}

/// The same at another address of this machine.
pub(crate) fn client_at(at: Ipv4Addr, ca_pem: &str, alpn: Option<&[u8]>) -> Endpoint {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut endpoint = Endpoint::client(SocketAddr::from((at, 0))).unwrap();
    endpoint.set_default_client_config(config);
    endpoint
}

const DEVICE: [u8; 16] = [0xab; 16];

async fn served_on_every_tier(rig: &Rig, connection: &Connection) {
    // T1: one reading, then three in one datagram.
    connection
        .send_datagram(encode(DEVICE, 0, 21.5, 1, 0).into())
        .unwrap();
    let three: Vec<u8> = (2..5).flat_map(|n| encode(DEVICE, 1, 40.0, n, 1)).collect();
    connection.send_datagram(three.into()).unwrap();
    until("T1", || rig.seen.lock().t1.len() == 4).await;
    assert_eq!(rig.seen.lock().t1[0].value, 21.5);

    // T2: a stream of readings until FIN, cut where it pleases the network.
    let mut stream = connection.open_uni().await.unwrap();
    let many: Vec<u8> = (0..1000)
        .flat_map(|n| encode(DEVICE, 5, 0.0, n, 5))
        .collect();
    for part in many.chunks(1001) {
        stream.write_all(part).await.unwrap();
    }
    stream.finish().unwrap();
    until("T2", || rig.seen.lock().t2_plain.len() == 1000).await;
    let sequences: Vec<_> = rig
        .seen
        .lock()
        .t2_plain
        .iter()
        .map(|r| r.sequence)
        .collect();
    assert_eq!(sequences, (0..1000).collect::<Vec<_>>());

    // T3: a stream that the twin opens: 39 bytes out, 39 bytes back.
    let command = actorsim_transport::Command {
        device: uuid::Uuid::from_bytes(DEVICE),
        ..rig.command("", 77, Duration::from_secs(20))
    };
    rig.issue(command);
    let (mut send, mut receive) = connection.accept_bi().await.unwrap();
    let bytes = receive.read_to_end(64).await.unwrap();
    assert_eq!(bytes.len(), 39);
    assert_eq!((&bytes[..16], bytes[38]), (&DEVICE[..], 6));
    assert_eq!(u32::from_le_bytes(bytes[34..38].try_into().unwrap()), 77);
    assert_eq!(f64::from_le_bytes(bytes[18..26].try_into().unwrap()), 0.0);
    send.write_all(&bytes).await.unwrap();
    send.finish().unwrap();
    until("T3", || rig.stats.t3.acked.get() == 1).await;
}

#[tokio::test]
async fn a_bare_quinn_client_is_served_on_every_tier_over_dt1() {
    let rig = Rig::start().await;
    let endpoint = client(rig.site.ca_pem(), Some(b"dt/1"));
    let connecting = endpoint
        .connect(rig.addr(Listening::Main), "localhost")
        .unwrap();
    served_on_every_tier(&rig, &connecting.await.unwrap()).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_bare_quinn_client_without_alpn_is_served_on_the_plain_listener() {
    let rig = Rig::start().await;
    let endpoint = client(rig.site.ca_pem(), None);
    let connecting = endpoint
        .connect(rig.addr(Listening::Plain), "localhost")
        .unwrap();
    served_on_every_tier(&rig, &connecting.await.unwrap()).await;
    rig.stop().await;
}

#[tokio::test]
async fn an_acknowledgement_of_something_else_is_an_error() {
    let rig = Rig::start().await;
    let endpoint = client(rig.site.ca_pem(), Some(b"dt/1"));
    let connecting = endpoint
        .connect(rig.addr(Listening::Main), "localhost")
        .unwrap();
    let connection = connecting.await.unwrap();
    connection
        .send_datagram(encode(DEVICE, 0, 1.0, 1, 0).into())
        .unwrap();
    until("seen", || rig.transport.registry().devices() == 1).await;
    let command = actorsim_transport::Command {
        device: uuid::Uuid::from_bytes(DEVICE),
        ..rig.command("", 5, Duration::from_secs(20))
    };
    rig.issue(command);
    let (mut send, mut receive) = connection.accept_bi().await.unwrap();
    let mut bytes = receive.read_to_end(64).await.unwrap();
    bytes[34] ^= 1;
    send.write_all(&bytes).await.unwrap();
    send.finish().unwrap();
    until("error", || rig.stats.t3.errors.get() == 1).await;
    assert_eq!(rig.stats.t3.acked.get(), 0);
    rig.stop().await;
}

#[tokio::test]
async fn what_a_closing_peer_sent_before_still_counts_and_its_devices_are_forgotten() {
    let rig = Rig::start().await;
    let endpoint = client(rig.site.ca_pem(), Some(b"dt/1"));
    let connecting = endpoint
        .connect(rig.addr(Listening::Main), "localhost")
        .unwrap();
    let connection = connecting.await.unwrap();
    for n in 0..10 {
        connection
            .send_datagram(encode(DEVICE, 0, 1.0, n, 0).into())
            .unwrap();
    }
    until("seen", || rig.transport.registry().devices() == 1).await;
    connection.close(0_u32.into(), b"done");
    until("purged", || rig.transport.registry().devices() == 0).await;
    until("closed", || rig.transport.registry().connections() == 0).await;
    let t1 = &rig.stats.t1;
    until("books balance", || t1.applied.get() == t1.received.get()).await;
    assert_eq!(rig.stats.quic.closed_by_peer.get(), 1);
    rig.stop().await;
}
