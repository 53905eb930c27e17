//! What `cargo test` gives each target: the inputs to begin with, and changes of them that follow
//! from a fixed seed.
//!
//! Nothing guides them, so they find what is near; they are there so that a target which is broken
//! by a change, or a parser that is, shows in every run of the tests. An input that breaks one is
//! made as small as it gets, and shown with the command that gives it to the target again. Bound:
//! [`INPUTS`] for each, or as many as `PROPTEST_CASES` says.

use std::fmt;

use parking_lot::Mutex;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::run::{bytes, let_pass, replay};
use crate::targets::{ALL, Target, find};

/// Changed inputs for each target.
const INPUTS: u32 = 100;
/// Longest time to make an input small.
const SHRINK_MS_MAX: u32 = 60_000;
/// Changes of one input at most.
const CHANGES_MAX: usize = 6;
/// Bytes that one change removes, repeats or brings at most.
const RUN_MAX: usize = 24;

/// An input, and what to type to see it again.
struct Input {
    target: &'static str,
    bytes: Vec<u8>,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&replay(self.target, &self.bytes))
    }
}

/// One change, at a place.
#[derive(Clone, Debug)]
enum Change {
    Set(u8),
    Bring(Vec<u8>),
    Remove(usize),
    Repeat(usize),
    /// A word of the target's language.
    Word(Index),
    /// Goes on as another input does from there on.
    GoOnAs(Index, Index),
}

fn changes() -> impl Strategy<Value = Vec<(Index, Change)>> {
    let some = || 1..=RUN_MAX;
    let telling = prop_oneof![
        Just(0),
        Just(1),
        Just(0x7f),
        Just(0x80),
        Just(0xff),
        any::<u8>()
    ];
    let change = prop_oneof![
        3 => telling.prop_map(Change::Set),
        2 => vec(any::<u8>(), some()).prop_map(Change::Bring),
        2 => some().prop_map(Change::Remove),
        1 => some().prop_map(Change::Repeat),
        2 => any::<Index>().prop_map(Change::Word),
        1 => any::<(Index, Index)>().prop_map(|(other, from)| Change::GoOnAs(other, from)),
    ];
    vec((any::<Index>(), change), 1..=CHANGES_MAX)
}

/// Does one change.
fn change(input: &mut Vec<u8>, at: Index, change: &Change, seeds: &[Vec<u8>], words: &[&str]) {
    let at = at.index(input.len() + 1);
    let until = |len: usize| input.len().min(at + len);
    match change {
        Change::Set(byte) => match input.get_mut(at) {
            Some(old) => *old = *byte,
            None => input.push(*byte),
        },
        Change::Bring(bytes) => drop(input.splice(at..at, bytes.iter().copied())),
        Change::Remove(len) => drop(input.drain(at..until(*len))),
        Change::Repeat(len) => input.extend_from_within(at..until(*len)),
        Change::Word(_) if words.is_empty() => {}
        Change::Word(which) => drop(input.splice(at..at, which.get(words).bytes())),
        Change::GoOnAs(other, from) => {
            let other = other.get(seeds);
            input.truncate(at);
            input.extend_from_slice(&other[from.index(other.len() + 1)..]);
        }
    }
}

fn inputs(target: &'static Target) -> impl Strategy<Value = Input> {
    let seeds = (target.seeds)();
    (any::<Index>(), changes()).prop_map(move |(of, changes)| {
        let mut bytes = of.get(&seeds).clone();
        for (at, one) in &changes {
            change(&mut bytes, *at, one, &seeds, target.words);
        }
        bytes.truncate(target.len_max);
        let target = target.name;
        Input { target, bytes }
    })
}

/// Held by whoever fuzzes: what an input takes is counted for the process ([`crate::heap`]).
static TURN: Mutex<()> = Mutex::new(());

fn holds(name: &str) {
    let _turn = TURN.lock();
    let_pass();
    let target = find(name).expect("the list below is that of the targets");
    for bytes in (target.seeds)() {
        println!("{}", replay(target.name, &bytes)); // shown if it is the one
        target.take(&bytes);
    }
    let config = Config {
        failure_persistence: None,
        max_shrink_time: SHRINK_MS_MAX,
        ..match std::env::var_os("PROPTEST_CASES") {
            None => Config::with_cases(INPUTS),
            Some(_) => Config::default(),
        }
    };
    let draws = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let broken = TestRunner::new_with_rng(config, draws).run(&inputs(target), |input| {
        target.take(&input.bytes);
        Ok(())
    });
    if let Err(broken) = broken {
        panic!("{broken}");
    }
}

/// A test for each target, under its name.
macro_rules! tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                holds(stringify!($name));
            }
        )*

        #[test]
        fn no_target_is_left_out() {
            let names: Vec<_> = ALL.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

tests! {
    datagram events ack control certificate journal
    mqtt http coap amqp
    config policy chaos rules profile scenario attach wire_log
    rest grpc
}

#[test]
fn an_input_that_breaks_a_target_is_shown_as_small_as_it_gets() {
    static BREAKS: Target = Target {
        name: "breaks",
        about: "",
        run: |input| assert!(!input.contains(&b'!')),
        seeds: || vec![b"calm".to_vec()],
        words: &["help!"],
        len_max: 64,
        heap_max: 1 << 20,
    };
    let _turn = TURN.lock();
    let draws = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let broken = TestRunner::new_with_rng(Config::with_cases(1_000), draws);
    let broken = { broken }.run(&inputs(&BREAKS), |input| {
        BREAKS.take(&input.bytes);
        Ok(())
    });
    let said = broken.expect_err("the word is in one of them").to_string();
    let digits = said.split("--hex ").nth(1).expect("it is shown");
    let digits = digits.split_whitespace().next().expect("it is shown");
    let input = bytes(digits).expect("it can be given again");
    assert!(input.contains(&b'!'), "{said}");
    assert!(input.len() <= b"calm".len() + b"help!".len(), "{said}");
}
