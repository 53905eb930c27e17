//! `/twin/apply`: resolved batches into the scan's lanes.
//!
//! The T2 lane is FIFO, never coalesced, and waited for without limit: backpressure up to the
//! devices, no loss. The T1 lane is waited for only briefly; then the batch in hand, which is the
//! oldest, is dropped and counted, so that newer ones get through. It looks into no reading.
//!
//! Bound: one batch in hand; [`SAMPLE_PATIENCE_CYCLES`] cycles of waiting for T1.

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

impl TaskActor for Apply {
    type Msg = RowBatch;

    async fn started(&mut self, _: &mut TaskContext<RowBatch>) -> Result<(), Fault> {
        self.ends = Some(lease(&self.shared.lanes.apply).await?);
        Ok(())
    }

    async fn handle(
        &mut self,
        batch: RowBatch,
        _: &mut TaskContext<RowBatch>,
    ) -> Result<Flow, Fault> {
        let ends = self
            .ends
            .as_mut()
            .ok_or_else(|| Fault::new("not_started"))?;
        let event = batch.is_event();
        let lane = if event { &mut ends.t2 } else { &mut ends.t1 };
        let mut waiting = push(lane, batch);
        let mut cycles = 0;
        while let Some(batch) = waiting {
            if !event && cycles >= SAMPLE_PATIENCE_CYCLES {
                batch.discard(DropReason::Overflow);
                return Ok(Flow::Continue);
            }
            tokio::time::sleep(self.shared.config.scan.period).await;
            cycles += 1;
            waiting = push(lane, batch);
        }
        self.shared.entered();
        Ok(Flow::Continue)
    }
}
