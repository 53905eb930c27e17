//! What must hold whatever was broken, by the names of `docs/testing.md`.
//!
//! Pure: it is given what was seen after the quiet end of a run. Invariants that need a model
//! beside the run (who dies with whom, restart windows) are held by the tests of the supervision
//! crate.
//! Bound: a fixed list.

use crate::report::{Chaos, Devices, Mailboxes, T2};

/// What was seen at the end of a run.
#[derive(Debug)]
pub struct Seen<'a> {
    /// All books.
    pub mailboxes: &'a Mailboxes,
    /// The devices, before the stop.
    pub devices: &'a Devices,
    /// Events.
    pub t2: &'a T2,
    /// Actors and sockets that are there after the stop.
    pub left: Vec<String>,
}

/// Checks each; the report gets all, the verdict those that broke.
pub fn check(seen: &Seen<'_>, chaos: &mut Chaos) -> Vec<String> {
    let checks: [(&str, Option<String>); 4] = [
        ("I5 books balance", books(seen.mailboxes)),
        ("I8 nothing is left", left(&seen.left)),
        ("I9 all are back", back(seen.devices)),
        ("I10 the twin knows what happened", twin(seen)),
    ];
    let mut broken = Vec::new();
    for (name, wrong) in checks {
        let told = wrong.as_deref().unwrap_or("held");
        chaos.invariants.insert(name.to_owned(), told.to_owned());
        broken.extend(wrong.map(|wrong| format!("{name}: {wrong}")));
    }
    broken
}

fn books(m: &Mailboxes) -> Option<String> {
    let balanced = m.offered == m.accepted + m.rejected
        && m.accepted == m.handled + m.dropped + m.conflated + m.died + m.waiting;
    (!balanced).then(|| format!("{m:?}"))
}

fn left(left: &[String]) -> Option<String> {
    (!left.is_empty()).then(|| left.join(", "))
}

fn back(devices: &Devices) -> Option<String> {
    let (Some(requested), Some(running)) = (devices.requested, devices.running) else {
        return None;
    };
    let parked = devices.quarantined.unwrap_or(0);
    (running + parked != requested)
        .then(|| format!("{running} running and {parked} quarantined of {requested} devices"))
}

/// Each event is in the world, once.
fn twin(seen: &Seen<'_>) -> Option<String> {
    let (created, applied) = (seen.t2.created?, seen.t2.applied?);
    (created != applied).then(|| format!("{created} events were made, {applied} applied"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_broke_is_named_and_the_rest_held() {
        let mut chaos = Chaos::default();
        let seen = Seen {
            mailboxes: &Mailboxes {
                offered: 1,
                ..Mailboxes::default()
            },
            devices: &Devices {
                requested: Some(3),
                running: Some(2),
                quarantined: Some(1),
                ..Devices::default()
            },
            t2: &T2 {
                created: Some(5),
                applied: Some(4),
                ..T2::default()
            },
            left: Vec::new(),
        };
        let broken = check(&seen, &mut chaos);
        assert_eq!(broken.len(), 2, "{broken:?}");
        assert!(broken[0].starts_with("I5") && broken[1].starts_with("I10"));
        assert_eq!(chaos.invariants["I9 all are back"], "held");
        assert_eq!(chaos.invariants.len(), 4);
    }
}
