//! Devices from a prompt: counted, started, changed, stopped.
//!
//! The same for a running node and for a simulation; what a population is made from is theirs.
//! Bound: those of the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;

use actorsim_actors::System;
use actorsim_actors::events::Level;
use actorsim_fleet::profile::parse_duration;
use actorsim_fleet::{Fleet, Population, Profile, Selector};
use actorsim_supervision::{ConfigError, Policies};
use actorsim_world::report::TypeReport;
use serde_json::{Map, Value as Json, json};

use crate::attach::control::Joining;
use crate::attach::protocol::{Code, Refusal};

/// A system and its fleet.
type Ground<'a> = (&'a System, &'a Fleet);

/// A command that is wrong as it was given.
pub(crate) fn usage(message: String) -> Refusal {
    Refusal::new(Code::Usage, message)
}

fn selector(text: &str) -> Result<Selector, Refusal> {
    Selector::parse(text).map_err(|wrong| usage(format!("nothing was done: {}", wrong.join("; "))))
}

fn nobody(message: String) -> Refusal {
    Refusal::new(Code::NotFound, message)
}

/// The devices by population, and all together.
pub(crate) fn show((system, fleet): Ground<'_>) -> Json {
    let counts = fleet.counts();
    let mut starting = 0;
    let mut rows = Vec::new();
    for one in fleet.populations() {
        let slabs = one.slabs;
        starting += slabs.starting;
        rows.push(json!({
            "population": one.path, "type": *one.device_type, "protocol": one.protocol.name(),
            "devices": one.wanted, "running": slabs.running, "starting": slabs.starting,
            "restarting": slabs.restarting, "quarantined": slabs.quarantined,
            "restarts": slabs.restarts,
        }));
    }
    let faults = fleet.faults();
    let kinds = faults.kinds().filter(|(_, injected, _)| *injected > 0);
    let faults: Map<String, Json> = kinds
        .map(|(kind, injected, active)| {
            (
                kind.to_owned(),
                json!({ "injected": injected, "active": active }),
            )
        })
        .collect();
    let published = published(fleet);
    let total = json!({
        "requested": counts.requested, "running": counts.running, "starting": starting,
        "restarts": counts.restarts, "quarantined": counts.quarantined,
        "sim_s": system.clock().now().0 as f64 * 1e-9, "speed": system.clock().speed(),
        "unix_s": system.clock().unix_us() as f64 * 1e-6,
        "counted": fleet.tally(), "faults": faults, "published": published,
    });
    json!({ "rows": rows, "total": total })
}

/// What has gone to brokers, over all protocols; null where nothing goes there.
fn published(fleet: &Fleet) -> Json {
    let mut all = fleet.published().into_iter();
    let Some(mut sum) = all.next() else {
        return Json::Null;
    };
    for other in all {
        sum.devices += other.devices;
        sum.counts += &other.counts;
    }
    let counts = sum.counts;
    json!({
        "sessions": sum.devices, "connected": counts.connected, "connects": counts.connects,
        "sent": counts.sent, "acked": counts.acked, "refused": counts.refused,
        "dropped": counts.dropped, "errors": counts.errors,
    })
}

/// What the twin knows of its sensors, by type.
pub(crate) fn add_world(shown: &mut Json, types: &BTreeMap<&'static str, TypeReport>) {
    shown["total"]["world"] = json!(types);
}

/// What is wrong with a file, without its lines: who may name one may not read all of them.
pub(crate) fn in_words(errors: &[ConfigError]) -> String {
    let words: Vec<_> = errors.iter().map(ToString::to_string).collect();
    words.join("\n")
}

/// A population as it was asked for, without a way to a broker.
///
/// # Errors
/// Everything that is wrong, in words.
pub(crate) fn population(
    fleet: &Fleet,
    joining: &Joining,
    seed: u64,
) -> Result<Population, String> {
    let loaded = Profile::load(&joining.profile).map_err(|errors| in_words(&errors))?;
    let profile = loaded.profile.labelled(&joining.labels)?;
    let count = u32::try_from(joining.count).unwrap_or(u32::MAX);
    let wanted = joining.name.as_deref().unwrap_or(&profile.device_type);
    let name = match &joining.name {
        Some(name) => name.clone(),
        None => fleet.free_name(wanted),
    };
    let seed = joining.seed.filter(|seed| *seed != 0).unwrap_or(seed);
    let mut population = Population::new(name, Arc::new(profile), count, seed);
    let interval = joining.interval.as_deref().map(parse_duration);
    population.interval = interval.transpose()?;
    Ok(population)
}

/// Starts devices.
pub(crate) fn spawn(
    (system, fleet): Ground<'_>,
    joining: &Joining,
    population: Population,
    policies: &Policies,
) -> Result<Json, Refusal> {
    let spawned = fleet.spawn(population, policies);
    let spawned = spawned.map_err(|error| Refusal::new(Code::Refused, error.to_string()))?;
    let text = format!("{} devices of {}", spawned.count, joining.profile);
    system
        .events()
        .publish(Level::Info, "spawned", Some(&spawned.population), text);
    Ok(json!(spawned))
}

/// Gives devices other generators.
pub(crate) async fn update(
    (system, fleet): Ground<'_>,
    whom: &str,
    fields: &str,
) -> Result<Json, Refusal> {
    let selector = selector(whom)?;
    let updated = fleet.update(&selector, fields).await.map_err(nobody)?;
    let text = format!("{} devices ({whom}): {fields}", updated.selected);
    system.events().publish(Level::Info, "updated", None, text);
    Ok(json!(updated))
}

/// Stops devices for good.
pub(crate) async fn retire((_, fleet): Ground<'_>, whom: &str, now: bool) -> Result<Json, Refusal> {
    let selector = selector(whom)?;
    let stopped = fleet.stop_where(&selector, !now).await.map_err(nobody)?;
    Ok(json!(stopped))
}
