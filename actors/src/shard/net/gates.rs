//! Backoff for what this host lacks: ports towards a peer, room for more tables.
//!
//! Values only. Bound: [`PEERS_MAX`] peers remembered.

use std::net::{IpAddr, SocketAddr};

use crate::clock::Time;

/// Peers for which no ports were left; the oldest is forgotten.
const PEERS_MAX: usize = 64;

/// First and longest pause.
const PAUSE_MIN_NS: u64 = 100_000_000;
const PAUSE_MAX_NS: u64 = 5_000_000_000;

/// Closed for a while after a failure, twice as long after each further one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gate {
    until: Time,
    pause_ns: u64,
}

impl Gate {
    pub(crate) fn is_closed(&self, now: Time) -> bool {
        now < self.until
    }

    pub(crate) fn fail(&mut self, now: Time) {
        self.pause_ns = (self.pause_ns * 2).clamp(PAUSE_MIN_NS, PAUSE_MAX_NS);
        self.until = Time(now.0.saturating_add(self.pause_ns));
    }
}

/// Ports towards peers: looking for one that is free in vain takes long.
#[derive(Debug, Default)]
pub(crate) struct PortGates(Vec<((Option<IpAddr>, SocketAddr), Gate)>);

impl PortGates {
    fn find(&self, from: Option<SocketAddr>, to: SocketAddr) -> Option<usize> {
        let key = (from.map(|from| from.ip()), to);
        self.0.iter().position(|entry| entry.0 == key)
    }

    pub(crate) fn is_closed(&self, from: Option<SocketAddr>, to: SocketAddr, now: Time) -> bool {
        let at = self.find(from, to);
        at.is_some_and(|at| self.0[at].1.is_closed(now))
    }

    pub(crate) fn fail(&mut self, from: Option<SocketAddr>, to: SocketAddr, now: Time) {
        let at = self.find(from, to).unwrap_or_else(|| {
            if self.0.len() == PEERS_MAX {
                self.0.remove(0);
            }
            self.0
                .push(((from.map(|from| from.ip()), to), Gate::default()));
            self.0.len() - 1
        });
        let gate = &mut self.0[at].1;
        // Those under way when it closed fail together, once.
        if !gate.is_closed(now) {
            gate.fail(now);
        }
    }

    pub(crate) fn succeed(&mut self, from: Option<SocketAddr>, to: SocketAddr) {
        if !self.0.is_empty()
            && let Some(at) = self.find(from, to)
        {
            self.0.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn each_failure_closes_for_longer_up_to_five_seconds() {
        let mut gate = Gate::default();
        assert!(!gate.is_closed(Time(0)));
        let mut now = Time(0);
        for pause_ms in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            gate.fail(now);
            assert!(gate.is_closed(Time(now.0 + pause_ms * MS - 1)));
            now = Time(now.0 + pause_ms * MS);
            assert!(!gate.is_closed(now), "{pause_ms} ms");
        }
    }

    #[test]
    fn only_the_peer_without_ports_is_refused_and_the_oldest_is_forgotten() {
        let peer = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let from = Some(SocketAddr::from(([127, 0, 0, 2], 0)));
        let mut gates = PortGates::default();
        gates.fail(from, peer(1), Time(0));
        gates.fail(from, peer(1), Time(1));
        assert!(gates.is_closed(from, peer(1), Time(99 * MS)));
        assert!(
            !gates.is_closed(from, peer(1), Time(100 * MS)),
            "once, not twice"
        );
        assert!(!gates.is_closed(None, peer(1), Time(0)));
        assert!(!gates.is_closed(from, peer(2), Time(0)));
        for port in 2..=65 {
            gates.fail(from, peer(port), Time(0));
        }
        assert!(!gates.is_closed(from, peer(1), Time(0)));
        gates.succeed(from, peer(65));
        assert!(!gates.is_closed(from, peer(65), Time(0)));
    }
}
