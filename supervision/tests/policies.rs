//! Policies of supervisors that run: changed, refused, planned only, and kept across restarts.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::time::Duration;

use actorsim_actors::{
    ActorPath, Addr, Clock, Fault, Flow, Hindrance, MailboxSpec, Message, Overflow, Reach, System,
    TaskActor, TaskContext,
};
use actorsim_supervision::{
    Backoff, ChildSpec, GovernError, Governance, Policies, Restart, Shutdown, StartChildError,
    Strategy, SupervisorPolicy, SupervisorRef, SupervisorSpec, start_root,
};

struct Idle;

#[derive(Debug)]
struct Nothing;

impl Message for Nothing {}

impl TaskActor for Idle {
    type Msg = Nothing;

    async fn handle(&mut self, _: Nothing, _: &mut TaskContext<Nothing>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

fn idle(at: &ActorPath, id: &str) -> ChildSpec {
    let mailbox = MailboxSpec::new(1, Overflow::Reject);
    let addr: Addr<Nothing> = Addr::new(at.join(id), mailbox);
    ChildSpec::task(id, &addr, || Idle)
}

/// A root with one supervisor `/s` that has the children `a` and `b`.
async fn tree() -> (System, SupervisorRef, SupervisorRef) {
    let policy = SupervisorPolicy::default().intensity(9, Duration::from_secs(5));
    tree_under(Clock::wall(), policy).await
}

async fn tree_under(
    clock: Clock,
    policy: SupervisorPolicy,
) -> (System, SupervisorRef, SupervisorRef) {
    let system = System::new(clock, tokio::runtime::Handle::current());
    let at = ActorPath::root().join("s");
    let spec = SupervisorSpec::new(at.clone(), SupervisorPolicy::default())
        .needs(Strategy::RestForOne)
        .child(idle(&at, "a"))
        .child(idle(&at, "b"));
    let below = spec.reference();
    let root =
        SupervisorSpec::new(ActorPath::root(), policy).child(ChildSpec::supervisor("s", spec));
    let root = start_root(&system, root).await.unwrap();
    (system, root, below)
}

fn governance(text: &str) -> Governance {
    let text = format!("[[supervisor]]\npath = '/s'\n{text}\n");
    let policies = Policies::from_toml("t", &text).unwrap();
    policies.governance(&ActorPath::root().join("s"), &Default::default())
}

#[tokio::test]
async fn a_policy_is_planned_changed_and_kept_across_a_restart() {
    let (system, root, below) = tree().await;
    let by = governance("intensity = 4\n[[supervisor.child]]\nid = 'b'\nshutdown = '1s'");
    let planned = below.govern(by.clone(), true).unwrap();
    let expected = "intensity 1 -> 4; child.b.shutdown 5s -> 1s";
    assert_eq!(
        (planned.to_string().as_str(), planned.children),
        (expected, 2)
    );
    assert_eq!(below.policy().unwrap().policy.intensity, 1, "only planned");
    assert_eq!(below.govern(by.clone(), false).unwrap(), planned);
    let events = system.events().last(10);
    let told = events.iter().find(|e| e.name == "policy_changed").unwrap();
    assert_eq!(told.text, expected);
    assert_eq!(
        below.govern(by, false).unwrap().changes,
        [],
        "nothing is left to change"
    );

    let first = below.actor().unwrap();
    first.kill();
    first.exited().await;
    let kept = below.policy().unwrap();
    assert_eq!(
        (kept.policy.intensity, kept.policy.strategy),
        (4, Strategy::RestForOne)
    );
    let b = below.get_childspec("b").await.unwrap();
    assert_eq!(b.shutdown, Shutdown::After(Duration::from_secs(1)));

    let back = below.govern(governance(""), false).unwrap();
    let expected = "intensity 4 -> 1; child.b.shutdown 1s -> 5s";
    assert_eq!(
        back.to_string(),
        expected,
        "what the program has comes back"
    );
    root.stop().await;
}

#[tokio::test]
async fn a_policy_that_does_not_fit_changes_nothing() {
    let (_, root, below) = tree().await;
    let text = "intensity = 4\nauto_shutdown = 'any_significant'\nmax_children = 1\n\
                [[supervisor.child]]\nid = 'a'\nsignificant = true";
    let refused = below.govern(governance(text), false).unwrap_err();
    let GovernError::Invalid(wrong) = refused else {
        panic!("{refused}");
    };
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert_eq!(below.policy().unwrap().policy.intensity, 1);
    let simple = Governance {
        policy: SupervisorPolicy::new(Strategy::SimpleOneForOne),
        ..Governance::default()
    };
    let refused = root.govern(simple, true).unwrap_err().to_string();
    assert!(refused.contains("simple_one_for_one"), "{refused}");
    root.stop().await;
}

#[tokio::test]
async fn a_child_that_comes_later_is_governed_too() {
    let (_, root, below) = tree().await;
    let by = governance("[[supervisor.child]]\nid = 'c*'\nrestart = 'temporary'");
    below.govern(by, false).unwrap();
    below.start_child(idle(below.path(), "c1")).await.unwrap();
    let spec = below.get_childspec("c1").await.unwrap();
    assert_eq!(spec.restart, Restart::Temporary);
    root.stop().await;
}

#[tokio::test]
async fn a_deleted_child_is_started_anew_as_it_was_made() {
    let (_, root, below) = tree().await;
    let running = below.start_first_child("a").await.unwrap_err();
    assert!(
        matches!(running, StartChildError::AlreadyStarted(_)),
        "{running}"
    );
    below.terminate_child("a").await.unwrap();
    let down = below.start_first_child("a").await.unwrap_err();
    assert!(matches!(down, StartChildError::AlreadyPresent), "{down}");
    below.delete_child("a").await.unwrap();
    below.start_first_child("a").await.unwrap();
    let ids: Vec<_> = below.which_children().await.unwrap();
    let ids: Vec<_> = ids.iter().map(|child| child.id.as_str()).collect();
    assert_eq!(ids, ["b", "a"], "it comes after all others");
    let unknown = below.start_first_child("z").await.unwrap_err();
    assert!(matches!(unknown, StartChildError::NotFound), "{unknown}");
    root.stop().await;
}

/// Policies of a tree in virtual time, whose root brings its child back after a minute.
async fn slow_tree() -> (System, SupervisorRef, SupervisorRef) {
    let minute = Duration::from_secs(60);
    let backoff = Backoff {
        min: minute,
        max: minute,
        jitter: 0.0,
        ..Backoff::default()
    };
    let policy = SupervisorPolicy {
        backoff: Some(backoff),
        ..SupervisorPolicy::default()
    };
    tree_under(Clock::of_runtime(0), policy).await
}

fn intensity(of: &SupervisorRef) -> u32 {
    of.policy().unwrap().policy.intensity
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_down_is_governed_from_its_next_life_on() {
    let (system, root, below) = slow_tree().await;
    let first = below.actor().unwrap();
    first.kill();
    first.exited().await;
    assert!(below.actor().is_none(), "its restart is a minute away");
    let by = governance("intensity = 4\n[[supervisor.child]]\nid = 'b'\nshutdown = '1s'");
    let before = tokio::time::Instant::now();
    let planned = below.govern(by.clone(), true).unwrap();
    let expected = "intensity 1 -> 4; child.b.shutdown 5s -> 1s";
    assert_eq!(planned.to_string(), expected);
    assert_eq!(intensity(&below), 1, "only planned");
    assert_eq!(below.govern(by, false).unwrap(), planned);
    assert_eq!(before.elapsed(), Duration::ZERO, "nobody was waited for");
    assert_eq!((intensity(&below), below.children()), (4, 2));
    let events = system.events().last(10);
    let told = events.iter().find(|e| e.name == "policy_changed").unwrap();
    assert_eq!(told.text, expected);
    let wrong = governance("max_children = 1");
    let refused = below.govern(wrong, false).unwrap_err();
    assert!(
        refused.to_string().contains("too many children"),
        "{refused}"
    );

    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(below.actor().is_some());
    assert_eq!(intensity(&below), 4);
    let b = below.get_childspec("b").await.unwrap();
    assert_eq!(b.shutdown, Shutdown::After(Duration::from_secs(1)));
    root.stop().await;
    assert_eq!(
        root.govern(Governance::default(), true),
        Err(GovernError::Gone)
    );
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_hangs_is_governed_at_once() {
    let (system, root, below) = slow_tree().await;
    let held = system
        .hindrances()
        .begin(below.path().clone(), Reach::One, Hindrance::Hold);
    let before = tokio::time::Instant::now();
    below.govern(governance("intensity = 7"), false).unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(intensity(&below), 7);
    system.hindrances().end(held);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_change_is_lost_however_close_to_a_death_it_comes() {
    let (_, root, below) = slow_tree().await;
    for life in 2..40 {
        let now = below.actor().unwrap();
        now.kill();
        for _ in 0..life {
            tokio::task::yield_now().await;
        }
        below
            .govern(governance(&format!("intensity = {life}")), false)
            .unwrap();
        now.exited().await;
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert!(
            below
                .actor()
                .is_some_and(|actor| actor.incarnation().0 == life)
        );
        assert_eq!(intensity(&below), life);
    }
    root.stop().await;
}

#[tokio::test]
async fn a_change_that_the_next_life_could_not_begin_with_is_refused() {
    let (_, root, below) = tree().await;
    below.terminate_child("a").await.unwrap();
    below.delete_child("a").await.unwrap();
    let text = "auto_shutdown = 'any_significant'\n\
                [[supervisor.child]]\nid = 'a'\nsignificant = true";
    let refused = below.govern(governance(text), false).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("child \"a\" is significant and permanent"),
        "{refused}"
    );
    assert_eq!(below.policy().unwrap().children, []);
    root.stop().await;
}
