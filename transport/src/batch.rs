//! Pooled batches of readings that account for themselves.
//!
//! A batch is counted exactly once: as applied, when the world says so, or as dropped when it goes
//! out of scope anywhere else (a full mailbox, a killed actor, a late deadline). It does not know
//! who carries it. Bound: a pool keeps at most [`POOL_MAX`] spare buffers; a batch holds at most
//! [`BATCH_READINGS_MAX`] readings.

use std::sync::Arc;

use actorsim_actors::{Message, Time};
use parking_lot::Mutex;

use crate::reading::Reading;
use crate::session::{EventKey, T2Session};
use crate::stats::{ConnStats, DropReason, Tier, TransportStats};

/// Readings in one batch at most: two of the largest datagrams, 16 or more of Ethernet's; 40 KiB,
/// a millisecond at a million/s.
pub const BATCH_READINGS_MAX: usize = 1024;
/// Spare buffers kept: those of a few connections' working set; the rest is freed.
pub const POOL_MAX: usize = 256;
/// Spare buffers are looked through after so many were given back: some seconds under load.
const LOOK_EVERY: u32 = 8_192;
/// Spare buffers freed by one look at most: some microseconds.
const FREED_MAX: usize = 64;

/// Buffers that wait to be used again, the last one first. What a burst needed goes again: half of
/// those that nobody has needed for a while are freed, so that a long life does not keep the most
/// of all its moments. Bound: as many as its maker says.
#[derive(Debug)]
pub struct Spare<T> {
    buffers: Vec<Vec<T>>,
    most: usize,
    /// The fewest that there were since the last look.
    unused: usize,
    /// Buffers given back since then.
    given: u32,
}

impl<T> Spare<T> {
    /// None yet, and never more than so many.
    #[must_use]
    pub const fn at_most(most: usize) -> Self {
        Self {
            buffers: Vec::new(),
            most,
            unused: 0,
            given: 0,
        }
    }

    /// An empty one, if there is one.
    pub fn take(&mut self) -> Option<Vec<T>> {
        let taken = self.buffers.pop();
        self.unused = self.unused.min(self.buffers.len());
        taken
    }

    /// Takes one back; one too many is freed.
    pub fn give(&mut self, mut buffer: Vec<T>) {
        if buffer.capacity() == 0 {
            return;
        }
        buffer.clear();
        if self.buffers.len() < self.most {
            self.buffers.push(buffer);
        }
        self.given += 1;
        if self.given >= LOOK_EVERY {
            let freed = self.unused.div_ceil(2).min(FREED_MAX);
            // those below were not used for the longest time
            self.buffers.drain(..freed);
            self.given = 0;
            self.unused = self.buffers.len();
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }
}

/// Spare reading buffers, shared by the connections of a node.
#[derive(Debug)]
pub struct BatchPool {
    spare: Mutex<Spare<Reading>>,
    stats: Arc<TransportStats>,
}

impl BatchPool {
    /// An empty pool, whose batches account to `stats`.
    #[must_use]
    pub fn new(stats: Arc<TransportStats>) -> Arc<Self> {
        Arc::new(Self {
            spare: Mutex::new(Spare::at_most(POOL_MAX)),
            stats,
        })
    }

    /// A buffer without readings.
    #[must_use]
    pub fn take(&self) -> Vec<Reading> {
        let spare = self.spare.lock().take();
        spare.unwrap_or_else(|| Vec::with_capacity(BATCH_READINGS_MAX))
    }

    /// Takes a buffer back; one too many is freed, and one that is too small for a batch.
    pub fn give(&self, buffer: Vec<Reading>) {
        if buffer.capacity() >= BATCH_READINGS_MAX {
            self.spare.lock().give(buffer);
        }
    }

    /// Readings of a batch that may have to wait: few of them move into memory of their own size,
    /// and the buffer comes back. Where the disk or the world is slow, very many batches wait.
    #[must_use]
    pub fn fit(&self, readings: Vec<Reading>) -> Vec<Reading> {
        if readings.len() >= readings.capacity() / 4 {
            return readings;
        }
        let own = readings.clone();
        self.give(readings);
        own
    }

    /// Where its batches account to.
    #[must_use]
    pub fn stats(&self) -> &Arc<TransportStats> {
        &self.stats
    }

    /// Buffers waiting to be used again.
    #[must_use]
    pub fn spare(&self) -> usize {
        self.spare.lock().len()
    }
}

/// Readings of one connection on their way to the world (T1, and T2 of `dt/1`).
#[derive(Debug)]
pub struct Batch {
    /// The tier they came by.
    pub tier: Tier,
    /// The readings, in order of arrival.
    pub readings: Vec<Reading>,
    /// When the connection had them (monotonic).
    pub received: Time,
    /// Readings that it accounts for and holds no longer.
    copied: u64,
    reason: DropReason,
    pool: Arc<BatchPool>,
    /// The figures of the connection it came over.
    conn: Option<Arc<ConnStats>>,
}

impl Batch {
    /// A batch of decoded readings. They must have been counted as received.
    #[must_use]
    pub fn new(tier: Tier, readings: Vec<Reading>, received: Time, pool: &Arc<BatchPool>) -> Self {
        Self {
            tier,
            readings,
            received,
            copied: 0,
            reason: DropReason::Died,
            pool: Arc::clone(pool),
            conn: None,
        }
    }

    /// The same, accounting to the figures of a connection, too, if it is dropped.
    pub(crate) fn of(mut self, conn: &Arc<ConnStats>) -> Self {
        self.conn = Some(Arc::clone(conn));
        self
    }

    /// The world has them: counts them as applied and gives the buffer back.
    pub fn applied(mut self) {
        self.mark_applied();
    }

    /// Counts them as applied without giving the batch up: for a stage that copied them out.
    pub fn mark_applied(&mut self) {
        let count = self.uncounted();
        self.pool.stats.count_applied(self.tier, count);
        self.readings.clear();
    }

    /// A stage copied them out, and the batch goes on with the copies: gives the buffer back, and
    /// accounts for them as before.
    pub fn copied(&mut self) {
        self.copied += self.readings.len() as u64;
        self.pool.give(std::mem::take(&mut self.readings));
    }

    /// What it accounts for; nothing from here on.
    fn uncounted(&mut self) -> u64 {
        std::mem::take(&mut self.copied) + self.readings.len() as u64
    }

    /// Takes the readings out, uncounted: they are in other hands from here on.
    #[must_use]
    pub fn take_readings(&mut self) -> Vec<Reading> {
        std::mem::take(&mut self.readings)
    }

    /// Where its buffer came from.
    #[must_use]
    pub fn pool(&self) -> &Arc<BatchPool> {
        &self.pool
    }

    /// What dropping it from here on is counted as; `Died` until told.
    pub fn on_drop(&mut self, reason: DropReason) {
        self.reason = reason;
    }

    /// Drops it for a reason.
    pub fn discard(mut self, reason: DropReason) {
        self.reason = reason;
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let lost = self.uncounted();
        if lost > 0 {
            self.pool.stats.drops(self.tier).add(self.reason, lost);
            if let Some(conn) = &self.conn {
                conn.dropped.add(self.reason, lost);
            }
        }
        self.pool.give(std::mem::take(&mut self.readings));
    }
}

impl Message for Batch {
    fn kind(&self) -> &'static str {
        match self.tier {
            Tier::T1 => "t1_batch",
            Tier::T2 | Tier::T3 => "t2_batch",
        }
    }
}

/// T2 events of one `actorsim/1` session, in the order the link numbered them.
///
/// It may be lost anywhere before it is durable: nothing is acknowledged until then, and the link
/// sends it again.
#[derive(Debug)]
pub struct EventBatch {
    /// The ledger that says what was taken.
    pub session: Arc<T2Session>,
    /// Number of the batch in its session, from 1.
    pub sequence: u64,
    /// The events' readings.
    pub events: Vec<Reading>,
    /// The events' keys, one for each reading.
    pub keys: Vec<EventKey>,
    /// When the connection had it (monotonic).
    pub received: Time,
    pool: Arc<BatchPool>,
}

impl EventBatch {
    /// A decoded batch.
    #[must_use]
    pub fn new(
        session: Arc<T2Session>,
        sequence: u64,
        events: Vec<Reading>,
        keys: Vec<EventKey>,
        received: Time,
        pool: &Arc<BatchPool>,
    ) -> Self {
        Self {
            session,
            sequence,
            events,
            keys,
            received,
            pool: Arc::clone(pool),
        }
    }
}

impl EventBatch {
    /// Where its buffer came from.
    #[must_use]
    pub fn pool(&self) -> &Arc<BatchPool> {
        &self.pool
    }
}

impl Drop for EventBatch {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.events));
    }
}

impl Message for EventBatch {
    fn kind(&self) -> &'static str {
        "t2_events"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{SensorType, device_uuid};

    fn batch(pool: &Arc<BatchPool>, n: u32) -> Batch {
        let mut readings = pool.take();
        readings.extend((0..n).map(|sequence| Reading {
            device: device_uuid("d"),
            sensor: 0,
            kind: SensorType::Voltage,
            value: 230.0,
            at_us: 0,
            sequence,
        }));
        Batch::new(Tier::T1, readings, Time::ZERO, pool)
    }

    #[test]
    fn each_reading_is_counted_once_whatever_becomes_of_its_batch() {
        let stats = TransportStats::new();
        let pool = BatchPool::new(Arc::clone(&stats));
        batch(&pool, 3).applied();
        drop(batch(&pool, 5));
        batch(&pool, 7).discard(DropReason::Tier);
        let mut kept = batch(&pool, 11);
        kept.mark_applied();
        drop(kept);
        let [mut applied, mut died] = [batch(&pool, 13), batch(&pool, 17)];
        applied.copied();
        died.copied();
        assert_eq!(pool.spare(), 2, "their buffers are back");
        applied.applied();
        drop(died);
        assert_eq!(stats.t1.applied.get(), 14 + 13);
        assert_eq!(stats.t1.dropped.get(DropReason::Died), 5 + 17);
        assert_eq!(stats.t1.dropped.get(DropReason::Tier), 7);
        assert_eq!(stats.t1.dropped.total(), 12 + 17);
    }

    #[test]
    fn a_pool_keeps_no_more_buffers_than_its_bound() {
        let pool = BatchPool::new(TransportStats::new());
        let many: Vec<_> = (0..POOL_MAX + 10).map(|_| batch(&pool, 1)).collect();
        drop(many);
        assert_eq!(pool.spare(), POOL_MAX);
    }

    #[test]
    fn few_readings_wait_in_memory_of_their_own_size_and_it_is_no_spare_buffer() {
        let pool = BatchPool::new(TransportStats::new());
        let few = batch(&pool, 3).take_readings();
        let own = pool.fit(few.clone());
        assert_eq!(own, few);
        assert!(pool.fit(batch(&pool, 3).take_readings()).capacity() < BATCH_READINGS_MAX);
        assert_eq!(pool.spare(), 1);
        pool.give(own);
        assert_eq!(pool.spare(), 1);
        let many = batch(&pool, BATCH_READINGS_MAX as u32 / 4).take_readings();
        assert_eq!(pool.fit(many).capacity(), BATCH_READINGS_MAX);
    }

    #[test]
    fn what_a_burst_needed_is_freed_again_and_what_is_in_use_stays() {
        let mut spare = Spare::at_most(100);
        let burst: Vec<Vec<u8>> = (0..80).map(|_| Vec::with_capacity(1)).collect();
        burst.into_iter().for_each(|buffer| spare.give(buffer));
        assert_eq!((spare.len(), spare.is_empty()), (80, false));
        for _ in 0..12 * LOOK_EVERY {
            let mut some: Vec<_> = (0..3).filter_map(|_| spare.take()).collect();
            assert_eq!(some.len(), 3);
            some.drain(..).for_each(|buffer| spare.give(buffer));
        }
        assert_eq!(spare.len(), 3);
    }
}
