//! Commands on their way to a device.
//!
//! From any thread, without waiting: a lookup and a bounded queue. It answers nothing itself: the
//! device acknowledges through its slab's output. Bound: that of the shard's queue.

use std::sync::Arc;

use actorsim_actors::{Clock, SendError, Time};
use actorsim_transport::{Downlink, DownlinkError, Ticket, WireCommand};

use super::core::Core;
use crate::device::{DeviceMessage, Setpoint};

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
