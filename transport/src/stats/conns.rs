//! What came over each connection that is up, and what became of it here.
//!
//! The same readings are in the figures of all connections. Bound: one entry for each connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Counter, Drops};

/// The readings of one connection: T1, and T2 of `dt/1`.
#[derive(Debug, Default)]
pub struct ConnStats {
    /// Decoded.
    pub received: Counter,
    /// Lost, by reason.
    pub dropped: Drops,
}

/// Those of all connections that are up.
#[derive(Debug, Default)]
pub struct Conns(Mutex<BTreeMap<u32, Arc<ConnStats>>>);

impl Conns {
    /// Those of a connection, by its number.
    #[must_use]
    pub fn of(&self, id: u32) -> Option<Arc<ConnStats>> {
        self.0.lock().get(&id).cloned()
    }

    /// A connection is up.
    pub(crate) fn open(&self, id: u32) -> Arc<ConnStats> {
        Arc::clone(self.0.lock().entry(id).or_default())
    }

    /// It is gone.
    pub(crate) fn forget(&self, id: u32) {
        self.0.lock().remove(&id);
    }
}
