//! `journal`: T2 events made durable, acknowledged and applied, in one process and without QUIC.
//!
//! A whole supervised twin on a directory of this disk. First [`LINKS`] sessions send [`PACE`]
//! events/s, long enough that a checkpoint covers them and they are removed, and each
//! acknowledgement is timed from the send; then the same sessions send full batches as fast as
//! they are acknowledged. At the end every event must be applied. Bound: each session's window.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actorsim_actors::{ActorPath, Addr, Clock, MailboxSpec, Overflow, System};
use actorsim_supervision::{Strategy, SupervisorPolicy, SupervisorSpec, start_root};
use actorsim_transport::{
    BATCH_READINGS_MAX, BatchPool, EventBatch, EventKey, Reading, SensorType, Sessions, T2Message,
    T2Session, TransportStats, device_uuid,
};
use actorsim_world::{JournalConfig, Outlets, Twin, TwinConfig, twin_children};
use peer_probe::Job;
use serde_json::{Value, json};

use crate::devices::runtime;
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

/// Sessions that send side by side: links of a machine with as many shards.
const LINKS: u64 = 8;
/// Events in a batch, as a link makes them.
const BATCH: u64 = BATCH_READINGS_MAX as u64;
/// Batches without an acknowledgement, as a link has them.
const WINDOW: u64 = 48;
/// Events a second of the first part,
const PACE: u64 = 50_000;
/// sent every so often by each session.
const EVERY: Duration = Duration::from_millis(5);
/// How much longer than the second part it lasts.
const PACED: u32 = 3;
/// Events in a batch of the first part.
const PACED_BATCH: u64 = PACE * EVERY.as_millis() as u64 / 1_000 / LINKS;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "journal",
    label: "T2 events of 8 sessions group-committed with a sync to this disk, acknowledged and \
            applied by the scan, without QUIC; ack_p99 is send to acknowledged at 50,000 events/s; \
            peer: groups of as many bytes, written over one file and synced, and nothing else",
    shapes: Shapes::One(Load {
        size: 8_000,
        seconds: 8,
    }),
    smoke: Load {
        size: 80,
        seconds: 1,
    },
    metrics: &[metric("events_per_s", "1/s"), metric("ack_p99", "us")],
    child,
    peers: &["fdatasync"],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 10 << 10,
};

fn child(job: &Job) -> Result<Value, String> {
    runtime()?.block_on(measure(job.size, Duration::from_secs(job.seconds)))
}

/// One session and its devices.
#[derive(Clone)]
struct Sender {
    events: Addr<T2Message>,
    session: Arc<T2Session>,
    pool: Arc<BatchPool>,
    clock: Clock,
    devices: Arc<[uuid::Uuid]>,
}

impl Sender {
    async fn batch(&self, sequence: u64, first: u64, count: u64) {
        let at_us = self.clock.unix_us();
        let of = |n: u64| self.devices[(n % self.devices.len() as u64) as usize];
        let mut readings = self.pool.take();
        readings.extend((first..first + count).map(|n| Reading {
            device: of(n),
            sensor: 3,
            kind: SensorType::Voltage,
            value: n as f64,
            at_us,
            sequence: n as u32,
        }));
        let key = |event| EventKey { epoch: 1, event };
        let keys = (first..first + count).map(key).collect();
        let now = self.clock.monotonic();
        let session = Arc::clone(&self.session);
        let batch = EventBatch::new(session, sequence, readings, keys, now, &self.pool);
        // one that is not taken shows as an acknowledgement that never comes
        drop(self.events.send(T2Message::Events(batch), PATIENCE).await);
    }

    /// As fast as acknowledgements come, after so many batches and events; returns events.
    async fn flood(self, (batches, events): (u64, u64), until: Instant) -> u64 {
        let mut sent = 0;
        while Instant::now() < until {
            let sequence = batches + sent + 1;
            self.batch(sequence, events + sent * BATCH, BATCH).await;
            sent += 1;
            if sequence >= WINDOW {
                self.session.acked_beyond(sequence - WINDOW).await;
            }
        }
        self.session.acked_beyond(batches + sent - 1).await;
        sent * BATCH
    }

    /// At an even pace; returns each acknowledgement's time, microseconds.
    async fn paced(self, rounds: u64) -> Vec<u64> {
        let mut ticks = tokio::time::interval(EVERY);
        let mut times = Vec::new();
        let (sent, mut waiting) = tokio::sync::mpsc::channel::<(u64, Instant)>(4_096);
        let session = Arc::clone(&self.session);
        let acknowledged = async {
            while let Some((sequence, at)) = waiting.recv().await {
                session.acked_beyond(sequence - 1).await;
                times.push(at.elapsed().as_micros() as u64);
            }
        };
        let sending = async move {
            for round in 0..rounds {
                ticks.tick().await;
                let sequence = 1 + round;
                let at = Instant::now();
                self.batch(sequence, round * PACED_BATCH, PACED_BATCH).await;
                // the other half goes on until this one is done
                let _ = sent.send((sequence, at)).await;
            }
        };
        tokio::join!(sending, acknowledged);
        times
    }
}

async fn measure(devices: u64, each: Duration) -> Result<Value, String> {
    let dir = Scratch::new()?;
    let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
    let config = TwinConfig {
        journal: JournalConfig::in_directory(dir.0.clone()),
        ..TwinConfig::default()
    };
    let clock = system.clock().clone();
    let twin = Twin::new(config, clock.clone()).map_err(|error| error.to_string())?;
    let (sessions, stats) = (Sessions::new(), TransportStats::new());
    let spec = MailboxSpec::new(256, Overflow::Reject);
    let outlets = Outlets {
        commands: Addr::new(ActorPath::root().join("tier-t3"), spec),
        sessions: Arc::clone(&sessions),
        stats: Arc::clone(&stats),
        runtime: None,
    };
    let policy = SupervisorPolicy::new(Strategy::OneForOne);
    let spec = SupervisorSpec::new(ActorPath::root(), policy.clone())
        .child(twin_children(&twin, outlets, policy));
    let root = start_root(&system, spec)
        .await
        .map_err(|error| error.to_string())?;
    let pool = BatchPool::new(Arc::clone(&stats));
    let sender = |link: u64| {
        let own = (0..devices / LINKS).map(|n| device_uuid(&format!("d{link}-{n}")));
        let session = sessions.open(link, "bench", 0, 0);
        session
            .map_err(|error| error.to_string())
            .map(|session| Sender {
                events: twin.inlets().events,
                session,
                pool: Arc::clone(&pool),
                clock: clock.clone(),
                devices: own.collect(),
            })
    };
    let senders: Vec<Sender> = (1..=LINKS).map(sender).collect::<Result<_, _>>()?;
    let rounds = (PACED * each).as_millis() as u64 / EVERY.as_millis() as u64;
    let pace = |sender: &Sender| tokio::spawn(sender.clone().paced(rounds));
    let paced: Vec<_> = senders.iter().map(pace).collect();
    let mut times = Vec::new();
    for session in paced {
        times.extend(session.await.map_err(|error| error.to_string())?);
    }
    if !twin.quiesce(PATIENCE).await {
        return Err("the world did not apply what was acknowledged".to_owned());
    }
    let so_far = (rounds, rounds * PACED_BATCH);
    let started = Instant::now();
    let flood = |sender: &Sender| tokio::spawn(sender.clone().flood(so_far, started + each));
    let floods: Vec<_> = senders.iter().map(flood).collect();
    let mut flooded = 0;
    for flood in floods {
        flooded += flood.await.map_err(|error| error.to_string())?;
    }
    let took = started.elapsed().as_secs_f64();
    times.sort_unstable();
    let settled = twin.quiesce(PATIENCE).await;
    let (applied, durable) = (stats.t2.applied.get(), twin.journal().events);
    root.stop().await;
    if !settled || applied != durable || durable < flooded {
        return Err(format!(
            "{applied} events applied of {durable} durable ones"
        ));
    }
    let p99 = times.get(times.len() * 99 / 100).copied();
    Ok(json!({ "events_per_s": flooded as f64 / took, "ack_p99": p99 }))
}

/// A directory of this run, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, String> {
        let dir = std::env::temp_dir().join(format!("actorsim-journal-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // what cannot be removed is the temporary directory's to clean
        drop(std::fs::remove_dir_all(&self.0));
    }
}
