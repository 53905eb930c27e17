//! A whole node on virtual time: devices on simulated shards; links, connections, tiers, stages and
//! the scan as the real actors, over real QUIC on a network in memory.
//!
//! Everything runs on one thread and on tokio's paused time, which jumps to the next timer when no
//! task has anything to do; the node's clock follows it ([`runtime`]). So a run depends on its
//! configuration and its seed alone. Bounds: [`WINDOW`] between two looks at the stop request,
//! [`SHUTDOWN`] for the ordered end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actorsim_actors::census::PAGE_MAX;
use actorsim_actors::shard::SimShards;
use actorsim_actors::{ActorPath, CensusFilter, Clock, System, Time};
use actorsim_fleet::{DeviceCounts, Fleet, Uplink};
use actorsim_supervision::{
    ChildSpec, Policies, Supervision, SupervisorRef, SupervisorSpec, start_root,
};
use actorsim_transport::{
    Identity, Limits, LinkSpec, Network, Protocol, SITE_SERVER_NAME, SimNet, Transport,
    TransportConfig, TransportStats, simulated_identity,
};
use actorsim_world::{ScanConfig, Twin, TwinConfig};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::chaos::{Chaos, Targets};
use super::peers::Peers;
use super::pilot::{self, Leave, Pilot};
use super::plane::SimPlane;
use super::progress::Progress;
use super::{Ground, Outcome, SimConfig, SimError, Stop};
use crate::node::{build, measure, quiesce};
use crate::report::verdict::{self, Ending, Facts};
use crate::report::{Mailboxes, RunReport, invariants};
use crate::view::ProcessView;

/// Links of the fleet: as many for any number of shards, so that the twin sees the same.
pub const LINKS: usize = 4;
/// Where the twin listens: an address of documentation (RFC 5737), on no real network.
const TWIN: ([u8; 4], u16) = ([192, 0, 2, 1], 4433);
/// Virtual time between two looks.
const WINDOW: Duration = Duration::from_secs(1);
/// Virtual time for the ordered end.
pub const SHUTDOWN: Duration = Duration::from_secs(60);
/// Rows beside those of the fleet.
const ROWS_SPARE: u32 = 256;

/// A runtime on paused time that a virtual clock follows: whenever the runtime wakes, before any
/// task runs, the clock shows the runtime's time.
pub(super) fn runtime(
    clock: &Clock,
    origin: &Arc<OnceLock<tokio::time::Instant>>,
) -> std::io::Result<Runtime> {
    let (clock, origin) = (clock.clone(), Arc::clone(origin));
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_unpark(move || {
            if let Some(origin) = origin.get() {
                clock.advance_to(Time::ZERO + (tokio::time::Instant::now() - *origin));
            }
        })
        .build()
}

/// Runs it.
///
/// # Errors
/// [`SimError`].
pub fn run(config: &SimConfig, stop: &Stop) -> Result<Outcome, SimError> {
    let clock = Clock::virtual_from(super::EPOCH_US);
    let origin = Arc::new(OnceLock::new());
    let runtime = runtime(&clock, &origin)?;
    runtime.block_on(async {
        let _ = origin.set(tokio::time::Instant::now());
        let ground = Ground::new(config, clock, runtime.handle().clone())?;
        let mut node = Node::start(config, &ground).await?;
        let mut chaos = Chaos::new(config, &node.targets(), &node.supervision);
        let mut pilot = node.pilot(config, stop)?;
        let ending = node
            .drive(config, stop, chaos.as_mut(), pilot.as_mut())
            .await;
        let scenario = pilot.and_then(Pilot::finish);
        let now = ground.system.clock().now();
        let reached = now - Time::ZERO;
        if let Some(chaos) = &mut chaos {
            chaos.end(now, &node.targets());
        }
        let (counts, at_work) = (node.fleet.counts(), node.fleet.published());
        let not_back = match reached < config.length {
            true => Vec::new(), // it was cut off before its quiet end
            false => node.not_back(),
        };
        let ending = node.stop(ending).await;
        let mut report = super::new_report(config);
        report.elapsed_s = reached.as_secs_f64();
        report.chaos = chaos.as_mut().map(Chaos::report);
        report.scenario = scenario;
        ground.published(&node.fleet, &at_work, &mut report);
        let facts = node.measure(config, &mut report, (counts, ending), not_back);
        verdict::decide(&mut report, &facts);
        let trace = super::failure::trace(&ground.system, chaos.as_ref());
        ground.close(config)?;
        Ok(Outcome {
            report,
            chaos,
            trace,
            reached,
        })
    })
}

/// The layers of the simulated node.
struct Node {
    system: System,
    root: SupervisorRef,
    supervision: Arc<Supervision>,
    stats: Arc<TransportStats>,
    twin: Twin,
    transport: Transport,
    net: SimNet,
    fleet: Arc<Fleet>,
    peers: Arc<Peers>,
    shards: SimShards,
    /// Something came for the shards from outside.
    wake: Arc<Notify>,
    origin: tokio::time::Instant,
}

fn failed(what: impl std::fmt::Display) -> SimError {
    SimError::Node(what.to_string())
}

impl Node {
    /// Starts every layer, in the order of a real node.
    async fn start(config: &SimConfig, ground: &Ground) -> Result<Self, SimError> {
        let system = ground.system.clone();
        let policies = Policies::shipped();
        let (stats, net) = (TransportStats::new(), SimNet::new(config.seed));
        let network = Network::Simulated(net.clone());
        let identity = simulated_identity("sim").map_err(failed)?;
        let twin = Twin::new(twin_config(config), system.clock().clone())?;
        let listening = TransportConfig {
            node: "sim".to_owned(),
            listen: TWIN.into(),
            plain: None,
            commands: None,
            identity: identity.clone(),
            network: network.clone(),
            limits: Limits::default(),
        };
        let (inlets, counted) = (twin.inlets(), Arc::clone(&stats));
        let opened = Transport::open(&system, listening, inlets, counted, &policies);
        let transport = opened.map_err(failed)?;
        let uplink = Uplink::Simulated {
            node: "sim".to_owned(),
            stats: Arc::clone(&stats),
            links: LINKS,
            tap: ground.tap(),
        };
        let wake = Arc::new(Notify::new());
        let told = Arc::clone(&wake);
        let shards = SimShards::waking(
            &system,
            config.shards as usize,
            Arc::new(move || told.notify_one()),
        );
        let peers = Peers::on(&shards.shards()[0]).map_err(SimError::Peers)?;
        let peers = Arc::new(peers);
        let fleet = ground.fleet(config, uplink, &peers)?;
        let ledgers = fleet.links().iter().filter(|_| config.chaos.is_some());
        ledgers.for_each(|link| link.outbox().keep_ledger());
        let fleet = Arc::new(fleet);
        let link = link_spec(config, &fleet, identity, network);
        let top = ActorPath::root();
        let spec = SupervisorSpec::new(top.clone(), policies.for_path(&top))
            .child(build::twin_subtree(&twin, (&transport, None), &policies))
            .child(transport.child(&policies))
            .child(links(&fleet, &link, &policies));
        let root = spec.reference();
        let supervision = root.supervision();
        start_root(&system, spec.configured(&policies))
            .await
            .map_err(failed)?;
        fleet.start(shards.shards(), &policies, &supervision)?;
        let origin = tokio::time::Instant::now() - (system.clock().now() - Time::ZERO);
        Ok(Self {
            system,
            root,
            supervision,
            stats,
            twin,
            transport,
            net,
            fleet,
            peers,
            shards,
            wake,
            origin,
        })
    }

    /// The script of the run, if it has one.
    fn pilot(&self, config: &SimConfig, stop: &Stop) -> Result<Option<Pilot>, SimError> {
        let plane = || SimPlane {
            system: self.system.clone(),
            fleet: Arc::clone(&self.fleet),
            twin: Some(self.twin.clone()),
            peers: Arc::clone(&self.peers),
            seed: config.seed,
        };
        Ok(Pilot::of(config, plane, stop)?)
    }

    fn targets(&self) -> Targets<'_> {
        Targets::node(&self.fleet, &self.system, &self.twin, &self.net)
    }

    /// Lets time pass until the run is over.
    async fn drive(
        &mut self,
        config: &SimConfig,
        stop: &Stop,
        mut chaos: Option<&mut Chaos>,
        mut pilot: Option<&mut Pilot>,
    ) -> Ending {
        let clock = self.system.clock().clone();
        let end = Time::ZERO + config.until;
        let mut progress = Progress::new(config.until);
        let root = self.root.clone();
        let gave_up = root.exited();
        tokio::pin!(gave_up);
        loop {
            let next = self.shards.settle();
            self.fleet.hand_over();
            let now = clock.now();
            progress.at(now - Time::ZERO);
            if now >= end || stop.is_asked() {
                return super::ending(stop.is_asked());
            }
            let mut until = next.unwrap_or(end).min(end).min(now + WINDOW);
            if let Some(pilot) = &mut pilot {
                match pilot.go(now) {
                    Leave::Until(at) => until = until.min(at),
                    Leave::Command => {}
                    Leave::Over => return Ending::TimeOver,
                }
            }
            if let Some(chaos) = &mut chaos {
                chaos.step(now, &self.targets());
                until = chaos.next_at().map_or(until, |at| until.min(at));
            }
            let until = self.origin + (until - Time::ZERO);
            tokio::select! {
                biased;
                reason = &mut gave_up => return Ending::GaveUp(reason.to_string()),
                () = pilot::answered(&mut pilot) => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Stops in order, as a real node does.
    async fn stop(&mut self, ending: Ending) -> Ending {
        self.shards.stop();
        self.fleet.hand_over();
        let in_order = async {
            for name in ["fleet", "transport"] {
                if let Err(error) = self.root.terminate_child(name).await {
                    tracing::error!("{name} did not stop in order: {error}");
                }
                if name == "fleet" {
                    quiesce(&self.system, &self.twin).await;
                }
            }
            self.transport.close().await;
            self.root.stop().await;
            // Connections that were cut off linger in QUIC for a few probe time-outs.
            while !self.net.open_sockets().is_empty() {
                tokio::time::sleep(WINDOW).await;
            }
        };
        match tokio::time::timeout(SHUTDOWN, in_order).await {
            Ok(()) => ending,
            Err(_) => Ending::ShutdownTimeOver(self.left()),
        }
    }

    /// Actors that are down before the stop and not parked.
    fn not_back(&self) -> Vec<String> {
        let restarting = CensusFilter {
            state: Some("restarting".to_owned()),
            ..CensusFilter::default()
        };
        let rows = self.system.census().task_rows(&restarting, None, PAGE_MAX);
        let told = rows.rows.into_iter().map(|row| {
            let why = row.last_exit.unwrap_or_default();
            format!("{} is {} ({why})", row.path, row.state)
        });
        told.collect()
    }

    /// Actors and sockets that are still there after the stop.
    fn left(&self) -> Vec<String> {
        let census = self.system.census();
        let rows = census
            .task_rows(&CensusFilter::default(), None, PAGE_MAX)
            .rows;
        let running = rows.into_iter().filter(|row| row.state == "running");
        let sockets = self.net.open_sockets().into_iter();
        running
            .map(|row| row.path.to_string())
            .chain(sockets.map(|addr| format!("socket {addr}")))
            .collect()
    }

    fn measure(
        &self,
        config: &SimConfig,
        report: &mut RunReport,
        (counts, ending): (DeviceCounts, Ending),
        not_back: Vec<String>,
    ) -> Facts {
        super::report_devices(report, counts, config.shards);
        report.digest.wire_sha256 = self.fleet.wire_sha256();
        let census = self.system.census();
        report.mailboxes = Mailboxes::of(census.books(), Some(census.highest_fill()));
        super::report_supervision(report, &self.supervision, counts.restarts);
        report.tiers = measure::tiers(&self.stats, true, true);
        report.world = measure::world(&self.twin.report());
        // How long a cycle takes is the host's time, which a simulation does not know.
        report.world.scan.took_us = None;
        report.world.scan.overruns = None;
        report.world.scan.systems.clear();
        report.process.measure(ProcessView::read());
        let links = self.fleet.links();
        let scanned = self.twin.scanned();
        let acked = measure::acked_ledger(links);
        let applied = self.twin.ledger().as_ref().map(measure::ledger);
        let broken = match &mut report.chaos {
            Some(chaos) => {
                chaos.packets_lost = Some(self.net.lost());
                let scan = &report.world.scan;
                let slots = scanned.map(|time| measure::slots(scan, time.as_secs_f64()));
                let seen = invariants::Seen {
                    mailboxes: &report.mailboxes,
                    devices: &report.devices,
                    t2: Some(&report.tiers.t2),
                    ledgers: acked.zip(applied),
                    scan: slots.map(|slots| (scan, slots)),
                    left: Some(self.left()),
                    not_back,
                    within: config.until.saturating_sub(config.chaos_until()),
                };
                invariants::check(&seen, chaos)
            }
            None => Vec::new(),
        };
        let apart = links.iter().filter(|link| link.connections() == 0).count();
        Facts {
            ending,
            scan_elapsed_s: scanned.map(|time| time.as_secs_f64()),
            links_unconnected: (apart, links.len()),
            broken,
        }
    }
}

/// A world with a row for each sensor of the fleet.
fn twin_config(config: &SimConfig) -> TwinConfig {
    let sensors = config.profile.sensors().count() as u32;
    let capacity = config
        .devices
        .saturating_mul(sensors)
        .saturating_add(ROWS_SPARE);
    let scan = ScanConfig::default();
    let mut twin = TwinConfig {
        scan: ScanConfig {
            period: config.scan_period.unwrap_or(scan.period),
            capacity,
            capacity_max: scan.capacity_max.max(capacity),
            ..scan
        },
        ..TwinConfig::default()
    };
    twin.journal.ledger = config.chaos.is_some(); // I10 compares it with what devices were told
    twin
}

/// Where the links go.
fn link_spec(config: &SimConfig, fleet: &Fleet, identity: Identity, network: Network) -> LinkSpec {
    LinkSpec {
        twin: TWIN.into(),
        server_name: SITE_SERVER_NAME.to_owned(),
        identity,
        protocol: Protocol::Actorsim1,
        node: "sim".to_owned(),
        seed: config.seed,
        downlink: fleet.downlink(),
        network,
    }
}

/// The `/fleet` subtree.
fn links(fleet: &Fleet, spec: &LinkSpec, policies: &Policies) -> ChildSpec {
    let at = ActorPath::root().join("fleet");
    let mut links = SupervisorSpec::new(at.join("links"), Default::default());
    for child in fleet.link_children(spec) {
        links = links.child(child);
    }
    let links = ChildSpec::supervisor("links", links.configured(policies));
    let spec = SupervisorSpec::new(at, Default::default()).child(links);
    ChildSpec::supervisor("fleet", spec.configured(policies))
}
