//! `memory`: resident bytes per idle supervised device.
//!
//! Ours: cells of the shipped `industrial` profile on one shard per core, under the shipped policy.
//! The clock runs [`SPEED`] times as fast, so that 60 s of devices pass in seconds. Bound: every
//! device is asked once, one after the other.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{ShardConfig, ShardHost};
use actorsim_actors::{Clock, System};
use actorsim_fleet::{Fleet, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision};
use serde_json::{Value, json};

use crate::process::resident_bytes;
use crate::scenario::{Metric, Scenario};

/// The timer each device holds, in its own time.
const TIMER: Duration = Duration::from_secs(60);
/// Devices' seconds per second: the first tick of all of them is over in 3 s.
const SPEED: f64 = 20.0;
/// Longest wait for all devices to have started, and for all to have ticked.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// The seed of the measured fleet.
const SEED: u64 = 1;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "memory",
    label: "resident bytes of one process per idle supervised device, ticked once, holding a live \
            60 s timer, having answered by name; ours with the 7 generators of `industrial` and \
            no link, peers with 7 f64",
    shapes: &[10_000, 100_000, 1_000_000],
    metrics: &[Metric {
        name: "bytes_per_actor",
        unit: "B",
        read: |line| line.get("bytes_per_actor").and_then(Value::as_f64),
    }],
    child,
    has_peers: true,
    time_limit: Duration::from_secs(300),
    bytes_per_device_max: 10 << 10,
};

fn child(devices: u32) -> Result<Value, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("runtime: {error}"))?;
    runtime.block_on(measure(devices))
}

async fn measure(devices: u32) -> Result<Value, String> {
    let system = System::new(Clock::scaled(SPEED), tokio::runtime::Handle::current());
    let host = ShardHost::start(&system, &ShardConfig::default()).map_err(|e| e.to_string())?;
    let loaded = Profile::load("industrial").map_err(|errors| format!("{errors:?}"))?;
    let profile = Arc::new(loaded.profile);
    let before = resident_bytes()?;

    let mut population = Population::new("default", profile, devices, SEED).interval(TIMER);
    population.t1 = false;
    population.t2 = false;
    let uplink = Uplink::Links {
        node: "bench".to_owned(),
        stats: Arc::default(),
    };
    let shards = host.shards();
    let fleet = Fleet::new(&system, vec![population], shards.len(), uplink);
    let fleet = fleet.map_err(|error| error.to_string())?;
    let supervision = Arc::new(Supervision::default());
    fleet
        .start(shards, &Policies::shipped(), &supervision)
        .map_err(|error| error.to_string())?;
    if !fleet.spawned(WAIT_MAX).await {
        return Err("the devices did not start in time".to_owned());
    }
    all_ticked(&fleet, u64::from(devices)).await?;
    for index in 0..devices {
        let name = format!("industrial-{index:04}");
        let info = fleet.info(&name).await.map_err(|error| error.to_string())?;
        if info.id != name {
            return Err(format!("`{name}` answered as `{}`", info.id));
        }
    }
    let timers: u64 = fleet.slab_counts().iter().map(|counts| counts.timers).sum();
    let after = resident_bytes()?;
    if timers < u64::from(devices) {
        return Err(format!("only {timers} timers are live"));
    }
    fleet.stop().await;
    host.stop().await.map_err(|error| error.to_string())?;
    Ok(json!({
        "actors": devices,
        "rss_before": before,
        "rss_after": after,
        "bytes_per_actor": after.saturating_sub(before) as f64 / f64::from(devices),
    }))
}

/// Waits until as many ticks were counted as there are devices, and one timer's time is over.
async fn all_ticked(fleet: &Fleet, devices: u64) -> Result<(), String> {
    let round = TIMER.div_f64(SPEED);
    tokio::time::sleep(round).await;
    let polls = WAIT_MAX.as_millis() / 50;
    for _ in 0..polls {
        if fleet.tally().ticks >= devices {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!(
        "{} of {devices} devices ticked in time",
        fleet.tally().ticks
    ))
}
