//! Where datagrams travel: the kernel's UDP, the same over a worse line, or a network in memory on
//! virtual time.
//!
//! The simulated network carries the packets of real QUIC endpoints between sockets of one
//! process. Each packet takes [`LATENCY`]; faults of a chaos plan act on the packets of a line (one
//! dialling link), by draws from the network's seed. Given the same packets it does the same.
//! Bound: [`QUEUE_MAX`] packets on their way to one socket; more are lost, as on a real line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future as _;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actorsim_supervision::chaos::{Fault, FaultPlan, Way, draw};
use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::endpoint::FRAME_ETHERNET;

/// From one socket to another.
pub const LATENCY: Duration = Duration::from_millis(1);
/// Packets on their way to one socket at most: 90 MiB; a receiver that far behind has lost them.
pub const QUEUE_MAX: usize = 65_536;
/// Packets that one send may carry.
const SEGMENTS_MAX: usize = 16;
/// Resolution of shares.
const SHARES: u64 = 1 << 32;
/// First port of dialling sockets.
const PORT_FIRST: u16 = 20_000;

/// Where datagrams travel.
#[derive(Clone, Debug, Default)]
pub enum Network {
    /// Over the kernel's sockets.
    #[default]
    Udp,
    /// Over the kernel's sockets, and as if over this line.
    Line(Line),
    /// In memory, on virtual time.
    Simulated(SimNet),
}

/// A line that is not as good as the machine's own: for measurements without privileges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Bytes of a frame's QUIC packet at most.
    pub frame_max: u16,
    /// What packets take longer on their way to an endpoint; a timer's resolution more.
    pub delay: Duration,
    /// Share of packets that do not get to an endpoint, 0 to 1.
    pub loss: f64,
    /// Draws which.
    pub seed: u64,
}

impl Line {
    /// Ethernet between two machines: nothing is lost or late.
    pub const ETHERNET: Self = Self {
        frame_max: FRAME_ETHERNET,
        delay: Duration::ZERO,
        loss: 0.0,
        seed: 0,
    };

    /// Whether packets are lost or late.
    pub(crate) fn is_faulty(&self) -> bool {
        self.loss > 0.0 || !self.delay.is_zero()
    }
}

impl Network {
    /// The same for line `line`.
    #[must_use]
    pub fn line(&self, line: u32) -> Self {
        match self {
            Self::Udp => Self::Udp,
            Self::Line(of) => Self::Line(Line {
                seed: of.seed.wrapping_add(1 + u64::from(line)),
                ..*of
            }),
            Self::Simulated(net) => Self::Simulated(SimNet {
                line,
                ..net.clone()
            }),
        }
    }

    /// Whether no packet leaves the process.
    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self, Self::Simulated(_))
    }
}

/// A network in memory; clones are the same network.
#[derive(Clone)]
pub struct SimNet {
    state: Arc<Mutex<State>>,
    line: u32,
}

impl fmt::Debug for SimNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimNet(line {})", self.line)
    }
}

#[derive(Default)]
struct State {
    seed: u64,
    /// Packets sent so far: the number of the next one.
    packets: u64,
    sockets: u32,
    hosts: BTreeMap<SocketAddr, Host>,
    /// Which line a dialling socket is of.
    lines: BTreeMap<SocketAddr, u32>,
    rules: BTreeMap<StrikeKey, Rule>,
    lost: u64,
}

/// What waits at one socket.
#[derive(Default)]
struct Host {
    queue: BTreeMap<(tokio::time::Instant, u64), Packet>,
    reader: Option<Waker>,
}

struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Box<[u8]>,
}

/// Number of a strike, and of its part.
pub type StrikeKey = (u64, u32);

/// A fault on one line, or on all, by its strike.
struct Rule {
    line: Option<u32>,
    fault: FaultPlan,
    held: Vec<Packet>,
}

/// What a fault does to one packet.
enum Verdict {
    Pass,
    Lose,
    Hold,
    Twice,
    Late(Duration),
}

impl Rule {
    fn verdict(&self, seed: u64, number: u64, packet: u64, up: bool) -> Verdict {
        let plan = &self.fault;
        let way = match plan.way {
            Way::Both => true,
            Way::Up => up,
            Way::Down => !up,
        };
        let drawn = || draw::below(seed ^ number, packet, 0, SHARES);
        let hit = || (drawn() as f64) < plan.share * SHARES as f64;
        match plan.fault {
            Fault::Partition if way => Verdict::Lose,
            Fault::Clog | Fault::Swizzle if way => Verdict::Hold,
            Fault::DropMsg if hit() => Verdict::Lose,
            Fault::DupMsg if hit() => Verdict::Twice,
            Fault::DelayMsg => Verdict::Late(plan.delay),
            Fault::ReorderAcrossSenders if hit() => Verdict::Late(plan.delay),
            _ => Verdict::Pass,
        }
    }
}

impl State {
    fn send(&mut self, now: tokio::time::Instant, packet: Packet) {
        let number = self.packets;
        self.packets += 1;
        let (line, up) = match (self.lines.get(&packet.from), self.lines.get(&packet.to)) {
            (Some(line), _) => (*line, true),
            (None, Some(line)) => (*line, false),
            (None, None) => return self.deliver(now + LATENCY, packet),
        };
        let (mut at, mut copies) = (now + LATENCY, 1);
        let seed = self.seed;
        for ((strike, _), rule) in self
            .rules
            .iter_mut()
            .filter(|(_, rule)| rule.line.is_none_or(|of| of == line))
        {
            match rule.verdict(seed, *strike, number, up) {
                Verdict::Pass => {}
                Verdict::Lose => {
                    self.lost += 1;
                    return;
                }
                Verdict::Hold => {
                    rule.held.push(packet);
                    return;
                }
                Verdict::Twice => copies = 2,
                Verdict::Late(late) => at += late,
            }
        }
        for _ in 1..copies {
            let bytes = packet.bytes.clone();
            self.deliver(at, Packet { bytes, ..packet });
        }
        self.deliver(at, packet);
    }

    fn deliver(&mut self, at: tokio::time::Instant, packet: Packet) {
        let number = self.packets;
        self.packets += 1;
        let Some(host) = self.hosts.get_mut(&packet.to) else {
            self.lost += 1;
            return;
        };
        if host.queue.len() >= QUEUE_MAX {
            self.lost += 1;
            return;
        }
        host.queue.insert((at, number), packet);
        if let Some(reader) = host.reader.take() {
            reader.wake();
        }
    }
}

impl SimNet {
    /// A network without sockets.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            seed,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            line: 0,
        }
    }

    /// A fault begins on a line, or on all.
    pub fn begin(&self, strike: StrikeKey, line: Option<u32>, fault: FaultPlan) {
        let held = Vec::new();
        let rule = Rule { line, fault, held };
        self.state.lock().rules.insert(strike, rule);
    }

    /// A fault ends; what it held back arrives now.
    pub fn end(&self, strike: StrikeKey) {
        let mut state = self.state.lock();
        let Some(rule) = state.rules.remove(&strike) else {
            return;
        };
        let now = tokio::time::Instant::now();
        for packet in rule.held {
            state.send(now, packet);
        }
    }

    /// Packets lost so far, by faults or for want of a socket.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.state.lock().lost
    }

    /// A listening socket.
    pub(crate) fn listen(&self, addr: SocketAddr) -> io::Result<Arc<SimSocket>> {
        self.open(addr)
    }

    /// A dialling socket of this line, on an address of its own.
    pub(crate) fn dial(&self) -> io::Result<Arc<SimSocket>> {
        let addr = {
            let mut state = self.state.lock();
            let port = PORT_FIRST + (state.sockets % u32::from(u16::MAX - PORT_FIRST)) as u16;
            let [_, b, c, d] = (self.line + 1).to_be_bytes();
            let addr = SocketAddr::from((Ipv4Addr::new(10, b, c, d), port));
            state.lines.insert(addr, self.line);
            addr
        };
        self.open(addr)
    }

    fn open(&self, addr: SocketAddr) -> io::Result<Arc<SimSocket>> {
        let mut state = self.state.lock();
        if state.hosts.contains_key(&addr) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.sockets += 1;
        state.hosts.insert(addr, Host::default());
        Ok(Arc::new(SimSocket {
            net: self.clone(),
            addr,
            timer: Mutex::new(None),
        }))
    }

    /// Seed of the next endpoint's connection ids: the same in each run.
    pub(crate) fn endpoint_seed(&self) -> [u8; 32] {
        let state = self.state.lock();
        let mut seed = [0; 32];
        for (lane, part) in (0..).zip(seed.chunks_exact_mut(8)) {
            let bits = draw::bits(state.seed, u64::from(state.sockets), 1 + lane);
            part.copy_from_slice(&bits.to_le_bytes());
        }
        seed
    }

    /// Sockets that are open, for a test that nothing is left.
    #[must_use]
    pub fn open_sockets(&self) -> BTreeSet<SocketAddr> {
        self.state.lock().hosts.keys().copied().collect()
    }
}

/// One end of the network.
pub(crate) struct SimSocket {
    net: SimNet,
    addr: SocketAddr,
    /// Fires when the packet at the head of the queue arrives.
    timer: Mutex<Option<(tokio::time::Instant, Pin<Box<tokio::time::Sleep>>)>>,
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket({})", self.addr)
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let mut state = self.net.state.lock();
        state.hosts.remove(&self.addr);
        state.lines.remove(&self.addr);
    }
}

/// There is always room to send.
#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl SimSocket {
    /// When the next packet arrives that is not there yet.
    fn wait(&self, cx: &mut Context<'_>, until: tokio::time::Instant) -> Poll<()> {
        let mut timer = self.timer.lock();
        match &mut *timer {
            Some((at, _)) if *at == until => {}
            Some((at, sleep)) => {
                *at = until;
                sleep.as_mut().reset(until);
            }
            none => *none = Some((until, Box::pin(tokio::time::sleep_until(until)))),
        }
        match &mut *timer {
            Some((_, sleep)) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// Moves packets that have arrived into the buffers; else says when the next one will.
    fn take(
        &self,
        now: tokio::time::Instant,
        cx: &Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> (usize, Option<tokio::time::Instant>) {
        let mut state = self.net.state.lock();
        let Some(host) = state.hosts.get_mut(&self.addr) else {
            return (0, None);
        };
        let mut taken = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some(first) = host.queue.first_entry().filter(|e| e.key().0 <= now) else {
                break;
            };
            let packet = first.remove();
            let len = packet.bytes.len().min(buf.len());
            buf[..len].copy_from_slice(&packet.bytes[..len]);
            *meta = RecvMeta {
                addr: packet.from,
                len,
                stride: len,
                ecn: None,
                dst_ip: None,
            };
            taken += 1;
        }
        host.reader = Some(cx.waker().clone());
        (taken, host.queue.first_key_value().map(|((at, _), _)| *at))
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let now = tokio::time::Instant::now();
        let mut state = self.net.state.lock();
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        for bytes in transmit.contents.chunks(segment.max(1)) {
            let packet = Packet {
                from: self.addr,
                to: transmit.destination,
                bytes: bytes.into(),
            };
            state.send(now, packet);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let (taken, next) = self.take(tokio::time::Instant::now(), cx, bufs, meta);
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
            let Some(next) = next else {
                return Poll::Pending;
            };
            if self.wait(cx, next).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn max_transmit_segments(&self) -> usize {
        SEGMENTS_MAX
    }

    fn may_fragment(&self) -> bool {
        false
    }
}
