//! Reading one file: walks the parsed table by the table of keys and keeps every mistake.
//!
//! It does not merge. Bound: the file's size is bounded by the caller; nesting is the table's own
//! (two levels), and the TOML parser limits its recursion.

use actorsim_supervision::config::error::mend;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, position};
use super::key::{self, Key};
use super::value::Value;
use super::{Origin, PolicySource, near, policy};

/// What a file holds.
#[derive(Debug, Default)]
pub struct FileLayer {
    /// Values, in the order of the file's keys.
    pub entries: Vec<(&'static Key, Value, Origin)>,
    /// Mistakes, by position.
    pub errors: Vec<ConfigError>,
    /// `[[supervision.supervisor]]` tables, if there are any.
    pub policies: Option<PolicySource>,
}

/// Reads the text of a file.
pub fn read_file(name: &str, text: &str) -> FileLayer {
    let (table, syntax) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        name,
        text,
        layer: FileLayer::default(),
    };
    for error in &syntax {
        reader.error(
            error.span().unwrap_or(0..0),
            error.message().trim().to_owned(),
            Some(mend(error.message()).to_owned()),
        );
    }
    for (group, value) in table.get_ref() {
        reader.group(group, value);
    }
    let mut layer = reader.layer;
    if layer.policies.is_some() {
        let source = policy::extract(name, text);
        let mut found = policy::check(name, text, &source.text);
        let told = |error: &ConfigError| {
            let at = |known: &ConfigError| (known.line, known.column);
            layer.errors.iter().any(|known| at(known) == at(error))
        };
        found.retain(|error| !told(error)); // its syntax has been read before
        layer.errors.extend(found);
        layer.policies = Some(source);
    }
    layer.errors.sort_by_key(|error| (error.line, error.column));
    layer
}

/// Message and help for a key that is not in the table.
pub fn unknown(name: &str) -> (String, Option<String>) {
    let (group, rest) = name.split_once('.').unwrap_or((name, ""));
    if key::ABSENT.contains(&group) {
        return (
            format!("the group `{group}` is not available in this build"),
            None,
        );
    }
    if key::groups().any(|known| known == group) {
        let message = format!("unknown key `{name}`");
        return (
            message,
            suggest(rest, &key::in_group(group).collect::<Vec<_>>()),
        );
    }
    let message = if rest.is_empty() {
        format!("unknown group `{group}`")
    } else {
        format!("unknown key `{name}`")
    };
    (message, suggest(group, &key::groups().collect::<Vec<_>>()))
}

fn suggest(word: &str, options: &[&str]) -> Option<String> {
    Some(match near(word, options.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("expected one of {}", options.join(", ")),
    })
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    layer: FileLayer,
}

impl Reader<'_> {
    fn error(&mut self, span: std::ops::Range<usize>, message: String, help: Option<String>) {
        let error = ConfigError::at(self.name, self.text, span, message).help(help);
        self.layer.errors.push(error);
    }

    fn group(&mut self, group: &Spanned<toml::de::DeString<'_>>, value: &Spanned<DeValue<'_>>) {
        let name: &str = group.get_ref();
        if name == key::POLICY_TABLE.1 {
            return self.supervisors(value);
        }
        if key::groups().all(|known| known != name) {
            let (message, help) = unknown(name);
            return self.error(group.span(), message, help);
        }
        let DeValue::Table(table) = value.get_ref() else {
            let message = format!("`{name}` is a group: expected a table, such as [{name}]");
            return self.error(value.span(), message, None);
        };
        for (inner, value) in table {
            if (name, inner.get_ref().as_ref()) == key::POLICY_TABLE {
                self.supervisors(value);
            } else {
                self.entry(&format!("{name}.{}", inner.get_ref()), inner, value);
            }
        }
    }

    /// A key, or a table of keys that have a name in common.
    fn entry(
        &mut self,
        name: &str,
        at: &Spanned<toml::de::DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        match value.get_ref() {
            DeValue::Table(table) if key::is_table(name) => {
                for (inner, value) in table {
                    self.entry(&format!("{name}.{}", inner.get_ref()), inner, value);
                }
            }
            _ => self.key(name, at.span(), value),
        }
    }

    fn supervisors(&mut self, value: &Spanned<DeValue<'_>>) {
        let count = value.get_ref().as_array().map_or(0, |array| array.len());
        if count == 0 || count > policy::headers(self.text) {
            let message = "expected [[supervision.supervisor]] tables".to_owned();
            return self.error(value.span(), message, None);
        }
        self.layer.policies = Some(PolicySource {
            file: String::new(),
            text: String::new(),
        });
    }

    fn key(&mut self, full: &str, at: std::ops::Range<usize>, value: &Spanned<DeValue<'_>>) {
        if value.span().is_empty() {
            return; // not in the text: the parser made it up where the syntax is wrong
        }
        let Some(key) = key::find(full) else {
            let (message, help) = unknown(full);
            return self.error(at, message, help);
        };
        match key.kind.from_toml(value.get_ref()) {
            Ok(read) => {
                let (line, column) = position(self.text, value.span().start);
                let origin = Origin::File(self.name.to_owned(), line, column);
                self.layer.entries.push((key, read, origin));
            }
            Err(message) => self.error(value.span(), format!("`{full}`: {message}"), None),
        }
    }
}
