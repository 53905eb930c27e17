//! What governs one supervisor: its policy, what policies say of its children, and what a change of
//! it would change.
//!
//! Values and comparisons. It reads no file and changes no supervisor. Bound: as many changes as a
//! policy has keys, and three for each child that policies name.

use std::collections::BTreeMap;
use std::fmt;

use actorsim_actors::census::glob_matches;
use serde::Serialize;

use crate::config::ChildPolicy;
use crate::config::keys;
use crate::policy::SupervisorPolicy;
use crate::spec::Terms;

/// Names of a supervisor or a population besides its path: `device_type` is `pump`.
pub type Labels = BTreeMap<String, String>;

/// Everything that policies say about one supervisor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Governance {
    /// What it does about its children.
    pub policy: SupervisorPolicy,
    /// What is said of children, by id or pattern; an exact id wins, then the first pattern.
    pub children: Vec<(String, ChildPolicy)>,
}

impl Governance {
    /// What is said of one child.
    #[must_use]
    pub fn child(&self, id: &str) -> ChildPolicy {
        child_policy(&self.children, id)
    }
}

/// What a list of child policies says of one child.
#[must_use]
pub(crate) fn child_policy(children: &[(String, ChildPolicy)], id: &str) -> ChildPolicy {
    let exact = children.iter().find(|(pattern, _)| pattern == id);
    let found = exact.or_else(|| children.iter().find(|(p, _)| glob_matches(p, id)));
    found.map(|(_, policy)| policy.clone()).unwrap_or_default()
}

/// One value that is another one afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key, as in a file: `intensity`, `child.scan.shutdown`.
    pub key: String,
    /// What it was; `none` if it was not set.
    pub from: String,
    /// What it is.
    pub to: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.key, self.from, self.to)
    }
}

/// What a change of governance changes at one supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Governed {
    /// Every value that is another one.
    pub changes: Vec<Change>,
    /// Children that are governed.
    pub children: u64,
}

impl fmt::Display for Governed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, change) in self.changes.iter().enumerate() {
            write!(f, "{}{change}", if at > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// What is different between two policies.
#[must_use]
pub fn differences(old: &SupervisorPolicy, new: &SupervisorPolicy) -> Vec<Change> {
    let (old, new) = (keys::values(old), keys::values(new));
    let value = |of: &[(&str, String)], key: &str| {
        let found = of.iter().find(|(name, _)| *name == key);
        found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
    };
    let mut changes = Vec::new();
    for key in keys::POLICY_KEYS {
        let (from, to) = (value(&old, key.name), value(&new, key.name));
        if from != to {
            let key = key.name.to_owned();
            changes.push(Change { key, from, to });
        }
    }
    changes
}

/// What is different between two terms of the child `id`.
pub(crate) fn term_differences(id: &str, old: Terms, new: Terms) -> Vec<Change> {
    let text = |terms: Terms| {
        [
            ("restart", terms.restart.word().to_owned()),
            ("shutdown", terms.shutdown.to_string()),
            ("significant", terms.significant.to_string()),
        ]
    };
    let pairs = text(old).into_iter().zip(text(new));
    pairs
        .filter(|((_, from), (_, to))| from != to)
        .map(|((key, from), (_, to))| Change {
            key: format!("child.{id}.{key}"),
            from,
            to,
        })
        .collect()
}
