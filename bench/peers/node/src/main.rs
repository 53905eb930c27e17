//! Devices as clients on Node.js, in a process of their own: of `mqttx bench pub` (npm: mqttx-cli),
//! or of MQTT.js (npm: mqtt) in `clients.mjs`. What they reach is asked of the sink, what they take
//! is read from the process.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use peer_probe::{
    Broker, Job, Line, MQTT_CONNECTING_MAX, MQTT_INTERVAL, MQTT_PAYLOAD, mqtt_clients,
};

/// Milliseconds between two connects of mqttx; none is less.
const CONNECT_EVERY_MS: &str = "1";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

fn main() {
    let mut tool: Vec<String> = std::env::args().skip(1).collect();
    let job = tool.split_off(tool.len().saturating_sub(4));
    let job = Job::parse(job.into_iter())
        .expect("usage: PEER [SCRIPT FOLDER] SCENARIO SHAPE SIZE SECONDS");
    let size = mqtt_clients(job.size);
    let mut broker = Broker::start(None).expect("the sink starts");
    let mut clients = match tool.as_slice() {
        [script, folder] => mqttjs(script, folder, broker.port, size),
        _ => mqttx(broker.port, size),
    }
    .stdin(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .expect("it starts");
    let began = Instant::now();
    let (mut most, mut all_up) = (0, None);
    while began.elapsed() < job.time() {
        let Ok(counts) = broker.counts() else { break };
        most = most.max(counts.sessions);
        if all_up.is_none() && counts.sessions >= size {
            all_up = Some((began.elapsed(), counts.published));
        }
        std::thread::sleep(LOOK);
    }
    let whole = began.elapsed().as_secs_f64();
    let published = broker.counts().map_or(0, |counts| counts.published);
    let (resident, cpu_s) = usage(&clients);
    let p99_ms = match tool.is_empty() {
        true => f64::NAN,
        false => told(&mut clients, "p99_ms"),
    };
    drop(clients.kill());
    drop(clients.wait());
    let (after, before) = all_up.map_or((f64::NAN, f64::NAN), |(after, published)| {
        (after.as_secs_f64(), published as f64)
    });
    Line::new()
        .with("connected", most as f64)
        .with("all_up", after)
        .with("acked_per_s", (published as f64 - before) / (whole - after))
        .with("publish_p99", p99_ms)
        .with("bytes_per_device", resident / most as f64)
        .with("cpu_s_per_million", cpu_s / published as f64 * 1e6)
        .report();
}

fn mqttx(port: u16, clients: u64) -> Command {
    let mut command = Command::new("mqttx");
    command
        .args(["bench", "pub", "-V", "3.1.1", "-h", "127.0.0.1", "-q", "1"])
        .args(["-p", &port.to_string(), "-c", &clients.to_string()])
        .args(["-i", CONNECT_EVERY_MS])
        .args(["-im", &MQTT_INTERVAL.as_millis().to_string()])
        .args(["-t", "factory/north/%i/telemetry"])
        .args(["-m", &String::from_utf8_lossy(&MQTT_PAYLOAD)])
        .stdout(Stdio::null());
    command
}

fn mqttjs(script: &str, folder: &str, port: u16, clients: u64) -> Command {
    let mut command = Command::new("node");
    command
        .args([script, folder, &port.to_string(), &clients.to_string()])
        .arg(MQTT_CONNECTING_MAX.to_string())
        .arg(MQTT_INTERVAL.as_millis().to_string())
        .arg(&*String::from_utf8_lossy(&MQTT_PAYLOAD))
        .stdout(Stdio::piped());
    command
}

/// Ends the input of a process, and reads a number of the line that it says then; NaN without.
fn told(of: &mut Child, name: &str) -> f64 {
    drop(of.stdin.take());
    let mut said = String::new();
    if let Some(out) = &mut of.stdout {
        drop(out.read_to_string(&mut said));
    }
    let number = said
        .split_once(&format!("\"{name}\":"))
        .and_then(|(_, rest)| {
            let end = rest.find([',', '}'])?;
            rest[..end].parse().ok()
        });
    number.unwrap_or(f64::NAN)
}

/// Resident bytes and CPU seconds of a process; NaN if it is gone.
fn usage(of: &Child) -> (f64, f64) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", of.id()));
    let pages = read("statm").ok().and_then(|text| {
        let resident: Option<f64> = text.split(' ').nth(1)?.parse().ok();
        resident
    });
    let ticks = read("stat").ok().and_then(|text| {
        // after the name in brackets: state is the third field, utime and stime 14 and 15
        let rest: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| rest.get(at)?.parse::<f64>().ok();
        Some(number(11)? + number(12)?)
    });
    (
        pages.map_or(f64::NAN, |pages| pages * 4_096.0),
        ticks.map_or(f64::NAN, |ticks| ticks / 100.0),
    )
}
