//! A whole node in this process, as `actorsim start` runs it; what it has to say is its run report.
//!
//! On free ports and in a state directory of its own, which goes with it. Bound: its own `--for`.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use actorsim::config::Layers;
use actorsim::node::StopSource;
use actorsim::report::Verdict;
use actorsim::{Node, NodeConfig};
use actorsim_fleet::broker::PublishCounts;
use actorsim_transport::{DropReason, Line, TransportStats};
use actorsim_world::Twin;
use peer_probe::Job;
use serde_json::Value;

/// Time between two samples of a device.
const INTERVAL: &str = "5s";

/// Runs a node of the job's size and time with further flags; returns the report of a run that
/// passed.
pub(crate) fn report_of(job: &Job, flags: &[&str]) -> Result<Value, String> {
    scratch(|dir| report_in(dir, job, flags))
}

/// Does something in a directory that goes afterwards.
pub(crate) fn scratch<T>(run: impl FnOnce(&Path) -> Result<T, String>) -> Result<T, String> {
    let dir = std::env::temp_dir().join(format!("actorsim-bench-{}", std::process::id()));
    let made = fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()));
    let outcome = made.and_then(|()| run(&dir));
    drop(fs::remove_dir_all(&dir));
    outcome
}

/// As [`report_of`], in a state directory that is there.
pub(crate) fn report_in(scratch: &Path, job: &Job, flags: &[&str]) -> Result<Value, String> {
    let report = scratch.join("report.json");
    let (devices, seconds) = (job.size.to_string(), format!("{}s", job.seconds));
    let common = [
        "actorsim",
        "start",
        "--devices",
        &devices,
        "--for",
        &seconds,
    ];
    let quiet = ["--interval", INTERVAL, "-X", "metrics.listen=127.0.0.1:0"];
    let texts = common.iter().chain(&quiet).chain(&["-X", "log.level=warn"]);
    let mut args: Vec<OsString> = texts.chain(flags).map(OsString::from).collect();
    args.extend(["--state-dir".into(), scratch.into()]);
    args.extend(["--report".into(), report.clone().into()]);
    let exit = actorsim::cli::run(args);
    let text = fs::read_to_string(&report).map_err(|error| format!("no report: {error}"))?;
    let report: Value = serde_json::from_str(&text).map_err(|error| format!("report: {error}"))?;
    if exit == actorsim::cli::Exit::Ok {
        return Ok(report);
    }
    let part = |name| report.get(name).unwrap_or(&Value::Null);
    Err(format!(
        "{exit:?}, why: {}, publish: {}",
        part("why"),
        part("publish")
    ))
}

/// Longest wait for it.
const STARTED_MAX: Duration = Duration::from_secs(120);

/// What became of a node.
struct Ended<T> {
    seen: Result<T, String>,
    /// What fails its verdict.
    failed: Vec<String>,
    /// Readings that the network lost.
    lost: u64,
}

/// A node of this process while it runs, to be looked at in the middle.
pub(crate) struct Running {
    node: Node,
}

impl Running {
    /// Starts a node with `settings` over quiet ones, lets `watch` look at it, and stops it; its
    /// verdict must be a pass.
    pub(crate) fn with<T>(
        settings: &[&str],
        watch: impl AsyncFnOnce(&Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let ended = Self::run(settings, None, watch)?;
        if ended.failed.is_empty() {
            return ended.seen;
        }
        Err(ended.failed.join("; "))
    }

    /// The same over `line`, if not over the machine's own, and under a load that may be more than
    /// it can bear: what fails its verdict is told on standard error, and the numbers stand. With
    /// them come the readings that the network lost from start to end, which is known once the
    /// links have said goodbye.
    pub(crate) fn under_any_load<T>(
        settings: &[&str],
        line: Option<Line>,
        watch: impl AsyncFnOnce(&Self) -> Result<T, String>,
    ) -> Result<(T, u64), String> {
        let ended = Self::run(settings, line, watch)?;
        for why in ended.failed {
            eprintln!("the node's verdict: {why}");
        }
        Ok((ended.seen?, ended.lost))
    }

    fn run<T>(
        settings: &[&str],
        line: Option<Line>,
        watch: impl AsyncFnOnce(&Self) -> Result<T, String>,
    ) -> Result<Ended<T>, String> {
        let scratch = std::env::temp_dir().join(format!("actorsim-bench-{}", std::process::id()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("runtime: {error}"))?;
        let outcome = runtime.block_on(Self::live(&scratch, settings, line, watch));
        drop(fs::remove_dir_all(&scratch));
        outcome
    }

    async fn live<T>(
        scratch: &Path,
        settings: &[&str],
        line: Option<Line>,
        watch: impl AsyncFnOnce(&Self) -> Result<T, String>,
    ) -> Result<Ended<T>, String> {
        let mut layers = Layers::built_in();
        layers.set(&format!("node.state_dir={}", scratch.display()));
        for assignment in QUIET.iter().chain(settings) {
            layers.set(assignment);
        }
        let settings = layers.resolve().map_err(|errors| errors.render(false))?;
        let mut config = NodeConfig::from_settings(&settings);
        config.transport.line = line.or(config.transport.line);
        let node = Node::start(config).await;
        let mut running = Self {
            node: node.map_err(|error| error.to_string())?,
        };
        let seen = watch(&running).await;
        let ending = running.node.wait_or_stop(&mut AtOnce::default()).await;
        let report = running.node.report(&ending);
        let failed = match report.verdict {
            Verdict::Pass => Vec::new(),
            Verdict::Fail => report.why,
        };
        let lost = running.stats().t1.dropped.get(DropReason::Network);
        Ok(Ended { seen, failed, lost })
    }

    /// Waits until all devices have started, and `warm_up` more.
    pub(crate) async fn settled(&self, warm_up: Duration) -> Result<(), String> {
        if let Some(fleet) = self.node.fleet()
            && !fleet.spawned(STARTED_MAX).await
        {
            return Err("the devices did not start in time".to_owned());
        }
        tokio::time::sleep(warm_up).await;
        Ok(())
    }

    /// What its devices have counted that speak one protocol to a broker.
    pub(crate) fn published(&self) -> Option<PublishCounts> {
        let all = self.node.fleet()?.published();
        all.into_iter().next().map(|first| first.counts)
    }

    /// Its twin.
    pub(crate) fn twin(&self) -> Option<&Twin> {
        self.node.twin()
    }

    /// What its tiers count.
    pub(crate) fn stats(&self) -> &TransportStats {
        self.node.transport_stats()
    }
}

/// What every node of a measurement is told.
const QUIET: [&str; 2] = ["transport.listen=127.0.0.1:0", "metrics.enabled=false"];

/// Asks a node to stop now, once.
#[derive(Default)]
struct AtOnce {
    asked: bool,
}

impl StopSource for AtOnce {
    async fn next(&mut self) {
        if std::mem::replace(&mut self.asked, true) {
            std::future::pending::<()>().await;
        }
    }
}
