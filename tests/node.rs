//! Whole nodes, as an operator runs them: started, looked into, killed in parts, stopped, judged.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

#[path = "process_kit/kit.rs"]
mod kit;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Output, Stdio};
use std::time::Duration;

use kit::actorsim;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[path = "node/export.rs"]
mod export;
#[path = "node/lines.rs"]
mod lines;
#[path = "node/shards.rs"]
mod shards;
#[path = "node/supervision.rs"]
mod supervision;

/// A port nobody listens on now, over TCP nor UDP.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = tcp.local_addr().unwrap();
        if UdpSocket::bind(at).is_ok() {
            return at.port();
        }
    }
}

/// A running node.
struct Node {
    child: Child,
    log: BufReader<ChildStderr>,
    state: PathBuf,
    report: PathBuf,
    seen: String,
}

impl Node {
    fn start(dir: &Path, name: &str, args: &[&str]) -> Self {
        let (state, report) = (dir.join(name), dir.join(format!("{name}.json")));
        let mut child = actorsim(&["start", "--json-logs", "--node", name])
            .args(["--state-dir", state.to_str().unwrap()])
            .args(["--report", report.to_str().unwrap()])
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self {
            child,
            log,
            state,
            report,
            seen: String::new(),
        }
    }

    /// Reads the log until a line holds the words.
    fn wait_for(&mut self, words: &str) {
        loop {
            let mut line = String::new();
            let read = self.log.read_line(&mut line).unwrap();
            self.seen.push_str(&line);
            assert!(read > 0, "the node ended before {words}:\n{}", self.seen);
            if line.contains(words) {
                return;
            }
        }
    }

    /// Waits until the node says that it is well: everything is up, the links are connected.
    fn ready(&mut self) {
        self.wait_for("\"scan_started\"");
        self.ready_again();
    }

    /// Waits until what was killed is back.
    fn ready_again(&self) {
        let well = (0..2_000).any(|_| self.attach(&["health"]).status.success());
        assert!(well, "the node did not get well:\n{}", self.seen);
    }

    fn attach(&self, commands: &[&str]) -> Output {
        let mut command = actorsim(&["attach", "-o", "json", "--state-dir"]);
        command.arg(&self.state);
        for line in commands {
            command.args(["-c", line]);
        }
        command.output().unwrap()
    }

    fn ask(&self, line: &str) -> Value {
        let output = self.attach(&[line]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {error}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end; exit code and report.
    fn end(mut self) -> (i32, Value) {
        self.log.read_to_string(&mut self.seen).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let report = std::fs::read(&self.report).unwrap_or_else(|_| {
            panic!("exit code {code}, no report:\n{}", self.seen);
        });
        let report = serde_json::from_slice(&report).unwrap();
        (code, report)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(report: &Value, at: &str) -> u64 {
    report
        .pointer(at)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("{at} in {report:#}"))
}

fn passes(code: i32, report: &Value) {
    assert_eq!(report["verdict"], "pass", "{:#}", report["why"]);
    assert_eq!(code, 0);
}

const SMALL: &[&str] = &[
    "--devices",
    "40",
    "--interval",
    "200ms",
    "--listen",
    "127.0.0.1:0",
    "-X",
    "metrics.enabled=false",
];

#[test]
fn a_node_runs_for_its_time_and_every_equation_of_the_report_holds() {
    let dir = tempfile::tempdir().unwrap();
    let args = [SMALL, &["--for", "4s", "--run-id", "r1", "--seed", "7"]].concat();
    let (code, report) = Node::start(dir.path(), "n1", &args).end();
    passes(code, &report);
    assert_eq!(
        (&report["run_id"], &report["seed"]),
        (&"r1".into(), &7.into())
    );
    assert_eq!(number(&report, "/devices/running"), 40);
    let t1 = |key: &str| number(&report, &format!("/tiers/t1/{key}"));
    assert_eq!(t1("received") + t1("dropped"), t1("sent"));
    assert!(t1("received") >= 40 * 7, "{report:#}");
    assert_eq!(number(&report, "/tiers/t2/lost"), 0);
    assert_eq!(
        number(&report, "/tiers/t2/acked"),
        number(&report, "/tiers/t2/created")
    );
    assert!(number(&report, "/world/readings_applied") > 0);
    assert!(number(&report, "/world/scan/cycles") > 10);
    assert_eq!(number(&report, "/mailboxes/waiting"), 0);
}

#[test]
fn a_scan_that_is_wedged_ends_the_process_and_the_next_one_finds_everything_in_order() {
    let dir = tempfile::tempdir().unwrap();
    // no host builds a world or ends a cycle in no time at all
    let wedged = [SMALL, &["-X", "scan.watchdog=1us"]].concat();
    let mut node = Node::start(dir.path(), "n1", &wedged);
    node.wait_for("the scan is wedged");
    node.log.read_to_string(&mut node.seen).unwrap();
    assert_eq!(node.child.wait().unwrap().code(), Some(1), "{}", node.seen);
    assert!(!node.report.exists(), "{}", node.seen);
    let (code, report) = Node::start(dir.path(), "n1", &[SMALL, &["--for", "2s"]].concat()).end();
    passes(code, &report);
}

#[test]
fn a_second_node_on_the_same_directory_or_port_is_refused_and_the_first_lives() {
    let dir = tempfile::tempdir().unwrap();
    let (quic, metrics) = (free_port(), free_port());
    let listen = format!("127.0.0.1:{quic}");
    let scrape = format!("metrics.listen=127.0.0.1:{metrics}");
    let args = ["--devices", "5", "--listen", &listen, "-X", &scrape];
    let mut first = Node::start(dir.path(), "n1", &args);
    first.ready();
    let second = |args: &[&str]| {
        let output = actorsim(&["start", "--for", "1s", "--state-dir"])
            .args(args)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (state, other) = (
        first.state.display().to_string(),
        dir.path().join("o").display().to_string(),
    );
    let (code, error) = second(&[&state]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("in use by another node (process "),
        "{error}"
    );
    let (code, error) = second(&[&other, "--listen", &listen, "-X", "metrics.enabled=false"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains(&listen), "{error}");
    let (code, error) = second(&[&other, "--listen", "127.0.0.1:0", "-X", &scrape]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("metrics.listen") && error.contains("--port-offset"),
        "{error}"
    );
    assert_eq!(first.ask("health")["healthy"], true);
    first.signal(Signal::INT);
    let (code, report) = first.end();
    passes(code, &report);
}

#[test]
fn whatever_is_killed_comes_back_and_the_node_passes() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), "n1", SMALL);
    node.ready();
    for path in [
        "/fleet/default/industrial-0003",
        "/fleet/links/0",
        "/fleet/links/0-commands",
        "/transport/tier-t1",
        "/transport/tier-t2",
        "/transport/tier-t3",
        "/twin/route",
        "/twin/apply",
        "/twin/actuate",
        "/twin/scan",
        "/transport/listener",
        "/transport/listener-commands",
    ] {
        let before = number(&node.ask(&format!("info {path}")), "/incarnation");
        let killed = node.ask(&format!("kill {path}"));
        let now = number(&killed, "/now_incarnation");
        assert!(now > before, "{path}: {killed}");
        let shown = number(&node.ask(&format!("info {path}")), "/incarnation");
        assert!(shown >= now, "{path}");
    }
    let conn = node.ask("ps /transport/conn/* --state running");
    let conn = conn["rows"][0]["path"]
        .as_str()
        .expect("a connection")
        .to_owned();
    assert_eq!(
        node.ask(&format!("kill {conn}"))["done"],
        "killed",
        "temporary: another comes"
    );
    let own = node.ask("kill /control/attach");
    assert_eq!(own["state"], "this session ends with it");
    // The socket is bound again by the next incarnation.
    let back = (0..1_000).any(|_| {
        let output = node.attach(&["info /control/attach"]);
        String::from_utf8_lossy(&output.stdout).contains("\"incarnation\": 2")
    });
    assert!(back, "the attach server did not come back");
    let events = node.ask("events --limit 1000").to_string();
    assert!(
        events.contains("commanded") && events.contains("kill /twin/scan"),
        "{events}"
    );
    let tree = node.attach(&["tree"]);
    assert!(tree.status.success());
    node.signal(Signal::TERM);
    let (code, report) = node.end();
    passes(code, &report);
    assert!(number(&report, "/supervision/restarts") >= 10, "{report:#}");
}

#[test]
fn devices_join_change_and_leave_a_node_that_began_without_any() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(
        dir.path(),
        "n",
        &[SMALL, &["-X", "fleet.devices=0"][..]].concat(),
    );
    node.ready();
    let spawned = node.ask("spawn industrial 300 site=north --interval 100ms");
    assert_eq!(spawned["population"], "/fleet/industrial");
    let more = node.ask("spawn industrial 200 site=south --interval 100ms --name more");
    assert_eq!(number(&more, "/first"), 300);
    let total = |words: &str| number(&node.ask("fleet"), &format!("/total/{words}"));
    let until = |words: &str, wanted: u64| {
        let reached = (0..1_000).any(|_| total(words) == wanted);
        assert!(reached, "{words} {wanted}: {:#}", node.ask("fleet"));
    };
    until("running", 500);
    let calm = "update site=north temperature.type=static temperature.value=77";
    assert_eq!(number(&node.ask(calm), "/selected"), 300);
    let max = || {
        node.ask("fleet")
            .pointer("/total/world/temperature/max")
            .cloned()
    };
    let hot = (0..1_000).any(|_| max().and_then(|max| max.as_f64()) == Some(77.0));
    assert!(hot, "the twin sees it");
    assert_eq!(number(&node.ask("retire site=south,50%"), "/stopped"), 100);
    assert_eq!(
        number(&node.ask("retire site=north --now"), "/stopped"),
        300
    );
    assert_eq!((total("requested"), total("running")), (100, 100));
    assert!(!node.attach(&["retire site=north"]).status.success());
    node.signal(Signal::INT);
    let (code, report) = node.end();
    passes(code, &report);
    assert_eq!(number(&report, "/devices/requested"), 100);
}

#[test]
fn a_triggered_device_is_commanded_by_the_world() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), "n1", SMALL);
    node.ready();
    let missing = node.attach(&["trigger industrial-9999"]);
    assert_eq!(missing.status.code(), Some(1));
    let devices = ["industrial-0001", "industrial-0002"].map(|id| format!("/fleet/default/{id}"));
    let handled = || {
        let of = |device| number(&node.ask(&format!("info {device}")), "/handled");
        devices.each_ref().map(of)
    };
    let before = handled();
    node.ask("trigger industrial-0001");
    node.ask(&format!("trigger {}", devices[1]));
    // the trigger itself, and at least one command
    let commanded = (0..1_000).any(|_| {
        let now = handled();
        now.iter().zip(before).all(|(now, then)| *now >= then + 2)
    });
    assert!(commanded, "{:?} after {before:?}", handled());
    node.signal(Signal::INT);
    let (code, report) = node.end();
    passes(code, &report);
    let t3 = |key: &str| number(&report, &format!("/tiers/t3/{key}"));
    assert!(t3("issued") >= 2, "{report:#}");
    assert!(t3("acked") >= 2, "{report:#}");
}

#[test]
fn a_second_signal_ends_the_run_at_once_and_the_report_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), "n1", SMALL);
    node.ready();
    node.signal(Signal::INT);
    node.signal(Signal::TERM);
    let (code, report) = node.end();
    assert_eq!(code, 1);
    assert_eq!(report["verdict"], "fail");
    assert!(
        report["why"].to_string().contains("second signal"),
        "{:#}",
        report["why"]
    );
}

fn get(port: u16, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (
        status,
        answer
            .split_once("\r\n\r\n")
            .map(|parts| parts.1.to_owned())
            .unwrap_or_default(),
    )
}

#[test]
fn the_endpoint_shows_only_metrics_of_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let scrape = format!("metrics.listen=127.0.0.1:{port}");
    let args = ["--devices", "20", "--listen", "127.0.0.1:0", "-X", &scrape];
    let mut node = Node::start(dir.path(), "n1", &args);
    node.ready();
    assert_eq!(get(port, "/readyz").0, 200);
    let (status, page) = get(port, "/metrics");
    assert_eq!(status, 200);
    let mut shown = 0;
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(actorsim::metrics::table::find(name).is_some(), "{name}");
        shown += 1;
    }
    assert!(shown > 20, "{page}");
    assert!(!page.contains("industrial-0"), "a label names a device");
    node.signal(Signal::INT);
    let (code, report) = node.end();
    passes(code, &report);
}

#[test]
fn a_twin_and_a_fleet_meet_with_one_authority_and_a_stranger_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let issue = |name: &str, site: &str| {
        let (out, site) = (path(&format!("id-{name}")), path(site));
        let output = actorsim(&["certs", "issue", name, "--site", &site, "--out", &out]).output();
        assert!(output.unwrap().status.success());
        out
    };
    let (twin_id, fleet_id) = (issue("twin", "site"), issue("fleet", "site"));
    let stranger_id = issue("stranger", "other-site");
    let listen = format!("127.0.0.1:{}", free_port());
    let off = "metrics.enabled=false";
    let twin_args = [
        "--no-fleet",
        "--listen",
        &listen,
        "--identity",
        &twin_id,
        "-X",
        "world.capacity=1000",
        "-X",
        off,
    ];
    let mut twin = Node::start(dir.path(), "twin", &twin_args);
    twin.ready();
    let fleet_args = |id| {
        let to = ["--no-world", "--twin", &listen, "--identity", id, "-X", off];
        let devices = ["--devices", "20", "--interval", "200ms"];
        [&to[..], &devices].concat()
    };
    let mut fleet = Node::start(dir.path(), "fleet", &fleet_args(&fleet_id));
    fleet.wait_for("\"connected\"");
    let applied = || number(&twin.ask("health"), "/readings_applied");
    assert!((0..1_000).any(|_| applied() > 0), "nothing came");
    fleet.signal(Signal::INT);
    let (code, report) = fleet.end();
    passes(code, &report);
    let sent = number(&report, "/tiers/t1/sent");
    assert!(
        sent > 0 && report["tiers"]["t1"]["received"].is_null(),
        "{report:#}"
    );
    let args = [&fleet_args(&stranger_id)[..], &["--for", "3s"]].concat();
    let (_, stranger) = Node::start(dir.path(), "stranger", &args).end();
    assert_eq!(stranger["tiers"]["t2"]["acked"], 0, "{stranger:#}");
    assert_eq!(twin.ask("health")["healthy"], true);
    twin.signal(Signal::INT);
    let (code, report) = twin.end();
    passes(code, &report);
    assert!(number(&report, "/world/readings_applied") > 0, "{report:#}");
}

/// Where a real server is, or why it is not asked.
fn server(variable: &str) -> Option<String> {
    let address = std::env::var(variable).ok();
    if address.is_none() {
        let in_ci = std::env::var_os("CI").is_some();
        assert!(!in_ci, "{variable} is not set, and CI has that server");
        println!("skipped: set {variable}=HOST:PORT");
    }
    address
}

#[test]
fn a_node_reaches_each_real_server_by_its_flag() {
    for (variable, flag, scheme, path) in [
        ("ACTORSIM_MOSQUITTO", "--mqtt-url", "mqtt", ""),
        ("ACTORSIM_AMQP", "--amqp-url", "amqp", ""),
        ("ACTORSIM_NGINX", "--http-endpoint", "http", "/ingest"),
        ("ACTORSIM_COAP", "--coap-url", "coap", "/site"),
    ] {
        let Some(address) = server(variable) else {
            continue;
        };
        let dir = tempfile::tempdir().unwrap();
        let profile = dir.path().join("site.yaml");
        let text = format!(
            "type: site{}\nprotocol: {scheme}\ntelemetry_fields:\n  \
             temperature: {{type: gaussian, mean: 20, stddev: 1}}\n",
            std::process::id()
        );
        std::fs::write(&profile, text).unwrap();
        let url = format!("{scheme}://{address}{path}");
        let to = [
            "--no-world",
            flag,
            &url,
            "--profile",
            profile.to_str().unwrap(),
        ];
        let fleet = ["--devices", "20", "--interval", "200ms", "--for", "3s"];
        let off = ["metrics", "http", "grpc"].map(|face| format!("{face}.enabled=false"));
        let off: Vec<&str> = off.iter().flat_map(|off| ["-X", off]).collect();
        let (code, report) =
            Node::start(dir.path(), scheme, &[&to[..], &fleet, &off].concat()).end();
        passes(code, &report);
        let acked = number(&report, &format!("/publish/{scheme}/acked"));
        assert!(acked >= 20, "{report:#}");
    }
}

/// Rounds of the crash test: three in every test run; `ACTORSIM_CRASH_ROUNDS=20` is the long form,
/// with `ACTORSIM_CRASH_DEVICES=1000` at 20,000 events a second.
fn setting(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| text.parse().unwrap())
}

/// Waits until the twin's journal is `more` batches further; returns where it is.
fn journal_moves_on(twin: &Node, more: u64) -> u64 {
    let head = || {
        let info = twin.ask("info /twin/journal");
        number(&info, "/journal/head")
    };
    let before = head();
    let moved = (0..10_000)
        .map(|_| head())
        .find(|now| *now >= before + more);
    moved.expect("events come in")
}

#[test]
fn a_twin_that_is_killed_again_and_again_loses_and_doubles_no_acknowledged_event() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (site, off) = (
        format!("transport.site={}", path("site")),
        "metrics.enabled=false",
    );
    let (listen, kept) = (format!("127.0.0.1:{}", free_port()), "journal.ledger=true");
    let common = ["-X", off, "-X", kept, "-X", &site];
    let size = "journal.size_max_mib=4";
    let twin_args = ["--no-fleet", "--listen", &listen, "-X", size];
    let twin_args = [&twin_args[..], &common].concat();
    let mut twin = Node::start(dir.path(), "twin", &twin_args);
    twin.ready();
    let devices = setting("ACTORSIM_CRASH_DEVICES", 100).to_string();
    let fleet_args = ["--no-world", "--twin", &listen, "--devices", &devices];
    let rates = ["--t1-rate", "0", "--t2-rate", "20"];
    let fleet_args = [&fleet_args[..], &rates, &common].concat();
    let mut fleet = Node::start(dir.path(), "fleet", &fleet_args);
    fleet.wait_for("\"connected\"");
    let mut head = 0;
    for round in 0..setting("ACTORSIM_CRASH_ROUNDS", 3) {
        let now = journal_moves_on(&twin, 20);
        assert!(
            now > head,
            "round {round}: the journal goes on where it was"
        );
        head = now;
        twin.signal(Signal::KILL);
        twin.child.wait().unwrap();
        twin = Node::start(dir.path(), "twin", &twin_args);
        twin.wait_for("\"scan_started\"");
    }
    journal_moves_on(&twin, 20);
    fleet.signal(Signal::INT);
    let (code, fleet) = fleet.end();
    passes(code, &fleet);
    twin.signal(Signal::INT);
    let (code, twin) = twin.end();
    passes(code, &twin);
    let acked = &fleet["tiers"]["t2"]["acked_ledger"];
    assert_eq!(
        number(acked, "/events"),
        number(&fleet, "/tiers/t2/created")
    );
    assert_eq!(acked["devices"], fleet["devices"]["requested"]);
    assert_eq!(
        acked, &twin["tiers"]["t2"]["applied_ledger"],
        "each acknowledged event of each device, once and in order"
    );
}
