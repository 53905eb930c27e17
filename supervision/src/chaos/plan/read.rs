//! From a TOML table to a plan; what is wrong is noted with its place, and reading goes on.

use std::fmt;
use std::str::FromStr;

use actorsim_actors::ActorPath;

use super::{
    FaultPlan, KINDS_MAX, LATE_MAX, PROTECT_MAX, Plan, TIME_MAX, TIMES_MAX, WAYS, WEIGHT_MAX,
};
use crate::chaos::fault::{FAULTS, Fault, Place};
use crate::chaos::schedule::MAX_CONCURRENT;
use crate::config::reader::Section;

pub(super) fn plan(root: &mut Section<'_, '_>, place: Place) -> Plan {
    let base = Plan::default();
    let plan = Plan {
        seed: root
            .integer("seed", 0..=i64::MAX as u64)
            .unwrap_or(base.seed),
        rate: parsed(root, "rate").unwrap_or(base.rate),
        scope: pattern(root, "scope").unwrap_or(base.scope),
        run_for: root.duration("for", TIME_MAX),
        max_concurrent: root
            .integer("max_concurrent", 1..=u64::from(MAX_CONCURRENT))
            .map_or(base.max_concurrent, |n| n as u32),
        blast_radius: root
            .number("blast_radius", 0.0..=1.0)
            .unwrap_or(base.blast_radius),
        stop_if: parsed(root, "stop_if"),
        lease: root.duration("lease", TIME_MAX).unwrap_or(base.lease),
        protect: protect(root),
        swarm: root.boolean("swarm").unwrap_or(base.swarm),
        faults: faults(root, place).unwrap_or(base.faults),
        kinds: kinds(root),
    };
    if plan.stop_if.is_some() && place == Place::Sim {
        let message = format!("stop_if cannot act in {place}");
        root.wrong(
            "stop_if",
            message,
            "a simulated plan runs to its end: leave it out",
        );
    }
    let several = plan
        .faults
        .iter()
        .find(|one| one.weight > 0 && one.fault.hits_several());
    if let (Some(several), 1) = (several, plan.max_concurrent) {
        let message = format!("{} strikes two at once, max_concurrent is 1", several.fault);
        let key = if root.has("max_concurrent") {
            "max_concurrent"
        } else {
            "faults"
        };
        root.wrong(key, message, "write max_concurrent = 2, or more");
    }
    for (key, time) in [("for", plan.run_for), ("lease", Some(plan.lease))] {
        if time.is_some_and(|time| time.is_zero()) {
            root.wrong(
                key,
                format!("{key} is no time"),
                "use a duration such as \"10s\"",
            );
        }
    }
    plan
}

/// A text that is parsed by its type, whose error says what to do.
fn parsed<T: FromStr>(root: &mut Section<'_, '_>, key: &'static str) -> Option<T>
where
    T::Err: fmt::Display,
{
    let (text, span) = root.text(key)?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            let told = error.to_string();
            let (message, help) = told.split_once("; ").unwrap_or((&told, ""));
            root.wrong_at(span, message, help);
            None
        }
    }
}

const PATTERN_HELP: &str = "a path begins with '/'; '*' stands for any text, '?' for one character";

fn pattern(root: &mut Section<'_, '_>, key: &'static str) -> Option<String> {
    let (text, span) = root.text(key)?;
    match ActorPath::new(&text.replace(['*', '?'], "x")) {
        Ok(_) => Some(text),
        Err(error) => {
            root.wrong_at(span, error.to_string(), PATTERN_HELP);
            None
        }
    }
}

fn protect(root: &mut Section<'_, '_>) -> Vec<String> {
    let mut patterns = Vec::new();
    for (text, span) in root.texts("protect", PROTECT_MAX) {
        match ActorPath::new(&text.replace(['*', '?'], "x")) {
            Ok(_) => patterns.push(text),
            Err(error) => root.wrong_at(span, error.to_string(), PATTERN_HELP),
        }
    }
    patterns
}

fn faults(root: &mut Section<'_, '_>, place: Place) -> Option<Vec<FaultPlan>> {
    let mut section = root.section("faults")?;
    let mut faults = Vec::new();
    for entry in &FAULTS {
        if !section.has(entry.name) {
            continue;
        }
        let fault = fault_plan(&mut section, entry.fault);
        if let Some(why) = entry.why_not(place) {
            let message = format!("{} cannot act in {place}", entry.name);
            section.wrong(entry.name, message, why);
        }
        faults.extend(fault);
    }
    if !faults.is_empty() && faults.iter().all(|fault| fault.weight == 0) {
        let help = "give one fault a weight of at least 1";
        root.wrong("faults", "no fault can happen: every weight is 0", help);
    } else if section.is_empty() {
        root.wrong("faults", "no fault can happen", "add one, such as kill = 1");
    }
    // The names of faults are the keys that are known here.
    for entry in &FAULTS {
        section.know(entry.name);
    }
    section.finish();
    Some(faults)
}

/// `kill = 3`, or a table.
fn fault_plan(faults: &mut Section<'_, '_>, fault: Fault) -> Option<FaultPlan> {
    let base = FaultPlan::new(fault);
    let name = fault.name();
    if !faults.is_table(name) {
        let weight = faults.integer(name, 0..=WEIGHT_MAX)?;
        return Some(FaultPlan { weight, ..base });
    }
    let mut table = faults.section(name)?;
    let mut plan = FaultPlan {
        weight: table
            .integer("weight", 0..=WEIGHT_MAX)
            .unwrap_or(base.weight),
        ..base
    };
    if fault.lasts() {
        plan.lasts = table.duration("for", TIME_MAX).unwrap_or(base.lasts);
        if plan.lasts.is_zero() {
            table.wrong("for", "for is no time", "use a duration such as \"2s\"");
        }
    }
    if fault.has_share() {
        plan.share = table.number("share", 0.0..=1.0).unwrap_or(base.share);
    }
    if fault.has_delay() {
        let max = if fault.hits_link() {
            LATE_MAX
        } else {
            TIME_MAX
        };
        plan.delay = table.duration("delay", max).unwrap_or(base.delay);
    }
    if fault == Fault::ClockJump {
        plan.by = table.duration("by", TIME_MAX).unwrap_or(base.by);
    }
    if fault == Fault::StartFails {
        let times = table.integer("times", 1..=TIMES_MAX);
        plan.times = times.map_or(base.times, |n| n as u32);
    }
    if fault.has_way() {
        plan.way = table.choice("way", &WAYS).unwrap_or(base.way);
    }
    table.finish();
    Some(plan)
}

fn kinds(root: &mut Section<'_, '_>) -> Vec<(String, u64)> {
    let Some(mut section) = root.section("kinds") else {
        return Vec::new();
    };
    section.integers(0..=WEIGHT_MAX, KINDS_MAX)
}
