//! `fan-out`: one actor to 10,000, 50 messages of 64 bytes each; and requests that are joined.
//!
//! Ours, messages: all cells on one shard. Ours, join: the asker on shard 0, its branches dealt to
//! both shards; or forked, as stealable tasks are. Bound: a round of messages, or a request, at a
//! time.

mod fork;
mod join;

use actorsim_actors::{Cell, CellContext, Fault, Flow, Message};
use peer_probe::{FAN_OUT_ROUNDS, Job, Join, Line, MAILBOX, Meter, Payload, payload};
use serde_json::Value;

use crate::cells::{Gate, Shards, refused, until, value};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "fan-out",
    label: "one actor to 10,000 (its size), 50 messages of 64 bytes each: nanoseconds on the \
            wall, and of CPU of all threads, for a message, handled; 64 requests x 16 branches of \
            work, each joined before the next, with branches alike or one of them heavy: \
            microseconds for all 64, median of 101 (cells: sent to 16 standing cells, half of them \
            on each shard)",
    shapes: Shapes::One(Load {
        size: 10_000,
        seconds: 0,
    }),
    smoke: Load {
        size: 100,
        seconds: 0,
    },
    metrics: &[
        metric("per_message", "ns"),
        metric("cpu_per_message", "ns"),
        metric("join_balanced", "us"),
        metric("join_skewed", "us"),
        metric("join_cells_balanced", "us"),
        metric("join_cells_skewed", "us"),
    ],
    child,
    peers: &[
        "tokio", "spargio", "actix", "kameo", "ractor", "rusm-otp", "erlang",
    ],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 10 << 10,
};

enum Order {
    /// Rounds left.
    Round(u64),
    Ball(Payload),
}

impl Message for Order {}

struct Shared {
    actors: u32,
    done: Gate,
}

/// Ordinal 0 sends, all others count.
struct Actor(u64);

impl Cell for Actor {
    type Msg = Order;
    type Shared = Shared;
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self(0))
    }

    fn handle(&mut self, order: Order, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        let left = match order {
            Order::Round(left) => left,
            Order::Ball(ball) => {
                self.0 += 1;
                if self.0 == ball[0] {
                    cx.shared.done.arrive();
                }
                return Ok(Flow::Continue);
            }
        };
        for to in 1..=cx.shared.actors {
            cx.send(to, Order::Ball(payload(FAN_OUT_ROUNDS)))
                .map_err(refused)?;
        }
        if left > 1 {
            cx.send(cx.ordinal, Order::Round(left - 1))
                .map_err(refused)?;
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

fn child(job: &Job) -> Result<Value, String> {
    let line = messages(job.size)?;
    let shards = Shards::start(2)?;
    let [balanced, skewed] = [false, true].map(|skewed| Join { skewed });
    let line = line
        .with("join_balanced", fork::measure(&shards, balanced)?)
        .with("join_skewed", fork::measure(&shards, skewed)?)
        .with("join_cells_balanced", join::measure(&shards, balanced)?)
        .with("join_cells_skewed", join::measure(&shards, skewed)?);
    shards.stop()?;
    value(&line)
}

fn messages(actors: u64) -> Result<Line, String> {
    let shards = Shards::start(2)?;
    let done = Gate::new(actors);
    let shared = Shared {
        actors: actors as u32,
        done: done.clone(),
    };
    let slab = shards.add::<Actor>(0, 0..actors as u32 + 1, shared, MAILBOX)?;
    let pause = std::time::Duration::from_millis(1);
    until(std::slice::from_ref(&slab), pause, |counts| {
        counts.running == counts.cells
    })?;
    let meter = Meter::start();
    slab.send(0, Order::Round(FAN_OUT_ROUNDS))
        .map_err(|error| error.to_string())?;
    done.wait()?;
    let spent = meter.stop();
    shards.stop()?;
    let all = actors * FAN_OUT_ROUNDS;
    Ok(Line::new().per("per_message", "cpu_per_message", all, spent))
}
