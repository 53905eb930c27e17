//! The rings of one host by shard number, and how each is rung from wherever the ringer runs.
//!
//! A shard's own thread notes the doorbell and its driver rings it with the next hand-over, so that
//! ringing and going to sleep are one system call. Any other thread sends a ring message without a
//! ring where the kernel has that, else it writes to the shard's event descriptor, which is also
//! where a ring message that failed ends up: a doorbell is never lost. The descriptors live as long
//! as anybody can ring. Bound: [`DUE_MAX`] doorbells noted between two hand-overs.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::sys;
use super::token::Token;
use crate::shard::inbox::Bell;

/// Doorbells that wait for the end of a step; more are rung at once.
const DUE_MAX: usize = 64;

thread_local! {
    /// The doorbells this thread's ring is to ring; none on threads that have no ring.
    static OUTGOING: RefCell<Option<Outgoing>> = const { RefCell::new(None) };
}

struct Outgoing {
    roster: Arc<Roster>,
    due: Vec<u32>,
}

/// What a shard is rung by.
pub(super) struct Descriptors {
    pub(super) ring: OwnedFd,
    pub(super) event: OwnedFd,
}

/// Where one shard is rung.
#[derive(Default)]
pub(super) struct Seat {
    /// From when there is a ring.
    fds: OnceLock<Descriptors>,
    /// The shard sits here: its ring is enabled and its event descriptor watched.
    open: AtomicBool,
}

impl Seat {
    /// The descriptors of its first ring; or a further ring, in the place of the one before: who is
    /// about to ring that rings this one.
    pub(super) fn fill(&self, fds: Descriptors) -> io::Result<()> {
        match self.fds.set(fds) {
            Ok(()) => Ok(()),
            Err(fds) => self.take_place(fds.ring.as_fd()),
        }
    }

    /// A further ring, in the place of the one before.
    pub(super) fn take_place(&self, by: BorrowedFd<'_>) -> io::Result<()> {
        self.ring().map_or(Ok(()), |ring| sys::replace(ring, by))
    }

    /// The ring is about to end, and the kernel with it: what stands in its place is no ring, which
    /// whoever still rings is told.
    pub(super) fn let_go(&self) -> io::Result<()> {
        self.event().map_or(Ok(()), |event| self.take_place(event))
    }

    pub(super) fn ring(&self) -> Option<BorrowedFd<'_>> {
        self.fds.get().map(|fds| fds.ring.as_fd())
    }

    pub(super) fn event(&self) -> Option<BorrowedFd<'_>> {
        self.fds.get().map(|fds| fds.event.as_fd())
    }

    /// From here on it is rung. The shard has not looked yet, and it looks before it waits.
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    pub(super) fn close(&self) {
        self.open.store(false, Ordering::Release);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }
}

/// The rings of one host.
pub(super) struct Roster {
    seats: Box<[Seat]>,
    /// Whether the kernel takes ring messages from threads without a ring.
    sends: bool,
    events_written: AtomicU64,
}

impl Roster {
    pub(super) fn new(seats: Vec<Seat>, sends: bool) -> Arc<Self> {
        Arc::new(Self {
            seats: seats.into(),
            sends,
            events_written: AtomicU64::new(0),
        })
    }

    pub(super) fn seat(&self, shard: u32) -> Option<&Seat> {
        self.seats.get(shard as usize)
    }

    /// Event descriptors written to so far.
    #[cfg(test)]
    pub(super) fn events_written(&self) -> u64 {
        self.events_written.load(Ordering::Relaxed)
    }

    /// Rings a shard from a thread without a ring.
    pub(super) fn ring(&self, shard: u32) {
        // A shard that has not taken its seat looks before it waits; one that left does not wait.
        let Some(seat) = self.seat(shard).filter(|seat| seat.is_open()) else {
            return;
        };
        let send = |ring| sys::send_message(ring, Token::Rung.encode()).is_ok();
        if !self.sends || !seat.ring().is_some_and(send) {
            self.write_event(seat);
        }
    }

    /// The way that always works.
    pub(super) fn ring_event(&self, shard: u32) {
        if let Some(seat) = self.seat(shard) {
            self.write_event(seat);
        }
    }

    /// Rings every shard.
    pub(super) fn ring_all(&self) {
        self.seats.iter().for_each(|seat| self.write_event(seat));
    }

    fn write_event(&self, seat: &Seat) {
        let Some(event) = seat.event() else {
            return; // it has no ring to sleep in
        };
        self.events_written.fetch_add(1, Ordering::Relaxed);
        // The one other error is a counter at its end after 2^64 rings.
        while rustix::io::write(event, &1u64.to_ne_bytes()) == Err(rustix::io::Errno::INTR) {}
    }
}

/// Rings one shard.
#[derive(Clone)]
pub(crate) struct RingBell {
    pub(super) roster: Arc<Roster>,
    pub(super) shard: u32,
}

impl Bell for RingBell {
    fn ring(&self) {
        if !self.note() {
            self.roster.ring(self.shard);
        }
    }

    fn ring_at_once(&self) {
        self.roster.ring(self.shard);
    }
}

impl RingBell {
    /// Whether the shard has taken its seat and has not left it.
    pub(crate) fn is_open(&self) -> bool {
        let seat = self.roster.seat(self.shard);
        seat.is_some_and(Seat::is_open)
    }

    /// Leaves the ringing to this thread's ring, if it has one of the same host.
    fn note(&self) -> bool {
        OUTGOING.with_borrow_mut(|outgoing| match outgoing {
            Some(own) if Arc::ptr_eq(&own.roster, &self.roster) && own.due.len() < DUE_MAX => {
                own.due.push(self.shard);
                true
            }
            _ => false,
        })
    }
}

/// This thread's ring rings for it from here on.
pub(super) fn take_over(roster: &Arc<Roster>) {
    let roster = Arc::clone(roster);
    let due = Vec::with_capacity(DUE_MAX);
    OUTGOING.set(Some(Outgoing { roster, due }));
}

/// This thread's ring is gone: what is noted is rung at once.
pub(super) fn give_back() {
    if let Some(own) = OUTGOING.take() {
        own.due.iter().for_each(|shard| own.roster.ring(*shard));
    }
}

/// Moves what is noted to `into`.
pub(super) fn take_due(into: &mut Vec<u32>) {
    OUTGOING.with_borrow_mut(|outgoing| {
        if let Some(own) = outgoing {
            into.append(&mut own.due);
        }
    });
}

/// An event descriptor that nobody has written to.
pub(super) fn event() -> io::Result<OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}
