//! The seam between a shard's core and what does its input and output.
//!
//! The core stages what cells ask; after each step the engine [obeys](Engine::obey). What happened
//! it tells one by one, with bytes lent until the next call. Pure values and a trait. Bound:
//! [`TOLD_PER_TURN`].

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use super::socket::SocketEnd;
use super::table::ShardNet;
use crate::clock::Time;

/// Happenings told between two steps of the slabs, so that timers and messages have their turn.
pub(crate) const TOLD_PER_TURN: usize = 4_096;

/// What a cell has asked of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Connect {
        local: Option<SocketAddr>,
        peer: SocketAddr,
    },
    Listen {
        at: SocketAddr,
        shared: bool,
    },
    Datagrams {
        at: SocketAddr,
        peer: Option<SocketAddr>,
    },
    /// Bytes of the stage.
    Write(Range<usize>),
    WriteTo(Option<SocketAddr>, Range<usize>),
    Pause,
    Resume,
    /// Send what waits, then no more.
    Finish,
    /// Send what waits, then close.
    Close,
    /// Close at once; the peer is told so.
    Reset,
}

/// Something asked, in the order of asking.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) socket: u32,
    pub(crate) life: u32,
    /// Population and ordinal of the cell, which order simulated networks.
    pub(crate) rank: u64,
    pub(crate) ordinal: u32,
    pub(crate) what: What,
}

/// What has happened at a socket.
#[derive(Debug)]
pub(crate) enum Happening<'a> {
    Bound(SocketAddr),
    Connected,
    /// A spare of the table has become a connection.
    Accepted {
        listener: u32,
        peer: SocketAddr,
    },
    Received(&'a [u8]),
    Datagram(SocketAddr, &'a [u8]),
    /// So many queued bytes need no room any more.
    Sent(u32),
    PeerFinished,
    /// The engine goes on to close it.
    Ended(SocketEnd),
}

/// A happening and where.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) socket: u32,
    pub(crate) what: Happening<'a>,
}

/// What does input and output for the cells of a shard, on the shard's thread.
///
/// It says [`ShardNet::gone`] once for each socket it was asked for or has accepted.
pub(crate) trait Engine {
    /// Takes what is staged, hands it over, and does what time demands.
    fn obey(&mut self, net: &mut ShardNet, now: Time) -> io::Result<()>;

    /// The next happening, if there is one.
    fn next<'e>(&'e mut self, net: &mut ShardNet, now: Time) -> Option<Told<'e>>;

    /// Whether there is one without waiting.
    fn has_next(&mut self) -> bool;

    /// When [`Engine::obey`] is next needed though nobody asks.
    fn due(&self) -> Option<Time>;
}
