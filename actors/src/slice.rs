//! Slices: for how long a thread of the normal class keeps a core that others wait for.
//!
//! Linux gives each thread the same slice, 1.4 ms on two cores, and a thread that is woken waits
//! for the end of the one that runs. From Linux 6.12 on a thread may ask for a shorter one, without
//! privilege, and then goes first when it is woken. It is owed no more time than before: it gets it
//! sooner, in smaller parts. Bound: three system calls.

#![expect(
    unsafe_code,
    reason = "sched_getattr and sched_setattr are in no safe crate of ours"
)]

use std::io;
use std::time::Duration;

use crate::clock::nanos;

/// The shortest that Linux gives.
pub const SLICE_MIN: Duration = Duration::from_micros(100);
/// The longest.
pub const SLICE_MAX: Duration = Duration::from_millis(100);

/// Asks for slices of this length for the calling thread, and for those that it starts. Threads of
/// a real-time class have none: nothing is asked for them.
///
/// # Errors
/// What the kernel says; [`io::ErrorKind::Unsupported`] where every thread has the same.
pub fn ask(slice: Duration) -> io::Result<()> {
    let mut attributes = get()?;
    let class = attributes.sched_policy as i32;
    if ![libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE].contains(&class) {
        return Ok(());
    }
    attributes.sched_runtime = nanos(slice.clamp(SLICE_MIN, SLICE_MAX));
    set(&attributes)?;
    match get()?.sched_runtime {
        0 => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "every thread has the same slice here (Linux 6.12 lets threads ask)",
        )),
        _ => Ok(()),
    }
}

fn get() -> io::Result<libc::sched_attr> {
    let size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: `sched_attr` is plain integers, for which all zeroes is a valid value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let into = &raw mut attributes;
    // SAFETY: 0 is the calling thread; the kernel writes at most `size` bytes to `into`, which is
    // live and that large, and keeps no pointer.
    match unsafe { libc::syscall(libc::SYS_sched_getattr, 0, into, size, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(attributes),
    }
}

fn set(attributes: &libc::sched_attr) -> io::Result<()> {
    let from = std::ptr::from_ref(attributes);
    // SAFETY: 0 is the calling thread; the kernel reads as many bytes from `from` as its first
    // field says, which `get` has set to its size, and keeps no pointer.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, from, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_the_slice_that_it_asks_for_and_keeps_its_class() {
        let of_a_thread = std::thread::spawn(|| {
            let before = get().unwrap();
            let asked = ask(Duration::from_micros(300));
            (before, asked, get().unwrap())
        });
        let (before, asked, after) = of_a_thread.join().unwrap();
        assert_eq!(after.sched_policy, before.sched_policy);
        assert_eq!(after.sched_nice, before.sched_nice);
        match asked {
            Ok(()) if before.sched_runtime > 0 => assert_eq!(after.sched_runtime, 300_000),
            Ok(()) => assert!(before.sched_priority > 0, "a real-time class"),
            Err(error) => eprintln!("skipped: {error}"),
        }
    }
}
