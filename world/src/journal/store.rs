//! The store: what is durable, and the one way in, a group at a time.
//!
//! It judges what is new, appends, syncs, and only then says so (invariants 1 to 3, 6 and 8 of the
//! journal). It knows no actor and no lane; its caller owns the thread. Bound: the group it is
//! given; [`TRIM_MAX`] removed in one commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use actorsim_actors::Time;
use actorsim_transport::{
    Arrival, Batch, BatchPool, EventBatch, EventKey, Reading, SESSIONS_MAX, T2Session,
};
use parking_lot::Mutex;
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableError, WriteTransaction};
use thiserror::Error;
use uuid::Uuid;

use super::files::{
    ABSENCE_STOPS, COMMANDED, Files, IN_FORCE, META, META_APPLIED, META_COMMAND, META_HEAD, Medium,
    OPEN, OpenError, RECORDS, SESSIONS, of_row_key, row_key,
};
use super::intents::{Intent, Note};
use super::record;
use crate::index::DeviceIndex;
use crate::rules;

/// Removed in one commit at most: whoever sends meanwhile waits for some milliseconds.
const TRIM_MAX: Bite = Bite {
    records: 1_024,
    bytes: 8 << 20,
};

/// The same while events wait for that commit, if not more of them come: twice as many go as come,
/// so that whoever waits hardly notices it and the journal still gets smaller.
const TRIM_MIN: Bite = Bite {
    records: 128,
    bytes: 512 << 10,
};

/// Records that one commit removes. Small ones cost a step in a tree each; of large ones, which a
/// flood leaves, each is read from its own pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bite {
    records: u64,
    bytes: u64,
}

impl Bite {
    /// Beside so many new ones.
    fn beside(records: u64, bytes: u64) -> Self {
        Self {
            records: (2 * records).clamp(TRIM_MIN.records, TRIM_MAX.records),
            bytes: (2 * bytes).clamp(TRIM_MIN.bytes, TRIM_MAX.bytes),
        }
    }
}

/// One thing to be made durable.
#[derive(Debug)]
pub enum Entry {
    /// A batch of a session.
    Events(EventBatch),
    /// Readings of a `dt/1` stream.
    Plain(Batch),
}

impl Entry {
    /// Its events.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Events(batch) => batch.events.len(),
            Self::Plain(batch) => batch.readings.len(),
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What one commit makes durable.
#[derive(Debug, Default)]
pub struct Group {
    /// Batches, in the order of their arrival.
    pub entries: Vec<Entry>,
    /// Notes of commands, in order.
    pub notes: Vec<Note>,
}

impl Group {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.notes.is_empty()
    }
}

/// What the world has done, as the commit records it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsOf {
    /// Last offset applied.
    pub applied: u64,
    /// Last offset that a durable checkpoint covers.
    pub checkpoint: u64,
}

/// A durable batch on its way to the world.
#[derive(Debug)]
pub struct Journalled {
    /// Its place in the journal.
    pub offset: u64,
    /// Its events, in order.
    pub events: Vec<Reading>,
    /// Their keys; empty if they came over `dt/1`.
    pub keys: Vec<EventKey>,
    /// When the connection had it (monotonic).
    pub received: Time,
    /// Where its buffer goes, if it is one of a pool.
    pub pool: Option<Arc<BatchPool>>,
}

impl Journalled {
    /// Of events gathered in a buffer of `pool`: very many wait where the world is behind.
    fn gathered(
        offset: u64,
        events: Vec<Reading>,
        keys: Vec<EventKey>,
        received: Time,
        pool: &Arc<BatchPool>,
    ) -> Self {
        Self {
            offset,
            events: pool.fit(events),
            keys,
            received,
            pool: Some(Arc::clone(pool)),
        }
    }
}

impl Drop for Journalled {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give(std::mem::take(&mut self.events));
        }
    }
}

/// What a commit did.
#[derive(Debug, Default)]
pub struct Committed {
    /// Batches to be applied, in order; offsets follow each other.
    pub batches: Vec<Journalled>,
    /// Sessions that moved on, and to which batch.
    pub sessions: Vec<(Arc<T2Session>, u64)>,
    /// Events that came again.
    pub duplicates: u64,
    /// Events of batches whose predecessor is missing.
    pub early: u64,
    /// Bytes of records.
    pub bytes: u64,
    /// Intents among the notes.
    pub intents: u64,
}

/// A commit that failed. It may be durable all the same, which shows when the store is opened
/// again: a commit is there as a whole or not at all.
#[derive(Debug, Error)]
#[error("{source}")]
pub struct CommitError {
    /// What the database says.
    source: redb::Error,
    /// What the commit does if it is durable.
    pub done: Committed,
    /// The head before it.
    before: u64,
}

impl CommitError {
    /// Whether it turned out to be durable: of all commits it was the last, and the journal goes on
    /// to `head`. One without a batch leaves no trace; doing it again does nothing more.
    #[must_use]
    pub fn is_durable(&self, head: u64) -> bool {
        !self.done.batches.is_empty() && head > self.before
    }
}

/// What an earlier life left.
#[derive(Debug, Default)]
pub struct Left {
    /// Sessions: number, node, last batch.
    pub sessions: Vec<(u64, String, u64)>,
    /// Commands without an outcome.
    pub open: Vec<Intent>,
    /// Rules by sensor and id, and whether they are in force.
    pub in_force: Vec<(Uuid, u16, u64, bool)>,
    /// The highest command id.
    pub command: u64,
}

/// Highest offset that is believed: no journal gets there, and behind the last number none goes on.
const OFFSET_MAX: u64 = u64::MAX >> 1;

/// The journal on its medium, open for writing.
#[derive(Debug)]
pub struct Store {
    files: Arc<Files>,
    head: u64,
    /// As of the last commit.
    as_of: AsOf,
    /// Records up to here are removed.
    trimmed: u64,
    record_bytes: u64,
    command: u64,
    corrupt: u64,
    /// Last event of each device, by its number in the index.
    marks: Vec<Option<EventKey>>,
    buffer: Vec<u8>,
}

impl Store {
    /// Opens or makes a journal and verifies every record that no checkpoint covers. What was torn
    /// by a crash is cut back to the last commit.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(medium: &dyn Medium) -> Result<Self, OpenError> {
        let files = Arc::new(Files::open(medium)?);
        Self::load(files).map_err(|source| OpenError::Database {
            place: medium.place(super::files::JOURNAL_FILE),
            source: Box::new(source),
        })
    }

    fn load(files: Arc<Files>) -> Result<Self, redb::Error> {
        let checkpoint = files.checkpointed()?;
        let read = files.journal.begin_read()?;
        let meta = read.open_table(META)?;
        let figure = |name: &str| -> Result<u64, redb::Error> {
            Ok(meta.get(name)?.map_or(0, |figure| figure.value()))
        };
        let head = figure(META_HEAD)?.max(checkpoint);
        if head > OFFSET_MAX {
            return Err(redb::Error::Corrupted(format!("it ends at {head}")));
        }
        let applied = figure(META_APPLIED)?.clamp(checkpoint, head);
        let command = figure(META_COMMAND)?;
        let records = read.open_table(RECORDS)?;
        let (mut record_bytes, mut first) = (0, head + 1);
        for entry in records.iter()? {
            let (offset, bytes) = entry?;
            first = first.min(offset.value());
            record_bytes += bytes.value().len() as u64;
        }
        drop((meta, records, read));
        let corrupt = files.records(checkpoint + 1, head, |_, _| {})?;
        Ok(Self {
            head,
            as_of: AsOf {
                applied,
                checkpoint,
            },
            trimmed: first.saturating_sub(1), // there is no record 0, but of rot
            record_bytes,
            command,
            corrupt,
            marks: Vec::new(),
            buffer: Vec::new(),
            files,
        })
    }

    /// The databases, for readers.
    #[must_use]
    pub fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// Last durable offset.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// What the world had done at the last commit.
    #[must_use]
    pub fn as_of(&self) -> AsOf {
        self.as_of
    }

    /// Bytes of records on disk.
    #[must_use]
    pub fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// Bytes of records that no checkpoint covers; 0 while covered ones are still to be removed.
    #[must_use]
    pub fn uncovered_bytes(&self) -> u64 {
        let caught_up = self.trimmed >= self.as_of.checkpoint;
        if caught_up { self.record_bytes } else { 0 }
    }

    /// Records found unreadable on open.
    #[must_use]
    pub fn corrupt(&self) -> u64 {
        self.corrupt
    }

    /// Files found torn on open.
    #[must_use]
    pub fn repaired(&self) -> u64 {
        u64::from(self.files.repaired)
    }

    /// The checkpoint from which a new journal goes on, the former one being lost.
    #[must_use]
    pub fn alone(&self) -> Option<u64> {
        self.files.alone
    }

    /// Brings back the last event of every device, which tells what is new.
    ///
    /// # Errors
    /// What the database says.
    pub fn restore_marks(&mut self, index: &Mutex<DeviceIndex>) -> Result<(), redb::Error> {
        let files = Arc::clone(&self.files);
        files.marks(self.head, |device, mark, sensors| {
            let asset = index.lock().restore(device, sensors.as_ref());
            if let Some(asset) = asset {
                set_mark(&mut self.marks, asset, mark.last);
            }
        })
    }

    /// What an earlier life left.
    ///
    /// # Errors
    /// What the database says.
    pub fn left(&self) -> Result<Left, redb::Error> {
        let read = self.files.journal.begin_read()?;
        let mut left = Left {
            command: self.command,
            ..Left::default()
        };
        for entry in read.open_table(SESSIONS)?.iter()? {
            let (id, session) = entry?;
            let (sequence, _, node) = session.value();
            left.sessions.push((id.value(), node.to_owned(), sequence));
        }
        for entry in read.open_table(OPEN)?.iter()? {
            let (id, bytes) = entry?;
            left.open.extend(Intent::decode(id.value(), bytes.value()));
        }
        if let Some(table) = there(read.open_table(COMMANDED))? {
            for entry in table.iter()? {
                let (key, command) = entry?;
                let (device, sensor) = of_row_key(key.value());
                let rule = rules::id(ABSENCE_STOPS);
                left.in_force
                    .push((device, sensor, rule, command.value().1));
            }
        }
        if let Some(table) = there(read.open_table(IN_FORCE))? {
            for entry in table.iter()? {
                let (key, command) = entry?;
                let (row, rule) = key.value();
                let (device, sensor) = of_row_key(row);
                left.in_force
                    .push((device, sensor, rule, command.value().1));
            }
        }
        Ok(left)
    }

    /// Whether a commit without entries has something to say.
    #[must_use]
    pub fn is_behind(&self, now: AsOf) -> bool {
        now.applied > self.as_of.applied || self.has_covered(now)
    }

    /// Whether records that a checkpoint covers are still to be removed.
    #[must_use]
    pub fn has_covered(&self, now: AsOf) -> bool {
        self.trimmed < self.as_of.checkpoint.max(now.checkpoint)
    }

    /// Makes a group durable, or nothing of it. Whoever is to be told is told by the caller.
    ///
    /// # Errors
    /// [`CommitError`]: nothing of the group may be told, and the store must be opened again before
    /// the next commit.
    pub fn commit(
        &mut self,
        group: &Group,
        now: AsOf,
        index: &Mutex<DeviceIndex>,
    ) -> Result<Committed, Box<CommitError>> {
        let plan = self.plan(group, index);
        if plan.is_empty() && group.notes.is_empty() && !self.is_behind(now) {
            return Ok(plan.done);
        }
        let (mut done, places) = (plan.done, plan.sessions);
        let written = self.write(group, now, &mut done, &places);
        let sessions = places.into_values();
        done.sessions = sessions
            .map(|(session, sequence, _)| (session, sequence))
            .collect();
        if let Err(source) = written {
            let before = self.head;
            return Err(Box::new(CommitError {
                source,
                done,
                before,
            }));
        }
        self.head += done.batches.len() as u64;
        self.as_of = now;
        for (asset, key) in plan.marks {
            set_mark(&mut self.marks, asset, key);
        }
        Ok(done)
    }

    /// One transaction: what is planned, the notes, and what the world has done.
    fn write(
        &mut self,
        group: &Group,
        now: AsOf,
        done: &mut Committed,
        places: &Places,
    ) -> Result<(), redb::Error> {
        let change = self.files.journal.begin_write()?;
        done.bytes = append(&change, &done.batches, &mut self.buffer)?;
        let head = self.head + done.batches.len() as u64;
        let most = match group.entries.is_empty() {
            true => TRIM_MAX,
            false => Bite::beside(done.batches.len() as u64, done.bytes),
        };
        let (trimmed, freed) = trim(&change, self.trimmed, now.checkpoint, most)?;
        for (session, sequence, offset) in places.values() {
            keep_session(&change, session, *sequence, *offset)?;
        }
        let command;
        (done.intents, command) = keep_notes(&change, &group.notes)?;
        let command = command.max(self.command);
        {
            let mut meta = change.open_table(META)?;
            meta.insert(META_HEAD, head)?;
            meta.insert(META_APPLIED, now.applied)?;
            meta.insert(META_COMMAND, command)?;
        }
        change.commit()?;
        (self.trimmed, self.command) = (trimmed, command);
        self.record_bytes = (self.record_bytes + done.bytes).saturating_sub(freed);
        Ok(())
    }

    /// Decides what is new, and changes nothing.
    fn plan(&self, group: &Group, index: &Mutex<DeviceIndex>) -> Plan {
        let mut plan = Plan::default();
        for entry in &group.entries {
            let offset = self.head + 1 + plan.done.batches.len() as u64;
            match entry {
                Entry::Events(batch) => self.plan_events(batch, offset, index, &mut plan),
                Entry::Plain(batch) if !batch.readings.is_empty() => {
                    let mut events = batch.pool().take();
                    events.extend_from_slice(&batch.readings);
                    let (keys, pool) = (Vec::new(), batch.pool());
                    let durable = Journalled::gathered(offset, events, keys, batch.received, pool);
                    plan.done.batches.push(durable);
                }
                Entry::Plain(_) => {}
            }
        }
        plan
    }

    fn plan_events(
        &self,
        batch: &EventBatch,
        offset: u64,
        index: &Mutex<DeviceIndex>,
        plan: &mut Plan,
    ) {
        let session = &batch.session;
        let open = plan.sessions.get(&session.id());
        let last = open.map_or(session.acked(), |(_, sequence, _)| *sequence);
        let count = batch.events.len() as u64;
        match Arrival::after(last, batch.sequence) {
            Arrival::Next => {}
            Arrival::Duplicate => {
                plan.done.duplicates += count;
                return;
            }
            Arrival::Early => {
                plan.done.early += count;
                return;
            }
        }
        let mut events = batch.pool().take();
        let mut keys = Vec::with_capacity(batch.keys.len());
        let mut index = index.lock();
        for (reading, key) in batch.events.iter().zip(&batch.keys) {
            // a device beyond the index has no mark: its session alone tells what is new
            let asset = index.asset(reading.device);
            if let Some(asset) = asset {
                let known = || self.marks.get(asset as usize).copied().flatten();
                let last = plan.marks.get(&asset).copied().or_else(known);
                if !key.follows(last) {
                    plan.done.duplicates += 1;
                    continue;
                }
                plan.marks.insert(asset, *key);
            }
            events.push(*reading);
            keys.push(*key);
        }
        drop(index);
        let place = (Arc::clone(session), batch.sequence, offset);
        plan.sessions.insert(session.id(), place);
        if events.is_empty() {
            batch.pool().give(events);
            return;
        }
        let durable = Journalled::gathered(offset, events, keys, batch.received, batch.pool());
        plan.done.batches.push(durable);
    }
}

/// Sessions by number: the session, its last batch, the offset of that.
type Places = BTreeMap<u64, (Arc<T2Session>, u64, u64)>;

/// What a group would change.
#[derive(Default)]
struct Plan {
    done: Committed,
    sessions: Places,
    marks: BTreeMap<u32, EventKey>,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.done.batches.is_empty() && self.sessions.is_empty()
    }
}

fn set_mark(marks: &mut Vec<Option<EventKey>>, asset: u32, key: EventKey) {
    let at = asset as usize;
    if marks.len() <= at {
        marks.resize(at + 1, None);
    }
    marks[at] = Some(key);
}

fn append(
    change: &WriteTransaction,
    batches: &[Journalled],
    buffer: &mut Vec<u8>,
) -> Result<u64, redb::Error> {
    let mut records = change.open_table(RECORDS)?;
    let mut bytes = 0;
    for batch in batches {
        buffer.clear();
        record::encode(batch.offset, &batch.events, &batch.keys, buffer);
        bytes += buffer.len() as u64;
        records.insert(batch.offset, buffer.as_slice())?;
    }
    Ok(bytes)
}

/// Removes the first records after `from` up to `to`; returns up to which, and their bytes.
fn trim(
    change: &WriteTransaction,
    from: u64,
    to: u64,
    most: Bite,
) -> Result<(u64, u64), redb::Error> {
    let to = to.min(from + most.records);
    if to <= from {
        return Ok((from, 0));
    }
    let mut records = change.open_table(RECORDS)?;
    let mut covered = records.extract_from_if(from + 1..=to, |_, _| true)?;
    let (mut trimmed, mut freed) = (to, 0);
    for record in covered.by_ref() {
        let (offset, bytes) = record?;
        freed += bytes.value().len() as u64;
        if freed >= most.bytes {
            trimmed = offset.value();
            break;
        }
    }
    covered.close()?;
    Ok((trimmed, freed))
}

/// Keeps where a session is; of too many, the one whose last batch is the oldest goes.
fn keep_session(
    change: &WriteTransaction,
    session: &T2Session,
    sequence: u64,
    offset: u64,
) -> Result<(), redb::Error> {
    let mut sessions = change.open_table(SESSIONS)?;
    sessions.insert(session.id(), (sequence, offset, session.node()))?;
    if sessions.len()? <= SESSIONS_MAX as u64 {
        return Ok(());
    }
    let mut oldest = None;
    for entry in sessions.iter()? {
        let (id, place) = entry?;
        let place = (place.value().1, id.value());
        oldest = Some(oldest.map_or(place, |oldest: (u64, u64)| oldest.min(place)));
    }
    if let Some((_, id)) = oldest {
        sessions.remove(id)?;
    }
    Ok(())
}

/// A table that an earlier version did not have yet, or a later one has no more.
fn there<T>(table: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Keeps notes of commands; returns how many intents there were, and the highest id.
fn keep_notes(change: &WriteTransaction, notes: &[Note]) -> Result<(u64, u64), redb::Error> {
    let (mut intents, mut highest) = (0, 0);
    if notes.is_empty() {
        return Ok((0, 0));
    }
    let mut open = change.open_table(OPEN)?;
    let mut in_force = change.open_table(IN_FORCE)?;
    for note in notes {
        match note {
            Note::Intent(intent) => {
                intents += 1;
                highest = highest.max(intent.id);
                open.insert(intent.id, intent.encode().as_slice())?;
                let key = row_key(intent.device.into_bytes(), intent.by);
                in_force.insert((&key, intent.rule), (intent.id, intent.in_force))?;
            }
            Note::Outcome(id) => drop(open.remove(id)?),
        }
    }
    Ok((intents, highest))
}
