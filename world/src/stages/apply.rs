//! `/twin/apply`: resolved batches into the scan's lanes.
//!
//! The T2 lane is FIFO, never coalesced, and waited for without limit: backpressure up to the
//! devices, no loss. What waits lies with the lanes' ends, so that it outlives this actor. The T1
//! lane is waited for only briefly; then the batch that waits, which is the oldest, is dropped and
//! counted, so that newer ones get through. It looks into no reading.
//!
//! Bound: one T1 batch waits for [`SAMPLE_PATIENCE_CYCLES`] cycles; [`HELD_MAX`] T2 batches held,
//! and more than one of them only while the scan is down.

use std::sync::Arc;

use actorsim_actors::{Fault, Flow, TaskActor, TaskContext};
use actorsim_transport::DropReason;
use rtrb::{Producer, PushError};

use super::lease;
use crate::batch::RowBatch;
use crate::lanes::{ApplyEnds, Lease};
use crate::shared::Shared;

/// Cycles that a T1 batch waits for room in its lane: a scan that took none for so long is down.
const SAMPLE_PATIENCE_CYCLES: u32 = 10;

/// T2 batches held while the scan is down: as many as may wait in the mailbox.
const HELD_MAX: usize = super::STAGE_MAILBOX as usize;

/// The stage.
#[derive(Debug)]
pub struct Apply {
    shared: Arc<Shared>,
    ends: Option<Lease<ApplyEnds>>,
}

impl Apply {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, ends: None }
    }
}

/// Pushes or gives the batch back.
fn push(lane: &mut Producer<RowBatch>, batch: RowBatch) -> Option<RowBatch> {
    lane.push(batch).err().map(|PushError::Full(batch)| batch)
}

/// Moves held batches into their lane while it has room.
fn release(ends: &mut ApplyEnds) {
    while let Some(batch) = ends.held.pop_front() {
        if let Some(batch) = push(&mut ends.t2, batch) {
            ends.held.push_front(batch);
            return;
        }
    }
}

impl Apply {
    async fn event(&mut self, batch: RowBatch) -> Result<(), Fault> {
        let ends = self
            .ends
            .as_mut()
            .ok_or_else(|| Fault::new("not_started"))?;
        ends.held.push_back(batch);
        release(ends);
        // While the scan is down this actor is about to be stopped with it: it must not keep its
        // supervisor waiting, and what it holds is kept for its next incarnation.
        while !ends.held.is_empty() && (self.shared.is_scanning() || ends.held.len() >= HELD_MAX) {
            tokio::time::sleep(self.shared.period()).await;
            release(ends);
        }
        Ok(())
    }

    async fn sample(&mut self, batch: RowBatch) -> Result<(), Fault> {
        let ends = self
            .ends
            .as_mut()
            .ok_or_else(|| Fault::new("not_started"))?;
        ends.waiting = push(&mut ends.t1, batch);
        for _ in 0..SAMPLE_PATIENCE_CYCLES {
            let Some(batch) = ends.waiting.take() else {
                return Ok(());
            };
            ends.waiting = push(&mut ends.t1, batch);
            if ends.waiting.is_some() {
                tokio::time::sleep(self.shared.period()).await;
            }
        }
        self.shared.give_up_waiting(ends);
        Ok(())
    }
}

impl Shared {
    /// Drops the T1 batch that waited long enough, counted.
    fn give_up_waiting(&self, ends: &mut ApplyEnds) {
        if let Some(batch) = ends.waiting.take() {
            batch.discard(DropReason::Overflow);
            self.left();
        }
    }
}

impl TaskActor for Apply {
    type Msg = RowBatch;

    async fn started(&mut self, _: &mut TaskContext<RowBatch>) -> Result<(), Fault> {
        let mut ends = lease(&self.shared.lanes.apply).await?;
        release(&mut ends);
        // what a killed incarnation waited with
        self.shared.give_up_waiting(&mut ends);
        // and what of T2 it had in hand
        self.shared.in_doubt();
        self.ends = Some(ends);
        Ok(())
    }

    async fn handle(
        &mut self,
        batch: RowBatch,
        _: &mut TaskContext<RowBatch>,
    ) -> Result<Flow, Fault> {
        self.shared.entered();
        if batch.is_event() {
            self.event(batch).await?
        } else {
            self.sample(batch).await?
        }
        Ok(Flow::Continue)
    }
}
