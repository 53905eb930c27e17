//! The restart types on the shard host: real cells, in virtual time, beside a witness.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{SimShards, SlabCounts, SlabHandle, SlabSpec};
use actorsim_actors::{
    ActorPath, Cell, CellContext, Clock, Fault, Flow, MailboxSpec, Message, Overflow, Time,
};
use actorsim_supervision::{Backoff, CellPolicy, Restart, SupervisorPolicy};
use parking_lot::Mutex;

use crate::stage::HOUR;

const MS: u64 = 1_000_000;
/// The cell that things happen to, and one of its group that nothing must happen to.
const VICTIM: u32 = 7;
const WITNESS: u32 = 8;

type Starts = Arc<Mutex<Vec<(u32, u32)>>>;

struct Player;

#[derive(Debug, Clone, Copy)]
enum Order {
    Normal,
    Fail,
    Panic,
}

impl Message for Order {}

impl Cell for Player {
    type Msg = Order;
    type Shared = Starts;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        cx.shared.lock().push((cx.ordinal, cx.incarnation.0));
        Ok(Self)
    }

    fn handle(&mut self, order: Order, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        match order {
            Order::Normal => Ok(Flow::Stop),
            Order::Fail => Err(Fault::new("told_to_fail")),
            Order::Panic => panic!("told to panic"),
        }
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

struct Hall {
    sim: SimShards,
    slab: SlabHandle<Player>,
    starts: Starts,
}

impl Hall {
    fn new(policy: SupervisorPolicy, restart: Restart) -> Self {
        let mut sim = SimShards::new(Clock::virtual_from(0), 1);
        let path = ActorPath::root().join("fleet").join("default");
        let supervisor = CellPolicy::new(policy, &path).unwrap().restart(restart);
        let starts = Starts::default();
        let slab = sim.shards()[0]
            .add_slab(SlabSpec {
                path,
                name: Arc::new(|ordinal| format!("d-{ordinal}")),
                ordinals: std::iter::once(0..16).collect(),
                shared: Arc::clone(&starts),
                out: (),
                identity: Box::new(|_| ()),
                mailbox: MailboxSpec::new(4, Overflow::Reject),
                supervisor: Box::new(supervisor),
            })
            .unwrap();
        sim.run_until(Time(10 * MS));
        Self { sim, slab, starts }
    }

    /// Ends the victim in one way and lets `wait` pass.
    fn end(&mut self, way: Way, wait: Duration) -> SlabCounts {
        match way {
            Way::Tell(order) => self.slab.send(VICTIM, order).unwrap(),
            Way::Stop => self.slab.stop(VICTIM).unwrap(),
            Way::Kill => self.slab.kill(VICTIM).unwrap(),
        }
        let until = self.sim.now() + wait;
        self.sim.run_until(until);
        self.slab.counts()
    }

    fn lives(&self, cell: u32) -> usize {
        self.starts
            .lock()
            .iter()
            .filter(|(ordinal, _)| *ordinal == cell)
            .count()
    }
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Tell(Order),
    Stop,
    Kill,
}

#[test]
fn restart_type_matrix_on_the_shard_host() {
    let normal = [Way::Tell(Order::Normal)];
    let abnormal = [Way::Tell(Order::Fail), Way::Tell(Order::Panic), Way::Kill];
    for (restart, after_normal, after_abnormal) in [
        (Restart::Permanent, true, true),
        (Restart::Transient, false, true),
        (Restart::Temporary, false, false),
    ] {
        let normal = normal.iter().map(|way| (*way, after_normal));
        for (way, again) in normal.chain(abnormal.iter().map(|way| (*way, after_abnormal))) {
            let policy = SupervisorPolicy::default().intensity(3, HOUR).quarantine();
            let mut hall = Hall::new(policy, restart);
            let counts = hall.end(way, Duration::from_millis(50));
            let lives = if again { 2 } else { 1 };
            assert_eq!(hall.lives(VICTIM), lives, "{restart:?} {way:?}");
            assert_eq!(hall.lives(WITNESS), 1, "{restart:?} {way:?}");
            assert_eq!(
                counts.running,
                if again { 16 } else { 15 },
                "{restart:?} {way:?}"
            );
            assert_eq!(counts.stopped, u64::from(!again), "{restart:?} {way:?}");
        }
    }
}

#[test]
fn a_cell_stopped_by_an_operator_stays_down_unless_it_is_permanent() {
    for restart in [Restart::Transient, Restart::Temporary] {
        let mut hall = Hall::new(SupervisorPolicy::default().quarantine(), restart);
        let counts = hall.end(Way::Stop, Duration::from_millis(50));
        assert_eq!((counts.stopped, hall.lives(VICTIM)), (1, 1), "{restart:?}");
    }
}

#[test]
fn a_cell_is_parked_after_its_intensity_and_backoff_puts_its_restarts_off() {
    let backoff = Backoff {
        min: Duration::from_millis(100),
        jitter: 0.0,
        ..Backoff::default()
    };
    let policy = SupervisorPolicy::default()
        .intensity(2, HOUR)
        .quarantine()
        .backoff(backoff);
    let mut hall = Hall::new(policy, Restart::Permanent);
    let early = hall.end(Way::Tell(Order::Fail), Duration::from_millis(50));
    assert_eq!(
        (early.restarting, hall.lives(VICTIM)),
        (1, 1),
        "not before its backoff"
    );
    let until = hall.sim.now() + Duration::from_millis(100);
    hall.sim.run_until(until);
    assert_eq!(hall.lives(VICTIM), 2);
    hall.end(Way::Tell(Order::Panic), Duration::from_millis(500));
    assert_eq!(hall.lives(VICTIM), 3);
    let parked = hall.end(Way::Kill, Duration::from_secs(60));
    assert_eq!(
        (parked.quarantined, parked.running, hall.lives(VICTIM)),
        (1, 15, 3)
    );
    hall.slab.restart(VICTIM).unwrap();
    let until = hall.sim.now() + Duration::from_secs(1);
    hall.sim.run_until(until);
    assert_eq!((hall.slab.counts().quarantined, hall.lives(VICTIM)), (0, 4));
}

#[test]
fn a_group_whose_supervisor_gives_up_is_restarted_as_one() {
    let policy = SupervisorPolicy::default().intensity(1, HOUR);
    let mut hall = Hall::new(policy, Restart::Permanent);
    hall.end(Way::Kill, Duration::from_millis(50));
    let counts = hall.end(Way::Kill, Duration::from_secs(1));
    assert_eq!((counts.group_restarts, counts.running), (1, 16));
    assert_eq!(hall.lives(WITNESS), 2);
}

#[test]
fn a_group_that_is_restarted_as_one_comes_back_within_its_budget() {
    let policy = SupervisorPolicy::default()
        .intensity(1, HOUR)
        .restart_budget_per_s(10);
    let mut hall = Hall::new(policy, Restart::Permanent);
    hall.end(Way::Kill, Duration::from_millis(190));
    let counts = hall.end(Way::Kill, Duration::from_millis(990));
    assert_eq!((counts.group_restarts, counts.running), (1, 0));
    let mut running = || {
        let until = hall.sim.now() + Duration::from_millis(500);
        hall.sim.run_until(until);
        hall.slab.counts().running
    };
    assert_eq!(
        [running(), running(), running(), running()],
        [5, 10, 15, 16]
    );
}
