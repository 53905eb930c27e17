//! `actorsim replay`: plays a recording to a broker or a twin.
//!
//! Bound: the recording's time; SIGINT and SIGTERM stop it, and what was played is said.

use std::path::PathBuf;

use actorsim_fleet::broker::Target as Broker;
use actorsim_transport::{Identity, SITE_SERVER_NAME, Site};
use clap::Args;

use super::start::{self, StartArgs};
use super::{Exit, say, warn};
use crate::config::NodeConfig;
use crate::node::build;
use crate::replay::mqtt::{MqttTarget, Player};
use crate::replay::twin::TwinTarget;
use crate::replay::{Log, Played, Survey, play};
use crate::sim::Stop;

/// Shown below the flags.
pub const AFTER_HELP: &str = "\
Examples:
  actorsim sim --devices 100 --until 1m --wire-log wire.log
  actorsim replay wire.log --mqtt-url mqtt://127.0.0.1:1883
  actorsim replay wire.log --twin 127.0.0.1:4433 --speed 10

Exit codes: 0 played to its end, 1 not, 2 usage or no recording, 3 cannot connect.";

/// Flags of `replay`: its own, and the targets of `start`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A recording: what `sim --wire-log` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    start: StartArgs,
}

/// Runs the command.
pub fn run(args: &ReplayArgs) -> Exit {
    let survey = match Log::survey(&args.file) {
        Ok(survey) => survey,
        Err(error) => {
            warn(&format!("error: {error}"));
            return Exit::Usage;
        }
    };
    let settings = match args.start.resolve() {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let config = NodeConfig::from_settings(&settings);
    start::with_runtime(&config, |config| replay(config, args.file.clone(), survey))
}

async fn replay(config: NodeConfig, file: PathBuf, survey: Survey) -> Exit {
    let stop = Stop::default();
    start::ask_on_signal(&stop);
    let (records, speed) = (survey.records, config.speed);
    if let Some(broken) = &survey.broken {
        warn(&format!("warning: {broken}; what is whole is played"));
    }
    let played = match (&config.targets.mqtt, &config.transport.twin) {
        (Some(_), _) => match broker(&config, &survey).await {
            Ok(mut target) => play(&file, records, speed, &mut target, &stop).await,
            Err(exit) => return exit,
        },
        (None, Some(twin)) => match link(&config, twin, &survey).await {
            Ok(mut target) => play(&file, records, speed, &mut target, &stop).await,
            Err(exit) => return exit,
        },
        (None, None) => {
            warn("error: give a target: --mqtt-url URL, or --twin HOST:PORT");
            return Exit::Usage;
        }
    };
    match played {
        Ok(played) => conclude(&played, records),
        Err(error) => {
            warn(&format!("error: {error}"));
            Exit::Failed
        }
    }
}

fn conclude(played: &Played, records: u64) -> Exit {
    let said = say(&format!("{}\n", played.told()));
    match &played.broken {
        None => said,
        Some(broken) => {
            let (done, reached) = (played.records, played.reached.as_secs_f64());
            warn(&format!(
                "error: {broken}; played {done} of {records} whole records, {reached:.3} s of the \
                 recording"
            ));
            Exit::Failed
        }
    }
}

async fn broker(config: &NodeConfig, survey: &Survey) -> Result<MqttTarget, Exit> {
    let usage = |error: String| {
        warn(&format!("error: {error}"));
        Exit::Usage
    };
    let Some(target) = &config.targets.mqtt else {
        return Err(Exit::Usage);
    };
    if !target.url.starts_with("mqtt://") {
        return Err(usage(format!("{}: replay speaks mqtt:// only", target.url)));
    }
    let broker = Broker::parse(&target.url).map_err(|error| usage(error.to_string()))?;
    let password = match &target.password_file {
        None => None,
        Some(path) => {
            let read = std::fs::read(path);
            let bytes = read.map_err(|error| usage(format!("{}: {error}", path.display())))?;
            Some(bytes.trim_ascii_end().to_vec())
        }
    };
    let player = Player {
        username: target.username.clone(),
        password,
    };
    let (address, kinds) = (broker.address, survey.kinds.clone());
    let connected = MqttTarget::connect(address, target.options, &player, kinds).await;
    connected.map_err(unreachable)
}

fn unreachable(error: String) -> Exit {
    warn(&format!("error: {error}"));
    Exit::Unreachable
}

async fn link(config: &NodeConfig, twin: &str, survey: &Survey) -> Result<TwinTarget, Exit> {
    let usage = |error: String| {
        warn(&format!("error: {error}"));
        Exit::Usage
    };
    let address = build::address("transport.twin", twin);
    let address = address.map_err(|error| usage(error.to_string()))?;
    let identity = identity(config).map_err(usage)?;
    let name = config.transport.server_name.clone();
    let name = name.unwrap_or_else(|| SITE_SERVER_NAME.to_owned());
    let connected = TwinTarget::connect((address, name), identity, survey).await;
    connected.map_err(unreachable)
}

/// The given one, or one that the site authority of this host signs for this run.
fn identity(config: &NodeConfig) -> Result<Identity, String> {
    if let Some(dir) = &config.transport.identity {
        return Identity::load(dir).map_err(|error| error.to_string());
    }
    let dir = std::env::temp_dir().join(format!("actorsim-replay-{}", std::process::id()));
    let site = Site::open_or_create(&config.transport.site).map_err(|error| error.to_string())?;
    let identity = site.identity("replay", "*", &dir);
    let _ = std::fs::remove_dir_all(&dir); // a key that nobody needs any more
    identity.map_err(|error| error.to_string())
}
