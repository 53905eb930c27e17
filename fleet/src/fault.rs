//! Faults of a device: what its broker or its twin sees while they last.
//!
//! Map: [`Fault`] (what is injected), `parse` (its words), [`Faults`] (those of one device, in the
//! order of their injection), `counts` (how many, by kind). They act on a sample before it is
//! encoded, so they show on the wire; the device's series goes on underneath, and its mailbox stays
//! live. Random choices are draws of (field seed, slot), so a run with faults repeats byte for
//! byte. They do not outlive their incarnation, unless it resumes. Bounds:
//! [`FAULTS_MAX`], [`HELD_MAX`].

use std::collections::VecDeque;
use std::time::Duration;

use actorsim_actors::Time;

use crate::generator::noise;

mod counts;
mod parse;

pub use counts::{FaultCounters, FaultCounts, Marks};
pub use parse::{FAULT_KINDS, FaultWords, known_kind};

/// Faults of one device at a time.
pub const FAULTS_MAX: usize = 8;
/// Samples of one device that a latency holds back; the oldest beyond them are given up.
pub const HELD_MAX: usize = 64;
/// Draining without a multiplier of its own, as in the virtual-iot-simulator.
pub const DRAIN_MULTIPLIER: f64 = 10.0;

/// Lanes of the draws that faults make, apart from those of generators.
const CORRUPT_LANE: u64 = 0xfa01;
const CHOICE_LANE: u64 = 0xfa02;
const DUPLICATE_LANE: u64 = 0xfa03;

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Its session is closed: nothing is sent, no command is heard.
    Disconnect,
    /// Samples are sent late by this much, and stamped with the time they were taken.
    LatencySpike(Duration),
    /// Each value is, with this probability, NaN, zero or a spike, a third each.
    DataCorruption(f64),
    /// The battery falls this many times as fast.
    BatteryDrain(f64),
    /// The device's clock runs ahead by so many milliseconds a second; back to true time after.
    ClockDrift(f64),
    /// It neither samples nor executes commands.
    Hang,
    /// It is disconnected for the first half of each period.
    Flap(Duration),
    /// Each sample is, with this probability, sent twice.
    Duplicate(f64),
    /// Its session is closed with those of all others that are hit; it comes back by its own
    /// backoff, which is how long this lasts.
    Storm,
}

/// A fault with its duration, on the simulated clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultSpec {
    /// What.
    pub fault: Fault,
    /// For how long; until it is reverted if `None`.
    pub duration: Option<Duration>,
}

impl Fault {
    /// Its word in profiles, scripts and commands.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::LatencySpike(_) => "latency_spike",
            Self::DataCorruption(_) => "data_corruption",
            Self::BatteryDrain(_) => "battery_drain",
            Self::ClockDrift(_) => "clock_drift",
            Self::Hang => "hang",
            Self::Flap(_) => "flap",
            Self::Duplicate(_) => "duplicate",
            Self::Storm => "storm",
        }
    }
}

/// A fault that acts.
#[derive(Clone, Copy, Debug)]
struct Active {
    fault: Fault,
    since: Time,
    until: Time,
    /// Charge of the battery when the drain began.
    charge: Option<f64>,
}

/// A sample that a latency holds back.
#[derive(Clone, Debug)]
pub struct Held {
    /// When it is due.
    pub at: Time,
    /// When it was taken, by the device's clock.
    pub unix_us: u64,
    /// Its values by field index.
    pub values: Box<[f64]>,
    /// How many times it is sent.
    pub times: u8,
}

/// The faults of one device.
#[derive(Debug, Default)]
pub struct Faults {
    active: Vec<Active>,
    held: VecDeque<Held>,
}

impl Faults {
    /// Adds a fault behind those that act. False: there are [`FAULTS_MAX`] already.
    pub fn inject(&mut self, spec: FaultSpec, now: Time) -> bool {
        if self.active.len() >= FAULTS_MAX {
            return false;
        }
        self.active.push(Active {
            fault: spec.fault,
            since: now,
            until: spec.duration.map_or(Time::MAX, |duration| now + duration),
            charge: None,
        });
        true
    }

    /// Ends the faults of one kind, or all; returns which.
    pub fn revert(&mut self, kind: Option<&str>) -> Marks {
        self.end(|active| kind.is_none_or(|kind| kind == active.fault.kind()))
    }

    /// Ends what has lasted long enough; returns which.
    pub fn expire(&mut self, now: Time) -> Marks {
        self.end(|active| active.until <= now)
    }

    fn end(&mut self, over: impl Fn(&Active) -> bool) -> Marks {
        let ended = self.active.extract_if(.., |active| over(active));
        ended.map(|active| active.fault.kind()).collect()
    }

    /// Faults that act.
    #[must_use]
    pub fn active(&self) -> Marks {
        self.active
            .iter()
            .map(|active| active.fault.kind())
            .collect()
    }

    /// Kinds of those that act, in the order of their injection.
    #[must_use]
    pub fn kinds(&self) -> Vec<&'static str> {
        self.active
            .iter()
            .map(|active| active.fault.kind())
            .collect()
    }

    /// Nothing acts and nothing is held back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.held.is_empty()
    }

    /// The session is closed now.
    #[must_use]
    pub fn is_disconnected(&self, now: Time) -> bool {
        self.active.iter().any(|active| match active.fault {
            Fault::Disconnect | Fault::Storm => true,
            Fault::Flap(period) => {
                let period = (period.as_nanos() as u64).max(2);
                now.since(active.since).as_nanos() as u64 % period < period / 2
            }
            _ => false,
        })
    }

    /// The device does nothing now.
    #[must_use]
    pub fn is_hung(&self) -> bool {
        self.active.iter().any(|active| active.fault == Fault::Hang)
    }

    /// How late samples are sent now: latencies add up.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.active
            .iter()
            .fold(Duration::ZERO, |sum, active| match active.fault {
                Fault::LatencySpike(by) => sum.saturating_add(by),
                _ => sum,
            })
    }

    /// The device's clock at a true time.
    #[must_use]
    pub fn clock(&self, unix_us: u64, now: Time) -> u64 {
        let ahead_us: f64 = self
            .active
            .iter()
            .filter_map(|active| match active.fault {
                Fault::ClockDrift(ms_per_s) => {
                    Some(ms_per_s * 1_000.0 * now.since(active.since).as_secs_f64())
                }
                _ => None,
            })
            .sum();
        unix_us.saturating_add_signed(ahead_us as i64)
    }

    /// Changes the values of a sample as its faults want. `field_seed` and `is_battery` are those
    /// of a field, by index; `slot` is the number of the draw.
    pub fn distort(
        &mut self,
        values: &mut [f64],
        slot: u64,
        field_seed: impl Fn(usize) -> u64,
        is_battery: impl Fn(usize) -> bool,
    ) -> usize {
        let mut corrupted = 0;
        for (turn, active) in self.active.iter_mut().enumerate() {
            match active.fault {
                Fault::DataCorruption(rate) => {
                    for (field, value) in values.iter_mut().enumerate() {
                        // two corruptions at once are two chances
                        let seed = field_seed(field) ^ turn as u64;
                        if noise::uniform(seed, slot, CORRUPT_LANE) < rate {
                            *value = corrupt(*value, noise::uniform(seed, slot, CHOICE_LANE));
                            corrupted += 1;
                        }
                    }
                }
                Fault::BatteryDrain(multiplier) => {
                    for (field, value) in values.iter_mut().enumerate() {
                        if is_battery(field) {
                            let charge = *active.charge.get_or_insert(*value);
                            if *value < charge {
                                let fallen = charge - *value;
                                *value = (charge - fallen * multiplier).max(0.0).min(*value);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        corrupted
    }

    /// How many times a sample is sent.
    #[must_use]
    pub fn times(&self, seed: u64, slot: u64) -> u8 {
        let doubled = |(turn, active): (usize, &Active)| match active.fault {
            Fault::Duplicate(rate) => {
                noise::uniform(seed ^ turn as u64, slot, DUPLICATE_LANE) < rate
            }
            _ => false,
        };
        1 + u8::from(self.active.iter().enumerate().any(doubled))
    }

    /// Holds a sample back. The oldest is given back, to be given up, if too many wait.
    pub fn hold(&mut self, sample: Held) -> Option<Held> {
        let given_up = (self.held.len() >= HELD_MAX).then(|| self.held.pop_front());
        self.held.push_back(sample);
        given_up.flatten()
    }

    /// The next sample that is due: in the order in which they were taken, also when a latency
    /// became shorter meanwhile.
    pub fn due(&mut self, now: Time) -> Option<Held> {
        self.held.pop_front_if(|held| held.at <= now)
    }

    /// When the first sample that is held back is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.held.front().map(|held| held.at)
    }

    /// When the first fault ends by itself, or a flapping one turns.
    #[must_use]
    pub fn next_change(&self, now: Time) -> Option<Time> {
        let change = |active: &Active| match active.fault {
            Fault::Flap(period) => {
                let half = (period.as_nanos() as u64 / 2).max(1);
                let turns = now.since(active.since).as_nanos() as u64 / half;
                let turn = active.since + Duration::from_nanos((turns + 1).saturating_mul(half));
                turn.min(active.until)
            }
            _ => active.until,
        };
        let changes = self.active.iter().map(change);
        changes.filter(|at| *at < Time::MAX).min()
    }

    /// Samples that are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// NaN, zero or a spike ten times as far from zero, and ten more.
fn corrupt(value: f64, choice: f64) -> f64 {
    match (choice * 3.0) as u8 {
        0 => f64::NAN,
        1 => 0.0,
        _ => value * 10.0 + 10.0f64.copysign(value),
    }
}

#[cfg(test)]
mod tests;
