//! How well the scan keeps its grid on this host: the harness behind `actorsim scan bench`.
//!
//! In reading order: `load` (what else the machine does), `sieve` and `witness` (gaps made by the
//! host), `cyclictest` (the kernel's own), `ndjson`, `report` and `svg` (what is told). The cycles
//! are those of a twin's own scan thread, and every time is from the records it writes anyway; they
//! are read, written and folded outside it.
//!
//! Bound: [`TASKS_MAX`] scans, [`PAIRS_MAX`] pairs; nothing is kept per cycle but what waits for
//! its witness, and cyclictest's samples of one run.

pub mod cyclictest;
mod load;
mod ndjson;
pub mod report;
pub mod sieve;
mod svg;
pub mod witness;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use actorsim_actors::shard::ShardCores;
use actorsim_world::scan::ScanConfig;
use actorsim_world::scan::bare::{BareScan, BareScanError};
use actorsim_world::scan::clock::{now_ns, sleep_until_ns};
use actorsim_world::scan::rt::HostReport;
use actorsim_world::scan::stats::{CycleRecord, CycleTimes, Times};
use actorsim_world::systems::SystemId;

use crate::report::Verdict;
use crate::sim::Stop;
use report::{BenchReport, HostGaps, Pair, Pairs, ScanPart, SystemPart};
use sieve::{Gap, Sieve, without_gaps};
use witness::Witness;

/// Scans side by side: each has a thread and a world.
pub const TASKS_MAX: u32 = 64;

/// Pairs with cyclictest.
pub const PAIRS_MAX: u32 = 1_000;

/// The reader looks this often at least; a ring of records is far from full by then.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Version of the report's form.
const REPORT_VERSION: u32 = 1;

/// What is measured.
#[derive(Clone, Debug)]
pub struct BenchConfig {
    /// Period of the grid.
    pub period: Duration,
    /// Cycles of each run.
    pub cycles: u64,
    /// Rows of each world.
    pub entities: u32,
    /// Scans side by side.
    pub tasks: u32,
    /// Every core is busy.
    pub cpu_stress: bool,
    /// Pairs of runs with cyclictest, if any.
    pub pairs: Option<u32>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Cyclictest was asked for and is not there.
    #[error("{}", cyclictest::MISSING)]
    NoCyclictest,
    /// It is there and did not run.
    #[error("{0}")]
    Cyclictest(String),
    /// A scan did not start.
    #[error(transparent)]
    Scan(#[from] BareScanError),
    /// The load did not start.
    #[error("the load cannot be started: {0}")]
    Load(io::Error),
    /// A file cannot be written.
    #[error("the cycles cannot be written: {0}")]
    Ndjson(#[from] io::Error),
}

/// A report and the picture of its jitter.
#[derive(Debug)]
pub struct Found {
    /// The report.
    pub report: BenchReport,
    /// The distribution of jitter of all cycles.
    pub svg: String,
}

/// Runs the bench; `lines` gets a line per cycle and task. `stop` ends it early.
pub fn run(config: &BenchConfig, lines: &mut dyn Write, stop: &Stop) -> Result<Found, BenchError> {
    let began_ns = now_ns();
    let program = cyclictest::program();
    if config.pairs.is_some() && program.is_none() {
        return Err(BenchError::NoCyclictest);
    }
    let mut cores = ShardCores::allowed();
    cores.reverse(); // the highest first
    let runs = config.pairs.unwrap_or(1);
    let length = config.period * u32::try_from(config.cycles).unwrap_or(u32::MAX) * runs * 2;
    let stress = config
        .cpu_stress
        .then(|| load::Stress::start(cores.len(), length))
        .transpose()
        .map_err(BenchError::Load)?;
    let mut bench = Bench {
        config,
        tasks: (0..config.tasks)
            .map(|at| Task::new(at, at == 0 && config.pairs.is_some()))
            .collect(),
        why: Vec::new(),
    };
    let mut pairs = Vec::new();
    for at in 0..runs {
        if stop.is_asked() {
            break;
        }
        let ours = bench.ours(&cores, u64::from(at) * config.cycles, lines, stop)?;
        if let (Some(program), Some(_), false) = (&program, config.pairs, stop.is_asked()) {
            let theirs = bench.theirs(program)?;
            pairs.push(Pair {
                ours_us: ours.quantiles(),
                cyclictest_us: theirs.quantiles(),
            });
        }
    }
    lines.flush()?;
    if stop.is_asked() {
        bench.why.push("it was stopped before its end".to_owned());
    }
    let load = stress.map(|(_, with)| with);
    let elapsed_s = now_ns().saturating_sub(began_ns) as f64 / 1e9;
    let pairs = config.pairs.map(|_| Pairs::of(pairs));
    Ok(bench.conclude(cores.len(), load, elapsed_s, pairs))
}

/// One scan over all its runs.
struct Task {
    name: String,
    host: Option<HostReport>,
    times: CycleTimes,
    /// Of the present run, if there are pairs.
    pair_lateness: Option<Vec<u64>>,
    pair_gaps: u64,
    sieve: Sieve,
    gaps: u64,
    longest_ns: Option<u64>,
    missed: u64,
    no_witness: Option<String>,
    cycles: u64,
    overruns: u64,
    skipped: u64,
    faulted: u64,
    lapped: u64,
}

impl Task {
    fn new(at: u32, paired: bool) -> Self {
        let name = match at {
            0 => "scan".to_owned(),
            at => format!("scan-{}", at + 1),
        };
        Self {
            name,
            host: None,
            times: CycleTimes::default(),
            pair_lateness: paired.then(Vec::new),
            pair_gaps: 0,
            sieve: Sieve::default(),
            gaps: 0,
            longest_ns: None,
            missed: 0,
            no_witness: None,
            cycles: 0,
            overruns: 0,
            skipped: 0,
            faulted: 0,
            lapped: 0,
        }
    }

    fn take(&mut self, record: &CycleRecord) {
        self.times.fold(record);
        if let Some(lateness) = &mut self.pair_lateness {
            lateness.push(record.late_ns);
        }
        self.sieve.offer(*record);
        self.cycles += 1;
        self.overruns += u64::from(record.took_ns > record.period_ns);
        self.skipped += record.skipped;
        self.faulted += u64::from(record.faulted);
    }

    /// Takes in what the witness saw, and returns when it was last awake.
    fn look(&mut self, witness: &Witness) -> u64 {
        let awake_ns = witness.read(|gap: Gap| {
            self.gaps += 1;
            self.pair_gaps += 1;
            self.longest_ns = self.longest_ns.max(Some(gap.to_ns - gap.from_ns));
            self.sieve.gap(gap);
        });
        self.sieve.settle(awake_ns);
        awake_ns
    }

    fn part(&self, period: Duration) -> ScanPart {
        let witnessed = self.host.is_some() && self.no_witness.is_none();
        let systems = SystemId::ALL.into_iter().map(|system| {
            let took_us = self.times.system(system).quantiles();
            (system.name(), SystemPart { took_us })
        });
        ScanPart {
            host: self.host.clone(),
            period_us: period.as_nanos() as f64 / 1_000.0,
            cycles: self.cycles,
            overruns: self.overruns,
            skipped: self.skipped,
            faulted: self.faulted,
            records_lapped: self.lapped,
            jitter_us: self.times.jitter.quantiles(),
            lateness_us: self.times.lateness.quantiles(),
            took_us: self.times.took.quantiles(),
            allocations_per_cycle: self.times.allocations_per_cycle(),
            systems: systems.collect(),
            host_gaps: witnessed.then(|| HostGaps {
                gaps: self.gaps,
                longest_us: self.longest_ns.map(|ns| ns as f64 / 1_000.0),
                missed: self.missed,
                cycles_touched: self.sieve.touched,
                jitter_us: self.sieve.jitter.quantiles(),
                lateness_us: self.sieve.lateness.quantiles(),
                took_us: self.sieve.took.quantiles(),
            }),
            no_witness: self.no_witness.clone(),
        }
    }
}

struct Bench<'a> {
    config: &'a BenchConfig,
    tasks: Vec<Task>,
    why: Vec<String>,
}

/// The scans of one run, each with its task and its witness.
struct Running {
    scan: BareScan,
    witness: Option<Witness>,
    /// Cycles of this run whose records came.
    came: u64,
}

impl Bench<'_> {
    /// One run of ours: lateness of the first task, if it is one of a pair, without gaps of the
    /// host by the same rule as cyclictest's.
    fn ours(
        &mut self,
        cores: &[usize],
        first: u64,
        lines: &mut dyn Write,
        stop: &Stop,
    ) -> Result<Times, BenchError> {
        let mut running = self.start(cores)?;
        loop {
            running[0].scan.wait(LOOK_EVERY);
            self.look(&mut running, first, lines)?;
            let cycles = self.config.cycles;
            let done = |one: &Running| one.scan.is_over() || one.scan.cycles() >= cycles;
            if running.iter().all(done) || stop.is_asked() {
                break;
            }
        }
        for one in &mut running {
            one.scan.stop();
        }
        self.look(&mut running, first, lines)?;
        for (task, one) in self.tasks.iter_mut().zip(&running) {
            let asked = self.config.cycles.min(one.scan.cycles());
            task.lapped += asked - one.came;
            if asked < self.config.cycles && !stop.is_asked() {
                let name = &task.name;
                self.why
                    .push(format!("{name} ended by itself after {asked} cycles"));
            }
            if let Some(witness) = &one.witness {
                // one more wake and every gap of the run is known
                let end_ns = now_ns();
                while task.look(witness) < end_ns {
                    sleep_until_ns(now_ns() + LOOK_EVERY.as_nanos() as u64);
                }
                task.missed += witness.missed();
                task.pair_gaps += witness.missed();
            }
        }
        let task = &mut self.tasks[0];
        let lateness = task.pair_lateness.as_mut().map(std::mem::take);
        let gaps = std::mem::take(&mut task.pair_gaps);
        Ok(without_gaps(lateness.unwrap_or_default(), gaps))
    }

    fn start(&mut self, cores: &[usize]) -> Result<Vec<Running>, BenchError> {
        let period = self.config.period;
        let mut running = Vec::new();
        for (at, task) in self.tasks.iter_mut().enumerate() {
            let config = ScanConfig {
                period,
                core: (!cores.is_empty()).then(|| cores[at % cores.len()]),
                ..ScanConfig::default()
            };
            let scan = BareScan::start(config, self.config.entities)?;
            task.host = Some(scan.host().clone());
            task.sieve.begin();
            let witness = match Witness::start(scan.host(), period) {
                Ok(witness) => Some(witness),
                Err(why) => {
                    task.no_witness = Some(why);
                    None
                }
            };
            running.push(Running {
                scan,
                witness,
                came: 0,
            });
        }
        Ok(running)
    }

    /// Takes in what waits: records, gaps and faults.
    fn look(
        &mut self,
        running: &mut [Running],
        first: u64,
        lines: &mut dyn Write,
    ) -> io::Result<()> {
        let cycles = self.config.cycles;
        for (task, one) in self.tasks.iter_mut().zip(running) {
            let mut written = Ok(());
            one.scan.drain(|record| {
                if record.cycle < cycles {
                    one.came += 1;
                    task.take(record);
                    if written.is_ok() {
                        written = ndjson::write(lines, &task.name, first, record);
                    }
                }
            });
            written?;
            if let Some(witness) = &one.witness {
                task.look(witness);
            }
            while let Some(fault) = one.scan.fault() {
                self.why.push(format!("{}: {fault}", task.name));
            }
        }
        Ok(())
    }

    /// One run of cyclictest, placed like the first task.
    fn theirs(&mut self, program: &Path) -> Result<Times, BenchError> {
        let period = self.config.period;
        let host = self.tasks[0].host.clone().unwrap_or_default();
        let witness = Witness::start(&host, period).ok();
        let samples = cyclictest::run(program, &host, period, self.config.cycles)
            .map_err(BenchError::Cyclictest)?;
        let mut gaps = 0;
        if let Some(witness) = &witness {
            witness.read(|_| gaps += 1);
            gaps += witness.missed();
        }
        Ok(without_gaps(samples, gaps))
    }

    fn conclude(
        mut self,
        cores: usize,
        load: Option<String>,
        elapsed_s: f64,
        cyclictest: Option<Pairs>,
    ) -> Found {
        for task in &self.tasks {
            if task.lapped > 0 {
                let (name, lapped) = (&task.name, task.lapped);
                self.why.push(format!("{name}: {lapped} records lapped"));
            }
        }
        let verdict = match self.why.is_empty() {
            true => Verdict::Pass,
            false => Verdict::Fail,
        };
        let period = self.config.period;
        let title = format!(
            "Scan jitter: {} cycles of {}, {} entities, {}",
            self.tasks[0].cycles,
            humantime::format_duration(period),
            self.config.entities,
            load.as_deref().unwrap_or("idle"),
        );
        let uname = rustix::system::uname();
        let kernel = [uname.sysname(), uname.release(), uname.version()]
            .map(|part| part.to_string_lossy())
            .join(" ");
        let others = self.tasks[1..].iter();
        let report = BenchReport {
            v: REPORT_VERSION,
            version: crate::cli::VERSION,
            preempt_rt: kernel.contains("PREEMPT_RT"),
            kernel,
            cores,
            elapsed_s,
            verdict,
            why: self.why,
            entities: self.config.entities,
            tasks: self.tasks.len(),
            load,
            scan: self.tasks[0].part(period),
            others: others
                .map(|task| (task.name.clone(), task.part(period)))
                .collect(),
            cyclictest,
        };
        let svg = svg::plot(&title, &self.tasks[0].times.jitter);
        Found { report, svg }
    }
}
