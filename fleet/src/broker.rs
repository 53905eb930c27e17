//! Devices on brokers: each with a connection and a session of its own, on its shard's sockets; or
//! many on connections that they share, where that is wanted or a protocol is meant so.
//!
//! In reading order: `target` (where a broker is, from a URL), [`plan`] (what the devices of a
//! population share), `line` (one device's connection), `session` (what is spoken on it, by
//! protocol: `mqtt`, `http`, `coap`), `relay` (what devices hand to those who publish for them),
//! [`publisher`] (AMQP: one connection for all), `pool` and [`gateway`] (MQTT: a few for all),
//! `command` (what a broker tells a device, and its reply), [`stats`] (what is counted). Protocols
//! themselves are in [`crate::session`]; nothing here reads a clock but who waits: publisher and
//! gateways. Bounds: the session's outbox, the socket's queue.

mod coap;
mod command;
pub mod gateway;
mod http;
mod line;
mod mqtt;
pub mod plan;
mod pool;
pub mod publisher;
pub(crate) mod relay;
mod session;
pub mod stats;
mod target;

pub(crate) use command::{Command, unreadable};
pub use gateway::{GatewaySpec, gateway_children};
pub(crate) use line::{LINE, Line, LineOut};
pub use plan::{
    CoapSpeech, Credentials, HttpSpeech, MqttSpeech, Plan, PlanError, PooledSpeech, RelaySpeech,
    Speech,
};
pub(crate) use pool::{Crew, Place};
pub use pool::{POOL_SIZE_MAX, Pool};
pub use publisher::{AmqpBroker, PublisherSpec, publisher_child};
pub use relay::{KeyTooLong, Relay, Relays};
pub(crate) use session::{Inbound, ReplyTo};
pub use stats::{PublishCounts, PublishStats};
pub use target::{Target, TargetError};
