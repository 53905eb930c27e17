//! `actorsim sim`: a fleet on virtual time, its report, and its exit code.
//!
//! Bound: the run's virtual time; SIGINT and SIGTERM stop it early and the report is still written.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{Clock, Time};
use actorsim_fleet::Profile;
use actorsim_fleet::population::DEVICES_MAX;
use actorsim_supervision::chaos::{Place, Plan};
use actorsim_supervision::config::render_all;
use clap::Args;

use super::{Exit, start, warn};
use crate::report::Verdict;
use crate::sim::{self, Outcome, SHARDS_MAX, SimConfig, SimError, Stop, UNTIL_MAX, failure};

/// Shown below the flags.
pub const AFTER_HELP: &str = "\
Examples:
  actorsim sim --devices 10000 --interval 1s --hours 1 --seed 7 --report r.json
  actorsim sim --no-world --devices 10000 --interval 5s --hours 24
  actorsim sim --devices 1000 --hours 1 --chaos config/chaos/kill-anything.toml
  actorsim sim --scenario reconnect-storm --arg devices=2000

The same flags give the same bytes on the wire (digest.wire_sha256), on any number of shards.
Exit codes: 0 the verdict is pass, 1 it is fail, 2 usage or bad configuration.";

/// How long a run is if nobody says it.
const HOUR: Duration = Duration::from_secs(3_600);
/// How long a script may take if nobody says it: it ends by itself before.
const SCRIPT_MAX: Duration = Duration::from_secs(31 * 24 * 3_600);
/// Periods of the scan, as nodes may have them.
const SCAN_PERIOD_MIN: Duration = Duration::from_micros(100);
const SCAN_PERIOD_MAX: Duration = Duration::from_secs(60);
/// Time of the host that is spent on finding the strikes that a failed run needs.
const SHRINK_TIME: Duration = Duration::from_secs(60);

/// Flags of `sim`.
#[derive(Debug, Args)]
pub struct SimArgs {
    /// Run this script, which starts the devices: a shipped name or a file
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["devices", "profile", "interval"])]
    scenario: Option<String>,
    /// Value of one of the script's arguments; repeatable
    #[arg(long = "arg", value_name = "NAME=VALUE", requires = "scenario",
          value_parser = super::scenario::argument)]
    args: Vec<(String, String)>,
    /// Number of devices
    #[arg(long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(DEVICES_MAX)))]
    devices: u32,
    /// Profile of the devices: a shipped name or a file
    #[arg(long, value_name = "NAME|FILE", default_value = "industrial")]
    profile: String,
    /// Interval of T1 readings, such as 5s or 250ms [default: the profile's]
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    interval: Option<Duration>,
    /// Seed of everything that is drawn; 0 draws one and says it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = seed)]
    seed: u64,
    /// Virtual hours [default: until --until, else 1]
    #[arg(long, value_name = "H")]
    hours: Option<f64>,
    /// Stop at this virtual time, such as 41.22s; with --hours, that run is cut off there
    #[arg(long, value_name = "D", value_parser = virtual_time)]
    until: Option<Duration>,
    /// Break things by this plan
    #[arg(long, value_name = "PLAN")]
    chaos: Option<PathBuf>,
    /// Carry out only these strikes of the plan, by number, as a failed run names them
    #[arg(long, value_name = "N,N", value_delimiter = ',', requires = "chaos")]
    strikes: Option<Vec<u64>>,
    /// Shards; the bytes on the wire do not depend on it
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(SHARDS_MAX)))]
    shards: u32,
    /// Devices only: no links, no twin
    #[arg(long)]
    no_world: bool,
    /// Time between two cycles of the twin's scan [default: 10ms]; a day of cycles is long
    #[arg(long, value_name = "D", value_parser = scan_period, conflicts_with = "no_world")]
    scan_period: Option<Duration>,
    /// Write the run report to this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print each sample as a line of JSON to this file; - is standard output
    #[arg(long, value_name = "FILE")]
    console: Option<PathBuf>,
    /// Write what devices put on the wire to this file
    #[arg(long, value_name = "FILE")]
    wire_log: Option<PathBuf>,
}

fn seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| error.to_string())
}

/// A duration; fractions of a unit are allowed, since traces show them.
fn virtual_time(text: &str) -> Result<Duration, String> {
    if let Some(seconds) = text.strip_suffix('s').and_then(|s| s.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// A period that a node's `scan.period` may have.
fn scan_period(text: &str) -> Result<Duration, String> {
    let period = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (SCAN_PERIOD_MIN..=SCAN_PERIOD_MAX).contains(&period) {
        true => Ok(period),
        false => Err(format!("use {SCAN_PERIOD_MIN:?} to {SCAN_PERIOD_MAX:?}")),
    }
}

/// Runs the command.
pub fn run(args: &SimArgs) -> Exit {
    let script = match &args.scenario {
        None => None,
        Some(name) => match super::scenario::load(name, &args.args) {
            Ok(script) => Some(script),
            Err(exit) => return exit,
        },
    };
    let config = match configure(args) {
        Ok(config) => SimConfig {
            devices: if script.is_some() { 0 } else { config.devices },
            scenario: script,
            ..config
        },
        Err(text) => {
            warn(&text);
            return Exit::Usage;
        }
    };
    if let Some(Err(error)) = args.report.as_deref().map(start::report_place) {
        warn(&format!("error: {error}"));
        return Exit::Usage;
    }
    sim::quiet_injected_panics();
    let stop = Stop::default();
    start::ask_on_signal(&stop);
    match sim::run(&config, &stop) {
        Ok(outcome) => {
            if outcome.report.verdict == Verdict::Fail && !stop.is_asked() {
                let (report, (config, outcome)) =
                    (outcome.report.clone(), shortest(config, outcome));
                warn(&failure::tell(&replay(args, &config, &outcome), &outcome));
                return start::conclude(&report, args.report.as_deref());
            }
            start::conclude(&outcome.report, args.report.as_deref())
        }
        Err(error) => {
            warn(&format!("error: {error}"));
            match error {
                SimError::Fleet(_) | SimError::Peers(_) => Exit::Usage,
                _ => Exit::Failed,
            }
        }
    }
}

fn configure(args: &SimArgs) -> Result<SimConfig, String> {
    let loaded = Profile::load(&args.profile).map_err(|errors| render_all(&errors))?;
    for warning in &loaded.warnings {
        warn(&warning.to_string());
    }
    let chaos = args
        .chaos
        .as_deref()
        .map(|path| Plan::open(path, Place::Sim));
    let chaos = chaos.transpose().map_err(|errors| render_all(&errors))?;
    let hours = args.hours.map(|hours| {
        length_of(hours)
            .filter(|time| !time.is_zero() && *time <= UNTIL_MAX)
            .ok_or_else(|| format!("error: --hours {hours}: use more than 0, at most 87840"))
    });
    let unsaid = match args.scenario {
        Some(_) => SCRIPT_MAX,
        None => HOUR,
    };
    let length = hours.transpose()?.or(args.until).unwrap_or(unsaid);
    let until = args.until.map_or(length, |until| until.min(length));
    if until.is_zero() || until > UNTIL_MAX {
        return Err("error: --until: use more than 0, at most ten years".to_owned());
    }
    let seed = actorsim_fleet::seed::choose(args.seed);
    if args.seed == 0 {
        warn(&format!(
            "seed {seed} was chosen at random; --seed repeats this run"
        ));
    }
    Ok(SimConfig {
        run_id: format!("sim-{seed}"),
        profile: Arc::new(loaded.profile),
        devices: args.devices,
        interval: args.interval,
        seed,
        length,
        until,
        shards: args.shards,
        world: !args.no_world,
        scan_period: args.scan_period,
        chaos,
        strikes: args.strikes.clone().map(BTreeSet::from_iter),
        wire_log: args.wire_log.clone(),
        console: args.console.clone(),
        scenario: None,
        quiet: false,
    })
}

/// Hours as they are written.
fn length_of(hours: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(hours * 3_600.0).ok()
}

/// The run with the fewest strikes that was found to fail as well.
fn shortest(config: SimConfig, outcome: Outcome) -> (SimConfig, Outcome) {
    let Some(chaos) = &outcome.chaos else {
        return (config, outcome);
    };
    let all: BTreeSet<u64> = chaos.strikes().map(|strike| strike.number).collect();
    let all = Vec::from_iter(all);
    if all.len() < 2 || chaos.total() > all.len() as u64 {
        return (config, outcome);
    }
    let clock = Clock::wall();
    let mut found = None;
    failure::shrink(all, |strikes| {
        if clock.monotonic() > Time::ZERO + SHRINK_TIME {
            return false;
        }
        let again = SimConfig {
            strikes: Some(strikes.clone()),
            wire_log: None,
            console: None,
            ..config.clone()
        };
        let Ok(outcome) = sim::run(&again, &Stop::default()) else {
            return false;
        };
        let failed = outcome.report.verdict == Verdict::Fail;
        if failed {
            found = Some((again, outcome));
        }
        failed
    });
    found.unwrap_or((config, outcome))
}

/// How long a run is, and where it is cut off: strikes are made by the length, however early it
/// ends.
fn when(length: Duration, until: Duration) -> String {
    let hours = length.as_secs_f64() / 3_600.0;
    let cut = format!(" --until {}s", until.as_secs_f64());
    format!(" --hours {hours}{}", if until < length { &cut } else { "" })
}

/// The command that makes a run again, up to where it came.
fn replay(args: &SimArgs, config: &SimConfig, outcome: &Outcome) -> String {
    let what = match &args.scenario {
        None => format!("--devices {} --profile {}", config.devices, args.profile),
        Some(script) => {
            let given = args.args.iter();
            let given = given.map(|(name, value)| format!(" --arg {name}={value}"));
            format!("--scenario {script}{}", given.collect::<String>())
        }
    };
    let (seed, shards) = (config.seed, config.shards);
    let mut text = format!("actorsim sim {what} --seed {seed} --shards {shards}");
    text += &when(config.length, outcome.reached.min(config.until));
    if let Some(interval) = config.interval {
        text += &format!(" --interval {}", humantime::format_duration(interval));
    }
    if let Some(plan) = &args.chaos {
        text += &format!(" --chaos {}", plan.display());
    }
    if let Some(strikes) = &config.strikes {
        let numbers: Vec<_> = strikes.iter().map(ToString::to_string).collect();
        text += &format!(" --strikes {}", numbers.join(","));
    }
    if !config.world {
        text += " --no-world";
    }
    if let Some(period) = config.scan_period {
        text += &format!(" --scan-period {}", humantime::format_duration(period));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_of_the_same_length_however_early_the_run_ended() {
        for seconds in [0.5, 41.22, 59.999_999_999, 3_600.0, 86_400.0, 2_678_400.0] {
            let length = Duration::from_secs_f64(seconds);
            let text = when(length, length / 2);
            let mut words = text.split_whitespace().skip(1).step_by(2);
            let hours = words.next().unwrap().parse().unwrap();
            assert_eq!(length_of(hours), Some(length), "{text}");
            assert_eq!(virtual_time(words.next().unwrap()), Ok(length / 2));
            assert!(!when(length, length).contains("--until"), "a whole run");
        }
    }
}
