//! How long the threads of this process have run, by their names.
//!
//! Bound: a look at each thread.

use std::fs;
use std::path::Path;

/// CPU seconds so far of the threads that live and whose names begin so; none where the kernel does
/// not say.
pub(crate) fn cpu_s_of(name: &str) -> Option<f64> {
    let threads = fs::read_dir("/proc/self/task").ok()?.flatten();
    let seconds = threads.filter_map(|thread| {
        let at = thread.path();
        let named = fs::read_to_string(at.join("comm")).ok()?;
        named.starts_with(name).then(|| ran_s(&at))
    });
    seconds.sum()
}

/// None where the kernel keeps no such figures, or the thread has ended.
fn ran_s(thread: &Path) -> Option<f64> {
    let figures = fs::read_to_string(thread.join("schedstat")).ok()?;
    let ran_ns: u64 = figures.split(' ').next()?.parse().ok()?;
    Some(ran_ns as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_is_found_by_its_name() {
        let work = || {
            let mut ran = Some(0.0);
            while ran == Some(0.0) {
                ran = cpu_s_of("hard-worker");
            }
            ran
        };
        let builder = std::thread::Builder::new().name("hard-worker".to_owned());
        let ran = builder.spawn(work).unwrap().join().unwrap();
        assert!(ran.is_none_or(|seconds| seconds > 0.0));
        assert_eq!(cpu_s_of("nobody"), Some(0.0));
    }
}
