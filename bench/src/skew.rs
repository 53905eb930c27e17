//! `skew`: tokens go from actor to actor, evenly or not; how much slower is it if not?
//!
//! `pinned`: cells stay on their shards, and all that get most of the messages are on shard 0.
//! Bound: 256 tokens.

use std::sync::{Arc, OnceLock};

use actorsim_actors::shard::SlabHandle;
use actorsim_actors::{Cell, CellContext, Fault, Flow};
use peer_probe::{Job, Meter, Spread, payload};
use serde_json::Value;

use crate::cells::{Ball, Gate, Shards, part, refused, value};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "skew",
    label: "256 tokens of 64 bytes among 1,000 actors, about a microsecond of work for each \
            message, two threads: messages/s if 10 % of the actors get 90 % of them, all of which \
            began on the first thread, divided by messages/s if all get the same; the same for \
            one hot actor that gets half and changes; and messages/s if all get the same",
    shapes: Shapes::Named(&[(
        "pinned",
        Load {
            size: 1_000_000,
            seconds: 0,
        },
    )]),
    smoke: Load {
        size: 10_000,
        seconds: 0,
    },
    metrics: &[
        metric("throughput_ratio", "1"),
        metric("rotating_ratio", "1"),
        metric("balanced_per_s", "1/s"),
    ],
    child,
    peers: &["tokio", "ractor", "kameo", "rusm-otp", "erlang"],
    time_limit: TIME_LIMIT,
    bytes_each_max: 0,
};

struct Shared {
    spread: Spread,
    slabs: Arc<OnceLock<[SlabHandle<Stop>; 2]>>,
    done: Gate,
}

/// Where a token stops over.
struct Stop;

impl Cell for Stop {
    type Msg = Ball;
    type Shared = Shared;
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn handle(&mut self, mut token: Ball, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        if token.0[0] == 0 {
            cx.shared.done.arrive();
            return Ok(Flow::Continue);
        }
        let next = cx.shared.spread.next(&mut token.0) as u32;
        let [low, high] = cx.shared.slabs.get().ok_or(Fault::new("no_slabs"))?;
        let slab = if low.has(next) { low } else { high };
        cx.send_to(slab, next, token).map_err(refused)?;
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

fn child(job: &Job) -> Result<Value, String> {
    let shards = Shards::start(2)?;
    let mut rates = Vec::new();
    for spread in Spread::ALL {
        rates.push(messages_per_s(&shards, spread, job.size)?);
    }
    shards.stop()?;
    value(&Spread::line(&rates))
}

fn messages_per_s(shards: &Shards, spread: Spread, messages: u64) -> Result<f64, String> {
    let done = Gate::new(Spread::TOKENS);
    let slabs = Arc::new(OnceLock::new());
    let add = |shard| {
        let shared = Shared {
            spread,
            slabs: Arc::clone(&slabs),
            done: done.clone(),
        };
        let ordinals = part(Spread::ACTORS, shard, 2);
        shards.add::<Stop>(shard, ordinals, shared, Spread::TOKENS as usize)
    };
    let both = [add(0)?, add(1)?];
    slabs
        .set(both.clone())
        .map_err(|slabs| format!("{slabs:?} were set twice"))?;
    let meter = Meter::start();
    for token in 0..Spread::TOKENS {
        let mut ball = payload(messages / Spread::TOKENS);
        ball[1] = token;
        let (to, slab) = (token as u32, &both[0]);
        slab.send(to, Ball(ball))
            .map_err(|error| error.to_string())?;
    }
    done.wait()?;
    let spent = meter.stop();
    for slab in &both {
        shards
            .wait(slab.close())
            .map_err(|error| error.to_string())?;
    }
    Ok(messages as f64 / spent.wall_s)
}
