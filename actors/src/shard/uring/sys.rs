//! The calls that the ring's crate leaves unsafe: all unsafe code of the driver.
//!
//! The functions here are safe to call: no entry they make points into memory, and descriptors are
//! borrowed. Entries that do point into memory (buffers) need an owner until their last completion
//! and do not belong here. No bound of its own.

#![expect(
    unsafe_code,
    reason = "io_uring: entries are read by the kernel, and three calls have no safe form"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};

/// `IORING_ENTER_GETEVENTS`, `_EXT_ARG`, `_NO_IOWAIT` (`linux/io_uring.h`).
const GETEVENTS: u32 = 1 << 0;
const EXT_ARG: u32 = 1 << 3;
const NO_IOWAIT: u32 = 1 << 7;

/// `IORING_REGISTER_SEND_MSG_RING` (Linux 6.13): an entry without a ring of one's own.
const REGISTER_SEND_MSG_RING: libc::c_uint = 31;

/// What the driver asks of its ring. None of these points into memory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'fd> {
    /// Completes with `theirs` on the ring `to`; only a failure completes, with `ours`, here.
    Message {
        to: BorrowedFd<'fd>,
        theirs: u64,
        ours: u64,
    },
    /// Completes with `ours` each time `on` has been written to.
    Watch { on: BorrowedFd<'fd>, ours: u64 },
}

impl Request<'_> {
    fn entry(self) -> squeue::Entry {
        match self {
            Self::Message { to, theirs, ours } => message(to, theirs)
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(ours),
            Self::Watch { on, ours } => {
                opcode::PollAdd::new(Fd(on.as_raw_fd()), libc::POLLIN as u32)
                    .multi(true)
                    .build()
                    .user_data(ours)
            }
        }
    }
}

fn message(to: BorrowedFd<'_>, theirs: u64) -> squeue::Entry {
    opcode::MsgRingData::new(Fd(to.as_raw_fd()), 0, theirs, None).build()
}

/// Queues a request; false when the submission queue is full.
pub(super) fn push(ring: &mut IoUring, request: Request<'_>) -> bool {
    let entry = request.entry();
    // SAFETY: an entry must be valid until it is complete. The kernel copies the entry when it is
    // submitted, and no `Request` refers to memory: the descriptors in it are plain numbers that
    // the kernel resolves itself, and a wrong one is an error, not undefined behaviour.
    unsafe { ring.submission().push(&entry) }.is_ok()
}

/// Submits what is queued and waits for one completion, for at most `at_most` if given.
///
/// Unlike the crate's form it can tell the kernel that this is idleness, not waiting for a disk:
/// else a sleeping shard shows as iowait.
pub(super) fn submit_and_wait(
    ring: &mut IoUring,
    at_most: Option<Duration>,
    no_iowait: bool,
) -> io::Result<usize> {
    let time = at_most.map(Timespec::from);
    let args = SubmitArgs::new();
    let args = match &time {
        Some(time) => args.timespec(time),
        None => args,
    };
    if !no_iowait || ring.params().is_setup_sqpoll() {
        return ring.submitter().submit_with_args(1, &args);
    }
    let queued = ring.submission().len() as u32;
    // SAFETY: with `EXT_ARG` the kernel reads a `struct io_uring_getevents_arg`, which `SubmitArgs`
    // is (the crate's own `submit_with_args` passes it the same way), and the time it points to;
    // both live until the call returns. `queued` is at most what the queue holds.
    unsafe {
        ring.submitter()
            .enter(queued, 1, GETEVENTS | EXT_ARG | NO_IOWAIT, Some(&args))
    }
}

/// Lets the descriptor `place` stand for what `by` stands for, in one step: whoever uses its number
/// meanwhile reaches the one or the other.
pub(super) fn replace(place: BorrowedFd<'_>, by: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `dup3` refers to no memory. `place` is open before and after, owned by whom it was.
    let result = unsafe { libc::dup3(by.as_raw_fd(), place.as_raw_fd(), libc::O_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Completes with `theirs` on the ring `to`, from a thread that has no ring.
pub(super) fn send_message(to: BorrowedFd<'_>, theirs: u64) -> io::Result<()> {
    let entry = message(to, theirs);
    // SAFETY: `IORING_REGISTER_SEND_MSG_RING` takes -1 for a ring and reads one submission entry,
    // which `squeue::Entry` is (`repr(C)`, the size of `io_uring_sqe`); it lives until the call
    // returns and refers to no memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            -1 as libc::c_int,
            REGISTER_SEND_MSG_RING,
            &raw const entry,
            1 as libc::c_uint,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
