//! What an actor is: a path, a bounded mailbox, an address, an exit reason, and its hosts.
//!
//! In reading order:
//! - [`path`], [`exit`], [`clock`]: names, ends and time.
//! - [`mailbox`]: the one bounded ring of all hosts, and its books.
//! - [`addr`]: the sending end; waits, asks, outlives restarts.
//! - [`task`]: the task host, for actors that await (on `ractor`).
//! - [`cell`], [`shard`]: the shard host, for a million actors that never wait.
//! - [`census`], [`events`], [`system`]: who is alive, what happened, and the node as a value.
//! - [`hindrance`]: what holds actors up on purpose.
//! - [`mod@slice`]: how long threads hold up others.
//! - [`wiring`]: block edges, checked for cycles at assembly.
//!
//! # Invariants
//! - Every mailbox is bounded; `offered = accepted + rejected` and
//!   `accepted = handled + dropped + conflated + died + waiting`.
//! - An address names the actor, not one incarnation.
//! - An exit is reported once, after everything the incarnation owned is dropped.
//! - All time comes from a [`Clock`]; nothing here is process-global, but for a panic hook that is
//!   quiet about steps of cells and about what is discarded, and the count of the latter
//!   ([`destructor_panics`]).
//! - This crate knows no supervisor, no device and no protocol.
//!
//! # Examples
//! `examples/bounded_pipeline.rs`: three stages with backpressure. The smallest one:
//! ```
//! use std::time::Duration;
//! use actorsim_actors::{
//!     ActorPath, Addr, Clock, Fault, Flow, MailboxSpec, Message, Overflow, Reply, System,
//!     TaskActor, TaskContext,
//! };
//!
//! struct Counter(u64);
//! enum Ask { Add(u64), Total(Reply<u64>) }
//! impl Message for Ask {}
//!
//! impl TaskActor for Counter {
//!     type Msg = Ask;
//!     async fn handle(&mut self, m: Ask, _: &mut TaskContext<Ask>) -> Result<Flow, Fault> {
//!         match m {
//!             Ask::Add(n) => self.0 += n,
//!             Ask::Total(reply) => reply.send(self.0),
//!         }
//!         Ok(Flow::Continue)
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
//! let addr = Addr::new(ActorPath::root().join("counter"), MailboxSpec::new(8, Overflow::Block));
//! let life = addr.next_incarnation();
//! system.start_task(&addr, life, Counter(0), Box::new(|_exit| {})).await.unwrap();
//! addr.try_send(Ask::Add(2)).unwrap();
//! assert_eq!(addr.ask(Ask::Total, Duration::from_secs(1)).await, Ok(2));
//! # });
//! ```

pub mod addr;
pub mod cell;
pub mod census;
pub mod clock;
pub mod events;
pub mod exit;
mod fifo;
mod guard;
pub mod hindrance;
pub mod mailbox;
pub mod path;
pub mod shard;
pub mod slice;
pub mod system;
pub mod task;
pub mod wiring;

pub use addr::{Addr, AskError, Reply, SendError};
pub use cell::*;
pub use census::{ActorRow, Census, CensusFilter, CensusSource, Page, Verb};
pub use clock::{Clock, Time};
pub use events::{Event, Events, Level};
pub use exit::{Exit, ExitReason, Fault, Flow, Incarnation, Kinds, OnExit};
pub use guard::destructor_panics;
pub use hindrance::{Hindrance, HindranceId, Hindrances, Reach};
pub use mailbox::{Books, Conflation, MailboxSpec, Message, Offered, OnRestart, Overflow, Ring};
pub use path::{ActorPath, PathError};
pub use system::System;
pub use task::{ActorRef, Breakage, TaskActor, TaskContext};
pub use wiring::{Cycle, Wiring};
