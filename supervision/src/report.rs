//! Crash reports and the counters of a supervision tree.
//!
//! One structured event for an abnormal end: who, which life, why, the last message, what waited,
//! what is done about it. Repeats of the same (path, reason) within [`FOLD_PERIOD`] are counted and
//! told with the next report. Nothing here decides. Bound: [`FOLDED_MAX`] pairs are remembered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actorsim_actors::{ActorPath, Exit, ExitReason, Incarnation, Level, System, Time};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

use crate::strategy::Decision;

/// Repeats within this time become one report with a count.
pub const FOLD_PERIOD: Duration = Duration::from_secs(1);
/// Pairs of path and reason that are remembered; beyond it the oldest is forgotten with its count.
pub const FOLDED_MAX: usize = 1_024;
/// Longest restart time that is told apart: a longer one counts as this.
pub const RESTART_TIME_MAX: Duration = Duration::from_secs(600);

/// Why a child is down and what its supervisor does about it.
#[derive(Debug, Clone, Serialize)]
pub struct CrashReport {
    /// Who.
    pub path: ActorPath,
    /// Which life of it; none if it did not start.
    pub incarnation: Option<Incarnation>,
    /// Why it ended.
    pub reason: ExitReason,
    /// Kind of the last message it took in hand.
    pub last_kind: Option<&'static str>,
    /// Messages that waited.
    pub depth: u32,
    /// Failures in a row.
    pub failures: u32,
    /// What is done.
    pub decision: Decision,
    /// Siblings that are stopped and started with it.
    pub siblings: usize,
    /// Wait before the restart.
    pub delay: Duration,
}

impl CrashReport {
    /// The report of an end.
    #[must_use]
    pub fn of(exit: &Exit) -> Self {
        Self {
            path: exit.path.clone(),
            incarnation: Some(exit.incarnation),
            reason: exit.reason.clone(),
            last_kind: exit.last_kind,
            depth: exit.depth,
            failures: 0,
            decision: Decision::Leave,
            siblings: 0,
            delay: Duration::ZERO,
        }
    }
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation {
            Some(life) => write!(f, "incarnation {life} ended: {}", self.reason)?,
            None => write!(f, "did not start: {}", self.reason)?,
        }
        if let Some(kind) = self.last_kind {
            write!(f, "; last message {kind}")?;
        }
        if self.depth > 0 {
            write!(f, ", {} waiting", self.depth)?;
        }
        match self.decision {
            Decision::Restart => {
                write!(f, "; restart")?;
                if self.siblings > 0 {
                    write!(f, " with {} siblings", self.siblings)?;
                }
                if !self.delay.is_zero() {
                    let whole = Duration::from_millis(self.delay.as_millis() as u64);
                    write!(f, " in {}", humantime::format_duration(whole))?;
                }
                write!(f, " (failure {} in a row)", self.failures)
            }
            Decision::Leave => f.write_str("; left down"),
            Decision::Remove => f.write_str("; not restarted (temporary)"),
            Decision::Quarantine => f.write_str("; quarantined: too many restarts"),
            Decision::AutoShutdown => f.write_str("; the supervisor shuts down with it"),
            Decision::Escalate => f.write_str("; the supervisor gives up: too many restarts"),
        }
    }
}

#[derive(Debug)]
struct Folded {
    since: Time,
    repeats: u64,
}

/// Counters and crash reports of one supervision tree; every supervisor in it shares them.
#[derive(Debug)]
pub struct Supervision {
    restarts: AtomicU64,
    escalations: AtomicU64,
    quarantined: AtomicU64,
    kills: AtomicU64,
    restart_us: Mutex<Histogram<u64>>,
    folded: Mutex<BTreeMap<(ActorPath, &'static str), Folded>>,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SupervisionStats {
    /// Children started again.
    pub restarts: u64,
    /// Supervisors that gave up.
    pub escalations: u64,
    /// Children parked so far.
    pub quarantined: u64,
    /// Children that were killed.
    pub kills: u64,
}

impl Default for Supervision {
    fn default() -> Self {
        let longest = RESTART_TIME_MAX.as_micros() as u64;
        let times = Histogram::new_with_max(longest, 2).expect("bounds and digits are constants");
        Self {
            restarts: AtomicU64::new(0),
            escalations: AtomicU64::new(0),
            quarantined: AtomicU64::new(0),
            kills: AtomicU64::new(0),
            restart_us: Mutex::new(times),
            folded: Mutex::default(),
        }
    }
}

impl Supervision {
    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> SupervisionStats {
        SupervisionStats {
            restarts: self.restarts.load(Ordering::Relaxed),
            escalations: self.escalations.load(Ordering::Relaxed),
            quarantined: self.quarantined.load(Ordering::Relaxed),
            kills: self.kills.load(Ordering::Relaxed),
        }
    }

    /// How long children were down in microseconds, from the end to the next start, backoff
    /// included.
    #[must_use]
    pub fn restart_us(&self) -> Histogram<u64> {
        self.restart_us.lock().clone()
    }

    /// Counts a child that is up again after `took`.
    pub(crate) fn restarted(&self, took: Duration) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.restart_us
            .lock()
            .saturating_record(took.as_micros().min(u128::from(u64::MAX)) as u64);
    }

    /// Counts an abnormal end.
    pub(crate) fn count(&self, reason: &ExitReason, decision: Decision) {
        if *reason == ExitReason::Killed {
            self.kills.fetch_add(1, Ordering::Relaxed);
        }
        match decision {
            Decision::Escalate => drop(self.escalations.fetch_add(1, Ordering::Relaxed)),
            Decision::Quarantine => drop(self.quarantined.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    /// Counts an end and tells it, unless it is a repeat.
    pub fn crashed(&self, system: &System, report: &CrashReport) {
        self.count(&report.reason, report.decision);
        let routine = matches!(report.decision, Decision::Restart | Decision::Remove);
        let now = system.clock().monotonic();
        let Some(repeats) = self.fold(&report.path, report.reason.label(), now, routine) else {
            return;
        };
        let level = if routine { Level::Warn } else { Level::Error };
        let name = match report.decision {
            Decision::Escalate => "escalated",
            Decision::Quarantine => "quarantined",
            _ => "crash",
        };
        let text = match repeats {
            0 => report.to_string(),
            n => format!("{report}; and {n} times before"),
        };
        system
            .events()
            .publish(level, name, Some(&report.path), text);
    }

    /// Repeats that were not told, or none if this one is not told either.
    fn fold(
        &self,
        path: &ActorPath,
        label: &'static str,
        now: Time,
        may_wait: bool,
    ) -> Option<u64> {
        let mut folded = self.folded.lock();
        let key = (path.clone(), label);
        match folded.get_mut(&key) {
            Some(seen) if may_wait && now - seen.since < FOLD_PERIOD => {
                seen.repeats += 1;
                None
            }
            Some(seen) => {
                let repeats = seen.repeats;
                *seen = Folded {
                    since: now,
                    repeats: 0,
                };
                Some(repeats)
            }
            None => {
                if folded.len() >= FOLDED_MAX {
                    let oldest = folded
                        .iter()
                        .min_by_key(|(_, f)| f.since)
                        .map(|(k, _)| k.clone());
                    oldest.and_then(|k| folded.remove(&k));
                }
                folded.insert(
                    key,
                    Folded {
                        since: now,
                        repeats: 0,
                    },
                );
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_within_a_second_are_one_report_with_a_count() {
        let tree = Supervision::default();
        let path = ActorPath::root().join("a");
        let at = |ms: u64| Time(ms * 1_000_000);
        assert_eq!(tree.fold(&path, "panic", at(0), true), Some(0));
        assert_eq!(tree.fold(&path, "panic", at(10), true), None);
        assert_eq!(tree.fold(&path, "panic", at(999), true), None);
        assert_eq!(tree.fold(&path, "killed", at(999), true), Some(0));
        assert_eq!(
            tree.fold(&path, "panic", at(999), false),
            Some(2),
            "news is never held back"
        );
        assert_eq!(tree.fold(&path, "panic", at(2_000), true), Some(0));
    }

    #[test]
    fn folding_remembers_a_bounded_number_of_paths() {
        let tree = Supervision::default();
        for i in 0..FOLDED_MAX as u64 + 10 {
            let path = ActorPath::root().join(&format!("a{i}"));
            assert_eq!(tree.fold(&path, "panic", Time(i), true), Some(0));
        }
        assert_eq!(tree.folded.lock().len(), FOLDED_MAX);
    }
}
