//! Rules of the automation, as data: when a value of a sensor means a command to its device.
//!
//! ```toml
//! [[rule]]
//! name = "absence-stops"   # unique; its commands and counters go by it
//! sensor = "presence"      # type of the sensors it judges
//! field = "value"          # or "smoothed"
//! below = 1.0              # or above = ...
//! hysteresis = 0.0         # how far beyond the limit a value must return
//! for = "0s"               # how long it must hold
//! then = "stop"            # start, stop or a setpoint, to the device's relay
//! otherwise = "start"      # when it holds no longer; nothing if left out
//! actuator = 6             # sensor id that is commanded instead of the relay
//! ```
//!
//! `rules/read.rs` reads it; `rules/book.rs` is what the scan judges by. Nothing here commands.
//! Bound: [`RULES_MAX`] rules, [`SLOTS`] for one type of sensor.

mod book;
mod read;

use std::time::Duration;

use actorsim_supervision::ConfigError;

pub(crate) use book::{Armed, Field, Judgement};
pub use book::{RuleBook, RuleTally, Slots};

/// Rules of a node: each is judged for every value of its type.
pub const RULES_MAX: usize = 32;

/// Rules for one type of sensor: a row remembers each as a bit.
pub const SLOTS: usize = 8;

/// Longest time that a condition must hold.
pub const HOLD_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Letters of a name.
pub const NAME_MAX: usize = 64;

/// The rules that are shipped, and in force where no file says otherwise.
pub const SHIPPED: (&str, &str) = (
    "config/rules/default.toml",
    include_str!("../../config/rules/default.toml"),
);

/// On which side of its limit a value makes a rule hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Less than the limit.
    Below,
    /// Greater than the limit.
    Above,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Name.
    pub name: String,
    /// Type byte of the sensors that it judges.
    pub kind: u8,
    /// It judges the smoothed value instead of each value.
    pub smoothed: bool,
    /// Side of the limit.
    pub side: Side,
    /// Limit.
    pub limit: f64,
    /// How far beyond the limit a value must return; not negative.
    pub hysteresis: f64,
    /// How long it must hold.
    pub hold: Duration,
    /// Setpoint when it comes into force.
    pub then: f64,
    /// Setpoint when it ends.
    pub otherwise: Option<f64>,
    /// Sensor id that is commanded; the device's relay if left out.
    pub actuator: Option<u16>,
}

impl Rule {
    /// What a rule is known by over restarts: FNV-1a of its name.
    #[must_use]
    pub fn id(&self) -> u64 {
        id(&self.name)
    }
}

/// See [`Rule::id`].
#[must_use]
pub const fn id(name: &str) -> u64 {
    let (mut hash, mut at) = (0xcbf2_9ce4_8422_2325_u64, 0);
    let bytes = name.as_bytes();
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

/// The rules of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    /// In the order of the files.
    pub rules: Vec<Rule>,
}

impl RuleSet {
    /// Those that are shipped.
    ///
    /// # Panics
    /// Never: a test reads the same text.
    #[must_use]
    pub fn shipped() -> Self {
        Self::from_toml(SHIPPED.0, SHIPPED.1).expect("the shipped rules are tested")
    }

    /// Reads a file; `name` is what mistakes call it.
    ///
    /// # Errors
    /// Every mistake, by line.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, Vec<ConfigError>> {
        read::rules(name, text)
    }

    /// These rules, and those of `other` beside them.
    ///
    /// # Errors
    /// What is too much, or there twice, in words.
    pub fn and(mut self, other: Self) -> Result<Self, String> {
        for rule in other.rules {
            if self.rules.iter().any(|own| own.name == rule.name) {
                return Err(format!("the rule {:?} is there twice", rule.name));
            }
            self.rules.push(rule);
        }
        let crowded = (0..crate::components::KINDS).any(|kind| {
            self.rules
                .iter()
                .filter(|r| usize::from(r.kind) == kind)
                .count()
                > SLOTS
        });
        if self.rules.len() > RULES_MAX || crowded {
            return Err(format!(
                "a node has at most {RULES_MAX} rules, and {SLOTS} for one type of sensor"
            ));
        }
        Ok(self)
    }
}
