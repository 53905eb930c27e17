//! The watchdog of the scan: a thread that notices a cycle which does not end, or a step of
//! building the world.
//!
//! Neither can be ended from outside, and there is never a second world. So the watchdog takes the
//! scan thread out of the real-time class, where it starves its core, tells of it, and leaves the
//! rest to whoever it tells: a node ends its process, for its service manager to start it again.
//! Bound: one thread for each incarnation, one word for each.

use std::fmt;
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

/// How many times as long as a cycle a step of building may take: pages of a large table are made,
/// rows are read from a disk.
const BUILDING: u32 = 12;

/// Rows between two steps of building.
pub(super) const STEP_ROWS: u64 = 65_536;

/// What the scan thread shows of itself.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Start of the cycle or step under way, nanoseconds of the monotonic clock, with
    /// [`IS_STEP`]; 0 between cycles.
    began: AtomicU64,
    /// Its thread, 0 before the first step.
    thread: AtomicI32,
    /// Start of the last one that was told; watchdogs come and go with the scan's proxy.
    told: AtomicU64,
}

/// In place of the last bit: it is a step of building.
const IS_STEP: u64 = 1;

impl Pulse {
    /// The calling thread is watched, until what this returns is dropped.
    pub(super) fn of_this_thread(self: &Arc<Self>) -> Beating {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        self.thread.store(thread, Ordering::Release);
        Beating {
            pulse: Arc::clone(self),
            thread,
        }
    }

    /// What has taken longer than it may, unless it was told.
    fn wedged(&self, limit: Duration) -> Option<Wedged> {
        let began = self.began.load(Ordering::Acquire);
        let took = Duration::from_nanos(now_ns().saturating_sub(began));
        let building = began & IS_STEP != 0;
        let most = if building { limit * BUILDING } else { limit };
        if began == 0 || took < most || self.told.swap(began, Ordering::AcqRel) == began {
            return None;
        }
        let demoted = demote(self.thread.load(Ordering::Acquire));
        Some(Wedged {
            building,
            took,
            not_demoted: demoted.err().map(|error| error.to_string()),
        })
    }

    /// A cycle begins.
    pub(super) fn begin(&self, now_ns: u64) {
        self.began.store(now_ns & !IS_STEP, Ordering::Release);
    }

    /// The next step of building begins.
    pub(super) fn step(&self, now_ns: u64) {
        self.began.store(now_ns | IS_STEP, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.began.store(0, Ordering::Release);
    }
}

/// A thread that is watched.
#[derive(Debug)]
pub(super) struct Beating {
    pulse: Arc<Pulse>,
    thread: i32,
}

impl Drop for Beating {
    fn drop(&mut self) {
        // the next thread may build its world already
        if self.pulse.thread.load(Ordering::Acquire) == self.thread {
            self.pulse.end();
        }
    }
}

/// What does not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wedged {
    /// A step of building the world; else a cycle.
    pub building: bool,
    /// How long it has taken so far.
    pub took: Duration,
    /// Why its thread could not be taken out of the real-time class.
    pub not_demoted: Option<String>,
}

impl fmt::Display for Wedged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.building {
            "a step of building the world"
        } else {
            "a cycle"
        };
        write!(f, "{what} has taken {:?} and does not end", self.took)
    }
}

/// A running watchdog; dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Watchdog {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Looks whether a cycle takes longer than `limit`, or a step [`BUILDING`] times as long, and
    /// tells once for each that does.
    pub(super) fn start(
        pulse: Arc<Pulse>,
        limit: Duration,
        cores: &[usize],
        tell: impl Fn(Wedged) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let watch = move || {
            loop {
                // first: what it watches may be older than it is
                if let Some(wedged) = pulse.wedged(limit) {
                    tell(wedged);
                }
                // until its other end is gone
                if stopped.recv_timeout(limit / LOOKS) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
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
        let beating = pulse.of_this_thread();
        pulse.begin(now_ns());
        let (tell, told) = channel();
        let watchdog = Watchdog::start(Arc::clone(&pulse), LIMIT, &[], move |wedged| {
            let _ = tell.send(wedged);
        });
        let wedged: Wedged = told.recv().unwrap();
        assert!(wedged.took >= LIMIT);
        assert_eq!((wedged.building, wedged.not_demoted), (false, None));
        assert_eq!(told.recv_timeout(LIMIT * 2), Err(RecvTimeoutError::Timeout));
        drop(beating);
        assert_eq!(pulse.began.load(Ordering::Acquire), 0);
        drop(watchdog.unwrap());
    }

    #[test]
    fn a_step_of_building_takes_longer_than_a_cycle_and_not_for_ever() {
        let pulse = Arc::new(Pulse::default());
        pulse.step(now_ns());
        let (tell, told) = channel();
        let watchdog = Watchdog::start(Arc::clone(&pulse), LIMIT, &[], move |wedged| {
            let _ = tell.send(wedged);
        });
        let wedged: Wedged = told.recv().unwrap();
        assert!(wedged.building && wedged.took >= LIMIT * BUILDING);
        drop(watchdog.unwrap());
    }

    #[test]
    fn a_cycle_older_than_its_watchdog_is_told_at_once_and_by_one_of_them() {
        let pulse = Arc::new(Pulse::default());
        pulse.begin(2); // as old as the clock
        let limit = Duration::from_nanos(now_ns() / 2);
        let (tell, told) = channel();
        for _ in 0..2 {
            let tell = tell.clone();
            let watchdog = Watchdog::start(Arc::clone(&pulse), limit, &[], move |wedged| {
                let _ = tell.send(wedged);
            });
            drop(watchdog.unwrap());
        }
        let wedged: Wedged = told.try_recv().unwrap();
        assert!(wedged.took >= limit);
        assert!(told.try_recv().is_err(), "it is the same one");
    }

    #[test]
    fn a_thread_that_is_late_to_end_leaves_the_next_one_watched() {
        let pulse = Arc::new(Pulse::default());
        let next = Arc::clone(&pulse);
        let late = pulse.of_this_thread();
        let begins = std::thread::spawn(move || {
            let beating = next.of_this_thread();
            next.step(7);
            beating
        });
        let beating = begins.join().unwrap();
        drop(late);
        assert_eq!(pulse.began.load(Ordering::Acquire), 7);
        drop(beating);
        assert_eq!(pulse.began.load(Ordering::Acquire), 0);
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
