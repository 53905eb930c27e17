//! How much larger a script makes its process.
//!
//! Only what is added while the script itself computes counts: what its host does with a question
//! is the host's. Bound: a look at one small file each time.

use std::sync::atomic::{AtomicI64, Ordering};

use super::limits::MEMORY_BYTES_MAX;
use crate::view::ProcessView;

/// Bytes that the process takes now, where that can be told.
fn resident() -> Option<i64> {
    i64::try_from(ProcessView::read().rss_bytes?).ok()
}

/// The account of one script.
#[derive(Debug)]
pub struct Memory {
    look: fn() -> Option<i64>,
    /// When the script last went on.
    before: AtomicI64,
    /// What it has added until then.
    added: AtomicI64,
}

impl Default for Memory {
    fn default() -> Self {
        Self::seen_by(resident)
    }
}

impl Memory {
    fn seen_by(look: fn() -> Option<i64>) -> Self {
        Self {
            look,
            before: AtomicI64::new(look().unwrap_or(0)),
            added: AtomicI64::new(0),
        }
    }

    fn added(&self) -> i64 {
        let now = (self.look)().map(|now| now - self.before.load(Ordering::Relaxed));
        self.added.load(Ordering::Relaxed) + now.unwrap_or(0)
    }

    /// Whether it is more than a script may take.
    #[must_use]
    pub fn is_too_much(&self) -> bool {
        self.added() > MEMORY_BYTES_MAX
    }

    /// The script pauses while its host does something.
    pub fn pause<T>(&self, host: impl FnOnce() -> T) -> T {
        self.added.store(self.added(), Ordering::Relaxed);
        let done = host();
        let now = (self.look)().unwrap_or(0);
        self.before.store(now, Ordering::Relaxed);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static NOW: Cell<i64> = const { Cell::new(0) };
    }

    fn grow(bytes: i64) {
        NOW.set(NOW.get() + bytes);
    }

    #[test]
    fn what_a_script_adds_counts_and_what_its_host_adds_does_not() {
        let memory = Memory::seen_by(|| Some(NOW.get()));
        for _ in 0..3 {
            memory.pause(|| grow(MEMORY_BYTES_MAX));
            grow(MEMORY_BYTES_MAX / 3);
            assert!(!memory.is_too_much());
        }
        grow(3);
        assert!(memory.is_too_much());
        grow(-MEMORY_BYTES_MAX / 3);
        assert!(!memory.is_too_much(), "what it gave back does not");
        assert!(resident() > Some(0));
    }
}
