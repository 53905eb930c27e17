//! What the tiers count: one value, shared by every actor of the transport and read by the report.
//!
//! Counters are relaxed atomics, latencies are histograms behind a short lock taken once per batch.
//! Nothing here decides anything. Bound: the size is fixed at construction.
//!
//! The books (held by tests):
//! - T1, sender: `offered to links = sent + dropped[sender]`
//! - T1, network: `sent = received + dropped[network]`, once each link said goodbye
//! - T1, receiver: `received = applied + dropped[overflow, tier, died, refused] + waiting`
//! - T2: `created = acked` once quiesced
//! - T3: `issued = acked + superseded + expired + no_route + dropped + errors + in flight`

mod conns;
mod latency;
mod offset;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use conns::{ConnStats, Conns};
pub use latency::{LatencyHistogram, Quantiles};
pub use offset::{ClockOffset, Clocks};
pub(crate) use offset::{Exchange, OffsetFilter};

/// One of the three tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Datagrams: newest wins, loss is counted.
    T1,
    /// Device to twin streams: each event exactly once.
    T2,
    /// Commands, twin to device.
    T3,
}

impl Tier {
    /// Every tier.
    pub const ALL: [Self; 3] = [Self::T1, Self::T2, Self::T3];

    /// The label: `t1`, `t2`, `t3`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::T1 => "t1",
            Self::T2 => "t2",
            Self::T3 => "t3",
        }
    }
}

/// Why readings went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// On the dialling side, before the network: link full, down, or killed with them in hand.
    Sender,
    /// Between the link's QUIC and ours: loss, full receive buffer, connection cut.
    Network,
    /// In the connection's mailbox: it was full and its oldest went, or its actor died.
    Overflow,
    /// The tier took none within the forwarding deadline.
    Tier,
    /// Lost with an actor that died, or given up by a later stage.
    Died,
    /// Of a device that the certificate of its connection does not cover, or one more than its
    /// quota; also events that the link gave up, as the twin refuses their device.
    Refused,
}

impl DropReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 6] = [
        Self::Sender,
        Self::Network,
        Self::Overflow,
        Self::Tier,
        Self::Died,
        Self::Refused,
    ];

    /// The label of the `reason` dimension.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Network => "network",
            Self::Overflow => "overflow",
            Self::Tier => "tier",
            Self::Died => "died",
            Self::Refused => "refused",
        }
    }
}

/// A relaxed counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// The count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Readings dropped, by reason.
#[derive(Debug, Default)]
pub struct Drops([Counter; DropReason::ALL.len()]);

impl Drops {
    /// Adds `n` readings.
    pub fn add(&self, reason: DropReason, n: u64) {
        self.0[reason as usize].add(n);
    }

    /// Readings dropped for one reason.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].get()
    }

    /// Readings dropped for any reason. It saturates: what a peer says it sent may be a lie.
    #[must_use]
    pub fn total(&self) -> u64 {
        let each = self.0.iter().map(Counter::get);
        each.fold(0, u64::saturating_add)
    }
}

/// Telemetry by datagram.
#[derive(Debug, Default)]
pub struct T1Stats {
    /// Readings that links handed to QUIC.
    pub sent: Counter,
    /// Datagrams they travelled in.
    pub datagrams_sent: Counter,
    /// Readings decoded by connections.
    pub received: Counter,
    /// Datagrams they came in.
    pub datagrams_received: Counter,
    /// Readings the world took ([`crate::Batch::applied`]).
    pub applied: Counter,
    /// Readings lost, by reason.
    pub dropped: Drops,
    /// Datagrams that were not whole readings.
    pub decode_errors: Counter,
    /// Stamp to receive, one reading in each datagram, microseconds.
    pub latency: LatencyHistogram,
}

/// Events by stream.
#[derive(Debug, Default)]
pub struct T2Stats {
    /// Events that devices put into an outbox.
    pub created: Counter,
    /// Events refused because the outbox was full: the device skipped them.
    pub blocked: Counter,
    /// Events written to QUIC for the first time.
    pub sent: Counter,
    /// Events written again.
    pub resent: Counter,
    /// Events the twin acknowledged.
    pub acked: Counter,
    /// Events decoded by connections, repeats included.
    pub received: Counter,
    /// Events the world applied (counted by the scan).
    pub applied: Counter,
    /// Events that came again and were not taken again (counted by the journal).
    pub duplicates: Counter,
    /// Events of batches that came before their predecessor: ignored, sent again by the link.
    pub out_of_order: Counter,
    /// `dt/1` readings lost, by reason (`actorsim/1` events are sent again instead).
    pub dropped: Drops,
    /// Streams reset because of what they carried.
    pub decode_errors: Counter,
    /// Stamp to receive, one event in each batch, microseconds.
    pub latency: LatencyHistogram,
}

/// Commands.
#[derive(Debug, Default)]
pub struct T3Stats {
    /// Commands given to the tier.
    pub issued: Counter,
    /// Executed and acknowledged by the device.
    pub acked: Counter,
    /// The device had executed a later one already.
    pub superseded: Counter,
    /// Not acknowledged by the deadline.
    pub expired: Counter,
    /// No connection carried the device until the deadline.
    pub no_route: Counter,
    /// Lost with an actor that died, or no room to wait.
    pub dropped: Counter,
    /// Refused, or acknowledged wrongly.
    pub errors: Counter,
    /// Given back by a connection to be tried again.
    pub retried: Counter,
    /// Opening the stream to acknowledgement read, microseconds.
    pub rtt: LatencyHistogram,
    /// Decision to acknowledgement read, microseconds.
    pub decide: LatencyHistogram,
}

impl T3Stats {
    /// Commands whose outcome is known.
    #[must_use]
    pub fn settled(&self) -> u64 {
        let outcomes = [
            &self.acked,
            &self.superseded,
            &self.expired,
            &self.no_route,
            &self.dropped,
            &self.errors,
        ];
        outcomes.into_iter().map(Counter::get).sum()
    }
}

/// How handshakes ended and what connections did.
#[derive(Debug, Default)]
pub struct QuicStats {
    /// Connections accepted.
    pub handshakes_accepted: Counter,
    /// Refused: certificate of another authority, or none where one is needed.
    pub handshakes_foreign: Counter,
    /// Refused: as many handshakes, or connections, as there may be.
    pub handshakes_full: Counter,
    /// Refused: as many of them as one address, or one certificate, may have.
    pub handshakes_crowded: Counter,
    /// Stalled, and gave way to a newcomer.
    pub handshakes_displaced: Counter,
    /// Refused: a certificate for some devices, where devices have no names.
    pub handshakes_devices: Counter,
    /// Accepted, but their actor did not start.
    pub handshakes_unstarted: Counter,
    /// Not done in time.
    pub handshakes_timed_out: Counter,
    /// Failed for another reason.
    pub handshakes_failed: Counter,
    /// Outgoing connections established.
    pub dialled: Counter,
    /// Outgoing attempts that failed.
    pub dial_failed: Counter,
    /// Closed by us.
    pub closed_here: Counter,
    /// Closed by the peer.
    pub closed_by_peer: Counter,
    /// Closed by the idle time-out.
    pub closed_idle: Counter,
    /// Closed by an error, a reset included.
    pub closed_error: Counter,
    /// Packets sent on connections, accepted and dialled, as are those that follow.
    pub sent_packets: Counter,
    /// Packets declared lost by our senders.
    pub lost_packets: Counter,
    /// Bytes in them.
    pub lost_bytes: Counter,
    /// Times a sender slowed down.
    pub congestion_events: Counter,
    /// Times a path was found to lose all large packets.
    pub black_holes: Counter,
    /// Pings sent: keep-alives, and searches for the MTU.
    pub pings: Counter,
    /// Sends of probes after a time-out (RFC 9002, 6.2), one or two for each; to a peer that has
    /// not the acknowledgement frequency extension they are ordinary packets and pings.
    pub probes: Counter,
    /// Streams that we reset.
    pub resets_sent: Counter,
    /// Streams that peers reset.
    pub resets_received: Counter,
    /// Streams that peers asked us to stop.
    pub stops_received: Counter,
    /// Streams refused here because of what they carried, and commands refused by devices.
    pub stream_resets: Counter,
    /// Registrations of which devices were refused, as there were more than may be.
    pub registrations_refused: Counter,
}

/// Everything the transport counts.
#[derive(Debug, Default)]
pub struct TransportStats {
    /// Telemetry.
    pub t1: T1Stats,
    /// Events.
    pub t2: T2Stats,
    /// Commands.
    pub t3: T3Stats,
    /// Connections.
    pub quic: QuicStats,
    /// Clocks of the links.
    pub clocks: Clocks,
    /// Connections, one by one.
    pub conns: Conns,
}

impl TransportStats {
    /// All zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The drop counters of a tier that carries readings.
    #[must_use]
    pub fn drops(&self, tier: Tier) -> &Drops {
        match tier {
            Tier::T1 => &self.t1.dropped,
            Tier::T2 | Tier::T3 => &self.t2.dropped,
        }
    }

    /// Counts readings that the world took.
    pub(crate) fn count_applied(&self, tier: Tier, n: u64) {
        match tier {
            Tier::T1 => self.t1.applied.add(n),
            Tier::T2 | Tier::T3 => self.t2.applied.add(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        let drops = Drops::default();
        for (n, reason) in DropReason::ALL.into_iter().enumerate() {
            drops.add(reason, n as u64 + 1);
        }
        for (n, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(drops.get(reason), n as u64 + 1, "{}", reason.label());
        }
        assert_eq!(drops.total(), 21);
        drops.add(DropReason::Network, u64::MAX - 2);
        assert_eq!(drops.total(), u64::MAX, "a lie of a peer is no panic");
    }
}
