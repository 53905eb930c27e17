//! `ring`: one message of 64 bytes goes round 1,000 actors, half of them on each of two threads.
//!
//! Ours: a slab on each of two shards; two hops of each lap cross them. Bound: one message.

use std::sync::{Arc, OnceLock};

use actorsim_actors::shard::SlabHandle;
use actorsim_actors::{Cell, CellContext, Fault, Flow};
use peer_probe::{Job, Line, MAILBOX, Meter, RING, payload};
use serde_json::Value;

use crate::cells::{Ball, Gate, Shards, refused, value};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "ring",
    label: "1,000 actors in a ring on two threads, one message of 64 bytes; nanoseconds on the \
            wall, and of CPU of all threads, for a hop",
    shapes: Shapes::One(Load {
        size: 1_000_000,
        seconds: 0,
    }),
    smoke: Load {
        size: 10_000,
        seconds: 0,
    },
    metrics: &[metric("per_hop", "ns"), metric("cpu_per_hop", "ns")],
    child,
    peers: &[
        "tokio", "spargio", "actix", "kameo", "ractor", "rusm-otp", "erlang",
    ],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 0,
};

const ALL: u32 = RING as u32;
const HALF: u32 = ALL / 2;

struct Shared {
    other: Arc<OnceLock<SlabHandle<Link>>>,
    done: Gate,
}

struct Link;

impl Cell for Link {
    type Msg = Ball;
    type Shared = Shared;
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn handle(&mut self, mut ball: Ball, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        if ball.0[0] == 0 {
            cx.shared.done.arrive();
            return Ok(Flow::Continue);
        }
        ball.0[0] -= 1;
        let next = (cx.ordinal + 1) % ALL;
        if next.is_multiple_of(HALF) {
            let other = cx.shared.other.get().ok_or(Fault::new("no_other"))?;
            cx.send_to(other, next, ball).map_err(refused)?;
        } else {
            cx.send(next, ball).map_err(refused)?;
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

fn child(job: &Job) -> Result<Value, String> {
    let shards = Shards::start(2)?;
    let done = Gate::new(1);
    let (to_low, to_high) = (Arc::default(), Arc::default());
    let add = |shard, ordinals, other: &Arc<OnceLock<SlabHandle<Link>>>| {
        let shared = Shared {
            other: Arc::clone(other),
            done: done.clone(),
        };
        shards.add(shard, ordinals, shared, MAILBOX)
    };
    let (low, high) = (add(0, 0..HALF, &to_high)?, add(1, HALF..ALL, &to_low)?);
    let set = to_low.set(low.clone()).and_then(|()| to_high.set(high));
    set.map_err(|slab| format!("{slab:?} was set twice"))?;
    let meter = Meter::start();
    low.send(0, Ball(payload(job.size)))
        .map_err(|error| error.to_string())?;
    done.wait()?;
    let spent = meter.stop();
    shards.stop()?;
    value(&Line::new().per("per_hop", "cpu_per_hop", job.size, spent))
}
