//! Who must die: predicted from the tree alone, by lists, without our code.
//!
//! It knows OTP's words (`words`) and nothing of how supervisors are built. It keeps every restart
//! that was ever made. Starts and stops may hang, so a blow finds a tree in the middle of anything.
//! Bound: a tree of [`super::tree`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actorsim_supervision::Strategy as Plan;
use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use crate::tree::{Rule, STEP, Tree, strategies, trees};
use crate::words::Why;

/// What is done to the tree. Picks are resolved among those it can be done to, so that a fault
/// keeps its meaning while a failing run is shrunk.
#[derive(Debug, Clone)]
pub(crate) enum Blow {
    /// Any node but the root is killed.
    Kill(usize),
    /// Any node but the root is stopped in order.
    Stop(usize),
    /// A worker ends by itself.
    Finish(usize),
    /// A worker's handler returns a fault.
    Fail(usize),
    /// A worker's handler panics.
    Panic(usize),
    /// A worker's handler does not return; nobody dies of it yet.
    Hang(usize),
    /// The next start of a worker does not return; nobody dies of it yet.
    StartHangs(usize),
    /// What hangs goes on.
    GoesOn(usize),
    /// The next starts of a worker fail; nobody dies of it yet.
    StartFails(usize, u32),
    /// An operator terminates a child.
    Terminate(usize),
    /// An operator brings a child back that is down or parked, or adds one.
    Again(usize),
    /// An operator gives a supervisor another policy; nobody dies of it.
    Govern(usize, Plan, u32),
    /// Nothing for some steps.
    Wait(u32),
}

impl Blow {
    /// As in the trace, and whom it picks.
    pub(crate) const fn word(&self) -> (&'static str, usize) {
        match self {
            Self::Kill(pick) => ("kill", *pick),
            Self::Stop(pick) => ("stop", *pick),
            Self::Finish(pick) => ("finish", *pick),
            Self::Fail(pick) => ("fail", *pick),
            Self::Panic(pick) => ("panic", *pick),
            Self::Hang(pick) => ("hang", *pick),
            Self::StartHangs(pick) => ("start hangs", *pick),
            Self::GoesOn(pick) => ("goes on", *pick),
            Self::StartFails(pick, _) => ("start fails", *pick),
            Self::Terminate(pick) => ("terminate", *pick),
            Self::Again(pick) => ("start again", *pick),
            Self::Govern(pick, ..) => ("govern", *pick),
            Self::Wait(_) => ("wait", 0),
        }
    }

    pub(crate) const fn steps(&self) -> u32 {
        match self {
            Self::Wait(steps) => *steps,
            _ => 1,
        }
    }
}

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Down,
    /// A worker: its start hangs. A supervisor: its first children are not all up.
    Starting,
    Up,
}

/// What becomes of a child that is stopped, once it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Rests,
    Forgotten,
    Again,
}

/// Who wants a child to be up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Its supervisor begins with it.
    #[default]
    First,
    Operator,
    Restart,
}

/// Why a supervisor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was stopped or killed.
    Told(Why),
    /// Too many restarts, or nothing more to do: `shutdown`, as in OTP.
    Itself,
}

/// A node's life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) phase: Phase,
    /// Its supervisor knows it.
    pub(crate) known: bool,
    pub(crate) parked: bool,
    /// Down as an operator wanted it, or as it did not start for one.
    pub(crate) rests: bool,
    pub(crate) hangs: bool,
    /// It is to be stopped; `told`: it is being stopped.
    pub(crate) fate: Option<Fate>,
    pub(crate) told: bool,
    pub(crate) wish: Wish,
    /// Incarnations begun, also those that did not come up.
    pub(crate) begun: u32,
    pub(crate) fails: u32,
    pub(crate) start_hangs: bool,
    // Of a supervisor, in this life:
    /// Children to be started, in their turn.
    pub(crate) queue: BTreeSet<usize>,
    pub(crate) end: Option<End>,
    /// A group restart is under way: it keeps its order whatever the policy becomes.
    pub(crate) group: bool,
    /// When it restarted which child.
    pub(crate) restarts: Vec<(Duration, usize)>,
}

impl Life {
    pub(crate) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    pub(crate) fn is_down(&self) -> bool {
        self.phase == Phase::Down
    }

    /// A supervisor that takes requests.
    fn serves(&self) -> bool {
        !self.is_down() && self.end.is_none()
    }
}

/// One line of what workers write down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Up(usize),
    Down(usize),
}

impl Line {
    pub(crate) const fn node(&self) -> usize {
        match self {
            Self::Up(node) | Self::Down(node) => *node,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) tree: Arc<Tree>,
    pub(crate) lives: Vec<Life>,
    /// What supervisors do by now.
    pub(crate) rules: Vec<Rule>,
    pub(crate) now: Duration,
    /// Of the last blow: whom it hit.
    pub(crate) victim: Option<usize>,
    /// Of the last blow: ends and starts of workers, in order.
    pub(crate) lines: Vec<Line>,
    /// Of the last blow: two things go on at once, and their order is nobody's promise.
    pub(crate) at_once: bool,
    /// Of the last blow: restarts that each supervisor decided on, and who gave up.
    pub(crate) restarts: BTreeMap<usize, u64>,
    pub(crate) gave_up: BTreeSet<usize>,
    pub(crate) blow: Option<Blow>,
}

impl Model {
    fn new(tree: Tree) -> Self {
        let nodes = tree.nodes.len();
        let mut model = Self {
            lives: vec![Life::default(); nodes],
            rules: tree.nodes.iter().map(|node| node.rule()).collect(),
            tree: Arc::new(tree),
            now: Duration::ZERO,
            victim: None,
            lines: Vec::new(),
            at_once: false,
            restarts: BTreeMap::new(),
            gave_up: BTreeSet::new(),
            blow: None,
        };
        model.lives[0].known = true;
        model.begin(0);
        model.settle();
        for node in 0..nodes {
            if model.tree.is_added(node) {
                model.again(node);
                model.settle();
            }
        }
        model
    }

    /// Whether a start or a stop hangs somewhere.
    pub(crate) fn is_held_up(&self) -> bool {
        self.lives
            .iter()
            .any(|life| life.phase == Phase::Starting || life.told)
    }

    /// Whether an operator can do that to a child.
    fn is_at_hand(&self, id: usize, blow: &Blow) -> bool {
        let life = &self.lives[id];
        let above = &self.lives[self.tree.nodes[id].parent];
        let queued = above.queue.contains(&id);
        above.serves()
            && match blow {
                Blow::Terminate(_) => life.known && (queued || !life.is_down()),
                _ if life.known => life.is_down() && !queued,
                _ => self.tree.is_added(id),
            }
    }

    /// Whom a blow can hit now.
    pub(crate) fn targets(&self, blow: &Blow) -> Vec<usize> {
        let nodes = self.tree.nodes.iter().enumerate();
        let fits = nodes.filter(|(id, node)| {
            let (life, worker) = (&self.lives[*id], node.is_worker());
            let at_work = worker && life.is_up() && !life.hangs;
            match blow {
                Blow::Govern(..) => !worker && life.serves(),
                _ if *id == 0 => false,
                Blow::Kill(_) if worker => life.is_up(),
                Blow::Stop(_) if worker => at_work,
                Blow::Kill(_) | Blow::Stop(_) => !life.is_down(),
                Blow::Terminate(_) | Blow::Again(_) => self.is_at_hand(*id, blow),
                Blow::StartFails(..) | Blow::StartHangs(_) => worker,
                Blow::GoesOn(_) => worker && (life.hangs || life.phase == Phase::Starting),
                Blow::Wait(_) => false,
                _ => at_work,
            }
        });
        fits.map(|(id, _)| id).collect()
    }

    /// Whether it shares a supervisor with one that hangs or is about to, or is that supervisor: a
    /// blow there finds something in the middle.
    fn is_near(&self, id: usize) -> bool {
        let holds = |id: usize| {
            let life = &self.lives[id];
            life.hangs || life.start_hangs || life.told || life.phase == Phase::Starting
        };
        let node = &self.tree.nodes[id];
        let siblings = &self.tree.nodes[node.parent].children;
        id > 0 && siblings.iter().chain(&node.children).any(|id| holds(*id))
    }

    /// A blow at anybody it can hit, rather near what hangs than elsewhere.
    fn aimed(&self, blow: fn(usize) -> Blow) -> BoxedStrategy<Blow> {
        let targets = self.targets(&blow(0)).into_iter().enumerate();
        let near = targets.filter(|(_, id)| self.is_near(*id));
        let near: Vec<usize> = near.map(|(pick, _)| pick).collect();
        let anybody = 0_usize..1 << 16;
        match near.is_empty() {
            true => anybody.prop_map(blow).boxed(),
            false => prop_oneof![1 => anybody, 2 => prop::sample::select(near)]
                .prop_map(blow)
                .boxed(),
        }
    }

    fn pick(&self, blow: &Blow) -> Option<usize> {
        let targets = self.targets(blow);
        (!targets.is_empty()).then(|| targets[blow.word().1 % targets.len()])
    }

    fn strike(&mut self, blow: &Blow) {
        self.victim = self.pick(blow);
        self.blow = Some(blow.clone());
        self.lines.clear();
        self.at_once = false;
        self.restarts.clear();
        self.gave_up.clear();
        if let Some(victim) = self.victim {
            match blow {
                Blow::Kill(_) | Blow::Fail(_) | Blow::Panic(_) => self.hit(victim, Why::Abnormal),
                Blow::Stop(_) | Blow::Finish(_) => self.hit(victim, Why::Normal),
                Blow::Hang(_) => self.lives[victim].hangs = true,
                Blow::StartHangs(_) => self.lives[victim].start_hangs = true,
                Blow::GoesOn(_) => self.goes_on(victim),
                Blow::StartFails(_, times) => self.lives[victim].fails = *times,
                Blow::Terminate(_) => self.terminate(victim),
                Blow::Again(_) => self.again(victim),
                Blow::Govern(_, strategy, intensity) => {
                    let rule = &mut self.rules[victim];
                    rule.intensity = *intensity;
                    if !rule.is_simple() {
                        rule.strategy = *strategy; // that one is for good
                    }
                }
                Blow::Wait(_) => {}
            }
            self.settle();
        }
        self.now += STEP * blow.steps();
    }
}

/// The reference: any tree, any blows.
#[derive(Debug)]
pub(crate) struct Reference;

impl ReferenceStateMachine for Reference {
    type State = Model;
    type Transition = Blow;

    fn init_state() -> BoxedStrategy<Model> {
        trees().prop_map(Model::new).boxed()
    }

    fn transitions(model: &Model) -> BoxedStrategy<Blow> {
        let fails = (model.aimed(Blow::StartHangs), 1_u32..4);
        let govern = model.aimed(|pick| Blow::Govern(pick, Plan::OneForOne, 0));
        let govern = (govern, strategies(), 0_u32..5);
        prop_oneof![
            6 => model.aimed(Blow::Kill),
            1 => model.aimed(Blow::Stop),
            2 => model.aimed(Blow::Finish),
            2 => model.aimed(Blow::Fail),
            1 => model.aimed(Blow::Panic),
            2 => model.aimed(Blow::Hang),
            3 => model.aimed(Blow::StartHangs),
            2 => model.aimed(Blow::GoesOn),
            2 => fails.prop_map(|(blow, times)| Blow::StartFails(blow.word().1, times)),
            2 => model.aimed(Blow::Terminate),
            2 => model.aimed(Blow::Again),
            2 => govern.prop_map(|(blow, plan, n)| Blow::Govern(blow.word().1, plan, n)),
            1 => (1_u32..4).prop_map(Blow::Wait),
        ]
        .boxed()
    }

    fn apply(mut model: Model, blow: &Blow) -> Model {
        model.strike(blow);
        model
    }
}
