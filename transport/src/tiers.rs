//! The three tiers: where the connections' traffic meets, one actor each.
//!
//! T1 and T2 forward batches to the world's first stage and wait for it there, so that backpressure
//! reaches the connections; T3 finds the connection of each command and keeps those that have none
//! until their deadline. They decode nothing. Bounds: mailboxes count batches; T3 keeps
//! [`T3_WAITING_MAX`] waiting commands.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{
    Addr, Fault, Flow, MailboxSpec, Message, Overflow, SendError, TaskActor, TaskContext,
};

use crate::batch::{Batch, EventBatch};
use crate::command::{Issued, Outcome, T3Message};
use crate::ingest::Ingest;
use crate::registry::{Registry, Routed};
use crate::stats::{DropReason, TransportStats};

/// Batches waiting in tier T1: small, because each connection has its own 1024.
pub const T1_TIER_BATCHES: u32 = 64;
/// Batches waiting in tier T2: 5 MiB, since each has a buffer of the largest.
pub const T2_TIER_BATCHES: u32 = 128;
/// Commands waiting in tier T3's mailbox.
pub const T3_TIER_COMMANDS: u32 = 256;
/// Commands without a usable connection kept until their deadline.
pub const T3_WAITING_MAX: usize = 4096;
/// How often waiting commands look for a connection again: well below a reconnect's 20 ms.
pub const T3_LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long a T1 batch waits for the world before it is stale and dropped.
pub const T1_WORLD_DEADLINE: Duration = Duration::from_secs(1);
/// How long one attempt of a T2 batch waits for the world.
pub const T2_WORLD_DEADLINE: Duration = Duration::from_secs(1);
/// Attempts of a `dt/1` T2 batch, which nobody would send again: beyond them the world is gone.
pub const T2_PLAIN_ATTEMPTS: u32 = 30;

pub(crate) fn t1_mailbox() -> MailboxSpec {
    MailboxSpec::new(T1_TIER_BATCHES, Overflow::Block).kept()
}

pub(crate) fn t2_mailbox() -> MailboxSpec {
    MailboxSpec::new(T2_TIER_BATCHES, Overflow::Block).kept()
}

pub(crate) fn t3_mailbox() -> MailboxSpec {
    MailboxSpec::new(T3_TIER_COMMANDS, Overflow::Reject).kept()
}

/// What tier T2 is sent, and hands on.
#[derive(Debug)]
pub enum T2Message {
    /// Of an `actorsim/1` session.
    Events(EventBatch),
    /// Of a `dt/1` stream.
    Plain(Batch),
}

impl Message for T2Message {
    fn kind(&self) -> &'static str {
        match self {
            Self::Events(_) => "t2_events",
            Self::Plain(_) => "t2_batch",
        }
    }
}

/// Tier T1.
#[derive(Debug)]
pub(crate) struct TierT1 {
    pub(crate) world: Addr<Ingest>,
}

impl TaskActor for TierT1 {
    type Msg = Batch;

    async fn handle(&mut self, batch: Batch, _: &mut TaskContext<Batch>) -> Result<Flow, Fault> {
        if let Err(refused) = self.world.send(Ingest::T1(batch), T1_WORLD_DEADLINE).await
            && let Ingest::T1(batch) = refused.into_message()
        {
            batch.discard(DropReason::Tier);
        }
        Ok(Flow::Continue)
    }
}

/// Tier T2.
#[derive(Debug)]
pub(crate) struct TierT2 {
    pub(crate) events: Addr<T2Message>,
}

impl TaskActor for TierT2 {
    type Msg = T2Message;

    async fn handle(
        &mut self,
        mut message: T2Message,
        _: &mut TaskContext<T2Message>,
    ) -> Result<Flow, Fault> {
        let attempts = match &message {
            // Not acknowledged, so the link sends it again.
            T2Message::Events(_) => 1,
            T2Message::Plain(_) => T2_PLAIN_ATTEMPTS,
        };
        for _ in 0..attempts {
            match self.events.send(message, T2_WORLD_DEADLINE).await {
                Ok(()) => return Ok(Flow::Continue),
                Err(SendError::Closed(refused)) => {
                    message = refused;
                    break;
                }
                Err(refused) => message = refused.into_message(),
            }
        }
        if let T2Message::Plain(batch) = message {
            batch.discard(DropReason::Tier);
        }
        Ok(Flow::Continue)
    }
}

/// Tier T3.
#[derive(Debug)]
pub(crate) struct TierT3 {
    registry: Arc<Registry>,
    stats: Arc<TransportStats>,
    waiting: VecDeque<Issued>,
    ticking: bool,
}

impl TierT3 {
    pub(crate) fn new(registry: Arc<Registry>, stats: Arc<TransportStats>) -> Self {
        Self {
            registry,
            stats,
            waiting: VecDeque::new(),
            ticking: false,
        }
    }

    fn dispatch(&mut self, issued: Issued, cx: &TaskContext<T3Message>) {
        if cx.clock().monotonic() >= issued.command().expires() {
            return issued.expire();
        }
        match self.registry.route(issued, cx.addr()) {
            Routed::Sent => {}
            Routed::NoRoute(issued) => self.wait(issued),
            Routed::Busy(mut issued) => {
                issued.routed = true;
                self.wait(issued);
            }
        }
    }

    fn wait(&mut self, issued: Issued) {
        if self.waiting.len() < T3_WAITING_MAX {
            self.waiting.push_back(issued);
        } else {
            issued.settle(Outcome::Dropped);
        }
    }

    fn look_again_later(&mut self, cx: &TaskContext<T3Message>) {
        if self.ticking || self.waiting.is_empty() {
            return;
        }
        self.ticking = true;
        let addr = cx.addr().clone();
        cx.pump(async move {
            tokio::time::sleep(T3_LOOK_AGAIN).await;
            // A lane full of retries is no reason to die with those that wait.
            while addr.try_send_control(T3Message::Tick).is_err() {
                tokio::time::sleep(T3_LOOK_AGAIN).await;
            }
            Ok(())
        });
    }
}

impl TaskActor for TierT3 {
    type Msg = T3Message;

    async fn handle(
        &mut self,
        message: T3Message,
        cx: &mut TaskContext<T3Message>,
    ) -> Result<Flow, Fault> {
        match message {
            T3Message::Command(issued) => self.dispatch(issued, cx),
            T3Message::Retry(issued) => {
                // A moment later: the connection may be on its way out of the registry.
                self.stats.t3.retried.inc();
                self.wait(issued);
            }
            T3Message::Tick => {
                self.ticking = false;
                for issued in std::mem::take(&mut self.waiting) {
                    self.dispatch(issued, cx);
                }
            }
        }
        self.look_again_later(cx);
        Ok(Flow::Continue)
    }
}
