//! Commands over a connection of their own: who may have one, what goes over it, and that each
//! command keeps its one outcome whichever connection dies.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use actorsim_transport::endpoint::{self, Protocol};
use actorsim_transport::frames::{PROTOCOL_VERSION, StreamType, ToLink, ToTwin};
use actorsim_transport::*;

use crate::rig::{Rig, block, pumps, until};

const LONG: Duration = Duration::from_secs(25);

/// Commands of a link that are acknowledged, one after another.
async fn acknowledged(rig: &Rig, ids: std::ops::RangeInclusive<u64>) {
    let before = rig.stats.t3.acked.get();
    let count = ids.end() - ids.start() + 1;
    for id in ids {
        rig.issue(rig.command("pump-0000", id, LONG));
    }
    until("acknowledged", || {
        rig.stats.t3.acked.get() == before + count
    })
    .await;
}

/// The connections of a twin, by number.
fn conns(rig: &Rig) -> Vec<String> {
    let filter = actorsim_actors::CensusFilter {
        within: actorsim_actors::ActorPath::new("/transport/conn").ok(),
        state: Some("running".to_owned()),
        ..Default::default()
    };
    let rows = rig.system.census().task_rows(&filter, None, 100).rows;
    let paths = rows.into_iter().map(|row| row.path.to_string());
    paths
        .filter(|path| path.starts_with("/transport/conn/"))
        .collect()
}

#[tokio::test]
async fn commands_to_all_devices_of_a_link_go_over_a_connection_of_their_own() {
    let rig = Rig::with_commands().await;
    let (link, devices) = rig.link("gate-1", "pump-*").await;
    link.register(pumps(10)).unwrap();
    until("registered", || rig.transport.registry().devices() == 10).await;
    rig.joined("pump-0009").await;
    for n in 0..10 {
        let device = format!("pump-{n:04}");
        rig.issue(rig.command(&device, 1, LONG));
    }
    until("acknowledged", || rig.stats.t3.acked.get() == 10).await;
    assert_eq!(devices.beside.load(Relaxed), 10);
    let registry = rig.transport.registry();
    assert_eq!((registry.connections(), registry.for_commands()), (1, 1));
    assert_eq!(link.connections(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn no_telemetry_finds_a_way_over_a_connection_for_commands() {
    let rig = Rig::with_commands().await;
    let (_endpoint, connection) = raw(&rig, Listening::Commands).await;
    assert_eq!(connection.max_datagram_size(), None);
    let stream = tokio::time::timeout(Duration::from_millis(50), connection.open_uni()).await;
    assert!(stream.is_err(), "nobody would read it");
    rig.stop().await;
}

#[tokio::test]
async fn a_link_without_such_a_connection_is_served_over_its_own() {
    let rig = Rig::with_commands().await;
    let (own, devices) = rig.link("gate-1", "*").await;
    own.register(pumps(1)).unwrap();
    rig.joined("pump-0000").await;
    rig.links.terminate_child("gate-1-commands").await.unwrap();
    let registry = rig.transport.registry();
    until("gone", || registry.for_commands() == 0).await;
    acknowledged(&rig, 1..=20).await;
    assert_eq!(devices.commands.lock().len(), 20);
    assert_eq!(devices.beside.load(Relaxed), 0);
    assert_eq!((own.connections(), registry.connections()), (1, 1));
    rig.stop().await;
}

#[tokio::test]
async fn a_dt1_peer_has_one_connection_for_everything() {
    let rig = Rig::with_commands().await;
    let (link, devices) = rig.link_speaking(Protocol::Dt1, "gate-1", "*").await;
    until("connected", || link.is_connected()).await;
    link.telemetry(block("pump-0000", 0..1)).unwrap();
    rig.conn_path("pump-0000").await;
    acknowledged(&rig, 1..=20).await;
    assert_eq!(devices.commands.lock().len(), 20);
    assert_eq!(rig.transport.registry().for_commands(), 0);
    rig.stop().await;
}

/// Kills one end of the connection for commands while one is in flight there.
async fn retried_over_another_connection(victim: &str) {
    let rig = Rig::with_commands().await;
    let (link, devices) = rig.link("gate-1", "*").await;
    link.register(pumps(1)).unwrap();
    let own = rig.conn_path("pump-0000").await;
    rig.joined("pump-0000").await;
    *devices.answer.lock() = None;
    rig.issue(rig.command("pump-0000", 1, LONG));
    until("in flight", || devices.commands.lock().len() == 1).await;
    *devices.answer.lock() = Some(AckStatus::Executed);
    match victim {
        "conn" => {
            let conns = conns(&rig);
            let beside = conns.iter().find(|path| **path != own).unwrap();
            rig.actor(beside).await.kill();
        }
        path => rig.kill(path).await,
    }
    until("acknowledged", || rig.stats.t3.acked.get() == 1).await;
    assert_eq!(rig.stats.t3.settled(), 1);
    assert!(rig.stats.t3.retried.get() >= 1);
    assert_eq!(link.connections(), 1, "its own connection stays");
    rig.joined("pump-0000").await;
    acknowledged(&rig, 2..=10).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_command_in_flight_survives_the_twins_end_of_its_connection() {
    retried_over_another_connection("conn").await;
}

#[tokio::test]
async fn a_command_in_flight_survives_the_links_end_of_its_connection() {
    retried_over_another_connection("/fleet/links/gate-1-commands").await;
}

#[tokio::test]
async fn a_link_that_dies_takes_its_connection_for_commands_along_and_both_come_back() {
    let rig = Rig::with_commands().await;
    let (link, devices) = rig.link("gate-1", "*").await;
    link.register(pumps(1)).unwrap();
    rig.joined("pump-0000").await;
    *devices.answer.lock() = None;
    rig.issue(rig.command("pump-0000", 1, LONG));
    until("in flight", || devices.commands.lock().len() == 1).await;
    *devices.answer.lock() = Some(AckStatus::Executed);
    let before = rig.conn_path("pump-0000").await;
    rig.kill("/fleet/links/gate-1").await;
    until("acknowledged", || rig.stats.t3.acked.get() == 1).await;
    until("the dead are gone", || !conns(&rig).contains(&before)).await;
    rig.joined("pump-0000").await;
    until("one of each", || {
        let registry = rig.transport.registry();
        (registry.connections(), registry.for_commands()) == (1, 1)
    })
    .await;
    acknowledged(&rig, 2..=10).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_killed_listener_for_commands_drops_no_connection_and_keeps_its_port() {
    let rig = Rig::with_commands().await;
    let (link, _) = rig.link("gate-1", "*").await;
    link.register(pumps(1)).unwrap();
    rig.joined("pump-0000").await;
    let port = rig.addr(Listening::Commands);
    rig.kill("/transport/listener-commands").await;
    assert_eq!(rig.addr(Listening::Commands), port);
    acknowledged(&rig, 1..=10).await;
    // And it accepts again: the next one comes through.
    rig.kill("/fleet/links/gate-1-commands").await;
    let accepted = rig.stats.quic.handshakes_accepted.get();
    assert!(accepted <= 3, "the link's own connection stays");
    until("accepted", || rig.stats.quic.handshakes_accepted.get() == 3).await;
    rig.joined("pump-0000").await;
    acknowledged(&rig, 11..=20).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_command_has_one_outcome_whichever_connection_dies() {
    let rig = Rig::with_commands().await;
    let (link, devices) = rig.link("gate-1", "*").await;
    link.register(pumps(20)).unwrap();
    until("registered", || rig.transport.registry().devices() == 20).await;
    let t3 = &rig.stats.t3;
    for round in 1..=6_u64 {
        rig.joined("pump-0000").await;
        for n in 0..20 {
            rig.issue(rig.command(&format!("pump-{n:04}"), round, LONG));
        }
        match round % 3 {
            0 => rig.kill("/fleet/links/gate-1").await,
            1 => rig.kill("/fleet/links/gate-1-commands").await,
            _ => {
                // Each takes the others along.
                let alive = conns(&rig).into_iter().filter_map(|path| {
                    let path = actorsim_actors::ActorPath::new(&path).unwrap();
                    rig.system.census().task(&path)
                });
                alive.for_each(|conn| conn.kill());
            }
        }
        until("settled", || t3.settled() == 20 * round).await;
    }
    assert_eq!((t3.issued.get(), t3.settled()), (120, 120));
    assert_eq!(t3.acked.get() + t3.superseded.get(), 120, "none was lost");
    let came: BTreeSet<_> = devices
        .commands
        .lock()
        .iter()
        .map(|c| (c.device, c.id))
        .collect();
    assert_eq!(came.len(), 120);
    rig.stop().await;
}

/// A connection of a certificate of the site, which says nothing by itself.
async fn raw(rig: &Rig, to: Listening) -> (quinn::Endpoint, quinn::Connection) {
    let out = rig.dir.path().join("raw");
    let identity = rig.site.identity("raw", "*", &out).unwrap();
    let protocol = match to {
        Listening::Commands => Protocol::Commands,
        _ => Protocol::Actorsim1,
    };
    let (handle, twin) = (tokio::runtime::Handle::current(), rig.addr(to));
    let endpoint = endpoint::dialler(&handle, twin, &identity, protocol, &Network::Udp).unwrap();
    let connecting = endpoint.connect(twin, SITE_SERVER_NAME).unwrap();
    (endpoint, connecting.await.unwrap())
}

/// Why the twin ends a connection for commands on which this is said first.
async fn refused(rig: &Rig, said: &[u8]) -> String {
    let (_endpoint, connection) = raw(rig, Listening::Commands).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(said).await.unwrap();
    drop(send.finish());
    connection.closed().await.to_string()
}

fn control(message: &ToTwin) -> Vec<u8> {
    let mut bytes = vec![StreamType::Control as u8];
    bytes.extend(message.frame().unwrap());
    bytes
}

#[tokio::test]
async fn what_is_not_a_join_ends_a_connection_for_commands() {
    let rig = Rig::with_commands().await;
    let hello = control(&ToTwin::Hello {
        version: PROTOCOL_VERSION,
        node: "raw".into(),
        session: 1,
        acked: 0,
        t1_readings: 0,
    });
    let join = control(&ToTwin::Join { connection: 1 });
    let cases: &[(&[u8], &str)] = &[
        (&[], "no join"),
        (&[2], "unknown stream type byte 2"),
        (&[1], "no join"),
        (&join[..3], "no join"),
        (&[1, 255, 255, 255, 255], "too long"),
        (&[1, 1, 0, 0, 0, 99], "not a control message"),
        (&hello, "not a join"),
        (
            &control(&ToTwin::Join { connection: 77 }),
            "none of this certificate",
        ),
    ];
    for (said, why) in cases {
        let told = refused(&rig, said).await;
        assert!(told.contains(why), "{said:?}: {told}");
    }
    until("gone", || rig.transport.registry().for_commands() == 0).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_connection_of_another_certificate_cannot_be_joined() {
    let rig = Rig::with_commands().await;
    let (link, devices) = rig.link("gate-1", "pump-*").await;
    link.register(pumps(1)).unwrap();
    rig.joined("pump-0000").await;
    let path = rig.conn_path("pump-0000").await;
    let connection: u32 = path.rsplit('/').next().unwrap().parse().unwrap();
    let told = refused(&rig, &control(&ToTwin::Join { connection })).await;
    assert!(told.contains("none of this certificate"), "{told}");
    acknowledged(&rig, 1..=10).await;
    assert_eq!(devices.commands.lock().len(), 10, "none went astray");
    rig.stop().await;
}

/// Says hello on a link's own connection, and hears where its commands may have another.
async fn greeted(connection: &quinn::Connection) -> (quinn::SendStream, quinn::RecvStream, u32) {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let hello = ToTwin::Hello {
        version: PROTOCOL_VERSION,
        node: "raw".into(),
        session: 9,
        acked: 0,
        t1_readings: 0,
    };
    send.write_all(&control(&hello)).await.unwrap();
    loop {
        let mut length = [0; 4];
        receive.read_exact(&mut length).await.unwrap();
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        receive.read_exact(&mut frame).await.unwrap();
        if let ToLink::Commands { connection, .. } = ToLink::parse(&frame).unwrap() {
            return (send, receive, connection);
        }
    }
}

#[tokio::test]
async fn the_last_of_two_connections_for_the_same_commands_has_them() {
    let rig = Rig::with_commands().await;
    let (_one, own) = raw(&rig, Listening::Main).await;
    let (_send, _receive, connection) = greeted(&own).await;
    let join = control(&ToTwin::Join { connection });
    let mut before: Option<quinn::Connection> = None;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let (endpoint, beside) = raw(&rig, Listening::Commands).await;
        let (mut send, mut receive) = beside.open_bi().await.unwrap();
        send.write_all(&join).await.unwrap();
        receive.read_exact(&mut [0; 5]).await.unwrap();
        if let Some(before) = before.replace(beside) {
            let why = before.closed().await.to_string();
            assert!(why.contains("is gone"), "{why}");
        }
        kept.push((endpoint, send, receive));
    }
    until("one", || rig.transport.registry().for_commands() == 1).await;
    own.close(0_u32.into(), b"");
    let why = before.unwrap().closed().await.to_string();
    assert!(why.contains("is gone"), "{why}");
    rig.stop().await;
}
