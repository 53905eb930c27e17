//! The table of routes: it routes requests, checks what they give, and is the OpenAPI page.
//!
//! The commands of [`crate::attach::command`] are routes, too: one each, made from their table.
//! Bound: fixed at compile time.

use hyper::Method;

use crate::remote::desk::{self, Ask};

use Kind::{Count, Flag, Text};
use Place::{Body, Path, Query};

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Is the process there.
    Health,
    /// Is the node healthy.
    Healthz,
    /// Is it up.
    Readyz,
    /// Prometheus text.
    Metrics,
    /// Devices start.
    Spawn,
    /// Devices stop.
    Stop,
    /// Devices and runtime, counted.
    Status,
    /// Samples, as they are sent.
    Stream,
    /// Devices, a page at a time.
    List,
    /// A device stops, to go on later.
    Pause,
    /// It goes on.
    Resume,
    /// The node.
    Node,
    /// A command of the table.
    Command,
    /// The OpenAPI document.
    OpenApi,
    /// The same for people.
    Docs,
}

/// What is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number from the first to the second.
    Count(u64, u64),
    /// `true` or `false`.
    Flag,
}

/// Where it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path.
    Path,
    /// After the question mark.
    Query,
    /// In the body, a JSON object.
    Body,
}

/// One thing that is given.
#[derive(Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// Where.
    pub place: Place,
    /// What.
    pub kind: Kind,
    /// Must be given.
    pub required: bool,
    /// What it means.
    pub help: &'static str,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: Method,
    /// The path; `{name}` stands for a segment.
    pub path: &'static str,
    /// What it does.
    pub does: Does,
    /// The command it stands for; none if everybody may.
    pub ask: Option<Ask>,
    /// What it does, in one line.
    pub help: &'static str,
    /// What it takes.
    pub params: &'static [Param],
    /// What it answers, in words or as an example.
    pub answers: &'static str,
}

impl Route {
    /// Whether a body is read.
    #[must_use]
    pub fn takes_body(&self) -> bool {
        self.does == Does::Command || self.params.iter().any(|param| param.place == Body)
    }
}

const fn param(
    name: &'static str,
    place: Place,
    kind: Kind,
    required: bool,
    help: &'static str,
) -> Param {
    Param {
        name,
        place,
        kind,
        required,
        help,
    }
}

const RUNTIME: &str = "the node to act on: this one's name, or its gRPC address";
const ID: Param = param("id", Path, Text, true, "the device's id");

macro_rules! routes {
    ($($method:ident $path:literal $does:ident $ask:expr, $help:literal, $params:expr,
        $answers:expr;)*) => {
        /// Every route, the commands' as one.
        pub const ROUTES: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            does: Does::$does,
            ask: $ask,
            help: $help,
            params: $params,
            answers: $answers,
        },)*];
    };
}

/// Something in the body, or after the question mark, that may be left out.
const fn optional(name: &'static str, place: Place, kind: Kind, help: &'static str) -> Param {
    param(name, place, kind, false, help)
}

const STATUS: &str = r#"{"fleet": {"total_devices": 3, "by_state": {"DEVICE_STATE_RUNNING": 3},
    "by_type": {"single": 3}}, "runtime": {"active_devices": 3, "goroutine_count": 30,
    "memory_mb": 40.5, "uptime_seconds": 7.2}}"#;
const SAMPLE: &str = r#"data: {"device_id": "single-0000", "metric": "temperature",
    "value": 21.5, "timestamp": "2026-01-01T00:00:00.000000Z"}; a client that is too slow gets
    `event: lagged` with what it missed"#;
const LIST: &str = r#"{"devices": [{"device_id": "single-0000", "device_type": "single",
    "state": "running", "labels": {"device_type": "single"}}], "more": false}"#;
const NODE: &str = r#"{"node": "local", "version": "0.1.0", "ready": true, "unhealthy": [],
    "uptime_seconds": 7.2, "devices": 3, "actors": 30, "messages_sent": 90,
    "memory_bytes": 40000000}"#;

routes! {
    POST "/api/v1/devices/spawn" Spawn Some(desk::SPAWN), "Start devices of a profile.",
        &[
            param("profile", Body, Text, true, "a shipped profile, or a file"),
            optional("count", Body, Count(1, 10_000_000), "how many; 1 if absent"),
            optional("runtime", Body, Text, RUNTIME),
        ],
        r#"{"spawned": 3, "failed": []}"#;
    POST "/api/v1/devices/stop" Stop Some(desk::STOP), "Stop devices in order.",
        &[
            optional("all", Body, Flag, "all devices"),
            optional("device_type", Body, Text, "those of this type"),
            optional("runtime", Body, Text, RUNTIME),
        ],
        r#"{"stopped": 3}"#;
    GET "/api/v1/devices/status" Status Some(desk::LOOK), "Devices and runtime, counted.",
        &[optional("runtime", Query, Text, RUNTIME)], STATUS;
    GET "/api/v1/devices/stream" Stream Some(desk::LOOK),
        "What devices measure from now on, as server-sent events.",
        &[
            optional("device_type", Query, Text, "only those of this type"),
            optional("device_ids", Query, Text, "only these, joined by commas"),
            optional("batch_size", Query, Count(1, 500), "values sent together; 50 if absent"),
            optional("runtime", Query, Text, RUNTIME),
        ],
        SAMPLE;
    GET "/api/v1/devices" List Some(desk::LOOK), "Devices, a page at a time.",
        &[
            optional("type", Query, Text, "only those of this type"),
            optional("state", Query, Text, "only those in it: idle, running, error or stopped"),
            optional("after", Query, Text, "those after this id, for the next page"),
            optional("limit", Query, Count(1, 10_000), "how many; 100 if absent"),
        ],
        LIST;
    POST "/api/v1/devices/{id}/pause" Pause Some(desk::PAUSE),
        "Stop a device in order; its series goes on when it is resumed.", &[ID],
        r#"{"device_id": "single-0000", "state": "stopped"}"#;
    POST "/api/v1/devices/{id}/resume" Resume Some(desk::RESUME),
        "Start a paused device again.", &[ID],
        r#"{"device_id": "single-0000", "state": "running"}"#;
    GET "/api/v1/status" Node Some(desk::LOOK), "The node: ready, well, and what it runs.",
        &[], NODE;
    POST "/api/v1/commands/{command}" Command Some(desk::LOOK),
        "A command of the prompt; its arguments are the body.",
        &[param("command", Path, Text, true, "the command")], "what the command answers";
    GET "/api/v1/health" Health Some(desk::LOOK), "Whether the API answers.", &[],
        r#"{"status": "ok"}"#;
    GET "/openapi.json" OpenApi Some(desk::LOOK), "This page for programs.", &[], "OpenAPI 3.1";
    GET "/docs" Docs Some(desk::LOOK), "This page for people.", &[], "HTML";
    GET "/healthz" Healthz None, "200 while the node is healthy, else 503.", &[], "text";
    GET "/readyz" Readyz None, "200 once the node is up, else 503.", &[], "text";
    GET "/metrics" Metrics None, "Prometheus text.", &[], "text";
}

/// What the segments of a path stand for.
pub type Segments = Vec<(&'static str, String)>;

/// The route of a request.
#[must_use]
pub fn find(method: &Method, path: &str) -> Option<(&'static Route, Segments)> {
    let here = |route: &'static Route| Some((route, matches(route.path, path)?));
    let mut routes = ROUTES.iter().filter(|route| route.method == *method);
    routes.find_map(here)
}

fn matches(pattern: &'static str, path: &str) -> Option<Segments> {
    let mut given = path.split('/');
    let mut segments = Vec::new();
    for part in pattern.split('/') {
        let text = given.next()?;
        match part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        {
            Some(name) if !text.is_empty() => {
                segments.push((name, super::given::decoded(text)?));
            }
            None if part == text => {}
            _ => return None,
        }
    }
    given.next().is_none().then_some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::command;

    #[test]
    fn a_path_leads_to_its_route() {
        for (method, path, does) in [
            (Method::GET, "/api/v1/devices", Some(Does::List)),
            (Method::GET, "/api/v1/devices/", None),
            (Method::POST, "/api/v1/devices", None),
            (
                Method::POST,
                "/api/v1/devices/a%2Db/pause",
                Some(Does::Pause),
            ),
            (Method::POST, "/api/v1/devices//pause", None),
            (Method::POST, "/api/v1/commands/ps", Some(Does::Command)),
            (Method::POST, "/api/v1/commands/ps/x", None),
        ] {
            let found = find(&method, path);
            assert_eq!(found.as_ref().map(|(route, _)| route.does), does, "{path}");
            if does == Some(Does::Pause) {
                assert_eq!(found.unwrap().1, [("id", "a-b".to_owned())]);
            }
        }
    }

    #[test]
    fn every_route_stands_for_a_command_of_the_table() {
        for route in ROUTES {
            if let Some(ask) = route.ask {
                assert!(command::find(ask.0).is_some(), "{}: {}", route.path, ask.0);
            }
        }
    }
}
