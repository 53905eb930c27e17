//! What the cells of a slab send: staged in their step, on its way when the step has ended well.
//!
//! ```text
//! step ── own slab ──> local queue ─────────────────────────────> handled, or into a mailbox
//!      └─ other slab ─> link: staged ──(after the cell's step)───> pair queue ──> mailbox
//! ```
//!
//! `Ok` means that the pair queue has room for the message: it is reserved when it is staged. A
//! step that faults or unwinds has sent nothing: what it staged is cut back and counted. The local
//! queue has no lock and no atomics; a link takes one lock for all that a slab's step sent. Order
//! is kept per (from, to): nobody overtakes a message that waits for room. A cell that takes
//! nothing holds up what is for it, and nothing else (`jams`). Questions to task actors are in
//! `asks`. Bounds: [`LOCAL_CAPACITY`], [`LINK_CAPACITY`] per pair, [`LINKS_MAX`],
//! [`RETURNS_MAX`], [`ASKS_MAX`].

mod asks;
mod envelope;
mod jams;
mod link;
mod stage;
mod waiters;
mod waits;

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

pub use self::asks::ASKS_MAX;
pub(crate) use self::asks::AnyQuestion;
use self::asks::Asks;
pub(crate) use self::asks::Question;
pub use self::envelope::{Bounce, Refusal, Sent};
pub(crate) use self::envelope::{Envelope, NOBODY, Origin, Pair, Returned, returned};
pub(crate) use self::jams::Jams;
use self::link::{AnyLink, Link};
use self::stage::Stage;
pub(crate) use self::stage::{Resumed, Sender};
use super::handle::{Board, SlabHandle};
use super::inbox::{Door, Queue};
use crate::addr::SendError;
use crate::cell::{AskId, Cell};
use crate::clock::Time;
use crate::fifo::Fifo;
use crate::guard;

/// Messages between cells of one slab that are under way: one step's fan-out to a small population.
pub(crate) const LOCAL_CAPACITY: usize = 65_536;

/// Messages under way between two slabs, where the handle says nothing else: half a MiB or so of
/// small messages, and enough that neither side waits for the other's thread.
pub const LINK_CAPACITY: u32 = 8_192;

/// Room of a pair in virtual time, where a window is not cut short and nobody should wait.
pub(crate) const SIM_CAPACITY: usize = 1 << 20;

/// Slabs that the cells of one slab send to.
pub(crate) const LINKS_MAX: usize = 256;

/// Bounces that wait for the cells of one slab; what is above it is counted and dropped.
pub(crate) const RETURNS_MAX: usize = 1_024;

/// All that the cells of a slab send.
pub(crate) struct Mail<C: Cell> {
    board: Arc<Board<C>>,
    /// The first of its ranges of ordinals, mostly the only one.
    first: Range<u32>,
    own: Stage<C::Msg>,
    /// Messages of the pair queue that is being delivered.
    pub(crate) inbound: Fifo<Envelope<C::Msg>>,
    /// Messages taken from the local queue that no mailbox has room for, and that count in it.
    pub(crate) held: usize,
    /// The same, where they do not.
    pub(crate) aside: usize,
    /// Cells of this slab that take no more from its own for now.
    pub(crate) jams: Jams,
    /// By the address of the destination's board, which the link keeps alive.
    links: Vec<(usize, Box<dyn AnyLink>)>,
    last: usize,
    /// Links written to in this step, a message each.
    journal: Vec<u32>,
    /// Whether a link may have been written to since the last flush.
    away: bool,
    /// Where this step has put a message that waits.
    waits: Option<Option<usize>>,
    /// Whether the cell whose step runs waits already.
    parked: bool,
    /// Messages that wait.
    waiting: usize,
    /// Of these, of cells that have ended since the last sweep.
    orphans: usize,
    /// Whether one may go out that nobody else tells of.
    again: bool,
    capacity: usize,
    origin: Origin,
    /// Bounces for cells of this slab, made on this shard.
    pub(crate) returns: Fifo<Returned>,
    pub(crate) asks: Asks<C>,
    pub(crate) counts: MailCounts,
}

/// Counters of what cells send; see [`SlabCounts`](super::SlabCounts).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MailCounts {
    pub(crate) sent: u64,
    pub(crate) refused: u64,
    pub(crate) cut: u64,
    pub(crate) lost: u64,
    pub(crate) returns_lost: u64,
    pub(crate) waits: u64,
    pub(crate) timeouts: u64,
}

/// Where a step began: messages sent until then.
#[derive(Clone, Copy)]
pub(crate) struct MailMark(u64);

impl<C: Cell> Mail<C> {
    pub(crate) fn new(board: Arc<Board<C>>) -> Self {
        let returns = C::HEARS_BOUNCES.then(|| Arc::new(Queue::new(RETURNS_MAX)));
        let origin = Origin {
            rank: rank(board.path().as_str()),
            bell: Arc::clone(board.bell()),
            returns,
        };
        Self {
            first: board.ordinals().first().cloned().unwrap_or_default(),
            board,
            own: Stage::new(),
            inbound: Fifo::new(),
            held: 0,
            aside: 0,
            jams: Jams::default(),
            links: Vec::new(),
            last: 0,
            journal: Vec::new(),
            away: false,
            waits: None,
            parked: false,
            waiting: 0,
            orphans: 0,
            again: false,
            capacity: LOCAL_CAPACITY,
            origin,
            returns: Fifo::new(),
            asks: Asks::new(),
            counts: MailCounts::default(),
        }
    }

    /// In virtual time every pair has room for a whole window.
    pub(crate) const fn make_roomy(&mut self) {
        self.capacity = SIM_CAPACITY;
    }

    /// Whether this is virtual time.
    pub(crate) const fn is_roomy(&self) -> bool {
        self.capacity == SIM_CAPACITY
    }

    /// A step of a cell begins, which waits for room already or not.
    #[inline]
    pub(crate) fn mark(&mut self, parked: bool) -> MailMark {
        self.parked = parked;
        self.journal.clear();
        MailMark(self.counts.sent)
    }

    /// A step has ended well. True if its cell waits from now on.
    #[inline]
    pub(crate) fn keep(&mut self) -> bool {
        self.waits.take().is_some()
    }

    /// A step has faulted: it has sent nothing.
    #[cold]
    pub(crate) fn cut(&mut self, mark: MailMark) {
        let all = self.counts.sent - mark.0;
        self.counts.sent = mark.0;
        self.counts.cut += all;
        for _ in self.journal.len() as u64..all {
            guard::discard(self.own.staged.pop_back());
        }
        for index in self.journal.drain(..).rev() {
            self.links[index as usize].1.cut();
        }
        if let Some(waits) = self.waits.take() {
            match waits {
                Some(index) => self.links[index].1.cut_wait(),
                None => drop(guard::discard(
                    self.own.waiters.pop_last().map(|waiter| waiter.envelope),
                )),
            }
            self.waiting -= 1;
            self.counts.waits -= 1;
            self.counts.cut += 1;
        }
    }

    /// Sends to a cell of this slab.
    #[inline]
    pub(crate) fn send(
        &mut self,
        from: u32,
        to: u32,
        message: C::Msg,
    ) -> Result<(), SendError<C::Msg>> {
        if !self.first.contains(&to) && !self.board.has(to) {
            self.counts.refused += 1;
            return Err(SendError::Closed(message));
        }
        let under_way = self.own.staged.len() + self.held;
        if under_way >= self.capacity || self.own.holds_up(to, &self.jams) {
            self.counts.refused += 1;
            return Err(SendError::Full(message));
        }
        self.counts.sent += 1;
        self.own.staged.push_back(Envelope { to, from, message });
        Ok(())
    }

    /// Sends to a cell of any slab.
    #[inline]
    pub(crate) fn send_to<D: Cell>(
        &mut self,
        handle: &SlabHandle<D>,
        from: u32,
        to: u32,
        message: D::Msg,
    ) -> Result<(), SendError<D::Msg>> {
        if address(handle.board()) == address(&self.board)
            && let Some(own) = (self as &mut dyn Any).downcast_mut::<Mail<D>>()
        {
            return own.send(from, to, message);
        }
        let envelope = Envelope { to, from, message };
        if !handle.has(to) {
            self.counts.refused += 1;
            return Err(SendError::Closed(envelope.message));
        }
        let Some(index) = self.link(handle) else {
            self.counts.refused += 1;
            return Err(SendError::Full(envelope.message));
        };
        let link: &mut dyn Any = &mut *self.links[index].1;
        let Some(link) = link.downcast_mut::<Link<D>>() else {
            return Err(SendError::Closed(envelope.message));
        };
        match link.push(envelope) {
            Ok(()) => {
                self.journal.push(index as u32);
                self.away = true;
                self.counts.sent += 1;
                Ok(())
            }
            Err(refused) => {
                self.counts.refused += 1;
                Err(match refused {
                    SendError::Closed(e) => SendError::Closed(e.message),
                    other => SendError::Full(other.into_message().message),
                })
            }
        }
    }

    /// Index of the link to a slab, made at the first message.
    #[inline]
    fn link<D: Cell>(&mut self, handle: &SlabHandle<D>) -> Option<usize> {
        let id = address(handle.board());
        if self.links.get(self.last).is_none_or(|l| l.0 != id) {
            self.last = match self.links.iter().position(|l| l.0 == id) {
                Some(index) => index,
                None => self.connect(handle, id)?,
            };
        }
        Some(self.last)
    }

    #[cold]
    fn connect<D: Cell>(&mut self, handle: &SlabHandle<D>, id: usize) -> Option<usize> {
        let place = match self.links.len() {
            n if n < LINKS_MAX => n,
            // A closed one has nothing staged, but messages may still wait there.
            _ => {
                let mut links = self.links.iter();
                links.position(|l| l.1.is_closed() && l.1.waiting() == 0)?
            }
        };
        let capacity = match self.is_roomy() {
            true => SIM_CAPACITY,
            false => handle.link_capacity(),
        };
        let pair = handle.pair(capacity, self.origin.clone())?;
        let link = Box::new(Link::new(Arc::clone(handle.board()), pair));
        if place == self.links.len() {
            self.links.push((id, link));
        } else {
            self.links[place] = (id, link);
        }
        Some(place)
    }

    /// The next message of the local queue.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Envelope<C::Msg>> {
        self.own.staged.pop_front()
    }

    /// Whom the next message of the local queue is for.
    #[inline]
    pub(crate) fn next_to(&self) -> Option<u32> {
        self.own.staged.front().map(|envelope| envelope.to)
    }

    /// Messages in the local queue.
    pub(crate) fn len(&self) -> usize {
        self.own.staged.len()
    }

    /// Gives back the memory of a burst.
    pub(crate) fn tidy(&mut self) {
        /// Slots kept: a fan-out of 10,000 does not allocate each time.
        const KEPT_SLOTS: usize = 16_384;
        if self.own.staged.is_empty() && self.own.staged.capacity() > KEPT_SLOTS {
            self.own.staged = Fifo::new();
        }
    }

    /// Stages a question, for which there is room, to a task actor; or a fork.
    pub(crate) fn ask(
        &mut self,
        key: u32,
        until: Time,
        question: Box<dyn AnyQuestion<C>>,
    ) -> AskId {
        self.asks.stage(key, until, &self.origin.bell, question)
    }

    /// Puts staged messages into their pair queues: one lock and at most one doorbell each; and
    /// staged questions into their mailboxes.
    pub(crate) fn flush(&mut self) {
        self.flush_links(Door::ring);
        // They are told in the next step, which nobody else may ask for.
        if self.asks.send(self.board.forks()) || !self.returns.is_empty() {
            self.origin.bell.ring();
        }
    }

    /// The messages alone, between two steps of cells, if there are any: where they go the work
    /// begins while it goes on here.
    #[inline]
    pub(crate) fn send_ahead(&mut self) {
        if self.away {
            self.flush_links(Door::ring_at_once);
        }
    }

    fn flush_links(&mut self, ring: fn(&Door)) {
        self.away = false;
        let (counts, returns) = (&mut self.counts, &mut self.returns);
        let mut lost = |n, back| {
            counts.lost += n;
            if let Some(back) = back {
                give_back(returns, &mut counts.returns_lost, back);
            }
        };
        for (_, link) in &mut self.links {
            link.flush(ring, &mut lost, C::HEARS_BOUNCES);
        }
    }

    /// Takes a bounce for a cell of this slab.
    pub(crate) fn bounce(&mut self, back: Returned) {
        give_back(&mut self.returns, &mut self.counts.returns_lost, back);
    }

    /// Bounces from other slabs join those of this one.
    pub(crate) fn collect_returns(&mut self) {
        let Some(queue) = &self.origin.returns else {
            return;
        };
        let mut taken = Fifo::new();
        queue.drain(&mut taken);
        if !taken.is_empty() {
            queue.delivered(taken.len());
            self.returns.append(&mut taken);
        }
    }

    /// See [`Door`](super::inbox::Door).
    pub(crate) fn sync_returns(&self) {
        self.asks.sync();
        if let Some(queue) = &self.origin.returns {
            queue.sync();
        }
    }

    /// The end: refuses bounces from now on; what waits for room is lost, questions are canceled.
    pub(crate) fn close(&mut self) {
        self.counts.lost += std::mem::take(&mut self.waiting) as u64;
        self.asks.close();
        let mut rest = std::mem::take(&mut self.returns);
        if let Some(queue) = &self.origin.returns {
            rest.append(&mut queue.close());
        }
        self.counts.returns_lost += rest.len() as u64;
        guard::discard(rest);
    }

    /// Same for one population, wherever it runs.
    pub(crate) const fn rank(&self) -> u64 {
        self.origin.rank
    }
}

fn give_back(returns: &mut Fifo<Returned>, lost: &mut u64, back: Returned) {
    if returns.len() < RETURNS_MAX {
        returns.push_back(back);
    } else {
        *lost += 1;
        guard::discard(back);
    }
}

fn address<T>(board: &Arc<T>) -> usize {
    Arc::as_ptr(board).addr()
}

/// A number for a path: FNV-1a, never 0, which is the rank of threads.
fn rank(path: &str) -> u64 {
    let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash | 1
}
