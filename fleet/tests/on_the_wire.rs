//! What a broker sees of faults, losses and stops: each fault shows in what is published.
//!
//! In virtual time, against a broker in a cell.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "broker_kit/kit.rs"]
mod kit;

use std::future::Future as _;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actorsim_actors::shard::SimShards;
use actorsim_actors::{Clock, System};
use actorsim_fleet::broker::{Plan, PublishStats, Target};
use actorsim_fleet::fault::{Fault, FaultSpec};
use actorsim_fleet::session::mqtt::Options;
use actorsim_fleet::watch::{Happened, News, Seen, Watcher};
use actorsim_fleet::{Fleet, Injection, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision};
use kit::{Act, Log};
use serde_json::Value;

const BROKER: &str = "10.0.0.1:1883";

/// A fleet of pumps, and their broker.
struct Rig {
    _runtime: tokio::runtime::Runtime,
    system: System,
    shards: SimShards,
    fleet: Fleet,
    stats: Arc<PublishStats>,
    log: Arc<Mutex<Log>>,
}

impl Rig {
    fn new(count: u32, more: &str, act: impl Fn(u32) -> Act + Send + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let system = System::new(Clock::virtual_from(0), runtime.handle().clone());
        let shards = SimShards::of(&system, 2);
        let at: SocketAddr = BROKER.parse().unwrap();
        let (log, _) = kit::start(&shards.shards()[0], at, None, act);
        let text = format!(
            "type: pump\nprotocol: mqtt\ntelemetry_interval: 1s\n{more}telemetry_fields:\n  \
             flow: {{type: gaussian, mean: 20, stddev: 1}}\n  \
             battery: {{type: brownian, start: 100, drift: -0.1, volatility: 0, max: 100}}\n"
        );
        let profile = Profile::parse("pump.yaml", &text).unwrap().profile;
        let target = Target::parse(&format!("mqtt://{BROKER}")).unwrap();
        let scale = (count, 1.0);
        let options = Options::default();
        let plan = Plan::mqtt(&profile, &target, options, scale, Arc::default()).unwrap();
        let stats = Arc::clone(&plan.stats);
        let mut population = Population::new("default", Arc::new(profile), count, 7);
        population.plan = Some(Arc::new(plan));
        let fleet = Fleet::new(&system, vec![population], 2, Uplink::Brokers).unwrap();
        let supervision = Arc::new(Supervision::default());
        let policies = Policies::shipped();
        fleet
            .start(shards.shards(), &policies, &supervision)
            .unwrap();
        Self {
            _runtime: runtime,
            system,
            shards,
            fleet,
            stats,
            log,
        }
    }

    fn run(&mut self, seconds: u64) {
        let end = self.shards.now() + Duration::from_secs(seconds);
        self.shards.run_until(end);
    }

    fn inject(&self, count: u32, fault: Fault, seconds: u64) {
        let spec = FaultSpec {
            fault,
            duration: Some(Duration::from_secs(seconds)),
        };
        for number in 0..count {
            let id = format!("pump-{number:04}");
            self.fleet.inject(&id, Injection::Fault(spec)).unwrap();
        }
    }

    /// Samples of one device so far: the second of the stamp, and the flow.
    fn samples(&self, number: u32) -> Vec<(f64, Value)> {
        self.samples_of(number, "flow")
    }

    /// The same with the value of any field.
    fn samples_of(&self, number: u32, field: &str) -> Vec<(f64, Value)> {
        let topic = format!("devices/pump-{number:04}/telemetry");
        let log = self.log.lock().unwrap();
        let of = log.published.iter().filter(|(at, _)| *at == topic);
        let sample = |(_, payload): &(String, Vec<u8>)| {
            let value: Value = serde_json::from_slice(payload).unwrap();
            let stamp = value["timestamp"].as_str().unwrap().to_owned();
            // 1970-01-01T00:00:00.000Z
            let part = |range: std::ops::Range<usize>| stamp[range].parse::<f64>().unwrap();
            let seconds = part(14..16) * 60.0 + part(17..23);
            (seconds, value["fields"][field].clone())
        };
        of.map(sample).collect()
    }

    fn said(&self, what: &[u8]) -> usize {
        let log = self.log.lock().unwrap();
        let said =
            |(topic, payload): &&(String, Vec<u8>)| topic.ends_with("/status") && payload == what;
        log.published.iter().filter(said).count()
    }
}

#[test]
fn a_disconnect_closes_each_session_and_its_will_is_published() {
    const COUNT: u32 = 40;
    let mut rig = Rig::new(COUNT, "", |_| Act::Honest);
    rig.run(10);
    rig.inject(COUNT, Fault::Disconnect, 20);
    rig.run(5);
    assert_eq!(rig.log.lock().unwrap().wills, COUNT);
    assert_eq!(rig.stats.read().connected, 0);
    rig.run(30);
    assert_eq!(rig.stats.read().connected, u64::from(COUNT));
    assert_eq!(rig.said(b"online") as u32, 2 * COUNT);
}

#[test]
fn a_drifting_clock_shows_in_the_stamps_and_is_right_again_afterwards() {
    let mut rig = Rig::new(1, "", |_| Act::Honest);
    rig.run(60);
    rig.inject(1, Fault::ClockDrift(100.0), 60);
    rig.run(120);
    let stamps: Vec<f64> = rig.samples(0).iter().map(|sample| sample.0).collect();
    let step = |at: usize| stamps[at + 1] - stamps[at];
    assert!((step(20) - 1.0).abs() < 0.01, "{}", step(20));
    assert!((step(90) - 1.1).abs() < 0.01, "{}", step(90));
    assert!((step(160) - 1.0).abs() < 0.01, "{}", step(160));
    let whole = stamps[170] - stamps[20];
    assert!((whole - 150.0).abs() < 0.01, "{whole}");
}

#[test]
fn a_drained_battery_is_published_drained() {
    let mut rig = Rig::new(2, "", |_| Act::Honest);
    rig.inject(1, Fault::BatteryDrain(20.0), 600);
    rig.run(30);
    let charge = |number| {
        let samples = rig.samples_of(number, "battery");
        samples.last().unwrap().1.as_f64().unwrap()
    };
    let (drained, sound) = (charge(0), charge(1));
    assert!(sound > 96.0, "{sound}");
    assert!((35.0..50.0).contains(&drained), "{drained}");
}

#[test]
fn a_device_whose_samples_are_late_hears_at_once_and_its_lateness_can_be_ended() {
    let mut rig = Rig::new(1, "", |_| Act::Honest);
    rig.run(5);
    let before = rig.samples(0).len();
    rig.inject(1, Fault::LatencySpike(Duration::from_secs(5)), 600);
    rig.run(3);
    assert_eq!(rig.samples(0).len(), before, "they are held back");
    rig.inject(1, Fault::Disconnect, 1);
    rig.run(1);
    assert_eq!(rig.log.lock().unwrap().wills, 1, "nothing held this back");
    let end = Injection::Revert(Some("latency_spike"));
    rig.fleet.inject("pump-0000", end).unwrap();
    rig.run(21);
    let samples = rig.samples(0);
    let stamps: Vec<f64> = samples.iter().map(|sample| sample.0).collect();
    assert!(stamps.is_sorted(), "{stamps:?}");
    assert!(stamps.last() > Some(&28.9), "30 s, on time: {stamps:?}");
}

#[test]
fn corruption_is_a_third_each_of_nothing_zero_and_spikes() {
    const COUNT: u32 = 20;
    let mut rig = Rig::new(COUNT, "", |_| Act::Honest);
    rig.inject(COUNT, Fault::DataCorruption(0.3), 10_000);
    rig.run(300);
    let all: Vec<Value> = (0..COUNT)
        .flat_map(|number| rig.samples(number))
        .map(|sample| sample.1)
        .collect();
    let share = |of: &dyn Fn(&Value) -> bool| {
        all.iter().filter(|value| of(value)).count() as f64 / all.len() as f64
    };
    let spike = |value: &Value| {
        value
            .as_f64()
            .is_some_and(|v| v != 0.0 && (v - 20.0).abs() > 8.0)
    };
    for found in [
        share(&Value::is_null),
        share(&|value| value.as_f64() == Some(0.0)),
        share(&spike),
    ] {
        // of 6,000 a tenth each; a deviation is 0.004
        assert!((found - 0.1).abs() < 0.02, "{found}");
    }
}

#[test]
fn a_doubled_sample_is_published_twice_with_one_stamp() {
    let mut rig = Rig::new(1, "", |_| Act::Honest);
    rig.run(10);
    let before = rig.samples(0).len();
    rig.inject(1, Fault::Duplicate(1.0), 20);
    rig.run(15);
    let doubled = rig.samples(0).split_off(before);
    assert!(doubled.len() >= 28, "{}", doubled.len());
    for pair in doubled.chunks_exact(2) {
        assert_eq!(pair[0], pair[1]);
    }
    assert_eq!(rig.fleet.tally().duplicated * 2, doubled.len() as u64);
}

#[test]
fn a_broker_that_is_away_costs_the_oldest_or_the_newest_samples() {
    for (rule, oldest) in [("drop_oldest", true), ("slow_down", false)] {
        let away = |number| if number < 6 { Act::Mute } else { Act::Honest };
        let mut rig = Rig::new(1, &format!("backpressure: {rule}\n"), away);
        rig.run(400);
        let counts = rig.stats.read();
        assert!(counts.dropped > 0, "{rule}: the outbox has 64 places");
        assert_eq!(counts.abandoned, 0, "{rule}: it found no room");
        assert_eq!(counts.connected, 1, "{rule}");
        let stamps: Vec<f64> = rig.samples(0).iter().map(|sample| sample.0).collect();
        assert!(stamps.is_sorted(), "{rule}");
        // six times 20 s in vain, and the waits between: the first minute was over by far
        assert_eq!(stamps[0] > 60.0, oldest, "{rule}: {}", stamps[0]);
        // what was refused a place was never taken; what had to leave its place was
        let gone = if oldest { counts.dropped } else { 0 };
        assert!(counts.sent - counts.acked - gone <= 1, "{rule}");
    }
}

#[test]
fn a_fleet_starts_and_answers_while_its_broker_refuses() {
    let refused = Act::Answer(&[0x20, 0x02, 0x00, 0x05]);
    let mut rig = Rig::new(10, "", move |_| refused);
    rig.run(30);
    let counts = rig.stats.read();
    assert_eq!((counts.connected, counts.acked), (0, 0));
    assert!(counts.errors >= 10);
    assert_eq!(rig.fleet.counts().running, 10);
    assert_eq!(rig.fleet.tally().missed, 0);
}

#[test]
fn what_was_acknowledged_is_what_the_broker_has() {
    let mut rig = Rig::new(30, "", |_| Act::Honest);
    rig.run(60);
    let samples: usize = (0..30).map(|number| rig.samples(number).len()).sum();
    assert_eq!(rig.stats.read().acked, samples as u64);
    // and they came spread over the interval, not at once
    let first = |number| rig.samples(number)[0].0;
    let firsts: Vec<f64> = (0..30).map(first).collect();
    assert!(firsts.iter().all(|at| (0.0..=1.0).contains(at)));
}

/// What a watcher has been told so far: what happened, and to whom.
fn told(watcher: &mut Watcher<News>) -> Vec<(Happened, Vec<u32>)> {
    let mut told = Vec::new();
    let mut nobody = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(Seen::Next(news))) = pin!(watcher.next()).poll(&mut nobody) {
        let mut devices: Vec<_> = news.devices.iter().cloned().flatten().collect();
        devices.sort_unstable();
        told.push((news.happened, devices));
    }
    told
}

#[test]
fn who_looks_on_is_told_of_sessions_and_of_ends() {
    let mut rig = Rig::new(3, "", |_| Act::Honest);
    let mut watcher = rig.fleet.news();
    rig.run(5);
    let mut up: Vec<_> = told(&mut watcher);
    assert!(
        up.iter()
            .all(|(happened, _)| *happened == Happened::Connected)
    );
    let mut devices: Vec<_> = up.drain(..).flat_map(|(_, devices)| devices).collect();
    devices.sort_unstable();
    assert_eq!(devices, [0, 1, 2]);
    rig.inject(1, Fault::Disconnect, 2);
    rig.run(20);
    let both = [Happened::Disconnected, Happened::Connected];
    assert_eq!(told(&mut watcher), both.map(|happened| (happened, vec![0])));
    rig.fleet.inject("pump-0002", Injection::Crash).unwrap();
    rig.run(20);
    assert_eq!(told(&mut watcher), [(Happened::Connected, vec![2])]);
    let events = rig.system.events().since(0, 256).into_iter();
    let errors = events.flat_map(|event| rig.fleet.news_of(&event));
    let errors = errors.map(|news| (news.happened, news.devices.to_vec()));
    let third = 2..3;
    let error = (Happened::Error, vec![third]);
    assert_eq!(errors.collect::<Vec<_>>(), [error]);
}
