//! What all incarnations of the twin's actors share: lanes, index, pools and statistics.
//!
//! Nothing here is touched by the scan thread in steady state, so its locks are only ever held
//! between actors, for a batch at a time.
//!
//! Bound: [`SPARE_MAX`] spare row buffers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actorsim_actors::shard::ShardCores;
use actorsim_actors::{Clock, Time};
use actorsim_transport::{DropReason, EventMark, Reading, SensorType, Spare};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::batch::{Origin, Outcome, RowBatch, RowReading};
use crate::index::DeviceIndex;
use crate::journal::JournalShared;
use crate::journal::files::Files;
use crate::journal::store::Journalled;
use crate::lanes::{ActuateEnds, Lanes};
use crate::report::TIMELY;
use crate::request::Request;
use crate::row_files::{ROW_LANE, RowReport};
use crate::rules::{RuleBook, RuleSet, Slots};
use crate::scan::clock::ScanClock;
use crate::scan::rt::HostReport;
use crate::scan::stats::{CycleRecord, CycleTimes, Times};
use crate::stages::Outlets;
use crate::systems::Commanded;
use crate::twin::TwinConfig;

/// Spare row buffers that are kept: those of a period of 100 ms at 4 M readings a second, which
/// come back at once.
const SPARE_MAX: usize = 4_096;

/// Called with each cycle's record, outside the scan thread.
pub type CycleHook = Box<dyn FnMut(&CycleRecord) + Send>;

#[derive(Default)]
pub(crate) struct Folded {
    pub(crate) times: CycleTimes,
    hook: Option<CycleHook>,
}

/// The rules in use, and the bits by which rows remember them.
#[derive(Default)]
pub(crate) struct Rules {
    pub(crate) set: RuleSet,
    slots: Slots,
}

/// The first failure of a scan over all its incarnations.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FirstError {
    /// What it said.
    pub error: String,
    /// Cycles that had run.
    pub cycle: u64,
    /// When, microseconds since the Unix epoch.
    pub at_us: u64,
}

/// Shared state of one twin.
pub struct Shared {
    pub(crate) config: TwinConfig,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) index: Mutex<DeviceIndex>,
    pub(crate) commanded: Commanded,
    pub(crate) rules: Mutex<Rules>,
    /// Held by whoever changes the rules, until the scan has them.
    pub(crate) changing: tokio::sync::Mutex<()>,
    pub(crate) host: Mutex<Option<HostReport>>,
    /// Cores that the maker of the twin may run on: whoever starts a thread anew may have fewer.
    pub(crate) cores: Vec<usize>,
    first_error: Mutex<Option<FirstError>>,
    pub(crate) wedged: AtomicU64,
    pub(crate) outlets: OnceLock<Outlets>,
    pub(crate) clock: Clock,
    pub(crate) scan_clock: ScanClock,
    pub(crate) folded: Mutex<Folded>,
    pub(crate) journal: JournalShared,
    /// What was applied of each device, where it is kept.
    ledger: Mutex<Option<BTreeMap<Uuid, EventMark>>>,
    /// From the connection's receipt to the scan, per batch.
    pub(crate) ingest: Mutex<Times>,
    spare: Mutex<Spare<RowReading>>,
    command_id: AtomicU64,
    /// Offset of the last T2 batch of which every command was noted for the journal.
    noted_offset: AtomicU64,
    entered: AtomicU64,
    left: AtomicU64,
    scanning: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(config: TwinConfig, clock: Clock) -> std::io::Result<Self> {
        let rows_max = config.scan.capacity_max;
        // the journal raises it above all that it remembers; the clock is for one that was lost
        let first_command = clock.unix_us();
        let journal = JournalShared::new(config.journal.clone());
        let ledger = config.journal.ledger.then(BTreeMap::new);
        let rows_out = config.row_files.as_ref().map_or(0, |_| ROW_LANE);
        let lanes = Lanes::new(config.scan.period, rows_out)?;
        let period_ns = config.scan.period_ns();
        lanes.period_ns.store(period_ns, Ordering::Release);
        let walk_every = u64::from(config.scan.walk_every.max(1));
        lanes.walk_every.store(walk_every, Ordering::Release);
        let set = config.rule_set.clone();
        let shared = Self {
            lanes: Arc::new(lanes),
            rules: Mutex::new(Rules::default()),
            changing: tokio::sync::Mutex::new(()),
            first_error: Mutex::new(None),
            wedged: AtomicU64::new(0),
            index: Mutex::new(DeviceIndex::new(rows_max)),
            commanded: Commanded::new(rows_max),
            host: Mutex::new(None),
            cores: ShardCores::allowed(),
            folded: Mutex::new(Folded::default()),
            journal,
            ledger: Mutex::new(ledger),
            ingest: Mutex::new(Times::default()),
            outlets: OnceLock::new(),
            spare: Mutex::new(Spare::at_most(SPARE_MAX)),
            command_id: AtomicU64::new(first_command),
            noted_offset: AtomicU64::new(0),
            entered: AtomicU64::new(0),
            left: AtomicU64::new(0),
            scanning: AtomicBool::new(false),
            config,
            scan_clock: ScanClock::of(&clock),
            clock,
        };
        // armed for their slots; each world gets a book of its own
        drop(shared.arm(set));
        Ok(shared)
    }

    /// Takes over other rules, and makes a book of them.
    pub(crate) fn arm(&self, set: RuleSet) -> RuleBook {
        let rows = self.config.scan.capacity_max;
        let mut rules = self.rules.lock();
        let book = RuleBook::arm(&set, rows, &mut rules.slots);
        let slots = rules.slots.values();
        slots.for_each(|slot| self.commanded.prepare(*slot));
        rules.set = set;
        book
    }

    /// A book of the rules in use, for a world that begins.
    pub(crate) fn book(&self) -> RuleBook {
        let set = self.rules.lock().set.clone();
        self.arm(set)
    }

    /// What an earlier life of the process left of a rule; one that is not there any more is
    /// forgotten.
    pub(crate) fn bring_into_force(&self, device: Uuid, sensor: u16, rule: u64, in_force: bool) {
        let found = {
            let rules = self.rules.lock();
            let mut slots = rules.slots.iter();
            slots.find_map(|((kind, id), slot)| (*id == rule).then_some((*kind, *slot)))
        };
        let Some((kind, slot)) = found else { return };
        let Ok(kind) = SensorType::try_from(kind) else {
            return;
        };
        let row = self.index.lock().row(device, sensor, kind);
        self.commanded.set(slot, row, in_force);
    }

    /// What became of rows on their way to files; `None` where none go.
    pub(crate) fn row_report(&self) -> Option<RowReport> {
        let on = self.config.row_files.is_some();
        on.then(|| self.lanes.row_counts.report())
    }

    /// Readings received, and those that are timely if the next cycle takes them; `None` before
    /// the first.
    pub(crate) fn received(&self) -> Option<(u64, u64)> {
        let stats = &self.outlets.get()?.stats;
        let limit = TIMELY.saturating_sub(self.period()).as_micros() as u64;
        let tiers = [&stats.t1.latency, &stats.t2.latency].map(|latency| latency.snapshot());
        let (all, timely) = tiers.iter().fold((0, 0), |(all, timely), tier| {
            (all + tier.len(), timely + tier.count_between(0, limit))
        });
        (all > 0).then_some((all, timely))
    }

    /// Period of the grid, as it is now.
    pub(crate) fn period(&self) -> Duration {
        Duration::from_nanos(self.lanes.period_ns.load(Ordering::Acquire))
    }

    /// Keeps the first of all errors.
    pub(crate) fn note_error(&self, error: &dyn std::fmt::Display) {
        let mut first = self.first_error.lock();
        if first.is_none() {
            *first = Some(FirstError {
                error: error.to_string(),
                cycle: self.lanes.snapshot.lock().read().cycles,
                at_us: self.clock.unix_us(),
            });
        }
    }

    /// The first of all errors.
    pub(crate) fn first_error(&self) -> Option<FirstError> {
        self.first_error.lock().clone()
    }

    /// A command id above every earlier one.
    pub(crate) fn next_command_id(&self) -> u64 {
        self.command_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Leaves out the ids up to `id`.
    pub(crate) fn raise_command_id(&self, id: u64) {
        self.command_id.fetch_max(id, Ordering::Relaxed);
    }

    /// Offset of the last T2 batch in the world.
    pub(crate) fn applied(&self) -> u64 {
        self.lanes.applied_offset.load(Ordering::Acquire)
    }

    /// Where the next world begins; only while no scan runs.
    pub(crate) fn set_applied(&self, offset: u64) {
        let applied = &self.lanes.applied_offset;
        applied.fetch_max(offset, Ordering::AcqRel);
    }

    /// Offset of the last T2 batch of which every command was noted for the journal.
    pub(crate) fn noted(&self) -> u64 {
        self.noted_offset.load(Ordering::Acquire)
    }

    /// The journal has everything up to `offset`.
    pub(crate) fn set_noted(&self, offset: u64) {
        self.noted_offset.fetch_max(offset, Ordering::AcqRel);
    }

    /// All that the scan decided so far, if nothing of it is on its way to the journal.
    pub(crate) fn decided(&self) -> u64 {
        self.lanes.decided_offset.load(Ordering::Acquire)
    }

    /// A stage begins anew: the journal feeds again what it may have lost.
    pub(crate) fn in_doubt(&self) {
        self.journal.in_doubt.store(true, Ordering::Release);
        self.journal.progress.notify_one();
    }

    /// The readings with their rows; new devices get theirs.
    pub(crate) fn resolve(&self, readings: &[Reading]) -> Vec<RowReading> {
        let mut rows = self.spare_rows();
        rows.reserve_exact(readings.len());
        self.index.lock().resolve_all(readings, &mut rows);
        rows
    }

    /// Pushes every fill that was not delivered yet; waits for the next cycle where the lane is
    /// full. While no scan runs the rest may wait: a rebuilt world binds every row of the index.
    pub(crate) async fn deliver_fills(&self) {
        let wait = self.period() / 4;
        loop {
            {
                let mut index = self.index.lock();
                let undelivered = index.undelivered();
                if undelivered.is_empty() {
                    return;
                }
                let mut lane = self.lanes.fills.lock();
                while let Some(fill) = undelivered.front() {
                    if lane.push(*fill).is_err() {
                        break;
                    }
                    undelivered.pop_front();
                }
                if undelivered.is_empty() || !self.is_scanning() {
                    return;
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// What was applied of each device, as of the offset at which the world begins.
    pub(crate) fn restore_ledger(&self, files: &Files, applied: u64) -> Result<(), redb::Error> {
        if !self.config.journal.ledger {
            return Ok(());
        }
        let mut ledger = BTreeMap::new();
        files.marks(applied, |device, mark, _| {
            ledger.insert(device, mark);
        })?;
        *self.ledger.lock() = Some(ledger);
        Ok(())
    }

    /// What was applied of each device; `None` if it is not kept.
    pub(crate) fn ledger(&self) -> Option<BTreeMap<Uuid, EventMark>> {
        self.ledger.lock().clone()
    }

    fn enter_ledger(&self, batch: &Journalled) {
        if let Some(ledger) = &mut *self.ledger.lock() {
            for (reading, key) in batch.events.iter().zip(&batch.keys) {
                ledger.entry(reading.device).or_default().fold(*key);
            }
        }
    }

    /// An empty row buffer.
    pub(crate) fn spare_rows(&self) -> Vec<RowReading> {
        self.spare.lock().take().unwrap_or_default()
    }

    /// Notes that a batch entered the lanes.
    pub(crate) fn entered(&self) {
        self.entered.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that a batch that had entered came to its end.
    pub(crate) fn left(&self) {
        self.left.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that a scan runs, or that it was ended.
    pub(crate) fn set_scanning(&self, scanning: bool) {
        self.scanning.store(scanning, Ordering::Release);
    }

    /// Whether a scan runs; while none does, stages must not wait for one.
    pub(crate) fn is_scanning(&self) -> bool {
        self.scanning.load(Ordering::Acquire)
    }

    /// Batches between `apply` and the end of their life.
    pub(crate) fn in_lanes(&self) -> u64 {
        let left = self.left.load(Ordering::Acquire);
        self.entered.load(Ordering::Acquire).saturating_sub(left)
    }

    /// Settles every scanned batch: accounting, pools, requests' answers. True when T2 moved on.
    pub(crate) fn settle(&self, ends: &mut ActuateEnds) -> bool {
        let (now, host_now_ns) = (self.clock.monotonic(), self.scan_clock.now_ns());
        let mut moved = false;
        let mut times = self.ingest.lock();
        while let Ok(batch) = ends.returns.pop() {
            let ago_ns = host_now_ns.saturating_sub(batch.scanned_ns);
            let scanned = Time(now.0.saturating_sub(ago_ns));
            moved |= self.settle_one(batch, scanned, &mut times);
            self.left();
        }
        drop(times);
        while let Ok(request) = ends.answers.pop() {
            // an asker that went away loses the answer, by its own choice
            match request {
                Request::Look { views, reply, .. } => drop(reply.send(views)),
                Request::Panic { reply, .. }
                | Request::Rules { reply, .. }
                | Request::Pace { reply, .. } => drop(reply.send(())),
            }
        }
        moved
    }

    fn settle_one(&self, batch: RowBatch, scanned: Time, times: &mut Times) -> bool {
        let RowBatch {
            readings,
            origin,
            outcome,
            ..
        } = batch;
        let count = readings.len() as u64;
        let mut moved = false;
        match (origin, outcome) {
            (Origin::T1(batch), Outcome::Applied) => {
                times.record((scanned - batch.received).as_nanos() as u64);
                batch.applied();
            }
            // not scanned: it counts itself as died
            (Origin::T1(batch), _) => batch.discard(DropReason::Died),
            (Origin::Event(batch), Outcome::Applied) => {
                moved = true;
                self.enter_ledger(&batch);
                if let Some(outlets) = self.outlets.get() {
                    outlets.stats.t2.applied.add(count);
                }
            }
            // the world has it, or is fed it again
            (Origin::Event(_), _) => {}
        }
        self.spare.lock().give(readings);
        moved
    }

    /// Settles what is on its way back while no `actuate` runs.
    pub(crate) fn settle_returns(&self) {
        let Some(mut ends) = self.lanes.actuate.take() else {
            return;
        };
        if self.settle(&mut ends) {
            self.journal.progress.notify_one();
        }
        let decided = self.decided();
        if ends.in_hand.is_none() && ends.commands.is_empty() {
            self.set_noted(decided);
        }
    }

    /// Gives up what still lies in the lanes, and the command in hand; for the end of a twin.
    pub(crate) fn discard_lanes(&self) {
        if let Some(mut ends) = self.lanes.scan.take() {
            while let Ok(batch) = ends.t2.pop().or_else(|_| ends.t1.pop()) {
                batch.discard(DropReason::Died);
                self.left();
            }
        }
        if let Some(mut ends) = self.lanes.actuate.take() {
            // it counts itself as dropped
            ends.in_hand = None;
        }
        if let Some(mut ends) = self.lanes.apply.take() {
            let waiting = ends.waiting.take();
            for batch in ends.held.drain(..).chain(waiting) {
                batch.discard(DropReason::Died);
                self.left();
            }
        }
    }

    /// Folds the cycle records that wait, and shows each to the hook.
    pub(crate) fn fold_records(&self) {
        // folded first: two readers take turns, and records stay in order
        let mut folded = self.folded.lock();
        let mut records = self.lanes.records.lock();
        while let Ok(record) = records.pop() {
            folded.times.fold(&record);
            if let Some(hook) = &mut folded.hook {
                hook(&record);
            }
        }
    }

    pub(crate) fn hook(&self, hook: CycleHook) {
        self.folded.lock().hook = Some(hook);
    }
}
