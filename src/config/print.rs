//! Texts of the `config` commands: values with origins, one key explained, JSON schema, reference.
//!
//! It reads only the table of keys and resolved settings. Bound: the table of keys.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::Settings;
use super::key::{self, Key};
use super::value::{Kind, Value};

/// Every key with its value, as a TOML file; with `# origin` after each where asked.
#[must_use]
pub fn settings(settings: &Settings, origin: bool) -> String {
    let mut text = String::new();
    for group in key::groups() {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "[{group}]");
        for name in key::in_group(group) {
            match settings.get(&format!("{group}.{name}")) {
                Some((value, from)) if origin => {
                    let _ = writeln!(text, "{name} = {value}  # {from}");
                }
                Some((value, _)) => {
                    let _ = writeln!(text, "{name} = {value}");
                }
                None => {
                    let _ = writeln!(text, "# {name} is unset");
                }
            }
        }
    }
    text
}

/// What one key means; `None` if there is no such key.
#[must_use]
pub fn explain(name: &str) -> Option<String> {
    let key = key::find(name)?;
    let default = default(key);
    Some(format!(
        "{}\n  {}\n  value:    {}\n  default:  {default}\n  variable: {}\n  flag:     -X {}=..\n",
        key.name,
        key.doc,
        key.kind.label(),
        key.variable(),
        key.name
    ))
}

fn default(key: &Key) -> String {
    key.default_value()
        .map_or_else(|| "unset".into(), |value| value.to_string())
}

/// The reference page `docs/reference/config.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Layers, weakest first: built-in, `--config` files, environment (`ACTORSIM__GROUP__KEY`), \
         flags, `-X group.key=value`.\nA mistake in any of them is reported with its place, all \
         at once, and nothing starts (exit code 2).\n`actorsim config check FILE`, `config print \
         --origin` and `config explain KEY` answer the rest.\n\n\
         This page is made from the table of keys; a test holds it equal.\n",
    );
    for group in key::groups() {
        let _ = write!(
            page,
            "\n## {group}\n\n| key | value | default | meaning |\n|---|---|---|---|\n"
        );
        for name in key::in_group(group) {
            let Some(key) = key::find(&format!("{group}.{name}")) else {
                continue;
            };
            let (kind, doc) = (key.kind.label(), key.doc);
            let _ = writeln!(
                page,
                "| `{}` | {kind} | {} | {doc} |",
                key.name,
                default(key)
            );
        }
        if group == key::POLICY_TABLE.0 {
            page.push_str(
                "\n`[[supervision.supervisor]]` tables in a node file are policies as in \
                 `config/supervision/default.toml`.\n",
            );
        }
    }
    page
}

/// The JSON schema of a node file.
#[must_use]
pub fn schema() -> Json {
    let mut groups = Map::new();
    for group in key::groups() {
        let mut keys = Map::new();
        for name in key::in_group(group) {
            if let Some(key) = key::find(&format!("{group}.{name}")) {
                insert(&mut keys, name, key_schema(key));
            }
        }
        if group == key::POLICY_TABLE.0 {
            let tables = json!({ "type": "array", "items": { "type": "object" } });
            keys.insert(key::POLICY_TABLE.1.to_owned(), tables);
        }
        groups.insert(group.to_owned(), object(keys));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "actorsim node configuration",
        "type": "object",
        "additionalProperties": false,
        "properties": groups,
    })
}

fn object(keys: Map<String, Json>) -> Json {
    json!({ "type": "object", "additionalProperties": false, "properties": keys })
}

/// Inserts a schema at `a.b`: in the object `a`.
fn insert(keys: &mut Map<String, Json>, name: &str, schema: Json) {
    let Some((table, inner)) = name.split_once('.') else {
        keys.insert(name.to_owned(), schema);
        return;
    };
    let table = keys.entry(table).or_insert_with(|| object(Map::new()));
    if let Some(keys) = table.get_mut("properties").and_then(Json::as_object_mut) {
        insert(keys, inner, schema);
    }
}

fn key_schema(key: &Key) -> Json {
    let mut schema = match key.kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::U64 { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::F64 { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Choice(options) => json!({ "enum": options }),
        Kind::Paths => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Duration { .. } | Kind::Text | Kind::Path | Kind::Address => {
            json!({ "type": "string" })
        }
    };
    schema["description"] = Json::from(key.doc);
    if let Some(value) = key.default_value() {
        schema["default"] = match value {
            Value::Bool(flag) => flag.into(),
            Value::U64(number) => number.into(),
            Value::F64(number) => number.into(),
            Value::Duration(length) => humantime::format_duration(length).to_string().into(),
            Value::Text(text) => text.into(),
            Value::List(items) => items.into(),
        };
    }
    schema
}
