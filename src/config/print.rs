//! Texts of the `config` commands: values with origins, one key explained, JSON schema, reference.
//!
//! It reads only the tables of keys and resolved settings. Bound: the tables of keys, and the
//! policies of a node.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use actorsim_actors::census::glob_matches;
use actorsim_supervision::chaos;
use actorsim_supervision::chaos::plan::{PLAN_KEYS, PlanKey};
use actorsim_supervision::config::keys::{self, Form, POLICY_KEYS, PolicyKey};

use super::key::{self, Key};
use super::value::{Kind, Value};
use super::{Settings, policy};

/// What a key of a policy may begin with, for those who ask for one.
const POLICY_PREFIXES: [&str; 2] = ["supervision.supervisor.", "supervisor."];

/// What a key of a chaos plan begins with, for those who ask for one.
const CHAOS: &str = "chaos";

/// Every key with its value, and every policy, as a TOML file; with `# origin` where asked.
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
    let (group, table) = key::POLICY_TABLE;
    let policies = policy::merged(settings.policies());
    let _ = write!(
        text,
        "\n{}",
        policies.to_toml(&format!("{group}.{table}"), origin)
    );
    text
}

/// What one key means; `None` if there is no such key.
#[must_use]
pub fn explain(name: &str) -> Option<String> {
    let Some(key) = key::find(name) else {
        return policy_key(name).map(explain_policy);
    };
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

/// The key of a policy, with or without what it is below.
fn policy_key(name: &str) -> Option<&'static PolicyKey> {
    let prefix = POLICY_PREFIXES.iter().find_map(|p| name.strip_prefix(p));
    keys::find(prefix?)
}

fn explain_policy(key: &PolicyKey) -> String {
    format!(
        "supervisor.{}\n  {}\n  value:    {}\n  default:  {}\n  file:     [[supervisor]] in a \
         policy file, [[supervision.supervisor]] in a node file\n  live:     attach -c 'policy set \
         PATH {}=..'\n",
        key.name,
        key.doc,
        key.form.label(),
        key.default,
        key.name
    )
}

/// Every key of a policy, for who asks for `supervisor`; `None` for other names.
#[must_use]
pub fn explain_policies(name: &str) -> Option<String> {
    let prefix = format!("{name}.");
    let known = POLICY_PREFIXES.contains(&prefix.as_str());
    known.then(|| POLICY_KEYS.iter().map(explain_policy).collect())
}

/// One key of a chaos plan, or all of them, for who asks for `chaos.rate` or `chaos`; `None` for
/// other names.
#[must_use]
pub fn explain_chaos(name: &str) -> Option<String> {
    let wanted = name.strip_prefix(CHAOS)?;
    let asked = |key: &&PlanKey| match wanted.strip_prefix('.') {
        None => wanted.is_empty(),
        Some(wanted) => glob_matches(key.name, wanted) || key.name == wanted,
    };
    let text: String = PLAN_KEYS
        .iter()
        .filter(asked)
        .map(|key| {
            format!(
                "{CHAOS}.{}\n  {}\n  value:    {}\n  default:  {}\n  file:     a chaos plan, \
                 such as config/chaos/live.toml\n",
                key.name,
                key.doc,
                form_label(key),
                key.default
            )
        })
        .collect();
    (!text.is_empty()).then_some(text)
}

/// What a key of a plan holds, in words.
fn form_label(key: &PlanKey) -> String {
    match key.name {
        "protect" => "a list of texts".to_owned(),
        "faults" | "kinds" => format!("a table of weights, each {}", key.form.label()),
        _ => key.form.label(),
    }
}

/// The JSON schema of a chaos plan.
#[must_use]
pub fn chaos_schema() -> Json {
    let (mut own, mut fault) = (Map::new(), Map::new());
    for key in PLAN_KEYS {
        let schema = form_schema(key.form, key.doc);
        match (key.name, key.name.strip_prefix("faults.*.")) {
            (_, Some(name)) => drop(fault.insert(name.to_owned(), schema)),
            ("protect", _) => {
                let list = json!({
                    "type": "array", "items": { "type": "string" }, "description": key.doc,
                });
                own.insert(key.name.to_owned(), list);
            }
            ("faults", _) => {}
            ("kinds", _) => {
                let kinds = json!({ "type": "object", "additionalProperties": schema });
                own.insert(key.name.to_owned(), kinds);
            }
            _ => drop(own.insert(key.name.to_owned(), schema)),
        }
    }
    let weight = fault.get("weight").cloned().unwrap_or_default();
    let one = json!({ "anyOf": [weight, object(fault)] });
    let faults = chaos::fault::FAULTS.iter();
    let faults = faults.map(|entry| (entry.name.to_owned(), one.clone()));
    own.insert("faults".to_owned(), object(faults.collect()));
    root("actorsim chaos plan", own)
}

/// Names of all keys, also those of policies and plans, for who asks for one that is not there.
pub fn names() -> impl Iterator<Item = String> {
    let policies = POLICY_KEYS.iter();
    let policies = policies.map(|key| format!("supervisor.{}", key.name));
    let keys = key::KEYS.iter().map(|key| key.name.to_owned());
    let plans = PLAN_KEYS.iter().map(|key| format!("{CHAOS}.{}", key.name));
    keys.chain(policies).chain(plans)
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
            page.push_str(&policy_reference());
        }
    }
    page
}

/// The keys of policies, for the reference page.
fn policy_reference() -> String {
    let mut page = String::from(
        "\n`[[supervision.supervisor]]` tables in a node file, and `[[supervisor]]` tables in the \
         files of `supervision.policies`, are policies\nas in `config/supervision/default.toml`. \
         `attach -c 'policy set PATH KEY=VALUE'` changes one while the node runs.\n\n\
         | key | value | default | meaning |\n|---|---|---|---|\n",
    );
    for key in POLICY_KEYS {
        let (name, kind) = (key.name, key.form.label());
        let _ = writeln!(
            page,
            "| `{name}` | {kind} | {} | {} |",
            key.default, key.doc
        );
    }
    page
}

/// The JSON schema of a policy file.
#[must_use]
pub fn policy_schema() -> Json {
    let table = json!({ "type": "array", "items": policy_table() });
    let mut keys = Map::new();
    keys.insert(key::POLICY_TABLE.1.to_owned(), table);
    root("actorsim supervision policies", keys)
}

/// One `[[supervisor]]` table.
fn policy_table() -> Json {
    let (mut own, mut child) = (Map::new(), Map::new());
    for key in POLICY_KEYS {
        match key.name.strip_prefix("child.") {
            Some(name) => insert(&mut child, name, form_schema(key.form, key.doc)),
            None => insert(&mut own, key.name, form_schema(key.form, key.doc)),
        }
    }
    let mut child = object(child);
    child["required"] = json!(["id"]);
    own.insert(
        "child".to_owned(),
        json!({ "type": "array", "items": child }),
    );
    let mut table = object(own);
    table["anyOf"] = json!([{ "required": ["path"] }, { "required": ["label"] }]);
    table
}

fn form_schema(form: Form, doc: &str) -> Json {
    let mut schema = match form {
        Form::Text | Form::Duration | Form::Shutdown => json!({ "type": "string" }),
        Form::Word(words) => json!({ "enum": words() }),
        Form::Count(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Form::Number(min, max) => json!({ "type": "number", "minimum": min, "maximum": max }),
        Form::Flag => json!({ "type": "boolean" }),
    };
    schema["description"] = Json::from(doc);
    schema
}

fn root(title: &str, keys: Map<String, Json>) -> Json {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "additionalProperties": false,
        "properties": keys,
    })
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
            let tables = json!({ "type": "array", "items": policy_table() });
            keys.insert(key::POLICY_TABLE.1.to_owned(), tables);
        }
        groups.insert(group.to_owned(), object(keys));
    }
    root("actorsim node configuration", groups)
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
