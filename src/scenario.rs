//! Scenarios: scripts that start devices, break them, wait, look, and say what they expect.
//!
//! In reading order:
//! - [`script`]: a file, compiled; its name, its errors with line and column;
//! - [`limits`]: what a script may use;
//! - [`host`]: what a script acts on: a node of its own, one that runs, or a simulation;
//! - [`engine`]: the language and its functions, each a command of the attach table;
//! - [`devices`]: devices as a value of the language; [`values`]: answers as such values;
//! - [`record`]: what the script said and expected;
//! - [`live`], [`remote`]: hosts of real time. The one of virtual time is [`crate::sim::pilot`];
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
pub mod record;
pub mod remote;
pub mod script;
pub mod shipped;
pub mod values;

pub use host::{Host, HostError};
pub use script::{Script, ScriptError};

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::report;

/// Runs a script to its end, on this thread.
#[must_use]
pub fn run(script: &Script, host: Arc<dyn Host>) -> report::Scenario {
    let record = Arc::new(record::Record::new(script));
    let engine = engine::engine(script, &host, &record);
    let ended = engine.run_ast(script.ast());
    let error = ended.err().map(|error| script.error(&error));
    record.finish(host.now(), error)
}
