//! Who publishes for devices that have no connection of their own: the AMQP connection of the node,
//! and the connections of an MQTT pool.
//!
//! Made from the configuration before the devices, which write to what is here; started after them,
//! as children of `/fleet/publisher`. Bound: as configured.

use std::sync::Arc;

use actorsim_actors::ActorPath;
use actorsim_fleet::broker::publisher::PATIENCE;
use actorsim_fleet::broker::{
    AmqpBroker, GatewaySpec, Pool, PublisherSpec, Relay, Relays, gateway_children, publisher_child,
};
use actorsim_fleet::session::backoff::Backoff;
use actorsim_fleet::{Fleet, seed};
use actorsim_supervision::{ChildSpec, Policies, SupervisorSpec};

use super::StartError;
use super::build::{MqttBroker, mqtt_broker};
use super::secrets::amqp_credentials;
use super::terms::terms_of;
use crate::config::NodeConfig;
use crate::config::target::AMQP_TLS;

/// Where messages of devices wait for those who publish them.
#[derive(Debug, Default)]
pub(crate) struct Publishers {
    amqp: Option<(AmqpBroker, Relay, Relays)>,
    pool: Option<(MqttBroker, Pool)>,
}

impl Publishers {
    /// Those that the configuration asks for.
    pub(super) fn of(config: &NodeConfig) -> Result<Self, StartError> {
        let mqtt = config.targets.mqtt.as_ref();
        let pool = mqtt.and_then(|target| Some((target, target.pool?)));
        let pool = pool.map(|(target, pool)| {
            let broker = mqtt_broker(config, target)?;
            let pool = Pool::new(pool.size, pool.outbox, &Arc::default());
            Ok::<_, StartError>((broker, pool))
        });
        Ok(Self {
            amqp: amqp(config)?,
            pool: pool.transpose()?,
        })
    }

    /// Those of a simulation: messages for AMQP are confirmed at once, nothing is shared.
    pub(crate) fn simulated(config: &NodeConfig) -> Result<Self, StartError> {
        let amqp = amqp(config)?.map(|(broker, ..)| {
            let relay = Relay::simulated(&broker.exchange, Arc::default());
            let relays = Relays::from(relay.clone());
            (broker, relay, relays)
        });
        Ok(Self { amqp, pool: None })
    }

    /// Whether there are any.
    pub(super) const fn any(&self) -> bool {
        self.amqp.is_some() || self.pool.is_some()
    }

    /// What waits for the AMQP broker.
    pub(super) fn amqp(&self) -> Option<&Relays> {
        self.amqp.as_ref().map(|(.., relays)| relays)
    }

    /// The connections that devices share.
    pub(super) fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref().map(|(_, pool)| pool)
    }

    /// Their supervisor below `parent`.
    pub(super) fn child(
        &self,
        config: &NodeConfig,
        fleet: &Fleet,
        parent: &ActorPath,
        policies: &Policies,
    ) -> Option<ChildSpec> {
        if !self.any() {
            return None;
        }
        let at = parent.join("publisher");
        let mut spec = SupervisorSpec::new(at.clone(), Default::default());
        let own_seed = config.seed ^ seed::fnv1a64(&config.name);
        if let Some((broker, relay, _)) = &self.amqp {
            let publisher = PublisherSpec {
                broker: broker.clone(),
                relay: relay.clone(),
                downlink: fleet.downlink(),
                seed: own_seed,
                patience: PATIENCE,
                backoff: Backoff::default(),
            };
            spec = spec.child(publisher_child(&at, publisher));
        }
        if let Some((broker, pool)) = &self.pool {
            let gateways = GatewaySpec {
                address: broker.target.address,
                tls: broker.tls.clone(),
                options: broker.options,
                credentials: broker.credentials.clone(),
                name: config.name.clone(),
                backoff: Backoff::default(),
                pool: pool.clone(),
                downlink: fleet.downlink(),
                seed: own_seed,
            };
            for child in gateway_children(&at, gateways) {
                spec = spec.child(child);
            }
        }
        let spec = spec.configured(policies);
        Some(ChildSpec::supervisor("publisher", spec))
    }

    /// They have ended: what still waits is given up, and counted as dropped.
    pub(super) fn give_up(&self) {
        let of_pool = self.pool.iter().flat_map(|(_, pool)| pool.relays().iter());
        let all = of_pool.chain(self.amqp.iter().map(|(_, relay, _)| relay));
        all.for_each(Relay::give_up);
    }
}

/// The AMQP broker of the node, and what waits for it.
pub(crate) fn amqp(config: &NodeConfig) -> Result<Option<(AmqpBroker, Relay, Relays)>, StartError> {
    let Some(target) = &config.targets.amqp else {
        return Ok(None);
    };
    let at = super::build::target(AMQP_TLS.url, &target.url)?;
    let vhost = match at.path.strip_prefix('/').unwrap_or_default() {
        "" | "%2f" | "%2F" => "/",
        own => own,
    };
    let broker = AmqpBroker {
        address: at.address,
        tls: terms_of(config, &at, &target.tls)?,
        vhost: vhost.to_owned(),
        exchange: target.exchange.clone(),
        credentials: amqp_credentials(config, target)?,
    };
    let relay = Relay::new(target.outbox, Arc::default());
    let relays = Relays::from(relay.clone());
    Ok(Some((broker, relay, relays)))
}
