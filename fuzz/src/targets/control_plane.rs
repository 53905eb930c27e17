//! The node's own control plane, over HTTP/1.1 and HTTP/2: a client that says anything in pieces
//! cut anywhere, or calls as it should with any message, is silent, hangs up.
//!
//! What must hold: what devices are asked for is within what the request said, each request is
//! answered or refused, and when its client is gone a connection ends.

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use actorsim::attach::control::{
    ChaosWord, ChildWord, ControlPlane, DevicesWord, FaultWord, Outcome, PolicyWord, PsFilter,
    RulesWord,
};
use actorsim::attach::protocol::{Code, Refusal};
use actorsim::metrics::Page;
use actorsim::remote::access::Access;
use actorsim::remote::desk::{
    Batch, Count, Desk, DeskError, Devices, Done, Kind, Row, Runtime, Spawned, Who,
};
use actorsim::remote::grpc::{Grpc, METHODS};
use actorsim::remote::http::{Api, Http};
use actorsim::remote::peer::Peer;
use actorsim::remote::serve::{Respond, Speaks, converse};
use actorsim::remote::stream::BatchSizes;
use actorsim::remote::token::Token;
use actorsim::view::{NodeSnapshot, NodeView};
use actorsim_fleet::fault::FaultSpec;
use actorsim_fleet::names::is_id;
use actorsim_fleet::watch::{Block, News, Watcher};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::time::timeout;

use super::Target;
use crate::scratch::Folder;
use crate::script::{Script, Steps, pieces};

pub(crate) const REST: Target = Target {
    name: "rest",
    about: "the control plane over HTTP/1.1",
    run: |input| run(Speaks::Http1, input),
    seeds: rest_seeds,
    words: &[
        "GET /api/v1/devices?type=lamp&limit=2&after=a HTTP/1.1\r\n",
        "POST /api/v1/devices/spawn HTTP/1.1\r\n",
        "host: localhost\r\n",
        "content-length: ",
        "transfer-encoding: chunked\r\n",
        "expect: 100-continue\r\n",
        "connection: upgrade\r\n",
        "authorization: Bearer ",
        "%2F",
        "\r\n\r\n",
    ],
    len_max: 4_096,
    heap_max: 16 << 20,
};

pub(crate) const GRPC: Target = Target {
    name: "grpc",
    about: "the control plane over HTTP/2: simulator.v1",
    run: |input| run(Speaks::Http2, input),
    seeds: grpc_seeds,
    words: &[
        "/simulator.v1.DeviceRuntimeService/",
        "application/grpc",
        "grpc-timeout",
        "1S",
    ],
    len_max: 4_096,
    heap_max: 24 << 20,
};

/// Bytes between the two ends.
const PIPE: usize = 64 << 10;
/// Longest time that a client waits with its bytes.
const WRITE: Duration = Duration::from_secs(60);
/// Time for a connection to end after its client has gone: longer than any call may take.
const END: Duration = Duration::from_secs(1_000);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Devices of a node that does what it is asked, and remembers nothing.
struct Obliging;

fn none<T>() -> Result<T, DeskError> {
    Err(DeskError::Unavailable("not here".to_owned()))
}

impl Desk for Obliging {
    fn names(&self) -> Vec<String> {
        vec!["node".to_owned()]
    }

    fn audit(&self, line: &str) {
        assert!(
            !line.contains('\n'),
            "a line of the audit log with a break in it: {line:?}"
        );
    }

    fn spawn(&self, batches: Vec<Batch>) -> Done<'_, Spawned> {
        let count = |batch: &Batch| match &batch.devices {
            Devices::Count(count) => u64::from(*count),
            Devices::Named(ids) => {
                assert!(
                    ids.iter().all(|id| is_id(id)),
                    "an id that no device can have"
                );
                ids.len() as u64
            }
        };
        let started = batches.iter().map(count).sum();
        let spawned = Spawned {
            started,
            failed: Vec::new(),
        };
        Box::pin(std::future::ready(Ok(spawned)))
    }

    fn stop(&self, _: Who, _: bool) -> Done<'_, (u64, Vec<String>)> {
        Box::pin(std::future::ready(Ok((u64::MAX, Vec::new()))))
    }

    fn counts(&self) -> Result<Vec<Count>, DeskError> {
        Ok(Vec::new())
    }

    fn path(&self, id: &str) -> Option<String> {
        Some(format!("/fleet/default/{id}"))
    }

    fn list(&self, who: Who) -> Done<'_, Vec<Row>> {
        let kind = Arc::new(Kind {
            device_type: "lamp".to_owned(),
            labels: vec![("site".to_owned(), "north".to_owned())],
        });
        let row = |n| Row {
            id: format!("lamp-{n:04}"),
            kind: Arc::clone(&kind),
            state: "running",
        };
        let some = if who == Who::All { 20 } else { 3 };
        Box::pin(std::future::ready(Ok((0..some).rev().map(row).collect())))
    }

    fn inject(&self, _: Who, _: FaultSpec) -> Done<'_, u64> {
        Box::pin(std::future::ready(Ok(1)))
    }

    fn update(&self, _: Who, fields: String) -> Done<'_, u64> {
        assert!(serde_json::from_str::<serde_json::Value>(&fields).is_ok());
        Box::pin(std::future::ready(Ok(1)))
    }

    fn runtime(&self) -> Result<Runtime, DeskError> {
        Ok(Runtime::default())
    }

    fn watch(&self) -> Result<Watcher<Arc<Block>>, DeskError> {
        none()
    }

    fn batches(&self) -> Arc<BatchSizes> {
        Arc::default()
    }

    fn news(&self) -> Result<Watcher<News>, DeskError> {
        none()
    }

    fn mishaps(&self, _: u64) -> (u64, Vec<News>) {
        (0, Vec::new())
    }
}

/// Answers every command with what it was asked, where there is anything.
macro_rules! obliging {
    ($($method:ident($($arg:ident: $type:ty),*);)*) => {
        impl ControlPlane for Obliging {
            $(fn $method(&self, $($arg: $type),*) -> Outcome<'_> {
                let asked = json!({ stringify!($method): format!("{:?}", ($($arg,)*)) });
                Box::pin(std::future::ready(Ok(asked)))
            })*

            fn health(&self) -> Outcome<'_> {
                let ill = Refusal::new(Code::Unhealthy, "ill");
                Box::pin(std::future::ready(Err(ill)))
            }

            fn audit(&self, line: &str, _: u32) {
                Desk::audit(self, line);
            }
        }
    };
}

obliging! {
    ps(filter: PsFilter);
    tree(below: Option<String>, depth: Option<usize>, all: bool);
    info(path: String);
    kill(path: String, dry_run: bool);
    stop(path: String);
    children(word: ChildWord, path: String, page: PsFilter);
    release(pattern: String, limit: usize, dry_run: bool);
    policy(word: PolicyWord, pattern: Option<String>, dry_run: bool);
    chaos(word: ChaosWord);
    devices(word: DevicesWord);
    trigger(target: String);
    scan();
    quality();
    quic();
    rules(word: RulesWord);
    pace(assignments: Vec<String>);
    shards();
    detail(on: bool);
    fault(word: FaultWord);
    faults(limit: usize);
    crash(path: String);
    token(rotate: bool);
    events(since: Option<u64>, limit: usize);
    complete(prefix: String);
}

struct Still;

impl NodeView for Still {
    fn snapshot(&self) -> NodeSnapshot {
        NodeSnapshot::default()
    }
}

static TOKEN: LazyLock<(Folder, Token, String)> = LazyLock::new(|| {
    let dir = Folder::new();
    let file = dir.path().join("token");
    let token = Token::open_or_create(&file).expect("a token");
    let text = std::fs::read_to_string(&file).expect("it was written");
    (dir, token, text.trim().to_owned())
});

fn respond(speaks: Speaks) -> Arc<dyn Respond> {
    let at = "127.0.0.1:8000";
    let bound = at.parse().expect("an address");
    let access = Access::new(at, bound, &["node"], TOKEN.1.clone());
    match speaks {
        Speaks::Http1 => {
            let api = Api {
                desk: Arc::new(Obliging),
                plane: Arc::new(Obliging),
            };
            Arc::new(Http::new(access, Page::new(Arc::new(Still)), Some(api)))
        }
        Speaks::Http2 => Arc::new(Grpc::new(Arc::new(Obliging), access)),
    }
}

/// One thing that a client does.
enum Act {
    Say(Vec<u8>, u8),
    Wait(Duration),
}

fn acts(speaks: Speaks, script: &mut Script<'_>) -> Vec<Act> {
    let (mut acts, mut stream) = (Vec::new(), 1);
    if speaks == Speaks::Http2 && script.byte() != 255 {
        acts.push(Act::Say([PREFACE, &frame(4, 0, 0, &[])].concat(), 0));
    }
    while let Some(step) = script.step() {
        acts.push(match step % 8 {
            0 | 1 => {
                let cut = script.byte();
                Act::Say(script.bytes().to_vec(), cut)
            }
            2 => Act::Wait(Duration::from_millis(script.number().into())),
            3 => {
                // the token, which nobody guesses
                let head = format!("host: localhost\r\nauthorization: Bearer {}\r\n", TOKEN.2);
                Act::Say(head.into_bytes(), 0)
            }
            4 | 5 if speaks == Speaks::Http2 => {
                let (method, cut) = (script.byte(), script.byte());
                stream += 2;
                Act::Say(call(stream, method, script.bytes()), cut)
            }
            _ if speaks == Speaks::Http2 => {
                let (kind, flags, of) = (script.byte(), script.byte(), script.byte());
                Act::Say(frame(kind % 11, flags, of.into(), script.bytes()), 0)
            }
            _ => {
                let body = script.bytes();
                let head = format!("content-length: {}\r\n\r\n", body.len());
                Act::Say([head.as_bytes(), body].concat(), 0)
            }
        });
    }
    acts
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    let mut bytes = length.to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A call of a method of `simulator.v1` with one message.
fn call(stream: u32, method: u8, message: &[u8]) -> Vec<u8> {
    let name = METHODS[usize::from(method) % METHODS.len()].name;
    let path = format!("/simulator.v1.DeviceRuntimeService/{name}");
    let mut head = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", &path),
        (":authority", "localhost:50051"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "5S"),
    ] {
        head.push(0); // a literal that is not kept (RFC 7541, 6.2.2)
        for text in [name, value] {
            head.push(text.len() as u8);
            head.extend(text.as_bytes());
        }
    }
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    [frame(1, 4, stream, &head), frame(0, 1, stream, &body)].concat()
}

fn run(speaks: Speaks, input: &[u8]) {
    let acts = acts(speaks, &mut Script::new(input));
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (client, server) = duplex(PIPE);
        let (mut read, mut write) = tokio::io::split(client);
        let serving = converse(server, Peer::OwnUser, speaks, respond(speaks));
        let reading = async {
            let mut some = [0; 4_096];
            while matches!(read.read(&mut some).await, Ok(1..)) {}
        };
        let writing = async {
            for act in acts {
                match act {
                    Act::Wait(time) => tokio::time::sleep(time).await,
                    Act::Say(bytes, cut) => {
                        for piece in pieces(&bytes, cut) {
                            if !matches!(timeout(WRITE, write.write_all(piece)).await, Ok(Ok(()))) {
                                return;
                            }
                        }
                    }
                }
            }
            let _ = timeout(WRITE, write.shutdown()).await;
        };
        let all = async { tokio::join!(serving, reading, writing) };
        let ended = timeout(END, all).await;
        assert!(ended.is_ok(), "the connection outlives its client");
    });
}

fn rest_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for route in actorsim::remote::http::routes::ROUTES.iter() {
        let path = route
            .path
            .replace("{id}", "lamp-0001")
            .replace("{command}", "ps");
        let line = format!("{} {path} HTTP/1.1\r\n", route.method);
        let steps = Steps::new().step(&[0, 0]).bytes(line.as_bytes()).byte(3);
        let body: &[u8] = b"{\"profile\":\"single\",\"count\":3,\"all\":true}";
        seeds.push(steps.clone().byte(7).bytes(body).done());
        seeds.push(
            steps
                .step(&[0, 1])
                .bytes(b"\r\n")
                .byte(2)
                .number(9_000)
                .done(),
        );
    }
    let list =
        b"GET /api/v1/devices?limit=3&after=lamp-0003&state=running HTTP/1.1\r\nhost: node\r\n\r\n";
    seeds.push(Steps::new().step(&[0, 3]).bytes(list).done());
    let chunked = b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let spawn = Steps::new()
        .step(&[0, 0])
        .bytes(b"POST /api/v1/devices/spawn HTTP/1.1\r\n");
    seeds.push(spawn.step(&[3, 0, 7]).bytes(chunked).done());
    seeds
}

fn grpc_seeds() -> Vec<Vec<u8>> {
    let golden = include_str!("../../../tests/remote/golden.txt");
    let mut seeds = Vec::new();
    for line in golden.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let ["bytes", message, digits] = words[..] else {
            continue;
        };
        let name = message.strip_suffix("Request").unwrap_or(message);
        let method = METHODS
            .iter()
            .position(|method| method.name == name)
            .unwrap_or(0) as u8;
        let (pairs, _) = digits.as_bytes().as_chunks::<2>();
        let bytes: Vec<u8> = pairs
            .iter()
            .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        seeds.push(Steps::new().step(&[0, 4, method, 0]).bytes(&bytes).done());
    }
    let status = Steps::new().step(&[0, 4, 7, 3]).bytes(b"");
    // a ping, a reset, a window, a goodbye
    let control = status.step(&[7, 6, 0, 0]).bytes(&[0; 8]);
    let control = control.step(&[7, 3, 0, 3]).bytes(&[0, 0, 0, 8]);
    let control = control.step(&[7, 8, 0, 0]).bytes(&[0x7f, 0xff, 0xff, 0xff]);
    seeds.push(control.step(&[7, 7, 0, 0]).bytes(&[0; 8]).done());
    seeds
}
