//! How `simple_one_for_one` children are stopped, and children that end while they are.

use std::time::Duration;

use actorsim_actors::ExitReason;
use actorsim_supervision::{
    ChildState, Restart, Shutdown, Strategy, SupervisorPolicy, SupervisorRef, start_root,
};

use crate::stage::{HOUR, Order, Stage, watched};

fn policy(strategy: Strategy) -> SupervisorPolicy {
    SupervisorPolicy::new(strategy).intensity(9, HOUR)
}

async fn dynamic(stage: &Stage, shutdown: Shutdown, names: &[&str]) -> SupervisorRef {
    let sup = stage.start(policy(Strategy::SimpleOneForOne), &[]).await;
    for name in names {
        let child = stage
            .child(name)
            .restart(Restart::Temporary)
            .shutdown(shutdown);
        sup.start_child(child).await.unwrap();
    }
    stage.take_log();
    sup
}

#[tokio::test(start_paused = true)]
async fn sup_stop_timeout_dynamic() {
    watched(async {
        let stage = Stage::new();
        let patience = Shutdown::After(Duration::from_millis(30));
        let sup = dynamic(&stage, patience, &["a", "hangs"]).await;
        stage.tell("hangs", Order::Hang);
        sup.stop().await;
        assert_eq!(stage.log(), "~a -a -hangs", "killed after its time");
    })
    .await;
}

#[tokio::test]
async fn sup_stop_brutal_kill_dynamic() {
    watched(async {
        let stage = Stage::new();
        let names = ["1", "2", "3", "4", "5"];
        let sup = dynamic(&stage, Shutdown::BrutalKill, &names).await;
        let ended = sup.exited();
        sup.actor().unwrap().stop();
        assert_eq!(ended.await, ExitReason::Shutdown);
        let log = stage.log();
        assert_eq!(log.matches('-').count(), 5);
        assert!(!log.contains('~'), "not asked, killed: {log}");
    })
    .await;
}

/// Children of every restart type end in every way while the supervisor stops its last child.
#[tokio::test]
async fn sup_stop_race() {
    watched(async {
        let stage = Stage::new();
        let mut spec = stage.spec(policy(Strategy::OneForOne), &["first"]);
        let mut racers = Vec::new();
        for restart in [Restart::Temporary, Restart::Transient, Restart::Permanent] {
            for way in ["normal", "fails", "panics", "killed"] {
                let name = format!("{restart:?}-{way}").to_lowercase();
                spec = spec.child(stage.child(&name).restart(restart));
                racers.push((name, way));
            }
        }
        let sup = start_root(&stage.system, spec.child(stage.child("last")))
            .await
            .unwrap();
        stage.take_log();
        stage.stops_slowly("last", Duration::from_millis(50));
        let racing = async {
            tokio::task::yield_now().await; // the stop is under way
            for (name, way) in &racers {
                match *way {
                    "normal" => stage.tell(name, Order::Normal),
                    "fails" => stage.tell(name, Order::Fail),
                    "panics" => stage.tell(name, Order::Panic),
                    _ => stage.kill(name),
                }
            }
        };
        tokio::join!(sup.stop(), racing);
        let log = stage.log();
        assert!(
            !log.contains('+'),
            "nobody starts in a supervisor that stops: {log}"
        );
        assert!(log.ends_with("~first -first"), "{log}");
        assert_eq!(stage.system.census().live()["task"], 0);
    })
    .await;
}

#[tokio::test]
async fn sup_stop_non_shutdown_exit_dynamic() {
    for restart in [Restart::Temporary, Restart::Transient, Restart::Permanent] {
        watched(async {
            let stage = Stage::new();
            let sup = stage.start(policy(Strategy::SimpleOneForOne), &[]).await;
            for name in ["normal", "fails", "panics"] {
                let child = stage.child(name).restart(restart);
                sup.start_child(child).await.unwrap();
            }
            stage.take_log();
            let ended = sup.exited();
            sup.actor().unwrap().stop();
            stage.tell("normal", Order::Normal);
            stage.tell("fails", Order::Fail);
            stage.tell("panics", Order::Panic);
            assert_eq!(ended.await, ExitReason::Shutdown, "{restart:?}");
            assert_eq!(stage.system.census().live()["task"], 0);
        })
        .await;
    }
}

#[tokio::test]
async fn simple_one_for_one_escalation() {
    watched(async {
        let stage = Stage::new();
        let policy = SupervisorPolicy::new(Strategy::SimpleOneForOne).intensity(1, HOUR);
        let sup = stage.start(policy, &[]).await;
        for name in ["1", "2"] {
            sup.start_child(stage.child(name)).await.unwrap();
        }
        stage.kill("1");
        crate::stage::becomes(&sup, "1", Some(ChildState::Running)).await;
        while stage.life("1") < 2 || !stage.addr("1").is_up() {
            tokio::task::yield_now().await;
        }
        let ended = sup.exited();
        stage.kill("1");
        assert_eq!(ended.await, ExitReason::Escalated);
        assert!(stage.log().ends_with("~2 -2"), "{}", stage.log());
    })
    .await;
}
