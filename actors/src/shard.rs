//! The shard host: many cells on few threads.
//!
//! In reading order:
//! - `spec`: what a slab of cells is made from, and its counters;
//! - `wheel`: timers, O(1);
//! - `inbox`: bounded queues into a shard, and its doorbell;
//! - `mail`: what cells send, from their step to the pair queue of its destination, and what they
//!   ask of task actors; `fork`: what they let other shards compute;
//! - `net`: sockets of cells, the same on every driver;
//! - `slab`: the cells of one population on one shard, in ordinal order (`slab/steps.rs`: what runs
//!   in a step; `slab/delivery.rs`: messages to cells; `slab/exits.rs`: exits, restarts,
//!   escalation);
//! - `lateness`: how late timers fired;
//! - `placement`, `population`: where the parts of a population begin; `moving`: how a slab goes to
//!   another shard; `balance`: which ones do;
//! - `core`: the pure `ShardCore`: `step(now) -> effects`, no thread, no clock;
//! - `handle`, `sending`: the ends that ask and send, usable from any thread;
//! - `listing`: the census source of a slab;
//! - `driver`: what a thread waits on; `spin`: whether it looks on first; `portable`: a parked
//!   thread; `uring`: a ring; `late`: the one until the other pays; `sim`: virtual time; `backend`:
//!   which of them it is;
//! - `life`: how a shard's thread dies, and what its next one takes over;
//! - `host`: starts and stops the shards of a node.
//!
//! A cell never blocks its shard, and sees nothing of it when its slab moves. Bounds are named
//! where they are used: each phase of a step, each queue, the timers of a cell.

mod backend;
mod balance;
mod core;
mod cores;
mod driver;
mod fork;
mod handle;
mod host;
mod inbox;
mod late;
mod lateness;
mod life;
mod listing;
mod mail;
mod moving;
mod net;
mod placement;
mod population;
mod portable;
mod sending;
mod sim;
mod slab;
mod spec;
mod spin;
mod uring;
mod wheel;

pub use backend::Backend;
pub use balance::{BalanceRule, Balancer, Balancing, Move, ShardLoad, SlabLoad};
pub use cores::{ShardCores, keep_on};
pub(crate) use fork::Errand;
pub use fork::{BRANCHES_MAX, FORKS_MAX};
pub use handle::{ShardHandle, SlabHandle};
pub use host::{
    HOLD_MAX, SHARDS_MAX, STOP_MAX, ShardConfig, ShardHost, StartShardsError, StopShardsError,
};
pub use lateness::Lateness;
pub use life::ReviveError;
pub use mail::{ASKS_MAX, Bounce, LINK_CAPACITY, Refusal, Sent};
pub(crate) use mail::{Mail, Question, Sender};
pub use moving::MigrateError;
pub(crate) use net::NetSeat;
pub use net::{
    Accept, BUFFER_BYTES_MIN, DATAGRAM_MAX, Net, NetConfig, NetStats, SOCKETS_MAX, SocketEnd,
    SocketEnds, SocketEvent, SocketId, SocketsFull, WriteRefused,
};
pub use placement::{Part, Placement};
pub use population::Population;
pub use sending::CellAddr;
pub use sim::SimShards;
pub use slab::{CellDetail, KindDetail, SlabDetail};
pub use spec::{
    AddSlabError, CellInfo, CellState, GROUP_SIZE, STOPS_MAX, ShardStats, SlabCounts, SlabError,
    SlabSpec,
};
pub use spin::SPIN_MAX;
pub use uring::{COMPLETIONS_MAX, ENTRIES_MAX, RingConfig, RingRefused, SqPoll};
pub use wheel::WHEEL_TICK_NS;
pub(crate) use wheel::Wheel;
