//! Cells: actors that never wait, so that a million of them fit on a few threads.
//!
//! A cell's step runs to completion on its shard and writes only to its [`CellContext`]; on a fault
//! or a panic its output is cut back, its identity restored, the cell dropped and its
//! [`CellSupervisor`] asked. It sends to cells and asks task actors by its context; it sends to a
//! task actor by `Addr::try_send` from its [`Outbox`]; its own sockets are at
//! [`CellContext::net`]. What a slab sends as one is its [`Outbox`]'s part.
//! Bound: a cell has at most [`TIMERS_PER_CELL_MAX`] timers; its mailbox is bounded by its
//! `MailboxSpec`.

mod asks;
mod forks;
mod ticks;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

pub use self::asks::{AskId, AsksFull};
pub use self::forks::{ForkError, ForkRefused};
pub use self::ticks::{MissedTicks, PERIOD_MIN};
use crate::addr::SendError;
use crate::clock::Time;
use crate::exit::{ExitReason, Fault, Flow, Incarnation};
use crate::mailbox::Message;
use crate::shard::{Bounce, Mail, NetSeat, Sender, Sent, SlabHandle, SocketEvent, SocketId, Wheel};

/// Most live timers of one cell: they are found by walking a list, which must stay short.
pub const TIMERS_PER_CELL_MAX: u32 = 8;

/// An actor on a shard.
///
/// `Self` need not be `Send`: it is made, run and dropped on one thread.
pub trait Cell: Sized + 'static {
    /// What it is sent.
    type Msg: Message;
    /// What all cells of a slab read (profiles, tables).
    type Shared: Send + 'static;
    /// What survives a restart: sequences, draw numbers, the last command. Belongs to the slab.
    type Identity: Copy + Send + 'static;
    /// Where its output goes; one per slab.
    type Out: Outbox;

    /// Makes the cell; also at each restart, with the identity as the last good step left it.
    ///
    /// # Errors
    /// A fault here is an exit like any other: the supervisor decides.
    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault>;

    /// Makes the next incarnation out of the former one, where its supervisor decided
    /// [`CellDecision::Resume`]. Timers, questions and sockets of the former are gone.
    ///
    /// # Errors
    /// A fault ends this incarnation as one of [`Cell::start`] does; the former one is lost.
    fn resume(self, cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        drop(self);
        Self::start(cx)
    }

    /// Takes one message.
    ///
    /// # Errors
    /// A fault ends this incarnation; the message counts as died with it.
    fn handle(&mut self, msg: Self::Msg, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault>;

    /// A timer is due: at or after [`CellContext::due`], which is the time it was set for. One that
    /// was set by [`CellContext::set_periodic`] is set for its next tick already, and
    /// [`CellContext::missed`] tells of ticks that it missed; any other fires once.
    ///
    /// # Errors
    /// A fault ends this incarnation.
    fn timer(&mut self, key: u8, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault>;

    /// Whether [`Cell::bounced`] wants to hear. If not, bounces are counted only, and cost nothing.
    const HEARS_BOUNCES: bool = false;

    /// A message that this cell sent has come back after `Ok`. Called if `HEARS_BOUNCES`, at most
    /// 1,024 waiting per slab; bounces for a former incarnation come here, too.
    ///
    /// # Errors
    /// A fault ends this incarnation.
    fn bounced(&mut self, bounce: Bounce, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        let _ = (bounce, cx);
        Ok(Flow::Continue)
    }

    /// Something has happened at a socket of this cell. See [`CellContext::net`].
    ///
    /// # Errors
    /// A fault ends this incarnation, and its sockets with it.
    fn socket(
        &mut self,
        socket: SocketId,
        event: SocketEvent<'_>,
        cx: &mut CellContext<'_, Self>,
    ) -> Result<Flow, Fault> {
        let _ = (socket, event, cx);
        Ok(Flow::Continue)
    }

    /// The last step of an ordered stop (`Flow::Stop`, stop by an operator, end of the host); not
    /// on a fault, a panic or a kill.
    fn stopping(&mut self, cx: &mut CellContext<'_, Self>) {
        let _ = cx;
    }
}

/// Output of a slab's cells, written within steps and flushed between them.
///
/// [`Outbox::mark`] is taken before each step: keep it a few words. `flush` and `cut` must not
/// panic.
pub trait Outbox: Send + 'static {
    /// A position in the unflushed output.
    type Mark: Copy;

    /// The position now.
    fn mark(&self) -> Self::Mark;

    /// Forgets what was written since `mark`; nothing is flushed between `mark` and `cut`.
    fn cut(&mut self, mark: Self::Mark);

    /// Sends what is ready. `now` is *monotonic* time (virtual in `sim`). `Some(t)`: call again by
    /// `t`, even when no cell ran.
    fn flush(&mut self, now: Time) -> Option<Time>;
}

/// Output that goes nowhere: for cells that only count.
impl Outbox for () {
    type Mark = ();
    fn mark(&self) {}
    fn cut(&mut self, (): ()) {}
    fn flush(&mut self, _now: Time) -> Option<Time> {
        None
    }
}

/// What happens to a cell that has exited. Times are monotonic, never scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellDecision {
    /// Start its next incarnation at `at`, or at once if that has passed.
    Restart {
        /// Monotonic time of the restart.
        at: Time,
    },
    /// The same, by [`Cell::resume`] if the former cell is whole: it was killed, or returned from
    /// its last step. After a panic or the end of its host it may be half changed, and after a
    /// fault of its start there is none: then it begins fresh.
    Resume {
        /// Monotonic time of the restart.
        at: Time,
    },
    /// It stays down; nobody is alarmed.
    Stop,
    /// It stays down, shown as quarantined, until an operator restarts it.
    Quarantine,
    /// Its group of 256 is restarted as one: see [`CellSupervisor::group_restart`].
    Escalate,
}

/// The end of one incarnation of a cell.
#[derive(Debug, Clone, Copy)]
pub struct CellExit<'a> {
    /// Number of the cell in its population.
    pub ordinal: u32,
    /// Which life has ended.
    pub incarnation: Incarnation,
    /// Why.
    pub reason: &'a ExitReason,
    /// The step that ended it: a message's kind, `timer`, `socket`, `bounced`, `answered` or
    /// `start`; none for a kill.
    pub in_hand: Option<&'static str>,
    /// Messages that waited.
    pub depth: u32,
    /// Monotonic time.
    pub now: Time,
}

/// A cell of a group that is restarted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupMember {
    /// Number of the cell in its population.
    pub ordinal: u32,
    /// When its restart was promised for, if it was waiting for one; that promise holds no more.
    pub promised: Option<Time>,
    /// When it may start. It comes as the earliest time there is; a supervisor puts it off.
    pub at: Time,
}

/// Decides about the cells of one slab, on their shard. Must not panic and must not wait.
pub trait CellSupervisor: Send {
    /// An incarnation has ended; it takes no further step.
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision;

    /// It has decided to [escalate](CellDecision::Escalate) at this exit: when each cell of the
    /// group that is to run may start, the one that has ended included. They come in ordinal
    /// order, all of them up or waiting still; asked before anything else.
    fn group_restart(&mut self, exit: &CellExit<'_>, members: &mut [GroupMember]) {
        let _ = (exit, members);
    }

    /// An operator gives the cell a new incarnation, whatever state it was in: its failures are
    /// forgotten.
    fn released(&mut self, ordinal: u32) {
        let _ = ordinal;
    }

    /// Tells what it has held back, if it is time to; when that will be, if it is not. Asked after
    /// each exit, and then at that time.
    fn tell(&mut self, now: Time) -> Option<Time> {
        let _ = now;
        None
    }

    /// Restarts decided so far.
    fn restarts(&self) -> u64;

    /// Cells quarantined so far.
    fn quarantined(&self) -> u64;
}

/// The timers of the cell whose step runs.
pub(crate) struct CellTimers<'a> {
    pub(crate) wheel: &'a mut Wheel,
    pub(crate) head: &'a mut u32,
    pub(crate) owner: u32,
}

/// What a cell sees and writes during one step.
#[non_exhaustive]
pub struct CellContext<'a, C: Cell> {
    /// Number of the cell in its population.
    pub ordinal: u32,
    /// Which life this is.
    pub incarnation: Incarnation,
    /// Simulated time of this step.
    pub now: Time,
    /// In a timer step the simulated time it was set for, otherwise `now`.
    pub due: Time,
    /// In the step of a periodic timer the ticks between `due` and `now` that will not fire: that
    /// many periods have passed. Otherwise 0; see [`MissedTicks`].
    pub missed: u64,
    /// Stamp of `now`, microseconds since the Unix epoch.
    pub unix_us: u64,
    /// Monotonic time of this step: for deadlines, never scaled.
    pub monotonic: Time,
    /// What all cells of the slab read.
    pub shared: &'a C::Shared,
    /// Restored to its value before the step when the step faults or unwinds.
    pub identity: &'a mut C::Identity,
    /// Cut back to its mark when the step faults or unwinds.
    pub out: &'a mut C::Out,
    pub(crate) timers: CellTimers<'a>,
    pub(crate) mail: &'a mut Mail<C>,
    pub(crate) net: NetSeat<'a>,
}

impl<C: Cell> CellContext<'_, C> {
    /// Sets timer `key` to fire `after` from now, in simulated time; replaces it if it is set.
    ///
    /// It never fires early, and late by up to [`WHEEL_TICK_NS`](crate::shard::WHEEL_TICK_NS).
    /// `false`: the cell has [`TIMERS_PER_CELL_MAX`] timers already and nothing was set.
    pub fn set_timer(&mut self, key: u8, after: Duration) -> bool {
        self.set_timer_at(key, self.now + after)
    }

    /// Sets timer `key` to fire at simulated time `at`; one that has passed fires at the next tick.
    pub fn set_timer_at(&mut self, key: u8, at: Time) -> bool {
        let CellTimers { wheel, head, owner } = &mut self.timers;
        wheel.set(head, *owner, key, at)
    }

    /// Sets timer `key` to fire at simulated time `first` and then each `period` (at least
    /// [`PERIOD_MIN`]), until it is cancelled or set anew; replaces it if it is set.
    ///
    /// Ticks stay on the grid of `first`, however late each fires, unless whole ticks are missed
    /// and `missed` moves it. A tick costs no more than a timer that fires once, and nothing is set
    /// again by the cell. `false` as [`CellContext::set_timer`].
    pub fn set_periodic(
        &mut self,
        key: u8,
        first: Time,
        period: Duration,
        missed: MissedTicks,
    ) -> bool {
        let CellTimers { wheel, head, owner } = &mut self.timers;
        wheel.set_periodic(head, *owner, key, first, (period, missed))
    }

    /// Cancels timer `key`; `false` if it was not set.
    pub fn cancel_timer(&mut self, key: u8) -> bool {
        let CellTimers { wheel, head, .. } = &mut self.timers;
        wheel.cancel(head, key)
    }
}

/// Messages to other cells. They go out when the step has ended well, and not at all if it faults
/// or unwinds. Order is kept per (from, to).
impl<C: Cell> CellContext<'_, C> {
    /// Sends to a cell of this slab: a plain push, without locks and atomics. `Ok`: the local queue
    /// took it; the cell's mailbox applies its rule, and what it refuses is counted and comes back
    /// to [`Cell::bounced`].
    ///
    /// # Errors
    /// With the message: `Full` when the local queue is full, or when that cell's mailbox blocks
    /// and enough waits for it already; `Closed` when the ordinal does not live here.
    #[inline]
    pub fn send(&mut self, to: u32, message: C::Msg) -> Result<(), SendError<C::Msg>> {
        self.mail.send(self.ordinal, to, message)
    }

    /// Sends to a cell of any slab, on this shard or on another. `Ok`: the pair queue of the two
    /// slabs took it; then as [`CellContext::send`], which this is for the cell's own slab.
    ///
    /// # Errors
    /// With the message: `Full` when the pair queue is full, or has a message waiting, or as
    /// [`CellContext::send`]; `Closed` when the ordinal does not live there or the slab has been
    /// closed.
    #[inline]
    pub fn send_to<D: Cell>(
        &mut self,
        slab: &SlabHandle<D>,
        to: u32,
        message: D::Msg,
    ) -> Result<(), SendError<D::Msg>> {
        self.mail.send_to(slab, self.ordinal, to, message)
    }

    /// Sends many, in order, from the front until one is refused; that one and the rest stay.
    /// Returns how many were accepted.
    pub fn send_batch<D: Cell>(
        &mut self,
        slab: &SlabHandle<D>,
        messages: &mut VecDeque<(u32, D::Msg)>,
    ) -> usize {
        let before = messages.len();
        while let Some((to, message)) = messages.pop_front() {
            if let Err(refused) = self.send_to(slab, to, message) {
                messages.push_front((to, refused.into_message()));
                break;
            }
        }
        before - messages.len()
    }

    /// Sends as [`CellContext::send_to`]; where there is no room, the message waits for it and so
    /// does this cell, for at most `patience` (monotonic). It takes no messages meanwhile; its
    /// timers go on. A message for which no room came is counted and bounces as `Timeout`. A wait
    /// ends with its incarnation.
    ///
    /// # Errors
    /// `Closed` as there; `Full` if this cell has a message waiting already, or there are too many
    /// pairs.
    pub fn send_or_wait<D: Cell>(
        &mut self,
        slab: &SlabHandle<D>,
        to: u32,
        message: D::Msg,
        patience: Duration,
    ) -> Result<Sent, SendError<D::Msg>> {
        let message = match self.send_to(slab, to, message) {
            Ok(()) => return Ok(Sent::Now),
            Err(SendError::Full(message)) => message,
            Err(other) => return Err(other),
        };
        let by = Sender {
            ordinal: self.ordinal,
            key: self.timers.owner,
            life: self.incarnation,
            now: self.monotonic,
        };
        match self.mail.wait(slab, by, to, message, patience) {
            Ok(()) => Ok(Sent::Waits),
            Err(message) => Err(SendError::Full(message)),
        }
    }
}

impl<C: Cell> fmt::Debug for CellContext<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CellContext")
            .field("ordinal", &self.ordinal)
            .field("incarnation", &self.incarnation)
            .field("now", &self.now)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}
