//! T1 in: datagrams into pooled batches, as many as are ready for each wake-up.
//!
//! One pass decodes straight into the batch; nothing is sent per reading. It forwards nothing: the
//! batch goes into the connection's own mailbox, which drops its oldest. Bound: a batch.

use std::sync::Arc;

use actorsim_actors::{Addr, Fault};
use bytes::Bytes;
use futures_util::FutureExt as _;

use super::{ConnMessage, Peer};
use crate::batch::{BATCH_READINGS_MAX, Batch};
use crate::endpoint::{DATAGRAM_RECEIVE_BUFFER, FRAME_LOOPBACK};
use crate::reading::{READING_LEN, Reading, decode_all};
use crate::stats::{DropReason, Tier};

const _: () = assert!(FRAME_LOOPBACK as usize / READING_LEN <= BATCH_READINGS_MAX);

/// Full batches read in one turn of the network thread: all that QUIC's buffer holds, where a burst
/// would push out what came before. The mailbox holds a thousand.
const BATCHES_PER_TURN: u32 = (DATAGRAM_RECEIVE_BUFFER / READING_LEN / BATCH_READINGS_MAX) as u32;

/// What one wake-up brought.
struct Gathered {
    readings: Vec<Reading>,
    datagrams: u64,
    bad: u64,
    /// Microseconds, and how many datagrams in a row took them.
    latencies: Vec<(u64, u64)>,
}

impl Gathered {
    fn take(&mut self, datagram: &Bytes, now_us: u64) {
        let first = self.readings.len();
        match decode_all(datagram, &mut self.readings) {
            Ok(_) => {
                self.datagrams += 1;
                let latency = now_us.saturating_sub(self.readings[first].at_us);
                match self.latencies.last_mut() {
                    Some((same, count)) if *same == latency => *count += 1,
                    _ => self.latencies.push((latency, 1)),
                }
            }
            Err(error) => {
                self.bad += 1;
                tracing::debug!(%error, "bad datagram");
            }
        }
    }
}

pub(super) async fn run(peer: Arc<Peer>, addr: Addr<ConnMessage>) -> Result<(), Fault> {
    let mut latencies = Vec::new();
    let mut batches = 0;
    // A datagram that found no room in the batch before.
    let mut left = None;
    loop {
        let first = match left.take() {
            Some(left) => left,
            None => match peer.quic.read_datagram().await {
                Ok(first) => first,
                Err(_) => return Ok(()),
            },
        };
        let now_us = peer.link_us();
        latencies.clear();
        let readings = peer.core.pool.take();
        let mut gathered = Gathered {
            readings,
            datagrams: 0,
            bad: 0,
            latencies,
        };
        gathered.take(&first, now_us);
        while let Some(Ok(next)) = peer.quic.read_datagram().now_or_never() {
            if gathered.readings.len() + next.len() / READING_LEN > BATCH_READINGS_MAX {
                left = Some(next);
                break;
            }
            gathered.take(&next, now_us);
        }
        latencies = deliver(&peer, &addr, gathered);
        batches = if left.is_some() { batches + 1 } else { 0 };
        if batches == BATCHES_PER_TURN {
            // There is more: let the actor forward these first.
            batches = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Counts what came and puts it into the mailbox; gives the latency buffer back.
fn deliver(peer: &Peer, addr: &Addr<ConnMessage>, gathered: Gathered) -> Vec<(u64, u64)> {
    let Gathered {
        mut readings,
        datagrams,
        bad,
        latencies,
    } = gathered;
    let t1 = &peer.core.stats.t1;
    let count = readings.len() as u64;
    t1.received.add(count);
    peer.figures.received.add(count);
    t1.datagrams_received.add(datagrams);
    if bad > 0 {
        t1.decode_errors.add(bad);
    }
    t1.latency.record_runs(&latencies);
    if let Some(session) = peer.session.get() {
        session.count_t1(count);
    }
    peer.look(&readings);
    let refused = peer.sift(Tier::T1, &mut readings);
    let readings = peer.core.pool.fit(readings);
    let batch = Batch::new(
        Tier::T1,
        readings,
        peer.clock().monotonic(),
        &peer.core.pool,
    );
    let mut batch = batch.of(&peer.figures);
    if count > refused {
        batch.on_drop(DropReason::Overflow);
        // A mailbox that takes nothing leaves the batch to count itself.
        drop(addr.try_send(ConnMessage::T1(batch)));
    }
    latencies
}
