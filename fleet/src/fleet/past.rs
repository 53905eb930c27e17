//! Populations that have left a fleet: their counts and digests go on to belong to it.
//!
//! It holds no device. Bound: in a simulation a digest for each device that ran; else sums.

use std::sync::Arc;

use actorsim_actors::Books;
use actorsim_actors::shard::{SlabCounts, SlabHandle};
use parking_lot::Mutex;

use super::core::Member;
use crate::broker::Plan;

/// An id, and the digest of what its device put on the wire.
pub(super) type Digest = (String, [u8; 32]);

/// Sums over what has left.
#[derive(Debug, Default)]
pub(super) struct Past(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    books: Books,
    counts: SlabCounts,
    digests: Vec<Digest>,
    /// Of those that published, one for each place where they counted.
    plans: Vec<Arc<Plan>>,
}

/// The digests of a population in a simulation.
pub(super) fn digests(member: &Member) -> Vec<Digest> {
    let all = member.tables.iter().flat_map(|table| table.digests());
    all.map(|(ordinal, digest)| (member.one.name_of(ordinal), digest))
        .collect()
}

impl Past {
    /// A population has ended: its slabs are closed.
    pub(super) fn take(&self, member: &Member) {
        let digests = digests(member);
        let mut sums = self.0.lock();
        for slab in member.slabs() {
            sums.books += slab.books();
            let counts = SlabHandle::counts(slab);
            sums.counts.restarts += counts.restarts;
            sums.counts.faults += counts.faults;
            sums.counts.panics += counts.panics;
        }
        sums.digests.extend(digests);
        if let Some(plan) = &member.one.asked.plan {
            let counts_there = |other: &Arc<Plan>| Arc::ptr_eq(&other.stats, &plan.stats);
            if !sums.plans.iter().any(counts_there) {
                sums.plans.push(Arc::clone(plan));
            }
        }
    }

    pub(super) fn books(&self) -> Books {
        self.0.lock().books
    }

    /// Restarts, faults and panics.
    pub(super) fn counts(&self) -> SlabCounts {
        self.0.lock().counts
    }

    pub(super) fn digests(&self) -> Vec<Digest> {
        self.0.lock().digests.clone()
    }

    /// Plans of those that published.
    pub(super) fn plans(&self) -> Vec<Arc<Plan>> {
        self.0.lock().plans.clone()
    }
}
