//! Commands on their way to a device.
//!
//! From any thread, without waiting: a lookup and a bounded queue. It answers nothing itself: the
//! device acknowledges through its slab's output. Bound: that of the shard's queue.

use std::collections::VecDeque;
use std::sync::Arc;

use actorsim_actors::shard::SlabHandle;
use actorsim_actors::{Clock, Time};
use actorsim_transport::{Downlink, DownlinkError, Ticket, WireCommand};

use super::core::Core;
use crate::broker::{Inbound, ReplyTo};
use crate::device::{Device, DeviceMessage, Setpoint, Told};

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

/// Commands for devices of one slab.
struct Parcel<'a> {
    to: &'a SlabHandle<Device>,
    messages: VecDeque<(u32, DeviceMessage)>,
    /// Of each message.
    tickets: VecDeque<Ticket>,
}

impl Parcel<'_> {
    /// With one ring of the shard's bell, unless some are refused.
    fn send(mut self, refuse: &mut dyn FnMut(Ticket, DownlinkError)) {
        loop {
            let sent = self.to.send_batch(&mut self.messages);
            self.tickets.drain(..sent);
            let refused = self.messages.pop_front().zip(self.tickets.pop_front());
            let Some(((ordinal, _), ticket)) = refused else {
                return;
            };
            let lives = self.to.has(ordinal) && !self.to.is_closed();
            let why = match lives {
                true => DownlinkError::Busy,
                false => DownlinkError::UnknownDevice,
            };
            refuse(ticket, why);
        }
    }
}

impl FleetDownlink {
    fn setpoint(&self, ticket: Ticket, command: &WireCommand) -> Setpoint {
        let left = command.left;
        Setpoint {
            ticket,
            sensor: command.sensor,
            kind: command.kind,
            value: command.value,
            id: command.id,
            expires: left.map_or(Time::MAX, |left| self.clock.monotonic() + left),
        }
    }
}

impl Downlink for FleetDownlink {
    fn command(&self, ticket: Ticket, command: WireCommand) -> Result<(), DownlinkError> {
        let mut taken = Ok(());
        self.commands(&[(ticket, command)], &mut |_, why| taken = Err(why));
        taken
    }

    fn commands(
        &self,
        commands: &[(Ticket, WireCommand)],
        refuse: &mut dyn FnMut(Ticket, DownlinkError),
    ) {
        let roster = self.core.roster();
        let mut parcels: Vec<Parcel<'_>> = Vec::new();
        for (ticket, command) in commands {
            let Some((member, ordinal)) = roster.find(command.device) else {
                refuse(*ticket, DownlinkError::UnknownDevice);
                continue;
            };
            // Before the fleet starts and after it has stopped, devices are known and take nothing.
            let Some(to) = member.slab(ordinal, self.core.shards) else {
                refuse(*ticket, DownlinkError::Busy);
                continue;
            };
            let message = DeviceMessage::Command(self.setpoint(*ticket, command));
            let at = parcels
                .iter()
                .position(|parcel| std::ptr::eq(parcel.to, to));
            let at = at.unwrap_or_else(|| {
                parcels.push(Parcel {
                    to,
                    messages: VecDeque::new(),
                    tickets: VecDeque::new(),
                });
                parcels.len() - 1
            });
            parcels[at].messages.push_back((ordinal, message));
            parcels[at].tickets.push_back(*ticket);
        }
        parcels.into_iter().for_each(|parcel| parcel.send(refuse));
    }
}
