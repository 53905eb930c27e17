//! A group that is restarted as one, again and again, within a small budget.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::shard::{SimShards, SlabHandle, SlabSpec};
use actorsim_actors::{
    ActorPath, Cell, CellContext, Clock, Fault, Flow, MailboxSpec, Message, Overflow, Time,
};
use actorsim_supervision::{CellPolicy, SupervisorPolicy};
use parking_lot::Mutex;

const SECOND: u64 = 1_000_000_000;
const CELLS: u32 = 64;
/// The first of them fail a tenth of a second after each start.
const FAILING: u32 = 8;

/// When each cell was started, by second.
type Starts = Arc<Mutex<BTreeMap<u32, Vec<u64>>>>;

struct Fickle;

enum Nothing {}

impl Message for Nothing {}

impl Cell for Fickle {
    type Msg = Nothing;
    type Shared = Starts;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        let mut starts = cx.shared.lock();
        let of_cell = starts.entry(cx.ordinal).or_default();
        of_cell.push(cx.monotonic.0 / SECOND);
        drop(starts);
        if cx.ordinal < FAILING {
            cx.set_timer(0, Duration::from_millis(100));
        }
        Ok(Self)
    }

    fn handle(&mut self, nothing: Nothing, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        match nothing {}
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Err(Fault::new("fails_again"))
    }
}

fn group(policy: SupervisorPolicy) -> (SimShards, SlabHandle<Fickle>, Starts) {
    let sim = SimShards::new(Clock::virtual_from(0), 1);
    let path = ActorPath::root().join("fleet");
    let starts = Starts::default();
    let spec = SlabSpec {
        supervisor: Box::new(CellPolicy::new(policy, &path).unwrap()),
        path,
        name: Arc::new(|ordinal| ordinal.to_string()),
        ordinals: std::iter::once(0..CELLS).collect(),
        shared: Arc::clone(&starts),
        out: (),
        identity: Box::new(|_| ()),
        mailbox: MailboxSpec::new(1, Overflow::Reject),
    };
    let slab = sim.shards()[0].add_slab(spec).unwrap();
    (sim, slab, starts)
}

#[test]
fn cells_that_fail_again_and_again_keep_no_neighbour_down() {
    let policy = SupervisorPolicy::default()
        .intensity(3, Duration::from_secs(5))
        .restart_budget_per_s(2);
    let (mut sim, slab, starts) = group(policy);
    sim.run_until(Time(300 * SECOND));
    let counts = slab.counts();
    assert_eq!(
        counts.running + counts.quarantined,
        u64::from(CELLS),
        "{counts:?}"
    );
    let healthy = u64::from(CELLS - FAILING);
    assert_eq!(counts.running, healthy, "who fails again is parked");
    let starts = starts.lock();
    for cell in FAILING..CELLS {
        let back = starts[&cell][1];
        assert!(back <= 40, "cell {cell} is back after {back} s");
    }
}
