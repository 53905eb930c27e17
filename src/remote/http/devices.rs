//! What each route does.
//!
//! Devices go through the desk, as for gRPC; commands through the table's own dispatch, as at the
//! prompt. Bounds: [`STREAMS_MAX`] streams at once; [`COMMAND_TIME`] a command.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use actorsim_fleet::Profile;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value as Json, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, timeout_at};

use super::given::Given;
use super::routes::{Does, Route};
use super::{Api, Failure, Outcome, json as answer_json, openapi};
use crate::attach::command;
use crate::attach::control::{dispatch, only_looks};
use crate::attach::plane::devices::in_words;
use crate::attach::server::COMMAND_TIME;
use crate::metrics::Page;
use crate::remote::access::Right;
use crate::remote::desk::{Batch, Desk, DeskError, Devices, Row, Unspawned, Who};
use crate::remote::serve::{Body, answer};
use crate::remote::stream::{Item, Sample, Samples, Value, batches};

/// Streams of samples at once: each makes its own text of every value.
pub(super) const STREAMS_MAX: usize = 8;

/// Values sent together, if the client does not say, and the longest wait for them.
const BATCH: u64 = 50;
const FLUSH: Duration = Duration::from_millis(500);

/// A silent stream says that it lives, so that a client that went is seen.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Devices of one page, if the client does not say.
const PAGE: u64 = 100;

/// The right a request takes.
pub(super) fn right(route: &Route, given: &Given) -> Right {
    let command = given
        .text("command")
        .filter(|_| route.does == Does::Command);
    match command.and_then(command::find) {
        Some(command) if !only_looks(command, &given.args) => Right::Act,
        Some(_) => Right::Look,
        None => route.ask.map_or(Right::Look, |ask| ask.right()),
    }
}

/// Does what a route does.
pub(super) async fn act(
    api: &Api,
    streams: &Arc<Semaphore>,
    page: &Page,
    does: Does,
    given: &Given,
) -> Outcome {
    if let Some(runtime) = given.text("runtime") {
        here(&*api.desk, runtime)?;
    }
    let done = match does {
        Does::Health => json!({ "status": "ok" }),
        Does::Spawn => spawn(&*api.desk, given).await?,
        Does::Stop => stop(&*api.desk, given).await?,
        Does::Status => status(&*api.desk)?,
        Does::List => list(&*api.desk, given).await?,
        Does::Pause => pause(api, given, "terminate_child").await?,
        Does::Resume => pause(api, given, "restart_child").await?,
        Does::Node => node(&*api.desk, page)?,
        Does::Command => command(api, given).await?,
        Does::Stream => return sse(&*api.desk, streams, given),
        Does::OpenApi => openapi::document(),
        Does::Docs => {
            let html = "text/html; charset=utf-8";
            return Ok(answer(StatusCode::OK, html, openapi::page()));
        }
        // Answered before anybody was judged.
        Does::Healthz | Does::Readyz | Does::Metrics => Json::Null,
    };
    Ok(answer_json(StatusCode::OK, &done))
}

/// Whether a runtime is this node.
fn here(desk: &dyn Desk, runtime: &str) -> Result<(), Failure> {
    if desk.names().iter().any(|name| name == runtime) {
        return Ok(());
    }
    let names = desk.names().join(", ");
    let detail = format!("runtime `{runtime}` is not this node, which is called {names}");
    Err(Failure::wrong(detail))
}

async fn spawn(desk: &dyn Desk, given: &Given) -> Result<Json, Failure> {
    let name = given.text("profile").unwrap_or_default();
    let count = u32::try_from(given.count("count").unwrap_or(1)).unwrap_or(u32::MAX);
    let loaded = Profile::load(name).map_err(|errors| Failure::wrong(in_words(&errors)))?;
    desk.audit(&format!("spawn {name} {count} over HTTP"));
    let batch = Batch {
        profile: loaded.profile,
        devices: Devices::Count(count),
    };
    let spawned = desk.spawn(vec![batch]).await?;
    if let Some((_, why)) = spawned.failed.first().filter(|_| spawned.started == 0) {
        return Err(match why {
            Unspawned::Full(why) => DeskError::Full(why.clone()).into(),
            Unspawned::Stopping(why) => DeskError::Unavailable(why.clone()).into(),
            other => Failure::wrong(other.to_string()),
        });
    }
    let failed: Vec<_> = spawned.failed.into_iter().map(|(id, _)| id).collect();
    Ok(json!({ "spawned": spawned.started, "failed": failed }))
}

async fn stop(desk: &dyn Desk, given: &Given) -> Result<Json, Failure> {
    let who = match (given.flag("all"), given.text("device_type")) {
        (_, Some(device_type)) => Who::Labels(format!("device_type={device_type}")),
        (true, None) => Who::All,
        (false, None) => {
            let detail = "Provide 'all': true or a 'device_type' to stop.";
            return Err(Failure::wrong(detail));
        }
    };
    desk.audit(&format!("retire {} over HTTP", who.shown()));
    let (stopped, _) = desk.stop(who, true).await?;
    Ok(json!({ "stopped": stopped }))
}

fn status(desk: &dyn Desk) -> Result<Json, Failure> {
    let (mut total, mut by_state, mut by_type) = (0, Map::new(), Map::new());
    for count in desk.counts()? {
        total += count.devices;
        let state = crate::remote::state(count.state).1.to_owned();
        for (map, key) in [(&mut by_state, state), (&mut by_type, count.device_type)] {
            let before = map.get(&key).and_then(Json::as_u64).unwrap_or(0);
            map.insert(key, (before + count.devices).into());
        }
    }
    by_state.retain(|_, count| count.as_u64() > Some(0));
    let runtime = desk.runtime()?;
    let memory_mb = runtime.memory as f64 / (1 << 20) as f64;
    Ok(json!({
        "fleet": { "total_devices": total, "by_state": by_state, "by_type": by_type },
        "runtime": {
            "active_devices": runtime.devices, "goroutine_count": runtime.actors,
            "memory_mb": (memory_mb * 10.0).round() / 10.0,
            "uptime_seconds": runtime.uptime.as_secs_f64(),
        },
    }))
}

async fn list(desk: &dyn Desk, given: &Given) -> Result<Json, Failure> {
    let who = given.text("type").map_or(Who::All, |device_type| {
        Who::Labels(format!("device_type={device_type}"))
    });
    let states = given.text("state").map(crate::remote::states).transpose();
    let (states, after) = (states.map_err(Failure::wrong)?, given.text("after"));
    let mut rows = desk.list(who).await?;
    rows.retain(|row| {
        states
            .as_ref()
            .is_none_or(|states| states.contains(&row.state))
            && after.is_none_or(|after| *row.id > *after)
    });
    let limit = usize::try_from(given.count("limit").unwrap_or(PAGE)).unwrap_or(usize::MAX);
    let more = first_page(&mut rows, limit);
    let row = |row: &Row| {
        let state = match row.state {
            "starting" => "idle", // as the contract and the metrics call it
            other => other,
        };
        let labels = row.kind.labels.iter();
        let labels = labels.map(|(key, value)| (key.clone(), value.as_str().into()));
        json!({
            "device_id": row.id, "device_type": row.kind.device_type, "state": state,
            "labels": labels.collect::<Map<_, _>>(),
        })
    };
    let devices: Vec<_> = rows.iter().map(row).collect();
    Ok(json!({ "devices": devices, "more": more }))
}

/// Keeps the first so many by id, in order; returns whether there were more. Only the page is
/// sorted.
fn first_page(rows: &mut Vec<Row>, limit: usize) -> bool {
    let by_id = |a: &Row, b: &Row| a.id.cmp(&b.id);
    let more = rows.len() > limit;
    if more {
        rows.select_nth_unstable_by(limit, by_id);
        rows.truncate(limit);
    }
    rows.sort_unstable_by(by_id);
    more
}

async fn pause(api: &Api, given: &Given, verb: &str) -> Result<Json, Failure> {
    let id = given.text("id").unwrap_or_default();
    let Some(path) = api.desk.path(id) else {
        let detail = format!("no device {id} in this node");
        return Err(Failure::new(StatusCode::NOT_FOUND, detail));
    };
    let args = [("path".to_owned(), path.into())].into_iter().collect();
    run(api, verb, &args).await?;
    let rows = api.desk.list(Who::Ids(vec![id.to_owned()])).await?;
    let state = rows.first().map_or("stopped", |row| row.state);
    Ok(json!({ "device_id": id, "state": state }))
}

fn node(desk: &dyn Desk, page: &Page) -> Result<Json, Failure> {
    let (ready, unhealthy) = page.health();
    let runtime = desk.runtime()?;
    Ok(json!({
        "node": desk.names().first(), "version": crate::cli::VERSION, "ready": ready,
        "unhealthy": unhealthy, "uptime_seconds": runtime.uptime.as_secs_f64(),
        "devices": runtime.devices, "actors": runtime.actors,
        "messages_sent": runtime.sent, "memory_bytes": runtime.memory,
    }))
}

async fn command(api: &Api, given: &Given) -> Result<Json, Failure> {
    let name = given.text("command").unwrap_or_default();
    if command::find(name).is_none() {
        let detail = format!("no command `{name}`; /docs lists them");
        return Err(Failure::new(StatusCode::NOT_FOUND, detail));
    }
    run(api, name, &given.args).await
}

async fn run(api: &Api, command: &str, args: &Map<String, Json>) -> Result<Json, Failure> {
    let own = rustix::process::geteuid().as_raw();
    let answer = timeout(COMMAND_TIME, dispatch(&*api.plane, command, args, own)).await;
    answer.map_or_else(
        |_| {
            let detail = format!("no answer within {} s", COMMAND_TIME.as_secs());
            Err(Failure::new(StatusCode::GATEWAY_TIMEOUT, detail))
        },
        |answer| answer.map_err(Failure::from),
    )
}

/// Samples as server-sent events.
fn sse(desk: &dyn Desk, streams: &Arc<Semaphore>, given: &Given) -> Outcome {
    let who = match (given.text("device_ids"), given.text("device_type")) {
        (Some(ids), _) => Who::Ids(ids.split(',').map(|id| id.trim().to_owned()).collect()),
        (None, Some(device_type)) => Who::Labels(format!("device_type={device_type}")),
        (None, None) => Who::All,
    };
    let slot = Arc::clone(streams).try_acquire_owned().map_err(|_| {
        let detail = format!("{STREAMS_MAX} streams are open already");
        DeskError::Full(detail)
    })?;
    let samples = Samples::new(desk.watch()?, &who).map_err(Failure::wrong)?;
    let most = usize::try_from(given.count("batch_size").unwrap_or(BATCH)).unwrap_or(1);
    let batches = Box::pin(batches(samples, most, FLUSH, desk.batches()));
    let frames = stream::unfold(Sse { batches, slot }, |mut sse| async move {
        let text = sse.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), sse))
    });
    let body: Body = StreamBody::new(frames)
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut answer = Response::new(body);
    let kind = HeaderValue::from_static("text/event-stream");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(answer)
}

type Batches = Pin<Box<dyn futures_util::Stream<Item = (i64, Vec<Item>)> + Send>>;

/// One stream, and its place among [`STREAMS_MAX`].
struct Sse {
    batches: Batches,
    #[expect(dead_code, reason = "given back when the stream ends")]
    slot: OwnedSemaphorePermit,
}

impl Sse {
    /// The next text: a batch, or a sign of life.
    async fn next(&mut self) -> Option<String> {
        let until = tokio::time::Instant::now() + ALIVE_EVERY;
        match timeout_at(until, self.batches.next()).await {
            Err(_) => Some(":\n\n".to_owned()),
            Ok(batch) => batch.map(|(_, items)| items.iter().map(event).collect()),
        }
    }
}

fn event(item: &Item) -> String {
    match item {
        Item::Missed(missed) => {
            format!("event: lagged\ndata: {}\n\n", json!({ "missed": missed }))
        }
        Item::Sample(sample) => format!("data: {}\n\n", shown(sample)),
    }
}

fn shown(sample: &Sample) -> Json {
    let at = UNIX_EPOCH + Duration::from_micros(sample.unix_us);
    let value = match &sample.value {
        Value::Number(number) => json!(number), // NaN is null
        Value::Text(text) => json!(text),
        Value::Bool(on) => json!(on),
    };
    json!({
        "device_id": &*sample.device_id, "metric": sample.metric, "value": value,
        "timestamp": humantime::format_rfc3339_micros(at).to_string(),
    })
}
