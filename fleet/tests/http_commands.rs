//! Commands by polls, and desired state over HTTP: set at the server, reported by the device, kept
//! over lost connections and a device that is restarted. In virtual time, against a server in a
//! cell.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actorsim_actors::shard::{Accept, SimShards, SlabSpec, SocketEvent, SocketId};
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, CellExit, CellSupervisor, Clock, Fault, Flow,
    MailboxSpec, Message, Overflow, System,
};
use actorsim_fleet::broker::{Plan, Target};
use actorsim_fleet::fault::{Fault as DeviceFault, FaultSpec};
use actorsim_fleet::session::http;
use actorsim_fleet::{Fleet, Injection, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision};
use serde_json::{Value, json};

const DEVICES: u32 = 3;
const POLL_S: u64 = 2;

/// What the server has, and has heard, by path.
#[derive(Default)]
struct Site {
    /// Answers to polls; taken once if they are commands, kept if they are desired states.
    commands: BTreeMap<String, String>,
    desired: BTreeMap<String, String>,
    posted: BTreeMap<String, Vec<Value>>,
    /// Connections are closed after so many answers; 0: never.
    answers_max: usize,
    accepted: u32,
}

struct Server {
    peers: BTreeMap<SocketId, (Vec<u8>, usize)>,
}

struct Nothing;
impl Message for Nothing {}

struct Calm;
impl CellSupervisor for Calm {
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision {
        panic!("the server has failed: {exit:?}");
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

impl Cell for Server {
    type Msg = Nothing;
    type Shared = (SocketAddr, Arc<Mutex<Site>>);
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        let at = cx.shared.0;
        let listener = cx.net().listen(at, Accept::Here);
        listener.map_err(|error| Fault::with("listen", error))?;
        let peers = BTreeMap::new();
        Ok(Self { peers })
    }

    fn handle(&mut self, _: Nothing, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
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
        let mut site = cx.shared.1.lock().unwrap();
        match event {
            SocketEvent::Accepted { .. } => {
                site.accepted += 1;
                self.peers.insert(socket, Default::default());
            }
            SocketEvent::Received(bytes) => {
                let Some((partial, answered)) = self.peers.get_mut(&socket) else {
                    return Ok(Flow::Continue);
                };
                partial.extend_from_slice(bytes);
                while let Some((request, len)) = request(partial) {
                    partial.drain(..len);
                    let answer = site.answer(&request);
                    let _ = cx.net().write(socket, answer.as_bytes());
                    *answered += 1;
                    if site.answers_max > 0 && *answered >= site.answers_max {
                        cx.net().close(socket);
                        self.peers.remove(&socket);
                        break;
                    }
                }
            }
            SocketEvent::PeerFinished | SocketEvent::Ended(_) => {
                self.peers.remove(&socket);
            }
            _ => {}
        }
        Ok(Flow::Continue)
    }
}

/// Method, path and body of a whole request at the front, and its length.
fn request(bytes: &[u8]) -> Option<((String, String, String), usize)> {
    let text = std::str::from_utf8(bytes).unwrap();
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let mut words = head.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse::<usize>().unwrap())
    });
    let length = length.unwrap_or(0);
    let body = rest.get(..length)?.to_owned();
    Some(((method, path, body), head.len() + 4 + length))
}

impl Site {
    fn answer(&mut self, (method, path, body): &(String, String, String)) -> String {
        if method == "POST" {
            let body = serde_json::from_str(body).unwrap();
            self.posted.entry(path.clone()).or_default().push(body);
            return "HTTP/1.1 204 No Content\r\n\r\n".to_owned();
        }
        let command = self.commands.remove(path);
        match command.or_else(|| self.desired.get(path).cloned()) {
            None => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            Some(body) => format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        }
    }
}

struct Rig {
    _runtime: tokio::runtime::Runtime,
    shards: SimShards,
    fleet: Fleet,
    site: Arc<Mutex<Site>>,
}

impl Rig {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let system = System::new(Clock::virtual_from(0), runtime.handle().clone());
        let shards = SimShards::of(&system, 2);
        let at = SocketAddr::from(([10, 0, 0, 1], 80));
        let site = Arc::<Mutex<Site>>::default();
        let server = shards.shards()[0].add_slab::<Server>(SlabSpec {
            path: ActorPath::new("/server").unwrap(),
            name: Arc::new(|_| "server".to_owned()),
            ordinals: std::iter::once(0..1).collect(),
            shared: (at, Arc::clone(&site)),
            out: (),
            identity: Box::new(|_| ()),
            mailbox: MailboxSpec::new(1, Overflow::Reject),
            supervisor: Box::new(Calm),
        });
        server.unwrap();
        let text = "type: lock\nprotocol: http\ntelemetry_interval: 1s\ntelemetry_fields:\n  \
                    bolt: {type: static, value: 1, actuator: true, sensor: Relay}\n";
        let profile = Profile::parse("lock.yaml", text).unwrap().profile;
        let target = Target::parse(&format!("http://{at}")).unwrap();
        let options = http::Options {
            poll_interval: Duration::from_secs(POLL_S),
            ..http::Options::default()
        };
        let plan = Plan::http(&profile, &target, options, (DEVICES, 1.0), Arc::default());
        let mut population = Population::new("default", Arc::new(profile), DEVICES, 7);
        population.plan = Some(Arc::new(plan.unwrap()));
        let fleet = Fleet::new(&system, vec![population], 2, Uplink::Brokers).unwrap();
        let supervision = Arc::new(Supervision::default());
        fleet
            .start(shards.shards(), &Policies::shipped(), &supervision)
            .unwrap();
        Self {
            _runtime: runtime,
            shards,
            fleet,
            site,
        }
    }

    fn run(&mut self, seconds: u64) {
        let end = self.shards.now() + Duration::from_secs(seconds);
        self.shards.run_until(end);
    }

    fn site<T>(&self, act: impl FnOnce(&mut Site) -> T) -> T {
        act(&mut self.site.lock().unwrap())
    }

    /// The last thing that came to a path.
    fn last(&self, path: &str) -> Value {
        let posted = self.site(|site| site.posted.get(path).and_then(|all| all.last().cloned()));
        posted.unwrap_or(Value::Null)
    }

    fn bolt(&self, number: u32) -> Value {
        self.last(&format!("/devices/lock-{number:04}/telemetry"))["fields"]["bolt"].clone()
    }
}

#[test]
fn a_command_is_polled_executed_once_and_answered() {
    let mut rig = Rig::new();
    rig.run(10);
    let commands = "/devices/lock-0001/commands".to_owned();
    let replies = "/devices/lock-0001/replies";
    for (command, status) in [
        (json!({"command_id": 5, "set": {"bolt": 0}}), "executed"),
        (json!({"command_id": 5, "set": {"bolt": 1}}), "superseded"),
        (json!({"command_id": 6, "set": {"door": 1}}), "refused"),
    ] {
        rig.site(|site| site.commands.insert(commands.clone(), command.to_string()));
        rig.run(POLL_S + 2);
        assert_eq!(rig.last(replies)["status"], status, "{command}");
    }
    assert_eq!(rig.bolt(1), 0.0);
    assert_eq!(rig.bolt(0), 1.0, "the others heard nothing");
    let answered = rig.site(|site| site.posted[replies].len());
    assert_eq!(answered, 3, "each once");
}

#[test]
fn a_desired_state_is_reported_and_holds_over_lost_connections_and_restarts() {
    let mut rig = Rig::new();
    let commands = "/devices/lock-0002/commands".to_owned();
    let replies = "/devices/lock-0002/replies";
    let desired = json!({"desired": {"bolt": 0}}).to_string();
    rig.site(|site| site.desired.insert(commands.clone(), desired));
    rig.run(10);
    let report = rig.last(replies);
    assert_eq!(report["desired"]["bolt"], 0.0);
    assert_eq!(report["reported"]["bolt"], 0.0);
    assert_eq!(rig.bolt(2), 0.0);

    rig.site(|site| (site.answers_max, site.accepted) = (4, 0));
    rig.run(30);
    assert!(rig.site(|site| site.accepted) > 3, "connections were lost");
    assert_eq!(rig.bolt(2), 0.0);

    let spec = FaultSpec {
        fault: DeviceFault::Disconnect,
        duration: Some(Duration::from_secs(20)),
    };
    rig.fleet
        .inject("lock-0002", Injection::Fault(spec))
        .unwrap();
    rig.run(5);
    let desired = json!({"desired": {"bolt": 1}}).to_string();
    rig.site(|site| site.desired.insert(commands.clone(), desired));
    rig.run(10);
    assert_eq!(rig.bolt(2), 0.0, "it hears nothing now");
    rig.run(20);
    assert_eq!(rig.last(replies)["reported"]["bolt"], 1.0);
    assert_eq!(rig.bolt(2), 1.0);

    rig.fleet.kill("lock-0002").unwrap();
    rig.site(|site| drop(site.posted.remove(replies)));
    rig.run(30);
    assert_eq!(rig.last(replies)["reported"]["bolt"], 1.0, "said again");
    assert_eq!(rig.bolt(2), 1.0);
    assert_eq!(rig.bolt(0), 1.0, "as it was made");
    assert_eq!(rig.fleet.published().remove(0).counts.refused, 0);
}
