//! What a cell can do with sockets, in its step.
//!
//! Everything is staged and goes out when the step has ended well; nothing waits. Bound: the
//! sockets of the shard, the queue of each.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::engine::What;
use super::socket::{Accept, SocketId, SocketsFull, WriteRefused};
use super::table::{Heads, Mark, Owner, ShardNet};
use crate::cell::{Cell, CellContext};
use crate::shard::slab::Seat;

/// The sockets of a shard, shared by its core and its slabs. All of them are on one thread, so that
/// nobody ever waits for it; a slab that moves takes another.
pub(crate) type SharedNet = Arc<Mutex<ShardNet>>;

/// The sockets of one slab's cells.
pub(crate) struct SlabNet {
    pub(crate) shard: SharedNet,
    pub(crate) tag: u32,
    pub(crate) rank: u64,
    pub(crate) heads: Heads,
}

/// Where a step finds its sockets.
pub(crate) struct NetSeat<'a> {
    pub(crate) slab: &'a mut SlabNet,
    /// Where the step began, if it has asked for anything.
    pub(crate) mark: Option<Mark>,
}

impl SlabNet {
    pub(crate) fn new(seat: Seat, rank: u64) -> Self {
        Self {
            shard: seat.net,
            tag: seat.tag,
            rank,
            heads: Heads::default(),
        }
    }

    /// The slab, which has no sockets now, is on another shard.
    pub(crate) fn move_to(&mut self, seat: Seat) {
        debug_assert_eq!(self.heads.live(), 0);
        (self.shard, self.tag) = (seat.net, seat.tag);
    }

    pub(crate) const fn owner(&self, key: u32, ordinal: u32) -> Owner {
        Owner {
            tag: self.tag,
            key,
            rank: self.rank,
            ordinal,
        }
    }

    /// For one step.
    #[inline]
    pub(crate) const fn seat(&mut self) -> NetSeat<'_> {
        NetSeat {
            slab: self,
            mark: None,
        }
    }

    /// The step has faulted.
    #[cold]
    pub(crate) fn cut(&mut self, mark: Option<Mark>) {
        if let Some(mark) = mark {
            self.shard.lock().cut(mark, &mut self.heads);
        }
    }

    /// A cell has ended.
    #[inline]
    pub(crate) fn part_all(&mut self, key: u32, ordinal: u32, in_order: bool) {
        if !self.heads.is_unused() {
            let by = self.owner(key, ordinal);
            let mut shard = self.shard.lock();
            shard.part_all(by, &mut self.heads, in_order);
        }
    }
}

impl<C: Cell> CellContext<'_, C> {
    /// The sockets of this cell.
    pub fn net(&mut self) -> Net<'_> {
        let slab = &mut *self.net.slab;
        let by = slab.owner(self.timers.owner, self.ordinal);
        let shard = slab.shard.lock();
        if self.net.mark.is_none() {
            self.net.mark = Some(shard.mark());
        }
        Net {
            shard,
            heads: &mut slab.heads,
            by,
        }
    }
}

/// The sockets of the cell whose step runs. A cell ends with its sockets: in order after what was
/// written is sent if it stops in order, with a reset if it faults or is killed.
pub struct Net<'a> {
    shard: MutexGuard<'a, ShardNet>,
    heads: &'a mut Heads,
    by: Owner,
}

impl fmt::Debug for Net<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("ordinal", &self.by.ordinal)
            .field("stats", &self.shard.stats)
            .finish_non_exhaustive()
    }
}

impl Net<'_> {
    /// Connects a stream (TCP). [`Connected`](super::SocketEvent::Connected) or
    /// [`Ended`](super::SocketEvent::Ended) follows; what is written meanwhile waits.
    ///
    /// # Errors
    /// [`SocketsFull`]: the shard has `sockets_max` already.
    pub fn connect(&mut self, peer: SocketAddr) -> Result<SocketId, SocketsFull> {
        self.open(What::Connect { local: None, peer }, None)
    }

    /// The same from a local address; port 0 lets the host choose.
    ///
    /// # Errors
    /// [`SocketsFull`].
    pub fn connect_from(
        &mut self,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<SocketId, SocketsFull> {
        let local = Some(local);
        self.open(What::Connect { local, peer }, None)
    }

    /// Listens for streams. [`Bound`](super::SocketEvent::Bound) or
    /// [`Ended`](super::SocketEvent::Ended) follows; then
    /// [`Accepted`](super::SocketEvent::Accepted) at the cells that `accept` names.
    ///
    /// # Errors
    /// [`SocketsFull`].
    pub fn listen(&mut self, at: SocketAddr, accept: Accept) -> Result<SocketId, SocketsFull> {
        self.open(What::Listen { at, shared: false }, Some(accept))
    }

    /// The same at an address that others of this user may share, on other shards as a rule: the
    /// host deals connections to all of them.
    ///
    /// # Errors
    /// [`SocketsFull`].
    pub fn listen_shared(
        &mut self,
        at: SocketAddr,
        accept: Accept,
    ) -> Result<SocketId, SocketsFull> {
        self.open(What::Listen { at, shared: true }, Some(accept))
    }

    /// Binds a datagram socket (UDP). [`Bound`](super::SocketEvent::Bound) or
    /// [`Ended`](super::SocketEvent::Ended) follows.
    ///
    /// # Errors
    /// [`SocketsFull`].
    pub fn datagrams(&mut self, at: SocketAddr) -> Result<SocketId, SocketsFull> {
        self.open(What::Datagrams { at, peer: None }, None)
    }

    /// The same for one peer: [`Net::write`] sends there, and nobody else is heard.
    ///
    /// # Errors
    /// [`SocketsFull`].
    pub fn datagrams_with(
        &mut self,
        at: SocketAddr,
        peer: SocketAddr,
    ) -> Result<SocketId, SocketsFull> {
        let peer = Some(peer);
        self.open(What::Datagrams { at, peer }, None)
    }

    fn open(&mut self, what: What, accept: Option<Accept>) -> Result<SocketId, SocketsFull> {
        self.shard.open(self.by, self.heads, what, accept)
    }

    /// Queues all of `bytes`, or nothing. On a datagram socket with a peer it is one datagram.
    ///
    /// # Errors
    /// [`WriteRefused`].
    pub fn write(&mut self, socket: SocketId, bytes: &[u8]) -> Result<(), WriteRefused> {
        self.shard.write(self.by, socket, None, bytes)
    }

    /// Queues one datagram.
    ///
    /// # Errors
    /// [`WriteRefused`].
    pub fn write_to(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), WriteRefused> {
        self.shard.write(self.by, socket, Some(to), bytes)
    }

    /// Bytes that would be taken now; none for a socket that this cell does not have.
    #[must_use]
    pub fn room(&mut self, socket: SocketId) -> Option<usize> {
        self.shard.room(self.by, socket)
    }

    /// Sends what waits, then tells the peer that no more follows. The peer is still heard.
    pub fn finish(&mut self, socket: SocketId) -> bool {
        self.shard.tune(self.by, socket, What::Finish)
    }

    /// Hears no more of the peer until [`Net::resume`], so that the peer has to wait; what is under
    /// way is still told. False for a socket that this cell does not have.
    pub fn pause(&mut self, socket: SocketId) -> bool {
        self.shard.tune(self.by, socket, What::Pause)
    }

    /// Hears the peer again.
    pub fn resume(&mut self, socket: SocketId) -> bool {
        self.shard.tune(self.by, socket, What::Resume)
    }

    /// Closes a socket once what waits is sent. It is the cell's no more, and nothing is told.
    pub fn close(&mut self, socket: SocketId) -> bool {
        self.shard.part(self.by, self.heads, socket, What::Close)
    }

    /// Closes a socket at once; the peer of a stream is told by a reset.
    pub fn reset(&mut self, socket: SocketId) -> bool {
        self.shard.part(self.by, self.heads, socket, What::Reset)
    }
}
