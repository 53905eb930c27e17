//! Devices onto their shards: one slab per population and shard.
//!
//! It decides nothing about restarts. Bound: that of the populations.

use std::sync::Arc;

use actorsim_actors::shard::{ShardHandle, SlabHandle, SlabSpec};
use actorsim_actors::{ActorPath, MailboxSpec, Overflow, Time};
use actorsim_supervision::{CellGovernor, CellPolicy, Policies, Supervision};

use super::core::{Member, announce};
use super::{DEVICE_MAILBOX, Fleet, FleetError};
use crate::air::AirOut;
use crate::device::{Device, DeviceShared, Identity, Schedule};
use crate::lines::LinesOut;
use crate::out::DeviceOut;
use crate::payload::Encoder;
use crate::population::Population;
use crate::watch::{Happened, WatchOut};
use crate::wire::WireDigests;

/// Where devices run and who decides about them: known once the fleet has started.
#[derive(Debug)]
pub(super) struct Ground {
    shards: Vec<ShardHandle>,
    supervision: Arc<Supervision>,
}

/// Devices that joined.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Spawned {
    /// Their population: its path.
    pub population: ActorPath,
    /// Their type: with a number it makes an id.
    pub device_type: String,
    /// Number of the first one.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Fleet {
    /// Puts the devices on their shards.
    ///
    /// # Errors
    /// [`FleetError`]. Devices on earlier shards keep running: call [`Fleet::stop`].
    pub fn start(
        &self,
        shards: &[ShardHandle],
        policies: &Policies,
        supervision: &Arc<Supervision>,
    ) -> Result<(), FleetError> {
        if shards.len() != self.shards || self.began.set(self.system.clock().monotonic()).is_err() {
            return Err(FleetError::Started(self.shards));
        }
        let members = self.members();
        for member in &members {
            let _ = member.governor.set(governor(member, policies)?);
        }
        let ground = self.ground.get_or_init(|| Ground {
            shards: shards.to_vec(),
            supervision: Arc::clone(supervision),
        });
        for member in &members {
            self.place(member, ground, self.epoch)?;
        }
        Ok(())
    }

    /// A population of which no device runs yet.
    pub(super) fn join(&self, population: Population) -> Result<Arc<Member>, FleetError> {
        let elsewhere = self.hashing.is_some() || self.printer.is_some();
        if self.links.is_empty() && !elsewhere && population.plan.is_none() {
            let device_type = population.profile.device_type.clone();
            return Err(FleetError::NoLink(device_type));
        }
        let member = self.core.join(population, |one| {
            let hashing = self.hashing.as_ref();
            hashing.map_or_else(Vec::new, |hashing| hashing.tables(one, self.shards))
        })?;
        match announce(&member.one, &self.links) {
            Ok(()) => Ok(member),
            Err(error) => {
                self.core.leave(&member);
                Err(error)
            }
        }
    }

    /// Starts more devices, beside those that run: they are put on their shards, which start them
    /// one after another. Where the ids of their type are taken already, they get the next ones.
    ///
    /// # Errors
    /// [`FleetError`]; none has joined then.
    pub fn spawn(
        &self,
        mut population: Population,
        policies: &Policies,
    ) -> Result<Spawned, FleetError> {
        if population.ids.is_none() {
            let fresh = self.core.fresh(&population.profile.device_type);
            population.first = population.first.max(fresh);
        }
        self.spawn_as_named(population, policies)
    }

    /// Starts more devices with the very ids they are asked for: by their list, or from the number
    /// of the first one on. An id is free again once its device was stopped for good.
    ///
    /// # Errors
    /// [`FleetError`]; none has joined then.
    pub fn spawn_as_named(
        &self,
        population: Population,
        policies: &Policies,
    ) -> Result<Spawned, FleetError> {
        let ground = self.ground.get().ok_or(FleetError::NotStarted)?;
        if !ground.shards.iter().all(ShardHandle::is_up) {
            return Err(FleetError::NotStarted);
        }
        // Devices of an id that was there before make events of another life.
        let epoch = (self.system.clock().unix_us() / 10_000) as u32;
        let member = self.join(population)?;
        let placed = governor(&member, policies).and_then(|governor| {
            let _ = member.governor.set(governor);
            self.place(&member, ground, epoch)
        });
        if let Err(error) = placed {
            member.leave();
            for slab in member.slabs() {
                slab.ask_to_close();
            }
            self.core.leave(&member);
            return Err(error);
        }
        self.tell(
            Happened::Spawned,
            &member,
            "started",
            [member.one.asked.ordinals()].into(),
        );
        Ok(Spawned {
            population: member.one.path.clone(),
            device_type: member.one.device_type.to_string(),
            first: member.one.asked.first,
            count: member.one.asked.count,
        })
    }

    /// A name for a population that none of this fleet has now: the wanted one, or with a number.
    #[must_use]
    pub fn free_name(&self, wanted: &str) -> String {
        let roster = self.core.roster();
        let taken = |name: &str| {
            let mut members = roster.members.iter();
            members.any(|member| member.one.asked.name == name)
        };
        let mut numbered = (2u32..).map(|at| format!("{wanted}-{at}"));
        match taken(wanted) {
            false => wanted.to_owned(),
            true => numbered.find(|name| !taken(name)).unwrap_or_default(),
        }
    }

    /// Where the devices run; none before the start.
    #[must_use]
    pub fn shards(&self) -> &[ShardHandle] {
        self.ground.get().map_or(&[], |ground| &ground.shards)
    }

    /// What governs each population; none before the start.
    #[must_use]
    pub fn governors(&self) -> Vec<Arc<CellGovernor>> {
        let members = self.members().into_iter();
        members
            .filter_map(|member| member.governor.get().cloned())
            .collect()
    }

    /// One slab per shard.
    fn place(&self, member: &Arc<Member>, ground: &Ground, epoch: u32) -> Result<(), FleetError> {
        let origin = self.system.clock().now();
        let mut slabs: Vec<Option<SlabHandle<Device>>> = Vec::new();
        let mut failed = None;
        for (at, shard) in ground.shards.iter().enumerate() {
            let spec = self.slab(member, (at, epoch), origin, &ground.supervision);
            let added = spec.map(|spec| shard.add_movable_slab(spec)).transpose();
            match added {
                Ok(slab) => slabs.push(slab),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // Those that run are kept in any case, so that they can be stopped.
        let _ = member.slabs.set(slabs);
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The devices of a population on one shard; `None` if there are none.
    fn slab(
        &self,
        member: &Arc<Member>,
        (shard, epoch): (usize, u32),
        origin: Time,
        supervision: &Arc<Supervision>,
    ) -> Option<SlabSpec<Device>> {
        let compiled = &member.one;
        let governor = member.governor.get()?;
        let ordinals = compiled.ordinals_on(shard, self.shards);
        if ordinals.is_empty() {
            return None;
        }
        let path = compiled.path.clone();
        let name = Arc::clone(&member.subject.name);
        let policy = CellPolicy::governed(governor);
        let policy = policy.reporting(&self.system, supervision, &path, Arc::clone(&name));
        let fresh = Identity::new(&compiled.program);
        Some(SlabSpec {
            path,
            name,
            ordinals,
            shared: shared(member, epoch, origin),
            out: self.out(member, shard),
            identity: Box::new(move |_| fresh),
            mailbox: MailboxSpec::new(DEVICE_MAILBOX, Overflow::Reject).kept(),
            supervisor: Box::new(policy),
        })
    }

    fn out(&self, member: &Member, shard: usize) -> DeviceOut {
        let counters = Arc::clone(&self.counters);
        let digests = member.tables.get(shard).cloned().map(WireDigests::new);
        let out = match (&self.air, self.links.get(shard), &self.stats, digests) {
            (Some(air), _, Some(stats), Some(digests)) => {
                let links = self.links.clone().into();
                // of a device with the number 0, if there were one
                let first = member.first.wrapping_sub(member.one.asked.first);
                let (air, stats) = (Arc::clone(air), Arc::clone(stats));
                DeviceOut::to_air(AirOut::new(digests, air, links, stats, first), counters)
            }
            (None, Some(link), Some(stats), _) => {
                DeviceOut::to_link(link.clone(), Arc::clone(stats), counters)
            }
            (.., Some(digests)) => DeviceOut::to_digests(digests, counters),
            _ => DeviceOut::to_nowhere(counters),
        };
        let watched = WatchOut::new(Arc::clone(&self.watch), Arc::clone(&member.subject));
        let out = out
            .publishing(member.one.asked.plan.as_deref())
            .watched(watched)
            .printing(self.printer.clone().map(|printer| {
                let encoder = Encoder::lines(&member.one.asked.profile);
                LinesOut::new(printer, member.one.names(), encoder)
            }));
        out.retrying(&self.retries)
    }
}

/// What governs a population, by the policies.
fn governor(member: &Member, policies: &Policies) -> Result<Arc<CellGovernor>, FleetError> {
    let (path, labels) = (member.one.path.clone(), member.one.labels());
    let governance = policies.governance(&path, &labels);
    CellGovernor::new(path.clone(), labels, &governance)
        .map(Arc::new)
        .map_err(|error| FleetError::Policy { path, error })
}

fn shared(member: &Member, epoch: u32, origin: Time) -> DeviceShared {
    let (compiled, asked) = (&member.one, &member.one.asked);
    DeviceShared {
        schedule: Schedule::new(origin, compiled.program.interval(), asked.seed),
        beat: asked
            .t2_period
            .filter(|_| asked.t2)
            .map(|period| Schedule::new(origin, period, asked.seed.rotate_left(32))),
        program: Arc::clone(&compiled.program),
        behaviours: Arc::clone(&member.behaviours),
        names: compiled.names(),
        master_seed: asked.seed,
        epoch,
        t1: asked.t1,
        t2: asked.t2,
        plan: asked.plan.clone(),
        crew: member.crew.clone(),
    }
}
