//! What all devices of a population read.
//!
//! Read-only. Bound: one per slab.

use std::sync::Arc;

use super::Schedule;
use crate::behaviour::Behaviours;
use crate::broker::{Crew, Plan};
use crate::names::Names;
use crate::program::Program;
use crate::seed::device_seed;

/// Read-only data of one population on one shard.
#[derive(Clone, Debug)]
pub struct DeviceShared {
    /// The runnable profile.
    pub program: Arc<Program>,
    /// How some of them behave otherwise.
    pub behaviours: Arc<Behaviours>,
    /// What devices are called.
    pub(crate) names: Names,
    /// When devices sample.
    pub schedule: Schedule,
    /// When devices send their last value as an event, besides thresholds.
    pub beat: Option<Schedule>,
    /// Master seed of the run.
    pub master_seed: u64,
    /// Life of the fleet: events of an earlier life have other keys.
    pub epoch: u32,
    /// Whether samples are sent.
    pub t1: bool,
    /// Whether events are sent.
    pub t2: bool,
    /// The way to a broker; without it devices use the tiers.
    pub plan: Option<Arc<Plan>>,
    /// Their places, if they share connections to it.
    pub(crate) crew: Option<Arc<Crew>>,
}

impl DeviceShared {
    /// The id of a device.
    #[must_use]
    pub fn name(&self, ordinal: u32) -> String {
        self.names.of(ordinal)
    }

    /// Appends the id of a device.
    pub(crate) fn write_name(&self, ordinal: u32, out: &mut String) {
        self.names.write(ordinal, out);
    }

    /// The seed of a device.
    pub(crate) fn seed(&self, ordinal: u32) -> u64 {
        device_seed(self.master_seed, &self.name(ordinal))
    }

    /// The way to a broker.
    pub(crate) fn plan(&self) -> Option<&Plan> {
        self.plan.as_deref()
    }
}

/// `{type}-{index}`, at least four digits.
#[must_use]
pub(crate) fn device_name(device_type: &str, ordinal: u32) -> String {
    format!("{device_type}-{ordinal:04}")
}
