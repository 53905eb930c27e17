//! Devices onto their shards: one slab per population and shard.
//!
//! It decides nothing about restarts. Bound: that of the populations.

use std::sync::Arc;

use actorsim_actors::shard::{ShardHandle, SlabSpec};
use actorsim_actors::{MailboxSpec, Overflow, Time};
use actorsim_supervision::{CellGovernor, CellPolicy, Policies, Supervision};

use super::{DEVICE_MAILBOX, Fleet, FleetError};
use crate::air::AirOut;
use crate::device::{Device, DeviceShared, Identity, Schedule};
use crate::out::DeviceOut;
use crate::population::Compiled;
use crate::wire::{WireDigests, WireTable};

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
        let governors = self.governed(policies)?;
        let origin = self.system.clock().now();
        let mut slabs = vec![vec![None; shards.len()]; self.core.populations.len()];
        let mut start = || {
            for (population, row) in slabs.iter_mut().enumerate() {
                for (at, (place, shard)) in row.iter_mut().zip(shards).enumerate() {
                    let spec = self.slab(population, at, origin, governors, supervision)?;
                    *place = spec.map(|spec| shard.add_movable_slab(spec)).transpose()?;
                }
            }
            Ok(())
        };
        let started = start();
        // those that run are kept in any case, so that they can be stopped
        let kept = self.core.slabs.set(slabs);
        kept.map_err(|_| FleetError::Started(self.shards))?;
        started
    }

    /// What governs each population, by the policies.
    fn governed(&self, policies: &Policies) -> Result<&[Arc<CellGovernor>], FleetError> {
        let governor = |compiled: &Compiled| {
            let (path, labels) = (compiled.path.clone(), compiled.labels());
            let governance = policies.governance(&path, &labels);
            CellGovernor::new(path.clone(), labels, &governance)
                .map(Arc::new)
                .map_err(|error| FleetError::Policy { path, error })
        };
        let governors = self.core.populations.iter().map(governor);
        let governors = governors.collect::<Result<Vec<_>, _>>()?;
        Ok(self.governors.get_or_init(|| governors))
    }

    /// What governs each population; none before the start.
    #[must_use]
    pub fn governors(&self) -> &[Arc<CellGovernor>] {
        self.governors.get().map_or(&[], Vec::as_slice)
    }

    /// The devices of a population on one shard; `None` if there are none.
    fn slab(
        &self,
        population: usize,
        shard: usize,
        origin: Time,
        governors: &[Arc<CellGovernor>],
        supervision: &Arc<Supervision>,
    ) -> Result<Option<SlabSpec<Device>>, FleetError> {
        let compiled = &self.core.populations[population];
        let ordinals = compiled.ordinals_on(shard, self.shards);
        if ordinals.is_empty() {
            return Ok(None);
        }
        let path = compiled.path.clone();
        let namer = Arc::clone(&compiled.device_type);
        let name: Arc<dyn Fn(u32) -> String + Send + Sync> =
            Arc::new(move |ordinal| crate::device::device_name(&namer, ordinal));
        let policy = CellPolicy::governed(&governors[population]);
        let policy = policy.reporting(&self.system, supervision, &path, Arc::clone(&name));
        let fresh = Identity::new(&compiled.program);
        Ok(Some(SlabSpec {
            path,
            name,
            ordinals,
            shared: self.shared(compiled, origin),
            out: self.out(population, shard),
            identity: Box::new(move |_| fresh),
            mailbox: MailboxSpec::new(DEVICE_MAILBOX, Overflow::Reject).kept(),
            supervisor: Box::new(policy),
        }))
    }

    fn shared(&self, compiled: &Compiled, origin: Time) -> DeviceShared {
        let asked = &compiled.asked;
        DeviceShared {
            schedule: Schedule::new(origin, compiled.program.interval(), asked.seed),
            beat: asked
                .t2_period
                .filter(|_| asked.t2)
                .map(|period| Schedule::new(origin, period, asked.seed.rotate_left(32))),
            program: Arc::clone(&compiled.program),
            device_type: Arc::clone(&compiled.device_type),
            master_seed: asked.seed,
            epoch: self.epoch,
            t1: asked.t1,
            t2: asked.t2,
            plan: asked.plan.clone(),
        }
    }

    fn out(&self, population: usize, shard: usize) -> DeviceOut {
        let counters = Arc::clone(&self.counters);
        let plan = self.core.populations[population].asked.plan.as_ref();
        let published = plan.map(|plan| Arc::clone(&plan.stats));
        let digests = || {
            let row = self.tables.get(population);
            let own = row.map(|row| Arc::clone(&row[shard]));
            let none = || WireTable::new("".into(), Vec::new(), None, None);
            WireDigests::new(own.unwrap_or_else(none))
        };
        let out = match (&self.air, self.links.get(shard), &self.stats) {
            (Some(air), _, Some(stats)) => {
                let links = self.links.clone().into();
                let first = self.core.firsts[population];
                let (air, stats) = (Arc::clone(air), Arc::clone(stats));
                DeviceOut::to_air(AirOut::new(digests(), air, links, stats, first), counters)
            }
            (None, Some(link), Some(stats)) => {
                DeviceOut::to_link(link.clone(), Arc::clone(stats), counters)
            }
            _ => DeviceOut::to_digests(digests(), counters),
        };
        out.publishing(published)
    }
}
