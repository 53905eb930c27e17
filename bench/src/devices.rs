//! A fleet of idle devices on shards: cells of the shipped `industrial` profile, under the shipped
//! policies, with a timer of 60 s each and no link.
//!
//! Bound: a start ends with an error after [`WAIT_MAX`].

use std::sync::Arc;

use actorsim_actors::shard::{ShardConfig, ShardHost};
use actorsim_actors::{Clock, System};
use actorsim_fleet::{Fleet, Population, Profile, Uplink};
use actorsim_supervision::{Policies, Supervision};
use peer_probe::TIMER;
use tokio::runtime::{Handle, Runtime};

use crate::cells::WAIT_MAX;

/// The seed of the measured fleet.
const SEED: u64 = 1;

/// Everything that is there before the first device.
#[derive(Debug)]
pub(crate) struct Devices {
    count: u32,
    system: System,
    pub(crate) host: ShardHost,
    profile: Arc<Profile>,
}

/// A tokio runtime as a node has it.
pub(crate) fn runtime() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("runtime: {error}"))
}

impl Devices {
    /// Starts shards for `count` devices, whose time is `speed` times as fast as ours.
    pub(crate) fn start(count: u32, speed: f64) -> Result<Self, String> {
        let system = System::new(Clock::scaled(speed), Handle::current());
        let host = ShardHost::start(&system, &ShardConfig::default());
        let loaded = Profile::load("industrial").map_err(|errors| format!("{errors:?}"))?;
        Ok(Self {
            count,
            system,
            host: host.map_err(|error| error.to_string())?,
            profile: Arc::new(loaded.profile),
        })
    }

    /// Starts the devices.
    pub(crate) async fn fleet(&self) -> Result<Fleet, String> {
        let profile = Arc::clone(&self.profile);
        let population = Population::new("default", profile, self.count, SEED);
        let mut population = population.interval(TIMER);
        population.t1 = false;
        population.t2 = false;
        let uplink = Uplink::Links {
            node: "bench".to_owned(),
            stats: Arc::default(),
        };
        let shards = self.host.shards();
        let fleet = Fleet::new(&self.system, vec![population], shards.len(), uplink);
        let fleet = fleet.map_err(|error| error.to_string())?;
        let supervision = Arc::new(Supervision::default());
        fleet
            .start(shards, &Policies::shipped(), &supervision)
            .map_err(|error| error.to_string())?;
        if fleet.spawned(WAIT_MAX).await {
            Ok(fleet)
        } else {
            Err("the devices did not start in time".to_owned())
        }
    }

    /// Stops the shards.
    pub(crate) async fn stop(self) -> Result<(), String> {
        self.host.stop().await.map_err(|error| error.to_string())
    }
}
