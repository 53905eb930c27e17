//! Remote control: HTTP with REST and SSE, and gRPC `simulator.v1`, in front of the one command
//! table.
//!
//! Reading order: [`serve`] (connections, bounded; TLS beyond loopback), [`peer`] (who is at the
//! other end), [`token`] (what an action takes), [`access`] (who may do what: pure), then the two
//! faces. They decide nothing about devices: what they are asked for goes through
//! [`crate::attach::control`], as at the prompt.
//!
//! Bound: each face has its own connections, streams and bodies, named where they are.

pub mod access;
pub mod desk;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod http;
pub mod peer;
pub mod serve;
pub mod stream;
pub mod tls;
pub mod token;

/// Number and name of a state in `simulator.v1`, by the census's word for it.
#[must_use]
pub fn state(census: &str) -> (i32, &'static str) {
    match census {
        "starting" | "idle" => (1, "DEVICE_STATE_IDLE"),
        "running" => (2, "DEVICE_STATE_RUNNING"),
        "restarting" | "quarantined" => (3, "DEVICE_STATE_ERROR"),
        "stopped" => (4, "DEVICE_STATE_STOPPED"),
        _ => (0, "DEVICE_STATE_UNSPECIFIED"),
    }
}
