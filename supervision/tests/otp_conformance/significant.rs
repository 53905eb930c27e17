//! `significant_*`: supervisors that end with their children.

use actorsim_actors::{ActorPath, ExitReason};
use actorsim_supervision::{
    AutoShutdown, ChildSpec, ChildState, Restart, Strategy, SupervisorPolicy, SupervisorRef,
    SupervisorSpec, start_root,
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
async fn any_significant_transient() {
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
async fn any_significant_temporary() {
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
