//! `/twin/route`: gives each reading its row, and each new device its rows.
//!
//! Row numbers come from the shared index, which outlives this actor. Fills of new rows reach the
//! scan before the readings that need them. It judges no value and drops T1 only where `apply` has
//! no room; T2 waits.
//!
//! Bound: one message in hand; [`crate::lanes::FILL_LANE`] fills under way.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{Addr, Fault, Flow, SendError, TaskActor, TaskContext};
use actorsim_transport::{DropReason, Ingest, Reading};
use rtrb::Producer;

use super::lease;
use crate::batch::{Origin, RowBatch, RowReading};
use crate::components::RowFill;
use crate::lanes::Lease;
use crate::shared::Shared;

/// How long one attempt to hand a T2 batch on waits; it is repeated until the batch is taken.
const EVENT_PATIENCE: Duration = Duration::from_secs(1);

/// The stage.
#[derive(Debug)]
pub struct Route {
    shared: Arc<Shared>,
    apply: Addr<RowBatch>,
    fills: Option<Lease<Producer<RowFill>>>,
}

impl Route {
    pub(crate) fn new(shared: Arc<Shared>, apply: Addr<RowBatch>) -> Self {
        Self {
            shared,
            apply,
            fills: None,
        }
    }

    fn resolve(&self, readings: &[Reading]) -> Vec<RowReading> {
        let mut rows = self.shared.spare_rows();
        let mut index = self.shared.index.lock();
        rows.extend(readings.iter().map(|reading| RowReading {
            value: reading.value,
            at_us: reading.at_us,
            row: index.resolve(reading),
            sequence: reading.sequence,
        }));
        rows
    }

    /// Pushes every fill that was not delivered yet; waits a cycle where the lane is full. While no
    /// scan runs the rest may wait: a rebuilt world binds every row of the index.
    async fn deliver_fills(&mut self) {
        let Some(lane) = &mut self.fills else { return };
        let wait = self.shared.config.scan.period;
        loop {
            {
                let mut index = self.shared.index.lock();
                let undelivered = index.undelivered();
                while let Some(fill) = undelivered.front() {
                    if lane.push(*fill).is_err() {
                        break;
                    }
                    undelivered.pop_front();
                }
                if undelivered.is_empty() || !self.shared.is_scanning() {
                    return;
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn hand_on_event(&mut self, mut batch: RowBatch) -> Result<(), Fault> {
        loop {
            batch = match self.apply.send(batch, EVENT_PATIENCE).await {
                Ok(()) => return Ok(()),
                Err(SendError::Closed(batch)) => {
                    batch.discard(DropReason::Died);
                    return Ok(());
                }
                Err(refused) => refused.into_message(),
            };
            if !self.shared.is_scanning() && matches!(batch.origin, Origin::Event { .. }) {
                // not acknowledged: the link sends it again, and the supervisor need not wait
                return Ok(());
            }
        }
    }

    fn hand_on_sample(&self, batch: RowBatch) {
        if let Err(refused) = self.apply.try_send(batch) {
            refused.into_message().discard(DropReason::Overflow);
        }
    }
}

impl TaskActor for Route {
    type Msg = Ingest;

    async fn started(&mut self, _: &mut TaskContext<Ingest>) -> Result<(), Fault> {
        self.fills = Some(lease(&self.shared.lanes.fills).await?);
        // what a killed incarnation left behind
        self.deliver_fills().await;
        Ok(())
    }

    async fn handle(
        &mut self,
        message: Ingest,
        _: &mut TaskContext<Ingest>,
    ) -> Result<Flow, Fault> {
        match message {
            Ingest::T1(batch) => {
                let rows = self.resolve(&batch.readings);
                self.deliver_fills().await;
                self.hand_on_sample(RowBatch::new(rows, Origin::T1(batch)));
            }
            Ingest::T2(batch) => {
                let rows = self.resolve(&batch.events);
                let session = Arc::clone(&batch.session);
                let sequence = batch.sequence;
                drop(batch);
                self.deliver_fills().await;
                self.hand_on_event(RowBatch::new(rows, Origin::Event { session, sequence }))
                    .await?;
            }
            Ingest::T2Plain(batch) => {
                let rows = self.resolve(&batch.readings);
                self.deliver_fills().await;
                self.hand_on_event(RowBatch::new(rows, Origin::Stream(batch)))
                    .await?;
            }
            Ingest::Register(registration) => {
                self.shared.index.lock().register(&registration);
                self.deliver_fills().await;
            }
        }
        Ok(Flow::Continue)
    }
}
