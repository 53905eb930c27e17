//! Devices by the node's publisher against RabbitMQ, at the address in `ACTORSIM_AMQP`.
//!
//! Without it the test is skipped, and says so; where `CI` is set it fails instead.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{ShardConfig, ShardHost};
use actorsim_actors::{ActorPath, Clock, System};
use actorsim_fleet::broker::{AmqpBroker, Credentials, Plan, PublishCounts, PublisherSpec};
use actorsim_fleet::broker::{Relay, Relays, Target, publisher_child};
use actorsim_fleet::{Fleet, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision, SupervisorRef, SupervisorSpec, start_root};
use amqprs::BasicProperties;
use amqprs::channel::{BasicConsumeArguments, BasicPublishArguments, Channel, ConsumerMessage};
use amqprs::channel::{ExchangeDeclareArguments, QueueBindArguments, QueueDeclareArguments};
use amqprs::connection::{Connection, OpenConnectionArguments};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

const COUNT: u32 = 300; // two groups
const PATIENCE: Duration = Duration::from_secs(20);

fn broker() -> Option<String> {
    let address = std::env::var("ACTORSIM_AMQP").ok();
    if address.is_none() {
        let in_ci = std::env::var_os("CI").is_some();
        assert!(!in_ci, "ACTORSIM_AMQP is not set, and CI has RabbitMQ");
        println!("skipped: set ACTORSIM_AMQP=HOST:PORT to test against RabbitMQ");
    }
    address
}

struct Rig {
    fleet: Fleet,
    shards: ShardHost,
    root: SupervisorRef,
    relay: Relay,
    exchange: String,
    site: String,
}

impl Rig {
    async fn new(address: &str, site: &str) -> Self {
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
        let plan = Plan::amqp(&profile, &target, &relays, (COUNT, 1.0)).unwrap();
        let mut population = Population::new("default", Arc::new(profile), COUNT, 7);
        population.plan = Some(Arc::new(plan));
        let fleet = Fleet::new(&system, vec![population], 2, Uplink::Brokers).unwrap();
        let exchange = format!("test.{site}");
        let publisher = PublisherSpec {
            broker: AmqpBroker {
                address: target.address,
                tls: None,
                vhost: "/".to_owned(),
                exchange: exchange.clone(),
                credentials: Credentials::default(),
            },
            relay: relay.clone(),
            downlink: fleet.downlink(),
            seed: 7,
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
            fleet,
            shards,
            root,
            relay,
            exchange,
            site,
        }
    }

    fn counts(&self) -> PublishCounts {
        self.fleet.published().remove(0).counts
    }

    async fn until(&self, enough: impl Fn(&PublishCounts) -> bool) {
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
    async fn stop(self) -> PublishCounts {
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

/// An independent consumer of what goes to an exchange.
struct Watcher {
    _connection: Connection,
    channel: Channel,
    heard: UnboundedReceiver<ConsumerMessage>,
}

impl Watcher {
    async fn new(address: &str, exchange: &str, keys: &[&str]) -> Self {
        let (host, port) = address.split_once(':').unwrap();
        let at = OpenConnectionArguments::new(host, port.parse().unwrap(), "guest", "guest");
        let connection = Connection::open(&at).await.unwrap();
        let channel = connection.open_channel(None).await.unwrap();
        let mut declare = ExchangeDeclareArguments::new(exchange, "topic");
        let declare = declare.durable(true).finish();
        channel.exchange_declare(declare).await.unwrap();
        let own = QueueDeclareArguments::new("").exclusive(true).finish();
        let (queue, ..) = channel.queue_declare(own).await.unwrap().unwrap();
        for key in keys {
            let bind = QueueBindArguments::new(&queue, exchange, key);
            channel.queue_bind(bind).await.unwrap();
        }
        let mut consume = BasicConsumeArguments::new(&queue, "watcher");
        let consume = consume.auto_ack(true).finish();
        let (_, heard) = channel.basic_consume_rx(consume).await.unwrap();
        Self {
            _connection: connection,
            channel,
            heard,
        }
    }

    /// The next message with this key.
    async fn hear(&mut self, key: &str) -> Value {
        let next = async {
            loop {
                let message = self.heard.recv().await.unwrap();
                if message.deliver.unwrap().routing_key() == key {
                    return serde_json::from_slice(&message.content.unwrap()).unwrap();
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, next).await;
        waited.unwrap_or_else(|_| panic!("nothing came to {key}"))
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn samples_are_confirmed_in_order_and_commands_are_answered() {
    let Some(address) = broker() else { return };
    run(async {
        let rig = Rig::new(&address, "confirmed").await;
        let id = format!("{}-0299", rig.site);
        let telemetry = format!("sites.{}.{id}", rig.site);
        let replies = format!("devices.{id}.replies");
        let mut watcher = Watcher::new(&address, &rig.exchange, &[&telemetry, &replies]).await;
        let mut stamps = Vec::new();
        for _ in 0..3 {
            let sample = watcher.hear(&telemetry).await;
            assert_eq!(sample["device_id"], id.as_str());
            stamps.push(sample["timestamp"].as_str().unwrap().to_owned());
        }
        assert!(stamps.is_sorted(), "{stamps:?}");
        rig.until(|counts| counts.acked >= u64::from(COUNT) * 5)
            .await;
        let command = br#"{"command_id": 5, "set": {"relay": 0}}"#.to_vec();
        let to = BasicPublishArguments::new(&rig.exchange, &format!("devices.{id}.commands"));
        let sent = watcher
            .channel
            .basic_publish(BasicProperties::default(), command, to);
        sent.await.unwrap();
        assert_eq!(watcher.hear(&replies).await["status"], "executed");
        let sample = watcher.hear(&telemetry).await;
        assert_eq!(sample["fields"]["relay"], 0.0);
        let counts = rig.stop().await;
        assert_eq!((counts.errors, counts.dropped), (0, 0));
        assert_eq!(counts.latency_us.len(), counts.acked);
    });
}

#[test]
fn a_peer_that_is_no_broker_is_tried_again_and_all_is_accounted_for() {
    // anybody may run this one: the peer is ours
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let garbage = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let answers: [&[u8]; 3] = [
            b"HTTP/1.1 400 Bad\r\n\r\n",
            b"AMQP\0\0\x09\x01",
            b"\x01\0\0",
        ];
        for answer in answers {
            let (mut peer, _) = listener.accept().unwrap();
            let _ = peer.read(&mut [0; 64]);
            let _ = peer.write_all(answer);
        }
    });
    run(async {
        let rig = Rig::new(&address, "garbage").await;
        rig.until(|counts| counts.errors >= 2 && counts.sent > 0)
            .await;
        let counts = rig.stop().await;
        assert_eq!((counts.acked, counts.connected), (0, 0));
    });
    drop(garbage);
}
