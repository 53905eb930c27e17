//! A configuration text as a tree in which every key and value knows its place.
//!
//! YAML and TOML become the same tree, so that each check is written once. It judges nothing but
//! syntax. Bounds: [`TEXT_BYTES_MAX`]; depth by the two parsers' own limits.

use core::fmt;
use core::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use toml::de::{DeTable, DeValue};

use super::findings::Findings;

/// Size of a profile's text: a profile of 64 fields is a few kilobytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Line and column, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A key and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) at: Place,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) at: Place,
}

/// What both formats can say.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

impl Node {
    /// The kind of value, in a user's words.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The value without its places.
    pub(super) fn json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(on) => Json::Bool(*on),
            Value::Number(number) => Json::Number(number.clone()),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(nodes) => nodes.iter().map(Self::json).collect(),
            Value::Map(entries) => Json::Object(
                entries
                    .iter()
                    .map(|(key, node)| (key.text.clone(), node.json()))
                    .collect(),
            ),
        }
    }
}

// ------------------------------------------------------------------------------------------ YAML

/// Reads YAML. The error is in `findings`.
pub(super) fn yaml(text: &str, findings: &mut Findings<'_>) -> Option<Node> {
    match serde_saphyr::from_str::<Node>(text) {
        Ok(node) => Some(node),
        Err(error) => {
            let place = error.location().map_or(Place::default(), place_of);
            // The parser repeats the place at the end of its sentence.
            let said = error.without_snippet().to_string();
            let message = said
                .rsplit_once(" at line ")
                .map_or(said.as_str(), |(said, _)| said);
            findings.error(place, message, "mend the YAML here, or in the line above");
            None
        }
    }
}

fn place_of(location: serde_saphyr::Location) -> Place {
    let clip = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Place {
        line: clip(location.line()),
        column: clip(location.column()),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Raw>::deserialize(deserializer)?;
        Ok(Self {
            value: spanned.value.0,
            at: place_of(spanned.referenced),
        })
    }
}

struct Raw(Value);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor).map(Raw)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, on: bool) -> Result<Value, E> {
        Ok(Value::Bool(on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = seq.next_element()? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key = Key {
                text: key.value,
                at: place_of(key.referenced),
            };
            entries.push((key, map.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}

/// A float; JSON has no word for NaN and infinities, so they stay texts and fail the next check.
fn float(number: f64) -> Value {
    serde_json::Number::from_f64(number)
        .map_or_else(|| Value::Text(number.to_string()), Value::Number)
}

// ------------------------------------------------------------------------------------------ TOML

/// Reads TOML, going on after an error where the parser can. Errors are in `findings`.
pub(super) fn toml(text: &str, findings: &mut Findings<'_>) -> Option<Node> {
    let lines = Lines::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = error
            .span()
            .map_or(Place::default(), |span| lines.place(span.start));
        findings.error(
            place,
            error.message(),
            "mend the TOML here: `key = value`, texts in quotes",
        );
    }
    errors
        .is_empty()
        .then(|| lines.table(table.get_ref(), table.span()))
}

/// Byte offsets to line and column.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = core::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts[line - 1];
        let before = self
            .text
            .get(start..offset)
            .map_or(0, |text| text.chars().count());
        Place {
            line: line as u32,
            column: before as u32 + 1,
        }
    }

    fn table(&self, table: &DeTable<'_>, span: Range<usize>) -> Node {
        let mut entries: Vec<_> = table.iter().collect();
        // The parser sorts by name; the profile's order is the order in the file.
        entries.sort_by_key(|(key, _)| key.span().start);
        let entries = entries
            .into_iter()
            .map(|(key, value)| {
                let text = key.get_ref().clone().into_owned();
                let key_at = self.place(key.span().start);
                (
                    Key { text, at: key_at },
                    self.node(value.get_ref(), value.span()),
                )
            })
            .collect();
        Node {
            value: Value::Map(entries),
            at: self.place(span.start),
        }
    }

    fn node(&self, value: &DeValue<'_>, span: Range<usize>) -> Node {
        let at = self.place(span.start);
        let value = match value {
            DeValue::String(text) => Value::Text(text.clone().into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(
                    |_| Value::Text(number.to_string()),
                    |n| Value::Number(n.into()),
                ),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map_or_else(|_| Value::Text(number.to_string()), float),
            DeValue::Boolean(on) => Value::Bool(*on),
            DeValue::Datetime(time) => Value::Text(time.to_string()),
            DeValue::Array(nodes) => Value::List(
                nodes
                    .iter()
                    .map(|node| self.node(node.get_ref(), node.span()))
                    .collect(),
            ),
            DeValue::Table(table) => return self.table(table, span),
        };
        Node { value, at }
    }
}
