//! The shape `mosquitto` of `mqtt`: the same devices on a real broker, as many as that may open
//! files.
//!
//! Without mosquitto on the host it is left out. Numbers are the node's own, read while it runs: a
//! real broker is not asked. Bound: [`UP_MAX`] until all are up, then the job's time.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use peer_probe::{Job, Meter, resident_bytes};
use serde_json::{Value, json};

use crate::node::{Running, scratch};

/// Longest wait for all sessions.
const UP_MAX: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Where Debian puts it, for a path that has no directories of servers.
const PROGRAMS: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];

/// A broker that ends with its value.
struct Mosquitto {
    child: Child,
    port: u16,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Mosquitto {
    /// None where there is no such program.
    fn start(dir: &Path) -> Result<Option<Self>, String> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let port = free.map_err(|error| format!("no port: {error}"))?.port();
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
             max_connections -1\nlog_type error\n"
        );
        let config = dir.join("mosquitto.conf");
        fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
        let spawn = |program: &&str| {
            let mut command = Command::new(program);
            command.arg("-c").arg(&config);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::null()).spawn().ok()
        };
        let Some(child) = PROGRAMS.iter().find_map(spawn) else {
            return Ok(None);
        };
        let broker = Self { child, port };
        for _ in 0..500 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(Some(broker));
            }
            std::thread::park_timeout(LOOK);
        }
        Err("mosquitto does not listen".to_owned())
    }
}

pub(crate) fn measure(job: &Job) -> Result<Value, String> {
    scratch(|dir| match Mosquitto::start(dir)? {
        Some(broker) => against(&broker, job),
        None => {
            eprintln!("mqtt mosquitto: left out, `mosquitto` is not here; Debian has it");
            Ok(json!({}))
        }
    })
}

fn against(broker: &Mosquitto, job: &Job) -> Result<Value, String> {
    let (devices, port) = (job.size, broker.port);
    let of_fleet = [
        format!("fleet.devices={devices}"),
        format!("targets.mqtt.url=mqtt://127.0.0.1:{port}"),
    ];
    let mut settings = vec![
        "world.enabled=false",
        "fleet.profile=factory_mqtt",
        "fleet.interval=5s",
        "log.level=warn",
    ];
    settings.extend(of_fleet.iter().map(String::as_str));
    let (meter, began) = (Meter::start(), Instant::now());
    Running::with(&settings, async |node| {
        let connected = || node.published().map_or(0, |counts| counts.connected);
        while connected() < devices {
            if began.elapsed() > UP_MAX {
                return Err(format!("{} of {devices} sessions are up", connected()));
            }
            tokio::time::sleep(LOOK).await;
        }
        let all_up = began.elapsed();
        let acked = || node.published().map_or(0, |counts| counts.acked);
        let (since, before) = (Instant::now(), acked());
        tokio::time::sleep(job.time().saturating_sub(all_up)).await;
        let rate = (acked() - before) as f64 / since.elapsed().as_secs_f64();
        let counts = node.published().ok_or("nothing was published")?;
        let p99 = counts.latency_us.value_at_quantile(0.99);
        Ok(json!({
            "connected": counts.connected,
            "all_up": all_up.as_secs_f64(),
            "acked_per_s": rate,
            "publish_p99": p99 as f64 / 1e3,
            "bytes_per_device": resident_bytes() as f64 / devices as f64,
            "cpu_s_per_million": meter.stop().cpu_s / counts.acked as f64 * 1e6,
        }))
    })
}
