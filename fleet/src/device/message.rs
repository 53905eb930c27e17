//! What a device is sent.
//!
//! Values only. Bound: a message is a few words, since mailboxes hold several.

use actorsim_actors::{Message, Reply, Time};
use actorsim_transport::{SensorType, Ticket};
use uuid::Uuid;

use crate::broker::Inbound;
use crate::fault::FaultSpec;

/// A message to a device.
#[derive(Debug)]
pub enum DeviceMessage {
    /// A command of tier T3.
    Command(Setpoint),
    /// A command that came by the node's publisher.
    Tell(Box<Told>),
    /// Presence falls to 0 now, as if somebody had left.
    Trigger,
    /// A fault, on purpose.
    Inject(Injection),
    /// The population says how you behave from now on.
    Behave,
    /// Tell about yourself.
    Info(Reply<DeviceInfo>),
}

impl Message for DeviceMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Command(_) | Self::Tell(_) => "command",
            Self::Trigger => "trigger",
            Self::Inject(_) => "inject",
            Self::Behave => "behave",
            Self::Info(_) => "info",
        }
    }
}

/// What a broker tells a device that has no line of its own.
#[derive(Debug)]
pub struct Told(pub(crate) Inbound);

/// A command as it reaches its device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setpoint {
    /// What the answer names.
    pub ticket: Ticket,
    /// The actuator.
    pub sensor: u16,
    /// Its type.
    pub kind: SensorType,
    /// The new setpoint.
    pub value: f64,
    /// Rising per device.
    pub id: u64,
    /// Monotonic time from which on it is not executed any more.
    pub expires: Time,
}

/// A fault on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Injection {
    /// The handler returns a fault.
    Crash,
    /// The next message or tick returns a fault.
    Poison,
    /// The handler panics.
    Panic,
    /// A fault that lasts, on top of those that act already.
    Fault(FaultSpec),
    /// Ends the faults of one kind, or all.
    Revert(Option<&'static str>),
}

/// What a device tells about itself.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct DeviceInfo {
    /// Device id.
    pub id: String,
    /// The id's UUID.
    pub uuid: Uuid,
    /// The next slot to be drawn.
    pub slot: u64,
    /// The next T1 sequence.
    pub sequence: u32,
    /// Events made.
    pub events: u64,
    /// Slots missed.
    pub missed: u32,
    /// Times a series began anew.
    pub series_gaps: u16,
    /// Last command executed.
    pub last_command: u64,
    /// Setpoint of the relay, if there is one.
    pub relay: Option<f64>,
    /// Faults that act, in the order of their injection.
    pub faults: Vec<&'static str>,
}
