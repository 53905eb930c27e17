//! The 39-byte reading, three QUIC tiers, certificates, and the actors that carry them between
//! devices and their twin.

pub mod batch;
pub mod certs;
pub mod codec;
pub mod command;
pub mod connection;
pub mod device;
pub mod endpoint;
pub mod frames;
pub mod ingest;
pub mod link;
pub mod listener;
pub mod reading;
pub mod registry;
pub mod session;
pub mod stats;
pub mod tiers;
pub mod transport;

pub use batch::*;
pub use certs::*;
pub use command::*;
pub use device::*;
pub use endpoint::{BindError, Listening, Protocol};
pub use ingest::*;
pub use link::*;
pub use reading::*;
pub use registry::Registry;
pub use session::*;
pub use stats::*;
pub use transport::*;
