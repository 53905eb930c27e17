//! `encode`: devices of the shipped `industrial` profile print their samples as lines of JSON.
//!
//! In virtual time, so that nothing waits: one thread draws and encodes, one writes. Bound: as many
//! rounds of all devices as make up the readings.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::SimShards;
use actorsim_actors::{Clock, System, Time};
use actorsim_fleet::lines::Printer;
use actorsim_fleet::{Fleet, Population, Profile, Uplink};
use actorsim_supervision::Policies;
use peer_probe::{Job, Line, Meter};
use serde_json::Value;

use crate::cells::value;
use crate::devices::runtime;
use crate::node::scratch;
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

const DEVICES: u32 = 10_000;
const INTERVAL: Duration = Duration::from_secs(5);
const SEED: u64 = 1;

const LOAD: Load = Load {
    size: 5_000_000,
    seconds: 0,
};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "encode",
    label: "10,000 devices of 7 sensors on virtual time, each sample drawn and written as one line \
            of JSON (the envelope): into a file, or a pipe that another process reads, as a \
            console is; readings per CPU second (user and system, drawing and writing included) \
            and per second, until the last line is written; bytes of a line",
    shapes: Shapes::Named(&[("file", LOAD), ("pipe", LOAD)]),
    smoke: Load {
        size: 70_000,
        seconds: 0,
    },
    metrics: &[
        metric("readings_per_cpu_s", "1/s"),
        metric("readings_per_s", "1/s"),
        metric("bytes_per_line", "B"),
    ],
    child,
    peers: &[],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 64,
};

fn child(job: &Job) -> Result<Value, String> {
    if job.shape == "file" {
        return scratch(|dir| {
            let file = dir.join("samples.jsonl");
            let (line, lines) = print(job, &file)?;
            let bytes = std::fs::metadata(&file).map_err(|error| error.to_string())?;
            told(line, lines, bytes.len())
        });
    }
    let reader = Command::new("wc")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut reader = reader.map_err(|error| format!("wc: {error}"))?;
    let pipe = reader.stdin.take().ok_or("wc has no input")?;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&pipe);
    let printed = print(job, &PathBuf::from(format!("/proc/self/fd/{descriptor}")));
    drop(pipe);
    let read = reader.wait_with_output().map_err(|e| format!("wc: {e}"))?;
    let bytes = String::from_utf8_lossy(&read.stdout);
    let bytes = bytes.trim().parse().map_err(|e| format!("wc: {e}"))?;
    let (line, lines) = printed?;
    told(line, lines, bytes)
}

fn told(line: Line, lines: u64, bytes: u64) -> Result<Value, String> {
    value(&line.with("bytes_per_line", bytes as f64 / lines as f64))
}

/// What was measured, and the number of lines.
fn print(job: &Job, to: &Path) -> Result<(Line, u64), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let runtime = runtime()?;
    let system = System::new(Clock::virtual_from(0), runtime.handle().clone());
    let loaded = Profile::load("industrial").map_err(|errors| format!("{errors:?}"))?;
    let sensors = loaded.profile.sensors().count() as u64;
    let profile = Arc::new(loaded.profile);
    let mut population = Population::new("default", profile, DEVICES, SEED).interval(INTERVAL);
    (population.t1, population.t2) = (false, false);
    let printer = Printer::to(to, true).map_err(|error| text(&error))?;
    let mut shards = SimShards::new(system.clock().clone(), 1);
    let fleet = Fleet::printing(
        &system,
        vec![population],
        1,
        Uplink::Brokers,
        Some(printer.clone()),
    );
    let fleet = fleet.map_err(|error| text(&error))?;
    let started = fleet.start(shards.shards(), &Policies::shipped(), &Arc::default());
    started.map_err(|error| text(&error))?;
    shards.run_until(Time::ZERO); // they are there; the first sample is to come
    let rounds = job.size.div_ceil(sensors * u64::from(DEVICES));
    let meter = Meter::start();
    shards.run_until(Time::ZERO + INTERVAL * rounds as u32);
    shards.stop();
    printer.settle();
    let spent = meter.stop();
    let counts = printer.stats().read();
    if counts.acked != counts.sent || counts.acked < rounds * u64::from(DEVICES) {
        return Err(format!("{} of {} lines", counts.acked, counts.sent));
    }
    let readings = counts.acked * sensors;
    let line = Line::new().rate("readings_per_cpu_s", "readings_per_s", readings, spent);
    Ok((line, counts.acked))
}
