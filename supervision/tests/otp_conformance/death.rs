//! The end of a supervisor: ordered, killed, failing; its children go first, in reverse order.

use std::time::Duration;

use actorsim_actors::{ActorPath, ExitReason};
use actorsim_supervision::{
    ChildSpec, ChildState, Restart, Shutdown, Strategy, SupervisorPolicy, SupervisorRef,
    SupervisorSpec, start_root,
};

use futures_util::FutureExt as _;

use crate::stage::{HOUR, Order, Stage, becomes, watched};

fn policy() -> SupervisorPolicy {
    SupervisorPolicy::new(Strategy::OneForOne).intensity(1, HOUR)
}

/// A root with a worker on either side of a subtree of two.
async fn grown(stage: &Stage, strategy: Strategy) -> (SupervisorRef, SupervisorRef) {
    let sub = SupervisorSpec::new(ActorPath::root().join("sub"), policy())
        .child(stage.child("b"))
        .child(stage.child("c"));
    let inner = sub.reference();
    let policy = SupervisorPolicy::new(strategy).intensity(1, HOUR);
    let spec = SupervisorSpec::new(ActorPath::root(), policy)
        .child(stage.child("a"))
        .child(ChildSpec::supervisor("sub", sub))
        .child(stage.child("d"));
    (start_root(&stage.system, spec).await.unwrap(), inner)
}

#[tokio::test]
async fn tree() {
    watched(async {
        let stage = Stage::new();
        let (root, inner) = grown(&stage, Strategy::OneForOne).await;
        assert_eq!(stage.take_log(), "+a +b +c +d");
        root.stop().await;
        assert_eq!(stage.log(), "~d -d ~c -c ~b -b ~a -a");
        assert_eq!(inner.exited().await, ExitReason::Shutdown);
        assert_eq!(stage.system.census().live()["task"], 0, "no orphans");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_supervisor_takes_its_children_before_its_own_exit_is_told() {
    watched(async {
        let stage = Stage::new();
        let (root, inner) = grown(&stage, Strategy::RestForOne).await;
        stage.take_log();
        stage.stops_slowly("b", Duration::from_millis(20));
        inner.actor().unwrap().kill();
        // c, then b, each in order; only then does the root stop d and start everything again
        stage.logs("~c -c ~b -b ~d -d +b +c +d").await;
        becomes(&root, "d", Some(ChildState::Running)).await;
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| stage.life(name)),
            [1, 2, 2, 2]
        );
        assert_eq!(inner.actor().unwrap().incarnation().0, 2);
        assert_eq!(
            inner.count_children().await.unwrap().active,
            2,
            "the address stays good"
        );
        root.stop().await;
    })
    .await;
}

/// Its children are stopped one after the other; that is longer than a killed worker may take.
#[tokio::test(start_paused = true)]
async fn a_killed_supervisor_whose_children_hang_is_waited_for() {
    watched(async {
        let stage = Stage::new();
        let names = ["a", "b", "c"];
        let sub = SupervisorSpec::new(ActorPath::root().join("sub"), policy());
        let patience = Shutdown::After(Duration::from_secs(4));
        let sub = names.iter().fold(sub, |sub, name| {
            sub.child(stage.child(name).shutdown(patience))
        });
        let inner = sub.reference();
        let sub = ChildSpec::supervisor("sub", sub).shutdown(Shutdown::BrutalKill);
        let spec = SupervisorSpec::new(ActorPath::root(), policy()).child(sub);
        let root = start_root(&stage.system, spec).await.unwrap();
        let hang = || names.iter().for_each(|name| stage.tell(name, Order::Hang));
        stage.take_log();
        hang();
        inner.actor().unwrap().kill();
        stage.logs("-c -b -a +a +b +c").await;
        becomes(&root, "sub", Some(ChildState::Running)).await;
        assert_eq!(inner.actor().unwrap().incarnation().0, 2);
        hang();
        root.stop().await;
        assert_eq!(stage.system.census().live()["task"], 0, "no orphans");
        let events = stage.system.events().since(0, usize::MAX);
        let stuck = events.iter().filter(|event| event.name == "stuck");
        assert_eq!(stuck.count(), 0, "a killed tree at work is not stuck");
    })
    .await;
}

#[tokio::test]
async fn a_killed_root_leaves_no_orphans() {
    watched(async {
        let stage = Stage::new();
        let (root, _) = grown(&stage, Strategy::OneForOne).await;
        stage.take_log();
        root.actor().unwrap().kill();
        assert_eq!(root.exited().await, ExitReason::Killed);
        assert_eq!(stage.log(), "~d -d ~c -c ~b -b ~a -a");
        assert_eq!(stage.system.census().live()["task"], 0);
    })
    .await;
}

#[tokio::test]
async fn escalation_restarts_the_subtree_and_then_ends_the_tree() {
    watched(async {
        let stage = Stage::new();
        let (root, inner) = grown(&stage, Strategy::OneForOne).await;
        stage.take_log();
        for log in ["-b +b", "-b ~c -c +b +c", "-b +b"] {
            stage.kill("b");
            stage.logs(log).await;
            becomes(&inner, "b", Some(ChildState::Running)).await;
            becomes(&inner, "c", Some(ChildState::Running)).await;
            stage.take_log();
        }
        stage.kill("b");
        assert_eq!(root.exited().await, ExitReason::Escalated);
        assert_eq!(stage.log(), "-b ~c -c ~d -d ~a -a");
        assert_eq!(root.supervision().stats().escalations, 3);
        assert_eq!(
            stage.life("b"),
            4,
            "incarnations go on across a restart of the subtree"
        );
    })
    .await;
}

#[tokio::test]
async fn sup_stop_brutal_kill() {
    watched(async {
        let stage = Stage::new();
        let brutal = stage.child("a").shutdown(Shutdown::BrutalKill);
        let spec = SupervisorSpec::new(ActorPath::root(), policy()).child(brutal);
        let root = start_root(&stage.system, spec).await.unwrap();
        root.stop().await;
        assert_eq!(stage.log(), "+a -a", "not asked, killed");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn sup_stop_timeout() {
    watched(async {
        let stage = Stage::new();
        let patience = Shutdown::After(Duration::from_millis(30));
        let spec = stage
            .spec(policy(), &["a"])
            .child(stage.child("hangs").shutdown(patience))
            .child(stage.child("slow").shutdown(patience))
            .child(stage.child("c"));
        let root = start_root(&stage.system, spec).await.unwrap();
        stage.take_log();
        stage.tell("hangs", Order::Hang);
        stage.stops_slowly("slow", Duration::from_secs(3_600));
        root.stop().await;
        assert_eq!(
            stage.log(),
            "~c -c -slow -hangs ~a -a",
            "killed after their time"
        );
    })
    .await;
}

#[tokio::test]
async fn sup_stop_infinity() {
    watched(async {
        let stage = Stage::new();
        let spec = SupervisorSpec::new(ActorPath::root(), policy())
            .child(stage.child("a").shutdown(Shutdown::Infinity));
        let root = start_root(&stage.system, spec).await.unwrap();
        stage.stops_slowly("a", Duration::from_millis(50));
        root.stop().await;
        assert_eq!(stage.log(), "+a ~a -a");
    })
    .await;
}

/// All at once: twenty children that take 100 ms each take 100 ms.
#[tokio::test(start_paused = true)]
async fn simple_one_for_one_shutdown() {
    watched(async {
        let stage = Stage::new();
        let simple = SupervisorPolicy::new(Strategy::SimpleOneForOne);
        let sup = stage.start(simple, &[]).await;
        for i in 0..20 {
            let name = format!("c{i}");
            stage.stops_slowly(&name, Duration::from_millis(100));
            sup.start_child(stage.child(&name).restart(Restart::Temporary))
                .await
                .unwrap();
        }
        stage.take_log();
        let before = stage.system.clock().monotonic();
        sup.stop().await;
        let took = stage.system.clock().monotonic() - before;
        assert!(took < Duration::from_millis(110), "{took:?}");
        let log = stage.log();
        assert_eq!(
            (log.matches('~').count(), log.matches('-').count()),
            (20, 20)
        );
    })
    .await;
}

#[tokio::test]
async fn a_supervisor_that_is_killed_while_its_children_start_leaves_nothing() {
    watched(async {
        let stage = Stage::new();
        let sub = SupervisorSpec::new(ActorPath::root().join("sub"), policy())
            .child(stage.child("a"))
            .child(stage.child("b").shutdown(Shutdown::BrutalKill));
        let inner = sub.reference();
        let spec = SupervisorSpec::new(ActorPath::root(), policy())
            .child(ChildSpec::supervisor("sub", sub));
        stage.next_starts_hang("b", 1);
        let system = stage.system.clone();
        let root = tokio::join!(start_root(&system, spec), async {
            stage.logs("+a b hangs").await;
            inner.actor().unwrap().kill();
        });
        let error = root.0.unwrap_err();
        assert!(error.to_string().contains("sub"), "{error}");
        assert_eq!(stage.log(), "+a b hangs ~a -a");
        assert_eq!(stage.system.census().live()["task"], 0);
    })
    .await;
}

#[tokio::test]
async fn dropping_the_start_of_a_tree_leaves_nothing() {
    watched(async {
        let stage = Stage::new();
        stage.next_starts_hang("b", 1);
        let spec = stage
            .spec(policy(), &["a"])
            .child(stage.child("b").shutdown(Shutdown::BrutalKill));
        let reference = spec.reference();
        tokio::select! {
            biased;
            _ = start_root(&stage.system, spec) => panic!("b hangs"),
            () = stage.logs("+a b hangs") => {}
        }
        reference.exited().await;
        assert_eq!(stage.log(), "+a b hangs ~a -a");
    })
    .await;
}

#[tokio::test]
async fn a_panic_in_a_start_function_is_a_failed_start() {
    watched(async {
        let stage = Stage::new();
        let bad = ChildSpec::custom("bad", |_| panic!("no such file"));
        let spec = stage.spec(policy(), &["a"]).child(bad);
        let error = start_root(&stage.system, spec).await.unwrap_err();
        assert!(error.to_string().contains("no such file"), "{error}");
        assert_eq!(stage.log(), "+a ~a -a");
        assert_eq!(stage.made(), 1);
    })
    .await;
}

#[tokio::test]
async fn who_waits_for_the_end_of_one_life_is_not_held_by_the_next() {
    watched(async {
        let stage = Stage::new();
        let (root, inner) = grown(&stage, Strategy::OneForOne).await;
        let mut ended = Box::pin(inner.exited());
        assert!((&mut ended).now_or_never().is_none());
        inner.actor().unwrap().stop();
        becomes(&root, "sub", Some(ChildState::Running)).await;
        stage.logs("+a +b +c +d ~c -c ~b -b +b +c").await;
        while inner.actor().is_none_or(|actor| actor.incarnation().0 < 2) {
            tokio::task::yield_now().await;
        }
        assert_eq!(ended.now_or_never(), Some(ExitReason::Shutdown));
        root.stop().await;
    })
    .await;
}
