//! Killing any actor of the path loses nothing acknowledged and doubles nothing.

use std::net::Ipv4Addr;
use std::time::Duration;

use actorsim_transport::*;

use crate::rig::{Rig, block, event, pumps, until};

/// Makes events while `kill` runs, then checks that each one was applied once, in order.
async fn exactly_once_through(victim: &str, kills: usize) {
    let rig = Rig::start().await;
    let (link, _) = rig.link("gate-1", "*").await;
    link.register(pumps(1)).unwrap();
    let mut made = 0;
    for _ in 0..kills {
        for _ in 0..20 {
            let events: Vec<_> = (made..made + 25).map(|n| event("pump-0000", n)).collect();
            assert_eq!(link.events(&events), 25);
            made += 25;
            tokio::task::yield_now().await;
        }
        match victim {
            "conn" => {
                let path = rig.conn_path("pump-0000").await;
                let conn = rig.actor(&path).await;
                conn.kill();
                conn.exited().await;
            }
            path => rig.kill(path).await,
        }
    }
    until("all acknowledged", || link.outbox().waiting() == 0).await;
    let t2 = &rig.stats.t2;
    assert_eq!(
        (t2.created.get(), t2.acked.get(), t2.applied.get()),
        (made, made, made)
    );
    let seen: Vec<_> = rig
        .seen
        .lock()
        .t2
        .iter()
        .map(|(_, key)| key.event)
        .collect();
    assert_eq!(seen, (0..made).collect::<Vec<_>>(), "{victim}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_connection_loses_and_doubles_no_event() {
    exactly_once_through("conn", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_link_loses_and_doubles_no_event() {
    exactly_once_through("/fleet/links/gate-1", 3).await;
}

#[tokio::test]
async fn a_killed_tier_loses_and_doubles_no_event() {
    exactly_once_through("/transport/tier-t2", 3).await;
}

#[tokio::test]
async fn a_killed_world_stage_loses_and_doubles_no_event() {
    exactly_once_through("/world", 3).await;
}

#[tokio::test]
async fn a_killed_listener_drops_no_connection_and_accepts_again() {
    let rig = Rig::start().await;
    let (link, _) = rig.link("gate-1", "*").await;
    until("connected", || link.is_connected()).await;
    let before = rig.addr(Listening::Main);
    rig.kill("/transport/listener").await;
    assert_eq!((rig.addr(Listening::Main), link.connections()), (before, 1));
    let (second, _) = rig.link("gate-2", "*").await;
    until("second link", || second.is_connected()).await;
    assert_eq!(link.connections(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn the_ports_are_free_again_when_the_transport_is_closed() {
    // an address of its own: nobody else takes a free port there meanwhile
    let rig = Rig::start_at(Ipv4Addr::new(127, 0, 0, 43)).await;
    let (link, _) = rig.link("gate-1", "*").await;
    until("connected", || link.is_connected()).await;
    let addrs = [rig.addr(Listening::Main), rig.addr(Listening::Plain)];
    rig.stop().await;
    for addr in addrs {
        std::net::UdpSocket::bind(addr).unwrap();
    }
}

#[tokio::test]
async fn a_command_in_flight_is_retried_on_the_next_connection_of_its_device() {
    let rig = Rig::start().await;
    let (link, devices) = rig.link("gate-1", "*").await;
    link.register(pumps(1)).unwrap();
    let path = rig.conn_path("pump-0000").await;
    *devices.answer.lock() = None;
    rig.issue(rig.command("pump-0000", 1, Duration::from_secs(25)));
    until("in flight", || devices.commands.lock().len() == 1).await;
    *devices.answer.lock() = Some(AckStatus::Executed);
    rig.actor(&path).await.kill();
    until("acknowledged", || rig.stats.t3.acked.get() == 1).await;
    assert_eq!(devices.commands.lock().len(), 2);
    assert!(rig.stats.t3.retried.get() >= 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_command_in_flight_survives_a_killed_link() {
    let rig = Rig::start().await;
    let (link, devices) = rig.link("gate-1", "*").await;
    link.register(pumps(10)).unwrap();
    until("registered", || rig.transport.registry().devices() == 10).await;
    *devices.answer.lock() = None;
    for n in 0..10 {
        let device = format!("pump-{n:04}");
        rig.issue(rig.command(&device, 1, Duration::from_secs(25)));
    }
    until("in flight", || devices.commands.lock().len() == 10).await;
    *devices.answer.lock() = Some(AckStatus::Executed);
    rig.kill("/fleet/links/gate-1").await;
    until("acknowledged", || rig.stats.t3.acked.get() == 10).await;
    rig.stop().await;
}

#[tokio::test]
async fn commands_keep_their_outcome_through_kills_of_their_tier() {
    let rig = Rig::start().await;
    let (link, _) = rig.link("gate-1", "*").await;
    link.register(pumps(1)).unwrap();
    rig.conn_path("pump-0000").await;
    for round in 0..3 {
        for id in 1..=50 {
            rig.issue(rig.command("pump-0000", round * 100 + id, Duration::from_secs(5)));
        }
        rig.kill("/transport/tier-t3").await;
    }
    let t3 = &rig.stats.t3;
    until("settled", || t3.settled() == t3.issued.get()).await;
    assert_eq!(t3.issued.get(), 150);
    assert!(t3.acked.get() > 0);
    rig.stop().await;
}

/// Sends telemetry while `victim` is killed again and again, then checks every equation of T1.
async fn telemetry_is_counted_through(victim: &str) {
    let rig = Rig::start().await;
    let (link, _) = rig.link("gate-1", "*").await;
    link.register(pumps(1)).unwrap();
    for round in 0..3_u32 {
        let path = rig.conn_path("pump-0000").await;
        until("connected", || link.is_connected()).await;
        for n in 0..20 {
            let first = (round * 20 + n) * 500;
            link.telemetry(block("pump-0000", first..first + 500))
                .unwrap();
        }
        tokio::task::yield_now().await;
        if victim == "conn" {
            let conn = rig.actor(&path).await;
            conn.kill();
            conn.exited().await;
        } else {
            rig.kill(victim).await;
        }
    }
    // A link that has not heard of the end of its connection takes itself for connected.
    let made = match victim {
        "conn" | "/fleet/links/gate-1" => 4,
        _ => 1,
    };
    until("connected again", || {
        link.connections() >= made && link.is_connected()
    })
    .await;
    until("sent", || link.addr().depth() == 0).await;
    rig.links.terminate_child("gate-1").await.unwrap();
    let t1 = &rig.stats.t1;
    assert_eq!(
        t1.sent.get() + t1.dropped.get(DropReason::Sender),
        30_000,
        "{victim}"
    );
    let lost = || t1.dropped.get(DropReason::Network);
    until("settled", || t1.sent.get() == t1.received.get() + lost()).await;
    let here = [DropReason::Overflow, DropReason::Tier, DropReason::Died];
    until("books balance", || {
        let dropped: u64 = here.iter().map(|reason| t1.dropped.get(*reason)).sum();
        t1.applied.get() + dropped == t1.received.get()
    })
    .await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn telemetry_lost_with_a_killed_connection_is_counted() {
    telemetry_is_counted_through("conn").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn telemetry_lost_with_a_killed_link_is_counted() {
    telemetry_is_counted_through("/fleet/links/gate-1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn telemetry_lost_with_a_killed_tier_is_counted() {
    telemetry_is_counted_through("/transport/tier-t1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn telemetry_lost_with_a_killed_world_stage_is_counted() {
    telemetry_is_counted_through("/world").await;
}

#[tokio::test]
async fn a_killed_subtree_comes_back_on_its_port_with_its_ledgers() {
    exactly_once_through("/transport", 2).await;
}
