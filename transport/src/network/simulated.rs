//! A network in memory, on virtual time.
//!
//! It carries the packets of real QUIC endpoints between sockets of one process. Each packet takes
//! [`LATENCY`]; faults of a chaos plan act on the packets of a line (one dialling link), by draws
//! from the network's seed. Given the same packets it does the same. Bound: [`QUEUE_MAX`] packets
//! on their way to one socket, and as many held back by one strike; more are lost, as on a real
//! line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future as _;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actorsim_supervision::chaos::{FaultPlan, Lines, StrikeKey, draw};
use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::rules::{Fate, Rules};

/// From one socket to another.
pub const LATENCY: Duration = Duration::from_millis(1);
/// Packets on their way to one socket at most: 90 MiB; a receiver that far behind has lost them.
pub const QUEUE_MAX: usize = 65_536;
/// Packets that one send may carry.
const SEGMENTS_MAX: usize = 16;
/// First port of dialling sockets.
const PORT_FIRST: u16 = 20_000;

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
    /// Packets sent so far: the number of the next one.
    packets: u64,
    sockets: u32,
    hosts: BTreeMap<SocketAddr, Host>,
    /// Which line a dialling socket is of.
    lines: BTreeMap<SocketAddr, u32>,
    rules: Rules,
    /// What strikes hold back.
    held: BTreeMap<StrikeKey, Vec<Packet>>,
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

impl State {
    fn send(&mut self, now: tokio::time::Instant, packet: Packet) {
        let number = self.packets;
        self.packets += 1;
        let (line, up) = match (self.lines.get(&packet.from), self.lines.get(&packet.to)) {
            (Some(line), _) => (*line, true),
            (None, Some(line)) => (*line, false),
            (None, None) => return self.deliver(now + LATENCY, packet),
        };
        match self.rules.fate(line, up, number) {
            Fate::Lost => self.lost += 1,
            Fate::Held(strike) => {
                let held = self.held.entry(strike).or_default();
                if held.len() < QUEUE_MAX {
                    held.push(packet);
                } else {
                    self.lost += 1;
                }
            }
            Fate::Goes { late, twice } => {
                let at = now + LATENCY + late;
                if twice {
                    let bytes = packet.bytes.clone();
                    self.deliver(at, Packet { bytes, ..packet });
                }
                self.deliver(at, packet);
            }
        }
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
            rules: Rules::new(seed),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            line: 0,
        }
    }

    /// The same network, for line `line`.
    #[must_use]
    pub(super) fn line(&self, line: u32) -> Self {
        let state = Arc::clone(&self.state);
        Self { state, line }
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
            let bits = draw::bits(state.rules.seed(), u64::from(state.sockets), 1 + lane);
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

impl Lines for SimNet {
    fn begin(&self, strike: StrikeKey, line: Option<u32>, fault: FaultPlan) {
        self.state.lock().rules.begin(strike, line, fault);
    }

    fn end(&self, strike: StrikeKey) {
        let state = &mut *self.state.lock();
        state.rules.end(strike);
        let now = tokio::time::Instant::now();
        for packet in state.held.remove(&strike).unwrap_or_default() {
            state.send(now, packet);
        }
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
