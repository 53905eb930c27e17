//! Sockets of cells: what happened at one, told in a step.
//!
//! It asks nothing of sockets by itself but that an accepted one finds its cell. Bound:
//! [`CANDIDATES_MAX`] cells looked at.

use super::{Moment, Slab, join, split};
use crate::cell::Cell;
use crate::shard::net::{Claim, SocketEvent, SocketId};
use crate::shard::spec::CellState;

/// Cells looked at to find one that runs.
const CANDIDATES_MAX: u32 = 1_024;

impl<C: Cell> Slab<C> {
    /// Tells a cell what happened at one of its sockets.
    pub(super) fn hear_socket(
        &mut self,
        at: &Moment,
        key: u32,
        id: SocketId,
        event: SocketEvent<'_>,
    ) {
        if matches!(event, SocketEvent::Ended(_)) {
            let mut shard = self.net.shard.lock();
            shard.disown(id.index, &mut self.net.heads);
        }
        debug_assert_eq!(self.slot(key).state, CellState::Running);
        let begun = self.begin_detail();
        let result = self.run_step(key, at, at.now, 0, |cell, cx| cell.socket(id, event, cx));
        self.end_detail(key, "socket", begun);
        self.in_hand = result.is_err().then_some("socket");
        self.settle(key, at, result);
    }

    /// Finds a cell for an accepted connection and tells it.
    pub(super) fn claim_socket(&mut self, at: &Moment, claim: &Claim) {
        let Some(key) = self.claimant(claim) else {
            self.net.shard.lock().unclaimed(claim.socket);
            return;
        };
        let by = self.net.owner(key, self.ordinal(key));
        let id = {
            let mut shard = self.net.shard.lock();
            shard.claim(claim.socket, by, &mut self.net.heads)
        };
        let event = SocketEvent::Accepted {
            peer: claim.peer,
            listener: claim.listener,
        };
        self.hear_socket(at, key, id, event);
    }

    /// The slab ends without its cells' last steps: so do their sockets.
    pub(super) fn part_sockets(&mut self) {
        for group in 0..self.groups.len() {
            for place in 0..self.groups[group].slots.len() {
                if self.net.heads.live() == 0 {
                    return;
                }
                let key = join(group, place);
                self.net.part_all(key, self.ordinal(key), false);
            }
        }
    }

    fn claimant(&mut self, claim: &Claim) -> Option<u32> {
        let listener = claim.listener.index;
        for _ in 0..CANDIDATES_MAX {
            let deal = self.net.shard.lock().deal(listener);
            let Some((ordinal, of)) = deal else {
                return Some(claim.key);
            };
            if of == 0 {
                return None;
            }
            let key = self.find(ordinal).filter(|key| {
                let (group, place) = split(*key);
                self.groups[group].slots[place].state == CellState::Running
            });
            if key.is_some() || of <= 1 {
                return key;
            }
        }
        None
    }
}
