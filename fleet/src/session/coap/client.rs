//! The session of one device with its CoAP server.
//!
//! Its owner binds a datagram socket to the server, calls [`Client::open`], then
//! [`Client::received`] with each datagram, [`Client::expire`] at [`Client::deadline`], and
//! [`Client::lost`] when the socket is gone; samples in the outbox outlive all of these. Times are
//! monotonic. Bound: see [`Options`].

use std::collections::VecDeque;

use actorsim_actors::Time;

use super::exchange::{Due, Exchange, What};
use super::packet::{Block, Code, Kind, Writer, option};
use super::{Ended, Endpoint, Event, Method, Options, Output, REPLIES_MAX};
use crate::generator::noise;
use crate::session::template::Template;

mod answers;

/// Lanes of the draws of a session's first message number, and of its tokens.
const ID_LANE: u64 = 0x636f_6170_6964_0000;
const TOKEN_LANE: u64 = 0x636f_6170_746f_6b00;
/// JSON, by IANA's table of content formats.
const JSON: u32 = 50;

/// The outbox is full; the sample or reply was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the outbox is full")]
pub struct Full;

#[derive(Debug)]
struct Outgoing {
    body: Box<[u8]>,
    tag: u64,
}

/// A request of the peer that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Owed {
    kind: Kind,
    id: u16,
    token: [u8; 8],
    token_len: u8,
}

/// The last request of the peer that it may send again, with its answer.
#[derive(Debug)]
struct Answered {
    id: u16,
    bytes: Box<[u8]>,
}

/// The observation of the device's commands.
#[derive(Debug, Default)]
struct Watch {
    token: u32,
    /// Number and time of the last notification.
    seen: Option<(u32, Time)>,
    refresh_at: Time,
    /// A body that comes in blocks, and the last of them, if more are to be asked for.
    body: Vec<u8>,
    rest: Option<Block>,
    /// Hash of the last body told: the same again, unasked, is no command.
    told: Option<u64>,
}

/// The client side of one device.
#[derive(Debug, Default)]
pub struct Client {
    up: bool,
    /// Messages sent so far: each has a number and a token of its own.
    sent: u32,
    outbox: VecDeque<Outgoing>,
    replies: VecDeque<Box<[u8]>>,
    exchange: Option<Exchange>,
    watch: Watch,
    attempt: u32,
    not_before: Time,
    owed: Option<Owed>,
    answered: Option<Answered>,
}

impl Client {
    /// Samples that wait, the one in flight included.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// A socket is there.
    pub fn open(&mut self, options: &Options, to: &Endpoint<'_>, now: Time, out: &mut Output) {
        self.lost();
        self.up = true;
        self.watch.refresh_at = now;
        self.pump(options, to, now, out);
    }

    /// The socket is gone. What was in flight is sent again on the next one.
    pub fn lost(&mut self) {
        self.up = false;
        self.exchange = None;
        self.owed = None;
        self.answered = None;
        self.watch.seen = None;
        self.watch.body = Vec::new();
        self.watch.rest = None;
    }

    /// Ends the session in order: the server need not notify any more.
    pub fn close(&mut self, to: &Endpoint<'_>, out: &mut Output) {
        if self.up && self.watch.seen.is_some() {
            let (id, _) = self.numbers(to);
            let token = self.watch.token;
            let get = (Kind::NonConfirmable, Code::GET, id, token);
            let forget = |writer: Writer<'_>| writer.payload(&[]);
            request(get, Some(1), (&to.paths.commands, to.id), out, forget);
        }
        self.end(Ended::Closed, out);
    }

    fn end(&mut self, why: Ended, out: &mut Output) {
        self.lost();
        out.ended = Some(why);
    }

    /// Takes a sample, and sends it if nothing stands in its way.
    ///
    /// # Errors
    /// The outbox is full.
    pub fn publish(
        &mut self,
        options: &Options,
        to: &Endpoint<'_>,
        (body, tag): (&[u8], u64),
        now: Time,
        out: &mut Output,
    ) -> Result<(), Full> {
        if self.outbox.len() >= usize::from(options.outbox_max) {
            return Err(Full);
        }
        let body = body.into();
        self.outbox.push_back(Outgoing { body, tag });
        self.pump(options, to, now, out);
        Ok(())
    }

    /// Gives up the oldest sample that is not in flight, and says which.
    pub fn drop_oldest(&mut self) -> Option<u64> {
        let in_flight = self.exchange.is_some_and(|own| own.what == What::Sample);
        let sample = self.outbox.remove(usize::from(in_flight))?;
        Some(sample.tag)
    }

    /// Takes the reply to a command. One to a command that was put to the device is the answer to
    /// it; any other goes to the server as a request.
    ///
    /// # Errors
    /// [`REPLIES_MAX`] wait already.
    pub fn reply(
        &mut self,
        options: &Options,
        to: &Endpoint<'_>,
        (body, put): (&[u8], bool),
        now: Time,
        out: &mut Output,
    ) -> Result<(), Full> {
        if let Some(owed) = self.owed.take_if(|_| put) {
            self.answer_request(&owed, Code::CHANGED, body, to, out);
            return Ok(());
        }
        if self.replies.len() >= REPLIES_MAX {
            return Err(Full);
        }
        self.replies.push_back(body.into());
        self.pump(options, to, now, out);
        Ok(())
    }

    /// When [`Client::expire`] wants to be called.
    #[must_use]
    pub fn deadline(&self, options: &Options) -> Option<Time> {
        if !self.up {
            return None;
        }
        match &self.exchange {
            Some(exchange) => Some(exchange.deadline(options)),
            None => self.next(options).map(|(due, _)| due),
        }
    }

    /// Does what is due: sends a message again, or gives a silent server up.
    pub fn expire(&mut self, options: &Options, to: &Endpoint<'_>, now: Time, out: &mut Output) {
        let due = match &mut self.exchange {
            Some(exchange) if self.up => exchange.expire(options, now),
            _ => Due::Nothing,
        };
        match due {
            Due::Nothing => self.pump(options, to, now, out),
            Due::Again => self.transmit(options, to, out),
            Due::GivenUp => {
                self.put_off(options, to, now);
                self.end(Ended::Silent, out);
            }
        }
    }

    /// What goes next, and when.
    fn next(&self, options: &Options) -> Option<(Time, What)> {
        let watches = options.observe.then_some(self.watch.refresh_at);
        let reply = self.replies.front().map(|_| (Time::ZERO, What::Reply));
        let watch = watches.map(|at| (at, What::Watch));
        let sample = self.outbox.front().map(|_| (Time::ZERO, What::Sample));
        let rest = self
            .watch
            .rest
            .map(|last| (Time::ZERO, What::Rest(last.number + 1)));
        let all = [rest, reply, watch, sample].into_iter().flatten();
        let (due, what) = all.min_by_key(|(due, _)| *due)?;
        Some((due.max(self.not_before), what))
    }

    fn put_off(&mut self, options: &Options, to: &Endpoint<'_>, now: Time) {
        self.not_before = now + options.retry.wait(to.seed, self.attempt);
        self.attempt = self.attempt.saturating_add(1);
    }

    /// Number and token of the next message.
    fn numbers(&mut self, to: &Endpoint<'_>) -> (u16, u32) {
        self.sent = self.sent.wrapping_add(1);
        let first = noise::bits(to.seed, 0, ID_LANE) as u16;
        let token = noise::bits(to.seed, self.sent.into(), TOKEN_LANE) as u32;
        (first.wrapping_add(self.sent as u16), token)
    }

    fn pump(&mut self, options: &Options, to: &Endpoint<'_>, now: Time, out: &mut Output) {
        while self.up && self.exchange.is_none() {
            let Some((_, what)) = self.next(options).filter(|(due, _)| *due <= now) else {
                return;
            };
            let fits = |sample: &Outgoing| sample.body.len() <= block_len(options.block_exponent);
            let fits = self.outbox.front().is_some_and(fits);
            let once = what == What::Sample && !options.confirmable && fits;
            self.begin(what, options, to, now);
            match what {
                What::Sample if !fits => self.split(options.block_exponent),
                What::Rest(_) => self.in_blocks(self.watch.rest),
                _ => {}
            }
            self.watch.rest = None;
            self.transmit(options, to, out);
            if once {
                self.exchange = None;
                let sample = self.outbox.pop_front();
                let event = sample.map(|Outgoing { tag, .. }| Event::Delivered { tag });
                out.events.extend(event);
            }
        }
    }

    fn begin(&mut self, what: What, options: &Options, to: &Endpoint<'_>, now: Time) {
        let (id, token) = self.numbers(to);
        let exchange = Exchange::new((what, id, token), options, to.seed, now);
        self.exchange = Some(exchange);
    }

    /// The sample in flight goes in blocks of this size, from its first.
    fn split(&mut self, exponent: u8) {
        self.in_blocks(Some(Block {
            number: 0,
            more: true,
            exponent: exponent.min(6),
        }));
    }

    fn in_blocks(&mut self, block: Option<Block>) {
        if let Some(exchange) = &mut self.exchange {
            exchange.block = block;
        }
    }

    /// Writes the message of the exchange; the same again each time.
    fn transmit(&self, options: &Options, to: &Endpoint<'_>, out: &mut Output) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        let (id, token) = (exchange.id, exchange.token);
        let send = match options.method {
            Method::Put => Code::PUT,
            Method::Post => Code::POST,
        };
        let sure = Kind::Confirmable;
        let commands = (&to.paths.commands, to.id);
        match exchange.what {
            What::Watch => {
                let none = |writer: Writer<'_>| writer.payload(&[]);
                request((sure, Code::GET, id, token), Some(0), commands, out, none);
            }
            What::Rest(number) => {
                let exponent = exchange.block.map_or(6, |block| block.exponent);
                let more = false;
                let wanted = Block {
                    number,
                    more,
                    exponent,
                };
                let rest = |writer: Writer<'_>| {
                    writer.number(option::BLOCK2, wanted.value()).payload(&[]);
                };
                request((sure, Code::GET, id, token), None, commands, out, rest);
            }
            What::Reply => {
                let body = self.replies.front().map_or(&[][..], |reply| reply);
                let replies = (&to.paths.replies, to.id);
                let json = |writer: Writer<'_>| {
                    writer.number(option::CONTENT_FORMAT, JSON).payload(body);
                };
                request((sure, send, id, token), None, replies, out, json);
            }
            What::Sample => {
                let Some(sample) = self.outbox.front() else {
                    return;
                };
                let kind = match options.confirmable || exchange.block.is_some() {
                    true => sure,
                    false => Kind::NonConfirmable,
                };
                let format = u32::from(options.content_format);
                let samples = (&to.paths.samples, to.id);
                let body = |writer: Writer<'_>| {
                    let writer = writer.number(option::CONTENT_FORMAT, format);
                    part(writer, &sample.body, exchange.block);
                };
                request((kind, send, id, token), None, samples, out, body);
            }
        }
    }
}

/// One request: head, observation, path, and what the caller has to add.
fn request(
    (kind, code, id, token): (Kind, Code, u16, u32),
    observe: Option<u32>,
    (path, device_id): (&Template, &str),
    out: &mut Output,
    rest: impl FnOnce(Writer<'_>),
) {
    out.path.clear();
    path.write(device_id, &mut out.path);
    let mut writer = Writer::new(&mut out.bytes, kind, code, id, &token.to_be_bytes());
    if let Some(observe) = observe {
        writer = writer.number(option::OBSERVE, observe);
    }
    rest(writer.path(&out.path));
    out.end_datagram();
}

/// A body, or the part of it that is under way.
fn part(writer: Writer<'_>, body: &[u8], block: Option<Block>) {
    let Some(block) = block else {
        return writer.payload(body);
    };
    let begin = (block.number as usize * block.bytes()).min(body.len());
    let end = (begin + block.bytes()).min(body.len());
    let more = end < body.len();
    let mut writer = writer.number(option::BLOCK1, Block { more, ..block }.value());
    if block.number == 0 {
        writer = writer.number(option::SIZE1, body.len() as u32);
    }
    writer.payload(&body[begin..end]);
}

const fn block_len(exponent: u8) -> usize {
    let exponent = if exponent > 6 { 6 } else { exponent };
    1 << (exponent + 4)
}
