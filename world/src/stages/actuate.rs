//! `/twin/actuate`: everything that leaves the world, outside the scan thread.
//!
//! Woken by one eventfd write of the scan, it hands relay commands to tier T3 and to the journal at
//! once, settles scanned batches (accounting, progress of the journal), answers to their askers,
//! and folds cycle records. It never waits for T3: a command that finds no room stays in hand, and
//! the lane behind it fills up to the automation, which defers.
//!
//! Bound: one command in hand; per wake what the lanes hold.

mod wake;

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{Addr, Fault, Flow, Message, SendError, TaskActor, TaskContext, Time};
use actorsim_transport::{Command, Issued, SensorType, Sessions, T3Message, TransportStats};
use tokio::runtime::Handle;
use uuid::Uuid;

use self::wake::Wake;
use super::lease;
use crate::journal::intents::{Intent, Note};
use crate::lanes::{ActuateEnds, Lease};
use crate::shared::Shared;
use crate::systems::RelayCommand;

/// A wake at least this often: retries a command in hand and folds records of a quiet world.
const WAKE_AT_LEAST: Duration = Duration::from_millis(100);

/// Wakes that may wait: one is enough, since each drains everything.
pub(crate) const WAKES: u32 = 1;

/// Where the world's output goes.
#[derive(Clone, Debug)]
pub struct Outlets {
    /// Tier T3.
    pub commands: Addr<T3Message>,
    /// T2 sessions, whose connections wait for acknowledgements.
    pub sessions: Arc<Sessions>,
    /// The transport's counters.
    pub stats: Arc<TransportStats>,
    /// Where decided commands are taken from the world, if not where telemetry goes in.
    pub runtime: Option<Handle>,
}

/// The scan has something to tell.
#[derive(Debug)]
pub struct Woken;

impl Message for Woken {
    fn kind(&self) -> &'static str {
        "woken"
    }
}

/// The stage.
#[derive(Debug)]
pub struct Actuate {
    shared: Arc<Shared>,
    outlets: Outlets,
    ends: Option<Lease<ActuateEnds>>,
}

impl Actuate {
    pub(crate) fn new(shared: Arc<Shared>, outlets: Outlets) -> Self {
        Self {
            shared,
            outlets,
            ends: None,
        }
    }

    fn drain(&mut self, now: Time) {
        let Some(ends) = &mut self.ends else { return };
        let decided = self.shared.decided();
        loop {
            let command = match ends.in_hand.take() {
                Some(command) => command,
                None => match ends.commands.pop() {
                    Ok(command) => {
                        let decided = command;
                        let command = self.shared.command(decided, now);
                        self.shared.intend(&command, &decided);
                        let issued = Issued::new(command, &self.outlets.stats);
                        T3Message::Command(issued.told_to(self.shared.outcomes()))
                    }
                    Err(_) => break,
                },
            };
            ends.in_hand = offer(&self.outlets.commands, command);
            if ends.in_hand.is_some() {
                break;
            }
        }
        // one in hand is noted, and those behind it in the lane are not
        if ends.in_hand.is_none() {
            self.shared.set_noted(decided);
        }
        if self.shared.settle(ends) {
            self.shared.journal.progress.notify_one();
        }
        self.shared.fold_records();
    }
}

/// Sends a command, or gives it back to be sent later; a tier that ended for good loses it, and it
/// is counted.
fn offer(tier: &Addr<T3Message>, command: T3Message) -> Option<T3Message> {
    match tier.try_send(command) {
        Ok(()) | Err(SendError::Closed(_)) => None,
        Err(refused) => Some(refused.into_message()),
    }
}

impl Shared {
    pub(crate) fn command(&self, decided: RelayCommand, now: Time) -> Command {
        let ago = Duration::from_nanos(self.scan_clock.now_ns().saturating_sub(decided.decided_ns));
        let ago_ns = ago.as_nanos() as u64;
        Command {
            device: Uuid::from_bytes(decided.device),
            sensor: decided.sensor,
            kind: SensorType::Relay,
            value: decided.value,
            id: self.next_command_id(),
            decided: Time(now.0.saturating_sub(ago_ns)),
            deadline: self.config.command_deadline,
        }
    }
}

impl Shared {
    /// Journals a command that is on its way, without waiting.
    pub(crate) fn intend(&self, command: &Command, decided: &RelayCommand) {
        let ago = self.clock.monotonic().since(command.decided);
        self.journal.note(Note::Intent(Intent {
            id: command.id,
            device: command.device,
            sensor: command.sensor,
            kind: command.kind,
            value: command.value,
            by: decided.by,
            rule: decided.rule,
            in_force: decided.in_force,
            decided_us: self.clock.unix_us().saturating_sub(ago.as_micros() as u64),
            deadline_us: command.deadline.as_micros() as u64,
        }));
    }
}

impl TaskActor for Actuate {
    type Msg = Woken;

    async fn started(&mut self, cx: &mut TaskContext<Woken>) -> Result<(), Fault> {
        self.ends = Some(lease(&self.shared.lanes.actuate).await?);
        self.drain(cx.clock().monotonic());
        let wake = Wake::listen(&self.shared);
        let wake = wake.map_err(|error| Fault::with("wake", error))?;
        let addr = cx.addr().clone();
        cx.pump(watch(wake, addr));
        Ok(())
    }

    async fn handle(&mut self, _: Woken, cx: &mut TaskContext<Woken>) -> Result<Flow, Fault> {
        self.drain(cx.clock().monotonic());
        Ok(Flow::Continue)
    }

    async fn stopping(&mut self, cx: &mut TaskContext<Woken>) {
        self.drain(cx.clock().monotonic());
    }
}

/// Turns eventfd writes into messages, one at a time.
async fn watch(wake: Wake, addr: Addr<Woken>) -> Result<(), Fault> {
    loop {
        // a timeout is a wake too
        if let Ok(woken) = tokio::time::timeout(WAKE_AT_LEAST, wake.woken()).await {
            woken.map_err(|error| Fault::with("wake", error))?;
        }
        match addr.send(Woken, WAKE_AT_LEAST).await {
            Ok(()) | Err(SendError::Timeout(_)) => {}
            Err(_) => return Ok(()),
        }
    }
}
