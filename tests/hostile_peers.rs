//! Hostile peers against a node in a process of its own: whatever they send, or do not, they cost
//! themselves and nobody else.
//!
//! A fleet in another process keeps its one connection meanwhile, and its readings and events go
//! on; no actor of the twin dies, it keeps its memory, and ends with a pass. Bound: [`PATIENCE`]
//! for each thing that is waited for.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

#[path = "hostile_peers/acts.rs"]
mod acts;
#[path = "hostile_peers/attacker.rs"]
mod attacker;

#[path = "process_kit/kit.rs"]
mod kit;

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use attacker::Attacker;
use kit::actorsim;

/// Above every time-out of the twin, on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Actors of the twin that must live through all of it.
const KEPT: [&str; 9] = [
    "/transport/listener",
    "/transport/tier-t1",
    "/transport/tier-t2",
    "/transport/tier-t3",
    "/twin/journal",
    "/twin/route",
    "/twin/apply",
    "/twin/actuate",
    "/twin/scan",
];
/// What the twin may hold more than before, when its guests have gone: buffers of its pools, and
/// what an allocator keeps.
const MORE_MEMORY: u64 = 96 << 20;
/// Readings of the honest fleet that must have come after the attack.
const READINGS: u64 = 200;

/// A node in a process of its own; killed when the test ends, however it ends.
struct Node {
    child: Child,
    state: PathBuf,
    report: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn start(dir: &Path, name: &str, args: &[&str]) -> Self {
        let (state, report) = (dir.join(name), dir.join(format!("{name}.json")));
        let identity = dir.join(format!("id-{name}"));
        let site = dir.join("site");
        let mut issue = actorsim(&["certs", "issue", name, "--site"]);
        issue.arg(&site).arg("--out").arg(&identity);
        assert!(issue.output().unwrap().status.success());
        let mut command = actorsim(&["start", "--node", name, "-X", "metrics.listen=127.0.0.1:0"]);
        command.arg("--identity").arg(identity);
        command.arg("--state-dir").arg(&state);
        command.arg("--report").arg(&report).args(args);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self {
            child: child.spawn().unwrap(),
            state,
            report,
        }
    }

    /// The answer to a command, if there is one that says all is well.
    fn ask(&self, line: &str) -> Option<Value> {
        let mut command = actorsim(&["attach", "-o", "json", "--state-dir"]);
        let output = command.arg(&self.state).args(["-c", line]).output();
        let output = output.unwrap();
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
            assert!(ended.is_none(), "it ended before {what}: {ended:?}");
            assert!(began.elapsed() < PATIENCE, "still waiting for {what}");
        }
    }

    fn health(&self, figure: &str) -> Option<u64> {
        self.ask("health")?[figure].as_u64()
    }

    /// Readings arrive: so many more than there are now.
    fn receives(&mut self, what: &str) {
        let applied = |node: &Self| node.health("readings_applied");
        let before = self.until(what, applied);
        self.until(what, |node| {
            applied(node).filter(|now| *now > before + READINGS)
        });
    }

    fn incarnations(&self) -> Vec<u64> {
        let info = KEPT.iter().map(|path| self.ask(&format!("info {path}")));
        let of = |answer: Option<Value>| answer.and_then(|a| a["incarnation"].as_u64());
        info.map(|answer| of(answer).unwrap()).collect()
    }

    /// The paths of its connections.
    fn connections(&self) -> Option<Vec<String>> {
        let answer = self.ask("ps /transport/conn/*")?;
        let rows = answer["rows"].as_array()?;
        let path = |row: &Value| row["path"].as_str().map(str::to_owned);
        rows.iter().map(path).collect()
    }

    /// Stops it in order; exit code and report.
    fn stop(mut self) -> (Option<i32>, Value) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let code = self.child.wait().unwrap().code();
        let report = std::fs::read(&self.report).unwrap();
        (code, serde_json::from_slice(&report).unwrap())
    }
}

#[test]
fn hostile_peers_cost_themselves_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let at = listen.to_string();
    let commands = ["-X", "t3.synthetic_rate=200"];
    let twin = ["--no-fleet", "--listen", &at];
    let mut twin = Node::start(dir.path(), "twin", &[&twin[..], &commands].concat());
    twin.until("health", |twin| twin.ask("health"));
    let to = ["--no-world", "--twin", &at, "--server-name", "twin"];
    let what = ["--devices", "50", "--interval", "100ms", "--t2-rate", "1"];
    let fleet = Node::start(dir.path(), "fleet", &[&to[..], &what].concat());
    twin.receives("the first readings");
    let before = (twin.incarnations(), twin.health("rss_bytes").unwrap());
    let honest = twin.connections().unwrap();
    assert!(!honest.is_empty());

    let attacker = Attacker::new(dir.path(), listen);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(acts::all(&attacker));
    twin.receives("readings after the attack");

    let still = |twin: &Node| twin.connections().filter(|now| *now == honest);
    twin.until("the guests to be gone", still);
    assert_eq!(twin.incarnations(), before.0, "{KEPT:?}");
    let rss = twin.health("rss_bytes").unwrap();
    assert!(rss < before.1 + MORE_MEMORY, "{} -> {rss} bytes", before.1);

    let (code, report) = fleet.stop();
    assert_eq!(code, Some(0), "{report:#}");
    let t2 = &report["tiers"]["t2"];
    assert!(t2["acked"].as_u64() > Some(0), "{t2}");
    assert_eq!(t2["lost"], 0);
    let (code, report) = twin.stop();
    assert_eq!(code, Some(0), "{report:#}");
    told(&report);
}

/// The twin counted what was done to it.
fn told(report: &Value) {
    let t1 = &report["tiers"]["t1"];
    for figure in ["decode_errors", "dropped_after_receipt"] {
        assert!(t1[figure].as_u64() > Some(0), "{figure}: {t1}");
    }
    let t3 = &report["tiers"]["t3"];
    assert!(t3["errors"].as_u64() > Some(0), "answers to nothing: {t3}");
    let quic = &report["quic"];
    for figure in [
        "handshakes_timed_out",
        "closed_here",
        "resets_received",
        "registrations_refused",
    ] {
        assert!(quic[figure].as_u64() > Some(0), "{figure}: {quic}");
    }
    // Refused at once, or in the place of one that had stalled by then: as fast as they came.
    let beyond_the_share = ["handshakes_crowded", "handshakes_displaced"];
    let beyond_the_share = beyond_the_share.map(|figure| quic[figure].as_u64().unwrap());
    assert!(beyond_the_share.iter().sum::<u64>() > 0, "{quic}");
}
