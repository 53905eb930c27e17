//! A hierarchical timer wheel: set, cancel and fire in O(1), 32 bytes a timer.
//!
//! Entries live in one vector and are linked by index: into their slot, and into the list of their
//! owner, so that a cell carries four bytes for all its timers. A periodic timer is placed again
//! when it fires, on its grid, in its own entry. Level 0 has 4,096 slots of one tick
//! (1 ms), so a timer of up to 4 s is never moved; four levels of 64 slots above it reach 2 years,
//! farther ones go round again. It does not know what time means: one wheel is fed simulated,
//! another monotonic time. Bound: owners x `TIMERS_PER_CELL_MAX` entries; freed ones are used
//! again.

mod periods;

use std::time::Duration;

use self::periods::{ONCE, Periods};
use crate::cell::{MissedTicks, TIMERS_PER_CELL_MAX};
use crate::clock::Time;

/// One tick of a wheel in nanoseconds: timers fire on whole ticks, so neighbours fire together.
pub const WHEEL_TICK_NS: u64 = 1_000_000;

/// No entry.
pub(crate) const NIL: u32 = u32::MAX;

const NEAR_BITS: u32 = 12;
const NEAR: usize = 1 << NEAR_BITS;
const FAR_BITS: u32 = 6;
const FAR: usize = 1 << FAR_BITS;
const FAR_LEVELS: usize = 4;
const WORDS: usize = NEAR / 64;

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Time,
    next: u32,
    prev: u32,
    owner: u32,
    sibling: u32,
    /// Place of its period, or [`ONCE`].
    period: u32,
    slot: u16,
    key: u8,
}

/// A timer that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub(crate) owner: u32,
    pub(crate) at: Time,
    pub(crate) key: u8,
    entry: u32,
}

/// The wheel; a slab has one for simulated and one for monotonic time.
pub(crate) struct Wheel {
    entries: Vec<Entry>,
    periods: Periods,
    free: u32,
    live: usize,
    /// The tick that was fired last.
    tick: u64,
    heads: Box<[u32]>,
    near: Box<[u64; WORDS]>,
    near_summary: u64,
    far: [u64; FAR_LEVELS],
}

impl std::fmt::Debug for Wheel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wheel")
            .field("live", &self.live)
            .field("tick", &self.tick)
            .finish_non_exhaustive()
    }
}

const fn far_shift(level: usize) -> u32 {
    NEAR_BITS + FAR_BITS * level as u32
}

impl Wheel {
    /// An empty wheel whose ticks up to `now` have been fired.
    pub(crate) fn new(now: Time) -> Self {
        Self {
            entries: Vec::new(),
            periods: Periods::default(),
            free: NIL,
            live: 0,
            tick: now.0 / WHEEL_TICK_NS,
            heads: vec![NIL; NEAR + FAR * FAR_LEVELS].into_boxed_slice(),
            near: Box::new([0; WORDS]),
            near_summary: 0,
            far: [0; FAR_LEVELS],
        }
    }

    /// Timers that are set.
    pub(crate) const fn len(&self) -> usize {
        self.live
    }

    /// Timers in an owner's list.
    pub(crate) fn count(&self, head: u32) -> u32 {
        let (mut index, mut count) = (head, 0);
        while index != NIL {
            index = self.entries[index as usize].sibling;
            count += 1;
        }
        count
    }

    /// The earliest time for which an owner has a timer set.
    pub(crate) fn first(&self, head: u32) -> Option<Time> {
        let (mut index, mut first) = (head, None);
        while index != NIL {
            let entry = &self.entries[index as usize];
            first = first.into_iter().chain([entry.at]).min();
            index = entry.sibling;
        }
        first
    }

    /// Sets the timer `key` of the owner whose list begins at `head` to fire once, replacing it if
    /// it is set. `false` if the owner has no room for another.
    pub(crate) fn set(&mut self, head: &mut u32, owner: u32, key: u8, at: Time) -> bool {
        self.put(head, owner, key, at, ONCE)
    }

    /// Sets a timer as [`Wheel::set`] to fire first at `first` and then each `period`.
    pub(crate) fn set_periodic(
        &mut self,
        head: &mut u32,
        owner: u32,
        key: u8,
        first: Time,
        (period, missed): (Duration, MissedTicks),
    ) -> bool {
        let period = self.periods.enter(period, missed);
        let set = self.put(head, owner, key, first, period);
        if !set {
            self.periods.leave(period);
        }
        set
    }

    fn put(&mut self, head: &mut u32, owner: u32, key: u8, at: Time, period: u32) -> bool {
        let (found, count) = self.find(*head, key);
        if let Some((index, _)) = found {
            self.unlink(index);
            let entry = &mut self.entries[index as usize];
            entry.at = at;
            let before = std::mem::replace(&mut entry.period, period);
            self.periods.leave(before);
            self.place(index, self.tick + 1);
            return true;
        }
        if count >= TIMERS_PER_CELL_MAX {
            return false;
        }
        let entry = Entry {
            at,
            next: NIL,
            prev: NIL,
            owner,
            sibling: *head,
            period,
            slot: 0,
            key,
        };
        let index = self.allocate(entry);
        *head = index;
        self.live += 1;
        self.place(index, self.tick + 1);
        true
    }

    /// Cancels the timer `key` of an owner; `false` if it was not set.
    pub(crate) fn cancel(&mut self, head: &mut u32, key: u8) -> bool {
        let (Some((index, before)), _) = self.find(*head, key) else {
            return false;
        };
        self.unlink(index);
        self.release(head, index, before);
        true
    }

    /// Cancels all timers of an owner.
    pub(crate) fn cancel_all(&mut self, head: &mut u32) {
        while *head != NIL {
            let index = *head;
            self.unlink(index);
            self.release(head, index, NIL);
        }
    }

    /// When the wheel must be advanced next, if anything is set. Nothing is due before it; what it
    /// then finds may be only a slot to spread over the level below.
    pub(crate) fn next_at(&self) -> Option<Time> {
        let ticks = self.next_tick()?;
        Some(Time(ticks.saturating_mul(WHEEL_TICK_NS)))
    }

    /// Moves time to `now` and appends what is due, grouped by tick and within one tick in the
    /// order of owners, then of time. The entries stay with their owners until [`Wheel::fire`]
    /// takes them, so that one step can still cancel or move the timers of the next.
    pub(crate) fn advance(&mut self, now: Time, due: &mut Vec<Due>) {
        let target = now.0 / WHEEL_TICK_NS;
        while let Some(tick) = self.next_tick() {
            if tick > target {
                break;
            }
            self.tick = tick;
            self.spread(tick);
            let begin = due.len();
            self.collect(tick, due);
            due[begin..].sort_unstable();
        }
        self.tick = self.tick.max(target);
    }

    /// Fires a due timer of the owner whose list begins at `head`: it is taken from its owner, or
    /// set for its next tick. Returns the ticks it missed; none if it was cancelled or set anew
    /// since it became due, and must not fire. What is due again by now joins `again`.
    #[inline]
    pub(crate) fn fire(
        &mut self,
        head: &mut u32,
        due: Due,
        now: Time,
        again: &mut impl Extend<Due>,
    ) -> Option<u64> {
        let (Some((index, before)), _) = self.find(*head, due.key) else {
            return None;
        };
        let entry = &mut self.entries[index as usize];
        if index != due.entry || entry.slot != FIRING || entry.at != due.at {
            return None;
        }
        if entry.period == ONCE {
            self.release(head, index, before);
            return Some(0);
        }
        let (next, missed) = self.periods.next(entry.period, due.at, now);
        entry.at = next;
        if next.0.div_ceil(WHEEL_TICK_NS) <= self.tick {
            again.extend([Due { at: next, ..due }]);
        } else {
            self.place(index, self.tick + 1);
        }
        Some(missed)
    }

    /// Whether another timer of the owner whose list begins at `head` became due at an earlier tick
    /// and has not been fired yet.
    pub(crate) fn has_earlier_due(&self, head: u32, due: &Due) -> bool {
        let mut index = head;
        while index != NIL {
            let entry = &self.entries[index as usize];
            if entry.slot == FIRING && index != due.entry && entry.at < due.at {
                return true;
            }
            index = entry.sibling;
        }
        false
    }

    /// The entry of `key` and the one before it in its owner's list, and how many were passed.
    fn find(&self, head: u32, key: u8) -> (Option<(u32, u32)>, u32) {
        let (mut index, mut before, mut count) = (head, NIL, 0);
        while index != NIL {
            let entry = &self.entries[index as usize];
            if entry.key == key {
                return (Some((index, before)), count);
            }
            count += 1;
            before = index;
            index = entry.sibling;
        }
        (None, count)
    }

    fn allocate(&mut self, entry: Entry) -> u32 {
        if self.free == NIL {
            let index = u32::try_from(self.entries.len()).unwrap_or(NIL);
            assert!(index != NIL, "a slab has fewer than 2^32 timers");
            if self.entries.len() == self.entries.capacity() {
                // By an eighth, not by doubling: at a million timers the slack would be 32 MiB.
                self.entries.reserve_exact(self.entries.len() / 8 + 64);
            }
            self.entries.push(entry);
            return index;
        }
        let index = self.free;
        self.free = self.entries[index as usize].next;
        self.entries[index as usize] = entry;
        index
    }

    /// Takes an unlinked entry off its owner's list and frees it.
    fn release(&mut self, head: &mut u32, index: u32, before: u32) {
        let Entry {
            sibling, period, ..
        } = self.entries[index as usize];
        self.periods.leave(period);
        match before {
            NIL => *head = sibling,
            before => self.entries[before as usize].sibling = sibling,
        }
        let entry = &mut self.entries[index as usize];
        entry.next = self.free;
        entry.sibling = NIL;
        entry.slot = FREE;
        self.free = index;
        self.live -= 1;
    }

    /// Links an entry at the end of the slot of its time, or of `earliest` if that is later.
    fn place(&mut self, index: u32, earliest: u64) {
        let at = self.entries[index as usize].at.0.div_ceil(WHEEL_TICK_NS);
        let tick = at.max(earliest);
        let slot = self.slot_of(tick);
        let head = self.heads[slot];
        let (prev, next) = if head == NIL {
            self.heads[slot] = index;
            self.mark(slot);
            (index, index)
        } else {
            let tail = self.entries[head as usize].prev;
            self.entries[tail as usize].next = index;
            self.entries[head as usize].prev = index;
            (tail, head)
        };
        let entry = &mut self.entries[index as usize];
        (entry.prev, entry.next, entry.slot) = (prev, next, slot as u16);
    }

    fn slot_of(&self, tick: u64) -> usize {
        if tick - self.tick < NEAR as u64 {
            return (tick & (NEAR as u64 - 1)) as usize;
        }
        for level in 0..FAR_LEVELS {
            let shift = far_shift(level);
            if (tick >> shift) - (self.tick >> shift) < FAR as u64 {
                return NEAR + level * FAR + ((tick >> shift) & (FAR as u64 - 1)) as usize;
            }
        }
        // Beyond the last level: the slot that comes round last, to be placed again from there.
        let level = FAR_LEVELS - 1;
        let last = (self.tick >> far_shift(level)) + FAR as u64 - 1;
        NEAR + level * FAR + (last & (FAR as u64 - 1)) as usize
    }

    fn unlink(&mut self, index: u32) {
        let Entry {
            prev, next, slot, ..
        } = self.entries[index as usize];
        if slot == FIRING {
            return;
        }
        let slot = usize::from(slot);
        if next == index {
            self.heads[slot] = NIL;
            self.clear(slot);
            return;
        }
        self.entries[prev as usize].next = next;
        self.entries[next as usize].prev = prev;
        if self.heads[slot] == index {
            self.heads[slot] = next;
        }
    }

    fn mark(&mut self, slot: usize) {
        if slot < NEAR {
            self.near[slot / 64] |= 1 << (slot % 64);
            self.near_summary |= 1 << (slot / 64);
        } else {
            self.far[(slot - NEAR) / FAR] |= 1 << ((slot - NEAR) % FAR);
        }
    }

    fn clear(&mut self, slot: usize) {
        if slot < NEAR {
            self.near[slot / 64] &= !(1 << (slot % 64));
            if self.near[slot / 64] == 0 {
                self.near_summary &= !(1 << (slot / 64));
            }
        } else {
            self.far[(slot - NEAR) / FAR] &= !(1 << ((slot - NEAR) % FAR));
        }
    }

    /// The next tick at which a slot is due or must be spread.
    fn next_tick(&self) -> Option<u64> {
        if self.live == 0 {
            return None;
        }
        let mut best = self.next_near();
        for level in 0..FAR_LEVELS {
            let bits = self.far[level];
            if bits == 0 {
                continue;
            }
            let shift = far_shift(level);
            let base = self.tick >> shift;
            let turn = (base + 1) & (FAR as u64 - 1);
            let ahead = u64::from(bits.rotate_right(turn as u32).trailing_zeros()) + 1;
            let tick = (base + ahead) << shift;
            best = Some(best.map_or(tick, |b| b.min(tick)));
        }
        best
    }

    fn next_near(&self) -> Option<u64> {
        if self.near_summary == 0 {
            return None;
        }
        let from = ((self.tick + 1) & (NEAR as u64 - 1)) as usize;
        let (word, bit) = (from / 64, from % 64);
        let here = self.near[word] >> bit;
        if here != 0 {
            return Some(self.tick + 1 + u64::from(here.trailing_zeros()));
        }
        // Words after this one in turn, this one's low bits last.
        let turned = self
            .near_summary
            .rotate_right((word as u32 + 1) % WORDS as u32);
        let ahead = turned.trailing_zeros() as usize;
        let found = (word + 1 + ahead) % WORDS;
        let slot = found * 64 + self.near[found].trailing_zeros() as usize;
        let distance = (slot + NEAR - from) % NEAR;
        Some(self.tick + 1 + distance as u64)
    }

    /// Places the entries of far slots that begin at `tick` again, one level down or due now.
    fn spread(&mut self, tick: u64) {
        for level in (0..FAR_LEVELS).rev() {
            let shift = far_shift(level);
            if tick & ((1 << shift) - 1) != 0 {
                continue;
            }
            let slot = NEAR + level * FAR + ((tick >> shift) & (FAR as u64 - 1)) as usize;
            let head = self.heads[slot];
            if head == NIL {
                continue;
            }
            self.heads[slot] = NIL;
            self.clear(slot);
            let tail = self.entries[head as usize].prev;
            let mut index = head;
            loop {
                let next = self.entries[index as usize].next;
                self.place(index, tick);
                if index == tail {
                    break;
                }
                index = next;
            }
        }
    }

    /// Takes the entries of the slot of `tick` off the wheel, still owned, into `due`.
    fn collect(&mut self, tick: u64, due: &mut Vec<Due>) {
        let slot = (tick & (NEAR as u64 - 1)) as usize;
        let head = self.heads[slot];
        if head == NIL {
            return;
        }
        self.heads[slot] = NIL;
        self.clear(slot);
        let mut index = head;
        loop {
            let entry = &mut self.entries[index as usize];
            due.push(Due {
                owner: entry.owner,
                at: entry.at,
                key: entry.key,
                entry: index,
            });
            entry.slot = FIRING;
            index = entry.next;
            if index == head {
                break;
            }
        }
    }
}

/// `Entry::slot` of one that is off the wheel and about to fire.
const FIRING: u16 = u16::MAX;
/// `Entry::slot` of one that is not in use.
const FREE: u16 = u16::MAX - 1;

#[cfg(test)]
mod tests;
