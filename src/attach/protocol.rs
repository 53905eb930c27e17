//! The attach protocol: JSON lines, versioned. One request, one answer, in order.
//!
//! It knows no command. Bound: [`LINE_MAX`] bytes a request, [`ANSWER_MAX`] an answer.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// Version of the protocol.
pub const VERSION: u32 = 1;

/// Bytes of a request: paths and options; a longer line is not ours.
pub const LINE_MAX: usize = 16 * 1024;

/// Bytes of an answer: the largest page of rows with room to spare.
pub const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub v: u32,
    /// Chosen by the client; comes back in the answer.
    pub id: u64,
    /// The command's name.
    pub cmd: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Map<String, Json>,
}

/// An answer: data, or an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// [`VERSION`].
    pub v: u32,
    /// Of the request; 0 if it could not be read.
    pub id: u64,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Json>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

impl Answer {
    /// The answer to a request.
    #[must_use]
    pub fn new(id: u64, result: Result<Json, Refusal>) -> Self {
        let (data, error) = match result {
            Ok(data) => (Some(data), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            v: VERSION,
            id,
            data,
            error,
        }
    }
}

/// Why a command was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// With a code and words.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The exit code of `attach -c`.
    #[must_use]
    pub fn exit(&self) -> crate::cli::Exit {
        match self.code {
            Code::Usage | Code::Refused => crate::cli::Exit::Usage,
            Code::NotFound | Code::Failed | Code::Unhealthy => crate::cli::Exit::Failed,
            Code::Busy => crate::cli::Exit::Unreachable,
            Code::Timeout => crate::cli::Exit::TimedOut,
        }
    }
}

/// Kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The command is wrong.
    Usage,
    /// The command may not be done here.
    Refused,
    /// There is no such actor.
    NotFound,
    /// It was tried and failed.
    Failed,
    /// `health` found something.
    Unhealthy,
    /// Too many sessions.
    Busy,
    /// The node did not answer in time.
    Timeout,
}
