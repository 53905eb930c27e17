//! The heap of the process, as its programs ask for it: few arenas.
//!
//! glibc gives threads arenas of their own, up to eight for each core, and memory that is free in
//! one serves no thread of another. Work of a node goes from thread to thread, what one allocates
//! another frees, and each arena keeps the most that it ever held: over 12 minutes of `soak` a node
//! grew by 1.6 % with sixteen of them, by 1.0 % with one. As many as cores are enough for threads
//! not to wait for each other: small pieces come from each thread's own cache, large ones from
//! pools. A program that has a node as a part of it is left alone.
//!
//! Bound: one call, before there are threads.

#![expect(
    unsafe_code,
    reason = "mallopt has no safe form; it sets a number in glibc, which takes its own lock"
)]

/// Bounds the arenas of this process. Only where there is glibc; nothing depends on it.
pub fn bound_arenas() {
    #[cfg(target_env = "gnu")]
    {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let most = i32::try_from(cores).unwrap_or(i32::MAX);
        // SAFETY: no memory is passed; arenas that exist already stay as they are.
        let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, most) }; // 0 is: not granted
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn threads_allocate_as_before_with_few_arenas() {
        super::bound_arenas();
        let threads = (0..8_u8).map(|n| std::thread::spawn(move || vec![n; 100_000]));
        let threads: Vec<_> = threads.collect();
        for (n, thread) in (0_u8..).zip(threads) {
            assert!(thread.join().unwrap().iter().all(|byte| *byte == n));
        }
    }
}
