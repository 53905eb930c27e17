//! Links to a listener and back: the equations of T1, T2 and T3 when nothing is killed.

use std::time::Duration;

use actorsim_actors::Clock;
use actorsim_transport::*;

use crate::rig::{Rig, block, event, pumps, reading, until};

#[tokio::test]
async fn every_reading_is_sent_received_and_applied_or_counted_as_lost() {
    let rig = Rig::start().await;
    let (link, _) = rig.link("gate-1", "*").await;
    until("connected", || link.is_connected()).await;
    for n in 0..50 {
        link.telemetry(block("pump-0001", n * 1000..(n + 1) * 1000))
            .unwrap();
        if n % 10 == 9 {
            until("sent", || link.addr().depth() == 0).await;
        }
    }
    rig.links.terminate_child("gate-1").await.unwrap();
    let t1 = &rig.stats.t1;
    let lost = || t1.dropped.get(DropReason::Network);
    assert_eq!(t1.sent.get() + t1.dropped.get(DropReason::Sender), 50_000);
    until("settled", || t1.sent.get() == t1.received.get() + lost()).await;
    let lost = lost();
    let applied = || t1.applied.get() + t1.dropped.total() - lost;
    let before = t1.dropped.get(DropReason::Sender);
    until("applied", || applied() - before == t1.received.get()).await;
    assert!(t1.applied.get() > 0 && t1.decode_errors.get() == 0);
    assert!(
        t1.datagrams_sent.get() * 20 < t1.sent.get(),
        "datagrams are packed"
    );
    assert_eq!(rig.seen.lock().t1.len() as u64, t1.applied.get());
    assert!(t1.latency.quantiles().is_some());
    rig.stop().await;
}

#[tokio::test]
async fn events_are_acknowledged_only_when_the_world_has_them() {
    let rig = Rig::start().await;
    let (link, _) = rig.link("gate-1", "*").await;
    let events: Vec<_> = (0..1000).map(|n| event("pump-0001", n)).collect();
    for some in events.chunks(37) {
        assert_eq!(link.events(some), some.len());
    }
    until("acknowledged", || link.outbox().waiting() == 0).await;
    let t2 = &rig.stats.t2;
    assert_eq!(
        (t2.created.get(), t2.acked.get(), t2.applied.get()),
        (1000, 1000, 1000)
    );
    let seen: Vec<_> = rig
        .seen
        .lock()
        .t2
        .iter()
        .map(|(_, key)| key.event)
        .collect();
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    rig.stop().await;
}

#[tokio::test]
async fn announced_devices_are_known_to_the_world_and_reached_by_commands() {
    let rig = Rig::start().await;
    let (link, devices) = rig.link("gate-1", "pump-*").await;
    link.register(pumps(3000)).unwrap();
    until("registered", || rig.seen.lock().registered.len() == 3000).await;
    for id in 1..=20 {
        rig.issue(rig.command("pump-2999", id, Duration::from_secs(20)));
    }
    until("acknowledged", || rig.stats.t3.acked.get() == 20).await;
    let ids: Vec<_> = devices
        .commands
        .lock()
        .iter()
        .map(|command| command.id)
        .collect();
    assert_eq!(ids.len(), 20);
    let left = devices.commands.lock()[0].left.unwrap();
    assert!(left > Duration::from_secs(1) && left <= Duration::from_secs(20));
    assert_eq!(rig.stats.t3.rtt.quantiles().unwrap().count, 20);
    assert_eq!(rig.stats.t3.decide.quantiles().unwrap().count, 20);
    rig.links.terminate_child("gate-1").await.unwrap();
    until("purged", || rig.transport.registry().devices() == 0).await;
    rig.stop().await;
}

#[tokio::test]
async fn each_outcome_of_a_command_has_its_own_counter() {
    let rig = Rig::start().await;
    let (link, devices) = rig.link("gate-1", "*").await;
    link.register(pumps(2)).unwrap();
    until("registered", || rig.transport.registry().devices() == 2).await;
    let t3 = &rig.stats.t3;
    rig.issue(rig.command("nobody", 1, Duration::from_millis(30)));
    until("no route", || t3.no_route.get() == 1).await;
    *devices.answer.lock() = Some(AckStatus::Superseded);
    rig.issue(rig.command("pump-0000", 1, Duration::from_secs(20)));
    until("superseded", || t3.superseded.get() == 1).await;
    *devices.answer.lock() = Some(AckStatus::Refused);
    rig.issue(rig.command("pump-0000", 2, Duration::from_secs(20)));
    until("refused", || t3.errors.get() == 1).await;
    *devices.answer.lock() = None;
    // long enough to get there: what does not has no route
    rig.issue(rig.command("pump-0000", 3, Duration::from_secs(2)));
    until("expired", || t3.expired.get() == 1).await;
    assert_eq!((t3.issued.get(), t3.settled()), (4, 4));
    rig.stop().await;
}

#[tokio::test]
async fn a_busy_device_is_asked_again_until_it_takes_the_command() {
    let rig = Rig::start().await;
    let (link, devices) = rig.link("gate-1", "*").await;
    link.register(pumps(1)).unwrap();
    devices.busy.store(3, std::sync::atomic::Ordering::Relaxed);
    rig.issue(rig.command("pump-0000", 1, Duration::from_secs(20)));
    until("acknowledged", || rig.stats.t3.acked.get() == 1).await;
    assert_eq!(devices.commands.lock().len(), 4);
    assert_eq!(
        (rig.stats.t3.errors.get(), rig.stats.t3.retried.get()),
        (0, 3)
    );
    rig.stop().await;
}

#[tokio::test]
async fn latency_between_clocks_that_differ_is_that_of_the_line() {
    let rig = Rig::start().await;
    let apart = 90_000_000;
    // The second is further off, so that it is the one that is told.
    for (id, ahead) in [("gate-1", -apart), ("gate-2", 2 * apart)] {
        let clock = Clock::wall();
        clock.jump(ahead);
        let (link, root) = rig.link_by(clock.clone(), id).await;
        let known = || rig.stats.clocks.furthest();
        let right = |found: ClockOffset| found.offset_us.abs_diff(ahead) < 1_000_000;
        until("known", || known().is_some_and(right)).await;
        let received = rig.stats.t1.received.get();
        let mut bytes = Vec::new();
        let now = Reading {
            at_us: clock.unix_us(),
            ..reading("pump-0001", 1)
        };
        now.encode_into(&mut bytes);
        link.telemetry(bytes.into()).unwrap();
        until("received", || rig.stats.t1.received.get() > received).await;
        root.stop().await;
    }
    let latency = rig.stats.t1.latency.quantiles().unwrap();
    assert_eq!(latency.count, 2);
    assert!(latency.max < 30_000_000, "{latency:?}");
    rig.stop().await;
}

#[tokio::test]
async fn a_flooding_gateway_loses_its_own_readings_only() {
    let rig = Rig::start().await;
    let (flooding, _) = rig.link("gate-1", "*").await;
    let (modest, _) = rig.link("gate-2", "*").await;
    until("connected", || {
        flooding.is_connected() && modest.is_connected()
    })
    .await;
    flooding.register(pumps(1)).unwrap();
    let mut fan = pumps(1);
    fan.devices.prefix = "fan-".into();
    modest.register(fan).unwrap();
    let registry = rig.transport.registry();
    until("registered", || registry.devices() == 2).await;
    let figures = |device| {
        let id = registry.connection_of(&device_uuid(device)).unwrap();
        rig.stats.conns.of(id).unwrap()
    };
    let [of_flooding, of_modest] = ["pump-0000", "fan-0000"].map(figures);
    rig.open.send_replace(false);
    let t1 = &rig.stats.t1;
    // One datagram a batch: each block is sent when the one before it has arrived.
    let mut sent = 0;
    while t1.dropped.get(DropReason::Overflow) == 0 {
        let some = sent..sent + 30;
        sent += 30;
        flooding.telemetry(block("pump-0001", some)).unwrap();
        until("received", || t1.received.get() == u64::from(sent)).await;
    }
    modest.telemetry(block("pump-0002", 0..10)).unwrap();
    until("received", || t1.received.get() == u64::from(sent) + 10).await;
    rig.open.send_replace(true);
    let modest_id = device_uuid("pump-0002");
    let from_modest = || {
        rig.seen
            .lock()
            .t1
            .iter()
            .filter(|r| r.device == modest_id)
            .count()
    };
    until("the modest one's", || from_modest() == 10).await;
    until("books balance", || {
        t1.applied.get() + t1.dropped.total() == t1.received.get()
    })
    .await;
    let newest = rig
        .seen
        .lock()
        .t1
        .iter()
        .filter(|r| r.device != modest_id)
        .map(|r| r.sequence)
        .max();
    assert_eq!(newest, Some(sent - 1), "the oldest went");
    let lost = of_flooding.dropped.total();
    assert_eq!(of_flooding.received.get(), u64::from(sent));
    assert_eq!(rig.seen.lock().t1.len() as u64, u64::from(sent) - lost + 10);
    assert_eq!(lost, t1.dropped.total());
    assert!(lost >= of_flooding.dropped.get(DropReason::Overflow) && lost > 0);
    assert_eq!(
        (of_modest.received.get(), of_modest.dropped.total()),
        (10, 0)
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_link_that_speaks_dt1_is_served_without_the_extensions() {
    let rig = Rig::start().await;
    let (link, devices) = rig.link_speaking(Protocol::Dt1, "gate-1", "*").await;
    until("connected", || link.is_connected()).await;
    link.telemetry(block("pump-0001", 0..100)).unwrap();
    let t1 = &rig.stats.t1;
    until("T1", || t1.applied.get() == 100).await;
    assert_eq!(t1.datagrams_sent.get(), 100, "one reading each");
    let events: Vec<_> = (0..600).map(|n| event("pump-0001", n)).collect();
    assert_eq!(link.events(&events), 600);
    until("T2", || {
        rig.seen.lock().t2_plain.len() == 600 && link.outbox().waiting() == 0
    })
    .await;
    rig.issue(rig.command("pump-0001", 7, Duration::from_secs(20)));
    until("T3", || rig.stats.t3.acked.get() == 1).await;
    let command = devices.commands.lock()[0];
    assert_eq!((command.id, command.left), (7, None));
    rig.stop().await;
}
