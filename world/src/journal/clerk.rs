//! A clerk: a thread that does what may block, one thing after another.
//!
//! Its own and not one of a pool: an allocator keeps for each thread what that has used at most, so
//! that a cache that is filled by one thread today and by another tomorrow takes its bound several
//! times over. What a clerk does is nothing to it. On virtual time work is done where it is asked
//! for, so that nothing else happens meanwhile and a run stays the same each time.
//!
//! Bound: [`WAITING_MAX`] pieces of work wait; more askers wait for room.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use actorsim_actors::Clock;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::threads;

/// A commit, and a few readers of records.
const WAITING_MAX: usize = 4;

type Work = Box<dyn FnOnce() + Send>;

/// Why a clerk did not do something.
#[derive(Debug, Error)]
pub(crate) enum ClerkError {
    /// The host gave no thread.
    #[error("no thread: {0}")]
    Host(#[from] io::Error),
    /// It panicked.
    #[error("the work panicked")]
    Panicked,
}

/// The clerk; its thread begins with the first work, and ends with what it has in hand when nobody
/// has the clerk any more.
pub(crate) struct Clerk {
    name: &'static str,
    /// Cores that its thread may run on: whoever gives it work may have fewer.
    cores: Vec<usize>,
    desk: Mutex<Option<mpsc::Sender<Work>>>,
}

impl fmt::Debug for Clerk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clerk").field(&self.name).finish()
    }
}

impl Clerk {
    /// A clerk whose thread is named so, and may run on these cores.
    pub(crate) fn new(name: &'static str, cores: &[usize]) -> Self {
        Self {
            name,
            cores: cores.to_vec(),
            desk: Mutex::new(None),
        }
    }

    /// Does something and tells what came of it. Whoever stops waiting does not stop it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        clock: &Clock,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ClerkError> {
        if clock.is_virtual() {
            return Ok(work());
        }
        let (tell, told) = oneshot::channel();
        // an asker that went away leaves what came of it to the clerk
        let work = move || drop(tell.send(work()));
        let queue = self.queue()?;
        let taken = queue.send(Box::new(work)).await;
        taken.map_err(|_| ClerkError::Panicked)?;
        told.await.map_err(|_| ClerkError::Panicked)
    }

    /// The way to its desk.
    fn queue(&self) -> io::Result<mpsc::Sender<Work>> {
        let mut desk = self.desk.lock();
        if let Some(queue) = &*desk {
            return Ok(queue.clone());
        }
        let (queue, mut waiting) = mpsc::channel::<Work>(WAITING_MAX);
        let day = move || {
            while let Some(work) = waiting.blocking_recv() {
                // whoever asked is told by what is dropped
                if let Err(payload) = catch_unwind(AssertUnwindSafe(work)) {
                    std::mem::forget(payload); // any value, whose destructor may panic, too
                }
            }
        };
        let builder = thread::Builder::new().name(self.name.to_owned());
        threads::start(builder, &self.cores, day)?;
        Ok(desk.insert(queue).clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    /// A payload that panics once more.
    struct Grudge;

    impl Drop for Grudge {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }

    #[tokio::test]
    async fn work_is_done_on_one_thread_in_order_and_a_panic_is_told() {
        let (clerk, clock) = (Clerk::new("clerk", &[]), Clock::wall());
        let who = || thread::current().id();
        let first = clerk.run(&clock, who).await.unwrap();
        let broken = clerk.run(&clock, || panic!("at work")).await;
        assert!(matches!(broken, Err::<(), _>(ClerkError::Panicked)));
        let worse = clerk.run(&clock, || std::panic::panic_any(Grudge)).await;
        assert!(matches!(worse, Err::<(), _>(ClerkError::Panicked)));
        assert_eq!(clerk.run(&clock, who).await.unwrap(), first);
        assert_ne!(first, who());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_done_all_the_same() {
        let (clerk, clock) = (Clerk::new("clerk", &[]), Clock::wall());
        let (open, gate) = sync_channel::<()>(1);
        let (tell, told) = sync_channel(1);
        let asked = clerk.run(&clock, move || {
            assert!(gate.recv().is_ok());
            assert!(tell.send(()).is_ok());
        });
        let left = tokio::select! {
            biased;
            _ = asked => false,
            () = std::future::ready(()) => true,
        };
        assert!(left);
        drop(clerk);
        open.send(()).unwrap();
        assert!(told.recv().is_ok(), "done");
        assert!(told.recv().is_err(), "and the thread is over");
    }
}
