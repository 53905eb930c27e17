//! How much may be under way: Cubic (RFC 9438), told only of losses that mean a full line.
//!
//! A line that loses packets at random is not full, and a window that shrinks with each of them
//! makes fresh telemetry wait for acknowledgements of the old: at 5 % loss p99 was 51 ms on a line
//! with a round trip below 1 ms. As in TCP Veno (Fu and Liew, IEEE JSAC 21(2), 2003) a loss counts
//! where packets queue, which shows in the round trips; and where more is lost than random loss
//! explains, or the line marks packets (ECN). It grows, and shrinks, as Cubic does, but within a
//! machine never below [`FRAMES_MIN`]. Bound: Cubic's.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quinn::Connection;
use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

use super::FRAME_ETHERNET;

/// Round trips that are all longer than the shortest ever by this: packets queue. Below it is what
/// a delayed acknowledgement and a busy machine add.
const QUEUE_MIN: Duration = Duration::from_millis(3);
/// On long lines: by this part of the shortest.
const QUEUE_PART: u32 = 4;
/// Shortest time over which round trips are compared: several acknowledgements.
const SPAN_MIN: Duration = Duration::from_millis(5);
/// More loss than one packet in this many is not put down to chance.
const LOSS_RANDOM_PART: u64 = 8;
/// The share of lost packets is that of the last so many, at least.
const SAMPLE_PACKETS: u64 = 128;
/// Frames that may be under way within a machine, where no line is ever full: what any connection
/// begins with (RFC 9002 section 7.2), of the largest ones. The smallest socket buffer that Linux
/// gives holds them.
const FRAMES_MIN: u64 = 10;
/// The window of a connection that is being closed.
const WIDE_OPEN: u64 = u64::MAX;

/// Makes a controller for each connection.
#[derive(Debug, Default)]
pub(super) struct Discerning {
    cubic: Arc<CubicConfig>,
    /// The smallest window.
    least: u64,
}

impl Discerning {
    /// For connections whose frames have `frame_max` bytes at most.
    pub(super) fn new(frame_max: u16) -> Self {
        let within_a_machine = frame_max > FRAME_ETHERNET;
        Self {
            cubic: Arc::default(),
            least: u64::from(within_a_machine) * FRAMES_MIN * u64::from(frame_max),
        }
    }
}

impl ControllerFactory for Discerning {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::clone(&self.cubic).build(now, mtu);
        let sample = SAMPLE_PACKETS * u64::from(mtu);
        Box::new(Discerner {
            cubic,
            least: self.least,
            closing: Arc::default(),
            trips: Trips::new(now),
            sample,
            // the first loss of a connection is one of few packets
            acked: sample / 2,
            lost: 0,
        })
    }
}

/// Lets a connection that is about to be closed say so, whatever is under way on it: quinn would
/// keep the frame back as it keeps data back, and then forget the connection with the frame unsent
/// (quinn issue 2785). Its peer would hear a stateless reset, or nothing.
pub(super) fn open_wide(connection: &Connection) {
    // A copy of the controller, which shares what says that it is closing.
    let controller = connection.congestion_state().into_any();
    if let Ok(discerner) = controller.downcast::<Discerner>() {
        discerner.closing.store(true, Ordering::Relaxed);
    }
}

/// The shortest round trip of this span, and of the one before.
#[derive(Clone, Copy, Debug)]
struct Trips {
    began: Instant,
    span: Duration,
    now: Duration,
    before: Duration,
    /// The shortest ever.
    least: Duration,
}

impl Trips {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            span: SPAN_MIN,
            now: Duration::MAX,
            before: Duration::MAX,
            least: Duration::MAX,
        }
    }

    fn note(&mut self, now: Instant, trip: Duration, smoothed: Duration) {
        let passed = now.saturating_duration_since(self.began);
        if passed >= self.span {
            // What is older than a span says nothing about now.
            self.before = if passed < 2 * self.span {
                self.now
            } else {
                Duration::MAX
            };
            (self.began, self.now) = (now, Duration::MAX);
            self.span = smoothed.max(SPAN_MIN);
        }
        self.now = self.now.min(trip);
        self.least = self.least.min(trip);
    }

    /// Whether packets queue on their way.
    fn queue(&self) -> bool {
        let standing = self.now.min(self.before);
        standing != Duration::MAX && standing - self.least > QUEUE_MIN.max(self.least / QUEUE_PART)
    }
}

struct Discerner {
    cubic: Box<dyn Controller>,
    least: u64,
    closing: Arc<AtomicBool>,
    trips: Trips,
    /// Bytes after which `acked` and `lost` are halved.
    sample: u64,
    acked: u64,
    lost: u64,
}

impl Discerner {
    fn count(&mut self, acked: u64, lost: u64) {
        self.acked += acked;
        self.lost += lost;
        if self.acked + self.lost > self.sample {
            self.acked /= 2;
            self.lost /= 2;
        }
    }

    /// Whether more is lost than chance explains.
    fn loses(&self) -> bool {
        self.lost * LOSS_RANDOM_PART > self.acked + self.lost
    }
}

impl Controller for Discerner {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.count(bytes, 0);
        let trip = now.saturating_duration_since(sent);
        self.trips.note(now, trip, rtt.get());
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_acked: Option<u64>,
    ) {
        self.cubic
            .on_end_acks(now, in_flight, app_limited, largest_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        persistent: bool,
        lost_bytes: u64,
    ) {
        self.count(0, lost_bytes);
        let marked = lost_bytes == 0;
        if marked || self.trips.queue() || self.loses() {
            self.cubic
                .on_congestion_event(now, sent, persistent, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.sample = SAMPLE_PACKETS * u64::from(new_mtu);
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.closing.load(Ordering::Relaxed) {
            return WIDE_OPEN;
        }
        self.cubic.window().max(self.least)
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.cubic.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            cubic: self.cubic.clone_box(),
            closing: Arc::clone(&self.closing),
            ..*self
        })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window().max(self.least)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use quinn::congestion::Cubic;

    use super::super::FRAME_LOOPBACK;
    use super::*;

    const MTU: u64 = 1_452;
    const TRIP: Duration = Duration::from_micros(200);

    struct Line {
        controller: Discerner,
        now: Instant,
    }

    impl Line {
        fn new() -> Self {
            let now = Instant::now();
            let mtu = MTU as u16;
            let cubic = Box::new(Cubic::new(Arc::default(), now, mtu));
            let controller = Discerner {
                cubic,
                least: 0,
                closing: Arc::default(),
                trips: Trips::new(now),
                sample: SAMPLE_PACKETS * MTU,
                acked: SAMPLE_PACKETS * MTU / 2,
                lost: 0,
            };
            Self { controller, now }
        }

        /// A packet that comes, after `trip`.
        fn comes(&mut self, trip: Duration) {
            self.now += Duration::from_millis(1);
            let sent = self.now - trip;
            self.controller.count(MTU, 0);
            self.controller.trips.note(self.now, trip, TRIP);
            assert!(sent <= self.now);
        }

        fn is_lost(&mut self) {
            self.now += Duration::from_millis(1);
            let (now, sent) = (self.now, self.now - TRIP);
            self.controller.on_congestion_event(now, sent, true, MTU);
        }
    }

    #[test]
    fn random_loss_leaves_the_window_as_it_is() {
        let mut line = Line::new();
        let window = line.controller.window();
        for n in 0..10_000 {
            match n % 20 {
                7 => line.is_lost(),
                _ => line.comes(TRIP),
            }
        }
        assert_eq!(line.controller.window(), window);
    }

    #[test]
    fn loss_where_packets_queue_halves_the_window() {
        let mut line = Line::new();
        (0..20).for_each(|_| line.comes(TRIP));
        let window = line.controller.window();
        (0..20).for_each(|_| line.comes(TRIP + 2 * QUEUE_MIN));
        line.is_lost();
        assert!(line.controller.window() < window);
    }

    #[test]
    fn a_line_that_loses_much_is_full_without_a_queue() {
        let mut line = Line::new();
        let window = line.controller.window();
        for n in 0..200 {
            match n % 4 {
                0 => line.is_lost(),
                _ => line.comes(TRIP),
            }
        }
        assert!(line.controller.window() < window);
    }

    #[test]
    fn a_mark_counts_though_nothing_is_lost() {
        let mut line = Line::new();
        let (window, now) = (line.controller.window(), line.now);
        line.controller.on_congestion_event(now, now, false, 0);
        assert!(line.controller.window() < window);
    }

    #[test]
    fn within_a_machine_a_search_for_larger_frames_leaves_room_for_what_is_said_meanwhile() {
        let built = |frame_max| Arc::new(Discerning::new(frame_max)).build(Instant::now(), 1_200);
        let mut near = built(FRAME_LOOPBACK);
        let frame = u64::from(FRAME_LOOPBACK);
        assert!(near.window() > 2 * frame && near.initial_window() == near.window());
        for _ in 0..100 {
            let (now, before) = (Instant::now(), near.window());
            near.on_congestion_event(now, now, true, 1 << 30);
            assert_eq!(near.window(), before);
        }
        assert!(built(FRAME_ETHERNET).window() < 2 * frame);
    }

    #[test]
    fn one_long_round_trip_is_no_queue_and_an_old_one_is_forgotten() {
        let mut line = Line::new();
        (0..20).for_each(|_| line.comes(TRIP));
        line.comes(TRIP + 9 * QUEUE_MIN);
        assert!(!line.controller.trips.queue(), "the others were short");
        line.now += Duration::from_secs(1);
        line.comes(TRIP);
        assert!(!line.controller.trips.queue());
    }
}
