//! `/twin/journal`: opens the journal, brings the world's past back, and runs writer, feed and
//! checkpoints.
//!
//! Started before the scan, so that the scan finds every row of the past in the index. A journal
//! that cannot be opened is a failed start, unless it is for want of room: then its start waits.
//! Bound: its mailbox, and [`super::write::QUEUE`] messages behind it.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actorsim_actors::{Addr, Fault, Flow, Level, TaskActor, TaskContext};
use actorsim_transport::T2Message;
use tokio::sync::mpsc;

use super::clerk::Clerk;
use super::feed::{Feed, GROUPS};
use super::files::{LOST_FILE, OpenError, is_full};
use super::intents::ID_GAP;
use super::store::{Left, Store};
use super::write::{QUEUE, RETRY_MAX, RETRY_MIN, Writer};
use crate::batch::RowBatch;
use crate::lanes::Lease;
use crate::shared::Shared;
use crate::stages::{Outlets, lease};

/// How long a batch waits for the writer: then one of a session is left to its link, which sends it
/// again, so that an ordered stop gets in between.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often an ordered stop looks whether everything is durable.
const LOOK: Duration = Duration::from_millis(1);

/// At least this often what the world has applied becomes a checkpoint, if it is anything.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// The actor.
#[derive(Debug)]
pub(crate) struct JournalActor {
    shared: Arc<Shared>,
    outlets: Outlets,
    apply: Addr<RowBatch>,
    messages: Option<mpsc::Sender<T2Message>>,
    /// Commits, and reads records that an earlier life left.
    writer: Arc<Clerk>,
    /// Opens, and folds records into checkpoints.
    folder: Arc<Clerk>,
}

impl JournalActor {
    pub(crate) fn new(shared: Arc<Shared>, outlets: Outlets, apply: Addr<RowBatch>) -> Self {
        let clerk = |name| Arc::new(Clerk::new(name, &shared.cores));
        Self {
            writer: clerk("journal"),
            folder: clerk("checkpoint"),
            shared,
            outlets,
            apply,
            messages: None,
        }
    }
}

/// Opens the store, or takes it over from the former incarnation. A disk that is full is asked
/// again until it has room.
async fn open(
    shared: &Arc<Shared>,
    folder: &Clerk,
    cx: &TaskContext<T2Message>,
) -> Result<Lease<Option<Store>>, Fault> {
    let mut store = lease(&shared.journal.store).await?;
    let mut wait = RETRY_MIN;
    while store.is_none() {
        let on = Arc::clone(shared);
        let opening = move || {
            let opened = restore(&on, &mut store);
            (store, opened)
        };
        let opened = folder.run(&shared.clock, opening).await;
        let outcome;
        (store, outcome) = opened.map_err(|error| Fault::with("journal_open", error))?;
        let Err(error) = outcome else { break };
        if !is_only_full(&*error) {
            return Err(Fault::with("journal_open", error));
        }
        shared.journal.stats.commit_errors.inc();
        if wait == RETRY_MIN {
            let text = format!("it cannot be opened, and waits for room: {error}");
            tracing::error!("the journal: {text}");
            let events = cx.system().events();
            events.publish(Level::Error, "journal_refused", Some(cx.path()), text);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
    Ok(store)
}

fn is_only_full(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let opening = error.downcast_ref().is_some_and(OpenError::is_full);
    opening || error.downcast_ref().is_some_and(is_full)
}

/// Opens the store and brings back what it remembers: checkpoint, marks, ledger, applied offset.
fn restore(
    shared: &Arc<Shared>,
    store: &mut Lease<Option<Store>>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let journal = &shared.journal;
    let mut open = Store::open(&*journal.config.medium)?;
    // a restart within the process knows better than the last commit
    let recorded = open.as_of().applied;
    let applied = recorded.max(shared.applied());
    shared.set_noted(recorded);
    journal.recorded.fetch_max(recorded, Ordering::AcqRel);
    open.restore_marks(&shared.index)?;
    let layout_of = |device| shared.index.lock().layout_of(device);
    let covered = match open.files().checkpoint(recorded, &layout_of) {
        Ok(done) => done.to,
        Err(error) => {
            // a full disk: the former one stands
            tracing::warn!("no checkpoint at the start: {error}");
            journal.stats.checkpoint_errors.inc();
            open.as_of().checkpoint
        }
    };
    journal.stats.repaired.add(open.repaired());
    journal.stats.corrupt.add(open.corrupt());
    journal.head.store(open.head(), Ordering::Release);
    journal.checkpoint.store(covered, Ordering::Release);
    journal
        .record_bytes
        .store(open.record_bytes(), Ordering::Relaxed);
    shared.restore_ledger(open.files(), applied)?;
    open.files().rows(applied, |device, sensor, value| {
        shared.index.lock().row(device, sensor, value.kind);
    })?;
    shared.set_applied(applied);
    *journal.files.lock() = Some(Arc::clone(open.files()));
    **store = Some(open);
    Ok(())
}

impl JournalActor {
    /// What the process before this one left undone.
    fn take_up(&self, left: &Left, alone: Option<u64>, cx: &TaskContext<T2Message>) {
        let shared = &self.shared;
        shared.raise_command_id(left.command + ID_GAP);
        for (device, sensor, rule, in_force) in &left.in_force {
            shared.bring_into_force(*device, *sensor, *rule, *in_force);
        }
        let journal = &shared.journal;
        let (head, applied) = (journal.head.load(Ordering::Acquire), shared.applied());
        let (again, expired) = shared.take_up(&left.open, &self.outlets);
        let events = cx.system().events();
        let (repaired, corrupt) = (journal.stats.repaired.get(), journal.stats.corrupt.get());
        if repaired > 0 {
            let text = format!(
                "{repaired} files were not closed in order: verified, and at their last commit"
            );
            events.publish(Level::Warn, "journal_repaired", Some(cx.path()), text);
        }
        if let Some(checkpoint) = alone {
            let text = format!(
                "the journal is lost, as {LOST_FILE} said: a new one goes on from the checkpoint, \
                 batch {checkpoint}"
            );
            events.publish(Level::Warn, "journal_lost", Some(cx.path()), text);
        }
        if corrupt > 0 {
            let text = format!("{corrupt} records cannot be read; their events are lost");
            events.publish(Level::Error, "journal_corrupt", Some(cx.path()), text);
        }
        let text = format!(
            "{applied} batches applied before, {} to apply; commands: {again} sent again, \
             {expired} expired",
            head - applied
        );
        events.publish(Level::Info, "journal_opened", Some(cx.path()), text);
    }
}

impl TaskActor for JournalActor {
    type Msg = T2Message;

    async fn started(&mut self, cx: &mut TaskContext<T2Message>) -> Result<(), Fault> {
        let store = open(&self.shared, &self.folder, cx).await?;
        let open = store.as_ref().ok_or_else(|| Fault::new("journal_closed"))?;
        let left = open
            .left()
            .map_err(|error| Fault::with("journal_open", error))?;
        for (id, node, sequence) in &left.sessions {
            self.outlets.sessions.restore(*id, node, *sequence);
        }
        let journal = &self.shared.journal;
        if !journal.taken_up.swap(true, Ordering::AcqRel) {
            self.take_up(&left, open.alone(), cx);
        }
        journal.begins();
        let (recovered, recorded) = (open.head(), open.as_of().applied);
        let (messages, queue) = mpsc::channel(QUEUE);
        let (feed, groups) = mpsc::channel(GROUPS);
        self.messages = Some(messages);
        let feeding = Feed {
            shared: Arc::clone(&self.shared),
            clock: cx.clock().clone(),
            apply: self.apply.clone(),
            groups,
            recovered,
            clerk: Arc::clone(&self.writer),
        };
        let writing = Writer {
            shared: Arc::clone(&self.shared),
            outlets: self.outlets.clone(),
            system: cx.system().clone(),
            store,
            noted: recorded,
            messages: queue,
            notes: lease(&journal.notes_out).await?,
            feed,
            clerk: Arc::clone(&self.writer),
        };
        let tier = self.outlets.commands.clone();
        cx.pump(Arc::clone(&self.shared).send_again(tier));
        cx.pump(feeding.run());
        cx.pump(writing.run());
        let folder = Arc::clone(&self.folder);
        cx.pump(checkpoints(Arc::clone(&self.shared), folder));
        Ok(())
    }

    async fn handle(
        &mut self,
        message: T2Message,
        _: &mut TaskContext<T2Message>,
    ) -> Result<Flow, Fault> {
        let Some(queue) = &self.messages else {
            return Err(Fault::new("not_started"));
        };
        loop {
            let place = match tokio::time::timeout(PATIENCE, queue.reserve()).await {
                Ok(Ok(place)) => place,
                Ok(Err(_)) => return Err(Fault::with("journal_writer", "the writer is gone")),
                // nobody would send these again
                Err(_) if matches!(message, T2Message::Plain(_)) => continue,
                Err(_) => return Ok(Flow::Continue),
            };
            self.shared.journal.under_way.fetch_add(1, Ordering::AcqRel);
            place.send(message);
            return Ok(Flow::Continue);
        }
    }

    async fn stopping(&mut self, cx: &mut TaskContext<T2Message>) {
        // outcomes above all: a command without one is sent again by the next start
        let journal = &self.shared.journal;
        let settled = async {
            while !journal.is_settled() {
                tokio::time::sleep(LOOK).await;
            }
        };
        drop(tokio::time::timeout(PATIENCE, settled).await);
        let noted = self.shared.noted();
        let recorded = async {
            while journal.recorded.load(Ordering::Acquire) < noted {
                journal.checkpointed.notify_one(); // a reason for the writer to commit
                tokio::time::sleep(LOOK).await;
            }
        };
        drop(tokio::time::timeout(PATIENCE, recorded).await);
        // with this the next start has nothing to apply again; without it, a little
        if let Err(error) = checkpoint(&self.shared, &self.folder).await {
            let events = cx.system().events();
            events.publish(Level::Warn, "checkpoint_failed", Some(cx.path()), error);
        }
    }
}

/// Writes a checkpoint when the journal has grown, and now and then.
async fn checkpoints(shared: Arc<Shared>, folder: Arc<Clerk>) -> Result<(), Fault> {
    loop {
        let wanted = shared.journal.want_checkpoint.notified();
        // a timeout is a wish, too
        drop(tokio::time::timeout(CHECKPOINT_EVERY, wanted).await);
        if let Err(error) = checkpoint(&shared, &folder).await {
            tracing::warn!("no checkpoint, the journal grows: {error}");
            tokio::time::sleep(PATIENCE).await;
        }
    }
}

/// One checkpoint of what the world is known to have applied.
async fn checkpoint(shared: &Arc<Shared>, folder: &Clerk) -> Result<(), String> {
    let files = shared.journal.files.lock().clone();
    let applied = shared.journal.recorded.load(Ordering::Acquire);
    let Some(files) = files.filter(|_| shared.journal.checkpoint.load(Ordering::Acquire) < applied)
    else {
        return Ok(());
    };
    let on = Arc::clone(shared);
    let work = move || files.checkpoint(applied, &|device| on.index.lock().layout_of(device));
    let done = match folder.run(&shared.clock, work).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            shared.journal.stats.checkpoint_errors.inc();
            return Err(error.to_string());
        }
        Err(error) => return Err(error.to_string()),
    };
    let journal = &shared.journal;
    journal.checkpoint.fetch_max(done.to, Ordering::AcqRel);
    journal.stats.checkpoints.inc();
    journal.stats.corrupt.add(done.corrupt);
    journal.checkpointed.notify_one();
    Ok(())
}
