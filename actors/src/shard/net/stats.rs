//! Sizes of a shard's sockets, and what it counts of them.
//!
//! Values only.

use serde::Serialize;

use super::socket::{DATAGRAM_MAX, SocketEnd};

/// Sizes of the sockets of one shard. Nothing is taken before a cell asks for its first socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetConfig {
    /// Most sockets of the shard.
    pub sockets_max: u32,
    /// Sockets of one satellite ring; 0: as many as the process may open files, which is what the
    /// kernel allows for each.
    pub table: u32,
    /// Most satellite rings of the shard.
    pub satellites_max: u32,
    /// Receive buffers of one satellite ring, a power of two.
    pub buffers: u16,
    /// Bytes of a receive buffer, at least [`BUFFER_BYTES_MIN`].
    pub buffer_bytes: u32,
    /// Bytes that wait to be sent on one socket, at least one datagram's.
    pub queue_bytes: u32,
}

/// Smallest receive buffer: a datagram, who sent it, and the ring's heading.
pub const BUFFER_BYTES_MIN: u32 = 1_536;

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            sockets_max: 262_144,
            table: 0,
            satellites_max: 16,
            buffers: 512,
            buffer_bytes: 2_048,
            queue_bytes: 65_536,
        }
    }
}

/// Most sockets of one shard: what the user data of an operation addresses.
pub const SOCKETS_MAX: u32 = 1 << 21;

impl NetConfig {
    pub(crate) const fn is_sound(&self) -> bool {
        self.sockets_max <= SOCKETS_MAX
            && self.satellites_max > 0
            && self.buffers.is_power_of_two()
            && self.buffers <= 1 << 15
            && self.buffer_bytes >= BUFFER_BYTES_MIN
            && self.buffer_bytes <= 1 << 20
            && self.queue_bytes as usize >= DATAGRAM_MAX
    }
}

/// Counters of one shard's sockets. They [balance](NetStats::balanced).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct NetStats {
    /// Asked for by cells.
    pub asked: u64,
    /// Made by accepting.
    pub accepted: u64,
    /// Of those asked for, not there yet: connecting, mostly.
    pub opening: u64,
    /// There: connections, listeners, datagram sockets.
    pub open: u64,
    /// Ended for their cells, not yet for the host.
    pub closing: u64,
    /// Gone.
    pub closed: u64,
    /// Connections made, of those asked for.
    pub connected: u64,
    /// Why sockets have ended for cells that lived on.
    pub ends: SocketEnds,
    /// Accepted connections that were reset, as no cell could take them.
    pub unclaimed: u64,
    /// Bytes received by cells.
    pub bytes_in: u64,
    /// Bytes that the host has taken to send.
    pub bytes_out: u64,
    /// Writes that found their queue full.
    pub queue_full: u64,
    /// Asked for or written in steps that then faulted: it never went out.
    pub cut: u64,
    /// Bytes that waited when their socket was reset.
    pub bytes_dropped: u64,
    /// Datagrams that did not fit, arrived damaged or could not be sent.
    pub datagrams_lost: u64,
    /// Receives that found no buffer and were started again.
    pub no_buffer: u64,
    /// Operations under way that were cancelled.
    pub cancelled: u64,
    /// Completions of operations that nobody had under way.
    pub strays: u64,
    /// Satellite rings.
    pub satellites: u64,
}

impl NetStats {
    /// Whether every socket that was ever made is either alive or gone.
    #[must_use]
    pub const fn balanced(&self) -> bool {
        self.asked + self.accepted == self.alive() + self.closed
    }

    /// Sockets that the host still knows.
    #[must_use]
    pub const fn alive(&self) -> u64 {
        self.opening + self.open + self.closing
    }
}

/// How often sockets have ended, by [`SocketEnd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[expect(missing_docs, reason = "each is the reason of its name")]
pub struct SocketEnds {
    pub done: u64,
    pub refused: u64,
    pub reset: u64,
    pub timed_out: u64,
    pub unreachable: u64,
    pub bad_address: u64,
    pub no_ports: u64,
    pub table_full: u64,
    pub no_files: u64,
    pub no_memory: u64,
    pub denied: u64,
    pub other: u64,
}

impl SocketEnds {
    /// Each reason in words, and how often.
    #[must_use]
    pub const fn by_reason(&self) -> [(&'static str, u64); 12] {
        let Self {
            done,
            refused,
            reset,
            timed_out,
            unreachable,
            bad_address,
            no_ports,
            table_full,
            no_files,
            no_memory,
            denied,
            other,
        } = *self;
        [
            ("done", done),
            ("refused", refused),
            ("reset", reset),
            ("timed_out", timed_out),
            ("unreachable", unreachable),
            ("bad_address", bad_address),
            ("no_ports", no_ports),
            ("table_full", table_full),
            ("no_files", no_files),
            ("no_memory", no_memory),
            ("denied", denied),
            ("other", other),
        ]
    }

    pub(crate) const fn count(&mut self, end: SocketEnd) {
        *match end {
            SocketEnd::Done => &mut self.done,
            SocketEnd::Refused => &mut self.refused,
            SocketEnd::Reset => &mut self.reset,
            SocketEnd::TimedOut => &mut self.timed_out,
            SocketEnd::Unreachable => &mut self.unreachable,
            SocketEnd::BadAddress => &mut self.bad_address,
            SocketEnd::NoPorts => &mut self.no_ports,
            SocketEnd::TableFull => &mut self.table_full,
            SocketEnd::NoFiles => &mut self.no_files,
            SocketEnd::NoMemory => &mut self.no_memory,
            SocketEnd::Denied => &mut self.denied,
            SocketEnd::Other => &mut self.other,
        } += 1;
    }
}
