//! The wire of a simulation: SHA-256 of every byte of each device, in order.
//!
//! Bytes are kept only between two flushes, so that a step that fails can be cut back. The digest
//! of a fleet is over the devices' digests in the order of device ids, so it does not depend on
//! how devices lie on shards. Bound: one hash state (112 bytes) per device, and one flush of bytes.

use std::ops::Range;

use sha2::{Digest, Sha256};

/// Hashes of the devices of one slab.
#[derive(Debug)]
pub struct WireDigests {
    ordinals: Vec<Range<u32>>,
    /// Index of the first hash of each range.
    firsts: Vec<usize>,
    hashes: Vec<Sha256>,
    bytes: Vec<u8>,
    /// (ordinal, end of its bytes).
    pieces: Vec<(u32, usize)>,
}

impl WireDigests {
    /// Hashes for the ordinals of a slab.
    #[must_use]
    pub fn new(mut ordinals: Vec<Range<u32>>) -> Self {
        ordinals.sort_by_key(|range| range.start);
        let mut firsts = Vec::with_capacity(ordinals.len());
        let mut count = 0;
        for range in &ordinals {
            firsts.push(count);
            count += range.len();
        }
        let hashes = vec![Sha256::new(); count];
        Self {
            ordinals,
            firsts,
            hashes,
            bytes: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// Appends bytes that a device puts on the wire.
    pub fn write(&mut self, ordinal: u32, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        match self.pieces.last_mut() {
            Some((last, last_end)) if *last == ordinal => *last_end = end,
            _ => self.pieces.push((ordinal, end)),
        }
    }

    /// Where the unhashed bytes end.
    #[must_use]
    pub fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.pieces.len())
    }

    /// Forgets what was written since a mark.
    pub fn cut(&mut self, (bytes, pieces): (usize, usize)) {
        self.bytes.truncate(bytes);
        self.pieces.truncate(pieces);
        if let Some((_, end)) = self.pieces.last_mut() {
            *end = bytes.min(*end);
        }
    }

    /// Hashes what was written.
    pub fn hash(&mut self) {
        let mut start = 0;
        for (ordinal, end) in core::mem::take(&mut self.pieces) {
            let range = self.ordinals.partition_point(|range| range.end <= ordinal);
            let found = self
                .ordinals
                .get(range)
                .filter(|range| range.contains(&ordinal));
            if let Some(found) = found {
                let at = self.firsts[range] + (ordinal - found.start) as usize;
                self.hashes[at].update(&self.bytes[start..end]);
            }
            start = end;
        }
        self.bytes.clear();
    }

    /// The digest of each device so far.
    #[must_use]
    pub fn digests(&mut self) -> Vec<(u32, [u8; 32])> {
        self.hash();
        let ordinals = self.ordinals.iter().cloned().flatten();
        ordinals
            .zip(&self.hashes)
            .map(|(at, hash)| (at, hash.clone().finalize().into()))
            .collect()
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

    #[test]
    fn a_step_that_is_cut_back_leaves_no_trace() {
        let mut clean = WireDigests::new(vec![0..2, 512..514]);
        clean.write(513, b"ab");
        clean.write(0, b"x");
        let mut cut = WireDigests::new(vec![512..514, 0..2]);
        cut.write(513, b"a");
        let mark = cut.mark();
        cut.write(513, b"oops");
        cut.write(1, b"oops");
        cut.cut(mark);
        cut.write(513, b"b");
        cut.hash();
        cut.write(0, b"x");
        assert_eq!(clean.digests(), cut.digests());
        assert_eq!(
            clean.digests()[3].1,
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
