//! `actorsim replay`: plays a recording to a broker, a server, a twin, or as lines.
//!
//! Bound: the recording's time; SIGINT and SIGTERM stop it, and what was played is said.

use std::path::{Path, PathBuf};

use actorsim_fleet::broker::Target as Broker;
use actorsim_fleet::profile::Protocol;
use actorsim_transport::{Identity, SITE_SERVER_NAME, Site};
use clap::Args;

use super::start::{self, StartArgs};
use super::{Exit, say, warn};
use crate::config::NodeConfig;
use crate::node::terms::terms_of;
use crate::node::{build, publishers, secrets};
use crate::replay::amqp::AmqpTarget;
use crate::replay::coap::CoapTarget;
use crate::replay::http::{HttpTarget, Posting};
use crate::replay::lines::LinesTarget;
use crate::replay::mqtt::MqttTarget;
use crate::replay::twin::TwinTarget;
use crate::replay::{Log, Messages, Played, Survey, play};
use crate::sim::Stop;

/// Shown below the flags.
pub const AFTER_HELP: &str = "\
Examples:
  actorsim sim --devices 100 --until 1m --wire-log wire.log
  actorsim replay wire.log --mqtt-url mqtt://127.0.0.1:1883
  actorsim replay wire.log --twin 127.0.0.1:4433 --speed 10
  actorsim replay wire.log --http-endpoint http://127.0.0.1:8080/ingest
  actorsim replay wire.log --console samples.jsonl --speed 10000

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

/// Where recordings can be played to: a flag, and whether it, or its key, is given.
fn targets(config: &NodeConfig) -> [(&'static str, bool); 6] {
    let targets = &config.targets;
    [
        ("--mqtt-url", targets.mqtt.is_some()),
        ("--http-endpoint", targets.http.is_some()),
        ("--coap-url", targets.coap.is_some()),
        ("--amqp-url", targets.amqp.is_some()),
        ("--console", targets.console.is_some()),
        ("--twin", config.transport.twin.is_some()),
    ]
}

/// The one target that is given.
fn the_target(config: &NodeConfig) -> Result<&'static str, String> {
    let all = targets(config);
    let mut given = all.iter().filter(|(_, given)| *given);
    match (given.next(), given.next()) {
        (Some((one, _)), None) => Ok(one),
        (Some((one, _)), Some((other, _))) => Err(format!(
            "a recording is played to one target: {one} and {other} are both given"
        )),
        (None, _) => {
            let flags = all.map(|(flag, _)| flag).join(", ");
            Err(format!("give a target: one of {flags}"))
        }
    }
}

async fn replay(config: NodeConfig, file: PathBuf, survey: Survey) -> Exit {
    let stop = Stop::default();
    start::ask_on_signal(&stop);
    if let Some(broken) = &survey.broken {
        warn(&format!("warning: {broken}; what is whole is played"));
    }
    let target = match the_target(&config) {
        Ok(target) => target,
        Err(error) => return usage(error),
    };
    let kinds = || survey.kinds.clone();
    let (records, speed) = (survey.records, config.speed);
    let how = (records, speed);
    macro_rules! played {
        ($connected:expr) => {
            match $connected.await {
                Ok(taker) => play(&file, how, Messages::to(taker, kinds()), &stop).await,
                Err(exit) => return exit,
            }
        };
    }
    let played = match target {
        "--mqtt-url" => played!(mqtt(&config)),
        "--http-endpoint" => played!(http(&config)),
        "--coap-url" => played!(coap(&config)),
        "--amqp-url" => played!(amqp(&config)),
        "--console" => played!(lines(&config)),
        _ => match link(&config, &survey).await {
            Ok(target) => play(&file, how, target, &stop).await,
            Err(exit) => return exit,
        },
    };
    match played {
        Ok(played) => conclude(&played, records, config.targets.console.as_deref()),
        Err(error) => {
            warn(&format!("error: {error}"));
            Exit::Failed
        }
    }
}

fn conclude(played: &Played, records: u64, printed: Option<&Path>) -> Exit {
    let told = played.told().to_string();
    let said = match printed == Some(Path::new("-")) {
        true => {
            warn(&told); // standard output has the lines
            Exit::Ok
        }
        false => say(&format!("{told}\n")),
    };
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

fn usage(error: impl std::fmt::Display) -> Exit {
    warn(&format!("error: {error}"));
    Exit::Usage
}

fn unreachable(error: String) -> Exit {
    warn(&format!("error: {error}"));
    Exit::Unreachable
}

async fn mqtt(config: &NodeConfig) -> Result<MqttTarget, Exit> {
    let target = config.targets.mqtt.as_ref().ok_or(Exit::Usage)?;
    let broker = build::mqtt_broker(config, target).map_err(usage)?;
    let to = (broker.target.address, broker.tls.as_ref());
    let connected = MqttTarget::connect(to, broker.options, &broker.credentials).await;
    connected.map_err(unreachable)
}

async fn http(config: &NodeConfig) -> Result<HttpTarget, Exit> {
    let target = config.targets.http.as_ref().ok_or(Exit::Usage)?;
    let at = Broker::parse(&target.url).map_err(usage)?;
    let posting = Posting {
        address: at.address,
        terms: terms_of(config, &at, &target.tls).map_err(usage)?,
        host: at.host,
        path: at.path,
        options: target.options,
        authorization: secrets::authorization(config, target).map_err(usage)?,
    };
    HttpTarget::connect(posting).await.map_err(unreachable)
}

async fn coap(config: &NodeConfig) -> Result<CoapTarget, Exit> {
    let target = config.targets.coap.as_ref().ok_or(Exit::Usage)?;
    let at = Broker::parse(&target.url).map_err(usage)?;
    let connected = CoapTarget::connect(at.address, &at.path, target.options).await;
    connected.map_err(unreachable)
}

async fn amqp(config: &NodeConfig) -> Result<AmqpTarget, Exit> {
    let broker = publishers::amqp(config).map_err(usage)?;
    let (broker, relay, _) = broker.ok_or(Exit::Usage)?;
    let connected = AmqpTarget::connect(broker, relay).await;
    connected.map_err(unreachable)
}

async fn lines(config: &NodeConfig) -> Result<LinesTarget, Exit> {
    let path = config.targets.console.as_ref().ok_or(Exit::Usage)?;
    let opened = LinesTarget::open(path);
    opened.map_err(|error| usage(format!("{}: {error}", path.display())))
}

/// A twin takes readings and events; sessions are for their brokers.
async fn link(config: &NodeConfig, survey: &Survey) -> Result<TwinTarget, Exit> {
    let twin = config.transport.twin.as_ref().ok_or(Exit::Usage)?;
    let mut kinds = survey.kinds.iter();
    if let Some(kind) = kinds.find(|kind| kind.protocol != Protocol::Quic) {
        return Err(usage(format!(
            "devices of type {} have {} sessions in this recording, and a twin takes readings: \
             play it to a broker or server",
            kind.device_type,
            kind.protocol.name()
        )));
    }
    let address = build::address("transport.twin", twin).map_err(usage)?;
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
