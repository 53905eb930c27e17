//! The ledger of T2: what the world has applied of each link's session.
//!
//! A session outlives connections, links and every actor between; it is the only thing that decides
//! whether a batch is new. It stores no event. The scan thread is the only writer of `applied`; it
//! neither locks, allocates nor wakes. Bound: [`SESSIONS_MAX`] sessions; of those without a
//! connection the one that has been without for longest goes first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

/// Sessions remembered: as many as connections are accepted, so that each may come back once.
pub const SESSIONS_MAX: usize = 4096;

/// What tells one event of a device from any other, across restarts of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// Life of the device that made it.
    pub epoch: u32,
    /// Number of the event in that life.
    pub event: u64,
}

/// What a batch is to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The one to apply now.
    Next,
    /// Applied before: count it, apply nothing.
    Duplicate,
    /// A predecessor is missing: ignore it, the link sends both again.
    Early,
}

/// One session of one link.
#[derive(Debug)]
pub struct T2Session {
    id: u64,
    node: Box<str>,
    applied: AtomicU64,
    woken: AtomicU64,
    changed: Notify,
    t1_received: AtomicU64,
    t1_lost: AtomicU64,
}

impl T2Session {
    fn new(id: u64, node: &str, acked: u64, t1_readings: u64) -> Self {
        Self {
            id,
            node: node.into(),
            applied: AtomicU64::new(acked),
            woken: AtomicU64::new(acked),
            changed: Notify::new(),
            t1_received: AtomicU64::new(t1_readings),
            t1_lost: AtomicU64::new(0),
        }
    }

    /// A ledger of its own, not in any table: for tests of stages and for tools.
    #[must_use]
    pub fn detached(id: u64) -> Arc<Self> {
        Arc::new(Self::new(id, "", 0, 0))
    }

    /// The session's number, chosen by the link's owner.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The node that opened it.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The last batch applied; 0 before the first.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// What batch `sequence` is now.
    #[must_use]
    pub fn judge(&self, sequence: u64) -> Arrival {
        let applied = self.applied();
        if sequence <= applied {
            Arrival::Duplicate
        } else if sequence == applied + 1 {
            Arrival::Next
        } else {
            Arrival::Early
        }
    }

    /// Publishes that batch `sequence` is in the world. Only the scan thread may call it, in order;
    /// it neither locks, allocates nor wakes: [`Sessions::wake`] does, from elsewhere.
    pub fn mark_applied(&self, sequence: u64) {
        self.applied.store(sequence, Ordering::Release);
    }

    /// Waits until more than `seen` is applied and announced; returns the new figure.
    pub(crate) async fn applied_beyond(&self, seen: u64) -> u64 {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let applied = self.applied();
            if applied > seen {
                return applied;
            }
            changed.await;
        }
    }

    fn wake(&self) -> bool {
        let applied = self.applied();
        let news = self.woken.swap(applied, Ordering::AcqRel) != applied;
        if news {
            self.changed.notify_waiters();
        }
        news
    }

    /// Counts T1 readings received in this session, over all its connections.
    pub(crate) fn count_t1(&self, readings: u64) {
        self.t1_received.fetch_add(readings, Ordering::Relaxed);
    }

    /// T1 readings received in this session.
    #[must_use]
    pub fn t1_received(&self) -> u64 {
        self.t1_received.load(Ordering::Relaxed)
    }

    /// Settles the link's total against what came: the readings newly known to be lost.
    pub(crate) fn settle_t1(&self, sent: u64) -> u64 {
        let lost = sent.saturating_sub(self.t1_received());
        let known = self.t1_lost.fetch_max(lost, Ordering::AcqRel);
        lost.saturating_sub(known)
    }
}

/// Why a session cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Its number belongs to another node.
    #[error("session {id:#018x} belongs to node {owner:?}")]
    Taken {
        /// The session.
        id: u64,
        /// Whose it is.
        owner: Box<str>,
    },
    /// Every session in the table has a connection.
    #[error("{SESSIONS_MAX} sessions are open, which is the most")]
    Full,
}

#[derive(Debug, Default)]
struct Table {
    /// With the turn in which each was last opened or left.
    by_id: BTreeMap<u64, (Arc<T2Session>, u64)>,
    turn: u64,
}

/// The sessions of a node.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<Table>);

impl Sessions {
    /// An empty table.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The session `id` of `node`. One that is not known starts after batch `acked`, the last that
    /// the link knows to be acknowledged, and after `t1_readings`, those it has sent already.
    ///
    /// # Errors
    /// [`SessionError`], if the number is another node's or no place is left.
    pub fn open(
        &self,
        id: u64,
        node: &str,
        acked: u64,
        t1_readings: u64,
    ) -> Result<Arc<T2Session>, SessionError> {
        let mut table = self.0.lock();
        table.turn += 1;
        let now = table.turn;
        if let Some((session, turn)) = table.by_id.get_mut(&id) {
            if session.node() != node {
                return Err(SessionError::Taken {
                    id,
                    owner: session.node().into(),
                });
            }
            *turn = now;
            return Ok(Arc::clone(session));
        }
        if table.by_id.len() >= SESSIONS_MAX {
            let idle = table
                .by_id
                .iter()
                .filter(|(_, (session, _))| Arc::strong_count(session) == 1)
                .min_by_key(|(_, (_, turn))| *turn)
                .map(|(id, _)| *id);
            table.by_id.remove(&idle.ok_or(SessionError::Full)?);
        }
        let session = Arc::new(T2Session::new(id, node, acked, t1_readings));
        table.by_id.insert(id, (Arc::clone(&session), now));
        Ok(session)
    }

    /// A connection of session `id` is over: its link will be back soon, so others go first.
    pub(crate) fn left(&self, id: u64) {
        let mut table = self.0.lock();
        table.turn += 1;
        let now = table.turn;
        if let Some((_, turn)) = table.by_id.get_mut(&id) {
            *turn = now;
        }
    }

    /// Wakes the connections whose sessions moved on; called after a cycle that applied T2. Returns
    /// how many sessions had news.
    pub fn wake(&self) -> usize {
        self.0
            .lock()
            .by_id
            .values()
            .filter(|(session, _)| session.wake())
            .count()
    }

    /// Sessions remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().by_id.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A session number that no other link, node or start has: from their names and the start's stamp.
#[must_use]
pub fn session_id(node: &str, link: &str, started_unix_us: u64) -> u64 {
    let name = format!("{node}\n{link}\n{started_unix_us}");
    Uuid::new_v5(&crate::reading::DEVICE_NAMESPACE, name.as_bytes())
        .as_u64_pair()
        .0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_applied_once_and_only_after_its_predecessor() {
        let session = T2Session::detached(1);
        assert_eq!(session.judge(1), Arrival::Next);
        assert_eq!(session.judge(2), Arrival::Early);
        session.mark_applied(1);
        assert_eq!(session.judge(1), Arrival::Duplicate);
        assert_eq!(session.judge(2), Arrival::Next);
    }

    #[test]
    fn a_session_survives_its_connections_and_belongs_to_its_node() {
        let sessions = Sessions::new();
        sessions.open(7, "a", 0, 0).unwrap().mark_applied(3);
        assert_eq!(sessions.open(7, "a", 0, 0).unwrap().applied(), 3);
        assert!(matches!(
            sessions.open(7, "b", 0, 0),
            Err(SessionError::Taken { .. })
        ));
    }

    #[test]
    fn an_unknown_session_goes_on_after_what_its_link_knows() {
        assert_eq!(
            Sessions::new().open(7, "a", 41, 0).unwrap().judge(42),
            Arrival::Next
        );
    }

    #[test]
    fn a_full_table_forgets_the_oldest_without_a_connection() {
        let sessions = Sessions::new();
        let held = sessions.open(0, "n", 0, 0).unwrap();
        for id in 1..SESSIONS_MAX as u64 {
            sessions.open(id, "n", 0, 0).unwrap().mark_applied(9);
        }
        sessions.open(u64::MAX, "n", 0, 0).unwrap();
        assert_eq!(sessions.len(), SESSIONS_MAX);
        assert_eq!(sessions.open(0, "n", 5, 0).unwrap().id(), held.id());
        assert_eq!(
            sessions.open(1, "n", 0, 0).unwrap().applied(),
            0,
            "forgotten"
        );
    }

    #[test]
    fn a_long_connected_session_is_not_the_first_to_be_forgotten() {
        let sessions = Sessions::new();
        let held = sessions.open(0, "n", 0, 0).unwrap();
        for id in 1..SESSIONS_MAX as u64 {
            sessions.open(id, "n", 0, 0).unwrap();
        }
        held.mark_applied(9);
        drop(held);
        sessions.left(0);
        sessions.open(u64::MAX, "n", 0, 0).unwrap();
        assert_eq!(sessions.open(0, "n", 0, 0).unwrap().applied(), 9);
    }

    #[test]
    fn lost_readings_are_settled_once() {
        let session = T2Session::detached(1);
        session.count_t1(90);
        assert_eq!(session.settle_t1(100), 10);
        assert_eq!(session.settle_t1(100), 0);
        assert_eq!(session.settle_t1(105), 5);
    }

    #[tokio::test]
    async fn an_acknowledgement_waits_for_the_wake_and_is_not_missed() {
        let sessions = Sessions::new();
        let session = sessions.open(1, "n", 0, 0).unwrap();
        assert_eq!(sessions.wake(), 0);
        let waiting = session.applied_beyond(0);
        session.mark_applied(2);
        assert_eq!(sessions.wake(), 1);
        assert_eq!(waiting.await, 2);
    }
}
