//! Remote control of a whole node, by those who may and by those who may not.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

/// Time for anything that must happen at all.
const PATIENCE: Duration = Duration::from_secs(20);

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

struct Node {
    child: Child,
    state: PathBuf,
    http: u16,
    grpc: u16,
    metrics: u16,
    log: Arc<Mutex<String>>,
    _dir: tempfile::TempDir,
}

impl Node {
    fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let (http, grpc, metrics) = (free_port(), free_port(), free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_actorsim"));
        command
            .args([
                "start",
                "--json-logs",
                "--listen",
                "127.0.0.1:0",
                "--state-dir",
            ])
            .arg(&state)
            .args(["-X", &format!("http.listen=127.0.0.1:{http}")])
            .args(["-X", &format!("grpc.listen=127.0.0.1:{grpc}")])
            .args(["-X", &format!("metrics.listen=127.0.0.1:{metrics}")])
            .args(args);
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        while !seen.contains("\"spawned\"") {
            let read = lines.read_line(&mut seen).unwrap();
            assert!(read > 0, "the node ended:\n{seen}");
        }
        let log = Arc::new(Mutex::new(seen));
        let collected = Arc::clone(&log);
        thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
                collected
                    .lock()
                    .unwrap()
                    .push_str(&std::mem::take(&mut line));
            }
        });
        Self {
            child,
            state,
            http,
            grpc,
            metrics,
            log,
            _dir: dir,
        }
    }

    /// Waits until the log has a line of an event.
    fn logs(&self, event: &str) {
        let line = format!("\"event\":\"{event}\"");
        let said = || self.log.lock().unwrap().contains(&line);
        let is_so = (0..400).any(|_| said() || !self.is_well() && said());
        assert!(is_so, "no {event} in:\n{}", self.log.lock().unwrap());
    }

    fn token(&self) -> String {
        let text = std::fs::read_to_string(self.state.join("token")).unwrap();
        text.trim_end().to_owned()
    }

    fn attach(&self, line: &str) -> Output {
        self.session(&[line])
    }

    /// Commands of one session, one after another.
    fn session(&self, lines: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_actorsim"));
        command
            .args(["attach", "-o", "json", "--state-dir"])
            .arg(&self.state);
        for line in lines {
            command.args(["-c", line]);
        }
        command.output().unwrap()
    }

    fn connect(&self, port: u16) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request; status and body.
    fn ask(&self, head: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let host = format!("localhost:{}", self.http);
        self.ask_at(self.http, &host, head, headers, body)
    }

    fn ask_at(
        &self,
        port: u16,
        host: &str,
        head: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, String) {
        let mut stream = self.connect(port);
        let mut text = format!("{head} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let _ = stream.write_all(text.as_bytes()); // refused before its end, perhaps
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |parts| parts.1);
        (status.unwrap_or(0), body.to_owned())
    }

    fn json(&self, head: &str, headers: &[(&str, &str)], body: &Value) -> Value {
        let (status, text) = self.ask(head, headers, &body.to_string());
        assert_eq!(status, 200, "{head}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{head}: {error}: {text}"))
    }

    fn is_well(&self) -> bool {
        self.attach("health").status.success()
    }

    /// Waits until the links are connected, too.
    fn gets_well(&self) -> bool {
        (0..400).any(|_| self.is_well())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SMALL: &[&str] = &[
    "--devices",
    "20",
    "--profile",
    "single",
    "--interval",
    "200ms",
];

#[test]
fn rest_drives_a_node_for_its_token_and_tells_others_nothing() {
    let node = Node::start(SMALL);
    let bearer = format!("Bearer {}", node.token());
    let token: &[(&str, &str)] = &[("Authorization", &bearer)];
    who_may(&node, token);
    devices(&node, token);
    commands(&node, token);
    let two = stream(&node, "device_ids=single-0001,single-0002");
    assert_eq!(two, ["single-0001", "single-0002"]);
    rotation(&node, token);
    assert!(node.is_well());
}

fn who_may(node: &Node, token: &[(&str, &str)]) {
    const STATUS: &str = "GET /api/v1/devices/status";
    let spawn = r#"{"profile": "single", "count": 1}"#;
    const SPAWN: &str = "POST /api/v1/devices/spawn";
    let refusal = node.ask_at(node.http, "evil.example", STATUS, token, "");
    assert_eq!(refusal.0, 401, "{refusal:?}");
    // The same for what is there and what is not, for each way of not being allowed.
    let evil = [token, &[("Origin", "http://evil.example")]].concat();
    let cross = [token, &[("Sec-Fetch-Site", "cross-site")]].concat();
    for (head, headers, body) in [
        ("GET /nothing", &[("Authorization", "Bearer 00")][..], ""),
        (SPAWN, &[("Authorization", "Bearer 00")], spawn),
        (SPAWN, &evil, spawn),
        (SPAWN, &cross, spawn),
        ("GET /docs", &[("Origin", "null")], ""),
    ] {
        assert_eq!(node.ask(head, headers, body), refusal, "{head} {headers:?}");
    }
    // The node's own user may look, and needs the token to act.
    let (status, _) = node.ask(STATUS, &[], "");
    if status == 401 {
        eprintln!("skipped: the kernel does not say whose a connection is");
    } else {
        assert_eq!(status, 200);
        let (status, text) = node.ask(SPAWN, &[], spawn);
        assert_eq!((status, text.contains("token")), (403, true), "{text}");
        assert_eq!(node.ask("GET /nothing", &[], "").0, 404);
        assert_eq!(
            node.ask(
                "POST /api/v1/commands/kill",
                &[],
                r#"{"path": "/twin/scan"}"#
            )
            .0,
            403
        );
    }
    // Metrics are for everybody who names this node.
    let metrics = |host: &str| node.ask_at(node.metrics, host, "GET /metrics", &[], "");
    let (status, page) = metrics("localhost");
    assert!(
        status == 200 && page.contains("actorsim_devices{"),
        "{page}"
    );
    for (name, kind) in [
        ("tier_received_total", "counter"),
        ("tier_latency_seconds", "histogram"),
        ("t3_expired_total", "counter"),
        ("scan_jitter_seconds", "histogram"),
        ("mailbox_depth", "gauge"),
        ("messages_sent_total", "counter"),
        ("telemetry_batch_size", "histogram"),
        ("faults_active", "gauge"),
        ("restart_seconds", "histogram"),
        ("quarantined", "gauge"),
        ("quic_events_total", "counter"),
        ("shard_timer_lateness_seconds", "histogram"),
    ] {
        let line = format!("# TYPE actorsim_{name} {kind}\n");
        assert!(page.contains(&line), "{line} in:\n{page}");
    }
    assert_eq!(metrics("evil.example").0, 401);
    assert_eq!(
        node.ask_at(node.metrics, "localhost", STATUS, token, "").0,
        401
    );
}

fn devices(node: &Node, token: &[(&str, &str)]) {
    let spawn = |body: Value| node.ask("POST /api/v1/devices/spawn", token, &body.to_string());
    let found = spawn(json!({ "profile": "industrial", "count": 3 }));
    assert_eq!(found, (200, "{\"spawned\":3,\"failed\":[]}\n".to_owned()));
    for (body, word) in [
        (
            json!({ "profile": "nowhere.yaml" }),
            "cannot read the profile",
        ),
        (
            json!({ "profile": "single", "count": 0 }),
            "`count` is a whole number",
        ),
        (json!({ "count": 1 }), "`profile` is missing"),
        (
            json!({ "profile": "single", "runtime": "elsewhere:50051" }),
            "is not this node",
        ),
    ] {
        let (status, text) = spawn(body);
        assert_eq!((status, text.contains(word)), (422, true), "{text}");
    }
    let large = "x".repeat(70_000);
    assert_eq!(node.ask("POST /api/v1/devices/spawn", token, &large).0, 413);
    let all = (0..200).find_map(|_| {
        let status = node.json("GET /api/v1/devices/status", token, &Value::Null);
        let by_type = json!({ "single": 20, "industrial": 3 });
        let up = status["fleet"]["by_state"]["DEVICE_STATE_RUNNING"] == 23;
        (up && status["fleet"]["by_type"] == by_type).then_some(status)
    });
    let all = all.expect("the devices run");
    assert_eq!(all["runtime"]["active_devices"], 23);
    assert!(all["runtime"]["memory_mb"].as_f64() > Some(1.0));
    only_one_type_streams(node);
    let page = "GET /api/v1/devices?type=single&limit=2&after=single-0017";
    let page = node.json(page, token, &Value::Null);
    assert_eq!(page["devices"][0]["device_id"], "single-0018");
    assert_eq!(page["devices"][1]["labels"]["device_type"], "single");
    assert_eq!(
        (page["devices"].as_array().unwrap().len(), &page["more"]),
        (2, &json!(false))
    );
    pause(node, token);
    let stop = |body: Value| node.ask("POST /api/v1/devices/stop", token, &body.to_string());
    assert_eq!(stop(json!({})).0, 422);
    assert_eq!(
        stop(json!({ "device_type": "industrial" })).1,
        "{\"stopped\":3}\n"
    );
    assert_eq!(
        stop(json!({ "device_type": "industrial" })).1,
        "{\"stopped\":0}\n"
    );
}

/// A paused device is a device still, as for gRPC.
fn pause(node: &Node, token: &[(&str, &str)]) {
    for (verb, state) in [("pause", "stopped"), ("resume", "running")] {
        let head = format!("POST /api/v1/devices/single-0004/{verb}");
        assert_eq!(
            node.json(&head, token, &Value::Null)["device_id"],
            "single-0004"
        );
        let asked = Instant::now();
        let page = "GET /api/v1/devices?type=single&limit=1&after=single-0003";
        while node.json(page, token, &Value::Null)["devices"][0]["state"] != state {
            assert!(asked.elapsed() < PATIENCE, "{verb}");
            thread::park_timeout(Duration::from_millis(5));
        }
        if verb == "pause" {
            let status = node.json("GET /api/v1/devices/status", token, &Value::Null);
            let fleet = &status["fleet"];
            let by_state = json!({ "DEVICE_STATE_RUNNING": 22, "DEVICE_STATE_STOPPED": 1 });
            assert_eq!(
                (&fleet["by_state"], &fleet["total_devices"]),
                (&by_state, &json!(23))
            );
        }
    }
    assert_eq!(
        node.ask("POST /api/v1/devices/nobody/pause", token, "").0,
        404
    );
}

fn commands(node: &Node, token: &[(&str, &str)]) {
    let command = |name: &str, body: Value| {
        node.ask(
            &format!("POST /api/v1/commands/{name}"),
            token,
            &body.to_string(),
        )
    };
    let (status, text) = command("ps", json!({ "filter": "/twin/*", "limit": 2 }));
    let rows: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, rows["rows"].as_array().unwrap().len()),
        (200, 2),
        "{text}"
    );
    assert_eq!(command("ps", json!({ "limit": "many" })).0, 422);
    assert_eq!(command("pss", json!({})).0, 404);
    assert_eq!(command("info", json!({ "path": "/nowhere" })).0, 404);
    let (status, text) = command("detail", json!({ "switch": "on" }));
    assert_eq!(status, 200, "{text}");
    let api = node.json("GET /openapi.json", token, &Value::Null);
    assert_eq!(api["openapi"], "3.1.0");
    assert!(api["paths"]["/api/v1/commands/kill"]["post"]["security"].is_array());
    assert!(
        node.ask("GET /docs", token, "")
            .1
            .contains("/api/v1/devices/stream")
    );
    let events = node.attach("events --limit 200");
    let events = String::from_utf8_lossy(&events.stdout).into_owned();
    assert!(events.contains("detail on"), "{events}");
    assert!(!events.contains(&node.token()), "the token is in an event");
}

/// Samples come as they are sent; says whose they are.
fn stream(node: &Node, query: &str) -> Vec<String> {
    let mut stream = node.connect(node.http);
    let token = node.token();
    write!(
        stream,
        "GET /api/v1/devices/stream?{query}&batch_size=1 HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    )
    .unwrap();
    let mut seen = Vec::new();
    let mut reader = BufReader::new(stream);
    while seen.len() < 20 {
        let mut line = String::new();
        assert!(
            reader.read_line(&mut line).unwrap() > 0,
            "the stream ended: {seen:?}"
        );
        if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap();
            assert!(data["timestamp"].as_str().unwrap().ends_with('Z'), "{data}");
            assert!(data["value"].is_number(), "{data}");
            seen.push(data["device_id"].as_str().unwrap().to_owned());
        }
    }
    seen.sort_unstable();
    seen.dedup();
    seen
}

fn only_one_type_streams(node: &Node) {
    let heard = stream(node, "device_type=industrial");
    let all_are = heard.iter().all(|id| id.starts_with("industrial-"));
    assert!(all_are, "{heard:?}");
}

fn rotation(node: &Node, token: &[(&str, &str)]) {
    assert!(node.attach("token rotate").status.success());
    assert_eq!(node.ask("GET /api/v1/health", token, "").0, 401);
    let bearer = format!("Bearer {}", node.token());
    assert_eq!(
        node.ask("GET /api/v1/health", &[("Authorization", &bearer)], "")
            .0,
        200
    );
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A hundred connections on which nothing follows.
fn begun(node: &Node, port: u16, bytes: &[u8]) -> Vec<TcpStream> {
    let one = |_| {
        let mut stream = node.connect(port);
        let _ = stream.write_all(bytes);
        stream
    };
    (0..100).map(one).collect()
}

/// Begins so many streams of events on a connection; says how many of them were refused.
fn streams(node: &Node, count: u32, bearer: &str) -> (TcpStream, usize) {
    let mut stream = node.connect(node.grpc);
    let mut head = vec![0x83, 0x86]; // :method POST, :scheme http; then names of the static table
    for (name, text) in [
        (
            &[0x04][..],
            "/simulator.v1.DeviceRuntimeService/StreamEvents",
        ),
        (&[0x01], "localhost"),
        (&[0x0f, 0x10], "application/grpc"),
        (&[0x0f, 0x08], bearer),
        (b"\x00\x02te", "trailers"),
    ] {
        head.extend(name);
        head.push(text.len() as u8);
        head.extend(text.bytes());
    }
    let mut asked = [PREFACE, &frame(4, 0, 0, &[])].concat();
    for number in 0..count {
        asked.extend(frame(1, 4, 2 * number + 1, &head));
        asked.extend(frame(0, 1, 2 * number + 1, &[0; 5])); // an empty message
    }
    stream.write_all(&asked).unwrap();
    let (mut answered, mut refused) = (0, 0);
    while answered < count {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).unwrap();
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        stream.read_exact(&mut vec![0; length as usize]).unwrap();
        if frame[3] == 1 {
            answered += 1;
            refused += usize::from(frame[4] & 1 == 1); // its only frame
        }
    }
    (stream, refused)
}

/// Begins a stream of samples; says how that was answered.
fn sse(node: &Node, bearer: &str) -> (TcpStream, String) {
    let mut stream = node.connect(node.http);
    write!(
        stream,
        "GET /api/v1/devices/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\n\r\n"
    )
    .unwrap();
    let mut status = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut status).unwrap();
    (stream, String::from_utf8_lossy(&status).into_owned())
}

#[test]
fn hostile_clients_cost_themselves_only() {
    let node = Node::start(SMALL);
    assert!(node.gets_well());
    // Half a greeting, and heads that never end, on all places there are, and more.
    let silent = begun(&node, node.grpc, &PREFACE[..7]);
    let slow = begun(
        &node,
        node.http,
        b"GET /api/v1/health HTTP/1.1\r\nHost: loc",
    );
    assert!(node.is_well(), "attach does not wait for HTTP");
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest); // closed here, or told so first
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
    for mut stream in silent {
        let ended = stream.read_to_end(&mut Vec::new()).map_err(|e| e.kind());
        assert_ne!(ended, Err(ErrorKind::WouldBlock), "it is not kept for ever");
    }
    let bearer = format!("Bearer {}", node.token());
    assert_eq!(
        node.ask("GET /api/v1/health", &[("Authorization", &bearer)], "")
            .0,
        200
    );
    let held = [(); 3].map(|()| streams(&node, 32, &bearer));
    let refused: usize = held.iter().map(|(_, refused)| refused).sum();
    assert_eq!(
        refused,
        3 * 32 - 64,
        "streams of all connections are bounded"
    );
    let statuses: Vec<_> = (0..9).map(|_| sse(&node, &bearer)).collect();
    let statuses: Vec<_> = statuses.iter().map(|(_, status)| &**status).collect();
    assert_eq!(statuses[..8], ["HTTP/1.1 200"; 8]);
    assert_eq!(statuses[8], "HTTP/1.1 503", "and so are those over HTTP");
    // Streams opened and taken back, faster than anybody can answer.
    let mut flood = node.connect(node.grpc);
    flood.write_all(PREFACE).unwrap();
    flood.write_all(&frame(4, 0, 0, &[])).unwrap();
    // :method POST, :scheme http, :path /, by the static table.
    let head = [0x83, 0x86, 0x84];
    let mut burst = Vec::new();
    for stream in (1..20_001).step_by(2) {
        burst.extend(frame(1, 5, stream, &head));
        burst.extend(frame(3, 0, stream, &8u32.to_be_bytes()));
    }
    let _ = flood.write_all(&burst);
    let mut answer = Vec::new();
    let _ = flood.read_to_end(&mut answer);
    assert!(!answer.is_empty(), "it was told to go away");
    // What is no HTTP/2, and settings that never end.
    for bytes in [
        b"\x16\x03\x01\x02\x00".repeat(100),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut stream = node.connect(node.grpc);
        let _ = stream.write_all(&bytes);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert!(node.is_well());
    let page = node.ask_at(node.metrics, "localhost", "GET /healthz", &[], "");
    assert_eq!(page, (200, "ok\n".to_owned()));
}

/// Asks for the health of the API over TLS, with the node's own certificate or with none.
fn over_tls(node: &Node, port: u16, with_certificate: bool) -> String {
    let identity = node.state.join("identity");
    let file = |name: &str| CertificateDer::pem_file_iter(identity.join(name)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(file("ca.pem").map(Result::unwrap));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let chain = file("node.pem").map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(identity.join("node.key")).unwrap();
    let config = match with_certificate {
        true => config.with_client_auth_cert(chain, key).unwrap(),
        false => config.with_no_client_auth(),
    };
    let name = "localhost".try_into().unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, node.connect(port));
    let head = "GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    let _ = stream.write_all(head.replace("localhost", "127.0.0.1").as_bytes());
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn an_address_beyond_loopback_speaks_only_tls_with_a_certificate_of_the_site() {
    let port = free_port();
    let http = format!("http.listen=0.0.0.0:{port}");
    let node = Node::start(&[SMALL, &["-X", &http]].concat());
    let bearer = format!("Bearer {}", node.token());
    let plain = node.ask_at(
        port,
        "127.0.0.1",
        "GET /api/v1/health",
        &[("Authorization", &bearer)],
        "",
    );
    assert!(!plain.1.contains("ok"), "{plain:?}");
    assert!(
        over_tls(&node, port, true).contains("\"ok\""),
        "with a certificate of the site"
    );
    assert_eq!(over_tls(&node, port, false), "", "without");
    assert!(node.gets_well());
}

/// The events of the contract, each after what makes it happen.
#[test]
fn every_named_event_is_logged_when_it_happens() {
    let node = Node::start(SMALL);
    node.logs("spawned");
    node.logs("connected");
    for (lines, event) in [
        (&["kill /fleet/links/0"][..], "disconnected"),
        (&["kill /transport/tier-t1"], "restarted"),
        (&["fault inject single-0002 hang for=60s"], "fault_injected"),
        (&["fault revert single-0002 hang"], "fault_reverted"),
        (&["retire single-0005"], "stopped"),
        (
            &["policy set /fleet/default intensity=0 period=60s"],
            "policy_changed",
        ),
        (&["fault crash /fleet/default/single-0006"], "quarantined"),
        (
            &[
                "release /fleet/default",
                "policy set /transport intensity=0",
            ],
            "policy_changed",
        ),
        (&["kill /transport/tier-t2"], "escalated"),
        (
            &["chaos start --seed 1 --kill 1/1s --for 1s"],
            "chaos_started",
        ),
        (&[], "chaos_stopped"),
    ] {
        if !lines.is_empty() {
            let output = node.session(lines);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{lines:?}: {error}");
        }
        node.logs(event);
    }
    drop(node);
    let nobody = [
        "--mqtt-url",
        "mqtt://127.0.0.1:1",
        "--profile",
        "factory_mqtt",
        "--no-world",
    ];
    Node::start(&[&nobody[..], &["--devices", "2"]].concat()).logs("publish_retry");
}
