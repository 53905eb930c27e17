//! Many TCP connections in one process: client cells say 256 bytes, server cells say them back.
//!
//! ```text
//! cargo run --release -p actorsim-actors --example echo -- 50000
//! ```
//!
//! With a ring each connection costs two direct descriptors and no open file, so that 50,000 of
//! them fit under a limit of 20,000 files. Arguments: connections, rounds, shards, `portable`.
//! Bound: each phase gives up after [`PATIENCE`].

#![allow(clippy::unwrap_used, reason = "an example")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use actorsim_actors::shard::{
    Accept, Backend, NetStats, ShardConfig, ShardHost, SlabHandle, SlabSpec, SocketEvent, SocketId,
};
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Clock, Fault, Flow,
    MailboxSpec, Message, Overflow, System,
};

/// Bytes of one word, each way.
const WORD: usize = 256;

/// Loopback addresses that are called: each gives as many connections as there are ports.
const ADDRESSES: u32 = 8;

const PATIENCE: Duration = Duration::from_secs(120);

/// First port; each shard's listener has its own.
const PORT: u16 = 27_300;

/// What all cells of a slab share.
struct Shared {
    /// Where the listener of the cell's shard is.
    port: u16,
    listeners: u16,
    connections: u32,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    listening: AtomicU32,
    connected: AtomicU32,
    words: AtomicU64,
    ended: AtomicU64,
}

enum Do {
    Connect,
    Say,
}

impl Message for Do {}

/// Calls, says a word when told, and counts it when it has come back.
struct Client {
    socket: Option<SocketId>,
    missing: u16,
}

impl Cell for Client {
    type Msg = Do;
    type Shared = Shared;
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self {
            socket: None,
            missing: 0,
        })
    }

    fn handle(&mut self, what: Do, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        match (what, self.socket) {
            (Do::Connect, _) => {
                let host = [127, 0, 0, (1 + cx.ordinal % ADDRESSES) as u8];
                let port = cx.shared.port + (cx.ordinal % u32::from(cx.shared.listeners)) as u16;
                let peer = SocketAddr::from((host, port));
                let socket = cx.net().connect(peer);
                self.socket = Some(socket.map_err(|e| Fault::with("connect", e))?);
            }
            (Do::Say, Some(socket)) => {
                self.missing = WORD as u16;
                let word = [cx.ordinal as u8; WORD];
                let said = cx.net().write(socket, &word);
                said.map_err(|e| Fault::with("write", e))?;
            }
            (Do::Say, None) => {}
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
        match event {
            SocketEvent::Connected => {
                cx.shared.tally.connected.fetch_add(1, Relaxed);
            }
            SocketEvent::Received(bytes) => {
                if bytes.iter().any(|byte| *byte != cx.ordinal as u8) {
                    return Err(Fault::new("another's_word"));
                }
                self.missing -= bytes.len() as u16;
                if self.missing == 0 {
                    cx.shared.tally.words.fetch_add(1, Relaxed);
                }
            }
            SocketEvent::Ended(why) => {
                self.socket = None;
                if cx.shared.tally.ended.fetch_add(1, Relaxed) < 10 {
                    eprintln!("client {}: {why}", cx.ordinal);
                }
            }
            _ => {}
        }
        Ok(Flow::Continue)
    }
}

/// Cell 0 listens; the others take a connection each.
struct Server;

impl Cell for Server {
    type Msg = Do;
    type Shared = Shared;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        if cx.ordinal == 0 {
            let at = SocketAddr::from(([0, 0, 0, 0], cx.shared.port));
            let cells = Accept::Cells(1..cx.shared.connections + 1);
            let listener = cx.net().listen(at, cells);
            listener.map_err(|e| Fault::with("listen", e))?;
        }
        Ok(Self)
    }

    fn handle(&mut self, _: Do, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
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
            SocketEvent::Bound(_) => {
                cx.shared.tally.listening.fetch_add(1, Relaxed);
            }
            SocketEvent::Received(bytes) => {
                let said = cx.net().write(socket, bytes);
                said.map_err(|e| Fault::with("write", e))?;
            }
            SocketEvent::PeerFinished => {
                cx.net().close(socket);
            }
            _ => {}
        }
        Ok(Flow::Continue)
    }
}

struct Calm;

impl CellSupervisor for Calm {
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision {
        eprintln!("a cell has ended: {}", exit.reason);
        CellDecision::Stop
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

fn spec<C: Cell<Identity = (), Out = ()>>(
    path: &str,
    cells: u32,
    shared: C::Shared,
) -> SlabSpec<C> {
    SlabSpec {
        path: ActorPath::new(path).unwrap(),
        name: Arc::new(|ordinal| format!("{ordinal}")),
        ordinals: std::iter::once(0..cells).collect(),
        shared,
        out: (),
        identity: Box::new(|_| ()),
        mailbox: MailboxSpec::new(4, Overflow::Reject),
        supervisor: Box::new(Calm),
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1_024
}

/// CPU time of this process, in seconds.
fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

async fn until(clock: &Clock, what: &str, mut done: impl FnMut() -> bool) {
    let begin = clock.monotonic();
    while !done() {
        let waited = clock.monotonic().since(begin);
        assert!(waited < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn tell(clients: &[SlabHandle<Client>], cells: u32, order: fn() -> Do) {
    for ordinal in 0..cells {
        for slab in clients {
            while slab.send(ordinal, order()).is_err() {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |or: u32| args.next().map_or(or, |text| text.parse().unwrap());
    let (connections, rounds, shards) = (number(1_000), number(4), number(2).max(1));
    let backend = args.next().map_or(Backend::Auto, |word| {
        Backend::from_label(&word).expect("auto, uring or portable")
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(connections / shards, rounds, shards, backend));
}

async fn run(connections: u32, rounds: u32, shards: u32, backend: Backend) {
    let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
    let config = ShardConfig {
        shards: shards as usize,
        backend,
        ..ShardConfig::default()
    };
    let host = ShardHost::start(&system, &config).unwrap();
    let clock = system.clock();
    let tally = Arc::new(Tally::default());
    let empty = resident();
    let shared = |port| Shared {
        port,
        listeners: shards as u16,
        connections,
        tally: Arc::clone(&tally),
    };
    let mut clients = Vec::new();
    for (port, shard) in (PORT..).zip(host.shards()) {
        let servers = spec::<Server>("/fleet/servers", connections + 1, shared(port));
        shard.add_slab(servers).unwrap();
        let callers = spec::<Client>("/fleet/clients", connections, shared(PORT));
        clients.push(shard.add_slab(callers).unwrap());
    }
    until(clock, "listeners", || {
        tally.listening.load(Relaxed) == shards
    })
    .await;
    let all = connections * shards;
    let cells = resident();
    let (begin, cpu) = (clock.monotonic(), cpu_s());
    tell(&clients, connections, || Do::Connect).await;
    let stats = || {
        host.shards()
            .iter()
            .map(|s| s.stats().net)
            .collect::<Vec<_>>()
    };
    let sum = |of: fn(&NetStats) -> u64| stats().iter().map(of).sum::<u64>();
    until(clock, "connections", || {
        sum(|s| s.accepted) >= u64::from(all)
    })
    .await;
    until(clock, "connections", || {
        tally.connected.load(Relaxed) >= all
    })
    .await;
    let took = clock.monotonic().since(begin).as_secs_f64();
    println!(
        "{all} connections ({} sockets, {} open files) on {} in {took:.2} s, {:.2} CPU s",
        sum(|s| s.open),
        std::fs::read_dir("/proc/self/fd").unwrap().count(),
        host.backend().label(),
        cpu_s() - cpu,
    );
    report("connected", all, empty, cells);
    echo(clock, &clients, connections, rounds, &tally).await;
    report("after echoes", all, empty, cells);
    host.stop().await.unwrap();
    for (index, stats) in stats().iter().enumerate() {
        println!("shard {index}: {stats:?}");
        assert!(stats.balanced() && stats.alive() == 0, "sockets are left");
    }
}

/// Lets every client say a word, so many times.
async fn echo(
    clock: &Clock,
    clients: &[SlabHandle<Client>],
    connections: u32,
    rounds: u32,
    tally: &Tally,
) {
    let all = u64::from(connections) * clients.len() as u64;
    let (begin, cpu) = (clock.monotonic(), cpu_s());
    for round in 1..=rounds {
        tell(clients, connections, || Do::Say).await;
        let words = all * u64::from(round);
        until(clock, "echoes", || tally.words.load(Relaxed) >= words).await;
    }
    let words = all * u64::from(rounds);
    let (took, used) = (clock.monotonic().since(begin).as_secs_f64(), cpu_s() - cpu);
    println!(
        "{words} echoes of {WORD} bytes in {took:.2} s, {used:.2} CPU s: {:.1} us of CPU each",
        used * 1e6 / words as f64
    );
}

fn report(when: &str, connections: u32, empty: u64, cells: u64) {
    let now = resident();
    let each = |bytes: u64| now.saturating_sub(bytes) / u64::from(connections.max(1));
    println!(
        "{when}: {} bytes a connection, of them {} beside its two cells",
        each(empty),
        each(cells)
    );
}
