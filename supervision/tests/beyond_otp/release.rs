//! Quarantine parks a child until an operator releases it, with its past forgotten.

use actorsim_supervision::{
    ChildState, ReleaseChildError, Strategy, SupervisorPolicy, SupervisorRef,
};

use crate::stage::{HOUR, Stage, becomes, watched};

async fn parked(stage: &Stage) -> SupervisorRef {
    let policy = SupervisorPolicy::new(Strategy::OneForOne).intensity(1, HOUR);
    let sup = stage.start(policy.quarantine(), &["a", "b"]).await;
    park(stage, &sup).await;
    sup
}

async fn park(stage: &Stage, sup: &SupervisorRef) {
    for _ in 0..2 {
        let life = becomes(sup, "a", Some(ChildState::Running)).await;
        let life = life.unwrap().incarnation;
        stage.kill("a");
        while sup.which_children().await.unwrap()[0].incarnation == life
            && sup.which_children().await.unwrap()[0].state == ChildState::Running
        {
            tokio::task::yield_now().await;
        }
    }
    becomes(sup, "a", Some(ChildState::Quarantined)).await;
}

#[tokio::test]
async fn a_quarantined_child_is_released_with_its_past_forgotten() {
    watched(async {
        let stage = Stage::new();
        let sup = parked(&stage).await;
        let refused = sup.release_child("b").await.unwrap_err();
        assert_eq!(
            refused,
            ReleaseChildError::NotQuarantined(ChildState::Running)
        );
        let refused = sup.release_child("z").await.unwrap_err();
        assert_eq!(refused, ReleaseChildError::NotFound);
        let released = sup.release_child("a").await.unwrap();
        assert_eq!(released.incarnation().0, 3);
        let info = becomes(&sup, "a", Some(ChildState::Running)).await.unwrap();
        assert_eq!(info.failures, 0);
        park(&stage, &sup).await;
        assert_eq!(stage.life("a"), 4, "it had its whole intensity again");
        assert_eq!(stage.life("b"), 1);
        sup.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_released_child_that_does_not_start_stays_down() {
    watched(async {
        let stage = Stage::new();
        let sup = parked(&stage).await;
        stage.next_starts_fail("a", 1);
        let failed = sup.release_child("a").await.unwrap_err();
        assert!(
            matches!(&failed, ReleaseChildError::Failed(f) if f.code == "start_fails"),
            "{failed}"
        );
        let refused = sup.release_child("a").await.unwrap_err();
        assert_eq!(refused, ReleaseChildError::NotQuarantined(ChildState::Down));
        assert_eq!(refused.to_string(), "not_quarantined: it is down");
        sup.restart_child("a").await.unwrap();
        park(&stage, &sup).await;
        stage.next_starts_decline("a", 1);
        let declined = sup.release_child("a").await.unwrap_err();
        assert_eq!(declined, ReleaseChildError::Ignored);
        becomes(&sup, "a", Some(ChildState::Down)).await;
        sup.stop().await;
    })
    .await;
}
