//! `actorsim scan bench`: how well the scan keeps its grid on this host.
//!
//! Bound: the cycles asked for; SIGINT and SIGTERM stop it early and the report is still written.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use actorsim_world::scan::stats::Quantiles;
use clap::{Args, Subcommand, ValueEnum};

use super::{Exit, say, start, warn};
use crate::report::Verdict;
use crate::scan_bench::report::{BenchReport, Medians, ScanPart};
use crate::scan_bench::{self, BenchConfig, BenchError, PAIRS_MAX, TASKS_MAX};
use crate::sim::Stop;

/// Shown below the flags.
const AFTER_HELP: &str = "\
Examples:
  actorsim scan bench --period 1ms --cycles 10000 --load cpu-stress --svg jitter.svg
  actorsim scan bench --load cpu-stress,cyclictest --pairs 10 --report r.json

Exit codes: 0 every cycle was measured, 1 one was not or a system failed, 2 usage.";

/// Shortest period: below it a cycle is all overhead.
const PERIOD_MIN: Duration = Duration::from_micros(50);

/// Longest period.
const PERIOD_MAX: Duration = Duration::from_secs(10);

/// Rows of a world: as many as a twin's may have.
const ENTITIES_MAX: i64 = 16_777_216;

/// Cycles of a run: eleven days at 1 kHz.
const CYCLES_MAX: u64 = 1_000_000_000;

/// What `scan` does.
#[derive(Debug, Subcommand)]
pub enum ScanCommand {
    /// Run the scan by itself and report its jitter, lateness and length
    #[command(after_help = AFTER_HELP)]
    Bench(BenchArgs),
}

/// What the machine does beside the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Load {
    /// Nothing.
    Idle,
    /// Every core is busy: stress-ng where it is installed, else threads of our own.
    CpuStress,
    /// Runs alternate with those of rt-tests' cyclictest at equal priority.
    Cyclictest,
}

/// Flags of `scan bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Time between cycles
    #[arg(long, value_name = "D", default_value = "1ms", value_parser = period)]
    period: Duration,
    /// Cycles of a run
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=CYCLES_MAX))]
    cycles: u64,
    /// Rows of the world
    #[arg(long, value_name = "N", default_value_t = 7_000,
          value_parser = clap::value_parser!(u32).range(1..=ENTITIES_MAX))]
    entities: u32,
    /// Scans side by side, each with a thread and a world, over the cores from the highest down
    #[arg(long, value_name = "K", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(TASKS_MAX)))]
    tasks: u32,
    /// What the machine does beside it: idle, cpu-stress, cyclictest; several with commas
    #[arg(
        long,
        value_name = "LOAD",
        default_value = "idle",
        value_delimiter = ','
    )]
    load: Vec<Load>,
    /// Pairs of runs, ours then cyclictest's, with --load cyclictest
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(PAIRS_MAX)))]
    pairs: u32,
    /// Write a line of JSON per cycle and task to this file
    #[arg(long, value_name = "FILE")]
    ndjson: Option<PathBuf>,
    /// Write the report to this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write the distribution of the jitter to this file, as a picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn period(text: &str) -> Result<Duration, String> {
    let period = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if !(PERIOD_MIN..=PERIOD_MAX).contains(&period) {
        return Err("use 50us to 10s".to_owned());
    }
    Ok(period)
}

/// Runs the command.
pub fn run(command: &ScanCommand) -> Exit {
    let ScanCommand::Bench(args) = command;
    match bench(args) {
        Ok(exit) => exit,
        Err((exit, text)) => {
            warn(&format!("error: {text}"));
            exit
        }
    }
}

fn bench(args: &BenchArgs) -> Result<Exit, (Exit, String)> {
    for path in [&args.report, &args.svg].into_iter().flatten() {
        start::report_place(path).map_err(|error| (Exit::Usage, error))?;
    }
    let mut lines: Box<dyn Write> = match &args.ndjson {
        Some(path) => {
            let shown = path.display();
            let file = File::create(path);
            let file = file.map_err(|error| (Exit::Usage, format!("{shown}: {error}")))?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(io::sink()),
    };
    let config = BenchConfig {
        period: args.period,
        cycles: args.cycles,
        entities: args.entities,
        tasks: args.tasks,
        cpu_stress: args.load.contains(&Load::CpuStress),
        pairs: args.load.contains(&Load::Cyclictest).then_some(args.pairs),
    };
    let stop = Stop::default();
    start::ask_on_signal(&stop);
    let found = scan_bench::run(&config, &mut lines, &stop).map_err(|error| {
        let exit = match error {
            BenchError::NoCyclictest => Exit::Usage,
            _ => Exit::Failed,
        };
        (exit, error.to_string())
    })?;
    if let Some(path) = &args.report {
        let written = found.report.write(path);
        written.map_err(|error| (Exit::Failed, format!("{}: {error}", path.display())))?;
    }
    if let Some(path) = &args.svg {
        let written = std::fs::write(path, &found.svg);
        written.map_err(|error| (Exit::Failed, format!("{}: {error}", path.display())))?;
    }
    for line in &found.report.why {
        warn(line);
    }
    let said = say(&summary(&found.report));
    Ok(match found.report.verdict {
        Verdict::Pass => said,
        Verdict::Fail => Exit::Failed,
    })
}

/// What people read.
fn summary(report: &BenchReport) -> String {
    let mut text = format!(
        "{}, {} cores, {}\n",
        report.kernel,
        report.cores,
        report.load.as_deref().unwrap_or("idle")
    );
    part(&mut text, "scan", &report.scan);
    for (name, other) in &report.others {
        part(&mut text, name, other);
    }
    if let Some(pairs) = &report.cyclictest {
        let pairs_run = pairs.pairs.len();
        text += &format!("lateness beside cyclictest, medians of {pairs_run} pairs\n");
        let rows = [
            ("scan", pairs.ours_us, "us"),
            ("cyclictest", pairs.cyclictest_us, "us"),
            ("ratio", pairs.ratio, ""),
        ];
        for (name, row, unit) in rows {
            text += &medians(name, row, unit);
        }
    }
    text
}

fn medians(name: &str, row: Option<Medians>, unit: &str) -> String {
    let Some(Medians { p50, p99, p999 }) = row else {
        return format!("  {name:<12} not measured\n");
    };
    format!("  {name:<12} p50 {p50:.2}  p99 {p99:.2}  p99.9 {p999:.2} {unit}\n")
}

fn part(text: &mut String, name: &str, part: &ScanPart) {
    *text += &format!(
        "{name}: {} cycles of {} us, {} overruns, {} slots skipped, {} records lapped\n",
        part.cycles, part.period_us, part.overruns, part.skipped, part.records_lapped
    );
    if let Some(host) = &part.host {
        *text += &format!("  asked for  {}\n  got        {}\n", host.asked, host.got);
        for why in &host.why {
            *text += &format!("  not granted: {why}\n");
        }
    }
    let rows = [
        ("jitter", part.jitter_us),
        ("lateness", part.lateness_us),
        ("took", part.took_us),
    ];
    for (name, row) in rows {
        *text += &times(name, row);
    }
    match (&part.host_gaps, &part.no_witness) {
        (Some(gaps), _) => {
            *text += &format!(
                "  gaps made by the host: {}, in {} cycles; without them\n",
                gaps.gaps, gaps.cycles_touched
            );
            for (name, row) in [("jitter", gaps.jitter_us), ("lateness", gaps.lateness_us)] {
                *text += &times(name, row);
            }
        }
        (None, Some(why)) => *text += &format!("  gaps made by the host: unknown, {why}\n"),
        (None, None) => {}
    }
}

fn times(name: &str, row: Option<Quantiles>) -> String {
    let Some(q) = row else {
        return format!("  {name:<12} not measured\n");
    };
    format!(
        "  {name:<12} p50 {:.2}  p95 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} us\n",
        q.p50, q.p95, q.p99, q.p999, q.max
    )
}
