//! The 39-byte reading, three QUIC tiers, certificates, and the actors that carry them between
//! devices and their twin.
//!
//! # Map
//!
//! What travels: [`reading`] (the 39 bytes), [`device`] (names, ranges, sensors), [`command`] (a
//! setpoint and its one outcome), [`frames`] and [`codec`] (what `actorsim/1` puts on streams).
//!
//! What is counted and remembered: [`stats`], [`batch`] (pooled, accounting for themselves),
//! [`session`] (the ledger of T2), [`registry`] (device to connection).
//!
//! The listening side: [`transport`] (assembly), [`listener`], [`limits`] (who has room),
//! [`connection`], [`tiers`], [`ingest`] (what the world is handed). The dialling side: [`link`].
//! Both: [`endpoint`] (QUIC settings), [`network`] (sockets, or a simulated network), [`certs`]
//! (who may speak), [`trust`] (until when).
//!
//! # Invariants
//!
//! - It knows no world and no fleet: the one is [`Inlets`], the other a [`Downlink`].
//! - A T1 reading is counted once on its way: sent or dropped at the sender, received or lost on
//!   the network, applied or dropped here.
//! - A T2 event is acknowledged only after the world's journal says that it is durable.
//! - A T3 command has exactly one outcome.
//! - Ports, sessions, outboxes and registrations outlive the actors that use them.
//! - Nothing that comes from a peer panics, allocates without bound, or ends more than its stream
//!   or its connection.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use actorsim_actors::Time;
//! use actorsim_transport::{Batch, BatchPool, Reading, SensorType, Tier, TransportStats};
//! use actorsim_transport::{decode_all, device_uuid};
//!
//! let reading = Reading {
//!     device: device_uuid("pump-0001"),
//!     sensor: 0,
//!     kind: SensorType::Temperature,
//!     value: 21.5,
//!     at_us: 1_700_000_000_000_000,
//!     sequence: 1,
//! };
//! let stats = TransportStats::new();
//! let pool = BatchPool::new(Arc::clone(&stats));
//! let mut readings = pool.take();
//! decode_all(&reading.encode(), &mut readings)?;
//! assert_eq!(readings, [reading]);
//! Batch::new(Tier::T1, readings, Time::ZERO, &pool).applied();
//! assert_eq!(stats.t1.applied.get(), 1);
//! # Ok::<(), actorsim_transport::DecodeError>(())
//! ```

pub mod batch;
pub mod certs;
pub mod codec;
pub mod command;
pub mod connection;
pub mod device;
pub mod endpoint;
pub mod frames;
pub mod ingest;
pub mod limits;
pub mod link;
pub mod listener;
mod meter;
pub mod network;
pub mod reading;
pub mod registry;
pub mod session;
pub mod stats;
pub mod tiers;
pub mod transport;
pub mod trust;

pub use batch::*;
pub use certs::*;
pub use command::*;
pub use device::*;
pub use endpoint::{BindError, Listening, Protocol};
pub use ingest::*;
pub use limits::Limits;
pub use link::*;
pub use network::{Line, Network, SimNet, Wires};
pub use reading::*;
pub use registry::Registry;
pub use session::*;
pub use stats::*;
pub use tiers::T2Message;
pub use transport::*;
