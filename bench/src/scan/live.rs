//! A whole twin on its real-time thread at 1 kHz, while readings come in at its stages.
//!
//! Cycles that a gap of the host touched are told apart by a witness on the scan's core. At the end
//! a system is made to panic, which allocates: had the counter not seen that, a 0 would mean
//! nothing.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actorsim::scan_bench::sieve::{Gap, Sieve};
use actorsim::scan_bench::witness::Witness;
use actorsim_actors::{ActorPath, Addr, Clock, MailboxSpec, Overflow, System};
use actorsim_supervision::{Strategy, SupervisorPolicy, SupervisorRef, SupervisorSpec, start_root};
use actorsim_transport::{
    Batch, BatchPool, DeviceRange, Ingest, Reading, Registration, SensorSpec, SensorType, Sessions,
    Tier, TransportStats, device_uuid,
};
use actorsim_world::scan::clock::now_ns;
use actorsim_world::scan::stats::{CycleRecord, Times};
use actorsim_world::{Outlets, ScanConfig, SystemId, Twin, TwinConfig, twin_children};
use peer_probe::Job;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::devices::runtime;
use crate::heap::calls_of_this_thread;

/// Period of the scan.
const PERIOD: Duration = Duration::from_millis(1);
/// Readings that come in each second.
const PACE: u64 = 1_000_000;
/// Devices in a batch, each with its seven readings.
const DEVICES: usize = 36;
const SENSORS: usize = SensorType::ALL.len();
/// Cycles after the first value of each row, before anything is counted.
const WARM_UP: Duration = Duration::from_secs(2);
/// Cycles without an allocation that are asked for.
const STEADY: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn measure(job: &Job) -> Result<Value, String> {
    runtime()?.block_on(live(job))
}

/// What the scan's records say.
#[derive(Default)]
struct Found {
    /// None while it warms up.
    sieve: Option<Sieve>,
    took: Times,
    cycles: usize,
    overruns: u64,
    allocations: u64,
    /// Allocations of the cycle that was made to fail.
    faulted: Option<u64>,
}

impl Found {
    fn take(&mut self, record: &CycleRecord) {
        if record.faulted {
            self.faulted = record.allocations;
            self.sieve = None;
        }
        let Some(sieve) = &mut self.sieve else { return };
        sieve.offer(*record);
        self.cycles += 1;
        self.took.record(record.took_ns);
        self.overruns += u64::from(record.took_ns > record.period_ns || record.skipped > 0);
        self.allocations += record.allocations.unwrap_or_default();
    }
}

async fn live(job: &Job) -> Result<Value, String> {
    let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
    let rows = job.size as u32;
    let devices = rows / SENSORS as u32;
    let twin = twin(rows, system.clock())?;
    let found: Arc<Mutex<Found>> = Arc::default();
    let kept = Arc::clone(&found);
    let hook = move |record: &CycleRecord| kept.lock().expect("no holder panics").take(record);
    twin.on_cycle(Box::new(hook));
    let stats = TransportStats::new();
    let root = start(&system, &twin, &stats).await?;
    let pool = BatchPool::new(Arc::clone(&stats));
    let mut feed = Feed::new(twin.clone(), pool, system.clock().clone(), devices);
    feed.announce().await?;
    feed.run(WARM_UP).await;
    let host = twin.host().ok_or("the scan does not run")?;
    let witness = Witness::start(&host, PERIOD);
    let said = |found: &Mutex<Found>| std::mem::take(&mut *found.lock().expect("no holder panics"));
    said(&found);
    found.lock().expect("no holder panics").sieve = Some(Sieve::default());
    let (before, began) = (twin.snapshot().tally.t1_applied, Instant::now());
    feed.run(job.time()).await;
    let took_s = began.elapsed().as_secs_f64();
    let applied = twin.snapshot().tally.t1_applied - before;
    let end_ns = now_ns();
    let mut awake_ns = end_ns;
    let mut gaps = Vec::new();
    if let Ok(witness) = &witness {
        awake_ns = 0;
        while awake_ns < end_ns {
            awake_ns = witness.read(|gap: Gap| gaps.push(gap));
            tokio::time::sleep(PERIOD).await;
        }
    }
    drop(twin.times()); // the records that wait are folded, and shown to the hook
    let mut measured = said(&found);
    let control = control(&twin, &found).await?;
    root.stop().await;
    if control.is_none_or(|allocations| allocations == 0) {
        return Err("the counter of allocations does not see a panic".to_owned());
    }
    if measured.cycles < STEADY && job.seconds > 1 {
        return Err(format!("only {} cycles", measured.cycles));
    }
    let mut sieve = measured.sieve.take().ok_or("a system failed")?;
    gaps.into_iter().for_each(|gap| sieve.gap(gap));
    sieve.settle(awake_ns);
    for record in &sieve.long {
        eprintln!("an overrun that no gap of the host explains: {record:?}");
    }
    if let Err(why) = &witness {
        eprintln!("gaps of the host are not told apart: {why}");
    }
    let per_cycle = measured.allocations as f64 / measured.cycles as f64;
    let period_us = PERIOD.as_micros() as f64;
    let took = sieve.took.quantiles();
    let jitter = sieve.jitter.quantiles();
    Ok(json!({
        "tick": took.map(|q| q.p50),
        "budget_share_p99": took.map(|q| q.p99 / period_us),
        "allocations_per_cycle": per_cycle,
        "jitter_p999": jitter.map(|q| q.p999),
        "jitter_max": jitter.map(|q| q.max),
        "overruns": sieve.overruns,
        "overruns_host": measured.overruns.saturating_sub(sieve.overruns),
        "readings_per_s": applied as f64 / took_s,
    }))
}

/// Allocations of a cycle that is made to fail.
async fn control(twin: &Twin, found: &Mutex<Found>) -> Result<Option<u64>, String> {
    let panicked = twin.panic(SystemId::Export).await;
    panicked.map_err(|error| error.to_string())?;
    found.lock().expect("no holder panics").sieve = Some(Sieve::default());
    while twin.snapshot().faulted == 0 {
        tokio::time::sleep(PERIOD).await;
    }
    tokio::time::sleep(WARM_UP / 10).await;
    drop(twin.times());
    Ok(found.lock().expect("no holder panics").faulted)
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
