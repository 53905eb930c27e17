//! The portable driver: a parked thread.
//!
//! Works wherever threads do. It waits by `park_timeout` until the next timer, so its precision is
//! the host's timer slack (50 us by default on Linux), well below a wheel tick. With its first
//! socket it waits for sockets, too, and its bell becomes an event among theirs; what that takes is
//! asked for again after a pause if the host lacks it. Bound: one thread.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

use super::driver::Driver;
use super::inbox::Bell;
use super::net::{Engine, Gate, PollNet, ShardNet, Told};
use crate::clock::Time;

/// A thread that parks.
pub(crate) struct Portable {
    seat: Wake,
    net: PollNet,
    /// Closed for a while after the host had nothing to wait for sockets with.
    gate: Gate,
}

/// Where the thread is woken, and each that takes its place.
#[derive(Default)]
enum Seat {
    /// Before a thread is attached, which looks before it waits.
    #[default]
    Empty,
    Parked(Thread),
    /// It waits for sockets, too.
    Polling(OwnedFd),
}

/// Wakes it.
#[derive(Clone)]
pub(crate) struct Wake(Arc<Mutex<Seat>>);

impl Bell for Wake {
    fn ring(&self) {
        // It changes while its thread is awake: who rings as before rings for a sleep that is over.
        match &*self.0.lock() {
            Seat::Empty => {}
            Seat::Parked(thread) => thread.unpark(),
            // The one other error is a counter at its end after 2^64 rings.
            Seat::Polling(event) => {
                let one = 1u64.to_ne_bytes();
                while rustix::io::write(event, &one) == Err(rustix::io::Errno::INTR) {}
            }
        }
    }
}

impl Portable {
    pub(crate) fn new() -> Self {
        Self::at(&Wake(Arc::default()))
    }

    /// One that takes the place of another, and is woken as that was.
    pub(crate) fn at(wake: &Wake) -> Self {
        Self {
            seat: wake.clone(),
            net: PollNet::default(),
            gate: Gate::default(),
        }
    }

    pub(crate) fn wake(&self) -> Wake {
        self.seat.clone()
    }

    /// Whether it waits for sockets, too.
    pub(crate) const fn has_sockets(&self) -> bool {
        self.net.is_used()
    }

    /// Whether the next socket makes it wait for sockets, too.
    pub(crate) fn would_begin(&self, now: Time) -> bool {
        !self.has_sockets() && !self.gate.is_closed(now)
    }

    /// Waits for sockets, too, from here on. The thread is awake.
    fn begin(&mut self) -> rustix::io::Result<()> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        self.net.begin(&event)?;
        *self.seat.0.lock() = Seat::Polling(event);
        Ok(())
    }
}

impl Driver for Portable {
    fn bell(&self) -> Box<dyn Bell> {
        Box::new(self.wake())
    }

    fn attach(&mut self) -> io::Result<()> {
        *self.seat.0.lock() = Seat::Parked(thread::current());
        Ok(())
    }

    fn wait(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        if self.net.is_used() {
            return self.net.look(at_most);
        }
        match at_most {
            Some(time) => thread::park_timeout(time),
            None => thread::park(),
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.net.look(Some(Duration::ZERO))
    }

    fn is_pending(&mut self) -> bool {
        self.net.has_next()
    }

    fn engine(&mut self) -> &mut dyn Engine {
        self
    }
}

/// The engine of its sockets, which begins with the first that is asked for.
impl Engine for Portable {
    fn obey(&mut self, net: &mut ShardNet, now: Time) -> io::Result<()> {
        if net.has_asks()
            && self.would_begin(now)
            && let Err(error) = self.begin()
        {
            self.gate.fail(now);
            self.net.lacks(error);
        }
        self.net.obey(net, now)
    }

    fn next<'e>(&'e mut self, net: &mut ShardNet, now: Time) -> Option<Told<'e>> {
        self.net.next(net, now)
    }

    fn has_next(&mut self) -> bool {
        self.net.has_next()
    }

    fn due(&self) -> Option<Time> {
        self.net.due()
    }
}
