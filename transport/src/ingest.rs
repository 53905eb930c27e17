//! What the transport hands to the world's first stage.
//!
//! It is given the stage's address at assembly and knows nothing else of the world. Bound: that
//! stage's mailbox; a batch holds at most [`crate::BATCH_READINGS_MAX`] readings.

use actorsim_actors::Message;

use crate::batch::{Batch, EventBatch};
use crate::device::Registration;

/// A message to the world's route stage.
#[derive(Debug)]
pub enum Ingest {
    /// Telemetry: newest wins, may be dropped (it accounts for itself).
    T1(Batch),
    /// Events of an `actorsim/1` session: apply in order, once, as its ledger says.
    T2(EventBatch),
    /// Events of a `dt/1` stream: never deduplicated.
    T2Plain(Batch),
    /// Devices announced by a link.
    Register(Registration),
}

impl Message for Ingest {
    fn kind(&self) -> &'static str {
        match self {
            Self::T1(_) => "t1_batch",
            Self::T2(_) => "t2_events",
            Self::T2Plain(_) => "t2_batch",
            Self::Register(_) => "register",
        }
    }
}
