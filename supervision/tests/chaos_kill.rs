//! Kill any node of a random tree under constant load, predict from the tree alone who must die,
//! and compare.
//!
//! - `tree`, `model`, `words`: a tree as a value, blows, and the prediction; they call nothing of
//!   ours.
//! - `forest`, `checks`: the tree on a paused runtime, and the invariants, each a named check.
//! - `trace`: the last events in fixed columns.
//! - `storm`: many kills at once on several threads, where only the end can be predicted.
//!
//! Each case has a seed. One that fails is shrunk and tells the command that replays it; the same
//! seed gives the same events in every process (I11).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "chaos_kill/checks.rs"]
mod checks;
#[path = "chaos_kill/forest.rs"]
mod forest;
#[path = "chaos_kill/model.rs"]
mod model;
#[path = "chaos_kill/storm.rs"]
mod storm;
#[path = "chaos_kill/trace.rs"]
mod trace;
#[path = "chaos_kill/tree.rs"]
mod tree;
#[path = "chaos_kill/words.rs"]
mod words;

use std::cell::Cell;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actorsim_actors::ActorRef;
use actorsim_supervision::{ChildState, Governance, ReleaseChildError};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

use crate::checks::{Watch, i8_nothing_is_left};
use crate::forest::{Forest, Order};
use crate::model::{Blow, Model, Reference};
use crate::tree::STEP;

/// Cases of one run of the test, each in two processes.
const CASES: u64 = 1_000;
/// Names the first seed to be run by `replay`, in hexadecimal, and how many.
const SEED: &str = "CHAOS_KILL_SEED";
const COUNT: &str = "CHAOS_KILL_COUNT";

thread_local! {
    /// Panics of this thread are part of a test.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// The hash of the last case.
    static HASH: Cell<u64> = const { Cell::new(0) };
}

/// A run of the real thing beside the model.
struct Run {
    forest: Forest,
    watch: Watch,
}

struct ChaosKill;

impl StateMachineTest for ChaosKill {
    type SystemUnderTest = Run;
    type Reference = Reference;

    fn init_test(model: &Model) -> Run {
        let forest = Forest::grown(&model.tree);
        forest.pass(STEP);
        forest.shared.lines.lock().clear();
        let watch = Watch::new(&forest, model);
        Run { forest, watch }
    }

    fn apply(mut run: Run, model: &Model, blow: Blow) -> Run {
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            strike(&run.forest, model, &blow);
            run.watch.after(&run.forest, model);
        }));
        HASH.set(run.forest.shared.trace.lock().hash());
        if let Err(payload) = told {
            let text = actorsim_actors::Fault::from_panic(&*payload);
            let why = text.detail.unwrap_or_default();
            let trace = run.forest.shared.trace.lock().to_string();
            panic!("{why}\nafter {blow:?}\n{trace}");
        }
        run
    }

    fn teardown(run: Run, model: Model) {
        let forest = &run.forest;
        forest.rest();
        let root = forest.root.clone();
        // every second tree is killed, not stopped
        let ended = async {
            match root.actor().filter(|_| model.lives.len().is_multiple_of(2)) {
                Some(actor) => {
                    let ended = root.exited();
                    actor.kill();
                    ended.await;
                }
                None => root.stop().await,
            }
        };
        let ended = async { tokio::time::timeout(ANSWER, ended).await };
        let ended = forest.runtime.block_on(ended);
        assert!(ended.is_ok(), "I8 no orphans: the tree does not end");
        forest.pass(Duration::from_secs(1));
        HASH.set(forest.shared.trace.lock().hash());
        i8_nothing_is_left(forest);
    }
}

/// How long an operator waits for an answer: what does not hang is over by then.
const ANSWER: Duration = Duration::from_secs(4);

/// Carries out a blow in the middle of the load, and waits until it has healed, or hangs.
fn strike(forest: &Forest, model: &Model, blow: &Blow) {
    let over = forest.now() + STEP * blow.steps();
    let (word, pick) = blow.word();
    forest.pass(Duration::from_millis(pick as u64 * 37 % 250));
    if let Some(victim) = model.victim {
        let seen = forest.seen()[victim];
        forest.row('!', victim, seen.incarnation, word);
        let tell = |order| {
            let addr = forest.plants.addrs[victim].as_ref().unwrap();
            addr.try_send_control(order).unwrap();
        };
        let shared = &forest.shared;
        match blow {
            // a killed supervisor that waits for a child is nobody any more
            Blow::Kill(_) => forest.actor(victim).iter().for_each(ActorRef::kill),
            Blow::Stop(_) => forest.actor(victim).iter().for_each(ActorRef::stop),
            Blow::Finish(_) => tell(Order::Finish),
            Blow::Fail(_) => tell(Order::Fail),
            Blow::Panic(_) => tell(Order::Panic),
            Blow::Hang(_) => tell(Order::Hang),
            Blow::StartHangs(_) => shared.start_hangs[victim].store(true, Ordering::Relaxed),
            Blow::GoesOn(_) => shared.gates[victim].notify_waiters(),
            Blow::StartFails(_, times) => shared.fails[victim].store(*times, Ordering::Relaxed),
            Blow::Terminate(_) | Blow::Again(_) => by_hand(forest, model, victim, blow),
            Blow::Govern(..) => {
                let by = Governance {
                    policy: model.rules[victim].policy(),
                    ..Governance::default()
                };
                forest.supervisor(victim).govern(by, false).unwrap();
            }
            Blow::Wait(_) => {}
        }
    }
    forest.pass(over - forest.now());
    forest.row('+', 0, forest.seen()[0].incarnation, "step is over");
}

/// What an operator does, and the answer it must get: none while it hangs.
fn by_hand(forest: &Forest, model: &Model, victim: usize, blow: &Blow) {
    let name = model.tree.nodes[victim].path.name();
    let above = forest.above(victim);
    let life = &model.lives[victim];
    forest.runtime.block_on(async {
        if let Blow::Terminate(_) = blow {
            let terminated = tokio::time::timeout(ANSWER, above.terminate_child(name)).await;
            let is_down = terminated.map(Result::unwrap).is_ok();
            return assert_eq!(is_down, life.is_down(), "I9 healed: terminated by hand");
        }
        let again = async {
            match above.release_child(name).await {
                Err(ReleaseChildError::NotQuarantined(ChildState::Down)) => {
                    above.restart_child(name).await.is_ok()
                }
                Err(ReleaseChildError::NotFound) => {
                    let spec = forest.plants.later[victim].clone().unwrap();
                    above.start_child(spec).await.is_ok()
                }
                answer => answer.is_ok(),
            }
        };
        let is_up = tokio::time::timeout(ANSWER, again).await == Ok(true);
        assert_eq!(is_up, life.is_up(), "I9 healed: started by hand");
    });
}

/// Panics of workers and of failing cases are told by the test, not by the hook.
fn quietly<T>(run: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
    let result = run();
    QUIET.set(false);
    result
}

/// Runs the case of a seed; the error is the whole story of the shrunk case.
fn case(seed: u64) -> Result<u64, String> {
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 1_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config.clone(), rng);
    let strategy = Reference::sequential_strategy(1..10);
    let outcome = runner.run(&strategy, |(model, blows, seen)| {
        let config = config.clone();
        let run = || ChaosKill::test_sequential(config, model, blows, seen);
        let told = quietly(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)));
        told.map_err(|payload| {
            let fault = actorsim_actors::Fault::from_panic(&*payload);
            TestCaseError::fail(fault.detail.unwrap_or_default().into_string())
        })
    });
    match outcome {
        Ok(()) => Ok(HASH.get()),
        Err(TestError::Fail(why, (model, blows, _))) => {
            let nodes: Vec<String> = model
                .tree
                .nodes
                .iter()
                .map(|n| format!("  {n:?}"))
                .collect();
            Err(format!(
                "{SEED}={seed:#x} cargo test -p actorsim-supervision --test chaos_kill \
                 replay -- --nocapture\n{why}\nblows: {blows:?}\ntree:\n{}",
                nodes.join("\n")
            ))
        }
        Err(TestError::Abort(why)) => Err(why.to_string()),
    }
}

/// What is told of a seed that holds.
fn told(seed: u64, hash: u64) -> String {
    format!("seed {seed:#x} hash {hash:016x}")
}

/// Another process with the same seeds, which ends with this value.
struct Other(Child);

impl Other {
    fn begin() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "replay", "--nocapture"]);
        command.env(SEED, "0x0").env(COUNT, CASES.to_string());
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// What it told of each of them.
    fn end(mut self) -> Vec<String> {
        let mut text = String::new();
        let mut stdout = self.0.stdout.take().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        assert!(self.0.wait().unwrap().success(), "{text}");
        let told = |line: &str| Some(line[line.find("seed 0x")?..].to_owned());
        text.lines().filter_map(told).collect()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn whoever_is_killed_the_tree_says_who_dies_with_it_and_two_processes_say_the_same() {
    let other = Other::begin();
    let mut one = Vec::new();
    for seed in 0..CASES {
        match case(seed) {
            Ok(hash) => one.push(told(seed, hash)),
            Err(story) => panic!("{story}"),
        }
    }
    let two = other.end();
    assert_eq!(two.len(), one.len());
    let differs = one.iter().zip(&two).find(|(one, two)| one != two);
    assert_eq!(differs, None, "I11 same seed, same hash");
    let hash = |line: &String| line.split(" hash ").nth(1).map(str::to_owned);
    let distinct: std::collections::BTreeSet<_> = one.iter().map(hash).collect();
    let own = distinct.len();
    assert!(
        own > one.len() * 9 / 10,
        "seeds have stories of their own: {own}"
    );
}

/// Runs the seed of the environment, else the first, and prints its hash.
#[test]
fn replay() {
    let seed = std::env::var(SEED).unwrap_or_else(|_| "0".into());
    let digits = seed.trim_start_matches("0x");
    let first = u64::from_str_radix(digits, 16).expect("a seed is a hexadecimal number");
    let count = std::env::var(COUNT).map_or(1, |n| n.parse().unwrap());
    for seed in first..first + count {
        match case(seed) {
            Ok(hash) => println!("{}", told(seed, hash)),
            Err(story) => panic!("{story}"),
        }
    }
}
