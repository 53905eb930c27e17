//! Faults of devices from a prompt: read from their words, sent to a selection, listed.
//!
//! Everything wrong with a line is said at once. Bounds: those of a selection; one event a command.

use actorsim_actors::System;
use actorsim_actors::events::Level;
use actorsim_fleet::fault::{FaultWords, known_kind};
use actorsim_fleet::{Fleet, Injection, Reached, Selector};
use serde_json::{Value as Json, json};

use crate::attach::control::FaultWord;
use crate::attach::protocol::{Code, Refusal};
use crate::attach::rows::event_row;

/// Events of faults that are told at level info.
const TOLD: [&str; 2] = ["fault_injected", "fault_reverted"];

/// A line that can be carried out.
#[derive(Debug, PartialEq)]
struct Order {
    event: &'static str,
    selector: Selector,
    injection: Injection,
    /// What is done, in words.
    what: String,
}

fn usage(wrong: &[String]) -> Refusal {
    let message = format!("nothing was done: {}", wrong.join("; "));
    Refusal::new(Code::Usage, message)
}

fn order(word: &FaultWord) -> Result<Order, Refusal> {
    let (selector, read) = match word {
        FaultWord::Inject {
            selector,
            kind,
            params,
        } => (selector, injection(kind, params)),
        FaultWord::Revert { selector, kind } => (selector, reversal(kind.as_deref())),
    };
    match (Selector::parse(selector), read) {
        (Ok(selector), Ok((injection, what))) => Ok(Order {
            event: match word {
                FaultWord::Inject { .. } => "fault_injected",
                FaultWord::Revert { .. } => "fault_reverted",
            },
            selector,
            injection,
            what,
        }),
        (selector, read) => {
            let wrong = [selector.err(), read.err()];
            Err(usage(
                &wrong.into_iter().flatten().flatten().collect::<Vec<_>>(),
            ))
        }
    }
}

fn injection(kind: &str, params: &[String]) -> Result<(Injection, String), Vec<String>> {
    let (mut duration, mut given, mut twice) = (None, Vec::new(), Vec::new());
    for param in params {
        let (name, value) = param.split_once('=').unwrap_or((param, ""));
        let again = match name {
            "for" => duration.replace(value).is_some(),
            _ => given.iter().any(|(before, _)| *before == name),
        };
        if again {
            twice.push(format!("`{name}` is given twice"));
        } else if name != "for" {
            given.push((name, value));
        }
    }
    let words = FaultWords {
        kind,
        duration,
        params: &given,
    };
    match words.read() {
        Ok(injection) if twice.is_empty() => {
            let rest = params.iter().map(|param| format!(" {param}"));
            Ok((injection, format!("{kind}{}", rest.collect::<String>())))
        }
        read => Err(read.err().into_iter().flatten().chain(twice).collect()),
    }
}

fn reversal(kind: Option<&str>) -> Result<(Injection, String), Vec<String>> {
    let kind = kind.map(known_kind).transpose();
    let kind = kind.map_err(|unknown| vec![unknown])?;
    match kind {
        Some(kind @ ("crash" | "poison")) => Err(vec![format!(
            "{kind} cannot be reverted: a new incarnation begins without it"
        )]),
        _ => Ok((Injection::Revert(kind), kind.unwrap_or("all").to_owned())),
    }
}

/// Whether it makes devices fail at once, so that their supervisors may park them. One that is
/// poisoned fails some time later: what it fails of tells then that it was told to.
pub(super) fn ends_devices(word: &FaultWord) -> bool {
    matches!(word, FaultWord::Inject { kind, .. } if kind == "crash")
}

/// How far a command came, in words.
fn told(reached: &Reached) -> String {
    let mut text = format!("sent to {} of {} devices", reached.sent, reached.selected);
    if reached.full > 0 {
        text += &format!("; {} not reached: their shard had no room", reached.full);
    }
    if reached.closed > 0 {
        text += &format!("; {} not reached: their shard is gone", reached.closed);
    }
    text
}

/// Injects into devices, or reverts.
pub(crate) async fn fault_devices(
    (system, fleet): (&System, &Fleet),
    word: FaultWord,
) -> Result<Json, Refusal> {
    let order = order(&word)?;
    let (FaultWord::Inject { selector, .. } | FaultWord::Revert { selector, .. }) = &word;
    let sent = fleet.inject_where(&order.selector, order.injection).await;
    let reached = sent.map_err(|none| Refusal::new(Code::NotFound, none))?;
    let text = format!("{} on {selector}: {}", order.what, told(&reached));
    let level = match reached.sent == reached.selected {
        true => Level::Info,
        false => Level::Warn,
    };
    system
        .events()
        .publish(level, order.event, None, text.clone());
    let row = json!({
        "id": null, "at": null, "level": level, "name": order.event, "path": null,
        "text": text, "reached": reached,
    });
    Ok(json!({ "rows": [row] }))
}

/// What acts now, then the last faults and crash reports.
pub(crate) fn list_faults((system, fleet): (&System, Option<&Fleet>), limit: usize) -> Json {
    let counts = fleet.map(Fleet::faults);
    let kinds = counts.into_iter().flat_map(|counts| {
        let kinds: Vec<_> = counts
            .kinds()
            .filter(|(_, injected, _)| *injected > 0)
            .collect();
        kinds
    });
    let mut rows: Vec<_> = kinds
        .map(|(kind, injected, active)| {
            json!({
                "id": null, "at": null, "level": Level::Info, "name": "fault_counts",
                "path": null, "text": format!("{kind}: {active} act, {injected} injected"),
                "fault": kind, "active": active, "injected": injected,
            })
        })
        .collect();
    let events = system.events().last(usize::MAX);
    let own = events
        .iter()
        .rev()
        .filter(|event| event.level > Level::Info || TOLD.contains(&event.name));
    let mut last: Vec<_> = own.take(limit).map(event_row).collect();
    last.reverse();
    rows.append(&mut last);
    json!({ "rows": rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_an_injection_or_all_that_is_wrong_with_it() {
        let inject = |selector: &str, kind: &str, params: &[&str]| {
            order(&FaultWord::Inject {
                selector: selector.to_owned(),
                kind: kind.to_owned(),
                params: params.iter().map(|param| (*param).to_owned()).collect(),
            })
        };
        let spike = inject(
            "meter-*,10%",
            "latency_spike",
            &["for=30s", "latency_ms=250"],
        );
        let spike = spike.unwrap();
        assert_eq!(spike.what, "latency_spike for=30s latency_ms=250");
        assert!(matches!(spike.injection, Injection::Fault(_)));
        assert_eq!(
            inject("*", "crash", &[]).unwrap().injection,
            Injection::Crash
        );
        let wrong = inject("0%,", "latency_spike", &["for=soon", "ms=3", "ms=4"]);
        let wrong = wrong.unwrap_err().message;
        for part in [
            "`0%`",
            "empty term",
            "`soon`",
            "not `ms`",
            "is missing",
            "given twice",
        ] {
            assert!(wrong.contains(part), "{part}: {wrong}");
        }
        let revert = |kind: &str| {
            order(&FaultWord::Revert {
                selector: "*".to_owned(),
                kind: Some(kind.to_owned()),
            })
        };
        assert!(revert("storm").is_ok());
        assert!(
            revert("strom")
                .unwrap_err()
                .message
                .contains("known: disconnect")
        );
        assert!(
            revert("crash")
                .unwrap_err()
                .message
                .contains("cannot be reverted")
        );
    }
}
