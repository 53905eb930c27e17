//! A recording to an AMQP broker: each message to the exchange, by its topic with dots, confirmed.
//!
//! It goes by the publisher that nodes have, which connects again by itself. Bound: the relay; a
//! broker that is slower delays the recording.

use actorsim_actors::{ActorPath, Clock, System};
use actorsim_fleet::broker::{AmqpBroker, PublisherSpec, Relay, publisher, publisher_child};
use actorsim_fleet::session::backoff::Backoff;
use actorsim_fleet::{Fleet, Uplink};
use actorsim_supervision::{Policies, SupervisorRef, SupervisorSpec, start_root};
use serde_json::{Value as Json, json};
use tokio::time::sleep;

use super::message::Message;
use super::play::{POLL, Taker, comes_true, sleep as rest_until};
use super::stream::PATIENCE;

/// A publisher that plays.
#[derive(Debug)]
pub struct AmqpTarget {
    relay: Relay,
    root: SupervisorRef,
    system: System,
    sent: u64,
}

impl AmqpTarget {
    /// Connects to a broker.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn connect(broker: AmqpBroker, relay: Relay) -> Result<Self, String> {
        let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
        // Commands find nobody: a recording does not listen.
        let nobody = Fleet::new(&system, Vec::new(), 1, Uplink::Brokers);
        let nobody = nobody.map_err(|error| error.to_string())?;
        let (address, top) = (broker.address, ActorPath::root());
        let publisher = PublisherSpec {
            broker,
            relay: relay.clone(),
            downlink: nobody.downlink(),
            seed: system.clock().unix_us(),
            patience: publisher::PATIENCE,
            backoff: Backoff::default(),
        };
        let spec = SupervisorSpec::new(top.clone(), Default::default());
        let spec = spec.child(publisher_child(&top, publisher));
        let spec = spec.configured(&Policies::shipped());
        let root = spec.reference();
        let started = start_root(&system, spec).await;
        started.map_err(|error| error.to_string())?;
        let target = Self {
            relay,
            root,
            system,
            sent: 0,
        };
        match comes_true(|| target.relay.stats().read().connected > 0).await {
            true => Ok(target),
            false => {
                target.root.stop().await;
                Err(format!("no AMQP broker takes us in at {address}"))
            }
        }
    }
}

impl Taker for AmqpTarget {
    async fn give(&mut self, message: &Message) -> Result<(), String> {
        let key = message.topic.replace('/', ".");
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let now = self.system.clock().monotonic();
            let to = (&*key, message.content_type());
            match self.relay.post(to, &message.payload, now) {
                Ok(true) => {
                    self.sent += 1;
                    return Ok(());
                }
                Ok(false) if tokio::time::Instant::now() < patience => sleep(POLL).await,
                Ok(false) => return Err("the broker takes no messages".to_owned()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    async fn rest(&mut self, until: tokio::time::Instant) -> Result<(), String> {
        rest_until(until).await
    }

    async fn close(self) -> Result<Json, String> {
        let all = comes_true(|| self.relay.stats().read().acked >= self.sent).await;
        self.root.stop().await;
        let acked = self.relay.stats().read().acked;
        match all {
            true => Ok(json!({ "sent": self.sent, "acked": acked, "refused": 0 })),
            false => {
                let waiting = self.sent - acked;
                Err(format!("{waiting} messages were not acknowledged"))
            }
        }
    }
}
