//! MQTT 3.1.1 and 5 from the client's side, without I/O.
//!
//! In reading order: [`options`] (what a population shares), [`client`] (the session of one
//! device), [`output`] (what comes out of it), `outbox` (messages on their way), and below them the
//! packets: [`packet`], [`property`], [`read`], `write`.
//!
//! What holds:
//! - messages of a session leave in the order in which they were given, and again in that order
//!   after a reconnect;
//! - a message of QoS 1 or 2 stays in the outbox until the broker has acknowledged it, over any
//!   number of connections;
//! - nothing that a peer sends panics, allocates more than `packet_max`, or is believed twice.
//!
//! Bounds: `outbox_max` messages, `in_flight_max` unacknowledged, `packet_max` bytes a packet.

pub mod client;
pub mod options;
mod outbox;
pub mod output;
pub mod packet;
pub mod property;
pub mod read;
mod write;

pub use client::Client;
pub use options::{Login, Options};
pub use output::{Ended, Event, Output, PublishError};
pub use packet::{Packet, Qos, Version, Will};

#[cfg(test)]
mod tests;
