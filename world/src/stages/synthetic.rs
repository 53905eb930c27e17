//! `/twin/synthetic`: commands at a fixed rate, for load; there only with `t3.synthetic_rate`.
//!
//! Each starts the relay of the next device in order of registration, and goes the way of the
//! automation's own: journalled, sent, its outcome counted. It looks at no value. Bound:
//! [`BURST_MAX`] commands a step; what a late step owes beyond it is not made up.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{Fault, Flow, Message, TaskActor, TaskContext};
use actorsim_transport::{Issued, T3Message};
use tokio::time::MissedTickBehavior;

use super::Outlets;
use crate::shared::Shared;
use crate::systems::RelayCommand;

/// How often it looks what is due: tokio's own resolution.
const STEP: Duration = Duration::from_millis(1);
/// Commands of one step at most: less than tier T3's mailbox holds.
const BURST_MAX: u64 = 128;
/// Who decided, in the journal: no rule has this number.
const NO_RULE: u64 = 0;

/// It is sent nothing.
#[derive(Debug)]
pub enum SyntheticMessage {}

impl Message for SyntheticMessage {}

/// The driver.
#[derive(Debug)]
pub struct Synthetic {
    shared: Arc<Shared>,
    outlets: Outlets,
}

impl Synthetic {
    pub(crate) fn new(shared: Arc<Shared>, outlets: Outlets) -> Self {
        Self { shared, outlets }
    }
}

impl TaskActor for Synthetic {
    type Msg = SyntheticMessage;

    async fn started(&mut self, cx: &mut TaskContext<SyntheticMessage>) -> Result<(), Fault> {
        cx.pump(drive(Arc::clone(&self.shared), self.outlets.clone()));
        Ok(())
    }

    async fn handle(
        &mut self,
        message: SyntheticMessage,
        _: &mut TaskContext<SyntheticMessage>,
    ) -> Result<Flow, Fault> {
        match message {}
    }
}

async fn drive(shared: Arc<Shared>, outlets: Outlets) -> Result<(), Fault> {
    let rate = shared.config.synthetic_rate;
    let mut steps = tokio::time::interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut due = shared.clock.monotonic();
    let mut next = 0;
    loop {
        steps.tick().await;
        let now = shared.clock.monotonic();
        let owed = (now.since(due).as_secs_f64() * rate) as u64;
        if owed == 0 {
            continue;
        }
        due = if owed > BURST_MAX {
            now
        } else {
            due + Duration::from_secs_f64(owed as f64 / rate)
        };
        for _ in 0..owed.min(BURST_MAX) {
            issue(&shared, &outlets, &mut next);
        }
    }
}

/// Sends the next device a command; one that finds no room is counted as dropped.
fn issue(shared: &Arc<Shared>, outlets: &Outlets, next: &mut u32) {
    let Some((device, sensor)) = shared.index.lock().relay_of(next) else {
        return;
    };
    let decided = RelayCommand {
        device: device.into_bytes(),
        row: 0,
        sensor,
        by: sensor,
        rule: NO_RULE,
        in_force: false,
        value: 1.0,
        decided_ns: shared.scan_clock.now_ns(),
    };
    let command = shared.command(decided, shared.clock.monotonic());
    shared.intend(&command, &decided);
    let issued = Issued::new(command, &outlets.stats).told_to(shared.outcomes());
    drop(outlets.commands.try_send(T3Message::Command(issued)));
}
