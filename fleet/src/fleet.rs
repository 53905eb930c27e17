//! The fleet of a node: populations on shards, their links, the way back for commands.
//!
//! Order: [`Fleet::new`] compiles and names everything; the node starts the links
//! ([`Fleet::link_children`]) and waits for them as it likes; [`Fleet::start`] puts the devices on
//! shards; [`Fleet::stop`] ends them in order and flushes what they wrote, before the links end.
//! Restarts are decided by the supervision crate, per group of 256. Bound: [`POPULATIONS_MAX`].

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actorsim_actors::shard::{SlabCounts, SlabError, SlabHandle};
use actorsim_actors::{ActorPath, Books, Reply, SendError, System, Time};
use actorsim_supervision::{CellGovernor, ChildSpec};
use actorsim_transport::{Link, LinkSpec, TransportStats, link_child};

use crate::air::Air;
use crate::broker::PublishCounts;
use crate::counters::{FleetCounters, Tally};
use crate::device::{DeviceInfo, DeviceMessage, Injection};
use crate::fault::FaultCounts;
use crate::population::{Compiled, Population};
use crate::wire::{WireTable, WireTap, wire_sha256};

mod core;
mod downlink;
mod error;
mod select;
mod start;

pub use downlink::FleetDownlink;
pub use error::{DeviceError, FleetError};
pub use select::{INJECT_PATIENCE, Reached, Selector};

use self::core::{Core, core, links, tables};

/// Populations of one node.
pub const POPULATIONS_MAX: usize = 64;
/// Messages that wait for one device: commands for one actuator supersede one another anyway.
pub const DEVICE_MAILBOX: u32 = 16;
/// How often [`Fleet::spawned`] and [`Fleet::connected`] look.
const POLL: Duration = Duration::from_millis(5);

/// Where devices write.
#[derive(Clone)]
pub enum Uplink {
    /// To a twin, one link per shard, named `/fleet/links/<shard>`.
    Links {
        /// The node: with the time of its start it names the links' sessions.
        node: String,
        /// What the tiers count.
        stats: Arc<TransportStats>,
    },
    /// Nowhere else: every population has a broker.
    Brokers,
    /// Hashed, and to the twin of a simulation, over a number of links that does not depend on the
    /// number of shards: [`Fleet::hand_over`] moves what was written at one instant.
    Simulated {
        /// The node.
        node: String,
        /// What the tiers count.
        stats: Arc<TransportStats>,
        /// How many links.
        links: usize,
        /// Sees everything that is hashed.
        tap: Option<WireTap>,
    },
    /// Hashed and forgotten: a simulation without a twin.
    Digests {
        /// Sees everything that is hashed.
        tap: Option<WireTap>,
    },
}

impl fmt::Debug for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Links { node, .. } => f.debug_struct("Links").field("node", node).finish(),
            Self::Brokers => f.write_str("Brokers"),
            Self::Simulated { links, .. } => {
                f.debug_struct("Simulated").field("links", links).finish()
            }
            Self::Digests { .. } => f.write_str("Digests"),
        }
    }
}

/// Numbers of a fleet for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct DeviceCounts {
    /// Devices asked for.
    pub requested: u64,
    /// Devices alive.
    pub running: u64,
    /// Incarnations after the first.
    pub restarts: u64,
    /// Devices quarantined now.
    pub quarantined: u64,
    /// From start until each device had been started once; `None` before that.
    pub spawn_s: Option<f64>,
}

/// A fleet.
#[derive(Debug)]
pub struct Fleet {
    system: System,
    shards: usize,
    epoch: u32,
    counters: Arc<FleetCounters>,
    links: Vec<Link>,
    stats: Option<Arc<TransportStats>>,
    tables: Vec<Vec<Arc<WireTable>>>,
    air: Option<Arc<Air>>,
    core: Arc<Core>,
    governors: OnceLock<Vec<Arc<CellGovernor>>>,
    began: OnceLock<Time>,
    spawned: OnceLock<Duration>,
}

impl Fleet {
    /// Compiles populations for a number of shards. With links, each link announces the devices of
    /// its shard.
    ///
    /// # Errors
    /// [`FleetError`], the first that is found.
    pub fn new(
        system: &System,
        populations: Vec<Population>,
        shards: usize,
        uplink: Uplink,
    ) -> Result<Self, FleetError> {
        let shards = shards.max(1);
        let core = Arc::new(core(populations, shards)?);
        let started = system.clock().unix_us();
        let mut air = None;
        let (links, stats, tables) = match uplink {
            Uplink::Brokers => (Vec::new(), None, Vec::new()),
            Uplink::Digests { tap } => (Vec::new(), None, tables(&core, tap.as_ref())),
            Uplink::Links { node, stats } => {
                let links = links(&core, &node, started, &stats, shards)?;
                (links, Some(stats), Vec::new())
            }
            Uplink::Simulated {
                node,
                stats,
                links: lines,
                tap,
            } => {
                air = Some(Arc::default());
                let links = links(&core, &node, started, &stats, lines.max(1))?;
                (links, Some(stats), tables(&core, tap.as_ref()))
            }
        };
        Ok(Self {
            system: system.clone(),
            shards,
            epoch: (system.clock().unix_us() / 10_000) as u32,
            counters: Arc::default(),
            links,
            stats,
            tables,
            air,
            core,
            governors: OnceLock::new(),
            began: OnceLock::new(),
            spawned: OnceLock::new(),
        })
    }

    /// The links, by shard; none in a simulation without a twin.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// One child per link, for the supervisor at `/fleet/links`. `spec` says where they go; its
    /// downlink should be [`Fleet::downlink`].
    #[must_use]
    pub fn link_children(&self, spec: &LinkSpec) -> Vec<ChildSpec> {
        let child = |(at, link): (usize, &Link)| {
            let spec = LinkSpec {
                seed: spec.seed.wrapping_add(at as u64),
                network: spec.network.line(at as u32),
                ..spec.clone()
            };
            link_child(at.to_string(), link, spec)
        };
        self.links.iter().enumerate().map(child).collect()
    }

    /// Waits until each link has a welcomed connection, or the deadline; returns whether it was so.
    pub async fn connected(&self, deadline: Duration) -> bool {
        poll(deadline, || self.links.iter().all(Link::is_connected)).await
    }

    /// In a simulation with a twin: hands what devices have written to their links.
    pub fn hand_over(&self) {
        if let Some(air) = &self.air {
            air.hand_over(&self.links);
        }
    }

    /// The way back for commands.
    #[must_use]
    pub fn downlink(&self) -> Arc<FleetDownlink> {
        Arc::new(FleetDownlink::new(
            Arc::clone(&self.core),
            self.system.clock().clone(),
        ))
    }

    /// Waits until each device has been started once, or the deadline; returns whether it was so.
    pub async fn spawned(&self, deadline: Duration) -> bool {
        poll(deadline, || {
            let starting: u64 = self.core.slabs().map(|slab| slab.counts().starting).sum();
            let begun = self
                .began
                .get()
                .filter(|_| starting == 0 && self.core.slabs.get().is_some());
            if let Some(began) = begun {
                let _ = self.spawned.set(self.system.clock().monotonic() - *began);
            }
            begun.is_some()
        })
        .await
    }

    /// Stops the devices in order, the last slab first; what they wrote is handed to the links.
    /// Stopping twice is harmless.
    pub async fn stop(&self) {
        let slabs: Vec<_> = self.core.slabs().collect();
        for slab in slabs.into_iter().rev() {
            // Closed already: the shard was stopped before.
            let _ = slab.close().await;
        }
    }

    /// Numbers for the report.
    #[must_use]
    pub fn counts(&self) -> DeviceCounts {
        let requested = self
            .core
            .populations
            .iter()
            .map(|one| u64::from(one.asked.count))
            .sum();
        let mut counts = DeviceCounts {
            requested,
            ..DeviceCounts::default()
        };
        for slab in self.slab_counts() {
            counts.running += slab.running;
            counts.restarts += slab.restarts;
            counts.quarantined += slab.quarantined;
        }
        counts.spawn_s = self.spawned.get().map(Duration::as_secs_f64);
        counts
    }

    /// Counters of each slab.
    #[must_use]
    pub fn slab_counts(&self) -> Vec<SlabCounts> {
        self.core.slabs().map(SlabHandle::counts).collect()
    }

    /// Path of the device of that number, counted over all populations.
    #[must_use]
    pub fn path_of(&self, device: u32) -> Option<ActorPath> {
        let at = self.core.firsts.partition_point(|first| *first <= device);
        let at = at.checked_sub(1)?;
        let (one, ordinal) = (&self.core.populations[at], device - self.core.firsts[at]);
        (ordinal < one.asked.count).then(|| one.path.join(&one.name_of(ordinal)))
    }

    /// Devices of the population at a path: all, and those that run; `None` if there is none there.
    #[must_use]
    pub fn cells_of(&self, path: &ActorPath) -> Option<(u64, u64)> {
        let mut populations = self.core.populations.iter();
        populations.find(|one| one.path == *path)?;
        let own = self.core.slabs().filter(|slab| slab.path() == path);
        let counts = own.map(|slab| slab.counts());
        Some(counts.fold((0, 0), |(all, up), slab| {
            (all + slab.cells, up + slab.running)
        }))
    }

    /// Books of all devices' mailboxes.
    #[must_use]
    pub fn books(&self) -> Books {
        self.core
            .slabs()
            .fold(Books::default(), |sum, slab| sum + slab.books())
    }

    /// What devices have counted.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.counters.read()
    }

    /// Faults injected and ended, by kind.
    #[must_use]
    pub fn faults(&self) -> FaultCounts {
        self.counters.faults.read()
    }

    /// Devices that publish to brokers, and what they have counted.
    #[must_use]
    pub fn published(&self) -> Option<(u64, PublishCounts)> {
        let on_brokers = |one: &&Compiled| one.asked.plan.is_some();
        let populations = self.core.populations.iter().filter(on_brokers);
        let devices = populations
            .clone()
            .map(|one| u64::from(one.asked.count))
            .sum();
        let plan = populations
            .into_iter()
            .find_map(|one| one.asked.plan.as_ref());
        plan.map(|plan| (devices, plan.stats.read()))
    }

    /// `wire_sha256` of the report; `None` where bytes went to a twin.
    #[must_use]
    pub fn wire_sha256(&self) -> Option<String> {
        if self.tables.is_empty() {
            return None;
        }
        let mut all = Vec::new();
        for (compiled, tables) in self.core.populations.iter().zip(&self.tables) {
            for (ordinal, digest) in tables.iter().flat_map(|table| table.digests()) {
                all.push((compiled.name_of(ordinal), digest));
            }
        }
        Some(wire_sha256(all))
    }

    /// Pushes the presence of a device to 0, as if somebody had left; `device` is an id, or the
    /// path of its actor.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn trigger(&self, device: &str) -> Result<(), DeviceError> {
        let (population, ordinal) = self.locate(device)?;
        if self.core.populations[population]
            .program
            .presence()
            .is_none()
        {
            return Err(DeviceError::NoPresence(device.to_owned()));
        }
        self.send(device, population, ordinal, DeviceMessage::Trigger)
    }

    /// Injects a fault into a device.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn inject(&self, device: &str, injection: Injection) -> Result<(), DeviceError> {
        let (population, ordinal) = self.locate(device)?;
        self.send(
            device,
            population,
            ordinal,
            DeviceMessage::Inject(injection),
        )
    }

    /// What a device tells about itself.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn info(&self, device: &str) -> Result<DeviceInfo, DeviceError> {
        let (population, ordinal) = self.locate(device)?;
        let (reply, answer) = Reply::channel();
        self.send(device, population, ordinal, DeviceMessage::Info(reply))?;
        answer
            .await
            .map_err(|_| DeviceError::NoAnswer(device.to_owned()))
    }

    /// Ends a device at once, which its supervisor takes as abnormal.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn kill(&self, device: &str) -> Result<(), DeviceError> {
        let (population, ordinal) = self.locate(device)?;
        let slab = self.core.slab(population, ordinal);
        let killed = slab.map_or(Err(SlabError::Closed), |slab| slab.kill(ordinal));
        killed.map_err(|_| DeviceError::Busy(device.to_owned()))
    }

    fn locate(&self, device: &str) -> Result<(usize, u32), DeviceError> {
        let (parent, id) = device.rsplit_once('/').unwrap_or(("", device));
        self.core
            .populations
            .iter()
            .enumerate()
            .filter(|(_, one)| parent.is_empty() || one.path.as_str() == parent)
            .find_map(|(at, one)| one.ordinal_of(id).map(|ordinal| (at, ordinal)))
            .ok_or_else(|| DeviceError::Unknown(device.to_owned()))
    }

    fn send(
        &self,
        device: &str,
        population: usize,
        ordinal: u32,
        message: DeviceMessage,
    ) -> Result<(), DeviceError> {
        let sent = match self.core.slab(population, ordinal) {
            None => Err(SendError::Closed(message)),
            Some(slab) => slab.send(ordinal, message),
        };
        sent.map_err(|_| DeviceError::Busy(device.to_owned()))
    }
}

/// Looks again and again until something holds, or the deadline has passed.
async fn poll(deadline: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let polls = deadline.as_nanos().div_ceil(POLL.as_nanos());
    for _ in 0..polls {
        if holds() {
            return true;
        }
        tokio::time::sleep(POLL).await;
    }
    holds()
}
