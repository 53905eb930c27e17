//! A broker that takes everything and keeps nothing, in a process of its own.
//!
//! It accepts sessions, acknowledges messages of each quality and grants subscriptions, on one
//! shard with direct descriptors, so that it holds more connections than a process may open files.
//! It delivers nothing to anybody, and counts. Over TLS where [`SITE`] names a site authority. It
//! is asked over its standard input ([`peer_probe::Broker`]) and ends with that. Bound: the shard's
//! sockets.

use std::collections::BTreeMap;
use std::io::{BufRead, Read as _, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actorsim_actors::shard::{Accept, SocketEvent, SocketId};
use actorsim_actors::{Cell, CellContext, Fault, Flow, Message, Time};
use actorsim_fleet::session::mqtt::Qos;
use actorsim_fleet::session::mqtt::packet::{Packet, Step, Version};
use actorsim_fleet::session::mqtt::property::Properties;
use actorsim_fleet::session::mqtt::read::frame;
use actorsim_transport::certs::{Site, stream};
use peer_probe::SITE;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection};

use crate::cells::Shards;

/// Bytes of the largest packet that it takes.
const PACKET_MAX: usize = 65_536;

/// The sink's process: prints its port, answers questions, and ends with its standard input.
pub(crate) fn run(port: u16) -> Result<(), String> {
    let tls = match std::env::var_os(SITE) {
        Some(site) => Some(server(&PathBuf::from(site))?),
        None => None,
    };
    let shards = Shards::start(1)?;
    let counts = Arc::new(Counts::default());
    let listen = Listen {
        port,
        tls,
        counts: Arc::clone(&counts),
    };
    let slab = shards.add::<Broker>(0, 0..1, listen, 8)?;
    for _ in 0..1_000 {
        if counts.bound.load(Ordering::Acquire) > 0 {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let port = counts.bound.load(Ordering::Acquire);
    if port == 0 {
        return Err("the sink could not listen".to_owned());
    }
    say(&port.to_string());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.as_str() {
            "drop" => {
                let dropped = slab.send(0, Do::DropAll);
                dropped.map_err(|_| "the sink is busy")?;
                say("ok");
            }
            _ => say(&counts.line()),
        }
    }
    Ok(()) // the host goes with the process, and its connections with it
}

fn say(line: &str) {
    println!("{line}");
    drop(std::io::stdout().flush());
}

/// Certificates of devices, for peers: `child mqtt certs COUNT 0`.
pub(crate) fn certificates(count: u64) -> Result<(), String> {
    let site = std::env::var_os(SITE).map(PathBuf::from);
    let site = Site::open_or_create(&site.ok_or("no site")?).map_err(|e| e.to_string())?;
    let out = site.dir().join("devices");
    for number in 0..count {
        let issued = site.issue_device(&format!("bench-{number}"), &out);
        issued.map_err(|error| error.to_string())?;
    }
    site.write_ca(&out).map_err(|error| error.to_string())
}

/// A server of the site that wants certificates of it.
fn server(site: &Path) -> Result<Arc<ServerConfig>, String> {
    let text = |error: &dyn std::fmt::Display| format!("TLS of the sink: {error}");
    let site = Site::open_or_create(site).map_err(|error| text(&error))?;
    let out = site.dir().join("sink");
    site.issue("sink", "*", &out)
        .map_err(|error| text(&error))?;
    let roots = stream::roots(&out.join("ca.pem")).map_err(|error| text(&error))?;
    let key = stream::certified(&out.join("node.pem"), &out.join("node.key"));
    let key = key.map_err(|error| text(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
    let clients = clients.build().map_err(|error| text(&error))?;
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| text(&error))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(&key))));
    Ok(Arc::new(server))
}

/// What is counted, for the questions.
#[derive(Debug, Default)]
struct Counts {
    bound: AtomicU16,
    sessions: AtomicU64,
    connects: AtomicU64,
    goodbyes: AtomicU64,
    wills: AtomicU64,
    published: AtomicU64,
    times: Mutex<Times>,
}

/// When things happened.
#[derive(Debug, Default)]
struct Times {
    dropped: Option<Time>,
    /// Sessions that came after the drop, milliseconds since, in their order.
    back_ms: Vec<u32>,
    goodbyes: Option<(Time, Time)>,
}

impl Counts {
    fn line(&self) -> String {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let back = |share: f64| {
            let last = times.back_ms.len().saturating_sub(1);
            let at = (last as f64 * share).ceil() as usize;
            times.back_ms.get(at).copied().unwrap_or(0)
        };
        let leaving = times.goodbyes.map(|(first, last)| last.since(first));
        let leaving = leaving.unwrap_or_default().as_millis();
        format!(
            "{} {} {} {} {} {} {} {} {leaving}",
            of(&self.sessions),
            of(&self.connects),
            of(&self.goodbyes),
            of(&self.wills),
            of(&self.published),
            back(0.5),
            back(0.99),
            back(1.0),
        )
    }

    fn times(&self, note: impl FnOnce(&mut Times)) {
        note(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// Where to listen, how, and where to count.
struct Listen {
    port: u16,
    tls: Option<Arc<ServerConfig>>,
    counts: Arc<Counts>,
}

enum Do {
    DropAll,
}

impl Message for Do {}

/// One cell with all connections.
struct Broker {
    peers: BTreeMap<SocketId, Peer>,
    out: Vec<u8>,
    plain: Vec<u8>,
}

struct Peer {
    tls: Option<Box<ServerConnection>>,
    version: Version,
    partial: Vec<u8>,
    up: bool,
}

impl Cell for Broker {
    type Msg = Do;
    type Shared = Listen;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        let at = SocketAddr::from(([127, 0, 0, 1], cx.shared.port));
        let listener = cx.net().listen(at, Accept::Here);
        listener.map_err(|error| Fault::with("listen", error))?;
        Ok(Self {
            peers: BTreeMap::new(),
            out: Vec::new(),
            plain: Vec::new(),
        })
    }

    fn handle(&mut self, Do::DropAll: Do, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        let now = cx.monotonic;
        cx.shared.counts.times(|times| times.dropped = Some(now));
        for (socket, peer) in std::mem::take(&mut self.peers) {
            cx.net().reset(socket);
            if peer.up {
                cx.shared.counts.sessions.fetch_sub(1, Ordering::Relaxed);
            }
        }
        Ok(Flow::Continue)
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
        let counts = &cx.shared.counts;
        match event {
            SocketEvent::Bound(address) => counts.bound.store(address.port(), Ordering::Release),
            SocketEvent::Accepted { .. } => {
                let tls = cx.shared.tls.clone().map(ServerConnection::new);
                let tls = tls.transpose().map_err(|e| Fault::with("tls", e))?;
                let peer = Peer {
                    tls: tls.map(Box::new),
                    version: Version::V311,
                    partial: Vec::new(),
                    up: false,
                };
                self.peers.insert(socket, peer);
            }
            SocketEvent::Received(bytes) => {
                let whole = self.received(socket, bytes, counts, cx.monotonic);
                let sent = self.out.is_empty() || cx.net().write(socket, &self.out).is_ok();
                self.out.clear();
                if !whole || !sent {
                    cx.net().reset(socket);
                    self.gone(socket, counts);
                }
            }
            SocketEvent::PeerFinished => {
                cx.net().close(socket);
                self.gone(socket, counts);
            }
            SocketEvent::Ended(_) => self.gone(socket, counts),
            _ => {}
        }
        Ok(Flow::Continue)
    }
}

impl Broker {
    /// A connection is no more; a session without goodbye leaves its will.
    fn gone(&mut self, socket: SocketId, counts: &Counts) {
        if self.peers.remove(&socket).is_some_and(|peer| peer.up) {
            add(&counts.wills);
            counts.sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Answers whole packets; false: the peer does not speak MQTT, or is not trusted.
    fn received(&mut self, socket: SocketId, bytes: &[u8], counts: &Counts, now: Time) -> bool {
        let Some(peer) = self.peers.get_mut(&socket) else {
            return false;
        };
        let Some(mut tls) = peer.tls.take() else {
            return peer.hear(bytes, &mut self.out, counts, now);
        };
        self.plain.clear();
        let mut rest = bytes;
        let mut trusted = true;
        while !rest.is_empty() && trusted {
            trusted = tls.read_tls(&mut rest).is_ok() && tls.process_new_packets().is_ok();
            let _ = tls.reader().read_to_end(&mut self.plain); // ends with `WouldBlock`
        }
        let mut answer = Vec::new();
        let heard = trusted && peer.hear(&self.plain, &mut answer, counts, now);
        let _ = tls.writer().write_all(&answer);
        while tls.wants_write() && tls.write_tls(&mut self.out).is_ok() {}
        peer.tls = Some(tls);
        heard
    }
}

impl Peer {
    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>, counts: &Counts, now: Time) -> bool {
        let joined;
        let all = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            &joined
        };
        let mut at = 0;
        loop {
            match frame(&all[at..], PACKET_MAX) {
                Ok(Some(whole)) => {
                    at += whole.len;
                    match Packet::read(whole, self.version) {
                        Ok(packet) => self.answer(&packet, out, counts, now),
                        Err(_) => return false,
                    }
                }
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        self.partial = all[at..].to_vec();
        true
    }

    fn answer(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>, counts: &Counts, now: Time) {
        let step = |step, id| Packet::Step { step, id, code: 0 };
        let answer = match packet {
            Packet::Connect(connect) => {
                self.version = connect.version;
                self.came(counts, now);
                Packet::ConnAck {
                    session_present: false,
                    code: 0,
                    properties: Properties::default(),
                }
            }
            Packet::Publish(publish) => {
                add(&counts.published);
                match publish.qos {
                    Qos::AtMostOnce => return,
                    Qos::AtLeastOnce => step(Step::Ack, publish.id),
                    Qos::ExactlyOnce => step(Step::Rec, publish.id),
                }
            }
            Packet::Step {
                step: Step::Rel,
                id,
                ..
            } => step(Step::Comp, *id),
            Packet::Subscribe { id, filters } => {
                let codes = vec![1; filters.iter().count()];
                let answer = Packet::SubAck {
                    id: *id,
                    codes: &codes,
                };
                let written = answer.write(self.version, out);
                debug_assert!(written.is_ok(), "as long as the question");
                return;
            }
            Packet::PingReq => Packet::PingResp,
            Packet::Disconnect { .. } => return self.left(counts, now),
            _ => return,
        };
        let written = answer.write(self.version, out);
        debug_assert!(written.is_ok(), "answers are short");
    }

    fn came(&mut self, counts: &Counts, now: Time) {
        if std::mem::replace(&mut self.up, true) {
            return;
        }
        add(&counts.sessions);
        add(&counts.connects);
        counts.times(|times| {
            if let Some(dropped) = times.dropped {
                let ms = now.since(dropped).as_millis();
                times.back_ms.push(u32::try_from(ms).unwrap_or(u32::MAX));
            }
        });
    }

    fn left(&mut self, counts: &Counts, now: Time) {
        if !std::mem::take(&mut self.up) {
            return;
        }
        counts.sessions.fetch_sub(1, Ordering::Relaxed);
        add(&counts.goodbyes);
        counts.times(|times| {
            let first = times.goodbyes.map_or(now, |(first, _)| first);
            times.goodbyes = Some((first, now));
        });
    }
}
