//! What is said of a run that failed: the command that makes it again, the faults it needs, and its
//! last events in fixed columns (`docs/testing.md` explains them).
//!
//! Bounds: [`TRACE_LINES`] lines of events, [`FAULT_LINES`] faults, [`SHRINK_RUNS`] runs.

use std::collections::BTreeSet;
use std::fmt;

use actorsim_actors::{Event, System, Time};
use actorsim_supervision::chaos::{Fault, Strike};

use super::chaos::Chaos;

/// Lines of the trace.
pub const TRACE_LINES: usize = 40;
/// Faults listed one by one.
pub const FAULT_LINES: usize = 20;
/// Runs made to find the faults that are needed.
pub const SHRINK_RUNS: usize = 32;
/// The head of the trace.
pub const COLUMNS: &str = concat!(
    "          t  node  glyph  path                                ",
    "inc  state        mbox  restarts",
);

/// What is known of an actor at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Which life.
    pub incarnation: Option<u32>,
    /// `running`, `restarting`, ...
    pub state: Option<&'static str>,
    /// Messages waiting.
    pub mailbox: Option<u32>,
    /// Restarts so far.
    pub restarts: Option<u32>,
}

/// One line of the trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceLine {
    /// Virtual time.
    pub at: Time,
    /// What it was, in one character.
    pub glyph: char,
    /// Whom.
    pub path: String,
    /// What is known of it.
    pub known: Known,
    /// In words.
    pub text: String,
}

impl TraceLine {
    /// A strike, with what was known of its victim.
    #[must_use]
    pub fn strike(strike: &Strike, known: Known) -> Self {
        Self {
            at: strike.at,
            glyph: match strike.plan.fault {
                Fault::Kill | Fault::Stop | Fault::NodeCrash => '!',
                fault if fault.hits_link() => '|',
                _ => 'x',
            },
            path: strike.path.to_string(),
            known,
            text: format!("{} {}", strike.label(), strike.plan.fault),
        }
    }

    /// The end of something that lasted.
    #[must_use]
    pub fn healed(strike: &Strike, at: Time) -> Self {
        Self {
            at,
            glyph: '+',
            path: strike.path.to_string(),
            known: Known::default(),
            text: format!("{} {} ends", strike.label(), strike.plan.fault),
        }
    }

    fn event(event: &Event) -> Self {
        let glyph = match event.name {
            "restarted" | "connected" | "scan_started" | "spawned" => '^',
            "crash" | "system_isolated" => 'x',
            "disconnected" | "connect_failed" => '~',
            "escalated" | "quarantined" => '#',
            _ => '.',
        };
        let path = event.path.as_ref().map(ToString::to_string);
        Self {
            at: event.at,
            glyph,
            path: path.unwrap_or_default(),
            known: Known::default(),
            text: format!("{}: {}", event.name, event.text),
        }
    }
}

impl fmt::Display for TraceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let at = self.at.0 as f64 * 1e-9;
        write!(
            f,
            "{at:>11.3}  sim   {:<5}  {:<34}  {:>3}  {:<11}  {:>4}  {:>8}  {}",
            self.glyph,
            self.path,
            number(self.known.incarnation),
            self.known.state.unwrap_or("-"),
            number(self.known.mailbox),
            number(self.known.restarts),
            self.text
        )
    }
}

/// The last events of a run and its strikes, by time.
#[must_use]
pub fn trace(system: &System, chaos: Option<&Chaos>) -> Vec<TraceLine> {
    let strikes = chaos.into_iter().flat_map(Chaos::trace).cloned();
    let events = system.events().last(TRACE_LINES);
    let mut lines: Vec<_> = strikes.chain(events.iter().map(TraceLine::event)).collect();
    lines.sort_by_key(|line| line.at);
    lines.split_off(lines.len().saturating_sub(TRACE_LINES))
}

/// The words of a failed run: how to make it again, what was broken on purpose, the last events.
#[must_use]
pub fn tell(replay: &str, outcome: &super::Outcome) -> String {
    let mut lines = vec![replay.to_owned()];
    if let Some(chaos) = &outcome.chaos {
        let told: Vec<_> = chaos.strikes().collect();
        let first = told.len().saturating_sub(FAULT_LINES);
        let (total, told) = (chaos.schedule().counts().total(), &told[first..]);
        let numbers: BTreeSet<u64> = told.iter().map(|strike| strike.number).collect();
        lines.push(format!("faults: {total}, the last {}:", numbers.len()));
        lines.extend(told.iter().map(|strike| format!("  {strike}")));
    }
    lines.push(COLUMNS.to_owned());
    lines.extend(outcome.trace.iter().map(ToString::to_string));
    lines.join("\n")
}

/// Leaves strikes out as long as the run still fails (delta debugging, Zeller 1999); `fails` makes
/// a run with only these strikes. At most [`SHRINK_RUNS`] runs: the list may not be the shortest.
pub fn shrink(all: Vec<u64>, mut fails: impl FnMut(&BTreeSet<u64>) -> bool) -> BTreeSet<u64> {
    let (mut kept, mut parts, mut runs) = (all, 2, 0);
    while kept.len() > 1 {
        let size = kept.len().div_ceil(parts);
        let mut shorter = None;
        for part in 0..kept.len().div_ceil(size) {
            if runs == SHRINK_RUNS {
                return kept.into_iter().collect();
            }
            runs += 1;
            let (from, to) = (part * size, ((part + 1) * size).min(kept.len()));
            let rest: BTreeSet<u64> = kept[..from].iter().chain(&kept[to..]).copied().collect();
            if !rest.is_empty() && fails(&rest) {
                shorter = Some(rest);
                break;
            }
        }
        match shorter {
            Some(rest) => {
                kept = rest.into_iter().collect();
                parts = parts.saturating_sub(1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(kept.len()),
        }
    }
    kept.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_shortened_to_the_strikes_that_are_needed() {
        let needed = [7, 33];
        let mut runs = 0;
        let found = shrink((0..50).collect(), |only| {
            runs += 1;
            needed.iter().all(|number| only.contains(number))
        });
        assert!(runs <= SHRINK_RUNS);
        assert!(needed.iter().all(|number| found.contains(number)));
        assert!(found.len() <= 4, "{found:?} after {runs} runs");
        assert_eq!(shrink(vec![5], |_| true), [5].into());
    }

    #[test]
    fn columns_stand_below_their_heads() {
        let line = TraceLine {
            at: Time(41_220_000_000),
            glyph: '!',
            path: "/twin/scan".to_owned(),
            known: Known {
                incarnation: Some(3),
                state: Some("running"),
                mailbox: Some(0),
                restarts: Some(2),
            },
            text: "#9 kill".to_owned(),
        };
        let text = line.to_string();
        for (head, cell) in [("path", "/twin"), ("state", "running"), ("node", "sim")] {
            assert_eq!(COLUMNS.find(head), text.find(cell), "{text}");
        }
        assert!(text.starts_with("     41.220  sim   !"), "{text}");
        assert!(text.ends_with("#9 kill"));
    }
}
