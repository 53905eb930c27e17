//! Policy files: TOML into [`Policies`], with every mistake told at once.
//!
//! ```toml
//! [[supervisor]]
//! path = "/twin"            # exact, or a pattern: "/fleet/*"
//! strategy = "rest_for_one"
//! intensity = 30
//! period = "5s"
//! backoff = { min = "50ms", max = "10s" }
//!
//! [[supervisor.child]]
//! id = "scan"
//! shutdown = "2s"
//! ```
//!
//! Reads no file and applies nothing. Bound: [`ERRORS_MAX`] errors and [`SUPERVISORS_MAX`] entries
//! a file.
//!
//! - [`error`]: a mistake with file, line, column and what to do.
//! - [`reader`]: typed access to a TOML table that notes mistakes and goes on.

pub mod error;
pub mod reader;

use std::ops::Range;
use std::time::Duration;

use actorsim_actors::ActorPath;
use actorsim_actors::census::glob_matches;

pub use error::{ConfigError, render_all};
use reader::Section;

use crate::policy::{
    AutoShutdown, Backoff, CHILDREN_MAX, DURATION_MAX, INTENSITY_MAX, IntensityScope, Restart,
    Shutdown, Strategy, SupervisorPolicy,
};
use crate::spec::ChildSpec;

/// Errors that are told of one file: a screen or two; a file with more is not of this kind.
pub const ERRORS_MAX: usize = 100;
/// Entries of one file: a tree's supervisors; patterns cover the many.
pub const SUPERVISORS_MAX: usize = 1_024;

/// The shipped policies: the tree of a node.
const SHIPPED: &str = include_str!("../../config/supervision/default.toml");
const SHIPPED_NAME: &str = "config/supervision/default.toml";

const STRATEGIES: &[(&str, Strategy)] = &[
    ("one_for_one", Strategy::OneForOne),
    ("one_for_all", Strategy::OneForAll),
    ("rest_for_one", Strategy::RestForOne),
    ("simple_one_for_one", Strategy::SimpleOneForOne),
];
const SCOPES: &[(&str, IntensityScope)] = &[
    ("supervisor", IntensityScope::Supervisor),
    ("child", IntensityScope::Child),
];
const AUTO_SHUTDOWNS: &[(&str, AutoShutdown)] = &[
    ("never", AutoShutdown::Never),
    ("any_significant", AutoShutdown::AnySignificant),
    ("all_significant", AutoShutdown::AllSignificant),
];
const RESTARTS: &[(&str, Restart)] = &[
    ("permanent", Restart::Permanent),
    ("transient", Restart::Transient),
    ("temporary", Restart::Temporary),
];

/// What a file says about one child; what it leaves out stays as the program has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChildPolicy {
    /// When it is started again.
    pub restart: Option<Restart>,
    /// How it is ended.
    pub shutdown: Option<Shutdown>,
    /// Whether its end may end the supervisor.
    pub significant: Option<bool>,
}

impl ChildPolicy {
    /// Changes a child spec.
    pub fn apply(&self, child: &mut ChildSpec) {
        child.restart = self.restart.unwrap_or(child.restart);
        child.shutdown = self.shutdown.unwrap_or(child.shutdown);
        child.significant = self.significant.unwrap_or(child.significant);
    }
}

#[derive(Debug, Clone)]
struct Entry {
    pattern: String,
    policy: SupervisorPolicy,
    children: Vec<(String, ChildPolicy)>,
}

impl Entry {
    /// How exactly the pattern names `path`; none if it does not.
    fn rank(&self, path: &str) -> Option<usize> {
        match self.pattern == path {
            true => Some(usize::MAX),
            false if glob_matches(&self.pattern, path) => Some(
                self.pattern
                    .chars()
                    .filter(|c| !matches!(c, '*' | '?'))
                    .count(),
            ),
            false => None,
        }
    }
}

/// Policies by path, from one file or several.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    entries: Vec<Entry>,
}

impl Policies {
    /// The policies that are shipped.
    ///
    /// # Panics
    /// Never: a test loads the same text.
    #[must_use]
    pub fn shipped() -> Self {
        Self::from_toml(SHIPPED_NAME, SHIPPED).expect("the shipped policies are tested")
    }

    /// Reads one file; `name` is what errors call it.
    ///
    /// # Errors
    /// Every mistake in it, by line.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, Vec<ConfigError>> {
        let (policies, errors) = reader::read(name, text, |root| {
            let sections = root.sections("supervisor", SUPERVISORS_MAX);
            let mut seen: Vec<(String, usize)> = Vec::new();
            let mut entries = Vec::new();
            for mut section in sections {
                if let Some(entry) = read_supervisor(&mut section, &mut seen) {
                    entries.push(entry);
                }
                section.finish();
            }
            Self { entries }
        });
        if errors.is_empty() {
            Ok(policies)
        } else {
            Err(errors)
        }
    }

    /// These policies, and `below` where they say nothing.
    #[must_use]
    pub fn over(mut self, below: Self) -> Self {
        let mine: Vec<String> = self.entries.iter().map(|e| e.pattern.clone()).collect();
        self.entries.extend(
            below
                .entries
                .into_iter()
                .filter(|e| !mine.contains(&e.pattern)),
        );
        self
    }

    /// The policy of the supervisor at `path`: its own entry, else the pattern with the most
    /// literal characters, else OTP's defaults.
    #[must_use]
    pub fn for_path(&self, path: &ActorPath) -> SupervisorPolicy {
        self.entry(path)
            .map(|e| e.policy.clone())
            .unwrap_or_default()
    }

    /// What the files say about one child of the supervisor at `path`.
    #[must_use]
    pub fn for_child(&self, path: &ActorPath, id: &str) -> ChildPolicy {
        let children = self
            .entry(path)
            .map(|e| e.children.as_slice())
            .unwrap_or_default();
        let exact = children.iter().find(|(pattern, _)| pattern == id);
        let found = exact.or_else(|| children.iter().find(|(p, _)| glob_matches(p, id)));
        found.map(|(_, policy)| policy.clone()).unwrap_or_default()
    }

    /// The patterns, in order.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| e.pattern.as_str())
    }

    fn entry(&self, path: &ActorPath) -> Option<&Entry> {
        let ranked = self
            .entries
            .iter()
            .filter_map(|e| Some((e.rank(path.as_str())?, e)));
        // the first of equals, so that a file laid over another wins
        ranked
            .rev()
            .max_by_key(|(rank, _)| *rank)
            .map(|(_, entry)| entry)
    }
}

fn read_supervisor(s: &mut Section<'_, '_>, seen: &mut Vec<(String, usize)>) -> Option<Entry> {
    let pattern = read_pattern(s, seen);
    let base = SupervisorPolicy::default();
    let strategy = s.choice("strategy", STRATEGIES).unwrap_or(base.strategy);
    let intensity = s.integer("intensity", 0..=u64::from(INTENSITY_MAX));
    let period = s.duration("period", DURATION_MAX);
    if period == Some(Duration::ZERO) {
        let help = "use a period such as \"5s\"";
        s.wrong(
            "period",
            "no two restarts fall into a period of no time",
            help,
        );
    }
    let scope = s.choice("intensity_scope", SCOPES).unwrap_or(base.scope);
    let backoff = s.section("backoff").map(|mut b| {
        let backoff = read_backoff(&mut b);
        b.finish();
        backoff
    });
    let quarantine = s.boolean("quarantine").unwrap_or(false);
    if quarantine && scope == IntensityScope::Supervisor {
        let help = "add intensity_scope = \"child\", or leave quarantine out";
        s.wrong(
            "quarantine",
            "quarantine parks a child for its own restarts, and here the \
            restarts of all children are counted together",
            help,
        );
    }
    let auto_shutdown = s
        .choice("auto_shutdown", AUTO_SHUTDOWNS)
        .unwrap_or(base.auto_shutdown);
    let max_children = s.integer("max_children", 1..=u64::from(CHILDREN_MAX));
    let budget = s.integer("restart_budget_per_s", 1..=1_000_000);
    let mut children: Vec<(String, ChildPolicy)> = Vec::new();
    for mut child in s.sections("child", SUPERVISORS_MAX) {
        children.extend(read_child(&mut child, auto_shutdown, &children));
        child.finish();
    }
    let policy = SupervisorPolicy {
        strategy,
        intensity: intensity.map_or(base.intensity, |n| n as u32),
        period: period.unwrap_or(base.period),
        scope,
        backoff,
        quarantine,
        auto_shutdown,
        max_children: max_children.map_or(base.max_children, |n| n as u32),
        restart_budget_per_s: budget.map(|n| n as u32),
    };
    Some(Entry {
        pattern: pattern?,
        policy,
        children,
    })
}

fn read_pattern(s: &mut Section<'_, '_>, seen: &mut Vec<(String, usize)>) -> Option<String> {
    let Some((pattern, span)) = s.text("path") else {
        if !s.has("path") {
            s.missing(
                "path",
                "say which supervisor this is about, such as path = \"/twin\"",
            );
        }
        return None;
    };
    let literal = pattern.replace(['*', '?'], "x");
    if let Err(error) = ActorPath::new(&literal) {
        let help = "a path begins with '/'; '*' stands for any text, '?' for one character";
        s.wrong_at(span, error.to_string(), help);
        return None;
    }
    let line = s.notes().line(span.start);
    if let Some((_, first)) = seen.iter().find(|(p, _)| *p == pattern) {
        let message = format!("supervisor {pattern:?} has a policy already, at line {first}");
        s.wrong_at(span, message, "merge the two entries");
        return None;
    }
    seen.push((pattern.clone(), line));
    Some(pattern)
}

fn read_backoff(s: &mut Section<'_, '_>) -> Backoff {
    let base = Backoff::default();
    let min = s.duration("min", DURATION_MAX).unwrap_or(base.min);
    let max = s.duration("max", DURATION_MAX).unwrap_or(base.max.max(min));
    if max < min {
        s.wrong(
            "max",
            "the longest wait is shorter than the first",
            "make max at least min",
        );
    }
    Backoff {
        min,
        max,
        factor: s.number("factor", 1.0..=1_000.0).unwrap_or(base.factor),
        jitter: s.number("jitter", 0.0..=1.0).unwrap_or(base.jitter),
        reset_after: s
            .duration("reset_after", DURATION_MAX)
            .unwrap_or(base.reset_after),
    }
}

fn read_child(
    s: &mut Section<'_, '_>,
    auto: AutoShutdown,
    before: &[(String, ChildPolicy)],
) -> Option<(String, ChildPolicy)> {
    let id = s.text("id");
    if id.is_none() && !s.has("id") {
        s.missing("id", "say which child this is about, such as id = \"scan\"");
    }
    let restart = s.choice("restart", RESTARTS);
    let shutdown = read_shutdown(s);
    let significant = s.boolean("significant");
    if significant == Some(true) {
        if matches!(restart, None | Some(Restart::Permanent)) {
            let help = "add restart = \"transient\" or restart = \"temporary\"";
            s.wrong(
                "significant",
                "a permanent child is always restarted: its end cannot be \
                significant",
                help,
            );
        }
        if auto == AutoShutdown::Never {
            let help = "set auto_shutdown = \"any_significant\" or \"all_significant\" on the \
                supervisor, or leave significant out";
            s.wrong(
                "significant",
                "significant has no effect while auto_shutdown is \"never\"",
                help,
            );
        }
    }
    let (id, span): (String, Range<usize>) = id?;
    if before.iter().any(|(other, _)| *other == id) {
        s.wrong_at(
            span,
            format!("child {id:?} is listed twice"),
            "merge the two entries",
        );
        return None;
    }
    Some((
        id,
        ChildPolicy {
            restart,
            shutdown,
            significant,
        },
    ))
}

fn read_shutdown(s: &mut Section<'_, '_>) -> Option<Shutdown> {
    let (text, span) = s.text("shutdown")?;
    match text.parse::<Shutdown>() {
        Ok(Shutdown::After(time)) if time > DURATION_MAX => {
            s.wrong_at(
                span,
                "longer than a day",
                "use \"infinity\" to wait without limit",
            );
            None
        }
        Ok(Shutdown::After(Duration::ZERO)) => {
            s.wrong_at(
                span,
                "no time to stop",
                "use \"brutal_kill\" to kill at once",
            );
            None
        }
        Ok(shutdown) => Some(shutdown),
        Err(_) => {
            let help = "use \"brutal_kill\", \"infinity\" or a duration such as \"5s\"";
            s.wrong_at(span, format!("{text:?} is no shutdown"), help);
            None
        }
    }
}

#[cfg(test)]
mod tests;
