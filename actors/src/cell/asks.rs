//! Questions of a cell to task actors.
//!
//! A cell never waits: it says what it will do with the answer, and that is a step of its own. It
//! asks cells by messages. Bound: [`ASKS_MAX`](crate::shard::ASKS_MAX) open questions per slab.

use std::time::Duration;

use super::{Cell, CellContext};
use crate::addr::{Addr, AskError, Reply};
use crate::exit::{Fault, Flow};
use crate::mailbox::Message;
use crate::shard::Question;

/// Names an open question of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AskId(pub(crate) u64);

/// Nothing was asked: the slab has [`ASKS_MAX`](crate::shard::ASKS_MAX) open questions already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cells of this slab have too many open questions")]
pub struct AsksFull;

/// Questions to task actors. They go out when the slab's step has ended, and not at all if this
/// cell's step faults or unwinds.
impl<C: Cell> CellContext<'_, C> {
    /// Asks a task actor. `answered` is a step of this cell, run once: with the answer, or with why
    /// there is none by `deadline` (monotonic, from this step). It comes between messages, as a
    /// timer does, also while the cell waits for room.
    ///
    /// `Full`, `Restarting` and `Closed` are as of [`Addr::try_send`]: a question does not wait for
    /// room. `Canceled`: the actor dropped the reply. A question ends with the incarnation that
    /// asked it: the reply is canceled ([`Reply::is_canceled`]) and the next one hears nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use actorsim_actors::*;
    /// enum Price { Of(u32, Reply<u64>) }
    /// # impl Message for Price {}
    /// struct Meter { price: Option<u64> }
    ///
    /// impl Meter {
    ///     fn priced(
    ///         &mut self,
    ///         price: Result<u64, AskError>,
    ///         _: &mut CellContext<'_, Self>,
    ///     ) -> Result<Flow, Fault> {
    ///         self.price = price.ok();
    ///         Ok(Flow::Continue)
    ///     }
    /// }
    ///
    /// impl Cell for Meter {
    ///     # type Msg = Price;
    ///     type Shared = Addr<Price>;
    ///     # type Identity = ();
    ///     # type Out = ();
    ///     fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
    ///         let (tariffs, me) = (cx.shared, cx.ordinal);
    ///         let question = |reply| Price::Of(me, reply);
    ///         let asked = cx.ask(tariffs, question, Duration::from_secs(2), Self::priced);
    ///         asked.map_err(|full| Fault::with("no_price", full.to_string()))?;
    ///         Ok(Self { price: None })
    ///     }
    ///     # fn handle(&mut self, _: Price, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
    ///     #     Ok(Flow::Continue)
    ///     # }
    ///     # fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
    ///     #     Ok(Flow::Continue)
    ///     # }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`AsksFull`]: nothing was asked, and `question` was not called.
    pub fn ask<M, A, F>(
        &mut self,
        actor: &Addr<M>,
        question: impl FnOnce(Reply<A>) -> M,
        deadline: Duration,
        answered: F,
    ) -> Result<AskId, AsksFull>
    where
        M: Message,
        A: Send + 'static,
        F: FnOnce(&mut C, Result<A, AskError>, &mut CellContext<'_, C>) -> Result<Flow, Fault>,
        F: Send + 'static,
    {
        if self.mail.asks.refuses() {
            return Err(AsksFull);
        }
        let (reply, answer) = Reply::channel();
        let question = Question::new(actor.clone(), question(reply), answer, answered);
        let until = self.monotonic + deadline;
        let key = self.timers.owner;
        Ok(self.mail.ask(key, until, Box::new(question)))
    }

    /// Cancels a question of this cell: nothing is told, and the actor sees it. False if it has
    /// been told already.
    pub fn cancel_ask(&mut self, ask: AskId) -> bool {
        self.mail.asks.cancel((self.timers.owner, ask.0))
    }
}
