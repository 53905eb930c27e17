//! What a fleet knows of its devices before one runs, and where they run then.
//!
//! Shared by the fleet and its downlink. It starts nothing. Bound: [`POPULATIONS_MAX`].

use std::sync::{Arc, OnceLock};

use actorsim_actors::ActorPath;
use actorsim_actors::shard::SlabHandle;
use actorsim_transport::{Link, TransportStats, session_id};

use super::{FleetError, POPULATIONS_MAX};
use crate::device::Device;
use crate::directory::Directory;
use crate::population::{Compiled, Population, shard_of};
use crate::wire::{Hasher, WireTable, WireTap};

/// What the downlink shares with the fleet.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) populations: Vec<Compiled>,
    /// First device number of each population.
    pub(super) firsts: Vec<u32>,
    pub(super) directory: Directory,
    /// By population, then shard; set when the fleet starts.
    pub(super) slabs: OnceLock<Vec<Vec<Option<SlabHandle<Device>>>>>,
    pub(super) shards: usize,
}

impl Core {
    pub(super) fn name(&self, device: u32) -> String {
        let at = self.firsts.partition_point(|first| *first <= device) - 1;
        self.populations[at].name_of(device - self.firsts[at])
    }

    pub(super) fn slab(&self, population: usize, ordinal: u32) -> Option<&SlabHandle<Device>> {
        self.slabs
            .get()?
            .get(population)?
            .get(shard_of(ordinal, self.shards))?
            .as_ref()
    }

    pub(super) fn slabs(&self) -> impl Iterator<Item = &SlabHandle<Device>> {
        self.slabs.get().into_iter().flatten().flatten().flatten()
    }
}

pub(super) fn core(populations: Vec<Population>, shards: usize) -> Result<Core, FleetError> {
    if populations.len() > POPULATIONS_MAX {
        return Err(FleetError::TooLarge);
    }
    let mut compiled: Vec<Compiled> = Vec::with_capacity(populations.len());
    let mut firsts = Vec::with_capacity(populations.len());
    let mut count = 0u32;
    for population in populations {
        let one = Compiled::new(population)?;
        if compiled
            .iter()
            .any(|other| other.device_type == one.device_type)
        {
            return Err(FleetError::SameType(one.device_type.to_string()));
        }
        if compiled.iter().any(|other| other.path == one.path) {
            return Err(FleetError::SameName(one.asked.name));
        }
        firsts.push(count);
        count = count
            .checked_add(one.asked.count)
            .ok_or(FleetError::TooLarge)?;
        compiled.push(one);
    }
    let directory = Directory::default();
    let mut core = Core {
        populations: compiled,
        firsts,
        directory,
        slabs: OnceLock::new(),
        shards,
    };
    core.directory = Directory::new(count, |device| core.name(device));
    Ok(core)
}

pub(super) fn links(
    core: &Core,
    node: &str,
    started_us: u64,
    stats: &Arc<TransportStats>,
    lines: usize,
) -> Result<Vec<Link>, FleetError> {
    let parent = ActorPath::root().join("fleet/links");
    let mut links = Vec::with_capacity(lines);
    for line in 0..lines {
        let path = parent.join(&line.to_string());
        let session = session_id(node, path.as_str(), started_us);
        let link = Link::new(path, session, Arc::clone(stats));
        for one in core
            .populations
            .iter()
            .filter(|one| one.asked.plan.is_none())
        {
            for registration in one.registrations(line, lines) {
                link.register(registration)?;
            }
        }
        links.push(link);
    }
    Ok(links)
}

pub(super) fn tables(core: &Core, tap: Option<&WireTap>) -> Vec<Vec<Arc<WireTable>>> {
    let hasher = Hasher::start();
    let of = |one: &Compiled| {
        (0..core.shards)
            .map(|at| {
                let ordinals = one.ordinals_on(at, core.shards);
                WireTable::new(
                    Arc::clone(&one.device_type),
                    ordinals,
                    tap.cloned(),
                    hasher.clone(),
                )
            })
            .collect()
    };
    core.populations.iter().map(of).collect()
}
