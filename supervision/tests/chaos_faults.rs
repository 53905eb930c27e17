//! Every fault that a test can carry out, on a tree of its own under load, on virtual time: each
//! acts, each is undone, and then everything is as it was.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::SimShards;
use actorsim_actors::{
    ActorPath, Addr, Clock, Fault, Flow, MailboxSpec, Message, Overflow, Reply, System, TaskActor,
    TaskContext, Time,
};
use actorsim_supervision::chaos::{
    self, Action, FaultPlan, Hands, LINK, Lines, NODE, Place, Plan, Roster, SHARD, Schedule,
    Strike, StrikeKey, Vitals, fault,
};
use actorsim_supervision::{ChildSpec, Strategy, SupervisorPolicy, SupervisorSpec, start_root};
use parking_lot::Mutex;

const LENGTH: Duration = Duration::from_secs(600);
const DEADLINE: Duration = Duration::from_millis(500);

struct Worker(u64);

enum Job {
    Work,
    Done(Reply<u64>),
}
impl Message for Job {}

impl TaskActor for Worker {
    type Msg = Job;

    async fn handle(&mut self, job: Job, _: &mut TaskContext<Job>) -> Result<Flow, Fault> {
        match job {
            Job::Work => self.0 += 1,
            Job::Done(reply) => reply.send(self.0),
        }
        Ok(Flow::Continue)
    }
}

/// Every fault that a test can do to its task actors and its node.
fn plan() -> Plan {
    let mut text = format!(
        "seed = 5\nrate = \"1/1s\"\nmax_concurrent = 4\nfor = \"{}s\"\n[faults]\n",
        LENGTH.as_secs()
    );
    let others = |fault: chaos::Fault| fault.hits_shard() || fault.hits_link();
    let here = |entry: &&fault::Entry| entry.why_not(Place::Test).is_none() && !others(entry.fault);
    for entry in fault::FAULTS.iter().filter(here) {
        text += &format!("{} = 1\n", entry.name);
    }
    Plan::from_toml("plan.toml", &text, Place::Test).unwrap()
}

struct Stage {
    system: System,
    workers: Vec<Addr<Job>>,
}

impl Stage {
    /// Two workers below `/half`, which is a node; one beside it.
    fn new() -> (Self, SupervisorSpec) {
        let system = System::new(Clock::of_runtime(0), tokio::runtime::Handle::current());
        let policy =
            || SupervisorPolicy::new(Strategy::OneForOne).intensity(1_000, Duration::from_secs(60));
        let root = ActorPath::root();
        let worker = |path: ActorPath, overflow| Addr::new(path, MailboxSpec::new(4, overflow));
        let half = root.join("half");
        let workers = vec![
            worker(half.join("a"), Overflow::Block),
            worker(half.join("b"), Overflow::DropOldest),
            worker(root.join("c"), Overflow::Reject),
        ];
        let child = |addr: &Addr<Job>| ChildSpec::task(addr.path().name(), addr, || Worker(0));
        let below = SupervisorSpec::new(half, policy())
            .child(child(&workers[0]))
            .child(child(&workers[1]));
        let spec = SupervisorSpec::new(root, policy())
            .child(ChildSpec::supervisor("half", below))
            .child(child(&workers[2]));
        (Self { system, workers }, spec)
    }

    fn roster(&self) -> Roster {
        let mut roster = Roster::default();
        roster.add(NODE, ActorPath::root());
        for worker in &self.workers {
            roster.add("worker", worker.path().clone());
        }
        roster
    }

    /// Carries the plan out; returns the strikes by fault.
    async fn chaos(&self) -> BTreeMap<&'static str, u64> {
        let (plan, roster) = (plan(), self.roster());
        let clock = self.system.clock();
        let mut hands = Hands::new(&self.system).with_node([ActorPath::root().join("half")]);
        let mut schedule = Schedule::new(&plan, plan.seed, clock.monotonic());
        let mut made = BTreeMap::new();
        while let Some(next) = schedule.next_at() {
            tokio::time::sleep(next - clock.monotonic()).await;
            let step = schedule.step(clock.monotonic(), &roster, &Vitals::default());
            for action in step.actions {
                match action {
                    Action::Begin(strike) => {
                        if hands.begin(&strike) {
                            *made.entry(strike.plan.fault.name()).or_default() += 1;
                        }
                    }
                    Action::End(strike) => hands.end(&strike),
                }
            }
        }
        assert_eq!(
            hands.under_way(),
            0,
            "what lasts was undone when the plan ended"
        );
        made
    }

    /// Sends to everybody all the time; a send that waits has a deadline.
    async fn load(&self) {
        let clock = self.system.clock();
        while clock.monotonic() - Time::ZERO < LENGTH {
            for worker in &self.workers {
                drop(worker.send(Job::Work, DEADLINE).await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn in_virtual_time() -> (BTreeMap<&'static str, u64>, Vec<(u64, u32)>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (stage, spec) = Stage::new();
        let root = start_root(&stage.system, spec).await.unwrap();
        let (made, ()) = tokio::join!(stage.chaos(), stage.load());
        tokio::time::sleep(Duration::from_secs(5)).await;
        let clock = stage.system.clock();
        assert_eq!(
            clock.unix_us(),
            clock.now().0 / 1_000,
            "the calendar is right again"
        );
        let mut seen = Vec::new();
        for worker in &stage.workers {
            let path = worker.path();
            assert!(stage.system.hindrances().on(path).is_empty(), "{path}");
            let done = worker.ask(Job::Done, DEADLINE).await;
            let done = done.unwrap_or_else(|error| panic!("I9 {path} is up again: {error}"));
            assert!(worker.books().balanced(), "I5 {path}: {:?}", worker.books());
            seen.push((done, worker.incarnation().0));
        }
        root.stop().await;
        assert!(stage.system.census().books().balanced(), "I5 books");
        (made, seen)
    })
}

#[test]
fn each_fault_acts_and_is_undone_and_the_same_seed_does_the_same() {
    let (made, seen) = in_virtual_time();
    let named: BTreeSet<_> = plan().faults.iter().map(|one| one.fault.name()).collect();
    let acted: BTreeSet<_> = made.keys().copied().collect();
    assert_eq!(acted, named, "{made:?}");
    assert!(
        seen.iter().all(|(_, incarnation)| *incarnation > 20),
        "{seen:?}"
    );
    assert_eq!(in_virtual_time(), (made, seen), "I11 same seed, same hash");
}

/// On which line, or on all.
type Disturbed = (Option<u32>, chaos::Fault);

/// Lines that remember what disturbs them.
#[derive(Debug, Clone, Default)]
struct Recorded(Arc<Mutex<BTreeMap<StrikeKey, Disturbed>>>);

impl Recorded {
    fn now(&self) -> Vec<Disturbed> {
        self.0.lock().values().copied().collect()
    }
}

impl Lines for Recorded {
    fn begin(&self, strike: StrikeKey, line: Option<u32>, fault: FaultPlan) {
        self.0.lock().insert(strike, (line, fault.fault));
    }

    fn end(&self, strike: StrikeKey) {
        self.0.lock().remove(&strike);
    }
}

#[tokio::test(start_paused = true)]
async fn lines_are_disturbed_as_long_as_a_strike_lasts_and_no_longer_than_the_hands() {
    use chaos::Fault::{Clog, DropMsg, NodeCrash, NodePause, Partition, Swizzle};
    let (stage, spec) = Stage::new();
    let root = start_root(&stage.system, spec).await.unwrap();
    let strike = |number, part, fault, path: &str| Strike {
        number,
        part,
        at: Time::ZERO,
        plan: FaultPlan::new(fault),
        kind: LINK.to_owned(),
        index: 0,
        path: ActorPath::new(path).unwrap(),
        until: None,
    };
    let half = || Hands::new(&stage.system).with_node([ActorPath::root().join("half")]);
    assert!(
        !half().begin(&strike(0, 0, DropMsg, "/links/0")),
        "no lines"
    );
    let lines = Recorded::default();
    let mut hands = half().with_lines(lines.clone());
    assert!(
        !hands.begin(&strike(0, 0, DropMsg, "/links/a")),
        "no number"
    );
    let parts = [1, 2].map(|part| strike(1, part, Swizzle, &format!("/links/{part}")));
    assert!(parts.iter().all(|part| hands.begin(part)));
    hands.end(&parts[0]);
    assert_eq!(lines.now(), [(Some(2), Swizzle)]);
    hands.end(&parts[1]);
    for (fault, on_all) in [(NodeCrash, Partition), (NodePause, Clog)] {
        let one = strike(2, 0, fault, "/");
        assert!(hands.begin(&one));
        assert_eq!(lines.now(), [(None, on_all)]);
        hands.end(&one);
        assert_eq!(lines.now(), []);
    }
    assert!(hands.begin(&strike(3, 0, DropMsg, "/links/7")));
    drop(hands);
    assert_eq!(lines.now(), []);
    root.stop().await;
}

#[tokio::test]
async fn threads_of_shards_end_and_have_a_next_life_when_the_fault_is_over() {
    let clock = Clock::virtual_from(0);
    let system = System::new(clock, tokio::runtime::Handle::current());
    let mut shards = SimShards::of(&system, 2);
    let mut roster = Roster::default();
    for index in 0..2 {
        roster.add(SHARD, ActorPath::root().join(&format!("shards/{index}")));
    }
    let text = "seed = 3\nrate = \"1/3s\"\nfor = \"30s\"\nmax_concurrent = 2\n[faults]\n\
                host_down = { for = \"1s\" }\n";
    let plan = Plan::from_toml("plan.toml", text, Place::Test).unwrap();
    let mut hands = Hands::new(&system).with_shards(shards.shards().to_vec());
    let mut schedule = Schedule::new(&plan, plan.seed, shards.now());
    let mut strikes = 0;
    while let Some(next) = schedule.next_at() {
        shards.run_until(next);
        for action in schedule.step(next, &roster, &Vitals::default()).actions {
            let (Action::Begin(strike) | Action::End(strike)) = &action;
            let shard = shards.shards()[strike.index as usize].clone();
            let begins = matches!(action, Action::Begin(_));
            match begins {
                true => assert!(hands.begin(strike), "{strike}"),
                false => hands.end(strike),
            }
            shards.settle();
            assert_eq!(shard.is_down(), begins, "{strike}");
            strikes += u32::from(begins);
        }
    }
    assert_eq!((strikes, hands.under_way()), (10, 0));
    assert!(shards.shards().iter().all(|shard| !shard.is_down()));
}
