//! Crash reports, and the counters of a supervision tree.
//!
//! One structured event for an abnormal end: who, which life, why, the last messages, what waited,
//! what is done about it. The last one of each actor is kept ([`Supervision::crash`]), with how
//! often it ended for that reason; repeats within [`FOLD_PERIOD`] are told together at its end.
//! Nothing here decides. Bound: [`CRASHES_MAX`] actors, [`TALLIES_MAX`] pairs of supervisor and
//! reason; cells have a bound of their own for each slab ([`crate::cells`]).

pub(crate) mod log;
mod parked;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actorsim_actors::{ActorPath, Exit, ExitReason, Incarnation, Kinds, Level, System, Time};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

use self::log::CrashLog;
use crate::cells::CellRecord;
use crate::strategy::Decision;
use crate::supervisor::{Seats, SupervisorRef};

pub(crate) use self::parked::OrderedEnd;
use self::parked::Recent;
pub use self::parked::{News, ORDERED_ENDS_MAX, PARKINGS_MAX, Parking};

/// Repeats within this time become one event with a count.
pub const FOLD_PERIOD: Duration = Duration::from_secs(1);
/// Actors whose last report is kept; beyond it the one that was quiet longest is forgotten.
pub const CRASHES_MAX: usize = 1_024;
/// Pairs of supervisor and reason that are counted apart; the rest is counted as `other` of `/`.
pub const TALLIES_MAX: usize = 1_024;
/// Longest restart time that is told apart: a longer one counts as this.
pub const RESTART_TIME_MAX: Duration = Duration::from_secs(600);

/// What is done about a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CrashPlan {
    /// What the supervisor does.
    pub decision: Decision,
    /// Failures in a row, this one included; 0 if it is none: its host died.
    pub failures: u32,
    /// Siblings that are stopped with it, and started with it if it is started.
    pub siblings: usize,
    /// Wait before its restart.
    pub delay: Duration,
}

/// Why an actor is down and what its supervisor does about it.
#[derive(Debug, Clone, Serialize)]
pub struct CrashReport {
    /// Who.
    pub path: ActorPath,
    /// Who decides about it.
    pub supervisor: ActorPath,
    /// Which life of it; none if it did not start.
    pub incarnation: Option<Incarnation>,
    /// Why it ended.
    pub reason: ExitReason,
    /// Kinds of the last messages it took in hand, the latest last. A cell has one: the step that
    /// ended it.
    pub last_kinds: Kinds,
    /// Messages that waited.
    pub depth: u32,
    /// Times it was restarted before.
    pub restarts: u32,
    /// What is done.
    pub plan: CrashPlan,
    /// Times it ended for this reason, this one included.
    pub count: u64,
    /// The first of them, in microseconds since the Unix epoch.
    pub first_us: u64,
    /// This one, in microseconds since the Unix epoch.
    pub at_us: u64,
}

impl CrashReport {
    /// The report of an end that nobody has counted yet and about which nothing is done.
    #[must_use]
    pub fn of(exit: &Exit, supervisor: &ActorPath) -> Self {
        Self {
            path: exit.path.clone(),
            supervisor: supervisor.clone(),
            incarnation: Some(exit.incarnation),
            reason: exit.reason.clone(),
            last_kinds: exit.last_kinds,
            depth: exit.depth,
            restarts: exit.incarnation.0.saturating_sub(1),
            plan: CrashPlan {
                decision: Decision::Leave,
                failures: 0,
                siblings: 0,
                delay: Duration::ZERO,
            },
            count: 1,
            first_us: 0,
            at_us: 0,
        }
    }
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation {
            Some(life) => write!(f, "incarnation {life} ended: {}", self.reason)?,
            None => write!(f, "did not start: {}", self.reason)?,
        }
        let mut before = "; last messages ";
        for kind in self.last_kinds.iter() {
            write!(f, "{before}{kind}")?;
            before = ", ";
        }
        if self.depth > 0 {
            write!(f, "; {} waiting", self.depth)?;
        }
        write!(f, "; {}", self.plan)
    }
}

impl fmt::Display for CrashPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decision {
            Decision::Restart => {
                write!(f, "restart")?;
                self.company(f)?;
                match self.failures {
                    0 => Ok(()),
                    n => write!(f, " (failure {n} in a row)"),
                }
            }
            Decision::Leave => f.write_str("left down"),
            Decision::Remove => f.write_str("not restarted (temporary)"),
            Decision::Quarantine => f.write_str("quarantined: too many restarts"),
            Decision::AutoShutdown => f.write_str("the supervisor shuts down with it"),
            // cells: nobody above their group could do more
            Decision::Escalate if !self.delay.is_zero() => {
                write!(f, "its group starts anew,")?;
                self.company(f)?;
                write!(f, ": too many restarts")
            }
            Decision::Escalate => f.write_str("the supervisor gives up: too many restarts"),
        }
    }
}

impl CrashPlan {
    /// With whom it is started, and when.
    fn company(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.siblings > 0 {
            write!(f, " with {} siblings", self.siblings)?;
        }
        if !self.delay.is_zero() {
            let whole = Duration::from_millis(self.delay.as_millis() as u64);
            write!(f, " in {}", humantime::format_duration(whole))?;
        }
        Ok(())
    }
}

/// Ends of the children of one supervisor for one reason: the abnormal ones, and those of ordered
/// ends that led to a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// The supervisor; a population's groups are counted together.
    pub supervisor: ActorPath,
    /// [`ExitReason::label`].
    pub reason: &'static str,
    /// Ends.
    pub ends: u64,
    /// Of these those that were answered by a restart.
    pub restarts: u64,
    /// Of these those after which the supervisor gave up, or started its group anew.
    pub escalations: u64,
}

/// Ends, and the restarts among them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ends {
    pub(crate) ends: u64,
    pub(crate) restarts: u64,
    pub(crate) escalations: u64,
}

impl Ends {
    pub(crate) const fn add(&mut self, decision: Decision) {
        self.ends += 1;
        self.restarts += matches!(decision, Decision::Restart) as u64;
        self.escalations += matches!(decision, Decision::Escalate) as u64;
    }
}

/// Counters and crash reports of one supervision tree; every supervisor in it shares them.
#[derive(Debug)]
pub struct Supervision {
    restarts: AtomicU64,
    escalations: AtomicU64,
    quarantined: AtomicU64,
    kills: AtomicU64,
    restart_us: Mutex<Histogram<u64>>,
    restart_work_us: Mutex<Histogram<u64>>,
    crashes: Mutex<CrashLog<ActorPath, CrashReport>>,
    tallies: Mutex<BTreeMap<(ActorPath, &'static str), Ends>>,
    cells: Mutex<Vec<Arc<CellRecord>>>,
    parked: Mutex<Recent<Parking>>,
    ordered: Mutex<Recent<OrderedEnd>>,
    seats: Seats,
}

/// The counters at a moment.
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
            restart_us: Mutex::new(times.clone()),
            restart_work_us: Mutex::new(times),
            crashes: Mutex::new(CrashLog::new(CRASHES_MAX)),
            tallies: Mutex::default(),
            cells: Mutex::default(),
            parked: Mutex::new(Recent::new(PARKINGS_MAX)),
            ordered: Mutex::new(Recent::new(ORDERED_ENDS_MAX)),
            seats: Seats::default(),
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

    /// The same without the backoff that their supervisors let them wait: what the machine took.
    #[must_use]
    pub fn restart_work_us(&self) -> Histogram<u64> {
        self.restart_work_us.lock().clone()
    }

    /// The last crash of an actor of whatever host, if it is remembered.
    #[must_use]
    pub fn crash(&self, path: &ActorPath) -> Option<CrashReport> {
        let kept = self.crashes.lock().get(path).cloned();
        kept.or_else(|| self.cells().iter().find_map(|cells| cells.crash(path)))
    }

    /// The last crash of each of the actors that crashed last, the latest first, at most `limit`.
    #[must_use]
    pub fn crashes(&self, limit: usize) -> Vec<CrashReport> {
        let mut all: Vec<CrashReport> = {
            let crashes = self.crashes.lock();
            let latest = crashes.latest().take(limit);
            latest.map(|(_, report)| report.clone()).collect()
        };
        for cells in self.cells() {
            all.extend(cells.crashes(limit));
        }
        all.sort_by(|a, b| b.at_us.cmp(&a.at_us).then_with(|| a.path.cmp(&b.path)));
        all.truncate(limit);
        all
    }

    /// Abnormal ends by supervisor and reason, cells included, in this order.
    #[must_use]
    pub fn tallies(&self) -> Vec<Tally> {
        let sums = {
            let cells = self.cells.lock(); // held, so that none is retired in between
            let mut sums = self.tallies.lock().clone();
            cells.iter().for_each(|cells| cells.add_tallies(&mut sums));
            sums
        };
        let tally = |((supervisor, reason), ends): ((ActorPath, _), Ends)| Tally {
            supervisor,
            reason,
            ends: ends.ends,
            restarts: ends.restarts,
            escalations: ends.escalations,
        };
        sums.into_iter().map(tally).collect()
    }

    /// The supervisor of task actors at a path, whichever incarnation of it lives; none if there is
    /// no such supervisor in this tree any more.
    #[must_use]
    pub fn supervisor(&self, path: &ActorPath) -> Option<SupervisorRef> {
        self.seats.get(path)
    }

    /// The supervisors of task actors of this tree, by path.
    #[must_use]
    pub fn supervisors(&self) -> Vec<SupervisorRef> {
        self.seats.all()
    }

    pub(crate) const fn seats(&self) -> &Seats {
        &self.seats
    }

    /// The records of slabs that run.
    fn cells(&self) -> Vec<Arc<CellRecord>> {
        self.cells.lock().clone()
    }

    pub(crate) fn add_cells(&self, record: &Arc<CellRecord>) {
        self.cells.lock().push(Arc::clone(record));
    }

    /// A slab is gone: its counters stay in the sum.
    pub(crate) fn retire_cells(&self, record: &Arc<CellRecord>) {
        let mut cells = self.cells.lock();
        cells.retain(|other| !Arc::ptr_eq(other, record));
        record.add_tallies(&mut self.tallies.lock());
    }

    /// Notes that a child was parked.
    pub(crate) fn park(&self, parking: Parking) {
        self.parked.lock().add(parking);
    }

    /// The children that were parked, but for the first so many.
    #[must_use]
    pub fn parkings(&self, since: u64) -> News<Parking> {
        self.parked.lock().since(since)
    }

    /// Notes that a cell failed as it was told to.
    pub(crate) fn ended_on_order(&self, end: OrderedEnd) {
        self.ordered.lock().add(end);
    }

    /// The cells that failed as they were told to, but for the first so many.
    pub(crate) fn ordered_ends(&self, since: u64) -> News<OrderedEnd> {
        self.ordered.lock().since(since)
    }

    /// Counts a child that is up again after so long, of which its supervisor let it wait a part.
    pub(crate) fn restarted(&self, all: Duration, backoff: Duration) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        let us = |time: Duration| time.as_micros().min(u128::from(u64::MAX)) as u64;
        self.restart_us.lock().saturating_record(us(all));
        let work = us(all.saturating_sub(backoff));
        self.restart_work_us.lock().saturating_record(work);
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

    /// Counts an end by supervisor and reason.
    pub(crate) fn tally(&self, supervisor: &ActorPath, reason: &ExitReason, decision: Decision) {
        if reason.is_normal() && decision != Decision::Restart && !decision.is_last_resort() {
            return;
        }
        let mut tallies = self.tallies.lock();
        let mut key = (supervisor.clone(), reason.label());
        if tallies.len() >= TALLIES_MAX && !tallies.contains_key(&key) {
            key = (ActorPath::root(), "other");
        }
        tallies.entry(key).or_default().add(decision);
    }

    /// Counts, keeps and tells an abnormal end of a task actor. A repeat is told later: when.
    pub(crate) fn crashed(&self, system: &System, report: CrashReport) -> Option<Time> {
        self.count(&report.reason, report.plan.decision);
        self.tally(&report.supervisor, &report.reason, report.plan.decision);
        let clock = system.clock();
        let now = clock.monotonic();
        let stamp = |at| clock.unix_us_at(clock.simulated_at(at));
        match self.keep(report, now, stamp) {
            Ok((report, untold)) => {
                tell(system, &report, untold);
                None
            }
            Err(due) => Some(due),
        }
    }

    /// Tells what was held back of the children of a supervisor, if it is due or if this is its
    /// end; when the rest is.
    pub(crate) fn tell_held_back(
        &self,
        system: &System,
        supervisor: &ActorPath,
        at_end: bool,
    ) -> Option<Time> {
        let (now, mut next) = (system.clock().monotonic(), None);
        let mut crashes = self.crashes.lock();
        let taken = crashes.take_held(now, |last, repeats| {
            if last.supervisor != *supervisor {
                return false;
            }
            let due = repeats.told.unwrap_or(now) + FOLD_PERIOD;
            let tells = at_end || due <= now;
            if !tells {
                next = Some(next.map_or(due, |next: Time| next.min(due)));
            }
            tells
        });
        let lost = crashes.take_lost();
        drop(crashes);
        if lost > 0 {
            let text = format!("{lost} more, of actors or for reasons that are forgotten by now");
            let events = system.events();
            events.publish(Level::Warn, "crash", Some(supervisor), text);
        }
        for (last, label, times) in taken {
            let text = match last.reason.label() == label {
                true => format!("{times} more like this: {last}"),
                false => format!("{times} more before that: {label}"),
            };
            let events = system.events();
            events.publish(Level::Warn, "crash", Some(&last.path), text);
        }
        next
    }

    /// Keeps the report; returns it with the repeats that were held back before.
    ///
    /// # Errors
    /// This one is held back, too, until then.
    fn keep(
        &self,
        mut report: CrashReport,
        now: Time,
        stamp: impl Fn(Time) -> u64,
    ) -> Result<(CrashReport, u64), Time> {
        report.at_us = stamp(now);
        let routine = is_routine(report.plan.decision);
        let (path, label) = (report.path.clone(), report.reason.label());
        let mut crashes = self.crashes.lock();
        let (kept, repeats) = crashes.record(path.clone(), label, now, report);
        kept.first_us = stamp(repeats.first);
        kept.count = repeats.count;
        let fresh = repeats.told.is_none_or(|told| now - told >= FOLD_PERIOD);
        if routine && !fresh {
            repeats.held_back += 1;
            let due = repeats.told.unwrap_or(now) + FOLD_PERIOD;
            crashes.hold(path);
            return Err(due);
        }
        repeats.told = Some(now);
        Ok((kept.clone(), std::mem::take(&mut repeats.held_back)))
    }
}

/// Whether repeats of it may be held back: nobody has to do anything.
const fn is_routine(decision: Decision) -> bool {
    matches!(decision, Decision::Restart | Decision::Remove)
}

/// The event of a crash.
pub(crate) fn tell(system: &System, report: &CrashReport, untold: u64) {
    let decision = report.plan.decision;
    let level = if is_routine(decision) {
        Level::Warn
    } else {
        Level::Error
    };
    let name = match decision {
        Decision::Escalate => "escalated",
        Decision::Quarantine => "quarantined",
        _ => "crash",
    };
    let text = match untold {
        0 => report.to_string(),
        n => format!("{report}; and {n} times before"),
    };
    let path = Some(&report.path);
    system.events().publish(level, name, path, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(path: &str, reason: &'static str, decision: Decision) -> CrashReport {
        let exit = Exit {
            path: ActorPath::root().join(path),
            incarnation: Incarnation(2),
            reason: ExitReason::Fault(actorsim_actors::Fault::new(reason)),
            last_kinds: Kinds::from(Some("order")),
            depth: 3,
        };
        let mut report = CrashReport::of(&exit, &ActorPath::root());
        report.plan.decision = decision;
        report
    }

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    #[test]
    fn repeats_within_a_second_are_one_event_with_a_count() {
        let tree = Supervision::default();
        let keep = |reason, ms, decision| {
            let told = tree.keep(report("a", reason, decision), at(ms), |at| at.0 / 1_000);
            told.ok().map(|(_, held_back)| held_back)
        };
        assert_eq!(keep("panic", 0, Decision::Restart), Some(0));
        assert_eq!(keep("panic", 10, Decision::Restart), None);
        assert_eq!(keep("panic", 999, Decision::Restart), None);
        assert_eq!(keep("killed", 999, Decision::Restart), Some(0));
        let news = keep("panic", 999, Decision::Quarantine);
        assert_eq!(news, Some(2), "news is never held back");
        assert_eq!(keep("panic", 2_000, Decision::Restart), Some(0));
        let last = tree.crash(&ActorPath::root().join("a")).unwrap();
        assert_eq!((last.count, last.reason.label()), (5, "panic"));
        assert_eq!((last.restarts, last.depth), (1, 3));
        assert_eq!(last.first_us, 0, "the first of them");
    }

    #[test]
    fn reports_and_tallies_are_bounded() {
        let tree = Supervision::default();
        for i in 0..CRASHES_MAX as u64 + 10 {
            let report = report(&format!("a{i}"), "panic", Decision::Restart);
            tree.tally(&report.path, &report.reason, Decision::Restart);
            assert!(tree.keep(report, Time(i), |_| 0).is_ok());
        }
        assert_eq!(tree.crashes(usize::MAX).len(), CRASHES_MAX);
        let tallies = tree.tallies();
        assert_eq!(tallies.len(), TALLIES_MAX + 1);
        assert_eq!((tallies[0].reason, tallies[0].ends), ("other", 10));
    }

    #[test]
    fn a_report_is_one_sentence_for_the_operator() {
        let mut report = report("a", "bad_frame", Decision::Restart);
        report.plan.failures = 2;
        report.plan.delay = Duration::from_millis(50);
        let text = "incarnation 2 ended: bad_frame; last messages order; 3 waiting; \
                    restart in 50ms (failure 2 in a row)";
        assert_eq!(report.to_string(), text);
    }
}
