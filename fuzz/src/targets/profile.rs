//! Profiles in YAML and TOML: read, or every mistake said with its place. What was read can be run:
//! its generators draw, its samples are written, its topic is filled.

use std::time::Duration;

use actorsim_fleet::Profile;
use actorsim_fleet::payload::{Encoder, Sample};
use actorsim_fleet::profile::FIELDS_MAX;
use actorsim_fleet::program::Program;
use actorsim_fleet::session::template::{Template, TemplateError};

use super::Target;
use super::text::{inputs, placed, text};
use crate::script::Steps;

pub(crate) const TARGET: Target = Target {
    name: "profile",
    about: "profiles in YAML and TOML, and their generators",
    run,
    seeds,
    words: &[
        "type: pump\n",
        "telemetry_fields:\n",
        "  load: {type: gaussian, mean: 20, stddev: 1}\n",
        "type: brownian",
        "type: diurnal",
        "type: markov",
        "type: composite",
        "type: follow",
        "type: replay",
        "sensor: voltage",
        "events:",
        "telemetry_interval: 5s\n",
        "protocol: mqtt\n",
        "topic_template: a/{device_id}\n",
        "payload: template",
        "{device_id}",
        "&a ",
        "*a",
        "<<: *a",
    ],
    len_max: 4_096,
    heap_max: 32 << 20,
};

/// A folder that is not there: no file of this machine is read.
const FILE: &str = "/nowhere/at/all/p.toml";
const DRAWS: u64 = 8;

fn seeds() -> Vec<Vec<u8>> {
    let yaml = inputs(&[
        include_str!("../../../config/profiles/industrial.yaml"),
        include_str!("../../../config/profiles/factory_mqtt.yaml"),
        include_str!("../../../config/profiles/lock.yaml"),
        include_str!("../../../config/profiles/single.yaml"),
        "a: &a [1, 2]\nb: *a\ntype: [x\n",
        "type: pump\ntelemetry_fields:\n  a: {type: follow, field: b}\n  b: {type: follow, \
         field: a}\n",
        "type: pump\ntelemetry_fields:\n  a: {type: composite, parts: [{type: static, value: 1}, \
         {type: gaussian, mean: 1e308, stddev: 1e308}]}\n",
    ]);
    let toml = inputs(&[
        "type = \"pump\"\nprotocol = \"mqtt\"\n[telemetry_fields.load]\ntype = \"gaussian\"\nmean \
         = 1\nstddev = 2\n",
        "type = \"pump\"\n[telemetry_fields.on]\ntype = \"markov\"\nstates = [\"a\", \
         \"b\"]\ntransition_matrix = [[0.5, 0.5], [1, 0]]\n",
    ]);
    let yaml = yaml.iter().map(|text| Steps::new().byte(0).rest(text));
    yaml.chain(toml.iter().map(|text| Steps::new().byte(1).rest(text)))
        .collect()
}

fn run(input: &[u8]) {
    let Some((kind, text)) = input
        .split_first()
        .and_then(|(kind, rest)| Some((kind, text(rest)?)))
    else {
        return;
    };
    let read = match kind % 2 {
        0 => Profile::parse_alone("p.yaml", text),
        _ => Profile::parse(FILE, text),
    };
    match read {
        Err(errors) => placed(&errors, text),
        Ok(loaded) => runs(&loaded.profile),
    }
}

fn runs(profile: &Profile) {
    assert!(profile.fields.len() <= FIELDS_MAX);
    let id = profile.device_id(17);
    let topic = Template::parse(
        &profile.topic_template,
        &profile.device_type,
        &profile.labels,
    );
    match topic {
        Ok(topic) => assert!(!topic.fill(&id).is_empty()),
        // it may come with the devices
        Err(TemplateError::Unknown { name, .. }) => assert!(name.starts_with("labels.")),
        Err(error) => panic!("a profile that is read has a topic: {error}"),
    }
    let Ok(program) = Program::new(profile, Some(Duration::from_millis(700))) else {
        return;
    };
    let mut state = vec![0.0; program.slots()];
    program.reset(&mut state);
    program.reset_series(&mut state);
    let encoders = [Encoder::new(profile), Encoder::lines(profile)];
    let mut values = [0.0; FIELDS_MAX];
    for number in 0..DRAWS {
        let unix_us = 1_700_000_000_000_000 + number * 700_000;
        program.draw(7, number, unix_us, &mut state, &mut values);
        let sample = Sample {
            device_id: &id,
            unix_us,
            sequence: number as u32,
            values: &values,
        };
        for encoder in &encoders {
            let mut bytes = Vec::new();
            encoder.write(&sample, &mut bytes);
            if encoder.is_json() {
                let read = serde_json::from_slice::<serde_json::Value>(&bytes);
                assert!(read.is_ok(), "no JSON: {}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}
