//! The journal: T2 events and T3 intents on disk before anybody is told that they are taken.
//!
//! In reading order: [`record`] (bytes of one batch), [`files`] (the two databases), [`store`]
//! (open, verify, group commit, trim), [`fold`] (checkpoint and rebuild), `write` (groups), `feed`
//! (durable batches to the world, in order), `actor` (`/twin/journal`), `intents` (commands over a
//! restart), `clerk` (the threads that may wait for the disk).
//!
//! A batch goes: connection -> tier t2 -> journal (append, sync, acknowledge) -> apply -> FIFO lane
//! -> world. Each batch has an *offset*, counted from 1 over the life of the journal.
//!
//! # Invariants
//!
//! 1. **Acknowledged is durable.** `T2Session::acknowledge(n)` is called only after the commit that
//!    holds batch n has been synced.
//! 2. **New is decided once, before the append.** A batch is appended only if it is the next of its
//!    session, an event only if it follows the last of its device in its life. Both are judged
//!    against durable state plus the open group; a group that fails to commit leaves no trace.
//! 3. **Offsets have no gap**, and the order of offsets is the order of application. The events of
//!    a device keep the order in which its link sent them: a device has one link, and a session
//!    takes its batches in sequence.
//! 4. **The world applies offset n only directly after n - 1** (`Tally::applied_offset`, written by
//!    the scan alone). So a batch lost between journal and world is a gap that nothing crosses, and
//!    a batch fed twice is ignored: the feed goes back to `applied + 1` whenever it is in doubt.
//! 5. **World = checkpoint + fold of the journal.** The checkpoint is the fold of the records up to
//!    its offset C, and C is never beyond A (see 7). It is written in one transaction together with
//!    C.
//! 6. **A record is removed only if a durable checkpoint covers it.**
//! 7. **After a restart** rows and ledger are the fold up to A, and dedup marks the fold up to head
//!    (C <= A <= applied <= head). A is the last offset that the world has applied of which every
//!    command was decided, with its intent in the same commit or before. Everything after A goes
//!    through the lane and its rules again. So a command that was put off, or on its way, is
//!    decided again. A rule may so decide twice for the batches between A and the crash; the
//!    commanded state is that of the journalled intents, so an edge that was commanded is not
//!    commanded again. If commands wait for so long that the journal is half full, A goes on
//!    without them.
//! 8. **A command id is above every id that any earlier life may have sent**, journalled or not.
//! 9. **A disk that is full or slow is backpressure**: a group is tried again until it is durable,
//!    meanwhile the mailbox fills, the tiers wait, outboxes fill, devices skip samples
//!    (`t2.blocked`). A group that the disk refused and kept all the same is not written again.
//!    A journal waits, too, while there is no room to open it.
//!    Commands do not wait: an intent that finds no room is sent anyway, counted.
//!
//! Bounds: [`GROUP_EVENTS_MAX`] events in a commit, [`WINDOW_EVENTS`] durable events in memory,
//! [`JournalConfig::size_max`] bytes of records on disk, [`JOURNAL_CACHE_BYTES`] and
//! [`WORLD_CACHE_BYTES`] of cache.

pub(crate) mod actor;
pub(crate) mod clerk;
pub(crate) mod feed;
pub mod files;
pub mod fold;
pub(crate) mod intents;
pub mod record;
pub mod store;
pub(crate) mod write;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use actorsim_transport::{Counter, LatencyHistogram, Quantiles, T3Message};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::lanes::Berth;
use files::{Directory, Files, Medium, Memory};
use intents::{Intent, Note};
use store::Store;

/// Events in one commit at most: 3.3 MiB, some 20 ms of disk.
pub const GROUP_EVENTS_MAX: usize = 65_536;

/// Durable events in memory that the world has not applied: 15 MiB, half a second of the highest
/// rate. Beyond it the journal takes nothing more.
pub const WINDOW_EVENTS: usize = 262_144;

/// Cache of the file of records: what a group changes. It is filled between two checkpoints and
/// empty after each, so that it is memory that comes and goes; a checkpoint reads the records out
/// of what the kernel caches.
pub const JOURNAL_CACHE_BYTES: usize = 4 << 20;

/// Cache of the file of the checkpoint, which is read and written in the order of its keys: what
/// the kernel caches is near enough, and a small one is as large as it gets after the first few.
pub const WORLD_CACHE_BYTES: usize = 2 << 20;

/// Notes of commands that wait for the next commit: one full command lane, four times.
pub const NOTES_MAX: usize = 4_096;

/// How a twin keeps its journal.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Where it lies.
    pub medium: Arc<dyn Medium>,
    /// Records on disk at most, in bytes; the world may lag behind by as much.
    pub size_max: u64,
    /// Least time between two syncs.
    pub sync_interval: Duration,
    /// Keep what was applied of each device, for the report.
    pub ledger: bool,
}

impl JournalConfig {
    /// Records on disk by default: 5 million events, minutes of a large fleet without a scan.
    pub const SIZE_MAX: u64 = 256 << 20;
    /// Between two syncs by default: few enough commits to cost little, short against a scan cycle.
    pub const SYNC_INTERVAL: Duration = Duration::from_millis(2);

    /// A journal that outlives actors, not the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::on(Arc::new(Memory))
    }

    /// A journal in a directory, which is made where needed.
    #[must_use]
    pub fn in_directory(dir: PathBuf) -> Self {
        Self::on(Arc::new(Directory(dir)))
    }

    /// A journal anywhere.
    #[must_use]
    pub fn on(medium: Arc<dyn Medium>) -> Self {
        Self {
            medium,
            size_max: Self::SIZE_MAX,
            sync_interval: Self::SYNC_INTERVAL,
            ledger: false,
        }
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self::in_memory()
    }
}

/// What the journal counts, over all its incarnations.
#[derive(Debug, Default)]
pub struct JournalStats {
    /// Events made durable.
    pub events: Counter,
    /// Batches made durable.
    pub records: Counter,
    /// Bytes of records made durable.
    pub bytes: Counter,
    /// Groups committed.
    pub commits: Counter,
    /// Commits that the disk refused, and openings for which it had no room; each was tried again.
    pub commit_errors: Counter,
    /// Time of a commit, its sync included, microseconds.
    pub commit_us: LatencyHistogram,
    /// Checkpoints written.
    pub checkpoints: Counter,
    /// Checkpoints that failed; the next one covers as much.
    pub checkpoint_errors: Counter,
    /// Batches handed to the world again after a stage lost them.
    pub refed: Counter,
    /// Files that a crash left open: verified, and brought back to their last commit.
    pub repaired: Counter,
    /// Records that could not be read back; their events are lost and this says so.
    pub corrupt: Counter,
    /// Command intents made durable.
    pub intents: Counter,
    /// Intents, or outcomes, that found no room and were not journalled.
    pub notes_skipped: Counter,
}

/// The journal at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct JournalReport {
    /// Last offset that is durable.
    pub head: u64,
    /// Last offset that the world has applied.
    pub applied: u64,
    /// Last offset that the checkpoint covers.
    pub checkpoint: u64,
    /// Bytes of records that wait for a checkpoint.
    pub record_bytes: u64,
    /// The bound of these.
    pub size_max: u64,
    /// Events made durable in this process.
    pub events: u64,
    /// Groups committed.
    pub commits: u64,
    /// Commits that the disk refused, and openings for which it had no room.
    pub commit_errors: u64,
    /// Commit time, microseconds: p50, p99, longest.
    pub commit_us: [Option<u64>; 3],
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Batches handed to the world again.
    pub refed: u64,
    /// Files that a crash left open: verified, and brought back to their last commit.
    pub repaired: u64,
    /// Records that could not be read back.
    pub corrupt: u64,
    /// Command intents made durable.
    pub intents: u64,
    /// Intents and outcomes not journalled for want of room.
    pub notes_skipped: u64,
}

/// Who waits for this intent, until it waits no more.
struct Leaves<'a>(&'a JournalShared, u64);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().remove(&self.1);
    }
}

impl std::fmt::Debug for JournalShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalShared").finish_non_exhaustive()
    }
}

/// What the incarnations of the journal, the stages and readers share.
pub(crate) struct JournalShared {
    pub(crate) config: JournalConfig,
    pub(crate) stats: JournalStats,
    /// The store, once it is open, while no incarnation holds it.
    pub(crate) store: Berth<Option<Store>>,
    /// Databases for readers.
    pub(crate) files: Mutex<Option<Arc<Files>>>,
    pub(crate) head: AtomicU64,
    /// What was applied, as the last commit has it: no checkpoint is beyond it.
    pub(crate) recorded: AtomicU64,
    pub(crate) checkpoint: AtomicU64,
    pub(crate) record_bytes: AtomicU64,
    /// Messages taken out of the mailbox that are not durable yet.
    pub(crate) under_way: AtomicU64,
    /// Notes that are not, in the queue or in the writer's hand.
    notes_open: AtomicU64,
    /// Those in its hand, which go with it.
    notes_taken: AtomicU64,
    /// What the process before this one left undone was taken up.
    pub(crate) taken_up: AtomicBool,
    /// Who waits until an intent is durable, by its id.
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<()>>>,
    /// Commands of the process before this one that are to be sent again, oldest first.
    pub(crate) reopened: Mutex<VecDeque<T3Message>>,
    /// A stage was started: what it had in hand may be lost.
    pub(crate) in_doubt: AtomicBool,
    /// The world has applied more.
    pub(crate) progress: Notify,
    pub(crate) want_checkpoint: Notify,
    pub(crate) checkpointed: Notify,
    pub(crate) notes: mpsc::Sender<Note>,
    pub(crate) notes_out: Berth<mpsc::Receiver<Note>>,
}

impl JournalShared {
    pub(crate) fn new(config: JournalConfig) -> Self {
        let (notes, notes_out) = mpsc::channel(NOTES_MAX);
        Self {
            config,
            stats: JournalStats::default(),
            store: Berth::new(None),
            files: Mutex::new(None),
            head: AtomicU64::new(0),
            recorded: AtomicU64::new(0),
            checkpoint: AtomicU64::new(0),
            record_bytes: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            notes_open: AtomicU64::new(0),
            notes_taken: AtomicU64::new(0),
            taken_up: AtomicBool::new(false),
            waiting: Mutex::default(),
            reopened: Mutex::default(),
            in_doubt: AtomicBool::new(false),
            progress: Notify::new(),
            want_checkpoint: Notify::new(),
            checkpointed: Notify::new(),
            notes,
            notes_out: Berth::new(notes_out),
        }
    }

    /// Makes a note of a command durable with the next group; one that finds no room is counted.
    pub(crate) fn note(&self, note: Note) {
        self.notes_open.fetch_add(1, Ordering::AcqRel);
        if self.notes.try_send(note).is_err() {
            self.stats.notes_skipped.inc();
            self.notes_open.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Makes an intent durable, which waits for room; the answer is an error if it was given up.
    pub(crate) async fn durable(&self, intent: Intent) -> Result<(), oneshot::error::RecvError> {
        let (tell, told) = oneshot::channel();
        self.waiting.lock().insert(intent.id, tell);
        let _leaves = Leaves(self, intent.id);
        // its other end is here, too
        if let Ok(room) = self.notes.reserve().await {
            self.notes_open.fetch_add(1, Ordering::AcqRel);
            room.send(Note::Intent(intent));
        }
        told.await
    }

    /// Those who wait for intents of a group.
    pub(crate) fn waiting_for(&self, notes: &[Note]) -> Vec<oneshot::Sender<()>> {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            return Vec::new();
        }
        let intents = notes.iter().filter_map(|note| match note {
            Note::Intent(intent) => waiting.remove(&intent.id),
            Note::Outcome(_) => None,
        });
        intents.collect()
    }

    /// The writer has taken a note out of the queue.
    pub(crate) fn note_taken(&self) {
        self.notes_taken.fetch_add(1, Ordering::AcqRel);
    }

    /// All that it took are durable, or lost with it.
    pub(crate) fn noted(&self) {
        let taken = self.notes_taken.swap(0, Ordering::AcqRel);
        self.notes_open.fetch_sub(taken, Ordering::AcqRel);
    }

    /// Whether everything that was taken is durable.
    pub(crate) fn is_settled(&self) -> bool {
        let open = [&self.under_way, &self.notes_open];
        open.into_iter()
            .all(|open| open.load(Ordering::Acquire) == 0)
    }

    /// A writer begins: what the one before it had in hand is lost, and notes still wait.
    pub(crate) fn begins(&self) {
        self.noted();
        self.under_way.store(0, Ordering::Release);
    }

    pub(crate) fn report(&self, applied: u64) -> JournalReport {
        let stats = &self.stats;
        let times = stats.commit_us.quantiles();
        let time = |of: fn(&Quantiles) -> u64| times.as_ref().map(of);
        JournalReport {
            head: self.head.load(Ordering::Acquire),
            applied,
            checkpoint: self.checkpoint.load(Ordering::Acquire),
            record_bytes: self.record_bytes.load(Ordering::Relaxed),
            size_max: self.config.size_max,
            events: stats.events.get(),
            commits: stats.commits.get(),
            commit_errors: stats.commit_errors.get(),
            commit_us: [time(|q| q.p50), time(|q| q.p99), time(|q| q.max)],
            checkpoints: stats.checkpoints.get(),
            refed: stats.refed.get(),
            repaired: stats.repaired.get(),
            corrupt: stats.corrupt.get(),
            intents: stats.intents.get(),
            notes_skipped: stats.notes_skipped.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_is_lost_takes_only_the_notes_in_its_hand_with_it() {
        let journal = JournalShared::new(JournalConfig::default());
        (0..3).for_each(|id| journal.note(Note::Outcome(id)));
        let mut queue = journal.notes_out.take().unwrap();
        assert!(queue.try_recv().is_ok());
        journal.note_taken();
        journal.begins();
        assert!(!journal.is_settled(), "two wait");
        for _ in 0..2 {
            assert!(queue.try_recv().is_ok());
            journal.note_taken();
        }
        journal.noted();
        assert!(journal.is_settled());
    }

    #[test]
    fn a_note_that_finds_no_room_is_counted_and_not_waited_for() {
        let journal = JournalShared::new(JournalConfig::default());
        (0..=NOTES_MAX as u64).for_each(|id| journal.note(Note::Outcome(id)));
        assert_eq!(journal.stats.notes_skipped.get(), 1);
        assert_eq!(journal.notes_open.load(Ordering::Acquire), NOTES_MAX as u64);
    }
}
