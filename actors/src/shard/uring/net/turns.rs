//! Whose turn it is to connect: peers in turn, and those of one peer in the order of asking.
//!
//! A peer that answers nothing keeps each connect for as long as its deadline allows. So none has
//! more than its share of those under way, and the others need not wait behind it. Bounds:
//! [`DIALLING_MAX`] under way, [`SHARE`] of them to one peer; the table of sockets.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Connects under way at a time; the others wait their turn, so that a listener on the same host
/// (backlog 4,096) is not flooded.
pub(super) const DIALLING_MAX: usize = 1_024;

/// Of these to one address: half, so that one peer that is down costs others no time.
const SHARE: usize = DIALLING_MAX / 2;

/// The connects to one address.
#[derive(Default)]
struct Peer {
    under_way: usize,
    waiting: VecDeque<(u32, u32)>,
}

impl Peer {
    fn has_turn(&self) -> bool {
        self.under_way < SHARE && !self.waiting.is_empty()
    }
}

/// Connects that wait, and how many are under way.
#[derive(Default)]
pub(super) struct Turns {
    peers: BTreeMap<SocketAddr, Peer>,
    /// Those with one that waits and may begin, each once.
    ready: VecDeque<SocketAddr>,
    under_way: usize,
}

impl Turns {
    /// One more waits: a socket and its life.
    pub(super) fn push(&mut self, to: SocketAddr, socket: (u32, u32)) {
        let peer = self.peers.entry(to).or_default();
        let had_turn = peer.has_turn();
        peer.waiting.push_back(socket);
        if !had_turn && peer.has_turn() {
            self.ready.push_back(to);
        }
    }

    /// Whether one may begin.
    pub(super) fn has_next(&self) -> bool {
        self.under_way < DIALLING_MAX && !self.ready.is_empty()
    }

    /// The next that may begin: from now on it is under way.
    pub(super) fn next(&mut self) -> Option<(SocketAddr, (u32, u32))> {
        if self.under_way >= DIALLING_MAX {
            return None;
        }
        let to = self.ready.pop_front()?;
        let peer = self.peers.get_mut(&to)?;
        let socket = peer.waiting.pop_front()?;
        peer.under_way += 1;
        self.under_way += 1;
        if peer.has_turn() {
            self.ready.push_back(to);
        }
        Some((to, socket))
    }

    /// One has ended, or did not begin.
    pub(super) fn end(&mut self, to: SocketAddr) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        let had_turn = peer.has_turn();
        peer.under_way -= 1;
        self.under_way -= 1;
        if !had_turn && peer.has_turn() {
            self.ready.push_back(to);
        } else if peer.under_way == 0 && peer.waiting.is_empty() {
            self.peers.remove(&to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn connects_to_a_peer_that_does_not_answer_leave_room_for_those_to_others() {
        let mut turns = Turns::default();
        let (dead, fine) = (peer(1), peer(2));
        (0..100_000).for_each(|n| turns.push(dead, (n, 0)));
        let begun = std::iter::from_fn(|| turns.next()).count();
        assert_eq!(begun, SHARE);
        assert!(!turns.has_next());
        (0..3).for_each(|n| turns.push(fine, (n, 1)));
        for n in 0..3 {
            assert!(turns.has_next());
            assert_eq!(turns.next(), Some((fine, (n, 1))), "in the order of asking");
            turns.end(fine);
        }
        assert!(!turns.has_next());
        turns.end(dead);
        assert_eq!(turns.next(), Some((dead, (SHARE as u32, 0))));
    }

    #[test]
    fn peers_take_turns_and_leave_nothing() {
        let mut turns = Turns::default();
        for n in 0..1_000 {
            (1..=4).for_each(|port| turns.push(peer(port), (n, 0)));
        }
        let begun: Vec<_> = std::iter::from_fn(|| turns.next()).collect();
        assert_eq!(begun.len(), DIALLING_MAX);
        let first: Vec<u16> = begun[..5].iter().map(|(to, _)| to.port()).collect();
        assert_eq!(first, [1, 2, 3, 4, 1]);
        begun.iter().for_each(|(to, _)| turns.end(*to));
        let mut ended = DIALLING_MAX;
        while let Some((to, _)) = turns.next() {
            turns.end(to);
            ended += 1;
        }
        assert_eq!(ended, 4_000);
        assert!(turns.peers.is_empty() && turns.ready.is_empty() && turns.under_way == 0);
    }
}
