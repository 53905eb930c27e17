//! The feed: durable batches to the world, in the order of their offsets, until it has them.
//!
//! Go-back-N inside the process: a batch is kept until the world has applied it. Whenever a stage
//! was started anew, or nothing moves, the feed starts again behind the last one applied; the world
//! ignores what it has. It judges nothing. Bound: [`super::WINDOW_EVENTS`] events are kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actorsim_actors::{Addr, Clock, Fault, SendError, Time};
use tokio::sync::mpsc;

use super::WINDOW_EVENTS;
use super::clerk::Clerk;
use super::store::Journalled;
use crate::batch::{Origin, RowBatch};
use crate::shared::Shared;

/// Groups between writer and feed: the writer is one ahead.
pub(super) const GROUPS: usize = 2;

/// No progress for this long, and for some cycles: everything not applied is fed again.
const STALLED: Duration = Duration::from_secs(1);
const STALLED_CYCLES: u32 = 10;

/// How often a feed that waits for the world looks at it.
const LOOK: Duration = Duration::from_millis(20);

/// The same while nothing is to be applied.
const IDLE: Duration = Duration::from_secs(1);

/// How long one attempt to hand a batch on waits.
const PATIENCE: Duration = Duration::from_millis(100);

/// Offsets read at once while an earlier life's batches are fed: a quarter of the window, if each
/// is a full batch.
const READ_AHEAD: u64 = 64;

/// The feeding half of one incarnation.
pub(super) struct Feed {
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    pub(super) apply: Addr<RowBatch>,
    pub(super) groups: mpsc::Receiver<Vec<Journalled>>,
    /// Last offset that an earlier life, or incarnation, made durable.
    pub(super) recovered: u64,
    /// Reads them.
    pub(super) clerk: Arc<Clerk>,
}

/// Batches that the world may not have, oldest first.
struct Window {
    batches: VecDeque<Arc<Journalled>>,
    events: usize,
    /// How many of them were handed on.
    fed: usize,
    applied: u64,
    moved: Time,
}

impl Window {
    fn push(&mut self, batch: Journalled) {
        self.events += batch.events.len();
        self.batches.push_back(Arc::new(batch));
    }

    /// Lets go of what is applied.
    fn advance(&mut self, applied: u64, now: Time) {
        if applied > self.applied || self.fed == 0 {
            self.moved = now;
        }
        self.applied = self.applied.max(applied);
        while let Some(batch) = self.batches.pop_front_if(|batch| batch.offset <= applied) {
            self.events -= batch.events.len();
            self.fed = self.fed.saturating_sub(1);
        }
    }

    fn is_full(&self) -> bool {
        self.events >= WINDOW_EVENTS
    }
}

impl Feed {
    pub(super) async fn run(mut self) -> Result<(), Fault> {
        let mut window = Window {
            batches: VecDeque::new(),
            events: 0,
            fed: 0,
            applied: self.shared.applied(),
            moved: self.clock.monotonic(),
        };
        let mut next = window.applied + 1;
        loop {
            self.keep_up(&mut window);
            if next <= self.recovered && !window.is_full() {
                next = self.read(next, &mut window).await?;
                continue;
            }
            if self.shared.is_scanning() && window.fed < window.batches.len() {
                self.hand_on(&mut window).await;
                continue;
            }
            let room = next > self.recovered && !window.is_full();
            let look = if window.batches.is_empty() {
                IDLE
            } else {
                LOOK
            };
            let progress = self.shared.journal.progress.notified();
            tokio::select! {
                biased;
                group = self.groups.recv(), if room => match group {
                    Some(batches) => batches.into_iter().for_each(|batch| window.push(batch)),
                    None => return Ok(()),
                },
                () = progress => {}
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    /// Lets go of what is applied, and goes back if what was handed on may be lost.
    fn keep_up(&self, window: &mut Window) {
        let journal = &self.shared.journal;
        let now = self.clock.monotonic();
        window.advance(self.shared.applied(), now);
        let patience = STALLED.max(self.shared.config.scan.period * STALLED_CYCLES);
        let stalled = self.shared.is_scanning() && now.since(window.moved) > patience;
        let in_doubt = journal.in_doubt.swap(false, Ordering::AcqRel);
        if window.fed > 0 && (stalled || in_doubt) {
            journal.stats.refed.add(window.fed as u64);
            window.fed = 0;
            window.moved = now;
        }
    }

    /// Reads batches that were durable before this incarnation; returns where to go on.
    async fn read(&self, from: u64, window: &mut Window) -> Result<u64, Fault> {
        let to = self.recovered.min(from + READ_AHEAD - 1);
        let files = self.shared.journal.files.lock().clone();
        let Some(files) = files else {
            // the writer opens it anew
            tokio::time::sleep(LOOK).await;
            return Ok(from);
        };
        let received = self.clock.monotonic();
        let work = move || {
            let mut batches = Vec::new();
            let read = files.records(from, to, |offset, record| {
                batches.push(Journalled {
                    offset,
                    events: std::mem::take(&mut record.readings),
                    keys: std::mem::take(&mut record.keys),
                    received,
                    pool: None,
                });
            });
            read.map(|_| batches)
        };
        let read = self.clerk.run(&self.clock, work).await;
        let batches = read
            .map_err(|error| Fault::with("journal_read", error))?
            .map_err(|error| Fault::with("journal_read", error))?;
        let mut readable = batches.into_iter().peekable();
        for offset in from..=to {
            // one that cannot be read is counted; the world must still get past it
            let batch = readable.next_if(|batch| batch.offset == offset);
            window.push(batch.unwrap_or_else(|| Journalled {
                offset,
                events: Vec::new(),
                keys: Vec::new(),
                received,
                pool: None,
            }));
        }
        Ok(to + 1)
    }

    /// Hands the next batch on; one that finds no room is tried again.
    async fn hand_on(&self, window: &mut Window) {
        let Some(batch) = window.batches.get(window.fed) else {
            return;
        };
        let rows = self.shared.resolve(&batch.events);
        self.shared.deliver_fills().await;
        let rows = RowBatch::new(rows, Origin::Event(Arc::clone(batch)));
        match self.apply.send(rows, PATIENCE).await {
            Ok(()) => window.fed += 1,
            Err(SendError::Closed(_)) => tokio::time::sleep(LOOK).await,
            Err(_) => {}
        }
    }
}
