//! A supervised transport and one link, on a runtime each, as two processes have them.
//!
//! The world behind it counts what comes and acknowledges events at once. Bound: one link.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actorsim_actors::{
    ActorPath, Addr, Clock, Fault, Flow, MailboxSpec, Overflow, System, TaskActor, TaskContext,
};
use actorsim_supervision::{ChildSpec, Policies, SupervisorRef, SupervisorSpec, start_root};
use actorsim_transport::{
    AckStatus, Arrival, Downlink, DownlinkError, Ingest, Inlets, Limits, Line, Link, LinkSpec,
    Listening, Network, Protocol, SITE_SERVER_NAME, Sessions, Site, T2Message, Ticket, Transport,
    TransportConfig, TransportStats, WireCommand, Wires, link_child,
};
use tokio::runtime::{Builder, Runtime};

/// Batches that wait for the world, as in a twin.
const BATCHES: u32 = 1_024;
/// Between two acknowledgements: less than between two syncs of our journal.
const COMMIT: Duration = Duration::from_millis(1);
/// For the connection to be there.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(5);

/// Counts telemetry.
struct World;

impl TaskActor for World {
    type Msg = Ingest;

    async fn handle(&mut self, m: Ingest, _: &mut TaskContext<Ingest>) -> Result<Flow, Fault> {
        if let Ingest::T1(batch) = m {
            batch.applied();
        }
        Ok(Flow::Continue)
    }
}

/// Takes each batch of events in its turn, and tells the links so together, as a group commit does.
struct Journal {
    stats: Arc<TransportStats>,
    sessions: Arc<OnceLock<Arc<Sessions>>>,
}

impl TaskActor for Journal {
    type Msg = T2Message;

    async fn started(&mut self, cx: &mut TaskContext<T2Message>) -> Result<(), Fault> {
        let sessions = Arc::clone(&self.sessions);
        cx.pump(async move {
            let mut commits = tokio::time::interval(COMMIT);
            loop {
                commits.tick().await;
                sessions.get().map(|sessions| sessions.wake());
            }
        });
        Ok(())
    }

    async fn handle(
        &mut self,
        m: T2Message,
        _: &mut TaskContext<T2Message>,
    ) -> Result<Flow, Fault> {
        if let T2Message::Events(batch) = m
            && batch.session.judge(batch.sequence) == Arrival::Next
        {
            self.stats.t2.applied.add(batch.events.len() as u64);
            batch.session.acknowledge(batch.sequence);
        }
        Ok(Flow::Continue)
    }
}

/// Devices that execute every command.
struct Devices(Link);

impl Downlink for Devices {
    fn command(&self, ticket: Ticket, _: WireCommand) -> Result<(), DownlinkError> {
        let room = self.0.ack(ticket, AckStatus::Executed);
        room.then_some(()).ok_or(DownlinkError::Busy)
    }
}

/// Both ends.
pub(super) struct Rig {
    pub(super) link: Link,
    pub(super) fleet: Runtime,
    pub(super) fleet_stats: Arc<TransportStats>,
    pub(super) twin_stats: Arc<TransportStats>,
    twin: Runtime,
    roots: [SupervisorRef; 2],
    dir: PathBuf,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn runtime() -> Result<Runtime, String> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().map_err(text)
}

impl Rig {
    /// Connects a link that speaks `protocol`.
    pub(super) fn start(protocol: Protocol) -> Result<Self, String> {
        let dir = std::env::temp_dir().join(format!("actorsim-quic-{}", std::process::id()));
        let site = Site::open_or_create(&dir.join("site")).map_err(text)?;
        let identity = |name: &str| site.identity(name, "*", &dir.join(name)).map_err(text);
        let (twin, fleet) = (runtime()?, runtime()?);
        let (twin_stats, fleet_stats) = (TransportStats::new(), TransportStats::new());
        let system = System::new(Clock::wall(), twin.handle().clone());
        let mailbox = MailboxSpec::new(BATCHES, Overflow::Block).kept();
        let at = ActorPath::root().join("twin");
        let inlets = Inlets {
            readings: Addr::new(at.join("route"), mailbox),
            events: Addr::new(at.join("journal"), mailbox),
        };
        let config = TransportConfig {
            node: "twin".into(),
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            plain: None,
            commands: None,
            identity: identity("twin")?,
            network: Network::Line(Line::ETHERNET),
            limits: Limits::default(),
        };
        let (readings, events) = (inlets.readings.clone(), inlets.events.clone());
        let (policies, stats) = (Policies::shipped(), Arc::clone(&twin_stats));
        let transport = Transport::open(&system, config, inlets, stats, &policies).map_err(text)?;
        let (stats, sessions) = (Arc::clone(&twin_stats), Arc::new(OnceLock::new()));
        drop(sessions.set(Arc::clone(transport.sessions())));
        let journal = move || Journal {
            stats: Arc::clone(&stats),
            sessions: Arc::clone(&sessions),
        };
        let spec = SupervisorSpec::new(ActorPath::root(), Default::default())
            .child(ChildSpec::task("journal", &events, journal))
            .child(ChildSpec::task("route", &readings, || World))
            .child(transport.child(&policies));
        let listening = twin.block_on(start_root(&system, spec)).map_err(text)?;

        let system = System::new(Clock::wall(), fleet.handle().clone());
        let path = ActorPath::root().join("fleet");
        let link = Link::new(path.join("0"), 1, Arc::clone(&fleet_stats));
        let spec = LinkSpec {
            twin: transport.local_addr(Listening::Main).ok_or("no listener")?,
            server_name: SITE_SERVER_NAME.into(),
            identity: identity("fleet")?,
            protocol,
            node: "fleet".into(),
            seed: 1,
            downlink: Arc::new(Devices(link.clone())),
            network: Network::Wires(Wires::new(0, Some(Line::ETHERNET))), // as a node's links
        };
        let spec =
            SupervisorSpec::new(path, Default::default()).child(link_child("0", &link, spec));
        let dialling = fleet.block_on(start_root(&system, spec)).map_err(text)?;
        let began = Instant::now();
        while !link.is_connected() {
            if began.elapsed() > PATIENCE {
                return Err("the link did not connect".to_owned());
            }
            std::thread::sleep(LOOK);
        }
        Ok(Self {
            link,
            fleet,
            fleet_stats,
            twin_stats,
            twin,
            roots: [listening, dialling],
            dir,
        })
    }

    /// Ends it without ceremony: what is measured is over.
    pub(super) fn stop(self) {
        drop(self.roots);
        self.fleet.shutdown_background();
        self.twin.shutdown_background();
        drop(std::fs::remove_dir_all(self.dir));
    }
}
