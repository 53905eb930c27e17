//! Devices on brokers: each with a connection and a session of its own, on its shard's sockets.
//!
//! In reading order: `target` (where a broker is, from a URL), [`plan`] (what the devices of a
//! population share), `line` (one device's connection and session), `command` (what a broker tells
//! a device, and its reply), [`stats`] (what is counted). Protocols are in [`crate::session`];
//! nothing here reads a clock or waits. Bounds: the session's outbox, the socket's queue.

mod command;
mod line;
pub mod plan;
pub mod stats;
mod target;

pub(crate) use command::{Command, unreadable};
pub(crate) use line::{LINE, Line, LineOut};
pub use plan::{Credentials, Plan, PlanError};
pub use stats::{PublishCounts, PublishStats};
pub use target::{Target, TargetError};
