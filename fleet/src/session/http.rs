//! HTTP/1.1 from the client's side, without I/O: samples go out as POST requests over one kept
//! connection, several in one body where that is asked for; commands are polled by GET.
//!
//! Map: `response` (what a server answers), and here the session. What the server did not take for
//! now (5xx, 408, 429, no answer, a lost connection) is sent again after a backoff, in order; what
//! it refuses for good is told and gone. A request may so arrive twice: HTTP can promise at least
//! once, no more. One request is in flight at a time. Sources: RFC 9110, RFC 9112. Bounds:
//! [`Options`].

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::Duration;

use actorsim_actors::Time;

use super::backoff::Backoff;
use super::template::Template;
use crate::generator::noise;

mod response;

pub use response::{HEAD_BYTES_MAX, HEADERS_MAX, Malformed};
use response::{Response, parse};

/// How samples share a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// `[a,b,c]`, also for one.
    JsonArray,
    /// One after another, as they are.
    Concatenated,
}

/// Shared by the sessions of one population.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Type of a body.
    pub content_type: &'static str,
    /// Samples in one request.
    pub batch_max: u16,
    /// How several share a body; one alone is sent as it is if `batch_max` is 1.
    pub batch: Batch,
    /// Longest wait of a sample for company.
    pub batch_wait: Duration,
    /// Longest wait for an answer.
    pub answer_timeout: Duration,
    /// Samples that wait, those in flight included.
    pub outbox_max: u16,
    /// Bytes of the largest answer taken, its head included.
    pub response_max: u32,
    /// Waits before a request is sent again.
    pub retry: Backoff,
    /// Time between two questions for a command; zero: none is asked.
    pub poll_interval: Duration,
}

/// Replies that wait in a device; a server that asks for more than it hears loses the newest.
pub const REPLIES_MAX: usize = 4;

/// Commands that are got one after another without a pause.
pub const COMMANDS_IN_A_ROW_MAX: u8 = 16;

/// Lane of the draw that spreads a fleet's first polls.
const POLL_LANE: u64 = 0x0068_7474_7070_6f6c;

impl Default for Options {
    /// One JSON sample a request, 20 s patience, 64 waiting, answers up to 64 KiB, no polls.
    fn default() -> Self {
        Self {
            content_type: "application/json",
            batch_max: 1,
            batch: Batch::JsonArray,
            batch_wait: Duration::ZERO,
            answer_timeout: Duration::from_secs(20),
            outbox_max: 64,
            response_max: 65_536,
            retry: Backoff::default(),
            poll_interval: Duration::ZERO,
        }
    }
}

/// Paths of a device's requests, each from its `/` on, as they stand in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Samples are posted there.
    pub samples: Template,
    /// Commands are got from there.
    pub commands: Template,
    /// Replies are posted there.
    pub replies: Template,
}

/// Where the requests of one device go.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// `Host` header: name and port.
    pub host: &'a str,
    /// What is where.
    pub paths: &'a Paths,
    /// Device id.
    pub id: &'a str,
    /// Value of `Authorization`, if there is one; never shown.
    pub authorization: Option<&'a Secret>,
    /// Seed of the device: its waits differ from its neighbours'.
    pub seed: u64,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// Collected by a session's calls; drained by its owner after each.
#[derive(Debug, Default)]
pub struct Output {
    /// For the server, in order.
    pub bytes: Vec<u8>,
    /// For the owner, in order.
    pub events: Vec<Event>,
    /// The connection is of no more use: send what there is, then close it.
    pub ended: Option<Ended>,
    /// Whether the server has answered anything.
    pub answered: bool,
}

/// What has happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A sample was taken by the server.
    Delivered {
        /// The owner's number for it.
        tag: u64,
    },
    /// A sample was refused for good; it is gone.
    Refused {
        /// The owner's number for it.
        tag: u64,
        /// Status code.
        status: u16,
    },
    /// The server did not take a request for now.
    Retries {
        /// Status code.
        status: u16,
        /// When it is sent again.
        at: Time,
    },
    /// The answer to a poll has a body.
    Message(Box<[u8]>),
    /// A reply was refused for good; it is gone.
    ReplyRefused {
        /// Status code.
        status: u16,
    },
}

/// Why a connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Closed by its owner.
    #[error("closed")]
    Closed,
    /// The server closes after this answer; connect again at once.
    #[error("the server does not keep the connection")]
    NotKept,
    /// The server closed a connection that had served and had nothing to do; connect again at once.
    #[error("the server closed the idle connection")]
    Idle,
    /// The server closed without an answer to what was asked.
    #[error("the server closed the connection")]
    ByServer,
    /// No answer in time.
    #[error("no answer from the server in time")]
    Silent,
    /// Not an answer.
    #[error("not HTTP: {0}")]
    Malformed(#[from] Malformed),
}

/// The outbox is full; the sample was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the outbox is full")]
pub struct Full;

/// One sample that waits.
#[derive(Debug)]
struct Outgoing {
    body: Box<[u8]>,
    tag: u64,
    since: Time,
}

/// What the server is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// The first reply that waits.
    Reply,
    /// Whether there is a command.
    Poll,
    /// The first so many samples of the outbox.
    Post(u16),
}

/// The client side of one HTTP connection.
#[derive(Debug, Default)]
pub struct Client {
    up: bool,
    /// The server has answered on this connection.
    served: bool,
    outbox: VecDeque<Outgoing>,
    replies: VecDeque<Box<[u8]>>,
    asked: Option<(Asked, Time)>,
    partial: Vec<u8>,
    poll_at: Option<Time>,
    /// Commands that have come without a pause between polls.
    in_a_row: u8,
    attempt: u32,
    not_before: Time,
}

impl Client {
    /// Samples that wait, those in flight included.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Whether an answer is awaited.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.asked.is_some()
    }

    /// A connection is there.
    pub fn open(&mut self, options: &Options, to: &Endpoint<'_>, now: Time, out: &mut Output) {
        self.lost();
        self.up = true;
        if self.poll_at.is_none() && !options.poll_interval.is_zero() {
            let share = noise::uniform(to.seed, 0, POLL_LANE);
            self.poll_at = Some(now + options.poll_interval.mul_f64(share));
        }
        self.pump(options, to, now, out);
    }

    /// The connection is gone. What was in flight is sent again on the next one.
    pub fn lost(&mut self) {
        self.up = false;
        self.served = false;
        self.partial = Vec::new();
        self.asked = None;
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
        self.outbox.push_back(Outgoing {
            body: body.into(),
            tag,
            since: now,
        });
        self.pump(options, to, now, out);
        Ok(())
    }

    /// Gives up the oldest sample that is not in flight, and says which.
    pub fn drop_oldest(&mut self) -> Option<u64> {
        let in_flight = match self.asked {
            Some((Asked::Post(count), _)) => usize::from(count),
            _ => 0,
        };
        self.outbox.remove(in_flight).map(|sample| sample.tag)
    }

    /// Takes the reply to a command, and sends it if nothing stands in its way.
    ///
    /// # Errors
    /// [`REPLIES_MAX`] wait already.
    pub fn reply(
        &mut self,
        options: &Options,
        to: &Endpoint<'_>,
        body: &[u8],
        now: Time,
        out: &mut Output,
    ) -> Result<(), Full> {
        if self.replies.len() >= REPLIES_MAX {
            return Err(Full);
        }
        self.replies.push_back(body.into());
        self.pump(options, to, now, out);
        Ok(())
    }

    /// Ends the connection. What waits in the outbox stays there.
    pub fn close(&mut self, out: &mut Output) {
        self.end(Ended::Closed, out);
    }

    fn end(&mut self, why: Ended, out: &mut Output) {
        self.lost();
        out.ended = Some(why);
    }

    /// When [`Client::expire`] wants to be called.
    #[must_use]
    pub fn deadline(&self, options: &Options) -> Option<Time> {
        if !self.up {
            return None;
        }
        match self.asked {
            Some((_, since)) => Some(since + options.answer_timeout),
            None => self.next(options).map(|(due, _)| due),
        }
    }

    /// What goes next, and when: what has been due for longest, so that nothing waits for ever.
    fn next(&self, options: &Options) -> Option<(Time, Asked)> {
        let reply = self.replies.front().map(|_| (Time::ZERO, Asked::Reply));
        let poll = self.poll_at.map(|at| (at, Asked::Poll));
        let post = self.outbox.front().map(|first| {
            let count = self.outbox.len().min(usize::from(options.batch_max.max(1)));
            let full = count == usize::from(options.batch_max.max(1));
            let company = if full {
                Duration::ZERO
            } else {
                options.batch_wait
            };
            (first.since + company, Asked::Post(count as u16))
        });
        let all = [reply, poll, post].into_iter().flatten();
        let (due, what) = all.min_by_key(|(due, _)| *due)?;
        Some((due.max(self.not_before), what))
    }

    /// Does what is due: sends a batch or a retry, or gives a silent server up.
    pub fn expire(&mut self, options: &Options, to: &Endpoint<'_>, now: Time, out: &mut Output) {
        let silent = |(_, since): (Asked, Time)| since + options.answer_timeout <= now;
        if self.asked.is_some_and(silent) {
            self.put_off(options, to, None, now);
            return self.end(Ended::Silent, out);
        }
        self.pump(options, to, now, out);
    }

    /// The next attempt waits: longer each time, and as long as the server asks for within the
    /// backoff's bound.
    fn put_off(&mut self, options: &Options, to: &Endpoint<'_>, asks: Option<Duration>, now: Time) {
        let wait = options.retry.wait(to.seed, self.attempt);
        let asked = asks.unwrap_or_default().min(options.retry.max);
        self.attempt = self.attempt.saturating_add(1);
        self.not_before = now + wait.max(asked);
    }

    fn pump(&mut self, options: &Options, to: &Endpoint<'_>, now: Time, out: &mut Output) {
        if !self.up || self.asked.is_some() {
            return;
        }
        let Some((_, what)) = self.next(options).filter(|(due, _)| *due <= now) else {
            return;
        };
        let bytes = &mut out.bytes;
        match what {
            Asked::Reply => {
                let first = self.replies.front().map_or(&[][..], |reply| reply);
                head("POST", &to.paths.replies, to, bytes);
                sized("application/json", first.len(), bytes);
                bytes.extend_from_slice(first);
            }
            Asked::Poll => {
                head("GET", &to.paths.commands, to, bytes);
                bytes.extend_from_slice(b"\r\n");
            }
            Asked::Post(count) => post(options, to, &self.outbox, count.into(), bytes),
        }
        self.asked = Some((what, now));
    }

    /// Takes bytes of the server, cut anywhere. After an end the rest is ignored.
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
        if self.partial.is_empty() {
            let used = self.answers(options, to, (bytes, false), now, out);
            if self.up && used < bytes.len() {
                self.partial = bytes[used..].to_vec();
            }
        } else {
            let mut all = std::mem::take(&mut self.partial);
            all.extend_from_slice(bytes);
            let used = self.answers(options, to, (&all, false), now, out);
            if self.up && used < all.len() {
                all.drain(..used);
                self.partial = all;
            }
        }
    }

    /// The server has closed its side.
    pub fn peer_closed(
        &mut self,
        options: &Options,
        to: &Endpoint<'_>,
        now: Time,
        out: &mut Output,
    ) {
        if !self.up {
            return;
        }
        let rest = std::mem::take(&mut self.partial);
        self.answers(options, to, (&rest, true), now, out);
        if !self.up {
            return;
        }
        if self.asked.is_none() && self.served {
            return self.end(Ended::Idle, out);
        }
        if self.asked.is_some() {
            self.put_off(options, to, None, now);
        }
        self.end(Ended::ByServer, out);
    }

    /// Takes the whole answers at the front of `bytes`; returns how many bytes these were.
    fn answers(
        &mut self,
        options: &Options,
        to: &Endpoint<'_>,
        (bytes, at_end): (&[u8], bool),
        now: Time,
        out: &mut Output,
    ) -> usize {
        let mut used = 0;
        while self.up && used < bytes.len() {
            match parse(&bytes[used..], at_end, options.response_max as usize) {
                Ok(None) => break,
                Ok(Some(response)) => {
                    used += response.len;
                    self.answer(options, to, &response, now, out);
                }
                Err(malformed) => {
                    self.put_off(options, to, None, now);
                    self.end(Ended::Malformed(malformed), out);
                }
            }
        }
        used
    }

    fn answer(
        &mut self,
        options: &Options,
        to: &Endpoint<'_>,
        response: &Response,
        now: Time,
        out: &mut Output,
    ) {
        let status = response.status;
        if (100..200).contains(&status) {
            return; // the answer proper comes after it (RFC 9110, 15.2)
        }
        let Some((asked, _)) = self.asked.take() else {
            return self.end(Ended::Malformed(Malformed::Unasked), out);
        };
        self.served = true;
        out.answered = true;
        if matches!(status, 500..|408| 429) {
            self.put_off(options, to, response.retry_after, now);
            let at = self.not_before;
            out.events.push(Event::Retries { status, at });
        } else {
            self.attempt = 0;
            self.settle(options, asked, response, now, out);
        }
        if response.closes {
            return self.end(Ended::NotKept, out);
        }
        self.pump(options, to, now, out);
    }

    fn settle(
        &mut self,
        options: &Options,
        asked: Asked,
        response: &Response,
        now: Time,
        out: &mut Output,
    ) {
        let status = response.status;
        match asked {
            Asked::Poll if status == 200 && !response.body.is_empty() => {
                // there may be more; a server that has one each time is not asked for ever
                self.in_a_row = (self.in_a_row + 1) % COMMANDS_IN_A_ROW_MAX;
                let pause = self.in_a_row == 0;
                let wait = options.poll_interval.mul_f64(f64::from(u8::from(pause)));
                self.poll_at = Some(now + wait);
                let body = response.body.as_slice().into();
                out.events.push(Event::Message(body));
            }
            Asked::Poll => {
                self.in_a_row = 0;
                self.poll_at = Some(now + options.poll_interval);
            }
            Asked::Reply => {
                self.replies.pop_front();
                if !(200..300).contains(&status) {
                    out.events.push(Event::ReplyRefused { status });
                }
            }
            Asked::Post(count) => {
                let settled = self.outbox.drain(..usize::from(count));
                out.events
                    .extend(settled.map(|Outgoing { tag, .. }| match status {
                        200..300 => Event::Delivered { tag },
                        _ => Event::Refused { tag, status },
                    }));
            }
        }
        if self.outbox.is_empty() {
            self.outbox = VecDeque::new(); // an idle session keeps no memory
        }
    }
}

fn head(method: &str, path: &Template, to: &Endpoint<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    path.append(to.id, out);
    for part in [" HTTP/1.1\r\nhost: ", to.host, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(Secret(value)) = to.authorization {
        for part in ["authorization: ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// The end of a head with a body.
fn sized(kind: &str, len: usize, out: &mut Vec<u8>) {
    let written = write!(out, "content-type: {kind}\r\ncontent-length: {len}\r\n\r\n");
    written.expect("a buffer takes all that is written");
}

fn post(
    options: &Options,
    to: &Endpoint<'_>,
    outbox: &VecDeque<Outgoing>,
    count: usize,
    out: &mut Vec<u8>,
) {
    let array = options.batch_max > 1 && options.batch == Batch::JsonArray;
    let bodies: usize = outbox
        .iter()
        .take(count)
        .map(|sample| sample.body.len())
        .sum();
    let len = bodies + if array { count + 1 } else { 0 };
    head("POST", &to.paths.samples, to, out);
    sized(options.content_type, len, out);
    for (at, sample) in outbox.iter().take(count).enumerate() {
        if array {
            out.push(if at == 0 { b'[' } else { b',' });
        }
        out.extend_from_slice(&sample.body);
    }
    if array {
        out.push(b']');
    }
}

#[cfg(test)]
mod tests;
