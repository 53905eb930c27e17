//! A fault from its words: kind, duration, parameters.
//!
//! One table says which kind takes which parameter. All that is wrong is said at once. Bound: the
//! table.

use std::time::Duration;

use super::{DRAIN_MULTIPLIER, Fault, FaultSpec};
use crate::device::Injection;
use crate::profile::parse_duration;

/// Each kind with its parameter, if it takes one, and what that means.
pub const FAULT_KINDS: [(&str, Option<(&str, &str)>); 11] = [
    ("disconnect", None),
    (
        "latency_spike",
        Some(("latency_ms", "milliseconds, from 0")),
    ),
    (
        "data_corruption",
        Some(("corruption_rate", "probability a value, 0..1")),
    ),
    (
        "battery_drain",
        Some(("drain_multiplier", "from 1; 10 if absent")),
    ),
    (
        "clock_drift",
        Some(("drift_rate_ms_per_sec", "milliseconds a second, either way")),
    ),
    ("hang", None),
    (
        "flap",
        Some(("period", "a duration: half of it down, half of it up")),
    ),
    ("duplicate", Some(("rate", "probability a sample, 0..1"))),
    ("storm", None),
    ("crash", None),
    ("poison", None),
];

/// Kinds that do not last a time that could be given, and why.
const WITHOUT_DURATION: [(&str, &str); 3] = [
    ("storm", "each device comes back by its own backoff"),
    ("crash", "its supervisor decides when it is back"),
    ("poison", "its next message ends it"),
];

/// The kind of that name.
///
/// # Errors
/// What there is instead.
pub fn known_kind(kind: &str) -> Result<&'static str, String> {
    let mut kinds = FAULT_KINDS.iter().map(|(kind, _)| *kind);
    kinds.find(|known| *known == kind).ok_or_else(|| {
        let kinds: Vec<_> = FAULT_KINDS.iter().map(|(kind, _)| *kind).collect();
        format!("unknown fault `{kind}`; known: {}", kinds.join(", "))
    })
}

/// Longest latency and period: beyond an hour it is a disconnect.
const TIME_MAX: Duration = Duration::from_secs(3_600);
/// Fastest drift: a clock that runs at double speed.
const DRIFT_MAX: f64 = 1_000.0;

/// A fault as it was written.
#[derive(Clone, Copy, Debug)]
pub struct FaultWords<'a> {
    /// Its kind.
    pub kind: &'a str,
    /// `30s`, `5m`; until it is reverted if absent.
    pub duration: Option<&'a str>,
    /// Parameters with their values.
    pub params: &'a [(&'a str, &'a str)],
}

impl FaultWords<'_> {
    /// Reads the words.
    ///
    /// # Errors
    /// A sentence for everything that is wrong.
    pub fn read(&self) -> Result<Injection, Vec<String>> {
        let mut wrong = Vec::new();
        let duration = self.duration.and_then(|text| match time(text) {
            Ok(Duration::ZERO) => None, // in the original's words: permanent
            Ok(duration) => Some(duration),
            Err(why) => {
                wrong.push(format!("duration `{text}`: {why}"));
                None
            }
        });
        if let Err(unknown) = known_kind(self.kind) {
            wrong.push(unknown);
            return Err(wrong);
        }
        let known = FAULT_KINDS.iter().find(|(kind, _)| *kind == self.kind);
        let takes = known.and_then(|(_, takes)| *takes);
        let endless = WITHOUT_DURATION.iter().find(|(kind, _)| *kind == self.kind);
        if let (Some((kind, why)), Some(_)) = (endless, self.duration) {
            wrong.push(format!("{kind} takes no duration: {why}"));
        }
        for (name, _) in self.params {
            if takes.is_none_or(|(known, _)| known != *name) {
                let takes = takes.map_or("nothing".to_owned(), |(known, _)| format!("`{known}`"));
                wrong.push(format!("{} takes {takes}, not `{name}`", self.kind));
            }
        }
        let value = takes.and_then(|(known, _)| {
            let found = self.params.iter().find(|(name, _)| *name == known);
            found.map(|(_, value)| *value)
        });
        match fault(self.kind, value) {
            Ok(_) if !wrong.is_empty() => {}
            Ok(None) if self.kind == "crash" => return Ok(Injection::Crash),
            Ok(None) => return Ok(Injection::Poison),
            Ok(Some(fault)) => return Ok(Injection::Fault(FaultSpec { fault, duration })),
            Err(why) => {
                let (name, means) = takes.unwrap_or_default();
                wrong.push(format!("{}: {name} {why} ({means})", self.kind));
            }
        }
        Err(wrong)
    }
}

/// `None`: one that does not last.
fn fault(kind: &str, value: Option<&str>) -> Result<Option<Fault>, String> {
    Ok(Some(match kind {
        "crash" | "poison" => return Ok(None),
        "latency_spike" => {
            let ms = number(value, None, 0.0, TIME_MAX.as_secs_f64() * 1_000.0)?;
            Fault::LatencySpike(Duration::from_secs_f64(ms / 1_000.0))
        }
        "data_corruption" => Fault::DataCorruption(number(value, None, 0.0, 1.0)?),
        "battery_drain" => Fault::BatteryDrain(number(value, Some(DRAIN_MULTIPLIER), 1.0, 1e6)?),
        "clock_drift" => Fault::ClockDrift(number(value, None, -DRIFT_MAX, DRIFT_MAX)?),
        "duplicate" => Fault::Duplicate(number(value, None, 0.0, 1.0)?),
        "flap" => match time(value.ok_or("is missing")?)? {
            period if period.is_zero() => return Err("must be longer than 0".to_owned()),
            period if period > TIME_MAX => return Err("is more than an hour".to_owned()),
            period => Fault::Flap(period),
        },
        "hang" => Fault::Hang,
        "storm" => Fault::Storm,
        _ => Fault::Disconnect,
    }))
}

fn number(value: Option<&str>, default: Option<f64>, min: f64, max: f64) -> Result<f64, String> {
    let Some(text) = value else {
        return default.ok_or_else(|| "is missing".to_owned());
    };
    let number: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number"))?;
    if (min..=max).contains(&number) {
        Ok(number)
    } else {
        Err(format!("`{text}` is not within {min}..{max}"))
    }
}

fn time(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    parse_duration(text).map_err(|why| why.to_string())
}
