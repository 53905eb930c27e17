//! The socket at an end of a line: it passes everything, until a fault is in force.
//!
//! Undisturbed it costs a load or two at each call. Disturbed it takes sends and what the kernel
//! put together apart into packets, asks the rules for the fate of each, and keeps those that are
//! not to go on yet: until they are due, or until a strike ends. quinn's driver of the endpoint,
//! which polls for packets, sends those that are due, too. What is lost is lost; nothing is
//! corrupted. Bounds: [`PACKETS_MAX`] and [`BYTES_MAX`] kept by one socket each way; more are lost.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future as _;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};

use actorsim_supervision::chaos::StrikeKey;
use parking_lot::Mutex;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::{Sleep, sleep_until};

use super::Wires;
use crate::network::rules::Fate;

/// Packets kept at most, each way: so that small ones are bounded by their entries, not by their
/// bytes.
pub(super) const PACKETS_MAX: usize = 65_536;
/// Bytes kept at most, each way: a second at 250 Mbit/s, four times what a link that is not
/// answered sends.
pub(super) const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bits of a packet's number that count those of one socket: a year's at 30,000/s, before they meet
/// those of the next. From socket 2^24 on the numbers are those of the first: draws that recur.
const PACKET_NUMBER_BITS: u32 = 40;

/// To quinn, or to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    In,
    Out,
}

impl Half {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

pub(crate) struct WireSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    wires: Wires,
    /// Among those of its wires.
    number: u32,
    dials: bool,
    /// Bits of the halves on which a rule is in force, or in which packets wait.
    disturbed: AtomicU8,
    /// Who polls for packets: one task as long as the endpoint lives, as quinn itself has it.
    driver: OnceLock<Waker>,
    kept: Mutex<Kept>,
}

impl fmt::Debug for WireSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireSocket")
            .field("wires", &self.wires)
            .finish_non_exhaustive()
    }
}

impl Drop for WireSocket {
    fn drop(&mut self) {
        let shared = &self.wires.shared;
        shared.state.lock().sockets.remove(&self.number);
        let kept = self.kept.get_mut().booked.iter();
        let kept: usize = kept.map(|half| half.packets).sum();
        shared.lost.fetch_add(kept as u64, Ordering::Relaxed);
    }
}

struct Packet {
    peer: SocketAddr,
    local: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
    bytes: Box<[u8]>,
}

impl Packet {
    fn again(&self) -> Self {
        let bytes = self.bytes.clone();
        Self { bytes, ..*self }
    }
}

/// Packets by when they go on, and by their turn.
type Queue = BTreeMap<(tokio::time::Instant, u64), Packet>;

/// How much of one half is kept.
#[derive(Default)]
struct Booked {
    packets: usize,
    bytes: usize,
}

/// What does not go on yet.
#[derive(Default)]
struct Kept {
    /// Packets that came and were sent so far: the number of the next one.
    packets: u64,
    /// Packets that were queued so far.
    turns: u64,
    inward: Queue,
    outward: Queue,
    /// Until a strike ends.
    held: BTreeMap<StrikeKey, Vec<(Half, Packet)>>,
    /// Of each half: what fills one is no loss of the other.
    booked: [Booked; 2],
    /// The kernel has no room.
    is_full: bool,
    writable: Option<Pin<Box<dyn UdpPoller>>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Kept {
    fn queue(&mut self, half: Half) -> &mut Queue {
        match half {
            Half::In => &mut self.inward,
            Half::Out => &mut self.outward,
        }
    }

    /// Books a packet in; false: there is no room.
    fn admit(&mut self, half: Half, packet: &Packet) -> bool {
        let booked = &mut self.booked[half as usize];
        let bytes = booked.bytes + packet.bytes.len();
        let room = booked.packets < PACKETS_MAX && bytes <= BYTES_MAX;
        if room {
            (booked.packets, booked.bytes) = (booked.packets + 1, bytes);
        }
        room
    }

    /// Books a packet out.
    fn gone(&mut self, half: Half, packet: &Packet) {
        let booked = &mut self.booked[half as usize];
        booked.packets -= 1;
        booked.bytes -= packet.bytes.len();
    }

    fn enqueue(&mut self, half: Half, due: tokio::time::Instant, packet: Packet) {
        let turn = self.turns;
        self.turns += 1;
        self.queue(half).insert((due, turn), packet);
    }

    /// Takes the next packet that is due, if it is; it stays booked.
    fn take_due(
        &mut self,
        half: Half,
        now: tokio::time::Instant,
    ) -> Option<((tokio::time::Instant, u64), Packet)> {
        let first = self.queue(half).first_entry()?;
        (first.key().0 <= now).then(|| first.remove_entry())
    }

    /// When the next one goes to the kernel.
    fn next_out(&self) -> Option<tokio::time::Instant> {
        let first = self.outward.first_key_value();
        first.map(|((due, _), _)| *due)
    }

    /// Hands out what has come and is due; returns how many.
    fn hand_out(&mut self, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let now = tokio::time::Instant::now();
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            let Some((_, packet)) = self.take_due(Half::In, now) else {
                break;
            };
            self.gone(Half::In, &packet);
            let len = packet.bytes.len().min(buf.len());
            buf[..len].copy_from_slice(&packet.bytes[..len]);
            *meta = RecvMeta {
                addr: packet.peer,
                len,
                stride: len,
                ecn: packet.ecn,
                dst_ip: packet.local,
            };
            count += 1;
        }
        count
    }

    /// Waits until the next one is due; for ever, if there is none.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let inward = self.inward.first_key_value().map(|((due, _), _)| *due);
        let outward = self.next_out().filter(|_| !self.is_full);
        let Some(due) = inward.into_iter().chain(outward).min() else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}

impl WireSocket {
    pub(super) fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        wires: Wires,
        number: u32,
        dials: bool,
    ) -> Self {
        Self {
            inner,
            wires,
            number,
            dials,
            disturbed: AtomicU8::new(0),
            driver: OnceLock::new(),
            kept: Mutex::new(Kept::default()),
        }
    }

    const fn is_up(&self, half: Half) -> bool {
        self.dials == matches!(half, Half::Out)
    }

    fn is_disturbed(&self, half: Half) -> bool {
        self.disturbed.load(Ordering::Relaxed) & half.bit() != 0
    }

    /// Marks which halves are disturbed.
    pub(super) fn look(&self) {
        self.settle(&self.kept.lock());
    }

    /// The same, with what is kept in hand. A rule that begins looks after it is in force, and
    /// whoever keeps packets settles after: so none is missed, and none is left lying.
    fn settle(&self, kept: &Kept) {
        let state = self.wires.shared.state.lock();
        let act = |half| state.rules.act(self.wires.line, self.is_up(half));
        let mut disturbed = 0;
        for (half, queue) in [(Half::In, &kept.inward), (Half::Out, &kept.outward)] {
            if act(half) || !queue.is_empty() {
                disturbed |= half.bit();
            }
        }
        self.disturbed.store(disturbed, Ordering::Relaxed);
    }

    /// A strike has ended: what it held back goes on.
    pub(super) fn release(&self, strike: StrikeKey) {
        let mut kept = self.kept.lock();
        let now = tokio::time::Instant::now();
        for (half, packet) in kept.held.remove(&strike).unwrap_or_default() {
            kept.gone(half, &packet);
            self.place(&mut kept, now, half, packet);
        }
        self.settle(&kept);
        drop(kept);
        self.wake();
    }

    fn wake(&self) {
        if let Some(driver) = self.driver.get() {
            driver.wake_by_ref();
        }
    }

    /// Does to a packet what the rules say.
    fn place(&self, kept: &mut Kept, now: tokio::time::Instant, half: Half, packet: Packet) {
        let number = (u64::from(self.number) << PACKET_NUMBER_BITS) + kept.packets;
        kept.packets += 1;
        let (line, up) = (self.wires.line, self.is_up(half));
        let fate = self.wires.shared.state.lock().rules.fate(line, up, number);
        match fate {
            Fate::Lost => self.lose(),
            _ if !kept.admit(half, &packet) => self.lose(),
            Fate::Held(strike) => kept.held.entry(strike).or_default().push((half, packet)),
            Fate::Goes { late, twice } => {
                let again = twice.then(|| packet.again());
                kept.enqueue(half, now + late, packet);
                match again {
                    Some(again) if kept.admit(half, &again) => {
                        kept.enqueue(half, now + late, again);
                    }
                    Some(_) => self.lose(),
                    None => {}
                }
            }
        }
    }

    fn lose(&self) {
        self.wires.shared.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives the kernel what is due, as far as it has room.
    fn send_due(&self, kept: &mut Kept, mut cx: Option<&mut Context<'_>>) {
        let now = tokio::time::Instant::now();
        kept.is_full = false;
        while let Some((turn, packet)) = kept.take_due(Half::Out, now) {
            let transmit = Transmit {
                destination: packet.peer,
                ecn: packet.ecn,
                contents: &packet.bytes,
                segment_size: None,
                src_ip: packet.local,
            };
            let sent = self.inner.try_send(&transmit);
            let error = sent.err().map(|error| error.kind());
            if error != Some(ErrorKind::WouldBlock) {
                kept.gone(Half::Out, &packet);
                if error.is_some() {
                    self.lose(); // as a network would
                }
                continue;
            }
            kept.outward.insert(turn, packet);
            let inner = &self.inner;
            let writable = kept
                .writable
                .get_or_insert_with(|| Arc::clone(inner).create_io_poller());
            let room = cx.as_mut().map(|cx| writable.as_mut().poll_writable(cx));
            if !matches!(room, Some(Poll::Ready(Ok(())))) {
                kept.is_full = true;
                return;
            }
        }
    }

    /// Also after the last fault has ended, if that was between the look and this: so it settles.
    pub(super) fn send_disturbed(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut kept = self.kept.lock();
        if kept.is_full {
            self.send_due(&mut kept, None);
            if kept.is_full {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        let (now, next) = (tokio::time::Instant::now(), kept.next_out());
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        for bytes in transmit.contents.chunks(segment.max(1)) {
            let packet = Packet {
                peer: transmit.destination,
                local: transmit.src_ip,
                ecn: transmit.ecn,
                bytes: bytes.into(),
            };
            self.place(&mut kept, now, Half::Out, packet);
        }
        self.send_due(&mut kept, None);
        let (later, is_full) = (kept.next_out(), kept.is_full);
        self.settle(&kept);
        drop(kept);
        if is_full || later.is_some() && later != next {
            self.wake(); // it waits for the next one, and sends it
        }
        Ok(())
    }

    /// Takes in what the kernel has, once; pending if that is nothing.
    fn take_in(
        &self,
        kept: &mut Kept,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<()>> {
        let count = ready!(self.inner.poll_recv(cx, bufs, metas))?;
        let now = tokio::time::Instant::now();
        for (meta, buf) in metas.iter().zip(bufs.iter()).take(count) {
            for bytes in buf[..meta.len].chunks(meta.stride.max(1)) {
                let packet = Packet {
                    peer: meta.addr,
                    local: meta.dst_ip,
                    ecn: meta.ecn,
                    bytes: bytes.into(),
                };
                self.place(kept, now, Half::In, packet);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The same holds for it.
    pub(super) fn receive_disturbed(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let kept = &mut *self.kept.lock();
        loop {
            self.send_due(kept, Some(cx));
            let came = self.take_in(kept, cx, bufs, metas)?;
            let count = kept.hand_out(bufs, metas);
            self.settle(kept);
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            if came.is_pending() {
                ready!(kept.wait(cx));
            }
        }
    }
}

impl AsyncUdpSocket for WireSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.is_disturbed(Half::Out) {
            return self.send_disturbed(transmit);
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.driver.get_or_init(|| cx.waker().clone());
        if self.disturbed.load(Ordering::Relaxed) != 0 {
            return self.receive_disturbed(cx, bufs, metas);
        }
        self.inner.poll_recv(cx, bufs, metas)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
