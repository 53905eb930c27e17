//! Blocks of telemetry on their way to a link, and how they are cut into datagrams.
//!
//! A block owns its bytes once; datagrams are slices of it, never copies. It counts when it is
//! dropped: what was sent by then, and the rest as lost at the sender. Bound:
//! [`BLOCK_READINGS_MAX`] readings.

use std::sync::Arc;

use bytes::Bytes;

use crate::reading::{DecodeError, READING_LEN};
use crate::stats::{DropReason, TransportStats};

/// Readings in one block at most: four of the largest datagrams, which one call sends; 64 KiB less
/// a little.
pub const BLOCK_READINGS_MAX: usize = 1664;

/// Whole readings, encoded, in the order they were made.
#[derive(Debug)]
pub struct Block {
    bytes: Bytes,
    /// Bytes that are QUIC's, and the datagrams they are in.
    sent: usize,
    datagrams: u64,
    stats: Arc<TransportStats>,
}

impl Block {
    /// A block of encoded readings.
    ///
    /// # Errors
    /// [`DecodeError::Length`] if they are not 1 to [`BLOCK_READINGS_MAX`] whole readings.
    pub fn new(bytes: Bytes, stats: &Arc<TransportStats>) -> Result<Self, DecodeError> {
        let length = bytes.len();
        let whole = length > 0 && length.is_multiple_of(READING_LEN);
        if !whole || length > BLOCK_READINGS_MAX * READING_LEN {
            return Err(DecodeError::Length { length });
        }
        Ok(Self {
            bytes,
            sent: 0,
            datagrams: 0,
            stats: Arc::clone(stats),
        })
    }

    /// Readings not sent yet.
    #[must_use]
    pub fn readings(&self) -> usize {
        (self.bytes.len() - self.sent) / READING_LEN
    }

    /// Readings that are QUIC's.
    pub(crate) fn readings_sent(&self) -> u64 {
        (self.sent / READING_LEN) as u64
    }

    /// The next datagram: at most `most` readings, and as many as in those that follow, for equal
    /// ones travel in one send; `None` when all are cut off.
    pub(crate) fn front(&self, most: usize) -> Option<Bytes> {
        let left = self.readings();
        let datagrams = left.div_ceil(most.max(1));
        let readings = left.div_ceil(datagrams.max(1));
        let end = self.sent + readings * READING_LEN;
        (readings > 0).then(|| self.bytes.slice(self.sent..end))
    }

    /// The datagram of `length` bytes at the front is QUIC's now.
    pub(crate) fn sent(&mut self, length: usize) {
        self.sent = self.bytes.len().min(self.sent + length);
        self.datagrams += 1;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let t1 = &self.stats.t1;
        if self.datagrams > 0 {
            t1.sent.add(self.readings_sent());
            t1.datagrams_sent.add(self.datagrams);
        }
        let lost = self.readings() as u64;
        if lost > 0 {
            t1.dropped.add(DropReason::Sender, lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reading_of_a_block_is_sent_or_counted_as_dropped() {
        let stats = TransportStats::new();
        let mut block = Block::new(Bytes::from(vec![0; 100 * READING_LEN]), &stats).unwrap();
        for _ in 0..3 {
            let datagram = block.front(29).unwrap();
            assert_eq!(datagram.len(), 25 * READING_LEN);
            block.sent(datagram.len());
        }
        assert_eq!(block.readings(), 25);
        drop(block);
        assert_eq!(
            (stats.t1.sent.get(), stats.t1.datagrams_sent.get()),
            (75, 3)
        );
        assert_eq!(stats.t1.dropped.get(DropReason::Sender), 25);
    }

    #[test]
    fn a_block_is_whole_readings() {
        let stats = TransportStats::new();
        for length in [0, 38, 40, (BLOCK_READINGS_MAX + 1) * READING_LEN] {
            let made = Block::new(Bytes::from(vec![0; length]), &stats);
            assert_eq!(made.unwrap_err(), DecodeError::Length { length });
        }
        assert_eq!(stats.t1.dropped.total(), 0);
    }
}
