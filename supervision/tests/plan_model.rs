//! `plan` against a naive model that keeps every restart ever made and walks every list.

use std::time::Duration;

use actorsim_actors::{ExitReason, Fault, Time};
use actorsim_supervision::intensity::History;
use actorsim_supervision::strategy::{Life, TreeChild};
use actorsim_supervision::{
    AutoShutdown, ChildId, Decision, Restart, Strategy, SupervisorPolicy, Tree, Why, plan,
};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;

/// Everything that ever happened to one supervisor.
#[derive(Debug, Default)]
struct Model {
    restarts: Vec<(u64, ChildId)>,
}

impl Model {
    fn too_many(&self, policy: &SupervisorPolicy, child: ChildId, now: u64) -> bool {
        let counts = |who: &ChildId| !policy.quarantine || *who == child;
        let period = policy.period.as_nanos() as u64;
        let recent = self
            .restarts
            .iter()
            .filter(|(at, who)| now - at <= period && counts(who))
            .count();
        recent >= policy.intensity as usize
    }

    fn decide(
        &self,
        tree: &Tree,
        child: ChildId,
        why: &ExitReason,
        now: u64,
    ) -> (Decision, Vec<ChildId>, Vec<ChildId>) {
        let node = &tree.children[&child];
        let again = match node.restart {
            Restart::Permanent => true,
            Restart::Transient => !matches!(why, ExitReason::Normal | ExitReason::Shutdown),
            Restart::Temporary => false,
        };
        let all: Vec<(ChildId, TreeChild)> = tree
            .children
            .iter()
            .map(|(id, c)| (*id, c.clone()))
            .collect();
        if !again {
            let mut others = all.iter().filter(|(id, c)| {
                *id != child && c.significant && matches!(c.life, Life::Up | Life::Waiting)
            });
            let ends = match tree.policy.auto_shutdown {
                AutoShutdown::Never => false,
                AutoShutdown::AnySignificant => node.significant,
                AutoShutdown::AllSignificant => node.significant && others.next().is_none(),
            };
            let left = match node.restart {
                _ if ends => Decision::AutoShutdown,
                Restart::Temporary => Decision::Remove,
                _ if tree.policy.strategy == Strategy::SimpleOneForOne => Decision::Remove,
                _ => Decision::Leave,
            };
            return (left, vec![], vec![]);
        }
        let touched = |id: ChildId| match tree.policy.strategy {
            Strategy::OneForOne | Strategy::SimpleOneForOne => id == child,
            Strategy::OneForAll => true,
            Strategy::RestForOne => id >= child,
        };
        let up = |c: &TreeChild| c.life == Life::Up;
        let mut alive: Vec<ChildId> = all
            .iter()
            .filter(|(id, c)| *id != child && up(c))
            .map(|(id, _)| *id)
            .collect();
        alive.reverse();
        if self.too_many(&tree.policy, child, now) {
            return match tree.policy.quarantine {
                true => (Decision::Quarantine, vec![], vec![]),
                false => (Decision::Escalate, alive, vec![]),
            };
        }
        let stop = alive.into_iter().filter(|id| touched(*id)).collect();
        let starts = all.into_iter().filter(|(id, c)| {
            let fit = c.restart != Restart::Temporary && c.life != Life::Quarantined;
            touched(*id) && (*id == child || fit)
        });
        (Decision::Restart, stop, starts.map(|(id, _)| id).collect())
    }
}

fn lives() -> impl proptest::strategy::Strategy<Value = Life> {
    prop_oneof![
        4 => Just(Life::Up),
        1 => Just(Life::Down),
        1 => Just(Life::Waiting),
        1 => Just(Life::Quarantined),
    ]
}

fn nodes() -> impl proptest::strategy::Strategy<Value = Vec<TreeChild>> {
    let restart = prop_oneof![
        Just(Restart::Permanent),
        Just(Restart::Transient),
        Just(Restart::Temporary)
    ];
    let node = (restart, any::<bool>(), lives()).prop_map(|(restart, significant, life)| {
        let significant = significant && restart != Restart::Permanent;
        TreeChild {
            restart,
            significant,
            life,
            history: History::default(),
        }
    });
    proptest::collection::vec(node, 1..8)
}

fn policies() -> impl proptest::strategy::Strategy<Value = SupervisorPolicy> {
    let strategy = prop_oneof![
        Just(Strategy::OneForOne),
        Just(Strategy::OneForAll),
        Just(Strategy::RestForOne),
        Just(Strategy::SimpleOneForOne),
    ];
    let auto = prop_oneof![
        Just(AutoShutdown::Never),
        Just(AutoShutdown::AnySignificant),
        Just(AutoShutdown::AllSignificant),
    ];
    let numbers = (0_u32..6, 1_u64..100);
    (strategy, auto, numbers, any::<bool>()).prop_map(|(strategy, auto, (n, period), child)| {
        let policy = SupervisorPolicy::new(strategy)
            .intensity(n, Duration::from_nanos(period))
            .auto_shutdown(auto);
        if child { policy.quarantine() } else { policy }
    })
}

fn reasons() -> impl proptest::strategy::Strategy<Value = ExitReason> {
    prop_oneof![
        Just(ExitReason::Normal),
        Just(ExitReason::Shutdown),
        Just(ExitReason::Killed),
        Just(ExitReason::HostDown),
        Just(ExitReason::Fault(Fault::new("bad"))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn plan_agrees_with_the_model_for_any_history(
        policy in policies(),
        nodes in nodes(),
        ends in proptest::collection::vec((any::<usize>(), reasons(), 0_u64..30), 1..60),
    ) {
        let mut tree = Tree::new(policy, 3);
        for (i, node) in nodes.into_iter().enumerate() {
            tree.children.insert(ChildId(i as u64), node);
        }
        let mut model = Model::default();
        let mut now = 0;
        for (pick, reason, gap) in ends {
            now += gap;
            let child = ChildId((pick % tree.children.len()) as u64);
            let ours = plan(&tree, child, Why::Exit(&reason), Time(now));
            let (decision, stop, start) = model.decide(&tree, child, &reason, now);
            prop_assert_eq!(ours.decision, decision);
            prop_assert_eq!(&ours.stop, &stop);
            prop_assert_eq!(&ours.start, &start);
            prop_assert_eq!(&ours, &plan(&tree, child, Why::Exit(&reason), Time(now)), "pure");
            tree.commit(child, &ours, Time(now));
            if ours.decision == Decision::Restart {
                model.restarts.push((now, child));
            }
        }
    }
}

#[test]
fn an_unknown_child_is_left_alone() {
    let tree = Tree::new(SupervisorPolicy::default(), 0);
    let plan = plan(&tree, ChildId(9), Why::Exit(&ExitReason::Killed), Time(0));
    assert_eq!(plan.decision, Decision::Leave);
}
