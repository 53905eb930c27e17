//! What a script acts on.
//!
//! Every function of a script that does something comes down to these few questions. A host
//! answers before it returns. Bound: one question at a time.

use std::time::Duration;

use serde_json::{Map, Value as Json};

/// A node as a script sees it.
pub trait Host: Send + Sync {
    /// Carries out a command of the attach table.
    ///
    /// # Errors
    /// Its refusal, or that the run is over.
    fn command(&self, name: &str, args: Map<String, Json>) -> Result<Json, HostError>;

    /// Lets simulated time pass.
    ///
    /// # Errors
    /// The run is over.
    fn wait(&self, time: Duration) -> Result<(), HostError>;

    /// Simulated time since the script began.
    fn now(&self) -> Duration;

    /// Shows a line to people.
    fn log(&self, line: &str);

    /// The run is over: the script is to end at its next step.
    fn is_over(&self) -> bool;

    /// The seed of the run.
    fn seed(&self) -> u64;
}

/// Why a host did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The node refused.
    #[error("{0}")]
    Refused(String),
    /// The node is gone.
    #[error("{0}")]
    Gone(String),
    /// Somebody ended the run.
    #[error("the run was ended before the script was")]
    Over,
}
