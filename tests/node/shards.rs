//! Threads of shards that die in a running node: with devices on QUIC links and devices with
//! sockets of their own on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use actorsim::NodeConfig;
use actorsim::config::Layers;
use actorsim::node::RunOut;
use actorsim_actors::shard::SlabSpec;
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Fault, Flow, MailboxSpec,
    Message, Overflow,
};

use super::*;

/// An MQTT 3.1.1 broker that takes what comes.
struct Broker {
    port: u16,
    /// Sessions begun, messages taken, sessions ended.
    counts: Arc<[AtomicU64; 3]>,
}

impl Broker {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let counts: Arc<[AtomicU64; 3]> = Arc::default();
        let told = Arc::clone(&counts);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let counts = Arc::clone(&told);
                std::thread::spawn(move || {
                    // A device that dies takes its session with it: that is no error here.
                    let _ = session(stream, &counts);
                    counts[2].fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { port, counts }
    }

    fn counts(&self) -> [u64; 3] {
        [0, 1, 2].map(|at| self.counts[at].load(Ordering::Relaxed))
    }

    /// Waits until so many sessions were begun beside those before, `live` of all are under way,
    /// and each has something to say.
    fn hears(&self, node: &Node, (begun, live): (u64, u64), before: [u64; 3]) {
        let heard = (0..2_000).any(|_| {
            node.attach(&["health"]); // paces it
            let now = self.counts();
            now[0] >= before[0] + begun && now[0] - now[2] == live && now[1] > before[1] + live
        });
        assert!(heard, "{before:?} {:?}\n{}", self.counts(), node.seen);
    }
}

fn session(mut stream: TcpStream, counts: &[AtomicU64; 3]) -> std::io::Result<()> {
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        let kind = byte[0] >> 4;
        let (mut length, mut shift) = (0, 0);
        loop {
            stream.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        match kind {
            1 => {
                counts[0].fetch_add(1, Ordering::Relaxed);
                stream.write_all(&[0x20, 2, 0, 0])?;
            }
            3 => {
                counts[1].fetch_add(1, Ordering::Relaxed);
                let id = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                stream.write_all(&[0x40, 2, body[id], body[id + 1]])?;
            }
            8 => stream.write_all(&[0x90, 3, body[0], body[1], 1])?,
            12 => stream.write_all(&[0xd0, 0])?,
            _ => {}
        }
    }
}

#[test]
fn a_thread_of_a_shard_that_dies_takes_its_devices_along_and_all_come_back() {
    const SESSIONS: u64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::new();
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let own = ["-X", "shards.count=2", "--mqtt-url", &url];
    let mut node = Node::start(dir.path(), "n1", &[SMALL, &own].concat());
    node.ready();
    node.ask(&format!(
        "spawn factory_mqtt {SESSIONS} --name hall --interval 200ms"
    ));
    broker.hears(&node, (SESSIONS, SESSIONS), [0; 3]);

    // Groups of 256 in turn: the first is on shard 0, what is left on shard 1.
    let shard = |line: &str| node.ask(&format!("{line} /fleet/shards/0"));
    let hit = |node: &Node| {
        number(
            &node.ask("info /fleet/default/industrial-0001"),
            "/incarnation",
        )
    };
    let before = broker.counts();
    let killed = shard("kill");
    assert_eq!(killed["done"], "killed", "{killed}");
    node.ready_again();
    broker.hears(&node, (256, SESSIONS), before);
    let info = shard("info");
    assert_eq!(number(&info, "/incarnation"), 2, "{info}");
    assert_eq!(number(&info, "/shard/incarnation"), 2, "{info}");
    assert_eq!(number(&info, "/shard/deaths"), 1, "{info}");
    assert_eq!(hit(&node), 2);
    let tree = node.ask("tree /fleet").to_string();
    assert!(tree.contains("/fleet/shards/1"), "{tree}");

    // The same as a fault, told as one: the next thread waits for its end.
    let plan = dir.path().join("plan.toml");
    let text = "seed = 1\nrate = \"1/1s\"\n[faults]\nhost_down = { for = \"200ms\" }\n";
    std::fs::write(&plan, text).unwrap();
    let over = node.ask(&format!("chaos start --plan {} --for 2s", plan.display()));
    assert!(number(&over, "/strikes/shard/host_down") > 0, "{over}");
    assert_eq!(over["over"], "its time is over", "{over}");
    node.ready_again();
    broker.hears(&node, (0, SESSIONS), broker.counts());
    let events = node.ask("events --limit 5000").to_string();
    for name in ["shard_down", "shard_up", "fault_injected", "host_down"] {
        assert!(events.contains(name), "{name}: {events}");
    }
    node.signal(Signal::TERM);
    let (code, report) = node.end();
    passes(code, &report);
    assert_eq!(number(&report, "/tiers/t2/lost"), 0);
    assert_eq!(number(&report, "/devices/running"), 40 + SESSIONS);
    assert_eq!(number(&report, "/devices/quarantined"), 0);
    let mails = |key: &str| number(&report, &format!("/mailboxes/{key}"));
    assert_eq!(mails("offered"), mails("accepted") + mails("rejected"));
    let gone = mails("handled") + mails("dropped") + mails("conflated") + mails("died");
    assert_eq!(mails("accepted"), gone + mails("waiting"));
    assert_eq!(report["leaks"]["threads"], serde_json::json!([]));
}

#[test]
fn a_node_on_rings_that_the_kernel_polls_runs_and_leaves_none_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let polled = [
        "-X",
        "shards.backend=uring",
        "-X",
        "shards.sqpoll_idle=20ms",
    ];
    let args = [SMALL, &polled, &["--for", "2s"]].concat();
    let mut node = Node::start(dir.path(), "n1", &args);
    node.log.read_to_string(&mut node.seen).unwrap();
    if let Some(reason) = node
        .seen
        .lines()
        .find(|line| line.contains("io_uring cannot be used"))
    {
        println!("skipped: {reason}");
        return;
    }
    assert!(node.seen.contains("with SQPOLL"), "{}", node.seen);
    let (code, report) = node.end();
    passes(code, &report);
    let nothing = serde_json::json!([]);
    let leaks = &report["leaks"];
    assert_eq!((&leaks["threads"], &leaks["files"]), (&nothing, &nothing));
}

/// A cell whose step lasts until it is let go.
struct Stuck;

/// Told that the step has begun; ends it.
struct Stand(SyncSender<()>, Receiver<()>);
impl Message for Stand {}

impl Cell for Stuck {
    type Msg = Stand;
    type Shared = ();
    type Identity = ();
    type Out = ();
    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self)
    }
    fn handle(&mut self, still: Stand, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        still.0.send(()).unwrap();
        let _ = still.1.recv();
        Ok(Flow::Continue)
    }
    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

struct Calm;
impl CellSupervisor for Calm {
    fn exited(&mut self, _: &CellExit<'_>) -> CellDecision {
        CellDecision::Stop
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

/// Waits until a device is in this life.
fn comes_back(device: &str, life: u64, attach: &impl Fn(&str) -> (Option<i32>, String)) {
    let wanted = format!("\"incarnation\": {life}");
    let back = (0..2_000).any(|_| attach(&format!("info {device}")).1.contains(&wanted));
    assert!(back, "{device} comes back with its shard");
}

#[tokio::test]
async fn an_operator_is_answered_and_policies_hold_while_a_shard_stands_still() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("n1");
    let mut layers = Layers::built_in();
    for assignment in [
        "node.name=n1",
        &format!("node.state_dir={}", state.display()),
        "node.run_for=1s",
        "fleet.devices=40",
        "shards.count=2",
        "transport.listen=127.0.0.1:0",
        "metrics.enabled=false",
    ] {
        layers.set(assignment);
    }
    let config = NodeConfig::from_settings(&layers.resolve().unwrap());
    let mut node = actorsim::Node::start(config).await.unwrap();
    let shard = node.fleet().unwrap().shards()[0].clone();
    let stuck = shard.add_slab::<Stuck>(SlabSpec {
        path: ActorPath::new("/fleet/stuck").unwrap(),
        name: Arc::new(|ordinal| format!("stuck-{ordinal}")),
        ordinals: std::iter::once(0..1).collect(),
        shared: (),
        out: (),
        identity: Box::new(|_| ()),
        mailbox: MailboxSpec::new(1, Overflow::Reject),
        supervisor: Box::new(Calm),
    });
    let ((begun_tx, begun), (let_go, held)) = (sync_channel(1), sync_channel(1));
    stuck.unwrap().send(0, Stand(begun_tx, held)).unwrap();
    begun.recv().unwrap();

    let attach = |line: &str| {
        let mut command = actorsim(&["attach", "-o", "json", "--state-dir"]);
        let output = command.arg(&state).args(["-c", line]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let device = "/fleet/default/industrial-0001";
    for line in ["ps", "ps /fleet/default", "tree", "tree /fleet"] {
        let (code, said) = attach(line);
        assert_eq!(code, Some(0), "{line}: {said}");
        assert!(
            said.contains("shard 0 has not answered for"),
            "{line}: {said}"
        );
    }
    for (line, wanted) in [("info", Some(0)), ("kill", Some(4))] {
        let (code, said) = attach(&format!("{line} {device}"));
        assert_eq!(code, wanted, "{line}: {said}");
        assert!(said.contains("shard 0"), "{line}: {said}");
    }
    let (code, said) = attach("policy set /fleet/default intensity=9");
    assert_eq!(code, Some(0), "{said}");
    let (_, said) = attach("policy show /fleet/default");
    assert!(said.contains('9'), "{said}");
    // The thread is stuck: to kill it is answered, and done when its step has ended.
    let (code, said) = attach("kill /fleet/shards/0");
    assert_eq!(code, Some(0), "{said}");
    assert!(shard.is_dying() && !shard.is_down());
    let_go.send(()).unwrap();
    let back = (0..2_000).any(|_| attach("health").0 == Some(0) && shard.incarnation().0 == 2);
    assert!(back);
    comes_back(device, 2, &attach);
    node.wait_or_stop(&mut RunOut).await;
}
