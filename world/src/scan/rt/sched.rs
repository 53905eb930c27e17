//! `SCHED_FIFO` for the calling thread: the one system call that no safe crate of ours offers.
//!
//! It changes nothing but the scheduling class of the caller.
//!
//! Bound: one system call.

#![expect(
    unsafe_code,
    reason = "sched_setscheduler is not in rustix; libc offers it as unsafe"
)]

use std::io;

/// Puts the calling thread into `SCHED_FIFO` at `priority`.
pub(super) fn set_fifo(priority: u8) -> io::Result<()> {
    // SAFETY: `sched_param` is plain integers, for which all zeroes is a valid value.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = i32::from(priority);
    // SAFETY: pid 0 names the calling thread, `param` is a live, initialised `sched_param` that
    // the kernel only reads during the call.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
