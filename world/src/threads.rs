//! Threads that the twin starts for itself, each on every core of the process.
//!
//! They are started by whatever worker has their actor, and a thread has the cores of its starter:
//! that of the network is kept off the scan's. Bound: none of its own.

use std::io;
use std::thread::{Builder, JoinHandle};

use actorsim_actors::shard::keep_on;

/// Starts a thread that may run on `cores`; on those of its starter, if the host grants no others.
///
/// # Errors
/// The host has no thread left.
pub(crate) fn start(
    builder: Builder,
    cores: &[usize],
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let cores = cores.to_vec();
    builder.spawn(move || {
        drop(keep_on(&cores, &cores));
        work();
    })
}
