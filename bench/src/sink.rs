//! A broker that takes everything and keeps nothing, in a process of its own.
//!
//! It accepts sessions, acknowledges messages of each quality and grants subscriptions, on one
//! shard with direct descriptors, so that it holds more connections than a process may open files.
//! It delivers nothing to anybody. It ends with its standard input. Bound: the shard's sockets.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use actorsim_actors::shard::{Accept, SocketEvent, SocketId};
use actorsim_actors::{Cell, CellContext, Fault, Flow, Message};
use actorsim_fleet::session::mqtt::Qos;
use actorsim_fleet::session::mqtt::packet::{Packet, Step, Version};
use actorsim_fleet::session::mqtt::property::Properties;
use actorsim_fleet::session::mqtt::read::frame;

use crate::cells::Shards;
use crate::process::CHILD;

/// Bytes of the largest packet that it takes.
const PACKET_MAX: usize = 65_536;

/// A sink that runs beside the measured process.
#[derive(Debug)]
pub(crate) struct Sink {
    child: std::process::Child,
    /// Held open: the sink ends when it is closed.
    stdin: Option<ChildStdin>,
    pub(crate) port: u16,
}

impl Sink {
    /// Starts one on a port; 0 is any.
    pub(crate) fn start(port: u16) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| format!("own binary: {error}"))?;
        let mut child = Command::new(own)
            .args([CHILD, "mqtt", "sink", &port.to_string(), "0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the sink: {error}"))?;
        let stdin = child.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            let read = BufReader::new(stdout).read_line(&mut line);
            read.map_err(|error| format!("the sink said nothing: {error}"))?;
        }
        let port = line.trim().parse();
        let port = port.map_err(|_| format!("the sink said {line:?}, not its port"))?;
        Ok(Self { child, stdin, port })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.stdin.take());
        drop(self.child.wait());
    }
}

/// The sink's process: prints its port, and ends with its standard input.
pub(crate) fn run(port: u16) -> Result<(), String> {
    let shards = Shards::start(1)?;
    let bound = Arc::new(AtomicU16::new(port));
    let at = Arc::clone(&bound);
    bound.store(0, Ordering::Release);
    shards.add::<Broker>(0, 0..1, Listen { port, bound: at }, 8)?;
    for _ in 0..1_000 {
        if bound.load(Ordering::Acquire) > 0 {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let port = bound.load(Ordering::Acquire);
    if port == 0 {
        return Err("the sink could not listen".to_owned());
    }
    println!("{port}");
    drop(std::io::stdout().flush());
    let mut rest = Vec::new();
    drop(std::io::stdin().read_to_end(&mut rest));
    Ok(()) // the host goes with the process, and its connections with it
}

/// Where to listen, and where that turned out to be.
struct Listen {
    port: u16,
    bound: Arc<AtomicU16>,
}

enum Nothing {}

impl Message for Nothing {}

/// One cell with all connections.
struct Broker {
    peers: BTreeMap<SocketId, Peer>,
    out: Vec<u8>,
}

struct Peer {
    version: Version,
    partial: Vec<u8>,
}

impl Cell for Broker {
    type Msg = Nothing;
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
        })
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
            SocketEvent::Bound(address) => {
                cx.shared.bound.store(address.port(), Ordering::Release);
            }
            SocketEvent::Accepted { .. } => {
                let peer = Peer {
                    version: Version::V311,
                    partial: Vec::new(),
                };
                self.peers.insert(socket, peer);
            }
            SocketEvent::Received(bytes) => {
                let whole = self.received(socket, bytes);
                let sent = self.out.is_empty() || cx.net().write(socket, &self.out).is_ok();
                self.out.clear();
                if !whole || !sent {
                    cx.net().reset(socket);
                    self.peers.remove(&socket);
                }
            }
            SocketEvent::PeerFinished => {
                cx.net().close(socket);
                self.peers.remove(&socket);
            }
            SocketEvent::Ended(_) => drop(self.peers.remove(&socket)),
            _ => {}
        }
        Ok(Flow::Continue)
    }
}

impl Broker {
    /// Answers whole packets; false: the peer does not speak MQTT.
    fn received(&mut self, socket: SocketId, bytes: &[u8]) -> bool {
        let Some(peer) = self.peers.get_mut(&socket) else {
            return false;
        };
        let joined;
        let all = if peer.partial.is_empty() {
            bytes
        } else {
            peer.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut peer.partial);
            &joined
        };
        let mut at = 0;
        loop {
            match frame(&all[at..], PACKET_MAX) {
                Ok(Some(whole)) => {
                    at += whole.len;
                    let packet = Packet::read(whole, peer.version);
                    let answered = packet.map(|packet| peer.answer(&packet, &mut self.out));
                    if answered.is_err() {
                        return false;
                    }
                }
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        peer.partial = all[at..].to_vec();
        true
    }
}

impl Peer {
    fn answer(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>) {
        let step = |step, id| Packet::Step { step, id, code: 0 };
        let answer = match packet {
            Packet::Connect(connect) => {
                self.version = connect.version;
                Packet::ConnAck {
                    session_present: false,
                    code: 0,
                    properties: Properties::default(),
                }
            }
            Packet::Publish(publish) => match publish.qos {
                Qos::AtMostOnce => return,
                Qos::AtLeastOnce => step(Step::Ack, publish.id),
                Qos::ExactlyOnce => step(Step::Rec, publish.id),
            },
            Packet::Step {
                step: Step::Rel,
                id,
                ..
            } => step(Step::Comp, *id),
            Packet::Subscribe { id, .. } => Packet::SubAck {
                id: *id,
                codes: &[1],
            },
            Packet::PingReq => Packet::PingResp,
            _ => return,
        };
        let written = answer.write(self.version, out);
        debug_assert!(written.is_ok(), "answers are short");
    }
}
