//! Devices as rumqttc clients: a task with a client and its event loop for each.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use peer_probe::{
    Broker, Job, Latencies, Line, MQTT_CONNECTING_MAX, MQTT_INTERVAL, MQTT_PAYLOAD, Meter,
    certificates, cpu_s, mqtt_clients, resident_bytes,
};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use tokio::sync::Semaphore;
use tokio::time::{interval_at, sleep};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

fn main() {
    let job = Job::of_args();
    let tls = job.scenario == "tls";
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(run(job, tls)).report()
}

/// What all devices share.
struct Shared {
    port: u16,
    devices: Option<PathBuf>,
    roots: Arc<RootCertStore>,
    connecting: Semaphore,
    up: AtomicU64,
    acked: AtomicU64,
    latencies: Mutex<Latencies>,
}

async fn run(job: Job, tls: bool) -> Line {
    let size = mqtt_clients(job.size);
    let dir = std::env::temp_dir().join(format!("peer-rumqttc-{}", std::process::id()));
    let site = tls.then(|| dir.join("site"));
    let mut broker = Broker::start(site.as_deref()).expect("the sink starts");
    let devices = site.map(|site| certificates(&site, size).expect("there are certificates"));
    let shared = Arc::new(Shared {
        port: broker.port,
        roots: Arc::new(devices.as_deref().map_or_else(RootCertStore::empty, roots)),
        devices,
        connecting: Semaphore::new(MQTT_CONNECTING_MAX),
        up: AtomicU64::new(0),
        acked: AtomicU64::new(0),
        latencies: Mutex::new(Latencies::with_capacity(0)),
    });
    let meter = Meter::start();
    let (began, cpu) = (Instant::now(), cpu_s());
    for number in 0..size {
        tokio::spawn(device(number, Arc::clone(&shared)));
    }
    let mut all_up = None;
    while began.elapsed() < job.time() {
        if all_up.is_none() && broker.counts().is_ok_and(|counts| counts.sessions >= size) {
            let acked = shared.acked.load(Ordering::Relaxed);
            all_up = Some((began.elapsed(), cpu_s() - cpu, acked));
        }
        sleep(Duration::from_millis(50)).await;
    }
    let spent = meter.stop();
    let acked = shared.acked.load(Ordering::Relaxed) as f64;
    let never = (f64::NAN, f64::NAN, 0.0);
    let (after, cpu_up, before) = all_up.map_or(never, |(after, cpu, acked)| {
        (after.as_secs_f64(), cpu, acked as f64)
    });
    let mut latencies = shared
        .latencies
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let line = Line::new()
        .with("connected", shared.up.load(Ordering::Relaxed) as f64)
        .with("all_up", after)
        .with("bytes_per_device", resident_bytes() as f64 / size as f64);
    let line = match tls {
        true => line.with("handshakes_per_core_s", size as f64 / cpu_up),
        false => line
            .with("acked_per_s", (acked - before) / (spent.wall_s - after))
            .with("publish_p99", latencies.us(0.99) / 1e3)
            .with("cpu_s_per_million", spent.cpu_s / acked * 1e6),
    };
    drop(std::fs::remove_dir_all(&dir));
    drop(broker);
    line
}

async fn device(number: u64, shared: Arc<Shared>) {
    let mut options = MqttOptions::new(format!("bench-{number}"), "127.0.0.1", shared.port);
    options.set_keep_alive(Duration::from_secs(60));
    let permit = shared
        .connecting
        .acquire()
        .await
        .expect("it is never closed");
    if let Some(devices) = &shared.devices {
        let config = client(devices, number, &shared.roots);
        let tls = TlsConfiguration::Rustls(Arc::new(config));
        options.set_transport(Transport::tls_with_config(tls));
    }
    let (client, mut events) = AsyncClient::new(options, 10);
    while !matches!(events.poll().await, Ok(Event::Incoming(Packet::ConnAck(_)))) {}
    drop(permit);
    shared.up.fetch_add(1, Ordering::Relaxed);
    let phase = MQTT_INTERVAL.mul_f64((number % 1_000) as f64 / 1e3);
    let mut ticks = interval_at(tokio::time::Instant::now() + phase, MQTT_INTERVAL);
    let topic = format!("factory/north/bench-{number}/telemetry");
    let mut sent = Instant::now();
    loop {
        tokio::select! {
            biased;
            event = events.poll() => if let Ok(Event::Incoming(Packet::PubAck(_))) = event {
                shared.acked.fetch_add(1, Ordering::Relaxed);
                let mut latencies = shared.latencies.lock().unwrap_or_else(PoisonError::into_inner);
                latencies.since(sent);
            },
            _ = ticks.tick() => {
                sent = Instant::now();
                drop(client.try_publish(&topic, QoS::AtLeastOnce, false, MQTT_PAYLOAD));
            }
        }
    }
}

fn roots(devices: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(devices.join("ca.pem")).expect("it was written");
    roots.add(ca).expect("it is an authority");
    roots
}

fn client(devices: &Path, number: u64, roots: &Arc<RootCertStore>) -> ClientConfig {
    let file = |end: &str| {
        let file = File::open(devices.join(format!("bench-{number}.{end}")));
        BufReader::new(file.expect("it was written"))
    };
    let chain = CertificateDer::pem_reader_iter(file("pem")).filter_map(Result::ok);
    let key = PrivateKeyDer::from_pem_reader(file("key")).expect("it is a key");
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(Arc::clone(roots))
        .with_client_auth_cert(chain.collect(), key)
        .expect("they fit together")
}
