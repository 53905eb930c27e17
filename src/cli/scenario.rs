//! `actorsim scenario`: lists, checks and runs scripts.
//!
//! `run` starts a node of its own, or pilots one that runs; on virtual time scripts run with
//! `actorsim sim --scenario`. Bound: the script's; SIGINT and SIGTERM end it, and the report is
//! still written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use actorsim_actors::Clock;
use clap::{Args, Subcommand};
use tokio::sync::oneshot;

use super::start::{self, Signals, StartArgs};
use super::{Exit, say, warn};
use crate::attach::client::{self, Client};
use crate::config::NodeConfig;
use crate::node::{Node, StopSource};
use crate::report::verdict::{self, Facts};
use crate::report::{self, RunReport};
use crate::scenario::live::LiveHost;
use crate::scenario::remote::RemoteHost;
use crate::scenario::{self, Host, Script, shipped};
use crate::sim::Stop;

/// Shown below the commands.
pub const AFTER_HELP: &str = "\
Examples:
  actorsim scenario list
  actorsim scenario run ramp-up --speed 10 --report r.json
  actorsim scenario run my.rhai --mqtt-url mqtt://127.0.0.1:1883 --arg devices=500
  actorsim scenario run ramp-up --on local
  actorsim sim --scenario ramp-up          the same on virtual time: the same bytes each time

Exit codes: 0 the verdict is pass, 1 it is fail, 2 usage or a wrong script, 3 cannot connect.";

/// Commands of `scenario`.
#[derive(Debug, Subcommand)]
pub enum ScenarioCommand {
    /// List the shipped scenarios.
    List,
    /// Compile a script; every error with its line and column.
    Check {
        /// A shipped name or a file
        #[arg(value_name = "NAME|FILE")]
        script: String,
    },
    /// Run a script: on a node of its own, or on one that runs.
    #[command(after_help = AFTER_HELP)]
    Run(Box<RunArgs>),
}

/// Flags of `start` that say what a node is, which one that runs does not heed.
const OF_A_NODE: [&str; 27] = [
    "config",
    "set",
    "devices",
    "profile",
    "interval",
    "run_for",
    "json_logs",
    "listen",
    "node",
    "state_dir",
    "no_world",
    "no_fleet",
    "speed",
    "port_offset",
    "run_id",
    "twin",
    "server_name",
    "identity",
    "t1_rate",
    "t2_rate",
    "chaos",
    "mqtt_url",
    "mqtt_pool_size",
    "http_endpoint",
    "amqp_url",
    "coap_url",
    "console",
];

/// Flags of `scenario run`: its own, and those of `start`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A shipped name or a file
    #[arg(value_name = "NAME|FILE")]
    script: String,
    /// Value of one of the script's arguments; repeatable
    #[arg(long = "arg", value_name = "NAME=VALUE", value_parser = argument)]
    args: Vec<(String, String)>,
    /// Pilot this running node: its name, its state directory or its socket
    #[arg(long, value_name = "ADDR", conflicts_with_all = OF_A_NODE)]
    on: Option<String>,
    #[command(flatten)]
    start: StartArgs,
}

/// `NAME=VALUE`.
pub(super) fn argument(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    match name.is_empty() {
        true => Err("expected NAME=VALUE".to_owned()),
        false => Ok((name.to_owned(), value.to_owned())),
    }
}

/// Loads a script with its arguments; what is wrong is printed.
pub(super) fn load(name: &str, args: &[(String, String)]) -> Result<Script, Exit> {
    let script = Script::load(name).map_err(|error| {
        warn(&format!("error: {error}"));
        Exit::Usage
    })?;
    let script = script.with_args(args.iter().cloned().collect::<BTreeMap<_, _>>());
    match script.unknown_args()[..] {
        [] => Ok(script),
        [unknown, ..] => {
            warn(&format!(
                "error: --arg {unknown}: the script does not ask for it"
            ));
            Err(Exit::Usage)
        }
    }
}

/// Runs the command.
pub fn run(command: &ScenarioCommand) -> Exit {
    match command {
        ScenarioCommand::List => list(),
        ScenarioCommand::Check { script } => match load(script, &[]) {
            Ok(script) => say(&format!("{}: ok\n", script.name)),
            Err(exit) => exit,
        },
        ScenarioCommand::Run(args) => match load(&args.script, &args.args) {
            Ok(script) => match &args.on {
                Some(address) => pilot(args, &script, address),
                None => own_node(args, script),
            },
            Err(exit) => exit,
        },
    }
}

fn list() -> Exit {
    let title = |(name, text): &(&str, &str)| {
        let first = text.lines().next().unwrap_or_default();
        format!("{name:16}  {}\n", first.trim_start_matches(['/', ' ']))
    };
    say(&shipped::SHIPPED.iter().map(title).collect::<String>())
}

/// On a node that runs.
fn pilot(args: &RunArgs, script: &Script, address: &str) -> Exit {
    let path = args.start.report_path();
    if let Some(Err(error)) = path.as_deref().map(start::report_place) {
        warn(&format!("error: {error}"));
        return Exit::Usage;
    }
    let stop = Stop::default();
    start::ask_on_signal(&stop);
    let seed = args.start.seed_or(1);
    let connected = client::locate(Some(address))
        .and_then(|socket| Client::connect(&socket))
        .and_then(|client| RemoteHost::new(client, seed, stop));
    let host = match connected {
        Ok(host) => Arc::new(host) as Arc<dyn Host>,
        Err(error) => {
            warn(&format!("error: {error}"));
            return error.exit();
        }
    };
    let thread = scenario::begin(script.clone(), Arc::clone(&host), |outcome| outcome);
    let outcome = match thread.map(JoinHandle::join) {
        Ok(joined) => joined.unwrap_or_else(|_| scenario::lost()),
        Err(error) => {
            warn(&format!("error: {error}"));
            return Exit::Failed;
        }
    };
    let mut report = RunReport {
        v: report::VERSION,
        run_id: format!("scenario-{}", Clock::wall().unix_us()),
        node: address.to_owned(),
        version: super::VERSION.to_owned(),
        seed,
        elapsed_s: host.now().as_secs_f64(),
        scenario: Some(outcome),
        ..RunReport::default()
    };
    verdict::decide(&mut report, &Facts::default());
    start::conclude(&report, path.as_deref())
}

/// On a node of its own.
fn own_node(args: &RunArgs, script: Script) -> Exit {
    let settings = match args.start.resolve_for_scenario() {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let config = NodeConfig::from_settings(&settings);
    start::with_runtime(&config, |config| run_node(config, script))
}

async fn run_node(config: NodeConfig, script: Script) -> Exit {
    let path: Option<PathBuf> = config.report.clone();
    if let Some(Err(error)) = path.as_deref().map(start::report_place) {
        warn(&format!("error: {error}"));
        return Exit::Usage;
    }
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            warn(&format!("error: signals: {error}"));
            return Exit::Failed;
        }
    };
    let seed = config.seed;
    let mut node = match Node::start(config).await {
        Ok(node) => node,
        Err(error) => {
            warn(&format!("error: {error}"));
            return error.exit();
        }
    };
    node.linked().await;
    let stop = Stop::default();
    let (done, over) = oneshot::channel();
    let clock = node.system().clock().clone();
    let host = LiveHost {
        plane: node.plane(),
        handle: node.system().handle().clone(),
        began: clock.now(),
        clock,
        seed,
        stop: stop.clone(),
    };
    // The node waits for the outcome as long as it runs.
    let tell = move |outcome| drop(done.send(outcome));
    if let Err(error) = scenario::begin(script, Arc::new(host), tell) {
        warn(&format!("error: {error}"));
    }
    let mut until = Until {
        over: Some(over),
        outcome: None,
        signals,
        stop,
    };
    let ending = node.wait_or_stop(&mut until).await;
    let report = node.report_with(&ending, until.outcome);
    start::conclude(&report, path.as_deref())
}

/// The end of the script, or a signal, which ends the script first.
struct Until {
    over: Option<oneshot::Receiver<report::Scenario>>,
    outcome: Option<report::Scenario>,
    signals: Signals,
    stop: Stop,
}

impl StopSource for Until {
    async fn next(&mut self) {
        let Some(mut over) = self.over.take() else {
            return self.signals.next().await;
        };
        let first = tokio::select! {
            biased;
            outcome = &mut over => Some(outcome),
            () = self.signals.next() => None,
        };
        let outcome = match first {
            Some(outcome) => outcome,
            None => {
                self.stop.ask();
                tokio::select! {
                    biased;
                    outcome = over => outcome,
                    () = self.signals.next() => return,
                }
            }
        };
        self.outcome = Some(outcome.unwrap_or_else(|_| scenario::lost()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_a_running_node_would_not_heed_is_refused() {
        let flags = StartArgs::augment_args(clap::Command::new("start"));
        let mut ids: Vec<_> = flags
            .get_arguments()
            .map(|arg| arg.get_id().as_str())
            .collect();
        ids.retain(|id| !["join", "report", "seed"].contains(id));
        assert_eq!(ids, OF_A_NODE);
    }
}
