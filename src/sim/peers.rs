//! Brokers and servers of a simulation: what devices connect to whose profiles speak MQTT, HTTP,
//! CoAP or AMQP.
//!
//! They take everything, and are on the network between the shards: so such devices have the
//! sessions that they would have on a node whose configuration names nothing but where its targets
//! are. None is opened unless a device needs one. Bound: that of the fleet.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use actorsim_actors::shard::ShardHandle;
use actorsim_fleet::Population;
use actorsim_fleet::broker::PublishStats;
use actorsim_fleet::peer::host::{HOSTS, Hosts};
use actorsim_fleet::profile::Protocol;
use parking_lot::Mutex;

use crate::config::target::SecretsFrom;
use crate::config::{Layers, NodeConfig};
use crate::node::build;
use crate::node::publishers::Publishers;

/// The node's own broker of AMQP is its relay: nobody connects there.
const AMQP_URL: &str = "amqp://127.0.0.1";

/// The brokers of a run.
#[derive(Debug)]
pub(super) struct Peers {
    shard: ShardHandle,
    config: NodeConfig,
    open: OnceLock<Hosts>,
    publishers: Publishers,
    stats: Mutex<BTreeMap<&'static str, Arc<PublishStats>>>,
}

impl Peers {
    /// On this shard, which should be the first.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn on(shard: &ShardHandle) -> Result<Self, String> {
        let mut layers = Layers::built_in();
        for (protocol, url, _) in HOSTS {
            layers.set(&format!("targets.{}.url={url}", protocol.name()));
        }
        layers.set(&format!("targets.amqp.url={AMQP_URL}"));
        let settings = layers.resolve().map_err(|errors| errors.to_string())?;
        let mut config = NodeConfig::from_settings(&settings);
        config.targets.secrets = SecretsFrom::Files;
        Ok(Self {
            shard: shard.clone(),
            publishers: Publishers::simulated(&config).map_err(|error| error.to_string())?,
            config,
            open: OnceLock::new(),
            stats: Mutex::default(),
        })
    }

    /// The same population with its way to its broker, if its profile asks for one.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn reached_by(&self, population: Population) -> Result<Population, String> {
        let protocol = population.profile.protocol;
        let stats = Arc::clone(self.stats.lock().entry(protocol.name()).or_default());
        let asked = (&*population.profile, population.count);
        let plan = build::broker(&self.config, asked, (stats, &self.publishers));
        let Some(plan) = plan.map_err(|error| error.to_string())? else {
            return Ok(population);
        };
        if protocol != Protocol::Amqp && self.open.get().is_none() {
            let opened = Hosts::open(&self.shard).map_err(|error| error.to_string())?;
            let _ = self.open.set(opened); // one thread opens them
        }
        Ok(Population {
            plan: Some(plan),
            ..population
        })
    }
}
