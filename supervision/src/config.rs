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
//!
//! [[supervisor]]
//! label = "device_type=pump"
//! intensity = 3
//! ```
//!
//! Reads no file and applies nothing. Bound: [`ERRORS_MAX`] errors and [`SUPERVISORS_MAX`] entries
//! a file.
//!
//! - [`keys`]: the table of keys: explanations, schema, lists of values.
//! - `entry`: one `[[supervisor]]` table and whom it is about.
//! - [`fit`]: whether policies fit the tree they are for.
//! - [`error`]: a mistake with file, line, column and what to do.
//! - [`reader`]: typed access to a TOML table that notes mistakes and goes on.

mod entry;
pub mod error;
pub mod fit;
pub mod keys;
pub mod reader;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::ActorPath;

use entry::{Entry, Source};
pub use error::{ConfigError, render_all};
pub use fit::{Children, Post};
use reader::Section;

pub use crate::governance::{Governance, Labels};
use crate::policy::{
    AutoShutdown, BUDGET_MAX, Backoff, Behaviour, CHILDREN_MAX, DURATION_MAX, FACTOR_MAX,
    INTENSITY_MAX, IntensityScope, Restart, Shutdown, Strategy, SupervisorPolicy,
};

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
const BEHAVIOURS: &[(&str, Behaviour)] =
    &[("fresh", Behaviour::Fresh), ("resume", Behaviour::Resume)];
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

/// Policies by path, from one file or several.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    entries: Vec<Entry>,
}

/// What could be read of a file.
#[derive(Default)]
struct Read {
    policies: Policies,
    /// Its syntax is right: nothing was left out or guessed.
    is_whole: bool,
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
        let (Read { policies, .. }, errors) = Self::parsed(name, text);
        if errors.is_empty() {
            Ok(policies)
        } else {
            Err(errors)
        }
    }

    /// What can be read of a file, and every mistake in it.
    fn parsed(name: &str, text: &str) -> (Read, Vec<ConfigError>) {
        let source = Source::new(name, text);
        reader::read(name, text, |root| {
            let sections = root.sections("supervisor", SUPERVISORS_MAX);
            let mut seen: Vec<(String, usize)> = Vec::new();
            let mut entries = Vec::new();
            for mut section in sections {
                if let Some(entry) = read_supervisor(&mut section, &source, &mut seen) {
                    entries.push(entry);
                }
                section.finish();
            }
            Read {
                policies: Self { entries },
                is_whole: !root.is_broken(),
            }
        })
    }

    /// These policies, and `below` where they say nothing.
    #[must_use]
    pub fn over(mut self, below: Self) -> Self {
        let mine: Vec<String> = self.entries.iter().map(Entry::name).collect();
        let others = below.entries.into_iter();
        self.entries
            .extend(others.filter(|e| !mine.contains(&e.name())));
        self
    }

    /// The policy of the supervisor at `path`: its own entry, else the pattern with the most
    /// literal characters, else OTP's defaults.
    #[must_use]
    pub fn for_path(&self, path: &ActorPath) -> SupervisorPolicy {
        self.governance(path, &Labels::new()).policy
    }

    /// Everything said of the supervisor at `path` with these labels.
    #[must_use]
    pub fn governance(&self, path: &ActorPath, labels: &Labels) -> Governance {
        let entry = self.entry(path, labels);
        entry.map(|e| e.says.clone()).unwrap_or_default()
    }

    /// What the files say about one child of the supervisor at `path`.
    #[must_use]
    pub fn for_child(&self, path: &ActorPath, id: &str) -> ChildPolicy {
        self.governance(path, &Labels::new()).child(id)
    }

    /// Where the entry stands that is about the supervisor at `path`: file and line.
    #[must_use]
    pub fn origin(&self, path: &ActorPath, labels: &Labels) -> Option<(&str, usize)> {
        self.entry(path, labels).map(Entry::origin)
    }

    /// What the entries are about, in order.
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        self.entries.iter().map(Entry::name)
    }

    /// The entries as a policy file, each value written out; with the file and line of each in
    /// `place`. Headers are `[[{table}]]`.
    #[must_use]
    pub fn to_toml(&self, table: &str, place: bool) -> String {
        let entries = self.entries.iter().map(|e| e.to_toml(table, place));
        entries.collect::<Vec<_>>().join("\n")
    }

    fn entry(&self, path: &ActorPath, labels: &Labels) -> Option<&Entry> {
        let ranked = self
            .entries
            .iter()
            .filter_map(|e| Some((e.rank(path.as_str(), labels)?, e)));
        // the first of equals, so that a file laid over another wins
        ranked
            .rev()
            .max_by_key(|(rank, _)| *rank)
            .map(|(_, entry)| entry)
    }
}

fn read_supervisor(
    s: &mut Section<'_, '_>,
    source: &Arc<Source>,
    seen: &mut Vec<(String, usize)>,
) -> Option<Entry> {
    let about = read_about(s, seen);
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
    let intensity_scope = s.choice("intensity_scope", SCOPES);
    let intensity_scope = intensity_scope.unwrap_or(base.intensity_scope);
    let backoff = s.section("backoff").map(|mut b| {
        let backoff = read_backoff(&mut b);
        b.finish();
        backoff
    });
    let quarantine = read_quarantine(s, intensity_scope);
    let behaviour = s.choice("behaviour", BEHAVIOURS).unwrap_or(base.behaviour);
    let auto_shutdown = s
        .choice("auto_shutdown", AUTO_SHUTDOWNS)
        .unwrap_or(base.auto_shutdown);
    let max_children = s.integer("max_children", 1..=u64::from(CHILDREN_MAX));
    let budget = s.integer("restart_budget_per_s", 1..=u64::from(BUDGET_MAX));
    let mut children: Vec<(String, ChildPolicy)> = Vec::new();
    let mut child_spans = Vec::new();
    for mut child in s.sections("child", SUPERVISORS_MAX) {
        if let Some(read) = read_child(&mut child, auto_shutdown, &children) {
            children.push(read);
            child_spans.push(child.spans());
        }
        child.finish();
    }
    let policy = SupervisorPolicy {
        strategy,
        intensity: intensity.map_or(base.intensity, |n| n as u32),
        period: period.unwrap_or(base.period),
        intensity_scope,
        backoff,
        quarantine,
        behaviour,
        auto_shutdown,
        max_children: max_children.map_or(base.max_children, |n| n as u32),
        restart_budget_per_s: budget.map(|n| n as u32),
    };
    let (path, label) = about?;
    Some(Entry {
        path,
        label,
        says: Governance { policy, children },
        source: Arc::clone(source),
        spans: s.spans(),
        child_spans,
    })
}

type About = (Option<String>, Option<(String, String)>);

/// Whom an entry is about: a path, a label or both.
fn read_about(s: &mut Section<'_, '_>, seen: &mut Vec<(String, usize)>) -> Option<About> {
    let (path, label) = (s.text("path"), s.text("label"));
    if !s.has("path") && !s.has("label") {
        let help = "say which supervisor this is about, such as path = \"/twin\" or label = \
                    \"device_type=pump\"";
        s.missing("path", help);
    }
    let wrong = s.has("path") && path.is_none() || s.has("label") && label.is_none();
    let mut about = (None, None);
    let place = path.as_ref().or(label.as_ref())?.1.clone();
    if let Some((pattern, span)) = path {
        let literal = pattern.replace(['*', '?'], "x");
        if let Err(error) = ActorPath::new(&literal) {
            let help = "a path begins with '/'; '*' stands for any text, '?' for one character";
            s.wrong_at(span, error.to_string(), help);
            return None;
        }
        about.0 = Some(pattern);
    }
    if let Some((text, span)) = label {
        let pair = text.split_once('=');
        let pair = pair.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
        match pair.filter(|(key, value)| !key.is_empty() && !value.is_empty()) {
            Some(pair) => about.1 = Some(pair),
            None => {
                let help = "write it as label = \"device_type=pump\"";
                s.wrong_at(span, format!("{text:?} is no label"), help);
                return None;
            }
        }
    }
    if wrong {
        return None;
    }
    let line = s.notes().line(place.start);
    let name = entry::name_of(about.0.as_deref(), about.1.as_ref());
    if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name) {
        let message = format!("supervisor {name:?} has a policy already, at line {first}");
        s.wrong_at(place, message, "merge the two entries");
        return None;
    }
    seen.push((name, line));
    Some(about)
}

fn read_quarantine(s: &mut Section<'_, '_>, scope: IntensityScope) -> bool {
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
    quarantine
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
        factor: s.number("factor", 1.0..=FACTOR_MAX).unwrap_or(base.factor),
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
        // Without a restart type here it is the program's: the tree's own check knows it.
        if restart == Some(Restart::Permanent) {
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
