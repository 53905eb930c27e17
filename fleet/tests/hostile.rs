//! Brokers that lie, stall and hang up: their devices come back, count, and nobody else notices.
//!
//! In virtual time, over plain connections and over TLS.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "broker_kit/acts.rs"]
mod acts;
#[path = "broker_kit/kit.rs"]
mod kit;

use std::future::Future as _;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use actorsim_actors::shard::SimShards;
use actorsim_actors::{Clock, System};
use actorsim_fleet::broker::{Plan, PublishStats, Target};
use actorsim_fleet::session::mqtt::{Options, Version};
use actorsim_fleet::session::tls::Terms;
use actorsim_fleet::{Fleet, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision};
use acts::acts;
use kit::{Act, Log, in_order};
use rustls::ServerConfig;

/// Devices of each population.
const COUNT: u32 = 3;
/// Connections that a hostile broker treats badly before it is honest.
const BAD: u32 = 2 * COUNT;

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
const HOSTILE: &str = "10.0.0.1:1883";
const HONEST: &str = "10.0.0.2:1883";

/// Two populations, each with a broker of its own, on two shards.
struct Rig {
    _runtime: tokio::runtime::Runtime,
    shards: SimShards,
    fleet: Fleet,
    victims: Arc<PublishStats>,
    others: Arc<PublishStats>,
    hostile: Arc<Mutex<Log>>,
    honest: Arc<Mutex<Log>>,
}

type Tls = (Arc<ServerConfig>, Terms);

impl Rig {
    fn new(tls: Option<&Tls>, version: Version, act: impl Fn(u32) -> Act + Send + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let system = System::new(Clock::virtual_from(0), runtime.handle().clone());
        let shards = SimShards::of(&system, 2);
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let server = || tls.map(|tls| Arc::clone(&tls.0));
        let (hostile, _) = kit::start(&shards.shards()[0], at(HOSTILE), server(), act);
        let honest = kit::start(&shards.shards()[1], at(HONEST), server(), |_| Act::Honest).0;
        let mut populations = Vec::new();
        let mut stats = Vec::new();
        for (device_type, broker) in [("victim", HOSTILE), ("other", HONEST)] {
            let text = format!(
                "type: {device_type}\nprotocol: mqtt\ntelemetry_interval: 1s\n\
                 telemetry_fields:\n  load: {{type: gaussian, mean: 20, stddev: 1}}\n"
            );
            let profile = Profile::parse("hostile.yaml", &text).unwrap().profile;
            let target = Target::parse(&format!("mqtt://{broker}")).unwrap();
            let scale = (COUNT, 1.0);
            let options = Options {
                version,
                ..Options::default()
            };
            let plan = Plan::mqtt(&profile, &target, options, scale, Arc::default());
            let mut plan = plan.unwrap();
            plan.tls = tls.map(|tls| tls.1.clone());
            stats.push(Arc::clone(&plan.stats));
            let mut population = Population::new(device_type, Arc::new(profile), COUNT, 7);
            population.plan = Some(Arc::new(plan));
            populations.push(population);
        }
        let fleet = Fleet::new(&system, populations, 2, Uplink::Brokers).unwrap();
        let supervision = Arc::new(Supervision::default());
        fleet
            .start(shards.shards(), &Policies::shipped(), &supervision)
            .unwrap();
        let (others, victims) = (stats.pop().unwrap(), stats.pop().unwrap());
        Self {
            _runtime: runtime,
            shards,
            fleet,
            victims,
            others,
            hostile,
            honest,
        }
    }

    /// Stops the fleet in order, while its brokers go on.
    fn stop(&mut self) {
        let mut waited = Context::from_waker(Waker::noop());
        let shards = &mut self.shards;
        let mut stopped = pin!(self.fleet.stop());
        for _ in 0..10 {
            let end = shards.now() + Duration::from_secs(1);
            shards.run_until(end);
            if stopped.as_mut().poll(&mut waited).is_ready() {
                shards.run_until(end + Duration::from_secs(1));
                return;
            }
        }
        panic!("it does not stop");
    }

    fn run(&mut self, seconds: u64) {
        let end = self.shards.now() + Duration::from_secs(seconds);
        self.shards.run_until(end);
    }
}

fn survives(tls: Option<&Tls>, version: Version, act: Act) {
    let bad = move |number| if number < BAD { act } else { Act::Honest };
    let mut rig = Rig::new(tls, version, bad);
    rig.run(150);
    let (victims, others) = (rig.victims.read(), rig.others.read());
    // each bad connection was noticed, and none too many were made
    let accepted = rig.hostile.lock().unwrap().accepted;
    assert!(
        victims.errors >= u64::from(BAD),
        "{act:?}: {}",
        victims.errors
    );
    assert_eq!(accepted, BAD + COUNT, "{act:?}");
    assert_eq!(victims.connected, u64::from(COUNT), "{act:?}");
    assert_eq!(victims.acked + victims.dropped, victims.sent, "{act:?}");
    assert_eq!(victims.dropped, 0, "{act:?}: the outbox has room for this");
    // nobody else has
    assert_eq!((others.errors, others.insecure), (0, 0), "{act:?}");
    assert_eq!(others.connects, u64::from(COUNT), "{act:?}");
    assert_eq!(others.acked, others.sent, "{act:?}");
    assert_eq!(others.acked, u64::from(COUNT) * 150, "{act:?}");
    assert_eq!(rig.fleet.tally().missed, 0, "{act:?}");
    assert_eq!(rig.fleet.counts().restarts, 0, "{act:?}");
    in_order(&rig.hostile.lock().unwrap());
    in_order(&rig.honest.lock().unwrap());
}

#[test]
fn devices_survive_a_hostile_broker_and_nobody_else_notices() {
    // without TLS so many bytes are said in half a minute
    let soon = |act: &Act| !matches!(act, Act::Cut(at) if *at > 100);
    for act in acts().into_iter().filter(soon) {
        for version in VERSIONS {
            survives(None, version, act);
        }
    }
}

#[test]
fn devices_survive_a_hostile_broker_over_tls_and_nobody_else_notices() {
    let dir = tempfile::tempdir().unwrap();
    let (_, server, terms) = kit::authority(dir.path());
    // within the first record of TLS one place is like another
    let apart = |act: &Act| !matches!(act, Act::Cut(2..100));
    for act in acts().into_iter().filter(apart) {
        for version in VERSIONS {
            survives(Some(&(server.clone(), terms.clone())), version, act);
        }
    }
}

#[test]
fn a_refused_subscription_is_counted_and_samples_go_on() {
    let refuses = |_| Act::AnswerSubscribe(&[0x90, 0x03, 0xff, 0xff, 0x80]);
    let mut rig = Rig::new(None, Version::V311, refuses);
    rig.run(60);
    let victims = rig.victims.read();
    assert_eq!(victims.errors, u64::from(COUNT));
    assert_eq!(victims.connects, u64::from(COUNT));
    assert_eq!(victims.acked, victims.sent);
    assert_eq!(victims.acked, u64::from(COUNT) * 60);
}

#[test]
fn a_broker_that_ends_every_session_is_called_less_and_less_often() {
    let mut rig = Rig::new(None, Version::V5, |_| Act::CloseAfterConnAck);
    rig.run(600);
    let accepted = rig.hostile.lock().unwrap().accepted;
    // doubling from 1 s to 60 s, half of it drawn: at most 5 + 600 s / 30 s each
    let most = COUNT * (6 + 600 / 30);
    assert!(accepted <= most, "{accepted} connections, at most {most}");
    assert_eq!(rig.others.read().errors, 0);
}

#[test]
fn each_device_shows_a_certificate_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (site, server, terms) = kit::authority(dir.path());
    let mut rig = Rig::new(Some(&(server, terms)), Version::V5, |_| Act::Honest);
    rig.run(10);
    let log = rig.hostile.lock().unwrap();
    for number in 0..COUNT {
        let id = format!("victim-{number:04}");
        let own = site.device(&id).unwrap();
        assert!(log.shown.iter().any(|shown| *shown == *own.cert[0]), "{id}");
    }
    let counts = rig.victims.read();
    assert_eq!(counts.handshakes, u64::from(COUNT));
    assert_eq!(counts.handshake_us.len(), u64::from(COUNT));
}

#[test]
fn a_stopped_fleet_says_goodbye_and_no_will_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let (_, server, terms) = kit::authority(dir.path());
    for tls in [None, Some((server, terms))] {
        let mut rig = Rig::new(tls.as_ref(), Version::V311, |_| Act::Honest);
        rig.run(10);
        rig.stop();
        let log = rig.honest.lock().unwrap();
        assert_eq!((log.goodbyes, log.wills), (COUNT, 0));
        drop(log);
        let others = rig.others.read();
        // what was on its way is told apart from what found no room
        assert_eq!(others.dropped, others.abandoned);
        let log = rig.honest.lock().unwrap();
        let offline = |(topic, payload): &&(String, Vec<u8>)| {
            topic.ends_with("/status") && payload == b"offline"
        };
        assert_eq!(log.published.iter().filter(offline).count() as u32, COUNT);
    }
}
