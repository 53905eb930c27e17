//! What must hold whatever was broken, by the names of `docs/testing.md`.
//!
//! Pure: it is given what was seen after the quiet end of a run, live or simulated. What was not
//! seen is not checked, and not said to hold. Invariants that need a model beside the run (who dies
//! with whom, restart windows) are held by the tests of the supervision crate.
//! Bound: a fixed list.

use std::time::Duration;

use actorsim_actors::Books;

use super::{Chaos, Devices, Ledger, Mailboxes, Scan, T2};

/// What was seen at the end of a run. `None`: nobody could see it.
#[derive(Debug)]
pub struct Seen<'a> {
    /// All books.
    pub mailboxes: &'a Mailboxes,
    /// The devices, before the stop.
    pub devices: &'a Devices,
    /// Events, where both who makes and who applies them are here.
    pub t2: Option<&'a T2>,
    /// The events of each device as it had them acknowledged, and as the world has them.
    pub ledgers: Option<(Ledger, Ledger)>,
    /// The scan, and how many slots its time had.
    pub scan: Option<(&'a Scan, u64)>,
    /// Actors and sockets that are there after the stop.
    pub left: Option<Vec<String>>,
    /// What was down or apart when its time to come back was over; what a policy parks is not.
    pub not_back: Vec<String>,
    /// That time.
    pub within: Duration,
}

/// A scan that comes to fewer of its slots than one in so many does not follow its devices any
/// more, however busy the host is. (I10)
pub const KEPT_ONE_IN: u64 = 10;

/// Checks each; the report gets all, the verdict those that broke.
pub fn check(seen: &Seen<'_>, chaos: &mut Chaos) -> Vec<String> {
    let checks: [(&str, Option<Result<(), String>>); 4] = [
        ("I5 books balance", seen.mailboxes.books().map(books)),
        ("I8 nothing is left", seen.left.as_deref().map(left)),
        (
            "I9 all are back",
            Some(back(seen, &chaos.parked_without_cause)),
        ),
        ("I10 the twin knows what happened", twin(seen)),
    ];
    let mut broken = Vec::new();
    for (name, held) in checks {
        let Some(held) = held else { continue };
        let told = held.as_ref().err().map_or("held", String::as_str);
        chaos.invariants.insert(name.to_owned(), told.to_owned());
        broken.extend(held.err().map(|wrong| format!("{name}: {wrong}")));
    }
    broken
}

fn books(books: Books) -> Result<(), String> {
    let balanced = books.balanced().then_some(());
    balanced.ok_or_else(|| format!("{books:?}"))
}

fn left(left: &[String]) -> Result<(), String> {
    match left {
        [] => Ok(()),
        left => Err(left.join(", ")),
    }
}

/// Who is parked is not up. It is counted, and what broke if no plan gave reason to park it.
fn back(seen: &Seen<'_>, without_cause: &[String]) -> Result<(), String> {
    let mut apart = seen.not_back.clone();
    apart.extend_from_slice(without_cause);
    let devices = seen.devices;
    if let (Some(requested), Some(running)) = (devices.requested, devices.running) {
        let parked = devices.quarantined.unwrap_or(0);
        if running + parked != requested {
            apart.push(format!(
                "{running} running and {parked} quarantined of {requested} devices"
            ));
        }
    }
    left(&apart).map_err(|apart| format!("after {:?}: {apart}", seen.within))
}

/// Each event is in the world, once, in the order of its device; and the scan went on.
fn twin(seen: &Seen<'_>) -> Option<Result<(), String>> {
    let events = seen.t2.and_then(|t2| t2.created.zip(t2.applied));
    if events.is_none() && seen.scan.is_none() {
        return None;
    }
    let mut wrong = Vec::new();
    // more than were made here may come from elsewhere; one that is doubled shows in the ledgers
    if let Some((created, applied)) = events.filter(|(created, applied)| created > applied) {
        wrong.push(format!("{created} events were made, {applied} applied"));
    }
    if let Some((acked, applied)) = seen.ledgers.as_ref().filter(|(one, two)| one != two) {
        wrong.push(format!("acknowledged {acked:?}, applied {applied:?}"));
    }
    if let Some((scan, slots)) = seen.scan
        && !follows(scan.cycles.unwrap_or(0), slots)
    {
        let cycles = scan.cycles.unwrap_or(0);
        wrong.push(format!("the scan came to {cycles} of {slots} slots"));
    }
    Some(left(&wrong))
}

/// Whether a scan of so many cycles follows its devices; a short run is all edges.
#[must_use]
pub fn follows(cycles: u64, slots: u64) -> bool {
    cycles.saturating_mul(KEPT_ONE_IN) + KEPT_ONE_IN >= slots
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(20);

    #[test]
    fn what_broke_is_named_and_the_rest_held() {
        let unbalanced = Books {
            offered: 1,
            ..Books::default()
        };
        let mailboxes = Mailboxes::of(unbalanced, None);
        let devices = Devices {
            requested: Some(3),
            running: Some(2),
            quarantined: Some(1),
            ..Devices::default()
        };
        let t2 = T2 {
            created: Some(5),
            applied: Some(4),
            ..T2::default()
        };
        let seen = Seen {
            mailboxes: &mailboxes,
            devices: &devices,
            t2: Some(&t2),
            ledgers: None,
            scan: None,
            left: Some(Vec::new()),
            not_back: Vec::new(),
            within: WITHIN,
        };
        let mut chaos = Chaos::default();
        let broken = check(&seen, &mut chaos);
        assert_eq!(broken.len(), 2, "{broken:?}");
        assert!(broken[0].starts_with("I5") && broken[1].starts_with("I10"));
        assert_eq!(chaos.invariants["I9 all are back"], "held");
        assert_eq!(chaos.invariants.len(), 4);
    }

    #[test]
    fn who_is_not_back_is_named_and_what_nobody_saw_is_not_said_to_hold() {
        let seen = Seen {
            mailboxes: &Mailboxes::default(),
            devices: &Devices::default(),
            t2: None,
            ledgers: None,
            scan: None,
            left: None,
            not_back: vec!["/twin/scan is restarting (killed)".to_owned()],
            within: WITHIN,
        };
        let mut chaos = Chaos::default();
        let broken = check(&seen, &mut chaos);
        let told = "I9 all are back: after 20s: /twin/scan is restarting (killed)";
        assert_eq!(broken, [told]);
        assert_eq!(chaos.invariants.len(), 1);
        chaos.parked = 2; // one of them had to be
        let without_cause = "/fleet/g/d was parked, and the plan made it fail 1 times";
        chaos.parked_without_cause = vec![without_cause.to_owned()];
        let seen = Seen {
            not_back: Vec::new(),
            ..seen
        };
        let broken = check(&seen, &mut chaos);
        assert_eq!(
            broken,
            [format!("I9 all are back: after 20s: {without_cause}")]
        );
    }

    #[test]
    fn a_twin_that_skips_its_slots_or_has_other_events_does_not_know_what_happened() {
        let ledger = |digest: &str| Ledger {
            devices: 1,
            events: 4,
            digest: digest.to_owned(),
        };
        let scan = |cycles| Scan {
            cycles: Some(cycles),
            ..Scan::default()
        };
        let broken = |cycles, applied| {
            let scan = scan(cycles);
            let seen = Seen {
                mailboxes: &Mailboxes::default(),
                devices: &Devices::default(),
                t2: None,
                ledgers: Some((ledger("a"), ledger(applied))),
                scan: Some((&scan, 1_000)),
                left: None,
                not_back: Vec::new(),
                within: WITHIN,
            };
            check(&seen, &mut Chaos::default())
        };
        assert!(broken(1_000, "a").is_empty());
        assert!(broken(0, "a")[0].contains("0 of 1000 slots"));
        assert!(broken(1_000, "b")[0].contains("acknowledged"));
    }
}
