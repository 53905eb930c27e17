//! What the machine does beside the scan: nothing, or every core busy.
//!
//! `stress-ng` where it is installed; otherwise threads of our own in the normal scheduling class,
//! one per core, that calculate and walk memory. Bound: one burner per core; a load ends with its
//! value, `stress-ng` also by its own time-out.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Memory that a burner walks: more than a core's own caches.
const WALK: usize = 512 * 1024;

/// `stress-ng` ends itself after this many times the length that a run has on time, and no sooner
/// than a minute.
const PATIENCE: u32 = 4;

/// The program in the search path, if it is there.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A load under way.
#[derive(Debug)]
pub(super) enum Stress {
    /// `stress-ng`.
    Program(Child),
    /// Threads of this process.
    Own(Arc<AtomicBool>, Vec<JoinHandle<()>>),
}

impl Stress {
    /// Makes every core busy; also says with what.
    pub(super) fn start(cores: usize, length: Duration) -> std::io::Result<(Self, String)> {
        if let Some(program) = find("stress-ng") {
            let seconds = (length * PATIENCE).as_secs().max(60);
            let child = Command::new(program)
                .args(["--cpu", &cores.to_string(), "--quiet"])
                .args(["--timeout", &format!("{seconds}s")])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            return Ok((Self::Program(child), format!("stress-ng, {cores} workers")));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut own = Self::Own(Arc::clone(&stop), Vec::new());
        for at in 0..cores {
            let stop = Arc::clone(&stop);
            let builder = std::thread::Builder::new().name(format!("burner-{at}"));
            let thread = builder.spawn(move || burn(&stop))?;
            if let Self::Own(_, threads) = &mut own {
                threads.push(thread);
            }
        }
        Ok((own, format!("own burners, {cores} threads")))
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        match self {
            Self::Program(child) => {
                // its workers end with it only if it is asked to
                let _ = kill_process(Pid::from_child(child), Signal::TERM);
                let _ = child.wait();
            }
            Self::Own(stop, threads) => {
                stop.store(true, Ordering::Release);
                for thread in threads.drain(..) {
                    let _ = thread.join();
                }
            }
        }
    }
}

fn burn(stop: &AtomicBool) {
    let mut walk = vec![1_u64; WALK / size_of::<u64>()];
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    while !stop.load(Ordering::Relaxed) {
        for cell in &mut walk {
            word = word
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(*cell);
            *cell ^= word;
        }
        std::hint::black_box(&mut walk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert_eq!(find("no-such-program-anywhere"), None);
        assert!(find("sh").is_some());
    }

    #[test]
    fn a_load_ends_with_its_value() {
        let (stress, with) = Stress::start(1, Duration::from_secs(1)).unwrap();
        assert!(with.contains('1'));
        drop(stress);
    }
}
