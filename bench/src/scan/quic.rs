//! A whole node whose scan runs at 1 kHz while its fleet's readings come in over QUIC.
//!
//! What else a node does is there, too: the network's thread, shards, the journal. Bound: the job's
//! time.

use std::time::Duration;

use peer_probe::Job;
use serde_json::Value;

use super::watch::Watch;
use super::{PACE, PERIOD, SENSORS};
use crate::node::Running;

/// After the start of all devices: each has reported by then.
const WARM_UP: Duration = Duration::from_secs(5);
/// The least that a fleet may be told.
const INTERVAL_MIN_US: u64 = 1_000;

pub(super) fn measure(job: &Job) -> Result<Value, String> {
    let devices = (job.size / SENSORS).max(1);
    let interval_us = (devices * SENSORS * 1_000_000 / PACE).max(INTERVAL_MIN_US);
    let devices = format!("fleet.devices={devices}");
    let interval = format!("fleet.interval={interval_us}us");
    let period = format!("scan.period={}us", PERIOD.as_micros());
    Running::with(&[&*devices, &interval, &period], async |node| {
        node.settled(WARM_UP.min(3 * job.time())).await?;
        let twin = node.twin().ok_or("there is no twin")?;
        let watch = Watch::on(twin);
        let seen = watch.during(twin, tokio::time::sleep(job.time())).await?;
        Ok(seen.numbers())
    })
}
