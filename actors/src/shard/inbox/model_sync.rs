//! The inbox's lock and atomics, as loom models them.
//!
//! Only for the model in `model.rs`; no bound of its own.

use loom::sync::MutexGuard;
pub(super) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// A lock with the face of `parking_lot`'s.
pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("nothing panics inside the lock")
    }
}
