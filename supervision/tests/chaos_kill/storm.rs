//! Seeded kills all over a tree, on several threads: who is left, and who was touched.
//!
//! Whatever is killed, supervisors included, in the end every permanent child is up, nobody lives
//! twice, supervisors outside the blast keep their incarnation, and a stop leaves nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use actorsim_actors::{
    ActorPath, ActorRef, Addr, Clock, Fault, Flow, MailboxSpec, Message, Overflow, System,
    TaskActor, TaskContext,
};
use actorsim_supervision::{
    ChildSpec, ChildState, Strategy, SupervisorPolicy, SupervisorRef, SupervisorSpec, start_root,
};

const WATCHDOG: Duration = Duration::from_secs(300);
const HOUR: Duration = Duration::from_secs(3_600);
const WORKERS: usize = 3;
const KILLS: u32 = 400;

struct Nop;
impl Message for Nop {}

/// Counts its living incarnations: more than one is a broken promise.
struct Worker {
    alive: Arc<AtomicI32>,
    begun: bool,
}

impl TaskActor for Worker {
    type Msg = Nop;

    async fn started(&mut self, _: &mut TaskContext<Nop>) -> Result<(), Fault> {
        self.begun = true;
        let before = self.alive.fetch_add(1, Ordering::SeqCst);
        assert_eq!(before, 0, "two incarnations live at once");
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn handle(&mut self, _: Nop, _: &mut TaskContext<Nop>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.begun {
            self.alive.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn many(strategy: Strategy) -> SupervisorPolicy {
    SupervisorPolicy::new(strategy).intensity(10_000, HOUR)
}

struct Forest {
    system: System,
    root: SupervisorRef,
    subs: Vec<SupervisorRef>,
    workers: Vec<Arc<AtomicI32>>,
}

async fn plant() -> Forest {
    let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
    let mut spec = SupervisorSpec::new(ActorPath::root(), many(Strategy::OneForOne));
    let (mut subs, mut workers) = (Vec::new(), Vec::new());
    let strategies = [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ];
    for (i, strategy) in strategies.into_iter().enumerate() {
        let path = ActorPath::root().join(&format!("s{i}"));
        let mut sub = SupervisorSpec::new(path.clone(), many(strategy));
        for j in 0..WORKERS {
            let id = format!("w{j}");
            let addr = Addr::new(path.join(&id), MailboxSpec::new(4, Overflow::Block));
            let alive = Arc::new(AtomicI32::new(0));
            workers.push(Arc::clone(&alive));
            let worker = move || Worker {
                alive: Arc::clone(&alive),
                begun: false,
            };
            sub = sub.child(ChildSpec::task(id, &addr, worker));
        }
        subs.push(sub.reference());
        spec = spec.child(ChildSpec::supervisor(format!("s{i}"), sub));
    }
    let root = start_root(&system, spec).await.unwrap();
    Forest {
        system,
        root,
        subs,
        workers,
    }
}

impl Forest {
    /// Waits until everything is up, by what its supervisor says and by its own count: a kill that
    /// was just sent is not known to either.
    async fn heals(&self) {
        let healed = async {
            loop {
                let mut up = 0;
                for sub in &self.subs {
                    let children = sub.which_children().await.unwrap_or_default();
                    up += children
                        .iter()
                        .filter(|c| c.state == ChildState::Running)
                        .count();
                }
                if up == self.workers.len() && self.alive() as usize == up {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WATCHDOG, healed)
            .await
            .expect("it heals");
    }

    fn alive(&self) -> i32 {
        self.workers.iter().map(|w| w.load(Ordering::SeqCst)).sum()
    }
}

async fn storm(seed: u64) {
    let forest = plant().await;
    let mut state = seed;
    for _ in 0..KILLS {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let draw = (state >> 33) as usize;
        let sub = &forest.subs[draw % 3];
        let victim = match draw / 3 % 5 {
            0 => sub.actor(),
            _ => {
                let worker = sub.path().join(&format!("w{}", draw / 15 % WORKERS));
                forest.system.census().task(&worker)
            }
        };
        victim.iter().for_each(ActorRef::kill);
        if (draw / 64).is_multiple_of(4) {
            tokio::task::yield_now().await;
        }
        if (draw / 256).is_multiple_of(16) {
            forest.heals().await;
        }
    }
    forest.heals().await;
    assert_eq!(
        forest.root.actor().unwrap().incarnation().0,
        1,
        "nobody touched the root"
    );
    assert!(forest.root.supervision().stats().restarts > 20);
    tokio::time::timeout(WATCHDOG, forest.root.stop())
        .await
        .expect("it stops");
    assert_eq!(
        (forest.alive(), forest.system.census().live()["task"]),
        (0, 0),
        "no orphans"
    );
}

#[tokio::test]
async fn a_storm_of_kills_heals_on_one_thread() {
    for seed in 0..5 {
        storm(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_kills_heals_on_four_threads() {
    for seed in 100..110 {
        storm(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_root_that_is_killed_in_the_middle_of_a_storm_leaves_nothing() {
    for seed in 0..20_u64 {
        let forest = plant().await;
        for i in 0..seed {
            let sub = &forest.subs[(i % 3) as usize];
            sub.actor().iter().for_each(ActorRef::kill);
        }
        forest.root.actor().unwrap().kill();
        tokio::time::timeout(WATCHDOG, forest.root.exited())
            .await
            .expect("it ends");
        assert_eq!(
            (forest.alive(), forest.system.census().live()["task"]),
            (0, 0),
            "no orphans"
        );
    }
}
