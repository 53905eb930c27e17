//! What devices on brokers count: sessions, messages, and how long a message takes.
//!
//! Shards add to it between steps. Bound: two histograms of three digits.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Longest latency told apart from longer ones, microseconds: a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Counts of one slab since its last flush.
#[derive(Debug, Default)]
pub(crate) struct PublishTally {
    pub(crate) connected: i64,
    pub(crate) connects: u64,
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) refused: u64,
    pub(crate) dropped: u64,
    pub(crate) abandoned: u64,
    pub(crate) errors: u64,
    pub(crate) slowdowns: u64,
    /// Messages that wait now, more than before.
    pub(crate) waiting: i64,
    /// Microseconds from publishing to acknowledgement.
    pub(crate) latencies: Vec<u32>,
    /// TLS handshakes that were done, and connections without one.
    pub(crate) handshakes: u64,
    pub(crate) insecure: u64,
    /// Microseconds from connection to the end of its handshake.
    pub(crate) handshakes_us: Vec<u32>,
}

impl PublishTally {
    /// Messages that waited when their device, or its connection, ended for good.
    pub(crate) fn abandon(&mut self, messages: u64) {
        self.dropped += messages;
        self.abandoned += messages;
    }
}

/// Counts of all devices of one protocol.
#[derive(Debug)]
pub struct PublishStats {
    connected: AtomicI64,
    connects: AtomicU64,
    sent: AtomicU64,
    acked: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
    abandoned: AtomicU64,
    errors: AtomicU64,
    slowdowns: AtomicU64,
    waiting: AtomicI64,
    latency: Mutex<Histogram<u64>>,
    handshakes: AtomicU64,
    insecure: AtomicU64,
    handshake: Mutex<Histogram<u64>>,
}

/// A snapshot of [`PublishStats`].
#[derive(Clone, Debug)]
pub struct PublishCounts {
    /// Sessions that are up.
    pub connected: u64,
    /// Sessions that have come up so far.
    pub connects: u64,
    /// Messages given to a session.
    pub sent: u64,
    /// Messages that the broker has acknowledged, or that went out where it does not.
    pub acked: u64,
    /// Messages that the broker has refused, or whose fate it has forgotten.
    pub refused: u64,
    /// Messages given up: no room, or lost with their device.
    pub dropped: u64,
    /// Of these, those that waited when their device, or its connection, ended for good.
    pub abandoned: u64,
    /// Connections that failed or broke.
    pub errors: u64,
    /// Times that a device took to every second sample only.
    pub slowdowns: u64,
    /// Messages that wait in devices now.
    pub waiting: u64,
    /// Microseconds from publishing to acknowledgement.
    pub latency_us: Histogram<u64>,
    /// TLS handshakes that were done.
    pub handshakes: u64,
    /// Connections on which there was none: not trusted, not in time, no TLS.
    pub insecure: u64,
    /// Microseconds from connection to the end of its handshake.
    pub handshake_us: Histogram<u64>,
}

impl std::ops::AddAssign<&Self> for PublishCounts {
    fn add_assign(&mut self, other: &Self) {
        self.connected += other.connected;
        self.connects += other.connects;
        self.sent += other.sent;
        self.acked += other.acked;
        self.refused += other.refused;
        self.dropped += other.dropped;
        self.abandoned += other.abandoned;
        self.errors += other.errors;
        self.slowdowns += other.slowdowns;
        self.waiting += other.waiting;
        self.handshakes += other.handshakes;
        self.insecure += other.insecure;
        for (all, more) in [
            (&mut self.latency_us, &other.latency_us),
            (&mut self.handshake_us, &other.handshake_us),
        ] {
            all.add(more).expect("both have the same bounds");
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("these bounds are allowed")
}

impl Default for PublishStats {
    fn default() -> Self {
        Self {
            connected: AtomicI64::new(0),
            connects: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            slowdowns: AtomicU64::new(0),
            waiting: AtomicI64::new(0),
            latency: Mutex::new(histogram()),
            handshakes: AtomicU64::new(0),
            insecure: AtomicU64::new(0),
            handshake: Mutex::new(histogram()),
        }
    }
}

impl PublishStats {
    /// Adds what a slab has counted, and empties it.
    pub(crate) fn take(&self, tally: &mut PublishTally) {
        let counts = [
            (&self.connects, &mut tally.connects),
            (&self.sent, &mut tally.sent),
            (&self.acked, &mut tally.acked),
            (&self.refused, &mut tally.refused),
            (&self.dropped, &mut tally.dropped),
            (&self.abandoned, &mut tally.abandoned),
            (&self.errors, &mut tally.errors),
            (&self.handshakes, &mut tally.handshakes),
            (&self.insecure, &mut tally.insecure),
            (&self.slowdowns, &mut tally.slowdowns),
        ];
        for (all, new) in counts {
            if *new > 0 {
                all.fetch_add(std::mem::take(new), Ordering::Relaxed);
            }
        }
        for (now, new) in [
            (&self.connected, &mut tally.connected),
            (&self.waiting, &mut tally.waiting),
        ] {
            if *new != 0 {
                now.fetch_add(std::mem::take(new), Ordering::Relaxed);
            }
        }
        let times = [
            (&self.latency, &mut tally.latencies),
            (&self.handshake, &mut tally.handshakes_us),
        ];
        for (all, new) in times {
            if !new.is_empty() {
                let mut all = all.lock();
                for us in new.drain(..) {
                    all.saturating_record(u64::from(us).max(1));
                }
            }
        }
    }

    /// The counts now.
    #[must_use]
    pub fn read(&self) -> PublishCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // Slabs add what they took and gave at different times.
        let now = |count: &AtomicI64| u64::try_from(count.load(Ordering::Relaxed)).unwrap_or(0);
        PublishCounts {
            connected: now(&self.connected),
            connects: of(&self.connects),
            sent: of(&self.sent),
            acked: of(&self.acked),
            refused: of(&self.refused),
            dropped: of(&self.dropped),
            abandoned: of(&self.abandoned),
            errors: of(&self.errors),
            slowdowns: of(&self.slowdowns),
            waiting: now(&self.waiting),
            latency_us: self.latency.lock().clone(),
            handshakes: of(&self.handshakes),
            insecure: of(&self.insecure),
            handshake_us: self.handshake.lock().clone(),
        }
    }
}
