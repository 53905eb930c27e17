//! Scenarios: scripts that start devices, break them, wait, look, and say what they expect.
//!
//! In reading order:
//! - [`script`]: a file, compiled; its name, its errors with line and column;
//! - [`limits`]: what a script may use; [`memory`]: how much it takes;
//! - [`host`]: what a script acts on: a node of its own, one that runs, or a simulation;
//! - [`engine`]: the language and its functions, each a command of the attach table;
//! - [`devices`]: devices as a value of the language; [`values`]: answers as such values;
//! - [`record`]: what the script said and expected;
//! - [`live`], [`remote`]: hosts of real time. The one of virtual time is in [`crate::sim`];
//! - [`shipped`]: the scenarios in `config/scenarios`.
//!
//! A script is synchronous and knows nothing of the node: each of its functions is a question to
//! its host, answered before the script goes on. So a run on virtual time follows from script,
//! arguments and seed alone. Bounds: [`limits`].

pub mod devices;
pub mod engine;
pub mod host;
pub mod limits;
pub mod live;
pub mod memory;
pub mod record;
pub mod remote;
pub mod script;
pub mod shipped;
pub mod values;

pub use host::{Host, HostError};
pub use script::{Script, ScriptError};

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::report;

/// Runs a script to its end, on a thread of its own, which then does what is to be done with the
/// outcome and gives that back.
///
/// # Errors
/// The host gives no thread.
pub fn begin<T: Send + 'static>(
    script: Script,
    host: Arc<dyn Host>,
    ended: impl FnOnce(report::Scenario) -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    let thread = std::thread::Builder::new().name("scenario".to_owned());
    let thread = thread.stack_size(limits::STACK_BYTES);
    thread.spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&script, host)));
        ended(outcome.unwrap_or_else(|_| lost()))
    })
}

/// The outcome of a script that ended without one, which is a defect of ours: a failed run.
#[must_use]
pub fn lost() -> report::Scenario {
    report::Scenario {
        error: Some("its thread ended without an outcome".to_owned()),
        ..report::Scenario::default()
    }
}

fn run(script: &Script, host: Arc<dyn Host>) -> report::Scenario {
    let record = Arc::new(record::Record::new(script));
    let engine = engine::engine(script, &host, &record);
    let ended = engine.run_ast(script.ast());
    let error = ended.err().map(|error| script.error(&error));
    record.finish(host.now(), error)
}
