//! What each completion means.
//!
//! A completion of a former life is counted and forgotten; its buffer, if it names one, is given
//! back on every way out. Bound: one completion at a time.

use io_uring::cqueue;
use io_uring::types::RecvMsgOut;

use super::buffers::Taken;
use super::satellite::Done;
use super::{KINDS, Kind, More, Phase, Pick, RingNet};
use crate::clock::Time;
use crate::shard::net::{Happening, ShardNet, SocketEnd, name};
use crate::shard::uring::token::Token;

impl RingNet {
    /// Takes one completion to its socket; what a cell may hear of it is returned.
    pub(super) fn complete(&mut self, done: Done, net: &mut ShardNet, now: Time) -> Option<Pick> {
        let satellite = &mut self.satellites[usize::from(done.satellite)];
        let taken = satellite.taken(&done);
        let op = match Token::decode(done.data) {
            Some(Token::Op { slot, incarnation }) => {
                let socket = slot >> 3;
                let known = self.known(socket, incarnation);
                known.map(|_| (socket, KINDS[(slot & 7) as usize]))
            }
            _ => None,
        };
        let Some((socket, kind)) = op else {
            net.stats.strays += 1;
            self.give_back(done.satellite, taken);
            return None;
        };
        if kind == Kind::Open && self.conn(socket).phase == Phase::Last {
            return None; // the reset before the close failed: it is closed without
        }
        if !cqueue::more(done.flags) {
            self.conn(socket).pending -= 1;
            self.satellites[usize::from(done.satellite)].pending -= 1;
        }
        match kind {
            Kind::Open | Kind::Bind | Kind::Connect => {
                self.connected(socket, kind, done.result, net, now)
            }
            Kind::Accept => self.accepted(socket, done.result, net, now),
            Kind::Receive => self.received(socket, done, taken, net),
            Kind::Send => self.sent(socket, done.result, net),
            Kind::Close => {
                let slot = u32::from(self.conn(socket).slot);
                self.satellites[usize::from(done.satellite)].give_slot(slot);
                self.free(socket);
                None
            }
            Kind::Aside => {
                self.settle(socket);
                None
            }
        }
    }

    fn give_back(&mut self, satellite: u8, taken: Option<Taken>) {
        if let Some(taken) = taken {
            self.satellites[usize::from(satellite)].give(taken);
        }
    }

    fn connected(
        &mut self,
        socket: u32,
        kind: Kind,
        result: i32,
        net: &mut ShardNet,
        now: Time,
    ) -> Option<Pick> {
        let conn = self.conn(socket);
        let more = conn.more.take();
        let closing = conn.phase == Phase::Closing;
        let end = (result < 0).then(|| match kind {
            Kind::Bind => SocketEnd::of_bind(-result),
            _ => SocketEnd::of(-result),
        });
        self.dialled(more, closing, end, now);
        if closing {
            self.settle(socket);
            return None;
        }
        // Nothing is under way any more that would have to be cancelled.
        self.conn(socket).phase = Phase::Open;
        if let Some(end) = end {
            self.end(socket, end, net);
            return None;
        }
        self.receive(socket);
        self.mark_dirty(socket);
        Some(Pick::Plain(socket, Happening::Connected))
    }

    fn accepted(
        &mut self,
        socket: u32,
        result: i32,
        net: &mut ShardNet,
        now: Time,
    ) -> Option<Pick> {
        let conn = self.conn(socket);
        let Some(More::Accept { listener, name }) = conn.more.take().map(|more| *more) else {
            return None;
        };
        let listens = self.without_spare(listener, socket);
        if result < 0 {
            match -result {
                // Taken back by the caller before it was accepted, or by us.
                libc::ECANCELED | libc::ECONNABORTED | libc::EINTR => {}
                errno => {
                    net.stats.ends.count(SocketEnd::of(errno));
                    self.put_off(listener, now);
                }
            }
            let conn = self.conn(socket);
            (conn.phase, conn.hollow) = (Phase::Closing, true);
            self.settle(socket);
            return None;
        }
        let peer = name.address().filter(|_| listens);
        let Some(peer) = peer else {
            self.conn(socket).phase = Phase::Closing;
            self.conn(socket).abrupt = true;
            self.settle(socket);
            return None;
        };
        self.conn(socket).phase = Phase::Open;
        self.receive(socket);
        Some(Pick::Plain(socket, Happening::Accepted { listener, peer }))
    }

    fn received(
        &mut self,
        socket: u32,
        done: Done,
        taken: Option<Taken>,
        net: &mut ShardNet,
    ) -> Option<Pick> {
        let more = cqueue::more(done.flags);
        let conn = self.conn(socket);
        conn.receiving = more;
        let datagrams = conn.datagrams;
        if conn.phase != Phase::Open {
            self.give_back(done.satellite, taken);
            self.settle(socket);
            return None;
        }
        match taken {
            Some(taken) if datagrams => {
                self.receive(socket);
                return self.datagram(socket, done.satellite, taken, net);
            }
            Some(taken) if done.result > 0 => {
                self.receive(socket);
                self.lent = Some((done.satellite, taken));
                return Some(Pick::Bytes(socket));
            }
            unused => self.give_back(done.satellite, unused),
        }
        match -done.result {
            0 if !datagrams => {
                let conn = self.conn(socket);
                conn.ended = true;
                let finished = conn.finished;
                self.tell(socket, Happening::PeerFinished);
                if finished {
                    self.end(socket, SocketEnd::Done, net);
                }
            }
            libc::ENOBUFS => {
                net.stats.no_buffer += 1;
                let life = self.conn(socket).life;
                self.starved.push_back((socket, life));
            }
            0 | libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.receive(socket),
            _ if datagrams => {
                net.stats.datagrams_lost += 1;
                self.receive(socket);
            }
            errno => self.end(socket, SocketEnd::of(errno), net),
        }
        None
    }

    fn datagram(
        &mut self,
        socket: u32,
        satellite: u8,
        taken: Taken,
        net: &mut ShardNet,
    ) -> Option<Pick> {
        let bytes = self.satellites[usize::from(satellite)].bytes(&taken);
        let read = RecvMsgOut::parse(bytes, self.form.heading())
            .ok()
            .and_then(|out| {
                let from = name::read(out.name_data())?;
                let payload = out.payload_data();
                let begin = bytes.len() - payload.len();
                let whole = !out.is_payload_truncated();
                whole.then_some((from, begin..bytes.len()))
            });
        let Some((from, range)) = read else {
            net.stats.datagrams_lost += 1;
            self.give_back(satellite, Some(taken));
            return None;
        };
        self.lent = Some((satellite, taken));
        Some(Pick::Datagram(socket, from, range))
    }

    fn sent(&mut self, socket: u32, result: i32, net: &mut ShardNet) -> Option<Pick> {
        let conn = self.conn(socket);
        conn.sending = false;
        let (phase, datagrams) = (conn.phase, conn.datagrams);
        let out = conn.out.as_mut()?;
        let mut freed = 0;
        if datagrams {
            freed = out.pass();
            net.stats.datagrams_lost += u64::from(result < 0);
        } else if result > 0 {
            freed = result as usize;
            out.advance(freed);
        }
        net.stats.bytes_out += result.max(0) as u64;
        if phase != Phase::Open {
            self.settle(socket);
            return None;
        }
        match -result {
            libc::EINTR | libc::EAGAIN => {}
            errno if errno > 0 && !datagrams => {
                self.end(socket, SocketEnd::of(errno), net);
                return None;
            }
            _ => {}
        }
        self.mark_dirty(socket);
        Some(Pick::Plain(socket, Happening::Sent(freed as u32)))
    }
}
