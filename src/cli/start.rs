//! `actorsim start`: resolves the configuration, starts the node, waits, reports.
//!
//! Bound: the run ends at `--for`, or a signal plus the shutdown time; a second signal ends it at
//! once.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Exit, absent, warn};
use crate::config::{Layers, NodeConfig, Settings, policy};
use crate::logging;
use crate::node::{Node, StopSource};
use crate::progress::Phases;
use crate::report::{RunReport, Verdict};
use crate::sim::Stop;
use crate::status::{self, Status};

/// Shown below the flags.
pub const AFTER_HELP: &str = "\
Examples:
  actorsim start                                       a node with a default fleet and its twin
  actorsim start --devices 100000 --interval 5s --for 60s --report r.json
  actorsim start --for 60s --chaos config/chaos/live.toml --report r.json
  actorsim start --no-fleet --node twin --listen 0.0.0.0:4433
  actorsim start --no-world --twin HOST:4433 --identity DIR

Exit codes: 0 the verdict is pass, 1 it is fail, 2 usage or bad configuration.
SIGINT and SIGTERM stop in order and still write the report; a second one stops at once.
SIGHUP reads the supervision policies again.";

/// Flags of `start`. Each sets a key of the configuration.
#[derive(Debug, Default, Args)]
pub struct StartArgs {
    /// Configuration file; repeatable, later ones win
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Set any key; wins over everything (`config explain KEY`)
    #[arg(short = 'X', value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Number of devices [default: 1000]
    #[arg(long, value_name = "N")]
    devices: Option<String>,
    /// Profile of the devices: a shipped name or a file [default: industrial]
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// Interval of T1 readings, such as 5s or 250ms [default: the profile's]
    #[arg(long, value_name = "D")]
    interval: Option<String>,
    /// Seed of everything that is drawn [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<String>,
    /// Stop in order after this time
    #[arg(long = "for", value_name = "D")]
    run_for: Option<String>,
    /// Write the run report to this file
    #[arg(long, value_name = "FILE")]
    report: Option<String>,
    /// Log lines as JSON
    #[arg(long)]
    json_logs: bool,
    /// Address of the QUIC listener [default: 127.0.0.1:4433]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Name of the node [default: local]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// State directory [default: $XDG_STATE_HOME/actorsim/NAME]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// Run devices only; needs --twin
    #[arg(long)]
    no_world: bool,
    /// Run the twin only
    #[arg(long)]
    no_fleet: bool,
    /// Simulated seconds per second [default: 1]
    #[arg(long, value_name = "F")]
    speed: Option<String>,
    /// Move every default port by N
    #[arg(long, value_name = "N")]
    port_offset: Option<String>,
    /// Name of the run in the report
    #[arg(long, value_name = "TEXT")]
    run_id: Option<String>,
    /// Send the fleet to this twin
    #[arg(long, value_name = "HOST:PORT")]
    twin: Option<String>,
    /// Name the twin's certificate must carry
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Directory with ca.pem, node.pem and node.key
    #[arg(long, value_name = "DIR")]
    identity: Option<String>,
    /// T1 readings per second and sensor; 0 turns the tier off
    #[arg(long, value_name = "HZ")]
    t1_rate: Option<String>,
    /// T2 events per second and device; 0 turns the tier off
    #[arg(long, value_name = "HZ")]
    t2_rate: Option<String>,
    #[arg(long, hide = true)]
    join: Vec<String>,
    /// Carry out a chaos plan, such as config/chaos/live.toml
    #[arg(long, value_name = "PLAN")]
    chaos: Option<String>,
    /// Broker of devices whose profile says mqtt, such as mqtt://127.0.0.1:1883
    #[arg(long, value_name = "URL")]
    mqtt_url: Option<String>,
    /// Connections to it that all devices share, instead of one for each
    #[arg(long, value_name = "N")]
    mqtt_pool_size: Option<String>,
    /// Server of devices whose profile says http, such as http://127.0.0.1:8080/ingest
    #[arg(long, value_name = "URL", alias = "http-url")]
    http_endpoint: Option<String>,
    /// Broker of devices whose profile says amqp, such as amqp://127.0.0.1:5672/vhost
    #[arg(long, value_name = "URL")]
    amqp_url: Option<String>,
    /// Server of devices whose profile says coap, such as coap://127.0.0.1:5683
    #[arg(long, value_name = "URL")]
    coap_url: Option<String>,
    /// Print each sample as a line of JSON to this file; - is standard output
    #[arg(long, value_name = "FILE")]
    console: Option<String>,
}

impl StartArgs {
    fn absent(&self) -> Option<&'static str> {
        let given = [("--join", !self.join.is_empty())];
        given
            .iter()
            .find(|(_, given)| *given)
            .map(|(flag, _)| *flag)
    }

    fn layers_over(&self, mut layers: Layers) -> Layers {
        for path in &self.config {
            layers.path(path);
        }
        layers.env(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }));
        let texts = [
            ("--devices", "fleet.devices", &self.devices),
            ("--profile", "fleet.profile", &self.profile),
            ("--interval", "fleet.interval", &self.interval),
            ("--seed", "node.seed", &self.seed),
            ("--for", "node.run_for", &self.run_for),
            ("--report", "node.report", &self.report),
            ("--listen", "transport.listen", &self.listen),
            ("--node", "node.name", &self.node),
            ("--state-dir", "node.state_dir", &self.state_dir),
            ("--speed", "clock.speed", &self.speed),
            ("--port-offset", "node.port_offset", &self.port_offset),
            ("--run-id", "node.run_id", &self.run_id),
            ("--twin", "transport.twin", &self.twin),
            ("--mqtt-url", "targets.mqtt.url", &self.mqtt_url),
            (
                "--mqtt-pool-size",
                "targets.mqtt.pool_size",
                &self.mqtt_pool_size,
            ),
            ("--http-endpoint", "targets.http.url", &self.http_endpoint),
            ("--amqp-url", "targets.amqp.url", &self.amqp_url),
            ("--coap-url", "targets.coap.url", &self.coap_url),
            ("--console", "targets.console.file", &self.console),
            ("--server-name", "transport.server_name", &self.server_name),
            ("--identity", "transport.identity", &self.identity),
            ("--t1-rate", "tiers.t1_rate", &self.t1_rate),
            ("--t2-rate", "tiers.t2_rate", &self.t2_rate),
            ("--chaos", "chaos.plan", &self.chaos),
        ];
        for (flag, key, text) in texts {
            if let Some(text) = text {
                layers.flag(flag, key, text);
            }
        }
        let switches = [
            ("--json-logs", "log.format", "json", self.json_logs),
            ("--no-world", "world.enabled", "false", self.no_world),
            ("--no-fleet", "fleet.enabled", "false", self.no_fleet),
        ];
        for (flag, key, text, _) in switches.iter().filter(|switch| switch.3) {
            layers.flag(flag, key, text);
        }
        for assignment in &self.set {
            layers.set(assignment);
        }
        layers
    }

    /// The configuration these flags, the files and the environment give; errors are printed.
    ///
    /// # Errors
    /// [`Exit::Usage`].
    pub fn resolve(&self) -> Result<Settings, Exit> {
        if let Some(flag) = self.absent() {
            return Err(absent(&format!("the flag `{flag}`")));
        }
        self.resolved(self.layers_over(Layers::built_in()))
    }

    fn resolved(&self, layers: Layers) -> Result<Settings, Exit> {
        layers.resolve().map_err(|errors| {
            let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            eprint!("{}", errors.render(color));
            Exit::Usage
        })
    }
}

impl StartArgs {
    /// For a scenario: no device runs until its script starts one, if no flag says otherwise.
    ///
    /// # Errors
    /// [`Exit::Usage`].
    pub(super) fn resolve_for_scenario(&self) -> Result<Settings, Exit> {
        if let Some(flag) = self.absent() {
            return Err(absent(&format!("the flag `{flag}`")));
        }
        let mut layers = Layers::built_in();
        layers.file("scenario", "[fleet]\ndevices = 0\n");
        self.resolved(self.layers_over(layers))
    }

    /// Where the report goes, if nothing but flags is looked at.
    pub(super) fn report_path(&self) -> Option<PathBuf> {
        self.report.as_ref().map(PathBuf::from)
    }

    /// The seed of the flags.
    pub(super) fn seed_or(&self, seed: u64) -> u64 {
        let given = self.seed.as_ref().and_then(|seed| seed.parse().ok());
        given.unwrap_or(seed)
    }
}

/// Runs the command.
pub fn run(args: &StartArgs) -> Exit {
    let settings = match args.resolve() {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    with_runtime(&NodeConfig::from_settings(&settings), run_node)
}

/// Runs a node on a runtime of this thread.
pub(super) fn with_runtime<F: Future<Output = Exit>>(
    config: &NodeConfig,
    run: impl FnOnce(NodeConfig) -> F,
) -> Exit {
    logging::install(
        &config.log_level,
        logging::Format::from_setting(&config.log_format),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(config.clone())),
        Err(error) => {
            eprintln!("error: {error}");
            Exit::Failed
        }
    }
}

async fn run_node(config: NodeConfig) -> Exit {
    let path = config.report.clone();
    if let Some(Err(error)) = path.as_deref().map(report_place) {
        warn(&format!("error: {error}"));
        return Exit::Usage;
    }
    let signals = Signals::new().and_then(|own| Ok((own, signal(SignalKind::hangup())?)));
    let (mut signals, mut hangup) = match signals {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("error: signals: {error}");
            return Exit::Failed;
        }
    };
    for doubt in policy::doubts(&config.policies) {
        warn(&format!("warning: {doubt}"));
    }
    let mut node = match Node::start(config).await {
        Ok(node) => node,
        Err(error) => {
            eprintln!("error: {error}");
            return error.exit();
        }
    };
    let view = node.view();
    let policies = node.policies();
    let ending = {
        let reload = async {
            while hangup.recv().await.is_some() {
                match policies.reload_as_told() {
                    Ok(()) => tracing::info!("policies reloaded"),
                    Err(error) => tracing::error!("policies are as they were: {error}"),
                }
            }
            std::future::pending::<()>().await;
        };
        let show = async {
            let (mut status, mut phases) = (Status::default(), Phases::default());
            let mut every = tokio::time::interval(status::LIVE_EVERY);
            loop {
                every.tick().await;
                let brief = view.brief();
                if !phases.show(brief.under_way) {
                    status.tick(&brief);
                }
            }
        };
        tokio::select! {
            biased;
            ending = node.wait_or_stop(&mut signals) => ending,
            () = reload => return Exit::Failed,
            () = show => return Exit::Failed,
        }
    };
    conclude(&node.report(&ending), path.as_deref())
}

/// Writes the report, says the verdict, and returns the exit code.
pub(super) fn conclude(report: &RunReport, path: Option<&Path>) -> Exit {
    let written = path.map_or(Ok(()), |path| report.write(path));
    for line in &report.why {
        warn(line);
    }
    for limit in &report.limits {
        warn(&format!("limit: {}; mend: {}", limit.text, limit.mend));
    }
    if let Some(digest) = &report.digest.wire_sha256 {
        warn(&format!("wire_sha256: {digest}"));
    }
    let (words, exit) = match report.verdict {
        Verdict::Pass => ("verdict: pass", Exit::Ok),
        Verdict::Fail => ("verdict: fail", Exit::Failed),
    };
    warn(words);
    match (written, path) {
        (Err(error), Some(path)) => {
            let path = path.display();
            warn(&format!(
                "error: the report cannot be written to {path}: {error}"
            ));
            Exit::Failed
        }
        _ => exit,
    }
}

/// A report that has nowhere to go is refused before the run, not after it.
pub(super) fn report_place(path: &Path) -> Result<(), String> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let shown = path.display();
    if path.is_dir() || path.file_name().is_none() {
        return Err(format!("`node.report`: {shown} is a directory"));
    }
    if !folder.is_dir() {
        let folder = folder.display();
        return Err(format!(
            "`node.report`: {shown}: there is no directory {folder}"
        ));
    }
    Ok(())
}

/// Asks a simulation to stop at the first signal; a second one ends the process at once.
pub(super) fn ask_on_signal(stop: &Stop) {
    let stop = stop.clone();
    let listen = move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        runtime.block_on(async {
            let mut signals = Signals::new()?;
            signals.next().await;
            stop.ask();
            signals.next().await;
            std::process::exit(i32::from(Exit::Failed.code()));
        })
    };
    let named = std::thread::Builder::new().name("signals".to_owned());
    if let Err(error) = named.spawn(move || listen().err()) {
        warn(&format!("signals are not listened to: {error}"));
    }
}

/// SIGINT and SIGTERM.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

impl StopSource for Signals {
    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
