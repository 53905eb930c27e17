//! What befell children that somebody looks at later: who was parked by its supervisor, and who
//! failed because it was told to, by then.
//!
//! It judges nothing: [`Toll`](crate::chaos::Toll) does. Bounds: [`PARKINGS_MAX`] parkings and
//! [`ORDERED_ENDS_MAX`] ends that nobody has looked at yet; the oldest is forgotten for one more,
//! and counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{ActorPath, Time};

use crate::cells::CellRecord;
use crate::policy::{IntensityScope, SupervisorPolicy};

/// Parkings that are remembered: more at once are a storm, of which few are looked at one by one.
pub const PARKINGS_MAX: usize = 1_024;
/// Ends on order that are remembered: a selection of some thousand devices that is poisoned.
pub const ORDERED_ENDS_MAX: usize = 4_096;

/// A child that failed too often and was parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parking {
    /// Who.
    pub path: ActorPath,
    /// Who decided so.
    pub supervisor: ActorPath,
    /// When, in monotonic time.
    pub at: Time,
    /// Failures that were allowed,
    pub intensity: u32,
    /// within this time,
    pub period: Duration,
    /// to the child alone or to all children of its supervisor.
    pub scope: IntensityScope,
    /// The shortest time after which a start of it that hangs has failed; none: never.
    pub start_timeout: Option<Duration>,
}

impl Parking {
    pub(crate) fn new(
        path: ActorPath,
        supervisor: &ActorPath,
        at: Time,
        policy: &SupervisorPolicy,
        start_timeout: Option<Duration>,
    ) -> Self {
        Self {
            path,
            supervisor: supervisor.clone(),
            at,
            intensity: policy.intensity,
            period: policy.period,
            scope: policy.intensity_scope,
            start_timeout,
        }
    }
}

/// What has come from a number on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News<T> {
    /// What is remembered of it, the oldest first.
    pub known: Vec<T>,
    /// How many are not any more: they were before those.
    pub forgotten: u64,
    /// All there ever were: from here on next time.
    pub total: u64,
}

/// The last so many, numbered.
#[derive(Debug)]
pub(super) struct Recent<T> {
    last: VecDeque<T>,
    max: usize,
    total: u64,
}

impl<T: Clone> Recent<T> {
    pub(super) const fn new(max: usize) -> Self {
        let last = VecDeque::new();
        Self {
            last,
            max,
            total: 0,
        }
    }

    pub(super) fn add(&mut self, one: T) {
        if self.last.len() == self.max {
            self.last.pop_front();
        }
        self.last.push_back(one);
        self.total += 1;
    }

    pub(super) fn since(&self, number: u64) -> News<T> {
        let new = self.total.saturating_sub(number);
        let known = self
            .last
            .len()
            .min(usize::try_from(new).unwrap_or(usize::MAX));
        News {
            known: self
                .last
                .range(self.last.len() - known..)
                .cloned()
                .collect(),
            forgotten: new - known as u64,
            total: self.total,
        }
    }
}

/// A cell that failed as it was told to, whenever that was. Its name is made when somebody asks.
#[derive(Debug, Clone)]
pub(crate) struct OrderedEnd {
    pub(crate) of: Arc<CellRecord>,
    pub(crate) ordinal: u32,
    /// When it failed, in monotonic time.
    pub(crate) at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parking_is_told_once_and_those_that_are_forgotten_are_counted() {
        let (root, policy) = (ActorPath::root(), SupervisorPolicy::default());
        let mut parked = Recent::new(PARKINGS_MAX);
        let add = |parked: &mut Recent<_>, at| {
            parked.add(Parking::new(root.join("a"), &root, Time(at), &policy, None));
        };
        let told = parked.since(0);
        assert_eq!((told.known.len(), told.forgotten, told.total), (0, 0, 0));
        (0..3).for_each(|at| add(&mut parked, at));
        let told = parked.since(1);
        assert_eq!((told.known.len(), told.forgotten, told.total), (2, 0, 3));
        assert_eq!(told.known[0].at, Time(1));
        (0..PARKINGS_MAX as u64).for_each(|at| add(&mut parked, at));
        let told = parked.since(1);
        assert_eq!((told.known.len(), told.forgotten), (PARKINGS_MAX, 2));
    }
}
