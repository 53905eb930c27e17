//! The tree, grown: real supervisors and workers on a paused runtime, under constant load.
//!
//! Workers write down what happens to them and check what only they can see. Bound: the tree's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use actorsim_actors::{
    ActorRef, Addr, Clock, Fault, Flow, Message, OnRestart, System, TaskActor, TaskContext,
};
use actorsim_supervision::{ChildSpec, Shutdown, SupervisorRef, SupervisorSpec, start_root};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::model::Line;
use crate::trace::{Row, Trace};
use crate::tree::{PATIENCE, Patience, Tree};

/// Between two bursts of load.
const BEAT: Duration = Duration::from_millis(250);
/// A start that hangs does so until it goes on or is given up.
const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);
/// Messages of a burst, for each worker: one more than its mailbox holds.
const BURST: u32 = 3;

#[derive(Debug)]
pub(crate) enum Order {
    /// Load: a number that only grows, and the incarnation that was up when it was sent.
    Work {
        number: u64,
        to: u32,
    },
    Finish,
    Fail,
    Panic,
    Hang,
}

impl Message for Order {
    fn kind(&self) -> &'static str {
        match self {
            Self::Work { .. } => "work",
            Self::Finish => "finish",
            Self::Fail => "fail",
            Self::Panic => "panic",
            Self::Hang => "hang",
        }
    }
}

/// What the workers of a run share.
pub(crate) struct Shared {
    pub(crate) tree: Arc<Tree>,
    pub(crate) clock: Clock,
    pub(crate) lines: Mutex<Vec<Line>>,
    pub(crate) trace: Mutex<Trace>,
    /// What only a worker or the load can see: a broken promise, by its name.
    pub(crate) broken: Mutex<Vec<String>>,
    pub(crate) alive: Vec<AtomicI32>,
    pub(crate) fails: Vec<AtomicU32>,
    pub(crate) start_hangs: Vec<AtomicBool>,
    /// Where those wait that hang.
    pub(crate) gates: Vec<Notify>,
    handled: Vec<AtomicU64>,
    /// The load is over, and nobody hangs any more.
    idle: AtomicBool,
}

impl Shared {
    async fn hang(&self, node: usize) {
        if !self.idle.load(Ordering::Relaxed) {
            self.gates[node].notified().await;
        }
    }

    fn breaks(&self, what: String) {
        self.broken.lock().push(what);
    }

    pub(crate) fn row(
        &self,
        glyph: char,
        node: usize,
        life: u32,
        state: &'static str,
        mailbox: u32,
    ) {
        self.trace.lock().push(Row {
            at: Duration::from_nanos(self.clock.monotonic().as_nanos()),
            glyph,
            path: self.tree.nodes[node].path.to_string(),
            incarnation: life,
            state,
            mailbox,
            restarts: u64::from(life.saturating_sub(1)),
        });
    }
}

struct Worker {
    node: usize,
    shared: Arc<Shared>,
    life: u32,
    up: bool,
}

impl TaskActor for Worker {
    type Msg = Order;

    async fn started(&mut self, cx: &mut TaskContext<Order>) -> Result<(), Fault> {
        self.life = cx.incarnation().0;
        if self.shared.start_hangs[self.node].swap(false, Ordering::Relaxed) {
            self.shared.row('x', self.node, self.life, "start hangs", 0);
            self.shared.hang(self.node).await;
        }
        let fails = &self.shared.fails[self.node];
        if fails.load(Ordering::Relaxed) > 0 {
            fails.fetch_sub(1, Ordering::Relaxed);
            self.shared.row('x', self.node, self.life, "start fails", 0);
            return Err(Fault::new("start_fails"));
        }
        tokio::task::yield_now().await;
        self.up = true;
        if self.shared.alive[self.node].fetch_add(1, Ordering::Relaxed) != 0 {
            let path = cx.path();
            self.shared
                .breaks(format!("I6 one live incarnation: {path} lives twice"));
        }
        self.shared.lines.lock().push(Line::Up(self.node));
        let depth = cx.addr().depth();
        self.shared.row('^', self.node, self.life, "running", depth);
        Ok(())
    }

    async fn handle(&mut self, order: Order, cx: &mut TaskContext<Order>) -> Result<Flow, Fault> {
        match order {
            Order::Work { number, to } => {
                self.check(number, to, cx);
                if number.is_multiple_of(4) {
                    tokio::time::sleep(Duration::from_millis(60)).await;
                }
            }
            Order::Finish => return Ok(Flow::Stop),
            Order::Fail => return Err(Fault::new("told_to_fail")),
            Order::Panic => panic!("told to panic"),
            Order::Hang => self.shared.hang(self.node).await,
        }
        Ok(Flow::Continue)
    }
}

impl Worker {
    /// I7: nothing that was sent to a former incarnation, unless the mailbox is kept; and nothing
    /// twice.
    fn check(&self, number: u64, to: u32, cx: &TaskContext<Order>) {
        let kept = cx.addr().spec().on_restart == OnRestart::Kept;
        if to != self.life && !(kept && to <= self.life) {
            let (path, life) = (cx.path(), self.life);
            self.shared.breaks(format!(
                "I7 no message to the dead: {path}#{life} handled a message to #{to}"
            ));
        }
        if self.shared.handled[self.node].swap(number, Ordering::Relaxed) >= number {
            let path = cx.path();
            self.shared.breaks(format!(
                "I7 no message to the dead: {path} handled {number} again"
            ));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.up {
            self.shared.alive[self.node].fetch_sub(1, Ordering::Relaxed);
            self.shared.lines.lock().push(Line::Down(self.node));
            self.shared.row('x', self.node, self.life, "down", 0);
        }
    }
}

/// What of a node can be seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) up: bool,
    pub(crate) incarnation: u32,
}

pub(crate) struct Forest {
    pub(crate) runtime: Runtime,
    pub(crate) system: System,
    pub(crate) shared: Arc<Shared>,
    pub(crate) root: SupervisorRef,
    pub(crate) plants: Plants,
    /// Tasks of the runtime before the tree was there.
    pub(crate) tasks_before: usize,
}

/// Every node, by how it is reached.
pub(crate) struct Plants {
    pub(crate) addrs: Vec<Option<Addr<Order>>>,
    pub(crate) supervisors: Vec<Option<SupervisorRef>>,
    /// Children that are added while their supervisor runs.
    pub(crate) later: Vec<Option<ChildSpec>>,
}

impl Plants {
    /// The spec of a supervisor, with its first children and theirs.
    fn grow(&mut self, id: usize, shared: &Arc<Shared>) -> SupervisorSpec {
        let node = &shared.tree.nodes[id];
        let mut spec = SupervisorSpec::new(node.path.clone(), node.rule().policy());
        for child in &node.children {
            let child_spec = self.child(*child, shared);
            if shared.tree.is_added(*child) {
                self.later[*child] = Some(child_spec);
            } else {
                spec = spec.child(child_spec);
            }
        }
        self.supervisors[id] = Some(spec.reference());
        spec
    }

    fn child(&mut self, id: usize, shared: &Arc<Shared>) -> ChildSpec {
        let node = &shared.tree.nodes[id];
        let name = node.path.name().to_owned();
        let mut spec = if node.is_worker() {
            let addr = Addr::new(node.path.clone(), node.mailbox());
            self.addrs[id] = Some(addr.clone());
            let shared = Arc::clone(shared);
            let make = move || Worker {
                node: id,
                shared: Arc::clone(&shared),
                life: 0,
                up: false,
            };
            ChildSpec::task(name, &addr, make)
                .shutdown(match node.patience() {
                    Patience::None => Shutdown::BrutalKill,
                    Patience::Short => Shutdown::After(PATIENCE),
                    Patience::Endless => Shutdown::Infinity,
                })
                .start_timeout(FOR_EVER)
        } else {
            ChildSpec::supervisor(name, self.grow(id, shared))
        };
        spec = spec.restart(node.restart);
        match node.significant {
            true => spec.significant(),
            false => spec,
        }
    }
}

impl Forest {
    pub(crate) fn grown(tree: &Arc<Tree>) -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        let (clock, handle) = {
            let _inside = runtime.enter();
            (Clock::of_runtime(0), runtime.handle().clone())
        };
        let system = System::new(clock.clone(), handle);
        let nodes = 0..tree.nodes.len();
        let zeros = || nodes.clone();
        let shared = Arc::new(Shared {
            tree: Arc::clone(tree),
            clock,
            lines: Mutex::default(),
            trace: Mutex::default(),
            broken: Mutex::default(),
            alive: zeros().map(|_| AtomicI32::new(0)).collect(),
            fails: zeros().map(|_| AtomicU32::new(0)).collect(),
            start_hangs: zeros().map(|_| AtomicBool::new(false)).collect(),
            gates: zeros().map(|_| Notify::new()).collect(),
            handled: zeros().map(|_| AtomicU64::new(0)).collect(),
            idle: AtomicBool::new(false),
        });
        let mut plants = Plants {
            addrs: vec![None; tree.nodes.len()],
            supervisors: vec![None; tree.nodes.len()],
            later: vec![None; tree.nodes.len()],
        };
        let spec = plants.grow(0, &shared);
        let tasks_before = runtime.metrics().num_alive_tasks();
        let root = runtime.block_on(start_root(&system, spec)).unwrap();
        let forest = Self {
            runtime,
            system,
            shared,
            root,
            plants,
            tasks_before,
        };
        for node in nodes {
            if let Some(spec) = forest.plants.later[node].clone() {
                let added = forest.above(node).start_child(spec);
                forest.runtime.block_on(added).unwrap();
            }
        }
        let load = load(Arc::clone(&forest.shared), forest.plants.addrs.clone());
        forest.system.detached(load);
        forest
    }

    /// Virtual time since the tree was grown.
    pub(crate) fn now(&self) -> Duration {
        let _time_of = self.runtime.enter();
        Duration::from_nanos(self.shared.clock.monotonic().as_nanos())
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.runtime
            .block_on(async { tokio::time::sleep(time).await });
    }

    /// A row of the trace that no worker writes.
    pub(crate) fn row(&self, glyph: char, node: usize, life: u32, state: &'static str) {
        let _time_of = self.runtime.enter();
        let addr = self.plants.addrs[node].as_ref();
        let depth = addr.map_or(0, Addr::depth);
        self.shared.row(glyph, node, life, state, depth);
    }

    pub(crate) fn supervisor(&self, node: usize) -> &SupervisorRef {
        self.plants.supervisors[node].as_ref().unwrap()
    }

    /// The supervisor of a node.
    pub(crate) fn above(&self, node: usize) -> &SupervisorRef {
        self.supervisor(self.shared.tree.nodes[node].parent)
    }

    /// The incarnation of a node that lives.
    pub(crate) fn actor(&self, node: usize) -> Option<ActorRef> {
        self.system
            .census()
            .task(&self.shared.tree.nodes[node].path)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        let nodes = 0..self.shared.tree.nodes.len();
        nodes
            .map(|node| {
                let actor = match &self.plants.supervisors[node] {
                    Some(supervisor) => supervisor.actor(),
                    None => self.actor(node),
                };
                Seen {
                    up: actor.is_some(),
                    incarnation: actor.map_or(0, |actor| actor.incarnation().0),
                }
            })
            .collect()
    }

    pub(crate) fn rest(&self) {
        self.shared.idle.store(true, Ordering::Relaxed);
        self.shared.gates.iter().for_each(Notify::notify_waiters);
        self.pass(2 * BEAT);
    }
}

/// Constant load on every worker; I5 at every beat.
async fn load(shared: Arc<Shared>, addrs: Vec<Option<Addr<Order>>>) {
    let mut number = 0;
    while !shared.idle.load(Ordering::Relaxed) {
        for addr in addrs.iter().flatten() {
            for _ in 0..BURST {
                number += 1;
                let to = addr.incarnation().0;
                drop(addr.try_send(Order::Work { number, to }));
            }
            let (depth, bound) = (addr.depth(), addr.capacity() + 2);
            if depth > bound || !addr.books().balanced() {
                let (path, books) = (addr.path(), addr.books());
                shared.breaks(format!("I5 bounded and balanced: {path} {depth} {books:?}"));
            }
        }
        tokio::time::sleep(BEAT).await;
    }
}
