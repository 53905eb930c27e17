//! Scheduling classes: the one system call that no safe crate of ours offers.
//!
//! It changes nothing but the class of one thread of this process.
//!
//! Bound: one system call.

#![expect(
    unsafe_code,
    reason = "sched_setscheduler is not in rustix; libc offers it as unsafe"
)]

use std::io;

/// Puts the calling thread into `SCHED_FIFO` at `priority`.
pub(super) fn set_fifo(priority: u8) -> io::Result<()> {
    set(0, libc::SCHED_FIFO, priority)
}

/// Puts a thread of this process into `SCHED_IDLE`.
pub(super) fn set_idle(thread: i32) -> io::Result<()> {
    set(thread, libc::SCHED_IDLE, 0)
}

/// Puts the calling thread, and none that it starts, into `SCHED_RR` at `priority`.
///
/// # Errors
/// What the kernel says: without privilege it is not permitted.
pub fn set_round_robin(priority: u8) -> io::Result<()> {
    set(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, priority)
}

/// Puts the calling thread into the normal class.
///
/// # Errors
/// What the kernel says.
pub fn set_normal() -> io::Result<()> {
    set(0, libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0)
}

fn set(thread: i32, class: i32, priority: u8) -> io::Result<()> {
    // SAFETY: `sched_param` is plain integers, for which all zeroes is a valid value.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = i32::from(priority);
    // SAFETY: `thread` is a number that the kernel looks up (0 is the calling thread), `param` is
    // a live, initialised `sched_param` that the kernel only reads during the call.
    match unsafe { libc::sched_setscheduler(thread, class, &raw const param) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
