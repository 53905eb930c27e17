//! `significant_*`: supervisors that end with their children.

use actorsim_actors::{ActorPath, ExitReason};
use actorsim_supervision::{
    AutoShutdown, ChildSpec, ChildState, Restart, Shutdown, Strategy, SupervisorPolicy,
    SupervisorRef, SupervisorSpec, start_root,
};

use crate::stage::{HOUR, Order, Stage, becomes, watched};

async fn start(stage: &Stage, auto: AutoShutdown, restart: Restart) -> SupervisorRef {
    let policy = SupervisorPolicy::new(Strategy::OneForOne)
        .intensity(3, HOUR)
        .auto_shutdown(auto);
    let spec = SupervisorSpec::new(ActorPath::root(), policy)
        .child(stage.child("bystander"))
        .child(stage.child("a").restart(restart).significant())
        .child(stage.child("b").restart(restart).significant());
    let sup = start_root(&stage.system, spec).await.unwrap();
    stage.take_log();
    sup
}

#[tokio::test]
async fn significant_transient() {
    watched(async {
        let stage = Stage::new();
        let sup = start(&stage, AutoShutdown::AnySignificant, Restart::Transient).await;
        stage.tell("a", Order::Fail);
        stage.logs("-a +a").await;
        becomes(&sup, "a", Some(ChildState::Running)).await;
        stage.take_log();
        stage.tell("a", Order::Normal);
        assert_eq!(sup.exited().await, ExitReason::Shutdown);
        assert_eq!(stage.log(), "~a -a ~b -b ~bystander -bystander");
    })
    .await;
}

#[tokio::test]
async fn significant_temporary() {
    watched(async {
        let stage = Stage::new();
        let sup = start(&stage, AutoShutdown::AnySignificant, Restart::Temporary).await;
        stage.kill("b");
        assert_eq!(sup.exited().await, ExitReason::Shutdown);
        assert_eq!(stage.log(), "-b ~a -a ~bystander -bystander");
    })
    .await;
}

#[tokio::test]
async fn all_significant() {
    for restart in [Restart::Transient, Restart::Temporary] {
        watched(async {
            let stage = Stage::new();
            let sup = start(&stage, AutoShutdown::AllSignificant, restart).await;
            stage.tell("a", Order::Normal);
            let left = (restart == Restart::Transient).then_some(ChildState::Down);
            becomes(&sup, "a", left).await;
            stage.tell("b", Order::Normal);
            assert_eq!(sup.exited().await, ExitReason::Shutdown);
        })
        .await;
    }
}

#[tokio::test]
async fn terminating_a_significant_child_does_not_end_the_supervisor() {
    watched(async {
        let stage = Stage::new();
        let sup = start(&stage, AutoShutdown::AnySignificant, Restart::Transient).await;
        sup.terminate_child("a").await.unwrap();
        assert_eq!(sup.count_children().await.unwrap().active, 2);
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_subtree_that_shuts_itself_down_ends_normally_for_its_parent() {
    watched(async {
        let stage = Stage::new();
        let auto = SupervisorPolicy::default().auto_shutdown(AutoShutdown::AnySignificant);
        let sub = SupervisorSpec::new(ActorPath::root().join("sub"), auto)
            .child(stage.child("a").restart(Restart::Temporary).significant());
        let spec = SupervisorSpec::new(ActorPath::root(), SupervisorPolicy::default())
            .child(ChildSpec::supervisor("sub", sub).restart(Restart::Transient));
        let root = start_root(&stage.system, spec).await.unwrap();
        stage.kill("a");
        becomes(&root, "sub", Some(ChildState::Down)).await;
        assert_eq!(stage.log(), "+a -a");
        root.stop().await;
    })
    .await;
}

async fn nonsignificant(restart: Restart) {
    watched(async {
        let stage = Stage::new();
        let policy = SupervisorPolicy::new(Strategy::OneForOne)
            .intensity(3, HOUR)
            .auto_shutdown(AutoShutdown::AnySignificant);
        let spec = SupervisorSpec::new(ActorPath::root(), policy)
            .child(stage.child("a").restart(restart))
            .child(stage.child("b").restart(restart).significant());
        let sup = start_root(&stage.system, spec).await.unwrap();
        stage.tell("a", Order::Normal);
        let left = (restart == Restart::Transient).then_some(ChildState::Down);
        becomes(&sup, "a", left).await;
        assert_eq!(sup.count_children().await.unwrap().active, 1);
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn nonsignificant_temporary() {
    nonsignificant(Restart::Temporary).await;
}

#[tokio::test]
async fn nonsignificant_transient() {
    nonsignificant(Restart::Transient).await;
}

#[tokio::test]
async fn significant_simple() {
    for restart in [Restart::Transient, Restart::Temporary] {
        for auto in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
            watched(async {
                let stage = Stage::new();
                let policy = SupervisorPolicy::new(Strategy::SimpleOneForOne).auto_shutdown(auto);
                let sup = stage.start(policy, &[]).await;
                for name in ["a", "b", "c"] {
                    let child = stage.child(name).restart(restart).significant();
                    sup.start_child(child).await.unwrap();
                }
                let ended = sup.exited();
                sup.terminate_child("c").await.unwrap();
                stage.take_log();
                stage.tell("a", Order::Normal);
                if auto == AutoShutdown::AllSignificant {
                    becomes(&sup, "a", None).await;
                    assert_eq!(stage.log(), "~a -a", "one of them still runs");
                    stage.tell("b", Order::Normal);
                }
                assert_eq!(ended.await, ExitReason::Shutdown, "{restart:?} {auto:?}");
                assert_eq!(stage.log(), "~a -a ~b -b");
            })
            .await;
        }
    }
}

/// In OTP a supervisor that gives up ends with `shutdown`: its own supervisor takes that for the
/// end of its work. Only the name of the reason differs here, and that it is told as a crash.
#[tokio::test]
async fn a_transient_subtree_that_gives_up_is_not_restarted() {
    for significant in [false, true] {
        watched(async {
            let stage = Stage::new();
            let sub = SupervisorSpec::new(
                ActorPath::root().join("sub"),
                SupervisorPolicy::default().intensity(0, HOUR),
            );
            let sub = ChildSpec::supervisor("sub", sub.child(stage.child("a")));
            let sub = sub.restart(Restart::Transient);
            let sub = if significant { sub.significant() } else { sub };
            let auto = SupervisorPolicy::default().auto_shutdown(AutoShutdown::AnySignificant);
            let spec = SupervisorSpec::new(ActorPath::root(), auto)
                .child(stage.child("c"))
                .child(sub);
            let root = start_root(&stage.system, spec).await.unwrap();
            let ended = root.exited();
            stage.take_log();
            stage.kill("a");
            if significant {
                assert_eq!(ended.await, ExitReason::Shutdown);
                assert_eq!(stage.log(), "-a ~c -c");
            } else {
                becomes(&root, "sub", Some(ChildState::Down)).await;
                assert_eq!(stage.log(), "-a");
                root.stop().await;
            }
            assert_eq!(root.supervision().stats().escalations, 1);
        })
        .await;
    }
}

/// A significant child that is stopped with a sibling has not ended by itself.
#[tokio::test]
async fn significant_bystander() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        for restart in [Restart::Transient, Restart::Temporary] {
            watched(async {
                let stage = Stage::new();
                let policy = SupervisorPolicy::new(strategy)
                    .intensity(3, HOUR)
                    .auto_shutdown(AutoShutdown::AnySignificant);
                let spec = SupervisorSpec::new(ActorPath::root(), policy)
                    .child(stage.child("a"))
                    .child(stage.child("b").restart(restart).significant());
                let sup = start_root(&stage.system, spec).await.unwrap();
                stage.take_log();
                stage.kill("a");
                let temporary = restart == Restart::Temporary;
                let again = if temporary { "" } else { " +b" };
                stage.logs(&format!("-a ~b -b +a{again}")).await;
                becomes(&sup, "a", Some(ChildState::Running)).await;
                sup.stop().await;
            })
            .await;
        }
    }
}

/// A significant subtree that shuts itself down takes the supervisor above with it.
#[tokio::test]
async fn significant_escalation() {
    watched(async {
        let stage = Stage::new();
        let auto = SupervisorPolicy::default().auto_shutdown(AutoShutdown::AnySignificant);
        let sub = SupervisorSpec::new(ActorPath::root().join("sub"), auto.clone())
            .child(stage.child("a").restart(Restart::Transient).significant())
            .child(stage.child("b"));
        let sub = ChildSpec::supervisor("sub", sub).restart(Restart::Transient);
        let spec = SupervisorSpec::new(ActorPath::root(), auto)
            .child(stage.child("c"))
            .child(sub.significant());
        let root = start_root(&stage.system, spec).await.unwrap();
        stage.take_log();
        let ended = root.exited();
        stage.tell("a", Order::Normal);
        assert_eq!(ended.await, ExitReason::Shutdown);
        assert_eq!(stage.log(), "~a -a ~b -b ~c -c");
    })
    .await;
}

/// In OTP the end of a child is heard once its siblings are up; here at once, and means the same.
#[tokio::test]
async fn a_subtree_whose_work_is_done_before_all_of_it_is_up_came_up() {
    watched(async {
        let stage = Stage::new();
        let auto = SupervisorPolicy::default().auto_shutdown(AutoShutdown::AnySignificant);
        let sub = SupervisorSpec::new(ActorPath::root().join("sub"), auto)
            .child(stage.child("a").restart(Restart::Transient).significant())
            .child(stage.child("b").shutdown(Shutdown::BrutalKill));
        let spec = SupervisorSpec::new(ActorPath::root(), SupervisorPolicy::default())
            .child(ChildSpec::supervisor("sub", sub).restart(Restart::Transient));
        stage.next_starts_hang("b", 1);
        let work = async {
            stage.logs("+a b hangs").await;
            stage.tell("a", Order::Normal);
        };
        let (root, ()) = tokio::join!(start_root(&stage.system, spec), work);
        let root = root.unwrap();
        becomes(&root, "sub", Some(ChildState::Down)).await;
        assert_eq!(stage.log(), "+a b hangs ~a -a");
        root.stop().await;
    })
    .await;
}
