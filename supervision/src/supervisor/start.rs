//! How a supervisor starts, and what happens when it ends in whatever way.
//!
//! The start is over when all first children are up, or when those that were are stopped again. The
//! end is reported when all children are gone: an ordered stop does that in the actor's `stopping`,
//! everything else (kill, panic, abandoned start) in [`Teardown`], on the runtime.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use actorsim_actors::{ActorRef, Exit, ExitReason, Fault, OnExit, System};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::core::End;
use super::policy::Rule;
use super::table::Table;
use super::{StartError, SupervisorActor, SupervisorRef};
use crate::governance::Labels;
use crate::report::Supervision;
use crate::spec::{StartContext, SupervisorSpec, check_childspecs};

/// Whether a start under way is given up: 0 no, 1 in order, 2 at once.
pub(crate) type Cancel = watch::Receiver<u8>;

/// What outlives a supervisor's incarnations: who lives now, and how the last one ended.
#[derive(Debug)]
pub(crate) struct Seat {
    actor: Mutex<Option<ActorRef>>,
    lives: watch::Sender<Lives>,
    labels: OnceLock<Labels>,
    pub(super) rule: Mutex<Rule>,
    supervision: OnceLock<Arc<Supervision>>,
}

/// The lives of a supervisor so far. Who waits for the end of one compares numbers: the next may
/// have begun before they look.
#[derive(Debug, Clone)]
struct Lives {
    begun: u64,
    lives: bool,
    last_end: ExitReason,
}

impl Default for Seat {
    fn default() -> Self {
        Self {
            actor: Mutex::new(None),
            lives: watch::Sender::new(Lives {
                begun: 0,
                lives: false,
                last_end: ExitReason::Shutdown,
            }),
            labels: OnceLock::new(),
            rule: Mutex::default(),
            supervision: OnceLock::new(),
        }
    }
}

impl Seat {
    pub(super) fn actor(&self) -> Option<ActorRef> {
        self.actor.lock().clone()
    }

    pub(super) fn labels(&self) -> Labels {
        self.labels.get().cloned().unwrap_or_default()
    }

    /// The counters of the tree; those of its root once it is part of one.
    pub(super) fn supervision(&self) -> Arc<Supervision> {
        Arc::clone(self.supervision.get_or_init(Arc::default))
    }

    /// Waits for the end of the life that is under way when this is called, not polled.
    pub(super) fn exited(&self) -> impl Future<Output = ExitReason> + use<> {
        let mut watched = self.lives.subscribe();
        let mine = watched.borrow_and_update().begun;
        async move {
            let over = watched
                .wait_for(|now| !now.lives || now.begun != mine)
                .await;
            over.map_or(ExitReason::Shutdown, |now| now.last_end.clone())
        }
    }

    /// A life begins; returns its number.
    fn begin(&self) -> u64 {
        self.lives.send_modify(|now| {
            now.begun += 1;
            now.lives = true;
        });
        self.lives.borrow().begun
    }

    /// Life `mine` with this table is over, and its parent will be told: from then on the next may
    /// begin at any time. Nothing of another life is touched.
    fn ends(&self, mine: u64, table: &Arc<Table>, reason: ExitReason) {
        self.vacate(table);
        self.lives.send_if_modified(|now| {
            let last = now.begun == mine;
            if last {
                *self.actor.lock() = None;
                now.last_end = reason;
            }
            last
        });
    }

    /// The parent of life `mine` has been told of its end.
    fn ended(&self, mine: u64) {
        self.lives.send_if_modified(|now| {
            let last = now.begun == mine;
            now.lives &= !last;
            last
        });
    }
}

/// Starts a tree and waits until all of it is up.
///
/// # Errors
/// [`StartError`]; nothing is left running.
pub async fn start_root(
    system: &System,
    spec: SupervisorSpec,
) -> Result<SupervisorRef, StartError> {
    let reference = spec.reference();
    let (_keep, cancel) = watch::channel(0);
    let addr = spec.addr.clone();
    let cx = StartContext::new(
        system.clone(),
        spec.addr.next_incarnation(),
        Box::new(move |_| addr.close()), // nobody starts a root again
        spec.seat.supervision(),
        cancel,
    );
    start_tree(Arc::new(spec), cx).await?;
    Ok(reference)
}

/// Starts a subtree, as a child spec's start function.
pub(crate) fn start(
    spec: Arc<SupervisorSpec>,
    cx: StartContext,
) -> BoxFuture<'static, Result<ActorRef, Fault>> {
    Box::pin(async move { start_tree(spec, cx).await.map_err(Fault::from) })
}

async fn start_tree(spec: Arc<SupervisorSpec>, cx: StartContext) -> Result<ActorRef, StartError> {
    spec.seat.labels.get_or_init(|| spec.labels.clone());
    let StartContext {
        system,
        incarnation,
        on_exit,
        supervision,
        mut cancel,
    } = cx;
    spec.seat
        .supervision
        .get_or_init(|| Arc::clone(&supervision));
    supervision.seats().add(&spec.addr, &spec.seat);
    let (ready, mut up) = oneshot::channel();
    let table = spec.seat.occupy(&spec, &system, |governed| {
        check_childspecs(&governed.policy, &governed.children).map_err(StartError::Invalid)?;
        Ok(Table::new(governed, system.clone(), supervision, ready))
    })?;
    let teardown = Teardown(Some(Work {
        table: Arc::clone(&table),
        on_exit,
        life: spec.seat.begin(),
        seat: Arc::clone(&spec.seat),
    }));
    let actor = SupervisorActor { table };
    let on_exit: OnExit = Box::new(move |exit| teardown.run(Some(exit)));
    let started = system
        .start_task(&spec.addr, incarnation, actor, on_exit)
        .await;
    let actor = started.map_err(StartError::Failed)?;
    *spec.seat.actor.lock() = Some(actor.clone());
    let guard = KillOnDrop(Some(actor.clone()));
    let up = up_or_canceled(&actor, &mut up, &mut cancel).await;
    guard.keep();
    up.map(|()| actor)
}

/// Waits until the children are up; a start that is given up ends in order, then at once.
async fn up_or_canceled(
    actor: &ActorRef,
    up: &mut oneshot::Receiver<Result<(), StartError>>,
    cancel: &mut Cancel,
) -> Result<(), StartError> {
    loop {
        let given_up = async {
            if cancel.changed().await.is_err() {
                std::future::pending::<()>().await; // nobody can give it up any more
            }
            *cancel.borrow_and_update()
        };
        tokio::select! {
            biased;
            result = &mut *up => {
                let runtime_is_down = Err(StartError::Failed(Fault::new("runtime_is_down")));
                return result.unwrap_or(runtime_is_down);
            }
            level = given_up => if level == 1 { actor.stop() } else { actor.kill() },
        }
    }
}

/// Kills a supervisor whose start nobody waits for any more.
struct KillOnDrop(Option<ActorRef>);

impl KillOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(actor) = self.0.take() {
            actor.kill();
        }
    }
}

struct Work {
    table: Arc<Table>,
    on_exit: OnExit,
    life: u64,
    seat: Arc<Seat>,
}

/// Takes the children of a supervisor that has ended, then reports its end. Also runs when it is
/// dropped, so that no way of ending leaves orphans.
struct Teardown(Option<Work>);

impl Teardown {
    fn run(mut self, exit: Option<Exit>) {
        if let Some(work) = self.0.take() {
            let system = work.table.system().clone();
            system.detached(work.finish(exit));
        }
    }
}

impl Drop for Teardown {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            let system = work.table.system().clone();
            system.detached(work.finish(None));
        }
    }
}

impl Work {
    async fn finish(self, exit: Option<Exit>) {
        let Self {
            table,
            on_exit,
            life,
            seat,
        } = self;
        table.end();
        table.drive().await;
        table.retire_dynamic();
        let own = exit
            .as_ref()
            .map_or(ExitReason::Killed, |exit| exit.reason.clone());
        let (reason, ready) = table.outcome(own);
        seat.ends(life, &table, reason.clone());
        match (exit, ready) {
            (Some(exit), None) => {
                on_exit(Exit { reason, ..exit });
                seat.ended(life);
            }
            (_, ready) => {
                drop(on_exit); // the start failed: the parent waits for its result, not for an exit
                seat.ended(life);
                if let Some((ready, error)) = ready {
                    drop(ready.send(Err(error)));
                }
            }
        }
    }
}

/// The end of a supervisor as its parent sees it.
pub(super) fn reason_of(end: Option<&End>, own: ExitReason) -> ExitReason {
    match end {
        Some(End::Escalated) => ExitReason::Escalated,
        Some(End::AutoShutdown) => ExitReason::Shutdown,
        _ => own,
    }
}
