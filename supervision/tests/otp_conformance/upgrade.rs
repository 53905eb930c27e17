//! `significant_upgrade_*` and `code_change*`: policies that change while the supervisor runs.

use actorsim_actors::{ActorPath, ExitReason};
use actorsim_supervision::AutoShutdown::{self, AllSignificant, AnySignificant, Never};
use actorsim_supervision::{
    ChildPolicy, ChildState, GovernError, Governance, Restart, SpecError, Strategy,
    SupervisorPolicy, SupervisorRef, SupervisorSpec, start_root,
};

use crate::stage::{HOUR, Order, Stage, becomes, watched};

fn policy(auto: AutoShutdown) -> SupervisorPolicy {
    SupervisorPolicy::new(Strategy::OneForOne)
        .intensity(3, HOUR)
        .auto_shutdown(auto)
}

/// A governance in which both children are significant, unless nobody looks.
fn governance(auto: AutoShutdown) -> Governance {
    let child = ChildPolicy {
        significant: Some(auto != Never),
        ..ChildPolicy::default()
    };
    Governance {
        policy: policy(auto),
        children: vec![("*".into(), child)],
    }
}

async fn start(stage: &Stage, auto: AutoShutdown) -> SupervisorRef {
    let spec = SupervisorSpec::new(ActorPath::root(), policy(Never))
        .child(stage.child("a").restart(Restart::Transient))
        .child(stage.child("b").restart(Restart::Transient));
    let sup = start_root(&stage.system, spec).await.unwrap();
    sup.govern(governance(auto), false).unwrap();
    sup
}

/// How many of two significant children must be done for the supervisor to end.
async fn upgrade(from: AutoShutdown, to: AutoShutdown, ends_after: Option<usize>) {
    watched(async {
        let stage = Stage::new();
        let sup = start(&stage, from).await;
        sup.govern(governance(to), false).unwrap();
        let ended = sup.exited();
        for (done, name) in ["a", "b"].into_iter().enumerate() {
            stage.tell(name, Order::Normal);
            if ends_after == Some(done + 1) {
                assert_eq!(ended.await, ExitReason::Shutdown, "{from:?} to {to:?}");
                return;
            }
            becomes(&sup, name, Some(ChildState::Down)).await;
        }
        assert_eq!(ends_after, None);
        assert_eq!(sup.count_children().await.unwrap().specs, 2, "it lives on");
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn significant_upgrade_never_any() {
    upgrade(Never, AnySignificant, Some(1)).await;
}

#[tokio::test]
async fn significant_upgrade_any_never() {
    upgrade(AnySignificant, Never, None).await;
}

#[tokio::test]
async fn significant_upgrade_never_all() {
    upgrade(Never, AllSignificant, Some(2)).await;
}

#[tokio::test]
async fn significant_upgrade_all_never() {
    upgrade(AllSignificant, Never, None).await;
}

#[tokio::test]
async fn significant_upgrade_any_all() {
    upgrade(AnySignificant, AllSignificant, Some(2)).await;
}

#[tokio::test]
async fn significant_upgrade_all_any() {
    upgrade(AllSignificant, AnySignificant, Some(1)).await;
}

#[tokio::test]
async fn significant_upgrade_child() {
    watched(async {
        let stage = Stage::new();
        let sup = start(&stage, AnySignificant).await;
        let mut only_b = governance(AnySignificant);
        let not = ChildPolicy {
            significant: Some(false),
            ..ChildPolicy::default()
        };
        only_b.children.insert(0, ("a".into(), not));
        sup.govern(only_b, false).unwrap();
        stage.tell("a", Order::Normal);
        becomes(&sup, "a", Some(ChildState::Down)).await;
        let ended = sup.exited();
        stage.tell("b", Order::Normal);
        assert_eq!(ended.await, ExitReason::Shutdown);
    })
    .await;
}

#[tokio::test]
async fn code_change() {
    watched(async {
        let stage = Stage::new();
        let spec = stage.spec(policy(Never), &["a", "b"]);
        let sup = start_root(&stage.system, spec).await.unwrap();
        let by = |policy| Governance {
            policy,
            children: Vec::new(),
        };
        let mut all = policy(Never);
        all.strategy = Strategy::OneForAll;
        sup.govern(by(all.clone()), false).unwrap();
        stage.take_log();
        stage.kill("b");
        stage.logs("-b ~a -a +a +b").await;
        becomes(&sup, "b", Some(ChildState::Running)).await;
        let mut wrong = all.clone();
        wrong.period = std::time::Duration::ZERO;
        let refused = sup.govern(by(wrong), false).unwrap_err();
        assert!(matches!(refused, GovernError::Invalid(_)), "{refused}");
        assert_eq!(sup.policy().unwrap().policy, all, "the old one stays");
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn code_change_simple() {
    watched(async {
        let stage = Stage::new();
        let simple = SupervisorPolicy::new(Strategy::SimpleOneForOne).intensity(3, HOUR);
        let sup = stage.start(simple.clone(), &[]).await;
        sup.start_child(stage.child("a")).await.unwrap();
        let by = |policy| Governance {
            policy,
            children: Vec::new(),
        };
        let mut few = simple.clone();
        few.intensity = 0;
        sup.govern(by(few), false).unwrap();
        let refused = sup.govern(by(policy(Never)), false).unwrap_err();
        assert_eq!(
            refused,
            GovernError::Invalid(vec![SpecError::SimpleForGood])
        );
        let ended = sup.exited();
        stage.kill("a");
        assert_eq!(
            ended.await,
            ExitReason::Escalated,
            "none is allowed any more"
        );
    })
    .await;
}

/// Beyond OTP, which keeps the start function of a temporary child.
#[tokio::test]
async fn a_temporary_child_that_lives_stays_temporary_under_a_new_policy() {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(Never), &["b"]).await;
        let temporary = stage.child("a").restart(Restart::Temporary);
        sup.start_child(temporary).await.unwrap();
        let permanent = ChildPolicy {
            restart: Some(Restart::Permanent),
            ..ChildPolicy::default()
        };
        let by = Governance {
            policy: policy(Never),
            children: vec![("*".into(), permanent)],
        };
        let governed = sup.govern(by, false).unwrap();
        assert_eq!(governed.changes, [], "nothing is promised that is not kept");
        stage.kill("a");
        becomes(&sup, "a", None).await;
        assert_eq!(sup.count_children().await.unwrap().specs, 1);
        sup.stop().await;
    })
    .await;
}
