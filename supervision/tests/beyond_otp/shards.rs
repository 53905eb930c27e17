//! The same on the shard host, in virtual time: reports, release, live policy, storms.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::hindrance::POISONED;
use actorsim_actors::shard::{SimShards, SlabHandle, SlabSpec};
use actorsim_actors::{
    ActorPath, Cell, CellContext, Clock, Fault, Flow, MailboxSpec, Message, Overflow, System, Time,
};
use actorsim_supervision::chaos::{Fault as Blow, FaultPlan, Strike, Toll};
use actorsim_supervision::{Backoff, CellPolicy, Decision, Supervision, SupervisorPolicy};
use parking_lot::Mutex;

use crate::stage::HOUR;

const MS: u64 = 1_000_000;

/// Ticks once a second and writes down when, in milliseconds.
struct Ticker;

#[derive(Debug, Clone, Copy)]
enum Order {
    Nop,
    Fail,
    /// Fail of what somebody gave it long ago.
    Sting,
}

impl Message for Order {
    fn kind(&self) -> &'static str {
        match self {
            Self::Nop => "nop",
            Self::Fail => "fail",
            Self::Sting => "sting",
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    /// Starts of second and later incarnations, by millisecond.
    restarts_ms: Vec<u64>,
    ticks: u64,
    /// Ticks that came later than the wheel's own grain.
    late: u64,
}

impl Cell for Ticker {
    type Msg = Order;
    type Shared = Arc<Mutex<Seen>>;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        if cx.incarnation.0 > 1 {
            cx.shared.lock().restarts_ms.push(cx.monotonic.0 / MS);
        }
        cx.set_timer(0, Duration::from_secs(1));
        Ok(Self)
    }

    fn handle(&mut self, order: Order, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        match order {
            Order::Nop => Ok(Flow::Continue),
            Order::Fail => Err(Fault::new("told_to_fail")),
            Order::Sting => Err(Fault::new(POISONED)),
        }
    }

    fn timer(&mut self, key: u8, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        let mut seen = cx.shared.lock();
        seen.ticks += 1;
        seen.late += u64::from(cx.now.0 > cx.due.0 + 2 * MS);
        drop(seen);
        cx.set_timer_at(key, cx.due + Duration::from_secs(1));
        Ok(Flow::Continue)
    }
}

struct Hall {
    sim: SimShards,
    slabs: Vec<SlabHandle<Ticker>>,
    seen: Arc<Mutex<Seen>>,
    supervision: Arc<Supervision>,
    system: System,
    path: ActorPath,
}

impl Hall {
    /// A population of `cells`, its groups dealt over the shards.
    fn new(policy: &SupervisorPolicy, cells: u32, shards: usize) -> Self {
        let handle = tokio::runtime::Handle::current();
        let system = System::new(Clock::virtual_from(0), handle);
        let mut sim = SimShards::of(&system, shards);
        let path = ActorPath::root().join("fleet").join("default");
        let (seen, supervision) = (Arc::default(), Arc::new(Supervision::default()));
        let slabs = (0..shards as u32).map(|shard| {
            let name: Arc<dyn Fn(u32) -> String + Send + Sync> =
                Arc::new(|ordinal| format!("d-{ordinal}"));
            let supervisor = CellPolicy::new(policy.clone(), &path).unwrap().reporting(
                &system,
                &supervision,
                &path,
                Arc::clone(&name),
            );
            let groups = (0..cells.div_ceil(256))
                .skip(shard as usize)
                .step_by(shards);
            sim.shards()[shard as usize]
                .add_slab(SlabSpec {
                    path: path.clone(),
                    name,
                    ordinals: groups
                        .map(|g| g * 256..((g + 1) * 256).min(cells))
                        .collect(),
                    shared: Arc::clone(&seen),
                    out: (),
                    identity: Box::new(|_| ()),
                    mailbox: MailboxSpec::new(4, Overflow::Reject),
                    supervisor: Box::new(supervisor),
                })
                .unwrap()
        });
        let slabs = slabs.collect();
        sim.run_until(Time(10 * MS));
        Self {
            sim,
            slabs,
            seen,
            supervision,
            system,
            path,
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.sim.now() + time;
        self.sim.run_until(until);
    }

    fn tell(&mut self, cell: u32, orders: &[Order]) {
        for order in orders {
            self.slabs[0].send(cell, *order).unwrap();
        }
        self.pass(Duration::from_millis(50));
    }
}

fn parking() -> SupervisorPolicy {
    SupervisorPolicy::default().intensity(1, HOUR).quarantine()
}

#[tokio::test]
async fn a_cell_s_last_crash_is_kept_told_and_counted() {
    let mut hall = Hall::new(&parking(), 16, 1);
    hall.tell(7, &[Order::Nop, Order::Fail, Order::Nop, Order::Nop]);
    let path = hall.path.join("d-7");
    let report = hall.supervision.crash(&path).unwrap();
    assert_eq!((report.reason.label(), report.count), ("told_to_fail", 1));
    assert_eq!((report.last_kinds.last(), report.depth), (Some("fail"), 2));
    assert_eq!((report.incarnation.unwrap().0, report.restarts), (1, 0));
    hall.tell(7, &[Order::Fail]);
    let report = hall.supervision.crash(&path).unwrap();
    assert_eq!(
        (report.count, report.plan.decision),
        (2, Decision::Quarantine)
    );
    assert_eq!((report.first_us, report.at_us), (10_000, 60_000));
    assert!(hall.supervision.crash(&hall.path.join("d-8")).is_none());
    assert_eq!(hall.supervision.crashes(9).len(), 1);
    let tallies = hall.supervision.tallies();
    assert_eq!((tallies[0].ends, tallies[0].restarts), (2, 1));
    assert_eq!(tallies[0].supervisor, hall.path);
    let events = hall.system.events().last(9);
    let names: Vec<_> = events.iter().map(|event| event.name).collect();
    assert_eq!(
        names,
        ["crash", "restarted", "quarantined"],
        "in the words of all actors"
    );
    assert!(
        events
            .iter()
            .all(|event| event.path.as_ref() == Some(&path))
    );
}

#[tokio::test]
async fn a_storm_of_restarts_does_not_hide_that_one_cell_is_parked() {
    let mut hall = Hall::new(&parking(), 256, 1);
    hall.tell(7, &[Order::Fail]);
    let until_next_second = Duration::from_millis(950);
    hall.pass(until_next_second);
    for cell in 0..100 {
        let cell = if cell == 50 { 7 } else { cell + 100 };
        hall.slabs[0].send(cell, Order::Fail).unwrap();
    }
    hall.pass(Duration::from_millis(50));
    let events = hall.system.events().last(usize::MAX);
    let parked: Vec<_> = events.iter().filter(|e| e.name == "quarantined").collect();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].path, Some(hall.path.join("d-7")));
    assert!(events.iter().filter(|e| e.name == "crash").count() < 20);
}

#[tokio::test]
async fn a_group_that_starts_anew_is_told_with_its_size_and_its_wait() {
    let policy = SupervisorPolicy::default()
        .intensity(1, HOUR)
        .restart_budget_per_s(10);
    let mut hall = Hall::new(&policy, 16, 1);
    hall.slabs[0].stop(3).unwrap();
    hall.tell(7, &[Order::Fail]);
    hall.tell(7, &[Order::Fail]);
    let report = hall.supervision.crash(&hall.path.join("d-7")).unwrap();
    let plan = report.plan;
    assert_eq!((plan.decision, plan.failures), (Decision::Escalate, 2));
    assert_eq!(plan.siblings, 14, "all but itself and the one that is down");
    assert_eq!(plan.delay.as_millis(), 1_540, "of 1.6 s: the seventh place");
    assert_eq!(
        plan.to_string(),
        "its group starts anew, with 14 siblings in 1s 540ms: too many restarts"
    );
}

#[tokio::test]
async fn the_counters_of_a_population_that_is_gone_stay_in_the_sum() {
    let mut hall = Hall::new(&parking(), 16, 1);
    hall.tell(7, &[Order::Fail]);
    let before = hall.supervision.tallies();
    assert_eq!(before.len(), 1);
    hall.sim.stop();
    drop(hall.sim);
    assert_eq!(hall.supervision.tallies(), before);
    assert!(hall.supervision.crashes(9).is_empty());
}

#[tokio::test]
async fn an_operator_who_restarts_a_cell_gives_it_a_new_chance() {
    let backoff = Backoff {
        min: Duration::from_secs(600),
        max: Duration::from_secs(600),
        ..Backoff::default()
    };
    let mut hall = Hall::new(&parking().backoff(backoff), 16, 1);
    hall.tell(7, &[Order::Fail]);
    assert_eq!(
        hall.slabs[0].counts().restarting,
        1,
        "it waits for its backoff"
    );
    hall.slabs[0].restart(7).unwrap();
    hall.pass(Duration::from_millis(50));
    assert_eq!(hall.slabs[0].counts().running, 16);
    hall.tell(7, &[Order::Fail]);
    let report = hall.supervision.crash(&hall.path.join("d-7")).unwrap();
    assert_eq!(
        report.plan.decision,
        Decision::Restart,
        "its failures were forgotten"
    );
    assert_eq!(report.plan.failures, 1);
}

/// Killed by a plan, then ended by something else ten minutes later, which is once too often.
async fn parked_after_a_kill_and(order: Order) -> Vec<String> {
    let mut hall = Hall::new(&parking(), 16, 1);
    let mut toll = Toll::of(&hall.supervision);
    toll.struck(&Strike {
        number: 0,
        part: 0,
        at: hall.sim.now(),
        plan: FaultPlan::new(Blow::Kill),
        kind: "device".to_owned(),
        index: 7,
        path: hall.path.join("d-7"),
        until: None,
    });
    hall.slabs[0].kill(7).unwrap();
    hall.pass(Duration::from_secs(600));
    hall.tell(7, &[order]);
    assert_eq!(hall.slabs[0].counts().quarantined, 1);
    toll.look();
    assert_eq!((toll.parked(), toll.not_judged()), (1, 0));
    toll.without_cause()
}

#[tokio::test]
async fn a_plan_is_not_charged_with_a_poison_that_acts_long_after_it_was_given() {
    assert_eq!(parked_after_a_kill_and(Order::Sting).await, [""; 0]);
    let told = parked_after_a_kill_and(Order::Fail).await;
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("/fleet/default/d-7 was parked"),
        "{told:?}"
    );
}

/// 100,000 of 200,000 die at once: half of the groups, whole, on both shards.
#[tokio::test]
async fn a_storm_is_restarted_within_the_budget_while_the_others_keep_their_rate() {
    const GROUPS: u32 = 784;
    const DEAD: u32 = GROUPS / 2 * 256;
    const PER_S: u32 = 64;
    let policy = parking().restart_budget_per_s(PER_S);
    let mut hall = Hall::new(&policy, GROUPS * 256, 2);
    hall.pass(Duration::from_secs(2));
    for group in (0..GROUPS).filter(|group| group % 4 < 2) {
        let on = hall.slabs.iter().find(|slab| slab.has(group * 256));
        let slab = on.unwrap().clone();
        (group * 256..(group + 1) * 256).for_each(|cell| slab.kill(cell).unwrap());
        hall.sim.settle();
    }
    let began = hall.sim.now().0 / MS;
    let counts: Vec<_> = hall.slabs.iter().map(SlabHandle::counts).collect();
    let kills: Vec<u64> = counts.iter().map(|counts| counts.kills).collect();
    assert_eq!(kills, [u64::from(DEAD / 2); 2]);
    hall.seen.lock().ticks = 0;
    hall.pass(Duration::from_secs(1));
    {
        let seen = hall.seen.lock();
        let others = u64::from(GROUPS * 256 - DEAD);
        assert!(seen.ticks >= others, "they keep their rate: {}", seen.ticks);
        assert_eq!(seen.late, 0);
    }
    hall.pass(Duration::from_secs(4));
    let seen = hall.seen.lock();
    assert_eq!(seen.restarts_ms.len(), DEAD as usize, "all are back");
    let budget = (GROUPS / 2 * (PER_S + PER_S / 10 + 1)) as usize;
    for second in 0..5 {
        let span = began + second * 1_000..began + (second + 1) * 1_000;
        let n = seen
            .restarts_ms
            .iter()
            .filter(|ms| span.contains(ms))
            .count();
        assert!(n <= budget, "{n} in second {second}, {budget} allowed");
    }
    let tallies = hall.supervision.tallies();
    assert_eq!(
        (tallies[0].reason, tallies[0].ends),
        ("killed", u64::from(DEAD))
    );
    let kept = hall.supervision.crashes(usize::MAX).len();
    assert_eq!(
        kept,
        2 * actorsim_supervision::cells::CELL_CRASHES_MAX,
        "bounded"
    );
    let told = hall.system.events().last(usize::MAX);
    assert!(told.len() < 400, "a storm is a number: {}", told.len());
}
