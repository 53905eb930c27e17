//! What a session makes of the messages of its peer: answers, notifications, and requests to the
//! device.
//!
//! A message that fits nothing is counted and, where it wants to be confirmed, reset. Bound: one
//! message at a time, [`BODY_MAX`] bytes of a body in blocks.

use std::time::Duration;

use actorsim_actors::Time;

use super::super::exchange::{Exchange, What};
use super::super::packet::{Block, Code, Kind, Packet, Writer, option};
use super::super::{BODY_MAX, Endpoint, Event, Options, Output, REFRESH_MIN};
use super::{Answered, Client, JSON, Outgoing, Owed};
use crate::generator::noise;
use crate::seed::fnv1a64_of;

/// For how long an answer is fresh that does not say so (RFC 7252, 5.10.5).
const MAX_AGE_S: u32 = 60;
/// Longest time that one is believed to be.
const MAX_AGE_S_MAX: u32 = 86_400;
/// An observer registers again so much after the last word was fresh, at most (RFC 7641, 3.3.1).
const REFRESH_SPREAD: Duration = Duration::from_secs(15);
/// Lane of the draws of that time.
const REFRESH_LANE: u64 = 0x636f_6170_6f62_7376;
/// Time until a server that refused an observer is asked again.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);
/// After this long a notification counts as new whatever its number (RFC 7641, 3.4).
const ORDER_FORGOTTEN: Duration = Duration::from_secs(128);
/// Options of a request that a device understands, of those it may not ignore: host, port, path,
/// query, accepted format, blocks.
const UNDERSTOOD: [u16; 7] = [
    3,
    7,
    option::URI_PATH,
    15,
    17,
    option::BLOCK2,
    option::BLOCK1,
];

impl Client {
    /// Takes one datagram.
    pub fn received(
        &mut self,
        options: &Options,
        to: &Endpoint<'_>,
        bytes: &[u8],
        now: Time,
        out: &mut Output,
    ) {
        if !self.up {
            return;
        }
        let Ok(packet) = Packet::read(bytes) else {
            out.strays += 1; // anybody may have sent it
            return;
        };
        out.answered = true;
        let response = matches!(packet.code.class(), 2 | 4 | 5);
        let own = self.exchange.filter(|own| own.id == packet.id);
        let same_token = own.is_some_and(|own| own.token.to_be_bytes() == packet.token);
        match packet.kind {
            Kind::Reset if own.is_some() => {
                self.settle(options, to, &packet, now, out);
            }
            Kind::Acknowledgement if own.is_some() && packet.code == Code::EMPTY => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.acknowledge(now);
                }
            }
            Kind::Acknowledgement if same_token && response => {
                self.settle(options, to, &packet, now, out);
            }
            Kind::Reset | Kind::Acknowledgement => out.strays += 1,
            _ if response => self.told(options, to, &packet, now, out),
            _ if packet.code == Code::EMPTY => reset(&packet, out), // a ping (RFC 7252, 4.3)
            _ if packet.code.class() == 0 => self.asked(to, &packet, out),
            _ => reset(&packet, out),
        }
        self.pump(options, to, now, out);
    }

    /// An answer in a message of its own, or a notification.
    fn told(
        &mut self,
        options: &Options,
        to: &Endpoint<'_>,
        packet: &Packet<'_>,
        now: Time,
        out: &mut Output,
    ) {
        let is_answer = |own: &Exchange| own.token.to_be_bytes() == packet.token;
        if self.exchange.as_ref().is_some_and(is_answer) {
            acknowledge(packet, out);
            return self.settle(options, to, packet, now, out);
        }
        if self.watch.seen.is_none() || self.watch.token.to_be_bytes() != packet.token {
            return reset(packet, out);
        }
        acknowledge(packet, out);
        self.notified(to, packet, now, out);
    }

    fn notified(&mut self, to: &Endpoint<'_>, packet: &Packet<'_>, now: Time, out: &mut Output) {
        let Some(number) = packet
            .number(option::OBSERVE)
            .filter(|_| is_done(packet.code))
        else {
            // the server has ended it (RFC 7641, 3.2)
            self.watch.seen = None;
            self.watch.refresh_at = now + REFRESH_MIN;
            return;
        };
        if self
            .watch
            .seen
            .is_some_and(|seen| !is_newer(seen, (number, now)))
        {
            return;
        }
        self.watch.seen = Some((number, now));
        self.watch.refresh_at = self.refresh(to, packet, now);
        self.watch.told = None; // told again, it is meant again
        self.body(packet, 0, out);
    }

    /// When to register again after this word.
    fn refresh(&self, to: &Endpoint<'_>, packet: &Packet<'_>, now: Time) -> Time {
        let fresh = packet.number(option::MAX_AGE).unwrap_or(MAX_AGE_S);
        let fresh = Duration::from_secs(fresh.min(MAX_AGE_S_MAX).into()).max(REFRESH_MIN);
        let drawn = noise::uniform(to.seed, self.sent.into(), REFRESH_LANE);
        now + fresh + REFRESH_SPREAD.mul_f64(drawn)
    }

    /// The exchange is over: with an answer, or with a reset.
    fn settle(
        &mut self,
        options: &Options,
        to: &Endpoint<'_>,
        packet: &Packet<'_>,
        now: Time,
        out: &mut Output,
    ) {
        let Some(exchange) = self.exchange.take() else {
            return;
        };
        let later = packet.code.class() == 5 || packet.code == Code::TOO_MANY;
        if later && packet.kind != Kind::Reset {
            self.put_off(options, to, now);
            if matches!(exchange.what, What::Rest(_)) {
                self.watch.refresh_at = now; // from its beginning
            }
            return out.events.push(Event::Retries { code: packet.code });
        }
        self.attempt = 0;
        let code = match packet.kind {
            Kind::Reset => Code::EMPTY,
            _ => packet.code,
        };
        match exchange.what {
            What::Sample => {
                self.sample_settled(options, to, (code, exchange.block, packet), now, out)
            }
            What::Reply => {
                self.replies.pop_front();
                if !is_done(code) {
                    out.events.push(Event::ReplyRefused { code });
                }
            }
            What::Watch if is_done(code) => {
                self.watch.token = exchange.token;
                let number = packet.number(option::OBSERVE);
                self.watch.seen = number.map(|number| (number, now));
                self.watch.refresh_at = self.refresh(to, packet, now);
                self.body(packet, 0, out);
            }
            What::Watch => {
                self.watch.seen = None;
                self.watch.refresh_at = now + REFUSED_PAUSE;
                out.events.push(Event::NotObserved { code });
            }
            What::Rest(number) if is_done(code) => self.body(packet, number, out),
            What::Rest(_) => self.watch.body = Vec::new(),
        }
    }

    fn sample_settled(
        &mut self,
        options: &Options,
        to: &Endpoint<'_>,
        (code, sent, packet): (Code, Option<Block>, &Packet<'_>),
        now: Time,
        out: &mut Output,
    ) {
        let asked = packet.number(option::BLOCK1).and_then(Block::of);
        let next = match (sent, asked) {
            // not all of it in one message, or smaller blocks
            (_, Some(asked)) if code == Code::TOO_LARGE => {
                let used = sent.map_or(7, |sent| sent.exponent);
                (asked.exponent < used).then_some(Block { number: 0, ..asked })
            }
            (Some(sent), asked) if code == Code::CONTINUE => {
                let exponent =
                    asked.map_or(sent.exponent, |asked| asked.exponent.min(sent.exponent));
                let done = (sent.number as usize + 1) * sent.bytes();
                let block = Block { exponent, ..sent };
                let number = (done / block.bytes()) as u32;
                Some(Block { number, ..block })
            }
            _ => None,
        };
        let whole = self.outbox.front().map_or(0, |sample| sample.body.len());
        if let Some(block) = next.filter(|block| (block.number as usize * block.bytes()) < whole) {
            self.begin(What::Sample, options, to, now);
            self.in_blocks(Some(block));
            return self.transmit(options, to, out);
        }
        let Some(Outgoing { tag, .. }) = self.outbox.pop_front() else {
            return;
        };
        out.events
            .push(match is_done(code) && code != Code::CONTINUE {
                true => Event::Delivered { tag },
                false => Event::Refused { tag, code },
            });
    }

    /// A body, or its part with this number; what is whole and new is told.
    fn body(&mut self, packet: &Packet<'_>, number: u32, out: &mut Output) {
        let block = packet.number(option::BLOCK2).and_then(Block::of);
        let whole = block.is_none_or(|block| block.number == 0 && !block.more);
        if whole {
            let payload: Box<[u8]> = packet.payload.into();
            return self.tell(payload, out);
        }
        // A block that others follow is full (RFC 7959, 2.2), so that a body has an end.
        let fits = |block: &Block| {
            block.number == number && (!block.more || packet.payload.len() == block.bytes())
        };
        let Some(block) = block.filter(fits) else {
            self.watch.body = Vec::new();
            return;
        };
        if number == 0 {
            self.watch.body.clear();
        }
        self.watch.body.extend_from_slice(packet.payload);
        if self.watch.body.len() > BODY_MAX {
            self.watch.body = Vec::new();
        } else if block.more {
            self.watch.rest = Some(block);
        } else {
            let body = std::mem::take(&mut self.watch.body);
            self.tell(body.into(), out);
        }
    }

    fn tell(&mut self, payload: Box<[u8]>, out: &mut Output) {
        let hash = fnv1a64_of(&payload);
        if payload.is_empty() || self.watch.told == Some(hash) {
            return;
        }
        self.watch.told = Some(hash);
        let put = false;
        out.events.push(Event::Message { payload, put });
    }

    /// A request to the device.
    fn asked(&mut self, to: &Endpoint<'_>, packet: &Packet<'_>, out: &mut Output) {
        if packet.kind == Kind::Confirmable
            && let Some(known) = self.answered.as_ref().filter(|known| known.id == packet.id)
        {
            out.bytes.extend_from_slice(&known.bytes);
            return out.end_datagram();
        }
        let mut token = [0; 8];
        token[..packet.token.len()].copy_from_slice(packet.token);
        let owed = Owed {
            kind: packet.kind,
            id: packet.id,
            token,
            token_len: packet.token.len() as u8,
        };
        let strange = |number: u16| option::is_critical(number) && !UNDERSTOOD.contains(&number);
        let block = packet.number(option::BLOCK1).and_then(Block::of);
        out.path.clear();
        to.paths.commands.write(to.id, &mut out.path);
        let refusal = if packet.options().any(|(number, _)| strange(number)) {
            Code::BAD_OPTION
        } else if !packet.is_at(&out.path) {
            Code::NOT_FOUND
        } else if ![Code::PUT, Code::POST].contains(&packet.code) {
            Code::METHOD_NOT_ALLOWED
        } else if block.is_some_and(|block| block.more || block.number > 0) {
            Code::TOO_LARGE
        } else {
            self.owed = Some(owed);
            let payload = packet.payload.into();
            return out.events.push(Event::Message { payload, put: true });
        };
        self.answer_request(&owed, refusal, &[], to, out);
    }

    /// Answers a request of the peer; the same again if it asks again.
    pub(super) fn answer_request(
        &mut self,
        owed: &Owed,
        code: Code,
        body: &[u8],
        to: &Endpoint<'_>,
        out: &mut Output,
    ) {
        let (kind, id) = match owed.kind {
            Kind::Confirmable => (Kind::Acknowledgement, owed.id),
            _ => (Kind::NonConfirmable, self.numbers(to).0),
        };
        let begin = out.bytes.len();
        let token = &owed.token[..usize::from(owed.token_len)];
        let mut writer = Writer::new(&mut out.bytes, kind, code, id, token);
        if !body.is_empty() {
            writer = writer.number(option::CONTENT_FORMAT, JSON);
        }
        writer.payload(body);
        out.end_datagram();
        if owed.kind == Kind::Confirmable {
            let bytes = out.bytes[begin..].into();
            self.answered = Some(Answered { id: owed.id, bytes });
        }
    }
}

/// Says that a message has come, if its sender wants to know.
fn acknowledge(packet: &Packet<'_>, out: &mut Output) {
    if packet.kind == Kind::Confirmable {
        let ack = Writer::new(
            &mut out.bytes,
            Kind::Acknowledgement,
            Code::EMPTY,
            packet.id,
            &[],
        );
        ack.payload(&[]);
        out.end_datagram();
    }
}

/// Says that a message means nothing here.
fn reset(packet: &Packet<'_>, out: &mut Output) {
    out.strays += 1;
    if matches!(packet.kind, Kind::Confirmable | Kind::NonConfirmable) {
        let reset = Writer::new(&mut out.bytes, Kind::Reset, Code::EMPTY, packet.id, &[]);
        reset.payload(&[]);
        out.end_datagram();
    }
}

const fn is_done(code: Code) -> bool {
    code.class() == 2
}

/// Whether a notification is newer than the last one (RFC 7641, 3.4).
fn is_newer((seen, at): (u32, Time), (number, now): (u32, Time)) -> bool {
    const HALF: u32 = 1 << 23;
    let ahead = number.wrapping_sub(seen) & ((HALF << 1) - 1);
    (ahead > 0 && ahead < HALF) || now > at + ORDER_FORGOTTEN
}
