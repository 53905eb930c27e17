//! A chaos plan: what may break, how often, where, and where it must stop.
//!
//! ```toml
//! seed = 42                 # 0: drawn when it starts, and told
//! rate = "5/1s"             # strikes per time
//! scope = "/"               # a path and all below it, or a pattern: "/fleet/*"
//! for = "60s"               # until somebody stops it, if left out
//! max_concurrent = 8        # victims that are not back yet
//! blast_radius = 0.5        # share of one kind that may be down at once
//! stop_if = "health < 0.9"
//! lease = "10s"             # nobody renewed it for so long: it stops and heals
//! protect = ["/control/*"]  # never hit; the root never is
//! swarm = true              # the seed changes the weights
//!
//! [faults]                  # weights; kill alone if left out
//! kill = 8
//! partition = { weight = 1, for = "2s", way = "up" }
//!
//! [kinds]                   # weights of the kinds of actors; each 1 if left out
//! device = 2
//! ```
//!
//! `plan/read.rs` reads it, `plan/reference.rs` describes it. It draws nothing and breaks nothing.
//! Bounds: [`PROTECT_MAX`], [`KINDS_MAX`], [`WEIGHT_MAX`].

mod read;
mod reference;

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use actorsim_actors::ActorPath;
use actorsim_actors::census::glob_matches;

use super::fault::{Fault, Place};
use crate::config::{ConfigError, reader};

pub use reference::{PLAN_KEYS, PlanKey, reference};

/// Patterns of paths that are never hit.
pub const PROTECT_MAX: usize = 64;
/// Kinds of actors with a weight of their own.
pub const KINDS_MAX: usize = 64;
/// Largest weight: more is no finer.
pub const WEIGHT_MAX: u64 = 1_000;
/// Longest plan, lease and fault.
pub const TIME_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Longest delay of packets, which outlives its strike: as long as a link waits for an answer.
pub const LATE_MAX: Duration = Duration::from_secs(10);
/// Most strikes of a rate: the schedule makes at most one a nanosecond of its period.
const STRIKES_MAX: u32 = 1_000_000;
/// Strikes of a plan without a rate.
const RATE: Rate = Rate {
    strikes: 1,
    per: Duration::from_secs(10),
};
/// The dead-man's switch of a plan without one.
const LEASE: Duration = Duration::from_secs(10);
/// How long a fault lasts whose length is left out.
const FAULT_LASTS: Duration = Duration::from_secs(2);
/// Share of packets of a fault that leaves it out.
const SHARE: f64 = 0.05;
/// Delay of packets and messages of a fault that leaves it out.
const DELAY: Duration = Duration::from_millis(50);
/// Share of the values of a device that lies.
const LIES: f64 = 0.5;
/// How far a calendar jumps.
const JUMP: Duration = Duration::from_secs(10);
/// Starts that fail at most.
pub const TIMES_MAX: u64 = 1_000;

/// The plans that are shipped, and where they are carried out.
pub const SHIPPED: [(Place, &str, &str); 5] = [
    (
        Place::Sim,
        "config/chaos/kill-anything.toml",
        include_str!("../../../config/chaos/kill-anything.toml"),
    ),
    (
        Place::Live,
        "config/chaos/live.toml",
        include_str!("../../../config/chaos/live.toml"),
    ),
    (
        Place::Live,
        "config/chaos/live-faults.toml",
        include_str!("../../../config/chaos/live-faults.toml"),
    ),
    (
        Place::Live,
        "config/chaos/hosts.toml",
        include_str!("../../../config/chaos/hosts.toml"),
    ),
    (
        Place::Test,
        "config/chaos/processes.toml",
        include_str!("../../../config/chaos/processes.toml"),
    ),
];

/// Strikes per time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many,
    pub strikes: u32,
    /// in this time.
    pub per: Duration,
}

/// Why a text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no rate; write strikes per time, such as \"5/1s\" or \"1/10s\"")]
pub struct RateError(String);

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let parse = || {
            let (strikes, per) = text.split_once('/')?;
            let strikes = strikes.trim().parse().ok()?;
            let per = humantime::parse_duration(per.trim()).ok()?;
            let possible = (1..=STRIKES_MAX).contains(&strikes)
                && (Duration::from_millis(1)..=TIME_MAX).contains(&per);
            possible.then_some(Self { strikes, per })
        };
        parse().ok_or_else(|| RateError(text.to_owned()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            self.strikes,
            humantime::format_duration(self.per)
        )
    }
}

/// What a stop condition looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vital {
    /// Share of actors that are up, 0 to 1.
    Health,
    /// Supervisors that gave up since the plan began.
    Escalations,
    /// Actors quarantined now.
    Quarantined,
    /// T2 events lost since the plan began.
    Lost,
}

const VITALS: [(&str, Vital); 4] = [
    ("health", Vital::Health),
    ("escalations", Vital::Escalations),
    ("quarantined", Vital::Quarantined),
    ("lost", Vital::Lost),
];

/// The numbers that a stop condition can look at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vitals {
    /// Share of actors that are up, 0 to 1.
    pub health: f64,
    /// Supervisors that gave up since the plan began.
    pub escalations: u64,
    /// Actors quarantined now.
    pub quarantined: u64,
    /// T2 events lost since the plan began.
    pub lost: u64,
}

impl Default for Vitals {
    /// All is well.
    fn default() -> Self {
        Self {
            health: 1.0,
            escalations: 0,
            quarantined: 0,
            lost: 0,
        }
    }
}

/// When a plan ends itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StopIf {
    vital: Vital,
    below: bool,
    limit: f64,
}

/// Why a text is no stop condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no stop condition; write health, escalations, quarantined or lost, then < or >, then \
     a number, such as \"health < 0.9\""
)]
pub struct StopIfError(String);

impl FromStr for StopIf {
    type Err = StopIfError;

    fn from_str(text: &str) -> Result<Self, StopIfError> {
        let parse = || {
            let at = text.find(['<', '>'])?;
            let name = text[..at].trim();
            let (_, vital) = VITALS.iter().find(|(known, _)| *known == name)?;
            let limit: f64 = text[at + 1..].trim().parse().ok()?;
            limit.is_finite().then_some(Self {
                vital: *vital,
                below: text.as_bytes()[at] == b'<',
                limit,
            })
        };
        parse().ok_or_else(|| StopIfError(text.to_owned()))
    }
}

impl fmt::Display for StopIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = VITALS.iter().find(|(_, vital)| *vital == self.vital);
        let name = named.map_or("?", |(name, _)| name);
        let sign = if self.below { '<' } else { '>' };
        write!(f, "{name} {sign} {}", self.limit)
    }
}

impl StopIf {
    /// Whether the plan must stop.
    #[must_use]
    pub fn holds(&self, vitals: &Vitals) -> bool {
        let value = match self.vital {
            Vital::Health => vitals.health,
            Vital::Escalations => vitals.escalations as f64,
            Vital::Quarantined => vitals.quarantined as f64,
            Vital::Lost => vitals.lost as f64,
        };
        if self.below {
            value < self.limit
        } else {
            value > self.limit
        }
    }
}

/// Which packets a partition stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// All.
    #[default]
    Both,
    /// Those to the twin.
    Up,
    /// Those to the devices.
    Down,
}

const WAYS: [(&str, Way); 3] = [("both", Way::Both), ("up", Way::Up), ("down", Way::Down)];

/// One fault of a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultPlan {
    /// Which.
    pub fault: Fault,
    /// How often, against the others.
    pub weight: u64,
    /// How long, if it lasts.
    pub lasts: Duration,
    /// Share of packets or values, if it is about a share.
    pub share: f64,
    /// How late, if it delays.
    pub delay: Duration,
    /// How far, if it jumps.
    pub by: Duration,
    /// How many starts fail at most.
    pub times: u32,
    /// Which way, if it stops packets or holds them back.
    pub way: Way,
}

impl FaultPlan {
    /// A fault as it is when a plan says no more than its name.
    #[must_use]
    pub const fn new(fault: Fault) -> Self {
        Self {
            fault,
            weight: 1,
            lasts: FAULT_LASTS,
            share: match fault {
                Fault::DeviceLies => LIES,
                _ => SHARE,
            },
            delay: DELAY,
            by: JUMP,
            times: 1,
            way: Way::Both,
        }
    }
}

/// A plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// 0: drawn when it starts.
    pub seed: u64,
    /// How often.
    pub rate: Rate,
    /// A path and all below it, or a pattern.
    pub scope: String,
    /// How long; until it is stopped if `None`.
    pub run_for: Option<Duration>,
    /// Victims that are not back yet at most.
    pub max_concurrent: u32,
    /// Share of one kind that may be down at once; one of it always may.
    pub blast_radius: f64,
    /// When it ends itself.
    pub stop_if: Option<StopIf>,
    /// Without renewal it stops after this time.
    pub lease: Duration,
    /// Paths and patterns that are never hit.
    pub protect: Vec<String>,
    /// Whether the seed changes the weights.
    pub swarm: bool,
    /// What may happen.
    pub faults: Vec<FaultPlan>,
    /// Weights of kinds of actors; 1 for those not named.
    pub kinds: Vec<(String, u64)>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 0,
            rate: RATE,
            scope: "/".to_owned(),
            run_for: None,
            max_concurrent: 1,
            blast_radius: 1.0,
            stop_if: None,
            lease: LEASE,
            protect: Vec::new(),
            swarm: false,
            faults: vec![FaultPlan::new(Fault::Kill)],
            kinds: Vec::new(),
        }
    }
}

impl Plan {
    /// Reads one plan for a place; `name` is what errors call it.
    ///
    /// # Errors
    /// Every mistake in it, by line.
    pub fn from_toml(name: &str, text: &str, place: Place) -> Result<Self, Vec<ConfigError>> {
        let (plan, errors) = reader::read(name, text, |root| read::plan(root, place));
        if errors.is_empty() {
            Ok(plan)
        } else {
            Err(errors)
        }
    }

    /// Reads a plan from a file.
    ///
    /// # Errors
    /// Every mistake in it, by line; or that there is no such file.
    pub fn open(path: &Path, place: Place) -> Result<Self, Vec<ConfigError>> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let help = "give a file such as config/chaos/live.toml";
            vec![ConfigError::nowhere(
                &name,
                format!("cannot be read: {error}"),
                help,
            )]
        })?;
        Self::from_toml(&name, &text, place)
    }

    /// Whether a path may be hit. The root never is, but by what befalls the node as a whole.
    #[must_use]
    pub fn admits(&self, path: &ActorPath, fault: Fault) -> bool {
        (!path.is_root() || fault.hits_node())
            && covers(&self.scope, path)
            && !self.protect.iter().any(|pattern| covers(pattern, path))
    }

    /// Weight of a kind of actors.
    #[must_use]
    pub fn kind_weight(&self, kind: &str) -> u64 {
        let named = self.kinds.iter().find(|(name, _)| name == kind);
        named.map_or(1, |(_, weight)| *weight)
    }
}

/// Whether a path, its subtree, or a pattern covers `path`.
fn covers(pattern: &str, path: &ActorPath) -> bool {
    if pattern.contains(['*', '?']) {
        return glob_matches(pattern, path.as_str());
    }
    let rest = path.as_str().strip_prefix(pattern.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
