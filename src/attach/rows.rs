//! Census rows and events as JSON, as the answers of the control plane hold them.
//!
//! It asks nothing. Bound: one object a row.

use std::collections::BTreeMap;
use std::time::Duration;

use actorsim_actors::ActorPath;
use actorsim_actors::census::ActorRow;
use actorsim_actors::events::Event;
use actorsim_actors::shard::ShardStats;
use actorsim_supervision::CrashReport;
use serde_json::{Map, Value as Json, json};

use crate::status::grouped;

pub(crate) fn actor_row(row: &ActorRow) -> Map<String, Json> {
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

/// The last crash of an actor: of the former incarnation, or of the one that is down.
pub(super) fn crash_record(crash: &CrashReport) -> Json {
    let kinds: Vec<_> = crash.last_kinds.iter().collect();
    json!({
        "at": stamp(crash.at_us), "incarnation": crash.incarnation,
        "reason": crash.reason.to_string(), "last_messages": kinds, "depth": crash.depth,
        "plan": crash.plan.to_string(), "supervisor": crash.supervisor,
        "count": crash.count, "first": stamp(crash.first_us),
    })
}

fn stamp(at_us: u64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_micros(at_us);
    humantime::format_rfc3339_millis(at).to_string()
}

pub(crate) fn event_row(event: &Event) -> Json {
    json!({
        "id": event.id, "at": stamp(event.at_us),
        "level": event.level, "name": event.name, "path": event.path, "text": event.text,
    })
}

/// A shard between two moments that are `time` apart; lateness of the timers of that time, or of
/// all if there were none.
pub(super) fn shard_row(before: &ShardStats, after: &ShardStats, time: Duration) -> Json {
    let seconds = time.as_secs_f64();
    let rate = |count: fn(&ShardStats) -> u64| {
        let more = count(after).saturating_sub(count(before));
        (seconds > 0.0).then(|| (more as f64 / seconds).round() as u64)
    };
    let recent = after.lateness.since(&before.lateness);
    let lateness = match recent.count() {
        0 => after.lateness,
        _ => recent,
    };
    let us = |share| lateness.quantile_ns(share).map(|ns| ns / 1_000);
    let busy = rate(|stats| stats.busy_ns).map(|ns| (ns as f64 / 1e6).round() / 1e3);
    json!({
        "shard": after.index, "incarnation": after.incarnation, "core": after.core,
        "ring": after.ring,
        "slabs": after.slabs, "busy": busy,
        "steps_s": rate(|stats| stats.steps),
        "messages_s": rate(|stats| stats.messages),
        "branches_s": rate(|stats| stats.branches),
        "timers_s": rate(|stats| stats.timers_fired),
        "late_p50_us": us(0.5), "late_p99_us": us(0.99), "late_max_us": us(1.0),
        "ticks_missed": after.ticks_missed, "migrations": after.migrations_in,
        "doorbells_s": rate(|stats| stats.rings),
        "merged_s": rate(|stats| stats.rings_merged),
        "sent_s": rate(|stats| stats.doorbells),
        "submissions_s": rate(|stats| stats.submissions),
        "enters_s": rate(|stats| stats.enters),
        "retries": after.retries,
        "sleeps_s": rate(|stats| stats.waits),
        "looks_s": rate(|stats| stats.looks),
        "answered_s": rate(|stats| stats.looks_answered),
        "sockets": after.net.alive(),
        "bytes_in_s": rate(|stats| stats.net.bytes_in),
        "bytes_out_s": rate(|stats| stats.net.bytes_out),
        "net": after.net,
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
