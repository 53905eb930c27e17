//! The keys of a policy file as a table: explanations, schema, what is shown and what has changed.
//!
//! It reads no file: [`super`] does, by the same names. Bound: fixed at compile time.

use humantime::format_duration;

use super::{AUTO_SHUTDOWNS, BEHAVIOURS, RESTARTS, SCOPES, STRATEGIES};
use crate::policy::{BUDGET_MAX, CHILDREN_MAX, FACTOR_MAX, INTENSITY_MAX, SupervisorPolicy};

/// What a key holds.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// A text.
    Text,
    /// One of a closed set of words.
    Word(fn() -> Vec<&'static str>),
    /// A whole number within bounds.
    Count(u64, u64),
    /// A number within bounds.
    Number(f64, f64),
    /// A text with a unit, at most a day.
    Duration,
    /// `brutal_kill`, `infinity`, or a duration.
    Shutdown,
    /// `true` or `false`.
    Flag,
}

impl Form {
    /// In words.
    #[must_use]
    pub fn label(self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Word(words) => format!("one of {}", words().join(", ")),
            Self::Count(min, max) => format!("a whole number from {min} to {max}"),
            Self::Number(min, max) => format!("a number from {min} to {max}"),
            Self::Duration => "a duration, such as 250ms or 5s, at most a day".to_owned(),
            Self::Shutdown => "brutal_kill, infinity, or a duration such as 5s".to_owned(),
            Self::Flag => "true or false".to_owned(),
        }
    }

    /// Whether its value stands in quotes.
    #[must_use]
    pub const fn is_quoted(self) -> bool {
        matches!(
            self,
            Self::Text | Self::Word(_) | Self::Duration | Self::Shutdown
        )
    }
}

/// One key.
#[derive(Debug)]
pub struct PolicyKey {
    /// Below `[[supervisor]]`, such as `backoff.min`; below `[[supervisor.child]]` it begins with
    /// `child.`.
    pub name: &'static str,
    /// What it holds.
    pub form: Form,
    /// What it is when it is left out.
    pub default: &'static str,
    /// What it does, in one line.
    pub doc: &'static str,
}

fn strategies() -> Vec<&'static str> {
    STRATEGIES.iter().map(|row| row.0).collect()
}

fn scopes() -> Vec<&'static str> {
    SCOPES.iter().map(|row| row.0).collect()
}

fn behaviours() -> Vec<&'static str> {
    BEHAVIOURS.iter().map(|row| row.0).collect()
}

fn auto_shutdowns() -> Vec<&'static str> {
    AUTO_SHUTDOWNS.iter().map(|row| row.0).collect()
}

fn restarts() -> Vec<&'static str> {
    RESTARTS.iter().map(|row| row.0).collect()
}

macro_rules! keys {
    ($($name:literal, $form:expr, $default:literal, $doc:literal;)*) => {
        /// Every key of a policy file.
        pub const POLICY_KEYS: &[PolicyKey] = &[$(
            PolicyKey { name: $name, form: $form, default: $default, doc: $doc },
        )*];
    };
}

keys! {
    "path", Form::Text, "none",
        "The supervisor, or a pattern: * any text, ? one character. An exact path wins over a \
         label, a label over a pattern, and the pattern with the most literal characters wins.";
    "label", Form::Text, "none",
        "Supervisors and populations with this label, such as device_type=pump; with a path, both \
         must fit.";
    "strategy", Form::Word(strategies), "one_for_one",
        "Who is restarted with a child: nobody, those started after it, everybody.";
    "intensity", Form::Count(0, INTENSITY_MAX as u64), "1",
        "Restarts allowed within the period; one more and the supervisor gives up.";
    "period", Form::Duration, "5s",
        "The window in which restarts are counted.";
    "intensity_scope", Form::Word(scopes), "supervisor",
        "Whose restarts are counted together: those of all children, or each child's own.";
    "quarantine", Form::Flag, "false",
        "A child that uses up its own intensity is parked instead of ending the supervisor.";
    "backoff.min", Form::Duration, "50ms",
        "Wait before the first restart; without [backoff] there is no wait.";
    "backoff.max", Form::Duration, "10s",
        "Longest wait.";
    "backoff.factor", Form::Number(1.0, FACTOR_MAX), "2",
        "What the wait is multiplied by at each further failure.";
    "backoff.jitter", Form::Number(0.0, 1.0), "0.2",
        "Part of the wait that is random.";
    "backoff.reset_after", Form::Duration, "60s",
        "A child that lived this long has no past.";
    "behaviour", Form::Word(behaviours), "fresh",
        "What a restarted device begins with: nothing but its identity, or also what acted on the \
         former, unless that ended by a panic or with its host.";
    "auto_shutdown", Form::Word(auto_shutdowns), "never",
        "Whether the supervisor ends when significant children have ended by themselves.";
    "max_children", Form::Count(1, CHILDREN_MAX as u64), "100000",
        "Most children at a time.";
    "restart_budget_per_s", Form::Count(1, BUDGET_MAX as u64), "none",
        "Most restarts a second; those beyond it wait. Also when a group of cells restarts as one.";
    "child.id", Form::Text, "none",
        "The child this is about, or a pattern.";
    "child.restart", Form::Word(restarts), "as the program has it",
        "When it is started again: always, when it ended abnormally, never.";
    "child.shutdown", Form::Shutdown, "as the program has it",
        "How it is ended.";
    "child.significant", Form::Flag, "as the program has it",
        "Whether its end may end the supervisor (auto_shutdown).";
}

/// The key of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static PolicyKey> {
    POLICY_KEYS.iter().find(|key| key.name == name)
}

/// Every value of a policy by key, as a file has it; what is not set is left out.
#[must_use]
pub fn values(policy: &SupervisorPolicy) -> Vec<(&'static str, String)> {
    let mut values = vec![
        ("strategy", policy.strategy.word().to_owned()),
        ("intensity", policy.intensity.to_string()),
        ("period", format_duration(policy.period).to_string()),
        ("intensity_scope", policy.intensity_scope.word().to_owned()),
        ("quarantine", policy.quarantine.to_string()),
    ];
    if let Some(backoff) = &policy.backoff {
        let time = |time| format_duration(time).to_string();
        values.extend([
            ("backoff.min", time(backoff.min)),
            ("backoff.max", time(backoff.max)),
            ("backoff.factor", backoff.factor.to_string()),
            ("backoff.jitter", backoff.jitter.to_string()),
            ("backoff.reset_after", time(backoff.reset_after)),
        ]);
    }
    values.push(("behaviour", policy.behaviour.word().to_owned()));
    values.push(("auto_shutdown", policy.auto_shutdown.word().to_owned()));
    values.push(("max_children", policy.max_children.to_string()));
    let budget = policy.restart_budget_per_s;
    values.extend(budget.map(|budget| ("restart_budget_per_s", budget.to_string())));
    values
}

/// A value as a TOML file has it.
#[must_use]
pub fn literal(form: Form, text: &str) -> String {
    match form.is_quoted() {
        true => toml::Value::String(text.to_owned()).to_string(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Policies;

    #[test]
    fn every_key_of_the_table_is_read_and_every_default_is_true() {
        let mut text = String::from("[[supervisor]]\npath = '/a'\nlabel = 'a=b'\n");
        let mut child = String::from("[[supervisor.child]]\nid = 'x'\n");
        for key in POLICY_KEYS {
            let sample = match (key.name, key.form) {
                ("path" | "label" | "child.id", _) => continue,
                ("quarantine", _) => "false",
                ("child.significant", _) => "false",
                ("child.restart", _) => "permanent",
                ("restart_budget_per_s", _) => "10",
                ("child.shutdown", _) => "5s",
                _ => key.default,
            };
            let line = format!("{} = {}\n", key.name, literal(key.form, sample));
            match line.strip_prefix("child.") {
                Some(line) => child.push_str(line),
                None => text.push_str(&line),
            }
        }
        let policies = Policies::from_toml("t", &format!("{text}{child}")).unwrap();
        let path = actorsim_actors::ActorPath::new("/a").unwrap();
        let labels = [("a".to_owned(), "b".to_owned())].into();
        let read = policies.governance(&path, &labels).policy;
        let defaults = SupervisorPolicy {
            backoff: Some(crate::policy::Backoff::default()),
            restart_budget_per_s: Some(10),
            ..SupervisorPolicy::default()
        };
        assert_eq!(read, defaults);
        assert_eq!(values(&read).len() + 6, POLICY_KEYS.len());
    }
}
