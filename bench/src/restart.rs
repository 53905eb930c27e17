//! `restart`: actors that die of each message they get, restarted by their supervisor.
//!
//! Each incarnation starts by sending itself the message it will die of: by a returned fault, or by
//! a panic. Ours: 256 cells of one group under an intensity that is never used up. Bound: one
//! message for each actor.

use std::sync::Arc;

use actorsim_actors::{Cell, CellContext, Fault, Flow};
use peer_probe::{Deaths, Job, MAILBOX, payload};
use serde_json::Value;

use crate::cells::{Ball, Shards, refused, value};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "restart",
    label: "256 actors, each dies of the first message that it sends itself, by a returned fault \
            or by a panic, and is restarted by its supervisor: restarts per CPU second (user + \
            system) and per second; then one actor 5,000 times in a row: microseconds from its \
            death to the first message of its next incarnation, p50 and p99",
    shapes: Shapes::Named(&[
        (
            "fault",
            Load {
                size: 2_000_000,
                seconds: 0,
            },
        ),
        (
            "panic",
            Load {
                size: 500_000,
                seconds: 0,
            },
        ),
    ]),
    smoke: Load {
        size: 5_000,
        seconds: 0,
    },
    metrics: &[
        metric("restarts_per_cpu_s", "1/s"),
        metric("restarts_per_s", "1/s"),
        metric("back_in_service_p50", "us"),
        metric("back_in_service_p99", "us"),
    ],
    child,
    peers: &[
        "catch_unwind",
        "actix",
        "kameo",
        "ractor",
        "rusm-otp",
        "erlang",
    ],
    own_shapes: &[],
    peer_sizes: &[
        ("catch_unwind", 200_000),
        ("kameo", 100_000),
        ("ractor", 100_000),
        ("rusm-otp", 100_000),
        // OTP's supervisor walks all restarts of its period at each one.
        ("erlang", 20_000),
    ],
    time_limit: TIME_LIMIT,
    bytes_each_max: 0,
};

/// Has nothing to lose.
struct Mayfly;

impl Cell for Mayfly {
    type Msg = Ball;
    type Shared = Arc<Deaths>;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        if cx.shared.next() {
            cx.send(cx.ordinal, Ball(payload(0))).map_err(refused)?;
        }
        Ok(Self)
    }

    fn handle(&mut self, _: Ball, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        cx.shared.die();
        Err(Fault::new("out_of_range"))
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

fn child(job: &Job) -> Result<Value, String> {
    let shards = Shards::start(1)?;
    let mut first = 0;
    let line = Deaths::measure(job, |actors, deaths| {
        let ordinals = first..first + actors as u32;
        first += 1_024; // another group
        let slab = shards.add::<Mayfly>(0, ordinals, Arc::clone(deaths), MAILBOX);
        slab.map(drop)
    })?;
    shards.stop()?;
    value(&line)
}
