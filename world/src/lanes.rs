//! The lanes between the stages and the scan thread, and the berths that let their ends outlive
//! an incarnation.
//!
//! Each lane is a single-producer single-consumer ring. An end is leased from its [`Berth`] by the
//! present incarnation and comes back when the lease is dropped, also by a kill. The scan thread
//! only ever pushes and pops; it never waits on another thread and frees nothing: a batch that was
//! scanned goes back over the returns lane and ends its life outside.
//!
//! Bound: the capacities below; a batch is in exactly one ring, or in the hands of one actor.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use actorsim_transport::T3Message;
use parking_lot::Mutex;
use rtrb::{Consumer, Producer, RingBuffer};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::Notify;
use triple_buffer::{Input, Output, triple_buffer};

use crate::batch::RowBatch;
use crate::components::RowFill;
use crate::request::Request;
use crate::row_files::{RowCounts, RowRecord};
use crate::scan::grid::Grid;
use crate::scan::snapshot::ScanSnapshot;
use crate::scan::stats::CycleRecord;
use crate::scan::watchdog::Pulse;
use crate::systems::RelayCommand;

/// Batches in the T1 lane: 100 ms, a period of a slow scan, of 7 M readings a second in batches of
/// a few datagrams (100 readings; under load they are larger); 1 MiB of them, readings apart.
pub const T1_LANE: usize = 8_192;

/// Batches in the T2 lane; a full lane is backpressure up to the devices.
pub const T2_LANE: usize = 1_024;

/// Row fills in flight to the scan, at least: about a millisecond of a cycle, which takes all that
/// it finds, so that no reading is scanned before the fill of its row.
pub const FILL_LANE: usize = 32_768;

/// And at most: a million devices are then made known to a scan at 10 Hz in three seconds; 10 MiB.
pub const FILL_LANE_MAX: usize = 8 * FILL_LANE;

/// Room for fills at a period: what is bound takes about a tenth of it, while devices are
/// announced. Their readings wait behind them.
#[must_use]
pub fn fill_lane(period: Duration) -> usize {
    let tens_of_ms = period.as_millis() as usize / 10;
    (FILL_LANE * tens_of_ms.max(1)).min(FILL_LANE_MAX)
}

/// Scanned batches on their way out: both lanes, so that a returning batch always finds room.
pub const RETURN_LANE: usize = T1_LANE + T2_LANE;

/// Relay commands on their way out; a full lane defers the automation to the next cycle.
pub const COMMAND_LANE: usize = 1_024;

/// Requests to the scan (and their answers) in flight: they come from people and tests.
pub const REQUEST_LANE: usize = 64;

/// Cycle records waiting to be folded into histograms: 8 s at 1 kHz, 80 s at 100 Hz.
pub const RECORD_LANE: usize = 8_192;

/// Where a leased value lies while nobody holds it.
#[derive(Debug)]
pub struct Berth<T>(Arc<Mutex<Option<T>>>);

impl<T> Berth<T> {
    /// Whether nobody holds the value.
    #[must_use]
    pub fn is_home(&self) -> bool {
        self.0.lock().is_some()
    }

    /// A berth that holds `value`.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(Some(value))))
    }

    /// Leases the value; `None` while another holder has it.
    #[must_use]
    pub fn take(&self) -> Option<Lease<T>> {
        let value = self.0.lock().take()?;
        Some(Lease {
            value: Some(value),
            berth: Arc::clone(&self.0),
        })
    }
}

/// A leased value; it goes back to its berth on drop, an unwind or an aborted task included.
pub struct Lease<T> {
    value: Option<T>,
    berth: Arc<Mutex<Option<T>>>,
}

impl<T> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
            .as_ref()
            .expect("a lease holds its value until it is dropped")
    }
}

impl<T> DerefMut for Lease<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
            .as_mut()
            .expect("a lease holds its value until it is dropped")
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        *self.berth.lock() = self.value.take();
    }
}

/// What one incarnation of the scan hands to the next: the grid goes on, so that slots missed in
/// between are counted, and totals never go back.
#[derive(Clone, Debug, Default)]
pub struct Carry {
    /// The grid, once the first incarnation laid it.
    pub grid: Option<Grid>,
    /// Totals at the end of the last cycle.
    pub snapshot: ScanSnapshot,
    /// See [`crate::scanned::ScannedWorld::put_off`].
    pub put_off: Vec<(u32, u8)>,
}

/// Ends that the scan thread holds.
#[allow(
    missing_debug_implementations,
    reason = "ring ends have no useful debug form"
)]
pub struct ScanEnds {
    /// T1 batches in.
    pub t1: Consumer<RowBatch>,
    /// T2 batches in.
    pub t2: Consumer<RowBatch>,
    /// Row fills in.
    pub fills: Consumer<RowFill>,
    /// Requests in.
    pub requests: Consumer<Request>,
    /// Scanned batches out.
    pub returns: Producer<RowBatch>,
    /// Commands out.
    pub commands: Producer<RelayCommand>,
    /// Answered requests out.
    pub answers: Producer<Request>,
    /// Cycle records out.
    pub records: Producer<CycleRecord>,
    /// Rows out, to files.
    pub rows: Producer<RowRecord>,
    /// Snapshots out.
    pub snapshot: Input<ScanSnapshot>,
    /// State handed on from incarnation to incarnation.
    pub carry: Carry,
}

/// Ends that `apply` holds.
#[allow(
    missing_debug_implementations,
    reason = "ring ends have no useful debug form"
)]
pub struct ApplyEnds {
    /// T1 batches to the scan.
    pub t1: Producer<RowBatch>,
    /// T2 batches to the scan.
    pub t2: Producer<RowBatch>,
    /// T2 batches that found their lane full and wait for room, oldest first.
    pub held: VecDeque<RowBatch>,
    /// The T1 batch that waits for room.
    pub waiting: Option<RowBatch>,
}

/// Ends that `actuate` holds.
#[allow(
    missing_debug_implementations,
    reason = "ring ends have no useful debug form"
)]
pub struct ActuateEnds {
    /// Scanned batches.
    pub returns: Consumer<RowBatch>,
    /// Relay commands.
    pub commands: Consumer<RelayCommand>,
    /// Answered requests.
    pub answers: Consumer<Request>,
    /// The command that tier T3 had no room for.
    pub in_hand: Option<T3Message>,
}

/// All lanes of one twin.
#[allow(
    missing_debug_implementations,
    reason = "ring ends have no useful debug form"
)]
pub struct Lanes {
    /// For the scan thread.
    pub scan: Berth<ScanEnds>,
    /// For whoever binds rows.
    pub fills: Mutex<Producer<RowFill>>,
    /// For `apply`.
    pub apply: Berth<ApplyEnds>,
    /// For `actuate`.
    pub actuate: Berth<ActuateEnds>,
    /// Requests, for anyone outside the scan thread.
    pub requests: Mutex<Producer<Request>>,
    /// Cycle records, for whoever folds them.
    pub records: Mutex<Consumer<CycleRecord>>,
    /// Rows on their way to files.
    pub rows: Mutex<Consumer<RowRecord>>,
    /// What became of them.
    pub row_counts: RowCounts,
    /// Latest snapshot, for any reader outside the scan thread.
    pub snapshot: Mutex<Output<ScanSnapshot>>,
    /// Written by the scan at the end of a cycle that has something to tell.
    pub wake: Arc<OwnedFd>,
    /// The same in a simulation, where the scan has no thread of its own.
    pub told: Arc<Notify>,
    /// Cycle records that found their lane full.
    pub records_lapped: AtomicU64,
    /// Period of the grid; 0 until the first one is laid.
    pub period_ns: AtomicU64,
    /// How often export and diagnostics walk, in cycles.
    pub walk_every: AtomicU64,
    /// The cycle under way.
    pub pulse: Arc<Pulse>,
    /// Offset of the last T2 batch in the world; while a scan runs it alone writes here.
    pub applied_offset: AtomicU64,
    /// The same of the last one of which no command is put off.
    pub decided_offset: AtomicU64,
}

impl Lanes {
    /// Makes every lane for a scan of this period, with room for so many rows on their way to
    /// files; fails only when the process may not open another descriptor.
    pub fn new(period: Duration, rows_out: usize) -> std::io::Result<Self> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (t1_in, t1_out) = RingBuffer::new(T1_LANE);
        let (t2_in, t2_out) = RingBuffer::new(T2_LANE);
        let (fills_in, fills_out) = RingBuffer::new(fill_lane(period));
        let (requests_in, requests_out) = RingBuffer::new(REQUEST_LANE);
        let (returns_in, returns_out) = RingBuffer::new(RETURN_LANE);
        let (commands_in, commands_out) = RingBuffer::new(COMMAND_LANE);
        let (answers_in, answers_out) = RingBuffer::new(REQUEST_LANE);
        let (records_in, records_out) = RingBuffer::new(RECORD_LANE);
        let (rows_in, rows_out) = RingBuffer::new(rows_out);
        let (snapshot_in, snapshot_out) = triple_buffer(&ScanSnapshot::default());
        let scan = ScanEnds {
            t1: t1_out,
            t2: t2_out,
            fills: fills_out,
            requests: requests_out,
            returns: returns_in,
            commands: commands_in,
            answers: answers_in,
            records: records_in,
            rows: rows_in,
            snapshot: snapshot_in,
            carry: Carry::default(),
        };
        let actuate = ActuateEnds {
            returns: returns_out,
            commands: commands_out,
            answers: answers_out,
            in_hand: None,
        };
        Ok(Self {
            scan: Berth::new(scan),
            fills: Mutex::new(fills_in),
            apply: Berth::new(ApplyEnds {
                t1: t1_in,
                t2: t2_in,
                held: VecDeque::new(),
                waiting: None,
            }),
            actuate: Berth::new(actuate),
            requests: Mutex::new(requests_in),
            records: Mutex::new(records_out),
            rows: Mutex::new(rows_out),
            row_counts: RowCounts::default(),
            snapshot: Mutex::new(snapshot_out),
            wake,
            told: Arc::default(),
            records_lapped: AtomicU64::new(0),
            period_ns: AtomicU64::new(0),
            walk_every: AtomicU64::new(1),
            pulse: Arc::default(),
            applied_offset: AtomicU64::new(0),
            decided_offset: AtomicU64::new(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_scan_has_room_for_more_fills_up_to_a_bound() {
        let rooms = [1, 10, 19, 20, 100, 60_000].map(|ms| fill_lane(Duration::from_millis(ms)));
        let expected = [1, 1, 1, 2, 8, 8].map(|times| times * FILL_LANE);
        assert_eq!(rooms, expected);
    }

    #[test]
    fn an_end_has_one_holder_and_comes_back_on_drop() {
        let berth = Berth::new(7);
        let mut lease = berth.take().unwrap();
        assert!(berth.take().is_none());
        *lease += 1;
        drop(lease);
        assert_eq!(*berth.take().unwrap(), 8);
    }

    #[test]
    fn an_end_comes_back_when_its_holder_panics() {
        let berth = Arc::new(Berth::new(1));
        let inner = Arc::clone(&berth);
        let outcome = std::thread::spawn(move || {
            let _lease = inner.take().unwrap();
            panic!("holder dies");
        })
        .join();
        assert!(outcome.is_err());
        assert!(berth.take().is_some());
    }
}
