//! Devices whose samples a publisher takes to an AMQP broker, real or not.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{ShardConfig, ShardHost};
use actorsim_actors::{ActorPath, Clock, System};
use actorsim_fleet::broker::{AmqpBroker, Credentials, Plan, PublishCounts, PublisherSpec};
use actorsim_fleet::broker::{Relay, Relays, Target, publisher_child};
use actorsim_fleet::session::backoff::Backoff;
use actorsim_fleet::session::tls::Terms;
use actorsim_fleet::{Fleet, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision, SupervisorRef, SupervisorSpec, start_root};

/// Two groups.
pub(crate) const COUNT: u32 = 300;
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How a rig is.
pub(crate) struct Manner {
    pub(crate) devices: u32,
    pub(crate) tls: Option<Terms>,
    pub(crate) patience: Duration,
    pub(crate) backoff: Backoff,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            devices: COUNT,
            tls: None,
            patience: actorsim_fleet::broker::publisher::PATIENCE,
            backoff: Backoff::default(),
        }
    }
}

pub(crate) struct Rig {
    pub(crate) system: System,
    pub(crate) fleet: Fleet,
    pub(crate) shards: ShardHost,
    pub(crate) root: SupervisorRef,
    pub(crate) relay: Relay,
    pub(crate) exchange: String,
    pub(crate) site: String,
}

impl Rig {
    pub(crate) async fn new(address: &str, site: &str) -> Self {
        Self::like(address, site, Manner::default()).await
    }

    /// The same with few devices and little patience: on a busy machine it may give up a broker
    /// that would answer, and calls again.
    pub(crate) async fn hasty(address: &str, site: &str, devices: u32) -> Self {
        let backoff = Backoff {
            min: Duration::from_millis(20),
            max: Duration::from_millis(100),
            ..Backoff::default()
        };
        let manner = Manner {
            devices,
            patience: Duration::from_millis(500),
            backoff,
            ..Manner::default()
        };
        Self::like(address, site, manner).await
    }

    pub(crate) async fn like(address: &str, site: &str, manner: Manner) -> Self {
        let site = format!("{site}_{}", std::process::id());
        let text = format!(
            "type: {site}\nprotocol: amqp\ntopic_template: sites/{{device_type}}/{{device_id}}\n\
             telemetry_interval: 200ms\ntelemetry_fields:\n  \
             temperature: {{type: gaussian, mean: 20, stddev: 1}}\n  \
             relay: {{type: static, value: 1, actuator: true}}\n"
        );
        let profile = Profile::parse("site.yaml", &text).unwrap().profile;
        let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
        let config = ShardConfig {
            shards: 2,
            ..ShardConfig::default()
        };
        let shards = ShardHost::start(&system, &config).unwrap();
        let target = Target::parse(&format!("amqp://{address}")).unwrap();
        let relay = Relay::new(100_000, Arc::default());
        let relays = Relays::from(relay.clone());
        let plan = Plan::amqp(&profile, &target, &relays, (manner.devices, 1.0)).unwrap();
        let mut population = Population::new("default", Arc::new(profile), manner.devices, 7);
        population.plan = Some(Arc::new(plan));
        let fleet = Fleet::new(&system, vec![population], 2, Uplink::Brokers).unwrap();
        let exchange = format!("test.{site}");
        let publisher = PublisherSpec {
            broker: AmqpBroker {
                address: target.address,
                tls: manner.tls,
                vhost: "/".to_owned(),
                exchange: exchange.clone(),
                credentials: Credentials::default(),
            },
            relay: relay.clone(),
            downlink: fleet.downlink(),
            seed: 7,
            patience: manner.patience,
            backoff: manner.backoff,
        };
        let at = ActorPath::new("/fleet/publisher").unwrap();
        let child = publisher_child(&at, publisher);
        let spec = SupervisorSpec::new(at, Default::default()).child(child);
        let root = start_root(&system, spec).await.unwrap();
        let supervision = Arc::new(Supervision::default());
        fleet
            .start(shards.shards(), &Policies::shipped(), &supervision)
            .unwrap();
        Self {
            system,
            fleet,
            shards,
            root,
            relay,
            exchange,
            site,
        }
    }

    pub(crate) fn counts(&self) -> PublishCounts {
        self.fleet.published().remove(0).counts
    }

    pub(crate) async fn until(&self, enough: impl Fn(&PublishCounts) -> bool) {
        let waits = async {
            while !enough(&self.counts()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waits).await;
        let now = self.counts();
        let brief = (now.connected, now.sent, now.acked, now.errors);
        assert!(waited.is_ok(), "waited in vain: {brief:?}");
    }

    /// Stops in the node's order: devices, then the publisher.
    pub(crate) async fn stop(self) -> PublishCounts {
        self.fleet.stop().await;
        self.shards.stop().await.unwrap();
        self.root.stop().await;
        assert_eq!(self.relay.waiting(), 0);
        let counts = self.counts();
        let outcome = counts.acked + counts.dropped + counts.refused;
        assert_eq!(counts.sent, outcome, "each sample has an outcome");
        counts
    }
}

pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}
