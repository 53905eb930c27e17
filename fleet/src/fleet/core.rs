//! What a fleet knows of its devices: who they are, and where they run.
//!
//! Shared by the fleet and its downlink. Populations join and leave while devices run; readers
//! take the list as it is and never wait for a change. It starts nothing. Bound:
//! [`POPULATIONS_MAX`] at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use actorsim_actors::ActorPath;
use actorsim_actors::shard::SlabHandle;
use actorsim_supervision::CellGovernor;
use actorsim_transport::{Link, Registration, TransportStats, device_uuid, session_id};
use parking_lot::{Mutex, RwLock};

use super::{FleetError, POPULATIONS_MAX};
use crate::behaviour::Behaviours;
use crate::broker::{Crew, Pool, Speech};
use crate::device::Device;
use crate::directory::Directory;
use crate::population::{Compiled, Population, shard_of};
use crate::watch::Subject;
use crate::wire::{Hasher, WireTable, WireTap};

/// What the downlink shares with the fleet.
#[derive(Debug)]
pub(super) struct Core {
    roster: RwLock<Arc<Roster>>,
    /// The first number of each type that no device of this fleet has had.
    fresh: Mutex<BTreeMap<Arc<str>, u32>>,
    pub(super) shards: usize,
}

/// The populations of a moment, in the order in which they joined.
#[derive(Debug, Default)]
pub(super) struct Roster {
    pub(super) members: Vec<Arc<Member>>,
    /// The first device number that was never given.
    next: u32,
}

/// One population of a fleet.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) one: Compiled,
    /// How it is shown to who watches.
    pub(super) subject: Arc<Subject>,
    /// Number of its first device, over all populations that ever were.
    pub(super) first: u32,
    directory: Directory,
    /// By shard, in a simulation.
    pub(super) tables: Vec<Arc<WireTable>>,
    pub(super) behaviours: Arc<Behaviours>,
    /// Its devices' places on shared connections, if they share any.
    pub(super) crew: Option<Arc<Crew>>,
    pub(super) governor: OnceLock<Arc<CellGovernor>>,
    /// By shard; set when it starts.
    pub(super) slabs: OnceLock<Vec<Option<SlabHandle<Device>>>>,
    /// Ordinals of devices that were stopped for good.
    pub(super) stopped: Mutex<BTreeSet<u32>>,
    /// Its slabs are being closed because somebody stopped it.
    leaving: AtomicBool,
}

impl Member {
    /// The device number of an ordinal.
    pub(super) fn number(&self, ordinal: u32) -> u32 {
        self.first + (ordinal - self.one.asked.first)
    }

    /// The ordinal of a device number, if it is here.
    pub(super) fn ordinal(&self, device: u32) -> Option<u32> {
        let at = device.checked_sub(self.first)?;
        (at < self.one.asked.count).then(|| self.one.asked.first + at)
    }

    pub(super) fn slab(&self, ordinal: u32, shards: usize) -> Option<&SlabHandle<Device>> {
        self.slabs.get()?.get(shard_of(ordinal, shards))?.as_ref()
    }

    pub(super) fn slabs(&self) -> impl DoubleEndedIterator<Item = &SlabHandle<Device>> {
        self.slabs.get().into_iter().flatten().flatten()
    }

    /// The device of a UUID, if it was not stopped for good.
    fn find(&self, uuid: uuid::Uuid) -> Option<u32> {
        let (first, names) = (self.one.asked.first, self.one.names());
        let at = self.directory.find(uuid, |at| names.of(first + at))?;
        Some(first + at).filter(|ordinal| !self.stopped.lock().contains(ordinal))
    }

    /// The device of an id, if it was not stopped for good.
    pub(super) fn named(&self, id: &str) -> Option<u32> {
        if self.one.asked.ids.is_some() {
            return self.find(device_uuid(id));
        }
        let ordinal = self.one.ordinal_of(id)?;
        Some(ordinal).filter(|ordinal| !self.stopped.lock().contains(ordinal))
    }

    /// Whether devices that are to join are called like some of these.
    fn shares_an_id(&self, other: &Compiled) -> bool {
        let numbered = self.one.asked.ids.is_none() && other.asked.ids.is_none();
        if numbered && self.one.device_type != other.device_type {
            return false;
        }
        if numbered {
            let (a, b) = (self.one.asked.ordinals(), other.asked.ordinals());
            let stopped = self.stopped.lock();
            let mut both = a.start.max(b.start)..a.end.min(b.end);
            return both.any(|ordinal| !stopped.contains(&ordinal));
        }
        let (mut own, names) = (other.asked.ordinals(), other.names());
        own.any(|ordinal| self.named(&names.of(ordinal)).is_some())
    }

    /// Says that it is about to be closed: from then on, what is down was stopped.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether somebody stops it.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Devices that are down until somebody starts them again, of so many that are down. Those of
    /// a population that leaves are not among them.
    pub(super) fn paused(&self, down: u64) -> u64 {
        match self.is_leaving() {
            true => 0,
            false => down.saturating_sub(self.stopped.lock().len() as u64),
        }
    }

    /// Devices that were asked for and not stopped since.
    pub(super) fn wanted(&self) -> u64 {
        u64::from(self.one.asked.count) - self.stopped.lock().len() as u64
    }
}

impl Core {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            roster: RwLock::default(),
            fresh: Mutex::default(),
            shards,
        }
    }

    /// The populations now.
    pub(super) fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster.read())
    }

    /// The first number of a type that no device of this fleet has had.
    pub(super) fn fresh(&self, device_type: &str) -> u32 {
        self.fresh.lock().get(device_type).copied().unwrap_or(0)
    }

    /// Takes a population into the list; it does not run yet.
    pub(super) fn join(
        &self,
        population: Population,
        tables: impl FnOnce(&Compiled) -> Vec<Arc<WireTable>>,
    ) -> Result<Arc<Member>, FleetError> {
        let one = Compiled::new(population)?;
        let mut roster = self.roster.write();
        if roster.members.len() >= POPULATIONS_MAX {
            return Err(FleetError::TooLarge);
        }
        for member in &roster.members {
            if member.one.path == one.path {
                return Err(FleetError::SameName(one.asked.name));
            }
            if member.shares_an_id(&one) {
                return Err(FleetError::SameType(one.device_type.to_string()));
            }
        }
        let first = roster.next;
        let next = first.checked_add(one.asked.count);
        let next = next.ok_or(FleetError::TooLarge)?;
        if one.asked.ids.is_none() {
            let end = one.asked.first + one.asked.count;
            let mut fresh = self.fresh.lock();
            let own = fresh.entry(Arc::clone(&one.device_type)).or_insert(0);
            *own = end.max(*own);
        }
        let names = one.names();
        let name = |at: u32| names.of(one.asked.first + at);
        let namer = names.clone();
        let subject = Subject {
            profile: Arc::clone(&one.asked.profile),
            name: Arc::new(move |ordinal| namer.of(ordinal)),
        };
        let member = Arc::new(Member {
            subject: Arc::new(subject),
            directory: Directory::new(one.asked.count, name),
            tables: tables(&one),
            behaviours: Arc::new(Behaviours::new(&one)),
            crew: crew(&one),
            first,
            governor: OnceLock::new(),
            slabs: OnceLock::new(),
            stopped: Mutex::default(),
            leaving: AtomicBool::new(false),
            one,
        });
        let mut members = roster.members.clone();
        members.push(Arc::clone(&member));
        *roster = Arc::new(Roster { members, next });
        Ok(member)
    }

    /// Takes a population off the list; false if it was not there any more.
    pub(super) fn leave(&self, member: &Arc<Member>) -> bool {
        let mut roster = self.roster.write();
        let mut members = roster.members.clone();
        members.retain(|other| !Arc::ptr_eq(other, member));
        let left = members.len() < roster.members.len();
        let next = roster.next;
        *roster = Arc::new(Roster { members, next });
        left
    }
}

/// Where devices share connections: a place for each.
fn crew(one: &Compiled) -> Option<Arc<Crew>> {
    let asked = &one.asked;
    match &asked.plan.as_ref()?.speech {
        Speech::Pooled(speech) => Some(Pool::join(speech, one.names(), (asked.first, asked.count))),
        _ => None,
    }
}

impl Roster {
    /// The population of a device number.
    pub(super) fn of(&self, device: u32) -> Option<(&Arc<Member>, u32)> {
        let at = self.members.partition_point(|one| one.first <= device);
        let member = self.members.get(at.checked_sub(1)?)?;
        Some((member, member.ordinal(device)?))
    }

    /// The device of a UUID.
    pub(super) fn find(&self, uuid: uuid::Uuid) -> Option<(&Arc<Member>, u32)> {
        self.members.iter().find_map(|member| {
            let ordinal = member.find(uuid)?;
            Some((member, ordinal))
        })
    }

    /// The device of that id, in the population of that path if there is one.
    pub(super) fn named(&self, parent: &str, id: &str) -> Option<(&Arc<Member>, u32)> {
        let here = |member: &&Arc<Member>| parent.is_empty() || member.one.path.as_str() == parent;
        let mut found = self.members.iter().filter(here);
        found.find_map(|member| Some((member, member.named(id)?)))
    }

    /// The population at a path.
    pub(super) fn at(&self, path: &ActorPath) -> Option<&Arc<Member>> {
        self.members.iter().find(|member| member.one.path == *path)
    }

    pub(super) fn slabs(&self) -> impl DoubleEndedIterator<Item = &SlabHandle<Device>> {
        self.members.iter().flat_map(|member| member.slabs())
    }
}

/// Links, before any device is announced on them.
pub(super) fn links(
    node: &str,
    started_us: u64,
    stats: &Arc<TransportStats>,
    lines: usize,
) -> Vec<Link> {
    let parent = ActorPath::root().join("fleet/links");
    let link = |line: usize| {
        let path = parent.join(&line.to_string());
        let session = session_id(node, path.as_str(), started_us);
        Link::new(path, session, Arc::clone(stats))
    };
    (0..lines).map(link).collect()
}

/// Announces the devices of a population on the links that carry them.
pub(super) fn announce(one: &Compiled, links: &[Link]) -> Result<(), FleetError> {
    if one.asked.plan.is_some() {
        return Ok(());
    }
    for (line, link) in links.iter().enumerate() {
        let all: Vec<Registration> = one.registrations(line, links.len());
        for registration in all {
            link.register(registration)?;
        }
    }
    Ok(())
}

/// What hashes the wire of a simulation.
#[derive(Clone)]
pub(super) struct Hashing {
    pub(super) tap: Option<WireTap>,
    pub(super) hasher: Option<Hasher>,
}

impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hashing").finish_non_exhaustive()
    }
}

impl Hashing {
    pub(super) fn new(tap: Option<WireTap>) -> Self {
        let hasher = Hasher::start();
        Self { tap, hasher }
    }

    /// The tables of a population, by shard.
    pub(super) fn tables(&self, one: &Compiled, shards: usize) -> Vec<Arc<WireTable>> {
        let kind = Arc::new(one.wire_kind());
        let table = |at| {
            let ordinals = one.ordinals_on(at, shards);
            let (kind, tap) = (Arc::clone(&kind), self.tap.clone());
            WireTable::new(kind, ordinals, tap, self.hasher.clone())
        };
        (0..shards).map(table).collect()
    }
}
