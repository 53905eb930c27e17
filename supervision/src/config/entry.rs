//! One `[[supervisor]]` table: whom it is about, what it says, and where it stands.
//!
//! It keeps the text of its file, so that a mistake that only the tree shows still has a place.
//! Bound: one file's text, shared by its entries.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use actorsim_actors::census::glob_matches;

use super::error::ConfigError;
use super::keys;
use super::{Governance, Labels};

/// A file's name and text.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: String,
    text: String,
}

impl Source {
    pub(super) fn new(file: &str, text: &str) -> Arc<Self> {
        let (file, text) = (file.to_owned(), text.to_owned());
        Arc::new(Self { file, text })
    }
}

/// Where a table and its values stand.
pub(super) type Spans = BTreeMap<&'static str, Range<usize>>;

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) path: Option<String>,
    pub(super) label: Option<(String, String)>,
    pub(super) says: Governance,
    pub(super) source: Arc<Source>,
    pub(super) spans: Spans,
    /// Of each child, in the order of `says.children`.
    pub(super) child_spans: Vec<Spans>,
}

/// How exactly an entry names a supervisor: path, label, then literal characters of a pattern.
pub(super) type Rank = (bool, bool, usize);

impl Entry {
    /// Whom it is about, in one text.
    pub(super) fn name(&self) -> String {
        name_of(self.path.as_deref(), self.label.as_ref())
    }

    /// File and line.
    pub(super) fn origin(&self) -> (&str, usize) {
        let at = self.spans.get("").map_or(0, |span| span.start);
        let before = &self.source.text[..at.min(self.source.text.len())];
        (&self.source.file, before.matches('\n').count() + 1)
    }

    /// How exactly it names a supervisor; none if it does not.
    pub(super) fn rank(&self, path: &str, labels: &Labels) -> Option<Rank> {
        let labelled = match &self.label {
            Some((key, value)) if labels.get(key) != Some(value) => return None,
            label => label.is_some(),
        };
        match &self.path {
            None => Some((false, labelled, 0)),
            Some(own) if own == path => Some((true, labelled, own.len())),
            Some(pattern) if glob_matches(pattern, path) => {
                let literal = pattern.chars().filter(|c| !matches!(c, '*' | '?'));
                Some((false, labelled, literal.count()))
            }
            Some(_) => None,
        }
    }

    /// A mistake at the value of a key, or at the table if the key is not there.
    pub(super) fn wrong(
        &self,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> ConfigError {
        self.wrong_at(&self.spans, key, message, help)
    }

    /// A mistake at a value of one of its tables.
    pub(super) fn wrong_at(
        &self,
        spans: &Spans,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> ConfigError {
        let span = spans.get(key).or_else(|| spans.get("")).cloned();
        let (file, text) = (&self.source.file, &self.source.text);
        ConfigError::at(file, text, span.unwrap_or(0..0), message, help)
    }

    /// Itself as a file has it, each value written out.
    pub(super) fn to_toml(&self, table: &str, place: bool) -> String {
        let mut text = format!("[[{table}]]");
        if place {
            let (file, line) = self.origin();
            let _ = write!(text, "  # {file}:{line}");
        }
        text.push('\n');
        let mut line = |key: &str, value: &str| {
            let form = keys::find(key).map(|key| key.form);
            let name = key.strip_prefix("child.").unwrap_or(key);
            let value = form.map_or_else(|| value.to_owned(), |form| keys::literal(form, value));
            let _ = writeln!(text, "{name} = {value}");
        };
        if let Some(path) = &self.path {
            line("path", path);
        }
        if let Some((key, value)) = &self.label {
            line("label", &format!("{key}={value}"));
        }
        for (key, value) in keys::values(&self.says.policy) {
            line(key, &value);
        }
        for (id, child) in &self.says.children {
            text.push_str(&format!("[[{table}.child]]\n"));
            let mut line = |name: &str, value: String| {
                let form = keys::find(&format!("child.{name}")).map(|key| key.form);
                let value = form.map_or_else(|| value.clone(), |f| keys::literal(f, &value));
                let _ = writeln!(text, "{name} = {value}");
            };
            line("id", id.clone());
            let shutdown = child.shutdown.map(|shutdown| shutdown.to_string());
            let restart = child.restart.map(|restart| restart.word().to_owned());
            restart.into_iter().for_each(|value| line("restart", value));
            shutdown
                .into_iter()
                .for_each(|value| line("shutdown", value));
            let significant = child.significant.map(|flag| flag.to_string());
            significant
                .into_iter()
                .for_each(|value| line("significant", value));
        }
        text
    }
}

/// Whom an entry with this path and label is about, in one text.
pub(super) fn name_of(path: Option<&str>, label: Option<&(String, String)>) -> String {
    let label = label.map(|(key, value)| format!("{key}={value}"));
    match (path, label) {
        (Some(path), Some(label)) => format!("{path} {label}"),
        (Some(path), None) => path.to_owned(),
        (None, label) => label.unwrap_or_default(),
    }
}
