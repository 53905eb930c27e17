//! What quinn counts for one connection, added to the counters of all as it grows.
//!
//! It keeps what it has added, so that it may look as often as it likes. quinn counts probe
//! time-outs nowhere of their own: the probes are among the pings, what they find is among the lost
//! packets. Bound: one snapshot.

use parking_lot::Mutex;
use quinn::Connection;

use crate::stats::QuicStats;

/// The figures, in the order of [`counters`].
type Figures = [u64; 9];

/// One connection's.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Figures>);

impl Meter {
    /// Adds what came since the last look.
    pub(crate) fn read(&self, connection: &Connection, quic: &QuicStats) {
        let mut seen = self.0.lock();
        let now = figures(connection);
        for ((counter, now), seen) in counters(quic).into_iter().zip(now).zip(seen.iter_mut()) {
            counter.add(now.saturating_sub(*seen));
            *seen = now;
        }
    }
}

fn figures(connection: &Connection) -> Figures {
    let stats = connection.stats();
    let (path, out, came) = (stats.path, stats.frame_tx, stats.frame_rx);
    [
        path.sent_packets,
        path.lost_packets,
        path.lost_bytes,
        path.congestion_events,
        path.black_holes_detected,
        out.ping,
        out.reset_stream,
        came.reset_stream,
        came.stop_sending,
    ]
}

const fn counters(quic: &QuicStats) -> [&crate::stats::Counter; 9] {
    [
        &quic.sent_packets,
        &quic.lost_packets,
        &quic.lost_bytes,
        &quic.congestion_events,
        &quic.black_holes,
        &quic.pings,
        &quic.resets_sent,
        &quic.resets_received,
        &quic.stops_received,
    ]
}
