//! `journal`: T2 events made durable, acknowledged and applied, in one process and without QUIC.
//!
//! A whole supervised twin on a directory of this disk. First [`LINKS`] sessions send [`PACE`]
//! events/s, long enough that a checkpoint covers them and they are removed, and each
//! acknowledgement is timed from the send; then the same sessions send full batches as fast as
//! they are acknowledged, and at once go on at the pace of before, while checkpoints cover that
//! flood and it is removed. At the end every event must be applied. Bound: each session's window.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
/// After the second part, at the pace of the first.
const AFTER: Duration = Duration::from_secs(5);
/// Events in a batch of the first part.
const PACED_BATCH: u64 = PACE * EVERY.as_millis() as u64 / 1_000 / LINKS;
const PATIENCE: Duration = Duration::from_secs(60);
/// What is not acknowledged by then is sent again, as by a link.
const REPEAT: Duration = Duration::from_secs(1);

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "journal",
    label: "T2 events of 8 sessions group-committed with a sync to this disk, acknowledged and \
            applied by the scan, without QUIC; ack_p99 is send to acknowledged at 50,000 events/s, \
            ..after_flood the same in the 5 s after events that came as fast as they were taken; \
            peer: groups of as many bytes, written over one file and synced, and nothing else",
    shapes: Shapes::One(Load {
        size: 8_000,
        seconds: 8,
    }),
    smoke: Load {
        size: 80,
        seconds: 1,
    },
    metrics: &[
        metric("events_per_s", "1/s"),
        metric("ack_p99", "us"),
        metric("ack_p99_after_flood", "us"),
        metric("ack_max_after_flood", "us"),
    ],
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

/// What a session has sent.
#[derive(Clone, Copy, Default)]
struct Sent {
    batches: u64,
    events: u64,
}

/// Batches of one size that a session sends after others.
struct Series {
    before: Sent,
    each: u64,
    /// Number of the last that was begun.
    last: AtomicU64,
}

impl Series {
    fn after(before: Sent, each: u64) -> Self {
        let last = AtomicU64::new(before.batches);
        Self { before, each, last }
    }

    /// The number of the next batch.
    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Numbers of the events of one of its batches.
    fn events(&self, sequence: u64) -> Range<u64> {
        let first = self.before.events + (sequence - self.before.batches - 1) * self.each;
        first..first + self.each
    }
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
    /// Sends a batch of a series; one that is not taken is not acknowledged.
    async fn send(&self, series: &Series, sequence: u64) {
        let events = series.events(sequence);
        let at_us = self.clock.unix_us();
        let of = |n: u64| self.devices[(n % self.devices.len() as u64) as usize];
        let mut readings = self.pool.take();
        readings.extend(events.clone().map(|n| Reading {
            device: of(n),
            sensor: 3,
            kind: SensorType::Voltage,
            value: n as f64,
            at_us,
            sequence: n as u32,
        }));
        let key = |event| EventKey { epoch: 1, event };
        let keys = events.map(key).collect();
        let now = self.clock.monotonic();
        let session = Arc::clone(&self.session);
        let batch = EventBatch::new(session, sequence, readings, keys, now, &self.pool);
        drop(self.events.send(T2Message::Events(batch), PATIENCE).await);
    }

    /// Waits for the acknowledgement of a batch. What is late is sent again, as a link does it, up
    /// to the last that was sent.
    async fn acknowledged(&self, series: &Series, sequence: u64) {
        let acked = || self.session.acked_beyond(sequence - 1);
        while tokio::time::timeout(REPEAT, acked()).await.is_err() {
            for again in self.session.acked() + 1..=series.last.load(Ordering::Relaxed) {
                self.send(series, again).await;
            }
        }
    }

    /// As fast as acknowledgements come, after what was sent before.
    async fn flood(self, before: Sent, until: Instant) -> Sent {
        let series = Series::after(before, BATCH);
        let mut last = before.batches;
        while Instant::now() < until {
            last = series.next();
            self.send(&series, last).await;
            if last > WINDOW {
                self.acknowledged(&series, last - WINDOW).await;
            }
        }
        self.acknowledged(&series, last).await;
        Sent {
            batches: last,
            events: series.events(last).end,
        }
    }

    /// At an even pace, after what was sent before; returns each acknowledgement's time,
    /// microseconds.
    async fn paced(self, before: Sent, rounds: u64) -> Vec<u64> {
        let series = Series::after(before, PACED_BATCH);
        let mut ticks = tokio::time::interval(EVERY);
        let mut times = Vec::new();
        let (sent, mut waiting) = tokio::sync::mpsc::channel::<(u64, Instant)>(4_096);
        let acknowledged = async {
            while let Some((sequence, at)) = waiting.recv().await {
                self.acknowledged(&series, sequence).await;
                times.push(at.elapsed().as_micros() as u64);
            }
        };
        let (sender, of) = (&self, &series);
        let sending = async move {
            for _ in 0..rounds {
                ticks.tick().await;
                let (sequence, at) = (of.next(), Instant::now());
                sender.send(of, sequence).await;
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
    let nothing = senders.iter().map(|_| Sent::default()).collect();
    let times = paced(&senders, nothing, rounds).await?;
    if !twin.quiesce(PATIENCE).await {
        return Err("the world did not apply what was acknowledged".to_owned());
    }
    let so_far = Sent {
        batches: rounds,
        events: rounds * PACED_BATCH,
    };
    let started = Instant::now();
    let sent = flooded(&senders, so_far, started + each).await?;
    let took = started.elapsed().as_secs_f64();
    let flood: u64 = sent.iter().map(|sent| sent.events - so_far.events).sum();
    let rounds = AFTER.min(each).as_millis() as u64 / EVERY.as_millis() as u64;
    let after = paced(&senders, sent, rounds).await?;
    let settled = twin.quiesce(PATIENCE).await;
    let (applied, durable) = (stats.t2.applied.get(), twin.journal().events);
    root.stop().await;
    if !settled || applied != durable || durable < flood {
        return Err(format!(
            "{applied} events applied of {durable} durable ones"
        ));
    }
    let p99 = |times: &[u64]| times.get(times.len() * 99 / 100).copied();
    Ok(json!({
        "events_per_s": flood as f64 / took,
        "ack_p99": p99(&times),
        "ack_p99_after_flood": p99(&after),
        "ack_max_after_flood": after.last(),
    }))
}

/// All sessions as fast as they can, after what each has sent; returns what each has sent then.
async fn flooded(senders: &[Sender], before: Sent, until: Instant) -> Result<Vec<Sent>, String> {
    let flood = |sender: &Sender| tokio::spawn(sender.clone().flood(before, until));
    let floods: Vec<_> = senders.iter().map(flood).collect();
    let mut sent = Vec::new();
    for flood in floods {
        sent.push(flood.await.map_err(|error| error.to_string())?);
    }
    Ok(sent)
}

/// All sessions at their pace, after what each has sent; returns the times of acknowledgements,
/// sorted.
async fn paced(senders: &[Sender], before: Vec<Sent>, rounds: u64) -> Result<Vec<u64>, String> {
    let pace = |(sender, before): (&Sender, Sent)| {
        let sender = sender.clone();
        tokio::spawn(sender.paced(before, rounds))
    };
    let sessions: Vec<_> = senders.iter().zip(before).map(pace).collect();
    let mut times = Vec::new();
    for session in sessions {
        times.extend(session.await.map_err(|error| error.to_string())?);
    }
    times.sort_unstable();
    Ok(times)
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
