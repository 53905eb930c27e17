//! The verdict of a run: a pure function from the report's numbers to words.
//!
//! It measures nothing. A number that was not measured is not checked: a fleet without a world
//! cannot say what was received. Bound: one line per check.

use super::invariants::{self, KEPT_ONE_IN};
use super::{RunReport, T3, Verdict};

/// Cycles by which the scan may miss its grid at the edges of a run: the first and the last slot.
pub const CYCLE_TOLERANCE: u64 = 2;

/// How the run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Its time was over.
    TimeOver,
    /// A first signal, or an operator.
    Asked,
    /// A second signal: nothing was waited for.
    Cut,
    /// The root supervisor gave up.
    GaveUp(String),
    /// The shutdown time was over before everything had stopped.
    ShutdownTimeOver(Vec<String>),
}

/// What the report does not hold but the verdict needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// How the run ended.
    pub ending: Ending,
    /// Seconds the scan ran by its own grid; `None` is the report's `elapsed_s`.
    pub scan_elapsed_s: Option<f64>,
    /// Links that never had a connection, and all links.
    pub links_unconnected: (usize, usize),
    /// Invariants that did not hold, in words.
    pub broken: Vec<String>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            ending: Ending::TimeOver,
            scan_elapsed_s: None,
            links_unconnected: (0, 0),
            broken: Vec::new(),
        }
    }
}

/// Fills `verdict` and `why`. Existing lines of `why` are kept as notes.
pub fn decide(report: &mut RunReport, facts: &Facts) {
    let failed = failures(report, facts);
    report.verdict = if failed.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Fail
    };
    report.why.splice(0..0, failed);
    report.why.extend(notes(report));
}

/// Every failed check, in words.
#[must_use]
pub fn failures(report: &RunReport, facts: &Facts) -> Vec<String> {
    let mut failed = Vec::new();
    ending(&facts.ending, &mut failed);
    if let (apart @ 1.., all) = facts.links_unconnected {
        failed.push(format!(
            "{apart} of {all} links never reached their twin: see `disconnected` in the events"
        ));
    }
    failed.extend(facts.broken.iter().cloned());
    chaos(report, &mut failed);
    scenario(report, &mut failed);
    devices(report, &mut failed);
    tiers(report, &mut failed);
    publish(report, &mut failed);
    books(report, &mut failed);
    leaks(report, &mut failed);
    scan(report, facts, &mut failed);
    failed
}

fn ending(ending: &Ending, failed: &mut Vec<String>) {
    match ending {
        Ending::TimeOver | Ending::Asked => {}
        Ending::Cut => failed.push("the run was cut off by a second signal".into()),
        Ending::GaveUp(reason) => failed.push(format!("the root supervisor gave up: {reason}")),
        Ending::ShutdownTimeOver(left) => {
            let left = if left.is_empty() {
                "something".into()
            } else {
                left.join(", ")
            };
            failed.push(format!("the shutdown time was over while {left} still ran"));
        }
    }
}

/// A plan that did not do what it was to do has shown nothing.
fn chaos(report: &RunReport, failed: &mut Vec<String>) {
    let plans = report.chaos.iter().flat_map(|chaos| &chaos.fell_short);
    failed.extend(plans.map(|why| format!("chaos: {why}")));
}

/// The script came to its end, and all that it expected was so.
fn scenario(report: &RunReport, failed: &mut Vec<String>) {
    let Some(scenario) = &report.scenario else {
        return;
    };
    if let Some(error) = &scenario.error {
        failed.push(format!("the scenario did not come to its end: {error}"));
    }
    for one in scenario.expectations.iter().filter(|one| !one.held) {
        let (script, line, at_s) = (&scenario.script, one.line, one.at_s);
        failed.push(format!(
            "{script}:{line}: at {at_s:.1} s it was not so that {}",
            one.text
        ));
    }
}

fn devices(report: &RunReport, failed: &mut Vec<String>) {
    let devices = &report.devices;
    if let (Some(requested), Some(running)) = (devices.requested, devices.running) {
        let quarantined = devices.quarantined.unwrap_or(0);
        if running + quarantined != requested {
            failed.push(format!(
                "{running} of {requested} devices are running, {quarantined} quarantined"
            ));
        }
    }
}

fn tiers(report: &RunReport, failed: &mut Vec<String>) {
    let t1 = &report.tiers.t1;
    if let (Some(sent), Some(received)) = (t1.sent, t1.received) {
        let dropped = t1.dropped.unwrap_or(0);
        if received + dropped != sent {
            failed.push(format!(
                "t1: received {received} + counted drops {dropped} is not sent {sent}"
            ));
        }
    }
    if let (Some(received), Some(applied), Some(after)) =
        (t1.received, t1.applied, t1.dropped_after_receipt)
        && received != applied + after
    {
        failed.push(format!(
            "t1: applied {applied} + dropped after receipt {after} is not received {received}"
        ));
    }
    let t2 = &report.tiers.t2;
    match t2.lost {
        Some(lost) if lost > 0 => failed.push(format!("t2: {lost} events are lost")),
        _ => {}
    }
    if let (Some(acked), Some(applied)) = (t2.acked, t2.applied)
        && acked > applied
    {
        failed.push(format!(
            "t2: {acked} events are acknowledged, but {applied} were applied"
        ));
    }
    commands(&report.tiers.t3, failed);
}

/// Devices reached their broker, and what they sent is accounted for.
fn publish(report: &RunReport, failed: &mut Vec<String>) {
    for (protocol, publish) in &report.publish {
        if let (Some(sessions), Some(connected)) = (publish.sessions, publish.connected)
            && connected < sessions
        {
            let apart = sessions - connected;
            failed.push(format!(
                "{protocol}: {apart} of {sessions} devices had no session with their broker at \
                 the end; see `publish.{protocol}.errors`"
            ));
        }
        let lost = publish.sent.zip(publish.acked).map(|(sent, acked)| {
            let gone = publish.dropped.unwrap_or(0) + publish.errors.unwrap_or(0);
            sent.saturating_sub(acked + gone)
        });
        if let Some(lost @ 1..) = lost {
            failed.push(format!("{protocol}: {lost} messages have no outcome"));
        }
    }
}

/// Every command that was issued has come to something that is counted.
fn commands(t3: &T3, failed: &mut Vec<String>) {
    let outcomes = [
        t3.acked,
        t3.superseded,
        t3.expired,
        t3.no_route,
        t3.dropped,
        t3.errors,
    ];
    let known: u64 = outcomes.iter().flatten().sum();
    if let Some(issued) = t3.issued.filter(|issued| *issued != known) {
        failed.push(format!(
            "t3: {issued} commands were issued, but the outcomes of {known} are known"
        ));
    }
}

fn books(report: &RunReport, failed: &mut Vec<String>) {
    let Some(books) = report.mailboxes.books() else {
        return;
    };
    if books.offered != books.accepted + books.rejected {
        failed.push(format!(
            "mailboxes: offered {} is not accepted {} + rejected {}",
            books.offered, books.accepted, books.rejected
        ));
    }
    let out = books.handled + books.dropped + books.conflated + books.died + books.waiting;
    if books.accepted != out {
        failed.push(format!(
            "mailboxes: accepted {} is not handled {} + dropped {} + conflated {} + died {} + \
             waiting {}",
            books.accepted,
            books.handled,
            books.dropped,
            books.conflated,
            books.died,
            books.waiting
        ));
    }
    if books.waiting > 0 {
        failed.push(format!(
            "mailboxes: {} messages still wait at the end: {}",
            books.waiting,
            report.mailboxes.waiting_in.join(", ")
        ));
    }
}

/// A node that has stopped leaves nothing behind.
fn leaks(report: &RunReport, failed: &mut Vec<String>) {
    let leaks = &report.leaks;
    for (what, left) in [
        ("actors", &leaks.actors),
        ("threads", &leaks.threads),
        ("files", &leaks.files),
    ] {
        if let Some(left) = left.as_ref().filter(|left| !left.is_empty()) {
            failed.push(format!("left behind: {what}: {}", left.join(", ")));
        }
    }
    if let Some(tasks) = leaks.tasks.filter(|tasks| *tasks > 0) {
        failed.push(format!("left behind: {tasks} tasks"));
    }
}

fn scan(report: &RunReport, facts: &Facts, failed: &mut Vec<String>) {
    let scan = &report.world.scan;
    let (Some(period), Some(cycles)) = (scan.period_us, scan.cycles) else {
        return;
    };
    if period <= 0.0 {
        return;
    }
    let skipped = scan.skipped.unwrap_or(0);
    let elapsed = facts.scan_elapsed_s.unwrap_or(report.elapsed_s);
    let slots = (elapsed * 1e6 / period).round() as u64;
    if (cycles + skipped).abs_diff(slots) > CYCLE_TOLERANCE {
        failed.push(format!(
            "scan: {cycles} cycles + {skipped} skipped slots, but {slots} slots of {period} us \
             passed"
        ));
    }
    if !invariants::follows(cycles, slots) {
        failed.push(format!(
            "scan: it came to {cycles} of {slots} slots, less than one in {KEPT_ONE_IN}"
        ));
    }
}

fn notes(report: &RunReport) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(quarantined) = report.devices.quarantined.filter(|n| *n > 0) {
        notes.push(format!(
            "note: {quarantined} devices are quarantined by policy"
        ));
    }
    let Some(chaos) = &report.chaos else {
        return notes;
    };
    if chaos.parked > 0 {
        let (parked, unclear) = (chaos.parked, chaos.parked_not_judged);
        notes.push(format!(
            "note: {parked} parkings by policy under chaos (devices among them), {unclear} of \
             which could not be judged"
        ));
    }
    if !chaos.found_nobody.is_empty() {
        let faults = chaos.found_nobody.join(", ");
        notes.push(format!(
            "note: chaos: {faults} found no victim: scope, protect, blast_radius, max_concurrent \
             or what there is leave none"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Devices, Mailboxes};

    fn good() -> RunReport {
        let mut report = RunReport {
            elapsed_s: 20.0,
            ..RunReport::default()
        };
        report.devices = Devices {
            requested: Some(10),
            running: Some(10),
            quarantined: Some(0),
            ..Devices::default()
        };
        report.tiers.t1.sent = Some(100);
        report.tiers.t1.received = Some(98);
        report.tiers.t1.dropped = Some(2);
        report.tiers.t2.lost = Some(0);
        let books = actorsim_actors::Books {
            offered: 10,
            accepted: 9,
            rejected: 1,
            handled: 5,
            dropped: 2,
            conflated: 1,
            died: 1,
            waiting: 0,
        };
        report.mailboxes = Mailboxes::of(books, None);
        report.world.scan.period_us = Some(10_000.0);
        report.world.scan.cycles = Some(1_990);
        report.world.scan.skipped = Some(9);
        report
    }

    #[test]
    fn a_run_whose_checks_hold_passes() {
        let mut report = good();
        decide(&mut report, &Facts::default());
        assert_eq!(
            (report.verdict, report.why.len()),
            (Verdict::Pass, 0),
            "{:?}",
            report.why
        );
    }

    #[test]
    fn each_broken_check_is_named() {
        type Break = fn(&mut RunReport);
        let cases: &[(&str, Break)] = &[
            ("9 of 10 devices are running", |r| {
                r.devices.running = Some(9)
            }),
            ("t1: received 97 + counted drops 2", |r| {
                r.tiers.t1.received = Some(97)
            }),
            ("t1: applied 97 + dropped after receipt 0", |r| {
                r.tiers.t1.applied = Some(97);
                r.tiers.t1.dropped_after_receipt = Some(0);
            }),
            ("t2: 1 events are lost", |r| r.tiers.t2.lost = Some(1)),
            ("t2: 5 events are acknowledged, but 4", |r| {
                r.tiers.t2.acked = Some(5);
                r.tiers.t2.applied = Some(4);
            }),
            ("t3: 3 commands were issued", |r| {
                r.tiers.t3.issued = Some(3);
                r.tiers.t3.acked = Some(1);
                r.tiers.t3.expired = Some(1);
            }),
            ("offered 11 is not", |r| r.mailboxes.offered = Some(11)),
            ("accepted 9 is not", |r| r.mailboxes.handled = Some(4)),
            ("1 messages still wait", |r| {
                r.mailboxes.handled = Some(4);
                r.mailboxes.waiting = Some(1);
            }),
            ("left behind: actors: /a, /b", |r| {
                r.leaks.actors = Some(vec!["/a".into(), "/b".into()]);
            }),
            ("left behind: 3 tasks", |r| r.leaks.tasks = Some(3)),
            ("scan: 1900 cycles", |r| r.world.scan.cycles = Some(1_900)),
            ("scan: it came to 9 of 2000 slots", |r| {
                r.world.scan.cycles = Some(9);
                r.world.scan.skipped = Some(1_990);
            }),
            ("chaos: it struck nobody", |r| {
                let mut chaos = crate::report::Chaos::default();
                chaos.falls_short("it struck nobody".to_owned());
                r.chaos = Some(chaos);
            }),
        ];
        for (words, broken) in cases {
            let mut report = good();
            broken(&mut report);
            decide(&mut report, &Facts::default());
            assert_eq!(report.verdict, Verdict::Fail, "{words}");
            assert_eq!(report.why.len(), 1, "{:?}", report.why);
            assert!(report.why[0].contains(words), "{words}: {:?}", report.why);
        }
    }

    #[test]
    fn a_fleet_that_never_reached_its_twin_fails() {
        let mut report = good();
        let facts = Facts {
            links_unconnected: (1, 2),
            ..Facts::default()
        };
        decide(&mut report, &facts);
        assert_eq!(report.verdict, Verdict::Fail);
        assert!(
            report.why[0].starts_with("1 of 2 links never reached"),
            "{:?}",
            report.why
        );
    }

    #[test]
    fn what_a_node_does_not_have_is_not_checked() {
        let mut report = RunReport::default();
        decide(
            &mut report,
            &Facts {
                ending: Ending::Asked,
                scan_elapsed_s: None,
                ..Facts::default()
            },
        );
        assert_eq!(report.verdict, Verdict::Pass);
    }

    #[test]
    fn quarantine_by_policy_is_a_note_and_a_bad_ending_fails() {
        let mut report = good();
        report.devices.running = Some(8);
        report.devices.quarantined = Some(2);
        decide(&mut report, &Facts::default());
        assert_eq!(report.verdict, Verdict::Pass);
        assert!(report.why[0].contains("2 devices are quarantined"));
        for ending in [
            Ending::Cut,
            Ending::GaveUp("x".into()),
            Ending::ShutdownTimeOver(vec![]),
        ] {
            let mut report = good();
            decide(
                &mut report,
                &Facts {
                    ending,
                    scan_elapsed_s: None,
                    ..Facts::default()
                },
            );
            assert_eq!(report.verdict, Verdict::Fail);
        }
    }
}
