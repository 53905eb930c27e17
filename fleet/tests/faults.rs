//! Faults on the wire: what the twin receives while they act, and after.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "fleet_kit/kit.rs"]
mod kit;

use std::time::Duration;

use actorsim_fleet::fault::{Fault, FaultSpec};
use actorsim_fleet::{Injection, Population, Reached, Selector};
use actorsim_supervision::Policies;
use actorsim_transport::{Reading, SensorType};
use kit::{EPOCH_US, Rig};

const METER: &str = "type: meter\nprotocol: quic\ntelemetry_interval: 1s\ntelemetry_fields:\n  \
    temperature: {type: gaussian, mean: 20, stddev: 0.1}\n  \
    battery: {type: brownian, start: 100, drift: -0.1, volatility: 0, min: 0, max: 100, \
    sensor: Voltage}\n";

fn meters(count: u32) -> Rig {
    Rig::with(METER, 2, |profile| {
        Population::new("default", profile, count, 7)
    })
}

fn inject(rig: &Rig, ordinal: u32, fault: Fault, seconds: Option<u64>) {
    let spec = FaultSpec {
        fault,
        duration: seconds.map(Duration::from_secs),
    };
    let device = format!("meter-{ordinal:04}");
    rig.fleet.inject(&device, Injection::Fault(spec)).unwrap();
}

/// Readings of a device's temperature; stamps in whole seconds since the start.
fn temperatures(rig: &Rig, ordinal: u32) -> Vec<Reading> {
    rig.seen
        .lock()
        .unwrap()
        .of(ordinal, SensorType::Temperature)
}

fn seconds(readings: &[Reading]) -> Vec<u64> {
    readings
        .iter()
        .map(|r| (r.at_us - EPOCH_US) / 1_000_000)
        .collect()
}

#[test]
fn a_disconnected_device_is_silent_and_comes_back_with_its_series() {
    let mut rig = meters(2);
    rig.run(5);
    inject(&rig, 0, Fault::Disconnect, Some(10));
    rig.run(20);
    let (faulty, sound) = (temperatures(&rig, 0), temperatures(&rig, 1));
    let heard = seconds(&faulty);
    assert_eq!(
        (sound.len() - faulty.len(), heard.len()),
        (10, 15),
        "{heard:?}"
    );
    assert!(
        faulty.iter().map(|r| r.sequence).eq(0..15),
        "nothing was lost on the way"
    );
    let mut whole = meters(2);
    whole.run(25);
    let undisturbed = temperatures(&whole, 0);
    let last = |readings: &[Reading]| readings.last().unwrap().value.to_bits();
    assert_eq!(
        last(&faulty),
        last(&undisturbed),
        "the series went on underneath"
    );
    let (faults, tally) = (rig.fleet.faults(), rig.fleet.tally());
    assert_eq!(
        (faults.injected(), faults.ended(), tally.silenced),
        (1, 1, 10)
    );
}

#[test]
fn a_drifting_clock_shows_in_the_stamps_and_returns_to_true_time() {
    let mut rig = meters(1);
    inject(&rig, 0, Fault::ClockDrift(500.0), Some(10));
    rig.run(20);
    let mut true_time = meters(1);
    true_time.run(20);
    let ahead: Vec<u64> = temperatures(&rig, 0)
        .iter()
        .zip(temperatures(&true_time, 0))
        .map(|(drifted, exact)| drifted.at_us - exact.at_us)
        .collect();
    assert!(
        ahead[1..10]
            .windows(2)
            .all(|pair| pair[1] - pair[0] == 500_000),
        "{ahead:?}"
    );
    assert!(ahead[11..].iter().all(|ahead| *ahead == 0), "{ahead:?}");
}

#[test]
fn a_drained_battery_is_published_drained() {
    let mut rig = meters(2);
    inject(&rig, 0, Fault::BatteryDrain(20.0), None);
    rig.run(30);
    let last = |ordinal| rig.last(ordinal, SensorType::Voltage);
    assert!(last(1) > 96.0, "{}", last(1));
    assert!((35.0..50.0).contains(&last(0)), "{}", last(0));
}

#[test]
fn corrupted_values_are_published_at_their_rate() {
    let mut rig = meters(50);
    for ordinal in 0..50 {
        inject(&rig, ordinal, Fault::DataCorruption(0.3), None);
    }
    rig.run(60);
    let all: Vec<_> = (0..50)
        .flat_map(|ordinal| temperatures(&rig, ordinal))
        .collect();
    let share = |of: fn(&&Reading) -> bool| all.iter().filter(of).count() as f64 / all.len() as f64;
    for found in [
        share(|r| r.value.is_nan()),
        share(|r| r.value == 0.0),
        share(|r| r.value > 200.0),
    ] {
        assert!((found - 0.1).abs() < 0.02, "{found}");
    }
}

#[test]
fn a_latency_delays_samples_and_keeps_their_stamps_and_order() {
    let mut rig = meters(1);
    rig.run(5);
    let before = temperatures(&rig, 0).len();
    inject(
        &rig,
        0,
        Fault::LatencySpike(Duration::from_millis(3_500)),
        Some(10),
    );
    rig.run(3);
    assert_eq!(temperatures(&rig, 0).len(), before, "they are on their way");
    rig.run(20);
    let heard = temperatures(&rig, 0);
    assert!(
        seconds(&heard)
            .windows(2)
            .all(|pair| pair[1] == pair[0] + 1)
    );
    assert!(heard.iter().map(|r| r.sequence).eq(0..heard.len() as u32));
    assert_eq!(heard.len(), before + 23, "none is missing in the end");
}

#[test]
fn doubled_samples_repeat_their_sequence() {
    let mut rig = meters(1);
    inject(&rig, 0, Fault::Duplicate(1.0), Some(5));
    rig.run(10);
    let numbers: Vec<_> = temperatures(&rig, 0).iter().map(|r| r.sequence).collect();
    assert_eq!(numbers[..6], [0, 0, 1, 1, 2, 2]);
    assert!(numbers.ends_with(&[8, 9]), "{numbers:?}");
}

#[test]
fn the_mailbox_stays_live_during_a_hang_and_what_acts_is_told() {
    let mut rig = meters(1);
    inject(&rig, 0, Fault::Hang, None);
    inject(&rig, 0, Fault::ClockDrift(1.0), None);
    rig.run(5);
    let fleet = std::sync::Arc::clone(&rig.fleet);
    let info = rig.answer(fleet.info("meter-0000")).unwrap();
    assert_eq!(info.faults, ["hang", "clock_drift"]);
    assert!(rig.seen.lock().unwrap().t1.is_empty());
    let revert = Injection::Revert(Some("hang"));
    rig.fleet.inject("meter-0000", revert).unwrap();
    rig.run(5);
    assert_eq!(temperatures(&rig, 0).len(), 5);
}

#[test]
fn a_disconnected_device_hears_no_command() {
    let mut rig = Rig::new("industrial", 1, 1, 1);
    rig.run(6);
    let spec = FaultSpec {
        fault: Fault::Disconnect,
        duration: Some(Duration::from_secs(6)),
    };
    rig.fleet
        .inject("industrial-0000", Injection::Fault(spec))
        .unwrap();
    rig.run(1);
    rig.command(0, 1, 0.0).unwrap();
    rig.run(11);
    assert!(rig.seen.lock().unwrap().t3.is_empty());
    assert_eq!(rig.fleet.tally().unheard, 1);
    assert!(rig.last(0, SensorType::Current) > 4.0);
}

#[test]
fn faults_end_with_their_incarnation_and_are_counted_as_ended() {
    let mut rig = meters(1);
    rig.run(2);
    inject(&rig, 0, Fault::Disconnect, None);
    rig.run(2);
    rig.fleet.inject("meter-0000", Injection::Crash).unwrap();
    rig.run(5);
    let faults = rig.fleet.faults();
    assert_eq!(
        (faults.injected(), faults.ended()),
        (2, 2),
        "the crash, too"
    );
    assert!(seconds(&temperatures(&rig, 0)).len() >= 5);
}

#[test]
fn a_run_with_faults_has_the_same_bytes_on_any_number_of_shards() {
    let digest = |shards| {
        let mut rig = Rig::with(METER, shards, |profile| {
            Population::new("default", profile, 600, 7)
        });
        for ordinal in 0..100 {
            let fault = match ordinal % 5 {
                0 => Fault::Flap(Duration::from_secs(4)),
                1 => Fault::DataCorruption(0.5),
                2 => Fault::LatencySpike(Duration::from_millis(1_700)),
                3 => Fault::Duplicate(0.5),
                _ => Fault::ClockDrift(-3.0),
            };
            inject(&rig, ordinal * 6, fault, Some(12));
        }
        rig.run(20);
        rig.shards.stop();
        rig.fleet.wire_sha256().unwrap()
    };
    assert_eq!(digest(1), digest(3));
}

/// Devices whose state outlives a restart.
fn resuming(profile: &str) -> Rig {
    let text = "[[supervisor]]\npath = '/fleet/*'\nbehaviour = 'resume'\nintensity = 2\n\
        period = '60s'\nintensity_scope = 'child'\nquarantine = true\n";
    let policies = Policies::from_toml("test.toml", text).unwrap();
    Rig::under(&policies, profile, 2, |profile| {
        Population::new("default", profile, 2, 7)
    })
}

#[test]
fn a_fault_ends_with_its_incarnation_unless_the_next_one_resumes() {
    for (mut rig, resumes) in [(meters(2), false), (resuming(METER), true)] {
        rig.run(5);
        inject(&rig, 0, Fault::Disconnect, Some(10));
        rig.run(3);
        rig.fleet.inject("meter-0000", Injection::Crash).unwrap();
        rig.run(12);
        let heard = seconds(&temperatures(&rig, 0));
        let silent = !heard.iter().any(|second| (9..14).contains(second));
        assert_eq!(silent, resumes, "{heard:?}");
        let seen: Vec<Reading> = temperatures(&rig, 0).into_iter().rev().take(3).collect();
        let sound: Vec<Reading> = temperatures(&rig, 1).into_iter().rev().take(3).collect();
        assert_eq!(seconds(&seen), seconds(&sound), "it has come back");
    }
}

#[test]
fn a_poisoned_device_that_resumes_keeps_dying_until_it_is_parked() {
    let mut rig = resuming(METER);
    rig.run(5);
    rig.fleet.inject("meter-0000", Injection::Poison).unwrap();
    rig.run(10);
    let counts = rig.fleet.counts();
    assert_eq!((counts.quarantined, counts.restarts), (1, 2));
}

#[test]
fn the_series_of_a_wide_profile_goes_on_where_the_former_life_left_it() {
    let mut text = String::from(
        "type: wide\nprotocol: quic\ntelemetry_interval: 1s\n\
        telemetry_fields:\n  temperature: {type: brownian, start: 5, volatility: 1}\n",
    );
    for field in 0..12 {
        text +=
            &format!("  f{field}_pressure: {{type: brownian, start: {field}, volatility: 1}}\n");
    }
    let last = |crash: bool| {
        let mut rig = resuming(&text);
        rig.run(10);
        if crash {
            rig.fleet.inject("wide-0000", Injection::Crash).unwrap();
        }
        rig.run(10);
        temperatures(&rig, 0).last().unwrap().value.to_bits()
    };
    assert_eq!(last(false), last(true));
}

fn inject_where(rig: &mut Rig, selector: &str, injection: Injection) -> Result<Reached, String> {
    let selector = Selector::parse(selector).unwrap();
    let fleet = std::sync::Arc::clone(&rig.fleet);
    rig.answer(fleet.inject_where(&selector, injection))
}

const FOREVER: Injection = Injection::Fault(FaultSpec {
    fault: Fault::Hang,
    duration: None,
});

fn hung(rig: &Rig) -> u64 {
    let mut kinds = rig.fleet.faults().kinds().collect::<Vec<_>>().into_iter();
    kinds.find(|kind| kind.0 == "hang").unwrap().2
}

#[test]
fn a_selector_means_ids_patterns_labels_and_populations_and_all_its_terms_must_hold() {
    let sited = METER.replacen("type: meter", "type: meter\nlabels: {site: north}", 1);
    let new = || {
        Rig::with(&sited, 2, |profile| {
            Population::new("hall", profile, 600, 7)
        })
    };
    for (selector, meant) in [
        ("meter-0007", 1),
        ("/fleet/hall/meter-0007", 1),
        ("meter-00*", 100),
        ("/fleet/hall/meter-000?", 10),
        ("/fleet/*", 600),
        ("*", 600),
        ("hall", 600),
        ("/fleet/hall", 600),
        ("population=hall", 600),
        ("device_type=meter,meter-01*", 100),
        ("site=north", 600),
        ("site=north,10%", 60),
        ("meter-000*,25%", 3),
        ("meter-0001,1%", 1),
    ] {
        let mut rig = new();
        let reached = inject_where(&mut rig, selector, FOREVER).unwrap();
        let wanted = Reached {
            selected: meant,
            sent: meant,
            ..Reached::default()
        };
        assert_eq!(reached, wanted, "{selector}");
        rig.run(1);
        assert_eq!(hung(&rig), meant, "{selector}");
    }
    let mut rig = new();
    for (selector, why) in [
        ("site=50%", "known: north"), // the value of a label, and no share
        ("meter-9999", "`ps /fleet/*` lists them"),
        ("/fleet/other/*", "no device"),
        ("color=red", "known: device_type, population, site"),
        ("site=south", "known: north"),
    ] {
        let error = inject_where(&mut rig, selector, FOREVER).unwrap_err();
        assert!(error.contains(why), "{selector}: {error}");
    }
    let wrong = Selector::parse("5%,6%,,200%").unwrap_err().join("; ");
    for part in ["second share", "empty term", "`200%`"] {
        assert!(wrong.contains(part), "{wrong}");
    }
}

#[test]
fn a_share_is_the_same_devices_for_the_same_seed_on_any_number_of_shards() {
    let chosen = |seed, shards, share| {
        let mut rig = Rig::with(METER, shards, |profile| {
            Population::new("default", profile, 1_000, seed)
        });
        inject_where(&mut rig, share, FOREVER).unwrap();
        rig.run(2);
        let seen = rig.seen.lock().unwrap();
        let silent = (0..1_000).filter(|ordinal| !seen.t1.contains_key(ordinal));
        silent.collect::<Vec<u32>>()
    };
    let tenth = chosen(7, 1, "10%");
    assert_eq!(tenth.len(), 100);
    assert_eq!(tenth, chosen(7, 3, "10%"));
    assert_ne!(tenth, chosen(8, 1, "10%"));
    let fifth = chosen(7, 1, "20%");
    assert!(tenth.iter().all(|device| fifth.contains(device)));
}

#[test]
fn a_storm_takes_all_down_at_once_and_each_is_back_by_its_own_backoff() {
    let fast = METER.replacen("interval: 1s", "interval: 100ms", 1);
    let mut rig = Rig::with(&fast, 2, |profile| {
        Population::new("default", profile, 200, 7)
    });
    rig.run(2);
    let storm = Injection::Fault(FaultSpec {
        fault: Fault::Storm,
        duration: None,
    });
    inject_where(&mut rig, "*", storm).unwrap();
    rig.run(5);
    let mut waits = Vec::new();
    for ordinal in 0..200 {
        let stamps: Vec<_> = temperatures(&rig, ordinal)
            .iter()
            .map(|reading| (reading.at_us - EPOCH_US) / 1_000)
            .collect();
        let gaps = stamps.windows(2).map(|pair| pair[1] - pair[0]);
        waits.push(gaps.max().unwrap());
    }
    assert!(
        waits.iter().all(|ms| (500..=1_100).contains(ms)),
        "{waits:?}"
    );
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 4, "they do not come back together: {waits:?}");
    let faults = rig.fleet.faults();
    assert_eq!((faults.injected(), faults.ended()), (200, 200));
}

#[test]
fn faults_of_a_selection_end_by_hand_and_one_too_many_is_counted() {
    let mut rig = meters(10);
    for _ in 0..9 {
        inject_where(&mut rig, "meter-0003", FOREVER).unwrap();
    }
    rig.run(1);
    assert_eq!((hung(&rig), rig.fleet.faults().refused), (8, 1));
    inject_where(&mut rig, "*", Injection::Revert(Some("flap"))).unwrap();
    rig.run(1);
    assert_eq!(hung(&rig), 8);
    inject_where(&mut rig, "*", Injection::Revert(None)).unwrap();
    rig.run(3);
    assert_eq!(hung(&rig), 0);
    assert!(rig.seen.lock().unwrap().t1.contains_key(&3));
    inject_where(&mut rig, "30%", Injection::Poison).unwrap();
    rig.run(5);
    assert_eq!(rig.fleet.counts().restarts, 3);
}
