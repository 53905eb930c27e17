//! A whole twin on its real-time thread at 1 kHz, while readings come in at its stages.
//!
//! At the end a system is made to panic, which allocates: had the counter not seen that, a 0 would
//! mean nothing. Bound: the job's time, and a round of all rows before it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actorsim_actors::{ActorPath, Addr, Clock, MailboxSpec, Overflow, System};
use actorsim_supervision::{Strategy, SupervisorPolicy, SupervisorRef, SupervisorSpec, start_root};
use actorsim_transport::{
    Batch, BatchPool, DeviceRange, Ingest, Reading, Registration, SensorSpec, SensorType, Sessions,
    Tier, TransportStats, device_uuid,
};
use actorsim_world::{Outlets, ScanConfig, Twin, TwinConfig, twin_children};
use peer_probe::Job;
use serde_json::Value;
use uuid::Uuid;

use super::watch::Watch;
use super::{PACE, PERIOD, SENSORS};
use crate::devices::runtime;
use crate::heap::calls_of_this_thread;

/// Devices in a batch, each with its seven readings.
const DEVICES: usize = 36;
/// Cycles after the first value of each row, before anything is counted.
const WARM_UP: Duration = Duration::from_secs(2);
/// Cycles without an allocation that are asked for.
const STEADY: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn measure(job: &Job) -> Result<Value, String> {
    runtime()?.block_on(live(job))
}

async fn live(job: &Job) -> Result<Value, String> {
    let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
    let rows = job.size as u32;
    let devices = rows / SENSORS as u32;
    let twin = twin(rows, system.clock())?;
    let watch = Watch::on(&twin);
    let stats = TransportStats::new();
    let root = start(&system, &twin, &stats).await?;
    let pool = BatchPool::new(Arc::clone(&stats));
    let mut feed = Feed::new(twin.clone(), pool, system.clock().clone(), devices);
    feed.announce().await?;
    feed.run(WARM_UP.max(round(job.size))).await;
    let seen = watch.during(&twin, feed.run(job.time())).await?;
    let control = watch.control(&twin).await?;
    root.stop().await;
    if control.is_none_or(|allocations| allocations == 0) {
        return Err("the counter of allocations does not see a panic".to_owned());
    }
    if seen.cycles < STEADY && job.seconds > 1 {
        return Err(format!("only {} cycles", seen.cycles));
    }
    Ok(seen.numbers())
}

/// In which each row gets a reading.
fn round(rows: u64) -> Duration {
    Duration::from_millis(rows * 1_000 / PACE)
}

fn twin(rows: u32, clock: &Clock) -> Result<Twin, String> {
    let scan = ScanConfig {
        period: PERIOD,
        capacity: rows,
        capacity_max: rows,
        allocations: Some(calls_of_this_thread),
        ..ScanConfig::default()
    };
    let config = TwinConfig {
        scan,
        ..TwinConfig::default()
    };
    Twin::new(config, clock.clone()).map_err(|error| error.to_string())
}

async fn start(
    system: &System,
    twin: &Twin,
    stats: &Arc<TransportStats>,
) -> Result<SupervisorRef, String> {
    let spec = MailboxSpec::new(256, Overflow::Reject);
    let outlets = Outlets {
        commands: Addr::new(ActorPath::root().join("tier-t3"), spec),
        sessions: Sessions::new(),
        stats: Arc::clone(stats),
        runtime: None,
    };
    let policy = SupervisorPolicy::new(Strategy::OneForOne);
    let spec = SupervisorSpec::new(ActorPath::root(), policy.clone())
        .child(twin_children(twin, outlets, policy));
    let root = start_root(system, spec).await;
    root.map_err(|error| error.to_string())
}

/// Devices that report by turns, all their sensors at once.
struct Feed {
    twin: Twin,
    pool: Arc<BatchPool>,
    clock: Clock,
    devices: Vec<Uuid>,
    next: usize,
    round: u32,
}

impl Feed {
    fn new(twin: Twin, pool: Arc<BatchPool>, clock: Clock, devices: u32) -> Self {
        let devices = (0..devices).map(|n| device_uuid(&format!("pump-{n:07}")));
        Self {
            twin,
            pool,
            clock,
            devices: devices.collect(),
            next: 0,
            round: 1,
        }
    }

    async fn announce(&self) -> Result<(), String> {
        let specs = SensorType::ALL.into_iter().enumerate();
        let sensors = specs.map(|(sensor, kind)| SensorSpec {
            sensor: sensor as u16,
            kind,
        });
        let registration = Registration {
            devices: DeviceRange {
                prefix: "pump-".to_owned(),
                first: 0,
                count: self.devices.len() as u32,
                width: 7,
            },
            sensors: sensors.collect(),
        };
        let inlet = self.twin.inlets().readings;
        let sent = inlet.send(Ingest::Register(registration), PATIENCE).await;
        sent.map_err(|error| error.to_string())
    }

    /// Sends at an even pace for `time`; what the twin has no room for is dropped by it.
    async fn run(&mut self, time: Duration) {
        let inlet = self.twin.inlets().readings;
        let (began, mut sent) = (Instant::now(), 0);
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while began.elapsed() < time {
            ticks.tick().await;
            let due = (began.elapsed().as_secs_f64() * PACE as f64) as u64;
            while sent < due {
                let batch = self.batch();
                sent += batch.readings.len() as u64;
                // a stage that ends gives up its mail: it shows in what was applied
                drop(inlet.send(Ingest::T1(batch), PATIENCE).await);
            }
        }
    }

    fn batch(&mut self) -> Batch {
        let mut readings = self.pool.take();
        let at_us = self.clock.unix_us();
        for _ in 0..DEVICES.min(self.devices.len()) {
            let device = self.devices[self.next];
            readings.extend(SensorType::ALL.into_iter().map(|kind| Reading {
                device,
                sensor: u16::from(kind.byte()),
                kind,
                value: f64::from(20 + self.round % 100),
                at_us,
                sequence: self.round,
            }));
            self.next += 1;
            if self.next == self.devices.len() {
                (self.next, self.round) = (0, self.round.wrapping_add(1));
            }
        }
        Batch::new(Tier::T1, readings, self.clock.monotonic(), &self.pool)
    }
}
