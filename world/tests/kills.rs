//! Under load, with stages and scan killed again and again: nothing acknowledged is lost or
//! doubled, and every T1 reading is accounted for.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, in its tools too")]

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{ActorPath, Addr, Clock, MailboxSpec, Overflow, System};
use actorsim_supervision::{Strategy, SupervisorPolicy, SupervisorRef, SupervisorSpec, start_root};
use actorsim_transport::{
    Batch, BatchPool, EventBatch, EventKey, EventMark, Ingest, Reading, SensorType, Sessions,
    T2Message, T2Session, Tier, TransportStats, device_uuid,
};
use actorsim_world::{Outlets, ScanConfig, Twin, TwinConfig, twin_children};

const KILLS: u64 = 25;
const EVENTS: u64 = 400;
/// Batches in flight before the link waits for an acknowledgement.
const WINDOW: u64 = 16;
const PATIENCE: Duration = Duration::from_secs(60);
const VICTIMS: [&str; 5] = [
    "/twin/apply",
    "/twin/scan",
    "/twin/journal",
    "/twin/route",
    "/twin/actuate",
];

struct Node {
    system: System,
    twin: Twin,
    root: SupervisorRef,
    stats: Arc<TransportStats>,
    pool: Arc<BatchPool>,
}

async fn node() -> Node {
    let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
    let scan = ScanConfig {
        period: Duration::from_millis(1),
        fifo: false,
        lock_memory: false,
        capacity: 64,
        capacity_max: 64,
        ..ScanConfig::default()
    };
    let mut config = TwinConfig {
        scan,
        ..TwinConfig::default()
    };
    config.journal.ledger = true;
    let twin = Twin::new(config, system.clock().clone()).unwrap();
    let stats = TransportStats::new();
    let pool = BatchPool::new(Arc::clone(&stats));
    let tier3 = MailboxSpec::new(256, Overflow::Reject);
    let commands = Addr::new(ActorPath::root().join("tier-t3"), tier3);
    let outlets = Outlets {
        commands,
        sessions: Sessions::new(),
        stats: Arc::clone(&stats),
        runtime: None,
    };
    let policy = SupervisorPolicy::new(Strategy::OneForOne).intensity(1_000, PATIENCE);
    let spec = SupervisorSpec::new(ActorPath::root(), policy.clone())
        .child(twin_children(&twin, outlets, policy));
    let root = start_root(&system, spec).await.unwrap();
    Node {
        system,
        twin,
        root,
        stats,
        pool,
    }
}

fn readings(name: &str, sequence: u64, count: u16) -> impl Iterator<Item = Reading> {
    let device = device_uuid(name);
    (0..count).map(move |sensor| Reading {
        device,
        sensor,
        kind: SensorType::Voltage,
        value: sequence as f64,
        at_us: sequence,
        sequence: sequence as u32,
    })
}

impl Node {
    async fn sample(&self, sequence: u64) {
        let mut buffer = self.pool.take();
        buffer.extend(readings("samples", sequence, 10));
        self.stats.t1.received.add(10);
        let now = self.system.clock().monotonic();
        let batch = Batch::new(Tier::T1, buffer, now, &self.pool);
        // a refused batch accounts for itself
        drop(
            self.twin
                .inlets()
                .readings
                .send(Ingest::T1(batch), PATIENCE)
                .await,
        );
    }

    async fn event(&self, session: &Arc<T2Session>, sequence: u64) {
        let mut events = self.pool.take();
        events.extend(readings("events", sequence, 3));
        let now = self.system.clock().monotonic();
        let key = |at| EventKey {
            epoch: 1,
            event: sequence * 3 + at,
        };
        let (session, keys) = (Arc::clone(session), (0..3).map(key).collect());
        let batch = EventBatch::new(session, sequence, events, keys, now, &self.pool);
        let journal = self.twin.inlets().events;
        drop(journal.send(T2Message::Events(batch), PATIENCE).await);
    }

    /// A link: a window of batches, everything unacknowledged again when nothing moves.
    async fn link(&self, session: &Arc<T2Session>) {
        while session.acked() < EVENTS {
            let acked = session.acked();
            for sequence in acked + 1..=(acked + WINDOW).min(EVENTS) {
                self.event(session, sequence).await;
            }
            let moved = async {
                while session.acked() == acked {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            // without progress the loop sends everything again
            let _ = tokio::time::timeout(Duration::from_millis(50), moved).await;
        }
    }

    async fn kills(&self) {
        for kill in 0..KILLS {
            let victim = ActorPath::new(VICTIMS[(kill % 5) as usize]).unwrap();
            let census = self.system.census();
            let before = census
                .task(&victim)
                .map_or(0, |actor| actor.incarnation().0);
            if let Some(actor) = census.task(&victim) {
                actor.kill();
            }
            let back = async {
                let newer = |actor: actorsim_actors::ActorRef| actor.incarnation().0 > before;
                while !census.task(&victim).is_some_and(newer) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(PATIENCE, back)
                .await
                .expect("it is restarted");
            for step in 0..20 {
                self.sample(kill * 20 + step + 1).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_and_double_no_event_and_leave_no_sample_unaccounted() {
    let node = node().await;
    let session = T2Session::detached(1);
    tokio::join!(node.link(&session), node.kills());
    assert!(
        node.twin.quiesce(PATIENCE).await,
        "everything in flight comes to its end"
    );
    let (t1, t2) = (&node.stats.t1, &node.stats.t2);
    assert_eq!(session.acked(), EVENTS);
    assert_eq!(t2.applied.get(), EVENTS * 3, "each event once");
    assert_eq!(t1.received.get(), KILLS * 200);
    assert_eq!(t1.received.get(), t1.applied.get() + t1.dropped.total());
    let books = node.twin.inlets().readings.books();
    assert!(books.balanced());
    let tally = node.twin.snapshot().tally;
    assert_eq!(
        (tally.t1_applied, tally.t2_applied),
        (t1.applied.get(), EVENTS * 3)
    );
    let mut expected = EventMark::default();
    for event in 3..(EVENTS + 1) * 3 {
        expected.fold(EventKey { epoch: 1, event });
    }
    let ledger = node.twin.ledger().unwrap();
    assert_eq!(ledger[&device_uuid("events")], expected, "in order");
    node.root.stop().await;
    // a scan dies with its own kills and with those of the journal, some before their first cycle
    let most = 1 + 2 * KILLS / 5;
    let incarnations = node.twin.snapshot().incarnations;
    assert!((2..=most).contains(&incarnations), "{incarnations}");
}
