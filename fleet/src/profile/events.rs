//! Threshold rules: `events: [{field: presence, below: 1.0, hysteresis: 0.5}]`.
//!
//! It reads them; devices apply them. Bound: [`EVENTS_MAX`].

use super::findings::{Findings, Section};
use super::tree::{Node, Value};
use super::{EVENTS_MAX, Field, Side, Threshold};

pub(super) fn read(node: &Node, fields: &[Field], findings: &mut Findings<'_>) -> Vec<Threshold> {
    let Value::List(nodes) = &node.value else {
        findings.wrong_type("events", node, "a list of thresholds");
        return Vec::new();
    };
    if nodes.len() > EVENTS_MAX {
        let message = format!("{} thresholds; at most {EVENTS_MAX}", nodes.len());
        findings.error(node.at, message, "leave some out");
    }
    nodes
        .iter()
        .filter_map(|node| threshold(node, fields, findings))
        .collect()
}

fn threshold(node: &Node, fields: &[Field], findings: &mut Findings<'_>) -> Option<Threshold> {
    let mut section = Section::of("a threshold", node, findings)?;
    let field = match section
        .need("field", findings)
        .map(|node| (&node.value, node))
    {
        Some((Value::Text(name), node)) => field_index(name, node, fields, findings),
        Some((_, node)) => {
            findings.wrong_type("field", node, "the name of a field");
            None
        }
        None => None,
    };
    let below = section.number("below", findings);
    let above = section.number("above", findings);
    let hysteresis = section.scale("hysteresis", false, findings);
    let at = section.at;
    section.finish(findings);
    let (side, limit) = match (below, above) {
        (Some((limit, _)), None) => (Side::Below, limit),
        (None, Some((limit, _))) => (Side::Above, limit),
        _ => {
            let help = "one rule has one side; write two rules for a band";
            let message = "a threshold needs either `below` or `above`";
            findings.error(at, message, help);
            return None;
        }
    };
    Some(Threshold {
        field: field?,
        side,
        limit,
        hysteresis,
    })
}

fn field_index(
    name: &str,
    node: &Node,
    fields: &[Field],
    findings: &mut Findings<'_>,
) -> Option<u16> {
    let Some(at) = fields.iter().position(|field| field.name == name) else {
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        let help = format!("fields: {}", names.join(", "));
        findings.error(node.at, format!("there is no field `{name}`"), help);
        return None;
    };
    if fields[at].sensor.is_none() {
        let help = "give the field a `sensor` type: events travel on tier T2";
        let message = format!("field `{name}` has no sensor type");
        findings.error(node.at, message, help);
    }
    Some(at as u16)
}
