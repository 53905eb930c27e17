//! Work of a cell that any shard of its host may do: forked in branches, joined in a step.
//!
//! ```text
//! step of a cell ── fork ──> open forks of the host ──> branches, on whichever shards have time
//!        ^                                                                │ the last one
//!        └── joined: all answers, in the order of the branches <── ring ──┘
//! ```
//!
//! A shard computes branches when it has nothing else to do, one after the other, and looks for
//! messages and timers after each; where it is never idle, one between two steps. To its slab a
//! fork is an open question (`mail/asks.rs`): with a deadline, ended with the life that asked, and
//! told once. A branch that nobody has begun by then is not computed. In virtual time all branches
//! are computed at once where they are forked, in their order. Bounds: [`FORKS_MAX`] with branches
//! to begin per host, [`BRANCHES_MAX`] each; [`ASKS_MAX`](super::ASKS_MAX) open ones per slab.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use super::inbox::{Bells, Door};
use super::mail::AnyQuestion;
use crate::cell::{Cell, CellContext, ForkError};
use crate::exit::{Fault, Flow};
use crate::fifo::Fifo;
use crate::guard;

/// Branches of one fork: enough for a machine of any size, and an answer of each fits in memory.
pub const BRANCHES_MAX: u32 = 65_536;

/// Forks of one host with branches that nobody has begun: as many as one slab may have open.
pub const FORKS_MAX: usize = super::ASKS_MAX;

/// The forks of a host that have branches to begin, the oldest first.
pub(crate) struct Forks {
    open: Mutex<VecDeque<Arc<dyn Branches>>>,
    /// How many: lets a shard pass by without the lock.
    count: AtomicUsize,
    bells: Bells,
    at_once: bool,
}

/// A fork, whatever is computed.
trait Branches: Send + Sync {
    /// Begins a branch that nobody has begun, and whether it was the last of these.
    fn begin(&self) -> Option<(u32, bool)>;
    /// Computes it.
    fn compute(&self, branch: u32);
}

impl Forks {
    /// Of the shards with these bells.
    pub(crate) fn of(bells: &Bells) -> Arc<Self> {
        Self::new(bells, false)
    }

    /// In virtual time, where nobody waits.
    pub(crate) fn at_once(bells: &Bells) -> Arc<Self> {
        Self::new(bells, true)
    }

    fn new(bells: &Bells, at_once: bool) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            count: AtomicUsize::new(0),
            bells: Arc::clone(bells),
            at_once,
        })
    }

    /// Takes a fork in and wakes shards for it, not more than can have a branch each beside the one
    /// that it comes from. False: there are too many.
    fn add(&self, fork: Arc<dyn Branches>, branches: u32, from: usize) -> bool {
        let mut open = self.open.lock();
        if open.len() >= FORKS_MAX {
            return false;
        }
        open.push_back(fork);
        self.count.store(open.len(), Ordering::Release);
        drop(open);
        let others = self.bells.len() - 1;
        let wanted = others.min(branches.saturating_sub(1) as usize);
        for n in 1..=wanted {
            self.bells[(from + n) % self.bells.len()].ring_at_once();
        }
        true
    }

    /// Whether there are branches to begin, as far as can be seen without the lock.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Computes branches until there are none to begin, or `goes_on` says no: then true. Returns
    /// how many, too.
    pub(crate) fn help(&self, mut goes_on: impl FnMut() -> bool) -> (u64, bool) {
        let mut computed = 0;
        while self.any()
            && let Some(fork) = self.first()
        {
            while let Some((branch, last)) = fork.begin() {
                if last {
                    self.remove(&fork);
                }
                fork.compute(branch);
                computed += 1;
                if !goes_on() {
                    guard::discard(fork);
                    return (computed, true);
                }
            }
            self.remove(&fork);
            guard::discard(fork);
        }
        (computed, false)
    }

    fn first(&self) -> Option<Arc<dyn Branches>> {
        self.open.lock().front().cloned()
    }

    /// All of its branches have been begun.
    fn remove(&self, fork: &Arc<dyn Branches>) {
        let mut open = self.open.lock();
        let removed = match open.front() {
            Some(first) if Arc::ptr_eq(first, fork) => open.pop_front(),
            _ => None, // somebody was faster
        };
        self.count.store(open.len(), Ordering::Release);
        drop(open);
        guard::discard(removed);
    }
}

/// The branches of a fork and their answers.
struct Fork<A, W> {
    work: W,
    branches: u32,
    /// The first that nobody has begun.
    next: AtomicU32,
    joint: Mutex<Joint<A>>,
}

struct Joint<A> {
    /// By branch; empty once they were taken.
    answers: Fifo<Option<A>>,
    left: u32,
    /// The first branch that unwound.
    fault: Option<Fault>,
    /// Told when all is done.
    waker: Option<Waker>,
}

impl<A, W> Fork<A, W> {
    /// No branch is begun from now on.
    fn abandon(&self) {
        self.next.store(self.branches, Ordering::Relaxed);
    }

    /// Keeps what a branch gave, and hands out who is told if that was all. An answer that nobody
    /// waits for comes back.
    fn keep(&self, branch: u32, answer: Result<A, Fault>) -> (Option<Waker>, Option<A>) {
        let mut joint = self.joint.lock();
        let late = match answer {
            Ok(answer) => match joint.answers.get_mut(branch as usize) {
                Some(place) => {
                    *place = Some(answer);
                    joint.left -= 1;
                    None
                }
                None => Some(answer),
            },
            Err(fault) => {
                self.abandon();
                joint.fault.get_or_insert(fault);
                None
            }
        };
        let done = joint.left == 0 || joint.fault.is_some();
        let waker = if done { joint.waker.take() } else { None };
        (waker, late)
    }

    /// What came of it, by now.
    fn take(&self) -> Result<Fifo<A>, ForkError> {
        let mut joint = self.joint.lock();
        let answers = std::mem::take(&mut joint.answers);
        joint.waker = None;
        let (left, fault) = (joint.left, joint.fault.take());
        drop(joint);
        let ended = match fault {
            Some(fault) => Err(ForkError::Panicked(fault)),
            None if left > 0 => Err(ForkError::Timeout),
            None => return Ok(answers.into_iter().flatten().collect()),
        };
        guard::discard(answers);
        ended
    }
}

impl<A, W> Branches for Fork<A, W>
where
    A: Send,
    W: Fn(u32) -> A + Send + Sync,
{
    fn begin(&self) -> Option<(u32, bool)> {
        if self.next.load(Ordering::Relaxed) >= self.branches {
            return None;
        }
        // Overshoots by one for each shard at most: far from the end of its numbers.
        let branch = self.next.fetch_add(1, Ordering::Relaxed);
        (branch < self.branches).then_some((branch, branch + 1 == self.branches))
    }

    fn compute(&self, branch: u32) {
        let answer = guard::step(|| Ok((self.work)(branch)));
        let (waker, late) = self.keep(branch, answer);
        guard::discard(late);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Whoever waits for a fork: when that ends, so does the fork.
struct Held<A, W>(Arc<Fork<A, W>>);

impl<A, W> Drop for Held<A, W> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// A fork of a cell, and what the cell does when it is joined.
pub(crate) struct Errand<A, W, F> {
    fork: Held<A, W>,
    ended: Option<Result<Fifo<A>, ForkError>>,
    then: F,
}

impl<A, W, F> Errand<A, W, F> {
    pub(crate) fn new(branches: u32, work: W, then: F) -> Self {
        let joint = Joint {
            answers: (0..branches).map(|_| None).collect(),
            left: branches,
            fault: None,
            waker: None,
        };
        let fork = Held(Arc::new(Fork {
            work,
            branches,
            next: AtomicU32::new(0),
            joint: Mutex::new(joint),
        }));
        let ended = None;
        Self { fork, ended, then }
    }
}

impl<C, A, W, F> AnyQuestion<C> for Errand<A, W, F>
where
    C: Cell,
    A: Send + 'static,
    W: Fn(u32) -> A + Send + Sync + 'static,
    F: FnOnce(&mut C, Result<Vec<A>, ForkError>, &mut CellContext<'_, C>) -> Result<Flow, Fault>,
    F: Send + 'static,
{
    fn send(&mut self, waker: &Waker, forks: &Forks, from: &Door) -> bool {
        let fork = &self.fork.0;
        if forks.at_once || fork.branches == 0 {
            while let Some((branch, _)) = fork.begin() {
                fork.compute(branch);
            }
            return true;
        }
        fork.joint.lock().waker = Some(waker.clone());
        let taken = forks.add(Arc::clone(fork) as _, fork.branches, from.shard());
        if !taken {
            self.ended = Some(Err(ForkError::Full));
        }
        !taken
    }

    fn end(&mut self) -> bool {
        let fork = &self.fork.0;
        let ended = self.ended.get_or_insert_with(|| fork.take());
        fork.abandon();
        matches!(ended, Err(ForkError::Timeout))
    }

    fn tell(mut self: Box<Self>, cell: &mut C, cx: &mut CellContext<'_, C>) -> Result<Flow, Fault> {
        AnyQuestion::<C>::end(&mut *self);
        let Self { ended, then, .. } = *self;
        match ended {
            Some(ended) => then(cell, ended.map(|all| all.into_vec()), cx),
            None => Ok(Flow::Continue),
        }
    }
}
