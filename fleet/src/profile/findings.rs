//! Everything wrong in one profile, collected; and [`Section`], a map being read key by key.
//!
//! It prints nothing and stops at nothing. Bound: [`FINDINGS_MAX`].

use core::ops::Range;

use actorsim_supervision::ConfigError;

use super::tree::{Key, Node, Place, Value};

/// Findings of one file: more than a hundred mean that it is some other kind of file.
pub(super) const FINDINGS_MAX: usize = 100;

/// Errors and warnings of one file.
pub(super) struct Findings<'a> {
    file: &'a str,
    text: &'a str,
    /// Whether an unknown key is an error (TOML) or a warning (YAML).
    strict: bool,
    pub(super) errors: Vec<ConfigError>,
    pub(super) warnings: Vec<ConfigError>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(file: &'a str, text: &'a str, strict: bool) -> Self {
        Self {
            file,
            text,
            strict,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Something wrong, and how to mend it.
    pub(super) fn error(&mut self, at: Place, message: impl Into<String>, help: impl Into<String>) {
        let finding = self.finding(at, message.into(), help.into());
        if self.errors.len() < FINDINGS_MAX {
            self.errors.push(finding);
        }
    }

    pub(super) fn warning(&mut self, at: Place, message: String, help: String) {
        let finding = self.finding(at, message, help);
        if self.warnings.len() < FINDINGS_MAX {
            self.warnings.push(finding);
        }
    }

    fn finding(&self, at: Place, message: String, help: String) -> ConfigError {
        if at.line == 0 {
            return ConfigError::nowhere(self.file, message, help);
        }
        ConfigError::at(self.file, self.text, self.span(at), message, help)
    }

    /// The word at a place, as bytes of the text.
    fn span(&self, at: Place) -> Range<usize> {
        let mut starts =
            core::iter::once(0).chain(self.text.match_indices('\n').map(|(at, _)| at + 1));
        let start = starts.nth(at.line as usize - 1).unwrap_or(self.text.len());
        let line = self.text[start..].lines().next().unwrap_or("");
        let skip = at.column.saturating_sub(1) as usize;
        let from = line
            .char_indices()
            .nth(skip)
            .map_or(line.len(), |(at, _)| at);
        let word = line[from..]
            .find([',', ']', '}', ':', '='])
            .unwrap_or(line.len() - from);
        let word = line[from..from + word].trim_end().len();
        start + from..start + from + word
    }

    fn unknown_key(&mut self, key: &Key, owner: &str, known: &[&str]) {
        let message = format!("unknown key `{}` in {owner}", key.text);
        let help = nearest(&key.text, known).map_or_else(
            || format!("known keys: {}", known.join(", ")),
            |near| format!("did you mean `{near}`? known keys: {}", known.join(", ")),
        );
        if self.strict {
            self.error(key.at, message, help);
        } else {
            self.warning(key.at, message, help);
        }
    }

    /// The expected kind is not there.
    pub(super) fn wrong_type(&mut self, key: &str, node: &Node, wanted: &str) {
        let message = format!("`{key}` must be {wanted}, not {}", node.kind());
        self.error(node.at, message, format!("write {wanted} after `{key}`"));
    }
}

/// A map being read: what is left at the end is unknown.
pub(super) struct Section<'n> {
    /// For messages: "the profile", "field `voltage`".
    pub(super) owner: String,
    pub(super) at: Place,
    entries: &'n [(Key, Node)],
    known: Vec<&'static str>,
}

impl<'n> Section<'n> {
    /// A node as a map; an error otherwise.
    pub(super) fn of(owner: &str, node: &'n Node, findings: &mut Findings<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let message = format!("{owner} must be a map of keys, not {}", node.kind());
            findings.error(node.at, message, "write it as `key: value`, a key a line");
            return None;
        };
        Some(Self {
            owner: owner.to_owned(),
            at: node.at,
            entries,
            known: Vec::new(),
        })
    }

    pub(super) fn entries(&self) -> &'n [(Key, Node)] {
        self.entries
    }

    /// The value of a key. Null counts as absent: `labels:` with nothing under it is common.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let entries = self.entries;
        let (_, node) = entries.iter().find(|(found, _)| found.text == key)?;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// The value of a key for which null is a value too.
    pub(super) fn take_any(&mut self, key: &'static str) -> Option<&'n Node> {
        let _ = self.take(key);
        let entries = self.entries;
        let found = entries.iter().find(|(found, _)| found.text == key);
        found.map(|(_, node)| node)
    }

    pub(super) fn need(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<&'n Node> {
        let found = self.take(key);
        if found.is_none() {
            let message = format!("{} has no `{key}`", self.owner);
            findings.error(self.at, message, format!("add `{key}`"));
        }
        found
    }

    pub(super) fn text(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<(&'n str, Place)> {
        let node = self.take(key)?;
        let Value::Text(text) = &node.value else {
            findings.wrong_type(key, node, "a text");
            return None;
        };
        Some((text, node.at))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        findings: &mut Findings<'_>,
    ) -> Option<T> {
        let (text, at) = self.text(key, findings)?;
        let found = choices
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let help = format!("one of: {}", names.join(", "));
            findings.error(at, format!("`{key}` cannot be `{text}`"), help);
        }
        found
    }

    pub(super) fn number(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<(f64, Place)> {
        let node = self.take(key)?;
        number(key, node, findings).map(|number| (number, node.at))
    }

    pub(super) fn need_number(&mut self, key: &'static str, findings: &mut Findings<'_>) -> f64 {
        let node = self.need(key, findings);
        node.and_then(|node| number(key, node, findings))
            .unwrap_or(0.0)
    }

    pub(super) fn number_or(
        &mut self,
        key: &'static str,
        default: f64,
        findings: &mut Findings<'_>,
    ) -> f64 {
        self.number(key, findings)
            .map_or(default, |(number, _)| number)
    }

    /// A number that must not be below 0.
    pub(super) fn scale(
        &mut self,
        key: &'static str,
        needed: bool,
        findings: &mut Findings<'_>,
    ) -> f64 {
        let node = if needed {
            self.need(key, findings)
        } else {
            self.take(key)
        };
        let Some(node) = node else { return 0.0 };
        let value = number(key, node, findings).unwrap_or(0.0);
        if value < 0.0 {
            let message = format!("`{key}` must not be below 0, is {value}");
            findings.error(node.at, message, "write 0 or more");
        }
        value.max(0.0)
    }

    /// Everything in it counts as known: after an error that makes its keys impossible to judge.
    pub(super) fn forgive(&mut self) {
        self.entries = &[];
    }

    /// Reports each key that nobody asked for.
    pub(super) fn finish(self, findings: &mut Findings<'_>) {
        for (key, _) in self.entries {
            if !self.known.contains(&key.text.as_str()) {
                findings.unknown_key(key, &self.owner, &self.known);
            }
        }
    }
}

/// A node as a finite number.
pub(super) fn number(key: &str, node: &Node, findings: &mut Findings<'_>) -> Option<f64> {
    let found = match &node.value {
        Value::Number(number) => number.as_f64(),
        _ => None,
    };
    if found.is_none() {
        findings.wrong_type(key, node, "a number");
    }
    found
}

/// The known key that was probably meant: at most two edits away.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (edits(key, candidate), *candidate))
        .filter(|(edits, candidate)| *edits <= 2 && *edits < candidate.len())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance; keys are short, the row is the bound.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let above = row[j + 1];
            let replace = diagonal + usize::from(left != *right);
            row[j + 1] = replace.min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}
