//! The messages of `simulator.v1`, by number and name as in `docs/reference/simulator/v1/*.proto`.
//!
//! Written by hand on prost's derive: 22 messages cost less than a compiler of them in each build.
//! What comes a hundred thousand times in one request, and mostly alike, stays as the bytes it came
//! in ([`DeviceSpec`] is read from them one at a time). A test compares each with bytes made by
//! protobuf's own library. Bound: that of the request.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

pub(crate) type Labels = BTreeMap<String, String>;

/// `google.protobuf.Empty`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Empty {}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Duration {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(crate) fields: BTreeMap<String, Value>,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Value {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub(crate) kind: Option<Kind>,
}

/// Of a [`Value`].
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Kind {
    #[prost(int32, tag = "1")]
    Null(i32),
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
    #[prost(message, tag = "5")]
    Struct(Struct),
    #[prost(message, tag = "6")]
    List(List),
}

/// `google.protobuf.ListValue`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct List {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum DeviceState {
    Unspecified = 0,
    Idle = 1,
    Running = 2,
    Error = 3,
    Stopped = 4,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeviceProfile {
    #[prost(string, tag = "1")]
    pub(crate) device_id: String,
    #[prost(string, tag = "2")]
    pub(crate) device_type: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(crate) labels: Labels,
    #[prost(enumeration = "DeviceState", tag = "4")]
    pub(crate) state: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeviceSpec {
    #[prost(string, tag = "1")]
    pub(crate) device_id: String,
    #[prost(string, tag = "2")]
    pub(crate) device_type: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(crate) labels: Labels,
    #[prost(message, optional, tag = "4")]
    pub(crate) telemetry_interval: Option<Duration>,
    #[prost(message, optional, tag = "5")]
    pub(crate) behavior_params: Option<Struct>,
    #[prost(string, tag = "6")]
    pub(crate) protocol: String,
    #[prost(string, tag = "7")]
    pub(crate) topic_template: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SpawnDevicesRequest {
    /// [`DeviceSpec`]s, as they came: a message is written like bytes.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) specs: Vec<Bytes>,
    #[prost(string, tag = "2")]
    pub(crate) scenario_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SpawnDevicesResponse {
    #[prost(int32, tag = "1")]
    pub(crate) spawned: i32,
    #[prost(string, repeated, tag = "2")]
    pub(crate) failed_device_ids: Vec<String>,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(crate) failure_reasons: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeviceIdList {
    #[prost(string, repeated, tag = "1")]
    pub(crate) ids: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeviceSelector {
    #[prost(oneof = "Selector", tags = "1, 2")]
    pub(crate) selector: Option<Selector>,
}

/// Of a [`DeviceSelector`].
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Selector {
    #[prost(message, tag = "1")]
    DeviceIds(DeviceIdList),
    #[prost(string, tag = "2")]
    LabelSelector(String),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StopDevicesRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) selector: Option<DeviceSelector>,
    #[prost(bool, tag = "2")]
    pub(crate) graceful: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StopDevicesResponse {
    #[prost(int32, tag = "1")]
    pub(crate) stopped: i32,
    #[prost(string, repeated, tag = "2")]
    pub(crate) failed_device_ids: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetFleetStatusRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) selector: Option<DeviceSelector>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FleetStatus {
    #[prost(int32, tag = "1")]
    pub(crate) total_devices: i32,
    #[prost(btree_map = "string, int32", tag = "2")]
    pub(crate) by_state: BTreeMap<String, i32>,
    #[prost(btree_map = "string, int32", tag = "3")]
    pub(crate) by_type: BTreeMap<String, i32>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) devices: Vec<DeviceProfile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum FaultType {
    Unspecified = 0,
    Disconnect = 1,
    LatencySpike = 2,
    DataCorruption = 3,
    BatteryDrain = 4,
    ClockDrift = 5,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct InjectFaultRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) selector: Option<DeviceSelector>,
    #[prost(enumeration = "FaultType", tag = "2")]
    pub(crate) fault_type: i32,
    #[prost(message, optional, tag = "3")]
    pub(crate) duration: Option<Duration>,
    #[prost(message, optional, tag = "4")]
    pub(crate) parameters: Option<Struct>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UpdateDeviceBehaviorRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) selector: Option<DeviceSelector>,
    #[prost(message, optional, tag = "2")]
    pub(crate) behavior_params: Option<Struct>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamTelemetryRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) selector: Option<DeviceSelector>,
    #[prost(int32, tag = "2")]
    pub(crate) batch_size: i32,
    #[prost(message, optional, tag = "3")]
    pub(crate) flush_interval: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TelemetryPoint {
    #[prost(string, tag = "1")]
    pub(crate) device_id: String,
    #[prost(string, tag = "2")]
    pub(crate) metric_name: String,
    #[prost(oneof = "Point", tags = "3, 4, 5, 6")]
    pub(crate) value: Option<Point>,
    #[prost(message, optional, tag = "7")]
    pub(crate) timestamp: Option<Timestamp>,
    #[prost(btree_map = "string, string", tag = "8")]
    pub(crate) tags: Labels,
}

/// Value of a [`TelemetryPoint`].
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Point {
    #[prost(double, tag = "3")]
    Double(f64),
    #[prost(int64, tag = "4")]
    Int(i64),
    #[prost(string, tag = "5")]
    Text(String),
    #[prost(bool, tag = "6")]
    Bool(bool),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TelemetryBatch {
    #[prost(message, repeated, tag = "1")]
    pub(crate) points: Vec<TelemetryPoint>,
    #[prost(int64, tag = "2")]
    pub(crate) sequence_number: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamEventsRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) selector: Option<DeviceSelector>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum DeviceEventType {
    Unspecified = 0,
    Spawned = 1,
    Connected = 2,
    Disconnected = 3,
    Error = 4,
    FaultInjected = 5,
    Stopped = 6,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeviceEvent {
    #[prost(string, tag = "1")]
    pub(crate) device_id: String,
    #[prost(enumeration = "DeviceEventType", tag = "2")]
    pub(crate) event_type: i32,
    #[prost(string, tag = "3")]
    pub(crate) message: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) timestamp: Option<Timestamp>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(crate) metadata: Labels,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RuntimeStatus {
    #[prost(int32, tag = "1")]
    pub(crate) active_devices: i32,
    #[prost(int32, tag = "2")]
    pub(crate) goroutine_count: i32,
    #[prost(int64, tag = "3")]
    pub(crate) messages_sent_total: i64,
    #[prost(double, tag = "4")]
    pub(crate) messages_per_second: f64,
    #[prost(int64, tag = "5")]
    pub(crate) memory_bytes: i64,
    #[prost(message, optional, tag = "6")]
    pub(crate) uptime: Option<Duration>,
}
