//! What one peer may take of what all peers of a listener share.
//!
//! Whoever may only be an address has an address's share: of the handshakes, and of the connections
//! without a certificate. A certificate has a share of the connections, wherever they come from. So
//! nobody needs to be trusted for the others to have room. What peers may put into the world, which
//! forgets nothing, is counted for each certificate. It counts; it closes nothing. Bounds:
//! [`Limits`].

mod door;
mod places;
mod quota;

use std::net::{IpAddr, Ipv6Addr};

pub(crate) use door::Door;
pub(crate) use places::{Place, Places};
pub(crate) use quota::{Quota, Quotas};

use crate::listener::HANDSHAKES_MAX;
use crate::registry::CONNECTIONS_MAX;

/// Handshakes of one address at once, a quarter of all: a site's gateways behind one address that
/// come back together need some milliseconds each.
pub const HANDSHAKES_SHARE_MAX: usize = HANDSHAKES_MAX / 4;
/// Connections with one certificate, and those from one address, a quarter of all: some hundred
/// gateways behind one address, or a fleet's links on a thousand threads.
pub const CONNECTIONS_SHARE_MAX: usize = CONNECTIONS_MAX / 4;

/// Devices that the peers of one certificate may make known, and those without one together: with
/// as many sensors as may be, a quarter of the rows that a world holds at most (16 Mi).
pub const DEVICES_MAX: u32 = 16_384;

/// The limits of a node's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Handshakes at once, for each listener.
    pub handshakes: usize,
    /// Those of one address.
    pub handshakes_share: usize,
    /// Connections.
    pub connections: usize,
    /// Those with one certificate, and those from one address.
    pub connections_share: usize,
    /// Devices that the peers of one certificate may make known, unless it is for any device, and
    /// those without a certificate together.
    pub devices: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: HANDSHAKES_MAX,
            handshakes_share: HANDSHAKES_SHARE_MAX,
            connections: CONNECTIONS_MAX,
            connections_share: CONNECTIONS_SHARE_MAX,
            devices: DEVICES_MAX,
        }
    }
}

/// Why there is no room for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoom {
    #[error("{0} handshakes, which is the most")]
    Handshakes(usize),
    #[error("{0} handshakes from its address, which is the most of one")]
    HandshakesOfAddress(usize),
    #[error("{0} connections, which is the most")]
    Connections(usize),
    #[error("{0} connections from its address, which is the most of one")]
    ConnectionsOfAddress(usize),
    #[error("{0} connections with its certificate, which is the most of one")]
    ConnectionsWithCertificate(usize),
}

impl NoRoom {
    /// Whether others have room still.
    pub(crate) const fn is_of_one(self) -> bool {
        !matches!(self, Self::Handshakes(_) | Self::Connections(_))
    }
}

/// What counts as one address: of IPv6 a /64, within which a host has as many as it likes (RFC
/// 4291, 2.5.4).
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let network = v6.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_one_network_of_a_host_are_one() {
        let same = |a: &str, b: &str| source(a.parse().unwrap()) == source(b.parse().unwrap());
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::9"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
