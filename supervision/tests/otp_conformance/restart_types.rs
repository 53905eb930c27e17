//! `{permanent,transient,temporary}_{normal,shutdown,abnormal}`: which ends lead to a start.

use actorsim_supervision::{ChildState, Restart, Strategy, SupervisorPolicy, SupervisorSpec};

use crate::stage::{HOUR, Order, Stage, becomes, watched};

#[derive(Debug, Clone, Copy)]
enum Way {
    Normal,
    Shutdown,
    Fault,
    Panic,
    Kill,
}

const ABNORMAL: [Way; 3] = [Way::Fault, Way::Panic, Way::Kill];

/// Ends a child; a witness beside it must not be touched.
async fn case(restart: Restart, way: Way, outcome: Option<ChildState>) {
    watched(async {
        let stage = Stage::new();
        let policy = SupervisorPolicy::new(Strategy::OneForOne).intensity(3, HOUR);
        let spec = SupervisorSpec::new(actorsim_actors::ActorPath::root(), policy)
            .child(stage.child("child").restart(restart))
            .child(stage.child("witness"));
        let sup = actorsim_supervision::start_root(&stage.system, spec)
            .await
            .unwrap();
        assert_eq!(stage.take_log(), "+child +witness");
        match way {
            Way::Normal => stage.tell("child", Order::Normal),
            Way::Shutdown => stage.stop("child"),
            Way::Fault => stage.tell("child", Order::Fail),
            Way::Panic => stage.tell("child", Order::Panic),
            Way::Kill => stage.kill("child"),
        }
        let ordered = matches!(way, Way::Normal | Way::Shutdown);
        let end = if ordered { "~child -child" } else { "-child" };
        match outcome {
            Some(ChildState::Running) => stage.logs(&format!("{end} +child")).await,
            _ => stage.logs(end).await,
        }
        becomes(&sup, "child", outcome).await;
        let lives = if outcome == Some(ChildState::Running) {
            2
        } else {
            1
        };
        assert_eq!(
            (stage.life("child"), stage.life("witness")),
            (lives, 1),
            "{way:?}"
        );
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn permanent_normal() {
    case(Restart::Permanent, Way::Normal, Some(ChildState::Running)).await;
}

#[tokio::test]
async fn permanent_shutdown() {
    case(Restart::Permanent, Way::Shutdown, Some(ChildState::Running)).await;
}

#[tokio::test]
async fn permanent_abnormal() {
    for way in ABNORMAL {
        case(Restart::Permanent, way, Some(ChildState::Running)).await;
    }
}

#[tokio::test]
async fn transient_normal() {
    case(Restart::Transient, Way::Normal, Some(ChildState::Down)).await;
}

#[tokio::test]
async fn transient_shutdown() {
    case(Restart::Transient, Way::Shutdown, Some(ChildState::Down)).await;
}

#[tokio::test]
async fn transient_abnormal() {
    for way in ABNORMAL {
        case(Restart::Transient, way, Some(ChildState::Running)).await;
    }
}

#[tokio::test]
async fn temporary_normal() {
    case(Restart::Temporary, Way::Normal, None).await;
}

#[tokio::test]
async fn temporary_shutdown() {
    case(Restart::Temporary, Way::Shutdown, None).await;
}

#[tokio::test]
async fn temporary_abnormal() {
    for way in ABNORMAL {
        case(Restart::Temporary, way, None).await;
    }
}
