//! Certificates that the site takes back: whoever shows one, on either side of a connection, is
//! left, and stays out.

use std::net::SocketAddr;
use std::path::PathBuf;

use actorsim_transport::endpoint::{codes, dialler};
use actorsim_transport::*;
use quinn::{Connection, ConnectionError, Endpoint};
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::rig::{Rig, until};

/// Handshakes after which a host is too busy to tell anything.
const ROUNDS_MAX: u32 = 8;

#[tokio::test]
async fn a_certificate_that_is_revoked_loses_its_connection_and_gets_no_other() {
    let rig = Rig::start().await;
    let (kept, _) = rig.link("gate-1", "*").await;
    let (revoked, _) = rig.link("gate-2", "*").await;
    until("connected", || {
        kept.is_connected() && revoked.is_connected()
    })
    .await;
    let twin = rig.dir.path().join("twin");
    rig.site
        .revoke(&rig.dir.path().join("gate-2"), &[twin])
        .unwrap();
    let foreign = &rig.stats.quic.handshakes_foreign;
    until("refused", || foreign.get() > 0).await;
    assert!(!revoked.is_connected());
    assert_eq!((kept.is_connected(), kept.connections()), (true, 1));
    rig.stop().await;
}

/// Where a node of the rig has its identity.
fn at(rig: &Rig, name: &str) -> PathBuf {
    rig.dir.path().join(name)
}

/// How often an event was said.
fn said(rig: &Rig, name: &str) -> usize {
    let events = rig.system.events().last(4096);
    events.iter().filter(|event| event.name == name).count()
}

/// A line to the twin on which only the first packet goes there until it is opened; the others
/// wait. All that the twin says comes through.
async fn held_line(twin: SocketAddr, open: watch::Receiver<bool>) -> SocketAddr {
    let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = near.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut there, mut back) = ([0; 65_535], [0; 65_535]);
        let (mut waiting, mut passed, mut peer) = (Vec::<Vec<u8>>::new(), 0, None);
        let mut opened = open;
        loop {
            tokio::select! {
                biased;
                Ok(()) = opened.changed() => {}
                came = near.recv_from(&mut there) => {
                    let (length, from) = came.unwrap();
                    waiting.push(there[..length].to_vec());
                    peer = Some(from);
                }
                came = far.recv(&mut back) => {
                    near.send_to(&back[..came.unwrap()], peer.unwrap()).await.unwrap();
                }
            }
            while passed == 0 || (*opened.borrow() && !waiting.is_empty()) {
                far.send_to(&waiting.remove(0), twin).await.unwrap();
                passed += 1;
            }
        }
    });
    at
}

/// A connection whose handshake the twin has begun and cannot end before the line is opened.
async fn half_a_handshake(
    rig: &Rig,
    name: &str,
    open: watch::Receiver<bool>,
) -> (Endpoint, Connection) {
    let identity = rig.site.identity(name, "*", &at(rig, name)).unwrap();
    let to = held_line(rig.addr(Listening::Main), open).await;
    let speaking = Protocol::Actorsim1;
    let endpoint = dialler(&Handle::current(), to, &identity, speaking, &Network::Udp).unwrap();
    // A TLS 1.3 client is done as soon as it has heard the server.
    let connecting = endpoint.connect(to, SITE_SERVER_NAME).unwrap();
    let connection = connecting.await.unwrap();
    (endpoint, connection)
}

#[tokio::test]
async fn who_stalls_a_handshake_while_it_is_revoked_is_not_served_after_it() {
    let rig = Rig::start().await;
    let quic = &rig.stats.quic;
    for round in 1..=ROUNDS_MAX {
        let (name, open) = (format!("stalls-{round}"), watch::Sender::new(false));
        let (_endpoint, connection) = half_a_handshake(&rig, &name, open.subscribe()).await;
        let before = said(&rig, "certificates_revoked");
        rig.site
            .revoke(&at(&rig, &name), &[at(&rig, "twin")])
            .unwrap();
        until("heard", || said(&rig, "certificates_revoked") > before).await;
        open.send_replace(true);
        let why = connection.closed().await;
        assert_eq!(quic.handshakes_accepted.get(), 0);
        until("gone", || rig.transport.registry().connections() == 0).await;
        if quic.handshakes_timed_out.get() == u64::from(round) {
            continue; // the host was too busy: its time was over before
        }
        let ConnectionError::ApplicationClosed(close) = why else {
            panic!("{why}");
        };
        assert_eq!(close.error_code, codes::CERTIFICATE);
        until("counted", || quic.handshakes_foreign.get() == 1).await;
        rig.stop().await;
        return;
    }
    panic!("no handshake went on in time");
}

#[tokio::test]
async fn a_link_leaves_a_twin_that_is_revoked_and_does_not_come_back() {
    let rig = Rig::start().await;
    let (link, _) = rig.link("gate-1", "*").await;
    until("connected", || link.is_connected()).await;
    rig.site
        .revoke(&at(&rig, "twin"), &[at(&rig, "gate-1")])
        .unwrap();
    let failed = &rig.stats.quic.dial_failed;
    until("left, and refused", || failed.get() >= 2).await;
    assert_eq!((link.is_connected(), link.connections()), (false, 1));
    rig.stop().await;
}

#[tokio::test]
async fn a_list_that_vanishes_or_that_another_site_signed_changes_nothing() {
    let rig = Rig::start().await;
    let twin = at(&rig, "twin");
    let list = twin.join("revoked.pem");
    let (kept, _) = rig.link("gate-1", "*").await;
    let (revoked, _) = rig.link("gate-2", "*").await;
    rig.site.revoke(&at(&rig, "gate-2"), &[twin]).unwrap();
    let foreign = &rig.stats.quic.handshakes_foreign;
    until("refused", || foreign.get() > 0).await;
    until("connected", || kept.is_connected()).await;

    std::fs::remove_file(&list).unwrap();
    until("said", || said(&rig, "revocations_unread") == 1).await;
    let before = foreign.get();
    until("still refused", || foreign.get() > before + 1).await;

    let other = Site::open_or_create(&at(&rig, "other-site")).unwrap();
    let theirs = other.revoke(&at(&rig, "gate-1"), &[]).unwrap();
    std::fs::copy(theirs, &list).unwrap();
    until("said", || said(&rig, "revocations_unread") == 2).await;
    let before = foreign.get();
    until("still refused", || foreign.get() > before + 1).await;
    assert!(!revoked.is_connected());
    assert_eq!((kept.is_connected(), kept.connections()), (true, 1));

    std::fs::copy(rig.site.dir().join("revoked.pem"), &list).unwrap();
    rig.site
        .revoke(&at(&rig, "gate-1"), &[at(&rig, "twin")])
        .unwrap();
    until("closed", || !kept.is_connected()).await;
    rig.stop().await;
}
