//! A random supervision tree as a value: what the model predicts from and the forest grows.
//!
//! Bound: [`NODES_MAX`] nodes.

use std::time::Duration;

use actorsim_actors::{ActorPath, MailboxSpec, Overflow};
use actorsim_supervision::{
    AutoShutdown, Backoff, IntensityScope, Restart, Strategy as Plan, SupervisorPolicy,
};
use proptest::prelude::*;

/// Most nodes of a tree, the root included.
const NODES_MAX: usize = 14;
/// The window of every supervisor: not a multiple of [`STEP`], so that the few milliseconds of a
/// backoff never decide.
pub(crate) const PERIOD: Duration = Duration::from_millis(12_500);
/// What passes between two faults; everything that will heal has healed by then (I9).
pub(crate) const STEP: Duration = Duration::from_secs(5);
/// Time to stop in order, after which a worker that hangs is killed.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

/// What a supervisor does, as far as trees differ in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) strategy: Plan,
    pub(crate) intensity: u32,
    /// Counts by child and parks, instead of counting all together and giving up.
    pub(crate) parks: bool,
    backoff: Option<Backoff>,
    budget: Option<u32>,
    pub(crate) auto: AutoShutdown,
}

impl Rule {
    /// The root's, which is nobody's to draw.
    const ROOT: Self = Self {
        strategy: Plan::OneForOne,
        intensity: 3,
        parks: false,
        backoff: None,
        budget: None,
        auto: AutoShutdown::Never,
    };

    pub(crate) fn policy(&self) -> SupervisorPolicy {
        let mut policy = SupervisorPolicy::new(self.strategy)
            .intensity(self.intensity, PERIOD)
            .auto_shutdown(self.auto);
        policy.quarantine = self.parks;
        if self.parks {
            policy.intensity_scope = IntensityScope::Child;
        }
        policy.backoff = self.backoff;
        policy.restart_budget_per_s = self.budget;
        policy
    }

    pub(crate) fn is_simple(&self) -> bool {
        self.strategy == Plan::SimpleOneForOne
    }
}

/// How long a worker may take to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It is killed at once.
    None,
    /// It is killed after [`PATIENCE`].
    Short,
    /// It is waited for, however long it hangs.
    Endless,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Role {
    Supervisor(Rule),
    Worker {
        overflow: Overflow,
        kept: bool,
        patience: Patience,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) parent: usize,
    pub(crate) restart: Restart,
    pub(crate) significant: bool,
    pub(crate) role: Role,
    pub(crate) path: ActorPath,
    pub(crate) children: Vec<usize>,
}

/// Nodes in the order in which they start; 0 is the root.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
}

impl Node {
    pub(crate) fn is_worker(&self) -> bool {
        matches!(self.role, Role::Worker { .. })
    }

    /// What a supervisor does, unless it was told otherwise since.
    pub(crate) fn rule(&self) -> Rule {
        match self.role {
            Role::Supervisor(rule) => rule,
            Role::Worker { .. } => Rule::ROOT,
        }
    }

    pub(crate) fn patience(&self) -> Patience {
        match self.role {
            Role::Supervisor(_) => Patience::Endless,
            Role::Worker { patience, .. } => patience,
        }
    }

    pub(crate) fn mailbox(&self) -> MailboxSpec {
        let (overflow, kept) = match self.role {
            Role::Worker { overflow, kept, .. } => (overflow, kept),
            Role::Supervisor(_) => (Overflow::Block, false),
        };
        let spec = MailboxSpec::new(2, overflow);
        if kept { spec.kept() } else { spec }
    }
}

/// Those that an operator may choose among while a supervisor runs.
pub(crate) fn strategies() -> impl Strategy<Value = Plan> {
    prop_oneof![
        Just(Plan::OneForOne),
        Just(Plan::OneForAll),
        Just(Plan::RestForOne),
    ]
}

fn roles() -> impl Strategy<Value = Role> {
    let strategy = prop_oneof![
        3 => strategies(),
        1 => Just(Plan::SimpleOneForOne),
    ];
    let auto = prop_oneof![
        4 => Just(AutoShutdown::Never),
        1 => Just(AutoShutdown::AnySignificant),
        1 => Just(AutoShutdown::AllSignificant),
    ];
    // The waits of one step, however many add up, are over before the next.
    let backoff = |min_ms, factor, jitter| Backoff {
        min: Duration::from_millis(min_ms),
        max: Duration::from_millis(200),
        factor,
        jitter,
        reset_after: STEP,
    };
    let backoff = prop_oneof![
        Just(None),
        Just(Some(backoff(50, 1.0, 0.0))),
        Just(Some(backoff(1, 5.0, 0.5))),
        Just(Some(backoff(200, 1.0, 1.0))),
    ];
    let budget = prop_oneof![3 => Just(None), 1 => (10_u32..100).prop_map(Some)];
    let overflow = prop_oneof![
        Just(Overflow::Block),
        Just(Overflow::Reject),
        Just(Overflow::DropOldest),
        Just(Overflow::DropNewest),
    ];
    let supervisor = (
        strategy,
        0_u32..4,
        prop::bool::weighted(0.2),
        backoff,
        budget,
        auto,
    )
        .prop_map(|(strategy, intensity, parks, backoff, budget, auto)| {
            Role::Supervisor(Rule {
                strategy,
                intensity,
                parks,
                backoff,
                budget,
                auto,
            })
        });
    let patience = prop_oneof![
        1 => Just(Patience::None),
        2 => Just(Patience::Short),
        2 => Just(Patience::Endless),
    ];
    let worker =
        (overflow, any::<bool>(), patience).prop_map(|(overflow, kept, patience)| Role::Worker {
            overflow,
            kept,
            patience,
        });
    prop_oneof![2 => supervisor, 3 => worker]
}

type Draw = (usize, Restart, bool, Role);

fn draws() -> impl Strategy<Value = Draw> {
    let restart = prop_oneof![
        4 => Just(Restart::Permanent),
        1 => Just(Restart::Transient),
        1 => Just(Restart::Temporary),
    ];
    (
        any::<prop::sample::Index>(),
        restart,
        any::<bool>(),
        roles(),
    )
        .prop_map(|(index, restart, significant, role)| {
            (index.index(1 << 20), restart, significant, role)
        })
}

/// Any tree whose root is a supervisor; every supervisor hangs below an earlier one.
pub(crate) fn trees() -> impl Strategy<Value = Tree> {
    prop::collection::vec(draws(), 2..NODES_MAX).prop_map(|draws| {
        let root = Role::Supervisor(Rule::ROOT);
        let mut tree = Tree {
            nodes: vec![Node {
                parent: 0,
                restart: Restart::Permanent,
                significant: false,
                role: root,
                path: ActorPath::root(),
                children: Vec::new(),
            }],
        };
        draws.into_iter().for_each(|draw| tree.hang(draw));
        tree
    })
}

impl Tree {
    fn hang(&mut self, (pick, restart, significant, role): Draw) {
        let supervisors: Vec<usize> = (0..self.nodes.len())
            .filter(|n| !self.nodes[*n].is_worker())
            .collect();
        let parent = supervisors[pick % supervisors.len()];
        let auto = self.nodes[parent].rule().auto;
        let may = restart != Restart::Permanent && auto != AutoShutdown::Never;
        let id = self.nodes.len();
        let letter = if matches!(role, Role::Worker { .. }) {
            'w'
        } else {
            's'
        };
        let path = self.nodes[parent].path.join(&format!("{letter}{id}"));
        self.nodes.push(Node {
            parent,
            restart,
            significant: significant && may,
            role,
            path,
            children: Vec::new(),
        });
        self.nodes[parent].children.push(id);
    }

    pub(crate) fn node(&self, path: &ActorPath) -> Option<usize> {
        self.nodes.iter().position(|node| node.path == *path)
    }

    /// Whether a node is added while its supervisor runs, and forgotten with it.
    pub(crate) fn is_added(&self, id: usize) -> bool {
        id > 0 && self.nodes[self.nodes[id].parent].rule().is_simple()
    }

    /// Whether two nodes stop and start in an order: the supervisor that they share keeps one.
    pub(crate) fn in_order(&self, one: usize, other: usize) -> bool {
        let above = |mut id: usize| {
            let mut line = vec![id];
            while id > 0 {
                id = self.nodes[id].parent;
                line.push(id);
            }
            line
        };
        let line = above(one);
        let shared = above(other).into_iter().find(|id| line.contains(id));
        shared.is_none_or(|id| one == other || !self.nodes[id].rule().is_simple())
    }
}
