//! Census rows and events as JSON, as the answers of the control plane hold them.
//!
//! It asks nothing. Bound: one object a row.

use std::collections::BTreeMap;
use std::time::Duration;

use actorsim_actors::ActorPath;
use actorsim_actors::census::ActorRow;
use actorsim_actors::events::Event;
use serde_json::{Map, Value as Json, json};

use crate::status::grouped;

pub(super) fn actor_row(row: &ActorRow) -> Map<String, Json> {
    let mut map = Map::new();
    map.insert("path".into(), json!(row.path));
    map.insert("host".into(), row.host.into());
    map.insert("state".into(), row.state.into());
    map.insert("incarnation".into(), row.incarnation.0.into());
    map.insert("depth".into(), row.depth.into());
    map.insert("capacity".into(), row.capacity.into());
    map.insert("handled".into(), row.books.handled.into());
    map.insert("restarts".into(), row.restarts.into());
    map
}

pub(super) fn event_row(event: &Event) -> Json {
    let at = std::time::UNIX_EPOCH + Duration::from_micros(event.at_us);
    json!({
        "id": event.id, "at": humantime::format_rfc3339_millis(at).to_string(),
        "level": event.level, "name": event.name, "path": event.path, "text": event.text,
    })
}

/// Adds every ancestor of every node, down from `below`, so that the tree has no holes.
pub(super) fn add_parents(nodes: &mut BTreeMap<ActorPath, Option<ActorRow>>, below: &ActorPath) {
    let paths: Vec<_> = nodes.keys().cloned().collect();
    for path in paths {
        let mut parent = path.parent();
        while let Some(path) = parent.filter(|path| path.is_within(below)) {
            if nodes.contains_key(&path) {
                break;
            }
            parent = path.parent();
            nodes.insert(path, None);
        }
    }
}

pub(super) fn level(path: &ActorPath) -> usize {
    if path.is_root() {
        0
    } else {
        path.as_str().matches('/').count()
    }
}

pub(super) fn tree_row(
    path: &ActorPath,
    depth: usize,
    row: Option<&ActorRow>,
    fold: Option<(u64, &str)>,
) -> Json {
    let name = if path.is_root() { "/" } else { path.name() };
    let label = match fold {
        Some((count, noun)) => format!("{name} ({} {noun})", grouped(count)),
        None => name.to_owned(),
    };
    json!({
        "path": path, "depth": depth, "name": label,
        "host": row.map(|row| row.host), "state": row.map(|row| row.state),
        "incarnation": row.map(|row| row.incarnation.0),
        "restarts": row.map(|row| row.restarts), "folded": fold.map(|fold| fold.0),
    })
}
