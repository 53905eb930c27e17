//! `mqtt`: devices that publish, each on a TCP connection and an MQTT session of its own; and, for
//! comparison, on a few that they share.
//!
//! A whole node without a world in one process; the broker is a process of its own (module `sink`),
//! or a real one (`mosquitto`). Numbers are read from the run report and asked of the sink. Bound:
//! each run ends by its own `--for`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use peer_probe::{Broker, Counts, Job, MQTT_CLIENTS_MAX, cpu_s};
use serde_json::{Value, json};

use crate::node::{report_in, scratch};
use crate::scenario::{Load, Scenario, Shapes, metric};
use crate::{mosquitto, sink};

/// Shapes beside the plain ones.
const POOLED: &str = "pooled";
const MOSQUITTO: &str = "mosquitto";

/// Connections of the pool.
const POOL_SIZE: u64 = 8;

const fn load(size: u64) -> Load {
    let seconds = 120;
    Load { size, seconds }
}

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "mqtt",
    label: "a node without a world in one child process, each device with a TCP connection and an \
            MQTT 3.1.1 session of its own (`pooled`: all on 8 that they share), one JSON sample of \
            QoS 1 every 5 s, to a broker on io_uring in another process (`mosquitto`: to mosquitto \
            from the host): devices with a session at the end; seconds until all were up; \
            acknowledged/s since then; p99 from publishing to PUBACK; resident memory of the whole \
            node by devices (kernel memory of sockets is not in it); CPU s of the node per million \
            acknowledged; seconds from the first goodbye to the last of an ordered stop; sessions \
            that ended without one. Peers: one client per device on tokio, or on Node.js: 15,000, \
            and beside the 100,000 as many as a process may open files for, 19,500 at most (of \
            those on Node.js the acknowledged are those that the broker took)",
    shapes: Shapes::Named(&[
        ("15k", load(15_000)),
        ("100k", load(100_000)),
        (POOLED, load(100_000)),
        (MOSQUITTO, load(15_000)),
    ]),
    smoke: Load {
        size: 100,
        seconds: 8,
    },
    metrics: &[
        metric("connected", "1"),
        metric("all_up", "s"),
        metric("acked_per_s", "1/s"),
        metric("publish_p99", "ms"),
        metric("bytes_per_device", "B"),
        metric("cpu_s_per_million", "s"),
        metric("leaving", "s"),
        metric("wills", "1"),
    ],
    child,
    peers: &["rumqttc", "mqtt5", "MQTT.js", "mqttx-cli"],
    own_shapes: &[(POOLED, &[]), (MOSQUITTO, &[])],
    peer_sizes: &[
        ("rumqttc", MQTT_CLIENTS_MAX),
        ("mqtt5", MQTT_CLIENTS_MAX),
        ("MQTT.js", MQTT_CLIENTS_MAX),
        ("mqttx-cli", MQTT_CLIENTS_MAX),
    ],
    time_limit: Duration::from_secs(600),
    bytes_each_max: 40 << 10,
};

/// The broker or the certificates, where those are asked for; else the node that is measured.
fn child(job: &Job) -> Result<Value, String> {
    match job.shape.as_str() {
        "sink" => sink::run(job.size as u16).map(|()| Value::Null),
        "certs" => sink::certificates(job.size).map(|()| Value::Null),
        MOSQUITTO => mosquitto::measure(job),
        POOLED => measure(job, &Way::Pooled, |_, _| Ok(())).map(|run| run.numbers()),
        _ => measure(job, &Way::Plain, |_, _| Ok(())).map(|run| run.numbers()),
    }
}

/// How devices reach their broker.
pub(crate) enum Way {
    Plain,
    /// Over mutual TLS, each with a certificate of its own.
    Tls,
    /// On connections that they share.
    Pooled,
}

impl Way {
    /// Sessions that the broker has when all devices are up.
    const fn sessions(&self, devices: u64) -> u64 {
        match self {
            Self::Plain | Self::Tls => devices,
            Self::Pooled => POOL_SIZE,
        }
    }
}

/// What one run has shown.
pub(crate) struct Run {
    pub(crate) report: Value,
    pub(crate) counts: Counts,
    pub(crate) up: Up,
    acked_per_s: Option<f64>,
}

/// When all sessions were up for the first time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Up {
    pub(crate) after_s: Option<f64>,
    pub(crate) cpu_s: Option<f64>,
}

impl Run {
    pub(crate) fn number(&self, pointer: &str) -> Option<f64> {
        self.report.pointer(pointer)?.as_f64()
    }

    fn numbers(&self) -> Value {
        let acked = self
            .number("/publish/mqtt/acked")
            .filter(|acked| *acked > 0.0);
        let per = |of: Option<f64>, by: Option<f64>| Some(of? / by?);
        json!({
            "connected": self.number("/publish/mqtt/connected"),
            "all_up": self.up.after_s,
            "acked_per_s": self.acked_per_s,
            "publish_p99": self.number("/publish/mqtt/latency_us/p99").map(|us| us / 1e3),
            "bytes_per_device": self.bytes_per_device(),
            "cpu_s_per_million": per(self.number("/process/cpu_s"), acked).map(|s| s * 1e6),
            "leaving": self.counts.leaving_ms as f64 / 1e3,
            "wills": self.counts.wills,
        })
    }

    pub(crate) fn bytes_per_device(&self) -> Option<f64> {
        Some(self.number("/process/rss_bytes")? / self.number("/devices/requested")?)
    }
}

/// Runs a node against a sink; `then` is done once all sessions are up.
pub(crate) fn measure(
    job: &Job,
    way: &Way,
    then: impl FnOnce(&mut Broker, &dyn Fn() -> bool) -> Result<(), String> + Send,
) -> Result<Run, String> {
    scratch(|dir| {
        let site = dir.join("site");
        let (scheme, site) = match way {
            Way::Plain | Way::Pooled => ("mqtt", None),
            Way::Tls => ("mqtts", Some(site.as_path())),
        };
        let mut broker = Broker::start(site)?;
        let url = format!("{scheme}://127.0.0.1:{}", broker.port);
        let (ended, sessions) = (AtomicBool::new(false), way.sessions(job.size));
        let (report, watched) = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| watch(&mut broker, sessions, &ended, then));
            let report = run(dir, job, &url, (way, site));
            ended.store(true, Ordering::Release);
            (report, watcher.join())
        });
        let watched = watched.map_err(|_| "the watcher panicked".to_owned())?;
        let (up, acked_per_s) = watched?;
        Ok(Run {
            report: report?,
            counts: broker.counts()?,
            up,
            acked_per_s,
        })
    })
}

fn run(
    dir: &Path,
    job: &Job,
    url: &str,
    (way, site): (&Way, Option<&Path>),
) -> Result<Value, String> {
    let mut flags = vec!["--no-world", "--profile", "factory_mqtt", "--mqtt-url", url];
    let of_site = site.map(|site| format!("transport.site={}", site.display()));
    if let Some(of_site) = &of_site {
        flags.extend(["-X", of_site, "-X", "targets.mqtt.tls_device_certs=true"]);
    }
    let size = POOL_SIZE.to_string();
    if matches!(way, Way::Pooled) {
        flags.extend(["--mqtt-pool-size", &size]);
    }
    report_in(dir, job, &flags)
}

/// Between two looks at the sink.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// Waits for all sessions, does what is to be done then, and measures what goes on from there.
fn watch(
    broker: &mut Broker,
    sessions: u64,
    ended: &AtomicBool,
    then: impl FnOnce(&mut Broker, &dyn Fn() -> bool) -> Result<(), String>,
) -> Result<(Up, Option<f64>), String> {
    let began = Instant::now();
    let cpu = cpu_s();
    let over = || ended.load(Ordering::Acquire);
    if !all_up(broker, sessions, &over)? {
        return Ok((Up::default(), None));
    }
    let up = Up {
        after_s: Some(began.elapsed().as_secs_f64()),
        cpu_s: Some(cpu_s() - cpu),
    };
    then(broker, &over)?;
    let (since, first) = (Instant::now(), broker.counts()?);
    let mut last = None;
    while !over() {
        std::thread::park_timeout(LOOK);
        let counts = broker.counts()?;
        if counts.sessions < sessions {
            break; // it stops
        }
        let published = counts.published - first.published;
        last = Some(published as f64 / since.elapsed().as_secs_f64());
    }
    Ok((up, last))
}

/// Waits until all sessions are up; false if the run is over before.
fn all_up(broker: &mut Broker, sessions: u64, over: &dyn Fn() -> bool) -> Result<bool, String> {
    while !over() {
        if broker.counts()?.sessions >= sessions {
            return Ok(true);
        }
        std::thread::park_timeout(LOOK);
    }
    Ok(false)
}
