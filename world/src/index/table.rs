//! Open-addressing table from device id to slot: four bytes per entry, the ids live in the slots.
//!
//! Only grows; never removes. It holds no device id itself, so each look-up is given a way to read
//! the id of a slot.
//!
//! Bound: at most half full, so a look-up probes few entries; `u32::MAX - 1` slots.

use uuid::Uuid;

const EMPTY: u32 = u32::MAX;
const ENTRIES_MIN: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Vec<u32>,
    used: usize,
}

impl Table {
    pub(super) fn find(&self, device: Uuid, id_of: impl Fn(u32) -> Uuid) -> Option<u32> {
        let mask = self.entries.len().checked_sub(1)?;
        let mut at = hash(device) as usize & mask;
        // ends: at least half of the entries are empty
        loop {
            match self.entries[at] {
                EMPTY => return None,
                slot if id_of(slot) == device => return Some(slot),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Adds a slot whose device is not in the table yet.
    pub(super) fn insert(&mut self, device: Uuid, slot: u32, id_of: impl Fn(u32) -> Uuid) {
        if (self.used + 1) * 2 > self.entries.len() {
            let doubled = (self.entries.len() * 2).max(ENTRIES_MIN);
            let old = std::mem::replace(&mut self.entries, vec![EMPTY; doubled]);
            for kept in old.into_iter().filter(|slot| *slot != EMPTY) {
                self.place(id_of(kept), kept);
            }
        }
        self.place(device, slot);
        self.used += 1;
    }

    fn place(&mut self, device: Uuid, slot: u32) {
        let mask = self.entries.len() - 1;
        let mut at = hash(device) as usize & mask;
        while self.entries[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.entries[at] = slot;
    }
}

/// Ids are hashes already (version 5) or chosen by peers; a multiplication spreads the latter.
fn hash(device: Uuid) -> u64 {
    let (high, low) = device.as_u64_pair();
    let mixed = (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}
