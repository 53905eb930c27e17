//! How children start, fail to start and decline to start; what a spec's defaults are.

use std::time::Duration;

use actorsim_actors::ActorPath;
use actorsim_supervision::{
    Backoff, ChildSpec, ChildState, GetChildspecError, Kind, PolicyError, Restart,
    RestartChildError, Shutdown, SpecError, StartChildError, Strategy, SupervisorPolicy,
    SupervisorSpec, start_root,
};

use crate::stage::{HOUR, Stage, becomes, watched};

fn policy(strategy: Strategy) -> SupervisorPolicy {
    SupervisorPolicy::new(strategy).intensity(2, HOUR)
}

#[tokio::test]
async fn sup_start_normal() {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(Strategy::OneForOne), &[]).await;
        assert!(sup.which_children().await.unwrap().is_empty());
        sup.stop().await;
        assert!(sup.actor().is_none());
    })
    .await;
}

#[tokio::test]
async fn sup_start_ignore_child() {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(Strategy::OneForOne), &[]).await;
        stage.next_starts_decline("a", 1);
        let declined = sup.start_child(stage.child("a")).await.unwrap_err();
        assert!(matches!(declined, StartChildError::Ignored), "{declined}");
        sup.start_child(stage.child("b")).await.unwrap();
        let counts = sup.count_children().await.unwrap();
        assert_eq!((counts.specs, counts.active), (2, 1), "its spec is kept");
        becomes(&sup, "a", Some(ChildState::Down)).await;
        sup.restart_child("a").await.unwrap();
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn sup_start_ignore_temporary_child() {
    watched(async {
        let stage = Stage::new();
        stage.next_starts_decline("a", 1);
        let spec = SupervisorSpec::new(ActorPath::root(), policy(Strategy::OneForOne))
            .child(stage.child("a").restart(Restart::Temporary))
            .child(stage.child("b").restart(Restart::Temporary))
            .child(stage.child("c"));
        let sup = start_root(&stage.system, spec).await.unwrap();
        let children = sup.which_children().await.unwrap();
        let ids: Vec<&str> = children.iter().map(|child| child.id.as_str()).collect();
        assert_eq!(ids, ["b", "c"], "it is forgotten, and the start goes on");
        sup.stop().await;
    })
    .await;
}

async fn declines_and_is_forgotten(strategy: Strategy, restart: Restart) {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(strategy), &[]).await;
        stage.next_starts_decline("a", 1);
        let declined = sup.start_child(stage.child("a").restart(restart)).await;
        assert!(matches!(declined, Err(StartChildError::Ignored)));
        sup.start_child(stage.child("b").restart(restart))
            .await
            .unwrap();
        let counts = sup.count_children().await.unwrap();
        assert_eq!((counts.specs, counts.active), (1, 1));
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn sup_start_ignore_temporary_child_start_child() {
    declines_and_is_forgotten(Strategy::OneForOne, Restart::Temporary).await;
}

#[tokio::test]
async fn sup_start_ignore_temporary_child_start_child_simple() {
    declines_and_is_forgotten(Strategy::SimpleOneForOne, Restart::Temporary).await;
}

#[tokio::test]
async fn sup_start_ignore_permanent_child_start_child_simple() {
    declines_and_is_forgotten(Strategy::SimpleOneForOne, Restart::Permanent).await;
}

/// A child that declines to start again is given up, whatever its restart type.
#[tokio::test]
async fn simple_one_for_one_restart_ignore() {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(Strategy::SimpleOneForOne), &[]).await;
        sup.start_child(stage.child("a")).await.unwrap();
        stage.next_starts_decline("a", 1);
        stage.kill("a");
        becomes(&sup, "a", None).await;
        let sup_of_one = stage.start(policy(Strategy::OneForOne), &["b"]).await;
        stage.next_starts_decline("b", 1);
        stage.kill("b");
        becomes(&sup_of_one, "b", Some(ChildState::Down)).await;
        sup_of_one.stop().await;
        sup.stop().await;
    })
    .await;
}

async fn child_returns_error(strategy: Strategy) {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(strategy), &[]).await;
        stage.next_starts_fail("a", 1);
        let failed = sup.start_child(stage.child("a")).await;
        assert!(matches!(failed, Err(StartChildError::Failed(f)) if f.code == "start_fails"));
        assert!(sup.which_children().await.unwrap().is_empty());
        sup.start_child(stage.child("a")).await.unwrap();
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn sup_start_child_returns_error() {
    child_returns_error(Strategy::OneForOne).await;
}

#[tokio::test]
async fn sup_start_child_returns_error_simple() {
    child_returns_error(Strategy::SimpleOneForOne).await;
}

#[tokio::test]
async fn sup_start_restart_child_returns_error() {
    watched(async {
        let stage = Stage::new();
        let sup = stage.start(policy(Strategy::OneForOne), &["a"]).await;
        sup.terminate_child("a").await.unwrap();
        stage.next_starts_fail("a", 1);
        let failed = sup.restart_child("a").await.unwrap_err();
        assert!(matches!(failed, RestartChildError::Failed(f) if f.code == "start_fails"));
        becomes(&sup, "a", Some(ChildState::Down)).await;
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn sup_start_map() {
    watched(async {
        let stage = Stage::new();
        let below = SupervisorSpec::new(ActorPath::root().join("c"), SupervisorPolicy::default());
        let spec = stage
            .spec(SupervisorPolicy::default(), &["a"])
            .child(stage.child("b").shutdown(Shutdown::BrutalKill))
            .child(ChildSpec::supervisor("c", below));
        let sup = start_root(&stage.system, spec).await.unwrap();
        for (id, shutdown, kind) in [
            ("a", Shutdown::After(Duration::from_secs(5)), Kind::Worker),
            ("b", Shutdown::BrutalKill, Kind::Worker),
            ("c", Shutdown::Infinity, Kind::Supervisor),
        ] {
            let spec = sup.get_childspec(id).await.unwrap();
            let all = (spec.restart, spec.shutdown, spec.significant, spec.kind);
            assert_eq!(all, (Restart::Permanent, shutdown, false, kind), "{id}");
        }
        let unknown = sup.get_childspec("d").await.unwrap_err();
        assert_eq!(unknown, GetChildspecError::NotFound);
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn sup_start_map_simple() {
    watched(async {
        let stage = Stage::new();
        let sup = stage
            .start(SupervisorPolicy::new(Strategy::SimpleOneForOne), &[])
            .await;
        for id in ["1", "2", "3"] {
            let child = stage.child(id).restart(Restart::Temporary);
            sup.start_child(child).await.unwrap();
        }
        for id in ["1", "2", "3"] {
            let spec = sup.get_childspec(id).await.unwrap();
            assert_eq!(
                (spec.restart, spec.shutdown),
                (Restart::Temporary, Shutdown::WORKER)
            );
        }
        let unknown = sup.get_childspec("4").await.unwrap_err();
        assert_eq!(unknown, GetChildspecError::NotFound);
        sup.stop().await;
    })
    .await;
}

/// Every way a policy can be wrong, and that the least change makes it right.
#[test]
fn sup_flags() {
    type Spoil = fn(&mut SupervisorPolicy);
    let cases: [(Spoil, PolicyError); 8] = [
        (|p| p.intensity = 10_001, PolicyError::Intensity(10_001)),
        (
            |p| p.period = Duration::ZERO,
            PolicyError::Period(Duration::ZERO),
        ),
        (|p| p.quarantine = true, PolicyError::QuarantineScope),
        (|p| p.max_children = 0, PolicyError::MaxChildren(0)),
        (|p| p.restart_budget_per_s = Some(0), PolicyError::Budget(0)),
        (
            |p| {
                p.backoff = Some(Backoff {
                    factor: 0.5,
                    ..Backoff::default()
                })
            },
            PolicyError::BackoffFactor,
        ),
        (
            |p| {
                p.backoff = Some(Backoff {
                    jitter: -0.1,
                    ..Backoff::default()
                })
            },
            PolicyError::BackoffJitter,
        ),
        (
            |p| {
                p.backoff = Some(Backoff {
                    max: Duration::ZERO,
                    ..Backoff::default()
                })
            },
            PolicyError::BackoffMax(Duration::ZERO),
        ),
    ];
    assert_eq!(SupervisorPolicy::default().check(), Ok(()));
    for (spoil, error) in cases {
        let mut policy = SupervisorPolicy::default();
        spoil(&mut policy);
        assert_eq!(policy.check(), Err(vec![error]));
        let specs = actorsim_supervision::check_childspecs(&policy, &[]);
        assert_eq!(specs, Err(vec![SpecError::Policy(error)]));
    }
}

/// A child that somebody else started is not started again under the supervisor's nose.
#[tokio::test]
async fn already_started_outside_supervisor() {
    watched(async {
        let stage = Stage::new();
        let other = stage.start(policy(Strategy::OneForOne), &["a"]).await;
        let spec = other.get_childspec("a").await.unwrap();
        let sup = stage.start(policy(Strategy::OneForOne), &[]).await;
        let failed = sup.start_child(spec).await;
        assert!(
            matches!(&failed, Err(StartChildError::Failed(f)) if f.code == "already_started"),
            "{failed:?}"
        );
        assert_eq!(sup.count_children().await.unwrap().specs, 0);
        stage.kill("a");
        stage.logs("+a -a +a").await;
        other.stop().await;
        sup.stop().await;
    })
    .await;
}
