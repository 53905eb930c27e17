//! The scan's eventfd as something to await. It only listens.
//!
//! Bound: one descriptor of its own per listener; a wake is a coalesced count, never a queue.

#![expect(
    unsafe_code,
    reason = "tokio's registration of a descriptor is an unsafe promise"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// A listener on the eventfd; the write side stays with the scan.
#[derive(Debug)]
pub(super) struct Wake(AsyncFd<OwnedFd>);

impl Wake {
    /// Listens on a duplicate of `eventfd`, which must be non-blocking.
    pub(super) fn listen(eventfd: &OwnedFd) -> io::Result<Self> {
        let own = eventfd.try_clone()?;
        // SAFETY: `own` is an `OwnedFd` that only this `AsyncFd` holds: it names the same open
        // descriptor until it is dropped together with its registration, and nobody takes it out.
        let registered = unsafe { AsyncFd::register(own) };
        Ok(Self(registered?))
    }

    /// Waits for a write since the last call.
    pub(super) async fn woken(&self) -> io::Result<()> {
        let mut count = [0; 8];
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut count)?)) {
                Ok(read) => return read.map(|_| ()),
                // nothing written: the readiness is cleared, wait for the next
                Err(_would_block) => {}
            }
        }
    }
}
