//! The sockets of one shard as its cells know them: whose they are and what is asked of them.
//!
//! An entry is a cell's from the asking until it has ended or was closed, and the engine's until
//! that says [`ShardNet::gone`]; then its place is used again under a new life, so that what comes
//! late finds nobody. Effects are staged in order: a step that faults is cut back to where it
//! began. Bound: `sockets_max` entries of 32 bytes; staged bytes by the sockets' queues.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;

use super::engine::{Ask, Happening, Told, What};
use super::outgoing::datagram_room;
use super::socket::{Accept, DATAGRAM_MAX, SocketEvent, SocketId, SocketsFull, WriteRefused};
use super::stats::{NetConfig, NetStats};
use crate::shard::spec::GROUP_SIZE;

const NIL: u32 = u32::MAX;

/// Bytes that the stage keeps between two turns.
const STAGE_KEPT: usize = 1 << 20;

/// Where a socket is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Free,
    /// The engine's, for a connection to be accepted.
    Spare,
    Opening,
    Open,
    Closing,
}

#[derive(Debug)]
struct Entry {
    life: u32,
    /// Its slab and cell, while owned.
    tag: u32,
    key: u32,
    /// Further sockets of its cell.
    next: u32,
    prev: u32,
    /// Bytes written and not yet sent.
    queued: u32,
    phase: Phase,
    owned: bool,
    datagrams: bool,
    finished: bool,
    /// A write was refused since there was room last.
    wants_room: bool,
}

/// The first socket of each cell of a slab. Groups without sockets have nothing.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    groups: Vec<Option<Box<[u32; GROUP_SIZE as usize]>>>,
    live: u32,
}

impl Heads {
    /// Whether no cell of the slab ever had a socket.
    pub(crate) const fn is_unused(&self) -> bool {
        self.groups.is_empty()
    }

    /// Sockets that the cells of the slab have.
    pub(crate) const fn live(&self) -> u32 {
        self.live
    }

    fn first(&self, key: u32) -> u32 {
        let group = self.groups.get((key / GROUP_SIZE) as usize);
        let heads = group.and_then(Option::as_ref);
        heads.map_or(NIL, |heads| heads[(key % GROUP_SIZE) as usize])
    }

    fn set(&mut self, key: u32, first: u32) {
        let group = (key / GROUP_SIZE) as usize;
        if self.groups.len() <= group {
            self.groups.resize_with(group + 1, || None);
        }
        let heads = self.groups[group].get_or_insert_with(|| Box::new([NIL; GROUP_SIZE as usize]));
        heads[(key % GROUP_SIZE) as usize] = first;
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) tag: u32,
    pub(crate) key: u32,
    pub(crate) rank: u64,
    pub(crate) ordinal: u32,
}

/// Where a step began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    asks: usize,
    bytes: usize,
}

/// Cells that take a listener's connections in turn.
#[derive(Debug)]
struct Deal {
    ordinals: Range<u32>,
    next: u32,
}

/// What a happening means to the cells.
pub(crate) enum Heard<'a> {
    /// Nothing: nobody's socket any more, or nothing that a cell would hear.
    Nothing,
    /// The cell is told.
    Tell {
        tag: u32,
        key: u32,
        id: SocketId,
        event: SocketEvent<'a>,
    },
    /// The slab finds a cell for it.
    Claim { tag: u32, claim: Claim },
}

/// An accepted connection that is nobody's yet.
pub(crate) struct Claim {
    pub(crate) socket: u32,
    pub(crate) peer: SocketAddr,
    pub(crate) listener: SocketId,
    /// Cell of the listener.
    pub(crate) key: u32,
}

/// The sockets of one shard.
#[derive(Debug)]
pub(crate) struct ShardNet {
    pub(crate) config: NetConfig,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// By listener.
    deals: BTreeMap<u32, Deal>,
    asks: Vec<Ask>,
    bytes: Vec<u8>,
    pub(crate) stats: NetStats,
}

impl ShardNet {
    pub(crate) fn new(config: NetConfig) -> Self {
        Self {
            config,
            entries: Vec::new(),
            free: Vec::new(),
            deals: BTreeMap::new(),
            asks: Vec::new(),
            bytes: Vec::new(),
            stats: NetStats::default(),
        }
    }

    // ---- what cells ask ----

    /// Where a step begins that asks for something.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            asks: self.asks.len(),
            bytes: self.bytes.len(),
        }
    }

    /// The step has faulted: it has asked nothing. What it closed is reset, as its cell has ended.
    #[cold]
    pub(crate) fn cut(&mut self, mark: Mark, heads: &mut Heads) {
        let asked: Vec<Ask> = self.asks.drain(mark.asks..).collect();
        for ask in asked {
            let Ask { socket, life, .. } = ask;
            let live = self.entries[socket as usize].life == life;
            match ask.what {
                What::Connect { .. } | What::Listen { .. } | What::Datagrams { .. } => {
                    self.stats.cut += 1;
                    self.disown(socket, heads);
                    self.gone(socket);
                }
                What::Write(range) => {
                    self.stats.cut += 1;
                    if live {
                        self.entries[socket as usize].queued -= range.len() as u32;
                    }
                }
                What::WriteTo(_, range) => {
                    self.stats.cut += 1;
                    if live {
                        self.entries[socket as usize].queued -= datagram_room(range.len()) as u32;
                    }
                }
                What::Close | What::Reset if live => {
                    self.asks.push(Ask {
                        what: What::Reset,
                        ..ask
                    });
                }
                _ => {}
            }
        }
        self.bytes.truncate(mark.bytes);
    }

    fn ask(&mut self, by: Owner, socket: u32, what: What) {
        let life = self.entries[socket as usize].life;
        self.asks.push(Ask {
            socket,
            life,
            rank: by.rank,
            ordinal: by.ordinal,
            what,
        });
    }

    pub(crate) fn open(
        &mut self,
        by: Owner,
        heads: &mut Heads,
        what: What,
        accept: Option<Accept>,
    ) -> Result<SocketId, SocketsFull> {
        let Some(socket) = self.take(Phase::Opening) else {
            self.stats.ends.table_full += 1;
            return Err(SocketsFull);
        };
        self.stats.asked += 1;
        self.stats.opening += 1;
        self.entries[socket as usize].datagrams = matches!(what, What::Datagrams { .. });
        if let Some(Accept::Cells(ordinals)) = accept {
            let next = ordinals.start;
            self.deals.insert(socket, Deal { ordinals, next });
        }
        self.own(socket, by, heads);
        self.ask(by, socket, what);
        Ok(self.id(socket))
    }

    /// Queues bytes, or a datagram.
    pub(crate) fn write(
        &mut self,
        by: Owner,
        id: SocketId,
        to: Option<SocketAddr>,
        bytes: &[u8],
    ) -> Result<(), WriteRefused> {
        let bound = self.config.queue_bytes as usize;
        let entry = self.owned(by, id).ok_or(WriteRefused::Closed)?;
        if entry.finished || (to.is_some() && !entry.datagrams) {
            return Err(WriteRefused::Closed);
        }
        if entry.datagrams && bytes.len() > DATAGRAM_MAX {
            return Err(WriteRefused::TooLong);
        }
        let datagrams = entry.datagrams;
        let taken = match datagrams {
            true => datagram_room(bytes.len()),
            false => bytes.len(),
        };
        let room = bound.saturating_sub(entry.queued as usize);
        if taken > room {
            entry.wants_room = true;
            self.stats.queue_full += 1;
            return Err(WriteRefused::Full { room });
        }
        if taken == 0 {
            return Ok(());
        }
        entry.queued += taken as u32;
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let range = begin..self.bytes.len();
        let what = match datagrams {
            true => What::WriteTo(to, range),
            false => What::Write(range),
        };
        self.ask(by, id.index, what);
        Ok(())
    }

    /// Bytes that the queue takes now; none for a socket that is not this cell's.
    pub(crate) fn room(&mut self, by: Owner, id: SocketId) -> Option<usize> {
        let bound = self.config.queue_bytes as usize;
        let entry = self.owned(by, id)?;
        Some(bound.saturating_sub(entry.queued as usize))
    }

    /// Asks something that keeps the socket the cell's; false if it is not.
    pub(crate) fn tune(&mut self, by: Owner, id: SocketId, what: What) -> bool {
        let Some(entry) = self.owned(by, id) else {
            return false;
        };
        entry.finished |= what == What::Finish;
        self.ask(by, id.index, what);
        true
    }

    /// Ends a socket for its cell; false if it is not its.
    pub(crate) fn part(&mut self, by: Owner, heads: &mut Heads, id: SocketId, what: What) -> bool {
        if self.owned(by, id).is_none() {
            return false;
        }
        self.disown(id.index, heads);
        self.set_phase(id.index, Phase::Closing);
        self.ask(by, id.index, what);
        true
    }

    /// The cell has ended: so do its sockets.
    pub(crate) fn part_all(&mut self, by: Owner, heads: &mut Heads, in_order: bool) {
        loop {
            let socket = heads.first(by.key);
            if socket == NIL {
                break;
            }
            let what = if in_order { What::Close } else { What::Reset };
            let id = self.id(socket);
            self.part(by, heads, id, what);
        }
    }

    // ---- whose they are ----

    fn take(&mut self, phase: Phase) -> Option<u32> {
        let socket = match self.free.pop() {
            Some(socket) => socket,
            None if self.entries.len() < self.config.sockets_max as usize => {
                self.entries.push(Entry {
                    life: 0,
                    tag: 0,
                    key: 0,
                    next: NIL,
                    prev: NIL,
                    queued: 0,
                    phase: Phase::Free,
                    owned: false,
                    datagrams: false,
                    finished: false,
                    wants_room: false,
                });
                self.entries.len() as u32 - 1
            }
            None => return None,
        };
        let entry = &mut self.entries[socket as usize];
        entry.life = entry.life.wrapping_add(1);
        entry.phase = phase;
        entry.queued = 0;
        entry.datagrams = false;
        entry.finished = false;
        entry.wants_room = false;
        Some(socket)
    }

    fn id(&self, socket: u32) -> SocketId {
        SocketId {
            index: socket,
            life: self.entries[socket as usize].life,
        }
    }

    /// Which life of its place this socket is.
    pub(crate) fn life(&self, socket: u32) -> u32 {
        self.entries[socket as usize].life
    }

    fn owned(&mut self, by: Owner, id: SocketId) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(id.index as usize)?;
        let is_its =
            entry.owned && entry.life == id.life && (entry.tag, entry.key) == (by.tag, by.key);
        is_its.then_some(entry)
    }

    fn own(&mut self, socket: u32, by: Owner, heads: &mut Heads) {
        let next = heads.first(by.key);
        heads.set(by.key, socket);
        heads.live += 1;
        if next != NIL {
            self.entries[next as usize].prev = socket;
        }
        let entry = &mut self.entries[socket as usize];
        (entry.tag, entry.key) = (by.tag, by.key);
        (entry.next, entry.prev) = (next, NIL);
        entry.owned = true;
    }

    /// Takes a socket from its cell, if it is one's.
    pub(crate) fn disown(&mut self, socket: u32, heads: &mut Heads) {
        let entry = &mut self.entries[socket as usize];
        if !std::mem::take(&mut entry.owned) {
            return;
        }
        heads.live -= 1;
        let (key, next, prev) = (entry.key, entry.next, entry.prev);
        if next != NIL {
            self.entries[next as usize].prev = prev;
        }
        if prev != NIL {
            self.entries[prev as usize].next = next;
        } else {
            heads.set(key, next);
        }
    }

    fn gauge(&mut self, phase: Phase) -> Option<&mut u64> {
        match phase {
            Phase::Free | Phase::Spare => None,
            Phase::Opening => Some(&mut self.stats.opening),
            Phase::Open => Some(&mut self.stats.open),
            Phase::Closing => Some(&mut self.stats.closing),
        }
    }

    fn set_phase(&mut self, socket: u32, phase: Phase) {
        let before = std::mem::replace(&mut self.entries[socket as usize].phase, phase);
        if let Some(gauge) = self.gauge(before) {
            *gauge -= 1;
        }
        if let Some(gauge) = self.gauge(phase) {
            *gauge += 1;
        }
    }

    // ---- what the engine does ----

    /// Moves out what was asked since the last call, with the bytes it refers to. Give them back
    /// with [`ShardNet::settled`].
    pub(crate) fn asked(&mut self) -> (Vec<Ask>, Vec<u8>) {
        (
            std::mem::take(&mut self.asks),
            std::mem::take(&mut self.bytes),
        )
    }

    /// The emptied stage is used again.
    pub(crate) fn settled(&mut self, mut asks: Vec<Ask>, mut bytes: Vec<u8>) {
        asks.clear();
        bytes.clear();
        if self.asks.is_empty() && bytes.capacity() <= STAGE_KEPT {
            self.asks = asks;
            self.bytes = bytes;
        }
    }

    /// Whether something is asked and not taken.
    pub(crate) const fn has_asks(&self) -> bool {
        !self.asks.is_empty()
    }

    /// Whether neither cells nor the engine know a socket.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.asks.is_empty() && self.stats.alive() == 0
    }

    /// A place for a connection that may be accepted.
    pub(crate) fn spare(&mut self) -> Option<u32> {
        self.take(Phase::Spare)
    }

    /// The engine is done with a socket, or with a spare.
    pub(crate) fn gone(&mut self, socket: u32) {
        let phase = self.entries[socket as usize].phase;
        debug_assert!(phase != Phase::Free, "gone twice");
        if phase != Phase::Spare {
            self.stats.closed += 1;
            self.deals.remove(&socket);
        }
        self.set_phase(socket, Phase::Free);
        self.free.push(socket);
    }

    /// The engine is no more, and no cell lives: every place is free, and what was asked forgotten.
    pub(crate) fn abandon(&mut self) {
        self.asks.clear();
        self.bytes.clear();
        for socket in 0..self.entries.len() as u32 {
            let entry = &mut self.entries[socket as usize];
            debug_assert!(!entry.owned, "a socket ends with its cell");
            if entry.phase != Phase::Free {
                self.gone(socket);
            }
        }
    }

    /// What a happening means to the cells, booked.
    pub(crate) fn note<'a>(&mut self, told: Told<'a>) -> Heard<'a> {
        let Told { socket, what } = told;
        let event = match what {
            Happening::Accepted { listener, peer } => {
                return self.note_accepted(socket, listener, peer);
            }
            Happening::Sent(n) => {
                let bound = self.config.queue_bytes;
                let entry = &mut self.entries[socket as usize];
                entry.queued -= n;
                if !entry.wants_room || entry.queued > bound / 2 {
                    return Heard::Nothing;
                }
                entry.wants_room = false;
                SocketEvent::Writable
            }
            Happening::Bound(at) => {
                self.opened(socket);
                SocketEvent::Bound(at)
            }
            Happening::Connected => {
                self.opened(socket);
                self.stats.connected += 1;
                SocketEvent::Connected
            }
            Happening::Received(bytes) => {
                self.stats.bytes_in += bytes.len() as u64;
                SocketEvent::Received(bytes)
            }
            Happening::Datagram(from, bytes) => {
                self.stats.bytes_in += bytes.len() as u64;
                SocketEvent::Datagram { from, bytes }
            }
            Happening::PeerFinished => SocketEvent::PeerFinished,
            Happening::Ended(end) => {
                if self.entries[socket as usize].owned {
                    self.stats.ends.count(end);
                    self.set_phase(socket, Phase::Closing);
                }
                SocketEvent::Ended(end)
            }
        };
        let entry = &self.entries[socket as usize];
        if !entry.owned {
            return Heard::Nothing;
        }
        Heard::Tell {
            tag: entry.tag,
            key: entry.key,
            id: self.id(socket),
            event,
        }
    }

    fn opened(&mut self, socket: u32) {
        if self.entries[socket as usize].phase == Phase::Opening {
            self.set_phase(socket, Phase::Open);
        }
    }

    fn note_accepted(&mut self, socket: u32, listener: u32, peer: SocketAddr) -> Heard<'static> {
        self.stats.accepted += 1;
        self.set_phase(socket, Phase::Open);
        let entry = &self.entries[listener as usize];
        if !entry.owned {
            self.unclaimed(socket);
            return Heard::Nothing;
        }
        Heard::Claim {
            tag: entry.tag,
            claim: Claim {
                socket,
                peer,
                listener: self.id(listener),
                key: entry.key,
            },
        }
    }

    /// The next ordinal whose turn it is at a listener, and how many there are; none if the
    /// listening cell takes all.
    pub(crate) fn deal(&mut self, listener: u32) -> Option<(u32, u32)> {
        let deal = self.deals.get_mut(&listener)?;
        let Range { start, end } = deal.ordinals;
        let ordinal = deal.next;
        deal.next = match ordinal.checked_add(1) {
            Some(next) if next < end => next,
            _ => start,
        };
        Some((ordinal, end.saturating_sub(start)))
    }

    /// Gives an accepted connection to a cell.
    pub(crate) fn claim(&mut self, socket: u32, by: Owner, heads: &mut Heads) -> SocketId {
        self.own(socket, by, heads);
        self.id(socket)
    }

    /// No cell takes an accepted connection.
    pub(crate) fn unclaimed(&mut self, socket: u32) {
        self.stats.unclaimed += 1;
        self.set_phase(socket, Phase::Closing);
        let nobody = Owner {
            tag: 0,
            key: 0,
            rank: 0,
            ordinal: 0,
        };
        self.ask(nobody, socket, What::Reset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::net::SocketEnd;

    const BY: Owner = Owner {
        tag: 1,
        key: 300,
        rank: 7,
        ordinal: 300,
    };

    fn dial() -> What {
        What::Connect {
            local: None,
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
        }
    }

    fn tell(net: &mut ShardNet, socket: u32, what: Happening<'static>) -> bool {
        matches!(net.note(Told { socket, what }), Heard::Tell { .. })
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 32);
    }

    #[test]
    fn sockets_leave_the_list_of_their_cell_in_any_order() {
        let mut net = ShardNet::new(NetConfig::default());
        let mut heads = Heads::default();
        let ids: Vec<_> = (0..5)
            .map(|_| net.open(BY, &mut heads, dial(), None).unwrap())
            .collect();
        for at in [2, 0, 4] {
            assert!(net.part(BY, &mut heads, ids[at], What::Reset));
            assert!(!net.part(BY, &mut heads, ids[at], What::Reset), "once");
        }
        assert_eq!(heads.live(), 2);
        net.part_all(BY, &mut heads, true);
        assert_eq!((heads.live(), net.stats.closing), (0, 5));
        let (asks, _) = net.asked();
        let closes = asks.iter().filter(|ask| ask.what == What::Close);
        assert_eq!((asks.len(), closes.count()), (10, 2));
        (0..5).for_each(|socket| net.gone(socket));
        assert!(net.is_quiet() && net.stats.balanced());
    }

    #[test]
    fn what_comes_late_finds_nobody() {
        let mut net = ShardNet::new(NetConfig::default());
        let mut heads = Heads::default();
        let first = net.open(BY, &mut heads, dial(), None).unwrap();
        assert!(tell(&mut net, first.index, Happening::Connected));
        net.part_all(BY, &mut heads, false);
        assert!(!tell(&mut net, first.index, Happening::Received(b"late")));
        assert!(!tell(
            &mut net,
            first.index,
            Happening::Ended(SocketEnd::Reset)
        ));
        assert_eq!(net.stats.ends.reset, 0, "nobody lived on");
        net.gone(first.index);
        let next = net.open(BY, &mut heads, dial(), None).unwrap();
        assert_eq!(next.index, first.index);
        assert_eq!(net.write(BY, first, None, b"x"), Err(WriteRefused::Closed));
        assert_eq!(net.write(BY, next, None, b"x"), Ok(()));
    }

    #[test]
    fn a_cut_forgets_asks_and_bytes_and_resets_what_was_closed() {
        let mut net = ShardNet::new(NetConfig::default());
        let mut heads = Heads::default();
        let old = net.open(BY, &mut heads, dial(), None).unwrap();
        net.write(BY, old, None, b"before").unwrap();
        let mark = net.mark();
        net.write(BY, old, None, b"after").unwrap();
        net.part(BY, &mut heads, old, What::Close);
        let fresh = net.open(BY, &mut heads, dial(), None).unwrap();
        net.write(BY, fresh, None, b"never").unwrap();
        net.part(BY, &mut heads, fresh, What::Close);
        net.cut(mark, &mut heads);
        let (asks, bytes) = net.asked();
        let asked: Vec<_> = asks.iter().map(|ask| (ask.socket, &ask.what)).collect();
        let of = old.index;
        let kept = [(of, &dial()), (of, &What::Write(0..6)), (of, &What::Reset)];
        assert_eq!((&asked[..3], &bytes[..]), (&kept[..], &b"before"[..]));
        // The last is for a life that is over, which an engine does not know.
        assert!(asks[3..].iter().all(|ask| ask.socket == fresh.index));
        assert_eq!(
            (heads.live(), net.stats.closed, net.stats.closing),
            (0, 1, 1)
        );
        assert!(net.stats.balanced());
    }

    #[test]
    fn empty_datagrams_fill_their_queue_too() {
        let mut net = ShardNet::new(NetConfig::default());
        let mut heads = Heads::default();
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let what = What::Datagrams { at, peer: None };
        let id = net.open(BY, &mut heads, what, None).unwrap();
        let bound = net.config.queue_bytes as usize;
        let written = (0..2 * bound).take_while(|_| net.write(BY, id, Some(at), b"").is_ok());
        assert_eq!(written.count(), bound);
        assert!(tell(&mut net, id.index, Happening::Sent(bound as u32)));
    }

    #[test]
    fn room_is_told_once_when_half_of_the_queue_is_free() {
        let mut net = ShardNet::new(NetConfig::default());
        let mut heads = Heads::default();
        let id = net.open(BY, &mut heads, dial(), None).unwrap();
        let bound = net.config.queue_bytes;
        let all = vec![0; bound as usize];
        net.write(BY, id, None, &all[1..]).unwrap();
        assert_eq!(
            net.write(BY, id, None, b"xy"),
            Err(WriteRefused::Full { room: 1 })
        );
        assert!(!tell(&mut net, id.index, Happening::Sent(bound / 2 - 2)));
        assert!(tell(&mut net, id.index, Happening::Sent(1)));
        assert!(!tell(&mut net, id.index, Happening::Sent(1)));
        assert_eq!(net.room(BY, id), Some(bound as usize / 2 + 1));
    }
}
