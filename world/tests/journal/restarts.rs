//! A twin that is cut off and started again on what its disk has: rows, ledger, commands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{
    ActorPath, Addr, Clock, Fault, Flow, MailboxSpec, Overflow, System, TaskActor, TaskContext,
};
use actorsim_supervision::{Strategy, SupervisorPolicy, SupervisorRef, SupervisorSpec, start_root};
use actorsim_transport::{
    Batch, BatchPool, Command, DeviceRange, EventBatch, EventKey, EventMark, Ingest, Outcome,
    Reading, Registration, SensorSpec, SensorType, Sessions, T2Message, T2Session, T3Message,
    Tier as WireTier, TransportStats, device_uuid,
};
use actorsim_world::orders::OrderError;
use actorsim_world::{JournalConfig, Outlets, ScanConfig, Twin, TwinConfig, twin_children};
use tokio::sync::mpsc;

use super::disk::Disk;
use super::draws;

const PATIENCE: Duration = Duration::from_secs(60);
const PRESENCE: u16 = 5;

/// Far less than a journal gives its writer.
const LOOK: Duration = Duration::from_millis(20);

/// What becomes of commands at a tier that only tests.
#[derive(Clone, Copy, PartialEq)]
enum Tier {
    Acks,
    Keeps,
}

/// Tier T3: shows each command, and acknowledges it or keeps it for ever.
struct Tier3 {
    shown: mpsc::Sender<Command>,
    tier: Tier,
    kept: Vec<T3Message>,
}

impl TaskActor for Tier3 {
    type Msg = T3Message;

    async fn handle(
        &mut self,
        message: T3Message,
        _: &mut TaskContext<T3Message>,
    ) -> Result<Flow, Fault> {
        if let T3Message::Command(issued) = message {
            self.shown.send(issued.command().clone()).await.unwrap();
            match self.tier {
                Tier::Acks => issued.settle(Outcome::Acked),
                Tier::Keeps => self.kept.push(T3Message::Command(issued)),
            }
        }
        Ok(Flow::Continue)
    }
}

struct Life {
    system: System,
    twin: Twin,
    root: SupervisorRef,
    stats: Arc<TransportStats>,
    sessions: Arc<Sessions>,
    pool: Arc<BatchPool>,
    commands: mpsc::Receiver<Command>,
    deadline: Duration,
}

impl Life {
    async fn on(disk: &Disk, tier: Tier, deadline: Duration) -> Self {
        let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
        let scan = ScanConfig {
            period: Duration::from_millis(1),
            fifo: false,
            lock_memory: false,
            capacity: 64,
            capacity_max: 512,
            ..ScanConfig::default()
        };
        let journal = JournalConfig {
            ledger: true,
            ..JournalConfig::on(Arc::new(disk.clone()))
        };
        let config = TwinConfig {
            scan,
            journal,
            command_deadline: deadline,
            ..TwinConfig::default()
        };
        let twin = Twin::new(config, system.clock().clone()).unwrap();
        let stats = TransportStats::new();
        let (shown, commands) = mpsc::channel(256);
        let spec = MailboxSpec::new(256, Overflow::Reject);
        let tier3 = Addr::new(ActorPath::root().join("tier-t3"), spec);
        let actor = Tier3 {
            shown,
            tier,
            kept: Vec::new(),
        };
        let life = tier3.next_incarnation();
        let started = system.start_task(&tier3, life, actor, Box::new(|_| {}));
        started.await.unwrap();
        let sessions = Sessions::new();
        let outlets = Outlets {
            commands: tier3,
            sessions: Arc::clone(&sessions),
            stats: Arc::clone(&stats),
            runtime: None,
        };
        let policy = SupervisorPolicy::new(Strategy::OneForOne).intensity(100, PATIENCE);
        let spec = SupervisorSpec::new(ActorPath::root(), policy.clone())
            .child(twin_children(&twin, outlets, policy));
        let root = start_root(&system, spec).await.unwrap();
        Self {
            system,
            twin,
            root,
            pool: BatchPool::new(Arc::clone(&stats)),
            stats,
            sessions,
            commands,
            deadline,
        }
    }

    async fn register(&self, count: u32) {
        let sensors = SensorType::ALL.map(|kind| SensorSpec {
            sensor: u16::from(kind.byte()),
            kind,
        });
        let devices = DeviceRange {
            prefix: "pump-".into(),
            first: 0,
            count,
            width: 4,
        };
        let sensors = sensors.into();
        let announced = Ingest::Register(Registration { devices, sensors });
        let route = self.twin.inlets().readings;
        route.send(announced, PATIENCE).await.unwrap();
        // events come by another way, and a journal keeps the sensors that it knows by then
        self.until("announced", |life| life.twin.report().devices >= count)
            .await;
    }

    fn session(&self) -> Arc<T2Session> {
        self.sessions.open(7, "fleet", 0, 0).unwrap()
    }

    /// Batch `sequence` of the session: presence of each of `devices` is `value`.
    async fn presence(&self, sequence: u64, devices: u32, value: f64) {
        assert!(self.offer(sequence, devices, value, PATIENCE).await);
    }

    /// The same, if the journal takes it in time.
    async fn offer(&self, sequence: u64, devices: u32, value: f64, patience: Duration) -> bool {
        let mut events = self.pool.take();
        events.extend((0..devices).map(|device| Reading {
            device: device_uuid(&format!("pump-{device:04}")),
            sensor: PRESENCE,
            kind: SensorType::Presence,
            value,
            at_us: sequence,
            sequence: sequence as u32,
        }));
        let key = EventKey {
            epoch: 1,
            event: sequence,
        };
        let keys = vec![key; devices as usize];
        let now = self.system.clock().monotonic();
        let batch = EventBatch::new(self.session(), sequence, events, keys, now, &self.pool);
        let journal = self.twin.inlets().events;
        let sent = journal.send(T2Message::Events(batch), patience).await;
        sent.is_ok()
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, waiting).await;
        done.unwrap_or_else(|_| panic!("never: {what}: {:?}", self.twin.journal()));
    }

    /// The rows of a device: sensor, value, stale, stopped.
    async fn row(&self, device: u32) -> (Option<f64>, bool, bool) {
        let device = device_uuid(&format!("pump-{device:04}"));
        let rows = self.twin.device(device).await.unwrap();
        let row = rows.iter().find(|row| row.sensor == PRESENCE).unwrap();
        (row.value, row.stale, row.in_force != 0)
    }

    async fn settled(&self) {
        assert!(self.twin.quiesce(PATIENCE).await);
    }

    /// Cut off here: what a disk may have then. The process itself goes on, unheard.
    fn cut(&self, disk: &Disk, seed: u64) -> Disk {
        disk.cut(disk.ops(), draws(seed))
    }
}

fn marks(devices: u32, events: u64) -> BTreeMap<uuid::Uuid, EventMark> {
    let mut mark = EventMark::default();
    (1..=events).for_each(|event| mark.fold(EventKey { epoch: 1, event }));
    let device = |device| (device_uuid(&format!("pump-{device:04}")), mark);
    (0..devices).map(device).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_cut_off_has_rows_ledger_and_sessions_back_before_anybody_speaks() {
    let disk = Disk::default();
    let first = Life::on(&disk, Tier::Acks, PATIENCE).await;
    first.register(3).await;
    for sequence in 1..=20 {
        first
            .presence(sequence, 3, f64::from(sequence as u32))
            .await;
    }
    first.settled().await;
    for seed in 0..4 {
        let left = first.cut(&disk, seed);
        let second = Life::on(&left, Tier::Acks, PATIENCE).await;
        // those that were not known to be applied go through the lane again
        second.settled().await;
        assert_eq!(second.session().acked(), 20);
        assert_eq!(second.twin.ledger().unwrap(), marks(3, 20));
        assert_eq!(
            second.row(2).await,
            (Some(20.0), second.row(2).await.1, false)
        );
        assert_eq!(second.twin.report().devices, 3);
        // what the link sends again, and what is new
        second.presence(20, 3, 20.0).await;
        second.presence(21, 3, 21.0).await;
        second.settled().await;
        assert_eq!(second.stats.t2.duplicates.get(), 3);
        assert_eq!(second.twin.ledger().unwrap(), marks(3, 21));
        assert_eq!(second.row(0).await, (Some(21.0), false, false));
        second.root.stop().await;
    }
    first.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_ordered_stop_nothing_is_applied_again_and_rows_are_stale_until_heard() {
    let disk = Disk::default();
    let first = Life::on(&disk, Tier::Acks, PATIENCE).await;
    first.register(2).await;
    first.presence(1, 2, 3.0).await;
    first.settled().await;
    first.root.stop().await;
    let second = Life::on(&disk, Tier::Acks, PATIENCE).await;
    assert_eq!(second.row(1).await, (Some(3.0), true, false));
    assert_eq!(
        second.twin.report().entities,
        14,
        "its announced sensors are back, too"
    );
    second.settled().await;
    assert_eq!(second.stats.t2.applied.get(), 0);
    assert_eq!(second.twin.ledger().unwrap(), marks(2, 1));
    second.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_stopped_is_not_stopped_again_and_ids_go_on_above() {
    let disk = Disk::default();
    let mut first = Life::on(&disk, Tier::Acks, PATIENCE).await;
    first.register(1).await;
    first.presence(1, 1, 0.0).await;
    let stop = first.commands.recv().await.unwrap();
    assert_eq!(stop.value, 0.0);
    first
        .until("the intent is durable", |life| {
            let journal = life.twin.journal();
            journal.intents == 1 && life.stats.t3.acked.get() == 1
        })
        .await;
    first.settled().await;
    first.root.stop().await;
    let mut second = Life::on(&disk, Tier::Acks, PATIENCE).await;
    assert_eq!(second.row(0).await, (Some(0.0), true, true));
    second.presence(2, 1, 0.0).await;
    second.presence(3, 1, 1.0).await;
    let start = second.commands.recv().await.unwrap();
    assert_eq!(start.value, 1.0, "the stop was commanded already");
    assert!(start.id > stop.id);
    second.root.stop().await;
}

/// Neither in the hands of its tier nor noted by the time of the crash.
#[tokio::test(flavor = "multi_thread")]
async fn commands_that_still_waited_for_their_tier_are_decided_again() {
    const DEVICES: u32 = 70;
    // of these, what the test hears, its tier's mailbox and the one in hand take 514 commands
    const BATCHES: u64 = 11;
    let disk = Disk::default();
    let first = Life::on(&disk, Tier::Keeps, PATIENCE).await;
    first.register(DEVICES).await;
    for sequence in 1..=BATCHES {
        let is_there = f64::from((sequence % 2 == 0) as u8);
        first.presence(sequence, DEVICES, is_there).await;
        first.settled().await;
    }
    // one more, of one device, by whose commit the world is known to have applied those before
    first.presence(BATCHES + 1, 1, 0.0).await;
    first.settled().await;
    let left = first.cut(&disk, 0);
    let second = Life::on(&left, Tier::Keeps, PATIENCE).await;
    second.settled().await;
    for device in 1..DEVICES {
        let (value, _, stopped) = second.row(device).await;
        assert_eq!((value, stopped), (Some(0.0), true), "{device}");
    }
    second.root.stop().await;
    first.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_an_outcome_is_sent_again_or_reported_expired() {
    for (deadline, again) in [(PATIENCE, 1), (Duration::from_millis(1), 0)] {
        let disk = Disk::default();
        let mut first = Life::on(&disk, Tier::Keeps, deadline).await;
        first.register(1).await;
        first.presence(1, 1, 0.0).await;
        let sent = first.commands.recv().await.unwrap();
        assert_eq!(sent.deadline, first.deadline);
        first
            .until("the intent is durable", |life| {
                life.twin.journal().intents == 1
            })
            .await;
        let left = first.cut(&disk, 0);
        let mut second = Life::on(&left, Tier::Acks, deadline).await;
        if again == 1 {
            let command = second.commands.recv().await.unwrap();
            assert_eq!((command.id, command.device), (sent.id, sent.device));
            second
                .until("acknowledged", |life| life.stats.t3.acked.get() == 1)
                .await;
        }
        let t3 = &second.stats.t3;
        assert_eq!((t3.issued.get(), t3.expired.get()), (1, 1 - again));
        second.settled().await;
        second.root.stop().await;
        // and only once
        let third = Life::on(&left, Tier::Acks, deadline).await;
        assert_eq!(third.stats.t3.issued.get(), 0);
        third.root.stop().await;
        first.root.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_open_commands_than_the_tier_has_room_for_are_all_sent_again() {
    const OPEN: u32 = 700;
    let disk = Disk::default();
    let mut first = Life::on(&disk, Tier::Keeps, PATIENCE).await;
    first.register(OPEN / 10).await;
    for sequence in 1..=10 {
        // each device is stopped and started, and says nothing of it
        let value = f64::from(u32::from(sequence % 2 == 0));
        first.presence(sequence, OPEN / 10, value).await;
        for _ in 0..OPEN / 10 {
            first.commands.recv().await.unwrap();
        }
    }
    let all = u64::from(OPEN);
    first
        .until("durable", |life| life.twin.journal().intents == all)
        .await;
    let left = first.cut(&disk, 0);
    let mut second = Life::on(&left, Tier::Acks, PATIENCE).await;
    let mut last = 0;
    for _ in 0..OPEN {
        let command = second.commands.recv().await.unwrap();
        assert!(command.id > last, "in their order");
        last = command.id;
    }
    second
        .until("acknowledged", |life| life.stats.t3.acked.get() == all)
        .await;
    assert_eq!(second.stats.t3.dropped.get(), 0);
    second.root.stop().await;
    first.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_holds_events_back_and_loses_none_once_it_has_room() {
    let disk = Disk::default();
    let life = Life::on(&disk, Tier::Acks, PATIENCE).await;
    life.register(2).await;
    life.presence(1, 2, 1.0).await;
    life.settled().await;
    disk.set_room(Some(0));
    life.presence(2, 2, 1.0).await;
    life.until("it is refused", |life| {
        life.twin.journal().commit_errors > 2
    })
    .await;
    assert_eq!(life.session().acked(), 1, "nothing is acknowledged");
    disk.set_room(None);
    life.settled().await;
    assert_eq!(life.session().acked(), 2);
    life.presence(3, 2, 1.0).await;
    life.settled().await;
    assert_eq!(life.twin.ledger().unwrap(), marks(2, 3));
    let names: Vec<_> = life
        .system
        .events()
        .last(64)
        .iter()
        .map(|e| e.name)
        .collect();
    for name in ["journal_refused", "journal_writes_again"] {
        assert!(names.contains(&name), "{names:?}");
    }
    life.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_commands_from_outside_hears_the_outcome_once_the_command_is_durable() {
    let disk = Disk::default();
    let mut life = Life::on(&disk, Tier::Acks, PATIENCE).await;
    life.register(1).await;
    let pump = device_uuid("pump-0000");
    assert_eq!(
        life.twin.command(pump, 42.5, PATIENCE).await,
        Ok(Outcome::Acked)
    );
    assert_eq!(life.twin.journal().intents, 1);
    let command = life.commands.recv().await.unwrap();
    assert_eq!(
        (command.device, command.sensor, command.value),
        (pump, 6, 42.5)
    );
    let nobody = life
        .twin
        .command(device_uuid("nobody"), 0.0, PATIENCE)
        .await;
    assert_eq!(nobody, Err(OrderError::UnknownDevice));
    disk.hold(true);
    let twin = life.twin.clone();
    let told = tokio::spawn(async move { twin.command(pump, 0.0, PATIENCE).await });
    life.until("the device has done it", |life| {
        life.stats.t3.acked.get() == 2
    })
    .await;
    assert!(!told.is_finished(), "a crash would not know of it");
    let soon = life.twin.command(pump, 1.0, LOOK).await;
    assert_eq!(soon, Err(OrderError::NotDurable(Outcome::Acked)));
    disk.hold(false);
    assert_eq!(told.await.unwrap(), Ok(Outcome::Acked));
    life.root.stop().await;
    let never = Twin::new(TwinConfig::default(), Clock::wall()).unwrap();
    let never = never.command(pump, 1.0, LOOK).await;
    assert_eq!(never, Err(OrderError::NotStarted));
}

/// What a device says over `dt/1`, without numbers: presence is `value`.
async fn plain(life: &Life, device: u32, value: f64) {
    let mut events = life.pool.take();
    events.push(Reading {
        device: device_uuid(&format!("pump-{device:04}")),
        sensor: PRESENCE,
        kind: SensorType::Presence,
        value,
        at_us: value as u64,
        sequence: 0,
    });
    let now = life.system.clock().monotonic();
    let batch = Batch::new(WireTier::T2, events, now, &life.pool);
    let journal = life.twin.inlets().events;
    let sent = journal.send(T2Message::Plain(batch), PATIENCE).await;
    sent.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_failed_and_is_durable_all_the_same_is_applied_once() {
    let disk = Disk::default();
    let life = Life::on(&disk, Tier::Acks, PATIENCE).await;
    life.register(2).await;
    let (mut sequence, mut errors) = (0, 0);
    for (good, times) in [(0, 1), (1, 1), (2, 1), (0, 2), (0, 3), (1, 4)] {
        disk.err_syncs(good, times);
        while disk.errs_left() > 0 {
            sequence += 1;
            life.presence(sequence, 2, f64::from(sequence as u32)).await;
            plain(&life, 0, f64::from(sequence as u32)).await;
            life.settled().await;
        }
        errors += times as u64;
    }
    let t2 = &life.stats.t2;
    assert_eq!(life.session().acked(), sequence);
    assert_eq!(life.twin.ledger().unwrap(), marks(2, sequence));
    assert_eq!(
        t2.applied.get(),
        sequence * 3,
        "each of them, and each once"
    );
    assert_eq!((t2.duplicates.get(), t2.out_of_order.get()), (0, 0));
    let journal = life.twin.journal();
    assert!((1..=errors).contains(&journal.commit_errors), "{journal:?}");
    assert_eq!(journal.events, sequence * 3);
    life.root.stop().await;
    assert_eq!(
        Life::on(&disk, Tier::Acks, PATIENCE)
            .await
            .twin
            .journal()
            .head,
        journal.head
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_does_not_end_a_sync_holds_devices_back_and_nothing_is_lost_or_told() {
    let disk = Disk::default();
    let life = Life::on(&disk, Tier::Acks, PATIENCE).await;
    life.register(1).await;
    life.presence(1, 1, 1.0).await;
    life.settled().await;
    disk.hold(true);
    let inlet = life.twin.inlets().events;
    let mut sent = 1;
    // until everything on the way is full: mailbox, queue and group
    while life.offer(sent + 1, 1, 1.0, LOOK).await {
        sent += 1;
        assert!(sent < 20_000, "no bound");
    }
    assert_eq!(life.session().acked(), 1, "nothing is acknowledged");
    assert_eq!(life.twin.journal().applied, 1, "nor in the world");
    assert!(inlet.books().balanced());
    disk.hold(false);
    // what the journal did not take in time its link sends again
    while life.session().acked() < sent {
        for sequence in life.session().acked() + 1..=sent {
            life.presence(sequence, 1, 1.0).await;
        }
        life.settled().await;
    }
    assert_eq!(life.twin.ledger().unwrap(), marks(1, sent));
    assert_eq!(life.twin.journal().commit_errors, 0);
    life.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_killed_while_the_disk_is_full_waits_for_room() {
    let disk = Disk::default();
    let life = Life::on(&disk, Tier::Acks, PATIENCE).await;
    life.register(1).await;
    life.presence(1, 1, 1.0).await;
    life.settled().await;
    disk.set_room(Some(0));
    life.presence(2, 1, 1.0).await;
    let refused = |life: &Life| life.twin.journal().commit_errors;
    life.until("it is refused", |life| refused(life) > 0).await;
    let journal = ActorPath::new("/twin/journal").unwrap();
    let census = life.system.census();
    census.task(&journal).unwrap().kill();
    let waits = |life: &Life| {
        let events = life.system.events().last(64);
        let mut refused = events
            .iter()
            .filter(|event| event.name == "journal_refused");
        refused.any(|event| event.text.contains("cannot be opened"))
    };
    life.until("it is told", waits).await;
    let before = refused(&life);
    life.until("and tried again", |life| refused(life) > before + 2)
        .await;
    disk.set_room(None);
    // what it had in hand is gone with it, and its link sends it again
    life.presence(2, 1, 1.0).await;
    life.presence(3, 1, 1.0).await;
    life.settled().await;
    assert_eq!(life.twin.ledger().unwrap(), marks(1, 3));
    life.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_that_is_started_while_the_disk_is_full_waits_for_room() {
    let disk = Disk::default();
    disk.set_room(Some(0));
    let started = async {
        let life = Life::on(&disk, Tier::Acks, PATIENCE).await;
        life.register(1).await;
        life.presence(1, 1, 1.0).await;
        life.settled().await;
        life
    };
    let room = async {
        while disk.refused() < 3 {
            tokio::time::sleep(LOOK).await;
        }
        disk.set_room(None);
    };
    let (life, ()) = tokio::join!(started, room);
    assert_eq!(life.twin.ledger().unwrap(), marks(1, 1));
    assert!(life.twin.journal().commit_errors >= 3);
    life.root.stop().await;
}
