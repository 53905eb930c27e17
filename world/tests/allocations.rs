//! The scan thread allocates and frees nothing in steady state, whole cycles with sleep, ingest of
//! known and new devices, registration, rules with and without a time and on windows, a change of
//! rules, of period and of rates, commands, requests, rows to files, systems of a program, the
//! fallback schedule, its news, publishing and somebody who reads all figures meanwhile included.
//!
//! In a program of its own, because it installs an allocator; one test, because it measures time.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, in its tools too")]

use std::alloc::{GlobalAlloc, Layout, System as Heap};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actorsim_actors::{ActorPath, Addr, Clock, MailboxSpec, Overflow, System};
use actorsim_supervision::{Strategy, SupervisorPolicy, SupervisorRef, SupervisorSpec, start_root};
use actorsim_transport::{
    Batch, BatchPool, DeviceRange, EventBatch, EventKey, Ingest, Reading, Registration, SensorSpec,
    SensorType, Sessions, T2Message, T2Session, Tier, TransportStats, device_uuid,
};
use actorsim_world::row_files::{Format, RowFilesConfig};
use actorsim_world::rules::RuleSet;
use actorsim_world::scan::overrun::OverrunPolicy;
use actorsim_world::scan::stats::CycleRecord;
use actorsim_world::systems::{OwnSystem, OwnSystems};
use actorsim_world::{Outlets, ScanConfig, SystemId, Twin, TwinConfig, WorldRules, twin_children};

/// Counts calls of the heap per thread.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

fn calls_of_this_thread() -> u64 {
    CALLS.with(Cell::get)
}

#[expect(
    unsafe_code,
    reason = "a counting allocator is an unsafe trait by nature"
)]
// SAFETY: every call is handed to the system's allocator unchanged; the counter is a constant
// thread-local without a destructor, so counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { Heap.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { Heap.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { Heap.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DEVICES: u32 = 200;
/// Devices that are announced, or just seen, while the scan is at work.
const LATER: u32 = 200;
const ROUNDS: u32 = 100;
/// Steady cycles at least.
const CYCLES: u64 = 1_000;
/// Each is told, and that it is over: more news than a channel has in one block.
const FALLBACKS: u64 = 17;
const PERIOD: Duration = Duration::from_millis(1);

/// Beside the shipped rule: one with a time on each value, one on the smoothed value, and one on a
/// window.
const RULES: &str = r#"
[[rule]]
name = "dark"
sensor = "voltage"
below = 0.5
for = "2ms"
then = 0
[[rule]]
name = "damp"
sensor = "humidity"
field = "smoothed"
above = 0.5
then = 7
otherwise = 8
actuator = 9
[[rule]]
name = "hot"
sensor = "temperature"
field = "window_mean"
above = 0.4
then = 3
"#;
const PATIENCE: Duration = Duration::from_secs(60);

fn rules() -> RuleSet {
    let more = RuleSet::from_toml("test", RULES).unwrap();
    RuleSet::shipped().and(more).unwrap()
}

/// A system of a program's, which takes longer than a period as long as it is told to.
fn own(slow: &Arc<AtomicBool>) -> OwnSystems {
    let slow = Arc::clone(slow);
    let mut own = OwnSystems::default();
    let system = OwnSystem {
        name: "slow",
        every: 1,
        after: Vec::new(),
        make: Arc::new(move || {
            let slow = Arc::clone(&slow);
            Box::new(move |_| {
                if slow.load(Ordering::Relaxed) {
                    std::thread::park_timeout(PERIOD * 2);
                }
                Ok(())
            })
        }),
    };
    own.add(system).unwrap();
    own
}

fn twin(clock: Clock, dir: &std::path::Path, slow: &Arc<AtomicBool>) -> Twin {
    let scan = ScanConfig {
        period: PERIOD,
        overrun: OverrunPolicy::Fallback,
        own: own(slow),
        fifo: false,
        lock_memory: false,
        capacity: (DEVICES + LATER) * 7,
        capacity_max: (DEVICES + LATER) * 7,
        allocations: Some(calls_of_this_thread),
        ..ScanConfig::default()
    };
    Twin::new(
        TwinConfig {
            scan,
            rule_set: rules(),
            rules: WorldRules {
                sweep: Duration::from_millis(10),
                windows: "temperature:8,late-0001/voltage:64".parse().unwrap(),
                ..WorldRules::default()
            },
            row_files: Some(RowFilesConfig {
                dir: dir.to_owned(),
                format: Format::Ndjson,
                file_max: 1 << 20,
                files_max: 4,
            }),
            ..TwinConfig::default()
        },
        clock,
    )
    .unwrap()
}

fn registration(prefix: &str, first: u32, count: u32) -> Registration {
    let specs = SensorType::ALL.into_iter().enumerate();
    let sensors = specs
        .map(|(sensor, kind)| SensorSpec {
            sensor: sensor as u16,
            kind,
        })
        .collect();
    let devices = DeviceRange {
        prefix: prefix.to_owned(),
        first,
        count,
        width: 4,
    };
    Registration { devices, sensors }
}

/// All sensors of one device; presence comes and goes, so that commands flow.
fn readings(name: &str, round: u32, into: &mut Vec<Reading>) {
    let id = device_uuid(name);
    into.extend(SensorType::ALL.into_iter().map(|kind| Reading {
        device: id,
        sensor: u16::from(kind.byte()),
        kind,
        value: f64::from(round % 2),
        at_us: u64::from(round),
        sequence: round,
    }));
}

/// Samples of devices 0 to 99, events of devices 100 to 199, and a look at a device now and then.
async fn feed(clock: &Clock, twin: &Twin, pool: &Arc<BatchPool>, session: &Arc<T2Session>) {
    for round in 1..=ROUNDS {
        let now = clock.monotonic();
        let mut samples = pool.take();
        (0..100).for_each(|device| readings(&format!("pump-{device:04}"), round, &mut samples));
        let batch = Batch::new(Tier::T1, samples, now, pool);
        let inlets = twin.inlets();
        let sent = inlets.readings.send(Ingest::T1(batch), PATIENCE).await;
        sent.unwrap();
        let mut events = pool.take();
        (100..200).for_each(|device| readings(&format!("pump-{device:04}"), round, &mut events));
        let key = |at| EventKey {
            epoch: 1,
            event: u64::from(round) * 700 + at,
        };
        let (session, keys) = (Arc::clone(session), (0..700).map(key).collect());
        let batch = EventBatch::new(session, u64::from(round), events, keys, now, pool);
        let sent = inlets.events.send(T2Message::Events(batch), PATIENCE).await;
        sent.unwrap();
        if round % 10 == 0 {
            // what was sent has a row only once it came through
            assert!(twin.quiesce(PATIENCE).await);
            twin.device(device_uuid("pump-0000")).await.unwrap();
            // ten devices are announced, ten others are just there
            let first = round - 10;
            let announced = Ingest::Register(registration("late-", first, 10));
            inlets.readings.send(announced, PATIENCE).await.unwrap();
            let mut strangers = pool.take();
            (0..10).for_each(|n| readings(&format!("stray-{}", first + n), 1, &mut strangers));
            let batch = Batch::new(Tier::T1, strangers, now, pool);
            let sent = inlets.readings.send(Ingest::T1(batch), PATIENCE).await;
            sent.unwrap();
        }
        if round == ROUNDS / 2 {
            // one goes, one stays, and they come back
            twin.set_rules(RuleSet::shipped()).await.unwrap();
            twin.set_rules(rules()).await.unwrap();
            twin.set_pace(Some(PERIOD * 3), Some(4)).await.unwrap();
            twin.set_pace(Some(PERIOD), Some(2)).await.unwrap();
        }
    }
    assert!(twin.quiesce(PATIENCE).await);
}

/// Reads every figure there is, again and again.
async fn look(twin: &Twin) {
    loop {
        // a cycle is published before its record can be folded
        let (times, report, journal) = (twin.times(), twin.report(), twin.journal());
        assert!(report.scan.cycles >= times.took.quantiles().map_or(0, |took| took.count));
        assert!(journal.head >= journal.applied);
        tokio::time::sleep(PERIOD).await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Under a root; no tier takes the commands: they stay in hand and in their lane, which fills up.
async fn start(system: &System, twin: &Twin, stats: &Arc<TransportStats>) -> SupervisorRef {
    let spec = MailboxSpec::new(256, Overflow::Reject);
    let commands = Addr::new(ActorPath::root().join("tier-t3"), spec);
    let outlets = Outlets {
        commands,
        sessions: Sessions::new(),
        stats: Arc::clone(stats),
        runtime: None,
    };
    let policy = SupervisorPolicy::new(Strategy::OneForOne).intensity(30, PATIENCE);
    let spec = SupervisorSpec::new(ActorPath::root(), policy.clone())
        .child(twin_children(twin, outlets, policy));
    start_root(system, spec).await.unwrap()
}

fn keep_records(twin: &Twin) -> Arc<Mutex<Vec<CycleRecord>>> {
    let records: Arc<Mutex<Vec<CycleRecord>>> = Arc::default();
    let kept = Arc::clone(&records);
    twin.on_cycle(Box::new(move |record| kept.lock().unwrap().push(*record)));
    records
}

/// All that happens in steady state, and more cycles.
async fn at_work(
    system: &System,
    twin: &Twin,
    pool: &Arc<BatchPool>,
    session: &Arc<T2Session>,
    slow: &AtomicBool,
) {
    feed(system.clock(), twin, pool, session).await;
    for turn in 0..FALLBACKS {
        slow.store(true, Ordering::Relaxed);
        until(|| twin.snapshot().fallbacks > turn).await;
        slow.store(false, Ordering::Relaxed);
        until(|| !twin.snapshot().in_fallback).await;
    }
    // a cycle is published before its record is there
    until(|| twin.snapshot().cycles > CYCLES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steady_cycles_do_not_touch_the_heap_and_a_panic_does() {
    let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
    let dir = tempfile::tempdir().unwrap();
    let slow = Arc::new(AtomicBool::new(false));
    let twin = twin(system.clock().clone(), dir.path(), &slow);
    let stats = TransportStats::new();
    let records = keep_records(&twin);
    let root = start(&system, &twin, &stats).await;
    twin.inlets()
        .readings
        .send(
            Ingest::Register(registration("pump-", 0, DEVICES)),
            PATIENCE,
        )
        .await
        .unwrap();
    let session = T2Session::detached(1);
    let pool = BatchPool::new(stats);
    tokio::select! {
        biased;
        () = at_work(&system, &twin, &pool, &session, &slow) => {}
        () = look(&twin) => {}
    }
    assert_eq!(session.acked(), u64::from(ROUNDS));

    // the negative control: a caught panic allocates, and is seen to
    twin.panic(SystemId::Export).await.unwrap();
    until(|| twin.snapshot().faulted > 0).await;
    // the thread that writes files looks now and then
    until(|| twin.report().row_files.is_some_and(|rows| rows.written > 0)).await;
    let (tally, report) = (twin.snapshot().tally, twin.report());
    root.stop().await;
    assert_eq!(tally.t1_applied, u64::from(ROUNDS) * 707);
    assert_eq!(tally.t2_applied, u64::from(ROUNDS) * 700);
    assert!(tally.commands > 0);
    assert_eq!(report.entities, (DEVICES + LATER) * 7);
    // the others were forgotten once, and the lane of commands was full by then
    assert_eq!(report.rules.len(), 4);
    assert_eq!(
        (report.windows, report.windows_refused),
        (DEVICES + LATER + 1, 0)
    );
    assert!(
        report.rules["absence-stops"].fired > 0,
        "{:?}",
        report.rules
    );

    let records = records.lock().unwrap();
    let faulted = records.iter().position(|record| record.faulted).unwrap();
    assert!(
        records[faulted].allocations > Some(0),
        "the counter sees an allocation"
    );
    let steady = &records[..faulted];
    let count = steady.len() as u64;
    assert!(count >= CYCLES, "{count} cycles");
    assert!(steady.iter().any(|record| record.fallback));
    assert!(steady.iter().any(|record| record.period_ns == 3_000_000));
    let dirty: Vec<_> = steady.iter().filter(|r| r.allocations != Some(0)).collect();
    assert!(
        dirty.is_empty(),
        "{} of {}: {:?}",
        dirty.len(),
        steady.len(),
        dirty.first()
    );
}
