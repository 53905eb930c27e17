//! tokio's runtimes, as the peers on tokio have them.

use std::future::{Future, pending};
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
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_time().build();
    runtime.expect("a runtime")
}

/// Runs what `make` gives on a new thread with a runtime of its own.
pub fn on_own_thread<F, T>(make: impl FnOnce() -> F + Send + 'static) -> JoinHandle<T>
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    std::thread::spawn(move || one_thread().block_on(async { make().await }))
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
