//! The other end of devices' sessions: hears what they say, and answers as a broker or server does
//! that takes everything and keeps nothing.
//!
//! In reading order: `mqtt`, `http`, `coap`, `amqp` (what the bytes of each protocol say), and
//! [`host`] (all of them as cells, to which simulated devices connect). A recording is heard in the
//! same way. It delivers nothing to anybody and has no commands for devices. Bounds:
//! [`MESSAGE_MAX`], [`WAITING_MAX`].

mod amqp;
mod coap;
pub mod host;
mod http;
mod mqtt;

use crate::profile::Protocol;

/// Bytes of one message.
pub const MESSAGE_MAX: usize = 16 << 20;
/// Bytes that wait for the rest of their message.
pub const WAITING_MAX: usize = 2 * MESSAGE_MAX;

/// A message of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Where it goes: a topic, a path from its `/` on, a routing key.
    pub at: &'a str,
    /// What it carries.
    pub payload: &'a [u8],
    /// To be kept by its broker.
    pub retain: bool,
}

/// Bytes that a device of this protocol does not send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {protocol}: {why}")]
pub struct Garbled {
    protocol: &'static str,
    why: String,
}

/// Who hears messages, one after another.
pub type Hearer<'a> = &'a mut dyn FnMut(Message<'_>);

/// The other end of one device's session.
#[derive(Debug)]
pub struct Peer(Kind);

#[derive(Debug)]
enum Kind {
    Mqtt(mqtt::Peer),
    Http(http::Peer),
    Coap(coap::Peer),
    Amqp(amqp::Peer),
}

impl Peer {
    /// One that speaks a protocol; `None` if devices have no sessions in it.
    #[must_use]
    pub fn of(protocol: Protocol) -> Option<Self> {
        Some(Self(match protocol {
            Protocol::Mqtt => Kind::Mqtt(mqtt::Peer::default()),
            Protocol::Http => Kind::Http(http::Peer::default()),
            Protocol::Coap => Kind::Coap(coap::Peer::default()),
            Protocol::Amqp => Kind::Amqp(amqp::Peer::default()),
            Protocol::Quic | Protocol::Console => return None,
        }))
    }

    /// Takes what a device has written, of CoAP one datagram; tells the messages in it, and appends
    /// the answer.
    ///
    /// # Errors
    /// [`Garbled`]; the connection is to be closed then.
    pub fn hear(
        &mut self,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        hearer: Hearer<'_>,
    ) -> Result<(), Garbled> {
        match &mut self.0 {
            Kind::Mqtt(peer) => peer.hear(bytes, answer, hearer),
            Kind::Http(peer) => peer.hear(bytes, answer, hearer),
            Kind::Coap(peer) => peer.hear(bytes, answer, hearer),
            Kind::Amqp(peer) => peer.hear(bytes, hearer),
        }
    }
}

fn garbled(protocol: Protocol, why: impl std::fmt::Display) -> Garbled {
    Garbled {
        protocol: protocol.name(),
        why: why.to_string(),
    }
}

/// Gives the front of a stream away, part by part, as long as there is a whole one (`take` says how
/// many bytes it has); what is left waits.
fn parts(
    waiting: &mut Vec<u8>,
    bytes: &[u8],
    mut take: impl FnMut(&[u8]) -> Result<Option<usize>, Garbled>,
) -> Result<(), Garbled> {
    let mut held = std::mem::take(waiting);
    let all = match held.is_empty() {
        true => bytes,
        false => {
            held.extend_from_slice(bytes);
            &held
        }
    };
    let mut rest = all;
    while !rest.is_empty() {
        match take(rest)? {
            Some(whole) => rest = &rest[whole..],
            None => break,
        }
    }
    waiting.extend_from_slice(rest);
    Ok(())
}

#[cfg(test)]
mod tests;
