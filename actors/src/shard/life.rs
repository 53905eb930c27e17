//! The lives of a shard: its thread dies, and the next one takes its place.
//!
//! A thread dies by a panic outside of its cells and slabs, by an error of its driver, or by
//! [`ShardHandle::kill`]. Its cells then exit with `host_down` and their supervisors decide. What
//! is more than a thread waits at the shard's port for the next incarnation: slabs with identities,
//! mailboxes, queues, decided restarts and books, and the shard's counters. It decides nothing
//! about when that one comes: that is for whoever supervises the shard. Bound: one thread of a
//! shard at a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::core::{Port, Tally};
use super::driver::DriverCounts;
use super::handle::ShardHandle;
use super::net::SharedNet;
use super::uring::RingRefused;
use crate::events::Level;
use crate::exit::Incarnation;

/// Why a thread that was killed has died.
pub(crate) const KILLED: &str = "killed";

/// Why a shard has no new life.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReviveError {
    /// The former one has not ended: its thread may be stuck in a step.
    #[error("the shard's thread has not ended")]
    Running,
    /// The shards are being stopped, or are gone.
    #[error("the shards have been stopped")]
    Stopped,
    /// The kernel has no ring for it any more.
    #[error("io_uring cannot be used: {0}")]
    Ring(#[from] RingRefused),
    /// The host refused a thread.
    #[error("the host gave no thread: {0}")]
    Thread(std::io::Error),
}

/// Gives a shard its next life.
pub(crate) trait Reviver: Send + Sync {
    fn revive(self: Arc<Self>) -> Result<(), ReviveError>;
}

/// Which life it is, and why it has ended.
#[derive(Debug, Clone)]
struct Life {
    incarnation: Incarnation,
    down: Option<Arc<str>>,
}

/// What the next life takes over beside the slabs.
#[derive(Default)]
pub(crate) struct Estate {
    pub(crate) tally: Tally,
    pub(crate) net: Option<SharedNet>,
    pub(crate) counts: DriverCounts,
}

/// The lives of one shard.
pub(crate) struct Lives {
    now: watch::Sender<Life>,
    /// It is to end at its next turn.
    doomed: AtomicBool,
    reviver: OnceLock<Weak<dyn Reviver>>,
    pub(crate) estate: Mutex<Estate>,
}

impl Lives {
    pub(crate) fn new() -> Self {
        let first = Life {
            incarnation: Incarnation::FIRST,
            down: None,
        };
        Self {
            now: watch::Sender::new(first),
            doomed: AtomicBool::new(false),
            reviver: OnceLock::new(),
            estate: Mutex::default(),
        }
    }

    /// Who gives it its next life.
    pub(crate) fn revived_by(&self, reviver: Weak<dyn Reviver>) {
        let _ = self.reviver.set(reviver);
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.now.borrow().incarnation
    }

    /// Whether its thread has died and none has come since.
    pub(crate) fn is_down(&self) -> bool {
        self.now.borrow().down.is_some()
    }

    pub(crate) fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Acquire)
    }
}

impl Port {
    /// The next life begins.
    pub(crate) fn begin_life(&self) {
        let lives = &self.lives;
        lives.doomed.store(false, Ordering::Release);
        lives.now.send_modify(|life| {
            life.incarnation = life.incarnation.next();
            life.down = None;
        });
        let life = lives.incarnation();
        self.stats.lock().incarnation = life.0;
        self.tell(Level::Info, "shard_up", &format!("incarnation {life}"));
    }

    /// The life has ended; nothing of it runs any more.
    pub(crate) fn end_life(&self, why: &str) {
        self.stats.lock().deaths += 1;
        self.tell(Level::Error, "shard_down", why);
        let down = Some(why.into());
        self.lives.now.send_modify(|life| life.down = down);
    }

    /// Says something about the shard.
    pub(crate) fn tell(&self, level: Level, name: &'static str, text: &str) {
        if let Some(system) = &self.system {
            let text = format!("shard {}: {text}", self.index);
            system.events().publish(level, name, None, text);
        }
    }
}

impl ShardHandle {
    /// Which life the shard is in, or was in last.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.port().lives.incarnation()
    }

    /// Whether its thread has died and none has taken its place. Slabs and messages wait.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.port().lives.is_down()
    }

    /// Whether it has been told to die and has not done so yet: it may be stuck in a step.
    #[must_use]
    pub fn is_dying(&self) -> bool {
        let lives = &self.port().lives;
        lives.is_doomed() && !lives.is_down()
    }

    /// Lets its thread die as soon as that has ended its step, as by a panic outside of its cells:
    /// these exit with `host_down`. A shard that stops, or is down, is not bothered.
    pub fn kill(&self) {
        let port = self.port();
        if !port.is_stopping() && !port.lives.is_down() {
            port.lives.doomed.store(true, Ordering::Release);
            port.bell.ring();
        }
    }

    /// Resolves once its thread has died, and why; at once while it is down. Not by an ordered
    /// stop.
    pub async fn died(&self) -> String {
        let mut lives = self.port().lives.now.subscribe();
        let down = lives.wait_for(|life| life.down.is_some()).await;
        // The sender is this handle's port.
        let why = down.ok().and_then(|life| life.down.clone());
        why.map_or_else(String::new, |why| why.to_string())
    }

    /// Gives a shard that is down its next life: a new thread, which takes over what waits. In
    /// virtual time it begins with the next call that lets time pass.
    ///
    /// # Errors
    /// [`ReviveError`]; it is as before.
    pub fn revive(&self) -> Result<(), ReviveError> {
        let reviver = self.port().lives.reviver.get().and_then(Weak::upgrade);
        reviver.ok_or(ReviveError::Stopped)?.revive()
    }
}
