//! Sockets of a shard that parks: non-blocking sockets behind one `epoll`.
//!
//! Each socket is an open file of the process, so its file limit bounds them: what is above it is
//! refused as [`SocketEnd::NoFiles`] and counted, the `epoll` itself included. Readiness is told by
//! edges and kept here until a call would block. Bounds: [`READ_BYTES`] per step;
//! [`EVENTS_PER_LOOK`]; [`DIAL_MAX`]; [`LEAVE_MAX`].

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, Shutdown, SocketFlags, sockopt};

use super::engine::{Ask, Engine, Happening, Told, What};
use super::outgoing::{Outgoing, Pool};
use super::plain;
use super::socket::SocketEnd;
use super::table::ShardNet;
use super::{DIAL_MAX, LEAVE_MAX, LISTEN_PAUSE};
use crate::clock::Time;
use crate::shard::slab::earlier;

/// Bytes received at a time: one step's.
const READ_BYTES: usize = 16_384;

/// Events taken at a time.
const EVENTS_PER_LOOK: usize = 256;

/// What the bell's event is known by.
const BELL: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Free,
    Dialling,
    Open,
    Listening,
    /// Until everything about it is told.
    Last,
}

struct Conn {
    life: u32,
    phase: Phase,
    datagrams: bool,
    /// It may have something to read, and is in the list of those if it is to be read.
    readable: bool,
    listed: bool,
    /// A write found no room since it was writable last.
    blocked: bool,
    paused: bool,
    ended: bool,
    finishing: bool,
    finished: bool,
    leaving: bool,
    dirty: bool,
    file: Option<OwnedFd>,
    out: Option<Box<Outgoing>>,
}

impl Conn {
    const fn new(life: u32, phase: Phase, file: Option<OwnedFd>) -> Self {
        Self {
            life,
            phase,
            datagrams: false,
            readable: false,
            listed: false,
            blocked: false,
            paused: false,
            ended: false,
            finishing: false,
            finished: false,
            leaving: false,
            dirty: false,
            file,
            out: None,
        }
    }
}

enum Tell {
    Happening(Happening<'static>),
    Gone,
}

enum Pick {
    Plain(Happening<'static>),
    Bytes(usize),
    Datagram(SocketAddr, usize),
}

/// The sockets of one shard behind an `epoll`.
#[derive(Default)]
pub(crate) struct PollNet {
    epoll: Option<OwnedFd>,
    /// Why there is none, if it was asked for.
    lack: Option<SocketEnd>,
    conns: Vec<Conn>,
    told: VecDeque<(u32, Tell)>,
    readable: VecDeque<u32>,
    dirty: Vec<u32>,
    /// Listeners that wait for room, and until when.
    full: VecDeque<(Time, u32, u32)>,
    dials: VecDeque<(Time, u32, u32)>,
    leaves: VecDeque<(Time, u32, u32)>,
    pool: Pool,
    buffer: Vec<u8>,
}

const fn end_of(error: Errno) -> SocketEnd {
    SocketEnd::of(error.raw_os_error())
}

const fn would_block(error: Errno) -> bool {
    error.raw_os_error() == Errno::AGAIN.raw_os_error()
}

impl PollNet {
    /// Whether the thread waits here: from the first socket on.
    pub(crate) const fn is_used(&self) -> bool {
        self.epoll.is_some()
    }

    /// Makes the `epoll`, woken by `bell`.
    pub(crate) fn begin(&mut self, bell: impl AsFd) -> Result<(), Errno> {
        let made = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&made, bell, epoll::EventData::new_u64(BELL), edges)?;
        self.buffer = vec![0; READ_BYTES];
        self.epoll = Some(made);
        Ok(())
    }

    /// There is nothing to wait with: sockets are refused until there is.
    pub(crate) const fn lacks(&mut self, error: Errno) {
        self.lack = Some(end_of(error));
    }

    /// Waits for events for at most `at_most`, if given, and takes them.
    pub(crate) fn look(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        let Some(epoll) = &self.epoll else {
            return Ok(());
        };
        let at_most = at_most.and_then(|time| Timespec::try_from(time).ok());
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_PER_LOOK];
        match epoll::wait(epoll, &mut events[..], at_most.as_ref()) {
            Ok((events, _)) => {
                events.iter().for_each(|event| self.take(*event));
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn take(&mut self, event: epoll::Event) {
        let (flags, data) = (event.flags, event.data.u64());
        let (socket, life) = (data as u32, (data >> 32) as u32);
        if data == BELL || self.known(socket, life).is_none() {
            return;
        }
        let gone = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
        if self.conn(socket).phase == Phase::Dialling {
            if flags.intersects(epoll::EventFlags::OUT | gone) {
                self.dialled(socket);
            }
            return;
        }
        if flags.intersects(epoll::EventFlags::OUT | gone) {
            self.conn(socket).blocked = false;
            self.mark_dirty(socket);
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP | gone) {
            self.conn(socket).readable = true;
            self.list(socket);
        }
    }

    // ---- places ----

    fn conn(&mut self, socket: u32) -> &mut Conn {
        &mut self.conns[socket as usize]
    }

    fn known(&mut self, socket: u32, life: u32) -> Option<&mut Conn> {
        let conn = self.conns.get_mut(socket as usize)?;
        let lives = !matches!(conn.phase, Phase::Free | Phase::Last);
        (conn.life == life && lives).then_some(conn)
    }

    /// Begins a life, watched from here on.
    fn seat(&mut self, socket: u32, conn: Conn) {
        while self.conns.len() <= socket as usize {
            self.conns.push(Conn::new(0, Phase::Free, None));
        }
        debug_assert!(self.conn(socket).phase == Phase::Free);
        let data = (u64::from(conn.life) << 32) | u64::from(socket);
        let watched = match (&self.epoll, &conn.file) {
            (Some(epoll), Some(file)) => {
                let all = epoll::EventFlags::IN
                    | epoll::EventFlags::OUT
                    | epoll::EventFlags::RDHUP
                    | epoll::EventFlags::ET;
                epoll::add(epoll, file, epoll::EventData::new_u64(data), all)
            }
            _ => Ok(()),
        };
        *self.conn(socket) = conn;
        if let Err(error) = watched {
            self.end(socket, end_of(error));
        }
    }

    fn tell(&mut self, socket: u32, what: Happening<'static>) {
        self.told.push_back((socket, Tell::Happening(what)));
    }

    /// Puts a readable socket into the list of those to be read.
    fn list(&mut self, socket: u32) {
        let conn = self.conn(socket);
        let wanted = matches!(conn.phase, Phase::Open | Phase::Listening) && !conn.paused;
        if conn.readable && wanted && !std::mem::replace(&mut conn.listed, true) {
            self.readable.push_back(socket);
        }
    }

    fn mark_dirty(&mut self, socket: u32) {
        if !std::mem::replace(&mut self.conn(socket).dirty, true) {
            self.dirty.push(socket);
        }
    }

    // ---- what cells ask ----

    fn act(&mut self, ask: Ask, bytes: &[u8], now: Time) {
        let Ask { socket, life, .. } = ask;
        match ask.what {
            What::Connect { .. } | What::Listen { .. } | What::Datagrams { .. }
                if !self.is_used() =>
            {
                let end = self.lack.unwrap_or(SocketEnd::Other);
                self.refuse(socket, life, end);
            }
            What::Connect { local, peer } => self.connect(socket, life, local, peer, now),
            What::Listen { at, shared } => {
                let made = plain::listener(at, shared, SocketFlags::NONBLOCK);
                self.bound(socket, life, Phase::Listening, made);
            }
            What::Datagrams { at, peer } => {
                let made = plain::datagrams(at, peer, SocketFlags::NONBLOCK);
                self.bound(socket, life, Phase::Open, made);
                self.conn(socket).datagrams = true;
            }
            _ if self.known(socket, life).is_none() => {}
            What::Write(range) => self.outgoing(socket).push(&bytes[range]),
            What::WriteTo(to, range) => self.outgoing(socket).push_datagram(to, &bytes[range]),
            What::Pause => self.conn(socket).paused = true,
            What::Resume => {
                self.conn(socket).paused = false;
                self.list(socket);
            }
            What::Finish => {
                self.conn(socket).finishing = true;
                self.mark_dirty(socket);
            }
            What::Close => self.leave(socket, now),
            What::Reset => self.close(socket, true),
        }
    }

    fn outgoing(&mut self, socket: u32) -> &mut Outgoing {
        self.mark_dirty(socket);
        let pool = &mut self.pool;
        let conn = &mut self.conns[socket as usize];
        conn.out.get_or_insert_with(|| pool.take())
    }

    fn bound(
        &mut self,
        socket: u32,
        life: u32,
        phase: Phase,
        made: Result<(OwnedFd, SocketAddr), Errno>,
    ) {
        match made {
            Ok((file, at)) => {
                self.seat(socket, Conn::new(life, phase, Some(file)));
                self.tell(socket, Happening::Bound(at));
            }
            Err(error) => {
                self.refuse(socket, life, SocketEnd::of_bind(error.raw_os_error()));
            }
        }
    }

    fn connect(
        &mut self,
        socket: u32,
        life: u32,
        from: Option<SocketAddr>,
        to: SocketAddr,
        now: Time,
    ) {
        let file = match plain::stream(from, to, SocketFlags::NONBLOCK) {
            Ok(Ok(file)) => file,
            Ok(Err(error)) => {
                self.refuse(socket, life, SocketEnd::of_bind(error.raw_os_error()));
                return;
            }
            Err(error) => {
                self.refuse(socket, life, end_of(error));
                return;
            }
        };
        match net::connect(&file, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {
                self.seat(socket, Conn::new(life, Phase::Dialling, Some(file)));
                self.dials.push_back((now + DIAL_MAX, socket, life));
            }
            Err(error) => self.refuse(socket, life, end_of(error)),
        }
    }

    fn dialled(&mut self, socket: u32) {
        let conn = self.conn(socket);
        let result = conn.file.as_ref().map(sockopt::socket_error);
        match result {
            Some(Ok(Ok(()))) => {
                conn.phase = Phase::Open;
                conn.readable = true;
                self.tell(socket, Happening::Connected);
                self.list(socket);
                self.mark_dirty(socket);
            }
            Some(Ok(Err(error)) | Err(error)) => self.end(socket, end_of(error)),
            None => self.end(socket, SocketEnd::Other),
        }
    }

    // ---- out ----

    /// Sends what waits until it would block; then what was to be done when all is sent.
    fn pump(&mut self, socket: u32, net: &mut ShardNet) {
        let conn = &mut self.conns[socket as usize];
        conn.dirty = false;
        if conn.phase != Phase::Open || conn.blocked {
            return;
        }
        let mut sent = 0;
        let mut failed = None;
        if let (Some(file), Some(out)) = (&conn.file, &mut conn.out) {
            while let Some(result) = transmit(file, conn.datagrams, out) {
                match result {
                    Ok((n, room)) => {
                        net.stats.bytes_out += n as u64;
                        sent += room;
                    }
                    Err(Errno::INTR) => {}
                    Err(error) if would_block(error) => {
                        conn.blocked = true;
                        break;
                    }
                    Err(_) if conn.datagrams => {
                        sent += out.pass();
                        net.stats.datagrams_lost += 1;
                    }
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
        }
        if sent > 0 {
            self.tell(socket, Happening::Sent(sent as u32));
        }
        if let Some(error) = failed {
            self.end(socket, end_of(error));
        } else if self
            .conn(socket)
            .out
            .as_ref()
            .is_none_or(|out| out.is_empty())
        {
            if let Some(out) = self.conn(socket).out.take() {
                self.pool.give(out);
            }
            self.drained(socket);
        }
    }

    fn drained(&mut self, socket: u32) {
        let conn = self.conn(socket);
        if conn.leaving {
            self.close(socket, false);
        } else if conn.finishing && !std::mem::replace(&mut conn.finished, true) {
            if let Some(file) = &conn.file {
                let _ = net::shutdown(file, Shutdown::Write);
            }
            if conn.ended {
                self.end(socket, SocketEnd::Done);
            }
        }
    }

    // ---- in ----

    /// Reads one buffer, or accepts one connection.
    fn read(&mut self, socket: u32, net: &mut ShardNet, now: Time) -> Option<(u32, Pick)> {
        let conn = &mut self.conns[socket as usize];
        conn.listed = false;
        let file = conn.file.as_ref()?;
        if conn.phase == Phase::Listening {
            return self.accept(socket, net, now);
        }
        if conn.phase != Phase::Open || conn.paused {
            return None;
        }
        let got = if conn.datagrams {
            let got = net::recvfrom(file, &mut self.buffer[..], RecvFlags::TRUNC);
            got.map(|(_, len, from)| (len, from.and_then(|from| SocketAddr::try_from(from).ok())))
        } else {
            let got = net::recv(file, &mut self.buffer[..], RecvFlags::empty());
            got.map(|(_, len)| (len, None))
        };
        match got {
            Ok((0, _)) if !conn.datagrams => {
                conn.readable = false;
                // The host says so again with whatever else it says.
                if !std::mem::replace(&mut conn.ended, true) {
                    let finished = conn.finished;
                    self.tell(socket, Happening::PeerFinished);
                    if finished {
                        self.end(socket, SocketEnd::Done);
                    }
                }
                None
            }
            Ok((len, from)) => {
                let datagrams = conn.datagrams;
                self.list(socket);
                match from {
                    Some(from) if len <= READ_BYTES => Some((socket, Pick::Datagram(from, len))),
                    None if !datagrams => Some((socket, Pick::Bytes(len))),
                    _ => {
                        net.stats.datagrams_lost += 1;
                        None
                    }
                }
            }
            Err(error) if would_block(error) => {
                conn.readable = false;
                None
            }
            Err(error) if conn.datagrams || error == Errno::INTR => {
                net.stats.datagrams_lost += u64::from(error != Errno::INTR);
                self.list(socket);
                None
            }
            Err(error) => {
                self.end(socket, end_of(error));
                None
            }
        }
    }

    fn accept(&mut self, listener: u32, net: &mut ShardNet, now: Time) -> Option<(u32, Pick)> {
        let Some(spare) = net.spare() else {
            self.put_off(listener, SocketEnd::TableFull, net, now);
            return None;
        };
        let conn = &mut self.conns[listener as usize];
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let got = conn
            .file
            .as_ref()
            .map(|file| net::acceptfrom_with(file, flags));
        let (file, peer) = match got {
            Some(Ok((file, Some(peer)))) => (file, peer),
            Some(Err(error)) if error != Errno::INTR && error != Errno::CONNABORTED => {
                net.gone(spare);
                if would_block(error) {
                    conn.readable = false;
                } else {
                    self.put_off(listener, end_of(error), net, now);
                }
                return None;
            }
            _ => {
                net.gone(spare);
                self.list(listener);
                return None;
            }
        };
        self.list(listener);
        let Ok(peer) = SocketAddr::try_from(peer) else {
            net.gone(spare);
            return None;
        };
        let mut conn = Conn::new(net.life(spare), Phase::Open, Some(file));
        conn.readable = true;
        self.seat(spare, conn);
        self.list(spare);
        Some((spare, Pick::Plain(Happening::Accepted { listener, peer })))
    }

    /// There is no room for what a listener would accept; it looks again later.
    fn put_off(&mut self, listener: u32, end: SocketEnd, net: &mut ShardNet, now: Time) {
        net.stats.ends.count(end);
        let life = self.conn(listener).life;
        self.full.push_back((now + LISTEN_PAUSE, listener, life));
    }

    // ---- the end ----

    fn leave(&mut self, socket: u32, now: Time) {
        let conn = self.conn(socket);
        if conn.out.is_none() {
            self.close(socket, false);
            return;
        }
        conn.leaving = true;
        let life = conn.life;
        self.leaves.push_back((now + LEAVE_MAX, socket, life));
        self.mark_dirty(socket);
    }

    fn end(&mut self, socket: u32, end: SocketEnd) {
        self.tell(socket, Happening::Ended(end));
        self.close(socket, false);
    }

    fn close(&mut self, socket: u32, abrupt: bool) {
        let conn = self.conn(socket);
        if matches!(conn.phase, Phase::Free | Phase::Last) {
            return;
        }
        conn.phase = Phase::Last;
        if let Some(file) = conn.file.take()
            && abrupt
            && !conn.datagrams
        {
            // Closed all the same if it fails.
            let _ = sockopt::set_socket_linger(&file, Some(Duration::ZERO));
        }
        self.told.push_back((socket, Tell::Gone));
    }

    fn refuse(&mut self, socket: u32, life: u32, end: SocketEnd) {
        self.seat(socket, Conn::new(life, Phase::Open, None));
        self.end(socket, end);
    }

    fn gone(&mut self, socket: u32, net: &mut ShardNet) {
        let conn = self.conn(socket);
        conn.phase = Phase::Free;
        if let Some(out) = conn.out.take() {
            net.stats.bytes_dropped += out.len() as u64;
            self.pool.give(out);
        }
        net.gone(socket);
    }

    fn end_overdue(&mut self, now: Time) {
        while let Some((until, socket, life)) = self.dials.front().copied() {
            let dials = self
                .known(socket, life)
                .is_some_and(|c| c.phase == Phase::Dialling);
            if dials && until > now {
                break;
            }
            self.dials.pop_front();
            if dials {
                self.end(socket, SocketEnd::TimedOut);
            }
        }
        while let Some((until, socket, life)) = self.leaves.front().copied() {
            let leaves = self.known(socket, life).is_some();
            if leaves && until > now {
                break;
            }
            self.leaves.pop_front();
            if leaves {
                self.close(socket, true);
            }
        }
        while self.full.front().is_some_and(|entry| entry.0 <= now) {
            if let Some((_, listener, life)) = self.full.pop_front()
                && self.known(listener, life).is_some()
            {
                self.list(listener);
            }
        }
    }
}

/// Sends once; none if there is nothing to send. Bytes sent, and the room that they took.
fn transmit(
    file: &OwnedFd,
    datagrams: bool,
    out: &mut Outgoing,
) -> Option<Result<(usize, usize), Errno>> {
    let flags = SendFlags::NOSIGNAL;
    if !datagrams {
        let bytes = out.stream();
        if bytes.is_empty() {
            return None;
        }
        let sent = net::send(file, bytes, flags);
        if let Ok(n) = sent {
            out.advance(n);
        }
        return Some(sent.map(|n| (n, n)));
    }
    let (bytes, to) = out.datagram()?;
    let sent = match to.and_then(super::name::Name::address) {
        Some(to) => net::sendto(file, bytes, flags, &to),
        None => net::send(file, bytes, flags),
    };
    Some(sent.map(|n| (n, out.pass())))
}

impl Engine for PollNet {
    fn obey(&mut self, net: &mut ShardNet, now: Time) -> io::Result<()> {
        if net.has_asks() {
            let (mut asks, bytes) = net.asked();
            for ask in asks.drain(..) {
                self.act(ask, &bytes, now);
            }
            net.settled(asks, bytes);
        }
        self.end_overdue(now);
        for index in 0..self.dirty.len() {
            self.pump(self.dirty[index], net);
        }
        self.dirty.clear();
        Ok(())
    }

    fn next<'e>(&'e mut self, net: &mut ShardNet, now: Time) -> Option<Told<'e>> {
        let (socket, pick) = loop {
            match self.told.pop_front() {
                Some((socket, Tell::Happening(what))) => break (socket, Pick::Plain(what)),
                Some((socket, Tell::Gone)) => {
                    self.gone(socket, net);
                    continue;
                }
                None => {}
            }
            let socket = self.readable.pop_front()?;
            if let Some(pick) = self.read(socket, net, now) {
                break pick;
            }
        };
        let what = match pick {
            Pick::Plain(what) => what,
            Pick::Bytes(len) => Happening::Received(&self.buffer[..len]),
            Pick::Datagram(from, len) => Happening::Datagram(from, &self.buffer[..len]),
        };
        Some(Told { socket, what })
    }

    fn has_next(&mut self) -> bool {
        !self.told.is_empty() || !self.readable.is_empty() || !self.dirty.is_empty()
    }

    fn due(&self) -> Option<Time> {
        let first = |list: &VecDeque<(Time, u32, u32)>| list.front().map(|entry| entry.0);
        earlier(
            earlier(first(&self.dials), first(&self.leaves)),
            first(&self.full),
        )
    }
}

#[cfg(test)]
#[path = "poll/tests.rs"]
mod tests;
