//! Bad profiles with everything that must be said about them, and good ones with their meaning.

use super::*;
use crate::generator::{Brownian, Generator};

/// A bad profile: file name, text, and what must be said: line, column, a part of the message.
type Bad = (
    &'static str,
    &'static str,
    &'static [(usize, usize, &'static str)],
);

const BAD: &[Bad] = &[
    (
        "a.yaml",
        "protocol: quic\n",
        &[(1, 1, "the profile has no `type`")],
    ),
    (
        "a.yaml",
        "type: 7\n",
        &[(1, 7, "`type` must be a text, not a number")],
    ),
    ("a.yaml", "type: a/b\n", &[(1, 7, "`type` cannot be `a/b`")]),
    (
        "a.yaml",
        "- 1\n- 2\n",
        &[(1, 1, "the profile must be a map of keys, not a list")],
    ),
    ("a.yaml", "type: [\n", &[(1, 7, "unclosed bracket '['")]),
    ("a.yaml", "type: t\ntype: u\n", &[(2, 1, "duplicate")]),
    (
        "a.yaml",
        "type: t\nprotocol: carrier_pigeon\n",
        &[(2, 11, "`protocol` cannot be")],
    ),
    (
        "a.yaml",
        "type: t\nqos: 3\n",
        &[(2, 6, "`qos` must be 0, 1 or 2, is 3")],
    ),
    (
        "a.yaml",
        "type: t\nqos: high\n",
        &[(2, 6, "`qos` must be a number, not a text")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_interval: 5\n",
        &[(2, 21, "must be a text, not a number")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_interval: 5 days\n",
        &[(2, 21, "is not a duration")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_interval: 0s\n",
        &[(2, 21, "between 1ms and 24h")],
    ),
    (
        "a.yaml",
        "type: t\nlabels: [a]\n",
        &[(2, 9, "`labels` must be a map of keys")],
    ),
    (
        "a.yaml",
        "type: t\nlabels:\n  a: [b]\n",
        &[(3, 6, "`a` must be a text, not a list")],
    ),
    (
        "a.yaml",
        "type: t\nmqtt_password: x\n",
        &[(2, 1, "`mqtt_password` is a credential")],
    ),
    (
        "a.yaml",
        "type: t\nlabels:\n  api_key: x\n",
        &[(3, 3, "`api_key` is a credential")],
    ),
    (
        "a.yaml",
        "type: t\nauth:\n  token: x\n",
        &[(3, 3, "`token` is a credential")],
    ),
    (
        "a.yaml",
        "type: t\nlabels:\n  url: mqtt://me:pw@host\n",
        &[(3, 8, "a URL with a password in it")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {mean: 1}\n  b: 5\n",
        &[
            (3, 6, "field `a` has no `type`"),
            (4, 6, "field `b` must be a map of keys"),
        ],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: gausian, mean: 1}\n",
        &[(3, 13, "`type` cannot be `gausian`")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: gaussian, mean: x, stddev: -1}\n",
        &[
            (3, 29, "`mean` must be a number, not a text"),
            (3, 40, "`stddev` must not be below 0"),
        ],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: gaussian, mean: .nan, stddev: 1}\n",
        &[(3, 29, "non-finite float")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  \
         a: {type: brownian, start: 1, volatility: -2, min: 5, max: 4}\n",
        &[
            (3, 45, "`volatility` must not be below 0"),
            (3, 62, "`min` 5 is above `max` 4"),
        ],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  \
         a: {type: diurnal, baseline: 1, amplitude: 1, peak_hour: 24}\n",
        &[(3, 60, "`peak_hour` must lie in 0..23")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a:\n    type: markov\n    states: [x, y]\n    \
         transition_matrix: [[0.5, 0.4], [1.0]]\n    initial_state: z\n",
        &[
            (6, 24, "row 0 of the matrix sums to 0.9"),
            (6, 24, "row 1 of the matrix has 1 numbers for 2 states"),
            (7, 20, "the initial state \"z\" is not one of the states"),
        ],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: composite, of: []}\n  b: {type: composite}\n",
        &[
            (3, 28, "needs 1 to 16 generators"),
            (4, 6, "field `b` has no `of`"),
        ],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: follow, field: b}\n  \
         b: {type: follow, field: a}\n",
        &[
            (3, 3, "field `a` follows itself"),
            (4, 3, "field `b` follows itself"),
        ],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: follow, field: nobody}\n",
        &[(3, 28, "there is no field `nobody`")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: replay, file: none.csv, column: x}\n",
        &[(3, 27, "cannot read `none.csv`")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  voltage: {sensor: Voltage, type: static, value: high}\n",
        &[(3, 12, "its values must be numbers")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: static, value: 1, sensor: Volts}\n",
        &[(3, 39, "`sensor` cannot be `Volts`")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  voltage: {type: static, value: 1}\n  \
         current: {type: static, value: 1, gated_by: voltage}\n",
        &[(
            4,
            3,
            "`current` is gated by `voltage`, which is no actuator",
        )],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  voltage: {type: static, value: 1}\nevents:\n  \
         - {field: power, below: 1}\n  - {field: voltage}\n  \
         - {field: voltage, above: 1, below: 0}\n",
        &[
            (5, 13, "there is no field `power`"),
            (6, 5, "a threshold needs either `below` or `above`"),
            (7, 5, "a threshold needs either `below` or `above`"),
        ],
    ),
    // TOML: the same checks, and unknown keys are errors.
    (
        "a.toml",
        "type = 't'\ntelemetry_feilds = 1\n",
        &[(2, 1, "unknown key `telemetry_feilds`")],
    ),
    (
        "a.toml",
        "type = 't'\nqos = 'x'\n",
        &[(2, 7, "`qos` must be a number, not a text")],
    ),
    ("a.toml", "type = \nqos = \n", &[(1, 8, ""), (2, 7, "")]),
    (
        "a.toml",
        "type = 't'\nqos = 9\nnope = 1\n[telemetry_fields.a]\ntype = 'gaussian'\nmean = 'x'\n",
        &[
            (2, 7, "`qos` must be 0, 1 or 2"),
            (3, 1, "unknown key `nope`"),
            (4, 1, "field `a` has no `stddev`"),
            (6, 8, "`mean` must be a number"),
        ],
    ),
    (
        "a.toml",
        "type = 't'\nsecret = 'x'\n",
        &[(2, 1, "`secret` is a credential")],
    ),
];

#[test]
fn everything_wrong_is_said_at_once_with_its_place() {
    let mut failed = String::new();
    for (file, text, expected) in BAD {
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
