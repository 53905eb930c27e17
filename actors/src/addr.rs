//! The address of an actor: the sending end of its mailbox.
//!
//! An [`Addr`] names the actor, not one incarnation: it outlives restarts, and a sender that waits
//! for room waits on through one, until its deadline. It owns the [`Ring`] behind a lock that is
//! held for a push or a pop only. It does not host or restart anything.
//! - `errors`: why a message or a question did not get through; `host`: the host's end.
//!
//! Bound: the mailbox's capacity; senders that wait hold their own message.

mod errors;
mod host;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

pub use errors::{AskError, SendError};
pub(crate) use host::Next;

use crate::exit::{Incarnation, Kinds};
use crate::guard::discard;
use crate::mailbox::{Books, Conflation, MailboxSpec, Message, Offered, OnRestart, Overflow, Ring};
use crate::path::ActorPath;

/// The answering end of a question. Dropping it answers [`AskError::Canceled`].
#[derive(Debug)]
pub struct Reply<R>(oneshot::Sender<R>);

impl<R> Reply<R> {
    /// A reply and the future of its answer.
    #[must_use]
    pub fn channel() -> (Self, oneshot::Receiver<R>) {
        let (tx, rx) = oneshot::channel();
        (Self(tx), rx)
    }

    /// Answers. An asker that no longer waits loses the answer, by its own choice.
    pub fn send(self, answer: R) {
        drop(self.0.send(answer));
    }

    /// Whether nobody waits for the answer any more.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        self.0.is_closed()
    }
}

/// How the host is told that a mailbox has work; called once per empty-to-non-empty edge.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before the first start, or between two incarnations.
    Down,
    Up,
    Closed,
}

struct State<M> {
    ring: Ring<M>,
    books: Books,
    phase: Phase,
    incarnation: Incarnation,
    /// Lives begun; the next incarnation's number is one more.
    begun: u32,
    in_hand: bool,
    last_kinds: Kinds,
    /// A wake-up is under way or the actor is draining.
    scheduled: bool,
    wake: Option<Wake>,
    waiters: u32,
    highest: u32,
    /// It has no room, on purpose, whatever waits.
    full: bool,
    /// What the census has added up for good; it must not count it again.
    retired: Books,
}

struct Mailbox<M> {
    path: ActorPath,
    spec: MailboxSpec,
    state: Mutex<State<M>>,
    /// Signals room or a change of phase to waiting senders.
    room: Notify,
}

/// Sends to one actor; clones send to the same one.
pub struct Addr<M>(Arc<Mailbox<M>>);

impl<M> Clone for Addr<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Addr<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Addr({})", self.0.path)
    }
}

/// Counts a sender as waiting while it does.
struct Waiting<'a, M>(&'a Mailbox<M>);

impl<M> Drop for Waiting<'_, M> {
    fn drop(&mut self) {
        self.0.state.lock().waiters -= 1;
    }
}

impl<M: Message> Addr<M> {
    /// The address of an actor that has not been started yet.
    #[must_use]
    pub fn new(path: ActorPath, spec: MailboxSpec) -> Self {
        Self(Arc::new(Mailbox {
            path,
            spec,
            state: Mutex::new(State {
                ring: Ring::default(),
                books: Books::default(),
                phase: Phase::Down,
                incarnation: Incarnation(0),
                begun: 0,
                in_hand: false,
                last_kinds: Kinds::default(),
                scheduled: false,
                wake: None,
                waiters: 0,
                highest: 0,
                full: false,
                retired: Books::default(),
            }),
            room: Notify::new(),
        }))
    }

    /// The actor's path.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        &self.0.path
    }

    /// Bound and rules of the mailbox.
    #[must_use]
    pub fn spec(&self) -> &MailboxSpec {
        &self.0.spec
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// [`SendError`] with the message: `Full` (also under `Block`), `Restarting` or `Closed`.
    pub fn try_send(&self, message: M) -> Result<(), SendError<M>> {
        self.push(message, Lane::Work, true)
    }

    /// Sends on the control lane, which overtakes work and is not subject to the overflow rule.
    ///
    /// # Errors
    /// As [`Addr::try_send`].
    pub fn try_send_control(&self, message: M) -> Result<(), SendError<M>> {
        self.push(message, Lane::Control, true)
    }

    /// Sends many from the front until one is refused, which stays with those behind it; returns
    /// how many were accepted.
    pub fn try_send_batch(&self, messages: &mut VecDeque<M>) -> usize {
        let before = messages.len();
        while let Some(message) = messages.pop_front() {
            if let Err(refused) = self.try_send(message) {
                messages.push_front(refused.into_message());
                break;
            }
        }
        before - messages.len()
    }

    /// Sends, waiting for room or for the end of a restart for at most `deadline`.
    ///
    /// # Errors
    /// [`SendError`] with the message: `Timeout`, `Closed`, or `Full` where the rule is `Reject`.
    pub async fn send(&self, message: M, deadline: Duration) -> Result<(), SendError<M>> {
        let mut message = match self.push(message, Lane::Work, false) {
            Ok(()) => return Ok(()),
            Err(refused) => self.settle(refused)?,
        };
        self.0.state.lock().waiters += 1;
        let waiting = Waiting(&*self.0);
        let until = tokio::time::sleep(deadline);
        tokio::pin!(until);
        loop {
            let room = self.0.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            message = match self.push(message, Lane::Work, false) {
                Ok(()) => return Ok(()),
                Err(refused) => self.settle(refused)?,
            };
            tokio::select! {
                biased;
                () = &mut room => {}
                () = &mut until => {
                    drop(waiting);
                    self.0.state.lock().books.refuse();
                    return Err(SendError::Timeout(message));
                }
            }
        }
    }

    /// Whether a refused message is worth waiting for; books it as rejected if not.
    fn settle(&self, refused: SendError<M>) -> Result<M, SendError<M>> {
        match refused {
            SendError::Full(m) if self.0.spec.overflow != Overflow::Reject => Ok(m),
            SendError::Restarting(m) => Ok(m),
            other => {
                self.0.state.lock().books.refuse();
                Err(other)
            }
        }
    }

    /// Sends a question and waits for its answer; `deadline` covers both.
    ///
    /// # Errors
    /// [`AskError`]; the message is gone.
    pub async fn ask<R: Send>(
        &self,
        message: impl FnOnce(Reply<R>) -> M,
        deadline: Duration,
    ) -> Result<R, AskError> {
        let (reply, answer) = Reply::channel();
        let asking = async {
            self.send(message(reply), deadline)
                .await
                .map_err(|e| match e {
                    SendError::Full(_) => AskError::Full,
                    SendError::Restarting(_) => AskError::Restarting,
                    SendError::Closed(_) => AskError::Closed,
                    SendError::Timeout(_) => AskError::Timeout,
                })?;
            answer.await.map_err(|_| AskError::Canceled)
        };
        tokio::time::timeout(deadline, asking)
            .await
            .unwrap_or(Err(AskError::Timeout))
    }

    /// `book`: whether a refusal is booked here, or left to a caller that will wait and try again.
    fn push(&self, message: M, lane: Lane, book: bool) -> Result<(), SendError<M>> {
        let (outcome, wake) = {
            let mut guard = self.0.state.lock();
            let state = &mut *guard;
            let refusal = match state.phase {
                Phase::Closed => Some(SendError::Closed as fn(M) -> SendError<M>),
                Phase::Down if self.0.spec.on_restart == OnRestart::Dropped => {
                    Some(SendError::Restarting as fn(M) -> SendError<M>)
                }
                _ => None,
            };
            if let Some(refusal) = refusal {
                if book {
                    state.books.refuse();
                }
                return Err(refusal(message));
            }
            match self.offer(state, message, lane, book) {
                Err(message) => return Err(SendError::Full(message)),
                Ok(outcome) => {
                    let depth = u32::try_from(state.ring.len()).unwrap_or(u32::MAX);
                    state.highest = state.highest.max(depth);
                    let edge = !state.scheduled && state.phase == Phase::Up;
                    if edge {
                        state.scheduled = true;
                    }
                    (outcome, if edge { state.wake.clone() } else { None })
                }
            }
        };
        if let Some(wake) = wake {
            wake();
        }
        if !matches!(outcome, Offered::Queued) {
            discard(outcome); // outside the lock: a message's destructor may do anything
        }
        Ok(())
    }

    /// Offers to a lane. A message that its sender keeps for later (`book` is false) is not booked.
    fn offer(
        &self,
        state: &mut State<M>,
        message: M,
        lane: Lane,
        book: bool,
    ) -> Result<Offered<M>, M> {
        let mut spec = self.0.spec;
        if state.full {
            spec.capacity = 0;
        }
        let (spec, State { ring, books, .. }) = (&spec, state);
        let (message, key) = match lane {
            Lane::Control => return ring.offer_control(books, message).map(|()| Offered::Queued),
            Lane::Work if spec.conflation == Conflation::Off => (message, None),
            Lane::Work => match ring.merge(spec, books, message) {
                Ok(merged) => return Ok(merged),
                Err(alone) => alone,
            },
        };
        if !book && ring.refuses(spec) {
            return Err(message);
        }
        ring.append(spec, books, message, key)
    }

    /// The counters, with what waits now.
    #[must_use]
    pub fn books(&self) -> Books {
        let state = self.0.state.lock();
        state
            .books
            .with_waiting(state.ring.len() as u64 + u64::from(state.in_hand))
    }

    /// Messages that wait, the one in hand included.
    #[must_use]
    pub fn depth(&self) -> u32 {
        let state = self.0.state.lock();
        u32::try_from(state.ring.len()).unwrap_or(u32::MAX) + u32::from(state.in_hand)
    }

    /// Most messages that ever waited at once.
    #[must_use]
    pub fn highest_depth(&self) -> u32 {
        self.0.state.lock().highest
    }

    /// The work lane's bound.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.0.spec.capacity
    }

    /// Whether an incarnation is alive.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0.state.lock().phase == Phase::Up
    }

    /// Whether the actor has ended for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.state.lock().phase == Phase::Closed
    }

    /// The incarnation that lives or lived last; 0 before the first.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.0.state.lock().incarnation
    }

    /// Takes the number of the next life. Numbers only grow, whoever restarts the actor.
    #[must_use]
    pub fn next_incarnation(&self) -> Incarnation {
        let mut state = self.0.state.lock();
        state.begun = state.begun.saturating_add(1);
        Incarnation(state.begun)
    }

    /// Ends the actor for good: waiting messages die, waiting senders get `Closed`.
    pub fn close(&self) {
        let dead = {
            let mut guard = self.0.state.lock();
            let state = &mut *guard;
            state.phase = Phase::Closed;
            state.wake = None;
            state.ring.die(&mut state.books)
        };
        drop(dead);
        self.0.room.notify_waiters();
    }
}

#[derive(Clone, Copy)]
enum Lane {
    Control,
    Work,
}
