//! TLS between a line's socket and its session, and whose turn it is to shake hands.
//!
//! A handshake costs its shard hundreds of microseconds, a sample a few: when thousands come at
//! once, only so many of them get on in a turn and the others have theirs in turns to come, in
//! order, so that nobody's ticks are late. Bounds: [`STEPS_PER_TURN`], [`HANDSHAKE_MAX`].

use std::time::Duration;

use actorsim_actors::Time;

use super::{Context, Line};
use crate::session::tls::{Tls, TlsError};

/// Steps of handshakes in one turn of a shard: 2 to 3 ms.
const STEPS_PER_TURN: u32 = 8;

/// Time between the turns of two that wait: what a step takes.
const STEP: Duration = Duration::from_micros(250);

/// Longest time from connection to the end of the handshake, the wait for its turn included.
const HANDSHAKE_MAX: Duration = Duration::from_secs(20);

/// Whose turn it is, among the devices of a slab.
#[derive(Debug, Default)]
pub(super) struct Pace {
    turn: Time,
    done: u32,
    /// When the last of those that wait has its turn.
    last: Time,
}

impl Pace {
    /// Whether a step may be made in the turn of `now`; who `waited` has made its way there.
    ///
    /// # Errors
    /// Not now: when to ask again.
    fn admit(&mut self, now: Time, waited: bool) -> Result<(), Time> {
        if self.turn != now {
            (self.turn, self.done) = (now, 0);
        }
        if self.done < STEPS_PER_TURN && (waited || self.last <= now) {
            self.done += 1;
            return Ok(());
        }
        self.last = self.last.max(now) + STEP;
        Err(self.last)
    }
}

/// TLS on one line.
#[derive(Debug)]
pub(super) struct Secure {
    /// None before its first turn.
    tls: Option<Tls>,
    /// When the connection was made.
    began: Time,
    /// When the handshake must be done; none once it is.
    by: Option<Time>,
    /// When it is its turn, if it waits for that.
    turn: Option<Time>,
}

impl Secure {
    /// On a connection that was made now.
    fn new(now: Time) -> Box<Self> {
        Box::new(Self {
            tls: None,
            began: now,
            by: Some(now + HANDSHAKE_MAX),
            turn: None,
        })
    }

    /// Whether the handshake is done.
    fn is_open(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::is_open)
    }

    /// When it wants to be looked at.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.by.into_iter().chain(self.turn).min()
    }
}

/// Whether this device's broker is called over TLS.
pub(super) fn is_over_tls(cx: Context<'_, '_>) -> bool {
    cx.shared.plan().is_some_and(|plan| plan.tls.is_some())
}

impl Line {
    /// The connection is there: the handshake comes first.
    pub(super) fn begin_secure(&mut self, cx: Context<'_, '_>) {
        self.secure = Some(Secure::new(cx.monotonic));
        self.shake_hands(&[], false, cx);
    }

    /// Takes what has come from the peer.
    pub(super) fn secure_heard(&mut self, bytes: &[u8], cx: Context<'_, '_>) {
        match self.secure.as_ref().is_some_and(|secure| secure.is_open()) {
            true => self.decrypt(bytes, cx),
            false => self.shake_hands(bytes, false, cx),
        }
    }

    /// Gives a handshake up that has taken too long, or makes its next step if it is its turn.
    pub(super) fn secure_due(&mut self, cx: Context<'_, '_>) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        if secure.by.is_some_and(|by| by <= cx.monotonic) {
            self.insecure(cx);
        } else if secure.turn.take_if(|at| *at <= cx.monotonic).is_some() {
            self.shake_hands(&[], true, cx);
        }
    }

    /// Says goodbye over TLS, where there is one.
    pub(super) fn end_secure(&mut self, cx: Context<'_, '_>) {
        let Some(mut secure) = self.secure.take() else {
            return;
        };
        if let Some(tls) = &mut secure.tls {
            tls.close(&mut cx.out.line.wire);
            self.transmit(cx);
        }
    }

    /// Sends bytes of the session; whether that was refused.
    pub(super) fn encrypt(&mut self, bytes: &[u8], cx: Context<'_, '_>) -> bool {
        let tls = self.secure.as_mut().and_then(|secure| secure.tls.as_mut());
        let written = match tls {
            Some(tls) => tls.write(bytes, &mut cx.out.line.wire),
            None => Err(TlsError::NotOpen),
        };
        written.is_err() || self.refuses(cx)
    }

    /// A step of the handshake, or its place among those that wait for one.
    fn shake_hands(&mut self, bytes: &[u8], waited: bool, cx: Context<'_, '_>) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        if secure.turn.is_none() {
            match cx.out.line.pace.admit(cx.monotonic, waited) {
                Ok(()) if secure.tls.is_some() => return self.decrypt(bytes, cx),
                Ok(()) => return self.begin_tls(cx),
                Err(at) => secure.turn = Some(at),
            }
        }
        let held = match &mut secure.tls {
            Some(tls) => tls.hold(bytes),
            None if bytes.is_empty() => Ok(()),
            None => Err(TlsError::NotOpen), // a TLS server never speaks first
        };
        if held.is_err() {
            self.insecure(cx);
        }
    }

    /// The first bytes of a handshake.
    fn begin_tls(&mut self, cx: Context<'_, '_>) {
        let terms = cx.shared.plan().and_then(|plan| plan.tls.as_ref());
        let (Some(terms), Some(secure)) = (terms, &mut self.secure) else {
            return;
        };
        let out = &mut *cx.out.line;
        out.name.clear();
        cx.shared.write_name(cx.ordinal, &mut out.name);
        match Tls::new(terms, &out.name, &mut out.wire) {
            Ok(tls) => {
                secure.tls = Some(tls);
                self.transmit(cx);
            }
            Err(_) => self.insecure(cx),
        }
    }

    /// Takes what came over TLS.
    fn decrypt(&mut self, bytes: &[u8], cx: Context<'_, '_>) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let Some(tls) = &mut secure.tls else { return };
        let was_open = tls.is_open();
        let out = &mut *cx.out.line;
        let mut plain = std::mem::take(&mut out.plain);
        let heard = tls.received(bytes, &mut plain, &mut out.wire);
        let ended = tls.is_ended();
        let opened = !was_open && tls.is_open();
        if opened {
            secure.by = None;
            let took = cx.monotonic.since(secure.began).as_micros();
            let took = u32::try_from(took).unwrap_or(u32::MAX);
            out.tally.handshakes += 1;
            out.tally.handshakes_us.push(took);
        }
        self.transmit(cx);
        match heard {
            Err(_) if was_open => self.give_up(cx),
            Err(_) => self.insecure(cx),
            Ok(()) => {
                if opened {
                    self.open(cx);
                }
                if !plain.is_empty() {
                    self.received(&plain, cx);
                }
                if ended {
                    self.settle(cx);
                    self.finished(cx);
                }
            }
        }
        plain.clear();
        cx.out.line.plain = plain;
    }

    /// There is no TLS with this peer.
    fn insecure(&mut self, cx: Context<'_, '_>) {
        cx.out.line.tally.insecure += 1;
        self.give_up(cx);
    }

    /// The connection is of no more use: closed when what waits is sent.
    fn give_up(&mut self, cx: Context<'_, '_>) {
        if let Some(socket) = self.socket.take() {
            cx.net().close(socket);
            self.failed(cx);
        }
    }

    /// Hands records to the socket. One that takes no more than a session may have in flight has a
    /// peer that does not read: it is given up.
    fn transmit(&mut self, cx: Context<'_, '_>) {
        if self.refuses(cx)
            && let Some(socket) = self.socket.take()
        {
            cx.net().reset(socket);
            self.failed(cx);
        }
    }

    /// Hands records to the socket; whether it has no room.
    fn refuses(&self, cx: Context<'_, '_>) -> bool {
        let mut wire = std::mem::take(&mut cx.out.line.wire);
        let socket = self.socket.filter(|_| !wire.is_empty());
        let refused = socket.is_some_and(|socket| cx.net().write(socket, &wire).is_err());
        wire.clear();
        cx.out.line.wire = wire;
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_few_steps_and_those_that_wait_come_in_order() {
        let mut pace = Pace::default();
        let now = Time::ZERO + Duration::from_secs(1);
        let asked: Vec<_> = (0..1_000).map(|_| pace.admit(now, false)).collect();
        let admitted = asked.iter().filter(|asked| asked.is_ok()).count();
        assert_eq!(admitted as u32, STEPS_PER_TURN);
        let turns: Vec<_> = asked.iter().filter_map(|asked| asked.err()).collect();
        assert!(turns.is_sorted() && turns[0] == now + STEP);
        // who comes later does not overtake them
        let later = now + 2 * STEP;
        assert_eq!(pace.admit(later, true), Ok(()));
        assert!(pace.admit(later, false).is_err());
        // all that are late are not served at once
        let end = now + Duration::from_secs(9);
        let served = (0..1_000).filter(|_| pace.admit(end, true).is_ok());
        assert_eq!(served.count() as u32, STEPS_PER_TURN);
    }
}
