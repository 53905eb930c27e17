//! A profile made runnable: order of evaluation, state slots, sensors, thresholds.
//!
//! One program serves all devices of a population. It is pure: values come from (device seed, draw
//! number, time, state) and nothing else. Bound: the profile's; the step allocates nothing.

use std::time::Duration;

use actorsim_transport::SensorType;

use crate::generator::{Draw, FOLLOW_LAG_SAMPLES_MAX, Generator};
use crate::profile::{EVENTS_MAX, FIELDS_MAX, Gate, Profile, Protocol, Side, Threshold};
use crate::seed::fnv1a64;

/// State slots in a device's identity block; a program with more keeps them with the slab.
pub const INLINE_SLOTS: usize = 6;

/// Values of one draw, by field index.
pub type Values = [f64; FIELDS_MAX];

/// A runnable profile.
#[derive(Clone, Debug)]
pub struct Program {
    steps: Box<[Step]>,
    fields: Box<[FieldFacts]>,
    sensors: Box<[Sensor]>,
    rules: Box<[Rule]>,
    actuators: Box<[Actuator]>,
    slots: usize,
    presence: Option<u16>,
    beat: EventSource,
    interval: Duration,
    /// The same in seconds.
    step_s: f64,
}

/// One field, in the order of evaluation.
#[derive(Clone, Debug)]
struct Step {
    field: u16,
    name_hash: u64,
    generator: Generator,
    first_slot: usize,
    slots: usize,
    gate: Option<Gate>,
}

/// What faults want to know of a field.
#[derive(Clone, Copy, Debug)]
struct FieldFacts {
    name_hash: u64,
    is_battery: bool,
}

/// A field that the tiers carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// Field index and sensor id.
    pub field: u16,
    /// Type.
    pub kind: SensorType,
}

/// A threshold with the counter that numbers its readings on T2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// What is watched.
    pub threshold: Threshold,
    /// Type of the watched field.
    pub kind: SensorType,
    /// Index into a device's T2 sequences.
    pub counter: u8,
}

/// A field as events on T2 name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSource {
    /// Field index and sensor id.
    pub field: u16,
    /// Type.
    pub kind: SensorType,
    /// Index into a device's T2 sequences.
    pub counter: u8,
}

/// A field that commands set; its setpoint lies in the slot of the same index.
#[derive(Clone, Debug, PartialEq)]
struct Actuator {
    name: Box<str>,
    field: u16,
    first: f64,
}

/// Why a profile cannot run on the QUIC tiers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// Nothing to send.
    #[error(
        "profile `{0}` has no field with a sensor type (temperature, humidity, pressure, voltage, \
         current, presence or relay; or `sensor: TYPE`)"
    )]
    NoSensor(String),
    /// An interval so short that a lag is too many samples.
    #[error(
        "field `{field}` follows another one with a lag of {samples} samples at this interval; at \
         most {FOLLOW_LAG_SAMPLES_MAX}"
    )]
    Lag {
        /// The field.
        field: String,
        /// Its lag.
        samples: u64,
    },
    /// Fields that wait for one another.
    #[error("the fields of profile `{0}` follow or gate one another in a circle")]
    Circle(String),
}

impl Program {
    /// Compiles a profile. `interval` overrides the profile's.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn new(profile: &Profile, interval: Option<Duration>) -> Result<Self, ProgramError> {
        let sensors: Box<[Sensor]> = profile
            .sensors()
            .map(|(field, kind)| Sensor { field, kind })
            .collect();
        // all others take any field
        if sensors.is_empty() && profile.protocol == Protocol::Quic {
            return Err(ProgramError::NoSensor(profile.device_type.clone()));
        }
        let order =
            order(profile).ok_or_else(|| ProgramError::Circle(profile.device_type.clone()))?;
        let actuators: Box<[Actuator]> = (0u16..)
            .zip(&profile.fields)
            .filter(|(_, field)| field.actuator)
            .map(|(at, field)| Actuator {
                name: field.name.as_str().into(),
                field: at,
                first: setpoint(&field.generator),
            })
            .collect();
        let interval = interval.unwrap_or(profile.interval);
        let (steps, slots) = steps(profile, order, actuators.len(), interval)?;
        let presence = sensors
            .iter()
            .find(|s| s.kind == SensorType::Presence)
            .map(|s| s.field);
        let rules = rules(profile);
        let beat = beat(&sensors, &rules);
        let fields = profile.fields.iter().map(|field| FieldFacts {
            name_hash: fnv1a64(&field.name),
            is_battery: field.name.contains("battery"),
        });
        Ok(Self {
            steps,
            fields: fields.collect(),
            sensors,
            rules,
            actuators,
            slots,
            presence,
            beat,
            interval,
            step_s: interval.as_secs_f64(),
        })
    }

    /// State slots of one device.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Time between draws on the simulated clock.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// What the tiers carry, in field order.
    #[must_use]
    pub fn sensors(&self) -> &[Sensor] {
        &self.sensors
    }

    /// The thresholds; their index is their latch bit.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The field that `trigger` pushes to 0.
    #[must_use]
    pub fn presence(&self) -> Option<u16> {
        self.presence
    }

    /// The field for events at a fixed rate: the first sensor, if a sequence is left for it.
    #[must_use]
    pub fn beat(&self) -> EventSource {
        self.beat
    }

    /// The setpoint slot of an actuator field.
    #[must_use]
    pub fn actuator_slot(&self, field: u16) -> Option<usize> {
        self.actuators
            .iter()
            .position(|actuator| actuator.field == field)
    }

    /// The number of the actuators; their setpoints are the first slots.
    #[must_use]
    pub fn actuators(&self) -> usize {
        self.actuators.len()
    }

    /// The actuators by name, each with its setpoint out of a device's slots.
    pub fn setpoints(&self, state: &[f64]) -> impl Iterator<Item = (String, f64)> {
        let actuators = self.actuators.iter().zip(state);
        actuators.map(|(actuator, setpoint)| (actuator.name.to_string(), *setpoint))
    }

    /// Fills the slots as they are before the first draw, setpoints included.
    pub fn reset(&self, state: &mut [f64]) {
        for (slot, actuator) in state.iter_mut().zip(&self.actuators) {
            *slot = actuator.first;
        }
        self.reset_series(state);
    }

    /// Takes over what lies in the slots of another program of the same fields, where a field's
    /// generator is the same; setpoints always. `state` is as [`Self::reset`] leaves it.
    pub fn adopt(&self, state: &mut [f64], from: &Self, before: &[f64]) {
        let setpoints = self.actuators.len();
        state[..setpoints].copy_from_slice(&before[..setpoints]);
        for step in &self.steps {
            let same = |old: &&Step| old.field == step.field && old.generator == step.generator;
            if let Some(old) = from.steps.iter().find(same) {
                let kept = &before[old.first_slot..old.first_slot + old.slots];
                state[step.first_slot..step.first_slot + step.slots].copy_from_slice(kept);
            }
        }
    }

    /// Fills the slots of generators only.
    pub fn reset_series(&self, state: &mut [f64]) {
        for step in &self.steps {
            step.generator
                .reset(&mut state[step.first_slot..step.first_slot + step.slots]);
        }
    }

    /// One draw of every field.
    pub fn draw(
        &self,
        device_seed: u64,
        number: u64,
        unix_us: u64,
        state: &mut [f64],
        values: &mut Values,
    ) {
        for (actuator, setpoint) in self.actuators.iter().zip(state.iter()) {
            values[usize::from(actuator.field)] = *setpoint;
        }
        let step_s = self.step_s;
        for step in &self.steps {
            let draw = Draw {
                seed: device_seed ^ step.name_hash,
                number,
                step_s,
                unix_us,
            };
            let own = &mut state[step.first_slot..step.first_slot + step.slots];
            let value = step.generator.draw(&draw, own, values);
            let off = step
                .gate
                .filter(|gate| values[usize::from(gate.field)] < 0.5);
            values[usize::from(step.field)] = off.map_or(value, |gate| gate.off);
        }
    }

    /// The number of fields.
    #[must_use]
    pub fn fields(&self) -> usize {
        self.fields.len()
    }

    /// The field of a name.
    #[must_use]
    pub fn field_named(&self, name: &str) -> Option<u16> {
        let hash = fnv1a64(name);
        let at = self
            .fields
            .iter()
            .position(|field| field.name_hash == hash)?;
        u16::try_from(at).ok()
    }

    /// The hash of a field's name: with the device's seed it makes the field's.
    #[must_use]
    pub fn field_hash(&self, field: usize) -> u64 {
        self.fields[field].name_hash
    }

    /// Whether a field is a battery's charge.
    #[must_use]
    pub fn is_battery(&self, field: usize) -> bool {
        self.fields[field].is_battery
    }

    /// Whether any field remembers something between draws.
    #[must_use]
    pub fn has_memory(&self) -> bool {
        self.slots > self.actuators.len()
    }
}

impl Rule {
    /// How its events are named on T2.
    #[must_use]
    pub fn source(&self) -> EventSource {
        EventSource {
            field: self.threshold.field,
            kind: self.kind,
            counter: self.counter,
        }
    }

    /// The latch after a value; NaN changes nothing.
    #[must_use]
    pub fn latch(&self, raised: bool, value: f64) -> bool {
        let Threshold {
            side,
            limit,
            hysteresis,
            ..
        } = self.threshold;
        // Comparisons with NaN are false, so it keeps the latch as it is.
        let enters = match side {
            Side::Below => value < limit,
            Side::Above => value > limit,
        };
        let leaves = match side {
            Side::Below => value >= limit + hysteresis,
            Side::Above => value <= limit - hysteresis,
        };
        if raised { !leaves } else { enters }
    }
}

/// The fields that are drawn, and how many slots they end with.
fn steps(
    profile: &Profile,
    order: Vec<u16>,
    mut slots: usize,
    interval: Duration,
) -> Result<(Box<[Step]>, usize), ProgramError> {
    let mut steps = Vec::with_capacity(order.len());
    for at in order {
        let field = &profile.fields[usize::from(at)];
        if field.actuator {
            continue;
        }
        let mut generator = field.generator.clone();
        generator
            .pace(interval)
            .map_err(|samples| ProgramError::Lag {
                field: field.name.clone(),
                samples: samples as u64,
            })?;
        let own = generator.slots();
        steps.push(Step {
            field: at,
            name_hash: fnv1a64(&field.name),
            generator,
            first_slot: slots,
            slots: own,
            gate: field.gate,
        });
        slots += own;
    }
    Ok((steps.into(), slots))
}

fn setpoint(generator: &Generator) -> f64 {
    match generator {
        Generator::Static(value) => value.as_f64().unwrap_or(0.0),
        _ => 0.0,
    }
}

fn rules(profile: &Profile) -> Box<[Rule]> {
    let mut counted: Vec<u16> = Vec::new();
    profile
        .events
        .iter()
        .filter_map(|threshold| {
            let kind = profile.fields[usize::from(threshold.field)].sensor?;
            let counter = counted
                .iter()
                .position(|field| *field == threshold.field)
                .unwrap_or_else(|| {
                    counted.push(threshold.field);
                    counted.len() - 1
                });
            Some(Rule {
                threshold: *threshold,
                kind,
                counter: counter as u8,
            })
        })
        .collect()
}

/// The first sensor with a counter of its own; a watched one where all counters are taken.
fn beat(sensors: &[Sensor], rules: &[Rule]) -> EventSource {
    let first = sensors.first().copied();
    let Sensor { field, kind } = first.unwrap_or(Sensor {
        field: 0,
        kind: SensorType::Temperature,
    });
    let used = rules.iter().map(|rule| rule.counter + 1).max().unwrap_or(0);
    let shared = rules.iter().find(|rule| rule.threshold.field == field);
    match (shared, rules.first()) {
        (None, Some(first)) if usize::from(used) == EVENTS_MAX => first.source(),
        (shared, _) => EventSource {
            field,
            kind,
            counter: shared.map_or(used, |rule| rule.counter),
        },
    }
}

/// Fields after those that they follow or are gated by; `None` if there is a circle.
fn order(profile: &Profile) -> Option<Vec<u16>> {
    let needs: Vec<Vec<u16>> = profile.fields.iter().map(needs).collect();
    let mut done = vec![false; needs.len()];
    let mut order = Vec::with_capacity(needs.len());
    // Each round settles at least one field, or there is a circle.
    for _ in 0..needs.len() {
        for (at, need) in needs.iter().enumerate() {
            if !done[at] && need.iter().all(|other| done[usize::from(*other)]) {
                done[at] = true;
                order.push(at as u16);
            }
        }
    }
    (order.len() == needs.len()).then_some(order)
}

fn needs(field: &crate::profile::Field) -> Vec<u16> {
    let mut needs = field.generator.followed();
    needs.extend(field.gate.map(|gate| gate.field));
    needs
}

#[cfg(test)]
mod tests;
