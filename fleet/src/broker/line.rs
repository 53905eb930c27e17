//! One device's line to its broker: a connection, the session on it, and when to try again.
//!
//! The device drives it from its steps; what a session writes goes to the shard's sockets, and
//! what it tells is counted, or given to the device if it is a command. Which protocol it is the
//! [`Session`] knows; `secure` is the TLS in between, where that is wanted. The line ends with its
//! device: the connection is reset, so that a broker publishes the will, and what waited is counted
//! as dropped by the next incarnation. Session deadlines are monotonic; the timer that wakes them
//! is simulated, so it is set by the clock's speed and looked at again when it fires.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{SocketEvent, SocketId};
use actorsim_actors::{CellContext, Incarnation, Time};

use self::secure::{Pace, Secure, is_over_tls};
use super::plan::Plan;
use super::relay::Letter;
use super::session::{Ending, Heard, Inbound, NotTaken, OWN, Outgoing, ReplyTo};
use super::session::{Session, SessionOut, Who};
use super::stats::PublishTally;
use crate::behaviour::Behaviour;
use crate::device::Device;
use crate::payload::Sample;
use crate::profile::Backpressure;
use crate::seed::device_seed;
use crate::watch::Happened;
use crate::wire::Way;

mod secure;

/// A device that is to connect for the first time later than this is not switched on yet: it takes
/// no samples, which would all be sent at once by a large fleet that comes up.
const ON_AT_ONCE: Duration = Duration::from_secs(1);

/// The timer of a line.
pub(crate) const LINE: u8 = 3;

/// Parts of the outbox, of 100: above the first a device that slows down takes every second sample
/// only, until it is below the second.
const SLOW_ABOVE: usize = 80;
const FAST_BELOW: usize = 50;

type Context<'a, 'b> = &'a mut CellContext<'b, Device>;

/// One device's line.
#[derive(Debug)]
pub(crate) struct Line {
    session: Session,
    socket: Option<SocketId>,
    secure: Option<Box<Secure>>,
    /// When to connect, while there is no connection; never if a fault keeps it down.
    connect_at: Option<Time>,
    /// Attempts to connect since the session was last up.
    attempt: u32,
    /// Not switched on yet.
    off: bool,
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
    /// How the device behaves whose sample comes next, if not as its profile says.
    pub(crate) behaviour: Option<Arc<Behaviour>>,
    /// For the publisher of the node.
    pub(crate) letters: Vec<Letter>,
    session: SessionOut,
    pub(super) payload: Vec<u8>,
    pub(super) name: String,
    /// What TLS has read, and what it sends.
    plain: Vec<u8>,
    pub(super) wire: Vec<u8>,
    pace: Pace,
}

impl LineOut {
    /// Makes the payload of a sample of the device whose name was written last.
    pub(super) fn encode(&mut self, plan: &Plan, values: &[f64], unix_us: u64, sequence: u32) {
        self.payload.clear();
        let sample = Sample {
            device_id: &self.name,
            unix_us,
            sequence,
            values,
        };
        let behaviour = self.behaviour.take();
        let own = behaviour.as_ref().map(|own| &own.encoder);
        own.unwrap_or(&plan.encoder)
            .write(&sample, &mut self.payload);
    }

    /// Forgets what a step that failed has put out, after so many letters.
    pub(crate) fn cut(&mut self, letters: usize) {
        self.letters.truncate(letters);
        self.session.cut();
        self.inbound.clear();
        self.plain.clear();
        self.wire.clear();
    }
}

/// Calls the session as this device, now; what it puts out is settled.
macro_rules! call {
    ($line:expr, $cx:expr, |$session:ident, $plan:ident, $who:ident, $out:ident| $call:expr) => {{
        let Some($plan) = $cx.shared.plan() else {
            return;
        };
        let LineOut {
            session: $out,
            name,
            ..
        } = &mut *$cx.out.line;
        name.clear();
        $cx.shared.write_name($cx.ordinal, name);
        let $who = &Who {
            id: name,
            seed: device_seed($cx.shared.master_seed, name),
            now: $cx.monotonic,
        };
        let $session = &mut $line.session;
        $call
    }};
}

impl Line {
    /// A line that connects after a wait.
    pub(crate) fn new(plan: &Plan, wait: Duration, cx: Context<'_, '_>) -> Self {
        let line = Self {
            session: Session::new(plan),
            socket: None,
            secure: None,
            connect_at: Some(cx.monotonic + wait),
            attempt: 0,
            off: cx.incarnation == Incarnation::FIRST && wait > ON_AT_ONCE,
            slow: false,
            up: false,
            kept_down: false,
        };
        line.rearm(cx);
        line
    }

    /// Publishes a sample, within the outbox's bound.
    pub(crate) fn publish(&mut self, values: &[f64], unix_us: u64, cx: Context<'_, '_>) {
        let Some(plan) = cx.shared.plan().filter(|_| !self.off) else {
            return;
        };
        let before = self.slow;
        if plan.backpressure == Backpressure::SlowDown && self.is_slow(plan) {
            cx.out.line.tally.slowdowns += u64::from(!before);
            cx.out.line.tally.dropped += cx.identity.slot & 1;
            if cx.identity.slot & 1 == 1 {
                return;
            }
        }
        let out = &mut *cx.out.line;
        out.name.clear();
        cx.shared.write_name(cx.ordinal, &mut out.name);
        out.encode(plan, values, unix_us, cx.identity.sequence);
        let who = Who {
            id: &out.name,
            seed: device_seed(cx.shared.master_seed, &out.name),
            now: cx.monotonic,
        };
        let sample = (out.payload.as_slice(), cx.monotonic.0.max(OWN + 1));
        let (session, tally) = (&mut self.session, &mut out.tally);
        let mut taken = session.publish(plan, sample, &who, &mut out.session);
        let makes_room = plan.backpressure == Backpressure::DropOldest;
        if taken == Err(NotTaken::Full) && makes_room && session.drop_oldest() {
            tally.dropped += 1;
            taken = session.publish(plan, sample, &who, &mut out.session);
        }
        match taken {
            Ok(()) => tally.sent += 1,
            Err(NotTaken::Full) => tally.dropped += 1,
            Err(NotTaken::TooLarge) => tally.refused += 1,
        }
        self.settle(cx);
    }

    /// Attempts to connect since the session was last up.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    fn is_slow(&mut self, plan: &Plan) -> bool {
        let filled = self.session.waiting() * 100 / usize::from(plan.outbox_max().max(1));
        let limit = if self.slow { FAST_BELOW } else { SLOW_ABOVE };
        self.slow = filled > limit;
        self.slow
    }

    /// Sends the reply to a message, where the message or else the plan wants it.
    pub(crate) fn reply(&mut self, to: &ReplyTo, payload: &[u8], cx: Context<'_, '_>) {
        let taken = call!(self, cx, |session, plan, who, out| session.reply(
            plan,
            (to, payload),
            who,
            out
        ));
        cx.out.line.tally.dropped += u64::from(!taken);
        self.settle(cx);
    }

    /// The timer has fired.
    pub(crate) fn timer(&mut self, cx: Context<'_, '_>) {
        if self.connect_at.take_if(|at| *at <= cx.monotonic).is_some() {
            self.connect(cx);
        }
        self.secure_due(cx);
        call!(self, cx, |session, plan, who, out| session
            .expire(plan, who, out));
        self.settle(cx);
    }

    fn connect(&mut self, cx: Context<'_, '_>) {
        let Some(plan) = cx.shared.plan() else { return };
        self.off = false;
        let local = plan.local(cx.ordinal);
        let mut net = cx.net();
        let socket = match (plan.is_datagrams(), local) {
            (true, local) => net.datagrams_with(local.unwrap_or(plan.any()), plan.address),
            (false, Some(local)) => net.connect_from(local, plan.address),
            (false, None) => net.connect(plan.address),
        };
        drop(net);
        self.socket = socket.ok();
        if self.socket.is_none() {
            self.failed(cx);
        }
    }

    /// Something has happened at a socket.
    pub(crate) fn socket(&mut self, socket: SocketId, event: SocketEvent<'_>, cx: Context<'_, '_>) {
        if self.socket != Some(socket) {
            return; // one that was given up already
        }
        match event {
            SocketEvent::Connected if is_over_tls(cx) => self.begin_secure(cx),
            SocketEvent::Connected | SocketEvent::Bound(_) => self.open(cx),
            SocketEvent::Received(bytes) if self.secure.is_some() => self.secure_heard(bytes, cx),
            SocketEvent::Received(bytes) | SocketEvent::Datagram { bytes, .. } => {
                self.received(bytes, cx);
            }
            SocketEvent::PeerFinished => self.finished(cx),
            SocketEvent::Ended(_) => {
                self.socket = None;
                self.failed(cx);
            }
            _ => {}
        }
        self.settle(cx);
    }

    fn open(&mut self, cx: Context<'_, '_>) {
        call!(self, cx, |session, plan, who, out| session
            .open(plan, who, out));
    }

    fn received(&mut self, bytes: &[u8], cx: Context<'_, '_>) {
        call!(self, cx, |session, plan, who, out| session
            .received(plan, bytes, who, out));
    }

    /// The peer sends no more, which some sessions expect.
    fn finished(&mut self, cx: Context<'_, '_>) {
        let socket = self.socket;
        call!(self, cx, |session, plan, who, out| session
            .finished(plan, who, out));
        self.settle(cx);
        if let Some(socket) = self.socket.take_if(|own| Some(*own) == socket) {
            cx.net().close(socket);
            self.failed(cx);
        }
    }

    /// Ends the session in order.
    pub(crate) fn goodbye(&mut self, cx: Context<'_, '_>) {
        self.connect_at = None;
        call!(self, cx, |session, plan, who, out| session
            .close(plan, who, out));
        cx.out.line.tally.abandon(self.session.waiting() as u64);
        self.settle(cx);
        // Counted as dropped: no later incarnation does so again.
        let waiting = std::mem::take(&mut cx.identity.waiting);
        cx.out.line.tally.waiting -= i64::from(waiting);
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
        self.secure = None;
        self.session.lost();
        self.count_down(cx);
        cx.out.line.tally.errors += 1;
        let seed = cx.shared.seed(cx.ordinal);
        self.connect_at = Some(cx.monotonic + plan.backoff.wait(seed, self.attempt));
        self.attempt = self.attempt.saturating_add(1);
    }

    fn count_down(&mut self, cx: Context<'_, '_>) {
        if std::mem::take(&mut self.up) {
            cx.out.line.tally.connected -= 1;
            self.told(Happened::Disconnected, cx);
        }
    }

    /// Tells who watches that the session is up, or gone.
    fn told(&self, happened: Happened, cx: Context<'_, '_>) {
        if let Some(watch) = &mut cx.out.watch {
            watch.session(cx.ordinal, happened, cx.unix_us);
        }
    }

    /// Takes what the session has put out: bytes to the socket, events to counters and device.
    fn settle(&mut self, cx: Context<'_, '_>) {
        loop {
            self.write(cx);
            let out = &mut cx.out.line.session;
            let ending = out.settle(&self.session);
            let mut all = std::mem::take(&mut out.heard);
            let quiet = all.is_empty();
            for heard in all.drain(..) {
                self.heard(heard, cx);
            }
            // the room is kept, and what a greeting has put there
            let mut more = std::mem::replace(&mut cx.out.line.session.heard, all);
            cx.out.line.session.heard.append(&mut more);
            match ending {
                Some(ending) => self.ended(ending, cx),
                None if quiet => break,
                None => {}
            }
        }
        cx.identity.line_up = self.up;
        let waiting = self.session.waiting().min(usize::from(u8::MAX)) as u8;
        let before = std::mem::replace(&mut cx.identity.waiting, waiting);
        cx.out.line.tally.waiting += i64::from(waiting) - i64::from(before);
        self.rearm(cx);
    }

    fn ended(&mut self, ending: Ending, cx: Context<'_, '_>) {
        self.end_secure(cx);
        if let Some(socket) = self.socket.take() {
            cx.net().close(socket);
        }
        match ending {
            Ending::Closed => self.count_down(cx),
            Ending::Again => {
                self.session.lost();
                self.count_down(cx);
                self.connect_at = Some(cx.monotonic);
            }
            Ending::Failed => self.failed(cx),
        }
    }

    /// What the session has for its peer goes to the socket. A stream that takes no more than a
    /// session may have in flight has a peer that does not read: it is given up. A datagram that
    /// finds no room is lost, as it may be anywhere.
    fn write(&mut self, cx: Context<'_, '_>) {
        let mut session = std::mem::take(&mut cx.out.line.session);
        let refused = match (session.outgoing(&self.session), self.socket) {
            (Outgoing::Stream(bytes), Some(socket)) if !bytes.is_empty() => {
                let refused = match self.secure.is_some() {
                    true => self.encrypt(bytes, cx),
                    false => cx.net().write(socket, bytes).is_err(),
                };
                if !refused {
                    cx.out.session(cx.ordinal, Way::Stream, bytes);
                }
                refused
            }
            (Outgoing::Datagrams(out), Some(socket)) if !out.ends.is_empty() => {
                for datagram in out.datagrams() {
                    if cx.net().write(socket, datagram).is_ok() {
                        cx.out.session(cx.ordinal, Way::Datagram, datagram);
                    }
                }
                false
            }
            _ => false,
        };
        match session.outgoing(&self.session) {
            Outgoing::Stream(bytes) => bytes.clear(),
            Outgoing::Datagrams(out) => out.sent(),
        }
        cx.out.line.session = session;
        if let Some(socket) = self.socket.take_if(|_| refused) {
            cx.net().reset(socket);
            self.failed(cx);
        }
    }

    fn heard(&mut self, heard: Heard, cx: Context<'_, '_>) {
        let tally = &mut cx.out.line.tally;
        match heard {
            Heard::Up => {
                tally.connected += 1;
                tally.connects += 1;
                self.up = true;
                self.told(Happened::Connected, cx);
                call!(self, cx, |session, plan, who, out| session
                    .greet(plan, who, out));
            }
            Heard::Sound => self.attempt = 0,
            Heard::Delivered { tag } => {
                self.attempt = 0; // a broker that only lets devices in is not sound yet
                tally.acked += 1;
                let latency = cx.monotonic.since(Time(tag)).as_micros();
                tally
                    .latencies
                    .push(u32::try_from(latency).unwrap_or(u32::MAX));
            }
            Heard::Refused => tally.refused += 1,
            Heard::Trouble => tally.errors += 1,
            Heard::Inbound(inbound) => cx.out.line.inbound.push(inbound),
        }
    }

    /// Sets the timer for what comes first.
    fn rearm(&self, cx: Context<'_, '_>) {
        let Some(plan) = cx.shared.plan() else { return };
        let deadline = self.session.deadline(plan);
        let secure = self.secure.as_ref().and_then(|secure| secure.deadline());
        let next = self.connect_at.into_iter().chain(deadline).chain(secure);
        let next = next.min();
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
