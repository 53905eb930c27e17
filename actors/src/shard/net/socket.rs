//! What a cell knows of its sockets: their names, what happens at them, why they end.
//!
//! Values only.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

use serde::Serialize;

/// Names one socket of a cell, from the call that asked for it until it has ended. It is never
/// used again: a name kept too long is refused as [`WriteRefused::Closed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    pub(crate) index: u32,
    pub(crate) life: u32,
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.life)
    }
}

/// What a cell is told of a socket. Bytes are lent for the step, out of the host's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketEvent<'a> {
    /// The listener or datagram socket is there, at this address.
    Bound(SocketAddr),
    /// The connection is made.
    Connected,
    /// A connection for this cell was accepted; from here on it is like one that it made.
    Accepted {
        /// Who called.
        peer: SocketAddr,
        /// The listener, which may belong to another cell.
        listener: SocketId,
    },
    /// The next bytes of the peer, never none.
    Received(&'a [u8]),
    /// One datagram.
    Datagram {
        /// Who sent it.
        from: SocketAddr,
        /// What is in it.
        bytes: &'a [u8],
    },
    /// After [`WriteRefused::Full`]: half of the queue is free again.
    Writable,
    /// The peer sends no more; it may still be written to.
    PeerFinished,
    /// The socket is gone, its name with it.
    Ended(SocketEnd),
}

/// Why a socket is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketEnd {
    /// Both sides have finished.
    Done,
    /// Nobody listens there.
    Refused,
    /// The peer has reset the connection.
    Reset,
    /// The peer did not answer.
    TimedOut,
    /// There is no way to the peer.
    Unreachable,
    /// The local address is in use, or not an address of this host.
    BadAddress,
    /// No local port is left for this peer; asking again is refused at once for a while.
    NoPorts,
    /// The shard has as many sockets as it may have.
    TableFull,
    /// The process has as many open files as it may have.
    NoFiles,
    /// The host is out of memory for sockets.
    NoMemory,
    /// The host does not allow it.
    Denied,
    /// The host said something else.
    Other,
}

impl SocketEnd {
    /// Whether a lack of this host ended it, not the peer: pause before asking again.
    #[must_use]
    pub const fn is_want(self) -> bool {
        matches!(
            self,
            Self::NoPorts | Self::TableFull | Self::NoFiles | Self::NoMemory
        )
    }

    /// What an error of the host means.
    pub(crate) const fn of(errno: i32) -> Self {
        match errno {
            libc::ECONNREFUSED => Self::Refused,
            libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED | libc::ENOTCONN => Self::Reset,
            libc::ETIMEDOUT => Self::TimedOut,
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN => {
                Self::Unreachable
            }
            libc::EADDRINUSE => Self::BadAddress,
            libc::EADDRNOTAVAIL => Self::NoPorts,
            libc::EMFILE | libc::ENFILE => Self::NoFiles,
            libc::ENOBUFS | libc::ENOMEM => Self::NoMemory,
            libc::EACCES | libc::EPERM => Self::Denied,
            _ => Self::Other,
        }
    }

    /// What an error of `bind` means.
    pub(crate) const fn of_bind(errno: i32) -> Self {
        match errno {
            libc::EADDRNOTAVAIL => Self::BadAddress,
            _ => Self::of(errno),
        }
    }
}

impl fmt::Display for SocketEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "both sides have finished",
            Self::Refused => "nobody listens there",
            Self::Reset => "the peer has reset the connection",
            Self::TimedOut => "the peer did not answer",
            Self::Unreachable => "there is no way to the peer",
            Self::BadAddress => "the local address is in use or not of this host",
            Self::NoPorts => "no local port is left for this peer",
            Self::TableFull => "the shard has no room for more sockets",
            Self::NoFiles => "the process may open no more files",
            Self::NoMemory => "the host is out of memory for sockets",
            Self::Denied => "the host does not allow it",
            Self::Other => "the host refused",
        })
    }
}

/// Why bytes were not taken; they are still the caller's, all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteRefused {
    /// The queue has room for this many only. [`SocketEvent::Writable`] follows, unless nothing is
    /// queued: then they are more than it ever has room for, and are to be written in parts.
    #[error("the socket's queue has room for {room} bytes")]
    Full {
        /// Bytes that would be taken now.
        room: usize,
    },
    /// The datagram is longer than [`DATAGRAM_MAX`].
    #[error("the datagram is longer than {DATAGRAM_MAX} bytes")]
    TooLong,
    /// This cell has no such socket, or has finished writing to it.
    #[error("the socket is closed")]
    Closed,
}

/// Why a socket was not even asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shard has no room for more sockets")]
pub struct SocketsFull;

/// Longest datagram, in bytes: what an Ethernet frame carries.
pub const DATAGRAM_MAX: usize = 1_472;

/// To whom accepted connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accept {
    /// To the cell that listens.
    Here,
    /// In turn to the running cells among these of its slab; with none of them running the
    /// connection is reset.
    Cells(Range<u32>),
}
