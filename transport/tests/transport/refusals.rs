//! Bad bytes and strangers: counted or refused, and the rest goes on.

use actorsim_transport::endpoint;
use actorsim_transport::frames::{PROTOCOL_VERSION, StreamType, ToTwin};
use actorsim_transport::{
    Identity, Link, LinkSpec, Listening, Network, Protocol, Site, link_child,
};

use crate::bare_client::{client, encode};
use crate::rig::{Rig, pumps, until};

const DEVICE: [u8; 16] = [1; 16];

#[tokio::test]
async fn a_datagram_of_38_bytes_is_counted_and_the_connection_lives() {
    let rig = Rig::start().await;
    let endpoint = client(rig.site.ca_pem(), Some(b"dt/1"));
    let connecting = endpoint
        .connect(rig.addr(Listening::Main), "localhost")
        .unwrap();
    let connection = connecting.await.unwrap();
    let good = encode(DEVICE, 0, f64::NAN, 1, 0);
    let mut bad_type = good.clone();
    bad_type[38] = 9;
    for bad in [good[..38].to_vec(), Vec::new(), vec![0; 40], bad_type] {
        connection.send_datagram(bad.into()).unwrap();
    }
    until("counted", || rig.stats.t1.decode_errors.get() == 4).await;
    connection.send_datagram(good.into()).unwrap();
    until("served", || rig.seen.lock().t1.len() == 1).await;
    assert!(connection.close_reason().is_none());
    rig.stop().await;
}

#[tokio::test]
async fn a_bad_type_byte_resets_its_stream_only() {
    let rig = Rig::start().await;
    let endpoint = client(rig.site.ca_pem(), Some(b"dt/1"));
    let connecting = endpoint
        .connect(rig.addr(Listening::Main), "localhost")
        .unwrap();
    let connection = connecting.await.unwrap();
    let mut bad = connection.open_uni().await.unwrap();
    let mut other = connection.open_uni().await.unwrap();
    bad.write_all(&encode(DEVICE, 0, 1.0, 1, 0)).await.unwrap();
    bad.write_all(&encode(DEVICE, 0, 1.0, 2, 200))
        .await
        .unwrap();
    assert!(bad.stopped().await.unwrap().is_some(), "reset");
    other
        .write_all(&encode(DEVICE, 0, 1.0, 3, 0))
        .await
        .unwrap();
    other.finish().unwrap();
    until("both good ones", || rig.seen.lock().t2_plain.len() == 2).await;
    assert_eq!(rig.stats.t2.decode_errors.get(), 1);
    assert!(connection.close_reason().is_none());
    rig.stop().await;
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_reading_is_counted() {
    let rig = Rig::start().await;
    let endpoint = client(rig.site.ca_pem(), Some(b"dt/1"));
    let connecting = endpoint
        .connect(rig.addr(Listening::Main), "localhost")
        .unwrap();
    let connection = connecting.await.unwrap();
    let mut stream = connection.open_uni().await.unwrap();
    stream
        .write_all(&encode(DEVICE, 0, 1.0, 1, 0)[..20])
        .await
        .unwrap();
    stream.finish().unwrap();
    until("counted", || rig.stats.t2.decode_errors.get() == 1).await;
    rig.stop().await;
}

/// Starts a link with another identity to the rig's twin.
async fn strange_link(rig: &Rig, identity: Identity) -> Link {
    let path = rig.links.path().join("stranger");
    let link = Link::new(path, 1, actorsim_transport::TransportStats::new());
    let spec = LinkSpec {
        network: Network::Udp,
        twin: rig.addr(Listening::Main),
        server_name: "localhost".into(),
        identity,
        protocol: Protocol::Actorsim1,
        node: "stranger".into(),
        seed: 1,
        downlink: std::sync::Arc::new(crate::rig::Devices::default()),
    };
    rig.links
        .start_child(link_child("stranger", &link, spec))
        .await
        .unwrap();
    link
}

#[tokio::test]
async fn a_foreign_certificate_is_refused_counted_and_said_once() {
    let rig = Rig::start().await;
    // It trusts our authority, so that the refusal is ours; its own certificate is another site's.
    let other = Site::open_or_create(&rig.dir.path().join("other-site")).unwrap();
    let out = rig.dir.path().join("stranger");
    other.issue("stranger", "*", &out).unwrap();
    std::fs::write(out.join("ca.pem"), rig.site.ca_pem()).unwrap();
    let link = strange_link(&rig, Identity::load(&out).unwrap()).await;
    until("refused twice", || {
        rig.stats.quic.handshakes_foreign.get() >= 2
    })
    .await;
    assert!(!link.is_connected());
    assert_eq!(rig.stats.quic.handshakes_accepted.get(), 0);
    let events = rig.system.events().last(4096);
    let said = events
        .iter()
        .filter(|event| event.name == "foreign_certificate");
    assert!(said.count() <= 2, "folded");
    let (ours, _) = rig.link("gate-1", "*").await;
    until("the node lives", || ours.is_connected()).await;
    rig.stop().await;
}

#[tokio::test]
async fn actorsim1_without_a_certificate_is_refused_even_on_loopback() {
    let rig = Rig::start().await;
    let endpoint = client(rig.site.ca_pem(), Some(b"actorsim/1"));
    let connecting = endpoint
        .connect(rig.addr(Listening::Main), "localhost")
        .unwrap();
    let connection = connecting.await.unwrap();
    let why = connection.closed().await.to_string();
    assert!(why.contains("certificate"), "{why}");
    assert_eq!(rig.stats.quic.handshakes_foreign.get(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn beyond_loopback_a_dt1_client_needs_a_certificate() {
    let rig = Rig::start_at(std::net::Ipv4Addr::UNSPECIFIED).await;
    let addr = (
        std::net::Ipv4Addr::LOCALHOST,
        rig.addr(Listening::Main).port(),
    )
        .into();
    let endpoint = client(rig.site.ca_pem(), Some(b"dt/1"));
    // A TLS 1.3 client is done before the server has judged it.
    if let Ok(connection) = endpoint.connect(addr, "localhost").unwrap().await {
        drop(connection.send_datagram(encode(DEVICE, 0, 1.0, 1, 0).into()));
        connection.closed().await;
    }
    until("counted", || rig.stats.quic.handshakes_foreign.get() == 1).await;
    assert_eq!(
        (
            rig.stats.t1.received.get(),
            rig.stats.quic.handshakes_accepted.get()
        ),
        (0, 0)
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_client_without_alpn_is_refused_on_the_main_listener() {
    let rig = Rig::start().await;
    let endpoint = client(rig.site.ca_pem(), None);
    let connecting = endpoint
        .connect(rig.addr(Listening::Main), "localhost")
        .unwrap();
    assert!(connecting.await.is_err());
    until("counted", || rig.stats.quic.handshakes_failed.get() == 1).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_certificate_speaks_only_for_the_devices_it_names() {
    let rig = Rig::start().await;
    let (link, _) = rig.link("gate-1", "fan-*").await;
    until("connected", || link.is_connected()).await;
    link.register(pumps(1)).unwrap();
    until("closed", || link.connections() >= 2).await;
    assert_eq!(rig.transport.registry().devices(), 0);
    assert!(rig.seen.lock().registered.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_link_of_another_version_is_told_both() {
    let rig = Rig::start().await;
    let out = rig.dir.path().join("old");
    let identity = rig.site.identity("old", "*", &out).unwrap();
    let (handle, twin) = (tokio::runtime::Handle::current(), rig.addr(Listening::Main));
    let endpoint =
        endpoint::dialler(&handle, twin, &identity, Protocol::Actorsim1, &Network::Udp).unwrap();
    let connecting = endpoint.connect(twin, "localhost").unwrap();
    let connection = connecting.await.unwrap();
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    let hello = ToTwin::Hello {
        version: PROTOCOL_VERSION - 1,
        node: "old".into(),
        session: 1,
        acked: 0,
        t1_readings: 0,
    };
    let mut said = vec![StreamType::Control as u8];
    said.extend(hello.frame().unwrap());
    send.write_all(&said).await.unwrap();
    let why = connection.closed().await.to_string();
    let (theirs, ours) = (PROTOCOL_VERSION - 1, PROTOCOL_VERSION);
    assert!(why.contains(&format!("protocol version {theirs}")), "{why}");
    assert!(why.contains(&format!("version {ours}")), "{why}");
    until("said here, too", || {
        let events = rig.system.events().last(4096);
        let of = |text: &str| text.contains("protocol version") && text.contains("both");
        events
            .iter()
            .any(|event| event.name == "disconnected" && of(&event.text))
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn a_link_says_why_its_twin_refuses_it() {
    let rig = Rig::start().await;
    let identity = rig.site.identity("new", "*", &rig.dir.path().join("new"));
    let identity = identity.unwrap();
    let handle = tokio::runtime::Handle::current();
    let at = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let twin = endpoint::listen(&handle, at, Listening::Main, &identity, &Network::Udp).unwrap();
    let (link, _) = rig.link_to(twin.local_addr().unwrap(), "gate-1").await;
    let refusing = async {
        let connection = twin.accept().await.unwrap().await.unwrap();
        let why = b"the link speaks protocol version 2, and this twin version 3";
        connection.close(endpoint::codes::PROTOCOL, why);
        connection
    };
    let _closed = refusing.await;
    until("said", || {
        let events = rig.system.events().last(4096);
        let of = |text: &str| text.contains("version 2") && text.contains("version 3");
        events
            .iter()
            .any(|event| event.name == "connect_failed" && of(&event.text))
    })
    .await;
    assert!(!link.is_connected());
    rig.stop().await;
}
