//! The policies of a running node: those of its files, and those that an operator has set since.
//!
//! A change is checked as a file is, held against every supervisor and population first, and put in
//! force only if all accept it. It waits for nobody: neither a supervisor that hangs or is down nor
//! a shard that stands still is asked. Reading the files again drops what was set by hand. It
//! decides about no restart. It also knows who supervises what, by path. Bound: one change at a
//! time; as many policies by hand as there are supervisors.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use actorsim_actors::census::glob_matches;
use actorsim_actors::{ActorPath, Level};
use actorsim_supervision::config::keys::{self, Form};
use actorsim_supervision::{
    CellGovernor, Change, CrashReport, GovernError, Governance, Governed, Labels, Policies,
    SupervisorRef,
};
use parking_lot::{Mutex, MutexGuard};

use super::layers::Layers;
use crate::config::policy::{self, PolicyFile};
use crate::config::tree::POSTS;
use crate::config::{ConfigErrors, PolicySource};

/// What a policy that was set by hand is called in errors and lists.
const BY_HAND: &str = "policy set";

/// Why a change of policies was refused; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// No supervisor and no population has such a path.
    #[error("no supervisor and no population has the path {0}; `policy show` lists them")]
    Nobody(String),
    /// Mistakes, as in a file.
    #[error("{}", .0.render_for("nothing was changed", false))]
    Invalid(ConfigErrors),
    /// What supervisors and populations say against it, all of them.
    #[error("{}", list(.0))]
    Refused(Vec<Misfit>),
}

/// What one supervisor or population says against a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Misfit {
    /// Who.
    pub path: ActorPath,
    /// What it says.
    pub reason: String,
}

fn list(misfits: &[Misfit]) -> String {
    let lines: Vec<_> = misfits.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// What a change does at one supervisor or population.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Where.
    pub path: ActorPath,
    /// What is another value, and how many actors are governed.
    pub governed: Governed,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.governed)
    }
}

/// One supervisor or population with what is in force there.
#[derive(Debug, Clone)]
pub struct InForce {
    /// Where.
    pub path: ActorPath,
    /// Actors that are governed.
    pub children: u64,
    /// The policy, and what is said of children.
    pub governance: Governance,
    /// File and line, or [`BY_HAND`]; none where OTP's defaults hold.
    pub origin: Option<String>,
}

/// Who is governed: a supervisor of task actors, or the groups of a population.
enum Governor {
    Tasks(SupervisorRef),
    Cells(Arc<CellGovernor>),
}

impl Governor {
    fn path(&self) -> &ActorPath {
        match self {
            Self::Tasks(supervisor) => supervisor.path(),
            Self::Cells(governor) => governor.path(),
        }
    }

    fn labels(&self) -> Labels {
        match self {
            Self::Tasks(supervisor) => supervisor.labels(),
            Self::Cells(governor) => governor.labels().clone(),
        }
    }

    /// What policies say of it, with the strategy that its program needs if it needs one.
    fn under(&self, policies: &Policies) -> Governance {
        let mut said = policies.governance(self.path(), &self.labels());
        if let Self::Tasks(supervisor) = self
            && let Some(in_force) = supervisor.policy()
        {
            said.policy.strategy = in_force.policy.strategy;
        }
        said
    }

    /// Puts a governance in force, or says what that would change. None: nobody is there any more.
    fn govern(&self, by: &Governance, dry_run: bool) -> Result<Option<Governed>, Misfit> {
        let result = match self {
            Self::Tasks(supervisor) => match supervisor.govern(by.clone(), dry_run) {
                Err(GovernError::Gone) => return Ok(None),
                governed => governed.map_err(|error| error.to_string()),
            },
            Self::Cells(governor) => {
                let governed = governor.govern(by, dry_run);
                governed.map_err(|error| error.to_string())
            }
        };
        let path = self.path().clone();
        result.map(Some).map_err(|reason| Misfit { path, reason })
    }
}

/// What a change puts in force at one supervisor or population.
struct Order {
    governor: Governor,
    old: Governance,
    new: Governance,
}

#[derive(Debug, Clone, Default)]
struct State {
    files: Policies,
    by_hand: BTreeMap<ActorPath, Policies>,
}

impl State {
    /// All of it, the strongest first.
    fn merged(&self) -> Policies {
        let by_hand = self.by_hand.values().cloned();
        by_hand.fold(self.files.clone(), |below, own| own.over(below))
    }
}

/// The policies of a running node.
#[derive(Debug)]
pub struct PolicyBook {
    layers: Arc<Layers>,
    files: Vec<PolicyFile>,
    state: Mutex<State>,
}

impl PolicyBook {
    pub(super) fn new(layers: &Arc<Layers>, files: Vec<PolicyFile>, now: Policies) -> Self {
        let state = State {
            files: now,
            ..State::default()
        };
        Self {
            layers: Arc::clone(layers),
            files,
            state: Mutex::new(state),
        }
    }

    /// The supervisor of task actors at a path.
    pub(crate) fn supervisor(&self, path: &ActorPath) -> Option<SupervisorRef> {
        self.layers.supervision.supervisor(path)
    }

    /// The last crash of an actor, of whatever host.
    pub(crate) fn crash(&self, path: &ActorPath) -> Option<CrashReport> {
        self.layers.supervision.crash(path)
    }

    fn populations(&self) -> Vec<Arc<CellGovernor>> {
        let fleet = self.layers.fleet.as_ref();
        fleet.map_or_else(Vec::new, |layer| layer.fleet.governors())
    }

    /// The policies in force, for what joins now: they do not change as long as they are held.
    pub(crate) fn in_force(&self) -> InForceNow<'_> {
        let state = self.state.lock();
        InForceNow {
            policies: state.merged(),
            _held: state,
        }
    }

    /// The population at a path.
    pub(crate) fn population(&self, path: &ActorPath) -> Option<Arc<CellGovernor>> {
        let mut all = self.populations().into_iter();
        all.find(|governor| governor.path() == path)
    }

    /// The population that a device's path is in.
    pub(crate) fn population_of(&self, path: &ActorPath) -> Option<Arc<CellGovernor>> {
        self.population(&path.parent()?)
    }

    /// Devices of the population at a path: all, and those that run.
    pub(crate) fn cells_of(&self, path: &ActorPath) -> Option<(u64, u64)> {
        let layer = self.layers.fleet.as_ref()?;
        layer.fleet.cells_of(path)
    }

    fn governors(&self, pattern: Option<&str>) -> Vec<Governor> {
        let tasks = self.layers.supervision.supervisors().into_iter();
        let cells = self.populations().into_iter();
        let mut all: Vec<_> = tasks
            .map(Governor::Tasks)
            .chain(cells.map(Governor::Cells))
            .filter(|g| pattern.is_none_or(|p| glob_matches(p, g.path().as_str())))
            .collect();
        all.sort_by(|a, b| a.path().cmp(b.path()));
        all
    }

    fn found(&self, pattern: Option<&str>) -> Result<Vec<Governor>, PolicyError> {
        let found = self.governors(pattern);
        match (found.is_empty(), pattern) {
            (true, Some(pattern)) => Err(PolicyError::Nobody(pattern.to_owned())),
            _ => Ok(found),
        }
    }

    /// What is in force at the supervisors and populations of a pattern.
    pub(crate) fn show(&self, pattern: Option<&str>) -> Result<Vec<InForce>, PolicyError> {
        let policies = self.state.lock().merged();
        let mut rows = Vec::new();
        for governor in self.found(pattern)? {
            let (path, labels) = (governor.path().clone(), governor.labels());
            let origin = policies.origin(&path, &labels);
            let origin = origin.map(|(file, line)| match file.strip_prefix(BY_HAND) {
                Some(_) => BY_HAND.to_owned(),
                None => format!("{file}:{line}"),
            });
            let governance = match &governor {
                Governor::Cells(governor) => Some(Governance {
                    policy: governor.policy().0,
                    ..policies.governance(&path, &labels)
                }),
                Governor::Tasks(supervisor) => supervisor.policy(),
            };
            let children = self.children(&governor);
            rows.extend(governance.map(|governance| InForce {
                path,
                children,
                governance,
                origin,
            }));
        }
        Ok(rows)
    }

    fn children(&self, governor: &Governor) -> u64 {
        match governor {
            Governor::Tasks(supervisor) => supervisor.children() as u64,
            Governor::Cells(governor) => self.cells_of(governor.path()).map_or(0, |all| all.0),
        }
    }

    /// Sets values at the supervisors and populations of a pattern, or says what that would do.
    pub(crate) fn set(
        &self,
        pattern: &str,
        assignments: &[String],
        dry_run: bool,
    ) -> Result<Vec<Planned>, PolicyError> {
        let mut state = self.state.lock();
        let mut next = state.clone();
        let now = state.merged();
        for governor in self.found(Some(pattern))? {
            let path = governor.path().clone();
            let text = written(&path, &governor.under(&now), assignments);
            next.by_hand.insert(path.clone(), read(&path, &text)?);
        }
        self.put(&mut state, next, dry_run)
    }

    /// Whether children fit the policies in force, or those that some values would make of them:
    /// OTP's `check_childspecs`. Returns who does, and how many children each has.
    pub(crate) fn check(
        &self,
        pattern: &str,
        assignments: &[String],
    ) -> Result<Vec<(ActorPath, u64)>, PolicyError> {
        let now = self.state.lock().merged();
        let (mut fit, mut misfits) = (Vec::new(), Vec::new());
        for governor in self.found(Some(pattern))? {
            let (path, labels) = (governor.path().clone(), governor.labels());
            let text = written(&path, &governor.under(&now), assignments);
            let by = read(&path, &text)?.governance(&path, &labels);
            match governor.govern(&by, true) {
                Ok(_) => fit.push((path, self.children(&governor))),
                Err(misfit) => misfits.push(misfit),
            }
        }
        match misfits.is_empty() {
            true => Ok(fit),
            false => Err(PolicyError::Refused(misfits)),
        }
    }

    /// Reads the files again, or says what that would do. What was set by hand is dropped.
    ///
    /// # Errors
    /// [`PolicyError`]; nothing has changed then.
    pub fn reload(&self, dry_run: bool) -> Result<Vec<Planned>, PolicyError> {
        let next = self.read_again()?;
        self.put(&mut self.state.lock(), next, dry_run)
    }

    fn read_again(&self) -> Result<State, PolicyError> {
        let sources = policy::read_again(&self.files).map_err(PolicyError::Invalid)?;
        Ok(State {
            files: policy::merged(&sources),
            by_hand: BTreeMap::new(),
        })
    }

    /// Reads the files again, with an event for the plan before it is put in force, for who asks
    /// with a signal and is not answered.
    ///
    /// # Errors
    /// [`PolicyError`]; nothing has changed then.
    pub fn reload_as_told(&self) -> Result<(), PolicyError> {
        let next = self.read_again()?;
        let mut state = self.state.lock(); // what is told is what is done
        let plan = self.put(&mut state, next.clone(), true)?;
        let lines: Vec<_> = plan.iter().map(ToString::to_string).collect();
        let text = match lines.is_empty() {
            true => "no value changes".to_owned(),
            false => lines.join("; "),
        };
        let events = self.layers.system.events();
        events.publish(Level::Info, "policy_planned", None, text);
        self.put(&mut state, next, false).map(drop)
    }

    /// Two phases: the change is held against everybody, and an error means that nothing has
    /// changed; then it is put in force. Nothing is waited for in between, so whoever asked for it
    /// may go away: all of it is done, or none.
    fn put(
        &self,
        state: &mut State,
        next: State,
        dry_run: bool,
    ) -> Result<Vec<Planned>, PolicyError> {
        let orders = self.orders(&state.merged(), &next.merged());
        let (mut plan, mut misfits) = (Vec::new(), Vec::new());
        for Order { governor, new, .. } in &orders {
            match governor.govern(new, true) {
                Ok(None) => {}
                Ok(Some(mut governed)) => {
                    governed.children = self.children(governor);
                    let path = governor.path().clone();
                    plan.push(Planned { path, governed });
                }
                Err(misfit) => misfits.push(misfit),
            }
        }
        if !misfits.is_empty() {
            return Err(PolicyError::Refused(misfits));
        }
        if !dry_run {
            self.enforce(&orders)?;
            *state = next;
        }
        Ok(plan)
    }

    fn orders(&self, old: &Policies, new: &Policies) -> Vec<Order> {
        let order = |governor: Governor| {
            let (path, labels) = (governor.path(), governor.labels());
            let (old, new) = (old.governance(path, &labels), new.governance(path, &labels));
            (old != new).then_some(Order { governor, old, new })
        };
        self.governors(None).into_iter().filter_map(order).collect()
    }

    /// Puts in force what all have accepted. A child that came since may make one refuse after all:
    /// those before it get their old policy back.
    fn enforce(&self, orders: &[Order]) -> Result<(), PolicyError> {
        for (at, Order { governor, new, .. }) in orders.iter().enumerate() {
            match governor.govern(new, false) {
                Ok(governed) => self.tell(governor, governed),
                Err(misfit) => {
                    for Order { governor, old, .. } in &orders[..at] {
                        if let Ok(governed) = governor.govern(old, false) {
                            self.tell(governor, governed);
                        }
                    }
                    return Err(PolicyError::Refused(vec![misfit]));
                }
            }
        }
        Ok(())
    }

    /// Supervisors of task actors tell it themselves.
    fn tell(&self, governor: &Governor, governed: Option<Governed>) {
        let (Governor::Cells(cells), Some(governed)) = (governor, governed) else {
            return;
        };
        if !governed.changes.is_empty() {
            let (path, text) = (Some(cells.path()), governed.to_string());
            let events = self.layers.system.events();
            events.publish(Level::Info, "policy_changed", path, text);
        }
    }
}

/// The policies in force, held.
#[derive(Debug)]
pub(crate) struct InForceNow<'a> {
    policies: Policies,
    _held: MutexGuard<'a, State>,
}

impl std::ops::Deref for InForceNow<'_> {
    type Target = Policies;

    fn deref(&self) -> &Policies {
        &self.policies
    }
}

/// A policy as a file would have it, with some values set; `none` unsets one.
fn written(path: &ActorPath, now: &Governance, assignments: &[String]) -> String {
    let mut own: Vec<(String, String)> = keys::values(&now.policy)
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    // In their order: of patterns the first wins.
    let mut children: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for (id, child) in &now.children {
        let restart = child.restart.map(|restart| restart.word().to_owned());
        let shutdown = child.shutdown.map(|shutdown| shutdown.to_string());
        let significant = child.significant.map(|flag| flag.to_string());
        let known = [
            ("restart", restart),
            ("shutdown", shutdown),
            ("significant", significant),
        ];
        let known = known.into_iter();
        let known = known.filter_map(|(key, value)| Some((key.to_owned(), value?)));
        children.push((id.clone(), known.collect()));
    }
    for assignment in assignments {
        let (key, value) = assignment.split_once('=').unwrap_or((assignment, ""));
        let child = key
            .strip_prefix("child.")
            .and_then(|rest| rest.rsplit_once('.'));
        let (values, key) = match child {
            Some((id, key)) => (entry_of(&mut children, id), key),
            None => (&mut own, key),
        };
        let below = format!("{key}.");
        values.retain(|(name, _)| name != key && !(value == "none" && name.starts_with(&below)));
        if value != "none" {
            values.push((key.to_owned(), value.to_owned()));
        }
    }
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = format!("[[supervisor]]\npath = {}\n", quoted(path.as_str()));
    write_values(&mut text, &own, "");
    for (id, values) in &children {
        let _ = writeln!(text, "[[supervisor.child]]\nid = {}", quoted(id));
        write_values(&mut text, values, "child.");
    }
    text
}

/// The values of a child; a new one stands first, so that no pattern is before it.
fn entry_of<'a>(
    children: &'a mut Vec<(String, Vec<(String, String)>)>,
    id: &str,
) -> &'a mut Vec<(String, String)> {
    let known = children.iter().position(|(other, _)| other == id);
    if known.is_none() {
        children.insert(0, (id.to_owned(), Vec::new()));
    }
    &mut children[known.unwrap_or(0)].1
}

fn write_values(text: &mut String, values: &[(String, String)], below: &str) {
    for (key, value) in values {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name = match key.chars().all(plain) {
            true => key.clone(),
            false => toml::Value::String(key.clone()).to_string(),
        };
        let form = keys::find(&format!("{below}{key}")).map_or(Form::Text, |key| key.form);
        // What is no number is quoted, so that the mistake is its type, not the syntax.
        let bare = value.parse::<f64>().is_ok()
            || value.parse::<bool>().is_ok()
            || value.starts_with("0x") && value.chars().all(|c| c.is_ascii_alphanumeric());
        let value = match form.is_quoted() || !bare {
            true => keys::literal(Form::Text, value),
            false => value.clone(),
        };
        let _ = writeln!(text, "{name} = {value}");
    }
}

/// Reads it as a file is read, with the same errors.
fn read(path: &ActorPath, text: &str) -> Result<Policies, PolicyError> {
    let file = format!("{BY_HAND} {path}");
    Policies::for_tree(&file, text, POSTS).map_err(|errors| {
        let text = text.to_owned();
        PolicyError::Invalid(policy::rendered(errors, &PolicySource { file, text }))
    })
}

/// The rows of a plan: one for each value that is another one.
pub(crate) fn changes(plan: &[Planned]) -> impl Iterator<Item = (&Planned, &Change)> {
    plan.iter()
        .flat_map(|one| one.governed.changes.iter().map(move |change| (one, change)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(assignments: &[&str]) -> String {
        let path = ActorPath::new("/twin").unwrap();
        let assignments: Vec<String> = assignments.iter().map(|text| (*text).into()).collect();
        let text = written(
            &path,
            &Policies::shipped().governance(&path, &Labels::new()),
            &assignments,
        );
        match read(&path, &text) {
            Ok(policies) => policies.to_toml("supervisor", false),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_value_set_by_hand_is_refused_with_the_errors_of_a_file() {
        for (set, words) in [
            (
                "intensity=many",
                "intensity is a string, expected a whole number",
            ),
            ("intensty=3", "did you mean \"intensity\"?"),
            ("strategy=one_for_all", "/twin is made for rest_for_one"),
            ("behaviour=resume", "/twin are no devices"),
            ("quarantine=true", "add intensity_scope = \"child\""),
            ("child.scna.shutdown=1s", "did you mean \"scan\"?"),
            ("child.scan.shutdown=soon", "\"soon\" is no shutdown"),
            (
                "backoff.factor=0x10",
                "factor is an integer, expected a number",
            ),
            ("period=5\n[[supervisor]]", "is no duration"),
            ("a b=3", "unknown key \"a b\""),
        ] {
            let error = refused(&[set]);
            assert!(error.contains(words), "{set}: {error}");
            assert!(error.contains("--> policy set /twin:"), "{set}: {error}");
        }
    }

    #[test]
    fn what_is_set_of_a_child_is_before_the_patterns_in_force_and_those_keep_their_order() {
        let path = ActorPath::new("/twin").unwrap();
        let file = "[[supervisor]]\npath = '/twin'\n\
            [[supervisor.child]]\nid = 's*'\nshutdown = '1s'\n\
            [[supervisor.child]]\nid = '*'\nshutdown = '2s'\n";
        let now = Policies::from_toml("file", file).unwrap();
        let now = now.governance(&path, &Labels::new());
        let text = written(&path, &now, &["child.a*.shutdown=3s".to_owned()]);
        let set = Policies::from_toml("set", &text).unwrap();
        let shutdown = |id| set.for_child(&path, id).shutdown.unwrap().to_string();
        let all = ["scan", "route", "apply"].map(shutdown);
        assert_eq!(all, ["1s", "2s", "3s"]);
    }

    #[test]
    fn values_are_laid_over_those_in_force() {
        let set = refused(&["intensity=3", "backoff=none", "child.scan.shutdown=1s"]);
        for line in [
            "intensity = 3",
            "strategy = \"rest_for_one\"",
            "shutdown = \"1s\"",
        ] {
            assert!(set.contains(line), "{line}: {set}");
        }
        assert!(!set.contains("backoff"), "{set}");
    }
}
