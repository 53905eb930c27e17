//! Requests to the scan thread that are answered at the start of a cycle, before its readings.
//!
//! A request carries the buffer for its answer, so that the scan allocates nothing; the answer
//! leaves over its own lane and is handed to the asker outside the scan thread.
//!
//! Bound: [`ROWS_PER_REQUEST`] rows per request, [`crate::lanes::REQUEST_LANE`] in flight.

use serde::Serialize;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::rules::RuleBook;
use crate::systems::{SystemId, WindowView};

/// Rows that one request may look at: more sensors than a device of any shipped profile has.
pub const ROWS_PER_REQUEST: usize = 256;

/// One row, as people see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowView {
    /// Table row.
    pub row: u32,
    /// Device.
    pub device: Uuid,
    /// Sensor id within the device.
    pub sensor: u16,
    /// Type byte.
    pub kind: u8,
    /// Last value; `None` before the first.
    pub value: Option<f64>,
    /// Smoothed value; `None` before the first finite one.
    pub smoothed: Option<f32>,
    /// Stamp of the last value, microseconds since the Unix epoch.
    pub at_us: u64,
    /// Last T1 sequence; `None` before the first.
    pub sequence: Option<u32>,
    /// Crossings of the type's threshold.
    pub crossings: u16,
    /// No value for the stale time, or none since the world was rebuilt.
    pub stale: bool,
    /// The last value was NaN or infinite.
    pub non_finite: bool,
    /// Rules in force, by slot, as bits; the command of one may be put off still.
    pub in_force: u8,
    /// Its last values, if it has a window and one of them.
    pub window: Option<WindowView>,
}

/// What the scan is asked to do between two cycles.
#[derive(Debug)]
pub enum Request {
    /// Copy rows out.
    Look {
        /// Rows to look at.
        rows: Vec<u32>,
        /// Room for one view per row, reserved by the asker.
        views: Vec<RowView>,
        /// Who asked.
        reply: oneshot::Sender<Vec<RowView>>,
    },
    /// Judge by other rules; the former ones come back with the answer, to be dropped.
    Rules {
        /// The rules.
        book: Box<RuleBook>,
        /// Told when they are in use.
        reply: oneshot::Sender<()>,
    },
    /// Keep another grid.
    Pace {
        /// Its period, if it changes.
        period_ns: Option<u64>,
        /// How often export and diagnostics walk, if that changes.
        walk_every: Option<u32>,
        /// Told when it is kept.
        reply: oneshot::Sender<()>,
    },
    /// Make a system panic in its next run (fault injection).
    Panic {
        /// The victim.
        system: SystemId,
        /// Told when the request was taken.
        reply: oneshot::Sender<()>,
    },
}
