//! What a supervisor knows of its children: lists, counts, order, and what it forgets.

use std::time::Duration;

use actorsim_actors::ActorPath;
use actorsim_supervision::{
    AutoShutdown, Backoff, ChildSpec, ChildState, Counts, DeleteChildError, GetChildspecError,
    Restart, RestartChildError, SpecError, StartChildError, Strategy, SupervisorPolicy,
    SupervisorRef, SupervisorSpec, TerminateChildError, check_childspecs, start_root,
};

use crate::stage::{HOUR, Order, Stage, becomes, watched};

fn policy(strategy: Strategy) -> SupervisorPolicy {
    SupervisorPolicy::new(strategy).intensity(9, HOUR)
}

async fn ids(sup: &SupervisorRef) -> Vec<String> {
    let children = sup.which_children().await.unwrap();
    children.into_iter().map(|child| child.id).collect()
}

async fn up_again(stage: &Stage, sup: &SupervisorRef, name: &str, life: u32) {
    becomes(sup, name, Some(ChildState::Running)).await;
    while stage.life(name) < life || !stage.addr(name).is_up() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn child_adm_simple() {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(Strategy::SimpleOneForOne), &[]).await;
        let started = sup.start_child(stage.child("a")).await.unwrap();
        let again = sup.start_child(stage.child("a")).await;
        assert!(matches!(again, Err(StartChildError::AlreadyStarted(_))));
        assert_eq!(
            sup.delete_child("a").await,
            Err(DeleteChildError::SimpleOneForOne)
        );
        let restart = sup.restart_child("a").await.unwrap_err();
        assert_eq!(restart, RestartChildError::SimpleOneForOne);
        assert_eq!(
            sup.terminate_child("b").await,
            Err(TerminateChildError::NotFound)
        );
        sup.terminate_child("a").await.unwrap();
        assert!(started.has_exited());
        becomes(&sup, "a", None).await;
        assert_eq!(sup.count_children().await.unwrap(), Counts::default());
        sup.start_child(stage.child("a")).await.unwrap();
        sup.stop().await;
    })
    .await;
}

/// As in OTP, whatever its type: nothing could be done with it any more.
#[tokio::test]
async fn a_simple_child_that_is_not_restarted_is_forgotten() {
    watched(async {
        let stage = Stage::new();
        let parks = policy(Strategy::SimpleOneForOne).intensity(0, HOUR);
        let sup = stage.start(parks.quarantine(), &[]).await;
        let transient = || stage.child("a").restart(Restart::Transient);
        sup.start_child(transient()).await.unwrap();
        stage.tell("a", Order::Normal);
        becomes(&sup, "a", None).await;
        sup.start_child(transient()).await.unwrap();
        stage.kill("a");
        becomes(&sup, "a", Some(ChildState::Quarantined)).await;
        stage.next_starts_fail("a", 1);
        assert!(sup.release_child("a").await.is_err());
        becomes(&sup, "a", None).await;
        sup.start_child(transient()).await.unwrap();
        stage.kill("a");
        becomes(&sup, "a", Some(ChildState::Quarantined)).await;
        sup.terminate_child("a").await.unwrap();
        becomes(&sup, "a", None).await;
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn child_specs() {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(Strategy::OneForOne), &[]).await;
        for (child, error) in [
            (stage.child(""), SpecError::MissingId(0)),
            (
                stage.child("a").significant(),
                SpecError::SignificantPermanent("a".into()),
            ),
            (
                stage.child("a").restart(Restart::Transient).significant(),
                SpecError::SignificantIgnored("a".into()),
            ),
        ] {
            let refused = sup.start_child(child).await.unwrap_err();
            assert!(
                matches!(&refused, StartChildError::Invalid(wrong) if *wrong == error),
                "{refused}"
            );
        }
        assert_eq!(sup.count_children().await.unwrap(), Counts::default());
        assert_eq!(stage.log(), "");
        sup.stop().await;
    })
    .await;
}

/// Every combination of restart type, significance and auto-shutdown.
#[tokio::test]
async fn child_specs_map() {
    let stage = Stage::new();
    for auto in [
        AutoShutdown::Never,
        AutoShutdown::AnySignificant,
        AutoShutdown::AllSignificant,
    ] {
        for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
            let policy = policy(Strategy::OneForOne).auto_shutdown(auto);
            let plain = stage.child("a").restart(restart);
            assert_eq!(
                check_childspecs(&policy, std::slice::from_ref(&plain)),
                Ok(())
            );
            let significant = check_childspecs(&policy, &[plain.significant()]);
            let fits = restart != Restart::Permanent && auto != AutoShutdown::Never;
            assert_eq!(significant.is_ok(), fits, "{auto:?} {restart:?}");
        }
    }
}

#[tokio::test]
async fn count_children_supervisor() {
    watched(async {
        let stage = Stage::new();
        let below = |name: &str| {
            let path = ActorPath::root().join(name);
            let spec = SupervisorSpec::new(path, SupervisorPolicy::default());
            ChildSpec::supervisor(name, spec)
        };
        let spec = stage
            .spec(policy(Strategy::OneForOne), &["a"])
            .child(below("s"))
            .child(below("t"));
        let sup = start_root(&stage.system, spec).await.unwrap();
        let all = Counts {
            specs: 3,
            active: 3,
            supervisors: 2,
            workers: 1,
        };
        assert_eq!(sup.count_children().await.unwrap(), all);
        sup.terminate_child("s").await.unwrap();
        let fewer = Counts { active: 2, ..all };
        assert_eq!(
            sup.count_children().await.unwrap(),
            fewer,
            "its spec counts on"
        );
        sup.delete_child("s").await.unwrap();
        let counts = sup.count_children().await.unwrap();
        assert_eq!((counts.specs, counts.supervisors), (2, 1));
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn count_restarting_children() {
    watched(async {
        let stage = Stage::new();
        let backoff = Backoff {
            min: HOUR,
            max: HOUR,
            ..Backoff::default()
        };
        let sup = stage
            .start(policy(Strategy::OneForOne).backoff(backoff), &["a", "b"])
            .await;
        stage.kill("a");
        becomes(&sup, "a", Some(ChildState::Restarting)).await;
        let counts = sup.count_children().await.unwrap();
        assert_eq!((counts.specs, counts.active, counts.workers), (2, 1, 2));
        assert_eq!(
            sup.restart_child("a").await.unwrap_err(),
            RestartChildError::Restarting
        );
        assert_eq!(
            sup.delete_child("a").await,
            Err(DeleteChildError::Restarting)
        );
        sup.terminate_child("a").await.unwrap();
        becomes(&sup, "a", Some(ChildState::Down)).await;
        sup.restart_child("a").await.unwrap();
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn which_children() {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(Strategy::OneForOne), &["a", "b"]).await;
        sup.start_child(stage.child("c").restart(Restart::Temporary))
            .await
            .unwrap();
        sup.terminate_child("b").await.unwrap();
        let children = sup.which_children().await.unwrap();
        let seen: Vec<_> = children
            .iter()
            .map(|child| (child.id.as_str(), child.state, child.restart))
            .collect();
        let expected = [
            ("a", ChildState::Running, Restart::Permanent),
            ("b", ChildState::Down, Restart::Permanent),
            ("c", ChildState::Running, Restart::Temporary),
        ];
        assert_eq!(seen, expected, "in start order");
        assert_eq!(children[0].path, Some(ActorPath::root().join("a")));
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn which_children_simple_one_for_one() {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(Strategy::SimpleOneForOne), &[]).await;
        for name in ["1", "2", "3"] {
            let child = stage.child(name).restart(Restart::Temporary);
            sup.start_child(child).await.unwrap();
        }
        assert_eq!(ids(&sup).await, ["1", "2", "3"]);
        stage.kill("2");
        becomes(&sup, "2", None).await;
        assert_eq!(ids(&sup).await, ["1", "3"]);
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn order_of_children() {
    for strategy in [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ] {
        watched(async {
            let stage = Stage::new();
            let sup = stage.start(policy(strategy), &["a", "b"]).await;
            sup.start_child(stage.child("c")).await.unwrap();
            stage.kill("b");
            up_again(&stage, &sup, "b", 2).await;
            up_again(&stage, &sup, "c", 1).await;
            sup.terminate_child("a").await.unwrap();
            sup.restart_child("a").await.unwrap();
            assert_eq!(ids(&sup).await, ["a", "b", "c"], "{strategy:?}");
            stage.take_log();
            sup.stop().await;
            assert_eq!(stage.log(), "~c -c ~b -b ~a -a", "{strategy:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn scale_start_stop_many_children() {
    watched(async {
        const MANY: u32 = 1_000;
        let stage = Stage::new();
        let sup = stage.start(policy(Strategy::OneForOne), &[]).await;
        let names: Vec<String> = (0..MANY).map(|i| format!("c{i}")).collect();
        for name in &names {
            sup.start_child(stage.child(name)).await.unwrap();
        }
        assert_eq!(sup.count_children().await.unwrap().active, MANY);
        for name in &names {
            sup.terminate_child(name).await.unwrap();
            sup.delete_child(name).await.unwrap();
        }
        assert_eq!(sup.count_children().await.unwrap(), Counts::default());
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn do_not_save_child_specs_for_temporary_children() {
    for strategy in [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
        Strategy::SimpleOneForOne,
    ] {
        for terminated in [false, true] {
            watched(async {
                let stage = Stage::new();
                let sup = stage.start(policy(strategy), &[]).await;
                let child = stage.child("a").restart(Restart::Temporary);
                sup.start_child(child).await.unwrap();
                match terminated {
                    true => sup.terminate_child("a").await.unwrap(),
                    false => stage.kill("a"),
                }
                becomes(&sup, "a", None).await;
                assert_eq!(
                    sup.get_childspec("a").await.unwrap_err(),
                    GetChildspecError::NotFound
                );
                sup.start_child(stage.child("a")).await.unwrap();
                sup.stop().await;
            })
            .await;
        }
    }
}

/// Restarts up to the intensity succeed each time, whoever of them it is that dies.
#[tokio::test]
async fn multiple_restarts() {
    watched(async {
        let stage = Stage::new();
        let policy = SupervisorPolicy::new(Strategy::OneForOne).intensity(5, HOUR);
        let sup = stage.start(policy, &["a", "b"]).await;
        let mut lives = [1, 1];
        for turn in [0, 1, 0, 0, 1] {
            let name = ["a", "b"][turn];
            stage.tell(name, Order::Panic);
            lives[turn] += 1;
            up_again(&stage, &sup, name, lives[turn]).await;
        }
        let ended = sup.exited();
        stage.tell("b", Order::Fail);
        assert_eq!(ended.await, actorsim_actors::ExitReason::Escalated);
    })
    .await;
}

/// A child that will not start again does not keep its supervisor from anything.
async fn endless(strategy: Strategy) {
    watched(async {
        let stage = Stage::new();
        let backoff = Backoff {
            min: Duration::from_millis(1),
            max: Duration::from_millis(1),
            ..Backoff::default()
        };
        let policy = SupervisorPolicy::new(strategy)
            .intensity(10_000, HOUR)
            .backoff(backoff);
        let sup = stage.start(policy, &[]).await;
        for name in ["a", "b"] {
            sup.start_child(stage.child(name)).await.unwrap();
        }
        stage.next_starts_fail("a", u32::MAX);
        stage.kill("a");
        while stage.log().matches("a fails").count() < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(ids(&sup).await, ["a", "b"], "it answers");
        becomes(&sup, "a", Some(ChildState::Restarting)).await;
        sup.terminate_child("a").await.unwrap();
        if strategy == Strategy::SimpleOneForOne {
            becomes(&sup, "a", None).await;
        } else {
            becomes(&sup, "a", Some(ChildState::Down)).await;
            let failed = sup.restart_child("a").await.unwrap_err();
            assert!(matches!(failed, RestartChildError::Failed(_)));
            sup.delete_child("a").await.unwrap();
        }
        sup.stop().await;
        assert_eq!(stage.system.census().live()["task"], 0);
    })
    .await;
}

#[tokio::test]
async fn hanging_restart_loop_rest_for_one() {
    endless(Strategy::RestForOne).await;
}

#[tokio::test]
async fn hanging_restart_loop_simple() {
    endless(Strategy::SimpleOneForOne).await;
}
