//! The supervisors of a tree, by path, for those who want to ask or change one.
//!
//! It keeps none alive. Bound: one entry for each supervisor that lives or may live again, and as
//! many of those that are gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use actorsim_actors::{ActorPath, Addr};
use parking_lot::Mutex;

use super::{Seat, SupervisorMessage, SupervisorRef};

type Entry = (Addr<SupervisorMessage>, Weak<Seat>);

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<ActorPath, Entry>,
    /// Size at which those that are gone are looked for.
    tidy_at: usize,
}

/// The supervisors of a tree.
#[derive(Debug, Default)]
pub(crate) struct Seats(Mutex<Table>);

fn reference((addr, seat): &Entry) -> Option<SupervisorRef> {
    Some(SupervisorRef::new(addr.clone(), seat.upgrade()?))
}

impl Seats {
    pub(super) fn add(&self, addr: &Addr<SupervisorMessage>, seat: &Arc<Seat>) {
        let mut table = self.0.lock();
        if table.entries.len() >= table.tidy_at {
            table.entries.retain(|_, (_, seat)| seat.strong_count() > 0);
            table.tidy_at = 2 * table.entries.len().max(32);
        }
        let entry = (addr.clone(), Arc::downgrade(seat));
        table.entries.insert(addr.path().clone(), entry);
    }

    pub(crate) fn get(&self, path: &ActorPath) -> Option<SupervisorRef> {
        self.0.lock().entries.get(path).and_then(reference)
    }

    pub(crate) fn all(&self) -> Vec<SupervisorRef> {
        let table = self.0.lock();
        table.entries.values().filter_map(reference).collect()
    }
}
