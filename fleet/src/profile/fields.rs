//! `telemetry_fields`: each field's generator, sensor type, actuator and gate.
//!
//! Fields may name one another (`follow`, `gated_by`); names are resolved here, and circles are
//! errors. Bounds: [`FIELDS_MAX`], [`ACTUATORS_MAX`].

use std::path::Path;
use std::time::Duration;

use actorsim_transport::SensorType;

use super::findings::{Findings, Section};
use super::generators::{self, Names};
use super::tree::{Node, Place, Value};
use super::{ACTUATORS_MAX, FIELDS_MAX, Field, Gate};
use crate::generator::Generator;

/// Sensor types by the names that profiles use: the type's own, or the last word of a field.
const SENSORS: [(&str, SensorType); 7] = [
    ("Temperature", SensorType::Temperature),
    ("Humidity", SensorType::Humidity),
    ("Pressure", SensorType::Pressure),
    ("Voltage", SensorType::Voltage),
    ("Current", SensorType::Current),
    ("Presence", SensorType::Presence),
    ("Relay", SensorType::Relay),
];

/// How deep fields may follow one another.
const FOLLOW_DEPTH_MAX: usize = FIELDS_MAX;

pub(super) fn read(
    node: &Node,
    interval: Duration,
    folder: Option<&Path>,
    findings: &mut Findings<'_>,
) -> Vec<Field> {
    let Some(section) = Section::of("`telemetry_fields`", node, findings) else {
        return Vec::new();
    };
    let entries = section.entries();
    if entries.len() > FIELDS_MAX {
        let message = format!("{} fields; at most {FIELDS_MAX}", entries.len());
        findings.error(
            node.at,
            message,
            "leave some out, or make two profiles of it",
        );
    }
    let names = Names {
        fields: entries.iter().map(|(key, _)| key.text.as_str()).collect(),
        interval,
        folder,
    };
    let fields: Vec<Field> = entries
        .iter()
        .map(|(key, node)| field(&key.text, node, &names, findings))
        .collect();
    let places: Vec<Place> = entries.iter().map(|(key, _)| key.at).collect();
    relations(&fields, &places, findings);
    fields
}

fn field(name: &str, node: &Node, names: &Names<'_>, findings: &mut Findings<'_>) -> Field {
    let mut field = Field {
        name: name.to_owned(),
        generator: Generator::Static(serde_json::Value::Null),
        sensor: None,
        actuator: false,
        gate: None,
    };
    let owner = format!("field `{name}`");
    let Some(mut section) = Section::of(&owner, node, findings) else {
        return field;
    };
    let named = section.choice("sensor", &SENSORS, findings);
    let actuator = section.choice_bool("actuator", findings);
    field.gate = gate(&mut section, names, findings);
    if let Some(generator) = generators::read(&mut section, names, 0, findings) {
        if named.is_some() && !generator.numeric() {
            let help = "the QUIC tiers carry numbers only; use numbers, or leave `sensor` out";
            let message = format!("{owner} is a sensor, so its values must be numbers");
            findings.error(node.at, message, help);
        }
        // A type that only its name suggests is no promise that its values are numbers.
        let suggested = sensor_of(name).filter(|_| generator.numeric());
        field.sensor = named.or(suggested);
        field.generator = generator;
    }
    let relay = field.sensor == Some(SensorType::Relay);
    let fixed = matches!(field.generator, Generator::Static(_));
    field.actuator = actuator.unwrap_or(relay && fixed);
    section.finish(findings);
    field
}

fn gate(section: &mut Section<'_>, names: &Names<'_>, findings: &mut Findings<'_>) -> Option<Gate> {
    let by = section.text("gated_by", findings);
    let off = section.number("off", findings);
    let Some((name, at)) = by else {
        if let Some((_, at)) = off {
            let message = "`off` says nothing without `gated_by`";
            findings.error(at, message, "add `gated_by: ACTUATOR`, or leave `off` out");
        }
        return None;
    };
    let field = names.index(name, at, findings)?;
    Some(Gate {
        field,
        off: off.map_or(0.0, |(off, _)| off),
    })
}

/// What can be said only when all fields are known.
pub(super) fn relations(fields: &[Field], places: &[Place], findings: &mut Findings<'_>) {
    for (at, field) in fields.iter().enumerate() {
        let gated_by = field
            .gate
            .and_then(|gate| fields.get(usize::from(gate.field)));
        if let Some(other) = gated_by.filter(|other| !other.actuator) {
            let help = format!("add `actuator: true` to `{}`", other.name);
            let message = format!(
                "`{}` is gated by `{}`, which is no actuator",
                field.name, other.name
            );
            findings.error(places[at], message, help);
        }
        if field.actuator && !matches!(field.generator, Generator::Static(_)) {
            let message = format!("actuator `{}` must be a static generator", field.name);
            let help = "its value is the setpoint before the first command";
            findings.error(places[at], message, help);
        }
        if field.actuator && field.sensor.is_none() {
            let message = format!("actuator `{}` has no sensor type", field.name);
            findings.error(places[at], message, "add `sensor: Relay`");
        }
        if follows_itself(fields, at) {
            let message = format!("field `{}` follows itself", field.name);
            findings.error(
                places[at],
                message,
                "let one of the circle follow no other field",
            );
        }
    }
    let actuators = fields.iter().filter(|field| field.actuator).count();
    if actuators > ACTUATORS_MAX {
        let message = format!("{actuators} actuators; at most {ACTUATORS_MAX}");
        findings.error(
            places[0],
            message,
            "set `actuator: false` where commands need not reach",
        );
    }
}

/// Walks what a field follows; a field met again after more steps than fields is a circle.
fn follows_itself(fields: &[Field], start: usize) -> bool {
    let mut seen = vec![false; fields.len()];
    let mut open = vec![start];
    for _ in 0..FOLLOW_DEPTH_MAX * FOLLOW_DEPTH_MAX {
        let Some(at) = open.pop() else { return false };
        for next in fields[at].generator.followed() {
            if usize::from(next) == start {
                return true;
            }
            if let Some(seen) = seen.get_mut(usize::from(next)).filter(|seen| !**seen) {
                *seen = true;
                open.push(usize::from(next));
            }
        }
    }
    false
}

/// `voltage` and `motor_voltage` are voltages.
fn sensor_of(name: &str) -> Option<SensorType> {
    let last = name.rsplit(['_', '-', '.', ' ']).next()?;
    SENSORS
        .iter()
        .find(|(sensor, _)| sensor.eq_ignore_ascii_case(last))
        .map(|(_, kind)| *kind)
}

impl Section<'_> {
    fn choice_bool(&mut self, key: &'static str, findings: &mut Findings<'_>) -> Option<bool> {
        let node = self.take(key)?;
        let Value::Bool(on) = node.value else {
            findings.wrong_type(key, node, "true or false");
            return None;
        };
        Some(on)
    }
}
