//! The `ractor` actor behind every task actor, and what outlives it: the record of its end.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use ractor::ActorProcessingErr;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::{ActorRef, Breakage, DRAIN_BUDGET, TaskActor, TaskContext};
use crate::addr::{Addr, Next};
use crate::census::MailboxView;
use crate::exit::{Exit, ExitReason, Fault, Flow, Incarnation, OnExit};
use crate::guard::discard;
use crate::hindrance::Hindrances;
use crate::mailbox::{Books, Message};
use crate::system::System;

/// The record of one incarnation: why it ended, its pumps, and who waits for its end.
pub(super) struct Life {
    reason: Mutex<Option<ExitReason>>,
    stop_requested: AtomicBool,
    /// What its next handler does instead of its work; 0: nothing.
    breakage: AtomicU8,
    exited: AtomicBool,
    exit_seen: Notify,
    pumps: Mutex<Vec<JoinHandle<()>>>,
}

impl Life {
    fn new() -> Self {
        Self {
            reason: Mutex::new(None),
            stop_requested: AtomicBool::new(false),
            breakage: AtomicU8::new(0),
            exited: AtomicBool::new(false),
            exit_seen: Notify::new(),
            pumps: Mutex::new(Vec::new()),
        }
    }

    /// Records why it ends; the first reason stays.
    pub(super) fn end_with(&self, reason: ExitReason) {
        self.reason.lock().get_or_insert(reason);
    }

    pub(super) fn request_stop(&self) {
        self.stop_requested.store(true, Ordering::Release);
    }

    /// Lets the next handler break so; the host has to be woken for it.
    pub(super) fn break_with(&self, how: Breakage) {
        self.breakage.store(how as u8, Ordering::Relaxed);
    }

    /// Breaks, if it is to.
    async fn breaks(&self) -> Result<(), Fault> {
        let breakage = self.breakage.load(Ordering::Relaxed);
        if breakage == 0 {
            return Ok(());
        }
        guarded(async {
            assert!(breakage != Breakage::Panic as u8, "injected panic");
            Err(Fault::new(INJECTED))
        })
        .await
    }

    pub(super) fn add_pump(&self, pump: JoinHandle<()>) {
        let mut pumps = self.pumps.lock();
        if pumps.len() == pumps.capacity() {
            pumps.retain(|p| !p.is_finished());
        }
        pumps.push(pump);
    }

    pub(super) fn has_exited(&self) -> bool {
        self.exited.load(Ordering::Acquire)
    }

    pub(super) async fn exited(&self) {
        loop {
            let seen = self.exit_seen.notified();
            tokio::pin!(seen);
            seen.as_mut().enable();
            if self.has_exited() {
                return;
            }
            seen.await;
        }
    }

    async fn end_pumps(&self) {
        loop {
            let pumps = std::mem::take(&mut *self.pumps.lock());
            if pumps.is_empty() {
                return;
            }
            for pump in &pumps {
                pump.abort();
            }
            for pump in pumps {
                drop(pump.await);
            }
        }
    }
}

/// Code of the fault of a second actor on one address.
const ALREADY_STARTED: &str = "already_started";

/// Code of the fault of a handler that was made to fail.
const INJECTED: &str = "injected_failure";

/// The one message that ractor carries for us.
pub(super) struct Wake;

struct Host<A>(PhantomData<fn() -> A>);

struct Arguments<A: TaskActor> {
    actor: A,
    addr: Addr<A::Msg>,
    incarnation: Incarnation,
    system: System,
    life: Arc<Life>,
}

struct HostState<A: TaskActor> {
    actor: A,
    context: TaskContext<A::Msg>,
    addr: Addr<A::Msg>,
    life: Arc<Life>,
}

/// Runs a handler and turns a panic into a fault.
async fn guarded<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(payload) => Err(Fault::from_panic(&*payload)),
    }
}

impl<A: TaskActor> HostState<A> {
    fn hindrances(&self) -> &Hindrances {
        self.context.system().hindrances()
    }

    /// Drains up to the budget; true if there may be more.
    async fn drain(&mut self) -> Result<Drained, Fault> {
        for _ in 0..DRAIN_BUDGET {
            self.hindrances().held(self.addr.path()).await;
            let next = self.addr.next();
            if let Err(fault) = self.life.breaks().await {
                if let Next::Message(message) = next {
                    discard(message); // it dies with the actor
                }
                return Err(fault);
            }
            let Next::Message(message) = next else {
                return Ok(Drained::Empty);
            };
            self.hindrances().slowed(self.addr.path()).await;
            match guarded(self.actor.handle(message, &mut self.context)).await? {
                Flow::Continue => {}
                Flow::Stop => {
                    self.addr.done();
                    return Ok(Drained::Finished);
                }
            }
            if self.life.stop_requested.load(Ordering::Acquire) {
                break;
            }
        }
        self.addr.done();
        Ok(Drained::More)
    }
}

enum Drained {
    Empty,
    More,
    Finished,
}

impl<A: TaskActor> ractor::Actor for Host<A> {
    type Msg = Wake;
    type State = HostState<A>;
    type Arguments = Arguments<A>;

    async fn pre_start(
        &self,
        myself: ractor::ActorRef<Wake>,
        args: Arguments<A>,
    ) -> Result<HostState<A>, ActorProcessingErr> {
        let Arguments {
            mut actor,
            addr,
            incarnation,
            system,
            life,
        } = args;
        let cell = myself.get_cell();
        let mut context =
            TaskContext::new(addr.clone(), incarnation, system, cell, Arc::clone(&life));
        let node = context.system().clone();
        let starting = async {
            node.hindrances().start(addr.path()).await?;
            actor.started(&mut context).await
        };
        if let Err(fault) = guarded(starting).await {
            life.end_with(ExitReason::Fault(fault.clone()));
            return Err(Box::new(fault));
        }
        // A wake-up that fails finds a dead actor, whose mailbox is being ended.
        let wake = Arc::new(move || drop(myself.send_message(Wake)));
        if !addr.begin(incarnation, wake) {
            let fault = Fault::new(ALREADY_STARTED);
            life.end_with(ExitReason::Fault(fault.clone()));
            return Err(Box::new(fault));
        }
        Ok(HostState {
            actor,
            context,
            addr,
            life,
        })
    }

    async fn handle(
        &self,
        myself: ractor::ActorRef<Wake>,
        Wake: Wake,
        state: &mut HostState<A>,
    ) -> Result<(), ActorProcessingErr> {
        match state.drain().await {
            Ok(Drained::Empty) => {}
            Ok(Drained::More) => drop(myself.send_message(Wake)),
            Ok(Drained::Finished) => {
                state.life.end_with(ExitReason::Normal);
                myself.stop(None);
            }
            Err(fault) => {
                state.life.end_with(ExitReason::Fault(fault.clone()));
                return Err(Box::new(fault));
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ractor::ActorRef<Wake>,
        state: &mut HostState<A>,
    ) -> Result<(), ActorProcessingErr> {
        let stopping = async {
            state.actor.stopping(&mut state.context).await;
            Ok(())
        };
        if let Err(fault) = guarded(stopping).await {
            state.life.end_with(ExitReason::Fault(fault));
        }
        state.life.end_with(ExitReason::Shutdown);
        Ok(())
    }
}

impl<M: Message> MailboxView for Addr<M> {
    fn id(&self) -> usize {
        Self::id(self)
    }
    fn books_to_add(&self) -> Books {
        Self::books_to_add(self)
    }
    fn retire_books(&self) -> Books {
        Self::retire_books(self)
    }
    fn books(&self) -> Books {
        Self::books(self)
    }
    fn depth(&self) -> u32 {
        Self::depth(self)
    }
    fn highest(&self) -> u32 {
        Self::highest_depth(self)
    }
    fn capacity(&self) -> u32 {
        Self::capacity(self)
    }
    fn close(&self) {
        Self::close(self);
    }
    fn set_full(&self, full: bool) {
        Self::set_full(self, full);
    }
}

impl System {
    /// Starts one incarnation of a task actor and waits until its `started` has returned.
    ///
    /// `on_exit` is called exactly once, after the incarnation has ended and everything it owned is
    /// dropped; it is not called if the start fails. Dropping the future abandons the start.
    ///
    /// # Errors
    /// The fault of `started`, or a panic in it; `already_started` while another incarnation of
    /// this address lives.
    pub async fn start_task<A: TaskActor>(
        &self,
        addr: &Addr<A::Msg>,
        incarnation: Incarnation,
        actor: A,
        on_exit: OnExit,
    ) -> Result<ActorRef, Fault> {
        if addr.is_up() {
            return Err(Fault::new(ALREADY_STARTED));
        }
        let (tx, rx) = oneshot::channel();
        let args = Arguments {
            actor,
            addr: addr.clone(),
            incarnation,
            system: self.clone(),
            life: Arc::new(Life::new()),
        };
        drop(self.handle().spawn(start(args, on_exit, tx)));
        let mut starting = Starting(rx);
        let result = (&mut starting.0).await;
        result.unwrap_or(Err(Fault::new("runtime_is_down")))
    }
}

/// The wait for a start. Dropped before its end it abandons the start, also one that is over and
/// has not been looked at.
struct Starting(oneshot::Receiver<Result<ActorRef, Fault>>);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.close();
        if let Ok(Ok(abandoned)) = self.0.try_recv() {
            abandoned.kill();
        }
    }
}

async fn start<A: TaskActor>(
    args: Arguments<A>,
    on_exit: OnExit,
    mut started: oneshot::Sender<Result<ActorRef, Fault>>,
) {
    let (addr, incarnation, system) = (args.addr.clone(), args.incarnation, args.system.clone());
    let life = Arc::clone(&args.life);
    let spawned = tokio::select! {
        biased;
        spawned = ractor::Actor::spawn(None, Host::<A>(PhantomData), args) => spawned,
        () = started.closed() => return life.end_pumps().await,
    };
    match spawned {
        Err(error) => {
            life.end_pumps().await;
            let fault = match life.reason.lock().take() {
                Some(ExitReason::Fault(fault)) => fault,
                _ => Fault::with("start_failed", error),
            };
            drop(started.send(Err(fault)));
        }
        Ok((actor, join)) => {
            let actor = ActorRef {
                path: addr.path().clone(),
                incarnation,
                cell: actor.get_cell(),
                life: Arc::clone(&life),
            };
            system
                .census()
                .started(actor.clone(), Arc::new(addr.clone()));
            let handle = system.handle().clone();
            drop(handle.spawn(watch(join, life, addr, incarnation, system, on_exit)));
            if let Err(Ok(abandoned)) = started.send(Ok(actor)) {
                abandoned.kill();
            }
        }
    }
}

/// Waits for the end of an incarnation, however it comes, and reports it once.
async fn watch<M: Message>(
    join: JoinHandle<()>,
    life: Arc<Life>,
    addr: Addr<M>,
    incarnation: Incarnation,
    system: System,
    on_exit: OnExit,
) {
    drop(join.await);
    life.end_pumps().await;
    let (depth, last_kinds) = addr.end();
    let reason = life.reason.lock().take().unwrap_or(ExitReason::Killed);
    system.census().exited(addr.path(), incarnation, &reason);
    life.exited.store(true, Ordering::Release);
    life.exit_seen.notify_waiters();
    on_exit(Exit {
        path: addr.path().clone(),
        incarnation,
        reason,
        last_kinds,
        depth,
    });
}
