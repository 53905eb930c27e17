//! What comes out of a session: bytes for the peer, and events for its owner.
//!
//! One [`Output`] serves any number of sessions in turn: the owner drains it after each call.
//! Bound: one call's worth.

use super::packet::{Malformed, Qos, TooLong};

/// Collected by a session's calls.
#[derive(Debug, Default)]
pub struct Output {
    /// For the peer, to be sent in order.
    pub bytes: Vec<u8>,
    /// For the owner, in order.
    pub events: Vec<Event>,
    /// The connection is of no more use: send what there is, then close it.
    pub ended: Option<Ended>,
    /// Acknowledgements that fit no message, so far; counted only.
    pub strays: u64,
}

/// What has happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The broker has accepted the session.
    Up {
        /// It has kept what was before.
        resumed: bool,
    },
    /// A message has reached the broker: acknowledged, or handed over if it was of QoS 0.
    Delivered {
        /// The owner's number for it.
        tag: u64,
    },
    /// A message was refused by the broker; it is gone.
    Refused {
        /// The owner's number for it.
        tag: u64,
        /// MQTT 5 reason code.
        code: u8,
    },
    /// A message of QoS 2 was half-way when the broker lost the session: it may have been
    /// published or not, and is not sent again.
    Uncertain {
        /// The owner's number for it.
        tag: u64,
    },
    /// A subscription was answered: the granted QoS, or `None` if it was refused.
    Subscribed {
        /// Highest QoS at which messages come.
        granted: Option<Qos>,
    },
    /// A message from the broker; acknowledged already.
    Message(Box<Inbound>),
}

/// A message from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Where it was published.
    pub topic: Box<str>,
    /// What.
    pub payload: Box<[u8]>,
    /// How surely.
    pub qos: Qos,
    /// Kept by the broker from earlier.
    pub retain: bool,
    /// MQTT 5: where its sender wants the reply.
    pub response_topic: Option<Box<str>>,
    /// MQTT 5: what the reply repeats.
    pub correlation: Option<Box<[u8]>>,
}

/// Why a connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Closed by its owner, with a goodbye.
    #[error("closed")]
    Closed,
    /// The broker does not want this client; see its version's table of codes.
    #[error("the broker refused the session with code {code}{}", reason(.why))]
    Refused {
        /// Return code (3.1.1) or reason code (5).
        code: u8,
        /// In the broker's words, if it has any.
        why: Option<Box<str>>,
    },
    /// The broker has said goodbye.
    #[error("the broker closed the session with reason {code}")]
    ByBroker {
        /// MQTT 5 reason code.
        code: u8,
    },
    /// No answer in time.
    #[error("no {0} from the broker in time")]
    Silent(&'static str),
    /// Bytes that are no packet.
    #[error("not MQTT: {0}")]
    Malformed(#[from] Malformed),
    /// A packet that may not come now.
    #[error("the broker broke the protocol: {0}")]
    Protocol(&'static str),
    /// The client's own opening does not fit a packet.
    #[error("cannot open the session: {0}")]
    Login(#[from] TooLong),
}

fn reason(why: &Option<Box<str>>) -> String {
    why.as_ref()
        .map(|why| format!(": {why}"))
        .unwrap_or_default()
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The outbox is full.
    #[error("the outbox is full")]
    Full,
    /// Larger than the broker takes, or than MQTT can express.
    #[error("a packet of {bytes} bytes is more than the {most} that the broker takes")]
    TooLarge {
        /// Bytes of the packet.
        bytes: usize,
        /// Bytes allowed.
        most: usize,
    },
}
