//! Fuzzing of everything that reads bytes of somebody else.
//!
//! In reading order: [`mod@targets`] (what is fuzzed, and what must hold), `blind` (what
//! `cargo test` gives each of them), [`run`] (from the command line to processes that libFuzzer
//! guides, and to what they found), [`script`] (inputs that are steps), [`heap`] (what an input
//! takes), [`scratch`] (files for a while). libFuzzer has its own `main`, and calls what the macro
//! below names. Bound: what [`run`] says.

#![cfg_attr(all(feature = "libfuzzer", not(test)), no_main)]

#[cfg(test)]
mod blind;
mod heap;
mod run;
mod scratch;
mod script;
mod targets;

#[cfg(all(feature = "libfuzzer", not(test)))]
libfuzzer_sys::fuzz_target!(init: run::begin(), |input: &[u8]| {
    run::chosen().take(input);
});

#[cfg(any(not(feature = "libfuzzer"), test))]
fn main() {
    run::begin();
}
