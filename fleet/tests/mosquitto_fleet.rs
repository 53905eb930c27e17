//! Devices on rings and threads against mosquitto, at the address in `ACTORSIM_MOSQUITTO`.
//!
//! Without it the tests are skipped, and say so; where `CI` is set they fail instead.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "mqtt_kit/kit.rs"]
mod kit;

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{Backend, ShardConfig, ShardHost};
use actorsim_actors::{ActorPath, Clock, System};
use actorsim_fleet::broker::{GatewaySpec, Plan, Pool, Target, gateway_children};
use actorsim_fleet::fault::{Fault, FaultSpec};
use actorsim_fleet::session::mqtt::{Options, Qos, Version};
use actorsim_fleet::{Fleet, Injection, Population, Profile, Published, Uplink};
use actorsim_supervision::{Policies, SupervisorRef, SupervisorSpec, start_root};
use kit::{Device, broker, count, is_message, login};
use serde_json::Value;

const COUNT: u32 = 20;

/// A fleet of machines on mosquitto, and a watcher of all that they say.
struct Rig {
    runtime: tokio::runtime::Runtime,
    fleet: Fleet,
    shards: ShardHost,
    watcher: Device,
    site: String,
    /// Of the connections that they share, if they do.
    root: Option<SupervisorRef>,
}

/// The connections that devices share.
async fn gateways(system: &System, gateways: GatewaySpec) -> SupervisorRef {
    let at = ActorPath::new("/fleet/publisher").unwrap();
    let mut spec = SupervisorSpec::new(at.clone(), Default::default());
    for child in gateway_children(&at, gateways) {
        spec = spec.child(child);
    }
    start_root(system, spec).await.unwrap()
}

impl Rig {
    /// `site` keeps the tests' topics and client ids apart.
    fn new(address: &str, site: &str, backend: Backend, version: Version) -> Self {
        Self::sharing(None, address, site, (backend, version, 1))
    }

    /// On so many connections; `None`: each device on its own.
    fn sharing(
        shares: Option<u32>,
        address: &str,
        site: &str,
        (backend, version, qos): (Backend, Version, u8),
    ) -> Self {
        let site = format!("{site}_{}", std::process::id());
        let text = format!(
            "type: {site}\nprotocol: mqtt\ntopic_template: sites/{{device_type}}/{{device_id}}\n\
             telemetry_interval: 200ms\nqos: {qos}\ntelemetry_fields:\n  \
             temperature: {{type: gaussian, mean: 20, stddev: 1}}\n  \
             relay: {{type: static, value: 1, actuator: true}}\n"
        );
        let profile = Profile::parse("site.yaml", &text).unwrap().profile;
        let clean = Options {
            clean_start: true,
            ..Options::default()
        };
        let mut watcher = Device::new(address, clean, &login(&format!("watch-{site}")));
        watcher.subscribed_anew(&format!("sites/{site}/+"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let system = System::new(Clock::wall(), runtime.handle().clone());
        let config = ShardConfig {
            shards: 2,
            backend,
            ..ShardConfig::default()
        };
        let shards = ShardHost::start(&system, &config).unwrap();
        let options = Options { version, ..clean };
        let target = Target::parse(&format!("mqtt://{address}")).unwrap();
        let pool = shares.map(|size| Pool::new(size, 10_000, &Arc::default()));
        let plan = match &pool {
            None => Plan::mqtt(&profile, &target, options, (COUNT, 1.0), Arc::default()),
            Some(pool) => Plan::pooled(&profile, &target, pool, (COUNT, 1.0)),
        };
        let mut plan = plan.unwrap();
        plan.backoff.min = Duration::from_millis(50);
        let mut population = Population::new("default", Arc::new(profile), COUNT, 7);
        population.plan = Some(Arc::new(plan));
        let fleet = Fleet::new(&system, vec![population], 2, Uplink::Brokers).unwrap();
        let started = fleet.start(shards.shards(), &Policies::shipped(), &Arc::default());
        started.unwrap();
        let root = pool.map(|pool| {
            let spec = GatewaySpec {
                address: target.address,
                tls: None,
                options,
                credentials: Default::default(),
                name: site.clone(),
                backoff: Default::default(),
                pool,
                downlink: fleet.downlink(),
                seed: 7,
            };
            runtime.block_on(gateways(&system, spec))
        });
        let rig = Self {
            runtime,
            fleet,
            shards,
            watcher,
            site,
            root,
        };
        rig.connected(shares.unwrap_or(COUNT).into())
    }

    /// The same, once it has so many connections.
    fn connected(self, connections: u64) -> Self {
        let connects = || self.fleet.published()[0].counts.connects;
        let waits = async {
            while connects() < connections {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = self
            .runtime
            .block_on(async { tokio::time::timeout(kit::PATIENCE, waits).await });
        assert!(waited.is_ok(), "{} are connected", connects());
        self
    }

    fn id(&self, ordinal: u32) -> String {
        format!("{}-{ordinal:04}", self.site)
    }

    /// Waits until the watcher has heard `more` messages of one topic after those so far.
    fn hear(&mut self, topic: &str, more: usize) -> Vec<Vec<u8>> {
        let before = self.heard(topic, 0).len();
        self.heard(topic, before + more).split_off(before)
    }

    /// Waits until the watcher has heard so many messages of one topic in all.
    fn heard(&mut self, topic: &str, all: usize) -> Vec<Vec<u8>> {
        let of = |device: &Device| {
            let messages = device.messages();
            let on_topic = messages.iter().filter(|m| &*m.topic == topic);
            on_topic.map(|m| m.payload.to_vec()).collect::<Vec<_>>()
        };
        while of(&self.watcher).len() < all {
            let so_far = count(&self.watcher.events, is_message);
            self.watcher
                .until(|events| count(events, is_message) > so_far);
        }
        of(&self.watcher)
    }

    fn stop(self) -> actorsim_fleet::broker::PublishCounts {
        self.runtime.block_on(async {
            self.fleet.stop().await;
            self.shards.stop().await.unwrap();
            if let Some(root) = &self.root {
                root.stop().await;
            }
        });
        self.fleet.published().remove(0).counts
    }
}

#[test]
fn every_device_publishes_json_in_order_on_a_session_of_its_own() {
    let Some(address) = broker() else { return };
    let shapes = [
        (Backend::Auto, Version::V311, "ring311"),
        (Backend::Auto, Version::V5, "ring5"),
        (Backend::Portable, Version::V311, "threads"),
    ];
    for (backend, version, site) in shapes {
        let mut rig = Rig::new(&address, site, backend, version);
        for ordinal in [0, COUNT - 1] {
            let id = rig.id(ordinal);
            let heard = rig.hear(&format!("sites/{}/{id}", rig.site), 5);
            let heard: Vec<Value> = heard
                .iter()
                .map(|m| serde_json::from_slice(m).unwrap())
                .collect();
            let stamps: Vec<_> = heard
                .iter()
                .map(|m| m["timestamp"].as_str().unwrap())
                .collect();
            assert!(stamps.is_sorted(), "{stamps:?}");
            assert!(heard.iter().all(|m| m["device_id"] == id.as_str()));
            assert!(heard.iter().all(|m| m["fields"]["temperature"].is_number()));
        }
        let Published {
            devices, counts, ..
        } = rig.fleet.published().remove(0);
        assert_eq!((devices, counts.connects), (COUNT.into(), COUNT.into()));
        let counts = rig.stop();
        assert_eq!(
            counts.sent,
            counts.acked + counts.dropped,
            "each has an outcome"
        );
        assert_eq!((counts.connected, counts.errors, counts.refused), (0, 0, 0));
        assert!(counts.latency_us.len() == counts.acked);
    }
}

#[test]
fn the_broker_sees_a_disconnect_a_crash_and_a_goodbye() {
    let Some(address) = broker() else { return };
    let mut rig = Rig::new(&address, "statuses", Backend::Auto, Version::V311);
    let (first, second) = (rig.id(0), rig.id(1));
    let topic = |id: &str| format!("devices/{id}/status");
    rig.watcher.subscribed_anew(&topic(&first));
    assert_eq!(rig.heard(&topic(&first), 1), [b"online"]);
    let spec = FaultSpec {
        fault: Fault::Disconnect,
        duration: Some(Duration::from_millis(300)),
    };
    rig.fleet.inject(&first, Injection::Fault(spec)).unwrap();
    assert_eq!(rig.hear(&topic(&first), 2), [&b"lost"[..], b"online"]);
    rig.watcher.subscribed_anew(&topic(&second));
    assert_eq!(rig.heard(&topic(&second), 1), [b"online"]);
    rig.fleet.kill(&second).unwrap();
    assert_eq!(rig.hear(&topic(&second), 2), [&b"lost"[..], b"online"]);
    let Rig { runtime, fleet, .. } = &rig;
    runtime.block_on(fleet.stop());
    assert_eq!(rig.hear(&topic(&second), 1), [b"offline"]);
    let counts = rig.stop();
    assert_eq!(
        (counts.connected, counts.connects),
        (0, u64::from(COUNT) + 2)
    );
}

#[test]
fn a_command_is_executed_once_and_answered() {
    let Some(address) = broker() else { return };
    let mut rig = Rig::new(&address, "commands", Backend::Auto, Version::V5);
    let id = rig.id(3);
    rig.watcher
        .subscribed_anew(&format!("devices/{id}/replies"));
    rig.hear(&format!("sites/{}/{id}", rig.site), 1);
    let commands = format!("devices/{id}/commands");
    for (tag, command, status) in [
        (1, r#"{"command_id": 5, "set": {"relay": 0}}"#, "executed"),
        (2, r#"{"command_id": 5, "set": {"relay": 1}}"#, "superseded"),
        (
            3,
            r#"{"command_id": 6, "set": {"temperature": 1}}"#,
            "refused",
        ),
        (4, "reset", "refused"),
    ] {
        rig.watcher
            .publish(&commands, command.as_bytes(), Qos::AtLeastOnce, false, tag);
        let reply = rig.hear(&format!("devices/{id}/replies"), 1).remove(0);
        let reply: Value = serde_json::from_slice(&reply).unwrap();
        assert_eq!(reply["status"], status, "{command}");
    }
    let sample = rig.hear(&format!("sites/{}/{id}", rig.site), 2).remove(1);
    let sample: Value = serde_json::from_slice(&sample).unwrap();
    assert_eq!(sample["fields"]["relay"], 0.0);
    let tally = rig.fleet.tally();
    assert_eq!((tally.executed, tally.superseded, tally.refused), (1, 1, 2));
    rig.stop();
}

#[test]
fn devices_that_share_connections_publish_in_order_in_every_quality_and_are_commanded() {
    let Some(address) = broker() else { return };
    let shapes = [
        (Backend::Auto, Version::V311, 0, "pool0"),
        (Backend::Auto, Version::V5, 1, "pool1"),
        (Backend::Portable, Version::V5, 2, "pool2"),
    ];
    for (backend, version, qos, site) in shapes {
        let mut rig = Rig::sharing(Some(3), &address, site, (backend, version, qos));
        for ordinal in [1, COUNT - 1] {
            let id = rig.id(ordinal);
            let heard = rig.hear(&format!("sites/{}/{id}", rig.site), 5);
            let stamp = |m: &Vec<u8>| {
                let sample: Value = serde_json::from_slice(m).unwrap();
                assert_eq!(sample["device_id"], id.as_str());
                sample["timestamp"].as_str().unwrap().to_owned()
            };
            assert!(heard.iter().map(stamp).is_sorted());
        }
        let id = rig.id(7);
        let replies = format!("devices/{id}/replies");
        rig.watcher.subscribed_anew(&replies);
        rig.watcher.subscribed_anew(&format!("devices/{id}/status"));
        // It is retained, and may come together with the answer to the subscription.
        assert_eq!(rig.heard(&format!("devices/{id}/status"), 1), [b"online"]);
        let command = br#"{"command_id": 5, "set": {"relay": 0}}"#;
        let commands = format!("devices/{id}/commands");
        rig.watcher
            .publish(&commands, command, Qos::AtLeastOnce, false, 1);
        let reply: Value = serde_json::from_slice(&rig.hear(&replies, 1).remove(0)).unwrap();
        assert_eq!(reply["status"], "executed");
        let counts = rig.stop();
        assert_eq!((counts.connects, counts.errors, counts.refused), (3, 0, 0));
        assert_eq!(counts.sent, counts.acked, "{site}: {}", counts.dropped);
    }
}

#[test]
fn a_desired_state_is_reported_and_holds_for_a_device_that_comes_back() {
    let Some(address) = broker() else { return };
    for (pool, site) in [(None, "desired"), (Some(2), "pooldesired")] {
        let mut rig = Rig::sharing(pool, &address, site, (Backend::Auto, Version::V311, 1));
        let id = rig.id(3);
        let replies = format!("devices/{id}/replies");
        rig.watcher.subscribed_anew(&replies);
        rig.hear(&format!("sites/{}/{id}", rig.site), 1);
        let commands = format!("devices/{id}/commands");
        let report = |rig: &mut Rig, desired: Option<&str>, relay: f64| {
            if let Some(desired) = desired {
                let text = desired.as_bytes();
                rig.watcher
                    .publish(&commands, text, Qos::AtLeastOnce, true, 1);
            }
            let reply: Value = serde_json::from_slice(&rig.hear(&replies, 1).remove(0)).unwrap();
            assert_eq!(reply["status"], "executed", "{reply}");
            assert_eq!(reply["reported"]["relay"], relay, "{reply}");
        };
        report(&mut rig, Some(r#"{"desired": {"relay": 0}}"#), 0.0);
        // the broker keeps it, so that it is heard by one that comes back
        let spec = FaultSpec {
            fault: Fault::Disconnect,
            duration: Some(Duration::from_millis(300)),
        };
        rig.fleet.inject(&id, Injection::Fault(spec)).unwrap();
        report(&mut rig, None, 0.0);
        rig.fleet.kill(&id).unwrap();
        report(&mut rig, None, 0.0);
        report(&mut rig, Some(r#"{"desired": {"relay": 1}}"#), 1.0);
        let samples = rig.hear(&format!("sites/{}/{id}", rig.site), 2);
        let sample: Value = serde_json::from_slice(&samples[1]).unwrap();
        assert_eq!(sample["fields"]["relay"], 1.0);
        // nothing is left in the broker
        rig.watcher
            .publish(&commands, b"", Qos::AtLeastOnce, true, 2);
        rig.hear(&replies, 1);
        rig.stop();
    }
}
