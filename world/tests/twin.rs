//! The twin as a supervised subtree: stages, scan thread, restarts, accounting.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, in its tools too")]

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{
    ActorPath, Addr, Clock, Fault, Flow, MailboxSpec, Message, Overflow, System, TaskActor,
    TaskContext,
};
use actorsim_supervision::{Strategy, SupervisorPolicy, SupervisorRef, SupervisorSpec, start_root};
use actorsim_transport::{
    Batch, BatchPool, DeviceRange, EventBatch, EventKey, Ingest, Reading, Registration, SensorSpec,
    SensorType, Sessions, T2Message, T2Session, T3Message, Tier, TransportStats, device_uuid,
};
use actorsim_world::lanes::T2_LANE;
use actorsim_world::scan::ScanMessage;
use actorsim_world::{Outlets, RowView, ScanConfig, SystemId, Twin, TwinConfig, twin_children};
use tokio::sync::mpsc;

const PRESENCE: u16 = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes commands as tier T3 would, and shows them to the test.
struct Tier3(mpsc::Sender<(bool, u64)>);

impl TaskActor for Tier3 {
    type Msg = T3Message;

    async fn handle(
        &mut self,
        message: T3Message,
        _: &mut TaskContext<T3Message>,
    ) -> Result<Flow, Fault> {
        if let T3Message::Command(issued) = message {
            let command = issued.command();
            let _ = self.0.send((command.value >= 1.0, command.id)).await;
        }
        Ok(Flow::Continue)
    }
}

struct Rig {
    system: System,
    root: SupervisorRef,
    twin: Twin,
    stats: Arc<TransportStats>,
    pool: Arc<BatchPool>,
    commands: mpsc::Receiver<(bool, u64)>,
}

impl Rig {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A twin of small size and short period, changed as a test needs it.
    async fn with(change: impl Fn(&mut ScanConfig)) -> Self {
        let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
        let mut scan = ScanConfig {
            period: Duration::from_millis(2),
            fifo: false,
            lock_memory: false,
            capacity: 256,
            capacity_max: 4_096,
            ..ScanConfig::default()
        };
        change(&mut scan);
        let config = TwinConfig {
            scan,
            ..TwinConfig::default()
        };
        let twin = Twin::new(config, system.clock().clone()).unwrap();
        let stats = TransportStats::new();
        let tier3 = Addr::new(
            ActorPath::root().join("tier-t3"),
            MailboxSpec::new(256, Overflow::Reject),
        );
        let (tx, commands) = mpsc::channel(1_024);
        let life = tier3.next_incarnation();
        system
            .start_task(&tier3, life, Tier3(tx), Box::new(|_| {}))
            .await
            .unwrap();
        let outlets = Outlets {
            commands: tier3,
            sessions: Sessions::new(),
            stats: Arc::clone(&stats),
            runtime: None,
        };
        let many = SupervisorPolicy::new(Strategy::OneForOne).intensity(30, PATIENCE);
        let spec = SupervisorSpec::new(ActorPath::root(), many.clone())
            .child(twin_children(&twin, outlets, many));
        let root = start_root(&system, spec).await.unwrap();
        let pool = BatchPool::new(Arc::clone(&stats));
        Self {
            system,
            root,
            twin,
            stats,
            pool,
            commands,
        }
    }

    async fn send(&self, message: Ingest) {
        self.twin
            .inlets()
            .readings
            .send(message, PATIENCE)
            .await
            .unwrap();
    }

    async fn register(&self, devices: u32) {
        let specs = SensorType::ALL.into_iter().enumerate();
        let sensors = specs.map(|(sensor, kind)| SensorSpec {
            sensor: sensor as u16,
            kind,
        });
        let devices = DeviceRange {
            prefix: "pump-".to_owned(),
            first: 0,
            count: devices,
            width: 4,
        };
        let sensors = sensors.collect();
        self.send(Ingest::Register(Registration { devices, sensors }))
            .await;
    }

    async fn t1(&self, readings: &[Reading]) {
        let mut buffer = self.pool.take();
        buffer.extend_from_slice(readings);
        self.stats.t1.received.add(buffer.len() as u64);
        let now = self.system.clock().monotonic();
        self.send(Ingest::T1(Batch::new(Tier::T1, buffer, now, &self.pool)))
            .await;
    }

    async fn event(&self, session: &Arc<T2Session>, sequence: u64, readings: &[Reading]) {
        let mut events = self.pool.take();
        events.extend_from_slice(readings);
        let keys = (0..readings.len() as u64).map(|at| EventKey {
            epoch: 1,
            event: sequence * 256 + at,
        });
        let keys = keys.collect();
        let now = self.system.clock().monotonic();
        let batch = EventBatch::new(Arc::clone(session), sequence, events, keys, now, &self.pool);
        self.journal(T2Message::Events(batch)).await;
    }

    async fn journal(&self, message: T2Message) {
        let journal = self.twin.inlets().events;
        journal.send(message, PATIENCE).await.unwrap();
    }

    async fn row(&self, name: &str, sensor: u16) -> Option<RowView> {
        let rows = self.twin.device(device_uuid(name)).await.ok()?;
        rows.into_iter().find(|row| row.sensor == sensor)
    }

    async fn settled(&self) {
        assert!(
            self.twin.quiesce(PATIENCE).await,
            "everything is scanned in the end"
        );
    }

    async fn kill(&self, path: &str) {
        let before = self.incarnation(path);
        let path = ActorPath::new(path).unwrap();
        self.system.census().task(&path).unwrap().kill();
        self.until(|rig| rig.incarnation(path.as_str()) > before)
            .await;
    }

    fn incarnation(&self, path: &str) -> u32 {
        let path = ActorPath::new(path).unwrap();
        self.system
            .census()
            .task(&path)
            .map_or(0, |task| task.incarnation().0)
    }

    /// Polls a condition that the tree brings about by itself.
    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let met = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, met)
            .await
            .expect("the condition is met in time");
    }

    /// Waits until every stage lives.
    async fn up(&self) {
        self.until(|rig| rig.twin.inlets().readings.is_up() && rig.twin.scan().is_up())
            .await;
        let actuate = ActorPath::new("/twin/actuate").unwrap();
        self.until(|rig| {
            rig.system
                .census()
                .task(&actuate)
                .is_some_and(|a| !a.has_exited())
        })
        .await;
    }
}

fn reading(name: &str, sensor: u16, sequence: u32, value: f64) -> Reading {
    let kind = SensorType::ALL[usize::from(sensor) % 7];
    let at_us = 1_000 + u64::from(sequence);
    Reading {
        device: device_uuid(name),
        sensor,
        kind,
        value,
        at_us,
        sequence,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_reach_their_rows_and_are_accounted() {
    let rig = Rig::start().await;
    rig.register(20).await;
    let readings: Vec<_> = (0..7)
        .map(|s| reading("pump-0003", s, 1, f64::from(s)))
        .collect();
    rig.t1(&readings).await;
    rig.t1(&[reading("stranger", 41, 1, 4.5)]).await;
    rig.settled().await;
    assert_eq!(rig.row("pump-0003", 4).await.unwrap().value, Some(4.0));
    assert_eq!(rig.row("stranger", 41).await.unwrap().value, Some(4.5));
    assert_eq!(
        (rig.stats.t1.applied.get(), rig.stats.t1.dropped.total()),
        (8, 0)
    );
    let report = rig.twin.report();
    assert_eq!(
        (report.entities, report.devices, report.readings_applied),
        (141, 21, 8)
    );
    assert!(report.ingest_us.is_some());
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absence_sends_stop_and_presence_start_with_rising_ids() {
    let mut rig = Rig::start().await;
    rig.register(1).await;
    for (sequence, value) in [(1, 0.0), (2, 1.0)] {
        rig.t1(&[reading("pump-0000", PRESENCE, sequence, value)])
            .await;
        rig.settled().await;
    }
    let stop = tokio::time::timeout(PATIENCE, rig.commands.recv())
        .await
        .unwrap()
        .unwrap();
    let start = tokio::time::timeout(PATIENCE, rig.commands.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((stop.0, start.0), (false, true));
    assert!(start.1 > stop.1);
    assert_eq!(rig.stats.t3.issued.get(), 2);
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_scan_rebuilds_the_same_rows_and_keeps_its_totals() {
    let rig = Rig::start().await;
    rig.register(5).await;
    rig.t1(&[reading("pump-0002", 3, 1, 230.0)]).await;
    rig.settled().await;
    let before = rig.row("pump-0002", 3).await.unwrap();
    rig.kill("/twin/scan").await;
    rig.up().await;
    let after = rig.row("pump-0002", 3).await.unwrap();
    assert_eq!((after.row, after.device), (before.row, before.device));
    assert_eq!(
        (after.value, after.stale),
        (None, true),
        "stale until the next reading"
    );
    rig.t1(&[reading("pump-0002", 3, 2, 231.0)]).await;
    rig.settled().await;
    assert_eq!(rig.row("pump-0002", 3).await.unwrap().value, Some(231.0));
    let snapshot = rig.twin.snapshot();
    assert_eq!((snapshot.incarnations, snapshot.entities()), (2, 35));
    assert_eq!(snapshot.tally.t1_applied, 2);
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cycles_and_skipped_slots_cover_the_grid_over_a_restart() {
    let rig = Rig::start().await;
    rig.until(|rig| rig.twin.snapshot().cycles > 5).await;
    rig.kill("/twin/scan").await;
    rig.up().await;
    rig.until(|rig| rig.twin.snapshot().incarnations == 2).await;
    rig.root.stop().await;
    let times = rig.twin.times();
    let window: Vec<_> = times.window().collect();
    let (first, last) = (window[0], window[window.len() - 1]);
    let slots: u64 = window[1..].iter().map(|record| 1 + record.skipped).sum();
    let span_ns = (last.ts_ns - last.late_ns) - (first.ts_ns - first.late_ns);
    assert_eq!(
        slots * first.period_ns,
        span_ns,
        "each slot is run or counted as skipped"
    );
    assert!(
        window
            .windows(2)
            .all(|pair| pair[1].cycle == pair[0].cycle + 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_were_put_off_outlive_the_scan_that_decided_them() {
    // the channel of the test, its tier's mailbox, and the lane hold less than so many
    const DEVICES: u32 = 2_600;
    let mut rig = Rig::with(|scan| scan.capacity = 4_096).await;
    let sensors = [SensorSpec {
        sensor: PRESENCE,
        kind: SensorType::Presence,
    }];
    let devices = DeviceRange {
        prefix: "pump-".to_owned(),
        first: 0,
        count: DEVICES,
        width: 4,
    };
    let absent: Vec<_> = (0..DEVICES)
        .map(|nth| reading(&devices.name(nth), PRESENCE, 1, 0.0))
        .collect();
    let sensors = sensors.into();
    rig.send(Ingest::Register(Registration { devices, sensors }))
        .await;
    for some in absent.chunks(500) {
        rig.t1(some).await;
    }
    rig.until(|rig| rig.twin.snapshot().tally.t1_applied == u64::from(DEVICES))
        .await;
    assert!(rig.twin.snapshot().tally.commands_deferred > 0);
    rig.kill("/twin/scan").await;
    for got in 0..DEVICES {
        let next = tokio::time::timeout(PATIENCE, rig.commands.recv()).await;
        let (starts, _) = next.unwrap_or_else(|_| panic!("after {got}")).unwrap();
        assert!(!starts);
    }
    rig.settled().await;
    assert_eq!(rig.twin.snapshot().tally.commands, u64::from(DEVICES));
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_killed_stage_goes_on_with_the_same_lanes() {
    let rig = Rig::start().await;
    rig.register(3).await;
    let mut sequence = 0;
    for stage in ["/twin/route", "/twin/apply", "/twin/actuate", "/twin/scan"] {
        rig.kill(stage).await;
        rig.up().await;
        sequence += 1;
        rig.t1(&[reading("pump-0001", 0, sequence, f64::from(sequence))])
            .await;
        rig.settled().await;
        let value = rig.row("pump-0001", 0).await.unwrap().value;
        assert_eq!(value, Some(f64::from(sequence)), "after {stage}");
    }
    assert_eq!(rig.stats.t1.received.get(), rig.stats.t1.applied.get());
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_applied_once_though_the_scan_is_killed_between() {
    let rig = Rig::start().await;
    rig.register(1).await;
    let session = T2Session::detached(7);
    rig.event(&session, 1, &[reading("pump-0000", 0, 1, 1.0)])
        .await;
    rig.settled().await;
    assert_eq!(session.acked(), 1);
    rig.kill("/twin/scan").await;
    rig.up().await;
    let row = rig.row("pump-0000", 0).await.unwrap();
    assert_eq!(
        (row.value, row.stale),
        (Some(1.0), true),
        "out of the journal"
    );
    // the link sends everything again that it has no acknowledgement for, and goes on
    for sequence in [1, 3, 2, 3] {
        let value = sequence as f64;
        rig.event(
            &session,
            sequence,
            &[reading("pump-0000", 0, sequence as u32, value)],
        )
        .await;
    }
    rig.settled().await;
    assert_eq!(session.acked(), 3);
    let t2 = &rig.stats.t2;
    assert_eq!(
        (t2.applied.get(), t2.duplicates.get(), t2.out_of_order.get()),
        (3, 1, 1)
    );
    assert_eq!(rig.row("pump-0000", 0).await.unwrap().value, Some(3.0));
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_panicking_system_is_isolated_and_a_second_restarts_the_scan() {
    let rig = Rig::start().await;
    rig.register(1).await;
    rig.twin.panic(SystemId::Export).await.unwrap();
    rig.until(|rig| rig.twin.snapshot().faulted == 1).await;
    let isolated = rig.twin.report().scan.systems;
    assert!(!isolated["export"].enabled && isolated["ingest"].enabled);
    assert_eq!(rig.incarnation("/twin/scan"), 1);
    rig.twin.panic(SystemId::Simulation).await.unwrap();
    rig.until(|rig| rig.twin.snapshot().incarnations == 2).await;
    rig.up().await;
    assert!(rig.incarnation("/twin/scan") > 1);
    assert!(
        rig.twin
            .report()
            .scan
            .systems
            .values()
            .all(|system| system.enabled)
    );
    let names: Vec<_> = rig
        .system
        .events()
        .last(64)
        .iter()
        .map(|event| event.name)
        .collect();
    assert!(names.contains(&"system_isolated"), "{names:?}");
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_told_to_fail_is_restarted_and_the_world_goes_on() {
    let rig = Rig::start().await;
    rig.register(2).await;
    rig.twin.scan().try_send(ScanMessage::Fail).unwrap();
    rig.until(|rig| rig.twin.snapshot().incarnations == 2).await;
    rig.up().await;
    rig.t1(&[reading("pump-0001", 0, 1, 5.0)]).await;
    rig.settled().await;
    assert_eq!(rig.row("pump-0001", 0).await.unwrap().value, Some(5.0));
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_devices_than_capacity_grow_the_table_and_are_counted() {
    let rig = Rig::start().await;
    rig.register(400).await;
    rig.t1(&[reading("pump-0399", 6, 1, 1.0)]).await;
    rig.settled().await;
    assert_eq!(rig.row("pump-0399", 6).await.unwrap().value, Some(1.0));
    let snapshot = rig.twin.snapshot();
    assert!(snapshot.maintenance >= 1);
    assert_eq!(snapshot.entities(), 2_800);
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_device_is_an_answer_not_a_wait() {
    let rig = Rig::start().await;
    let answer = rig.twin.device(device_uuid("nobody")).await;
    assert_eq!(answer, Err(actorsim_world::AskTwinError::UnknownDevice));
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_event_lane_is_backpressure_and_loses_nothing() {
    let rig = Rig::with(|scan| scan.period = Duration::from_millis(100)).await;
    let batches = T2_LANE as u32 + 500;
    let feed = async {
        for sequence in 0..batches {
            let mut buffer = rig.pool.take();
            buffer.push(reading("pump-0000", 1, sequence, f64::from(sequence)));
            let now = rig.system.clock().monotonic();
            rig.journal(T2Message::Plain(Batch::new(
                Tier::T2,
                buffer,
                now,
                &rig.pool,
            )))
            .await;
        }
    };
    feed.await;
    rig.settled().await;
    assert_eq!(rig.stats.t2.applied.get(), u64::from(batches));
    assert_eq!(rig.stats.t2.dropped.total(), 0);
    let row = rig.row("pump-0000", 1).await.unwrap();
    assert_eq!(row.value, Some(f64::from(batches - 1)), "in order");
    rig.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_privilege_is_granted_or_its_refusal_reported() {
    let rig = Rig::with(|scan| (scan.fifo, scan.lock_memory) = (true, true)).await;
    let host = rig.twin.host().unwrap();
    let (got, asked) = (&host.got, &host.asked);
    assert!(asked.pinned && asked.locked && asked.policy == "fifo:80");
    let granted = [
        got.core == asked.core,
        got.policy == asked.policy,
        got.locked,
    ];
    let refused = granted.iter().filter(|granted| !**granted).count();
    assert_eq!(host.why.len(), refused, "{host:?}");
    // a thread of a real-time class has none
    assert!(got.timer_slack_ns <= asked.timer_slack_ns, "{host:?}");
    rig.until(|rig| rig.twin.snapshot().cycles > 10).await;
    let report = rig.twin.report();
    assert!(report.scan.jitter_us.is_some() && report.scan.took_us.is_some());
    assert_eq!(
        report.scan.allocations_per_cycle, None,
        "nobody counts here"
    );
    rig.root.stop().await;
}

/// So that a message type of the crate keeps its name in crash reports.
#[test]
fn messages_are_named() {
    assert_eq!(ScanMessage::Fail.kind(), "fail");
}
