//! The order of evaluation, thresholds, lags, and what is refused.

use super::*;

fn program(text: &str) -> Program {
    Program::new(&Profile::parse("a.yaml", text).unwrap().profile, None).unwrap()
}

#[test]
fn a_field_is_drawn_after_those_it_follows() {
    let program = program(
        "type: t\ntelemetry_fields:\n  a_voltage: {type: follow, field: b, gain: 2}\n  \
         b: {type: follow, field: c_current, offset: 1}\n  \
         c_current: {type: static, value: 5, gated_by: relay, off: 0.5}\n  \
         relay: {type: static, value: 1}\n",
    );
    let mut state = vec![0.0; program.slots()];
    program.reset(&mut state);
    let mut values = [0.0; FIELDS_MAX];
    program.draw(1, 0, 0, &mut state, &mut values);
    assert_eq!(values[..4], [12.0, 6.0, 5.0, 1.0]);
    state[program.actuator_slot(3).unwrap()] = 0.0;
    program.draw(1, 1, 0, &mut state, &mut values);
    assert_eq!(values[..4], [3.0, 1.5, 0.5, 0.0]);
}

#[test]
fn a_threshold_rises_once_and_falls_behind_its_hysteresis() {
    let threshold = Threshold {
        field: 0,
        side: Side::Below,
        limit: 10.0,
        hysteresis: 2.0,
    };
    let rule = Rule {
        threshold,
        kind: SensorType::Voltage,
        counter: 0,
    };
    let mut raised = false;
    let series = [11.0, 9.0, 10.5, f64::NAN, 12.0, f64::NAN, 10.0, 9.9];
    let latches = series.map(|value| {
        raised = rule.latch(raised, value);
        raised
    });
    assert_eq!(
        latches,
        [false, true, true, true, false, false, false, true]
    );
}

#[test]
fn the_industrial_profile_fits_the_identity_block() {
    let profile = Profile::load("industrial").unwrap().profile;
    let program = Program::new(&profile, None).unwrap();
    assert!(program.slots() <= INLINE_SLOTS);
    assert_eq!(program.sensors().len(), 7);
    assert_eq!(program.presence(), Some(5));
    assert_eq!(program.actuators(), 1);
}

#[test]
fn a_lag_is_the_same_time_at_any_interval() {
    let text = "type: t\ntelemetry_interval: 5s\ntelemetry_fields:\n  \
         a_voltage: {type: follow, field: b, lag: 10s}\n  b: {type: static, value: 5}\n";
    let profile = Profile::parse("a.yaml", text).unwrap().profile;
    let slots = |seconds: u64| {
        let program = Program::new(&profile, Some(Duration::from_secs(seconds)));
        program.map(|program| program.slots())
    };
    assert_eq!(
        [1, 2, 5, 60].map(|seconds| slots(seconds).unwrap()),
        [10, 5, 2, 0]
    );
    let short = Program::new(&profile, Some(Duration::from_millis(100)));
    assert!(matches!(short, Err(ProgramError::Lag { samples: 100, .. })));
}

#[test]
fn a_profile_without_sensors_is_refused() {
    let text = "type: t\nprotocol: quic\ntelemetry_fields:\n  a: {type: static, value: 1}\n";
    let profile = Profile::parse("a.yaml", text).unwrap().profile;
    assert!(matches!(
        Program::new(&profile, None),
        Err(ProgramError::NoSensor(_))
    ));
}
