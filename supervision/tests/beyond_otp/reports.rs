//! The last crash of each actor is kept, folded by reason, and counted by supervisor.

use std::sync::Arc;

use actorsim_actors::{
    ActorPath, Addr, CellExit, CellSupervisor as _, Clock, ExitReason, Fault, Flow, Incarnation,
    MailboxSpec, Message, Overflow, System, TaskActor, TaskContext, Time,
};
use actorsim_supervision::cells::REPORTS_PER_S_MAX;
use actorsim_supervision::report::FOLD_PERIOD;
use actorsim_supervision::{
    CellPolicy, ChildSpec, ChildState, Decision, PolicyError, SpecError, StartError, Strategy,
    Supervision, SupervisorPolicy, SupervisorSpec, Tally, start_root,
};

use crate::stage::{HOUR, Order, Stage, becomes, watched};

#[tokio::test]
async fn the_last_crash_of_a_former_incarnation_is_kept_with_what_was_done_about_it() {
    watched(async {
        let stage = Stage::new();
        let policy = SupervisorPolicy::new(Strategy::RestForOne).intensity(9, HOUR);
        let sup = stage.start(policy, &["a", "b"]).await;
        let path = ActorPath::root().join("a");
        assert!(sup.supervision().crash(&path).is_none());
        for life in 1..=3 {
            becomes(&sup, "a", Some(ChildState::Running)).await;
            becomes(&sup, "b", Some(ChildState::Running)).await;
            while stage.life("a") < life || !stage.addr("a").is_up() {
                tokio::task::yield_now().await;
            }
            for order in [Order::Nop, Order::Nop, Order::Fail, Order::Nop, Order::Nop] {
                stage.tell("a", order);
            }
            while stage.addr("a").is_up() && stage.life("a") == life {
                tokio::task::yield_now().await;
            }
        }
        becomes(&sup, "b", Some(ChildState::Running)).await;
        let report = sup.supervision().crash(&path).unwrap();
        assert_eq!(report.reason.label(), "told_to_fail");
        assert_eq!((report.incarnation.unwrap().0, report.restarts), (3, 2));
        let kinds: Vec<&str> = report.last_kinds.iter().collect();
        assert_eq!((kinds, report.depth), (vec!["nop", "nop", "fail"], 2));
        let plan = report.plan;
        assert_eq!(
            (plan.decision, plan.failures, plan.siblings),
            (Decision::Restart, 3, 1)
        );
        assert_eq!((report.count, report.supervisor.as_str()), (3, "/"));
        assert!(report.first_us <= report.at_us);

        while stage.life("a") < 4 || !stage.addr("a").is_up() {
            tokio::task::yield_now().await;
        }
        stage.kill("a");
        while sup.supervision().crash(&path).unwrap().reason != ExitReason::Killed {
            tokio::task::yield_now().await;
        }
        let report = sup.supervision().crash(&path).unwrap();
        assert_eq!(report.count, 1, "another reason is counted apart");
        let tally = |reason, ends| Tally {
            supervisor: ActorPath::root(),
            reason,
            ends,
            restarts: ends,
            escalations: 0,
        };
        let tallies = sup.supervision().tallies();
        assert_eq!(tallies, [tally("killed", 1), tally("told_to_fail", 3)]);
        assert_eq!(sup.supervision().crashes(10).len(), 1);
        sup.stop().await;
    })
    .await;
}

struct Fickle;

struct Fail;

impl Message for Fail {}

impl TaskActor for Fickle {
    type Msg = Fail;

    async fn handle(&mut self, _: Fail, _: &mut TaskContext<Fail>) -> Result<Flow, Fault> {
        Err(Fault::new("told_to_fail"))
    }
}

/// What is told of crashes.
fn told(system: &System) -> Vec<String> {
    let events = system.events().last(usize::MAX).into_iter();
    let crashes = events.filter(|event| event.name == "crash");
    crashes.map(|event| event.text.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_last_crashes_of_a_storm_are_told_when_it_is_over() {
    let system = System::new(Clock::of_runtime(0), tokio::runtime::Handle::current());
    let path = ActorPath::root().join("a");
    let addr = Addr::new(path, MailboxSpec::new(4, Overflow::Block).kept());
    let policy = SupervisorPolicy::new(Strategy::OneForOne).intensity(99, HOUR);
    let spec = SupervisorSpec::new(ActorPath::root(), policy);
    let spec = spec.child(ChildSpec::task("a", &addr, || Fickle));
    let root = start_root(&system, spec).await.unwrap();
    for (storm, more) in [(4, 3), (2, 1), (1, 0)] {
        let before = told(&system).len();
        for _ in 0..storm {
            addr.send(Fail, HOUR).await.unwrap();
        }
        tokio::time::sleep(FOLD_PERIOD / 2).await;
        assert_eq!(told(&system).len(), before + 1, "the first is told at once");
        tokio::time::sleep(2 * FOLD_PERIOD).await;
        let told = &told(&system)[before..];
        let rest = told.get(1).map_or("", String::as_str);
        match more {
            0 => assert_eq!(told.len(), 1),
            n => assert!(rest.starts_with(&format!("{n} more like this")), "{told:?}"),
        }
    }
    addr.send(Fail, HOUR).await.unwrap();
    addr.send(Fail, HOUR).await.unwrap();
    tokio::time::sleep(FOLD_PERIOD / 2).await;
    root.stop().await;
    let told = told(&system);
    assert!(
        told[told.len() - 1].starts_with("1 more"),
        "at the end: {told:?}"
    );
}

#[tokio::test]
async fn cells_of_which_too_many_crashed_in_a_second_are_counted_at_its_end() {
    let system = System::new(Clock::virtual_from(0), tokio::runtime::Handle::current());
    let supervision = Arc::new(Supervision::default());
    let path = ActorPath::root().join("cells");
    let policy = CellPolicy::new(SupervisorPolicy::default().intensity(99, HOUR), &path).unwrap();
    let name = Arc::new(|ordinal: u32| ordinal.to_string());
    let mut policy = policy.reporting(&system, &supervision, &path, name);
    let at = |ms: u64| Time(ms * 1_000_000);
    for ordinal in 0..REPORTS_PER_S_MAX + 5 {
        policy.exited(&CellExit {
            ordinal,
            incarnation: Incarnation::FIRST,
            reason: &ExitReason::Killed,
            in_hand: None,
            depth: 0,
            now: at(1_700),
        });
    }
    let one_by_one = REPORTS_PER_S_MAX as usize;
    assert_eq!(told(&system).len(), one_by_one);
    assert_eq!(policy.tell(at(1_900)), Some(at(2_000)));
    assert_eq!(policy.tell(at(2_000)), None);
    let told = told(&system);
    assert_eq!(told[one_by_one..], ["5 more, in a second with too many"]);
}

#[tokio::test]
async fn the_supervisors_of_a_tree_are_found_by_path_and_not_kept_alive() {
    watched(async {
        let stage = Stage::new();
        let policy = SupervisorPolicy::new(Strategy::OneForOne);
        let sub = SupervisorSpec::new(ActorPath::root().join("sub"), policy.clone())
            .child(stage.child("a"));
        let spec =
            SupervisorSpec::new(ActorPath::root(), policy).child(ChildSpec::supervisor("sub", sub));
        let root = start_root(&stage.system, spec).await.unwrap();
        let tree = root.supervision();
        let all = tree.supervisors();
        let paths: Vec<&str> = all.iter().map(|sup| sup.path().as_str()).collect();
        assert_eq!(paths, ["/", "/sub"]);
        let sub = tree.supervisor(&ActorPath::root().join("sub")).unwrap();
        assert_eq!(sub.count_children().await.unwrap().workers, 1);
        root.stop().await;
        drop((root, sub, all));
        assert!(tree.supervisors().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_contradicts_itself_starts_nothing() {
    watched(async {
        let stage = Stage::new();
        let mut policy = SupervisorPolicy::new(Strategy::OneForOne);
        policy.restart_budget_per_s = Some(0);
        let error = start_root(&stage.system, stage.spec(policy, &["a"]))
            .await
            .unwrap_err();
        let wrong = SpecError::Policy(PolicyError::Budget(0));
        assert_eq!(error, StartError::Invalid(vec![wrong]));
        assert_eq!(stage.log(), "");
    })
    .await;
}
