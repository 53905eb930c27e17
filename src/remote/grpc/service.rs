//! The methods of `simulator.v1`: messages in, the desk's vocabulary, messages out.
//!
//! Counts that pass `i32` saturate. Bounds: [`BATCH_MAX`] points a batch, [`DEVICES_MAX`] devices
//! listed in one status (all are counted).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration as Time;

use actorsim_fleet::Injection;
use actorsim_fleet::fault::{FaultSpec, FaultWords};
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::Value as Json;
use tokio::time::Instant;
use tonic::Status;

use super::message::{
    DeviceEvent, DeviceEventType, DeviceProfile, DeviceSelector, Duration, Empty, FaultType,
    FleetStatus, GetFleetStatusRequest, InjectFaultRequest, Point, RuntimeStatus, Selector,
    SpawnDevicesRequest, SpawnDevicesResponse, StopDevicesRequest, StopDevicesResponse,
    StreamEventsRequest, StreamTelemetryRequest, Struct, TelemetryBatch, TelemetryPoint, Timestamp,
    UpdateDeviceBehaviorRequest,
};
use super::{Answers, Grpc, Method, STREAMS_MAX, guarded, many, once, placed, specs};
use crate::remote::desk::{Desk, Row, Unspawned, Who};
use crate::remote::serve::Body;
use crate::remote::state;
use crate::remote::stream::{self, Item, Sample, Value};

/// Points of one batch of telemetry.
const BATCH_MAX: usize = 10_000;

/// Points of one batch, if the client does not say.
const BATCH: usize = 100;

/// Longest and shortest wait for a batch to be full, and the one if the client does not say.
const FLUSH_MAX: Time = Time::from_secs(60);
const FLUSH_MIN: Time = Time::from_millis(10);
const FLUSH: Time = Time::from_millis(500);

/// Devices listed in one status: 100 MB of names, below what the client takes.
const DEVICES_MAX: usize = 1_000_000;

impl Grpc {
    /// Answers a call of a method that the caller may use. Streams go on until `ends`, or for as
    /// long as their client wants.
    pub(super) async fn route(
        self: Arc<Self>,
        method: &'static Method,
        request: Request<Incoming>,
        ends: Option<Instant>,
    ) -> Response<Body> {
        let desk = || Arc::clone(&self.desk);
        let answer = match method.name {
            "SpawnDevices" => {
                let _one = self.spawns.acquire().await;
                once(method, request, |m| spawn(desk(), m)).await
            }
            "GetFleetStatus" => {
                let place = Arc::clone(&self.lists).acquire_owned().await.ok();
                let answer = once(method, request, |m| fleet_status(desk(), m)).await;
                return placed(answer, place);
            }
            "StreamTelemetry" | "StreamEvents" => {
                let Ok(place) = Arc::clone(&self.streams).try_acquire_owned() else {
                    let full = format!("{STREAMS_MAX} streams are open already");
                    return Status::resource_exhausted(full).into_http();
                };
                let answer = match method.name {
                    "StreamTelemetry" => many(method, request, (desk(), ends), telemetry).await,
                    _ => many(method, request, (desk(), ends), events).await,
                };
                return placed(answer, Some(place));
            }
            "StopDevices" => once(method, request, |m| stop(desk(), m)).await,
            "InjectFault" => once(method, request, |m| inject(desk(), m)).await,
            "UpdateDeviceBehavior" => once(method, request, |m| update(desk(), m)).await,
            _ => once(method, request, |m: Empty| runtime_status(desk(), m)).await,
        };
        placed(answer, None)
    }
}

fn count(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

fn who(selector: Option<DeviceSelector>) -> Result<Who, Status> {
    match selector.and_then(|selector| selector.selector) {
        None => Ok(Who::All),
        Some(Selector::DeviceIds(list)) => Ok(Who::Ids(list.ids)),
        Some(Selector::LabelSelector(labels)) => {
            stream::labels(&labels).map_err(Status::invalid_argument)?;
            Ok(Who::Labels(labels))
        }
    }
}

async fn spawn(
    desk: Arc<dyn Desk>,
    request: SpawnDevicesRequest,
) -> Result<SpawnDevicesResponse, Status> {
    if request.specs.is_empty() {
        return Err(Status::invalid_argument("specs must not be empty"));
    }
    let asked = request.specs.len();
    let specs::Read {
        batches,
        mut failed,
    } = specs::read(&request.specs);
    drop(request);
    desk.audit(&format!("spawn {asked} devices over gRPC"));
    let mut started = 0;
    if !batches.is_empty() {
        let spawned = desk.spawn(batches).await?;
        started = spawned.started;
        failed.extend(spawned.failed);
    }
    if let Some(status) = refused(&failed).filter(|_| started == 0) {
        return Err(status);
    }
    Ok(SpawnDevicesResponse {
        spawned: count(started),
        failed_device_ids: failed.iter().map(|(id, _)| id.clone()).collect(),
        failure_reasons: failed
            .into_iter()
            .map(|(id, why)| (id, why.to_string()))
            .collect(),
    })
}

/// The status of a request of which nothing started: that of its specs, if it is the same for all.
fn refused(failed: &[(String, Unspawned)]) -> Option<Status> {
    let (_, first) = failed.first()?;
    let alike = |why: &Unspawned| std::mem::discriminant(why) == std::mem::discriminant(first);
    if !failed.iter().all(|(_, why)| alike(why)) {
        return None;
    }
    let text = match failed.len() {
        1 => first.to_string(),
        many => format!("{first}; and {} more", many - 1),
    };
    Some(match first {
        Unspawned::Exists(_) => Status::already_exists(text),
        Unspawned::Id(_) | Unspawned::Wrong(_) => Status::invalid_argument(text),
        Unspawned::Full(_) => Status::resource_exhausted(text),
        Unspawned::Stopping(_) => Status::unavailable(text),
    })
}

async fn stop(
    desk: Arc<dyn Desk>,
    request: StopDevicesRequest,
) -> Result<StopDevicesResponse, Status> {
    let who = who(request.selector)?;
    let how = if request.graceful { "" } else { " --now" };
    desk.audit(&format!("retire {}{how} over gRPC", who.shown()));
    let (stopped, failed_device_ids) = desk.stop(who, request.graceful).await?;
    Ok(StopDevicesResponse {
        stopped: count(stopped),
        failed_device_ids,
    })
}

async fn fleet_status(
    desk: Arc<dyn Desk>,
    request: GetFleetStatusRequest,
) -> Result<FleetStatus, Status> {
    let rows = desk.list(who(request.selector)?).await?;
    let (mut by_state, mut by_type) = (BTreeMap::new(), BTreeMap::new());
    for row in &rows {
        *by_state.entry(state(row.state).1).or_insert(0usize) += 1;
        *by_type
            .entry(row.kind.device_type.as_str())
            .or_insert(0usize) += 1;
    }
    let by_type = by_type.into_iter();
    Ok(FleetStatus {
        total_devices: count(rows.len()),
        by_state: by_state
            .into_iter()
            .map(|(state, n)| (state.to_owned(), count(n)))
            .collect(),
        by_type: by_type
            .map(|(kind, n)| (kind.to_owned(), count(n)))
            .collect(),
        devices: rows.into_iter().take(DEVICES_MAX).map(profile).collect(),
    })
}

fn profile(row: Row) -> DeviceProfile {
    DeviceProfile {
        state: state(row.state).0,
        device_id: row.id,
        device_type: row.kind.device_type.clone(),
        labels: row.kind.labels.iter().cloned().collect(),
    }
}

async fn inject(desk: Arc<dyn Desk>, request: InjectFaultRequest) -> Result<Empty, Status> {
    let fault = fault(&request)?;
    let who = who(request.selector)?;
    let what = fault.fault.kind();
    desk.audit(&format!("fault inject {} {what} over gRPC", who.shown()));
    desk.inject(who, fault).await?;
    Ok(Empty {})
}

/// The fault a request means.
fn fault(request: &InjectFaultRequest) -> Result<FaultSpec, Status> {
    let kind = match FaultType::try_from(request.fault_type) {
        Ok(FaultType::Disconnect) => "disconnect",
        Ok(FaultType::LatencySpike) => "latency_spike",
        Ok(FaultType::DataCorruption) => "data_corruption",
        Ok(FaultType::BatteryDrain) => "battery_drain",
        Ok(FaultType::ClockDrift) => "clock_drift",
        Ok(FaultType::Unspecified) => {
            return Err(Status::invalid_argument("fault_type must be specified"));
        }
        Err(_) => {
            let unknown = format!("unknown fault_type {}", request.fault_type);
            return Err(Status::invalid_argument(unknown));
        }
    };
    let bad = |wrong: String| Status::invalid_argument(wrong);
    let millis = request.duration.as_ref().map(specs::millis).transpose();
    let duration = millis.map_err(bad)?.map(|millis| format!("{millis}ms"));
    let mut params = parameters(request.parameters.clone()).map_err(bad)?;
    if kind == "data_corruption" && params.is_empty() {
        params.push(("corruption_rate".to_owned(), "1".to_owned())); // the original's default
    }
    let params: Vec<_> = params
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    let words = FaultWords {
        kind,
        duration: duration.as_deref(),
        params: &params,
    };
    match words.read() {
        Ok(Injection::Fault(fault)) => Ok(fault),
        Ok(_) => Err(Status::invalid_argument("not a fault that lasts")),
        Err(wrong) => Err(bad(wrong.join("; "))),
    }
}

fn parameters(given: Option<Struct>) -> Result<Vec<(String, String)>, String> {
    let given = given.unwrap_or_default().fields.into_iter();
    let text = |(name, value)| {
        Ok(match specs::json(value, 1)? {
            Json::String(text) => (name, text),
            other => (name, other.to_string()),
        })
    };
    given.map(text).collect()
}

async fn update(
    desk: Arc<dyn Desk>,
    request: UpdateDeviceBehaviorRequest,
) -> Result<Empty, Status> {
    let who = who(request.selector)?;
    let params = request.behavior_params.unwrap_or_default();
    let fields = specs::fields(params).map_err(Status::invalid_argument)?;
    if fields.as_object().is_some_and(serde_json::Map::is_empty) {
        return Err(Status::invalid_argument("behavior_params.fields is empty"));
    }
    desk.audit(&format!("update {} over gRPC", who.shown()));
    desk.update(who, fields.to_string()).await?;
    Ok(Empty {})
}

fn runtime_status(
    desk: Arc<dyn Desk>,
    _: Empty,
) -> impl Future<Output = Result<RuntimeStatus, Status>> + Send {
    guarded(async move {
        let runtime = desk.runtime()?;
        let long = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Ok(RuntimeStatus {
            active_devices: count(runtime.devices),
            goroutine_count: count(runtime.actors),
            messages_sent_total: long(runtime.sent),
            messages_per_second: runtime.sent_s,
            memory_bytes: long(runtime.memory),
            uptime: Some(Duration {
                seconds: long(runtime.uptime.as_secs()),
                nanos: runtime.uptime.subsec_nanos() as i32,
            }),
        })
    })
}

fn telemetry(
    desk: &Arc<dyn Desk>,
    request: StreamTelemetryRequest,
) -> Result<Answers<TelemetryBatch>, Status> {
    let most = match usize::try_from(request.batch_size) {
        Ok(0) => BATCH,
        Ok(most) => most.min(BATCH_MAX),
        Err(_) => return Err(Status::invalid_argument("batch_size is negative")),
    };
    let flush = match request.flush_interval.as_ref().map(specs::millis) {
        None => FLUSH,
        Some(Err(wrong)) => return Err(Status::invalid_argument(wrong)),
        Some(Ok(millis)) => {
            let given = Time::try_from_secs_f64(millis / 1e3).unwrap_or(FLUSH_MAX);
            given.clamp(FLUSH_MIN, FLUSH_MAX)
        }
    };
    let who = who(request.selector)?;
    let samples = stream::Samples::new(desk.watch()?, &who).map_err(Status::invalid_argument)?;
    let batches = stream::batches(samples, most, flush, desk.batches());
    // What is missing shows in the numbers.
    let batch = |(sequence_number, items): (i64, Vec<Item>)| {
        let points: Vec<_> = items.into_iter().filter_map(point).collect();
        let batch = (!points.is_empty()).then_some(TelemetryBatch {
            points,
            sequence_number,
        });
        std::future::ready(batch.map(Ok))
    };
    Ok(Box::pin(futures_util::StreamExt::filter_map(
        batches, batch,
    )))
}

fn timestamp(unix_us: u64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: i64::try_from(unix_us / 1_000_000).unwrap_or(i64::MAX),
        nanos: (unix_us % 1_000_000 * 1_000) as i32,
    })
}

fn point(item: Item) -> Option<TelemetryPoint> {
    let Item::Sample(Sample {
        device_id,
        metric,
        value,
        unix_us,
        subject,
    }) = item
    else {
        return None;
    };
    Some(TelemetryPoint {
        device_id: device_id.to_string(),
        metric_name: metric,
        value: Some(match value {
            Value::Number(number) => Point::Double(number),
            Value::Text(text) => Point::Text(text),
            Value::Bool(on) => Point::Bool(on),
        }),
        timestamp: timestamp(unix_us),
        tags: subject.profile.labels.iter().cloned().collect(),
    })
}

fn events(
    desk: &Arc<dyn Desk>,
    request: StreamEventsRequest,
) -> Result<Answers<DeviceEvent>, Status> {
    let who = who(request.selector)?;
    let news = stream::news(desk.news()?, &who, Arc::clone(desk));
    let news = news.map_err(Status::invalid_argument)?;
    Ok(Box::pin(futures_util::StreamExt::map(news, |item| {
        Ok(match item {
            stream::Told::Missed(missed) => DeviceEvent {
                event_type: DeviceEventType::Unspecified.into(),
                message: format!("{missed} events are lost to this client: it was too slow"),
                metadata: [("missed".to_owned(), missed.to_string())].into(),
                ..DeviceEvent::default()
            },
            stream::Told::Event(event) => DeviceEvent {
                device_id: event.device_id,
                event_type: event_type(event.happened).into(),
                message: event.text.to_string(),
                timestamp: timestamp(event.at_us),
                metadata: [("device_type".to_owned(), event.device_type)].into(),
            },
        })
    })))
}

fn event_type(happened: actorsim_fleet::watch::Happened) -> DeviceEventType {
    use actorsim_fleet::watch::Happened;
    match happened {
        Happened::Spawned => DeviceEventType::Spawned,
        Happened::Connected => DeviceEventType::Connected,
        Happened::Disconnected => DeviceEventType::Disconnected,
        Happened::Error => DeviceEventType::Error,
        Happened::FaultInjected => DeviceEventType::FaultInjected,
        Happened::Stopped => DeviceEventType::Stopped,
    }
}

#[cfg(test)]
mod tests;
