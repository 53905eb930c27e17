//! The layers of a running node, as its control plane, its metrics and its report read them.
//!
//! It starts and stops nothing. Bound: a snapshot is one pass over counters; nothing per device.

use std::sync::Arc;
use std::sync::OnceLock;

use actorsim_actors::shard::{ShardHost, ShardStats};
use actorsim_actors::{ActorPath, System, Time};
use actorsim_fleet::{DeviceCounts, DeviceError, Fleet, Injection, Population, Published};
use actorsim_supervision::Supervision;
use actorsim_transport::{DropReason, TransportStats, Wires};
use actorsim_world::rules::RuleSet;
use actorsim_world::{SystemId, Twin};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::publishers::Publishers;
use super::shards::shard_path;
use super::{build, measure, snapshot};
use crate::attach::control::Joining;
use crate::attach::plane::Hooks;
use crate::config::NodeConfig;
use crate::remote::stream::BatchSizes;
use crate::report;
use crate::view::{NodeSnapshot, NodeView, ProcessView};

/// The devices of this node.
#[derive(Debug)]
pub(super) struct FleetLayer {
    pub(super) fleet: Fleet,
    pub(super) shards: ShardHost,
    /// What devices that join later are made from.
    pub(super) config: NodeConfig,
    /// The lines of its links.
    pub(super) wires: Wires,
    /// Counters at the moment the devices were asked to stop.
    pub(super) last: OnceLock<DeviceCounts>,
    /// Who publishes for devices without connections of their own.
    pub(super) publishers: Publishers,
    /// What had gone to brokers at that moment.
    pub(super) published: OnceLock<Vec<Published>>,
}

impl FleetLayer {
    /// Counters now, or when the devices were asked to stop.
    pub(super) fn counts(&self) -> DeviceCounts {
        self.last
            .get()
            .copied()
            .unwrap_or_else(|| self.fleet.counts())
    }
}

/// What runs.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) system: System,
    pub(super) supervision: Arc<Supervision>,
    pub(super) stats: Arc<TransportStats>,
    pub(super) twin: Option<Twin>,
    /// Files that its rules came from.
    pub(super) rule_files: Vec<String>,
    pub(super) fleet: Option<FleetLayer>,
    /// What chaos did here, once a plan has run.
    pub(super) chaos: Mutex<Option<report::Chaos>>,
    /// How many values were sent at once to clients that look on.
    pub(super) batches: Arc<BatchSizes>,
    /// When the tree was up.
    pub(super) up: OnceLock<Time>,
    /// When it was asked to stop.
    pub(super) stopped: OnceLock<Time>,
    /// The process at that moment.
    pub(super) at_work: OnceLock<ProcessView>,
    /// What chaos struck and was not back when its time for that was over.
    pub(super) not_back: OnceLock<Vec<String>>,
    /// What was left when all had stopped.
    pub(super) leaks: OnceLock<report::Leaks>,
}

impl Layers {
    /// The counters of the shard at a path.
    fn shard(&self, path: &ActorPath) -> Option<ShardStats> {
        let mut shards = self.fleet.as_ref()?.shards.shards().iter();
        let shard = shards.find(|shard| shard_path(shard.index()) == *path)?;
        Some(shard.stats())
    }

    /// What came over the connection at a path, and what became of it.
    fn connection(&self, path: &ActorPath) -> Option<serde_json::Value> {
        let id = path.as_str().strip_prefix("/transport/conn/")?;
        let conn = self.stats.conns.of(id.parse().ok()?)?;
        let dropped = DropReason::ALL.map(|reason| {
            let count = conn.dropped.get(reason);
            (reason.label().to_owned(), serde_json::Value::from(count))
        });
        let dropped = serde_json::Map::from_iter(dropped);
        Some(serde_json::json!({ "received": conn.received.get(), "dropped": dropped }))
    }

    /// Seconds from up to the stop, or to now.
    pub(super) fn elapsed_s(&self) -> f64 {
        let now = self.system.clock().monotonic();
        let end = self.stopped.get().copied().unwrap_or(now);
        self.up.get().map_or(0.0, |up| (end - *up).as_secs_f64())
    }
}

impl NodeView for Layers {
    fn snapshot(&self) -> NodeSnapshot {
        snapshot::of(self)
    }

    fn brief(&self) -> NodeSnapshot {
        snapshot::brief(self)
    }
}

impl Hooks for Layers {
    fn trigger<'a>(&'a self, target: &'a str) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(async move {
            let Some(layer) = &self.fleet else {
                return Ok(false);
            };
            known(layer.fleet.trigger(target))
        })
    }

    fn crash<'a>(&'a self, path: &'a ActorPath) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(async move {
            if let Some(twin) = &self.twin
                && path == twin.scan().path()
            {
                let crashed = twin.panic(SystemId::Diagnostics).await;
                return crashed.map(|()| true).map_err(|error| error.to_string());
            }
            let Some(layer) = &self.fleet else {
                return Ok(false);
            };
            known(layer.fleet.inject(path.as_str(), Injection::Crash))
        })
    }

    fn fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref().map(|layer| &layer.fleet)
    }

    fn join(&self, joining: &Joining) -> Result<Population, String> {
        let layer = self.fleet.as_ref();
        let layer = layer.ok_or("this node has no devices: ask one that does")?;
        build::joining(layer, joining)
    }

    fn scan(&self) -> Option<report::Scan> {
        self.twin
            .as_ref()
            .map(|twin| measure::world(&twin.report()).scan)
    }

    fn twin(&self) -> Option<&Twin> {
        self.twin.as_ref()
    }

    fn read_rules(&self) -> Result<RuleSet, String> {
        let read = crate::config::rules::read(&self.rule_files);
        let set = read.map_err(|errors| errors.render_for("nothing was changed", false))?;
        if let Some(twin) = &self.twin {
            set.check(&twin.config().rules.windows)?;
        }
        Ok(set)
    }

    fn figures(&self, path: &ActorPath) -> Option<(&'static str, serde_json::Value)> {
        if let Some(stats) = self.shard(path) {
            return Some(("shard", serde_json::to_value(stats).ok()?));
        }
        if let Some(figures) = self.connection(path) {
            return Some(("connection", figures));
        }
        let twin = self.twin.as_ref()?;
        let journal = twin.inlets().events;
        let report = (path == journal.path()).then(|| twin.journal())?;
        Some(("journal", serde_json::to_value(report).ok()?))
    }

    fn detail(&self, on: bool) -> bool {
        let fleet = self.fleet.as_ref();
        fleet.map(|layer| layer.shards.set_detail(on)).is_some()
    }

    fn noun(&self, path: &ActorPath) -> &'static str {
        if path.as_str().starts_with("/fleet/") {
            "devices"
        } else {
            "actors"
        }
    }
}

fn known(result: Result<(), DeviceError>) -> Result<bool, String> {
    match result {
        Ok(()) => Ok(true),
        Err(DeviceError::Unknown(_)) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}
