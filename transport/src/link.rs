//! The dialling side: one link is one connection to a twin, with what must survive it.
//!
//! [`Link`] is what the devices hold: the address for telemetry, the outbox of events, the queue of
//! acknowledgements, the devices announced. All of it outlives the link actor and its connections.
//! [`link_child`] is the actor: it dials, backs off, says hello, and pumps; [`commands_child`] is
//! another beside it, which takes the commands over a connection of their own where the twin has
//! it. It decides nothing about devices. Bounds: [`LINK_BLOCKS`] blocks wait (the oldest goes), the
//! outbox's, [`ACKS_MAX`] acknowledgements each way, [`REGISTRATIONS_MAX`] ranges.

mod actor;
mod answers;
mod beside;
mod block;
mod commands;
mod control;
mod dial;
mod events;
mod outbox;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use actorsim_actors::{ActorPath, Addr, MailboxSpec, Message, Overflow};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

pub use actor::{LinkSpec, link_child};
pub use beside::{BesideMessage, commands_child};
pub use block::{BLOCK_READINGS_MAX, Block};
pub use outbox::{BATCH_EVENTS_MAX, OUTBOX_EVENTS_MAX, OutEvent, T2Outbox, WINDOW_BATCHES_MAX};

pub use answers::ACKS_MAX;
use answers::{Answers, Way};
use beside::Beside;

use crate::command::AckStatus;
use crate::device::{RangeError, Registration};
use crate::listener::Folded;
use crate::reading::{DecodeError, SensorType};
use crate::stats::TransportStats;

/// Blocks waiting for a link at most, 4 MiB when full: old telemetry is dropped, not delayed.
pub const LINK_BLOCKS: u32 = 64;
/// Ranges announced by one link at most: one per device, if each is named for itself.
pub const REGISTRATIONS_MAX: usize = 65_536;

/// Names one command in flight on one connection of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A command as it reaches the device's side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WireCommand {
    /// Device.
    pub device: Uuid,
    /// Its actuator.
    pub sensor: u16,
    /// The actuator's type.
    pub kind: SensorType,
    /// The setpoint.
    pub value: f64,
    /// Rising per device; at or below the last executed one: superseded. `dt/1`: the sequence.
    pub id: u64,
    /// How long it is still worth executing; `None` under `dt/1`.
    pub left: Option<Duration>,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownlinkError {
    /// No such device here: the command fails.
    #[error("no such device")]
    UnknownDevice,
    /// Its mailbox is full, or it is restarting: the twin asks again until the deadline.
    #[error("the device takes no command now")]
    Busy,
}

/// The fleet's end of T3: takes a command to its device, from any thread, without waiting. The
/// device answers through [`Link::ack`] with the same ticket.
pub trait Downlink: Send + Sync + 'static {
    /// Takes one command.
    ///
    /// # Errors
    /// [`DownlinkError`]; its stream is then reset.
    fn command(&self, ticket: Ticket, command: WireCommand) -> Result<(), DownlinkError>;

    /// Takes commands that came together, in this order; tells `refuse` of those that it does not
    /// take.
    fn commands(
        &self,
        commands: &[(Ticket, WireCommand)],
        refuse: &mut dyn FnMut(Ticket, DownlinkError),
    ) {
        for (ticket, command) in commands {
            if let Err(error) = self.command(*ticket, *command) {
                refuse(*ticket, error);
            }
        }
    }
}

/// What a link actor is sent.
#[derive(Debug)]
pub enum LinkMessage {
    /// Telemetry to send as datagrams.
    T1(Block),
    /// A device's answer to a command.
    T3Ack {
        /// Which command.
        ticket: Ticket,
        /// How it went.
        status: AckStatus,
    },
}

impl Message for LinkMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::T1(_) => "t1_block",
            Self::T3Ack { .. } => "t3_ack",
        }
    }
}

/// What outlives the link actor and its connections.
struct Shared {
    addr: Addr<LinkMessage>,
    session: u64,
    stats: Arc<TransportStats>,
    outbox: T2Outbox,
    /// To commands of the link's own connection,
    answers: Answers,
    /// and of that for commands beside it.
    answers_beside: Answers,
    beside_addr: Addr<BesideMessage>,
    /// The twin takes connections for commands beside the present one.
    beside: watch::Sender<Option<Beside>>,
    connections_beside: AtomicU64,
    registrations: Mutex<Vec<Registration>>,
    /// Devices in them.
    announced: AtomicU64,
    registered: Notify,
    /// That the twin refuses some.
    refused: Folded,
    t1_sent: AtomicU64,
    connections: AtomicU64,
    connected: AtomicBool,
}

/// One link, as the devices and the node hold it.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("path", self.0.addr.path())
            .field("session", &self.0.session)
            .field("connected", &self.is_connected())
            .field("outbox", &self.0.outbox)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// A link at `path`, with a session that no other start of its owner has
    /// ([`crate::session_id`]).
    #[must_use]
    pub fn new(path: ActorPath, session: u64, stats: Arc<TransportStats>) -> Self {
        let spec = MailboxSpec::new(LINK_BLOCKS, Overflow::DropOldest).kept();
        Self(Arc::new(Shared {
            addr: Addr::new(path.clone(), spec),
            session,
            outbox: T2Outbox::new(Arc::clone(&stats)),
            stats,
            answers: Answers::of(Way::Own),
            answers_beside: Answers::of(Way::Beside),
            beside_addr: beside::address(&path),
            beside: watch::Sender::new(None),
            connections_beside: AtomicU64::new(0),
            registrations: Mutex::new(Vec::new()),
            announced: AtomicU64::new(0),
            registered: Notify::new(),
            refused: Folded::new("devices_refused"),
            t1_sent: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connected: AtomicBool::new(false),
        }))
    }

    /// The actor's address.
    #[must_use]
    pub fn addr(&self) -> &Addr<LinkMessage> {
        &self.0.addr
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.0.session
    }

    /// Sends whole encoded readings as telemetry, from any thread, without waiting. What cannot be
    /// sent is counted as dropped at the sender.
    ///
    /// # Errors
    /// [`DecodeError::Length`] if the bytes are not 1 to [`BLOCK_READINGS_MAX`] whole readings.
    pub fn telemetry(&self, readings: Bytes) -> Result<(), DecodeError> {
        let block = Block::new(readings, &self.0.stats)?;
        // A refused block counts itself.
        drop(self.0.addr.try_send(LinkMessage::T1(block)));
        Ok(())
    }

    /// Puts events into the outbox, oldest first; returns how many were taken, which need not be
    /// the first ones. The others are counted as blocked.
    #[must_use = "how many were taken; the others were skipped and counted"]
    pub fn events(&self, events: &[OutEvent]) -> usize {
        self.0.outbox.push(events)
    }

    /// The outbox of events.
    #[must_use]
    pub fn outbox(&self) -> &T2Outbox {
        &self.0.outbox
    }

    /// Answers a command, from any thread, without waiting. Returns false if too many answers wait:
    /// the command then runs into its deadline.
    pub fn ack(&self, ticket: Ticket, status: AckStatus) -> bool {
        self.acks(&[(ticket, status)]) == 1
    }

    /// Answers commands, as [`Link::ack`] does, and wakes who sends the answers once; returns how
    /// many found room.
    pub fn acks(&self, acks: &[(Ticket, AckStatus)]) -> usize {
        let ways = [&self.0.answers, &self.0.answers_beside];
        ways.into_iter().map(|answers| answers.put(acks)).sum()
    }

    /// Announces devices, now and on each new connection.
    ///
    /// # Errors
    /// [`RangeError`], if the range breaks its bounds or too many are announced.
    pub fn register(&self, registration: Registration) -> Result<(), RangeError> {
        registration.devices.check()?;
        let count = registration.sensors.len();
        if count > crate::device::SENSORS_MAX {
            return Err(RangeError::Sensors { count });
        }
        let mut all = self.0.registrations.lock();
        if all.len() >= REGISTRATIONS_MAX {
            let devices = registration.devices;
            return Err(RangeError::Count {
                first: devices.first,
                count: devices.count,
            });
        }
        let devices = u64::from(registration.devices.count);
        self.0.announced.fetch_add(devices, Ordering::Relaxed);
        all.push(registration);
        drop(all);
        self.0.registered.notify_one();
        Ok(())
    }

    /// Whether a connection is up and welcomed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.connected.load(Ordering::Acquire)
    }

    /// Connections made so far, without those for commands alone.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.0.connections.load(Ordering::Acquire)
    }
}
