//! Rules of the automation, as data: when a value of a sensor means a command to its device.
//!
//! ```toml
//! [[rule]]
//! name = "absence-stops"   # unique; its commands and counters go by it
//! sensor = "presence"      # type of the sensors it judges
//! field = "value"          # or "smoothed", "window_mean", "window_min", "window_max"
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

use crate::components::{KIND_NAMES, KINDS};
use crate::windows::WindowSet;

pub(crate) use book::{Armed, Judgement};
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

/// What a rule judges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field {
    /// Each value, as it came.
    #[default]
    Value,
    /// The smoothed value.
    Smoothed,
    /// Mean of the row's window.
    WindowMean,
    /// Least value of the row's window.
    WindowMin,
    /// Greatest value of the row's window.
    WindowMax,
}

impl Field {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("value", Self::Value),
        ("smoothed", Self::Smoothed),
        ("window_mean", Self::WindowMean),
        ("window_min", Self::WindowMin),
        ("window_max", Self::WindowMax),
    ];

    /// Those that are judged once in a cycle, after values were folded.
    pub(crate) const FOLDED: [Self; 4] = [
        Self::Smoothed,
        Self::WindowMean,
        Self::WindowMin,
        Self::WindowMax,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    /// Whether it is one of a window.
    #[must_use]
    pub fn is_of_window(self) -> bool {
        !matches!(self, Self::Value | Self::Smoothed)
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Name.
    pub name: String,
    /// Type byte of the sensors that it judges.
    pub kind: u8,
    /// What of them it judges.
    pub field: Field,
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

    /// Whether sensors have the windows that rules judge.
    ///
    /// # Errors
    /// The first rule of which none has one, in words.
    pub fn check(&self, windows: &WindowSet) -> Result<(), String> {
        let has_none =
            |rule: &&Rule| rule.field.is_of_window() && windows.kinds() >> rule.kind & 1 == 0;
        let Some(Rule { name, kind, .. }) = self.rules.iter().find(has_none) else {
            return Ok(());
        };
        let kind = KIND_NAMES[usize::from(*kind) % KINDS];
        Err(format!(
            "the rule {name:?} judges a window, and no {kind} sensor has one: \
             world.windows={kind}:16 gives one to each"
        ))
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
        let crowded = (0..KINDS).any(|kind| {
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
