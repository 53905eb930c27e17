//! What a plan has done to those that were parked meanwhile: whether it is enough to park them.
//!
//! A supervisor parks a child that fails more often within a period than its intensity allows. So a
//! parking is the plan's doing if the plan ended that child more often than that in that time (or
//! all children of its supervisor, where the intensity is theirs). Any other is a defect that the
//! plan has found, or somebody else's doing: it is told. It strikes and parks nobody. Bounds:
//! [`BLOWS_MAX`] blows are remembered, [`TOLD_MAX`] parkings are told one by one.

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
    /// How often it makes its victim fail.
    failures: u32,
}

impl Blow {
    fn hits(&self, path: &ActorPath) -> bool {
        match self.reach {
            Reach::One => self.path == *path,
            Reach::Subtree => path.is_within(&self.path),
        }
    }
}

/// The toll of all plans since it was opened.
#[derive(Debug)]
pub struct Toll {
    supervision: Arc<Supervision>,
    /// Parkings that were looked at, or were there before.
    seen: u64,
    blows: VecDeque<Blow>,
    parked: u64,
    told: Vec<String>,
    /// Of those that are to be told.
    more: u64,
}

impl Toll {
    /// Opens it: who has been parked by now is no plan's doing.
    #[must_use]
    pub fn of(supervision: &Arc<Supervision>) -> Self {
        Self {
            supervision: Arc::clone(supervision),
            seen: supervision.parkings(u64::MAX).total,
            blows: VecDeque::new(),
            parked: 0,
            told: Vec::new(),
            more: 0,
        }
    }

    /// A strike has found its victim.
    pub fn struck(&mut self, strike: &Strike) {
        self.add(strike, &strike.path, Reach::One);
    }

    /// A strike has ended a whole subtree.
    pub fn felled(&mut self, strike: &Strike, subtree: &ActorPath) {
        self.add(strike, subtree, Reach::Subtree);
    }

    fn add(&mut self, strike: &Strike, path: &ActorPath, reach: Reach) {
        let failures = match strike.plan.fault {
            Fault::Kill
            | Fault::Stop
            | Fault::Panic
            | Fault::ErrorReturn
            | Fault::StartHangs
            | Fault::NodeCrash => 1,
            Fault::StartFails => strike.plan.times.saturating_add(1),
            _ => return,
        };
        if self.blows.len() == BLOWS_MAX {
            self.blows.pop_front();
        }
        self.blows.push_back(Blow {
            path: path.clone(),
            reach,
            at: strike.at,
            until: strike.until.unwrap_or(strike.at) + SLACK,
            failures,
        });
    }

    /// Judges those that were parked since it looked last.
    pub fn look(&mut self) {
        let new = self.supervision.parkings(self.seen);
        self.seen = new.total;
        self.parked += new.known.len() as u64 + new.forgotten;
        self.more += new.forgotten;
        for parking in new.known {
            let failures = self.failures(&parking);
            if failures > u64::from(parking.intensity) {
                continue;
            }
            if self.told.len() < TOLD_MAX {
                self.told.push(in_words(&parking, failures));
            } else {
                self.more += 1;
            }
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
        failures.map(|blow| u64::from(blow.failures)).sum()
    }

    /// Children that were parked since it was opened.
    #[must_use]
    pub const fn parked(&self) -> u64 {
        self.parked
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
        policy.scope = scope;
        let at = Time(100 * 1_000_000_000);
        supervision.park(Parking::new(path("/g/a"), &path("/g"), at, &policy));
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
            supervision.park(Parking::new(path(who), &path("/twin"), Time(0), &policy));
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
}
