//! A profile with other generators: what `update` gives devices that run.
//!
//! Fields stay what they are, with their sensors and thresholds. Files are not read: a replay
//! belongs to a profile. Bound: that of a profile.

use std::time::Duration;

use super::findings::{Findings, Section};
use super::generators::{self, Names};
use super::tree::{self, Node, Place, Value};
use super::{Profile, fields};

use actorsim_supervision::ConfigError;

impl Profile {
    /// The same with other generators, given as in `telemetry_fields` or as JSON. `file` names the
    /// text in errors.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn changed(&self, file: &str, text: &str) -> Result<Self, Vec<ConfigError>> {
        let mut findings = Findings::new(file, text, true);
        let mut changed = self.clone();
        let root = root(text, &mut findings);
        let section = root
            .as_ref()
            .and_then(|root| Section::of("the fields", root, &mut findings));
        let names = Names {
            fields: self
                .fields
                .iter()
                .map(|field| field.name.as_str())
                .collect(),
            interval: self.interval,
            folder: None,
        };
        let mut places = vec![Place::default(); self.fields.len()];
        let entries = section.iter().flat_map(Section::entries);
        for (key, node) in entries {
            let Some(at) = names.index(&key.text, key.at, &mut findings) else {
                continue;
            };
            let field = &mut changed.fields[usize::from(at)];
            places[usize::from(at)] = key.at;
            if field.actuator {
                let message = format!("`{}` is an actuator: a command sets it", key.text);
                findings.error(key.at, message, "leave it out, and send a command");
                continue;
            }
            let owner = format!("field `{}`", key.text);
            let Some(mut section) = Section::of(&owner, node, &mut findings) else {
                continue;
            };
            let Some(generator) = generators::read(&mut section, &names, 0, &mut findings) else {
                continue;
            };
            section.finish(&mut findings);
            if field.sensor.is_some() && !generator.numeric() {
                let message = format!("{owner} is a sensor, so its values must be numbers");
                findings.error(key.at, message, "use numbers as `value` or `states`");
            }
            field.generator = generator;
        }
        fields::relations(&changed.fields, &places, &mut findings);
        match findings.errors.is_empty() {
            true => Ok(changed),
            false => Err(findings.errors),
        }
    }
}

/// Whether generators are right in themselves, whoever they are for: their fields have any names.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn check_generators(file: &str, text: &str) -> Result<(), Vec<ConfigError>> {
    let mut findings = Findings::new(file, text, true);
    let root = root(text, &mut findings);
    let mut names = Names {
        fields: Vec::new(),
        interval: Duration::from_secs(1),
        folder: None,
    };
    if let Some(root) = &root {
        words(root, &mut names.fields);
    }
    let section = root
        .as_ref()
        .and_then(|root| Section::of("the fields", root, &mut findings));
    for (key, node) in section.iter().flat_map(Section::entries) {
        let owner = format!("field `{}`", key.text);
        if let Some(mut section) = Section::of(&owner, node, &mut findings) {
            let _ = generators::read(&mut section, &names, 0, &mut findings);
            section.finish(&mut findings);
        }
    }
    match findings.errors.is_empty() {
        true => Ok(()),
        false => Err(findings.errors),
    }
}

/// The text as a tree, if it is not too long.
fn root(text: &str, findings: &mut Findings<'_>) -> Option<Node> {
    if text.len() > tree::TEXT_BYTES_MAX {
        let message = format!("more than {} bytes", tree::TEXT_BYTES_MAX);
        findings.error(Place::default(), message, "change fewer fields at a time");
        return None;
    }
    tree::yaml(text, findings)
}

/// Every text in a tree: what may be the name of a field.
fn words<'a>(node: &'a Node, into: &mut Vec<&'a str>) {
    match &node.value {
        Value::Text(text) => into.push(text),
        Value::List(nodes) => nodes.iter().for_each(|node| words(node, into)),
        Value::Map(entries) => entries.iter().for_each(|(_, node)| words(node, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl Profile {
    /// The same with these labels, which win over its own.
    ///
    /// # Errors
    /// There are too many.
    pub fn labelled(&self, labels: &[(String, String)]) -> Result<Self, String> {
        let mut profile = self.clone();
        for (name, value) in labels {
            let mut own = profile.labels.iter_mut();
            match own.find(|(own, _)| own == name) {
                Some((_, before)) => before.clone_from(value),
                None => profile.labels.push((name.clone(), value.clone())),
            }
        }
        match profile.labels.len() {
            0..=super::LABELS_MAX => Ok(profile),
            many => Err(format!("{many} labels; at most {}", super::LABELS_MAX)),
        }
    }
}
