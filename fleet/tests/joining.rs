//! Devices that join, change and leave while others run.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "fleet_kit/kit.rs"]
mod kit;

use std::path::Path;
use std::sync::Arc;

use actorsim_actors::shard::{ShardConfig, ShardHost};
use actorsim_actors::{Clock, System};
use actorsim_fleet::lines::Printer;
use actorsim_fleet::{Fleet, Injection, Population, Profile, Selector, Uplink};
use actorsim_supervision::Policies;
use actorsim_transport::SensorType;
use kit::Rig;

const LOCK: &str = "type: lock\nprotocol: quic\ntelemetry_interval: 1s\ntelemetry_fields:\n  \
    temperature: {type: gaussian, mean: 20, stddev: 0.1}\n  \
    humidity: {type: brownian, start: 50, volatility: 0.5}\n  \
    voltage: {type: static, value: 1}\n";

fn locks(count: u32, shards: usize) -> Rig {
    Rig::with(LOCK, shards, |profile| {
        Population::new("first", profile, count, 7)
    })
}

fn profile(labels: &[(&str, &str)]) -> Arc<Profile> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let labels: Vec<_> = labels.iter().map(owned).collect();
    let profile = Profile::parse("lock.yaml", LOCK).unwrap().profile;
    Arc::new(profile.labelled(&labels).unwrap())
}

fn select(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

#[test]
fn devices_that_join_get_the_next_ids_and_are_chosen_by_their_labels() {
    let mut rig = locks(300, 2);
    rig.run(3);
    let fleet = Arc::clone(&rig.fleet);
    let wave = |name: &str| Population::new(name, profile(&[("wave", name)]), 300, 7);
    let second = fleet.spawn(wave("b"), &Policies::shipped()).unwrap();
    assert_eq!((second.first, second.count), (300, 300));
    assert_eq!(second.population.as_str(), "/fleet/b");
    assert_eq!(
        fleet.spawn(wave("c"), &Policies::shipped()).unwrap().first,
        600
    );
    assert!(fleet.spawn(wave("c"), &Policies::shipped()).is_err());
    assert_eq!(fleet.free_name("c"), "c-2");
    rig.run(3);
    assert_eq!(fleet.counts().running, 900);
    assert_eq!(rig.seen.lock().unwrap().t1.len(), 900);
    let info = rig.answer(fleet.info("lock-0450")).unwrap();
    assert_eq!((info.id.as_str(), info.sequence), ("lock-0450", 3));
    let wave = select("wave=b");
    let crash = fleet.inject_where(&wave, Injection::Crash);
    assert_eq!(rig.answer(crash).unwrap().sent, 300);
    for (text, count) in [
        ("lock-0250..0349", 100),
        ("lock-0300..0399,wave=b", 100),
        ("b,5%", 15),
    ] {
        let selector = select(text);
        let sent = fleet.inject_where(&selector, Injection::Revert(None));
        assert_eq!(rig.answer(sent).unwrap().sent, count, "{text}");
    }
    rig.run(2);
    assert_eq!(fleet.counts().restarts, 300);
}

#[test]
fn devices_that_leave_are_not_asked_for_any_more_and_their_bytes_stay_in_the_digest() {
    let digest = |shards| {
        let mut rig = locks(600, shards);
        rig.run(3);
        let fleet = Arc::clone(&rig.fleet);
        let part = rig.answer(fleet.stop_where(&select("10%"), true)).unwrap();
        assert_eq!((part.selected, part.stopped), (60, 60));
        assert_eq!(
            (fleet.counts().requested, fleet.counts().running),
            (540, 540)
        );
        let again = Population::new("again", profile(&[]), 100, 7);
        fleet.spawn(again, &Policies::shipped()).unwrap();
        rig.run(3);
        let rest = rig
            .answer(fleet.stop_where(&select("first"), true))
            .unwrap();
        assert_eq!(rest.stopped, 540);
        assert_eq!(
            (fleet.counts().requested, fleet.counts().running),
            (100, 100)
        );
        assert!(
            rig.answer(fleet.stop_where(&select("first"), true))
                .is_err()
        );
        let at_once = rig.answer(fleet.stop_where(&select("*"), false)).unwrap();
        assert_eq!((at_once.stopped, fleet.counts().requested), (100, 0));
        let books = fleet.books();
        assert_eq!(books.accepted, books.handled + books.dropped + books.died);
        rig.shards.stop();
        fleet.wire_sha256().unwrap()
    };
    let one = digest(1);
    assert_eq!(one, digest(1));
    assert_eq!(one, digest(3));
}

#[test]
fn devices_that_leave_in_order_are_neither_lost_nor_paused_as_their_slabs_close() {
    let mut rig = locks(900, 3);
    rig.run(2);
    let fleet = Arc::clone(&rig.fleet);
    let all = select("*");
    let mut stop = Box::pin(fleet.stop_where(&all, true));
    let mut looks = 0;
    let stopped = rig.answer(std::future::poll_fn(|cx| {
        let polled = stop.as_mut().poll(cx);
        looks += 1;
        assert_eq!(fleet.lost(), []);
        assert!(fleet.populations().iter().all(|one| one.paused == 0));
        polled
    }));
    assert_eq!(stopped.unwrap().stopped, 900);
    assert!(looks > 3, "one slab after another: {looks}");
}

#[test]
fn devices_that_are_stopped_as_they_start_are_gone() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
        let config = ShardConfig {
            shards: 2,
            ..ShardConfig::default()
        };
        let shards = ShardHost::start(&system, &config).unwrap();
        let quiet = |name: &str, count| {
            let text = LOCK.replacen("protocol: quic", "protocol: console", 1);
            let profile = Profile::parse("lock.yaml", &text).unwrap().profile;
            Population::new(name, Arc::new(profile), count, 7)
        };
        let stays = vec![quiet("stays", 10)];
        let nowhere = Printer::to(Path::new("/dev/null"), false).unwrap();
        let fleet = Fleet::printing(&system, stays, 2, Uplink::Brokers, Some(nowhere)).unwrap();
        let policies = Policies::shipped();
        fleet
            .start(shards.shards(), &policies, &Arc::default())
            .unwrap();
        for round in 0..40 {
            let name = format!("wave{round}");
            fleet.spawn(quiet(&name, 300), &policies).unwrap();
            let gone = fleet.stop_where(&select(&name), round % 2 == 0).await;
            assert_eq!(gone.unwrap().stopped, 300, "round {round}");
        }
        assert_eq!(fleet.counts().requested, 10);
        fleet.stop().await;
        let books = fleet.books();
        assert_eq!(fleet.counts().running, 0);
        assert_eq!(books.accepted, books.handled + books.dropped + books.died);
        shards.stop().await.unwrap();
    });
}

#[test]
fn an_update_changes_one_series_and_leaves_the_others_as_they_were() {
    let mut rig = locks(4, 2);
    let mut untouched = locks(4, 2);
    rig.run(5);
    let fleet = Arc::clone(&rig.fleet);
    let fields = r#"{"temperature": {"type": "brownian", "start": 80, "volatility": 0.01}}"#;
    let done = rig
        .answer(fleet.update(&select("lock-0001"), fields))
        .unwrap();
    assert_eq!((done.selected, done.told), (1, 1));
    rig.run(5);
    untouched.run(10);
    let value = |rig: &Rig, ordinal, kind| rig.last(ordinal, kind);
    assert!((value(&rig, 1, SensorType::Temperature) - 80.0).abs() < 1.0);
    for (ordinal, kind) in [
        (1, SensorType::Humidity),
        (0, SensorType::Temperature),
        (2, SensorType::Humidity),
    ] {
        let (now, before) = (value(&rig, ordinal, kind), value(&untouched, ordinal, kind));
        assert_eq!(now.to_bits(), before.to_bits(), "{ordinal} {kind:?}");
    }
}

#[test]
fn an_update_outlives_a_restart() {
    let mut rig = locks(2, 1);
    rig.run(2);
    let fleet = Arc::clone(&rig.fleet);
    let fields = r#"{"voltage": {"type": "static", "value": 2}}"#;
    let wide = r#"{"temperature": {"type": "follow", "field": "humidity", "lag": "9s"}}"#;
    rig.answer(fleet.update(&select("lock-0000"), fields))
        .unwrap();
    rig.answer(fleet.update(&select("*"), wide)).unwrap();
    fleet.inject("lock-0000", Injection::Crash).unwrap();
    rig.run(12);
    assert_eq!(rig.last(0, SensorType::Voltage), 2.0);
    assert_eq!(rig.last(1, SensorType::Voltage), 1.0);
    let seen = rig.seen.lock().unwrap();
    let humidity = seen.of(1, SensorType::Humidity);
    let followed = rig_last(&seen.of(1, SensorType::Temperature));
    assert_eq!(followed, humidity[humidity.len() - 10].value);
}

fn rig_last(readings: &[actorsim_transport::Reading]) -> f64 {
    readings.last().unwrap().value
}

#[test]
fn a_wrong_update_says_everything_and_changes_nothing() {
    let mut rig = locks(2, 1);
    let fleet = Arc::clone(&rig.fleet);
    let fields = r#"{"temperatur": {"type": "static", "value": 1}, "humidity": {"type": "gausian"},
        "voltage": {"type": "replay", "file": "/etc/passwd", "column": "x"},
        "temperature": {"type": "gaussian", "mean": 1, "stddev": -1, "color": "red"}}"#;
    let wrong = rig.answer(fleet.update(&select("*"), fields)).unwrap_err();
    for part in [
        "no field `temperatur`",
        "gausian",
        "a replay stands in a profile's file only",
        "stddev",
        "color",
    ] {
        assert!(wrong.contains(part), "{part}: {wrong}");
    }
    rig.run(3);
    assert!((rig.last(0, SensorType::Temperature) - 20.0).abs() < 1.0);
}
