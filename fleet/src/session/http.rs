//! HTTP/1.1 from the client's side, without I/O: samples go out as POST requests over one kept
//! connection, several in one body where that is asked for.
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
}

impl Default for Options {
    /// One JSON sample a request, 20 s patience, 64 waiting, answers up to 64 KiB.
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
        }
    }
}

/// Where the requests of one device go.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// `Host` header: name and port.
    pub host: &'a str,
    /// Path with query, from its `/` on.
    pub path: &'a str,
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
    /// The first so many samples of the outbox.
    Post(u16),
    /// Whether there is a command.
    Poll,
}

/// The client side of one HTTP connection.
#[derive(Debug, Default)]
pub struct Client {
    up: bool,
    outbox: VecDeque<Outgoing>,
    asked: Option<(Asked, Time)>,
    partial: Vec<u8>,
    polls: bool,
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
        self.pump(options, to, now, out);
    }

    /// The connection is gone. What was in flight is sent again on the next one.
    pub fn lost(&mut self) {
        self.up = false;
        self.partial = Vec::new();
        if let Some((Asked::Poll, _)) = self.asked.take() {
            self.polls = true;
        }
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

    /// Asks for a command as soon as the connection is free; answered by [`Event::Message`] if
    /// there is one.
    pub fn poll(&mut self, options: &Options, to: &Endpoint<'_>, now: Time, out: &mut Output) {
        self.polls = true;
        self.pump(options, to, now, out);
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
        if let Some((_, since)) = self.asked {
            return Some(since + options.answer_timeout);
        }
        let first = self.outbox.front()?;
        let full = self.outbox.len() >= usize::from(options.batch_max);
        let company = if full {
            Time::ZERO
        } else {
            first.since + options.batch_wait
        };
        Some(company.max(self.not_before))
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
        if self.deadline(options).is_some_and(|due| due <= now) {
            let count = self.outbox.len().min(usize::from(options.batch_max.max(1)));
            post(options, to, &self.outbox, count, &mut out.bytes);
            self.asked = Some((Asked::Post(count as u16), now));
        } else if std::mem::take(&mut self.polls) {
            head("GET", to, &mut out.bytes);
            out.bytes.extend_from_slice(b"\r\n");
            self.asked = Some((Asked::Poll, now));
        }
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
        if self.up {
            self.partial.extend_from_slice(bytes);
            self.answers(options, to, false, now, out);
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
        self.answers(options, to, true, now, out);
        if self.up {
            if self.asked.is_some() {
                self.put_off(options, to, None, now);
            }
            self.end(Ended::ByServer, out);
        }
    }

    fn answers(
        &mut self,
        options: &Options,
        to: &Endpoint<'_>,
        at_end: bool,
        now: Time,
        out: &mut Output,
    ) {
        while self.up && !self.partial.is_empty() {
            let bytes = std::mem::take(&mut self.partial);
            match parse(&bytes, at_end, options.response_max as usize) {
                Ok(None) => {
                    self.partial = bytes;
                    return;
                }
                Ok(Some(response)) => {
                    let used = response.len;
                    self.answer(options, to, &response, now, out);
                    if self.up {
                        self.partial = bytes[used..].to_vec();
                    }
                }
                Err(malformed) => {
                    self.put_off(options, to, None, now);
                    self.end(Ended::Malformed(malformed), out);
                }
            }
        }
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
        if matches!(status, 500..|408| 429) {
            self.put_off(options, to, response.retry_after, now);
            let at = self.not_before;
            out.events.push(Event::Retries { status, at });
            self.polls |= asked == Asked::Poll;
        } else {
            self.attempt = 0;
            self.settle(asked, response, out);
        }
        if response.closes {
            return self.end(Ended::NotKept, out);
        }
        self.pump(options, to, now, out);
    }

    fn settle(&mut self, asked: Asked, response: &Response, out: &mut Output) {
        let status = response.status;
        match asked {
            Asked::Poll if status == 200 && !response.body.is_empty() => {
                out.events
                    .push(Event::Message(response.body.as_slice().into()));
            }
            Asked::Poll => {}
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

fn head(method: &str, to: &Endpoint<'_>, out: &mut Vec<u8>) {
    for part in [method, " ", to.path, " HTTP/1.1\r\nhost: ", to.host, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(Secret(value)) = to.authorization {
        for part in ["authorization: ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
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
    head("POST", to, out);
    let kind = options.content_type;
    let written = write!(out, "content-type: {kind}\r\ncontent-length: {len}\r\n\r\n");
    written.expect("a buffer takes all that is written");
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
