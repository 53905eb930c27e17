//! What is said of a run that failed: the command that makes it again, the faults it had, and its
//! last events in fixed columns (`docs/testing.md` explains them).
//!
//! Bound: [`TRACE_LINES`] lines of events, [`FAULT_LINES`] faults.

use std::fmt;

use actorsim_actors::{System, Time};

use super::chaos::Chaos;

/// Lines of the trace.
pub const TRACE_LINES: usize = 40;
/// Faults listed one by one.
pub const FAULT_LINES: usize = 20;

/// One line of the trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceLine {
    /// Virtual time.
    pub at: Time,
    /// What it was, in one character.
    pub glyph: char,
    /// Whom.
    pub path: String,
    /// In words.
    pub text: String,
}

impl fmt::Display for TraceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.0 as f64 * 1e-9;
        write!(
            f,
            "{at:>12.3}  {}  {:<40}  {}",
            self.glyph, self.path, self.text
        )
    }
}

/// The last events of a run and its strikes, by time.
#[must_use]
pub fn trace(system: &System, chaos: Option<&Chaos>) -> Vec<TraceLine> {
    let _ = system;
    let strikes = chaos.into_iter().flat_map(Chaos::strikes);
    let mut lines: Vec<TraceLine> = strikes
        .map(|strike| TraceLine {
            at: strike.at,
            glyph: '!',
            path: strike.path.to_string(),
            text: strike.plan.fault.to_string(),
        })
        .collect();
    lines.sort_by_key(|line| line.at);
    lines.split_off(lines.len().saturating_sub(TRACE_LINES))
}

/// The words of a failed run: how to make it again, what was broken on purpose, the last events.
#[must_use]
pub fn tell(replay: &str, outcome: &super::Outcome) -> String {
    let mut lines = vec![replay.to_owned()];
    if let Some(chaos) = &outcome.chaos {
        let total = chaos.schedule().counts().total() as usize;
        let told: Vec<_> = chaos.strikes().collect();
        let first = told.len().saturating_sub(FAULT_LINES);
        lines.push(format!("faults: {total}, the last {}:", told.len() - first));
        lines.extend(told[first..].iter().map(|strike| format!("  {strike}")));
    }
    lines.push("           t     path                                      what".to_owned());
    lines.extend(outcome.trace.iter().map(ToString::to_string));
    lines.join("\n")
}
