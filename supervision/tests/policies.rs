//! Policies of supervisors that run: changed, refused, planned only, and kept across restarts.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::time::Duration;

use actorsim_actors::{
    ActorPath, Addr, Clock, Fault, Flow, MailboxSpec, Message, Overflow, System, TaskActor,
    TaskContext,
};
use actorsim_supervision::{
    ChildSpec, GovernError, Governance, Policies, Restart, Shutdown, StartChildError, Strategy,
    SupervisorPolicy, SupervisorRef, SupervisorSpec, start_root,
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
    let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
    let at = ActorPath::root().join("s");
    let spec = SupervisorSpec::new(at.clone(), SupervisorPolicy::default())
        .needs(Strategy::RestForOne)
        .child(idle(&at, "a"))
        .child(idle(&at, "b"));
    let below = spec.reference();
    let policy = SupervisorPolicy::default().intensity(9, Duration::from_secs(5));
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
    let planned = below.govern(by.clone(), true).await.unwrap();
    let expected = "intensity 1 -> 4; child.b.shutdown 5s -> 1s";
    assert_eq!(
        (planned.to_string().as_str(), planned.children),
        (expected, 2)
    );
    assert_eq!(
        below.policy().await.unwrap().policy.intensity,
        1,
        "only planned"
    );
    assert_eq!(below.govern(by.clone(), false).await.unwrap(), planned);
    let events = system.events().last(10);
    let told = events.iter().find(|e| e.name == "policy_changed").unwrap();
    assert_eq!(told.text, expected);
    assert_eq!(
        below.govern(by, false).await.unwrap().changes,
        [],
        "nothing is left to change"
    );

    let first = below.actor().unwrap();
    first.kill();
    first.exited().await;
    let kept = below.policy().await.unwrap();
    assert_eq!(
        (kept.policy.intensity, kept.policy.strategy),
        (4, Strategy::RestForOne)
    );
    let b = below.get_childspec("b").await.unwrap();
    assert_eq!(b.shutdown, Shutdown::After(Duration::from_secs(1)));

    let back = below.govern(governance(""), false).await.unwrap();
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
    let refused = below.govern(governance(text), false).await.unwrap_err();
    let GovernError::Invalid(wrong) = refused else {
        panic!("{refused}");
    };
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert_eq!(below.policy().await.unwrap().policy.intensity, 1);
    let refused = root.govern(
        Governance {
            policy: SupervisorPolicy::new(Strategy::SimpleOneForOne),
            ..Governance::default()
        },
        true,
    );
    assert!(
        refused
            .await
            .unwrap_err()
            .to_string()
            .contains("simple_one_for_one")
    );
    root.stop().await;
}

#[tokio::test]
async fn a_child_that_comes_later_is_governed_too() {
    let (_, root, below) = tree().await;
    let by = governance("[[supervisor.child]]\nid = 'c*'\nrestart = 'temporary'");
    below.govern(by, false).await.unwrap();
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
