//! Faults counted by kind: in a device's identity, in a slab's output, in the fleet.
//!
//! Bounds: [`FAULTS_MAX`] marks of a device, one number a kind.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{FAULT_KINDS, FAULTS_MAX};

/// Bits of a mark.
const BITS: usize = 4;

const _: () = assert!(
    FAULTS_MAX * BITS <= u32::BITS as usize,
    "all marks of a device fit"
);
const _: () = assert!(FAULT_KINDS.len() < 1 << BITS, "a mark names a kind or none");

/// Kinds of up to [`FAULTS_MAX`] faults in one word: it outlives a cell in its identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u32);

impl Marks {
    /// The kinds, by their places in [`FAULT_KINDS`].
    fn places(self) -> impl Iterator<Item = usize> {
        let mark = move |at: usize| (self.0 >> (at * BITS)) as usize & ((1 << BITS) - 1);
        (0..FAULTS_MAX).filter_map(move |at| mark(at).checked_sub(1))
    }

    /// How many these are.
    #[must_use]
    pub fn len(self) -> usize {
        self.places().count()
    }

    /// None.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<&'static str> for Marks {
    /// Those beyond [`FAULTS_MAX`], and those that are no kind, are left out.
    fn from_iter<T: IntoIterator<Item = &'static str>>(kinds: T) -> Self {
        let places = kinds.into_iter().filter_map(place).take(FAULTS_MAX);
        let marked = |word, (at, place): (usize, usize)| word | ((place + 1) as u32) << (at * BITS);
        Self(places.enumerate().fold(0, marked))
    }
}

fn place(kind: &str) -> Option<usize> {
    FAULT_KINDS.iter().position(|(known, _)| *known == kind)
}

/// Faults by kind: those of a slab since its last flush, or of a fleet since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    injected: [u64; FAULT_KINDS.len()],
    ended: [u64; FAULT_KINDS.len()],
    /// Not injected: the device had [`FAULTS_MAX`] already.
    pub refused: u64,
}

impl FaultCounts {
    /// One of a kind begins.
    pub fn begin(&mut self, kind: &'static str) {
        if let Some(place) = place(kind) {
            self.injected[place] += 1;
        }
    }

    /// One that does not last: it has ended as soon as it began.
    pub fn act(&mut self, kind: &'static str) {
        self.begin(kind);
        self.end(Marks::from_iter([kind]));
    }

    /// These end: by their time, by hand, or with their incarnation.
    pub fn end(&mut self, marks: Marks) {
        for place in marks.places() {
            self.ended[place] += 1;
        }
    }

    /// Faults injected, of all kinds.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.injected.iter().sum()
    }

    /// Faults that ended, of all kinds.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ended.iter().sum()
    }

    /// Each kind: injected so far, and active now.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        let counts = self.injected.into_iter().zip(self.ended);
        let kinds = FAULT_KINDS.iter().zip(counts);
        kinds
            .map(|((kind, _), (injected, ended))| (*kind, injected, injected.saturating_sub(ended)))
    }
}

/// Faults of a whole fleet by kind.
#[derive(Debug, Default)]
pub struct FaultCounters {
    injected: [AtomicU64; FAULT_KINDS.len()],
    ended: [AtomicU64; FAULT_KINDS.len()],
    refused: AtomicU64,
}

impl FaultCounters {
    /// Adds what a slab has counted.
    pub fn add(&self, counts: &FaultCounts) {
        let injected = self.injected.iter().zip(counts.injected);
        let ended = self.ended.iter().zip(counts.ended);
        let refused = (&self.refused, counts.refused);
        for (sum, count) in injected.chain(ended).chain([refused]) {
            if count > 0 {
                sum.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// The counts now.
    #[must_use]
    pub fn read(&self) -> FaultCounts {
        let read = |counts: &[AtomicU64; FAULT_KINDS.len()]| {
            std::array::from_fn(|at| counts[at].load(Ordering::Relaxed))
        };
        FaultCounts {
            injected: read(&self.injected),
            ended: read(&self.ended),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}
