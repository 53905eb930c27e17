//! Questions of the cells of a slab to task actors, and forks: staged, open, answered.
//!
//! An open question is the receiving end of its [`Reply`](crate::Reply) and what its cell does with
//! the answer. Who answers or drops the reply writes down which one it was and rings the slab. To
//! end a question is to drop it: its reply is canceled then, and nothing can arrive. Bounds:
//! [`ASKS_MAX`]; twice as many in the queue of those that are done, as between two steps only what
//! was open or is sent then can be answered, each once.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::task::unconstrained;

use super::super::fork::Forks;
use super::super::inbox::{Door, Queue};
use crate::addr::{Addr, AskError, SendError};
use crate::cell::{AskId, Cell, CellContext};
use crate::clock::Time;
use crate::exit::{Fault, Flow};
use crate::fifo::Fifo;
use crate::guard;
use crate::mailbox::Message;

/// Open questions of the cells of one slab: more than the mailboxes that they go to hold.
pub const ASKS_MAX: usize = 4_096;

/// The key of a cell, and the number of its question: ascending, never used again.
pub(crate) type Place = (u32, u64);

/// A question, whatever is asked and answered.
pub(crate) trait AnyQuestion<C: Cell>: Send {
    /// Sends it, or lets the host's shards compute it, from where that door leads. True if it has
    /// ended by that; otherwise `waker` is told when it does.
    fn send(&mut self, waker: &Waker, forks: &Forks, from: &Door) -> bool;
    /// It ends now: with its answer if there is one. True if its time was up.
    fn end(&mut self) -> bool;
    /// The step of its cell, after its end.
    fn tell(self: Box<Self>, cell: &mut C, cx: &mut CellContext<'_, C>) -> Result<Flow, Fault>;
}

/// A question, and what its cell does with the answer.
pub(crate) struct Question<M, A, F> {
    stage: Stage<M, A>,
    then: F,
}

enum Stage<M, A> {
    Staged(Addr<M>, M, oneshot::Receiver<A>),
    Sent(oneshot::Receiver<A>),
    Ended(Result<A, AskError>),
}

impl<M, A, F> Question<M, A, F> {
    pub(crate) fn new(to: Addr<M>, message: M, answer: oneshot::Receiver<A>, then: F) -> Self {
        let stage = Stage::Staged(to, message, answer);
        Self { stage, then }
    }
}

impl<C, M, A, F> AnyQuestion<C> for Question<M, A, F>
where
    C: Cell,
    M: Message,
    A: Send + 'static,
    F: FnOnce(&mut C, Result<A, AskError>, &mut CellContext<'_, C>) -> Result<Flow, Fault>,
    F: Send + 'static,
{
    fn send(&mut self, waker: &Waker, _: &Forks, _: &Door) -> bool {
        // What it is if a message that it displaces unwinds.
        let unsent = Stage::Ended(Err(AskError::Canceled));
        let Stage::Staged(to, message, mut answer) = std::mem::replace(&mut self.stage, unsent)
        else {
            return true;
        };
        if let Err(refused) = to.try_send(message) {
            self.stage = Stage::Ended(Err(match refused {
                SendError::Full(_) | SendError::Timeout(_) => AskError::Full,
                SendError::Restarting(_) => AskError::Restarting,
                SendError::Closed(_) => AskError::Closed,
            }));
            return true;
        }
        // A shard is no task of tokio: it has no budget to keep to, even if one steps it.
        let poll = pin!(unconstrained(&mut answer)).poll(&mut Context::from_waker(waker));
        let ended = poll.is_ready();
        self.stage = match poll {
            Poll::Pending => Stage::Sent(answer),
            Poll::Ready(answer) => Stage::Ended(answer.map_err(|_| AskError::Canceled)),
        };
        ended
    }

    fn end(&mut self) -> bool {
        let answer = match &mut self.stage {
            Stage::Ended(_) => return false,
            Stage::Staged(..) => Err(AskError::Timeout),
            Stage::Sent(answer) => answer.try_recv().map_err(|e| match e {
                TryRecvError::Empty => AskError::Timeout,
                TryRecvError::Closed => AskError::Canceled,
            }),
        };
        let timed_out = matches!(answer, Err(AskError::Timeout));
        self.stage = Stage::Ended(answer);
        timed_out
    }

    fn tell(mut self: Box<Self>, cell: &mut C, cx: &mut CellContext<'_, C>) -> Result<Flow, Fault> {
        self.end();
        let Self { stage, then } = *self;
        match stage {
            Stage::Ended(answer) => then(cell, answer, cx),
            Stage::Staged(..) | Stage::Sent(_) => Ok(Flow::Continue),
        }
    }
}

/// Where it is written down which questions are done.
struct Done {
    queue: Queue<Place>,
    bell: Arc<Door>,
}

/// Told by whoever answers a question, or drops it.
struct Teller {
    place: Place,
    done: Arc<Done>,
}

impl Wake for Teller {
    fn wake(self: Arc<Self>) {
        // Never full; if it were, the deadline would find the answer.
        if self.done.queue.push(self.place) == Ok(true) {
            self.done.bell.ring();
        }
    }
}

struct Open<C: Cell> {
    until: Time,
    question: Box<dyn AnyQuestion<C>>,
}

/// Counters of questions; see [`SlabCounts`](crate::shard::SlabCounts).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AskCounts {
    pub(crate) asked: u64,
    pub(crate) refused: u64,
    pub(crate) told: u64,
    pub(crate) timeouts: u64,
    pub(crate) canceled: u64,
}

/// The questions of a slab. Where nobody asks it allocates nothing.
pub(crate) struct Asks<C: Cell> {
    open: BTreeMap<Place, Open<C>>,
    due: BTreeSet<(Time, Place)>,
    /// Of steps that have ended well, or of the one that runs.
    staged: Vec<Place>,
    /// Ended by being sent.
    ended: Vec<Place>,
    done: Option<Arc<Done>>,
    next: u64,
    pub(crate) counts: AskCounts,
}

impl<C: Cell> Asks<C> {
    pub(crate) fn new() -> Self {
        Self {
            open: BTreeMap::new(),
            due: BTreeSet::new(),
            staged: Vec::new(),
            ended: Vec::new(),
            done: None,
            next: 0,
            counts: AskCounts::default(),
        }
    }

    /// Whether no more can be asked now; counted if so.
    pub(crate) fn refuses(&mut self) -> bool {
        // A step that asks and cancels over and over is bounded, too.
        let full = self.open.len().max(self.staged.len()) >= ASKS_MAX;
        self.counts.refused += u64::from(full);
        full
    }

    /// Stages a question, for which there is room, of the cell with this key.
    pub(crate) fn stage(
        &mut self,
        key: u32,
        until: Time,
        bell: &Arc<Door>,
        question: Box<dyn AnyQuestion<C>>,
    ) -> AskId {
        self.done.get_or_insert_with(|| {
            let (queue, bell) = (Queue::new(2 * ASKS_MAX), Arc::clone(bell));
            Arc::new(Done { queue, bell })
        });
        let place = (key, self.next);
        self.next += 1;
        self.counts.asked += 1;
        self.open.insert(place, Open { until, question });
        self.due.insert((until, place));
        self.staged.push(place);
        AskId(place.1)
    }

    /// Sends what is staged. True if some have ended by that: they are told in the next step.
    pub(crate) fn send(&mut self, forks: &Forks) -> bool {
        let Some(done) = self.done.as_ref().filter(|_| !self.staged.is_empty()) else {
            return false;
        };
        for place in self.staged.drain(..) {
            // Ended in between, with its cell or by it: nobody would hear the answer.
            let Some(open) = self.open.get_mut(&place) else {
                continue;
            };
            let done = Arc::clone(done);
            let from = Arc::clone(&done.bell);
            let waker = Waker::from(Arc::new(Teller { place, done }));
            if guard::step(|| Ok(open.question.send(&waker, forks, &from))) != Ok(false) {
                self.ended.push(place);
            }
        }
        !self.ended.is_empty()
    }

    /// Those that are done, and those whose time is up: by cell, then as they were asked.
    pub(crate) fn ripe(&mut self, now: Time) -> Vec<Place> {
        let mut ripe = std::mem::take(&mut self.ended);
        if let Some(done) = &self.done {
            let mut taken = Fifo::new();
            done.queue.drain(&mut taken);
            if !taken.is_empty() {
                done.queue.delivered(taken.len());
                ripe.extend(taken);
            }
        }
        let due = self.due.iter().take_while(|(until, _)| *until <= now);
        ripe.extend(due.map(|(_, place)| *place));
        ripe.sort_unstable();
        ripe.dedup();
        ripe
    }

    /// Takes a question that is done, or whose time is up, if it is still open.
    pub(crate) fn take(&mut self, place: Place) -> Option<Box<dyn AnyQuestion<C>>> {
        let Open {
            until,
            mut question,
        } = self.open.remove(&place)?;
        self.due.remove(&(until, place));
        self.counts.told += 1;
        self.counts.timeouts += u64::from(question.end());
        Some(question)
    }

    /// Ends one without telling. False if it is not open.
    pub(crate) fn cancel(&mut self, place: Place) -> bool {
        let Some(open) = self.open.remove(&place) else {
            return false;
        };
        self.due.remove(&(open.until, place));
        self.counts.canceled += 1;
        guard::discard(open);
        true
    }

    /// Ends all of a cell without telling: it is no more.
    pub(crate) fn cancel_all(&mut self, key: u32) {
        while let Some((&place, _)) = self.open.range((key, 0)..=(key, u64::MAX)).next() {
            self.cancel(place);
        }
    }

    /// The end of the slab.
    pub(crate) fn close(&mut self) {
        self.due.clear();
        while let Some((_, open)) = self.open.pop_first() {
            self.counts.canceled += 1;
            guard::discard(open);
        }
    }

    /// Those that have been asked and not told yet.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// When the first deadline is.
    pub(crate) fn until(&self) -> Option<Time> {
        self.due.first().map(|(until, _)| *until)
    }

    /// See [`Door`].
    pub(crate) fn sync(&self) {
        if let Some(done) = &self.done {
            done.queue.sync();
        }
    }
}
