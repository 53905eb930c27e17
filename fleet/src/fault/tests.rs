//! Faults by themselves; on the wire they are tested with whole fleets.

use super::*;
use crate::device::Injection;

fn seconds(n: u64) -> Time {
    Time::ZERO + Duration::from_secs(n)
}

fn with(fault: Fault, duration: Option<u64>) -> Faults {
    let mut faults = Faults::default();
    let duration = duration.map(Duration::from_secs);
    assert!(faults.inject(FaultSpec { fault, duration }, Time::ZERO));
    faults
}

#[test]
fn a_fault_ends_by_itself_or_by_hand() {
    let mut faults = with(Fault::Disconnect, Some(10));
    faults.inject(
        FaultSpec {
            fault: Fault::Hang,
            duration: None,
        },
        Time::ZERO,
    );
    assert_eq!(faults.kinds(), ["disconnect", "hang"]);
    assert_eq!(faults.expire(seconds(9)).len(), 0);
    assert!(faults.is_disconnected(seconds(9)) && faults.is_hung());
    assert_eq!(faults.expire(seconds(10)).len(), 1);
    assert!(!faults.is_disconnected(seconds(10)));
    assert_eq!(
        [Some("flap"), Some("hang")].map(|kind| faults.revert(kind).len()),
        [0, 1]
    );
    assert!(faults.is_empty());
}

#[test]
fn corruption_is_a_third_each_at_its_rate() {
    const DRAWS: u64 = 100_000;
    let mut faults = with(Fault::DataCorruption(0.3), None);
    let (mut nan, mut zero, mut spike) = (0u64, 0u64, 0u64);
    for slot in 0..DRAWS {
        let mut values = [21.5];
        faults.distort(&mut values, slot, |_| 42, |_| false);
        match values[0] {
            value if value.is_nan() => nan += 1,
            0.0 => zero += 1,
            21.5 => {}
            225.0 => spike += 1,
            other => panic!("{other}"),
        }
    }
    for count in [nan, zero, spike] {
        assert!(count.abs_diff(DRAWS / 10) < 500, "{nan} {zero} {spike}");
    }
    assert!(
        (corrupt(-2.0, 0.9) + 30.0).abs() < 1e-9,
        "a spike keeps its side"
    );
}

#[test]
fn a_drained_battery_falls_so_many_times_as_fast_and_never_below_nothing() {
    let mut faults = with(Fault::BatteryDrain(10.0), None);
    let mut published = |charge: f64| {
        let mut values = [1.0, charge];
        faults.distort(&mut values, 0, |_| 0, |field| field == 1);
        assert!((values[0] - 1.0).abs() < 1e-12);
        values[1]
    };
    let series = [80.0, 79.0, 78.5, 70.0].map(&mut published);
    assert_eq!(series, [80.0, 70.0, 65.0, 0.0]);
    assert_eq!(
        published(90.0).to_bits(),
        90.0f64.to_bits(),
        "a charged one"
    );
}

#[test]
fn a_drifting_clock_runs_ahead_and_comes_back() {
    let mut faults = with(Fault::ClockDrift(5.0), Some(100));
    assert_eq!(faults.clock(1_000_000, seconds(60)), 1_300_000);
    let mut slow = with(Fault::ClockDrift(-5.0), None);
    assert_eq!(slow.clock(1_000_000, seconds(60)), 700_000);
    faults.expire(seconds(100));
    assert_eq!(faults.clock(1_000_000, seconds(100)), 1_000_000);
    slow.revert(None);
    assert_eq!(slow.clock(7, seconds(9)), 7);
}

#[test]
fn a_flapping_device_is_down_half_the_time() {
    let faults = with(Fault::Flap(Duration::from_secs(10)), None);
    let down: Vec<_> = (0..20)
        .map(|s| faults.is_disconnected(seconds(s)))
        .collect();
    let half: Vec<_> = (0..20).map(|s| s % 10 < 5).collect();
    assert_eq!(down, half);
}

#[test]
fn held_samples_leave_in_their_order_and_in_bounds() {
    let mut faults = with(Fault::LatencySpike(Duration::from_secs(3)), None);
    let sample = |unix_us, at| Held {
        at,
        unix_us,
        values: Box::default(),
        times: 1,
    };
    for n in 0..HELD_MAX as u64 {
        assert!(faults.hold(sample(n, seconds(3 + n))).is_none());
    }
    let given_up = faults.hold(sample(99, seconds(0))).map(|held| held.unix_us);
    assert_eq!(given_up, Some(0));
    assert!(faults.due(seconds(3)).is_none());
    assert_eq!(faults.due(seconds(4)).map(|held| held.unix_us), Some(1));
    assert_eq!(faults.next_due(), Some(seconds(5)));
}

#[test]
fn duplicates_come_at_their_rate_and_the_same_each_time() {
    let faults = with(Fault::Duplicate(0.25), None);
    let twice = |seed| {
        (0..10_000)
            .filter(|slot| faults.times(seed, *slot) == 2)
            .count()
    };
    assert!(twice(7).abs_diff(2_500) < 200);
    assert_eq!(twice(7), twice(7));
}

#[test]
fn words_become_faults() {
    let read = |kind, duration, params: &[(&str, &str)]| {
        let words = FaultWords {
            kind,
            duration,
            params,
        };
        let Ok(Injection::Fault(spec)) = words.read() else {
            panic!("{words:?}");
        };
        spec
    };
    let fault = read("latency_spike", Some("30s"), &[("latency_ms", "250")]);
    assert_eq!(fault.fault, Fault::LatencySpike(Duration::from_millis(250)));
    assert_eq!(fault.duration, Some(Duration::from_secs(30)));
    assert_eq!(read("battery_drain", Some("0"), &[]).duration, None);
    let drain = read("battery_drain", None, &[]).fault;
    assert_eq!(drain, Fault::BatteryDrain(DRAIN_MULTIPLIER));
    let flap = read("flap", None, &[("period", "10s")]).fault;
    assert_eq!(flap, Fault::Flap(Duration::from_secs(10)));
    for (kind, takes) in FAULT_KINDS {
        let params: Vec<_> = takes.iter().map(|(name, _)| (*name, "1")).collect();
        let words = FaultWords {
            kind,
            duration: None,
            params: &params,
        };
        let kind_read = words.read().map(|injection| match injection {
            Injection::Crash => "crash",
            Injection::Poison => "poison",
            Injection::Fault(spec) => spec.fault.kind(),
            other => panic!("{other:?}"),
        });
        assert!(kind == "flap" || kind_read == Ok(kind));
    }
}

#[test]
fn wrong_words_are_all_named_at_once() {
    let wrong = |kind, duration, params: &[(&str, &str)]| {
        FaultWords {
            kind,
            duration,
            params,
        }
        .read()
        .unwrap_err()
        .join("; ")
    };
    let all = wrong(
        "latency_spike",
        Some("soon"),
        &[("latency_ms", "x"), ("ms", "5")],
    );
    for part in ["duration `soon`", "`x` is not a number", "not `ms`"] {
        assert!(all.contains(part), "{all}");
    }
    assert!(wrong("disconect", None, &[]).contains("known: disconnect, latency_spike"));
    assert!(wrong("data_corruption", None, &[]).contains("is missing"));
    assert!(wrong("duplicate", None, &[("rate", "1.5")]).contains("not within 0..1"));
    assert!(wrong("data_corruption", None, &[("corruption_rate", "NaN")]).contains("within"));
    assert!(wrong("flap", None, &[("period", "2h")]).contains("more than an hour"));
    assert!(wrong("storm", Some("10s"), &[]).contains("its own backoff"));
    assert!(wrong("crash", Some("10s"), &[("x", "1")]).contains("takes nothing, not `x`"));
}

#[test]
fn marks_keep_the_kinds_of_all_faults_of_a_device() {
    let kinds = [
        "poison",
        "storm",
        "hang",
        "hang",
        "disconnect",
        "flap",
        "crash",
        "duplicate",
    ];
    let marks: Marks = kinds.into_iter().collect();
    assert_eq!(marks.len(), FAULTS_MAX);
    let mut counts = FaultCounts::default();
    for kind in kinds {
        counts.begin(kind);
    }
    assert!(
        counts
            .kinds()
            .all(|(_, injected, active)| injected == active)
    );
    counts.end(marks);
    assert!(counts.kinds().all(|(_, _, active)| active == 0));
    let hung = counts.kinds().find(|(kind, ..)| *kind == "hang");
    assert_eq!(hung, Some(("hang", 2, 0)));
    assert!(Marks::default().is_empty() && !marks.is_empty());
}
