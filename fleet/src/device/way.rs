//! A device on a broker: its line, or its place on one that it shares, and the commands that come.
//!
//! The line does the talking; here it is driven, and told of faults. Bound: one way a device.

use std::time::Duration;

use actorsim_actors::{CellContext, Incarnation};
use actorsim_transport::AckStatus;

use super::{Context, Device, Told};
use crate::broker::{Command, Inbound, Line, Place, relay, unreadable};
use crate::session::backoff::Backoff;

/// How a device reaches its broker.
#[derive(Debug)]
pub(super) enum Way {
    /// By a connection of its own, which is large.
    Line(Box<Line>),
    /// By one that it shares.
    Place(Place),
}

impl Device {
    /// The former incarnation's line ends here; a line begins, or a place is taken.
    pub(super) fn begin_way(&mut self, cx: Context<'_, '_>) {
        let place = cx.shared.crew.as_ref();
        if let Some(crew) = place {
            let place = Place::take(crew, cx.ordinal);
            self.way = Some(Box::new(Way::Place(place)));
        }
        let Some(plan) = cx.shared.plan().filter(|plan| plan.relayed().is_none()) else {
            return;
        };
        let tally = &mut cx.out.line.tally;
        let waiting = std::mem::take(&mut cx.identity.waiting);
        tally.abandon(u64::from(waiting));
        tally.waiting -= i64::from(waiting);
        tally.connected -= i64::from(std::mem::take(&mut cx.identity.line_up));
        let wait = match cx.incarnation {
            Incarnation::FIRST => plan.first_wait(cx.ordinal),
            _ => plan.backoff.wait(self.seed, 0),
        };
        let line = Box::new(Line::new(plan, wait, cx));
        self.way = Some(Box::new(Way::Line(line)));
    }

    pub(super) fn is_on_a_line(&self) -> bool {
        matches!(self.way.as_deref(), Some(Way::Line(_)))
    }

    fn line(&mut self) -> Option<&mut Line> {
        match self.way.as_deref_mut()? {
            Way::Line(line) => Some(line),
            Way::Place(_) => None,
        }
    }

    /// Ends its session in order.
    pub(super) fn say_goodbye(&mut self, cx: Context<'_, '_>) {
        match self.way.as_deref() {
            Some(Way::Place(place)) => place.leave(),
            _ => self.drive(Line::goodbye, cx),
        }
    }

    /// Drives the line, and then does what came by it.
    pub(super) fn drive(
        &mut self,
        act: impl FnOnce(&mut Line, Context<'_, '_>),
        cx: Context<'_, '_>,
    ) {
        let Some(line) = self.line() else { return };
        act(line, cx);
        for command in std::mem::take(&mut cx.out.line.inbound) {
            let reply = self.obey(&command, cx);
            if let Some(line) = self.line() {
                line.reply(&command.reply_to, &reply, cx);
            }
        }
    }

    /// A command that came by the node's publisher; the reply goes the same way.
    pub(super) fn told(&self, Told(inbound): &Told, cx: Context<'_, '_>) {
        if self.is_unheard(cx.now) {
            cx.out.tally.unheard += 1;
            return;
        }
        let reply = self.obey(inbound, cx);
        relay::post_reply(&inbound.reply_to, &reply, cx);
    }

    /// Executes a command; returns the reply.
    fn obey(&self, inbound: &Inbound, cx: Context<'_, '_>) -> Vec<u8> {
        let command = match Command::read(&inbound.payload) {
            Ok(command) => command,
            Err(why) => {
                cx.out.tally.refused += 1;
                return unreadable(&why);
            }
        };
        let program = &cx.shared.program;
        let field = |(name, value): &(String, f64)| Some((program.field_named(name)?, *value));
        let values: Option<Vec<_>> = command.set.iter().map(field).collect();
        let status = match &values {
            Some(values) => self.set(values, command.id, cx),
            None => {
                cx.out.tally.refused += 1;
                AckStatus::Refused
            }
        };
        let reported = |(name, _): &(String, f64)| {
            let slot = program.actuator_slot(program.field_named(name)?)?;
            Some((name.clone(), cx.identity.state[slot]))
        };
        let reported: Vec<_> = match command.is_desired {
            true => program.setpoints(&cx.identity.state).collect(),
            false => command.set.iter().filter_map(reported).collect(),
        };
        command.reply(status, &reported)
    }

    /// How long it waits before it connects again, had it lost its connection now; on the
    /// simulated clock.
    pub(super) fn own_backoff(&self, cx: &CellContext<'_, Self>) -> Duration {
        match (cx.shared.plan(), self.way.as_deref()) {
            (Some(plan), Some(Way::Line(line))) => {
                let wait = plan.backoff.wait(self.seed, line.attempt());
                wait.mul_f64(plan.speed)
            }
            _ => Backoff::default().wait(self.seed, 0),
        }
    }

    /// The line follows the faults: down while one keeps it down. One that is shared stays up for
    /// the others, and its broker is told that this device is lost.
    pub(super) fn way_follows(&mut self, down: bool, cx: Context<'_, '_>) {
        match self.way.as_deref_mut() {
            Some(Way::Line(line)) => line.keep_down(down, cx),
            Some(Way::Place(place)) => place.keep_off(down),
            None => {}
        }
    }
}
