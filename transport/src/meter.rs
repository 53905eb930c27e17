//! What quinn counts for one connection, added to the counters of all as it grows.
//!
//! It keeps what it has added, so that it may look as often as it likes. quinn does not count probe
//! time-outs, but asks for an acknowledgement at once with each probe, and otherwise only when it
//! searches for the MTU, which it counts, and when a peer changes its address. Bound: one snapshot.

use parking_lot::Mutex;
use quinn::Connection;

use crate::stats::QuicStats;

/// The figures, in the order of [`counters`].
type Figures = [u64; 10];

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
        out.immediate_ack.saturating_sub(path.sent_plpmtud_probes),
        out.reset_stream,
        came.reset_stream,
        came.stop_sending,
    ]
}

const fn counters(quic: &QuicStats) -> [&crate::stats::Counter; 10] {
    [
        &quic.sent_packets,
        &quic.lost_packets,
        &quic.lost_bytes,
        &quic.congestion_events,
        &quic.black_holes,
        &quic.pings,
        &quic.probes,
        &quic.resets_sent,
        &quic.resets_received,
        &quic.stops_received,
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actorsim_supervision::chaos::{Fault, FaultPlan, Lines as _};
    use tokio::runtime::Handle;

    use super::*;
    use crate::certs::{SITE_SERVER_NAME, simulated_identity};
    use crate::endpoint::{Listening, Protocol, dialler, listen};
    use crate::network::{Network, SimNet};

    #[tokio::test(start_paused = true)]
    async fn probes_after_a_time_out_are_counted_and_searches_for_the_mtu_are_not() {
        let net = SimNet::new(7);
        let (network, handle) = (Network::Simulated(net.clone()), Handle::current());
        let identity = simulated_identity("end").unwrap();
        let at = "192.0.2.1:4433".parse().unwrap();
        let twin = listen(&handle, at, Listening::Main, &identity, &network).unwrap();
        let link = dialler(&handle, at, &identity, Protocol::Actorsim1, &network).unwrap();
        let connecting = link.connect(at, SITE_SERVER_NAME).unwrap();
        let incoming = async { twin.accept().await.unwrap().await };
        let (dialled, accepted) = tokio::join!(connecting, incoming);
        let (dialled, _accepted) = (dialled.unwrap(), accepted.unwrap());
        let (meter, quic) = (Meter::default(), QuicStats::default());
        tokio::time::sleep(Duration::from_secs(5)).await;
        meter.read(&dialled, &quic);
        assert!(dialled.stats().path.sent_plpmtud_probes > 0);
        assert!(quic.pings.get() > 0);
        assert_eq!(quic.probes.get(), 0);
        net.begin((1, 0), None, FaultPlan::new(Fault::Partition));
        dialled.send_datagram(vec![0; 39].into()).unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        meter.read(&dialled, &quic);
        assert!(quic.probes.get() > 0, "{:?}", dialled.stats());
    }
}
