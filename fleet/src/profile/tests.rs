//! Bad profiles with everything that must be said about them, and good ones with their meaning.

use super::*;
use crate::generator::{Brownian, Generator};

mod wrong;

use wrong::WRONG;

#[test]
fn everything_wrong_is_said_at_once_with_its_place() {
    let mut failed = String::new();
    assert!(WRONG.len() >= 40, "{}", WRONG.len());
    for (file, text, expected) in WRONG {
        let errors = match Profile::parse(file, text) {
            Ok(_) => Vec::new(),
            Err(errors) => errors,
        };
        let mut left: Vec<_> = errors.iter().collect();
        for (line, column, part) in *expected {
            let found = left.iter().position(|error| {
                (error.line, error.column) == (*line, *column) && error.message.contains(part)
            });
            match found {
                Some(at) => drop(left.remove(at)),
                None => failed += &format!("missing {line}:{column} {part}\n"),
            }
        }
        if let Some(bare) = errors.iter().find(|error| error.help.is_empty()) {
            failed += &format!("no mend: {bare}\n");
        }
        // A credential is also an unknown key of a TOML file: both may be said.
        left.retain(|error| !error.message.contains("unknown key"));
        if !left.is_empty() || errors.is_empty() {
            failed += &format!("{text}\ngave {errors:#?}\n");
        }
    }
    assert!(failed.is_empty(), "{failed}");
}

#[test]
fn an_unknown_key_of_a_yaml_file_is_a_warning_with_its_line() {
    let text = "type: t\ntelemetry_intervall: 1s\ntelemetry_fields:\n  \
                a: {type: gaussian, mean: 1, stddev: 1, color: red}\n";
    let loaded = Profile::parse("a.yaml", text).unwrap();
    let said: Vec<_> = loaded.warnings.iter().map(|w| (w.line, w.column)).collect();
    assert_eq!(said, [(4, 43), (2, 1)]);
    assert!(loaded.warnings[1].help.contains("`telemetry_interval`"));
}

#[test]
fn defaults_are_those_of_the_contract() {
    let profile = Profile::parse("a.yaml", "type: pump\n").unwrap().profile;
    assert_eq!(profile.protocol, Protocol::Console);
    assert_eq!(profile.topic_template, "devices/{device_id}/telemetry");
    assert_eq!(profile.interval, Duration::from_secs(5));
    assert_eq!(profile.backpressure, Backpressure::SlowDown);
    assert_eq!((profile.qos, profile.payload), (1, Payload::Envelope));
    assert_eq!(
        profile.labels,
        [("device_type".to_owned(), "pump".to_owned())]
    );
    assert_eq!(profile.device_id(7), "pump-0007");
    assert_eq!(profile.device_id(1_000_000), "pump-1000000");
}

#[test]
fn the_shipped_profile_of_the_original_simulator_loads_unchanged() {
    let text = "type: temperature_sensor\nprotocol: console\n\
                topic_template: \"devices/{device_id}/telemetry\"\ntelemetry_interval: 5s\n\
                telemetry_fields:\n  temperature:\n    type: gaussian\n    mean: 22.0\n    \
                stddev: 1.0\n  humidity:\n    type: gaussian\n    mean: 55.0\n    stddev: 5.0\n  \
                battery:\n    type: static\n    value: 100.0\nlabels:\n  \
                category: environmental\n  firmware: \"1.2.0\"\n";
    let loaded = Profile::parse("temperature_sensor.yaml", text).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let names: Vec<_> = loaded
        .profile
        .fields
        .iter()
        .map(|field| field.name.as_str())
        .collect();
    assert_eq!(names, ["temperature", "humidity", "battery"]);
    assert_eq!(loaded.profile.sensors().count(), 2);
    assert_eq!(
        loaded.profile.labels[1],
        ("firmware".to_owned(), "1.2.0".to_owned())
    );
}

#[test]
fn what_the_original_simulator_lets_a_profile_leave_out_may_be_left_out() {
    let text = "type: t\ntelemetry_fields:\n  a: {type: brownian, volatility: 0}\n  \
                b: {type: diurnal, baseline: 1, amplitude: 1}\n  \
                c: {type: markov, states: [x, y], transition_matrix: [[0, 1], [1, 0]]}\n";
    let profile = Profile::parse("a.yaml", text).unwrap().profile;
    let [a, b, c] = &profile.fields[..] else {
        panic!("three fields");
    };
    let Generator::Brownian(walk) = &a.generator else {
        panic!("{a:?}");
    };
    assert_eq!((walk.start, walk.mean, walk.drift), (0.0, 0.0, 0.0));
    let Generator::Diurnal { peak_hour, .. } = b.generator else {
        panic!("{b:?}");
    };
    assert_eq!(peak_hour, 0.0);
    let Generator::Markov(chain) = &c.generator else {
        panic!("{c:?}");
    };
    assert_eq!(chain.states()[chain.initial()], "x");
}

#[test]
fn a_walk_without_a_mean_reverts_to_its_start() {
    let text = "type: t\ntelemetry_fields:\n  \
                a: {type: brownian, start: 5, volatility: 0, mean_reversion: 0.1}\n";
    let profile = Profile::parse("a.yaml", text).unwrap().profile;
    let Generator::Brownian(walk) = &profile.fields[0].generator else {
        panic!("{profile:?}");
    };
    assert_eq!((walk.start, walk.mean), (5.0, 5.0));
}

#[test]
fn yaml_and_toml_say_the_same() {
    let yaml = "type: t\ntelemetry_interval: 2s\ntelemetry_fields:\n  \
                zeta: {type: brownian, start: 3, volatility: 1, sensor: Pressure}\n  \
                alpha_voltage: {type: follow, field: zeta, gain: 2, lag: 4s}\n\
                events:\n  - {field: zeta, above: 9, hysteresis: 1}\n";
    let toml = "type = 't'\ntelemetry_interval = '2s'\n[telemetry_fields.zeta]\n\
                type = 'brownian'\nstart = 3\nvolatility = 1.0\nsensor = 'Pressure'\n\
                [telemetry_fields.alpha_voltage]\ntype = 'follow'\nfield = 'zeta'\ngain = 2\n\
                lag = '4s'\n[[events]]\nfield = 'zeta'\nabove = 9.0\nhysteresis = 1\n";
    let yaml = Profile::parse("a.yaml", yaml).unwrap().profile;
    let toml = Profile::parse("a.toml", toml).unwrap().profile;
    assert_eq!(yaml, toml);
    assert_eq!(yaml.fields[1].sensor, Some(SensorType::Voltage));
    let Generator::Brownian(Brownian { mean, .. }) = yaml.fields[0].generator else {
        panic!()
    };
    assert_eq!(mean, 3.0, "a walk without a mean reverts to its start");
    assert!(matches!(
        yaml.fields[1].generator,
        Generator::Follow {
            field: 0,
            samples: 2,
            ..
        }
    ));
}

#[test]
fn every_shipped_profile_loads_without_a_warning() {
    for name in BUILT_IN {
        let loaded = Profile::load(name).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert_eq!(loaded.profile.device_type, name);
    }
    let industrial = Profile::load("industrial").unwrap().profile;
    let sensors: Vec<_> = industrial.sensors().collect();
    let types = SensorType::ALL.iter().copied().enumerate();
    assert_eq!(
        sensors,
        types
            .map(|(id, kind)| (id as u16, kind))
            .collect::<Vec<_>>()
    );
    let error = Profile::load("no/such/profile.yaml").unwrap_err();
    assert!(error[0].help.contains("industrial"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(
        cut in 0..1_500usize,
        len in 0..12usize,
        junk in "[-\\[\\]{}:,&*!|>'\"%@` \n\tä0-9.eE_a-z]{0,12}",
        toml: bool,
    ) {
        let industrial = include_str!("../../../config/profiles/industrial.yaml");
        let chars: Vec<char> = industrial.chars().collect();
        let cut = cut.min(chars.len());
        let end = (cut + len).min(chars.len());
        let mut text: String = chars[..cut].iter().collect();
        text += &junk;
        text.extend(&chars[end..]);
        for text in [text.as_str(), junk.as_str()] {
            let file = if toml { "a.toml" } else { "a.yaml" };
            if let Err(errors) = Profile::parse(file, text) {
                proptest::prop_assert!(!errors.is_empty());
                let _ = actorsim_supervision::config::render_all(&errors);
            }
        }
    }
}

#[test]
fn a_name_like_a_sensor_promises_no_numbers() {
    let text = "type: t\ntelemetry_fields:\n  \
        supply_voltage: {type: markov, states: [low, high], initial_state: low,\n    \
          transition_matrix: [[0.5, 0.5], [0.5, 0.5]]}\n  \
        relay: {type: markov, states: [0, 1], initial_state: 1,\n    \
          transition_matrix: [[0.5, 0.5], [0.5, 0.5]]}\n  \
        pump_relay: {type: static, value: 1}\n  \
        note: {type: static, value: null}\n";
    let fields = Profile::parse("a.yaml", text).unwrap().profile.fields;
    let read: Vec<_> = fields.iter().map(|f| (f.sensor, f.actuator)).collect();
    let relay = Some(SensorType::Relay);
    assert_eq!(
        read,
        [(None, false), (relay, false), (relay, true), (None, false)]
    );
}

#[test]
fn the_example_of_the_reference_page_loads_without_a_warning() {
    let page = include_str!("../../../docs/reference/profiles.md");
    let example = page.split("```yaml\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let loaded = Profile::parse("pump.yaml", example).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.profile.sensors().count(), 4);
    assert_eq!(loaded.profile.events.len(), 1);
}

#[test]
fn generators_are_judged_in_themselves_when_nobody_is_to_have_them() {
    let right = r#"{"a": {"type": "gaussian", "mean": 1, "stddev": 2}, "b": {"type": "follow",
        "field": "a"}}"#;
    assert_eq!(check_generators("fields", right), Ok(()));
    for (text, why) in [
        (
            r#"{"a": {"type": "gausian", "mean": 1, "stddev": 2}}"#,
            "gausian",
        ),
        (r#"{"a": {"type": "gaussian", "mean": 1, "sd": 2}}"#, "sd"),
        (
            r#"{"a": {"type": "replay", "file": "a.csv", "column": "x"}}"#,
            "replay",
        ),
        ("[1]", "fields"),
        ("{", "fields"),
    ] {
        let errors = check_generators("fields", text).unwrap_err();
        let shown: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert!(shown.join("; ").contains(why), "{text}: {shown:?}");
    }
}
