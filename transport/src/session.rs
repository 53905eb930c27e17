//! The ledger of T2: what of each link's session is durable, and the marks of devices' events.
//!
//! A session outlives connections, links and every actor between. It stores no event. Whoever makes
//! batches durable is the only writer of `acked`; connections announce it to their links. Bound:
//! [`SESSIONS_MAX`] sessions; of those without a connection the one that has been without for
//! longest goes first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

/// Sessions remembered: as many as connections are accepted, so that each may come back once.
pub const SESSIONS_MAX: usize = 4096;

/// What tells one event of a device from any other, across restarts of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// Life of the device that made it.
    pub epoch: u32,
    /// Number of the event in that life.
    pub event: u64,
}

impl EventKey {
    /// Whether it is new after `last` of the same device. Numbers rise within a life of a device;
    /// another life's events are always new.
    #[must_use]
    pub fn follows(self, last: Option<Self>) -> bool {
        last.is_none_or(|last| last.epoch != self.epoch || last.event < self.event)
    }
}

/// All events of one device up to some point, folded in order: two that are equal on both ends of a
/// wire mean that each event between was taken once, and none out of turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventMark {
    /// The last event.
    pub last: EventKey,
    /// How many there were.
    pub count: u64,
    /// Hash of their keys; the order counts.
    pub digest: u64,
}

impl EventMark {
    /// Takes the next event in.
    pub fn fold(&mut self, key: EventKey) {
        self.last = key;
        self.count += 1;
        let word = key.event ^ (u64::from(key.epoch) << 32);
        self.digest = mix(self.digest, word);
    }
}

/// Many devices' marks in three figures: equal on both ends of a wire only if all marks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarkSummary {
    /// Devices that have a mark.
    pub devices: u64,
    /// Events of all of them.
    pub events: u64,
    /// Hash over devices and marks.
    pub digest: u64,
}

impl MarkSummary {
    /// Of devices in the order of their ids.
    pub fn of<'a>(marks: impl IntoIterator<Item = (&'a Uuid, &'a EventMark)>) -> Self {
        let mut summary = Self::default();
        for (device, mark) in marks {
            let (high, low) = device.as_u64_pair();
            summary.devices += 1;
            summary.events += mark.count;
            for word in [high, low, mark.count, mark.digest] {
                summary.digest = mix(summary.digest, word);
            }
        }
        summary
    }
}

fn mix(digest: u64, word: u64) -> u64 {
    (digest.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What a batch is to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The one to take now.
    Next,
    /// Taken before: count it, take nothing.
    Duplicate,
    /// A predecessor is missing: ignore it, the link sends both again.
    Early,
}

impl Arrival {
    /// What batch `sequence` is after batch `last`.
    #[must_use]
    pub fn after(last: u64, sequence: u64) -> Self {
        if sequence <= last {
            Self::Duplicate
        } else if sequence == last + 1 {
            Self::Next
        } else {
            Self::Early
        }
    }
}

/// One session of one link.
#[derive(Debug)]
pub struct T2Session {
    id: u64,
    node: Box<str>,
    acked: AtomicU64,
    woken: AtomicU64,
    changed: Notify,
    /// All that the link says it sent, at its goodbye.
    t1_sent: AtomicU64,
    t1_received: AtomicU64,
    t1_lost: AtomicU64,
}

impl T2Session {
    fn new(id: u64, node: &str, acked: u64, t1_readings: u64) -> Self {
        Self {
            id,
            node: node.into(),
            acked: AtomicU64::new(acked),
            woken: AtomicU64::new(acked),
            changed: Notify::new(),
            t1_sent: AtomicU64::new(0),
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

    /// The last batch that is durable; 0 before the first.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Acquire)
    }

    /// What batch `sequence` is now.
    #[must_use]
    pub fn judge(&self, sequence: u64) -> Arrival {
        Arrival::after(self.acked(), sequence)
    }

    /// Everything up to batch `sequence` is durable; it never goes back. [`Sessions::wake`] tells
    /// the connections.
    pub fn acknowledge(&self, sequence: u64) {
        self.acked.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Waits until more than `seen` is acknowledged and announced; returns the new figure.
    pub async fn acked_beyond(&self, seen: u64) -> u64 {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let acked = self.acked();
            if acked > seen {
                return acked;
            }
            changed.await;
        }
    }

    fn wake(&self) -> bool {
        let acked = self.acked();
        let news = self.woken.swap(acked, Ordering::AcqRel) != acked;
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

    /// The link said goodbye: so many T1 readings it has sent in all.
    pub(crate) fn announce_t1(&self, sent: u64) {
        self.t1_sent.fetch_max(sent, Ordering::AcqRel);
    }

    /// Settles what was announced against what came, when no more can come: the readings newly
    /// known to be lost.
    pub(crate) fn settle_t1(&self) -> u64 {
        let sent = self.t1_sent.load(Ordering::Acquire);
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
            // A link knows only what it was told: never less than what this table remembers.
            session.acknowledge(acked);
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

    /// Brings back a session of an earlier life of the twin, without a connection; one that is
    /// known already moves on to `acked`. A full table leaves it out: its link says what it knows.
    pub fn restore(&self, id: u64, node: &str, acked: u64) {
        let mut table = self.0.lock();
        table.turn += 1;
        let now = table.turn;
        match table.by_id.get(&id) {
            Some((session, _)) => session.acknowledge(acked),
            None if table.by_id.len() < SESSIONS_MAX => {
                let session = Arc::new(T2Session::new(id, node, acked, 0));
                table.by_id.insert(id, (session, now));
            }
            None => {}
        }
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

    /// Wakes the connections whose sessions moved on, after a group was made durable. Returns how
    /// many sessions had news.
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
    fn a_batch_is_taken_once_and_only_after_its_predecessor() {
        let session = T2Session::detached(1);
        assert_eq!(session.judge(1), Arrival::Next);
        assert_eq!(session.judge(2), Arrival::Early);
        session.acknowledge(1);
        assert_eq!(session.judge(1), Arrival::Duplicate);
        assert_eq!(session.judge(2), Arrival::Next);
    }

    #[test]
    fn a_session_survives_its_connections_and_belongs_to_its_node() {
        let sessions = Sessions::new();
        sessions.open(7, "a", 0, 0).unwrap().acknowledge(3);
        assert_eq!(sessions.open(7, "a", 0, 0).unwrap().acked(), 3);
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
            sessions.open(id, "n", 0, 0).unwrap().acknowledge(9);
        }
        sessions.open(u64::MAX, "n", 0, 0).unwrap();
        assert_eq!(sessions.len(), SESSIONS_MAX);
        assert_eq!(sessions.open(0, "n", 5, 0).unwrap().id(), held.id());
        assert_eq!(sessions.open(1, "n", 0, 0).unwrap().acked(), 0, "forgotten");
    }

    #[test]
    fn a_long_connected_session_is_not_the_first_to_be_forgotten() {
        let sessions = Sessions::new();
        let held = sessions.open(0, "n", 0, 0).unwrap();
        for id in 1..SESSIONS_MAX as u64 {
            sessions.open(id, "n", 0, 0).unwrap();
        }
        held.acknowledge(9);
        drop(held);
        sessions.left(0);
        sessions.open(u64::MAX, "n", 0, 0).unwrap();
        assert_eq!(sessions.open(0, "n", 0, 0).unwrap().acked(), 9);
    }

    #[test]
    fn lost_readings_are_settled_once() {
        let session = T2Session::detached(1);
        session.count_t1(80);
        assert_eq!(session.settle_t1(), 0, "nothing was announced");
        session.announce_t1(100);
        session.count_t1(10);
        assert_eq!(session.settle_t1(), 10);
        assert_eq!(session.settle_t1(), 0);
        session.announce_t1(105);
        assert_eq!(session.settle_t1(), 5);
    }

    #[tokio::test]
    async fn an_acknowledgement_waits_for_the_wake_and_is_not_missed() {
        let sessions = Sessions::new();
        let session = sessions.open(1, "n", 0, 0).unwrap();
        assert_eq!(sessions.wake(), 0);
        let waiting = session.acked_beyond(0);
        session.acknowledge(2);
        assert_eq!(sessions.wake(), 1);
        assert_eq!(waiting.await, 2);
    }
    #[test]
    fn a_restored_session_goes_on_where_it_was_and_never_back() {
        let sessions = Sessions::new();
        sessions.restore(7, "a", 5);
        assert_eq!(sessions.open(7, "a", 3, 0).unwrap().acked(), 5);
        sessions.restore(7, "a", 4);
        assert_eq!(sessions.open(7, "a", 9, 0).unwrap().acked(), 9);
    }

    #[test]
    fn marks_are_equal_only_for_the_same_events_in_the_same_order() {
        let fold = |events: &[(u32, u64)]| {
            let mut mark = EventMark::default();
            for (epoch, event) in events {
                mark.fold(EventKey {
                    epoch: *epoch,
                    event: *event,
                });
            }
            mark
        };
        let whole = fold(&[(1, 0), (1, 1), (2, 0)]);
        assert_eq!(whole, fold(&[(1, 0), (1, 1), (2, 0)]));
        assert_ne!(whole, fold(&[(1, 1), (1, 0), (2, 0)]));
        assert_ne!(whole, fold(&[(1, 0), (2, 0)]));
        assert_ne!(whole, fold(&[(1, 0), (1, 1), (2, 0), (2, 0)]));
    }

    #[test]
    fn an_event_is_new_after_its_predecessor_and_in_another_life() {
        let key = |epoch, event| EventKey { epoch, event };
        assert!(key(0, 0).follows(None));
        assert!(key(2, 1).follows(Some(key(2, 0))));
        assert!(!key(2, 0).follows(Some(key(2, 0))));
        assert!(key(1, 0).follows(Some(key(2, 9))));
    }
}
