//! A population: one profile, a number of devices, one seed.
//!
//! Devices are numbered from 0; groups of 256 are the unit of placement, so a device keeps its
//! group whatever the number of shards. It starts nothing: that is [`crate::fleet`]. Bound:
//! [`DEVICES_MAX`].

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::ActorPath;
use actorsim_actors::shard::GROUP_SIZE;
use actorsim_supervision::Labels;
use actorsim_transport::{DeviceRange, RANGE_DEVICES_MAX, Registration, SensorSpec};

use crate::broker::Plan;
use crate::names::{Listed, Names};
use crate::profile::{INTERVAL_MAX, INTERVAL_MIN, Profile, Protocol};
use crate::program::{Program, ProgramError, Sensor};
use crate::wire::WireKind;

/// Devices of one population.
pub const DEVICES_MAX: u32 = RANGE_DEVICES_MAX;
/// Names that other children of `/fleet` have.
const RESERVED: [&str; 4] = ["links", "publisher", "scenario", "shards"];
/// Digits of a device's number at least.
const NAME_DIGITS: u8 = 4;

/// What a population is asked to be.
#[derive(Clone, Debug)]
pub struct Population {
    /// Its segment under `/fleet`.
    pub name: String,
    /// What each device is.
    pub profile: Arc<Profile>,
    /// Number of its first device, in its id: above 0 where others of its type run already.
    pub first: u32,
    /// How many devices.
    pub count: u32,
    /// Their ids, as many as they are, with `first` at 0; `{type}-{number}` if `None`.
    pub ids: Option<Arc<Listed>>,
    /// Time between samples; the profile's if `None`.
    pub interval: Option<Duration>,
    /// Master seed; see [`crate::seed::choose`].
    pub seed: u64,
    /// Whether samples are sent.
    pub t1: bool,
    /// Whether threshold events are sent.
    pub t2: bool,
    /// Time between further events of each device, besides those of thresholds; none if `None`.
    pub t2_period: Option<Duration>,
    /// The way to a broker; the QUIC tiers if `None`.
    pub plan: Option<Arc<Plan>>,
}

impl Population {
    /// A population that sends everything at the profile's interval.
    #[must_use]
    pub fn new(name: impl Into<String>, profile: Arc<Profile>, count: u32, seed: u64) -> Self {
        let name = name.into();
        Self {
            name,
            profile,
            first: 0,
            count,
            ids: None,
            interval: None,
            seed,
            t1: true,
            t2: true,
            t2_period: None,
            plan: None,
        }
    }

    /// The numbers of its devices.
    #[must_use]
    pub fn ordinals(&self) -> Range<u32> {
        self.first..self.first.saturating_add(self.count)
    }

    /// The same with another interval.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }
}

/// Why there can be no such population.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PopulationError {
    /// The profile cannot run.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// None, or too many.
    #[error(
        "population `{name}` has {count} devices from number {first}; 1 or more are possible, up \
         to number {DEVICES_MAX}"
    )]
    Count {
        /// The population.
        name: String,
        /// Number of the first one.
        first: u32,
        /// Devices asked for.
        count: u32,
    },
    /// Samples or events too close to one another, or too far.
    #[error(
        "population `{name}` has an interval of {interval:?}; {INTERVAL_MIN:?} to {INTERVAL_MAX:?} \
         are possible"
    )]
    Interval {
        /// The population.
        name: String,
        /// What was asked for.
        interval: Duration,
    },
    /// No segment of a path.
    #[error(
        "`{0}` is no name for a population (use letters, digits, `.`, `_` and `-`; not links, \
         publisher or scenario)"
    )]
    Name(String),
}

/// A population that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub(crate) path: ActorPath,
    pub(crate) device_type: Arc<str>,
    pub(crate) program: Arc<Program>,
    pub(crate) asked: Population,
}

impl Compiled {
    /// Names it can be chosen by in a policy file, besides its path.
    pub(crate) fn labels(&self) -> Labels {
        [
            ("device_type".to_owned(), self.device_type.to_string()),
            ("population".to_owned(), self.asked.name.clone()),
        ]
        .into()
    }

    pub(crate) fn new(asked: Population) -> Result<Self, PopulationError> {
        let path = ActorPath::new(&format!("/fleet/{}", asked.name)).ok();
        let segment = !asked.name.contains('/') && !RESERVED.contains(&asked.name.as_str());
        let path = path
            .filter(|_| segment)
            .ok_or_else(|| PopulationError::Name(asked.name.clone()))?;
        let listed = asked.ids.as_ref();
        let fits = listed.is_none_or(|ids| ids.count() == asked.count && asked.first == 0);
        let possible = 1..=DEVICES_MAX.saturating_sub(asked.first);
        if !possible.contains(&asked.count) || !fits {
            let (name, first, count) = (asked.name, asked.first, asked.count);
            return Err(PopulationError::Count { name, first, count });
        }
        let possible = |interval: &Duration| (INTERVAL_MIN..=INTERVAL_MAX).contains(interval);
        let mut asked_for = asked.interval.into_iter().chain(asked.t2_period);
        if let Some(interval) = asked_for.find(|interval| !possible(interval)) {
            let name = asked.name;
            return Err(PopulationError::Interval { name, interval });
        }
        let program = Arc::new(Program::new(&asked.profile, asked.interval)?);
        let device_type = asked.profile.device_type.as_str().into();
        Ok(Self {
            path,
            device_type,
            program,
            asked,
        })
    }

    pub(crate) fn name_of(&self, ordinal: u32) -> String {
        self.names().of(ordinal)
    }

    /// What its devices are called.
    pub(crate) fn names(&self) -> Names {
        Names {
            device_type: Arc::clone(&self.device_type),
            listed: self.asked.ids.clone(),
        }
    }

    /// The ordinal of a device id, if it is one of ours and made from its number.
    pub(crate) fn ordinal_of(&self, id: &str) -> Option<u32> {
        if self.asked.ids.is_some() {
            return None;
        }
        let digits = id.strip_prefix(&*self.device_type)?.strip_prefix('-')?;
        let own = self.asked.ordinals();
        let ordinal = digits.parse().ok().filter(|at| own.contains(at))?;
        (self.name_of(ordinal) == id).then_some(ordinal)
    }

    /// The groups on one shard, as ranges of ordinals.
    pub(crate) fn ordinals_on(&self, shard: usize, shards: usize) -> Vec<Range<u32>> {
        let own = self.asked.ordinals();
        let groups = own.start / GROUP_SIZE..own.end.div_ceil(GROUP_SIZE);
        groups
            .filter(|group| shard_of_group(*group, shards) == shard)
            .map(|group| {
                let first = group * GROUP_SIZE;
                own.start.max(first)..own.end.min(first.saturating_add(GROUP_SIZE))
            })
            .collect()
    }

    /// What its devices are on the wire.
    pub(crate) fn wire_kind(&self) -> WireKind {
        let profile = &self.asked.profile;
        let sensor = |sensor: &Sensor| {
            let field = &profile.fields[usize::from(sensor.field)];
            (sensor.field, field.name.clone(), sensor.kind)
        };
        WireKind {
            device_type: self.device_type.to_string(),
            protocol: match &self.asked.plan {
                Some(plan) => plan.speech.protocol(),
                None => Protocol::Quic,
            },
            topic: profile.topic_template.clone(),
            labels: profile.labels.clone(),
            sensors: self.program.sensors().iter().map(sensor).collect(),
        }
    }

    /// What a link announces for the groups on its shard.
    pub(crate) fn registrations(&self, shard: usize, shards: usize) -> Vec<Registration> {
        let sensors: Arc<[SensorSpec]> = self
            .program
            .sensors()
            .iter()
            .map(|sensor| SensorSpec {
                sensor: sensor.field,
                kind: sensor.kind,
            })
            .collect();
        let ranges = self.ordinals_on(shard, shards).into_iter();
        let announced = |devices: DeviceRange| Registration {
            devices,
            sensors: Arc::clone(&sensors),
        };
        if self.asked.ids.is_some() {
            let singles = ranges.flatten();
            let singles = singles.map(|ordinal| DeviceRange::single(&self.name_of(ordinal)));
            return singles.map(announced).collect();
        }
        let counted = |range: Range<u32>| DeviceRange {
            prefix: format!("{}-", self.device_type),
            first: range.start,
            count: range.end - range.start,
            width: NAME_DIGITS,
        };
        ranges.map(counted).map(announced).collect()
    }
}

/// The shard of a group: round robin.
pub(crate) fn shard_of_group(group: u32, shards: usize) -> usize {
    group as usize % shards.max(1)
}

/// The shard of a device.
pub(crate) fn shard_of(ordinal: u32, shards: usize) -> usize {
    shard_of_group(ordinal / GROUP_SIZE, shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(count: u32) -> Compiled {
        let profile = Arc::new(Profile::load("single").unwrap().profile);
        Compiled::new(Population::new("default", profile, count, 1)).unwrap()
    }

    #[test]
    fn every_device_has_one_shard_and_its_registration_names_it() {
        let population = compiled(1_000);
        let mut seen = vec![0; 1_000];
        for shard in 0..3 {
            for range in population.ordinals_on(shard, 3) {
                for ordinal in range {
                    seen[ordinal as usize] += 1;
                    assert_eq!(shard_of(ordinal, 3), shard);
                }
            }
            for registration in population.registrations(shard, 3) {
                registration.devices.check().unwrap();
                let first = registration.devices.first;
                assert_eq!(registration.devices.name(0), population.name_of(first));
            }
        }
        assert!(seen.iter().all(|times| *times == 1));
        assert!(compiled(200).ordinals_on(1, 2).is_empty());
    }

    #[test]
    fn a_device_id_leads_back_to_its_ordinal() {
        let population = compiled(12_000);
        for ordinal in [0, 7, 9_999, 10_000, 11_999] {
            assert_eq!(
                population.ordinal_of(&population.name_of(ordinal)),
                Some(ordinal)
            );
        }
        for id in [
            "single-12000",
            "single-7",
            "single-00007",
            "other-0007",
            "single-",
            "single",
        ] {
            assert_eq!(population.ordinal_of(id), None, "{id}");
        }
    }

    #[test]
    fn impossible_populations_are_refused() {
        let profile = Arc::new(Profile::load("single").unwrap().profile);
        let refused = |name: &str, count| {
            Compiled::new(Population::new(name, Arc::clone(&profile), count, 1)).unwrap_err()
        };
        assert!(matches!(
            refused("default", 0),
            PopulationError::Count { .. }
        ));
        assert!(matches!(
            refused("default", u32::MAX),
            PopulationError::Count { .. }
        ));
        let spinning = Population::new("default", Arc::clone(&profile), 1, 1);
        assert!(matches!(
            Compiled::new(spinning.interval(Duration::ZERO)).unwrap_err(),
            PopulationError::Interval { .. }
        ));
        for name in ["a b", "a/b", "links", ""] {
            assert!(
                matches!(refused(name, 1), PopulationError::Name(_)),
                "{name}"
            );
        }
    }
}
