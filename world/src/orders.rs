//! Commands from outside: a program tells a device what to do, and hears what became of it.
//!
//! The way is that of the automation's own: journalled and sent at once, in parallel, its outcome
//! counted. But who asks from outside waits for both: what it was told is done, or not, also after
//! a crash. Who stops waiting once tier T3 has the command does not take it back.
//!
//! Bound: by the deadline of each command; one entry for each that waits.

use std::sync::Arc;
use std::time::Duration;

use actorsim_transport::{Command, Issued, Outcome, OutcomeSink, SensorType, T3Message};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::journal::intents::{Intent, Note};
use crate::shared::Shared;

/// Who decided, in the journal: no rule has this number.
const NO_RULE: u64 = 0;

/// Why a command from outside is not known to be done.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OrderError {
    /// The twin has never heard of the device.
    #[error("the twin has no such device")]
    UnknownDevice,
    /// The twin was not started.
    #[error("the twin was not started")]
    NotStarted,
    /// It ended so, but the journal did not keep it in time: after a crash nobody knows of it.
    #[error("the command ended as {0:?}, and the journal does not have it")]
    NotDurable(Outcome),
}

impl Shared {
    /// Commands the relay of a device; returns when its outcome is known and it is durable.
    pub(crate) async fn order(
        self: &Arc<Self>,
        device: Uuid,
        value: f64,
        deadline: Duration,
    ) -> Result<Outcome, OrderError> {
        let outlets = self.outlets.get().ok_or(OrderError::NotStarted)?;
        let relay = self.index.lock().relay(device);
        let sensor = relay.ok_or(OrderError::UnknownDevice)?;
        let command = Command {
            device,
            sensor,
            kind: SensorType::Relay,
            value,
            id: self.next_command_id(),
            decided: self.clock.monotonic(),
            deadline,
        };
        let durable = self.journal.durable(Intent {
            id: command.id,
            device,
            sensor,
            kind: command.kind,
            value,
            by: sensor,
            rule: NO_RULE,
            in_force: false,
            decided_us: self.clock.unix_us(),
            deadline_us: deadline.as_micros() as u64,
        });
        let (tell, told) = oneshot::channel();
        let issued = Issued::new(command, &outlets.stats).told_to(self.outcome_to(tell));
        let sent = outlets.commands.send(T3Message::Command(issued), deadline);
        let (kept, outcome) = tokio::join!(tokio::time::timeout(deadline, durable), async {
            // one that is not taken counts itself as dropped, and tells so
            drop(sent.await);
            told.await.unwrap_or(Outcome::Dropped)
        });
        match kept {
            Ok(Ok(())) => Ok(outcome),
            _ => Err(OrderError::NotDurable(outcome)),
        }
    }

    /// Tells the journal of an outcome, and who waits for it.
    fn outcome_to(self: &Arc<Self>, tell: oneshot::Sender<Outcome>) -> OutcomeSink {
        let (shared, tell) = (Arc::downgrade(self), Mutex::new(Some(tell)));
        OutcomeSink::new(move |id, outcome| {
            if let Some(shared) = shared.upgrade() {
                shared.journal.note(Note::Outcome(id));
            }
            if let Some(tell) = tell.lock().take() {
                // nobody may wait any more
                let _ = tell.send(outcome);
            }
        })
    }
}
