//! Children that their supervisors parked, for whoever asks whether that had to be.
//!
//! It judges nothing: [`Toll`](crate::chaos::Toll) does. Bound: [`PARKINGS_MAX`] that nobody has
//! looked at yet; the oldest is forgotten for one more, and counted.

use std::collections::VecDeque;
use std::time::Duration;

use actorsim_actors::{ActorPath, Time};

use crate::policy::{IntensityScope, SupervisorPolicy};

/// Parkings that are remembered: more at once are a storm, of which few are looked at one by one.
pub const PARKINGS_MAX: usize = 1_024;

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
}

impl Parking {
    pub(crate) fn new(
        path: ActorPath,
        supervisor: &ActorPath,
        at: Time,
        policy: &SupervisorPolicy,
    ) -> Self {
        Self {
            path,
            supervisor: supervisor.clone(),
            at,
            intensity: policy.intensity,
            period: policy.period,
            scope: policy.scope,
        }
    }
}

/// Parkings from a number on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parkings {
    /// Those that are remembered.
    pub known: Vec<Parking>,
    /// Those that are not any more.
    pub forgotten: u64,
    /// All there ever were: from here on next time.
    pub total: u64,
}

#[derive(Debug, Default)]
pub(super) struct Parked {
    last: VecDeque<Parking>,
    total: u64,
}

impl Parked {
    pub(super) fn add(&mut self, parking: Parking) {
        if self.last.len() == PARKINGS_MAX {
            self.last.pop_front();
        }
        self.last.push_back(parking);
        self.total += 1;
    }

    pub(super) fn since(&self, number: u64) -> Parkings {
        let new = self.total.saturating_sub(number);
        let known = self
            .last
            .len()
            .min(usize::try_from(new).unwrap_or(usize::MAX));
        Parkings {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parking_is_told_once_and_those_that_are_forgotten_are_counted() {
        let (root, policy) = (ActorPath::root(), SupervisorPolicy::default());
        let mut parked = Parked::default();
        let add = |parked: &mut Parked, at| {
            parked.add(Parking::new(root.join("a"), &root, Time(at), &policy));
        };
        assert_eq!(parked.since(0), Parkings::default());
        (0..3).for_each(|at| add(&mut parked, at));
        let told = parked.since(1);
        assert_eq!((told.known.len(), told.forgotten, told.total), (2, 0, 3));
        assert_eq!(told.known[0].at, Time(1));
        (0..PARKINGS_MAX as u64).for_each(|at| add(&mut parked, at));
        let told = parked.since(1);
        assert_eq!((told.known.len(), told.forgotten), (PARKINGS_MAX, 2));
    }
}
