//! The fleet of a node: populations on shards, their links, the way back for commands.
//!
//! Order: [`Fleet::new`] compiles and names everything; the node starts the links
//! ([`Fleet::link_children`]) and waits for them as it likes; [`Fleet::start`] puts the devices on
//! shards; more join with [`Fleet::spawn`], change with [`Fleet::update`], leave with
//! [`Fleet::stop_where`]; [`Fleet::stop`] ends all in order and flushes what they wrote, before the
//! links end.
//! Restarts are decided by the supervision crate, per group of 256. Bound: [`POPULATIONS_MAX`].

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actorsim_actors::shard::{SlabCounts, SlabError, SlabHandle};
use actorsim_actors::{ActorPath, Books, Reply, SendError, System, Time};
use actorsim_supervision::ChildSpec;
use actorsim_transport::{Link, LinkSpec, TransportStats, link_child};

use crate::air::Air;
use crate::counters::{FleetCounters, Tally};
use crate::device::{DeviceInfo, DeviceMessage, Injection};
use crate::fault::FaultCounts;
use crate::lines::Printer;
use crate::out::Retries;
use crate::population::Population;
use crate::profile::Protocol;
use crate::watch::Watch;
use crate::wire::{WireTap, wire_sha256};

mod core;
mod downlink;
mod error;
mod look;
mod past;
mod published;
mod select;
mod start;
mod stop;
mod update;

pub use downlink::FleetDownlink;
pub use error::{DeviceError, FleetError};
pub use look::DeviceRow;
pub use published::Published;
pub use select::{INJECT_PATIENCE, Reached, Selector};
pub use start::Spawned;
pub use stop::Stopped;
pub use update::Updated;

use self::core::{Core, Hashing, Member, links};
use self::look::runs;
use self::past::Past;
use self::start::Ground;

/// Populations of one node at a time: a list of them is walked to find one.
pub const POPULATIONS_MAX: usize = 1_024;
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

/// Numbers of one population.
#[derive(Clone, Debug)]
pub struct PopulationCounts {
    /// Where its devices are.
    pub path: ActorPath,
    /// Their type.
    pub device_type: Arc<str>,
    /// How their profile says that they talk.
    pub protocol: Protocol,
    /// Devices that were asked for and not stopped since.
    pub wanted: u64,
    /// Of these, devices that were paused: down until somebody starts them again.
    pub paused: u64,
    /// By state, and restarts, over all shards; nothing else is summed.
    pub slabs: SlabCounts,
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
    hashing: Option<Hashing>,
    air: Option<Arc<Air>>,
    core: Arc<Core>,
    watch: Arc<Watch>,
    printer: Option<Printer>,
    retries: Arc<Retries>,
    ground: OnceLock<Ground>,
    past: Past,
    began: OnceLock<Time>,
    spawned: OnceLock<Duration>,
}

impl Fleet {
    /// Compiles populations for a number of shards; more may join later ([`Fleet::spawn`]). With
    /// links, each link announces the devices of its shard.
    ///
    /// # Errors
    /// [`FleetError`], the first that is found.
    pub fn new(
        system: &System,
        populations: Vec<Population>,
        shards: usize,
        uplink: Uplink,
    ) -> Result<Self, FleetError> {
        Self::printing(system, populations, shards, uplink, None)
    }

    /// The same, with each sample printed, too: also of devices that have no other way out.
    ///
    /// # Errors
    /// [`FleetError`], the first that is found.
    pub fn printing(
        system: &System,
        populations: Vec<Population>,
        shards: usize,
        uplink: Uplink,
        printer: Option<Printer>,
    ) -> Result<Self, FleetError> {
        let shards = shards.max(1);
        let started = system.clock().unix_us();
        let (mut air, mut hashing) = (None, None);
        let (links, stats) = match uplink {
            Uplink::Brokers => (Vec::new(), None),
            Uplink::Digests { tap } => {
                hashing = Some(Hashing::new(tap));
                (Vec::new(), None)
            }
            Uplink::Links { node, stats } => (links(&node, started, &stats, shards), Some(stats)),
            Uplink::Simulated {
                node,
                stats,
                links: lines,
                tap,
            } => {
                air = Some(Arc::default());
                hashing = Some(Hashing::new(tap));
                (links(&node, started, &stats, lines.max(1)), Some(stats))
            }
        };
        let fleet = Self {
            system: system.clone(),
            shards,
            epoch: (started / 10_000) as u32,
            counters: Arc::default(),
            links,
            stats,
            hashing,
            air,
            core: Arc::new(Core::new(shards)),
            watch: Arc::default(),
            printer,
            retries: Arc::new(Retries::new(system)),
            ground: OnceLock::new(),
            past: Past::default(),
            began: OnceLock::new(),
            spawned: OnceLock::new(),
        };
        for population in populations {
            fleet.join(population)?;
        }
        Ok(fleet)
    }

    /// Where samples are printed.
    #[must_use]
    pub const fn printer(&self) -> Option<&Printer> {
        self.printer.as_ref()
    }

    /// Waits until each line that was printed is written, or the deadline, and prints no more;
    /// returns whether all was written.
    pub async fn printed(&self, deadline: Duration) -> bool {
        let Some(printer) = &self.printer else {
            return true;
        };
        let written = poll(deadline, || {
            let counts = printer.stats().read();
            counts.sent <= counts.acked + counts.refused + counts.dropped
        });
        let written = written.await;
        printer.end();
        written
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
            let roster = self.core.roster();
            let starting: u64 = roster.slabs().map(|slab| slab.counts().starting).sum();
            let begun = self
                .began
                .get()
                .filter(|_| starting == 0 && self.ground.get().is_some());
            if let Some(began) = begun {
                let _ = self.spawned.set(self.system.clock().monotonic() - *began);
            }
            begun.is_some()
        })
        .await
    }

    /// Numbers for the report.
    #[must_use]
    pub fn counts(&self) -> DeviceCounts {
        let mut counts = DeviceCounts {
            requested: self.members().iter().map(|one| one.wanted()).sum(),
            restarts: self.past.counts().restarts,
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

    /// The populations that run, in the order in which they joined.
    #[must_use]
    pub fn populations(&self) -> Vec<PopulationCounts> {
        let counts = |member: &Arc<Member>| {
            let mut sum = SlabCounts::default();
            for slab in member.slabs().map(SlabHandle::counts) {
                sum.running += slab.running;
                sum.starting += slab.starting;
                sum.restarting += slab.restarting;
                sum.stopped += slab.stopped;
                sum.quarantined += slab.quarantined;
                sum.restarts += slab.restarts;
            }
            PopulationCounts {
                path: member.one.path.clone(),
                device_type: Arc::clone(&member.one.device_type),
                protocol: member.one.asked.profile.protocol,
                wanted: member.wanted(),
                paused: member.paused(sum.stopped),
                slabs: sum,
            }
        };
        self.core.roster().members.iter().map(counts).collect()
    }

    fn members(&self) -> Vec<Arc<Member>> {
        self.core.roster().members.clone()
    }

    /// Counters of each slab.
    #[must_use]
    pub fn slab_counts(&self) -> Vec<SlabCounts> {
        self.core.roster().slabs().map(SlabHandle::counts).collect()
    }

    /// Path of the device at that place, counted over all populations that run.
    #[must_use]
    pub fn path_of(&self, mut place: u32) -> Option<ActorPath> {
        for member in &self.core.roster().members {
            let asked = &member.one.asked;
            if place < asked.count {
                let name = member.one.name_of(asked.first + place);
                return Some(member.one.path.join(&name));
            }
            place -= asked.count;
        }
        None
    }

    /// Devices of the population at a path: all, and those that run; `None` if there is none there.
    #[must_use]
    pub fn cells_of(&self, path: &ActorPath) -> Option<(u64, u64)> {
        let roster = self.core.roster();
        let counts = roster.at(path)?.slabs().map(SlabHandle::counts);
        Some(counts.fold((0, 0), |(all, up), slab| {
            (all + slab.cells, up + slab.running)
        }))
    }

    /// Books of all devices' mailboxes.
    #[must_use]
    pub fn books(&self) -> Books {
        let roster = self.core.roster();
        let past = self.past.books();
        roster.slabs().fold(past, |sum, slab| sum + slab.books())
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

    /// `wire_sha256` of the report, over all devices that ever ran; `None` where bytes went to a
    /// twin.
    #[must_use]
    pub fn wire_sha256(&self) -> Option<String> {
        self.hashing.as_ref()?;
        let mut all = self.past.digests();
        for member in self.members() {
            all.extend(past::digests(&member));
        }
        Some(wire_sha256(all))
    }

    /// Pushes the presence of a device to 0, as if somebody had left; `device` is an id, or the
    /// path of its actor.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn trigger(&self, device: &str) -> Result<(), DeviceError> {
        let (member, ordinal) = self.locate(device)?;
        if member.one.program.presence().is_none() {
            return Err(DeviceError::NoPresence(device.to_owned()));
        }
        self.send(device, (&member, ordinal), DeviceMessage::Trigger)
    }

    /// Injects a fault into a device.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn inject(&self, device: &str, injection: Injection) -> Result<(), DeviceError> {
        let (member, ordinal) = self.locate(device)?;
        let message = DeviceMessage::Inject(injection);
        self.send(device, (&member, ordinal), message)
    }

    /// What a device tells about itself.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn info(&self, device: &str) -> Result<DeviceInfo, DeviceError> {
        let (member, ordinal) = self.locate(device)?;
        let (reply, answer) = Reply::channel();
        self.send(device, (&member, ordinal), DeviceMessage::Info(reply))?;
        answer
            .await
            .map_err(|_| DeviceError::NoAnswer(device.to_owned()))
    }

    /// Ends a device at once, which its supervisor takes as abnormal.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn kill(&self, device: &str) -> Result<(), DeviceError> {
        let (member, ordinal) = self.locate(device)?;
        let slab = member.slab(ordinal, self.shards);
        let killed = slab.map_or(Err(SlabError::Closed), |slab| slab.kill(ordinal));
        killed.map_err(|_| DeviceError::Busy(device.to_owned()))
    }

    fn locate(&self, device: &str) -> Result<(Arc<Member>, u32), DeviceError> {
        let (parent, id) = device.rsplit_once('/').unwrap_or(("", device));
        let roster = self.core.roster();
        let found = roster.named(parent, id);
        let (member, ordinal) = found.ok_or_else(|| DeviceError::Unknown(device.to_owned()))?;
        Ok((Arc::clone(member), ordinal))
    }

    fn send(
        &self,
        device: &str,
        (member, ordinal): (&Member, u32),
        message: DeviceMessage,
    ) -> Result<(), DeviceError> {
        let sent = match member.slab(ordinal, self.shards) {
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
