//! One device's line to its broker: a connection, the session on it, and when to try again.
//!
//! Here is what holds for each protocol; `mqtt` is what a device says in that one.
//!
//! The device drives it from its steps; what a session writes goes to the shard's sockets, and
//! what it tells is counted, or given to the device if it is a command. The line ends with its
//! device: the connection is reset, so that the broker publishes the will, and what waited is
//! counted as dropped by the next incarnation. Session deadlines are monotonic; the timer that
//! wakes them is simulated, so it is set by the clock's speed and looked at again when it fires.

use std::time::Duration;

use actorsim_actors::shard::{SocketEvent, SocketId};
use actorsim_actors::{CellContext, Time};

use self::mqtt::Mqtt;
use super::plan::Plan;
use super::stats::PublishTally;
use crate::device::Device;
use crate::payload::Sample;
use crate::profile::Backpressure;
use crate::session::mqtt::output::Inbound;
use crate::session::mqtt::{Output, PublishError};

mod mqtt;

/// The timer of a line.
pub(crate) const LINE: u8 = 3;

/// Parts of the outbox, of 100: above the first a device that slows down takes every second sample
/// only, until it is below the second.
const SLOW_ABOVE: usize = 80;
const FAST_BELOW: usize = 50;

type Context<'a, 'b> = &'a mut CellContext<'b, Device>;

/// One device's line.
#[derive(Debug, Default)]
pub(crate) struct Line {
    talk: Mqtt,
    socket: Option<SocketId>,
    /// When to connect, while there is no connection; never if a fault keeps it down.
    connect_at: Option<Time>,
    attempt: u32,
    slow: bool,
    /// Counted as connected.
    up: bool,
    /// A fault wants it so.
    kept_down: bool,
}

/// What lines of a slab write to; emptied after each use.
#[derive(Debug, Default)]
pub(crate) struct LineOut {
    pub(crate) tally: PublishTally,
    pub(crate) inbound: Vec<Inbound>,
    session: Output,
    payload: Vec<u8>,
    topic: String,
    name: String,
}

impl LineOut {
    /// Forgets what a step that failed has put out.
    pub(crate) fn cut(&mut self) {
        self.session = Output::default();
        self.inbound.clear();
    }
}

impl Line {
    /// A line that connects after a wait.
    pub(crate) fn new(wait: Duration, cx: Context<'_, '_>) -> Self {
        let line = Self {
            connect_at: Some(cx.monotonic + wait),
            ..Self::default()
        };
        line.rearm(cx);
        line
    }

    /// Publishes a sample, within the outbox's bound.
    pub(crate) fn publish(&mut self, values: &[f64], unix_us: u64, cx: Context<'_, '_>) {
        let Some(plan) = cx.shared.plan() else { return };
        if plan.backpressure == Backpressure::SlowDown && self.is_slow(plan) {
            cx.out.line.tally.dropped += cx.identity.slot & 1;
            if cx.identity.slot & 1 == 1 {
                return;
            }
        }
        let out = &mut *cx.out.line;
        out.name.clear();
        cx.shared.write_name(cx.ordinal, &mut out.name);
        out.payload.clear();
        let sample = Sample {
            device_id: &out.name,
            unix_us,
            sequence: cx.identity.sequence,
            values,
        };
        plan.encoder.write(&sample, &mut out.payload);
        out.topic.clear();
        plan.topics.telemetry.write(&out.name, &mut out.topic);
        let now = cx.monotonic;
        let mut taken = self.talk.publish(plan, now, out);
        let makes_room = plan.backpressure == Backpressure::DropOldest;
        if taken == Err(PublishError::Full) && makes_room && self.talk.drop_oldest() {
            out.tally.dropped += 1;
            taken = self.talk.publish(plan, now, out);
        }
        let tally = &mut out.tally;
        match taken {
            Ok(()) => tally.sent += 1,
            Err(PublishError::Full) => tally.dropped += 1,
            Err(PublishError::TooLarge { .. }) => tally.refused += 1,
        }
        self.settle(cx);
    }

    /// Attempts to connect since the session was last up.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    fn is_slow(&mut self, plan: &Plan) -> bool {
        let filled = self.talk.waiting() * 100 / usize::from(plan.mqtt.outbox_max.max(1));
        let limit = if self.slow { FAST_BELOW } else { SLOW_ABOVE };
        self.slow = filled > limit;
        self.slow
    }

    /// Publishes the reply to a command.
    pub(crate) fn reply(&mut self, to: &Inbound, payload: &[u8], cx: Context<'_, '_>) {
        let Some(plan) = cx.shared.plan() else { return };
        self.talk.reply(plan, to, payload, cx);
        self.settle(cx);
    }

    /// The timer has fired.
    pub(crate) fn timer(&mut self, cx: Context<'_, '_>) {
        let Some(plan) = cx.shared.plan() else { return };
        if self.connect_at.take_if(|at| *at <= cx.monotonic).is_some() {
            let local = plan.local(cx.ordinal);
            let mut net = cx.net();
            let socket = match local {
                Some(local) => net.connect_from(local, plan.address),
                None => net.connect(plan.address),
            };
            drop(net);
            self.socket = socket.ok();
            if self.socket.is_none() {
                self.failed(cx);
            }
        }
        self.talk.expire(plan, cx);
        self.settle(cx);
    }

    /// Something has happened at a socket.
    pub(crate) fn socket(&mut self, socket: SocketId, event: SocketEvent<'_>, cx: Context<'_, '_>) {
        let Some(plan) = cx.shared.plan() else { return };
        if self.socket != Some(socket) {
            return; // one that was given up already
        }
        match event {
            SocketEvent::Connected => self.talk.open(plan, cx),
            SocketEvent::Received(bytes) => self.talk.received(plan, bytes, cx),
            SocketEvent::PeerFinished => {
                cx.net().close(socket);
                self.socket = None;
                self.failed(cx);
            }
            SocketEvent::Ended(_) => {
                self.socket = None;
                self.failed(cx);
            }
            _ => {}
        }
        self.settle(cx);
    }

    /// Ends the session in order: `offline`, then goodbye; the broker publishes no will.
    pub(crate) fn goodbye(&mut self, cx: Context<'_, '_>) {
        let Some(plan) = cx.shared.plan() else { return };
        self.connect_at = None;
        self.talk.goodbye(plan, cx);
        cx.out.line.tally.dropped += self.talk.waiting() as u64;
        self.settle(cx);
    }

    /// A fault keeps the line down, or does so no more: then it connects at once.
    pub(crate) fn keep_down(&mut self, down: bool, cx: Context<'_, '_>) {
        if down == self.kept_down {
            return;
        }
        self.kept_down = down;
        if let Some(socket) = self.socket.take() {
            cx.net().reset(socket);
            self.failed(cx);
        }
        self.connect_at = (!down).then_some(cx.monotonic);
        self.rearm(cx);
    }

    /// The connection is gone: another attempt, later each time.
    fn failed(&mut self, cx: Context<'_, '_>) {
        let Some(plan) = cx.shared.plan() else { return };
        self.talk.lost();
        self.count_down(cx);
        cx.out.line.tally.errors += 1;
        let seed = cx.shared.seed(cx.ordinal);
        self.connect_at = Some(cx.monotonic + plan.backoff.wait(seed, self.attempt));
        self.attempt = self.attempt.saturating_add(1);
    }

    fn count_down(&mut self, cx: Context<'_, '_>) {
        cx.out.line.tally.connected -= i64::from(std::mem::take(&mut self.up));
    }

    /// Takes what the session has put out: bytes to the socket, events to counters and device.
    fn settle(&mut self, cx: Context<'_, '_>) {
        let Some(plan) = cx.shared.plan() else { return };
        loop {
            self.write(cx);
            let told = self.talk.take_events(plan, cx);
            if told.up {
                self.up = true;
                self.attempt = 0;
                cx.out.line.tally.connected += 1;
                cx.out.line.tally.connects += 1;
            }
            if !told.more {
                break;
            }
        }
        if let Some(wanted) = Mqtt::ended(cx.out.line.as_mut()) {
            if let Some(socket) = self.socket.take() {
                cx.net().close(socket);
            }
            match wanted {
                true => self.count_down(cx),
                false => self.failed(cx),
            }
        }
        cx.identity.line_up = self.up;
        cx.identity.waiting = self.talk.waiting().min(usize::from(u8::MAX)) as u8;
        self.rearm(cx);
    }

    /// Bytes of the session go to its socket. A socket that takes no more than a session may have
    /// in flight has a peer that does not read: it is given up.
    fn write(&mut self, cx: Context<'_, '_>) {
        let mut bytes = std::mem::take(&mut cx.out.line.session.bytes);
        if let Some(socket) = self.socket.filter(|_| !bytes.is_empty())
            && cx.net().write(socket, &bytes).is_err()
        {
            cx.net().reset(socket);
            self.socket = None;
            self.failed(cx);
        }
        bytes.clear();
        cx.out.line.session.bytes = bytes;
    }

    /// Sets the timer for what comes first.
    fn rearm(&self, cx: Context<'_, '_>) {
        let Some(plan) = cx.shared.plan() else { return };
        let deadline = self.talk.deadline(plan);
        let next = self.connect_at.into_iter().chain(deadline).min();
        match next {
            None => {
                let _ = cx.cancel_timer(LINE);
            }
            Some(at) => {
                let wait = at.since(cx.monotonic).mul_f64(plan.speed);
                let _ = cx.set_timer(LINE, wait);
            }
        }
    }
}
