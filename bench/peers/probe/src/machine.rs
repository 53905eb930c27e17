//! What the kernel says about this process.

use std::fs;

/// Resident memory of this process in bytes.
///
/// # Panics
/// Where there is no `/proc`.
#[must_use]
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has /proc/self/status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.expect("VmRSS is given in kB") << 10
}

/// CPU seconds of all threads of this process so far, user and system.
#[must_use]
pub fn cpu_s() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec, which lives on this stack.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Keeps the thread that calls on one core, the `nth` counted round, if the host lets it.
pub fn pin(nth: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // SAFETY: a set of cores is plain data, for which all zeroes are valid: none.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number is below that of cores, and so within the set.
    unsafe { libc::CPU_SET(nth % cores, &mut set) };
    // SAFETY: the kernel reads one set, which lives on this stack.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}

/// Files that this process may open, and those that it starts: all that the host lets it have.
#[must_use]
pub fn files_max() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes one limit, which lives on this stack.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let all = libc::rlimit {
        rlim_cur: limit.rlim_max,
        ..limit
    };
    // SAFETY: the kernel reads one limit, which lives on this stack.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const all) } == 0;
    if raised { all.rlim_cur } else { limit.rlim_cur }
}
