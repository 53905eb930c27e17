//! What a plan has done to those that were parked meanwhile: whether it is enough to park them.
//!
//! A supervisor parks a child that fails more often within a period than its intensity allows. So a
//! parking is the plan's doing if the plan ended that child more often than that in that time (or
//! all children of its supervisor, where the intensity is theirs). Any other is a defect that the
//! plan has found: it is told. What somebody else wanted is counted for the child as well: an order
//! that acts at once when it is given, one that acts later (poison) when the child fails of it.
//! What nobody remembers enough of (a parking, or what befell the child before it) cannot be
//! judged: it is counted apart, and accuses nobody. Parkings before the first plan, or after the
//! end of one when its blows cannot count any more, are no plan's. It strikes and parks nobody.
//! Bounds: [`BLOWS_MAX`] blows are remembered, [`TOLD_MAX`] parkings are told one by one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{ActorPath, Reach, Time};

use super::fault::Fault;
use super::schedule::Strike;
use crate::policy::IntensityScope;
use crate::report::{Parking, Supervision};

/// Blows that are remembered: those of 13 minutes at five strikes a second, which is
/// longer than the period of any policy that is shipped.
pub const BLOWS_MAX: usize = 4_096;
/// Parkings that are told one by one.
pub const TOLD_MAX: usize = 16;
/// From a strike until its victim has failed.
const SLACK: Duration = Duration::from_secs(1);

/// What ended an actor, or a subtree.
#[derive(Debug)]
struct Blow {
    path: ActorPath,
    reach: Reach,
    at: Time,
    /// Its last failure comes by then.
    until: Time,
    /// How often it makes its victim fail,
    failures: u32,
    /// and how long starts hang: one that does fails once its time is up, and then the next.
    hangs: Duration,
}

impl Blow {
    /// How often it can have made a child fail whose starts have so much time.
    fn failures(&self, start_timeout: Option<Duration>) -> u64 {
        let starts = start_timeout.map_or(0, |timeout| {
            let starts = self.hangs.as_nanos().div_ceil(timeout.as_nanos().max(1));
            u64::try_from(starts).unwrap_or(u64::MAX)
        });
        starts.saturating_add(u64::from(self.failures))
    }

    fn hits(&self, path: &ActorPath) -> bool {
        match self.reach {
            Reach::One => self.path == *path,
            Reach::Subtree => path.is_within(&self.path),
        }
    }
}

/// Whose doing a parking can be.
#[derive(Debug, Clone, Copy)]
enum Span {
    /// Nobody's: no plan has run.
    Before,
    /// A plan runs.
    Runs,
    /// The last plan ended then.
    Ended(Time),
}

/// The toll of all plans.
#[derive(Debug)]
pub struct Toll {
    supervision: Arc<Supervision>,
    /// Parkings that were looked at, or were there before.
    seen: u64,
    /// Ends on order that are noted, or were there before.
    heard: u64,
    span: Span,
    blows: VecDeque<Blow>,
    /// Until then there were blows that are not remembered one by one.
    blind_until: Option<Time>,
    parked: u64,
    not_judged: u64,
    told: Vec<String>,
    /// Of those that are to be told.
    more: u64,
}

impl Toll {
    /// Opens it for a plan that begins: who has been parked by now is no plan's doing.
    #[must_use]
    pub fn of(supervision: &Arc<Supervision>) -> Self {
        Self {
            supervision: Arc::clone(supervision),
            seen: supervision.parkings(u64::MAX).total,
            heard: supervision.ordered_ends(u64::MAX).total,
            span: Span::Runs,
            blows: VecDeque::new(),
            blind_until: None,
            parked: 0,
            not_judged: 0,
            told: Vec::new(),
            more: 0,
        }
    }

    /// The same before any plan: it notes what others do, and judges nobody until one begins.
    #[must_use]
    pub fn before_plans(supervision: &Arc<Supervision>) -> Self {
        let span = Span::Before;
        Self {
            span,
            ..Self::of(supervision)
        }
    }

    /// A plan begins.
    pub fn open(&mut self) {
        self.look();
        self.span = Span::Runs;
    }

    /// The plan has ended.
    pub fn close(&mut self, at: Time) {
        self.look();
        if matches!(self.span, Span::Runs) {
            self.span = Span::Ended(at);
        }
    }

    /// A strike has found its victim. One that ends subtrees is told by them: [`Self::felled`].
    pub fn struck(&mut self, strike: &Strike) {
        if strike.plan.fault != Fault::NodeCrash {
            self.add(strike, &strike.path, Reach::One);
        }
    }

    /// A strike has ended a whole subtree.
    pub fn felled(&mut self, strike: &Strike, subtree: &ActorPath) {
        self.add(strike, subtree, Reach::Subtree);
    }

    /// Somebody else makes an actor fail on purpose, now: an operator, a script.
    pub fn ordered(&mut self, path: &ActorPath, at: Time) {
        self.remember(Blow {
            path: path.clone(),
            reach: Reach::One,
            at,
            until: at + SLACK,
            failures: 1,
            hangs: Duration::ZERO,
        });
    }

    /// Takes in who has failed since as somebody wanted, however long ago that was.
    fn hear(&mut self) {
        let new = self.supervision.ordered_ends(self.heard);
        self.heard = new.total;
        if let Some(first) = new.known.first().filter(|_| new.forgotten > 0) {
            self.ordered_many(first.at); // those that are forgotten were before it
        }
        for end in new.known {
            self.ordered(&end.of.path_of(end.ordinal), end.at);
        }
    }

    /// Somebody else makes actors fail, now, that are not told one by one.
    pub fn ordered_many(&mut self, at: Time) {
        self.blind_until = self.blind_until.max(Some(at + SLACK));
    }

    fn add(&mut self, strike: &Strike, path: &ActorPath, reach: Reach) {
        let until = strike.until.unwrap_or(strike.at);
        let (failures, hangs) = match strike.plan.fault {
            Fault::Kill | Fault::Stop | Fault::Panic | Fault::ErrorReturn => (1, Duration::ZERO),
            Fault::StartFails => (strike.plan.times.saturating_add(1), Duration::ZERO),
            // It ends; then each start lasts until it is given up.
            Fault::StartHangs | Fault::HostDown | Fault::NodeCrash => (1, until - strike.at),
            _ => return,
        };
        self.remember(Blow {
            path: path.clone(),
            reach,
            at: strike.at,
            until: until + SLACK,
            failures,
            hangs,
        });
    }

    fn remember(&mut self, blow: Blow) {
        if self.blows.len() == BLOWS_MAX {
            let forgotten = self.blows.pop_front().map(|blow| blow.until);
            self.blind_until = self.blind_until.max(forgotten);
        }
        self.blows.push_back(blow);
    }

    /// Judges those that were parked since it looked last.
    pub fn look(&mut self) {
        let new = self.supervision.parkings(self.seen);
        self.seen = new.total;
        self.hear(); // after that: whoever was parked for an order had failed of it before
        if !matches!(self.span, Span::Before) {
            self.parked += new.forgotten;
            self.not_judged += new.forgotten;
        }
        for parking in new.known {
            if self.may_be_a_plan_s(&parking) {
                self.parked += 1;
                self.judge(&parking);
            }
        }
    }

    fn may_be_a_plan_s(&self, parking: &Parking) -> bool {
        match self.span {
            Span::Before => false,
            Span::Runs => true,
            Span::Ended(at) => parking.at <= at + parking.period + SLACK,
        }
    }

    fn judge(&mut self, parking: &Parking) {
        let failures = self.failures(parking);
        let blind = self.blind_until;
        if failures > u64::from(parking.intensity) {
            return;
        }
        if blind.is_some_and(|until| parking.at <= until + parking.period) {
            self.not_judged += 1;
        } else if self.told.len() < TOLD_MAX {
            self.told.push(in_words(parking, failures));
        } else {
            self.more += 1;
        }
    }

    /// How often it was made to fail in the time that its supervisor looks at.
    fn failures(&self, parking: &Parking) -> u64 {
        let meant = |blow: &&Blow| {
            let in_time = blow.at <= parking.at && parking.at <= blow.until + parking.period;
            let whom = match parking.scope {
                IntensityScope::Child => blow.hits(&parking.path),
                IntensityScope::Supervisor => {
                    blow.hits(&parking.path)
                        || blow.path.parent().as_ref() == Some(&parking.supervisor)
                }
            };
            in_time && whom
        };
        let failures = self.blows.iter().filter(meant);
        // Starts of siblings are judged as its own: only cells share an intensity and are parked.
        let failures = failures.map(|blow| blow.failures(parking.start_timeout));
        failures.fold(0, u64::saturating_add)
    }

    /// How often a child was parked while plans ran, or so soon after that it may be their doing.
    #[must_use]
    pub const fn parked(&self) -> u64 {
        self.parked
    }

    /// How many of these could not be judged: too little of them, or of what was before, is known.
    #[must_use]
    pub const fn not_judged(&self) -> u64 {
        self.not_judged
    }

    /// Those of them that no plan gave reason to park, in words.
    #[must_use]
    pub fn without_cause(&self) -> Vec<String> {
        let mut told = self.told.clone();
        if self.more > 0 {
            told.push(format!("{} more were parked", self.more));
        }
        told
    }
}

fn in_words(parking: &Parking, failures: u64) -> String {
    let Parking {
        path,
        intensity,
        period,
        ..
    } = parking;
    let period = humantime::format_duration(*period);
    format!(
        "{path} was parked, and the plan made it fail {failures} times in {period}, of which \
         {intensity} are allowed"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::FaultPlan;
    use crate::policy::SupervisorPolicy;
    use crate::report::PARKINGS_MAX;
    use crate::spec::START_TIMEOUT;

    const SECOND: Duration = Duration::from_secs(1);

    fn path(text: &str) -> ActorPath {
        ActorPath::new(text).unwrap()
    }

    fn strike(fault: Fault, at: u64, path: &ActorPath) -> Strike {
        Strike {
            number: at,
            part: 0,
            at: Time(at * 1_000_000_000),
            plan: FaultPlan {
                times: 3,
                ..FaultPlan::new(fault)
            },
            kind: "device".to_owned(),
            index: 0,
            path: path.clone(),
            until: None,
        }
    }

    /// What is told of a child that is parked at 100 s, with three failures in 60 s allowed.
    fn told(scope: IntensityScope, strikes: &[(Fault, u64, &str)]) -> Vec<String> {
        let supervision = Arc::new(Supervision::default());
        let mut toll = Toll::of(&supervision);
        for (fault, at, who) in strikes {
            toll.struck(&strike(*fault, *at, &path(who)));
        }
        let mut policy = SupervisorPolicy::default().intensity(3, 60 * SECOND);
        policy.intensity_scope = scope;
        let at = Time(100 * 1_000_000_000);
        let parking = Parking::new(path("/g/a"), &path("/g"), at, &policy, Some(START_TIMEOUT));
        supervision.park(parking);
        toll.look();
        toll.look();
        assert_eq!(toll.parked(), 1);
        toll.without_cause()
    }

    #[test]
    fn who_is_parked_for_more_than_a_plan_did_to_it_is_told() {
        use Fault::{Hang, Kill, Panic, StartFails};
        const CHILD: IntensityScope = IntensityScope::Child;
        let four = [
            (Kill, 50, "/g/a"),
            (Panic, 60, "/g/a"),
            (Kill, 70, "/g/a"),
            (Kill, 99, "/g/a"),
        ];
        assert!(told(CHILD, &four).is_empty());
        assert_eq!(
            told(CHILD, &four[..3]),
            ["/g/a was parked, and the plan made it fail 3 times in 1m, of which 3 are allowed"]
        );
        for other in [
            (Hang, 99, "/g/a"),
            (Kill, 30, "/g/a"),
            (Kill, 101, "/g/a"),
            (Kill, 99, "/g/b"),
        ] {
            let strikes = [&four[..3], &[other]].concat();
            assert_eq!(told(CHILD, &strikes).len(), 1, "{other:?}");
        }
        assert!(
            told(CHILD, &[(StartFails, 90, "/g/a")]).is_empty(),
            "three starts, too"
        );
        let others = [&four[..3], &[(Kill, 99, "/g/b")]].concat();
        assert!(told(IntensityScope::Supervisor, &others).is_empty());
    }

    #[test]
    fn a_node_that_crashed_is_a_failure_of_all_that_it_had_and_what_was_before_is_nobody_s() {
        let supervision = Arc::new(Supervision::default());
        let policy = SupervisorPolicy::default().intensity(0, SECOND);
        let park = |who| {
            let parking = Parking::new(path(who), &path("/twin"), Time(0), &policy, None);
            supervision.park(parking);
        };
        park("/twin/before");
        let mut toll = Toll::of(&supervision);
        toll.felled(&strike(Fault::NodeCrash, 0, &path("/")), &path("/twin"));
        park("/twin/scan");
        toll.look();
        assert_eq!((toll.parked(), toll.without_cause()), (1, Vec::new()));
        park("/fleet/links/0");
        (0..2 * TOLD_MAX).for_each(|_| park("/fleet/links/1"));
        toll.look();
        let told = toll.without_cause();
        assert_eq!(told.len(), TOLD_MAX + 1);
        assert_eq!(told[TOLD_MAX], "17 more were parked");
    }

    /// One child that is parked at these seconds, with three failures in 60 s allowed.
    fn park(supervision: &Supervision, at: u64) {
        park_with(supervision, at, Some(START_TIMEOUT));
    }

    /// The same with so much time for its starts.
    fn park_with(supervision: &Supervision, at: u64, timeout: Option<Duration>) {
        let policy = SupervisorPolicy::default().intensity(3, 60 * SECOND);
        let at = Time(at * 1_000_000_000);
        supervision.park(Parking::new(
            path("/g/a"),
            &path("/g"),
            at,
            &policy,
            timeout,
        ));
    }

    fn figures(toll: &mut Toll) -> (u64, u64, usize) {
        toll.look();
        (toll.parked(), toll.not_judged(), toll.without_cause().len())
    }

    #[test]
    fn what_too_little_is_known_of_is_not_judged() {
        let supervision = Arc::new(Supervision::default());
        let mut toll = Toll::of(&supervision);
        let kill = |at, who: &str| strike(Fault::Kill, at, &path(who));
        (0..4).for_each(|at| toll.struck(&kill(at, "/g/a")));
        (0..BLOWS_MAX).for_each(|_| toll.struck(&kill(100, "/g/b")));
        park(&supervision, 64); // four seconds after its blow at 3 s: it is forgotten, not gone
        assert_eq!(figures(&mut toll), (1, 1, 0));
        park(&supervision, 65);
        assert_eq!(figures(&mut toll), (2, 1, 1));
        let storm = PARKINGS_MAX as u64 + 7;
        (0..storm).for_each(|_| park(&supervision, 64));
        assert_eq!(figures(&mut toll), (2 + storm, 1 + storm, 1));
    }

    #[test]
    fn a_thread_that_stays_away_makes_its_shard_fail_with_each_start() {
        for fault in [Fault::HostDown, Fault::StartHangs] {
            for (lasts, timeout, told) in [
                (30, Some(START_TIMEOUT), 0),
                (20, Some(START_TIMEOUT), 1),
                (3, Some(SECOND), 0),
                (2, Some(SECOND), 1),
                (29, None, 1), // it fails once: its start waits as long as it takes
            ] {
                let supervision = Arc::new(Supervision::default());
                let mut toll = Toll::of(&supervision);
                let one = strike(fault, 50, &path("/g/a"));
                let until = Some(one.at + lasts * SECOND);
                toll.struck(&Strike { until, ..one });
                park_with(&supervision, 80, timeout);
                assert_eq!(
                    figures(&mut toll),
                    (1, 0, told),
                    "{fault} {lasts} {timeout:?}"
                );
            }
        }
    }

    #[test]
    fn who_was_parked_without_a_plan_or_long_after_it_or_by_others_is_not_charged_to_it() {
        let supervision = Arc::new(Supervision::default());
        let mut toll = Toll::before_plans(&supervision);
        let second = |at: u64| Time(at * 1_000_000_000);
        park(&supervision, 1);
        toll.open();
        toll.close(second(100));
        park(&supervision, 162);
        assert_eq!(figures(&mut toll), (0, 0, 0));
        park(&supervision, 161);
        assert_eq!(figures(&mut toll), (1, 0, 1), "its period reaches back");
        toll.open();
        (196..200).for_each(|at| toll.ordered(&path("/g/a"), second(at)));
        park(&supervision, 200);
        assert_eq!(figures(&mut toll), (2, 0, 1), "somebody killed it");
        toll.ordered_many(second(300));
        park(&supervision, 301);
        assert_eq!(figures(&mut toll), (3, 1, 1));
    }
}
