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
//! Draws nothing and breaks nothing. Bounds: [`PROTECT_MAX`], [`KINDS_MAX`], [`WEIGHT_MAX`].

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use actorsim_actors::ActorPath;
use actorsim_actors::census::glob_matches;

use super::fault::{FAULTS, Fault, Place};
use super::schedule::MAX_CONCURRENT;
use crate::config::ConfigError;
use crate::config::reader::{self, Section};

/// Patterns of paths that are never hit.
pub const PROTECT_MAX: usize = 64;
/// Kinds of actors with a weight of their own.
pub const KINDS_MAX: usize = 64;
/// Largest weight: more is no finer.
pub const WEIGHT_MAX: u64 = 1_000;
/// Longest plan, lease and fault.
pub const TIME_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
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
/// Delay of packets of a fault that leaves it out.
const DELAY: Duration = Duration::from_millis(50);

/// The plans that are shipped.
pub const SHIPPED: [(&str, &str); 2] = [
    (
        "config/chaos/kill-anything.toml",
        include_str!("../../../config/chaos/kill-anything.toml"),
    ),
    (
        "config/chaos/live.toml",
        include_str!("../../../config/chaos/live.toml"),
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
    /// Share of packets, if it is about packets.
    pub share: f64,
    /// How late, if it delays.
    pub delay: Duration,
    /// Which way, if it stops packets.
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
            share: SHARE,
            delay: DELAY,
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
        let (plan, errors) = reader::read(name, text, |root| read_plan(root, place));
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

    /// Whether a path may be hit.
    #[must_use]
    pub fn admits(&self, path: &ActorPath) -> bool {
        !path.is_root()
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

fn read_plan(root: &mut Section<'_, '_>, place: Place) -> Plan {
    let base = Plan::default();
    let plan = Plan {
        seed: root
            .integer("seed", 0..=i64::MAX as u64)
            .unwrap_or(base.seed),
        rate: parsed(root, "rate").unwrap_or(base.rate),
        scope: pattern(root, "scope").unwrap_or(base.scope),
        run_for: root.duration("for", TIME_MAX),
        max_concurrent: root
            .integer("max_concurrent", 1..=u64::from(MAX_CONCURRENT))
            .map_or(base.max_concurrent, |n| n as u32),
        blast_radius: root
            .number("blast_radius", 0.0..=1.0)
            .unwrap_or(base.blast_radius),
        stop_if: parsed(root, "stop_if"),
        lease: root.duration("lease", TIME_MAX).unwrap_or(base.lease),
        protect: protect(root),
        swarm: root.boolean("swarm").unwrap_or(base.swarm),
        faults: read_faults(root, place).unwrap_or(base.faults),
        kinds: read_kinds(root),
    };
    for (key, time) in [("for", plan.run_for), ("lease", Some(plan.lease))] {
        if time.is_some_and(|time| time.is_zero()) {
            root.wrong(
                key,
                format!("{key} is no time"),
                "use a duration such as \"10s\"",
            );
        }
    }
    plan
}

/// A text that is parsed by its type, whose error says what to do.
fn parsed<T: FromStr>(root: &mut Section<'_, '_>, key: &'static str) -> Option<T>
where
    T::Err: fmt::Display,
{
    let (text, span) = root.text(key)?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            let told = error.to_string();
            let (message, help) = told.split_once("; ").unwrap_or((&told, ""));
            root.wrong_at(span, message, help);
            None
        }
    }
}

const PATTERN_HELP: &str = "a path begins with '/'; '*' stands for any text, '?' for one character";

fn pattern(root: &mut Section<'_, '_>, key: &'static str) -> Option<String> {
    let (text, span) = root.text(key)?;
    match ActorPath::new(&text.replace(['*', '?'], "x")) {
        Ok(_) => Some(text),
        Err(error) => {
            root.wrong_at(span, error.to_string(), PATTERN_HELP);
            None
        }
    }
}

fn protect(root: &mut Section<'_, '_>) -> Vec<String> {
    let mut patterns = Vec::new();
    for (text, span) in root.texts("protect", PROTECT_MAX) {
        match ActorPath::new(&text.replace(['*', '?'], "x")) {
            Ok(_) => patterns.push(text),
            Err(error) => root.wrong_at(span, error.to_string(), PATTERN_HELP),
        }
    }
    patterns
}

fn read_faults(root: &mut Section<'_, '_>, place: Place) -> Option<Vec<FaultPlan>> {
    let mut section = root.section("faults")?;
    let mut faults = Vec::new();
    for entry in &FAULTS {
        if !section.has(entry.name) {
            continue;
        }
        let fault = read_fault(&mut section, entry.fault);
        if let Some(why) = entry.why_not(place) {
            let message = format!("{} cannot act in {place}", entry.name);
            section.wrong(entry.name, message, why);
        }
        faults.extend(fault);
    }
    if !faults.is_empty() && faults.iter().all(|fault| fault.weight == 0) {
        let help = "give one fault a weight of at least 1";
        root.wrong("faults", "no fault can happen: every weight is 0", help);
    } else if section.is_empty() {
        root.wrong("faults", "no fault can happen", "add one, such as kill = 1");
    }
    // The names of faults are the keys that are known here.
    for entry in &FAULTS {
        section.know(entry.name);
    }
    section.finish();
    Some(faults)
}

/// `kill = 3`, or a table.
fn read_fault(faults: &mut Section<'_, '_>, fault: Fault) -> Option<FaultPlan> {
    let base = FaultPlan::new(fault);
    let name = fault.name();
    if !faults.is_table(name) {
        let weight = faults.integer(name, 0..=WEIGHT_MAX)?;
        return Some(FaultPlan { weight, ..base });
    }
    let mut table = faults.section(name)?;
    let mut plan = FaultPlan {
        weight: table
            .integer("weight", 0..=WEIGHT_MAX)
            .unwrap_or(base.weight),
        ..base
    };
    if fault.lasts() {
        plan.lasts = table.duration("for", TIME_MAX).unwrap_or(base.lasts);
        if plan.lasts.is_zero() {
            table.wrong("for", "for is no time", "use a duration such as \"2s\"");
        }
    }
    if fault.has_share() {
        plan.share = table.number("share", 0.0..=1.0).unwrap_or(base.share);
    }
    if matches!(fault, Fault::DelayMsg | Fault::ReorderAcrossSenders) {
        plan.delay = table.duration("delay", TIME_MAX).unwrap_or(base.delay);
    }
    if matches!(fault, Fault::Partition | Fault::Clog) {
        plan.way = table.choice("way", &WAYS).unwrap_or(base.way);
    }
    table.finish();
    Some(plan)
}

fn read_kinds(root: &mut Section<'_, '_>) -> Vec<(String, u64)> {
    let Some(mut section) = root.section("kinds") else {
        return Vec::new();
    };
    section.integers(0..=WEIGHT_MAX, KINDS_MAX)
}

/// The keys of a plan, for the reference page.
#[must_use]
pub fn reference() -> String {
    const KEYS: [(&str, &str, &str); 12] = [
        (
            "seed",
            "`0`",
            "seed of every draw; 0 draws one when it starts and tells it",
        ),
        (
            "rate",
            "`\"1/10s\"`",
            "strikes per time, one in each slot, at a drawn moment of it",
        ),
        (
            "scope",
            "`\"/\"`",
            "a path with all below it, or a pattern with `*` and `?`",
        ),
        ("for", "until stopped", "how long strikes are made"),
        (
            "max_concurrent",
            "`1`",
            "victims that are not back yet; no strike above it",
        ),
        (
            "blast_radius",
            "`1.0`",
            "share of one kind that may be down at once (at least one may)",
        ),
        (
            "stop_if",
            "never",
            "`health`, `escalations`, `quarantined` or `lost`, `<` or `>`, a number",
        ),
        (
            "lease",
            "`\"10s\"`",
            "dead-man's switch: not renewed for so long, it stops and heals",
        ),
        (
            "protect",
            "`[]`",
            "paths and patterns that are never hit; the root never is",
        ),
        (
            "swarm",
            "`false`",
            "the seed changes the weights of faults: each run has its own mix",
        ),
        (
            "[faults]",
            "`kill = 1`",
            "weight of each fault, or a table with its numbers",
        ),
        (
            "[kinds]",
            "1 each",
            "weight of each kind of actors, by name",
        ),
    ];
    let mut text = String::from("| key | default | meaning |\n|---|---|---|\n");
    for (key, default, meaning) in KEYS {
        text += &format!("| `{key}` | {default} | {meaning} |\n");
    }
    text += "\nA fault is a weight (`kill = 8`) or a table: `weight`, and where it has them `for` \
             (how long it lasts,\n`\"2s\"`), `share` (of packets, `0.05`), `delay` (`\"50ms\"`) and \
             `way` (`\"both\"`, `\"up\"` to the twin,\n`\"down\"` to the devices).\n\n";
    text + &super::fault::reference()
}
