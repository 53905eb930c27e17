//! Starting, adding, terminating, restarting and deleting children, and OTP's error sets.

use actorsim_actors::ActorPath;
use actorsim_supervision::{
    AutoShutdown, ChildSpec, ChildState, Counts, DeleteChildError, GetChildspecError, Restart,
    RestartChildError, SpecError, StartChildError, StartError, Strategy, SupervisorPolicy,
    SupervisorSpec, TerminateChildError, check_childspecs, start_root,
};

use crate::stage::{HOUR, Order, Stage, becomes, watched};

fn policy(strategy: Strategy) -> SupervisorPolicy {
    SupervisorPolicy::new(strategy).intensity(1, HOUR)
}

#[tokio::test]
async fn child_adm() {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(Strategy::OneForOne), &[]).await;
        let started = sup.start_child(stage.child("a")).await.unwrap();
        assert_eq!(started.incarnation().0, 1);
        let again = sup.start_child(stage.child("a")).await;
        assert!(
            matches!(again, Err(StartChildError::AlreadyStarted(actor)) if !actor.has_exited())
        );
        assert_eq!(sup.delete_child("a").await, Err(DeleteChildError::Running));
        assert_eq!(
            sup.restart_child("a").await.unwrap_err(),
            RestartChildError::Running
        );
        assert_eq!(sup.get_childspec("a").await.unwrap().id, "a");

        sup.terminate_child("a").await.unwrap();
        assert!(started.has_exited(), "answered when the child is gone");
        sup.terminate_child("a").await.unwrap();
        becomes(&sup, "a", Some(ChildState::Down)).await;
        assert_eq!(stage.shown("a"), Some("stopped"));
        let again = sup.start_child(stage.child("a")).await;
        assert!(matches!(again, Err(StartChildError::AlreadyPresent)));
        let restarted = sup.restart_child("a").await.unwrap();
        assert_eq!(restarted.incarnation().0, 2);

        sup.terminate_child("a").await.unwrap();
        sup.delete_child("a").await.unwrap();
        assert_eq!(sup.delete_child("a").await, Err(DeleteChildError::NotFound));
        assert_eq!(
            sup.restart_child("a").await.unwrap_err(),
            RestartChildError::NotFound
        );
        assert_eq!(
            sup.terminate_child("a").await,
            Err(TerminateChildError::NotFound)
        );
        assert_eq!(
            sup.get_childspec("a").await.unwrap_err(),
            GetChildspecError::NotFound
        );
        assert_eq!(sup.count_children().await.unwrap(), Counts::default());
        sup.stop().await;
        let late = sup.start_child(stage.child("a")).await;
        assert!(
            matches!(late, Err(StartChildError::Unavailable(_))),
            "{late:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn sup_start_fail() {
    watched(async {
        let stage = Stage::new();
        stage.next_starts_fail("c", 1);
        let spec = stage.spec(policy(Strategy::OneForOne), &["a", "b", "c", "d"]);
        let error = start_root(&stage.system, spec).await.unwrap_err();
        assert!(
            matches!(&error, StartError::FailedToStartChild { id, .. } if id == "c"),
            "{error}"
        );
        assert_eq!(
            stage.log(),
            "+a +b c fails ~b -b ~a -a",
            "nothing is left running"
        );
    })
    .await;
}

#[tokio::test]
async fn sup_start_map_faulty_specs() {
    watched(async {
        let stage = Stage::new();
        let children = [
            stage.child(""),
            stage.child("a"),
            stage.child("a"),
            stage.child("b").significant(),
            stage.child("c").restart(Restart::Transient).significant(),
        ];
        let expected = [
            SpecError::MissingId(0),
            SpecError::DuplicateId("a".into()),
            SpecError::SignificantPermanent("b".into()),
            SpecError::SignificantIgnored("c".into()),
        ];
        let found = check_childspecs(&policy(Strategy::OneForOne), &children).unwrap_err();
        assert_eq!(found, expected);
        let spec = SupervisorSpec::new(ActorPath::root(), policy(Strategy::OneForOne));
        let spec = children.into_iter().fold(spec, SupervisorSpec::child);
        let error = start_root(&stage.system, spec).await.unwrap_err();
        assert_eq!(error, StartError::Invalid(expected.to_vec()));
        assert_eq!(stage.log(), "");
        let simple = check_childspecs(&policy(Strategy::SimpleOneForOne), &[stage.child("a")]);
        assert_eq!(simple, Err(vec![SpecError::SimpleWithChildren("a".into())]));
        let any = policy(Strategy::OneForOne).auto_shutdown(AutoShutdown::AnySignificant);
        let good = stage.child("c").restart(Restart::Transient).significant();
        assert_eq!(check_childspecs(&any, &[good]), Ok(()));
    })
    .await;
}

#[tokio::test]
async fn count_children() {
    watched(async {
        let stage = Stage::new();
        let sub = SupervisorSpec::new(ActorPath::root().join("sub"), SupervisorPolicy::default());
        let spec = stage
            .spec(policy(Strategy::OneForOne), &["a"])
            .child(stage.child("b").restart(Restart::Transient))
            .child(ChildSpec::supervisor("sub", sub));
        let sup = start_root(&stage.system, spec).await.unwrap();
        let all = Counts {
            specs: 3,
            active: 3,
            supervisors: 1,
            workers: 2,
        };
        assert_eq!(sup.count_children().await.unwrap(), all);
        stage.tell("b", Order::Normal);
        becomes(&sup, "b", Some(ChildState::Down)).await;
        assert_eq!(
            sup.count_children().await.unwrap(),
            Counts { active: 2, ..all }
        );
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn simple_one_for_one() {
    watched(async {
        let stage = Stage::new();
        let policy = policy(Strategy::SimpleOneForOne).max_children(2);
        let sup = stage.start(policy, &[]).await;
        let child = |name: &str| stage.child(name).restart(Restart::Temporary);
        sup.start_child(child("1")).await.unwrap();
        sup.start_child(child("2")).await.unwrap();
        let third = sup.start_child(child("3")).await;
        assert!(matches!(third, Err(StartChildError::TooMany { max: 2 })));
        assert_eq!(
            sup.delete_child("1").await,
            Err(DeleteChildError::SimpleOneForOne)
        );
        let restart = sup.restart_child("1").await;
        assert_eq!(restart.unwrap_err(), RestartChildError::SimpleOneForOne);
        stage.kill("1");
        becomes(&sup, "1", None).await;
        assert!(
            stage.addr("1").is_closed(),
            "senders learn that it will not come back"
        );
        sup.start_child(child("3")).await.unwrap();
        sup.terminate_child("2").await.unwrap();
        assert_eq!(sup.count_children().await.unwrap().specs, 1);
        sup.stop().await;
        assert!(stage.log().ends_with("~3 -3"), "{}", stage.log());
    })
    .await;
}

#[tokio::test]
async fn do_not_save_start_parameters_for_temporary_children() {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(Strategy::SimpleOneForOne), &[]).await;
        let parameters = std::sync::Arc::new(());
        let captured = std::sync::Arc::clone(&parameters);
        let mut spec = stage.child("a").restart(Restart::Temporary);
        let start = std::sync::Arc::clone(&spec.start);
        spec.start = std::sync::Arc::new(move |cx| {
            let _ = &captured;
            start(cx)
        });
        sup.start_child(spec).await.unwrap();
        while std::sync::Arc::strong_count(&parameters) > 1 {
            tokio::task::yield_now().await;
        }
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn simple_one_for_one_scale_many_temporary_children() {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(Strategy::SimpleOneForOne), &[]).await;
        let names: Vec<String> = (0..500).map(|i| format!("c{i}")).collect();
        for name in &names {
            sup.start_child(stage.child(name).restart(Restart::Temporary))
                .await
                .unwrap();
        }
        assert_eq!(sup.count_children().await.unwrap().active, 500);
        for name in names.iter().step_by(2) {
            stage.kill(name);
        }
        while sup.count_children().await.unwrap().specs != 250 {
            tokio::task::yield_now().await;
        }
        sup.stop().await;
        assert_eq!(stage.system.census().live()["task"], 0);
    })
    .await;
}

#[tokio::test]
async fn a_subtree_that_is_forgotten_leaves_nothing_in_the_census() {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(Strategy::OneForOne), &["a"]).await;
        for restart in [Restart::Temporary, Restart::Transient] {
            let inner =
                SupervisorSpec::new(ActorPath::root().join("inner"), policy(Strategy::OneForOne))
                    .child(stage.child("c"));
            let sub =
                SupervisorSpec::new(ActorPath::root().join("sub"), policy(Strategy::OneForOne))
                    .child(stage.child("b"))
                    .child(ChildSpec::supervisor("inner", inner));
            let sub = ChildSpec::supervisor("sub", sub).restart(restart);
            sup.start_child(sub).await.unwrap();
            assert_eq!(stage.shown("c"), Some("running"));
            sup.terminate_child("sub").await.unwrap();
            if restart == Restart::Transient {
                assert_eq!(stage.shown("sub"), Some("stopped"));
                sup.delete_child("sub").await.unwrap();
            }
            for name in ["sub", "b", "inner", "c"] {
                assert_eq!(stage.shown(name), None, "{name}");
            }
        }
        assert_eq!(stage.shown("a"), Some("running"));
        sup.stop().await;
    })
    .await;
}
