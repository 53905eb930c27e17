//! `actorsim sim`: a whole fleet on virtual time, with its twin or without.
//!
//! In reading order:
//! - [`fleet_only`]: devices on simulated shards, everything they put on the wire hashed;
//! - [`whole`]: a whole node: the same devices, and the real actors over a network in memory;
//! - `pilot`: a script that pilots either, stepping in turn with it; `plane`: its commands;
//! - [`chaos`]: a plan carried out on a simulated node;
//! - `peers`: the brokers and servers that devices talk to;
//! - [`wire_log`]: what devices put on the wire, as a file;
//! - [`failure`]: what is said when a run fails: the command that repeats it, the faults, a trace;
//! - [`progress`]: how far it is.
//!
//! Everything a run does follows from its configuration and its seed: no clock of the host is read
//! but for showing progress and for the process's own figures in the report. Bound: one thread, one
//! beside it that hashes, and one that thinks for a script while time stands still.

pub mod chaos;
pub mod failure;
pub mod fleet_only;
mod peers;
mod pilot;
mod plane;
pub mod progress;
pub mod whole;
pub mod wire_log;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actorsim_actors::{Clock, System};
use actorsim_fleet::lines::Printer;
use actorsim_fleet::wire::WireTap;
use actorsim_fleet::{DeviceCounts, Fleet, Population, Profile, Published, Uplink};
use actorsim_supervision::Supervision;
use actorsim_supervision::chaos::Plan;
use thiserror::Error;

use self::peers::Peers;
use crate::node::measure;
use crate::report::RunReport;
use crate::report::verdict::Ending;
use crate::scenario::Script;

/// When simulated time begins: 2026-01-01T00:00:00Z, so that stamps are the same in each run.
pub const EPOCH_US: u64 = 1_767_225_600_000_000;
/// Shards at most: each is walked through at every instant.
pub const SHARDS_MAX: u32 = 1_024;
/// Longest run: ten simulated years.
pub const UNTIL_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3_600);
/// Time at the end of a run without new faults: what is down comes back, what waits is handled.
pub const QUIET_MAX: Duration = Duration::from_secs(60);

/// A run.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Name of the run in the report.
    pub run_id: String,
    /// What each device is.
    pub profile: Arc<Profile>,
    /// How many.
    pub devices: u32,
    /// Time between samples; the profile's if `None`.
    pub interval: Option<Duration>,
    /// Seed of everything that is drawn; not 0.
    pub seed: u64,
    /// How long the run is, of virtual time: faults and the quiet after them fit into it.
    pub length: Duration,
    /// When it is cut off, at the latest at its end.
    pub until: Duration,
    /// Shards.
    pub shards: u32,
    /// Whether the twin runs, too.
    pub world: bool,
    /// Time between two cycles of its scan; that of a node if `None`.
    pub scan_period: Option<Duration>,
    /// What breaks.
    pub chaos: Option<Plan>,
    /// Only these strikes of the plan are carried out, if given.
    pub strikes: Option<BTreeSet<u64>>,
    /// Where what devices put on the wire is written.
    pub wire_log: Option<PathBuf>,
    /// Where samples are printed: a file, or `-` for standard output.
    pub console: Option<PathBuf>,
    /// A script that starts the devices; `devices` is 0 then.
    pub scenario: Option<Script>,
    /// Lines of the script are not shown.
    pub quiet: bool,
}

impl SimConfig {
    /// When the last fault is made: the end is quiet.
    #[must_use]
    pub fn chaos_until(&self) -> Duration {
        self.length - QUIET_MAX.min(self.length / 4)
    }
}

/// Why a run cannot be made.
#[derive(Debug, Error)]
pub enum SimError {
    /// The fleet is not possible.
    #[error("{0}")]
    Fleet(#[from] actorsim_fleet::FleetError),
    /// The wire log cannot be written.
    #[error("the wire log {path} cannot be written: {error}")]
    WireLog {
        /// Where.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The lines of devices cannot be written.
    #[error("{path} cannot be written: {error}")]
    Console {
        /// Where.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Devices have no way to their broker.
    #[error("{0}")]
    Peers(String),
    /// The node does not start.
    #[error("the simulated node did not start: {0}")]
    Node(String),
    /// There is no runtime for the actors.
    #[error("{0}")]
    Runtime(#[from] std::io::Error),
}

/// A run that is over.
#[derive(Debug)]
pub struct Outcome {
    /// Its report, with the verdict.
    pub report: RunReport,
    /// What broke it on purpose.
    pub chaos: Option<chaos::Chaos>,
    /// Its last events.
    pub trace: Vec<failure::TraceLine>,
    /// How far it came, of virtual time.
    pub reached: Duration,
}

/// Asks a run to stop early; clones are the same request.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks; the run stops at the next moment it looks.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The devices of a run from its start.
fn populations(config: &SimConfig, peers: &Peers) -> Result<Vec<Population>, SimError> {
    if config.devices == 0 {
        return Ok(Vec::new());
    }
    let profile = Arc::clone(&config.profile);
    let mut population = Population::new("default", profile, config.devices, config.seed);
    population.interval = config.interval;
    let population = peers.reached_by(population).map_err(SimError::Peers)?;
    Ok(vec![population])
}

/// The beginning of a report.
fn new_report(config: &SimConfig) -> RunReport {
    RunReport {
        v: crate::report::VERSION,
        run_id: config.run_id.clone(),
        node: "sim".to_owned(),
        version: crate::cli::VERSION.to_owned(),
        seed: config.seed,
        generators: actorsim_fleet::generator::VERSIONS
            .iter()
            .map(|(kind, version)| ((*kind).to_owned(), version.to_string()))
            .collect(),
        ..RunReport::default()
    }
}

/// What the devices' part of a report says.
fn report_devices(report: &mut RunReport, counts: DeviceCounts, shards: u32) {
    report.devices = crate::report::Devices {
        requested: Some(counts.requested),
        running: Some(counts.running),
        restarts: Some(counts.restarts),
        quarantined: Some(counts.quarantined),
        spawn_s: counts.spawn_s,
        ..crate::report::Devices::default()
    };
    report.process.shards = Some(u64::from(shards));
    report.process.backend = Some("sim".to_owned());
}

/// What the supervisors' part of a report says.
fn report_supervision(report: &mut RunReport, supervision: &Supervision, devices: u64) {
    let stats = supervision.stats();
    report.supervision = crate::report::Supervision {
        restarts: Some(stats.restarts + devices),
        escalations: Some(stats.escalations),
        kills: Some(stats.kills),
        restart_us: crate::report::Quantiles::of(&supervision.restart_us(), 1.0),
        restart_work_us: crate::report::Quantiles::of(&supervision.restart_work_us(), 1.0),
    };
}

/// How a run ended.
const fn ending(asked: bool) -> Ending {
    if asked {
        Ending::Asked
    } else {
        Ending::TimeOver
    }
}

/// Panics that a plan injects are strikes, and in the report; from now on only others are printed.
pub fn quiet_injected_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or_default();
        if !text.starts_with("injected") {
            before(info);
        }
    }));
}

/// Runs a configuration to its end.
///
/// # Errors
/// [`SimError`], before anything has run, or when the wire log cannot be written.
pub fn run(config: &SimConfig, stop: &Stop) -> Result<Outcome, SimError> {
    if config.world {
        whole::run(config, stop)
    } else {
        fleet_only::run(config, stop)
    }
}

/// What both kinds of run begin with.
struct Ground {
    system: System,
    log: Option<wire_log::WireLog>,
    printer: Option<Printer>,
}

impl Ground {
    fn new(
        config: &SimConfig,
        clock: Clock,
        handle: tokio::runtime::Handle,
    ) -> Result<Self, SimError> {
        let log = config.wire_log.as_deref().map(|path| {
            wire_log::WireLog::create(path, config).map_err(|error| SimError::WireLog {
                path: path.display().to_string(),
                error,
            })
        });
        let printer = config.console.as_deref().map(|path| {
            Printer::to(path, true).map_err(|error| SimError::Console {
                path: path.display().to_string(),
                error,
            })
        });
        Ok(Self {
            system: System::new(clock, handle),
            log: log.transpose()?,
            printer: printer.transpose()?,
        })
    }

    /// The devices, which print where they are to.
    fn fleet(&self, config: &SimConfig, uplink: Uplink, peers: &Peers) -> Result<Fleet, SimError> {
        let (populations, shards) = (populations(config, peers)?, config.shards as usize);
        let printer = self.printer.clone();
        Ok(Fleet::printing(
            &self.system,
            populations,
            shards,
            uplink,
            printer,
        )?)
    }

    fn tap(&self) -> Option<WireTap> {
        self.log.as_ref().map(wire_log::WireLog::tap)
    }

    /// Waits until all lines are written, and says what became of them, and of what went to
    /// brokers; `at_work` is what was counted before the stop.
    fn published(&self, fleet: &Fleet, at_work: &[Published], report: &mut RunReport) {
        if let Some(printer) = &self.printer {
            printer.settle();
        }
        measure::published(at_work, fleet.published(), report);
    }

    /// Writes what is left of the log; says if lines of devices could not be written.
    fn close(self, config: &SimConfig) -> Result<(), SimError> {
        if let Some(why) = self.printer.as_ref().and_then(Printer::failure) {
            let path = config.console.as_deref().unwrap_or("-".as_ref());
            return Err(SimError::Console {
                path: path.display().to_string(),
                error: std::io::Error::other(why.to_owned()),
            });
        }
        let Some((log, path)) = self.log.zip(config.wire_log.as_deref()) else {
            return Ok(());
        };
        log.close().map_err(|error| SimError::WireLog {
            path: path.display().to_string(),
            error,
        })
    }
}
