//! The network of simulated shards: virtual time, constant latency, nothing lost, order kept.
//!
//! What cells ask within one instant is taken in the order of their populations and ordinals, and
//! what happens is told in the order of time and asking, so that the number of shards changes
//! nothing. (A listener deals to cells of its own slab: [`Accept::Cells`](super::Accept::Cells)
//! does depend on where these are.) Addresses are names only. A stream without a listener is
//! refused after a round trip; a cell that faults resets its streams. Bounds: [`WINDOW`] bytes on
//! their way in one direction of a stream; the queues of the sockets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::engine::{Ask, Happening, Told, What};
use super::outgoing::datagram_room;
use super::socket::SocketEnd;
use super::table::ShardNet;
use super::{LEAVE_MAX, SharedNet};
use crate::clock::Time;

/// One way, from any cell to any other.
const LATENCY: Duration = Duration::from_micros(100);

/// Bytes on their way in one direction, those that a paused reader has not read included.
const WINDOW: usize = 65_536;

/// Ports that the network chooses from, as hosts do.
const PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// A socket of one shard, in one life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Side {
    shard: usize,
    socket: u32,
    life: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Proto {
    Tcp,
    Udp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A stream that called, or was accepted.
    Caller,
    Callee,
    Listener,
    Datagrams,
}

/// What the network knows of a socket.
#[derive(Debug)]
struct End {
    kind: Kind,
    local: SocketAddr,
    /// Whom it talks to; of datagrams the only one it hears.
    remote: Option<SocketAddr>,
    /// The other end, once connected.
    peer: Option<Side>,
    /// Not sent yet, and sent but not taken by the peer.
    out: VecDeque<u8>,
    in_flight: usize,
    /// Come while it was paused.
    unread: Vec<u8>,
    paused: bool,
    finishing: bool,
    finished: bool,
    /// The peer sends no more, and whether that is told.
    peer_finished: bool,
    told_finished: bool,
    leaving: bool,
}

impl End {
    const fn new(kind: Kind, local: SocketAddr, remote: Option<SocketAddr>) -> Self {
        Self {
            kind,
            local,
            remote,
            peer: None,
            out: VecDeque::new(),
            in_flight: 0,
            unread: Vec::new(),
            paused: false,
            finishing: false,
            finished: false,
            peer_finished: false,
            told_finished: false,
            leaving: false,
        }
    }
}

/// Something that happens at its time.
enum Event {
    Tell(Side, Happening<'static>),
    Call {
        from: Side,
        to: SocketAddr,
    },
    Answer {
        to: Side,
        by: Side,
    },
    Bytes {
        to: Side,
        from: Side,
        bytes: Vec<u8>,
    },
    /// The peer has taken so many bytes.
    Taken(Side, usize),
    Finished(Side),
    Reset(Side),
    Datagram {
        to: SocketAddr,
        from: SocketAddr,
        by: usize,
        bytes: Vec<u8>,
    },
    /// A socket that was closed has not got rid of its bytes.
    Overdue(Side),
    Gone(Side),
}

/// Listeners at one address, which take turns.
#[derive(Default)]
struct Listeners {
    sides: Vec<Side>,
    turn: usize,
}

/// The network between simulated shards.
#[derive(Default)]
pub(crate) struct SimNet {
    ends: BTreeMap<Side, End>,
    listeners: BTreeMap<SocketAddr, Listeners>,
    datagrams: BTreeMap<SocketAddr, Side>,
    /// Addresses of streams that call and of datagram sockets, apart.
    used: BTreeSet<(Proto, SocketAddr)>,
    ports: BTreeMap<IpAddr, u16>,
    events: BTreeMap<(Time, u64), Event>,
    count: u64,
}

impl SimNet {
    /// When something happens next.
    pub(crate) fn due(&self) -> Option<Time> {
        self.events.first_key_value().map(|(key, _)| key.0)
    }

    fn at(&mut self, when: Time, event: Event) {
        self.count += 1;
        self.events.insert((when, self.count), event);
    }

    fn later(&mut self, now: Time, event: Event) {
        self.at(now + LATENCY, event);
    }

    // ---- what cells ask ----

    /// Takes what the cells of all shards have asked in this instant.
    pub(crate) fn obey(&mut self, shards: &[SharedNet], now: Time) {
        let mut asked = Vec::new();
        for (shard, net) in shards.iter().enumerate() {
            let mut net = net.lock();
            if net.has_asks() {
                let (asks, bytes) = net.asked();
                let bytes = std::rc::Rc::new(bytes);
                asked.extend(asks.into_iter().map(|ask| (shard, ask, bytes.clone())));
            }
        }
        asked.sort_by_key(|(_, ask, _)| (ask.rank, ask.ordinal));
        for (shard, ask, bytes) in asked {
            let mut net = shards[shard].lock();
            self.act(shard, ask, &bytes, &mut net, now);
        }
    }

    fn act(&mut self, shard: usize, ask: Ask, bytes: &[u8], net: &mut ShardNet, now: Time) {
        let Ask { socket, life, .. } = ask;
        let side = Side {
            shard,
            socket,
            life,
        };
        match ask.what {
            What::Connect { local, peer } => self.connect(side, local, peer, now),
            What::Listen { at, shared } => self.listen(side, at, shared, now),
            What::Datagrams { at, peer } => self.bind(side, at, peer, now),
            what => self.tune(side, what, bytes, net, now),
        }
    }

    fn tune(&mut self, side: Side, what: What, bytes: &[u8], net: &mut ShardNet, now: Time) {
        let Some(end) = self.ends.get_mut(&side) else {
            return;
        };
        match what {
            What::Write(range) => {
                end.out.extend(&bytes[range]);
                self.pump(side, net, now);
            }
            What::WriteTo(to, range) => {
                let (from, to) = (end.local, to.or(end.remote));
                let bytes = bytes[range].to_vec();
                net.stats.bytes_out += bytes.len() as u64;
                let room = datagram_room(bytes.len()) as u32;
                self.at(now, Event::Tell(side, Happening::Sent(room)));
                match to {
                    Some(to) => self.later(
                        now,
                        Event::Datagram {
                            to,
                            from,
                            by: side.shard,
                            bytes,
                        },
                    ),
                    None => net.stats.datagrams_lost += 1,
                }
            }
            What::Pause => end.paused = true,
            What::Resume => {
                end.paused = false;
                self.read(side, now);
            }
            What::Finish => {
                end.finishing = true;
                self.pump(side, net, now);
            }
            What::Close => {
                end.leaving = true;
                if !end.out.is_empty() {
                    self.at(now + LEAVE_MAX, Event::Overdue(side));
                }
                self.pump(side, net, now);
            }
            What::Reset => self.abort(side, net, now),
            What::Connect { .. } | What::Listen { .. } | What::Datagrams { .. } => {}
        }
    }

    /// An address, with a port that nobody uses if it has none.
    fn name(&mut self, proto: Proto, at: SocketAddr) -> Option<SocketAddr> {
        if at.port() != 0 {
            return Some(at);
        }
        let next = self.ports.entry(at.ip()).or_insert(*PORTS.start());
        for _ in PORTS {
            let port = *next;
            *next = if port == *PORTS.end() {
                *PORTS.start()
            } else {
                port + 1
            };
            let name = SocketAddr::new(at.ip(), port);
            if !self.used.contains(&(proto, name)) && !self.listeners.contains_key(&name) {
                return Some(name);
            }
        }
        None
    }

    fn refuse(&mut self, side: Side, end: SocketEnd, now: Time) {
        self.at(now, Event::Tell(side, Happening::Ended(end)));
        self.at(now, Event::Gone(side));
    }

    fn connect(&mut self, side: Side, local: Option<SocketAddr>, to: SocketAddr, now: Time) {
        let local = local.unwrap_or_else(|| SocketAddr::new(to.ip(), 0));
        let Some(name) = self.name(Proto::Tcp, local) else {
            self.refuse(side, SocketEnd::NoPorts, now);
            return;
        };
        if !self.used.insert((Proto::Tcp, name)) {
            self.refuse(side, SocketEnd::BadAddress, now);
            return;
        }
        self.ends
            .insert(side, End::new(Kind::Caller, name, Some(to)));
        self.later(now, Event::Call { from: side, to });
    }

    fn listen(&mut self, side: Side, at: SocketAddr, shared: bool, now: Time) {
        let name = self.name(Proto::Tcp, at);
        let name = name.filter(|name| shared || !self.listeners.contains_key(name));
        let Some(name) = name else {
            self.refuse(side, SocketEnd::BadAddress, now);
            return;
        };
        self.listeners.entry(name).or_default().sides.push(side);
        self.ends.insert(side, End::new(Kind::Listener, name, None));
        self.at(now, Event::Tell(side, Happening::Bound(name)));
    }

    fn bind(&mut self, side: Side, at: SocketAddr, peer: Option<SocketAddr>, now: Time) {
        let name = self.name(Proto::Udp, at);
        let name = name.filter(|name| self.used.insert((Proto::Udp, *name)));
        let Some(name) = name else {
            self.refuse(side, SocketEnd::BadAddress, now);
            return;
        };
        self.datagrams.insert(name, side);
        self.ends
            .insert(side, End::new(Kind::Datagrams, name, peer));
        self.at(now, Event::Tell(side, Happening::Bound(name)));
    }

    // ---- streams ----

    /// Sends what the window has room for; then what was to be done when all is sent.
    fn pump(&mut self, side: Side, net: &mut ShardNet, now: Time) {
        let Some(end) = self.ends.get_mut(&side) else {
            return;
        };
        let Some(peer) = end.peer else {
            // Not connected yet; what has nothing to wait for ends now.
            if end.leaving && end.out.is_empty() {
                self.remove(side, now);
            }
            return;
        };
        let n = end.out.len().min(WINDOW - end.in_flight);
        let bytes: Vec<u8> = end.out.drain(..n).collect();
        end.in_flight += n;
        let empty = end.out.is_empty();
        let finish = empty && (end.finishing || end.leaving) && !end.finished;
        end.finished |= finish;
        let (leaves, done) = (empty && end.leaving, finish && end.told_finished);
        if n > 0 {
            net.stats.bytes_out += n as u64;
            self.at(now, Event::Tell(side, Happening::Sent(n as u32)));
            let from = side;
            self.later(
                now,
                Event::Bytes {
                    to: peer,
                    from,
                    bytes,
                },
            );
        }
        if finish {
            self.later(now, Event::Finished(peer));
        }
        if leaves {
            self.remove(side, now);
        } else if done {
            self.end(side, SocketEnd::Done, now);
        }
    }

    /// Tells a reader that is not paused what has come.
    fn read(&mut self, side: Side, now: Time) {
        let Some(end) = self.ends.get_mut(&side).filter(|end| !end.paused) else {
            return;
        };
        let bytes = std::mem::take(&mut end.unread);
        if let Some(from) = end.peer.filter(|_| !bytes.is_empty()) {
            let (to, finished) = (side, end.peer_finished);
            self.at(now, Event::Bytes { to, from, bytes });
            if finished {
                // Told after them, also if the reader pauses again before it hears them.
                self.at(now, Event::Finished(side));
            }
            return;
        }
        let finished = end.peer_finished && !std::mem::replace(&mut end.told_finished, true);
        let done = finished && end.finished;
        if finished {
            self.at(now, Event::Tell(side, Happening::PeerFinished));
        }
        if done {
            self.end(side, SocketEnd::Done, now);
        }
    }

    /// A socket ends by itself.
    fn end(&mut self, side: Side, end: SocketEnd, now: Time) {
        self.at(now, Event::Tell(side, Happening::Ended(end)));
        self.remove(side, now);
    }

    /// Takes a socket off the network.
    fn remove(&mut self, side: Side, now: Time) {
        let Some(end) = self.ends.remove(&side) else {
            return;
        };
        match end.kind {
            Kind::Listener => {
                if let Some(listeners) = self.listeners.get_mut(&end.local) {
                    listeners.sides.retain(|other| *other != side);
                    if listeners.sides.is_empty() {
                        self.listeners.remove(&end.local);
                    }
                }
            }
            Kind::Datagrams => {
                self.datagrams.remove(&end.local);
                self.used.remove(&(Proto::Udp, end.local));
            }
            Kind::Callee => {}
            Kind::Caller => {
                self.used.remove(&(Proto::Tcp, end.local));
            }
        }
        self.at(now, Event::Gone(side));
    }

    /// Closes a socket at once; its peer is told by a reset.
    fn abort(&mut self, side: Side, net: &mut ShardNet, now: Time) {
        if let Some(end) = self.ends.get(&side) {
            net.stats.bytes_dropped += end.out.len() as u64;
            if let Some(peer) = end.peer {
                self.later(now, Event::Reset(peer));
            }
        }
        self.remove(side, now);
    }

    // ---- what happens ----

    /// Lets everything happen that is due; `tell` tells the cells of a shard.
    pub(crate) fn run(
        &mut self,
        shards: &[SharedNet],
        now: Time,
        mut tell: impl FnMut(usize, Told<'_>),
    ) {
        while self.due().is_some_and(|due| due <= now) {
            let Some((_, event)) = self.events.pop_first() else {
                break;
            };
            self.happen(shards, event, now, &mut tell);
        }
    }

    fn happen(
        &mut self,
        shards: &[SharedNet],
        event: Event,
        now: Time,
        tell: &mut impl FnMut(usize, Told<'_>),
    ) {
        match event {
            Event::Tell(side, what) => {
                if shards[side.shard].lock().life(side.socket) == side.life {
                    let socket = side.socket;
                    tell(side.shard, Told { socket, what });
                }
            }
            Event::Call { from, to } => self.call(shards, from, to, now, tell),
            Event::Answer { to, by } => match self.ends.get_mut(&to) {
                Some(end) => {
                    end.peer = Some(by);
                    let (socket, what) = (to.socket, Happening::Connected);
                    tell(to.shard, Told { socket, what });
                    self.pump(to, &mut shards[to.shard].lock(), now);
                }
                None => self.later(now, Event::Reset(by)),
            },
            Event::Bytes { to, from, bytes } => match self.ends.get_mut(&to) {
                Some(end) if end.paused => end.unread.extend(bytes),
                Some(_) => {
                    self.later(now, Event::Taken(from, bytes.len()));
                    let (socket, what) = (to.socket, Happening::Received(&bytes));
                    tell(to.shard, Told { socket, what });
                }
                None => self.later(now, Event::Reset(from)),
            },
            Event::Taken(side, n) => {
                if let Some(end) = self.ends.get_mut(&side) {
                    end.in_flight -= n;
                    self.pump(side, &mut shards[side.shard].lock(), now);
                }
            }
            Event::Finished(side) => {
                if let Some(end) = self.ends.get_mut(&side) {
                    end.peer_finished = true;
                    self.read(side, now);
                }
            }
            Event::Reset(side) => {
                if self.ends.contains_key(&side) {
                    self.end(side, SocketEnd::Reset, now);
                }
            }
            Event::Datagram {
                to,
                from,
                by,
                bytes,
            } => self.deliver(shards, (to, from), by, &bytes, tell),
            Event::Overdue(side) => self.abort(side, &mut shards[side.shard].lock(), now),
            Event::Gone(side) => shards[side.shard].lock().gone(side.socket),
        }
    }

    /// A call reaches the address: a listener there has a connection more.
    fn call(
        &mut self,
        shards: &[SharedNet],
        from: Side,
        to: SocketAddr,
        now: Time,
        tell: &mut impl FnMut(usize, Told<'_>),
    ) {
        let Some(caller) = self.ends.get(&from).map(|end| end.local) else {
            return;
        };
        let any: IpAddr = match to {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let at = [to, SocketAddr::new(any, to.port())];
        let at = at.iter().find(|at| self.listeners.contains_key(at));
        let listener = at.and_then(|at| self.listeners.get_mut(at)).map(|at| {
            at.turn = (at.turn + 1) % at.sides.len();
            at.sides[at.turn]
        });
        let spare = listener.and_then(|listener| {
            let mut net = shards[listener.shard].lock();
            let socket = net.spare()?;
            let life = net.life(socket);
            Some((listener, socket, life))
        });
        let Some((listener, socket, life)) = spare else {
            self.later(now, Event::Tell(from, Happening::Ended(SocketEnd::Refused)));
            self.ends.remove(&from);
            self.used.remove(&(Proto::Tcp, caller));
            self.later(now, Event::Gone(from));
            return;
        };
        let side = Side {
            shard: listener.shard,
            socket,
            life,
        };
        let mut end = End::new(Kind::Callee, to, Some(caller));
        end.peer = Some(from);
        self.ends.insert(side, end);
        self.later(now, Event::Answer { to: from, by: side });
        let what = Happening::Accepted {
            listener: listener.socket,
            peer: caller,
        };
        tell(listener.shard, Told { socket, what });
    }

    fn deliver(
        &mut self,
        shards: &[SharedNet],
        (to, from): (SocketAddr, SocketAddr),
        by: usize,
        bytes: &[u8],
        tell: &mut impl FnMut(usize, Told<'_>),
    ) {
        let side = self.datagrams.get(&to).copied();
        let hears = |side: &Side| {
            let remote = self.ends.get(side).and_then(|end| end.remote);
            remote.is_none_or(|remote| remote == from)
        };
        match side.filter(hears) {
            Some(side) => {
                let (socket, what) = (side.socket, Happening::Datagram(from, bytes));
                tell(side.shard, Told { socket, what });
            }
            None => shards[by].lock().stats.datagrams_lost += 1,
        }
    }
}
