//! The wire of a simulation: SHA-256 of every byte of each device, in order.
//!
//! A step that fails is cut back; what is flushed is hashed in batches, by a thread beside the
//! simulation ([`Hasher`]). The digest of a fleet is over the devices' digests in the order of
//! device ids, so it does not depend on how devices lie on shards. Bound: one hash state (112
//! bytes) per device, and [`BATCH`] bytes a slab beside those of the hasher.

mod hasher;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use actorsim_actors::Time;
use actorsim_transport::{EventKey, READING_LEN, Reading, SensorType, Tier};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::profile::Protocol;

pub use hasher::Hasher;

/// How bytes of a device went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a tier: T1 in readings of 39 bytes, T2 in records of 51 (reading, epoch, event), T3 in
    /// one byte (status).
    Tier(Tier),
    /// As the next part of the stream of its session; of AMQP, of its messages on the connection of
    /// its node.
    Stream,
    /// As a datagram of its session.
    Datagram,
}

/// Bytes that one device put on the wire in one way, in one flush; or one datagram.
#[derive(Clone, Copy, Debug)]
pub struct WireRecord<'a> {
    /// What the device is; with its ordinal the type makes the device's id.
    pub kind: &'a WireKind,
    /// Number of the device.
    pub ordinal: u32,
    /// How it went.
    pub way: Way,
    /// When, of simulated time.
    pub at: Time,
    /// What.
    pub bytes: &'a [u8],
}

/// What devices that write are: enough to read their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireKind {
    /// Their type.
    pub device_type: String,
    /// What is spoken on their wire.
    pub protocol: Protocol,
    /// Where they would publish, with placeholders.
    pub topic: String,
    /// Their labels.
    pub labels: Vec<(String, String)>,
    /// Their sensors: id, field, type.
    pub sensors: Vec<(u16, String, SensorType)>,
}

/// Called with everything that is hashed, in order of each device.
pub type WireTap = Arc<dyn Fn(&WireRecord<'_>) + Send + Sync>;

/// Bytes that wait to be hashed together: a device's reading by itself is too short to hand over.
const BATCH: usize = 256 * 1024;

/// Where the devices of one slab write: hashed in batches, beside the simulation if it can be.
#[derive(Debug)]
pub struct WireDigests {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
    /// Pieces and bytes that the tap has seen; a step that fails is cut back no farther.
    seen: (usize, usize),
    table: Arc<WireTable>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    ordinal: u32,
    way: Way,
    end: usize,
}

/// The hashes of a slab; read from any thread, written as batches come.
pub struct WireTable {
    kind: Arc<WireKind>,
    tap: Option<WireTap>,
    hasher: Option<Hasher>,
    ordinals: Vec<Range<u32>>,
    /// Index of the first hash of each range.
    firsts: Vec<usize>,
    hashes: Mutex<Vec<Sha256>>,
}

impl fmt::Debug for WireTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireTable")
            .field("ordinals", &self.ordinals)
            .finish_non_exhaustive()
    }
}

impl WireTable {
    /// Hashes for the ordinals of a slab; without a hasher they are made where bytes are written.
    #[must_use]
    pub fn new(
        kind: Arc<WireKind>,
        mut ordinals: Vec<Range<u32>>,
        tap: Option<WireTap>,
        hasher: Option<Hasher>,
    ) -> Arc<Self> {
        ordinals.sort_by_key(|range| range.start);
        let mut firsts = Vec::with_capacity(ordinals.len());
        let mut count = 0;
        for range in &ordinals {
            firsts.push(count);
            count += range.len();
        }
        let hashes = Mutex::new(vec![Sha256::new(); count]);
        Arc::new(Self {
            kind,
            tap,
            hasher,
            ordinals,
            firsts,
            hashes,
        })
    }

    /// The digest of each device, as of the last batch that was handed over; waits for the hasher.
    #[must_use]
    pub fn digests(&self) -> Vec<(u32, [u8; 32])> {
        if let Some(hasher) = &self.hasher {
            hasher.settle();
        }
        let hashes = self.hashes.lock();
        let ordinals = self.ordinals.iter().cloned().flatten();
        ordinals
            .zip(&*hashes)
            .map(|(at, hash)| (at, hash.clone().finalize().into()))
            .collect()
    }

    fn index(&self, ordinal: u32) -> Option<usize> {
        let range = self.ordinals.partition_point(|range| range.end <= ordinal);
        let found = self
            .ordinals
            .get(range)
            .filter(|range| range.contains(&ordinal))?;
        Some(self.firsts[range] + (ordinal - found.start) as usize)
    }

    /// Hashes a batch.
    pub(crate) fn absorb(&self, bytes: &[u8], pieces: &[Piece]) {
        let mut start = 0;
        let mut hashes = self.hashes.lock();
        for Piece { ordinal, end, .. } in pieces {
            if let Some(at) = self.index(*ordinal) {
                hashes[at].update(&bytes[start..*end]);
            }
            start = *end;
        }
    }
}

impl WireDigests {
    /// Writes into a table.
    #[must_use]
    pub fn new(table: Arc<WireTable>) -> Self {
        Self {
            bytes: Vec::new(),
            pieces: Vec::new(),
            seen: (0, 0),
            table,
        }
    }

    /// Appends bytes that a device puts on the wire.
    #[inline]
    pub fn write(&mut self, ordinal: u32, way: Way, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.piece(ordinal, way);
    }

    /// Appends the readings of a sample.
    #[inline]
    pub(crate) fn readings(
        &mut self,
        ordinal: u32,
        readings: impl ExactSizeIterator<Item = Reading>,
    ) {
        if readings.len() == 0 {
            return; // a profile without sensors has nothing here
        }
        let begin = self.bytes.len();
        self.bytes.resize(begin + readings.len() * READING_LEN, 0);
        let (rooms, _) = self.bytes[begin..].as_chunks_mut::<READING_LEN>();
        for (room, reading) in rooms.iter_mut().zip(readings) {
            *room = reading.encode();
        }
        self.piece(ordinal, Way::Tier(Tier::T1));
    }

    /// What was written since the last piece is this device's.
    #[inline]
    fn piece(&mut self, ordinal: u32, way: Way) {
        let end = self.bytes.len();
        let fresh = self.pieces.len() > self.seen.1 && way != Way::Datagram;
        match self.pieces.last_mut() {
            Some(last) if fresh && last.ordinal == ordinal && last.way == way => last.end = end,
            _ => self.pieces.push(Piece { ordinal, way, end }),
        }
    }

    /// Appends an event: the reading and its key.
    pub(crate) fn event(&mut self, ordinal: u32, reading: &Reading, key: EventKey) {
        let way = Way::Tier(Tier::T2);
        self.write(ordinal, way, &reading.encode());
        self.write(ordinal, way, &key.epoch.to_le_bytes());
        self.write(ordinal, way, &key.event.to_le_bytes());
    }

    /// Where the bytes of the present step begin.
    #[must_use]
    pub fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.pieces.len())
    }

    /// Forgets what was written since a mark.
    pub fn cut(&mut self, (bytes, pieces): (usize, usize)) {
        self.bytes.truncate(bytes);
        self.pieces.truncate(pieces);
        if let Some(last) = self.pieces.last_mut() {
            last.end = bytes.min(last.end);
        }
    }

    /// What was written is on the wire: shows it to the tap, and hands it over when it is enough.
    pub fn flush(&mut self, now: Time) {
        if let Some(tap) = &self.table.tap {
            let (mut start, from) = self.seen;
            for Piece { ordinal, way, end } in &self.pieces[from..] {
                tap(&WireRecord {
                    kind: &self.table.kind,
                    ordinal: *ordinal,
                    way: *way,
                    at: now,
                    bytes: &self.bytes[start..*end],
                });
                start = *end;
            }
        }
        self.seen = self.mark();
        if self.bytes.len() >= BATCH {
            self.hand_over();
        }
    }

    /// Hands everything over to be hashed.
    pub fn hand_over(&mut self) {
        self.seen = (0, 0);
        match &self.table.hasher {
            Some(hasher) if !self.pieces.is_empty() => {
                let (bytes, pieces) = hasher.spare();
                let bytes = std::mem::replace(&mut self.bytes, bytes);
                let pieces = std::mem::replace(&mut self.pieces, pieces);
                hasher.hash(Arc::clone(&self.table), bytes, pieces);
            }
            _ => {
                self.table.absorb(&self.bytes, &self.pieces);
                self.bytes.clear();
                self.pieces.clear();
            }
        }
    }
}

impl Drop for WireDigests {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// `wire_sha256` of a report: over each device's digest, in the order of device ids (as texts).
#[must_use]
pub fn wire_sha256(mut devices: Vec<(String, [u8; 32])>) -> String {
    devices.sort();
    let mut all = Sha256::new();
    for (_, digest) in devices {
        all.update(digest);
    }
    all.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const T1: Way = Way::Tier(Tier::T1);
    const T2: Way = Way::Tier(Tier::T2);

    #[test]
    fn a_step_that_is_cut_back_leaves_no_trace() {
        let table = |ordinals| WireTable::new(Arc::default(), ordinals, None, Hasher::start());
        let (clean_table, cut_table) = (table(vec![0..2, 512..514]), table(vec![512..514, 0..2]));
        let mut clean = WireDigests::new(Arc::clone(&clean_table));
        clean.write(513, T1, b"ab");
        clean.write(0, T2, b"x");
        clean.hand_over();
        let mut cut = WireDigests::new(Arc::clone(&cut_table));
        cut.write(513, T1, b"a");
        let mark = cut.mark();
        cut.write(513, T1, b"oops");
        cut.write(1, T2, b"oops");
        cut.cut(mark);
        cut.write(513, T2, b"b");
        cut.flush(Time::ZERO);
        cut.write(0, T1, b"x");
        cut.flush(Time::ZERO);
        drop(cut);
        assert_eq!(clean_table.digests(), cut_table.digests());
        assert_eq!(
            clean_table.digests()[3].1,
            <[u8; 32]>::from(Sha256::digest(b"ab"))
        );
    }

    #[test]
    fn the_order_of_slabs_does_not_matter() {
        let a = ("pump-0000".to_owned(), [1; 32]);
        let b = ("pump-0001".to_owned(), [2; 32]);
        assert_eq!(
            wire_sha256(vec![a.clone(), b.clone()]),
            wire_sha256(vec![b, a])
        );
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(wire_sha256(Vec::new()), empty);
    }
}
