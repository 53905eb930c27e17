//! `memory`: resident bytes per idle supervised device.
//!
//! Ours: cells of the shipped `industrial` profile on one shard per core, under the shipped policy.
//! The clock runs [`SPEED`] times as fast, so that 60 s of devices pass in seconds. Bound: every
//! device is asked once, one after the other.

use std::time::Duration;

use actorsim_fleet::Fleet;
use peer_probe::{Job, Line, TIMER, resident_bytes};
use serde_json::Value;

use crate::cells::value;
use crate::devices::{Devices, runtime};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

/// Devices' seconds per second: the first tick of all of them is over in 3 s.
const SPEED: f64 = 20.0;
/// Longest wait for all devices to have ticked.
const WAIT_MAX: Duration = Duration::from_secs(90);

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "memory",
    label: "resident bytes of one process per idle supervised device, ticked once, holding a live \
            60 s timer, having answered by name; ours with the 7 generators of `industrial` and \
            no link, peers with 7 f64",
    shapes: Shapes::Sizes {
        forms: &[("", &[10_000, 100_000, 1_000_000])],
        seconds: 0,
    },
    smoke: Load {
        size: 1_000,
        seconds: 0,
    },
    metrics: &[metric("bytes_per_actor", "B")],
    child,
    peers: &["tokio", "actix", "kameo", "ractor", "rusm-otp", "erlang"],
    own_shapes: &[],
    peer_sizes: &[
        ("actix", 100_000),
        ("kameo", 100_000),
        ("ractor", 100_000),
        ("rusm-otp", 100_000),
    ],
    time_limit: TIME_LIMIT,
    bytes_each_max: 10 << 10,
};

fn child(job: &Job) -> Result<Value, String> {
    let runtime = runtime()?;
    runtime.block_on(measure(job.size as u32))
}

async fn measure(devices: u32) -> Result<Value, String> {
    let node = Devices::start(devices, SPEED)?;
    let before = resident_bytes();
    let fleet = node.fleet().await?;
    all_ticked(&fleet, u64::from(devices)).await?;
    for index in 0..devices {
        let name = peer_probe::name(index as usize);
        let info = fleet.info(&name).await.map_err(|error| error.to_string())?;
        if info.id != name {
            return Err(format!("`{name}` answered as `{}`", info.id));
        }
    }
    let timers: u64 = fleet.slab_counts().iter().map(|counts| counts.timers).sum();
    let after = resident_bytes();
    if timers < u64::from(devices) {
        return Err(format!("only {timers} timers are live"));
    }
    fleet.stop().await;
    node.stop().await?;
    value(&Line::new().memory(devices as usize, before, after))
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
