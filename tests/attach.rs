//! The attach protocol against a control plane of its own: what a session may do, and what it may
//! not.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actorsim::attach::control::{
    ChaosWord, ChildWord, ControlPlane, DevicesWord, FaultWord, Outcome, PolicyWord, PsFilter,
    RulesWord,
};
use actorsim::attach::protocol::{Code, LINE_MAX, Refusal};
use actorsim::attach::server::{self, Limits};
use actorsim::state_dir::{SOCKET, StateDir};
use serde_json::{Value, json};

#[derive(Default)]
struct Plane {
    audited: Mutex<Vec<String>>,
}

fn answer(data: Value) -> Outcome<'static> {
    Box::pin(async move { Ok(data) })
}

impl ControlPlane for Plane {
    fn ps(&self, filter: PsFilter) -> Outcome<'_> {
        let rows: Vec<_> = (0..filter.limit.min(3))
            .map(|at| json!({ "path": format!("/a/{at}"), "host": "task", "state": "running" }))
            .collect();
        answer(json!({ "rows": rows, "more": filter.limit < 3 }))
    }
    fn tree(&self, _: Option<String>, _: Option<usize>, _: bool) -> Outcome<'_> {
        answer(json!({ "rows": [{ "name": "/", "depth": 0 }, { "name": "a", "depth": 1 }] }))
    }
    fn info(&self, path: String) -> Outcome<'_> {
        Box::pin(async move { Err(Refusal::new(Code::NotFound, format!("no actor {path}"))) })
    }
    fn kill(&self, path: String, dry_run: bool) -> Outcome<'_> {
        let done = if dry_run { "nothing" } else { "killed" };
        answer(json!({ "path": path, "done": done, "now_incarnation": 2 }))
    }
    fn children(&self, word: ChildWord, path: String, _: PsFilter) -> Outcome<'_> {
        answer(json!({ "path": path, "done": format!("{word:?}") }))
    }
    fn release(&self, pattern: String, _: usize, _: bool) -> Outcome<'_> {
        answer(json!({ "rows": [{ "path": pattern, "was": "quarantined", "now": "released" }] }))
    }
    fn policy(&self, word: PolicyWord, path: Option<String>, dry_run: bool) -> Outcome<'_> {
        let value = format!("{word:?}, dry run {dry_run}");
        answer(json!({ "rows": [{ "path": path, "key": "word", "value": value }] }))
    }
    fn stop(&self, path: String) -> Outcome<'_> {
        answer(json!({ "path": path, "done": "stopped" }))
    }
    fn chaos(&self, word: ChaosWord) -> Outcome<'_> {
        answer(json!({ "running": false, "plan": format!("{word:?}") }))
    }
    fn devices(&self, word: DevicesWord) -> Outcome<'_> {
        answer(json!({ "rows": [], "word": format!("{word:?}") }))
    }
    fn token(&self, rotate: bool) -> Outcome<'_> {
        answer(json!({ "file": "token", "done": rotate }))
    }
    fn trigger(&self, target: String) -> Outcome<'_> {
        answer(json!({ "target": target }))
    }
    fn scan(&self) -> Outcome<'_> {
        Box::pin(std::future::pending())
    }
    fn quality(&self) -> Outcome<'_> {
        answer(json!({ "odte": 0.9 }))
    }
    fn quic(&self) -> Outcome<'_> {
        answer(json!({ "handshakes_accepted": 1 }))
    }
    fn rules(&self, word: RulesWord) -> Outcome<'_> {
        answer(json!({ "rows": [{ "rule": format!("{word:?}") }] }))
    }
    fn pace(&self, assignments: Vec<String>) -> Outcome<'_> {
        answer(json!({ "period": assignments }))
    }
    fn shards(&self) -> Outcome<'_> {
        answer(json!({ "rows": [{ "shard": 0, "busy": 0.5 }] }))
    }
    fn detail(&self, on: bool) -> Outcome<'_> {
        answer(json!({ "detail": on }))
    }
    fn health(&self) -> Outcome<'_> {
        Box::pin(async { Err(Refusal::new(Code::Unhealthy, "the scan is late")) })
    }
    fn fault(&self, word: FaultWord) -> Outcome<'_> {
        answer(json!({ "rows": [{ "name": "fault_injected", "text": format!("{word:?}") }] }))
    }
    fn faults(&self, _: usize) -> Outcome<'_> {
        answer(json!({ "rows": [] }))
    }
    fn crash(&self, path: String) -> Outcome<'_> {
        answer(json!({ "rows": [{ "path": path, "name": "fault_injected" }] }))
    }
    fn events(&self, since: Option<u64>, _: usize) -> Outcome<'_> {
        answer(json!({ "rows": [{ "id": since.unwrap_or(0) + 1, "name": "restarted" }] }))
    }
    fn complete(&self, prefix: String) -> Outcome<'_> {
        answer(json!({ "paths": [format!("{prefix}x")] }))
    }
    fn audit(&self, line: &str, _: u32) {
        self.audited.lock().unwrap().push(line.to_owned());
    }
}

struct Node {
    dir: tempfile::TempDir,
    plane: Arc<Plane>,
    _state: StateDir,
    _runtime: tokio::runtime::Runtime,
}

impl Node {
    fn start(sessions_max: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("n1")).unwrap();
        let plane = Arc::new(Plane::default());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let limits = Limits {
            sessions_max,
            idle: Duration::from_secs(60),
        };
        let listener = runtime.block_on(async { server::bind(&state.socket()).unwrap() });
        runtime.spawn(server::serve(
            listener,
            Arc::clone(&plane) as Arc<dyn ControlPlane>,
            limits,
        ));
        Self {
            dir,
            plane,
            _state: state,
            _runtime: runtime,
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("n1").join(SOCKET)
    }

    fn attach(&self, args: &[&str]) -> (i32, String, String) {
        let output = self.command(args).output().unwrap();
        outcome(&output)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_actorsim"));
        command
            .arg("attach")
            .arg(self.dir.path().join("n1"))
            .args(args);
        command
    }
}

fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn raw(socket: &Path) -> (UnixStream, BufReader<UnixStream>) {
    let stream = UnixStream::connect(socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    (stream.try_clone().unwrap(), BufReader::new(stream))
}

fn read(reader: &mut BufReader<UnixStream>) -> Value {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or(Value::Null)
}

#[test]
fn commands_run_in_order_and_a_pipe_gets_tabs() {
    let node = Node::start(4);
    let (code, out, err) = node.attach(&["-c", "ps --limit 2", "-c", "kill /a/0"]);
    assert_eq!(code, 0, "{err}");
    let expected = "/a/0\ttask\trunning\t-\t-\t-\t-\t-\n/a/1\ttask\trunning\t-\t-\t-\t-\t-\n\
                    path\t/a/0\ndone\tkilled\nnow_incarnation\t2\n";
    assert_eq!(out, expected);
    assert_eq!(*node.plane.audited.lock().unwrap(), ["kill /a/0"]);
}

#[test]
fn otp_s_words_and_policies_reach_the_plane_and_only_changes_are_audited() {
    let node = Node::start(4);
    let args = [
        "-c",
        "terminate_child /twin/scan",
        "-c",
        "which_children /twin",
        "-c",
        "kill /twin/scan --dry-run",
        "-c",
        "release /fleet/*",
        "-c",
        "policy set /twin intensity=3 period=5s",
        "-c",
        "policy set /twin intensity=3 --dry-run",
        "-c",
        "policy show",
        "-o",
        "jsonl",
    ];
    let (code, out, err) = node.attach(&args);
    assert_eq!(code, 0, "{err}");
    for words in [
        "\"done\":\"Terminate\"",
        "\"done\":\"Which\"",
        "\"done\":\"nothing\"",
        "\"now\":\"released\"",
        "Set([\\\"intensity=3\\\", \\\"period=5s\\\"]), dry run false",
        "Set([\\\"intensity=3\\\"]), dry run true",
        "Show, dry run false",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let audited = [
        "terminate_child /twin/scan",
        "release /fleet/*",
        "policy set /twin intensity=3 period=5s",
    ];
    assert_eq!(*node.plane.audited.lock().unwrap(), audited);
}

#[test]
fn faults_reach_the_plane_with_their_selector_and_parameters() {
    let node = Node::start(4);
    let lines = [
        "fault inject site=north,10% latency_spike for=30s latency_ms=250",
        "fault revert meter-* flap",
        "fault revert meter-*",
        "fault crash /twin/scan",
        "fault list",
    ];
    let args: Vec<_> = lines.iter().flat_map(|line| ["-c", line]).collect();
    let (code, out, err) = node.attach(&[&args[..], &["-o", "jsonl"]].concat());
    assert_eq!(code, 0, "{err}");
    let out = out.replace("\\\"", "'");
    for words in [
        "Inject { selector: 'site=north,10%', kind: 'latency_spike', \
         params: ['for=30s', 'latency_ms=250'] }",
        "Revert { selector: 'meter-*', kind: Some('flap') }",
        "Revert { selector: 'meter-*', kind: None }",
        "\"path\":\"/twin/scan\"",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    assert_eq!(
        node.plane.audited.lock().unwrap().len(),
        4,
        "list only looks"
    );
    let (code, _, err) = node.attach(&["-c", "fault inject meter-*"]);
    assert_eq!(code, 2);
    assert!(err.contains("inject takes TARGET and KIND"), "{err}");
}

#[test]
fn the_same_answer_comes_as_table_json_and_lines() {
    let node = Node::start(4);
    let (_, out, _) = node.attach(&["-c", "tree", "-o", "table"]);
    assert!(out.contains("└── a"), "{out}");
    let (_, out, _) = node.attach(&["-c", "ps", "-o", "json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&json["v"], &json["rows"][2]["path"]),
        (&json!(1), &json!("/a/2"))
    );
    let (_, out, _) = node.attach(&["-c", "ps", "-o", "jsonl"]);
    assert_eq!(out.lines().count(), 3);
}

#[test]
fn exit_codes_tell_failure_usage_and_ill_health_apart() {
    let node = Node::start(4);
    for (command, code, words) in [
        ("info /nope", 1, "no actor /nope"),
        ("health", 1, "the scan is late"),
        ("kill", 2, "PATH is missing"),
        ("scan", 4, "no answer within"),
    ] {
        let (found, _, err) = node.attach(&["-c", command]);
        assert_eq!(found, code, "{command}: {err}");
        assert!(err.contains(words), "{command}: {err}");
    }
}

#[test]
fn piped_lines_stop_at_the_first_error() {
    let node = Node::start(4);
    let mut child = node
        .command(&[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(b"# look\nevents --since 7\n\nbogus\nkill /never\n")
        .unwrap();
    drop(stdin);
    let (code, out, err) = outcome(&child.wait_with_output().unwrap());
    assert_eq!((code, out.lines().count()), (2, 1), "{out}{err}");
    assert!(out.starts_with("8\t"), "{out}");
    assert!(node.plane.audited.lock().unwrap().is_empty());
}

#[test]
fn a_session_too_many_is_told_and_exits_3() {
    let node = Node::start(1);
    let (mut write, mut reader) = raw(&node.socket());
    write
        .write_all(b"{\"v\":1,\"id\":1,\"cmd\":\"ps\"}\n")
        .unwrap();
    assert_eq!(read(&mut reader)["id"], 1);
    let (code, _, err) = node.attach(&["-c", "ps"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("1 sessions are open already"), "{err}");
}

#[test]
fn garbage_is_refused_and_the_session_goes_on() {
    let node = Node::start(4);
    let (mut write, mut reader) = raw(&node.socket());
    for (line, words) in [
        ("nonsense", "not a request"),
        (
            "{\"v\":2,\"id\":5,\"cmd\":\"ps\"}",
            "version 2 is not spoken",
        ),
        ("{\"v\":1,\"id\":5,\"cmd\":\"boom\"}", "unknown command"),
        (
            "{\"v\":1,\"id\":5,\"cmd\":\"kill\",\"args\":{\"who\":\"x\"}}",
            "PATH is missing",
        ),
        (
            "{\"v\":1,\"id\":5,\"cmd\":\"ps\",\"args\":{\"limit\":\"many\"}}",
            "takes a number",
        ),
    ] {
        writeln!(write, "{line}").unwrap();
        let message = read(&mut reader)["error"]["message"].to_string();
        assert!(message.contains(words), "{line}: {message}");
    }
    writeln!(
        write,
        "{{\"v\":1,\"id\":9,\"cmd\":\"complete\",\"args\":{{\"prefix\":\"/\"}}}}"
    )
    .unwrap();
    assert_eq!(read(&mut reader)["data"]["paths"][0], "/x");
}

#[test]
fn a_line_without_end_is_cut_off() {
    let node = Node::start(4);
    let (mut write, mut reader) = raw(&node.socket());
    let _ = write.write_all(&vec![b'x'; LINE_MAX * 4]);
    let message = read(&mut reader)["error"]["message"].to_string();
    assert!(message.contains("at most"), "{message}");
    let mut rest = String::new();
    assert_eq!(
        reader.read_line(&mut rest).unwrap_or(0),
        0,
        "the session is closed"
    );
}

#[test]
fn the_socket_is_for_its_owner_only_and_replaces_a_stale_one() {
    let node = Node::start(4);
    let mode = std::fs::metadata(node.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let dir = tempfile::tempdir().unwrap();
    let stale = dir.path().join(SOCKET);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        drop(server::bind(&stale).unwrap());
        server::bind(&stale).unwrap();
    });
}
