//! Sockets end: what waits is sent or cancelled, then the slot is emptied, then it is free.
//!
//! Nothing is taken from under an operation: a socket with operations under way is cancelled first
//! and closed when the last has completed. Bounds: the deadlines of [`super`].

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::Fixed;

use super::{Kind, More, Phase, RingNet, Tell, lending};
use crate::clock::Time;
use crate::shard::net::{Happening, LEAVE_MAX, ShardNet, SocketEnd};

impl RingNet {
    /// Closes a socket once what waits is sent.
    pub(super) fn leave(&mut self, socket: u32, net: &mut ShardNet, now: Time) {
        let conn = self.conn(socket);
        if conn.out.is_none() || conn.phase == Phase::Listening {
            self.close(socket, false, net);
            return;
        }
        conn.leaving = true;
        let life = conn.life;
        self.leaves.push_back((now + LEAVE_MAX, socket, life));
        self.mark_dirty(socket);
    }

    /// All is sent.
    pub(super) fn drained(&mut self, socket: u32, net: &mut ShardNet) {
        let conn = self.conn(socket);
        if conn.leaving {
            self.close(socket, false, net);
        } else if conn.finishing && !std::mem::replace(&mut conn.finished, true) {
            let slot = Fixed(u32::from(conn.slot));
            let ended = conn.ended;
            let entry = opcode::Shutdown::new(slot, libc::SHUT_WR).build();
            self.start_one(socket, Kind::Aside, entry);
            if ended {
                self.end(socket, SocketEnd::Done, net);
            }
        }
    }

    /// Tells that a socket has ended by itself, and closes it.
    pub(super) fn end(&mut self, socket: u32, end: SocketEnd, net: &mut ShardNet) {
        self.tell(socket, Happening::Ended(end));
        self.close(socket, false, net);
    }

    /// Closes a socket, with a reset if it is to be abrupt.
    pub(super) fn close(&mut self, socket: u32, abrupt: bool, net: &mut ShardNet) {
        let conn = self.conn(socket);
        match conn.phase {
            Phase::Free | Phase::Spare | Phase::Last => {}
            Phase::Closing => conn.abrupt |= abrupt,
            Phase::Waiting => self.free(socket),
            Phase::Listening => {
                conn.phase = Phase::Closing;
                self.close_listener(socket, net);
            }
            Phase::Dialling | Phase::Open => {
                let under_way = [
                    (conn.phase == Phase::Dialling, Kind::Connect),
                    (conn.receiving, Kind::Receive),
                    (conn.sending, Kind::Send),
                ];
                conn.phase = Phase::Closing;
                conn.abrupt = abrupt;
                for (_, kind) in under_way.into_iter().filter(|op| op.0) {
                    self.cancel(socket, kind, net);
                }
                self.settle(socket);
            }
        }
    }

    /// Cancels one operation, which then completes, as does the cancelling itself. By its user
    /// data: the kernel finds that by its hash, but looks at every operation of a ring to find
    /// those of a file.
    pub(super) fn cancel(&mut self, socket: u32, kind: Kind, net: &mut ShardNet) {
        net.stats.cancelled += 1;
        let data = self.token(socket, kind);
        let entry = opcode::AsyncCancel::new(data).build();
        self.start_one(socket, Kind::Aside, entry);
    }

    fn close_listener(&mut self, listener: u32, net: &mut ShardNet) {
        let Some(More::Listener { spares, .. }) = self.conn(listener).more.as_deref() else {
            return;
        };
        for spare in spares.clone() {
            self.cancel(spare, Kind::Accept, net);
        }
        self.settle(listener);
    }

    /// A spare of a listener is none any more. Whether it still listens.
    pub(super) fn without_spare(&mut self, listener: u32, spare: u32) -> bool {
        let conn = self.conn(listener);
        let Some(More::Listener { spares, .. }) = conn.more.as_deref_mut() else {
            return false;
        };
        spares.retain(|s| *s != spare);
        let listens = conn.phase == Phase::Listening;
        let life = conn.life;
        match listens {
            true if !self.hungry.contains(&(listener, life)) => self.hungry.push((listener, life)),
            true => {}
            false => self.settle(listener),
        }
        listens
    }

    /// Empties the slot of a closing socket when nothing is under way any more.
    pub(super) fn settle(&mut self, socket: u32) {
        let conn = self.conn(socket);
        if conn.phase != Phase::Closing || conn.pending > 0 {
            return;
        }
        if let Some(More::Listener { spares, .. }) = conn.more.as_deref() {
            if spares.is_empty() {
                self.free(socket);
            }
            return;
        }
        let slot = u32::from(conn.slot);
        if conn.hollow {
            let satellite = usize::from(conn.satellite);
            self.satellites[satellite].give_slot(slot);
            self.free(socket);
            return;
        }
        conn.phase = Phase::Last;
        let abrupt = conn.abrupt && !conn.datagrams;
        let close = opcode::Close::new(Fixed(slot)).build();
        let close = close.user_data(self.token(socket, Kind::Close));
        if abrupt {
            // Linked so that the close runs whatever comes of it; told only if it fails.
            let first = lending::break_off(slot)
                .flags(Flags::IO_HARDLINK | Flags::SKIP_SUCCESS)
                .user_data(self.token(socket, Kind::Open));
            self.start(socket, &[first, close]);
        } else {
            self.start(socket, &[close]);
        }
    }

    /// The slot is empty, or was never there: the place is free when all before it is told.
    pub(super) fn free(&mut self, socket: u32) {
        self.conn(socket).phase = Phase::Last;
        self.told.push_back((socket, Tell::Gone));
    }

    /// The place is free.
    pub(super) fn gone(&mut self, socket: u32, net: &mut ShardNet) {
        let conn = &mut self.conns[socket as usize];
        debug_assert!(conn.pending == 0 && !conn.sending);
        conn.phase = Phase::Free;
        conn.more = None;
        if let Some(out) = conn.out.take() {
            net.stats.bytes_dropped += out.len() as u64;
            self.pool.give(out);
        }
        net.gone(socket);
    }

    /// Ends what has taken too long.
    pub(super) fn end_overdue(&mut self, net: &mut ShardNet, now: Time) {
        while let Some((until, socket, life)) = self.dials.front().copied() {
            let dials = self
                .known(socket, life)
                .is_some_and(|c| matches!(c.phase, Phase::Waiting | Phase::Dialling));
            if dials && until > now {
                break;
            }
            self.dials.pop_front();
            if dials {
                self.tell(socket, Happening::Ended(SocketEnd::TimedOut));
                self.close(socket, true, net);
            }
        }
        while let Some((until, socket, life)) = self.leaves.front().copied() {
            let leaves = self.known(socket, life).is_some_and(|conn| {
                matches!(conn.phase, Phase::Waiting | Phase::Dialling | Phase::Open)
            });
            if leaves && until > now {
                break;
            }
            self.leaves.pop_front();
            if leaves {
                self.close(socket, true, net);
            }
        }
    }
}
