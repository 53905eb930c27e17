//! `actorsim-bench`: measured scenarios, ours beside the peers in the same run.
//!
//! In reading order: `scenario` (what is measured), `harness` (how a run goes), `process` (children
//! and their one line), `peers` (the other workspace), then one file per scenario, on `cells`,
//! `ticker` and `devices` (what ours are made of). It asserts nothing about speed.
//! Bound: one child process at a time, and a baseline beside it, each with a time limit.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

mod cells;
mod cold;
mod connect_storm;
mod contract;
mod devices;
mod digits;
mod echo;
mod encode;
mod entity;
mod exactly_once;
mod fan_out;
mod harness;
mod heap;
mod idle;
mod journal;
mod loss;
mod memory;
mod mosquitto;
mod mqtt;
mod netns;
mod node;
mod one_way;
mod pair;
mod peers;
mod ping_pong;
mod pipeline;
mod pipeline_rate;
mod process;
mod quic;
mod restart;
mod ring;
mod scan;
mod scenario;
mod sink;
mod skew;
mod soak;
mod spawn;
mod storm;
mod table;
mod threads;
mod ticker;
mod timers;
mod tls;

use peers::Peer;
use process::Child;
use scenario::{SCENARIOS, Scenario};

/// Measure a scenario; ours and the peers alternate, each in a process of its own.
#[derive(Parser, Debug)]
#[command(name = "actorsim-bench", version)]
struct Arguments {
    /// Names of scenarios, `all` short ones (with --smoke every one), `list`, or `table FILE` of a
    /// run's JSON lines.
    #[arg(required = true)]
    names: Vec<String>,
    /// Print one JSON line per measurement.
    #[arg(long)]
    json: bool,
    /// Measure only ours.
    #[arg(long)]
    no_peers: bool,
    /// Measure only these, `ours` and peers by name.
    #[arg(long, num_args = 1.., conflicts_with = "no_peers")]
    only: Vec<String>,
    /// Measure only these shapes, by name.
    #[arg(long, num_args = 1..)]
    shape: Vec<String>,
    /// Runs of each participant; the value is their median.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Sizes instead of the scenario's own.
    #[arg(long, num_args = 1.., visible_alias = "devices",
          value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    size: Vec<u64>,
    /// Time instead of the scenario's own, where it is measured by time: 90s, 20m or 1h.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    time: Option<u64>,
    /// Write every value to a file, too, as CSV.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Tiny sizes and times: shows that it works, measures nothing.
    #[arg(long)]
    smoke: bool,
}

fn main() -> ExitCode {
    actorsim::heap::bound_arenas(); // as a node's own program does
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some(kind @ (process::CHILD | process::KERNEL)) => return process::be_child(kind, args),
        Some(process::NODE) => return process::be_node(args),
        _ => {}
    }
    let args = Arguments::parse();
    if args.names == ["list"] {
        for scenario in SCENARIOS {
            println!("{:<10} {}", scenario.name, scenario.label);
        }
        return ExitCode::SUCCESS;
    }
    if let [command, file] = &*args.names
        && command == "table"
    {
        return print_table(file);
    }
    let scenarios = match chosen(&args.names, args.smoke) {
        Ok(scenarios) => scenarios,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let failures = run(&args, &scenarios);
    for failure in &failures {
        eprintln!("error: {failure}");
    }
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Scenarios of many minutes, which are asked for by name; with tiny sizes they are short.
const LONG: &[&str] = &["pipeline-rate", "loss", "exactly-once", "soak"];

/// A whole number of seconds, minutes or hours.
fn seconds(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600)];
    let split = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*seconds)
    });
    split
        .filter(|seconds| (1..=86_400).contains(seconds))
        .ok_or_else(|| "a time such as 90s, 20m or 1h, at most 24h".to_owned())
}

fn print_table(file: &str) -> ExitCode {
    let read = std::fs::read_to_string(file).map_err(|error| error.to_string());
    match read.and_then(|text| table::of(&text)) {
        Ok(tables) => {
            print!("{tables}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{file}: {error}");
            ExitCode::from(2)
        }
    }
}

fn chosen(names: &[String], smoke: bool) -> Result<Vec<&'static Scenario>, String> {
    if names == ["all"] {
        let wanted = SCENARIOS
            .iter()
            .filter(|s| smoke || !LONG.contains(&s.name));
        return Ok(wanted.copied().collect());
    }
    let find = |name: &String| {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            format!("no scenario `{name}`; there are: {}", names.join(", "))
        })
    };
    names.iter().map(find).collect()
}

/// Runs scenario after scenario; returns what failed.
fn run(args: &Arguments, scenarios: &[&'static Scenario]) -> Vec<String> {
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let has = |scenario: &Scenario, name: &str| scenario.peers.contains(&name) && wanted(name);
    let mut asked: Vec<&str> = scenarios.iter().flat_map(|s| s.peers).copied().collect();
    asked.retain(|name| !args.no_peers && wanted(name));
    let (peers, mut failures) = peers::build(&asked);
    let (mut rows, mut measured) = (vec![harness::CSV.to_owned()], false);
    for scenario in scenarios {
        let of_scenario = |peer: &&Peer| has(scenario, peer.name);
        let ours = wanted("ours").then_some(Child::Ours);
        let others = peers.iter().filter(of_scenario).map(Child::Peer);
        let baselines = loss::BASELINES
            .iter()
            .filter(|name| !args.no_peers && has(scenario, name));
        let baselines = baselines.map(|name| Child::Baseline(name));
        let children: Vec<Child<'_>> = ours.into_iter().chain(baselines).chain(others).collect();
        let asked = |name: &str| args.shape.is_empty() || args.shape.iter().any(|s| s == name);
        let shapes = scenario.shapes(&args.size, args.smoke).into_iter();
        for mut shape in shapes.filter(|shape| asked(shape.word())) {
            measured = true;
            if shape.load.seconds > 0 {
                shape.load.seconds = args.time.unwrap_or(shape.load.seconds);
            }
            let mut print = |line: harness::Line| {
                if !args.json {
                    println!("{line}");
                }
                let renamed = line.renamed();
                for line in std::iter::once(line).chain(renamed) {
                    rows.push(line.to_csv());
                    if args.json {
                        println!("{}", line.to_json());
                    }
                }
            };
            let more = harness::measure(scenario, &shape, args.runs, &children, &mut print);
            failures.extend(more);
        }
    }
    if !measured {
        failures.push(format!("no shape is called {}", args.shape.join(" or ")));
    }
    if let Some(path) = &args.csv
        && let Err(error) = std::fs::write(path, rows.concat())
    {
        failures.push(format!("{}: {error}", path.display()));
    }
    failures
}
