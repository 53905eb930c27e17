//! Peers that stall, flood, overreach or leave: they cost themselves, and nobody else.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use actorsim_transport::endpoint::{self, Protocol};
use actorsim_transport::frames::{PROTOCOL_VERSION, StreamType, ToTwin};
use actorsim_transport::*;
use quinn::{Connection, ConnectionError};
use tokio::net::UdpSocket;

use crate::bare_client::{client, client_at, encode};
use crate::rig::{Rig, block, event, pumps, until};

const DEVICE: [u8; 16] = [7; 16];
/// Pairs of commands after which a host is too busy to tell anything.
const ROUNDS_MAX: u64 = 500;

fn fans(count: u32) -> Registration {
    let mut fans = pumps(count);
    fans.devices.prefix = "fan-".into();
    fans
}

/// Begins a handshake that never goes on: only its first packet arrives.
async fn stalled_handshake(rig: &Rig, twin: SocketAddr) -> (quinn::Endpoint, quinn::Connecting) {
    let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let out = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let endpoint = client(rig.site.ca_pem(), Some(b"dt/1"));
    let to = relay.local_addr().unwrap();
    let connecting = endpoint.connect(to, "localhost").unwrap();
    let mut first = [0; 2048];
    let length = relay.recv(&mut first).await.unwrap();
    out.send_to(&first[..length], twin).await.unwrap();
    (endpoint, connecting)
}

#[tokio::test]
async fn handshakes_that_stall_keep_nobody_else_out() {
    let rig = Rig::start().await;
    let mut stalled = Vec::new();
    for _ in 0..40 {
        stalled.push(stalled_handshake(&rig, rig.addr(Listening::Main)).await);
    }
    let (link, _) = rig.link("gate-1", "*").await;
    until("connected", || link.is_connected()).await;
    assert_eq!(rig.stats.quic.handshakes_timed_out.get(), 0);
    rig.stop().await;
}

/// Few of everything.
const NARROW: Limits = Limits {
    handshakes: 8,
    handshakes_share: 2,
    connections: 4,
    connections_share: 2,
    devices: 10,
};

/// A peer at an address of this machine.
async fn peer_at(rig: &Rig, from: [u8; 4]) -> Result<Connection, ConnectionError> {
    let endpoint = client_at(from.into(), rig.site.ca_pem(), Some(b"dt/1"));
    let twin = rig.addr(Listening::Main);
    endpoint.connect(twin, "localhost").unwrap().await
}

#[tokio::test]
async fn one_address_that_stalls_its_handshakes_keeps_no_other_address_out() {
    let rig = Rig::start_with(Ipv4Addr::LOCALHOST, NARROW).await;
    let mut stalled = Vec::new();
    for _ in 0..2 * NARROW.handshakes {
        stalled.push(stalled_handshake(&rig, rig.addr(Listening::Main)).await);
    }
    let quic = &rig.stats.quic;
    // The first ones have the share; on a slow host they have stalled by the time of others.
    let turned_away = || quic.handshakes_crowded.get() + quic.handshakes_displaced.get();
    let rest = (2 * NARROW.handshakes - NARROW.handshakes_share) as u64;
    until("turned away", || {
        turned_away() + quic.handshakes_timed_out.get() >= rest
    })
    .await;
    peer_at(&rig, [127, 0, 0, 2]).await.unwrap();
    until("served", || quic.handshakes_accepted.get() == 1).await;
    assert_eq!(quic.handshakes_full.get(), 0);
    rig.stop().await;
}

#[tokio::test]
async fn neighbours_of_one_that_stalls_its_handshakes_get_their_turn() {
    let rig = Rig::start_with(Ipv4Addr::LOCALHOST, NARROW).await;
    let mut stalled = Vec::new();
    for _ in 0..NARROW.handshakes {
        stalled.push(stalled_handshake(&rig, rig.addr(Listening::Main)).await);
    }
    // It asks again until one of them has stalled for long enough to give way.
    let (link, _) = rig.link("gate-1", "*").await;
    until("connected", || link.is_connected()).await;
    rig.stop().await;
}

#[tokio::test]
async fn an_address_or_a_certificate_that_has_its_share_of_connections_leaves_the_rest() {
    let rig = Rig::start_with(Ipv4Addr::LOCALHOST, NARROW).await;
    let quic = &rig.stats.quic;
    let (accepted, crowded) = (&quic.handshakes_accepted, &quic.handshakes_crowded);
    // Without a certificate: two of an address. Who is one too many is told, and may come back.
    let own = [127, 0, 0, 1];
    let first = peer_at(&rig, own).await.unwrap();
    let _second = peer_at(&rig, own).await.unwrap();
    until("accepted", || accepted.get() == 2).await;
    let refused = peer_at(&rig, own).await.unwrap();
    let why = refused.closed().await.to_string();
    assert!(why.contains("2 connections from its address"), "{why}");
    assert_eq!((accepted.get(), crowded.get()), (2, 1));
    // With one: two of it, behind an address that has its share already.
    let (_endpoint, _third) = raw(&rig).await;
    let (_endpoint_2, _fourth) = raw(&rig).await;
    until("accepted", || accepted.get() == 4).await;
    assert_eq!(rig.transport.registry().connections(), NARROW.connections);
    // And no more at all, from nobody: that needs no handshake.
    assert!(peer_at(&rig, [127, 0, 0, 2]).await.is_err());
    until("counted", || quic.handshakes_full.get() == 1).await;
    first.close(0_u32.into(), b"done");
    until("gone", || rig.transport.registry().connections() == 3).await;
    let (_endpoint_3, refused) = raw(&rig).await;
    let why = refused.closed().await.to_string();
    assert!(why.contains("2 connections with its certificate"), "{why}");
    assert_eq!((accepted.get(), crowded.get()), (4, 2));
    peer_at(&rig, own).await.unwrap();
    until("accepted", || accepted.get() == 5).await;
    rig.stop().await;
}

/// What is said under a name.
fn said(rig: &Rig, name: &str) -> Vec<String> {
    let events = rig.system.events().last(4096).into_iter();
    let of_name = events.filter(|event| event.name == name);
    of_name.map(|event| event.text.clone()).collect()
}

#[tokio::test]
async fn one_certificate_fills_its_quota_of_devices_and_not_the_world() {
    let rig = Rig::start_with(Ipv4Addr::LOCALHOST, NARROW).await;
    let (greedy, _) = rig.link("gate-1", "fan-*").await;
    greedy.register(fans(10)).unwrap();
    let registered = || rig.seen.lock().registered.len();
    until("its quota", || registered() == 10).await;
    // Ever new names, a connection at a time.
    let mut more = fans(1);
    more.devices.first = 10;
    greedy.register(more).unwrap();
    let refused = &rig.stats.quic.registrations_refused;
    until("refused", || refused.get() == 1).await;
    assert_eq!(registered(), 10);
    rig.links.terminate_child("gate-1").await.unwrap();
    rig.links.delete_child("gate-1").await.unwrap();
    // What it may have it has again; others have their own.
    let (same, _) = rig.link("gate-1", "fan-*").await;
    same.register(fans(10)).unwrap();
    let (other, _) = rig.link("gate-2", "pump-*").await;
    other.register(pumps(10)).unwrap();
    // For any device, any number.
    let (any, _) = rig.link("gate-3", "*").await;
    let mut lamps = pumps(100);
    lamps.devices.prefix = "lamp-".into();
    any.register(lamps).unwrap();
    until("registered", || registered() == 120).await;
    until("reached", || rig.transport.registry().devices() == 120).await;
    assert_eq!(refused.get(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn devices_beyond_the_quota_are_refused_by_themselves_and_said_once() {
    let rig = Rig::start_with(Ipv4Addr::LOCALHOST, NARROW).await;
    let (link, devices) = rig.link("gate-1", "fan-*").await;
    link.register(fans(4)).unwrap();
    // Of these two are known, six are still within the quota, and the rest is not.
    let mut more = fans(300);
    more.devices.first = 2;
    link.register(more).unwrap();
    let mut last = fans(1);
    last.devices.first = 9;
    link.register(last).unwrap();
    let registry = rig.transport.registry();
    until("the rest is served", || registry.devices() == 10).await;
    let (refused, told) = (&rig.stats.quic.registrations_refused, "devices_refused");
    until("told", || said(&rig, told).len() == 2).await;
    let said_here = said(&rig, told);
    let of = |text: &&String| text.contains("292 devices") && text.contains("\"fan-0010\"");
    assert_eq!(
        said_here.iter().filter(of).count(),
        2,
        "by twin and link: {said_here:?}"
    );
    assert!(said_here.iter().all(|text| text.contains("devices_max")));
    // Events of the others do not wait behind those that nobody takes.
    let t2 = &rig.stats.t2;
    for n in 0..8 {
        let events = [
            event("fan-0000", n),
            event("fan-0010", n),
            event("fan-0009", n),
        ];
        assert_eq!(link.events(&events), 2);
    }
    until("acknowledged", || t2.acked.get() == 16).await;
    assert_eq!((t2.blocked.get(), t2.applied.get()), (8, 16));
    // And commands come through.
    rig.issue(rig.command("fan-0009", 1, Duration::from_secs(20)));
    until("acknowledged", || rig.stats.t3.acked.get() == 1).await;
    assert_eq!(devices.commands.lock().len(), 1);
    assert_eq!((link.connections(), refused.get()), (1, 1));
    rig.stop().await;
}

#[tokio::test]
async fn names_in_vain_are_counted_over_all_registrations_of_a_connection() {
    let limits = Limits {
        devices: 100,
        ..NARROW
    };
    let rig = Rig::start_with(Ipv4Addr::LOCALHOST, limits).await;
    let (link, _) = rig.link("gate-1", "fan-*").await;
    let of = |first, count| {
        let mut some = fans(count);
        some.devices.first = first;
        some
    };
    link.register(of(1000, 100)).unwrap();
    // Of these all are looked at; then the connection has had its share.
    link.register(of(0, 70)).unwrap();
    link.register(of(100, 70)).unwrap();
    // What is known of its first names would be served still, not what is behind them.
    link.register(of(936, 164)).unwrap();
    let refused = &rig.stats.quic.registrations_refused;
    until("judged", || refused.get() == 3).await;
    until("the link knows", || {
        link.events(&[event("fan-1099", 1)]) == 0
    })
    .await;
    assert_eq!(link.events(&[event("fan-0100", 1)]), 0);
    assert_eq!(rig.transport.registry().devices(), 100);
    assert_eq!(link.connections(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn events_that_were_made_before_their_device_was_refused_hold_nobody_up() {
    let rig = Rig::start_with(Ipv4Addr::LOCALHOST, NARROW).await;
    let (link, _) = rig.link("gate-1", "fan-*").await;
    for n in 0..50 {
        let events = [event("fan-0010", n), event("fan-0001", n)];
        assert_eq!(link.events(&events), 2, "nothing is known yet");
    }
    link.register(fans(11)).unwrap();
    let t2 = &rig.stats.t2;
    until("applied", || t2.applied.get() == 50).await;
    until("the others are given up", || t2.acked.get() == 50).await;
    assert_eq!(link.outbox().waiting(), 0);
    assert_eq!(t2.dropped.get(DropReason::Refused), 50);
    assert_eq!(link.connections(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn peers_without_a_certificate_make_no_more_devices_known_than_their_quota() {
    let rig = Rig::start_with(Ipv4Addr::LOCALHOST, NARROW).await;
    let local = [127, 0, 0, 1];
    let first = peer_at(&rig, local).await.unwrap();
    let reading = |device, sequence| encode([device; 16], 0, 1.0, sequence, 0);
    for device in 0..15 {
        first.send_datagram(reading(device, 0).into()).unwrap();
    }
    let (t1, t2) = (&rig.stats.t1, &rig.stats.t2);
    until("T1", || t1.received.get() == 15 && t1.applied.get() == 10).await;
    assert_eq!(t1.dropped.get(DropReason::Refused), 5);
    // Another connection, another tier: the quota is the same one.
    let second = peer_at(&rig, local).await.unwrap();
    let mut stream = second.open_uni().await.unwrap();
    for device in 5..15 {
        stream.write_all(&reading(device, 1)).await.unwrap();
    }
    stream.finish().unwrap();
    until("T2", || t2.received.get() == 10 && t2.applied.get() == 5).await;
    assert_eq!(t2.dropped.get(DropReason::Refused), 5);
    assert_eq!(rig.transport.registry().devices(), 10);
    rig.stop().await;
}

#[tokio::test]
async fn a_restricted_certificate_speaks_only_for_the_devices_it_registered() {
    let rig = Rig::start().await;
    let (link, _) = rig.link("gate-1", "fan-*").await;
    link.register(fans(3)).unwrap();
    until("registered", || rig.transport.registry().devices() == 3).await;
    until("connected", || link.is_connected()).await;
    link.telemetry(block("pump-0000", 0..10)).unwrap();
    link.telemetry(block("fan-0001", 0..10)).unwrap();
    let t1 = &rig.stats.t1;
    until("T1", || t1.received.get() == 20).await;
    until("T1", || t1.applied.get() == 10).await;
    assert_eq!(t1.dropped.get(DropReason::Refused), 10);
    assert_eq!(link.events(&[event("fan-0002", 1)]), 1);
    until("T2", || link.outbox().waiting() == 0).await;
    assert_eq!(link.events(&[event("pump-0000", 1)]), 1);
    until("sent", || rig.stats.t2.received.get() >= 2).await;
    let fan = |reading: &Reading| reading.device != device_uuid("pump-0000");
    assert!(rig.seen.lock().t1.iter().all(fan));
    assert!(rig.seen.lock().t2.iter().all(|(reading, _)| fan(reading)));
    let taken = rig.seen.lock().t2.len();
    assert_eq!((taken, link.outbox().waiting()), (1, 1));
    rig.stop().await;
}

#[tokio::test]
async fn a_restricted_certificate_cannot_speak_dt1_which_names_no_devices() {
    let rig = Rig::start().await;
    let (link, _) = rig.link_speaking(Protocol::Dt1, "gate-1", "fan-*").await;
    until("refused", || rig.stats.quic.handshakes_devices.get() > 0).await;
    link.telemetry(block("pump-0000", 0..1)).unwrap();
    until("refused again", || {
        rig.stats.quic.handshakes_devices.get() > 1
    })
    .await;
    assert_eq!(rig.stats.quic.handshakes_accepted.get(), 0);
    assert_eq!(rig.stats.t1.received.get(), 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_twin_that_refuses_a_link_is_not_asked_again_at_once() {
    let rig = Rig::start().await;
    let (link, _) = rig.link("gate-1", "fan-*").await;
    link.register(pumps(1)).unwrap();
    let started = tokio::time::Instant::now();
    until("refused", || link.connections() >= 6).await;
    // Half of 20, 40, 80, 160 and 320 ms.
    assert!(started.elapsed() >= Duration::from_millis(300));
    rig.stop().await;
}

#[tokio::test]
async fn a_stuck_device_costs_itself_only() {
    let rig = Rig::start().await;
    let (link, devices) = rig.link("gate-1", "*").await;
    link.register(pumps(2)).unwrap();
    until("registered", || rig.transport.registry().devices() == 2).await;
    *devices.answer.lock() = None;
    for id in 1..=200 {
        rig.issue(rig.command("pump-0000", id, Duration::from_secs(8)));
    }
    until("stuck", || !devices.commands.lock().is_empty()).await;
    *devices.answer.lock() = Some(AckStatus::Executed);
    rig.issue(rig.command("pump-0001", 1, Duration::from_secs(60)));
    let t3 = &rig.stats.t3;
    until("acknowledged", || t3.acked.get() >= 1).await;
    let neighbour = device_uuid("pump-0001");
    let commands = devices.commands.lock().clone();
    assert!(commands.iter().any(|command| command.device == neighbour));
    assert_eq!(t3.expired.get(), 0, "it waited for nobody's deadline");
    until("settled", || t3.settled() == 201).await;
    assert_eq!(t3.no_route.get(), 0, "there was a route all the time");
    rig.stop().await;
}

#[tokio::test]
async fn commands_that_were_never_answered_leave_no_stream_open() {
    let rig = Rig::start().await;
    let (link, devices) = rig.link("gate-1", "*").await;
    link.register(pumps(60)).unwrap();
    until("registered", || rig.transport.registry().devices() == 60).await;
    *devices.answer.lock() = None;
    let t3 = &rig.stats.t3;
    // More than the streams that a connection may have open; what a busy host does not get there in
    // its time opens none.
    for round in 1..=ROUNDS_MAX {
        for n in [0, 1] {
            let device = format!("pump-{:04}", 2 * (round % 30) + n);
            rig.issue(rig.command(&device, round, Duration::from_millis(50)));
        }
        until("settled", || t3.settled() == 2 * round).await;
        if t3.expired.get() >= 120 {
            break;
        }
    }
    assert!(t3.expired.get() >= 120);
    *devices.answer.lock() = Some(AckStatus::Executed);
    rig.issue(rig.command("pump-0000", ROUNDS_MAX + 1, Duration::from_secs(20)));
    until("acknowledged", || t3.acked.get() == 1).await;
    assert_eq!(link.connections(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn events_of_a_dt1_peer_that_leaves_at_once_still_reach_the_world() {
    let rig = Rig::start().await;
    let endpoint = client(rig.site.ca_pem(), Some(b"dt/1"));
    let twin = rig.addr(Listening::Main);
    let connection = endpoint.connect(twin, "localhost").unwrap().await.unwrap();
    rig.open.send_replace(false);
    let mut streams = Vec::new();
    // More than the world's and the tier's mailboxes hold.
    for _ in 0..20 {
        let mut stream = connection.open_uni().await.unwrap();
        let many: Vec<u8> = (0..5000)
            .flat_map(|n| encode(DEVICE, 5, 0.0, n, 5))
            .collect();
        stream.write_all(&many).await.unwrap();
        stream.finish().unwrap();
        streams.push(stream);
    }
    for stream in streams {
        assert_eq!(stream.stopped().await.unwrap(), None, "QUIC has it all");
    }
    connection.close(0_u32.into(), b"done");
    rig.open.send_replace(true);
    until("all", || rig.seen.lock().t2_plain.len() == 100_000).await;
    until("gone", || rig.transport.registry().connections() == 0).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_dies_while_it_registers_leaves_no_device_behind() {
    let rig = Rig::start().await;
    for round in 0..20 {
        let (_endpoint, connection) = raw(&rig).await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        let Registration { devices, sensors } = pumps(50_000);
        let hello = ToTwin::Hello {
            version: PROTOCOL_VERSION,
            node: "raw".into(),
            session: round,
            acked: 0,
            t1_readings: 0,
        };
        let sensors = sensors.to_vec();
        let register = ToTwin::Register { devices, sensors };
        send.write_all(&[StreamType::Control as u8]).await.unwrap();
        send.write_all(&hello.frame().unwrap()).await.unwrap();
        send.write_all(&register.frame().unwrap()).await.unwrap();
        let devices = || rig.transport.registry().devices();
        let conn = rig.actor(&rig.conn_path("pump-0000").await).await;
        conn.kill();
        conn.exited().await;
        assert_eq!(devices(), 0, "round {round}");
    }
    rig.stop().await;
}

/// A connection of the site that says nothing by itself.
async fn raw(rig: &Rig) -> (quinn::Endpoint, Connection) {
    let out = rig.dir.path().join("raw");
    let identity = rig.site.identity("raw", "*", &out).unwrap();
    let twin = rig.addr(Listening::Main);
    let handle = tokio::runtime::Handle::current();
    let endpoint =
        endpoint::dialler(&handle, twin, &identity, Protocol::Actorsim1, &Network::Udp).unwrap();
    let connecting = endpoint.connect(twin, SITE_SERVER_NAME).unwrap();
    let connection = connecting.await.unwrap();
    (endpoint, connection)
}

#[tokio::test]
async fn a_stream_that_nobody_would_read_cannot_be_opened() {
    let rig = Rig::start().await;
    let (_endpoint, connection) = raw(&rig).await;
    let _control = connection.open_bi().await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(50), connection.open_bi()).await;
    assert!(second.is_err());
    rig.stop().await;
}

#[tokio::test]
async fn a_control_stream_that_ends_before_its_hello_ends_the_connection() {
    let rig = Rig::start().await;
    for half in [&[][..], &[1], &[1, 9, 0, 0, 0, 2]] {
        let (_endpoint, connection) = raw(&rig).await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(half).await.unwrap();
        send.finish().unwrap();
        let why = connection.closed().await.to_string();
        assert!(why.contains("no hello"), "{why}");
    }
    rig.stop().await;
}
