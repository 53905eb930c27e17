//! Generators: what a field's value is at a draw.
//!
//! Map, in reading order: [`noise`] (counter-based random numbers), [`Markov`], [`Replay`], and
//! here the sum of all kinds. A generator is data shared by all devices of a population; what a
//! device must remember (a brownian position, a markov state) lies in the caller's state slots.
//! It knows no clock: time comes with the draw. Bound: [`COMPOSITE_DEPTH_MAX`].

use core::f64::consts::TAU;
use core::time::Duration;

use serde_json::Value;

pub mod noise;

mod markov;
mod replay;

pub use markov::{MARKOV_STATES_MAX, Markov, ROW_SUM_TOLERANCE};
pub use replay::{REPLAY_BYTES_MAX, REPLAY_ROWS_MAX, Replay, ReplayError};

/// How deep composites may be nested: the draw is recursive and runs on a shard's stack.
pub const COMPOSITE_DEPTH_MAX: usize = 4;
/// Parts of one composite: each costs a draw per sample.
pub const COMPOSITE_PARTS_MAX: usize = 16;
/// Samples that a `follow` can look back: each is a state slot of eight bytes per device.
pub const FOLLOW_LAG_SAMPLES_MAX: usize = 64;

/// The version of each generator kind. Seed and versions together are the replay contract: a kind
/// whose numbers change gets a new version.
pub const VERSIONS: [(&str, u32); 8] = [
    ("brownian", 1),
    ("composite", 1),
    ("diurnal", 1),
    ("follow", 1),
    ("gaussian", 1),
    ("markov", 1),
    ("replay", 1),
    ("static", 1),
];

/// One generator of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Generator {
    /// mean + stddev * Z.
    Gaussian {
        /// Centre.
        mean: f64,
        /// Standard deviation, at least 0.
        stddev: f64,
    },
    /// An Ornstein-Uhlenbeck walk (Uhlenbeck, Ornstein 1930), clamped to [min, max].
    Brownian(Brownian),
    /// baseline + amplitude * sin(2 pi (hour - peak_hour + 6) / 24) + noise_stddev * Z, UTC.
    Diurnal {
        /// Middle of the wave.
        baseline: f64,
        /// Half its height.
        amplitude: f64,
        /// Hour of the maximum, 0..=23.
        peak_hour: f64,
        /// Standard deviation of the noise on it, at least 0.
        noise_stddev: f64,
    },
    /// One transition per sample.
    Markov(Box<Markov>),
    /// Always the same value.
    Static(Value),
    /// The sum of its parts.
    Composite(Box<[Self]>),
    /// The rows of a file, one after another.
    Replay(Box<Replay>),
    /// gain * (other field, `lag` samples ago) + offset.
    Follow {
        /// Index of the other field in the profile.
        field: u16,
        /// Factor.
        gain: f64,
        /// Added after the factor.
        offset: f64,
        /// How long ago.
        lag: Duration,
        /// The same in samples, at most [`FOLLOW_LAG_SAMPLES_MAX`]: see [`Generator::pace`].
        samples: u16,
    },
}

/// The numbers of a brownian generator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Brownian {
    /// Position before the first draw.
    pub start: f64,
    /// Constant drift per second.
    pub drift: f64,
    /// Scale of the random step per square root of a second, at least 0.
    pub volatility: f64,
    /// Pull towards `mean` per second.
    pub mean_reversion: f64,
    /// Where the pull leads; `start` when the profile does not say.
    pub mean: f64,
    /// Lower clamp.
    pub min: f64,
    /// Upper clamp.
    pub max: f64,
}

/// What a draw is made from.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Seed of the field.
    pub seed: u64,
    /// Number of the draw, from 0.
    pub number: u64,
    /// Seconds between draws on the simulated clock.
    pub step_s: f64,
    /// The device's time, microseconds since the Unix epoch.
    pub unix_us: u64,
}

impl Generator {
    /// The kind's name, as written in a profile.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Gaussian { .. } => "gaussian",
            Self::Brownian(_) => "brownian",
            Self::Diurnal { .. } => "diurnal",
            Self::Markov(_) => "markov",
            Self::Static(_) => "static",
            Self::Composite(_) => "composite",
            Self::Replay(_) => "replay",
            Self::Follow { .. } => "follow",
        }
    }

    /// State slots that a device keeps for this generator.
    #[must_use]
    pub fn slots(&self) -> usize {
        match self {
            Self::Brownian(_) | Self::Markov(_) => 1,
            Self::Follow { samples, .. } => usize::from(*samples),
            Self::Composite(parts) => parts.iter().map(Self::slots).sum(),
            _ => 0,
        }
    }

    /// Turns lags into samples of an interval.
    ///
    /// # Errors
    /// The samples of a lag, if they are more than [`FOLLOW_LAG_SAMPLES_MAX`].
    pub fn pace(&mut self, interval: Duration) -> Result<(), f64> {
        match self {
            Self::Follow { lag, samples, .. } => {
                let wanted = (lag.as_secs_f64() / interval.as_secs_f64()).round();
                if wanted > FOLLOW_LAG_SAMPLES_MAX as f64 {
                    return Err(wanted);
                }
                *samples = wanted as u16;
                Ok(())
            }
            Self::Composite(parts) => parts.iter_mut().try_for_each(|part| part.pace(interval)),
            _ => Ok(()),
        }
    }

    /// The fields that it follows, by index.
    #[must_use]
    pub fn followed(&self) -> Vec<u16> {
        match self {
            Self::Follow { field, .. } => vec![*field],
            Self::Composite(parts) => parts.iter().flat_map(Self::followed).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether the value is always a number (the QUIC tiers carry nothing else).
    #[must_use]
    pub fn numeric(&self) -> bool {
        match self {
            Self::Static(value) => value.is_number() || value.is_boolean(),
            Self::Markov(chain) => chain.numeric(),
            Self::Composite(parts) => parts.iter().all(Self::numeric),
            _ => true,
        }
    }

    /// Fills the slots as they are before the first draw. `state` has [`Self::slots`] entries.
    pub fn reset(&self, state: &mut [f64]) {
        match self {
            Self::Brownian(walk) => state[0] = walk.start.clamp(walk.min, walk.max),
            Self::Markov(chain) => state[0] = chain.initial() as f64,
            Self::Follow { .. } => state.fill(f64::NAN),
            Self::Composite(parts) => {
                let mut rest = state;
                for part in parts {
                    let (own, others) = rest.split_at_mut(part.slots());
                    part.reset(own);
                    rest = others;
                }
            }
            _ => {}
        }
    }

    /// The value at a draw. `fields` are the values of this draw so far, by field index.
    #[must_use]
    pub fn draw(&self, draw: &Draw, state: &mut [f64], fields: &[f64]) -> f64 {
        self.draw_lane(draw, &mut 0, state, fields)
    }

    fn draw_lane(&self, draw: &Draw, lane: &mut u64, state: &mut [f64], fields: &[f64]) -> f64 {
        let own = *lane;
        *lane += 1;
        match self {
            Self::Gaussian { mean, stddev } => {
                mean + stddev * noise::normal(draw.seed, draw.number, own)
            }
            Self::Brownian(walk) => {
                state[0] = walk.step(state[0], draw, own);
                state[0]
            }
            Self::Diurnal {
                baseline,
                amplitude,
                peak_hour,
                noise_stddev,
            } => {
                let wave = libm::sin(TAU * (hour_of(draw.unix_us) - peak_hour + 6.0) / 24.0);
                let quiet = baseline + amplitude * wave;
                if *noise_stddev == 0.0 {
                    return quiet;
                }
                quiet + noise_stddev * noise::normal(draw.seed, draw.number, own)
            }
            Self::Markov(chain) => {
                let next = chain.next(state[0] as usize, draw.seed, draw.number, own);
                state[0] = next as f64;
                chain.number(next)
            }
            Self::Static(value) => number_of(value),
            Self::Composite(parts) => {
                let (mut sum, mut rest) = (0.0, state);
                for part in parts {
                    let (own, others) = rest.split_at_mut(part.slots());
                    sum += part.draw_lane(draw, lane, own, fields);
                    rest = others;
                }
                sum
            }
            Self::Replay(rows) => rows.value(draw.number, draw.step_s),
            Self::Follow {
                field,
                gain,
                offset,
                samples,
                ..
            } => {
                let now = fields.get(usize::from(*field)).copied().unwrap_or(f64::NAN);
                gain * lagged(now, usize::from(*samples), draw.number, state) + offset
            }
        }
    }

    /// The value as JSON: the state's own text for a chain of names, else the number.
    #[must_use]
    pub fn json(&self, value: f64) -> Value {
        match self {
            Self::Static(value) => value.clone(),
            Self::Markov(chain) if !chain.numeric() => chain
                .states()
                .get(value as usize)
                .cloned()
                .unwrap_or(Value::Null),
            _ => serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number),
        }
    }
}

impl Brownian {
    fn step(&self, x: f64, draw: &Draw, lane: u64) -> f64 {
        let dt = draw.step_s;
        let noise = noise::normal(draw.seed, draw.number, lane);
        let next = x
            + self.drift * dt
            + self.volatility * dt.sqrt() * noise
            + self.mean_reversion * (self.mean - x) * dt;
        // An overflow of extreme parameters restarts at the mean instead of spreading NaN.
        let next = if next.is_nan() { self.mean } else { next };
        next.clamp(self.min, self.max)
    }
}

/// The value `lag` samples ago; the oldest known one while there are fewer.
fn lagged(now: f64, lag: usize, number: u64, ring: &mut [f64]) -> f64 {
    if lag == 0 {
        return now;
    }
    let at = (number % lag as u64) as usize;
    let before = core::mem::replace(&mut ring[at], now);
    if !before.is_nan() {
        return before;
    }
    let oldest_first = (1..=lag).map(|step| ring[(at + step) % lag]);
    oldest_first
        .into_iter()
        .find(|value| !value.is_nan())
        .unwrap_or(now)
}

/// Hour of the day, fractional, UTC.
fn hour_of(unix_us: u64) -> f64 {
    const DAY_US: u64 = 86_400_000_000;
    (unix_us % DAY_US) as f64 / 3_600_000_000.0
}

fn number_of(value: &Value) -> f64 {
    match value {
        Value::Bool(on) => f64::from(u8::from(*on)),
        other => other.as_f64().unwrap_or(f64::NAN),
    }
}

#[cfg(test)]
mod statistics;
#[cfg(test)]
mod tests;
