//! The ring driver: a shard's thread asleep in its own `io_uring`.
//!
//! In reading order: `setup` (makes the rings and finds out what the kernel has), `roster` (who is
//! rung how), `token` (what a completion belongs to), `sys` (its unsafe code), `net` (sockets).
//!
//! It sleeps in one system call that submits, waits and times out; nothing polls. Only the shard's
//! thread touches its ring (`SINGLE_ISSUER`), and completions are made only while it asks for them
//! (`DEFER_TASKRUN`). Sockets are in satellites, whose rings it watches. Bounds: the
//! queues' sizes; [`OVERFLOW_ROUNDS`] rounds for what did not fit into the completion queue.

mod net;
mod roster;
mod setup;
mod sys;
#[cfg(test)]
mod tests;
mod token;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, cqueue};

use self::net::RingNet;
pub(crate) use self::roster::RingBell;
use self::roster::{Descriptors, Roster, Seat};
pub use self::setup::{COMPLETIONS_MAX, ENTRIES_MAX, RingConfig, RingRefused, SqPoll};
pub(crate) use self::setup::{Kernel, RingPlan, open, plans};
use self::sys::Request;
use self::token::Token;
use super::driver::{Driver, DriverCounts};
use super::inbox::Bell;
use super::net::Engine;
use crate::clock::Time;

/// Rounds in which one look takes what the kernel kept back because the completion queue was full;
/// what is left then makes the next wait return at once.
const OVERFLOW_ROUNDS: usize = 64;

/// Pause before a call is made again that the kernel refused for want of memory.
const RETRY_PAUSE: Duration = Duration::from_micros(200);

/// A thread in its ring.
pub(crate) struct Uring {
    shard: u32,
    ring: IoUring,
    roster: Arc<Roster>,
    no_iowait: bool,
    attached: bool,
    due: Vec<u32>,
    counts: DriverCounts,
    done: Completed,
    net: RingNet,
}

/// What completions change.
#[derive(Default)]
struct Completed {
    /// Whether the event descriptor is watched.
    watched: bool,
    /// Satellites that are watched no more.
    unwatched: Vec<u32>,
    /// Watches and doorbells that failed.
    failures: u64,
    /// Completions of operations that nobody started.
    strays: u64,
}

impl Driver for Uring {
    fn bell(&self) -> Box<dyn Bell> {
        Box::new(RingBell {
            roster: Arc::clone(&self.roster),
            shard: self.shard,
        })
    }

    fn attach(&mut self) -> io::Result<()> {
        self.enable()?;
        self.watch();
        self.submit()?;
        self.sit_down(None)
    }

    fn wait(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        self.ring_due();
        if !self.done.watched {
            self.watch();
            if !self.done.watched {
                return self.submit(); // makes room; not watched, it must not sleep
            }
        }
        if !self.watch_satellites() {
            return self.submit();
        }
        if self.net.has_next() {
            return self.flush();
        }
        self.counts.enters += 1;
        let entered = sys::submit_and_wait(&mut self.ring, at_most, self.no_iowait);
        self.judge(entered)?;
        self.reap()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ring_due();
        let queue = self.ring.submission();
        let wanted = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if wanted {
            self.submit()?;
        }
        if self.ring.completion().is_empty() {
            return Ok(());
        }
        self.reap()
    }

    fn is_pending(&mut self) -> bool {
        let queue = self.ring.submission();
        let made = queue.taskrun() || queue.cq_overflow();
        drop(queue);
        made || !self.ring.completion().is_empty() || self.net.is_pending()
    }

    fn engine(&mut self) -> &mut dyn Engine {
        &mut self.net
    }

    fn has_ring(&self) -> bool {
        true
    }

    fn counts(&self) -> DriverCounts {
        let (enters, submissions) = self.net.calls();
        DriverCounts {
            enters: self.counts.enters + enters,
            submissions: self.counts.submissions + submissions,
            retries: self.counts.retries + self.done.failures,
            ..self.counts
        }
    }
}

impl Uring {
    /// As [`Driver::attach`], for a ring made late: it fills its seat once all went well, or takes
    /// the place of the former ring there.
    fn attach_with(&mut self, fds: Descriptors) -> io::Result<()> {
        self.enable()?;
        let roster = Arc::clone(&self.roster);
        let kept = roster.seat(self.shard).and_then(Seat::event);
        self.watch_event(kept.unwrap_or(fds.event.as_fd()));
        self.submit()?;
        self.sit_down(Some(fds))
    }

    /// From here on this thread alone uses the ring.
    fn enable(&self) -> io::Result<()> {
        self.ring.submitter().register_enable_rings()
    }

    /// From here on it is rung.
    fn sit_down(&mut self, fds: Option<Descriptors>) -> io::Result<()> {
        if let Some(seat) = self.roster.seat(self.shard) {
            if let Some(fds) = fds {
                seat.fill(fds)?;
            }
            seat.open();
        }
        roster::take_over(&self.roster);
        self.attached = true;
        Ok(())
    }

    /// Turns noted doorbells into ring messages, which go out with the next call; those that find
    /// the submission queue full are rung at once.
    fn ring_due(&mut self) {
        roster::take_due(&mut self.due);
        while let Some(shard) = self.due.pop() {
            self.counts.doorbells += 1;
            if !self.message(shard) {
                self.roster.ring(shard);
            }
        }
    }

    fn message(&mut self, shard: u32) -> bool {
        let Some(to) = self.roster.seat(shard).and_then(Seat::ring) else {
            return true;
        };
        let request = Request::Message {
            to,
            theirs: Token::Rung.encode(),
            ours: Token::Unheard { shard }.encode(),
        };
        sys::push(&mut self.ring, request)
    }

    /// Watches its seat's event descriptor.
    fn watch(&mut self) {
        let roster = Arc::clone(&self.roster);
        if let Some(event) = roster.seat(self.shard).and_then(Seat::event) {
            self.watch_event(event);
        }
    }

    /// It is never read: each write completes the watch once more.
    fn watch_event(&mut self, on: BorrowedFd<'_>) {
        let ours = Token::Event.encode();
        self.done.watched = sys::push(&mut self.ring, Request::Watch { on, ours });
    }

    /// Watches the satellites that are not; false if the submission queue has no room for it.
    fn watch_satellites(&mut self) -> bool {
        let ring = &mut self.ring;
        self.net.watch(|index, on| {
            let ours = Token::Satellite { index }.encode();
            sys::push(ring, Request::Watch { on, ours })
        })
    }

    fn submit(&mut self) -> io::Result<()> {
        self.counts.enters += 1;
        let submitted = self.ring.submit();
        self.judge(submitted)
    }

    /// When its sockets need their engine next though nobody asks.
    pub(crate) fn sockets_due(&self) -> Option<Time> {
        self.net.due()
    }

    /// Passes on what cannot be mended by calling again.
    fn judge(&mut self, result: io::Result<usize>) -> io::Result<()> {
        let error = match result {
            Ok(submitted) => {
                self.counts.submissions += submitted as u64;
                return Ok(());
            }
            Err(error) => error,
        };
        match error.raw_os_error() {
            // The time is over, or a signal came: not this function's to tell apart.
            Some(libc::ETIME | libc::EINTR) => Ok(()),
            // No memory for a request, or completions that did not fit must be taken first.
            Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => {
                self.counts.retries += 1;
                if self.ring.completion().is_empty() {
                    std::thread::park_timeout(RETRY_PAUSE);
                }
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Takes all completions, also those that the kernel kept back.
    fn reap(&mut self) -> io::Result<()> {
        for _ in 0..OVERFLOW_ROUNDS {
            for entry in self.ring.completion() {
                self.done.route(&entry, &self.roster);
            }
            for satellite in self.done.unwatched.drain(..) {
                self.net.unwatched(satellite);
            }
            if !self.ring.submission().cq_overflow() {
                break;
            }
            self.submit()?;
        }
        Ok(())
    }
}

impl Completed {
    /// Takes one completion to whom it belongs.
    fn route(&mut self, entry: &cqueue::Entry, roster: &Roster) {
        match Token::decode(entry.user_data()) {
            // It has woken us; that is all it is for.
            Some(Token::Rung) => {}
            Some(Token::Event) => {
                if !cqueue::more(entry.flags()) {
                    self.watched = false;
                    // A watch that failed is set up again, but not in a tight loop.
                    if entry.result() < 0 {
                        self.failures += 1;
                        std::thread::park_timeout(RETRY_PAUSE);
                    }
                }
            }
            Some(Token::Unheard { shard }) => {
                self.failures += 1;
                roster.ring_event(shard);
            }
            Some(Token::Satellite { index }) => {
                if !cqueue::more(entry.flags()) {
                    self.unwatched.push(index);
                    self.failures += u64::from(entry.result() < 0);
                }
            }
            // Operations are on satellites.
            Some(Token::Op { .. }) | None => self.strays += 1,
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.attached {
            if let Some(seat) = self.roster.seat(self.shard) {
                seat.close();
                // If not now, then when the last handle is dropped.
                let _ = seat.let_go();
            }
            roster::give_back();
            // Doorbells that a failed call left behind; a ring too many wakes for nothing, once.
            if !self.ring.submission().is_empty() {
                self.roster.ring_all();
            }
        }
    }
}
