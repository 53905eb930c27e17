//! What holds task actors up on purpose: fault injection that their host obeys.
//!
//! A hindrance acts on one actor or on a subtree from [`Hindrances::begin`] to [`Hindrances::end`].
//! No thread sleeps for it: a handler under way ends first; then a held actor takes no message, and
//! what runs beside its handlers is not polled, until the hold ends. A kill works all the time; an
//! ordered stop waits, as with any actor that hangs. While none is in force it costs one relaxed
//! load a message.
//!
//! It decides nothing: chaos plans do. Bound: what is in force, which plans bound.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::exit::Fault;
use crate::path::ActorPath;

/// Code of the fault of a start that a hindrance let fail.
pub const START_FAILS: &str = "injected_start_failure";
/// Code of the fault of an actor that was told to fail at whatever comes next, which may be long
/// after: its end is an order, whenever it comes.
pub const POISONED: &str = "poisoned";

/// What holds an actor up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// It handles nothing, and what runs beside its handlers stands still.
    Hold,
    /// Each message takes so much longer.
    Slow(Duration),
    /// So many of its starts fail.
    StartFails(u32),
    /// Its start does not end.
    StartHangs,
}

impl Hindrance {
    /// Its name.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Hold => "held",
            Self::Slow(_) => "slowed",
            Self::StartFails(_) => "start_fails",
            Self::StartHangs => "start_hangs",
        }
    }
}

/// Whom it acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The actor at the path.
    One,
    /// The actor and all below it.
    Subtree,
}

/// One that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HindranceId(u64);

#[derive(Debug)]
struct InForce {
    path: ActorPath,
    reach: Reach,
    what: Hindrance,
    /// Who goes on when it ends.
    held: Vec<Waker>,
}

impl InForce {
    fn acts_on(&self, path: &ActorPath) -> bool {
        match self.reach {
            Reach::One => self.path == *path,
            Reach::Subtree => path.is_within(&self.path),
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    begun: u64,
    all: BTreeMap<u64, InForce>,
}

/// What is in force on one node.
#[derive(Debug, Default)]
pub struct Hindrances {
    count: AtomicUsize,
    table: Mutex<Table>,
}

impl Hindrances {
    /// Begins one.
    pub fn begin(&self, path: ActorPath, reach: Reach, what: Hindrance) -> HindranceId {
        let mut table = self.table.lock();
        let id = table.begun;
        table.begun += 1;
        let held = Vec::new();
        let one = InForce {
            path,
            reach,
            what,
            held,
        };
        table.all.insert(id, one);
        self.count.store(table.all.len(), Ordering::Relaxed);
        HindranceId(id)
    }

    /// Ends one: whoever it held goes on. Ending it twice is harmless.
    pub fn end(&self, id: HindranceId) {
        let ended = {
            let mut table = self.table.lock();
            let ended = table.all.remove(&id.0);
            self.count.store(table.all.len(), Ordering::Relaxed);
            ended
        };
        let held = ended.map(|one| one.held).unwrap_or_default();
        held.into_iter().for_each(Waker::wake);
    }

    /// What acts on an actor, by name.
    #[must_use]
    pub fn on(&self, path: &ActorPath) -> Vec<&'static str> {
        let table = self.table.lock();
        let acting = table.all.values().filter(|one| one.acts_on(path));
        acting.map(|one| one.what.label()).collect()
    }

    /// Whether anything is in force on anybody.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Whether something of a kind acts on the actor; `waker` is woken when that ends.
    fn holds(&self, path: &ActorPath, kind: Hindrance, waker: &Waker) -> bool {
        let mut table = self.table.lock();
        let mut acting = table.all.values_mut();
        let Some(one) = acting.find(|one| one.what == kind && one.acts_on(path)) else {
            return false;
        };
        if !one.held.iter().any(|known| known.will_wake(waker)) {
            one.held.push(waker.clone());
        }
        true
    }

    async fn pass(&self, path: &ActorPath, kind: Hindrance) {
        poll_fn(|cx| match self.holds(path, kind, cx.waker()) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await;
    }

    /// Waits while the actor is held.
    pub(crate) async fn held(&self, path: &ActorPath) {
        if self.any() {
            self.pass(path, Hindrance::Hold).await;
        }
    }

    /// Takes the time that a message of the actor takes longer.
    pub(crate) async fn slowed(&self, path: &ActorPath) {
        if !self.any() {
            return;
        }
        let longer: Duration = {
            let table = self.table.lock();
            let acting = table.all.values().filter(|one| one.acts_on(path));
            acting
                .map(|one| match one.what {
                    Hindrance::Slow(by) => by,
                    _ => Duration::ZERO,
                })
                .sum()
        };
        if !longer.is_zero() {
            tokio::time::sleep(longer).await;
        }
    }

    /// The start of an actor: it fails, or does not go on, while it must.
    pub(crate) async fn start(&self, path: &ActorPath) -> Result<(), Fault> {
        if !self.any() {
            return Ok(());
        }
        let fails = {
            let mut table = self.table.lock();
            table.all.values_mut().any(|one| match &mut one.what {
                Hindrance::StartFails(left) if *left > 0 && one.path == *path => {
                    *left -= 1;
                    true
                }
                _ => false,
            })
        };
        if fails {
            return Err(Fault::new(START_FAILS));
        }
        self.pass(path, Hindrance::StartHangs).await;
        Ok(())
    }

    /// Polls `work` only while the actor is not held.
    pub(crate) async fn run<T>(&self, path: &ActorPath, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if self.any() && self.holds(path, Hindrance::Hold, cx.waker()) {
                return Poll::Pending;
            }
            work.as_mut().poll(cx)
        })
        .await
    }
}
