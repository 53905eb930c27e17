//! Long work of a cell, forked in branches that any shard may compute.
//!
//! Bound: [`BRANCHES_MAX`] branches; a fork counts as an open question of its slab.

use std::time::Duration;

use super::{AskId, AsksFull, Cell, CellContext};
use crate::exit::{Fault, Flow};
use crate::shard::{BRANCHES_MAX, Errand};

/// Why a fork was not joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForkError {
    /// The shards of this host have too many forks to begin.
    #[error("the shards have too many forks to begin")]
    Full,
    /// Not all branches were computed within the deadline.
    #[error("not all branches were computed within the deadline")]
    Timeout,
    /// A branch panicked.
    #[error("a branch panicked: {0}")]
    Panicked(Fault),
}

/// Why nothing was forked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForkRefused {
    /// The slab has too many open questions and forks.
    #[error(transparent)]
    Asks(#[from] AsksFull),
    /// More than [`BRANCHES_MAX`].
    #[error("a fork has at most {BRANCHES_MAX} branches, not {0}")]
    Branches(u32),
}

/// Forks. They begin when the slab's step has ended, and not at all if this cell's step faults or
/// unwinds.
impl<C: Cell> CellContext<'_, C> {
    /// Computes `work(0)` to `work(branches - 1)` on whichever shards of this host have time, in
    /// any order. `joined` is a step of this cell, run once: with the answers in the order of their
    /// branches, or with why there are none by `deadline` (monotonic, from this step).
    ///
    /// A step holds up its shard, so what takes longer than some tens of microseconds is better
    /// forked. A branch holds up the shard that computes it, so it should not take long either; all
    /// else comes between two branches. A fork ends with the incarnation that made it, and by
    /// [`CellContext::cancel_ask`]: branches that have begun by then end, and nobody is told.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use actorsim_actors::*;
    /// # enum Order { Sum(u64) }
    /// # impl Message for Order {}
    /// struct Adder { sum: u64 }
    ///
    /// impl Adder {
    ///     fn summed(
    ///         &mut self,
    ///         parts: Result<Vec<u64>, ForkError>,
    ///         _: &mut CellContext<'_, Self>,
    ///     ) -> Result<Flow, Fault> {
    ///         let parts = parts.map_err(|why| Fault::with("no_sum", why.to_string()))?;
    ///         self.sum = parts.iter().sum();
    ///         Ok(Flow::Continue)
    ///     }
    /// }
    ///
    /// impl Cell for Adder {
    ///     # type Msg = Order;
    ///     # type Shared = ();
    ///     # type Identity = ();
    ///     # type Out = ();
    ///     # fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
    ///     #     Ok(Self { sum: 0 })
    ///     # }
    ///     fn handle(&mut self, o: Order, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
    ///         let Order::Sum(step) = o;
    ///         let part = move |n: u32| (0..1_000).map(|m| m * step + u64::from(n)).sum();
    ///         cx.fork(16, part, Duration::from_secs(2), Self::summed)
    ///             .map_err(|refused| Fault::with("no_fork", refused.to_string()))?;
    ///         Ok(Flow::Continue)
    ///     }
    ///     # fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
    ///     #     Ok(Flow::Continue)
    ///     # }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ForkRefused`]: nothing was forked.
    pub fn fork<A, W, F>(
        &mut self,
        branches: u32,
        work: W,
        deadline: Duration,
        joined: F,
    ) -> Result<AskId, ForkRefused>
    where
        A: Send + 'static,
        W: Fn(u32) -> A + Send + Sync + 'static,
        F: FnOnce(
            &mut C,
            Result<Vec<A>, ForkError>,
            &mut CellContext<'_, C>,
        ) -> Result<Flow, Fault>,
        F: Send + 'static,
    {
        if branches > BRANCHES_MAX {
            return Err(ForkRefused::Branches(branches));
        }
        if self.mail.asks.refuses() {
            return Err(AsksFull.into());
        }
        let until = self.monotonic + deadline;
        let errand = Errand::new(branches, work, joined);
        let key = self.timers.owner;
        Ok(self.mail.ask(key, until, Box::new(errand)))
    }
}
