//! Answers of commands as values of the language, and the other way round.
//!
//! Bounds: that of an answer; [`DEPTH_MAX`].

use rhai::{Dynamic, Map as Fields};
use serde_json::{Map, Value as Json};

use super::limits::DEPTH_MAX;

/// An answer as a value.
pub fn from_json(json: Json) -> Dynamic {
    match json {
        Json::Null => Dynamic::UNIT,
        Json::Bool(on) => on.into(),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.into(),
        Json::Array(items) => items
            .into_iter()
            .map(from_json)
            .collect::<rhai::Array>()
            .into(),
        Json::Object(entries) => fields(entries).into(),
    }
}

/// An object as a map.
#[must_use]
pub fn fields(entries: Map<String, Json>) -> Fields {
    let entry = |(key, value): (String, Json)| (key.into(), from_json(value));
    entries.into_iter().map(entry).collect()
}

/// A value as JSON.
///
/// # Errors
/// What it is instead, or that it is nested too deep.
pub fn to_json(value: &Dynamic) -> Result<Json, String> {
    to_depth(value, DEPTH_MAX)
}

fn to_depth(value: &Dynamic, depth: usize) -> Result<Json, String> {
    let below = |value| match depth.checked_sub(1) {
        Some(depth) => to_depth(value, depth),
        None => Err(format!("a value is nested more than {DEPTH_MAX} deep")),
    };
    if value.is_unit() {
        return Ok(Json::Null);
    }
    if let Ok(on) = value.as_bool() {
        return Ok(on.into());
    }
    if let Ok(whole) = value.as_int() {
        return Ok(whole.into());
    }
    if let Ok(number) = value.as_float() {
        return Ok(number.into());
    }
    if let Some(items) = value.read_lock::<rhai::Array>() {
        return items
            .iter()
            .map(below)
            .collect::<Result<Vec<_>, _>>()
            .map(Json::from);
    }
    if let Some(entries) = value.read_lock::<Fields>() {
        let mut object = Map::new();
        for (key, value) in entries.iter() {
            object.insert(key.to_string(), below(value)?);
        }
        return Ok(Json::Object(object));
    }
    match value.clone().into_immutable_string() {
        Ok(text) => Ok(Json::from(text.as_str())),
        Err(kind) => Err(format!("a number, a text, a list or a map, not {kind}")),
    }
}

/// A value as the text of a parameter: `250`, `2.5`, `30s`.
#[must_use]
pub fn text(value: &Dynamic) -> String {
    value.to_string()
}
