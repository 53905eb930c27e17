//! Devices by the node's publisher against RabbitMQ, at the address in `ACTORSIM_AMQP`, and over
//! TLS at `ACTORSIM_AMQPS`, with a certificate of the site authority in `ACTORSIM_TLS_SITE`.
//!
//! Without it the test is skipped, and says so; where `CI` is set it fails instead.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "amqp_kit/kit.rs"]
mod kit;

use std::path::Path;

use actorsim_actors::ActorPath;
use actorsim_fleet::session::tls::Terms;
use actorsim_transport::certs::{Site, stream};
use amqprs::BasicProperties;
use amqprs::channel::{BasicConsumeArguments, BasicPublishArguments, Channel, ConsumerMessage};
use amqprs::channel::{ExchangeDeclareArguments, QueueBindArguments, QueueDeclareArguments};
use amqprs::connection::{Connection, OpenConnectionArguments};
use kit::{COUNT, Manner, PATIENCE, Rig, run};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

fn given(name: &str) -> Option<String> {
    let value = std::env::var(name).ok();
    if value.is_none() {
        let in_ci = std::env::var_os("CI").is_some();
        assert!(!in_ci, "{name} is not set, and CI has RabbitMQ");
        println!("skipped: set {name} to test against RabbitMQ");
    }
    value
}

fn broker() -> Option<String> {
    given("ACTORSIM_AMQP")
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
fn samples_are_confirmed_over_tls_by_a_broker_of_the_own_authority_only() {
    let (Some(address), Some(site)) = (given("ACTORSIM_AMQPS"), given("ACTORSIM_TLS_SITE")) else {
        return;
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let terms = |site: &Path| {
        let site = Site::open_or_create(site).unwrap();
        let roots = stream::roots(&site.dir().join("ca.pem")).unwrap();
        Terms::new(stream::stream_client(roots, None).unwrap(), "127.0.0.1").unwrap()
    };
    let (own, other) = (terms(Path::new(&site)), terms(elsewhere.path()));
    run(async {
        let with = |terms| Manner {
            tls: Some(terms),
            ..Manner::default()
        };
        let rig = Rig::like(&address, "secret", with(own)).await;
        rig.until(|counts| counts.acked >= u64::from(COUNT)).await;
        assert_eq!(rig.stop().await.errors, 0);
        let rig = Rig::like(&address, "distrustful", with(other)).await;
        rig.until(|counts| counts.errors >= 2).await;
        assert_eq!(rig.stop().await.connects, 0);
    });
}

#[test]
fn a_publisher_that_is_killed_loses_nothing() {
    let Some(address) = broker() else { return };
    run(async {
        let rig = Rig::new(&address, "killed").await;
        rig.until(|counts| counts.acked >= u64::from(COUNT)).await;
        let path = ActorPath::new("/fleet/publisher/amqp").unwrap();
        let actor = rig.system.census().task(&path).unwrap();
        actor.kill();
        actor.exited().await;
        let before = rig.counts().acked;
        rig.until(|counts| counts.acked >= before + u64::from(COUNT))
            .await;
        let connected = rig.counts().connected;
        assert_eq!(connected, u64::from(COUNT), "over the second only");
        let counts = rig.stop().await;
        assert_eq!((counts.connects, counts.dropped), (2, 0));
    });
}
