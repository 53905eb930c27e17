//! A broker in one cell, honest or not, on any host of shards; over TLS if it has a configuration.
//!
//! What a test wants of a connection is its [`Act`]; what it saw is its [`Log`].

#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use actorsim_actors::shard::{Accept, ShardHandle, SlabSpec, SocketEvent, SocketId};
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Fault, Flow, MailboxSpec,
    Message, Overflow,
};
use actorsim_fleet::session::mqtt::packet::{Packet, Publish, Step};
use actorsim_fleet::session::mqtt::property::Properties;
use actorsim_fleet::session::mqtt::read::frame;
use actorsim_fleet::session::mqtt::{Qos, Version};
use actorsim_fleet::session::tls::Terms;
use actorsim_transport::certs::{Site, stream};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection};

/// What a broker does to one connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    Honest,
    /// Closes, or resets, as soon as it has accepted.
    CloseAtOnce,
    ResetAtOnce,
    /// The same when the first bytes come.
    CloseAtFirst,
    ResetAtFirst,
    /// Closes after so many bytes of its own, wherever that is.
    Cut(usize),
    /// Says this instead of its first bytes.
    Say(&'static [u8]),
    /// Takes everything and says nothing.
    Mute,
    /// Says this instead of accepting the session.
    Answer(&'static [u8]),
    /// Accepts the session, and closes.
    CloseAfterConnAck,
    /// Answers the subscription with this, and closes where that is nothing.
    AnswerSubscribe(&'static [u8]),
    /// Answers the first message with this.
    AnswerPublish(&'static [u8]),
    /// Accepts the session, and answers nothing from then on.
    Deaf,
}

/// What a broker saw.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) accepted: u32,
    /// Client ids, in the order of their coming.
    pub(crate) clients: Vec<String>,
    /// Topic and payload.
    pub(crate) published: Vec<(String, Vec<u8>)>,
    /// Topic filters, in the order of their coming.
    pub(crate) subscribed: Vec<String>,
    pub(crate) goodbyes: u32,
    /// Sessions that ended without a goodbye.
    pub(crate) wills: u32,
    /// First certificate of each client that showed one.
    pub(crate) shown: Vec<Vec<u8>>,
    /// What was said too early on a connection: that a device is there, before its commands were
    /// subscribed to; its samples, before it was said to be there.
    pub(crate) early: Vec<String>,
}

/// What a broker is told.
pub(crate) struct Spec {
    pub(crate) at: SocketAddr,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// By number of the connection.
    pub(crate) act: Box<dyn Fn(u32) -> Act + Send>,
    pub(crate) log: Arc<Mutex<Log>>,
    /// Where it turned out to listen.
    pub(crate) bound: Arc<Mutex<Option<SocketAddr>>>,
}

/// A broker at an address, on a shard.
pub(crate) fn start(
    shard: &ShardHandle,
    at: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    act: impl Fn(u32) -> Act + Send + 'static,
) -> (Arc<Mutex<Log>>, Arc<Mutex<Option<SocketAddr>>>) {
    let (log, bound) = (Arc::default(), Arc::default());
    let spec = Spec {
        at,
        tls,
        act: Box::new(act),
        log: Arc::clone(&log),
        bound: Arc::clone(&bound),
    };
    let slab = SlabSpec {
        path: ActorPath::new(&format!("/broker/{}", at.port())).unwrap(),
        name: Arc::new(|_| "broker".to_owned()),
        ordinals: std::iter::once(0..1).collect(),
        shared: spec,
        out: (),
        identity: Box::new(|_| ()),
        mailbox: MailboxSpec::new(1, Overflow::Reject),
        supervisor: Box::new(Calm),
    };
    shard.add_slab::<Broker>(slab).unwrap();
    (log, bound)
}

/// An authority in a directory, what a server of it shows and asks, and terms to call that.
pub(crate) fn authority(dir: &Path) -> (Arc<Site>, Arc<ServerConfig>, Terms) {
    let site = Arc::new(Site::open_or_create(&dir.join("site")).unwrap());
    let out = dir.join("broker");
    site.issue("broker", "*", &out).unwrap();
    let roots = stream::roots(&out.join("ca.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let key = stream::certified(&out.join("node.pem"), &out.join("node.key")).unwrap();
    let key = SingleCertAndKey::from(CertifiedKey::clone(&key));
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_cert_resolver(Arc::new(key));
    let client = stream::stream_client(roots, None).unwrap();
    let terms = Terms::new(client, "localhost").unwrap();
    let terms = terms.per_device(Arc::clone(&site));
    (site, Arc::new(server), terms)
}

struct Calm;

impl CellSupervisor for Calm {
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision {
        panic!("the broker has failed: {exit:?}");
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

enum Nothing {}

impl Message for Nothing {}

struct Broker {
    peers: BTreeMap<SocketId, Peer>,
}

struct Peer {
    act: Act,
    tls: Option<ServerConnection>,
    version: Version,
    partial: Vec<u8>,
    /// The session is accepted.
    up: bool,
    /// Topic filters, and devices that were said to be there.
    hears: BTreeSet<String>,
    born: BTreeSet<String>,
    goodbye: bool,
    said: usize,
    /// What goes out, and whether the connection ends then.
    out: Vec<u8>,
    ends: bool,
}

impl Cell for Broker {
    type Msg = Nothing;
    type Shared = Spec;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        let at = cx.shared.at;
        let listener = cx.net().listen(at, Accept::Here);
        listener.map_err(|error| Fault::with("listen", error))?;
        let peers = BTreeMap::new();
        Ok(Self { peers })
    }

    fn handle(&mut self, never: Nothing, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
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
            SocketEvent::Bound(at) => *cx.shared.bound.lock().unwrap() = Some(at),
            SocketEvent::Accepted { .. } => self.accept(socket, cx),
            SocketEvent::Received(bytes) => self.received(socket, bytes, cx),
            SocketEvent::PeerFinished => {
                cx.net().close(socket);
                self.gone(socket, cx);
            }
            SocketEvent::Ended(_) => self.gone(socket, cx),
            _ => {}
        }
        Ok(Flow::Continue)
    }
}

impl Broker {
    fn accept(&mut self, socket: SocketId, cx: &mut CellContext<'_, Self>) {
        let number = {
            let mut log = cx.shared.log.lock().unwrap();
            log.accepted += 1;
            log.accepted - 1
        };
        let act = (cx.shared.act)(number);
        match act {
            Act::CloseAtOnce => drop(cx.net().close(socket)),
            Act::ResetAtOnce => drop(cx.net().reset(socket)),
            _ => {
                let tls = cx.shared.tls.clone();
                let peer = Peer {
                    act,
                    tls: tls.map(|config| ServerConnection::new(config).unwrap()),
                    version: Version::V311,
                    partial: Vec::new(),
                    up: false,
                    hears: BTreeSet::new(),
                    born: BTreeSet::new(),
                    goodbye: false,
                    said: 0,
                    out: Vec::new(),
                    ends: false,
                };
                self.peers.insert(socket, peer);
            }
        }
    }

    fn gone(&mut self, socket: SocketId, cx: &CellContext<'_, Self>) {
        let peer = self.peers.remove(&socket);
        let will = peer.is_some_and(|peer| peer.up && !peer.goodbye);
        cx.shared.log.lock().unwrap().wills += u32::from(will);
    }

    fn received(&mut self, socket: SocketId, bytes: &[u8], cx: &mut CellContext<'_, Self>) {
        let Some(peer) = self.peers.get_mut(&socket) else {
            return;
        };
        match peer.act {
            Act::CloseAtFirst => peer.ends = true,
            Act::ResetAtFirst => {
                cx.net().reset(socket);
                return self.gone(socket, cx);
            }
            Act::Mute => return,
            Act::Say(text) => {
                peer.out.extend_from_slice(text);
                peer.act = Act::Mute;
            }
            _ => peer.take(bytes, &mut cx.shared.log.lock().unwrap()),
        }
        if let Act::Cut(at) = peer.act
            && peer.said + peer.out.len() >= at
        {
            peer.out.truncate(at - peer.said);
            peer.ends = true;
        }
        peer.said += peer.out.len();
        let _ = cx.net().write(socket, &std::mem::take(&mut peer.out));
        if peer.ends {
            cx.net().close(socket);
            self.gone(socket, cx);
        }
    }
}

impl Peer {
    fn take(&mut self, mut bytes: &[u8], log: &mut Log) {
        let Some(mut tls) = self.tls.take() else {
            let answer = self.hear(bytes, log);
            return self.out.extend(answer);
        };
        let shook = tls.is_handshaking();
        while !bytes.is_empty() && !self.ends {
            tls.read_tls(&mut bytes).unwrap();
            self.ends |= tls.process_new_packets().is_err();
            let mut plain = [0; 4_096];
            while let Ok(len @ 1..) = tls.reader().read(&mut plain) {
                let answer = self.hear(&plain[..len], log);
                tls.writer().write_all(&answer).unwrap();
            }
        }
        if shook && !tls.is_handshaking() {
            let chain = tls.peer_certificates().unwrap_or_default();
            log.shown.extend(chain.first().map(|first| first.to_vec()));
        }
        while tls.wants_write() {
            tls.write_tls(&mut self.out).unwrap();
        }
        self.tls = Some(tls);
    }

    /// Answers whole packets.
    fn hear(&mut self, bytes: &[u8], log: &mut Log) -> Vec<u8> {
        self.partial.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.partial);
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some(whole) = frame(&all[at..], 1 << 20).unwrap() {
            at += whole.len;
            let packet = Packet::read(whole, self.version).unwrap();
            self.answer(&packet, log, &mut out);
        }
        self.partial = all[at..].to_vec();
        out
    }

    fn answer(&mut self, packet: &Packet<'_>, log: &mut Log, out: &mut Vec<u8>) {
        if self.act == Act::Deaf && self.up {
            return;
        }
        let answer = match packet {
            Packet::Connect(connect) => {
                self.version = connect.version;
                log.clients.push(connect.client_id.to_owned());
                if let Act::Answer(text) = self.act {
                    return out.extend_from_slice(text);
                }
                self.up = true;
                self.ends = self.act == Act::CloseAfterConnAck;
                Packet::ConnAck {
                    session_present: false,
                    code: 0,
                    properties: Properties::default(),
                }
            }
            Packet::Publish(publish) => return self.published(publish, log, out),
            Packet::Step {
                step: Step::Rel,
                id,
                ..
            } => step(Step::Comp, *id),
            Packet::Subscribe { id, filters } => {
                let topics = || filters.iter().map(|(topic, _)| topic.to_owned());
                log.subscribed.extend(topics());
                self.hears.extend(topics());
                if let Act::AnswerSubscribe(text) = self.act {
                    self.ends = text.is_empty();
                    return out.extend_from_slice(text);
                }
                let codes = vec![1; filters.iter().count()];
                let answer = Packet::SubAck {
                    id: *id,
                    codes: &codes,
                };
                return answer.write(self.version, out).unwrap();
            }
            Packet::PingReq => Packet::PingResp,
            Packet::Disconnect { .. } => {
                self.goodbye = true;
                log.goodbyes += 1;
                return;
            }
            _ => return,
        };
        answer.write(self.version, out).unwrap();
    }

    fn published(&mut self, publish: &Publish<'_>, log: &mut Log, out: &mut Vec<u8>) {
        let (topic, payload) = (publish.topic.to_owned(), publish.payload.to_vec());
        self.judge(&topic, &payload, log);
        log.published.push((topic, payload));
        let answer = match publish.qos {
            Qos::AtMostOnce => return,
            Qos::AtLeastOnce => step(Step::Ack, publish.id),
            Qos::ExactlyOnce => step(Step::Rec, publish.id),
        };
        match self.act {
            Act::AnswerPublish(text) => {
                out.extend_from_slice(text);
                self.ends = text.is_empty();
            }
            _ => answer.write(self.version, out).unwrap(),
        }
    }

    /// Whether it is time for that.
    fn judge(&mut self, topic: &str, payload: &[u8], log: &mut Log) {
        let of_device = topic.strip_prefix("devices/");
        let early = match of_device.and_then(|topic| topic.split_once('/')) {
            Some((id, "status")) if payload == b"online" => {
                self.born.insert(id.to_owned());
                !self.hears.contains(&format!("devices/{id}/commands"))
            }
            Some((id, "telemetry")) => !self.born.contains(id),
            _ => false,
        };
        if early {
            log.early
                .push(format!("{topic}: {}", String::from_utf8_lossy(payload)));
        }
    }
}

const fn step(step: Step, id: u16) -> Packet<'static> {
    Packet::Step { step, id, code: 0 }
}

/// Messages of each device that come for the first time come in the order of their making, and
/// after it was said that it is there, which is after its commands were subscribed to.
pub(crate) fn in_order(log: &Log) {
    let mut last: BTreeMap<&str, Vec<&[u8]>> = BTreeMap::new();
    for (topic, payload) in &log.published {
        let so_far = last.entry(topic).or_default();
        if topic.ends_with("telemetry") && !so_far.contains(&payload.as_slice()) {
            so_far.push(payload);
        }
    }
    let stamp = |payload: &&[u8]| {
        let value: serde_json::Value = serde_json::from_slice(payload).unwrap();
        value["timestamp"].as_str().unwrap().to_owned()
    };
    for payloads in last.values() {
        assert!(payloads.iter().map(stamp).is_sorted());
    }
    assert_eq!(log.early, [""; 0]);
}
