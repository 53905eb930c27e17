//! The engine by hand, against a peer of this thread.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};

use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::shard::net::NetConfig;
use crate::shard::net::socket::SocketId;
use crate::shard::net::table::{Heads, Owner};

const BY: Owner = Owner {
    tag: 1,
    key: 0,
    rank: 1,
    ordinal: 0,
};

/// Looks of a second each for something that must happen.
const LOOKS: usize = 20;

/// A connection and its peer.
struct Pair {
    engine: PollNet,
    net: ShardNet,
    id: SocketId,
    peer: TcpStream,
}

impl Pair {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut engine, mut net) = (PollNet::default(), ShardNet::new(NetConfig::default()));
        engine
            .begin(eventfd(0, EventfdFlags::NONBLOCK).unwrap())
            .unwrap();
        let what = What::Connect {
            local: None,
            peer: listener.local_addr().unwrap(),
        };
        let id = net.open(BY, &mut Heads::default(), what, None).unwrap();
        engine.obey(&mut net, Time(0)).unwrap();
        let (peer, _) = listener.accept().unwrap();
        peer.set_nonblocking(true).unwrap();
        let mut pair = Self {
            engine,
            net,
            id,
            peer,
        };
        pair.look_until(|pair| pair.engine.conn(pair.id.index).phase == Phase::Open);
        pair
    }

    fn look_until(&mut self, is_so: impl Fn(&mut Self) -> bool) {
        for _ in 0..LOOKS {
            if is_so(self) {
                return;
            }
            self.engine.look(Some(Duration::from_secs(1))).unwrap();
        }
        assert!(is_so(self), "in vain");
    }

    /// Takes all that has happened; how often the peer had finished.
    fn hear(&mut self) -> usize {
        let mut finished = 0;
        while let Some(told) = self.engine.next(&mut self.net, Time(0)) {
            finished += usize::from(matches!(told.what, Happening::PeerFinished));
            self.net.note(told);
        }
        finished
    }

    /// Writes until the host takes no more.
    fn fill(&mut self) {
        let index = self.id.index;
        while !self.engine.conn(index).blocked {
            while self.net.write(BY, self.id, None, &[7; 8_192]).is_ok() {}
            self.engine.obey(&mut self.net, Time(0)).unwrap();
            self.hear();
        }
    }

    /// The peer reads until there is room again, which the engine sees.
    fn drain(&mut self) {
        let mut buffer = vec![0; 1 << 20];
        for _ in 0..LOOKS {
            while self.peer.read(&mut buffer).is_ok_and(|n| n > 0) {}
            self.engine.look(Some(Duration::from_millis(100))).unwrap();
            if !self.engine.conn(self.id.index).blocked {
                return;
            }
        }
        panic!("no room in vain");
    }
}

#[test]
fn who_may_write_again_is_work_for_a_thread_that_looks_before_it_sleeps() {
    let mut pair = Pair::new();
    pair.hear();
    pair.fill();
    assert!(!pair.engine.has_next());
    pair.drain();
    assert!(pair.engine.has_next());
    pair.engine.obey(&mut pair.net, Time(0)).unwrap();
    pair.hear();
    assert!(!pair.engine.has_next(), "once");
}

#[test]
fn a_peer_finishes_once_however_often_there_is_room_after_that() {
    let mut pair = Pair::new();
    pair.hear();
    pair.peer.shutdown(std::net::Shutdown::Write).unwrap();
    pair.look_until(|pair| pair.engine.conn(pair.id.index).readable);
    assert_eq!(pair.hear(), 1);
    for _ in 0..2 {
        pair.fill();
        pair.drain();
        assert_eq!(pair.hear(), 0);
        pair.engine.obey(&mut pair.net, Time(0)).unwrap();
    }
}
