//! A batch of readings resolved to rows, as it travels through the lanes.
//!
//! It carries the transport's own batch with it, so that the accounting of a reading that dies on
//! the way stays where it began. It decides nothing about rows.
//!
//! Bound: as many readings as the transport put into the batch.

use std::sync::Arc;

use actorsim_actors::Message;
use actorsim_transport::{Arrival, Batch, DropReason};

use crate::journal::store::Journalled;

/// Row number of a reading for which the world has no row.
pub const NO_ROW: u32 = u32::MAX;

/// One reading, resolved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowReading {
    /// Value, any bit pattern.
    pub value: f64,
    /// Stamp of the device, microseconds since the Unix epoch.
    pub at_us: u64,
    /// Table row, or [`NO_ROW`].
    pub row: u32,
    /// Sequence per (device, sensor, tier).
    pub sequence: u32,
}

/// Where a batch came from, and what must be told when it was scanned.
#[derive(Debug)]
pub enum Origin {
    /// T1 datagrams.
    T1(Batch),
    /// Durable T2 events: applied exactly once, in the order of their offsets.
    Event(Arc<Journalled>),
}

/// What became of a batch in the scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Not scanned: it dies with its count.
    #[default]
    Pending,
    /// In the world.
    Applied,
    /// A T2 batch that was in the world already.
    Duplicate,
    /// A T2 batch whose predecessor is missing; the journal feeds both again.
    Gap,
}

/// Readings of one batch, resolved to rows.
#[derive(Debug)]
pub struct RowBatch {
    /// The readings, in the order in which they came.
    pub readings: Vec<RowReading>,
    /// Where they came from.
    pub origin: Origin,
    /// What became of them.
    pub outcome: Outcome,
    /// When the scan took them, nanoseconds of the monotonic clock.
    pub scanned_ns: u64,
}

impl RowBatch {
    /// A batch that was not scanned yet.
    #[must_use]
    pub fn new(readings: Vec<RowReading>, origin: Origin) -> Self {
        Self {
            readings,
            origin,
            outcome: Outcome::Pending,
            scanned_ns: 0,
        }
    }

    /// Whether the batch came over T2.
    #[must_use]
    pub fn is_event(&self) -> bool {
        !matches!(self.origin, Origin::T1(_))
    }

    /// Whether its events are in the order in which their devices made them: those of
    /// `actorsim/1`; a stream of `dt/1` may overtake another.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        matches!(&self.origin, Origin::Event(batch) if !batch.keys.is_empty())
    }

    /// What a world that has applied T2 up to offset `applied` has to do with the batch:
    /// [`Outcome::Applied`] means apply it.
    #[must_use]
    pub fn verdict(&self, applied: u64) -> Outcome {
        let Origin::Event(batch) = &self.origin else {
            return Outcome::Applied;
        };
        match Arrival::after(applied, batch.offset) {
            Arrival::Next => Outcome::Applied,
            Arrival::Duplicate => Outcome::Duplicate,
            Arrival::Early => Outcome::Gap,
        }
    }

    /// Records the outcome; returns the offset that the world has applied now, if it is a new one.
    pub fn settle(&mut self, outcome: Outcome, now_ns: u64) -> Option<u64> {
        self.outcome = outcome;
        self.scanned_ns = now_ns;
        match (&self.origin, outcome) {
            (Origin::Event(batch), Outcome::Applied) => Some(batch.offset),
            _ => None,
        }
    }

    /// Gives the batch up: what has to be accounted for is counted as dropped for `reason`.
    pub fn discard(self, reason: DropReason) {
        match self.origin {
            Origin::T1(batch) => batch.discard(reason),
            // the journal has it
            Origin::Event(_) => {}
        }
    }
}

impl Message for RowBatch {
    fn kind(&self) -> &'static str {
        match self.origin {
            Origin::T1(_) => "t1_rows",
            Origin::Event(_) => "t2_rows",
        }
    }
}
