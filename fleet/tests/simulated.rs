//! A fleet on simulated shards: same bytes, closed loop, restarts that nobody else notices.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "fleet_kit/kit.rs"]
mod kit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actorsim_fleet::{Injection, Population};
use actorsim_transport::{
    Downlink, DownlinkError, Reading, SensorType, Ticket, WireCommand, device_uuid,
};
use kit::{EPOCH_US, Rig};

fn digest(seed: u64, shards: usize) -> String {
    let mut rig = Rig::new("industrial", 1_000, seed, shards);
    rig.run(5);
    // A fault is part of the run, and of its bytes.
    rig.fleet
        .inject("industrial-0300", Injection::Crash)
        .unwrap();
    rig.run(25);
    assert_eq!(rig.fleet.counts().restarts, 1);
    rig.shards.stop();
    rig.fleet.wire_sha256().unwrap()
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_shards() {
    let one = digest(42, 1);
    assert_eq!(one, digest(42, 1));
    assert_eq!(one, digest(42, 3));
    assert_ne!(one, digest(43, 1));
}

#[test]
fn every_device_sends_seven_readings_each_interval_with_contiguous_sequences() {
    let mut rig = Rig::new("industrial", 300, 7, 2);
    rig.run(20);
    let seen = rig.seen.lock().unwrap();
    assert_eq!(seen.t1.len(), 300);
    for (ordinal, readings) in &seen.t1 {
        assert_eq!(readings.len(), 4 * 7, "device {ordinal}");
        for (at, reading) in readings.iter().enumerate() {
            assert_eq!(reading.sequence as usize, at / 7);
            assert_eq!(usize::from(reading.sensor), at % 7);
            assert_eq!(usize::from(reading.kind.byte()), at % 7);
            assert_eq!(
                reading.device,
                device_uuid(&format!("industrial-{ordinal:04}"))
            );
            assert!(reading.value.is_finite());
        }
        let stamps: Vec<u64> = readings
            .iter()
            .step_by(7)
            .map(|r| r.at_us - EPOCH_US)
            .collect();
        assert!(
            stamps.windows(2).all(|pair| pair[1] - pair[0] == 5_000_000),
            "{stamps:?}"
        );
    }
    let first: std::collections::BTreeSet<u64> = seen.t1.values().map(|r| r[0].at_us).collect();
    assert_eq!(first.len(), 5, "each block of 64 has its own phase");
}

#[test]
fn the_default_fleet_raises_events_within_twenty_seconds() {
    let mut rig = Rig::new("industrial", 1_000, 42, 2);
    rig.run(20);
    let seen = rig.seen.lock().unwrap();
    let events: Vec<_> = seen.t2.values().flatten().collect();
    let left = events
        .iter()
        .filter(|(reading, _)| reading.value < 1.0)
        .count();
    assert!(
        (5..60).contains(&left),
        "{left} of 1,000 devices lost presence"
    );
    assert!(
        events.iter().any(|(reading, _)| reading.value == 1.0),
        "and some came back"
    );
    assert!(
        events
            .iter()
            .all(|(reading, _)| reading.kind == SensorType::Presence)
    );
}

#[test]
fn a_stop_command_takes_the_current_and_leaves_the_voltage() {
    let mut rig = Rig::new("industrial", 2, 1, 1);
    rig.run(6);
    assert!((rig.last(0, SensorType::Current) - 6.5).abs() < 2.0);
    rig.command(0, 1, 0.0).unwrap();
    rig.run(6);
    assert_eq!(rig.last(0, SensorType::Current), 0.0);
    assert_eq!(rig.last(0, SensorType::Relay), 0.0);
    assert!((rig.last(0, SensorType::Voltage) - 230.0).abs() < 10.0);
    assert!(
        rig.last(1, SensorType::Current) > 4.0,
        "the neighbour runs on"
    );
    rig.command(0, 2, 1.0).unwrap();
    rig.command(0, 1, 0.0).unwrap();
    rig.run(6);
    assert!(
        rig.last(0, SensorType::Current) > 4.0,
        "a late stop cannot overtake a start"
    );
    assert_eq!(
        rig.seen.lock().unwrap().t3[&0],
        [0, 0, 1],
        "executed, executed, superseded"
    );
    let tally = rig.fleet.tally();
    assert_eq!((tally.executed, tally.superseded), (2, 1));
}

#[test]
fn a_command_for_a_sensor_is_refused_and_one_for_a_stranger_has_no_device() {
    let mut rig = Rig::new("industrial", 1, 1, 1);
    rig.run(1);
    let command = |device: &str, sensor, kind, value| WireCommand {
        device: device_uuid(device),
        sensor,
        kind,
        value,
        id: 1,
        left: None,
    };
    let downlink = rig.fleet.downlink();
    for command in [
        command("industrial-0000", 3, SensorType::Voltage, 0.0),
        command("industrial-0000", 6, SensorType::Voltage, 0.0),
        command("industrial-0000", 6, SensorType::Relay, f64::NAN),
    ] {
        downlink.command(Ticket(1), command).unwrap();
    }
    let stranger = command("industrial-0001", 6, SensorType::Relay, 0.0);
    let unknown = downlink.command(Ticket(2), stranger);
    assert_eq!(unknown, Err(DownlinkError::UnknownDevice));
    rig.run(1);
    assert_eq!(rig.seen.lock().unwrap().t3[&0], [2, 2, 2]);
}

#[test]
fn commands_that_come_together_are_taken_in_order_but_those_that_nobody_takes() {
    let mut rig = Rig::new("industrial", 200, 1, 3);
    rig.run(1);
    let command = |at: u64| {
        // each third is for a stranger; the others' devices are on all shards, and come twice
        let device = if at % 3 == 2 { 200 + at } else { at % 150 };
        let command = WireCommand {
            device: device_uuid(&format!("industrial-{device:04}")),
            sensor: 6,
            kind: SensorType::Relay,
            value: 0.0,
            id: 300 - at,
            left: None,
        };
        (Ticket(at), command)
    };
    let commands: Vec<_> = (0..300).map(command).collect();
    let mut refused = Vec::new();
    let downlink = rig.fleet.downlink();
    downlink.commands(&commands, &mut |ticket, why| refused.push((ticket, why)));
    let strangers = (0..300).filter(|at| at % 3 == 2);
    let strangers = strangers.map(|at| (Ticket(at), DownlinkError::UnknownDevice));
    assert!(refused.into_iter().eq(strangers));
    rig.run(1);
    let seen = rig.seen.lock().unwrap();
    assert_eq!(seen.t3.len(), 100);
    for (device, answers) in &seen.t3 {
        assert_eq!(
            answers,
            &[0, 1],
            "{device}: the later one has the lower number"
        );
    }
}

#[test]
fn a_command_that_comes_too_late_is_not_executed() {
    let mut rig = Rig::new("industrial", 1, 1, 1);
    rig.run(1);
    rig.command(0, 1, 0.0).unwrap();
    let late = rig.shards.now() + Duration::from_secs(2);
    rig.clock.advance_to(late); // before the shard gets to it
    rig.run(6);
    assert_eq!(rig.fleet.tally().expired, 1);
    assert!(rig.last(0, SensorType::Current) > 4.0);
    assert!(
        rig.seen.lock().unwrap().t3.is_empty(),
        "the twin reports it at its deadline"
    );
}

#[test]
fn a_trigger_is_an_event_at_once_and_presence_returns_by_itself() {
    let mut rig = Rig::new("industrial", 1, 1, 1);
    rig.run(12);
    let before = rig.seen.lock().unwrap().t2.len();
    assert_eq!(before, 0, "the seed keeps presence at 1 so far");
    rig.fleet.trigger("/fleet/default/industrial-0000").unwrap();
    rig.shards.settle();
    {
        let seen = rig.seen.lock().unwrap();
        let (reading, event) = seen.t2[&0][0];
        assert_eq!(
            (reading.kind, reading.value, event),
            (SensorType::Presence, 0.0, 0)
        );
        assert_eq!(
            reading.at_us,
            EPOCH_US + 12_000_000,
            "at once, not at the next sample"
        );
    }
    rig.run(5);
    assert_eq!(
        rig.last(0, SensorType::Presence),
        0.0,
        "held through the next sample"
    );
    rig.run(5);
    let seen = rig.seen.lock().unwrap();
    let values: Vec<_> = seen.t2[&0]
        .iter()
        .map(|(reading, event)| (reading.value, *event))
        .collect();
    assert_eq!(values, [(0.0, 0), (1.0, 1)]);
    assert!(rig.fleet.trigger("industrial-0001").is_err());
    assert!(rig.fleet.trigger("/fleet/other/industrial-0000").is_err());
}

#[test]
fn a_device_that_fails_goes_on_with_the_series_it_would_have_had() {
    let calm = {
        let mut rig = Rig::new("industrial", 10, 5, 1);
        rig.run(30);
        rig.seen
    };
    for injection in [Injection::Crash, Injection::Panic, Injection::Poison] {
        let mut rig = Rig::new("industrial", 10, 5, 1);
        rig.run(12);
        rig.fleet.inject("industrial-0004", injection).unwrap();
        rig.run(18);
        assert_eq!(rig.fleet.counts().restarts, 1, "{injection:?}");
        assert_eq!(rig.fleet.counts().running, 10, "{injection:?}");
        let (calm, seen) = (calm.lock().unwrap(), rig.seen.lock().unwrap());
        for ordinal in (0..10).filter(|at| *at != 4) {
            assert_eq!(
                calm.t1[&ordinal], seen.t1[&ordinal],
                "a neighbour noticed {injection:?}"
            );
        }
        let sequences: Vec<u32> = seen
            .of(4, SensorType::Pressure)
            .iter()
            .map(|reading| reading.sequence)
            .collect();
        let contiguous: Vec<u32> = (0..sequences.len() as u32).collect();
        assert_eq!(sequences, contiguous, "{injection:?}");
        // Each sample is the one that the calm run took at the same time.
        let by_time: BTreeMap<(u64, u16), u64> = calm.t1[&4]
            .iter()
            .map(|reading| ((reading.at_us, reading.sensor), reading.value.to_bits()))
            .collect();
        for reading in &seen.t1[&4] {
            let same = by_time[&(reading.at_us, reading.sensor)];
            assert_eq!(
                same,
                reading.value.to_bits(),
                "{injection:?} bent the series"
            );
        }
        let missed = calm.t1[&4].len() - seen.t1[&4].len();
        assert_eq!(
            rig.fleet.tally().missed as usize,
            missed / 7,
            "{injection:?}"
        );
    }
}

#[test]
fn a_device_with_a_wide_profile_goes_on_with_its_series_however_old_it_is() {
    let mut text = String::from("type: wide\ntelemetry_interval: 1s\ntelemetry_fields:\n");
    for field in 0..7 {
        text +=
            &format!("  f{field}_pressure: {{type: brownian, start: {field}, volatility: 1}}\n");
    }
    let run = |crash: bool| {
        let mut rig = Rig::new(&text, 1, 11, 1);
        for _ in 0..35 {
            rig.run(2_000);
            rig.seen.lock().unwrap().t1.clear();
        }
        if crash {
            rig.fleet.inject("wide-0000", Injection::Crash).unwrap();
        }
        rig.run(10);
        assert_eq!(rig.fleet.tally().series_gaps, 0);
        let seen = rig.seen.lock().unwrap();
        seen.t1[&0].last().unwrap().value
    };
    assert_eq!(run(false).to_bits(), run(true).to_bits());
}

#[test]
fn a_device_that_keeps_failing_is_parked_and_its_neighbours_go_on() {
    let mut rig = Rig::new("industrial", 10, 5, 1);
    for _ in 0..8 {
        rig.run(5);
        let _ = rig.fleet.inject("industrial-0004", Injection::Crash);
    }
    rig.run(10);
    let counts = rig.fleet.counts();
    assert_eq!(
        (counts.quarantined, counts.running, counts.requested),
        (1, 9, 10)
    );
}

#[test]
fn a_device_tells_about_itself() {
    let mut rig = Rig::new("industrial", 300, 5, 2);
    rig.run(11);
    let fleet = Arc::clone(&rig.fleet);
    let info = rig.answer(fleet.info("industrial-0299")).unwrap();
    assert_eq!(info.id, "industrial-0299");
    assert_eq!(info.uuid, device_uuid("industrial-0299"));
    assert_eq!(
        (info.slot, info.sequence),
        (3, 3),
        "its phase is early in the interval"
    );
    assert_eq!(
        (info.relay, info.last_command, info.missed),
        (Some(1.0), 0, 0)
    );
}

#[test]
fn events_at_a_fixed_rate_carry_the_last_value_in_their_own_sequence() {
    let mut rig = Rig::with("industrial", 2, |profile| Population {
        t2_period: Some(Duration::from_millis(500)),
        ..Population::new("default", profile, 300, 9)
    });
    rig.run(21);
    let seen = rig.seen.lock().unwrap();
    for ordinal in 0..300 {
        let beats: Vec<&Reading> = seen.t2[&ordinal]
            .iter()
            .map(|(reading, _)| reading)
            .filter(|reading| reading.kind == SensorType::Temperature)
            .collect();
        assert!((30..=42).contains(&beats.len()), "{} events", beats.len());
        assert!(
            beats
                .windows(2)
                .all(|pair| pair[1].sequence == pair[0].sequence + 1)
        );
        let last = seen.of(ordinal, SensorType::Temperature);
        assert!(
            beats
                .iter()
                .all(|beat| last.iter().any(|reading| reading.value == beat.value))
        );
        let events: Vec<u64> = seen.t2[&ordinal].iter().map(|(_, event)| *event).collect();
        assert!(
            events.iter().copied().eq(0..events.len() as u64),
            "one number per event"
        );
    }
}

#[test]
fn a_trigger_sends_no_event_where_events_are_off() {
    let mut rig = Rig::with("industrial", 1, |profile| Population {
        t2: false,
        ..Population::new("default", profile, 1, 1)
    });
    rig.run(6);
    rig.fleet.trigger("industrial-0000").unwrap();
    rig.run(6);
    assert!(rig.seen.lock().unwrap().t2.is_empty());
    assert_eq!(rig.last(0, SensorType::Presence), 0.0);
}
