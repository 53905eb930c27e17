//! Who must die: predicted from the tree alone, by recursion and lists, without our code.
//!
//! It knows OTP's words and nothing of how supervisors are built. It keeps every restart that was
//! ever made. Bound: a tree of [`super::tree`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actorsim_supervision::{AutoShutdown, Restart, Strategy as Plan};
use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use crate::tree::{PERIOD, Role, STEP, Tree, trees};

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
    /// A worker's handler never returns; nobody dies of it yet.
    Hang(usize),
    /// The next starts of a worker fail; nobody dies of it yet.
    StartFails(usize, u32),
    /// An operator terminates a child.
    Terminate(usize),
    /// An operator brings a child back that is down or parked.
    Again(usize),
    /// Nothing for some steps.
    Wait(u32),
}

/// A node's life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) up: bool,
    /// Its supervisor knows it.
    pub(crate) known: bool,
    pub(crate) parked: bool,
    /// Down as an operator wanted it, or as it did not start for one.
    pub(crate) rests: bool,
    pub(crate) hangs: bool,
    /// Incarnations begun, also those that did not come up.
    pub(crate) begun: u32,
    fails: u32,
    /// Of a supervisor: when it restarted which child, in this life.
    restarts: Vec<(Duration, usize)>,
}

/// One line of what workers write down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Up(usize),
    Down(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) tree: Arc<Tree>,
    pub(crate) lives: Vec<Life>,
    pub(crate) now: Duration,
    /// Of the last blow: whom it hit.
    pub(crate) victim: Option<usize>,
    /// Of the last blow: ends and starts of workers, in order.
    pub(crate) lines: Vec<Line>,
    /// Of the last blow: restarts that each supervisor decided on, and who gave up.
    pub(crate) restarts: BTreeMap<usize, u64>,
    pub(crate) gave_up: BTreeSet<usize>,
    pub(crate) blow: Option<Blow>,
}

/// Why a child is down.
#[derive(Clone, Copy, PartialEq)]
enum Why {
    Normal,
    Abnormal,
    DidNotStart,
}

impl Model {
    fn new(tree: Tree) -> Self {
        let lives = vec![Life::default(); tree.nodes.len()];
        let mut model = Self {
            tree: Arc::new(tree),
            lives,
            now: Duration::ZERO,
            victim: None,
            lines: Vec::new(),
            restarts: BTreeMap::new(),
            gave_up: BTreeSet::new(),
            blow: None,
        };
        model.lives[0].known = true;
        model.start(0);
        model
    }

    /// Whom a blow can hit now.
    pub(crate) fn targets(&self, blow: &Blow) -> Vec<usize> {
        let nodes = self.tree.nodes.iter().enumerate().skip(1);
        let fits = nodes.filter(|(id, node)| {
            let Life { up, hangs, .. } = self.lives[*id];
            match blow {
                Blow::Kill(_) | Blow::Terminate(_) => up,
                Blow::Again(_) => self.lives[*id].known && !up && self.lives[node.parent].up,
                Blow::Stop(_) => up && !hangs,
                Blow::StartFails(..) => node.is_worker(),
                Blow::Wait(_) => false,
                _ => up && !hangs && node.is_worker(),
            }
        });
        fits.map(|(id, _)| id).collect()
    }

    fn pick(&self, blow: &Blow) -> Option<usize> {
        let (Blow::Kill(pick)
        | Blow::Stop(pick)
        | Blow::Finish(pick)
        | Blow::Fail(pick)
        | Blow::Panic(pick)
        | Blow::Hang(pick)
        | Blow::Terminate(pick)
        | Blow::Again(pick)
        | Blow::StartFails(pick, _)) = blow
        else {
            return None;
        };
        let targets = self.targets(blow);
        (!targets.is_empty()).then(|| targets[pick % targets.len()])
    }

    fn strike(&mut self, blow: &Blow) {
        self.victim = self.pick(blow);
        self.blow = Some(blow.clone());
        self.lines.clear();
        self.restarts.clear();
        self.gave_up.clear();
        if let Some(victim) = self.victim {
            match blow {
                Blow::Kill(_) | Blow::Fail(_) | Blow::Panic(_) => self.dies(victim, Why::Abnormal),
                Blow::Stop(_) | Blow::Finish(_) => self.dies(victim, Why::Normal),
                Blow::Hang(_) => self.lives[victim].hangs = true,
                Blow::StartFails(_, times) => self.lives[victim].fails = *times,
                Blow::Terminate(_) => {
                    self.stop(victim);
                    let life = &mut self.lives[victim];
                    life.known = self.tree.nodes[victim].restart != Restart::Temporary;
                    life.rests = true;
                }
                Blow::Again(_) => self.again(victim),
                Blow::Wait(_) => {}
            }
        }
        let steps = if let Blow::Wait(steps) = blow {
            *steps
        } else {
            1
        };
        self.now += STEP * steps;
    }

    /// A child is started by hand: its own past is forgotten, and a failure is the operator's.
    fn again(&mut self, id: usize) {
        let parent = self.tree.nodes[id].parent;
        if let Role::Supervisor { parks: true, .. } = self.tree.nodes[parent].role {
            let past = &mut self.lives[parent].restarts;
            past.retain(|(_, who)| *who != id);
        }
        self.lives[id].parked = false;
        self.lives[id].rests = !self.start(id);
    }

    fn dies(&mut self, id: usize, why: Why) {
        self.stop(id);
        self.decide(id, why);
    }

    /// A node and everything below it is gone: the latest first, itself last.
    fn stop(&mut self, id: usize) {
        for child in self.tree.clone().nodes[id].children.iter().rev() {
            if self.lives[*child].up {
                self.stop(*child);
            }
        }
        let life = &mut self.lives[id];
        (life.up, life.hangs) = (false, false);
        if self.tree.nodes[id].is_worker() {
            self.lines.push(Line::Down(id));
        }
    }

    /// Starts a node and everything below it; if that fails, nothing of it is left.
    fn start(&mut self, id: usize) -> bool {
        let life = &mut self.lives[id];
        life.begun += 1;
        if life.fails > 0 {
            life.fails -= 1;
            return false;
        }
        (life.up, life.parked, life.rests) = (true, false, false);
        life.restarts.clear();
        if self.tree.nodes[id].is_worker() {
            self.lines.push(Line::Up(id));
            return true;
        }
        let children = self.tree.clone().nodes[id].children.clone();
        for child in &children {
            let life = &mut self.lives[*child];
            (life.known, life.parked, life.rests) = (true, false, false);
        }
        for child in children {
            if !self.start(child) {
                self.stop(id);
                return false;
            }
        }
        true
    }

    /// What the supervisor of a child that is down does about it.
    fn decide(&mut self, child: usize, why: Why) {
        let tree = Arc::clone(&self.tree);
        let supervisor = tree.nodes[child].parent;
        let mut turns = BTreeSet::new();
        let mut failed = Some((child, why));
        loop {
            if let Some((child, why)) = failed.take() {
                if !self.verdict(supervisor, child, why, &mut turns) {
                    return;
                }
            } else if let Some(next) = turns.pop_first() {
                if !self.start(next) {
                    failed = Some((next, Why::DidNotStart));
                }
            } else {
                return;
            }
        }
    }

    /// One decision; false: the supervisor itself is gone, and its own supervisor has decided.
    fn verdict(
        &mut self,
        supervisor: usize,
        child: usize,
        why: Why,
        turns: &mut BTreeSet<usize>,
    ) -> bool {
        let tree = Arc::clone(&self.tree);
        let node = &tree.nodes[child];
        let Role::Supervisor {
            strategy,
            intensity,
            parks,
            auto,
            ..
        } = tree.nodes[supervisor].role
        else {
            unreachable!("a worker supervises nobody");
        };
        let again = match node.restart {
            Restart::Permanent => true,
            Restart::Transient => why != Why::Normal,
            Restart::Temporary => false,
        };
        if !again {
            return self.leaves(supervisor, child, auto);
        }
        let now = self.now;
        let past = &self.lives[supervisor].restarts;
        let recent = past
            .iter()
            .filter(|(at, who)| now - *at <= PERIOD && (!parks || *who == child))
            .count();
        if recent >= intensity as usize {
            if parks {
                self.lives[child].parked = true;
                return true;
            }
            self.gave_up.insert(supervisor);
            if supervisor == 0 {
                self.stop(0);
            } else {
                self.dies(supervisor, Why::Normal); // OTP: it ends with `shutdown`
            }
            return false;
        }
        self.lives[supervisor].restarts.push((now, child));
        *self.restarts.entry(supervisor).or_default() += 1;
        self.restarts_with(supervisor, child, strategy, turns);
        true
    }

    /// A child ends for good; false: its supervisor ends with it.
    fn leaves(&mut self, supervisor: usize, child: usize, auto: AutoShutdown) -> bool {
        let tree = Arc::clone(&self.tree);
        let node = &tree.nodes[child];
        self.lives[child].known = node.restart != Restart::Temporary;
        let others_run = tree.nodes[supervisor]
            .children
            .iter()
            .any(|s| *s != child && tree.nodes[*s].significant && self.lives[*s].up);
        let ends = node.significant
            && (auto == AutoShutdown::AnySignificant
                || (auto == AutoShutdown::AllSignificant && !others_run));
        if ends {
            self.dies(supervisor, Why::Normal);
        }
        !ends
    }

    /// Stops those that go down with a child, and queues those that come back.
    fn restarts_with(
        &mut self,
        supervisor: usize,
        child: usize,
        strategy: Plan,
        turns: &mut BTreeSet<usize>,
    ) {
        let tree = Arc::clone(&self.tree);
        let siblings = &tree.nodes[supervisor].children;
        let affected = |sibling: usize| match strategy {
            Plan::OneForAll => true,
            Plan::RestForOne => sibling >= child,
            _ => sibling == child,
        };
        for sibling in siblings
            .iter()
            .rev()
            .filter(|s| **s != child && affected(**s))
        {
            if self.lives[*sibling].up {
                self.stop(*sibling);
                if tree.nodes[*sibling].restart == Restart::Temporary {
                    self.lives[*sibling].known = false;
                }
            }
        }
        turns.extend(siblings.iter().copied().filter(|sibling| {
            let Life { known, parked, .. } = self.lives[*sibling];
            let fits = tree.nodes[*sibling].restart != Restart::Temporary && known && !parked;
            affected(*sibling) && (*sibling == child || fits)
        }));
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

    fn transitions(_: &Model) -> BoxedStrategy<Blow> {
        let pick = || 0_usize..1 << 16;
        prop_oneof![
            6 => pick().prop_map(Blow::Kill),
            1 => pick().prop_map(Blow::Stop),
            1 => pick().prop_map(Blow::Finish),
            2 => pick().prop_map(Blow::Fail),
            1 => pick().prop_map(Blow::Panic),
            1 => pick().prop_map(Blow::Hang),
            2 => (pick(), 1_u32..4).prop_map(|(pick, times)| Blow::StartFails(pick, times)),
            1 => pick().prop_map(Blow::Terminate),
            2 => pick().prop_map(Blow::Again),
            1 => (1_u32..4).prop_map(Blow::Wait),
        ]
        .boxed()
    }

    fn apply(mut model: Model, blow: &Blow) -> Model {
        model.strike(blow);
        model
    }
}
