//! Commands on their way to a device.
//!
//! From any thread, without waiting: a lookup and a bounded queue. It answers nothing itself: the
//! device acknowledges through its slab's output. Bound: that of the shard's queue.

use std::sync::Arc;

use actorsim_actors::{Clock, SendError, Time};
use actorsim_transport::{Downlink, DownlinkError, Ticket, WireCommand};

use super::core::Core;
use crate::broker::{Inbound, ReplyTo};
use crate::device::{DeviceMessage, Setpoint, Told};

/// The fleet's end of tier T3.
#[derive(Debug)]
pub struct FleetDownlink {
    core: Arc<Core>,
    clock: Clock,
}

impl FleetDownlink {
    pub(super) fn new(core: Arc<Core>, clock: Clock) -> Self {
        Self { core, clock }
    }
}

impl FleetDownlink {
    /// Takes a command that came by a publisher to its device.
    ///
    /// # Errors
    /// There is no such device here, or it takes none now.
    pub(crate) fn tell(
        &self,
        device_id: &str,
        payload: Box<[u8]>,
        reply_to: Option<Box<str>>,
    ) -> Result<(), DownlinkError> {
        let roster = self.core.roster();
        let found = roster.named("", device_id);
        let (member, ordinal) = found.ok_or(DownlinkError::UnknownDevice)?;
        let slab = member.slab(ordinal, self.core.shards);
        let reply_to = reply_to.map_or(ReplyTo::Own, ReplyTo::Topic);
        let inbound = Inbound { payload, reply_to };
        let told = DeviceMessage::Tell(Box::new(Told(inbound)));
        let sent = slab.ok_or(DownlinkError::Busy)?.send(ordinal, told);
        sent.map_err(|_| DownlinkError::Busy)
    }
}

impl Downlink for FleetDownlink {
    fn command(&self, ticket: Ticket, command: WireCommand) -> Result<(), DownlinkError> {
        let roster = self.core.roster();
        let found = roster.find(command.device);
        let (member, ordinal) = found.ok_or(DownlinkError::UnknownDevice)?;
        let expires = command
            .left
            .map_or(Time::MAX, |left| self.clock.monotonic() + left);
        let setpoint = Setpoint {
            ticket,
            sensor: command.sensor,
            kind: command.kind,
            value: command.value,
            id: command.id,
            expires,
        };
        // Before the fleet starts and after it has stopped, devices are known and take nothing.
        let slab = member.slab(ordinal, self.core.shards);
        let slab = slab.ok_or(DownlinkError::Busy)?;
        slab.send(ordinal, DeviceMessage::Command(setpoint))
            .map_err(|error| match error {
                SendError::Closed(_) => DownlinkError::UnknownDevice,
                _ => DownlinkError::Busy,
            })
    }
}
