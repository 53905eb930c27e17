//! Sockets of cells: TCP and UDP, the same on every driver.
//!
//! A cell asks by [`CellContext::net`](crate::CellContext::net) and is told by
//! [`Cell::socket`](crate::Cell::socket). Nothing waits: what a step asks goes out when it has
//! ended well, and not at all if it faults. A queue per socket bounds what waits to be sent; one
//! that is full gives the bytes back and says when it has room. A socket ends with its cell.
//!
//! In reading order: `socket` (names, events, errors), `context` (what a cell can ask), `table`
//! (whose each socket is), `engine` (the seam to a driver), `outgoing` (bytes on their way out),
//! `stats` (sizes and counters); then the drivers' engines: `poll` (portable), `simulated`, and
//! [`uring`](super::uring)'s.
//!
//! Bounds: [`NetConfig`] for all of it; [`TOLD_PER_TURN`] happenings between two steps.
//!
//! ```
//! use std::net::SocketAddr;
//! use std::sync::Arc;
//! use actorsim_actors::shard::{Accept, SimShards, SlabSpec, SocketEvent, SocketId};
//! use actorsim_actors::{
//!     ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Clock, Fault, Flow,
//!     MailboxSpec, Message, Overflow, Reply, Time,
//! };
//!
//! /// Cell 0 listens and echoes; cell 1 says a word and waits for it to come back.
//! struct Talker(Option<Reply<Vec<u8>>>);
//! enum Do {
//!     Say(SocketAddr, Reply<Vec<u8>>),
//!     Listen(Reply<SocketAddr>),
//! }
//! impl Message for Do {}
//! # struct Calm;
//! # impl CellSupervisor for Calm {
//! #     fn exited(&mut self, _: &CellExit<'_>) -> CellDecision {
//! #         CellDecision::Stop
//! #     }
//! #     fn restarts(&self) -> u64 { 0 }
//! #     fn quarantined(&self) -> u64 { 0 }
//! # }
//!
//! impl Cell for Talker {
//!     type Msg = Do;
//!     type Shared = ();
//!     type Identity = ();
//!     type Out = ();
//!     fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
//!         Ok(Self(None))
//!     }
//!     fn handle(&mut self, what: Do, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
//!         match what {
//!             Do::Say(to, reply) => {
//!                 self.0 = Some(reply);
//!                 let socket = cx.net().connect(to).map_err(|e| Fault::with("net", e))?;
//!                 cx.net().write(socket, b"hello").map_err(|e| Fault::with("net", e))?;
//!             }
//!             Do::Listen(reply) => {
//!                 let at = SocketAddr::from(([127, 0, 0, 1], 4_711));
//!                 cx.net().listen(at, Accept::Here).map_err(|e| Fault::with("net", e))?;
//!                 reply.send(at);
//!             }
//!         }
//!         Ok(Flow::Continue)
//!     }
//!     fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
//!         Ok(Flow::Continue)
//!     }
//!     fn socket(
//!         &mut self,
//!         socket: SocketId,
//!         event: SocketEvent<'_>,
//!         cx: &mut CellContext<'_, Self>,
//!     ) -> Result<Flow, Fault> {
//!         if let SocketEvent::Received(bytes) = event {
//!             match self.0.take() {
//!                 Some(reply) => reply.send(bytes.to_vec()),
//!                 None => cx.net().write(socket, bytes).map_err(|e| Fault::with("net", e))?,
//!             }
//!         }
//!         Ok(Flow::Continue)
//!     }
//! }
//!
//! // In virtual time; on threads it is the same.
//! let mut shards = SimShards::new(Clock::virtual_from(0), 1);
//! let talkers = shards.shards()[0].add_slab::<Talker>(SlabSpec {
//!     path: ActorPath::new("/fleet/talkers").unwrap(),
//!     name: Arc::new(|ordinal| format!("talker-{ordinal}")),
//!     ordinals: vec![0..2],
//!     shared: (),
//!     out: (),
//!     identity: Box::new(|_| ()),
//!     mailbox: MailboxSpec::new(8, Overflow::Reject),
//!     supervisor: Box::new(Calm),
//! }).unwrap();
//! let (reply, mut address) = Reply::channel();
//! talkers.send(0, Do::Listen(reply)).unwrap();
//! shards.run_until(Time(1_000_000));
//! let (reply, mut heard) = Reply::channel();
//! talkers.send(1, Do::Say(address.try_recv().unwrap(), reply)).unwrap();
//! shards.run_until(Time(10_000_000));
//! assert_eq!(heard.try_recv().unwrap(), b"hello");
//! ```

use std::time::Duration;

mod context;
mod engine;
mod gates;
pub(crate) mod name;
mod outgoing;
pub(crate) mod plain;
mod poll;
mod simulated;
mod socket;
mod stats;
mod table;

pub use self::context::Net;
pub(crate) use self::context::{NetSeat, SharedNet, SlabNet};
pub(crate) use self::engine::{Ask, Engine, Happening, TOLD_PER_TURN, Told, What};
pub(crate) use self::gates::{Gate, PortGates};
pub(crate) use self::name::{NAME_MAX, Name};
pub(crate) use self::outgoing::{Outgoing, Pool};
pub(crate) use self::poll::PollNet;
pub(crate) use self::simulated::SimNet;
pub use self::socket::{
    Accept, DATAGRAM_MAX, SocketEnd, SocketEvent, SocketId, SocketsFull, WriteRefused,
};
pub use self::stats::{BUFFER_BYTES_MIN, NetConfig, NetStats, SOCKETS_MAX, SocketEnds};
pub(crate) use self::table::{Claim, Heard, ShardNet};
#[cfg(test)]
pub(crate) use self::table::{Heads, Owner};

/// Longest time a connect may take, from when it is asked for.
pub(crate) const DIAL_MAX: Duration = Duration::from_secs(30);

/// Longest time that a closed socket may take to send what waits.
pub(crate) const LEAVE_MAX: Duration = Duration::from_secs(2);

/// Pause of a listener for which there is no room.
pub(crate) const LISTEN_PAUSE: Duration = Duration::from_millis(50);
