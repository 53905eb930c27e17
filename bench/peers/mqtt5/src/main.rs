//! Devices as clients of the mqtt5 crate: a client, and a task that publishes and waits for the
//! acknowledgement, for each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mqtt5::{ConnectOptions, MqttClient};
use peer_probe::{
    Broker, Job, Latencies, Line, MQTT_CONNECTING_MAX, MQTT_INTERVAL, MQTT_PAYLOAD, Meter,
    mqtt_clients, resident_bytes,
};
use tokio::sync::Semaphore;
use tokio::time::{interval_at, sleep};

fn main() {
    let job = Job::of_args();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(run(job)).report()
}

/// What all devices share.
struct Shared {
    address: String,
    connecting: Semaphore,
    up: AtomicU64,
    acked: AtomicU64,
    latencies: Mutex<Latencies>,
}

async fn run(job: Job) -> Line {
    let size = mqtt_clients(job.size);
    let mut broker = Broker::start(None).expect("the sink starts");
    let shared = Arc::new(Shared {
        address: format!("mqtt://127.0.0.1:{}", broker.port),
        connecting: Semaphore::new(MQTT_CONNECTING_MAX),
        up: AtomicU64::new(0),
        acked: AtomicU64::new(0),
        latencies: Mutex::new(Latencies::with_capacity(0)),
    });
    let (meter, began) = (Meter::start(), Instant::now());
    for number in 0..size {
        tokio::spawn(device(number, Arc::clone(&shared)));
    }
    let mut all_up = None;
    while began.elapsed() < job.time() {
        if all_up.is_none() && broker.counts().is_ok_and(|counts| counts.sessions >= size) {
            all_up = Some((began.elapsed(), shared.acked.load(Ordering::Relaxed)));
        }
        sleep(Duration::from_millis(50)).await;
    }
    let spent = meter.stop();
    let acked = shared.acked.load(Ordering::Relaxed) as f64;
    let (after, before) = all_up.map_or((f64::NAN, 0.0), |(after, acked)| {
        (after.as_secs_f64(), acked as f64)
    });
    let mut latencies = shared
        .latencies
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let line = Line::new()
        .with("connected", shared.up.load(Ordering::Relaxed) as f64)
        .with("all_up", after)
        .with("bytes_per_device", resident_bytes() as f64 / size as f64)
        .with("acked_per_s", (acked - before) / (spent.wall_s - after))
        .with("publish_p99", latencies.us(0.99) / 1e3)
        .with("cpu_s_per_million", spent.cpu_s / acked * 1e6);
    drop(broker);
    line
}

async fn device(number: u64, shared: Arc<Shared>) {
    let client = MqttClient::new(format!("bench-{number}"));
    let options = ConnectOptions::new(format!("bench-{number}"));
    let options = options.with_keep_alive(Duration::from_secs(60));
    let permit = shared
        .connecting
        .acquire()
        .await
        .expect("it is never closed");
    let connected = client.connect_with_options(&shared.address, options).await;
    drop(permit);
    if connected.is_err() {
        return; // not counted as connected
    }
    shared.up.fetch_add(1, Ordering::Relaxed);
    let phase = MQTT_INTERVAL.mul_f64((number % 1_000) as f64 / 1e3);
    let mut ticks = interval_at(tokio::time::Instant::now() + phase, MQTT_INTERVAL);
    let topic = format!("factory/north/bench-{number}/telemetry");
    loop {
        ticks.tick().await;
        let sent = Instant::now();
        if client
            .publish_qos1(topic.as_str(), MQTT_PAYLOAD)
            .await
            .is_ok()
        {
            shared.acked.fetch_add(1, Ordering::Relaxed);
            let mut latencies = shared
                .latencies
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            latencies.since(sent);
        }
    }
}
