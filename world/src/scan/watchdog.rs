//! The watchdog of the scan: a thread that notices a cycle which does not end.
//!
//! A cycle cannot be ended from outside, and there is never a second world. So the watchdog takes
//! the scan thread out of the real-time class, where it starves its core, tells of it, and leaves
//! the rest to whoever it tells: a node ends its process, for its service manager to start it
//! again. Bound: one thread for each incarnation, one word for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::clock::now_ns;
use super::rt::demote;
use crate::threads;

/// Looks in the time that a cycle may take.
const LOOKS: u32 = 4;

/// What the scan thread shows of itself.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Start of the cycle under way, nanoseconds of the monotonic clock; 0 between cycles.
    began_ns: AtomicU64,
    /// Its thread, 0 before the first cycle.
    thread: AtomicI32,
}

impl Pulse {
    pub(super) fn of_this_thread(&self) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        self.thread.store(thread, Ordering::Release);
    }

    pub(super) fn begin(&self, now_ns: u64) {
        self.began_ns.store(now_ns, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.began_ns.store(0, Ordering::Release);
    }
}

/// A cycle that does not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wedged {
    /// How long it has taken so far.
    pub took: Duration,
    /// Why its thread could not be taken out of the real-time class.
    pub not_demoted: Option<String>,
}

/// A running watchdog; dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Watchdog {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Looks whether a cycle takes longer than `limit`, and tells once for each that does.
    pub(super) fn start(
        pulse: Arc<Pulse>,
        limit: Duration,
        cores: &[usize],
        tell: impl Fn(Wedged) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let watch = move || {
            let mut told_ns = 0;
            // until its other end is gone
            while stopped.recv_timeout(limit / LOOKS) == Err(RecvTimeoutError::Timeout) {
                let began_ns = pulse.began_ns.load(Ordering::Acquire);
                let took = Duration::from_nanos(now_ns().saturating_sub(began_ns));
                if began_ns == 0 || began_ns == told_ns || took < limit {
                    continue;
                }
                told_ns = began_ns;
                let demoted = demote(pulse.thread.load(Ordering::Acquire));
                tell(Wedged {
                    took,
                    not_demoted: demoted.err().map(|error| error.to_string()),
                });
            }
        };
        let builder = std::thread::Builder::new().name("scan-watchdog".to_owned());
        Ok(Self {
            stop: Some(stop),
            thread: Some(threads::start(builder, cores, watch)?),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(8);

    #[test]
    fn a_cycle_that_does_not_end_is_told_once_and_its_thread_demoted() {
        let pulse = Arc::new(Pulse::default());
        pulse.of_this_thread();
        pulse.begin(now_ns());
        let (tell, told) = channel();
        let watchdog = Watchdog::start(Arc::clone(&pulse), LIMIT, &[], move |wedged| {
            let _ = tell.send(wedged);
        });
        let wedged: Wedged = told.recv().unwrap();
        assert!(wedged.took >= LIMIT);
        assert_eq!(wedged.not_demoted, None);
        assert_eq!(told.recv_timeout(LIMIT * 2), Err(RecvTimeoutError::Timeout));
        drop(watchdog.unwrap());
    }

    #[test]
    fn between_cycles_nothing_is_wedged() {
        let (tell, told) = channel();
        let watchdog = Watchdog::start(Arc::default(), LIMIT, &[], move |wedged| {
            let _ = tell.send(wedged);
        });
        assert_eq!(told.recv_timeout(LIMIT * 3), Err(RecvTimeoutError::Timeout));
        drop(watchdog.unwrap());
    }
}
