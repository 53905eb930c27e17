//! The 39-byte reading, three QUIC tiers, certificates, and the actors that carry them between
//! devices and their twin.

pub mod batch;
pub mod certs;
pub mod codec;
pub mod command;
pub mod device;
pub mod frames;
pub mod ingest;
pub mod link;
pub mod reading;
pub mod session;
pub mod stats;

pub use batch::*;
pub use certs::*;
pub use command::*;
pub use device::*;
pub use ingest::*;
pub use link::*;
pub use reading::*;
pub use session::*;
pub use stats::*;
