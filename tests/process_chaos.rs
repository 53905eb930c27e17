//! Real processes under SIGKILL and SIGSTOP: a fleet against a twin, each killed and frozen as the
//! plan `config/chaos/processes.toml` draws it.
//!
//! What one process suffers, the other reports and outlives; whoever comes back takes its place in
//! the same state directory, at the same port. Bound: [`PATIENCE`] for each recovery.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

#[path = "process_kit/kit.rs"]
mod kit;

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use actorsim_actors::{ActorPath, Time};
use actorsim_supervision::chaos::{
    Action, Census, Fault, Kind, Place, Plan, Roster, Schedule, Strike, Vitals,
};
use kit::actorsim;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Above every backoff and idle time between the two, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is done to them.
const PLAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/chaos/processes.toml");
/// By then each has been killed and frozen.
const STRIKES_MAX: u64 = 16;
/// Actors of the twin, and of the fleet, that must live through what befalls the other process.
const TWIN_KEEPS: [&str; 4] = [
    "/twin/scan",
    "/twin/route",
    "/transport/listener",
    "/transport/tier-t1",
];
const FLEET_KEEPS: [&str; 2] = ["/fleet", "/fleet/links"];
/// Polls without a new reading after which the other side counts as silent.
const SILENT: u32 = 5;

/// One process; killed when the test ends, however it ends.
struct Process {
    child: Child,
    state: PathBuf,
    report: PathBuf,
    args: Vec<String>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(dir: &Path, name: &str, args: &[&str]) -> Self {
        let (state, report) = (dir.join(name), dir.join(format!("{name}.json")));
        let mut all = vec!["start", "--node", name, "-X", "metrics.listen=127.0.0.1:0"];
        let (at, to) = (state.display().to_string(), report.display().to_string());
        all.extend(["--state-dir", &at, "--report", &to]);
        all.extend(args);
        let args: Vec<String> = all.into_iter().map(str::to_owned).collect();
        Self {
            child: Self::spawn(&args),
            state,
            report,
            args,
        }
    }

    fn spawn(args: &[String]) -> Child {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = actorsim(&args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// A new process in the place of one that was killed.
    fn start_again(&mut self) {
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.args);
    }

    fn attach(&self, line: &str) -> Output {
        let mut command = actorsim(&["attach", "-o", "json", "--state-dir"]);
        command
            .arg(&self.state)
            .args(["-c", line])
            .output()
            .unwrap()
    }

    /// The answer to a command, if there is one that says all is well.
    fn ask(&self, line: &str) -> Option<Value> {
        let output = self.attach(line);
        let answer = output.status.success().then_some(output.stdout)?;
        serde_json::from_slice(&answer).ok()
    }

    /// Asks until the answer is as wanted. Each turn is a process of its own: it paces itself.
    fn until<T>(&mut self, what: &str, wanted: impl Fn(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = wanted(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "the process ended before {what}: {ended:?}"
            );
            assert!(began.elapsed() < PATIENCE, "still waiting for {what}");
        }
    }

    fn well(&mut self) {
        self.until("health", |process| process.ask("health"));
    }

    fn applied(&self) -> Option<u64> {
        self.ask("health")?["readings_applied"].as_u64()
    }

    /// Readings arrive: more than there are now.
    fn receives(&mut self, what: &str) {
        let before = self.until(what, Self::applied);
        self.until(what, |twin| twin.applied().filter(|now| *now > before + 50));
    }

    /// Nothing arrives any more.
    fn falls_silent(&mut self) {
        let began = Instant::now();
        let (mut last, mut same) = (None, 0);
        while same < SILENT {
            // a twin that does not answer says nothing about what it hears
            if let Some(now) = self.applied() {
                same = if last == Some(now) { same + 1 } else { 0 };
                last = Some(now);
            }
            assert!(began.elapsed() < PATIENCE, "it hears from a frozen process");
        }
    }

    fn incarnation(&self, path: &str) -> u64 {
        let answer = self.ask(&format!("info {path}")).unwrap();
        answer["incarnation"]
            .as_u64()
            .unwrap_or_else(|| panic!("{answer}"))
    }

    fn lives(&self, paths: &[&'static str]) -> Lives {
        let lives = paths.iter().map(|path| (*path, self.incarnation(path)));
        lives.collect()
    }

    /// Stops it in order; exit code and report.
    fn stop(mut self) -> (Option<i32>, Value) {
        self.signal(Signal::TERM);
        let code = self.child.wait().unwrap().code();
        (
            code,
            serde_json::from_slice(&std::fs::read(&self.report).unwrap()).unwrap(),
        )
    }
}

/// A twin and a fleet that know each other's site.
fn pair(dir: &Path) -> (Process, Process) {
    let path = |name: &str| dir.join(name).display().to_string();
    let site = path("site");
    for name in ["twin", "fleet"] {
        let identity = path(&format!("id-{name}"));
        let args = ["certs", "issue", name, "--site", &site, "--out", &identity];
        assert!(actorsim(&args).output().unwrap().status.success());
    }
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap().to_string();
    drop(free);
    let id = path("id-twin");
    let args = ["--no-fleet", "--identity", &id, "--listen", &listen];
    let mut twin = Process::start(dir, "twin", &args);
    twin.well();
    let id = path("id-fleet");
    let to = [
        "--no-world",
        "--identity",
        &id,
        "--twin",
        &listen,
        "--server-name",
        "twin",
    ];
    let fleet = [&to[..], &["--devices", "50", "--interval", "100ms"]].concat();
    (twin, Process::start(dir, "fleet", &fleet))
}

/// The processes, each a kind of its own.
#[derive(Default)]
struct Nodes(Roster);

impl Nodes {
    fn all_struck(&self, schedule: &Schedule) -> bool {
        let kinds = self.0.kinds();
        kinds.iter().all(|kind| {
            let by = |fault| schedule.counts().by(kind.name, fault) > 0;
            by(Fault::NodeCrash) && by(Fault::NodePause)
        })
    }
}

impl Census for Nodes {
    fn kinds(&self) -> Vec<Kind<'_>> {
        self.0.kinds()
    }
    fn path(&self, kind: usize, index: u64) -> ActorPath {
        self.0.path(kind, index)
    }
    fn is_down(&self, _: &ActorPath) -> bool {
        false
    }
    fn takes(&self, _: usize, fault: Fault) -> bool {
        fault.hits_node()
    }
}

/// Lives of the actors of one process, by path.
type Lives = Vec<(&'static str, u64)>;

/// Strikes; returns who must live through it, with their incarnations before.
fn begin(strike: &Strike, twin: &mut Process, fleet: &mut Process) -> Lives {
    println!("{strike}");
    let (struck, other, kept) = match strike.kind.as_str() {
        "fleet" => (&mut *fleet, &*twin, &TWIN_KEEPS[..]),
        _ => (&mut *twin, &*fleet, &FLEET_KEEPS[..]),
    };
    let before = other.lives(kept);
    match strike.plan.fault {
        Fault::NodeCrash => struck.child.kill().unwrap(),
        _ => struck.signal(Signal::STOP),
    }
    match (strike.plan.fault, strike.kind.as_str()) {
        (Fault::NodeCrash, _) => {}
        (_, "fleet") => twin.falls_silent(),
        _ => {
            let answer = fleet.ask("ps --limit 1");
            let told = "a frozen twin does not stop the fleet's control";
            assert!(answer.is_some(), "{told}");
        }
    }
    before
}

/// Ends a strike; whoever was outside of its blast has lived through it once all is well again.
fn end(strike: &Strike, before: &Lives, twin: &mut Process, fleet: &mut Process) {
    let struck = match strike.kind.as_str() {
        "fleet" => &mut *fleet,
        _ => &mut *twin,
    };
    match strike.plan.fault {
        Fault::NodeCrash => struck.start_again(),
        _ => struck.signal(Signal::CONT),
    }
    twin.receives(&format!("readings after {strike}"));
    let other = match strike.kind.as_str() {
        "fleet" => twin,
        _ => fleet,
    };
    let paths: Vec<_> = before.iter().map(|(path, _)| *path).collect();
    assert_eq!(
        *before,
        other.lives(&paths),
        "outside of the blast: {strike}"
    );
}

#[test]
fn a_process_that_is_killed_or_frozen_costs_the_other_nothing_and_takes_its_place_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut twin, mut fleet) = pair(dir.path());
    twin.receives("the first readings");

    let plan = Plan::open(Path::new(PLAN), Place::Test).unwrap();
    let mut nodes = Nodes::default();
    for name in ["fleet", "twin"] {
        nodes.0.add(name, ActorPath::root().join(name));
    }
    let mut schedule = Schedule::new(&plan, plan.seed, Time::ZERO);
    assert_eq!(plan.max_concurrent, 1, "a strike ends before the next");
    let mut before = Lives::new();
    while !nodes.all_struck(&schedule) {
        // The plan's time is its own: a recovery takes as long as it takes.
        let at = schedule.next_at().unwrap();
        for action in schedule.step(at, &nodes, &Vitals::default()).actions {
            match action {
                Action::Begin(strike) => before = begin(&strike, &mut twin, &mut fleet),
                Action::End(strike) => end(&strike, &before, &mut twin, &mut fleet),
            }
        }
        assert!(
            schedule.counts().total() < STRIKES_MAX,
            "a node is never struck"
        );
    }
    for action in schedule.stop() {
        if let Action::End(strike) = action {
            end(&strike, &before, &mut twin, &mut fleet);
        }
    }
    fleet.well();
    for (process, kept) in [(&fleet, &FLEET_KEEPS[..]), (&twin, &TWIN_KEEPS[..])] {
        for (path, life) in process.lives(kept) {
            assert_eq!(life, 1, "{path} lived through all of it");
        }
    }

    let (code, report) = fleet.stop();
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["tiers"]["t2"]["lost"], 0);
    let (code, report) = twin.stop();
    assert_eq!(code, Some(0), "{report:#}");
}
