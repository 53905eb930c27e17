//! The program as a process, for tests that run it as a user does.
//!
//! What the environment has for a real node is no part of a test. Bound: one process a call.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::process::{Command, Output, Stdio};

/// The program with these arguments, not begun.
pub(crate) fn actorsim(args: &[&str]) -> Command {
    within(Command::new(env!("CARGO_BIN_EXE_actorsim")), args)
}

/// The program as what another one becomes: a shell that has set limits, a namespace.
pub(crate) fn after(program: &str, before: &[&str], args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(before).arg(env!("CARGO_BIN_EXE_actorsim"));
    within(command, args)
}

fn within(mut command: Command, args: &[&str]) -> Command {
    command
        .args(args)
        .env("NO_COLOR", "1")
        .env("RUST_BACKTRACE", "0")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ACTORSIM__")) {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    actorsim(args).output().unwrap()
}
