//! The stages between transport and scan, each a supervised task actor.
//!
//! Reading order: `route` (readings -> rows), `apply` (batches -> lanes), `actuate` (everything
//! that leaves the world), `synthetic` (commands for load). A stage holds its lane ends by lease,
//! so the next incarnation goes on where a killed one stopped.
//!
//! Bound: [`STAGE_MAILBOX`] messages per stage, [`JOURNAL_MAILBOX`] for the journal; a message is a
//! batch, not a reading.

mod actuate;
mod apply;
mod route;
mod synthetic;

use std::time::Duration;

use actorsim_actors::Fault;

pub(crate) use actuate::WAKES;
pub use actuate::{Actuate, Outlets, Woken};
pub use apply::Apply;
pub use route::Route;
pub use synthetic::{Synthetic, SyntheticMessage};

use crate::lanes::{Berth, Lease};

/// Batches that wait for a stage: the guide's T1 mailbox.
pub const STAGE_MAILBOX: u32 = 1_024;

/// Batches of events that wait for the journal: 10 MiB, since each has a buffer of the largest.
pub const JOURNAL_MAILBOX: u32 = 256;

/// How long an incarnation waits for ends that the previous one still holds.
const HANDOVER: Duration = Duration::from_secs(2);

/// How often it looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Leases a stage's ends, or faults: its predecessor should have ended.
pub(crate) async fn lease<T>(berth: &Berth<T>) -> Result<Lease<T>, Fault> {
    let looks = HANDOVER.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        if let Some(ends) = berth.take() {
            return Ok(ends);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(Fault::with(
        "lane_held",
        "the previous incarnation still holds its lanes",
    ))
}
