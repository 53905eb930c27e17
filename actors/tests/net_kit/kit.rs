//! A cell that does what it is told with sockets and writes down what it hears.
//!
//! Not a test by itself. Bound: that of the shard's kit.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use actorsim_actors::shard::{
    Accept, Backend, NetConfig, NetStats, ShardConfig, SlabHandle, SlabSpec, SocketEnd,
    SocketEvent, SocketId,
};
use actorsim_actors::{
    ActorPath, Cell, CellContext, Clock, Fault, Flow, MailboxSpec, Message, Overflow, Reply,
};
use parking_lot::Mutex;

use crate::kit::{Host, Script, Threads, Virtual, forgiving};

/// What a cell has heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Bound(SocketAddr),
    Connected,
    Accepted(SocketAddr),
    Bytes(Vec<u8>),
    Datagram(SocketAddr, Vec<u8>),
    Writable,
    PeerFinished,
    Ended(SocketEnd),
}

/// Everything heard: ordinal, incarnation, socket, what.
pub(crate) type Log = Arc<Mutex<Vec<(u32, u32, SocketId, Seen)>>>;

/// What a talker does by itself.
#[derive(Default)]
pub(crate) struct Rules {
    /// Where it connects when it starts.
    pub(crate) dials: Option<SocketAddr>,
}

/// A talker's answer to what it hears.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    #[default]
    Hears,
    /// Says back what it receives, and finishes when its peer does.
    Echoes,
    /// Writes an answer, then faults in the same step.
    Faults,
    /// Counts bytes only.
    Counts,
}

pub(crate) struct Shared {
    pub(crate) log: Log,
    pub(crate) rules: Mutex<Rules>,
    /// Bytes received by those that count, and the sum that tells their order.
    pub(crate) counted: Mutex<(u64, u64)>,
    /// How much was heard, and for how many looks that has not changed.
    pub(crate) quiet: Mutex<(usize, u32)>,
}

pub(crate) fn shared(rules: Rules) -> Arc<Shared> {
    Arc::new(Shared {
        log: Log::default(),
        rules: Mutex::new(rules),
        counted: Mutex::default(),
        quiet: Mutex::default(),
    })
}

pub(crate) struct Talker {
    pub(crate) manner: Manner,
    pub(crate) sockets: Vec<SocketId>,
    /// Bytes left to be written as there is room.
    pub(crate) flood: BTreeMap<SocketId, usize>,
}

pub(crate) type Context<'a> = CellContext<'a, Talker>;
type Order = Box<dyn FnOnce(&mut Talker, &mut Context<'_>) -> Result<Flow, Fault> + Send>;

/// An order.
pub(crate) struct Do(Order);

impl Message for Do {}

/// Byte number `n` of a flood.
pub(crate) const fn byte(n: usize) -> u8 {
    (n % 251) as u8
}

impl Talker {
    /// The one socket it has.
    pub(crate) fn last(&self) -> SocketId {
        *self.sockets.last().unwrap()
    }

    /// Writes what is left of a flood until there is no room.
    pub(crate) fn pour(&mut self, socket: SocketId, cx: &mut Context<'_>) {
        const BLOCK: usize = 16_000;
        let total = FLOOD;
        let left = self.flood.entry(socket).or_insert(total);
        while *left > 0 {
            let begin = total - *left;
            let n = BLOCK.min(*left);
            let block: Vec<u8> = (begin..begin + n).map(byte).collect();
            if cx.net().write(socket, &block).is_err() {
                break;
            }
            *left -= n;
        }
    }
}

/// Bytes of a flood: more than the host's buffers hold.
pub(crate) const FLOOD: usize = 12 << 20;

impl Cell for Talker {
    type Msg = Do;
    type Shared = Arc<Shared>;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut Context<'_>) -> Result<Self, Fault> {
        let mut sockets = Vec::new();
        let dials = cx.shared.rules.lock().dials;
        if let Some(peer) = dials.filter(|_| cx.ordinal == 1) {
            sockets.push(cx.net().connect(peer).unwrap());
        }
        Ok(Self {
            manner: Manner::default(),
            sockets,
            flood: BTreeMap::new(),
        })
    }

    fn handle(&mut self, order: Do, cx: &mut Context<'_>) -> Result<Flow, Fault> {
        (order.0)(self, cx)
    }

    fn timer(&mut self, _: u8, _: &mut Context<'_>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }

    fn socket(
        &mut self,
        socket: SocketId,
        event: SocketEvent<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Flow, Fault> {
        let seen = match event {
            SocketEvent::Bound(at) => Seen::Bound(at),
            SocketEvent::Connected => Seen::Connected,
            SocketEvent::Accepted { peer, .. } => {
                self.sockets.push(socket);
                Seen::Accepted(peer)
            }
            SocketEvent::Received(bytes) => {
                assert!(!bytes.is_empty());
                match self.manner {
                    Manner::Hears => {}
                    Manner::Echoes => cx.net().write(socket, bytes).unwrap(),
                    Manner::Faults => {
                        cx.net().write(socket, b"never sent").unwrap();
                        return Err(Fault::new("told_to"));
                    }
                    Manner::Counts => {
                        let mut counted = cx.shared.counted.lock();
                        for given in bytes {
                            assert_eq!(*given, byte(counted.0 as usize), "out of order");
                            counted.0 += 1;
                        }
                        return Ok(Flow::Continue);
                    }
                }
                Seen::Bytes(bytes.to_vec())
            }
            SocketEvent::Datagram { from, bytes } => {
                if self.manner == Manner::Echoes {
                    cx.net().write_to(socket, from, bytes).unwrap();
                }
                Seen::Datagram(from, bytes.to_vec())
            }
            SocketEvent::Writable => {
                self.pour(socket, cx);
                Seen::Writable
            }
            SocketEvent::PeerFinished => {
                if self.manner == Manner::Echoes {
                    cx.net().finish(socket);
                }
                Seen::PeerFinished
            }
            SocketEvent::Ended(why) => {
                self.sockets.retain(|s| *s != socket);
                Seen::Ended(why)
            }
            _ => return Ok(Flow::Continue),
        };
        let entry = (cx.ordinal, cx.incarnation.0, socket, seen);
        cx.shared.log.lock().push(entry);
        Ok(Flow::Continue)
    }
}

/// An order to do something.
pub(crate) fn order(run: impl FnOnce(&mut Talker, &mut Context<'_>) + Send + 'static) -> Do {
    Do(Box::new(move |talker, cx| {
        run(talker, cx);
        Ok(Flow::Continue)
    }))
}

/// Talkers with these numbers.
pub(crate) fn spec(shared: &Arc<Shared>, ordinals: Vec<Range<u32>>) -> SlabSpec<Talker> {
    SlabSpec {
        path: ActorPath::new("/fleet/talkers").unwrap(),
        name: Arc::new(|ordinal| format!("talker-{ordinal:04}")),
        ordinals,
        shared: Arc::clone(shared),
        out: (),
        identity: Box::new(|_| ()),
        mailbox: MailboxSpec::new(64, Overflow::Reject),
        supervisor: Box::new(Script(forgiving())),
    }
}

/// Talkers on the first shard of a host.
pub(crate) struct Stage<H: Host> {
    pub(crate) host: H,
    pub(crate) slab: SlabHandle<Talker>,
    pub(crate) shared: Arc<Shared>,
}

impl<H: Host> Stage<H> {
    pub(crate) fn new(mut host: H, rules: Rules) -> Self {
        let shared = shared(rules);
        let slab = host
            .shard()
            .add_slab(spec(&shared, std::iter::once(0..64).collect()))
            .unwrap();
        host.until(|| slab.counts().running == 64);
        Self { host, slab, shared }
    }

    /// Has a cell do something; returns what that gives.
    pub(crate) fn tell<R: Send + 'static>(
        &mut self,
        ordinal: u32,
        order: impl FnOnce(&mut Talker, &mut Context<'_>) -> R + Send + 'static,
    ) -> R {
        let (reply, answer) = Reply::channel();
        let order: Order = Box::new(move |talker, cx| {
            reply.send(order(talker, cx));
            Ok(Flow::Continue)
        });
        assert!(self.slab.send(ordinal, Do(order)).is_ok());
        self.host.answer(answer).unwrap()
    }

    /// Has a cell do something and fault.
    pub(crate) fn tell_and_fault(
        &mut self,
        ordinal: u32,
        order: impl FnOnce(&mut Talker, &mut Context<'_>) + Send + 'static,
    ) {
        let faults = self.slab.counts().faults;
        let order: Order = Box::new(move |talker, cx| {
            order(talker, cx);
            Err(Fault::new("told_to"))
        });
        assert!(self.slab.send(ordinal, Do(order)).is_ok());
        let slab = self.slab.clone();
        self.host
            .until(|| slab.counts().faults > faults && slab.counts().running == 64);
    }

    /// Cell 0 listens, and does so in its manner; where.
    pub(crate) fn listen(&mut self, manner: Manner, accept: Accept) -> SocketAddr {
        self.tell(0, move |talker, cx| {
            talker.manner = manner;
            let at = SocketAddr::from(([127, 0, 0, 1], 0));
            cx.net().listen(at, accept).unwrap();
        });
        self.bound(0)
    }

    /// Where a cell's socket is that has just been asked for.
    pub(crate) fn bound(&mut self, ordinal: u32) -> SocketAddr {
        let found = self.until_seen(ordinal, |seen| matches!(seen, Seen::Bound(_)));
        match found {
            Seen::Bound(at) => at,
            _ => unreachable!(),
        }
    }

    pub(crate) fn connect(&mut self, ordinal: u32, peer: SocketAddr) -> SocketId {
        self.tell(ordinal, move |talker, cx| {
            let socket = cx.net().connect(peer).unwrap();
            talker.sockets.push(socket);
            socket
        })
    }

    pub(crate) fn write(&mut self, ordinal: u32, bytes: &'static [u8]) {
        self.tell(ordinal, move |talker, cx| {
            cx.net().write(talker.last(), bytes).unwrap();
        });
    }

    /// Waits until a cell has heard such a thing.
    pub(crate) fn until_seen(&mut self, ordinal: u32, like: impl Fn(&Seen) -> bool) -> Seen {
        let log = Arc::clone(&self.shared.log);
        let mut found = None;
        self.host.until(|| {
            let log = log.lock();
            let entry = log.iter().find(|e| e.0 == ordinal && like(&e.3));
            found = entry.map(|e| e.3.clone());
            found.is_some()
        });
        found.unwrap()
    }

    /// Bytes that a cell has received, all of them.
    pub(crate) fn received(&self, ordinal: u32) -> Vec<u8> {
        let log = self.shared.log.lock();
        let bytes = log.iter().filter(|e| e.0 == ordinal).filter_map(|e| {
            let Seen::Bytes(bytes) = &e.3 else {
                return None;
            };
            Some(bytes.clone())
        });
        bytes.flatten().collect()
    }

    pub(crate) fn until_received(&mut self, ordinal: u32, bytes: &[u8]) {
        let log = Arc::clone(&self.shared.log);
        self.host.until(|| {
            let n: usize = log
                .lock()
                .iter()
                .filter(|e| e.0 == ordinal)
                .map(|e| match &e.3 {
                    Seen::Bytes(bytes) => bytes.len(),
                    _ => 0,
                })
                .sum();
            n >= bytes.len()
        });
        assert_eq!(self.received(ordinal), bytes);
    }

    pub(crate) fn heard(&self, ordinal: u32, seen: &Seen) -> bool {
        let log = self.shared.log.lock();
        log.iter().any(|e| e.0 == ordinal && e.3 == *seen)
    }

    pub(crate) fn stats(&self) -> NetStats {
        self.host.shard().stats().net
    }

    /// Waits until so many sockets are alive.
    pub(crate) fn until_alive(&mut self, sockets: u64) {
        let shard = self.host.shard();
        self.host.until(|| shard.stats().net.alive() == sockets);
        assert!(self.stats().balanced(), "{:?}", self.stats());
    }

    /// Stops the host: no socket is left, and the books balance.
    pub(crate) fn stop(self) -> NetStats {
        let shard = self.host.shard();
        self.host.stop();
        let stats = shard.stats().net;
        assert!(stats.balanced() && stats.alive() == 0, "{stats:?}");
        assert_eq!(stats.strays, 0, "{stats:?}");
        stats
    }
}

/// One parked thread with sockets of these sizes.
pub(crate) fn parked(net: NetConfig) -> Option<Threads> {
    let config = ShardConfig {
        shards: 1,
        backend: Backend::Portable,
        net,
        ..ShardConfig::default()
    };
    Some(Threads::start(Clock::wall(), &config).unwrap())
}

/// One parked thread that gets a ring with its first socket, where the kernel has one.
pub(crate) fn late(net: NetConfig) -> Option<Threads> {
    let config = ShardConfig {
        net,
        ..ShardConfig::default()
    };
    Some(Threads::late(1, config))
}

/// One ring; none where the kernel refuses.
pub(crate) fn ring(net: NetConfig) -> Option<Threads> {
    Threads::rings(
        1,
        ShardConfig {
            net,
            ..ShardConfig::default()
        },
    )
}

/// Virtual time.
pub(crate) fn simulated(net: NetConfig) -> Option<Virtual> {
    let mut host = Virtual::new(1);
    host.shards.size_net(net);
    Some(host)
}
