//! Scenario `restart`: who still has to die, and how long it took to come back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::{Job, Latencies, Line, Meter, RESTART_ACTORS, RESTART_SINGLES};

/// Deaths to be died. An incarnation asks when it starts, and again when it dies.
#[derive(Debug)]
pub struct Deaths {
    /// Whether actors panic rather than return a fault.
    pub panics: bool,
    left: AtomicU64,
    /// If there is one actor only.
    absences: Option<Mutex<Absences>>,
    done: SyncSender<()>,
}

#[derive(Debug, Default)]
struct Absences {
    died_at: Option<Instant>,
    took: Latencies,
}

impl Deaths {
    fn new(job: &Job, deaths: u64, noted: bool) -> (Arc<Self>, Receiver<()>) {
        let (done, over) = sync_channel(1);
        let deaths = Self {
            panics: job.shape == "panic",
            left: AtomicU64::new(deaths),
            absences: noted.then(Mutex::default),
            done,
        };
        (Arc::new(deaths), over)
    }

    /// An incarnation starts. True if it is to send itself the message that it dies of.
    pub fn next(&self) -> bool {
        let take = |left: u64| left.checked_sub(1);
        let more = self
            .left
            .try_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok();
        if !more {
            let _ = self.done.try_send(()); // somebody has said so
        }
        more
    }

    /// An incarnation has got its message and dies now.
    ///
    /// # Panics
    /// If that is how it dies.
    pub fn die(&self) {
        if let Some(absences) = &self.absences {
            let mut absences = absences.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(died_at) = absences.died_at {
                absences.took.since(died_at);
            }
            absences.died_at = Some(Instant::now());
        }
        if self.panics {
            panic!("a reading out of range");
        }
    }

    /// The whole scenario: `start` starts so many actors that die these deaths.
    ///
    /// # Errors
    /// What `start` says.
    pub fn measure<E>(
        job: &Job,
        mut start: impl FnMut(usize, &Arc<Self>) -> Result<(), E>,
    ) -> Result<Line, E> {
        let (deaths, over) = Self::new(job, job.size, false);
        let meter = Meter::start();
        start(RESTART_ACTORS, &deaths)?;
        let _ = over.recv();
        let spent = meter.stop();
        let (deaths, over) = Self::new(job, RESTART_SINGLES, true);
        start(1, &deaths)?;
        let _ = over.recv();
        let absences = deaths.absences.as_ref().map(Mutex::lock);
        let mut took = absences.map_or_else(Latencies::default, |absences| {
            std::mem::take(&mut absences.unwrap_or_else(PoisonError::into_inner).took)
        });
        let line = Line::new()
            .rate("restarts_per_cpu_s", "restarts_per_s", job.size, spent)
            .with("back_in_service_p50", took.us(0.5))
            .with("back_in_service_p99", took.us(0.99));
        Ok(line)
    }
}
