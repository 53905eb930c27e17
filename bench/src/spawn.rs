//! `spawn`: supervised, bounded actors, all started and then all stopped in order.
//!
//! Ours: a slab of cells on each shard under a supervision policy. Bound: all are alive at once.

use std::time::Duration;

use actorsim_actors::{Cell, CellContext, Fault, Flow};
use peer_probe::{Job, Line, MAILBOX, Meter};
use serde_json::Value;

use crate::cells::{Ball, Shards, part, until, value};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "spawn",
    label: "supervised actors with a bounded mailbox: all are started, then all are stopped in \
            order; actors per CPU second (user + system) and per second, from the first start to \
            the last end",
    shapes: Shapes::One(Load {
        size: 1_000_000,
        seconds: 0,
    }),
    smoke: Load {
        size: 1_000,
        seconds: 0,
    },
    metrics: &[
        metric("actors_per_cpu_s", "1/s"),
        metric("actors_per_s", "1/s"),
    ],
    child,
    peers: &["tokio", "actix", "kameo", "ractor", "rusm-otp", "erlang"],
    own_shapes: &[],
    peer_sizes: &[
        ("tokio", 200_000),
        ("actix", 200_000),
        ("kameo", 100_000),
        ("ractor", 100_000),
        ("rusm-otp", 200_000),
        ("erlang", 200_000),
    ],
    time_limit: TIME_LIMIT,
    bytes_each_max: 10 << 10,
};

struct Counter(u64);

impl Cell for Counter {
    type Msg = Ball;
    type Shared = ();
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self(0))
    }

    fn handle(&mut self, _: Ball, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        self.0 += 1;
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

fn child(job: &Job) -> Result<Value, String> {
    let shards = Shards::start(2)?;
    let meter = Meter::start();
    let mut slabs = Vec::new();
    for shard in 0..2 {
        slabs.push(shards.add::<Counter>(shard, part(job.size, shard, 2), (), MAILBOX)?);
    }
    until(&slabs, Duration::from_micros(500), |counts| {
        counts.running == counts.cells
    })?;
    for slab in &slabs {
        shards
            .wait(slab.close())
            .map_err(|error| error.to_string())?;
    }
    let spent = meter.stop();
    let stopped: u64 = slabs.iter().map(|slab| slab.counts().stopped).sum();
    if stopped != job.size {
        return Err(format!("{stopped} of {} have stopped", job.size));
    }
    shards.stop()?;
    value(&Line::new().rate("actors_per_cpu_s", "actors_per_s", job.size, spent))
}
