//! A supervised transport with a world that only remembers, and links whose devices only answer.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actorsim_actors::{
    ActorPath, ActorRef, Addr, Clock, Fault, Flow, MailboxSpec, Overflow, System, TaskActor,
    TaskContext,
};
use actorsim_supervision::{ChildSpec, Policies, SupervisorRef, SupervisorSpec, start_root};
use actorsim_transport::*;
use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;

/// Longest any condition of a test may take on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition that other tasks bring about.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

/// What reached the world.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) t1: Vec<Reading>,
    pub(crate) t2: Vec<(Reading, EventKey)>,
    pub(crate) t2_plain: Vec<Reading>,
    pub(crate) registered: BTreeMap<String, usize>,
}

#[derive(Clone)]
pub(crate) struct World {
    seen: Arc<Mutex<Seen>>,
    stats: Arc<TransportStats>,
    sessions: Arc<OnceLock<Arc<Sessions>>>,
    open: watch::Receiver<bool>,
}

impl TaskActor for World {
    type Msg = Ingest;

    async fn handle(&mut self, m: Ingest, _: &mut TaskContext<Ingest>) -> Result<Flow, Fault> {
        self.open.wait_for(|open| *open).await.unwrap();
        let mut seen = self.seen.lock();
        match m {
            Ingest::T1(batch) => {
                seen.t1.extend(&batch.readings);
                batch.applied();
            }
            Ingest::Register(registration) => registration.devices.for_each(|_, name| {
                seen.registered
                    .insert(name.to_owned(), registration.sensors.len());
            }),
        }
        Ok(Flow::Continue)
    }
}

/// A journal that only remembers.
pub(crate) struct Journal(World);

impl TaskActor for Journal {
    type Msg = T2Message;

    async fn handle(
        &mut self,
        m: T2Message,
        _: &mut TaskContext<T2Message>,
    ) -> Result<Flow, Fault> {
        self.0.open.wait_for(|open| *open).await.unwrap();
        let mut seen = self.0.seen.lock();
        let t2 = &self.0.stats.t2;
        match m {
            T2Message::Plain(batch) => {
                seen.t2_plain.extend(&batch.readings);
                batch.applied();
            }
            T2Message::Events(batch) => match batch.session.judge(batch.sequence) {
                Arrival::Next => {
                    let events = batch.events.iter().copied();
                    seen.t2.extend(events.zip(batch.keys.iter().copied()));
                    batch.session.acknowledge(batch.sequence);
                    t2.applied.add(batch.events.len() as u64);
                    self.0.sessions.get().unwrap().wake();
                }
                Arrival::Duplicate => t2.duplicates.add(batch.events.len() as u64),
                Arrival::Early => t2.out_of_order.add(batch.events.len() as u64),
            },
        }
        Ok(Flow::Continue)
    }
}

/// Devices that execute every command, unless told otherwise.
#[derive(Default)]
pub(crate) struct Devices {
    pub(crate) link: OnceLock<Link>,
    pub(crate) commands: Mutex<Vec<WireCommand>>,
    pub(crate) answer: Mutex<Option<AckStatus>>,
    /// How many commands to take for a busy device.
    pub(crate) busy: AtomicU32,
    /// Commands that came over a connection of their own.
    pub(crate) beside: AtomicU32,
}

impl Downlink for Devices {
    fn command(&self, ticket: Ticket, command: WireCommand) -> Result<(), DownlinkError> {
        self.commands.lock().push(command);
        let beside = u32::from(ticket.is_beside());
        self.beside.fetch_add(beside, Relaxed);
        let busy = self
            .busy
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if busy.is_ok() {
            return Err(DownlinkError::Busy);
        }
        if let (Some(status), Some(link)) = (*self.answer.lock(), self.link.get()) {
            assert!(link.ack(ticket, status));
        }
        Ok(())
    }
}

pub(crate) struct Rig {
    pub(crate) system: System,
    pub(crate) root: SupervisorRef,
    pub(crate) transport: Transport,
    pub(crate) stats: Arc<TransportStats>,
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) site: Site,
    pub(crate) dir: TempDir,
    pub(crate) links: SupervisorRef,
    /// Whether the world takes anything.
    pub(crate) open: watch::Sender<bool>,
    /// Whether commands have connections of their own.
    commands: bool,
}

/// Any port of the same address, or of loopback: beyond it nobody is served without ALPN.
fn plain_at(at: Ipv4Addr) -> SocketAddr {
    let at = if at.is_loopback() {
        at
    } else {
        Ipv4Addr::LOCALHOST
    };
    (at, 0).into()
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST).await
    }

    /// The same with its main listener at another address of this machine.
    pub(crate) async fn start_at(at: Ipv4Addr) -> Self {
        Self::start_with(at, Limits::default()).await
    }

    /// The same with other limits.
    pub(crate) async fn start_with(at: Ipv4Addr, limits: Limits) -> Self {
        Self::start_all(at, limits, false).await
    }

    /// The same with connections of their own for commands.
    pub(crate) async fn with_commands() -> Self {
        Self::start_all(Ipv4Addr::LOCALHOST, Limits::default(), true).await
    }

    async fn start_all(at: Ipv4Addr, limits: Limits, commands: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::open_or_create(&dir.path().join("site")).unwrap();
        let identity = site
            .identity("twin", "*", &dir.path().join("twin"))
            .unwrap();
        let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
        let stats = TransportStats::new();
        let (seen, sessions) = (Arc::<Mutex<Seen>>::default(), Arc::new(OnceLock::new()));
        let mailbox = MailboxSpec::new(64, Overflow::Block).kept();
        let world = Addr::new(ActorPath::root().join("world"), mailbox);
        let journal = Addr::new(ActorPath::root().join("journal"), mailbox);
        let inlets = Inlets {
            readings: world.clone(),
            events: journal.clone(),
        };
        let config = TransportConfig {
            node: "twin".into(),
            listen: (at, 0).into(),
            plain: Some(plain_at(at)),
            commands: commands.then(|| CommandsConfig {
                port: 0,
                runtime: tokio::runtime::Handle::current(),
            }),
            identity,
            network: Network::Udp,
            limits,
        };
        let policies = Policies::shipped();
        let transport =
            Transport::open(&system, config, inlets, Arc::clone(&stats), &policies).unwrap();
        sessions.set(Arc::clone(transport.sessions())).unwrap();
        let open = watch::Sender::new(true);
        let gate = open.subscribe();
        let remembering = World {
            open: gate,
            seen: Arc::clone(&seen),
            stats: Arc::clone(&stats),
            sessions: Arc::clone(&sessions),
        };
        let keeping = remembering.clone();
        let links = SupervisorSpec::new(ActorPath::root().join("fleet/links"), Default::default());
        let links = links.configured(&policies);
        let reference = links.reference();
        let spec = SupervisorSpec::new(ActorPath::root(), Default::default())
            .child(ChildSpec::task("journal", &journal, move || {
                Journal(keeping.clone())
            }))
            .child(ChildSpec::task("world", &world, move || {
                remembering.clone()
            }))
            .child(transport.child(&policies))
            .child(ChildSpec::supervisor("links", links))
            .configured(&policies);
        let root = start_root(&system, spec).await.unwrap();
        Self {
            system,
            root,
            transport,
            stats,
            seen,
            site,
            dir,
            links: reference,
            open,
            commands,
        }
    }

    pub(crate) fn addr(&self, which: Listening) -> SocketAddr {
        self.transport.local_addr(which).unwrap()
    }

    /// A running link, and the devices behind it.
    pub(crate) async fn link(&self, id: &str, devices_glob: &str) -> (Link, Arc<Devices>) {
        self.link_speaking(Protocol::Actorsim1, id, devices_glob)
            .await
    }

    /// The same in another protocol.
    pub(crate) async fn link_speaking(
        &self,
        protocol: Protocol,
        id: &str,
        devices_glob: &str,
    ) -> (Link, Arc<Devices>) {
        let (link, devices, spec) = self.line(protocol, id, devices_glob);
        if self.commands {
            let beside = commands_child(format!("{id}-commands"), &link, spec.clone());
            self.links.start_child(beside).await.unwrap();
        }
        self.links
            .start_child(link_child(id, &link, spec))
            .await
            .unwrap();
        (link, devices)
    }

    /// A running link to another twin.
    pub(crate) async fn link_to(&self, twin: SocketAddr, id: &str) -> (Link, Arc<Devices>) {
        let (link, devices, spec) = self.line(Protocol::Actorsim1, id, "*");
        let child = link_child(id, &link, LinkSpec { twin, ..spec });
        self.links.start_child(child).await.unwrap();
        (link, devices)
    }

    /// A running link of a machine with a clock of its own.
    pub(crate) async fn link_by(&self, clock: Clock, id: &str) -> (Link, SupervisorRef) {
        let (link, _, spec) = self.line(Protocol::Actorsim1, id, "*");
        let system = System::new(clock, tokio::runtime::Handle::current());
        let there = SupervisorSpec::new(self.links.path().clone(), Default::default());
        let there = there.child(link_child(id, &link, spec));
        let root = start_root(&system, there).await.unwrap();
        (link, root)
    }

    fn line(&self, protocol: Protocol, id: &str, glob: &str) -> (Link, Arc<Devices>, LinkSpec) {
        let dir = self.dir.path().join(id);
        let identity = self.site.identity(id, glob, &dir).unwrap();
        let path = self.links.path().join(id);
        let session = session_id("fleet", id, 1);
        let link = Link::new(path, session, Arc::clone(&self.stats));
        let devices = Arc::new(Devices::default());
        *devices.answer.lock() = Some(AckStatus::Executed);
        devices.link.set(link.clone()).unwrap();
        let spec = LinkSpec {
            network: Network::Udp,
            twin: self.addr(Listening::Main),
            server_name: SITE_SERVER_NAME.into(),
            identity,
            protocol,
            node: "fleet".into(),
            seed: 1,
            downlink: Arc::clone(&devices) as Arc<dyn Downlink>,
        };
        (link, devices, spec)
    }

    /// The live incarnation at a path.
    pub(crate) async fn actor(&self, path: &str) -> ActorRef {
        let path = ActorPath::new(path).unwrap();
        until(path.as_str(), || self.system.census().task(&path).is_some()).await;
        self.system.census().task(&path).unwrap()
    }

    /// Kills what lives at a path, and waits for the next incarnation.
    pub(crate) async fn kill(&self, path: &str) {
        let victim = self.actor(path).await;
        victim.kill();
        victim.exited().await;
        let path = ActorPath::new(path).unwrap();
        until("next incarnation", || {
            let next = self.system.census().task(&path);
            next.is_some_and(|next| next.incarnation() > victim.incarnation())
        })
        .await;
    }

    /// The connection that carries a device.
    pub(crate) async fn conn_path(&self, device: &str) -> String {
        let device = device_uuid(device);
        let registry = self.transport.registry();
        until("a connection", || registry.connection_of(&device).is_some()).await;
        format!(
            "/transport/conn/{}",
            registry.connection_of(&device).unwrap()
        )
    }

    /// Waits until commands to a device come over a connection of their own.
    pub(crate) async fn joined(&self, device: &str) {
        let (registry, device) = (self.transport.registry(), device_uuid(device));
        until("a connection for commands", || {
            let at = registry.connection_of(&device);
            at.is_some_and(|at| registry.is_joined(at))
        })
        .await;
    }

    pub(crate) fn command(&self, device: &str, id: u64, deadline: Duration) -> Command {
        Command {
            device: device_uuid(device),
            sensor: 6,
            kind: SensorType::Relay,
            value: 0.0,
            id,
            decided: self.system.clock().monotonic(),
            deadline,
        }
    }

    pub(crate) fn issue(&self, command: Command) {
        drop(
            self.transport
                .t3()
                .try_send(T3Message::issue(command, &self.stats)),
        );
    }

    pub(crate) async fn stop(self) {
        self.root.stop().await;
        self.transport.close().await;
    }
}

pub(crate) fn reading(device: &str, sequence: u32) -> Reading {
    Reading {
        device: device_uuid(device),
        sensor: 3,
        kind: SensorType::Voltage,
        value: 230.0,
        at_us: Clock::wall().unix_us(),
        sequence,
    }
}

pub(crate) fn pumps(count: u32) -> Registration {
    let devices = DeviceRange {
        prefix: "pump-".into(),
        first: 0,
        count,
        width: 4,
    };
    let sensors = [SensorSpec {
        sensor: 3,
        kind: SensorType::Voltage,
    }];
    Registration {
        devices,
        sensors: sensors.into(),
    }
}

pub(crate) fn block(device: &str, sequences: std::ops::Range<u32>) -> Bytes {
    let mut bytes = Vec::new();
    for sequence in sequences {
        reading(device, sequence).encode_into(&mut bytes);
    }
    bytes.into()
}

pub(crate) fn event(device: &str, event: u64) -> OutEvent {
    OutEvent {
        reading: reading(device, event as u32),
        key: EventKey { epoch: 1, event },
    }
}
