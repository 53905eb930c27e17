//! `ping-pong`: one message of 64 bytes in flight between two actors.
//!
//! `one-shard`: both on one thread. `two-shards`: each on a thread of its own, so that each way
//! crosses threads. Bound: one message.

use std::sync::{Arc, OnceLock};

use actorsim_actors::shard::SlabHandle;
use actorsim_actors::{Cell, CellContext, Fault, Flow};
use peer_probe::{Job, Line, MAILBOX, Meter, Spent, payload};
use serde_json::Value;

use crate::cells::{Ball, Gate, Shards, refused, value};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "ping-pong",
    label: "two actors, one message of 64 bytes in flight; nanoseconds on the wall, and of CPU of \
            all threads, for a round trip; both actors on one thread, or on two; \
            and on one while the cost of each step is measured (`detail on`)",
    shapes: Shapes::Named(&[
        (
            "one-shard",
            Load {
                size: 1_000_000,
                seconds: 0,
            },
        ),
        (
            DETAIL,
            Load {
                size: 1_000_000,
                seconds: 0,
            },
        ),
        (
            "two-shards",
            Load {
                size: 100_000,
                seconds: 0,
            },
        ),
    ]),
    smoke: Load {
        size: 1_000,
        seconds: 0,
    },
    metrics: &[
        metric("round_trip", "ns"),
        metric("cpu_per_round_trip", "ns"),
    ],
    child,
    peers: &[
        "tokio", "spargio", "actix", "kameo", "ractor", "rusm-otp", "erlang",
    ],
    own_shapes: &[(DETAIL, &[])],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 0,
};

/// As `one-shard`, each step measured: a round trip is two.
const DETAIL: &str = "one-shard-detail";

struct Shared {
    /// The other player's slab, where it is not this one.
    other: Arc<OnceLock<SlabHandle<Player>>>,
    done: Gate,
}

struct Player;

impl Cell for Player {
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
        let to = 1 - cx.ordinal;
        match cx.shared.other.get() {
            Some(other) => cx.send_to(other, to, ball).map_err(refused)?,
            None => cx.send(to, ball).map_err(refused)?,
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

fn child(job: &Job) -> Result<Value, String> {
    let shards = Shards::start(2)?;
    shards.host.set_detail(job.shape == DETAIL);
    let spent = match job.shape.as_str() {
        "two-shards" => two_shards(&shards, job.size)?,
        _ => one_shard(&shards, job.size)?,
    };
    shards.stop()?;
    value(&Line::new().per("round_trip", "cpu_per_round_trip", job.size, spent))
}

pub(crate) fn one_shard(shards: &Shards, round_trips: u64) -> Result<Spent, String> {
    let done = Gate::new(1);
    let shared = Shared {
        other: Arc::default(),
        done: done.clone(),
    };
    let both = shards.add(0, 0..2, shared, MAILBOX)?;
    play(&both, &done, round_trips)
}

fn two_shards(shards: &Shards, round_trips: u64) -> Result<Spent, String> {
    let done = Gate::new(1);
    let (to_ping, to_pong) = (Arc::default(), Arc::default());
    let add = |shard: usize, other: &Arc<OnceLock<SlabHandle<Player>>>| {
        let shared = Shared {
            other: Arc::clone(other),
            done: done.clone(),
        };
        let ordinal = shard as u32;
        shards.add(shard, ordinal..ordinal + 1, shared, MAILBOX)
    };
    let (ping, pong) = (add(0, &to_pong)?, add(1, &to_ping)?);
    let set = to_ping.set(ping.clone()).and_then(|()| to_pong.set(pong));
    set.map_err(|slab| format!("{slab:?} was set twice"))?;
    play(&ping, &done, round_trips)
}

fn play(ping: &SlabHandle<Player>, done: &Gate, round_trips: u64) -> Result<Spent, String> {
    let meter = Meter::start();
    let first = Ball(payload(2 * round_trips));
    ping.send(0, first).map_err(|error| error.to_string())?;
    done.wait()?;
    Ok(meter.stop())
}
