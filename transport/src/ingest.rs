//! What the transport hands to the world, and where.
//!
//! It is given addresses at assembly and knows nothing else of the world. Bound: their mailboxes; a
//! batch holds at most [`crate::BATCH_READINGS_MAX`] readings.

use actorsim_actors::{Addr, Message};

use crate::batch::Batch;
use crate::device::Registration;
use crate::tiers::T2Message;

/// Where the world takes in what came.
#[derive(Clone, Debug)]
pub struct Inlets {
    /// Telemetry and announcements.
    pub readings: Addr<Ingest>,
    /// Events: whoever makes them durable and then acknowledges them.
    pub events: Addr<T2Message>,
}

/// A message to the world's route stage.
#[derive(Debug)]
pub enum Ingest {
    /// Telemetry: newest wins, may be dropped (it accounts for itself).
    T1(Batch),
    /// Devices announced by a link.
    Register(Registration),
}

impl Message for Ingest {
    fn kind(&self) -> &'static str {
        match self {
            Self::T1(_) => "t1_batch",
            Self::Register(_) => "register",
        }
    }
}
