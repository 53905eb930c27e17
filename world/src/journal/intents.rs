//! Commands across a restart of the process: intents, outcomes, and what is left open.
//!
//! An intent is journalled in parallel with its sending; nobody waits for it. After a restart each
//! intent without an outcome is sent again if its time is not over, as tier T3 has room, and
//! reported as expired otherwise. Bound: [`super::NOTES_MAX`] notes wait; as many intents are sent
//! again as were open.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{Addr, Clock, Fault, SendError};
use actorsim_transport::{Command, Issued, Outcome, OutcomeSink, SensorType, T3Message};
use uuid::Uuid;

use crate::shared::Shared;
use crate::stages::Outlets;

/// Ids left out after a restart: more than could be sent and not journalled, a full queue of notes
/// many times over.
pub(crate) const ID_GAP: u64 = 1 << 20;

/// How often tier T3 is asked whether it has room for commands that are sent again.
const ROOM_LOOK: Duration = Duration::from_millis(5);

/// What the journal remembers of a command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Intent {
    /// Its id.
    pub id: u64,
    /// Device.
    pub device: Uuid,
    /// The device's actuator.
    pub sensor: u16,
    /// The actuator's type.
    pub kind: SensorType,
    /// The setpoint.
    pub value: f64,
    /// The sensor whose value decided it.
    pub by: u16,
    /// The rule that it came under; not kept with commands that are open.
    pub rule: u64,
    /// Whether the rule came into force with it, or ended; not kept with commands that are open.
    pub in_force: bool,
    /// When it was decided, microseconds since the Unix epoch.
    pub decided_us: u64,
    /// How long after that it is worth executing, microseconds.
    pub deadline_us: u64,
}

/// Something about a command that goes into the next group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Note {
    /// It was decided.
    Intent(Intent),
    /// It had its outcome.
    Outcome(u64),
}

const INTENT_LEN: usize = 16 + 2 + 1 + 8 + 2 + 8 + 8;

impl Intent {
    pub(super) fn encode(&self) -> [u8; INTENT_LEN] {
        let mut bytes = [0; INTENT_LEN];
        bytes[..16].copy_from_slice(self.device.as_bytes());
        bytes[16..18].copy_from_slice(&self.sensor.to_le_bytes());
        bytes[18] = self.kind.byte();
        bytes[19..27].copy_from_slice(&self.value.to_le_bytes());
        bytes[27..29].copy_from_slice(&self.by.to_le_bytes());
        bytes[29..37].copy_from_slice(&self.decided_us.to_le_bytes());
        bytes[37..].copy_from_slice(&self.deadline_us.to_le_bytes());
        bytes
    }

    pub(super) fn decode(id: u64, bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; INTENT_LEN] = bytes.try_into().ok()?;
        let (device, rest) = bytes.split_first_chunk::<16>()?;
        let (sensor, rest) = rest.split_first_chunk::<2>()?;
        let (kind, rest) = rest.split_first_chunk::<1>()?;
        let (value, rest) = rest.split_first_chunk::<8>()?;
        let (by, rest) = rest.split_first_chunk::<2>()?;
        let (decided, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            id,
            device: Uuid::from_bytes(*device),
            sensor: u16::from_le_bytes(*sensor),
            kind: SensorType::try_from(kind[0]).ok()?,
            value: f64::from_le_bytes(*value),
            by: u16::from_le_bytes(*by),
            rule: 0,
            in_force: false,
            decided_us: u64::from_le_bytes(*decided),
            deadline_us: u64::from_le_bytes(rest.try_into().ok()?),
        })
    }

    /// The command of an earlier life of the twin, and whether its time is over.
    fn command(&self, clock: &Clock) -> (Command, bool) {
        let ago = Duration::from_micros(clock.unix_us().saturating_sub(self.decided_us));
        let now = clock.monotonic();
        let deadline = Duration::from_micros(self.deadline_us);
        // what is left, from now: the decision may lie before the clock's zero
        let left = deadline.saturating_sub(ago);
        let command = Command {
            device: self.device,
            sensor: self.sensor,
            kind: self.kind,
            value: self.value,
            id: self.id,
            decided: now,
            deadline: left,
        };
        (command, left.is_zero())
    }
}

impl Shared {
    /// Where outcomes of commands are told.
    pub(crate) fn outcomes(self: &Arc<Self>) -> OutcomeSink {
        let shared = Arc::downgrade(self);
        OutcomeSink::new(move |id, _| {
            if let Some(shared) = shared.upgrade() {
                shared.journal.note(Note::Outcome(id));
            }
        })
    }

    /// Takes up the commands that an earlier life left open; returns how many are to be sent again,
    /// and how many are expired.
    pub(crate) fn take_up(self: &Arc<Self>, open: &[Intent], outlets: &Outlets) -> (usize, usize) {
        let mut again = VecDeque::new();
        for intent in open {
            let (command, over) = intent.command(&self.clock);
            let issued = Issued::new(command, &outlets.stats).told_to(self.outcomes());
            if over {
                issued.settle(Outcome::Expired);
            } else {
                again.push_back(T3Message::Command(issued));
            }
        }
        let counts = (again.len(), open.len() - again.len());
        *self.journal.reopened.lock() = again;
        counts
    }

    /// Sends what was taken up, oldest first, as tier T3 has room.
    pub(crate) async fn send_again(self: Arc<Self>, tier: Addr<T3Message>) -> Result<(), Fault> {
        loop {
            let next = self.journal.reopened.lock().pop_front();
            let Some(command) = next else {
                return Ok(());
            };
            match tier.try_send(command) {
                // one that a tier takes no more counts itself as dropped
                Ok(()) | Err(SendError::Closed(_)) => {}
                Err(refused) => {
                    let command = refused.into_message();
                    self.journal.reopened.lock().push_front(command);
                    tokio::time::sleep(ROOM_LOOK).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent() -> Intent {
        Intent {
            id: 77,
            device: Uuid::from_u128(5),
            sensor: 6,
            kind: SensorType::Relay,
            value: 0.0,
            by: 5,
            rule: 0,
            in_force: false,
            decided_us: 1_000_000,
            deadline_us: 5_000_000,
        }
    }

    #[test]
    fn an_intent_is_read_as_it_was_written() {
        let bytes = intent().encode();
        assert_eq!(Intent::decode(77, &bytes), Some(intent()));
        assert_eq!(Intent::decode(77, &bytes[1..]), None);
        let mut unknown = bytes;
        unknown[18] = 9;
        assert_eq!(Intent::decode(77, &unknown), None);
    }
}
