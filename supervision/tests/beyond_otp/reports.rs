//! The last crash of each actor is kept, folded by reason, and counted by supervisor.

use actorsim_actors::{ActorPath, ExitReason};
use actorsim_supervision::{
    ChildSpec, ChildState, Decision, PolicyError, SpecError, StartError, Strategy,
    SupervisorPolicy, SupervisorSpec, Tally, start_root,
};

use crate::stage::{HOUR, Order, Stage, becomes, watched};

#[tokio::test]
async fn the_last_crash_of_a_former_incarnation_is_kept_with_what_was_done_about_it() {
    watched(async {
        let stage = Stage::new();
        let policy = SupervisorPolicy::new(Strategy::RestForOne).intensity(9, HOUR);
        let sup = stage.start(policy, &["a", "b"]).await;
        let path = ActorPath::root().join("a");
        assert!(sup.supervision().crash(&path).is_none());
        for life in 1..=3 {
            becomes(&sup, "a", Some(ChildState::Running)).await;
            becomes(&sup, "b", Some(ChildState::Running)).await;
            while stage.life("a") < life || !stage.addr("a").is_up() {
                tokio::task::yield_now().await;
            }
            for order in [Order::Nop, Order::Nop, Order::Fail, Order::Nop, Order::Nop] {
                stage.tell("a", order);
            }
            while stage.addr("a").is_up() && stage.life("a") == life {
                tokio::task::yield_now().await;
            }
        }
        becomes(&sup, "b", Some(ChildState::Running)).await;
        let report = sup.supervision().crash(&path).unwrap();
        assert_eq!(report.reason.label(), "told_to_fail");
        assert_eq!((report.incarnation.unwrap().0, report.restarts), (3, 2));
        let kinds: Vec<&str> = report.last_kinds.iter().collect();
        assert_eq!((kinds, report.depth), (vec!["nop", "nop", "fail"], 2));
        let plan = report.plan;
        assert_eq!(
            (plan.decision, plan.failures, plan.siblings),
            (Decision::Restart, 3, 1)
        );
        assert_eq!((report.count, report.supervisor.as_str()), (3, "/"));
        assert!(report.first_us <= report.at_us);

        while stage.life("a") < 4 || !stage.addr("a").is_up() {
            tokio::task::yield_now().await;
        }
        stage.kill("a");
        while sup.supervision().crash(&path).unwrap().reason != ExitReason::Killed {
            tokio::task::yield_now().await;
        }
        let report = sup.supervision().crash(&path).unwrap();
        assert_eq!(report.count, 1, "another reason is counted apart");
        let tally = |reason, ends| Tally {
            supervisor: ActorPath::root(),
            reason,
            ends,
            restarts: ends,
            escalations: 0,
        };
        let tallies = sup.supervision().tallies();
        assert_eq!(tallies, [tally("killed", 1), tally("told_to_fail", 3)]);
        assert_eq!(sup.supervision().crashes(10).len(), 1);
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn the_supervisors_of_a_tree_are_found_by_path_and_not_kept_alive() {
    watched(async {
        let stage = Stage::new();
        let policy = SupervisorPolicy::new(Strategy::OneForOne);
        let sub = SupervisorSpec::new(ActorPath::root().join("sub"), policy.clone())
            .child(stage.child("a"));
        let spec =
            SupervisorSpec::new(ActorPath::root(), policy).child(ChildSpec::supervisor("sub", sub));
        let root = start_root(&stage.system, spec).await.unwrap();
        let tree = root.supervision();
        let all = tree.supervisors();
        let paths: Vec<&str> = all.iter().map(|sup| sup.path().as_str()).collect();
        assert_eq!(paths, ["/", "/sub"]);
        let sub = tree.supervisor(&ActorPath::root().join("sub")).unwrap();
        assert_eq!(sub.count_children().await.unwrap().workers, 1);
        root.stop().await;
        drop((root, sub, all));
        assert!(tree.supervisors().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_contradicts_itself_starts_nothing() {
    watched(async {
        let stage = Stage::new();
        let mut policy = SupervisorPolicy::new(Strategy::OneForOne);
        policy.restart_budget_per_s = Some(0);
        let error = start_root(&stage.system, stage.spec(policy, &["a"]))
            .await
            .unwrap_err();
        let wrong = SpecError::Policy(PolicyError::Budget(0));
        assert_eq!(error, StartError::Invalid(vec![wrong]));
        assert_eq!(stage.log(), "");
    })
    .await;
}
