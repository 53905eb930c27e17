//! `actorsim-bench`: measured scenarios, ours beside the peers in the same run.
//!
//! In reading order: `scenario` (what is measured), `harness` (how a run goes), `process` (children
//! and their one line), `peers` (the other workspace), then one file per scenario. It asserts
//! nothing about speed. Bound: one child process at a time, each with a time limit.

use std::process::ExitCode;

use clap::Parser;

mod harness;
mod memory;
mod peers;
mod pipeline;
mod process;
mod scenario;

use scenario::{SCENARIOS, Shape};

/// Measure a scenario; ours and the peers alternate, each in a process of its own.
#[derive(Parser, Debug)]
#[command(name = "actorsim-bench", version)]
struct Arguments {
    /// A scenario's name, or `list`.
    name: String,
    /// Print one JSON line per measurement.
    #[arg(long)]
    json: bool,
    /// Measure only ours.
    #[arg(long)]
    no_peers: bool,
    /// Runs of each participant; the value is their median.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Device counts instead of the scenario's own shapes.
    #[arg(long, num_args = 1.., value_parser = clap::value_parser!(u32).range(1..))]
    devices: Vec<u32>,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(process::CHILD) {
        return process::be_child(args);
    }
    let args = Arguments::parse();
    if args.name == "list" {
        for scenario in SCENARIOS {
            println!("{:<10} {}", scenario.name, scenario.label);
        }
        return ExitCode::SUCCESS;
    }
    let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == args.name) else {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        eprintln!(
            "no scenario `{}`; there are: {}",
            args.name,
            names.join(", ")
        );
        return ExitCode::from(2);
    };
    let asked = args
        .devices
        .iter()
        .map(|devices| Shape::of(*devices))
        .collect();
    let plan = harness::Plan {
        shapes: asked,
        runs: args.runs,
        peers: !args.no_peers,
    };
    let outcome = harness::run(scenario, &plan, &mut |line| {
        if args.json {
            println!("{}", line.to_json());
        } else {
            println!("{line}");
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failures) => {
            for failure in failures {
                eprintln!("error: {failure}");
            }
            ExitCode::FAILURE
        }
    }
}
