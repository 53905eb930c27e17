//! Sockets on rings: direct descriptors in satellites, and operations that outlive their askers.
//!
//! In reading order: `satellite` (a ring with a table and buffers), `buffers` (memory that a ring
//! takes from), `lending` (entries that point to memory), `opening` (connect, listen, bind),
//! `turns` (who connects next), `closing` (end, cancel, close), `complete` (what each completion
//! means).
//!
//! ```text
//! waiting -> dialling -> open ----------> closing -> last -> free
//!                spare --^ (accepted)      cancels    closes
//! ```
//!
//! A socket's place is free again after the last completion of its last operation and no earlier,
//! and then has a new life, which every completion names: one that comes late belongs to nobody.
//! Bounds: the table of [`ShardNet`]; connects under way; the deadlines of all drivers.

mod buffers;
mod closing;
mod complete;
mod lending;
mod opening;
mod satellite;
mod turns;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use self::buffers::Taken;
use self::lending::Form;
use self::opening::Gates;
use self::satellite::{Done, Satellite};
use self::turns::Turns;
use super::token::Token;
use crate::clock::Time;
use crate::shard::net::{Ask, Engine, Happening, Name, Outgoing, Pool, ShardNet, Told, What};
use crate::shard::slab::earlier;

/// Connects begun, or refused, in one turn: a millisecond or so, so that timers and messages have
/// theirs.
const DIALS_PER_TURN: usize = 128;

/// Sockets that begin to send in one turn, so that what is sent within the host is received between
/// turns and does not take all buffers at once.
const SENDS_PER_TURN: usize = 512;

/// Largest table of a satellite (`IORING_MAX_FIXED_FILES` is 2^20; the slot has 16 bits).
const TABLE_MAX: u32 = 1 << 15;

/// What an operation does; three bits of its place in the op table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Makes a socket, or sets an option of it.
    Open,
    Bind,
    Connect,
    Accept,
    Receive,
    Send,
    Close,
    /// Something whose result nobody needs.
    Aside,
}

const KINDS: [Kind; 8] = [
    Kind::Open,
    Kind::Bind,
    Kind::Connect,
    Kind::Accept,
    Kind::Receive,
    Kind::Send,
    Kind::Close,
    Kind::Aside,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Free,
    /// For a connection to be accepted.
    Spare,
    /// For its turn to connect; it has no slot yet.
    Waiting,
    Dialling,
    Open,
    Listening,
    /// Until everything under way is complete.
    Closing,
    /// Until its slot is empty.
    Last,
}

/// A socket. What the kernel reads or writes is boxed here: `more` until the connect or accept
/// completes, the flight of `out` while `sending`.
struct Conn {
    life: u32,
    slot: u16,
    satellite: u8,
    phase: Phase,
    /// Operations whose last completion has not come.
    pending: u32,
    receiving: bool,
    sending: bool,
    /// No more receives wanted for now.
    paused: bool,
    /// The peer sends no more.
    ended: bool,
    /// To be shut down when all is sent.
    finishing: bool,
    finished: bool,
    /// To be closed when all is sent.
    leaving: bool,
    /// To be closed by a reset.
    abrupt: bool,
    datagrams: bool,
    /// In the list of those with something to send.
    dirty: bool,
    /// Its slot holds nothing.
    hollow: bool,
    out: Option<Box<Outgoing>>,
    more: Option<Box<More>>,
}

/// What a socket needs while it is no usual connection.
enum More {
    Dial {
        local: Option<Name>,
        peer: Name,
        from: Option<SocketAddr>,
        to: SocketAddr,
    },
    Accept {
        listener: u32,
        name: Name,
    },
    Listener {
        file: OwnedFd,
        /// Sockets for connections to come, each with an accept under way.
        spares: Vec<u32>,
        /// When to look for spares again.
        retry: Time,
    },
}

impl Conn {
    const fn new(life: u32, phase: Phase) -> Self {
        Self {
            life,
            slot: 0,
            satellite: 0,
            phase,
            pending: 0,
            receiving: false,
            sending: false,
            paused: false,
            ended: false,
            finishing: false,
            finished: false,
            leaving: false,
            abrupt: false,
            datagrams: false,
            dirty: false,
            hollow: false,
            out: None,
            more: None,
        }
    }
}

/// What is told in its turn.
enum Tell {
    Happening(Happening<'static>),
    /// Everything about the socket is told.
    Gone,
}

/// What is told next, with its bytes still in their buffer.
enum Pick {
    Plain(u32, Happening<'static>),
    Bytes(u32),
    Datagram(u32, SocketAddr, std::ops::Range<usize>),
}

/// The sockets of one shard on rings.
pub(crate) struct RingNet {
    /// Whether the kernel binds and sets options in a ring (6.11).
    binds: bool,
    conns: Vec<Conn>,
    satellites: Vec<Satellite>,
    done: VecDeque<Done>,
    told: VecDeque<(u32, Tell)>,
    /// The buffer that the last happening has lent.
    lent: Option<(u8, Taken)>,
    dirty: VecDeque<u32>,
    /// Receives that found no buffer.
    starved: VecDeque<(u32, u32)>,
    /// Listeners that lack spares.
    hungry: Vec<(u32, u32)>,
    turns: Turns,
    /// Deadlines, each list in the order of time.
    dials: VecDeque<(Time, u32, u32)>,
    leaves: VecDeque<(Time, u32, u32)>,
    gates: Gates,
    pool: Pool,
    // Dropped after the satellites.
    form: Form,
    failed: Option<io::Error>,
}

impl RingNet {
    pub(super) fn new(binds: bool) -> Self {
        Self {
            binds,
            conns: Vec::new(),
            satellites: Vec::new(),
            done: VecDeque::new(),
            told: VecDeque::new(),
            lent: None,
            dirty: VecDeque::new(),
            starved: VecDeque::new(),
            hungry: Vec::new(),
            turns: Turns::default(),
            dials: VecDeque::new(),
            leaves: VecDeque::new(),
            gates: Gates::default(),
            pool: Pool::default(),
            form: Form::default(),
            failed: None,
        }
    }

    /// Lets `watch` have the satellites watched that are not; whether that went well with all.
    pub(super) fn watch(&mut self, mut watch: impl FnMut(u32, BorrowedFd<'_>) -> bool) -> bool {
        for (index, satellite) in (0..).zip(&mut self.satellites) {
            if !satellite.watched {
                satellite.watched = watch(index, satellite.fd());
            }
        }
        self.satellites.iter().all(|satellite| satellite.watched)
    }

    /// A satellite is watched no more.
    pub(super) fn unwatched(&mut self, satellite: u32) {
        if let Some(satellite) = self.satellites.get_mut(satellite as usize) {
            satellite.watched = false;
        }
    }

    /// Whether there is something to take, or the kernel has something to finish.
    pub(super) fn is_pending(&mut self) -> bool {
        self.has_next() || self.satellites.iter_mut().any(Satellite::is_due)
    }

    /// Calls into the kernel, and requests handed over by them.
    pub(super) fn calls(&self) -> (u64, u64) {
        let satellites = self.satellites.iter();
        satellites.fold((0, 0), |sum, s| (sum.0 + s.enters, sum.1 + s.submissions))
    }

    // ---- the op table ----

    fn conn(&mut self, socket: u32) -> &mut Conn {
        &mut self.conns[socket as usize]
    }

    /// The socket, if it is in this life.
    fn known(&mut self, socket: u32, life: u32) -> Option<&mut Conn> {
        let conn = self.conns.get_mut(socket as usize)?;
        (conn.life == life && conn.phase != Phase::Free).then_some(conn)
    }

    /// Begins a life.
    fn seat(&mut self, socket: u32, conn: Conn) {
        let at = socket as usize;
        while self.conns.len() <= at {
            self.conns.push(Conn::new(0, Phase::Free));
        }
        debug_assert!(self.conns[at].phase == Phase::Free);
        self.conns[at] = conn;
    }

    fn token(&self, socket: u32, kind: Kind) -> u64 {
        Token::Op {
            slot: (socket << 3) | kind as u32,
            incarnation: self.conns[socket as usize].life,
        }
        .encode()
    }

    /// Hands over one operation, a chain of entries of which one completes.
    fn start(&mut self, socket: u32, entries: &[io_uring::squeue::Entry]) {
        let conn = &mut self.conns[socket as usize];
        conn.pending += 1;
        let satellite = &mut self.satellites[usize::from(conn.satellite)];
        satellite.pending += 1;
        if let Err(error) = satellite.push(entries, &mut self.done) {
            self.failed = Some(error);
        }
    }

    fn start_one(&mut self, socket: u32, kind: Kind, entry: io_uring::squeue::Entry) {
        let entry = entry.user_data(self.token(socket, kind));
        self.start(socket, std::slice::from_ref(&entry));
    }

    fn tell(&mut self, socket: u32, what: Happening<'static>) {
        self.told.push_back((socket, Tell::Happening(what)));
    }

    // ---- what cells ask ----

    fn act(&mut self, ask: Ask, bytes: &[u8], net: &mut ShardNet, now: Time) {
        let Ask { socket, life, .. } = ask;
        match ask.what {
            What::Connect { local, peer } => self.connect(socket, life, local, peer, now),
            What::Listen { at, shared } => self.listen(socket, life, at, shared),
            What::Datagrams { at, peer } => self.datagrams(socket, life, at, peer, net, now),
            _ if self.known(socket, life).is_none() => {}
            What::Write(range) => {
                if let Some(out) = self.outgoing(socket) {
                    out.push(&bytes[range]);
                }
            }
            What::WriteTo(to, range) => {
                if let Some(out) = self.outgoing(socket) {
                    out.push_datagram(to, &bytes[range]);
                }
            }
            What::Pause => self.pause(socket, net),
            What::Resume => {
                self.conn(socket).paused = false;
                self.receive(socket);
            }
            What::Finish => {
                self.conn(socket).finishing = true;
                self.mark_dirty(socket);
            }
            What::Close => self.leave(socket, net, now),
            What::Reset => self.close(socket, true, net),
        }
    }

    /// Where to put what a socket sends; none once it is closing.
    fn outgoing(&mut self, socket: u32) -> Option<&mut Outgoing> {
        let phase = self.conn(socket).phase;
        if !matches!(phase, Phase::Waiting | Phase::Dialling | Phase::Open) {
            return None;
        }
        self.mark_dirty(socket);
        let pool = &mut self.pool;
        let conn = &mut self.conns[socket as usize];
        Some(conn.out.get_or_insert_with(|| pool.take()))
    }

    fn mark_dirty(&mut self, socket: u32) {
        if !std::mem::replace(&mut self.conn(socket).dirty, true) {
            self.dirty.push_back(socket);
        }
    }

    /// Sends what waits, one operation at a time; then what was to be done when all is sent.
    fn pump(&mut self, socket: u32, net: &mut ShardNet) {
        let conn = &mut self.conns[socket as usize];
        conn.dirty = false;
        if conn.phase != Phase::Open || conn.sending {
            return;
        }
        let slot = u32::from(conn.slot);
        let entry = conn.out.as_mut().and_then(|out| {
            if conn.datagrams {
                let (bytes, to) = out.datagram()?;
                return Some(lending::send(slot, bytes, to));
            }
            let bytes = out.stream();
            (!bytes.is_empty()).then(|| lending::send(slot, bytes, None))
        });
        if let Some(entry) = entry {
            conn.sending = true;
            self.start_one(socket, Kind::Send, entry);
            return;
        }
        if let Some(out) = conn.out.take() {
            self.pool.give(out);
        }
        self.drained(socket, net);
    }

    /// Receives, unless it does so already or shall not.
    fn receive(&mut self, socket: u32) {
        let conn = &mut self.conns[socket as usize];
        if conn.phase != Phase::Open || conn.receiving || conn.paused || conn.ended {
            return;
        }
        conn.receiving = true;
        let slot = u32::from(conn.slot);
        let entry = match conn.datagrams {
            true => lending::receive_datagrams(slot, self.form.heading()),
            false => lending::receive(slot),
        };
        self.start_one(socket, Kind::Receive, entry);
    }

    fn pause(&mut self, socket: u32, net: &mut ShardNet) {
        let conn = self.conn(socket);
        conn.paused = true;
        if conn.phase == Phase::Open && conn.receiving {
            self.cancel(socket, Kind::Receive, net);
        }
    }

    /// Receives again where there was no buffer: as many as there are buffers now, the rest in a
    /// later turn, in the order in which they starved.
    fn feed_starved(&mut self) {
        let buffers: usize = self.satellites.iter().map(Satellite::buffer_count).sum();
        for _ in 0..self.starved.len().min(buffers) {
            let Some((socket, life)) = self.starved.pop_front() else {
                break;
            };
            if self.known(socket, life).is_some() {
                self.receive(socket);
            }
        }
    }
}

impl Engine for RingNet {
    fn obey(&mut self, net: &mut ShardNet, now: Time) -> io::Result<()> {
        if net.has_asks() {
            let (mut asks, bytes) = net.asked();
            for ask in asks.drain(..) {
                self.act(ask, &bytes, net, now);
            }
            net.settled(asks, bytes);
        }
        self.dial_waiting(net, now);
        self.feed_listeners(net, now);
        self.end_overdue(net, now);
        for _ in 0..self.dirty.len().min(SENDS_PER_TURN) {
            if let Some(socket) = self.dirty.pop_front() {
                self.pump(socket, net);
            }
        }
        self.feed_starved();
        for satellite in &mut self.satellites {
            satellite.flush()?;
        }
        net.stats.satellites = self.satellites.len() as u64;
        self.failed.take().map_or(Ok(()), Err)
    }

    fn next<'e>(&'e mut self, net: &mut ShardNet, now: Time) -> Option<Told<'e>> {
        if let Some((satellite, taken)) = self.lent.take() {
            self.satellites[usize::from(satellite)].give(taken);
        }
        let pick = loop {
            match self.told.pop_front() {
                Some((socket, Tell::Happening(what))) => break Pick::Plain(socket, what),
                Some((socket, Tell::Gone)) => {
                    self.gone(socket, net);
                    continue;
                }
                None => {}
            }
            let Some(done) = self.done.pop_front() else {
                for satellite in &mut self.satellites {
                    satellite.reap(&mut self.done);
                }
                if self.done.is_empty() {
                    return None;
                }
                continue;
            };
            if let Some(pick) = self.complete(done, net, now) {
                break pick;
            }
        };
        let (socket, what) = match pick {
            Pick::Plain(socket, what) => (socket, what),
            Pick::Bytes(socket) => (socket, Happening::Received(self.lent_bytes())),
            Pick::Datagram(socket, from, range) => {
                let bytes = &self.lent_bytes()[range];
                (socket, Happening::Datagram(from, bytes))
            }
        };
        Some(Told { socket, what })
    }

    fn has_next(&mut self) -> bool {
        !self.told.is_empty()
            || !self.done.is_empty()
            || self.turns.has_next()
            || !self.starved.is_empty()
            || !self.dirty.is_empty()
            || self.satellites.iter_mut().any(Satellite::has_completions)
    }

    fn due(&self) -> Option<Time> {
        let first = |list: &VecDeque<(Time, u32, u32)>| list.front().map(|entry| entry.0);
        earlier(
            earlier(first(&self.dials), first(&self.leaves)),
            self.listeners_due(),
        )
    }
}

impl RingNet {
    fn lent_bytes(&self) -> &[u8] {
        self.lent.as_ref().map_or(&[], |(satellite, taken)| {
            self.satellites[usize::from(*satellite)].bytes(taken)
        })
    }
}

/// The kernel may read or write what is under way until it has cancelled it, which it does some
/// time after the ring is closed: that memory is lost rather than used again.
impl Drop for RingNet {
    fn drop(&mut self) {
        for conn in &mut self.conns {
            if conn.pending > 0 {
                std::mem::forget((conn.out.take(), conn.more.take()));
            }
        }
        if self
            .satellites
            .iter()
            .any(|satellite| satellite.pending > 0)
        {
            std::mem::forget(std::mem::take(&mut self.form));
        }
    }
}
