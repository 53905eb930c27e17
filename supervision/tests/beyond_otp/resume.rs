//! What the next incarnation of a cell begins with: nothing, or the state of the former.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{SimShards, SlabHandle, SlabSpec};
use actorsim_actors::{
    ActorPath, Cell, CellContext, Clock, Fault, Flow, MailboxSpec, Message, Overflow, System, Time,
};
use actorsim_supervision::{Backoff, CellPolicy, SupervisorPolicy};
use parking_lot::Mutex;

use crate::stage::HOUR;

/// Counts what it is told.
struct Counter(u32);

#[derive(Debug, Clone, Copy)]
enum Order {
    Count,
    Fail,
    Panic,
}

impl Message for Order {}

impl Cell for Counter {
    type Msg = Order;
    /// The count that each incarnation began with.
    type Shared = Arc<Mutex<Vec<u32>>>;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        cx.shared.lock().push(0);
        Ok(Self(0))
    }

    fn resume(self, cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        cx.shared.lock().push(self.0);
        Ok(self)
    }

    fn handle(&mut self, order: Order, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        match order {
            Order::Count => self.0 += 1,
            Order::Fail => return Err(Fault::new("told_to_fail")),
            Order::Panic => panic!("told to panic"),
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

/// What the lives of a cell begin with that counts to three, then ends as `end` has it.
fn lives(policy: &SupervisorPolicy, end: impl FnOnce(&SlabHandle<Counter>)) -> Vec<u32> {
    let handle = tokio::runtime::Handle::current();
    let system = System::new(Clock::virtual_from(0), handle);
    let mut sim = SimShards::of(&system, 1);
    let path = ActorPath::root().join("cells");
    let begun: Arc<Mutex<Vec<u32>>> = Arc::default();
    let slab = sim.shards()[0]
        .add_slab(SlabSpec {
            path: path.clone(),
            name: Arc::new(|ordinal| format!("c-{ordinal}")),
            ordinals: std::iter::once(0..1).collect(),
            shared: Arc::clone(&begun),
            out: (),
            identity: Box::new(|_| ()),
            mailbox: MailboxSpec::new(8, Overflow::Reject).kept(),
            supervisor: Box::new(CellPolicy::new(policy.clone(), &path).unwrap()),
        })
        .unwrap();
    for _ in 0..3 {
        slab.send(0, Order::Count).unwrap();
    }
    sim.run_until(Time(50_000_000));
    end(&slab);
    let soon = sim.now() + Duration::from_millis(50);
    sim.run_until(soon);
    // It waits for its backoff, whole or gone, and takes no message meanwhile.
    let _ = slab.send(0, Order::Count);
    let later = sim.now() + Duration::from_secs(5);
    sim.run_until(later);
    assert_eq!(slab.counts().running, 1);
    assert!(slab.books().balanced());
    std::mem::take(&mut begun.lock())
}

#[tokio::test]
async fn a_cell_resumes_with_its_state_unless_it_may_be_half_changed() {
    let backoff = Backoff {
        min: Duration::from_secs(1),
        ..Backoff::default()
    };
    let fresh = SupervisorPolicy::default()
        .intensity(5, HOUR)
        .backoff(backoff);
    let resume = fresh.clone().resume();
    let tell = |order| move |slab: &SlabHandle<Counter>| slab.send(0, order).unwrap();
    let kill = |slab: &SlabHandle<Counter>| slab.kill(0).unwrap();
    assert_eq!(lives(&fresh, tell(Order::Fail)), [0, 0]);
    assert_eq!(lives(&fresh, kill), [0, 0]);
    assert_eq!(lives(&resume, tell(Order::Fail)), [0, 3]);
    assert_eq!(lives(&resume, kill), [0, 3]);
    assert_eq!(lives(&resume, tell(Order::Panic)), [0, 0]);
    let restart = |slab: &SlabHandle<Counter>| {
        slab.kill(0).unwrap();
        slab.restart(0).unwrap();
    };
    assert_eq!(lives(&resume, restart), [0, 0], "an operator wants it new");
}
