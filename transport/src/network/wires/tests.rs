//! What each fault does to packets, both ways, on virtual time; who is woken for those that wait;
//! and one line of the kernel's.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{Runtime as _, TokioRuntime, UdpPoller};
use tokio::time::Instant;

use super::socket::{BYTES_MAX, PACKETS_MAX};
use super::*;
use crate::endpoint::KernelSocket;
use crate::network::SimNet;
use crate::network::simulated::{LATENCY, SimSocket};

const LINE: u32 = 3;
const MS: Duration = Duration::from_millis(1);

/// A kernel whose room for sends is given packet by packet, and which puts what comes together.
#[derive(Debug)]
struct Kernel {
    inner: Arc<SimSocket>,
    /// Sends that it takes.
    room: AtomicUsize,
    /// Sends that it took.
    sends: AtomicUsize,
    /// Who waits for room.
    waits: Mutex<Option<Waker>>,
}

impl Kernel {
    /// Makes room for so many sends.
    fn give(&self, room: usize) {
        self.room.store(room, Ordering::Relaxed);
        if let Some(waits) = self.waits.lock().take() {
            waits.wake();
        }
    }
}

#[derive(Debug)]
struct Room(Arc<Kernel>);

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.room.load(Ordering::Relaxed) > 0 {
            return Poll::Ready(Ok(()));
        }
        *self.0.waits.lock() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncUdpSocket for Kernel {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let take = |room: usize| room.checked_sub(1);
        let room = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        room.map_err(|_| io::ErrorKind::WouldBlock)?;
        self.sends.fetch_add(1, Ordering::Relaxed);
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (mut len, mut one) = (0, [RecvMeta::default()]);
        loop {
            let room = IoSliceMut::new(&mut bufs[0][len..]);
            match self.inner.poll_recv(cx, &mut [room], &mut one) {
                Poll::Ready(count) => assert_eq!(count?, 1),
                Poll::Pending if len == 0 => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(1)),
            }
            len += one[0].len; // they are of one length
            metas[0] = RecvMeta { len, ..one[0] };
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A link's socket on its line, and the twin's, which has none.
struct Ends {
    wires: Wires,
    kernel: Arc<Kernel>,
    link: Arc<WireSocket>,
    twin: Arc<SimSocket>,
}

fn ends() -> Ends {
    let net = SimNet::new(1);
    let twin = net.listen("192.0.2.1:4433".parse().unwrap()).unwrap();
    let kernel = Arc::new(Kernel {
        inner: net.dial().unwrap(),
        room: AtomicUsize::new(usize::MAX),
        sends: AtomicUsize::new(0),
        waits: Mutex::new(None),
    });
    let wires = Wires::new(7, None);
    let link = wires.line(LINE).attach(kernel.clone(), true);
    Ends {
        wires,
        kernel,
        link,
        twin,
    }
}

fn contents(numbers: std::ops::Range<u16>) -> Vec<u8> {
    numbers.flat_map(u16::to_be_bytes).collect()
}

/// A send of these packets.
fn transmit(destination: SocketAddr, contents: &[u8]) -> Transmit<'_> {
    Transmit {
        destination,
        ecn: None,
        contents,
        segment_size: Some(2),
        src_ip: None,
    }
}

fn try_send(
    from: &dyn AsyncUdpSocket,
    to: &dyn AsyncUdpSocket,
    numbers: std::ops::Range<u16>,
) -> io::Result<()> {
    from.try_send(&transmit(to.local_addr()?, &contents(numbers)))
}

/// Packets with these numbers, in one send.
fn send(from: &dyn AsyncUdpSocket, to: &dyn AsyncUdpSocket, numbers: std::ops::Range<u16>) {
    try_send(from, to, numbers).unwrap();
}

/// What comes, and after how long.
type Came = Vec<(u16, Duration)>;

/// Until there are so many.
async fn collect(at: &dyn AsyncUdpSocket, began: Instant, came: &mut Came, count: usize) {
    let mut room = vec![0; 64 * 1024];
    while came.len() < count {
        let mut meta = [RecvMeta::default()];
        let one = std::future::poll_fn(|cx| {
            at.poll_recv(cx, &mut [IoSliceMut::new(&mut room)], &mut meta)
        });
        assert_eq!(one.await.unwrap(), 1);
        for packet in room[..meta[0].len].chunks(meta[0].stride) {
            came.push((u16::from_be_bytes([packet[0], packet[1]]), began.elapsed()));
        }
    }
}

impl Ends {
    fn begin(&self, fault: FaultPlan) {
        self.wires.begin((1, 0), Some(LINE), fault);
    }

    fn end(&self) {
        self.wires.end((1, 0));
    }

    /// The same packets both ways.
    fn send(&self, numbers: std::ops::Range<u16>) {
        send(&*self.link, &*self.twin, numbers.clone());
        send(&*self.twin, &*self.kernel, numbers);
    }

    /// What comes up and down in a second.
    async fn come(&self) -> [Came; 2] {
        let (mut up, mut down, began) = (Vec::new(), Vec::new(), Instant::now());
        let both = async {
            tokio::join!(
                collect(&*self.twin, began, &mut up, usize::MAX),
                collect(&*self.link, began, &mut down, usize::MAX)
            )
        };
        drop(tokio::time::timeout(Duration::from_secs(1), both).await);
        [up, down]
    }

    /// Starts a task that waits for so many packets that come down, as quinn's driver does; nobody
    /// polls the link's socket but it.
    async fn drive(&self, count: usize) -> Driver {
        let (link, began) = (Arc::clone(&self.link), Instant::now());
        let driver = Driver(tokio::spawn(async move {
            let mut down = Vec::new();
            collect(&*link, began, &mut down, count).await;
            down
        }));
        tokio::time::sleep(MS).await;
        driver
    }

    /// So many packets that come up, in a second.
    async fn up(&self, count: usize) -> Came {
        let mut up = Vec::new();
        let all = collect(&*self.twin, Instant::now(), &mut up, count);
        drop(tokio::time::timeout(Duration::from_secs(1), all).await);
        up
    }
}

/// A task that waits for packets; it ends with its test.
struct Driver(tokio::task::JoinHandle<Came>);

impl Driver {
    /// What came down in a second.
    async fn down(self) -> Came {
        let down = tokio::time::timeout(Duration::from_secs(1), self.0).await;
        down.expect("the driver was not woken").unwrap()
    }
}

fn numbers(came: &Came) -> Vec<u16> {
    came.iter().map(|(number, _)| *number).collect()
}

fn all(range: std::ops::Range<u16>) -> Vec<u16> {
    range.collect()
}

#[tokio::test(start_paused = true)]
async fn a_send_goes_whole_while_nothing_is_in_force_and_packet_by_packet_after() {
    let ends = ends();
    let sends = |of| {
        send(&*ends.link, &*ends.twin, of);
        ends.kernel.sends.swap(0, Ordering::Relaxed)
    };
    assert_eq!(sends(0..10), 1);
    let other = FaultPlan::new(Fault::Partition);
    ends.wires.begin((1, 0), Some(LINE + 1), other);
    assert_eq!(sends(10..20), 1, "another line");
    ends.begin(FaultPlan::new(Fault::DupMsg));
    assert!(sends(20..30) >= 10);
    ends.end();
    let [up, _] = ends.come().await;
    assert!(all(0..30).iter().all(|n| numbers(&up).contains(n)));
    assert_eq!(sends(30..40), 1, "it is over");
}

#[tokio::test(start_paused = true)]
async fn a_partition_loses_what_goes_its_way_and_nothing_of_it_comes_later() {
    for (way, [up_comes, down_comes]) in [
        (Way::Both, [false, false]),
        (Way::Up, [false, true]),
        (Way::Down, [true, false]),
    ] {
        let ends = ends();
        ends.begin(FaultPlan {
            way,
            ..FaultPlan::new(Fault::Partition)
        });
        ends.send(0..10);
        let [up, down] = ends.come().await;
        assert_eq!([!up.is_empty(), !down.is_empty()], [up_comes, down_comes]);
        let lost = 10 * u64::from(!up_comes) + 10 * u64::from(!down_comes);
        assert_eq!(ends.wires.lost(), lost, "{way:?}");
        ends.end();
        ends.send(10..20);
        let [up, down] = ends.come().await;
        assert_eq!((numbers(&up), numbers(&down)), (all(10..20), all(10..20)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_clog_holds_back_all_arrives_when_it_ends_in_its_order() {
    let ends = ends();
    ends.begin(FaultPlan::new(Fault::Clog));
    ends.send(0..10);
    ends.send(10..20);
    assert_eq!(ends.come().await, [vec![], vec![]]);
    ends.end();
    ends.send(20..30);
    let [up, down] = ends.come().await;
    assert_eq!(numbers(&up), all(0..30));
    assert_eq!(numbers(&down), all(0..30));
    assert!(up.iter().chain(&down).all(|(_, at)| *at <= LATENCY));
    assert_eq!(ends.wires.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_two_faults_on_a_line_one_ends_and_the_other_stays() {
    let ends = ends();
    ends.begin(FaultPlan::new(Fault::Clog));
    let again = (2, 1);
    let second = FaultPlan::new(Fault::Clog);
    ends.wires.begin(again, Some(LINE), second);
    ends.send(0..10);
    ends.end();
    assert_eq!(ends.come().await, [vec![], vec![]], "the other holds them");
    ends.wires.end(again);
    let [up, down] = ends.come().await;
    assert_eq!((numbers(&up), numbers(&down)), (all(0..10), all(0..10)));
}

#[tokio::test(start_paused = true)]
async fn what_is_delayed_is_late_and_in_order_what_is_reordered_is_overtaken() {
    let delay = 20 * MS;
    let late = |at: Duration| at >= delay && at <= delay + LATENCY + MS;
    for (fault, share) in [(Fault::DelayMsg, 0.0), (Fault::ReorderAcrossSenders, 0.5)] {
        let ends = ends();
        ends.begin(FaultPlan {
            share,
            delay,
            ..FaultPlan::new(fault)
        });
        ends.send(0..40);
        let came = ends.come().await;
        ends.end();
        for came in came {
            let (first, then): (Came, Came) = came.into_iter().partition(|(_, at)| !late(*at));
            assert_eq!(first.len() + then.len(), 40);
            assert!(first.iter().all(|(_, at)| *at <= LATENCY), "{first:?}");
            assert!(numbers(&first).is_sorted() && numbers(&then).is_sorted());
            match fault {
                Fault::DelayMsg => assert!(first.is_empty()),
                _ => assert!(first.len() > 10 && then.len() > 10, "{first:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_is_lost_or_comes_twice() {
    let ends = ends();
    for (fault, fewest, most) in [(Fault::DropMsg, 10, 30), (Fault::DupMsg, 50, 70)] {
        ends.begin(FaultPlan {
            share: 0.5,
            ..FaultPlan::new(fault)
        });
        ends.send(0..40);
        for came in ends.come().await {
            let came = numbers(&came);
            assert!((fewest..=most).contains(&came.len()), "{fault}: {came:?}");
            assert!(came.is_sorted());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_is_bounded_in_packets_and_in_bytes() {
    const LONG: usize = 60_000;
    for (length, room) in [(1, PACKETS_MAX), (LONG, BYTES_MAX / LONG)] {
        let ends = ends();
        ends.begin(FaultPlan::new(Fault::Clog));
        let contents = vec![0; length];
        for _ in 0..room + 7 {
            let packet = Transmit {
                destination: ends.twin.local_addr().unwrap(),
                ecn: None,
                contents: &contents,
                segment_size: None,
                src_ip: None,
            };
            ends.link.try_send(&packet).unwrap();
        }
        assert_eq!(ends.wires.lost(), 7, "of {length} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn what_fills_one_half_is_no_loss_of_the_other() {
    let ends = ends();
    ends.begin(FaultPlan::new(Fault::Clog));
    for _ in 0..PACKETS_MAX + 7 {
        send(&*ends.link, &*ends.twin, 0..1);
    }
    send(&*ends.twin, &*ends.kernel, 0..10);
    assert_eq!(ends.come().await, [vec![], vec![]]);
    assert_eq!(ends.wires.lost(), 7);
    ends.end();
    let [_, down] = ends.come().await;
    assert_eq!(numbers(&down), all(0..10));
}

#[tokio::test(start_paused = true)]
async fn what_the_kernel_has_no_room_for_is_sent_when_it_has() {
    let ends = ends();
    let _driver = ends.drive(1).await;
    ends.begin(FaultPlan::new(Fault::Clog));
    send(&*ends.link, &*ends.twin, 0..10);
    ends.kernel.give(4);
    ends.end();
    assert_eq!(numbers(&ends.up(10).await), all(0..4));
    let refused = try_send(&*ends.link, &*ends.twin, 10..20).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    ends.kernel.give(usize::MAX);
    assert_eq!(numbers(&ends.up(6).await), all(4..10));
    send(&*ends.link, &*ends.twin, 10..20);
    assert_eq!(numbers(&ends.up(10).await), all(10..20));
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_waits_is_woken_at_the_end_of_a_strike_for_both_halves() {
    let ends = ends();
    ends.begin(FaultPlan::new(Fault::Clog));
    let driver = ends.drive(10).await;
    ends.send(0..10);
    tokio::time::sleep(LATENCY + MS).await;
    ends.end();
    assert_eq!(numbers(&ends.up(10).await), all(0..10));
    assert_eq!(numbers(&driver.down().await), all(0..10));
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_waits_is_woken_for_a_send_that_is_late() {
    let ends = ends();
    let delay = 20 * MS;
    ends.begin(FaultPlan {
        delay,
        ..FaultPlan::new(Fault::DelayMsg)
    });
    let _driver = ends.drive(1).await;
    send(&*ends.link, &*ends.twin, 0..10);
    let up = ends.up(10).await;
    assert_eq!(numbers(&up), all(0..10));
    assert!(up.iter().all(|(_, at)| *at >= delay), "{up:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_ends_under_a_call_that_saw_it_leaves_no_packet_behind() {
    let ends = ends();
    ends.begin(FaultPlan::new(Fault::Clog));
    let twin = ends.twin.local_addr().unwrap();
    ends.end();
    // A send for which the kernel has no room.
    ends.kernel.give(0);
    let sent = contents(0..10);
    ends.link.send_disturbed(&transmit(twin, &sent)).unwrap();
    // A look that takes in more than it can hand out.
    send(&*ends.twin, &*ends.kernel, 0..10);
    tokio::time::sleep(LATENCY + MS).await;
    let mut bytes = vec![0; 64 * 1024];
    let looked = std::future::poll_fn(|cx| {
        let mut bufs = [IoSliceMut::new(&mut bytes)];
        let mut meta = [RecvMeta::default()];
        ends.link.receive_disturbed(cx, &mut bufs, &mut meta)
    });
    assert_eq!(looked.await.unwrap(), 1);
    let driver = ends.drive(9).await;
    assert_eq!(numbers(&driver.down().await), all(1..10));
    let _driver = ends.drive(1).await;
    ends.kernel.give(usize::MAX);
    assert_eq!(numbers(&ends.up(10).await), all(0..10));
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_opens_meanwhile_is_on_its_line_and_one_that_is_gone_holds_nothing() {
    let ends = ends();
    ends.begin(FaultPlan::new(Fault::Partition));
    let net = SimNet::new(2);
    let second = ends.wires.line(LINE).attach(net.dial().unwrap(), true);
    send(&*second, &*ends.twin, 0..10);
    assert_eq!(ends.wires.lost(), 10);
    assert_eq!(ends.wires.sockets(Some(LINE)).len(), 2);
    drop(second);
    assert_eq!(ends.wires.sockets(None).len(), 1);
    assert!(net.open_sockets().is_empty());
}

fn kernel() -> (Arc<KernelSocket>, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = socket.local_addr().unwrap();
    let socket = TokioRuntime.wrap_udp_socket(socket).unwrap();
    (KernelSocket::new(socket), addr)
}

#[tokio::test]
async fn a_slow_line_brings_what_it_does_not_lose_in_order_and_late() {
    let ((here, _), (there, at)) = (kernel(), kernel());
    let line = Line {
        delay: Duration::from_millis(20),
        loss: 0.5,
        seed: 7,
        ..Line::ETHERNET
    };
    let there = Wires::end_of(line, false).attach(there, false);
    let mut writable = Arc::clone(&here).create_io_poller();
    let ready = std::future::poll_fn(|cx| writable.as_mut().poll_writable(cx));
    ready.await.unwrap();
    let began = Instant::now();
    for number in 0..64 {
        send(&*here, &*there, number..number + 1);
    }
    assert_eq!(there.local_addr().unwrap(), at);
    let mut came = Vec::new();
    collect(&*there, began, &mut came, 20).await;
    assert!(came.iter().all(|(_, at)| *at >= line.delay), "{came:?}");
    let came = numbers(&came);
    assert!(came.is_sorted() && came[19] > 20, "{came:?}");
}
