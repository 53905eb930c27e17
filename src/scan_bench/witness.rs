//! The witness of host gaps: a thread on the scan's core, before everybody else on it, that wakes
//! between the scan's slots and notes when it came late.
//!
//! When the foremost thread of a core does not run, nobody on this side of the hypervisor kept it
//! from that but the kernel itself. It is a witness only pinned to that core and with a
//! `SCHED_FIFO` priority above the scan's; otherwise there is none, and gaps are unknown.
//!
//! Bound: [`GAPS_WAITING`] gaps wait to be read, later ones are counted as missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use actorsim_world::scan::clock::{now_ns, sleep_until_ns};
use actorsim_world::scan::rt::{HostReport, HostRequest, prepare};

use super::sieve::Gap;

/// Later than this and it is a gap: several times what a wake-up takes, well below a period.
pub const GAP_NS: u64 = 100_000;

/// Its wakes are this far apart at least: each costs the core about 2 us.
const STEP_MIN: Duration = Duration::from_micros(200);

/// And at most: a gap shorter than the step may pass unseen.
const STEP_MAX: Duration = Duration::from_millis(1);

/// Gaps that wait: seconds of a host that is late at every wake.
const GAPS_WAITING: usize = 8_192;

#[derive(Debug, Default)]
struct Seen {
    awake_ns: AtomicU64,
    missed: AtomicU64,
    stop: AtomicBool,
}

/// A running witness; dropping it ends its thread.
#[derive(Debug)]
pub struct Witness {
    gaps: Receiver<Gap>,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// A witness beside the scan that got `host`.
    ///
    /// # Errors
    /// Without its privileges there is none: why not.
    pub fn start(host: &HostReport, period: Duration) -> Result<Self, String> {
        let Some(core) = host.got.core else {
            return Err("the scan is not pinned".to_owned());
        };
        let policy = host.got.policy.strip_prefix("fifo:");
        let Some(scan) = policy.and_then(|priority| priority.parse::<u8>().ok()) else {
            return Err(format!("the scan's policy is {}", host.got.policy));
        };
        let request = HostRequest {
            pin: true,
            core: Some(core),
            priority: Some(scan.saturating_add(1)),
            lock_memory: false,
        };
        let step = (period / 4).clamp(STEP_MIN, STEP_MAX);
        let (tell, gaps) = sync_channel(GAPS_WAITING);
        let (ready, started) = sync_channel(1);
        let seen = Arc::new(Seen::default());
        let given = Arc::clone(&seen);
        let run = move || {
            let host = prepare(request);
            let fit = host.got.pinned && host.is_real_time();
            let _ = ready.send(if fit {
                Ok(())
            } else {
                Err(host.why.join("; "))
            });
            if fit {
                watch(&given, &tell, step);
            }
        };
        let builder = std::thread::Builder::new().name("witness".to_owned());
        let thread = builder.spawn(run).map_err(|error| error.to_string())?;
        started
            .recv()
            .map_err(|_| "it ended at once".to_owned())??;
        Ok(Self {
            gaps,
            seen,
            thread: Some(thread),
        })
    }

    /// Gives the gaps that wait and returns when it was last awake: no gap before is unknown.
    pub fn read(&self, mut each: impl FnMut(Gap)) -> u64 {
        // read first: gaps are told before the wake they ended with
        let awake_ns = self.seen.awake_ns.load(Ordering::Acquire);
        for gap in self.gaps.try_iter().take(GAPS_WAITING) {
            each(gap);
        }
        awake_ns
    }

    /// Gaps that found no room to wait.
    pub fn missed(&self) -> u64 {
        self.seen.missed.load(Ordering::Relaxed)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(seen: &Seen, tell: &SyncSender<Gap>, step: Duration) {
    let step_ns = step.as_nanos() as u64;
    let mut due_ns = now_ns() + step_ns;
    while !seen.stop.load(Ordering::Acquire) {
        sleep_until_ns(due_ns);
        let awake_ns = now_ns();
        if awake_ns - due_ns > GAP_NS {
            let gap = Gap {
                from_ns: due_ns,
                to_ns: awake_ns,
            };
            if tell.try_send(gap).is_err() {
                seen.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
        seen.awake_ns.store(awake_ns, Ordering::Release);
        // the grid goes on from its own slots; what passed is not made up
        due_ns += step_ns * (1 + (awake_ns - due_ns) / step_ns);
    }
}
