//! The portable driver: a parked thread.
//!
//! Works wherever threads do. It waits by `park_timeout` until the next timer, so its precision is
//! the host's timer slack (50 us by default on Linux), well below a wheel tick. It has no sockets.
//! Bound: one thread.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use super::driver::Driver;
use super::inbox::Bell;

/// A thread that parks.
pub(crate) struct Portable(Arc<OnceLock<Thread>>);

struct Unpark(Arc<OnceLock<Thread>>);

impl Bell for Unpark {
    fn ring(&self) {
        // Before the thread is attached it has not looked yet, and it looks before it waits.
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

impl Portable {
    pub(crate) fn new() -> Self {
        Self(Arc::new(OnceLock::new()))
    }
}

impl Driver for Portable {
    fn bell(&self) -> Box<dyn Bell> {
        Box::new(Unpark(Arc::clone(&self.0)))
    }

    fn attach(&mut self) -> io::Result<()> {
        let _ = self.0.set(thread::current());
        Ok(())
    }

    fn wait(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        match at_most {
            Some(time) => thread::park_timeout(time),
            None => thread::park(),
        }
        Ok(())
    }
}
