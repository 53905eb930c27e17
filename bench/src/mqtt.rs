//! `mqtt`: devices that publish, each on a TCP connection and an MQTT session of its own.
//!
//! A whole node without a world in one process; the broker is a [`Sink`] in a process of its own.
//! The numbers are read from the run report. Bound: each run ends by its own `--for`.

use peer_probe::Job;
use serde_json::{Value, json};

use crate::node::report_of;
use crate::scenario::{Load, Scenario, Shapes, metric};
use crate::sink::{self, Sink};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "mqtt",
    label: "a node without a world in one child process, each device with a TCP connection and an \
            MQTT 3.1.1 session of its own, one JSON sample of QoS 1 every 5 s, to a broker on \
            io_uring in another process: sessions up at the end; acknowledged/s of run, \
            connecting included; p99 from publishing to PUBACK; resident memory of the whole node \
            by devices (kernel memory of sockets is not in it); CPU s of the node per million \
            acknowledged",
    shapes: Shapes::Sizes {
        sizes: &[15_000, 100_000],
        seconds: 120,
    },
    smoke: Load {
        size: 100,
        seconds: 8,
    },
    metrics: &[
        metric("connected", "1"),
        metric("acked_per_s", "1/s"),
        metric("publish_p99", "ms"),
        metric("bytes_per_device", "B"),
        metric("cpu_s_per_million", "s"),
    ],
    child,
    peers: &[],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: std::time::Duration::from_secs(600),
    bytes_each_max: 16 << 10,
};

/// The broker, where that is asked for; else the node that is measured.
fn child(job: &Job) -> Result<Value, String> {
    if job.shape == "sink" {
        return sink::run(job.size as u16).map(|()| Value::Null);
    }
    let sink = Sink::start(0)?;
    let url = format!("mqtt://127.0.0.1:{}", sink.port);
    let flags = [
        "--no-world",
        "--profile",
        "factory_mqtt",
        "--mqtt-url",
        &url,
    ];
    report_of(job, &flags).map(|report| numbers(&report))
}

/// The numbers of a run report.
fn numbers(report: &Value) -> Value {
    let number = |pointer: &str| report.pointer(pointer)?.as_f64();
    let acked = number("/publish/mqtt/acked").filter(|acked| *acked > 0.0);
    let per = |of: Option<f64>, by: Option<f64>| Some(of? / by?);
    json!({
        "connected": number("/publish/mqtt/connected"),
        "acked_per_s": per(acked, number("/elapsed_s")),
        "publish_p99": number("/publish/mqtt/latency_us/p99").map(|us| us / 1e3),
        "bytes_per_device": per(number("/process/rss_bytes"), number("/devices/requested")),
        "cpu_s_per_million": per(number("/process/cpu_s"), acked).map(|s| s * 1e6),
    })
}
