//! Groups: what waits is gathered, made durable at once, and then told.
//!
//! One commit is under way while the next group gathers, so that the group's size follows the
//! disk's speed. A disk that refuses is asked again; nothing is given up. Bounds:
//! [`super::GROUP_EVENTS_MAX`] events in a group; [`QUEUE`] messages wait for the next one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actorsim_actors::{Fault, Level, System, Time};
use actorsim_transport::{BATCH_READINGS_MAX, T2Message};
use tokio::sync::mpsc;

use super::clerk::Clerk;
use super::intents::Note;
use super::store::{AsOf, CommitError, Committed, Entry, Group, Journalled, Store};
use super::{GROUP_EVENTS_MAX, NOTES_MAX};
use crate::lanes::Lease;
use crate::shared::Shared;
use crate::stages::Outlets;

/// Messages between the actor and the next group: as many full batches as a group may hold, 3 MiB
/// with their buffers.
pub(super) const QUEUE: usize = GROUP_EVENTS_MAX / BATCH_READINGS_MAX;

/// Without work for this long, what the world has applied meanwhile is recorded.
const QUIET: Duration = Duration::from_secs(1);

/// The same while there are records that a checkpoint covers: some of them are removed.
const REMOVE_EVERY: Duration = Duration::from_millis(50);

/// From a refused commit, or opening, to the next attempt.
pub(super) const RETRY_MIN: Duration = Duration::from_millis(10);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(1);

/// How often a journal that is full looks whether a checkpoint made room.
const ROOM_LOOK: Duration = Duration::from_millis(50);

/// The writing half of one incarnation.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) outlets: Outlets,
    pub(super) system: System,
    pub(super) store: Lease<Option<Store>>,
    /// Offset up to which all intents are durable with the next group.
    pub(super) noted: u64,
    pub(super) messages: mpsc::Receiver<T2Message>,
    pub(super) notes: Lease<mpsc::Receiver<Note>>,
    pub(super) feed: mpsc::Sender<Vec<Journalled>>,
    /// Commits.
    pub(super) clerk: Arc<Clerk>,
}

impl Writer {
    pub(super) async fn run(mut self) -> Result<(), Fault> {
        let mut synced = Time::ZERO;
        loop {
            let mut group = Group::default();
            if !self.first(&mut group).await {
                return Ok(());
            }
            let next = synced + self.shared.journal.config.sync_interval;
            self.gather(&mut group, next).await;
            self = self.until_room(&mut group).await?.write(group).await?;
            synced = self.system.clock().monotonic();
        }
    }

    /// Waits for work, or for a quiet moment; false when the actor is gone.
    async fn first(&mut self, group: &mut Group) -> bool {
        let as_of = self.as_of();
        let to_remove = self
            .store
            .as_ref()
            .is_some_and(|store| store.has_covered(as_of));
        let quiet = if to_remove { REMOVE_EVERY } else { QUIET };
        tokio::select! {
            biased;
            message = self.messages.recv() => match message {
                Some(message) => group.entries.push(entry(message)),
                None => return false,
            },
            Some(note) = self.notes.recv() => self.note(group, note),
            () = self.shared.journal.checkpointed.notified() => {}
            () = tokio::time::sleep(quiet) => {}
        }
        true
    }

    /// Takes what comes until the next sync is due, and what waits then.
    async fn gather(&mut self, group: &mut Group, next: Time) {
        let mut events: usize = group.entries.iter().map(Entry::len).sum();
        let clock = self.system.clock().clone();
        while !group.is_empty() && events < GROUP_EVENTS_MAX {
            let left = next.since(clock.monotonic());
            if left.is_zero() {
                break;
            }
            match tokio::time::timeout(left, self.messages.recv()).await {
                Ok(Some(message)) => {
                    let entry = entry(message);
                    events += entry.len();
                    group.entries.push(entry);
                }
                Ok(None) | Err(_) => break,
            }
        }
        while events < GROUP_EVENTS_MAX
            && let Ok(message) = self.messages.try_recv()
        {
            let entry = entry(message);
            events += entry.len();
            group.entries.push(entry);
        }
        self.take_notes(group);
    }

    /// Takes the notes that wait; with all of them, what was decided before is durable. Commands
    /// for which tier T3 has no room hold that up, but no further than half a journal that no
    /// checkpoint covers: they would stop the events.
    fn take_notes(&mut self, group: &mut Group) {
        let size_max = self.shared.journal.config.size_max;
        let half = |store: &Store| store.uncovered_bytes() >= size_max / 2;
        let noted = match self.store.as_ref().is_some_and(half) {
            true => self.shared.applied(),
            false => self.shared.noted(),
        };
        while group.notes.len() < NOTES_MAX
            && let Ok(note) = self.notes.try_recv()
        {
            self.note(group, note);
        }
        if group.notes.len() < NOTES_MAX {
            self.noted = noted;
        }
    }

    fn note(&self, group: &mut Group, note: Note) {
        self.shared.journal.note_taken();
        group.notes.push(note);
    }

    fn store(&self) -> Result<&Store, Fault> {
        let store = self.store.as_ref();
        store.ok_or_else(|| Fault::new("journal_closed"))
    }

    fn as_of(&self) -> AsOf {
        AsOf {
            applied: self.noted,
            checkpoint: self.shared.journal.checkpoint.load(Ordering::Acquire),
        }
    }

    /// Waits while the records are at their bound: a checkpoint, for which the world must have
    /// applied them, makes room. Notes do not wait for that, and those of `group` are not left to
    /// it.
    async fn until_room(mut self, group: &mut Group) -> Result<Self, Fault> {
        let size_max = self.shared.journal.config.size_max;
        let mut told = false;
        while self.store()?.record_bytes() >= size_max {
            if !told {
                told = true;
                tracing::warn!("the journal has {size_max} bytes of records, its most: it waits");
            }
            if !self.store()?.has_covered(self.as_of()) {
                let journal = &self.shared.journal;
                journal.want_checkpoint.notify_one();
                let checkpointed = journal.checkpointed.notified();
                // a timeout is a look, too
                drop(tokio::time::timeout(ROOM_LOOK, checkpointed).await);
            }
            let mut notes = Group {
                notes: std::mem::take(&mut group.notes),
                ..Group::default()
            };
            self.take_notes(&mut notes);
            if !notes.is_empty() || self.store()?.is_behind(self.as_of()) {
                self = self.write(notes).await?;
            }
        }
        Ok(self)
    }

    /// Makes a group durable, however often the disk refuses, and tells everybody.
    async fn write(mut self, group: Group) -> Result<Self, Fault> {
        let taken = group.entries.len() as u64;
        let waiting = self.shared.journal.waiting_for(&group.notes);
        let now = self.as_of();
        let (shared, system) = (&self.shared, &self.system);
        let (store, committed) =
            commit(shared, system, &self.clerk, (group, now), self.store).await?;
        self.store = store;
        let store = self.store()?;
        let journal = &self.shared.journal;
        journal.head.store(store.head(), Ordering::Release);
        journal
            .record_bytes
            .store(store.record_bytes(), Ordering::Relaxed);
        if store.uncovered_bytes() >= journal.config.size_max / 4 {
            journal.want_checkpoint.notify_one();
        }
        let (stats, t2) = (&journal.stats, &self.outlets.stats.t2);
        let events: usize = committed
            .batches
            .iter()
            .map(|batch| batch.events.len())
            .sum();
        stats.events.add(events as u64);
        stats.records.add(committed.batches.len() as u64);
        stats.bytes.add(committed.bytes);
        stats.intents.add(committed.intents);
        t2.duplicates.add(committed.duplicates);
        t2.out_of_order.add(committed.early);
        for (session, sequence) in &committed.sessions {
            session.acknowledge(*sequence);
        }
        if !(committed.sessions.is_empty() && committed.batches.is_empty()) {
            self.outlets.sessions.wake();
        }
        // durable, whether or not there is room to go on
        journal.under_way.fetch_sub(taken, Ordering::AcqRel);
        journal.noted();
        for tell in waiting {
            let _ = tell.send(()); // who left does not hear it
        }
        if !committed.batches.is_empty() && self.feed.send(committed.batches).await.is_err() {
            return Err(Fault::with("journal_feed", "the feed is gone"));
        }
        Ok(self)
    }
}

fn entry(message: T2Message) -> Entry {
    match message {
        T2Message::Events(batch) => Entry::Events(batch),
        T2Message::Plain(batch) => Entry::Plain(batch),
    }
}

/// Commits on a thread that may block, until the disk takes the group. A group of which the disk
/// said no but kept it all the same is found when the store is opened anew, and not written again.
async fn commit(
    shared: &Arc<Shared>,
    system: &System,
    clerk: &Clerk,
    (group, now): (Group, AsOf),
    store: Lease<Option<Store>>,
) -> Result<(Lease<Option<Store>>, Committed), Fault> {
    let (mut group, mut store) = (group, store);
    let (mut wait, mut doubt) = (RETRY_MIN, None);
    loop {
        let (on, clock) = (Arc::clone(shared), system.clock().clone());
        let work = move || {
            let started = clock.monotonic();
            let outcome = attempt(&on, &mut store, (&group, now), &mut doubt);
            if outcome.is_ok() {
                settle(&mut group);
            }
            if let Ok(committed) = &outcome
                && !committed.is_nothing()
            {
                let took = clock.monotonic().since(started);
                on.journal.stats.commits.inc();
                on.journal.stats.commit_us.record(took.as_micros() as u64);
            }
            (store, group, doubt, outcome)
        };
        let done = clerk.run(system.clock(), work).await;
        let outcome;
        (store, group, doubt, outcome) =
            done.map_err(|error| Fault::with("journal_commit", error))?;
        match outcome {
            Ok(committed) => {
                if wait > RETRY_MIN {
                    let events = system.events();
                    events.publish(Level::Info, "journal_writes_again", None, String::new());
                }
                return Ok((store, committed));
            }
            Err(why) => {
                if wait == RETRY_MIN {
                    let events = system.events();
                    events.publish(Level::Error, "journal_refused", None, why.clone());
                    tracing::error!("the journal cannot be written, events wait: {why}");
                }
                shared.journal.stats.commit_errors.inc();
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}

/// The group's own batches end here: their readings are durable, and counted when applied.
fn settle(group: &mut Group) {
    for entry in group.entries.drain(..) {
        if let Entry::Plain(mut batch) = entry {
            let pool = Arc::clone(batch.pool());
            pool.give(batch.take_readings());
        }
    }
}

impl Committed {
    fn is_nothing(&self) -> bool {
        self.batches.is_empty() && self.sessions.is_empty() && self.intents == 0
    }
}

/// Commits the group, unless the attempt in `doubt` turns out to have done so.
fn attempt(
    shared: &Arc<Shared>,
    store: &mut Lease<Option<Store>>,
    (group, now): (&Group, AsOf),
    doubt: &mut Option<Box<CommitError>>,
) -> Result<Committed, String> {
    if store.is_none() {
        reopen(shared, store).map_err(|error| error.to_string())?;
    }
    let Some(open) = store.as_mut() else {
        return Err("the journal is closed".to_owned());
    };
    let journal = &shared.journal;
    // opening has synced what it found
    if let Some(kept) = doubt.take().filter(|doubt| doubt.is_durable(open.head())) {
        let recorded = open.as_of().applied;
        journal.recorded.fetch_max(recorded, Ordering::AcqRel);
        return Ok(kept.done);
    }
    let done = open.commit(group, now, &shared.index).map_err(|error| {
        // the database takes nothing more after an error: it is opened again
        **store = None;
        *journal.files.lock() = None;
        doubt.insert(error).to_string()
    })?;
    journal.recorded.fetch_max(now.applied, Ordering::AcqRel);
    Ok(done)
}

/// Opens the store after an error.
fn reopen(
    shared: &Arc<Shared>,
    store: &mut Lease<Option<Store>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let journal = &shared.journal;
    let mut open = Store::open(&*journal.config.medium)?;
    open.restore_marks(&shared.index)?;
    *journal.files.lock() = Some(Arc::clone(open.files()));
    **store = Some(open);
    Ok(())
}
