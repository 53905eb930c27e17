//! Devices on brokers: each with a connection and a session of its own, on its shard's sockets; or
//! all of a node by one connection, where a protocol is meant so.
//!
//! In reading order: `target` (where a broker is, from a URL), [`plan`] (what the devices of a
//! population share), `line` (one device's connection), `session` (what is spoken on it, by
//! protocol: `mqtt`, `http`, `coap`), `relay` and [`publisher`] (AMQP: one connection for all),
//! `command` (what a broker tells a device, and its reply), [`stats`] (what is counted). Protocols
//! themselves are in [`crate::session`]; nothing here reads a clock, and only the publisher waits.
//! Bounds: the session's outbox, the socket's queue.

mod coap;
mod command;
mod http;
mod line;
mod mqtt;
pub mod plan;
pub mod publisher;
pub(crate) mod relay;
mod session;
pub mod stats;
mod target;

pub(crate) use command::{Command, unreadable};
pub(crate) use line::{LINE, Line, LineOut};
pub use plan::{
    AmqpSpeech, CoapSpeech, Credentials, HttpSpeech, MqttSpeech, Plan, PlanError, Speech,
};
pub use publisher::{AmqpBroker, PublisherSpec, publisher_child};
pub use relay::Relay;
pub(crate) use session::{Inbound, ReplyTo};
pub use stats::{PublishCounts, PublishStats};
pub use target::{Target, TargetError};
