//! `/twin/route`: gives each reading its row, and each new device its rows.
//!
//! Row numbers come from the shared index, which outlives this actor. Fills of new rows reach the
//! scan before the readings that need them. It judges no value and drops T1 where `apply` has no
//! room; T2 comes past it, from the journal.
//!
//! Bound: one message in hand; [`crate::lanes::fill_lane`] fills under way.

use std::sync::Arc;

use actorsim_actors::{Addr, Fault, Flow, TaskActor, TaskContext};
use actorsim_transport::{DropReason, Ingest};

use crate::batch::{Origin, RowBatch};
use crate::shared::Shared;

/// The stage.
#[derive(Debug)]
pub struct Route {
    shared: Arc<Shared>,
    apply: Addr<RowBatch>,
}

impl Route {
    pub(crate) fn new(shared: Arc<Shared>, apply: Addr<RowBatch>) -> Self {
        Self { shared, apply }
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
        // what a killed incarnation left behind
        self.shared.deliver_fills().await;
        Ok(())
    }

    async fn handle(
        &mut self,
        message: Ingest,
        _: &mut TaskContext<Ingest>,
    ) -> Result<Flow, Fault> {
        match message {
            Ingest::T1(mut batch) => {
                let rows = self.shared.resolve(&batch.readings);
                // a thousand batches may wait for the scan: each as small as it can be
                batch.copied();
                self.shared.deliver_fills().await;
                self.hand_on_sample(RowBatch::new(rows, Origin::T1(batch)));
            }
            Ingest::Register(registration) => {
                self.shared.index.lock().register(&registration);
                self.shared.deliver_fills().await;
            }
        }
        Ok(Flow::Continue)
    }
}
