//! tokio's runtimes, as the peers on tokio have them: their threads on a core each, as our shards,
//! where it does not say otherwise.

use std::future::{Future, pending};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Runtime};

/// One on the thread that drives it: actors in it share that thread.
///
/// # Panics
/// If the host refuses.
#[must_use]
pub fn one_thread() -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime")
}

/// One on two threads that take work from each other.
///
/// # Panics
/// If the host refuses.
#[must_use]
pub fn two_workers() -> Runtime {
    let started = AtomicUsize::new(0);
    let mut builder = Builder::new_multi_thread();
    builder.on_thread_start(move || peer_probe::pin(started.fetch_add(1, Ordering::Relaxed)));
    let runtime = builder.worker_threads(2).enable_time().build();
    runtime.expect("a runtime")
}

/// The same, its threads wherever the host puts them.
///
/// # Panics
/// If the host refuses.
#[must_use]
pub fn two_workers_anywhere() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_time().build();
    runtime.expect("a runtime")
}

/// Threads that have been made by [`on_own_thread`].
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Runs what `make` gives on a new thread with a runtime of its own, on the next core.
pub fn on_own_thread<F, T>(make: impl FnOnce() -> F + Send + 'static) -> JoinHandle<T>
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    let nth = THREADS.fetch_add(1, Ordering::Relaxed);
    std::thread::spawn(move || {
        peer_probe::pin(nth);
        one_thread().block_on(async { make().await })
    })
}

/// Runs what `make` gives on a new thread with a runtime of its own that goes on for ever, and
/// returns what it gave: actors, say.
///
/// # Panics
/// If it panics.
pub fn hosted<F, T>(make: impl FnOnce() -> F + Send + 'static) -> T
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    let (sender, receiver) = sync_channel(1);
    on_own_thread(move || async move {
        let _ = sender.send(make().await);
        pending::<()>().await;
    });
    receiver.recv().expect("it does not panic")
}
