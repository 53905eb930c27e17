//! Who can be struck: task actors by kind, devices as one kind, at one moment of a node.
//!
//! It strikes nobody. Bounds: one pass over the task actors, page by page; of devices only those
//! that were struck, for which it waits twice the patience of [`soon`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actorsim_actors::ActorPath;
use actorsim_actors::census::{ActorRow, Census as Tasks, CensusFilter, PAGE_MAX};
use actorsim_supervision::chaos::{Census, Fault, Kind, LINK, NODE, SHARD};
use futures_util::future::join_all;

use super::device_takes;
use crate::attach::plane::silent::{Hosts, soon};
use crate::node::layers::Layers;

/// The kind of all devices.
pub(super) const DEVICE: &str = "device";

/// One moment of the actors of a node.
#[derive(Debug)]
pub(super) struct LiveCensus {
    layers: Arc<Layers>,
    tasks: Vec<(String, Vec<ActorPath>)>,
    /// Task actors and struck devices that are down for now.
    down: BTreeSet<ActorPath>,
    devices: u64,
    /// Running actors of all hosts, and all.
    up: (u64, u64),
    quarantined: u64,
}

/// The kind of an actor: what its last segment says; numbered ones are of their parent's kind, and
/// so are those beside them.
pub(crate) fn kind(path: &ActorPath) -> String {
    let name = path.name();
    let number = name.strip_suffix("-commands").unwrap_or(name);
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return name.to_owned();
    }
    let parent = path.parent().unwrap_or_else(ActorPath::root);
    match parent.name() {
        "conn" => "connection".to_owned(),
        "links" if name != number => format!("{LINK}-commands"),
        "links" => LINK.to_owned(),
        "shards" => SHARD.to_owned(),
        other => format!("{other}/n"),
    }
}

/// Struck devices that are down, or on a shard that does not answer: both are not back.
async fn devices_down(census: &Tasks, struck: &BTreeSet<ActorPath>) -> Vec<ActorPath> {
    if struck.is_empty() {
        return Vec::new();
    }
    let hosts = Hosts::ask(census.sources()).await;
    let row = |path| soon(census.row_among(&hosts.awake, path));
    let rows = join_all(struck.iter().map(row)).await;
    let silent = |path| hosts.silent.iter().any(|host| host.known(path).is_some());
    let is_down = |path, row: Option<Option<ActorRow>>| match row {
        Some(Some(row)) => row.state == "restarting",
        Some(None) => silent(path),
        None => true,
    };
    let down = struck
        .iter()
        .zip(rows)
        .filter_map(|(path, row)| is_down(path, row).then_some(path));
    down.cloned().collect()
}

/// Every task actor: a busy node has more connections than a page has rows.
fn all_tasks(census: &Tasks) -> Vec<ActorRow> {
    let all = CensusFilter::default();
    let mut rows: Vec<ActorRow> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.path.clone());
        let page = census.task_rows(&all, after.as_ref(), PAGE_MAX);
        let more = page.more && !page.rows.is_empty();
        rows.extend(page.rows);
        if !more {
            return rows;
        }
    }
}

impl LiveCensus {
    pub(super) async fn take(layers: &Arc<Layers>, struck: &BTreeSet<ActorPath>) -> Self {
        let census = layers.system.census();
        let mut kinds: BTreeMap<String, Vec<ActorPath>> = BTreeMap::new();
        let (mut down, mut quarantined, mut up) = (BTreeSet::new(), 0, (0, 0));
        for row in all_tasks(census) {
            up.1 += 1;
            match row.state {
                "running" => up.0 += 1,
                "quarantined" => quarantined += 1,
                "restarting" => drop(down.insert(row.path.clone())),
                _ => {}
            }
            if matches!(row.state, "running" | "restarting") {
                kinds.entry(kind(&row.path)).or_default().push(row.path);
            }
        }
        down.extend(devices_down(census, struck).await);
        let mut devices = 0;
        if let Some(layer) = &layers.fleet {
            let counts = layer.counts();
            devices = counts.requested;
            quarantined += counts.quarantined;
            up.0 += counts.running;
            up.1 += counts.requested;
        }
        Self {
            layers: Arc::clone(layers),
            tasks: kinds.into_iter().collect(),
            down,
            devices,
            up,
            quarantined,
        }
    }

    pub(super) const fn up(&self) -> (u64, u64) {
        self.up
    }

    pub(super) const fn quarantined(&self) -> u64 {
        self.quarantined
    }

    pub(super) fn is_device_down(&self, path: &ActorPath) -> bool {
        self.down.contains(path)
    }
}

impl Census for LiveCensus {
    fn kinds(&self) -> Vec<Kind<'_>> {
        let tasks = self.tasks.iter().map(|(name, paths)| Kind {
            name,
            count: paths.len() as u64,
        });
        let devices = Kind {
            name: DEVICE,
            count: self.devices,
        };
        let node = Kind {
            name: NODE,
            count: 1,
        };
        tasks.chain([devices, node]).collect()
    }

    fn path(&self, kind: usize, index: u64) -> ActorPath {
        let task = self.tasks.get(kind);
        let found = match task {
            Some((_, paths)) => paths.get(index as usize).cloned(),
            None if kind > self.tasks.len() => None, // the node: the root
            None => {
                let fleet = self.layers.fleet.as_ref();
                fleet.and_then(|layer| layer.fleet.path_of(u32::try_from(index).ok()?))
            }
        };
        found.unwrap_or_else(ActorPath::root)
    }

    fn is_down(&self, path: &ActorPath) -> bool {
        self.down.contains(path)
    }

    fn takes(&self, kind: usize, fault: Fault) -> bool {
        match self.tasks.get(kind) {
            Some((name, _)) if name == "scan" && fault == Fault::Panic => true,
            Some((name, _)) if name == LINK && fault.hits_link() => true,
            // Devices by the thousand are not hit but by a plan that says so.
            Some((name, _)) if name == SHARD => fault.hits_shard(),
            Some(_) => fault.hits_any_actor(),
            None if kind == self.tasks.len() => device_takes(fault),
            None => fault.hits_node(),
        }
    }
}

#[cfg(test)]
mod tests {
    use actorsim_actors::{
        Addr, Clock, Fault as ActorFault, Flow, MailboxSpec, Message, Overflow, System, TaskActor,
        TaskContext,
    };

    use super::*;

    struct Idle;

    #[derive(Debug)]
    struct Nothing;

    impl Message for Nothing {}

    impl TaskActor for Idle {
        type Msg = Nothing;

        async fn handle(
            &mut self,
            _: Nothing,
            _: &mut TaskContext<Nothing>,
        ) -> Result<Flow, ActorFault> {
            Ok(Flow::Continue)
        }
    }

    #[tokio::test]
    async fn who_comes_after_ten_thousand_connections_is_seen() {
        let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
        let connections = ActorPath::root().join("transport/conn");
        let mut paths: Vec<_> = (0..PAGE_MAX)
            .map(|n| connections.join(&n.to_string()))
            .collect();
        paths.push(ActorPath::root().join("twin/scan"));
        for path in &paths {
            let addr = Addr::new(path.clone(), MailboxSpec::new(1, Overflow::Reject));
            let incarnation = addr.next_incarnation();
            let started = system.start_task(&addr, incarnation, Idle, Box::new(drop));
            started.await.unwrap();
        }
        let seen = all_tasks(system.census());
        assert_eq!(seen.len(), paths.len());
        assert_eq!(seen.last().map(|row| &row.path), paths.last());
    }
}
