//! Devices as clients of `mqttx bench pub` (npm: mqttx-cli), in its process; what it reaches is
//! asked of the sink.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use peer_probe::{Broker, Job, Line, MQTT_INTERVAL, MQTT_PAYLOAD};

/// Clients that it is asked for: a client costs it some 100 KB.
const CLIENTS_MAX: u64 = 15_000;
/// Milliseconds between two connects; none is less.
const CONNECT_EVERY_MS: &str = "1";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

fn main() {
    let job = Job::of_args();
    let size = job.size.min(CLIENTS_MAX);
    let mut broker = Broker::start(None).expect("the sink starts");
    let every_ms = MQTT_INTERVAL.as_millis().to_string();
    let (port, count) = (broker.port.to_string(), size.to_string());
    let payload = String::from_utf8_lossy(&MQTT_PAYLOAD);
    let mut tool = Command::new("mqttx")
        .args(["bench", "pub", "-V", "3.1.1", "-h", "127.0.0.1", "-q", "1"])
        .args(["-p", &port, "-c", &count, "-i", CONNECT_EVERY_MS])
        .args([
            "-im",
            &every_ms,
            "-t",
            "factory/north/%i/telemetry",
            "-m",
            &payload,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mqttx starts");
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
    let published = broker.counts().map_or(0, |counts| counts.published);
    let (resident, cpu_s) = usage(&tool);
    drop(tool.kill());
    drop(tool.wait());
    let (after, before) = all_up.map_or((f64::NAN, f64::NAN), |(after, published)| {
        (after.as_secs_f64(), published as f64)
    });
    let since = began.elapsed().as_secs_f64() - after;
    Line::new()
        .with("connected", most as f64)
        .with("all_up", after)
        .with("acked_per_s", (published as f64 - before) / since)
        .with("bytes_per_device", resident / most as f64)
        .with("cpu_s_per_million", cpu_s / published as f64 * 1e6)
        .report();
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
