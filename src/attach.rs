//! Attach: look into a running node and act on it, from another process, over a Unix socket.
//!
//! - [`command`]: the one table of commands: completion, help and the reference page. [`parse`]:
//!   reading a line by it.
//! - [`protocol`]: JSON lines with a version. [`control`]: what a node answers.
//! - [`server`]: the socket in the state directory. [`plane`]: answers from the census.
//! - [`client`], [`repl`], [`output`]: the other end.
//!
//! Only the node's own user (and root) may connect: the socket is 0600 and the peer's credentials
//! are checked. Bound: see [`server`] (sessions, line length, deadlines).

pub mod client;
pub mod command;
mod completion;
pub mod control;
pub mod output;
pub mod parse;
pub mod plane;
pub mod protocol;
pub mod repl;
pub(crate) mod rows;
pub mod server;
