//! The assembly: runtimes, the system, the layers, and the tree that keeps them up.
//!
//! Order of start: control, twin, transport, fleet; devices last. Order of stop: devices, links,
//! what is under way into the world, transport, then the rest of the tree in reverse. It decides
//! nothing about actors.
//!
//! Bound: three runtimes of one thread each; the layers' own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{ShardCores, keep_on};
use actorsim_actors::{ActorPath, Addr, CensusFilter, Clock, MailboxSpec, Overflow, System};
use actorsim_fleet::Fleet;
use actorsim_supervision::chaos::Plan;
use actorsim_supervision::{ChildSpec, Policies, SupervisorRef, SupervisorSpec, start_root};
use actorsim_transport::{Identity, Listening, Transport, TransportStats};
use actorsim_world::Twin;
use parking_lot::Mutex;
use tokio::runtime::{Handle, Runtime};

use super::build;
use super::chaos::{Chaos, Holder};
use super::control::{AttachActor, Nothing};
use super::desk::NodeDesk;
use super::faces::{Behind, faces};
use super::layers::Layers;
use super::leaks::{Before, Kept};
use super::policies::PolicyBook;
use super::urgent::Seat;
use super::{StartError, measure, snapshot, urgent};
use crate::attach::control::ControlPlane;
use crate::attach::plane::SystemPlane;
use crate::attach::server::Limits;
use crate::config::{NodeConfig, policy};
use crate::remote::token::Token;
use crate::report::RunReport;
use crate::report::verdict::{Ending, Facts};
use crate::state_dir::{StateDir, StateDirError, TOKEN};
use crate::view::{NodeView, ProcessView};

/// Longest wait until what devices have printed is written: a reader may be stuck.
const PRINT_WAIT: Duration = Duration::from_secs(5);

/// Time for the last readings to be scanned and the last commands to be answered.
const QUIESCE_MAX: Duration = Duration::from_secs(5);

/// How often the quiet is looked for.
const QUIESCE_POLL: Duration = Duration::from_millis(5);

/// Time for the devices to start once; later ones still start, but `spawn_s` is unknown.
const SPAWN_MAX: Duration = Duration::from_secs(600);

/// Time for what chaos has struck to come back before the node is stopped and judged.
pub(super) const HEAL_MAX: Duration = Duration::from_secs(20);

/// How often that is looked for.
const HEAL_POLL: Duration = Duration::from_millis(20);

/// How often the lease of `--chaos` is renewed: well within the shortest sensible one.
const LEASE_EVERY: Duration = Duration::from_millis(500);

/// Turns of tasks between two looks at the sockets, tokio's default being 61: a command crosses a
/// socket on its way there, and another on its way back, and waits at each for as many turns of
/// those that carry telemetry.
const TURNS_PER_LOOK: u32 = 2;

/// Turns of tasks between two looks at what other threads have woken, where tokio lets pass as many
/// as take 200 us: an answer of a device comes from its shard.
const TURNS_PER_HEARING: u32 = 2;

/// Names of the runtimes' threads.
const CONTROL: &str = "control";
const NET: &str = "net";
const COMMANDS: &str = "commands";

/// What runs.
#[derive(Debug)]
pub struct Assembly {
    layers: Arc<Layers>,
    root: SupervisorRef,
    policies: Arc<PolicyBook>,
    chaos: Arc<Chaos>,
    plane: Arc<SystemPlane>,
    transport: Option<Transport>,
    /// The state directory: its files stay open until the node is dropped.
    kept: PathBuf,
    before: Before,
    /// Gone when the node has stopped.
    keepers: Mutex<Vec<urgent::Keeper>>,
    /// Dropped last: everything runs on them.
    runtimes: Runtimes,
}

/// Control has a thread of its own, so that a busy node can still be looked into; and commands
/// have one, where they have connections of their own, so that they wait for no telemetry.
#[derive(Debug)]
struct Runtimes {
    control: Option<Runtime>,
    net: Option<Runtime>,
    commands: Option<Runtime>,
}

impl Runtimes {
    fn new(own_commands: bool) -> Result<Self, StartError> {
        let runtime = |name: &'static str| {
            let allowed = ShardCores::allowed();
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                // what is read and written of files beside the journal, which has its own threads
                .max_blocking_threads(4)
                .thread_name(name)
                // also what a worker starts that is kept on some of them
                .on_thread_start(move || drop(keep_on(&allowed, &allowed)))
                .event_interval(TURNS_PER_LOOK)
                .global_queue_interval(TURNS_PER_HEARING)
                .enable_all()
                .build()
                .map_err(|error| StartError::Layer {
                    layer: name,
                    reason: error.to_string(),
                })
        };
        Ok(Self {
            control: Some(runtime(CONTROL)?),
            net: Some(runtime(NET)?),
            commands: own_commands.then(|| runtime(COMMANDS)).transpose()?,
        })
    }

    /// Where traffic is carried.
    fn carriers(&self, system: &System) -> Carriers {
        let commands = self.commands.as_ref();
        Carriers {
            net: system.on_runtime(Self::handle(&self.net)),
            commands: commands.map(|runtime| system.on_runtime(runtime.handle().clone())),
        }
    }

    fn handles(&self) -> Vec<Handle> {
        let all = [&self.control, &self.net, &self.commands];
        let there = all.into_iter().flatten();
        there.map(|runtime| runtime.handle().clone()).collect()
    }

    fn handle(runtime: &Option<Runtime>) -> Handle {
        let runtime = runtime
            .as_ref()
            .expect("a runtime is there until the assembly is dropped");
        runtime.handle().clone()
    }
}

/// The node's system on the runtimes of its traffic.
#[derive(Debug)]
pub(super) struct Carriers {
    pub(super) net: System,
    /// Of commands, where they have a thread of their own.
    pub(super) commands: Option<System>,
}

impl Carriers {
    /// The runtime of commands that is theirs alone.
    pub(super) fn commands(&self) -> Option<Handle> {
        self.commands.as_ref().map(|on| on.handle().clone())
    }

    /// Keeps their threads in their seats.
    fn seated(&self, config: &NodeConfig) -> Vec<urgent::Keeper> {
        let (commands, refused) = (self.commands.as_ref(), Arc::default());
        let commands = commands.map(|on| urgent::keep(on, Seat::of_commands(config), &refused));
        let net = urgent::keep(&self.net, Seat::of_net(config), &refused);
        commands.into_iter().chain([net]).collect()
    }
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        // The node may be dropped inside a runtime, where waiting for another is not allowed.
        let all = [self.commands.take(), self.net.take(), self.control.take()];
        for runtime in all.into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

impl Assembly {
    /// Starts every layer.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: &NodeConfig, state_dir: &StateDir) -> Result<Self, StartError> {
        let runtimes = Runtimes::new(config.transport.own_commands)?;
        let before = Before::take();
        let system = System::new(clock(config.speed), Runtimes::handle(&runtimes.control));
        let carriers = runtimes.carriers(&system);
        let net = &carriers.net;
        let policies = policy::merged(&config.policies);
        let stats = TransportStats::new();
        let identity = build::identity(config, state_dir)?;

        let twin = config.world.as_ref();
        let twin = twin
            .map(|world| build::twin(config, world, net))
            .transpose()?;
        let transport = twin
            .as_ref()
            .map(|twin| build::transport(config, &carriers, twin, &identity, &stats, &policies))
            .transpose()?;
        let root_spec = SupervisorSpec::new(ActorPath::root(), Default::default());
        let root = root_spec.reference();
        let supervision = root.supervision();
        let fleet = config.fleet.as_ref();
        let fleet = fleet.map(|fleet| build::fleet(config, fleet, net, &stats));
        let fleet = fleet.transpose()?;

        let layers = Arc::new(Layers {
            system: system.clone(),
            supervision,
            stats,
            twin,
            rule_files: rule_files(config),
            fleet,
            batches: Default::default(),
            up: Default::default(),
            stopped: Default::default(),
            at_work: Default::default(),
            not_back: Default::default(),
            leaks: Default::default(),
            chaos: Default::default(),
        });
        let chaos = Chaos::new(&layers);
        let files = config.policy_files.clone();
        let book = Arc::new(PolicyBook::new(&layers, files, policies.clone()));
        let token = token(state_dir)?;
        let plane = plane(config, &layers, (&book, &chaos), &token);
        let kept = (state_dir, &identity, token);
        let control = control(config, kept, (&layers, &plane, &book), &policies)?;
        let traffic = (transport.as_ref(), &carriers);
        let subtrees = subtrees(config, &layers, traffic, &identity, &policies)?;
        let first = root_spec.child(control).child(chaos.child());
        let spec = subtrees.into_iter().fold(first, SupervisorSpec::child);
        let starting = start_root(&system, spec.configured(&policies)).await;
        starting.map_err(tree_error)?;
        let assembly = Self {
            layers,
            root,
            policies: book,
            chaos,
            plane,
            transport,
            kept: state_dir.path().to_owned(),
            before,
            keepers: Mutex::new(carriers.seated(config)),
            runtimes,
        };
        assembly.start_devices(&policies)?;
        let now = assembly.layers.system.clock().monotonic();
        let _ = assembly.layers.up.set(now);
        Ok(assembly)
    }

    fn start_devices(&self, policies: &Policies) -> Result<(), StartError> {
        let Some(layer) = &self.layers.fleet else {
            return Ok(());
        };
        layer
            .fleet
            .start(layer.shards.shards(), policies, &self.layers.supervision)
            .map_err(|error| StartError::Layer {
                layer: "fleet",
                reason: error.to_string(),
            })?;
        let layers = Arc::clone(&self.layers);
        self.layers.system.detached(async move {
            if let Some(layer) = &layers.fleet
                && layer.fleet.spawned(SPAWN_MAX).await
            {
                let counts = layer.fleet.counts();
                let text = format!("{} devices", counts.requested);
                let events = layers.system.events();
                events.publish(actorsim_actors::Level::Info, "spawned", None, text);
            }
        });
        Ok(())
    }

    /// The policies.
    pub fn policies(&self) -> &Arc<PolicyBook> {
        &self.policies
    }

    /// Answers commands, as over attach.
    pub fn plane(&self) -> Arc<dyn ControlPlane> {
        Arc::clone(&self.plane) as Arc<dyn ControlPlane>
    }

    /// What it shows.
    pub fn view(&self) -> Arc<dyn NodeView> {
        Arc::clone(&self.layers) as Arc<dyn NodeView>
    }

    /// The actor system.
    pub fn system(&self) -> &System {
        &self.layers.system
    }

    /// The twin.
    pub fn twin(&self) -> Option<&Twin> {
        self.layers.twin.as_ref()
    }

    /// What the tiers count.
    pub fn transport_stats(&self) -> &Arc<TransportStats> {
        &self.layers.stats
    }

    /// The devices.
    pub fn fleet(&self) -> Option<&Fleet> {
        self.layers.fleet.as_ref().map(|layer| &layer.fleet)
    }

    /// Where a listener really listens.
    pub fn local_addr(&self, which: Listening) -> Option<SocketAddr> {
        self.transport.as_ref()?.local_addr(which)
    }

    /// A name for this run: the time of its start.
    pub fn run_id(&self) -> String {
        format!("run-{}", self.layers.system.clock().unix_us())
    }

    /// Resolves if the root supervisor gives up, with its reason.
    pub async fn gave_up(&self) -> String {
        self.root.exited().await.to_string()
    }

    /// Begins a chaos plan; [`Assembly::hold_lease`] keeps it going.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn begin_chaos(&self, plan: Plan) -> Result<(), String> {
        self.chaos.start(plan, Holder::Node).await.map(drop)
    }

    /// Renews the lease of the plan that the node itself began, for as long as it is polled.
    pub async fn hold_lease(&self) {
        loop {
            tokio::time::sleep(LEASE_EVERY).await;
            self.chaos.renew(Holder::Node);
        }
    }

    /// Ends what chaos is under way, and waits until what it struck is back.
    async fn heal(&self) {
        if self.chaos.status().is_none() {
            return;
        }
        let _ = self.chaos.stop().await; // an error is that none runs
        let well = async {
            while !snapshot::coming_back(&self.layers).is_empty() {
                tokio::time::sleep(HEAL_POLL).await;
            }
        };
        if tokio::time::timeout(HEAL_MAX, well).await.is_err() {
            let left = snapshot::coming_back(&self.layers);
            tracing::warn!("not all that chaos struck came back: {}", left.join("; "));
            let _ = self.layers.not_back.set(left);
        }
        self.chaos.judge();
    }

    /// Stops in order; returns what still ran when the time was over.
    pub async fn stop(&self, within: Duration) -> Vec<String> {
        self.heal().await;
        let _ = self.layers.at_work.set(ProcessView::read());
        let _ = self
            .layers
            .stopped
            .set(self.layers.system.clock().monotonic());
        if tokio::time::timeout(within, self.stop_in_order())
            .await
            .is_ok()
        {
            self.keepers.lock().clear();
            let runtimes = self.runtimes.handles();
            let (system, before) = (&self.layers.system, &self.before);
            let fleet = self.layers.fleet.as_ref();
            let shards = fleet.map_or(0, |layer| layer.shards.shards().len());
            let scans = usize::from(self.layers.twin.is_some());
            let kept = Kept {
                threads: &[CONTROL, NET, COMMANDS],
                folder: &self.kept,
                doorbells: 2 * shards + scans,
            };
            let leaks = before.compare(system, &runtimes, &kept);
            let _ = self.layers.leaks.set(leaks.await);
            return Vec::new();
        }
        let running = CensusFilter {
            state: Some("running".to_owned()),
            ..CensusFilter::default()
        };
        let rows = self
            .layers
            .system
            .census()
            .task_rows(&running, None, 16)
            .rows;
        rows.into_iter().map(|row| row.path.to_string()).collect()
    }

    async fn stop_in_order(&self) {
        if let Some(layer) = &self.layers.fleet {
            let _ = layer.last.set(layer.fleet.counts());
            let _ = layer.published.set(layer.fleet.published());
            layer.fleet.stop().await;
            if let Err(error) = layer.shards.stop().await {
                tracing::error!("{error}");
            }
            if !layer.fleet.printed(PRINT_WAIT).await {
                tracing::error!("some lines of devices were not written in time");
            }
            // The links hand over what the devices wrote, and say farewell.
            let sent = async {
                while !is_empty(&self.layers.system, "fleet") {
                    tokio::time::sleep(QUIESCE_POLL).await;
                }
            };
            if tokio::time::timeout(QUIESCE_MAX, sent).await.is_err() {
                tracing::warn!("readings still waited for a connection when the fleet was stopped");
            }
            if let Err(error) = self.root.terminate_child("fleet").await {
                tracing::error!("the links did not stop in order: {error}");
            }
            layer.publishers.give_up();
            // Their next life would take what still waits there, and there will be none.
            layer
                .fleet
                .links()
                .iter()
                .for_each(|link| link.addr().close());
        }
        if let Some(twin) = &self.layers.twin {
            quiesce(&self.layers.system, twin).await;
        }
        if let Some(transport) = &self.transport {
            if let Err(error) = self.root.terminate_child("transport").await {
                tracing::error!("the transport did not stop in order: {error}");
            }
            transport.close().await;
            self.forget("transport");
        }
        self.root.stop().await;
    }

    /// Closes the mailboxes of what was stopped below `/name`: peers elsewhere go on, so the twin
    /// still decides commands, and nobody is there to take them.
    fn forget(&self, name: &str) {
        let census = self.layers.system.census();
        let filter = CensusFilter {
            within: Some(ActorPath::root().join(name)),
            ..CensusFilter::default()
        };
        for row in census.task_rows(&filter, None, usize::MAX).rows {
            if row.state != "running" {
                census.retire(&row.path);
            }
        }
    }

    /// Fills in what was measured; returns what the verdict needs beside it.
    pub fn measure(&self, report: &mut RunReport, ending: Ending) -> Facts {
        measure::measure(&self.layers, report, ending)
    }
}

/// The subtrees of the network's runtime: twin, transport, links; what carries commands is on its
/// own where there is one.
fn subtrees(
    config: &NodeConfig,
    layers: &Layers,
    (transport, carriers): (Option<&Transport>, &Carriers),
    identity: &Identity,
    policies: &Policies,
) -> Result<Vec<ChildSpec>, StartError> {
    let mut subtrees = Vec::new();
    if let (Some(twin), Some(transport)) = (&layers.twin, transport) {
        let out = (transport, carriers.commands());
        subtrees.push(build::twin_subtree(twin, out, policies));
        subtrees.push(transport.child(policies));
    }
    if let Some(layer) = &layers.fleet {
        subtrees.push(build::fleet_subtree(
            config,
            layer,
            (transport, carriers.commands()),
            identity,
            policies,
        )?);
    }
    let net = carriers.net.handle();
    let on_net = |subtree: ChildSpec| subtree.on_runtime(net.clone());
    Ok(subtrees.into_iter().map(on_net).collect())
}

/// Where the rules of the own world are read again, if there is one.
fn rule_files(config: &NodeConfig) -> Vec<String> {
    let files = config.world.as_ref().map(|world| world.rule_files.clone());
    files.unwrap_or_default()
}

fn clock(speed: f64) -> Clock {
    if speed == 1.0 {
        Clock::wall()
    } else {
        Clock::scaled(speed)
    }
}

/// Waits until nothing is under way between the connections and the world.
pub(crate) async fn quiesce(system: &System, twin: &Twin) {
    let quiet = async {
        while !(is_empty(system, "transport") && twin.quiesce(QUIESCE_MAX).await) {
            tokio::time::sleep(QUIESCE_POLL).await;
        }
    };
    if tokio::time::timeout(QUIESCE_MAX, quiet).await.is_err() {
        tracing::warn!("readings were still under way when the twin was stopped");
    }
}

/// Whether no message waits in the mailboxes of tasks below `/name`.
fn is_empty(system: &System, name: &str) -> bool {
    let filter = CensusFilter {
        within: Some(ActorPath::root().join(name)),
        ..CensusFilter::default()
    };
    let rows = system.census().task_rows(&filter, None, usize::MAX).rows;
    rows.iter().all(|row| row.depth == 0)
}

fn tree_error(error: impl std::fmt::Display) -> StartError {
    StartError::Layer {
        layer: "tree",
        reason: error.to_string(),
    }
}

/// The bearer token of the node, made when there is none.
fn token(state_dir: &StateDir) -> Result<Token, StartError> {
    let path = state_dir.path().join(TOKEN);
    let token = Token::open_or_create(&path);
    Ok(token.map_err(|source| StateDirError::Io { path, source })?)
}

/// What answers commands.
fn plane(
    config: &NodeConfig,
    layers: &Arc<Layers>,
    (book, chaos): (&Arc<PolicyBook>, &Arc<Chaos>),
    token: &Token,
) -> Arc<SystemPlane> {
    Arc::new(SystemPlane::new(
        config.name.clone(),
        layers.system.clone(),
        Arc::clone(layers) as Arc<dyn NodeView>,
        Arc::clone(layers) as Arc<dyn crate::attach::plane::Hooks>,
        Arc::clone(book),
        Arc::clone(chaos),
        token.clone(),
    ))
}

/// The `/control` subtree.
fn control(
    config: &NodeConfig,
    (state_dir, identity, token): (&StateDir, &Identity, Token),
    (layers, plane, book): (&Arc<Layers>, &Arc<SystemPlane>, &Arc<PolicyBook>),
    policies: &Policies,
) -> Result<ChildSpec, StartError> {
    let at = ActorPath::root().join("control");
    let mailbox = MailboxSpec::new(1, Overflow::Reject);
    let view: Arc<dyn NodeView> = Arc::clone(layers) as Arc<dyn NodeView>;
    let plane = Arc::clone(plane) as Arc<dyn ControlPlane>;
    let limits = Limits {
        sessions_max: config.control_sessions_max,
        idle: config.control_idle,
    };
    let socket = state_dir.socket();
    let address: Addr<Nothing> = Addr::new(at.join("attach"), mailbox);
    let answering = Arc::clone(&plane);
    let attach = ChildSpec::task("attach", &address, move || AttachActor {
        socket: socket.clone(),
        plane: Arc::clone(&answering),
        limits,
    });
    let mut names = vec![config.name.clone()];
    if let Some(port) = config
        .grpc
        .as_ref()
        .and_then(|face| face.listen.rsplit(':').next())
    {
        names.extend([format!("localhost:{port}"), format!("127.0.0.1:{port}")]);
    }
    let desk = NodeDesk {
        names,
        layers: Arc::clone(layers),
        policies: Arc::clone(book),
        plane: Arc::clone(&plane),
        spawning: Default::default(),
        rate: Default::default(),
    };
    let behind = Behind {
        view,
        plane: Arc::clone(&plane),
        desk: Arc::new(desk),
        token: token.clone(),
    };
    let mut spec = SupervisorSpec::new(at.clone(), Default::default()).child(attach);
    for face in faces(config, identity, behind)? {
        let address: Addr<Nothing> = Addr::new(at.join(face.name), mailbox);
        let start = move || face.actor.clone();
        spec = spec.child(ChildSpec::task(face.name, &address, start));
    }
    Ok(ChildSpec::supervisor("control", spec.configured(policies)))
}
