//! Brokers and servers as cells: one for each protocol, for the devices of a simulation.
//!
//! On the network between simulated shards a broker is a cell as its devices are, so what happens
//! depends on virtual time alone. They belong to no population, are hit by no fault, and what they
//! hear they forget. Bounds: a connection for each device; of CoAP the addresses that ever called,
//! which are at most the ports of the simulated network: 16,384 for each local address.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{
    Accept, AddSlabError, ShardHandle, SlabHandle, SlabSpec, SocketEvent, SocketId,
};
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Fault, Flow, MailboxSpec,
    Message, Overflow,
};

use super::Peer;
use crate::profile::Protocol;

/// Where each is: scheme by scheme, all on an address that is a name only.
pub const HOSTS: [(Protocol, &str, u16); 3] = [
    (Protocol::Mqtt, "mqtt://127.0.0.1", 1_883),
    (Protocol::Http, "http://127.0.0.1", 80),
    (Protocol::Coap, "coap://127.0.0.1", 5_683),
];

/// The hosts of a simulation, for as long as its shards run.
#[derive(Debug)]
pub struct Hosts {
    _slab: SlabHandle<Host>,
}

impl Hosts {
    /// Opens them on a shard, the same one for any number of shards.
    ///
    /// # Errors
    /// The shard takes no more.
    pub fn open(shard: &ShardHandle) -> Result<Self, AddSlabError> {
        let all = 0..HOSTS.len() as u32;
        let slab = shard.add_slab(SlabSpec {
            path: ActorPath::root().join("peers"),
            name: Arc::new(|at| match HOSTS.get(at as usize) {
                Some((protocol, ..)) => protocol.name().to_owned(),
                None => at.to_string(),
            }),
            ordinals: vec![all],
            shared: (),
            out: (),
            identity: Box::new(|_| ()),
            mailbox: MailboxSpec::new(1, Overflow::Reject),
            supervisor: Box::new(Restarts(0)),
        })?;
        Ok(Self { _slab: slab })
    }
}

/// A host that fails begins anew after a second.
struct Restarts(u64);

impl CellSupervisor for Restarts {
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision {
        self.0 += 1;
        let at = exit.now + Duration::from_secs(1);
        CellDecision::Restart { at }
    }

    fn restarts(&self) -> u64 {
        self.0
    }

    fn quarantined(&self) -> u64 {
        0
    }
}

/// Nothing is asked of a host.
#[derive(Debug)]
enum Never {}

impl Message for Never {}

#[derive(Debug)]
struct Host {
    protocol: Protocol,
    /// By connection.
    streams: BTreeMap<SocketId, Peer>,
    /// By who sends datagrams.
    callers: BTreeMap<SocketAddr, Peer>,
    out: Vec<u8>,
}

impl Cell for Host {
    type Msg = Never;
    type Shared = ();
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        let host = HOSTS.get(cx.ordinal as usize);
        let (protocol, _, port) = *host.ok_or(Fault::new("no such host"))?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let opened = match protocol {
            Protocol::Coap => cx.net().datagrams(at),
            _ => cx.net().listen(at, Accept::Here),
        };
        opened.map_err(|error| Fault::with("net", error))?;
        Ok(Self {
            protocol,
            streams: BTreeMap::new(),
            callers: BTreeMap::new(),
            out: Vec::new(),
        })
    }

    fn handle(&mut self, never: Never, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        match never {}
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }

    fn socket(
        &mut self,
        socket: SocketId,
        event: SocketEvent<'_>,
        cx: &mut CellContext<'_, Self>,
    ) -> Result<Flow, Fault> {
        match event {
            SocketEvent::Accepted { .. } => {
                self.streams
                    .extend(Peer::of(self.protocol).map(|peer| (socket, peer)));
            }
            SocketEvent::Received(bytes) => {
                let Some(peer) = self.streams.get_mut(&socket) else {
                    return Ok(Flow::Continue);
                };
                let heard = peer.hear(bytes, &mut self.out, &mut |_| ()).is_ok();
                let sent = self.out.is_empty() || cx.net().write(socket, &self.out).is_ok();
                self.out.clear();
                if !heard || !sent {
                    self.streams.remove(&socket);
                    cx.net().reset(socket);
                }
            }
            SocketEvent::Datagram { from, bytes } => {
                if let Some(fresh) = Peer::of(self.protocol) {
                    let peer = self.callers.entry(from).or_insert(fresh);
                    // Who cannot be understood is not answered.
                    let _ = peer.hear(bytes, &mut self.out, &mut |_| ());
                }
                if !self.out.is_empty() {
                    // One that finds no room is lost, as it may be anywhere.
                    let _ = cx.net().write_to(socket, from, &self.out);
                    self.out.clear();
                }
            }
            SocketEvent::PeerFinished => {
                self.streams.remove(&socket);
                cx.net().close(socket);
            }
            SocketEvent::Ended(_) => drop(self.streams.remove(&socket)),
            _ => {}
        }
        Ok(Flow::Continue)
    }
}
