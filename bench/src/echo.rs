//! `echo`: many TCP connections in one process, 256 bytes each way.
//!
//! Ours: a client cell and a server cell for each connection, half of them on each shard; where
//! there are rings a connection is two direct descriptors and no open file. Bound: one word of a
//! client on its way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actorsim_actors::shard::{Accept, SlabHandle, SocketEvent, SocketId};
use actorsim_actors::{Cell, CellContext, Fault, Flow, Message};
use peer_probe::{Job, Line, MAILBOX, Meter, resident_bytes};
use serde_json::Value;

use crate::cells::{Shards, WAIT_MAX, value};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "echo",
    label: "TCP connections over loopback in one process, both ends in it, an actor at each: \
            connections that stand and have echoed; user memory (resident) of a connection, both \
            ends and their actors; 256 bytes there and back over each, 4 times: echoes/s, \
            nanoseconds of CPU of an echo",
    shapes: Shapes::One(Load {
        size: 50_000,
        seconds: 0,
    }),
    smoke: Load {
        size: 100,
        seconds: 0,
    },
    metrics: &[
        metric("connections", "1"),
        metric("bytes_per_connection", "B"),
        metric("echoes_per_s", "1/s"),
        metric("cpu_per_echo", "ns"),
    ],
    child,
    peers: &[],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 10 << 10,
};

/// Bytes of a word.
const WORD: usize = 256;
/// Words of each client.
const ROUNDS: u64 = 4;
/// Loopback addresses that are called: each gives as many connections as there are ports.
const ADDRESSES: u32 = 8;
const SHARDS: usize = 2;

#[derive(Default)]
struct Shared {
    /// Where each shard's listener is.
    ports: [AtomicU16; SHARDS],
    connected: AtomicU64,
    echoed: AtomicU64,
}

/// What the cells of a slab share.
struct Side {
    shard: usize,
    cells: u32,
    shared: Arc<Shared>,
}

enum Order {
    Connect,
    Say,
}

impl Message for Order {}

/// Calls, says a word when it is told to, and counts it when it is back.
struct Client {
    socket: Option<SocketId>,
    missing: usize,
}

impl Cell for Client {
    type Msg = Order;
    type Shared = Side;
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self {
            socket: None,
            missing: 0,
        })
    }

    fn handle(&mut self, order: Order, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        match (order, self.socket) {
            (Order::Connect, _) => {
                let address = [127, 0, 0, (1 + cx.ordinal % ADDRESSES) as u8];
                let port = cx.shared.shared.ports[cx.shared.shard].load(Ordering::Acquire);
                let socket = cx.net().connect(SocketAddr::from((address, port)));
                self.socket = Some(socket.map_err(|error| Fault::with("connect", error))?);
            }
            (Order::Say, Some(socket)) => {
                self.missing = WORD;
                let word = [cx.ordinal as u8; WORD];
                let said = cx.net().write(socket, &word);
                said.map_err(|error| Fault::with("write", error))?;
            }
            (Order::Say, None) => return Err(Fault::new("not_connected")),
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }

    fn socket(
        &mut self,
        _: SocketId,
        event: SocketEvent<'_>,
        cx: &mut CellContext<'_, Self>,
    ) -> Result<Flow, Fault> {
        let shared = &cx.shared.shared;
        match event {
            SocketEvent::Connected => drop(shared.connected.fetch_add(1, Ordering::AcqRel)),
            SocketEvent::Received(bytes) => {
                if bytes.iter().any(|byte| *byte != cx.ordinal as u8) {
                    return Err(Fault::new("another's_word"));
                }
                self.missing -= bytes.len();
                if self.missing == 0 {
                    shared.echoed.fetch_add(1, Ordering::AcqRel);
                }
            }
            SocketEvent::Ended(_) => self.socket = None,
            _ => {}
        }
        Ok(Flow::Continue)
    }
}

/// Cell 0 listens; each other takes a connection.
struct Server;

impl Cell for Server {
    type Msg = Order;
    type Shared = Side;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        if cx.ordinal == 0 {
            let any = SocketAddr::from(([0, 0, 0, 0], 0));
            let takers = Accept::Cells(1..cx.shared.cells + 1);
            let listener = cx.net().listen(any, takers);
            listener.map_err(|error| Fault::with("listen", error))?;
        }
        Ok(Self)
    }

    fn handle(&mut self, _: Order, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
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
        match event {
            SocketEvent::Bound(address) => {
                let port = &cx.shared.shared.ports[cx.shared.shard];
                port.store(address.port(), Ordering::Release);
            }
            SocketEvent::Received(bytes) => {
                let said = cx.net().write(socket, bytes);
                said.map_err(|error| Fault::with("write", error))?;
            }
            _ => {}
        }
        Ok(Flow::Continue)
    }
}

fn child(job: &Job) -> Result<Value, String> {
    let shards = Shards::start(SHARDS)?;
    let cells = (job.size / SHARDS as u64) as u32;
    let all = u64::from(cells) * SHARDS as u64;
    let shared = Arc::<Shared>::default();
    let side = |shard| Side {
        shard,
        cells,
        shared: Arc::clone(&shared),
    };
    let before = resident_bytes();
    let mut clients = Vec::new();
    for shard in 0..SHARDS {
        shards.add::<Server>(shard, 0..cells + 1, side(shard), MAILBOX)?;
        clients.push(shards.add::<Client>(shard, 0..cells, side(shard), MAILBOX)?);
    }
    let ports = || {
        shared
            .ports
            .iter()
            .filter(|port| port.load(Ordering::Acquire) > 0)
    };
    until("listeners", || ports().count() == SHARDS)?;
    tell(&clients, cells, || Order::Connect)?;
    until("connections", || {
        shared.connected.load(Ordering::Acquire) == all
    })?;
    let meter = Meter::start();
    for round in 1..=ROUNDS {
        tell(&clients, cells, || Order::Say)?;
        until("echoes", || {
            shared.echoed.load(Ordering::Acquire) == all * round
        })?;
    }
    let spent = meter.stop();
    let bytes = resident_bytes().saturating_sub(before) as f64;
    shards.stop()?;
    let echoes = all * ROUNDS;
    let line = Line::new()
        .with("connections", all as f64)
        .with("bytes_per_connection", bytes / all as f64)
        .with("echoes_per_s", echoes as f64 / spent.wall_s)
        .with("cpu_per_echo", spent.cpu_ns_per(echoes));
    value(&line)
}

/// Tells every client, waiting where a queue is full.
fn tell(clients: &[SlabHandle<Client>], cells: u32, order: fn() -> Order) -> Result<(), String> {
    for ordinal in 0..cells {
        for slab in clients {
            until("room", || slab.send(ordinal, order()).is_ok())?;
        }
    }
    Ok(())
}

fn until(what: &str, mut done: impl FnMut() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > WAIT_MAX {
            return Err(format!("waited for {what} in vain"));
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Ok(())
}
