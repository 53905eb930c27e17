//! The transport as its peers and the world see it: real QUIC over loopback, real supervision.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod bare_client;
mod commands;
mod hostile;
mod kills;
mod lines;
mod refusals;
mod reincarnation;
mod revocation;
mod rig;
mod telemetry;
mod wire_doc;
