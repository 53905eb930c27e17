//! The scan's wakes as something to await: its eventfd; in a simulation, where the scan runs on the
//! same thread, a notification. It only listens.
//!
//! Bound: one descriptor of its own per listener; a wake is a coalesced count, never a queue.

#![expect(
    unsafe_code,
    reason = "tokio's registration of a descriptor is an unsafe promise"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::scan::clock::ScanClock;
use crate::shared::Shared;

/// A listener; the telling side stays with the scan.
#[derive(Debug)]
pub(super) enum Wake {
    /// Of a scan on a thread of its own.
    Eventfd(AsyncFd<OwnedFd>),
    /// Of a scan on virtual time.
    Told(Arc<Notify>),
}

impl Wake {
    /// Listens to the wakes of the lanes' scan.
    pub(super) fn listen(shared: &Shared) -> io::Result<Self> {
        match shared.scan_clock {
            ScanClock::Host => Self::eventfd(&shared.lanes.wake),
            ScanClock::Virtual(_) => Ok(Self::Told(Arc::clone(&shared.lanes.told))),
        }
    }

    /// Listens on a duplicate of `eventfd`, which must be non-blocking.
    fn eventfd(eventfd: &OwnedFd) -> io::Result<Self> {
        let own = eventfd.try_clone()?;
        // SAFETY: `own` is an `OwnedFd` that only this `AsyncFd` holds: it names the same open
        // descriptor until it is dropped together with its registration, and nobody takes it out.
        let registered = unsafe { AsyncFd::register(own) };
        Ok(Self::Eventfd(registered?))
    }

    /// Waits for a write since the last call.
    pub(super) async fn woken(&self) -> io::Result<()> {
        let fd = match self {
            Self::Eventfd(fd) => fd,
            Self::Told(told) => {
                told.notified().await;
                return Ok(());
            }
        };
        let mut count = [0; 8];
        loop {
            let mut ready = fd.readable().await?;
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut count)?)) {
                Ok(read) => return read.map(|_| ()),
                // nothing written: the readiness is cleared, wait for the next
                Err(_would_block) => {}
            }
        }
    }
}
