//! CoAP from a device's side, without I/O: samples go out as PUT or POST, commands come as
//! notifications of an observed resource or as a PUT to the device.
//!
//! In reading order: [`packet`] (one message as bytes), `output` (what comes out of a session),
//! here what a population shares, and [`client`] (the session of one device). Sources: RFC 7252
//! (exchanges), RFC 7641 (observing), RFC 7959 (bodies in blocks), RFC 8516 (too many requests).
//!
//! What holds:
//! - one confirmable exchange is in flight at a time (NSTART is 1), so order is kept;
//! - a confirmable sample stays in the outbox until it is answered, over any number of sockets;
//! - nothing that a peer sends panics, or makes a session hold more than [`BODY_MAX`] bytes of it.
//!
//! Bounds: [`Options`].

use std::time::Duration;

use super::backoff::Backoff;
use super::template::Template;

pub mod client;
mod exchange;
mod output;
pub mod packet;

pub use client::Client;
pub use output::{Ended, Event, Output};

/// Bytes of a body that comes in blocks.
pub const BODY_MAX: usize = 8_192;
/// Replies that wait in a device.
pub const REPLIES_MAX: usize = 4;
/// Least time between two registrations as an observer.
pub const REFRESH_MIN: Duration = Duration::from_secs(60);

/// How samples are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// They replace what the resource had: a repetition does no harm.
    Put,
    /// They are added to it.
    Post,
}

/// Shared by the sessions of one population. Times have the names and defaults of RFC 7252, 4.8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Whether samples are acknowledged.
    pub confirmable: bool,
    /// How they are sent.
    pub method: Method,
    /// Number of their format, by IANA's table.
    pub content_format: u16,
    /// Whether the device observes its commands.
    pub observe: bool,
    /// Least wait for an acknowledgement.
    pub ack_timeout: Duration,
    /// Times a message is sent again.
    pub retransmit_max: u8,
    /// Longest wait for the answer to what was acknowledged without one.
    pub answer_timeout: Duration,
    /// Bytes of a block are 2 to the power of this plus 4; longer bodies go in several.
    pub block_exponent: u8,
    /// Samples that wait, the one in flight included.
    pub outbox_max: u16,
    /// Waits after a server that failed.
    pub retry: Backoff,
}

impl Default for Options {
    /// Confirmable PUTs of JSON, commands observed, 2 s and 4 repetitions, blocks of 1,024, 64
    /// waiting.
    fn default() -> Self {
        Self {
            confirmable: true,
            method: Method::Put,
            content_format: 50,
            observe: true,
            ack_timeout: Duration::from_secs(2),
            retransmit_max: 4,
            answer_timeout: Duration::from_secs(30),
            block_exponent: 6,
            outbox_max: 64,
            retry: Backoff::default(),
        }
    }
}

/// Paths of a device's resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Samples go there.
    pub samples: Template,
    /// Commands are observed there, and are put there at the device itself.
    pub commands: Template,
    /// Replies go there.
    pub replies: Template,
}

/// Who a device is, and what is where at its server.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// What is where.
    pub paths: &'a Paths,
    /// Device id.
    pub id: &'a str,
    /// Seed of the device: its waits, numbers and tokens differ from its neighbours'.
    pub seed: u64,
}

#[cfg(test)]
mod tests;
