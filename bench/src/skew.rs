//! `skew`: tokens go from actor to actor, evenly or not; how much slower is it if not?
//!
//! All that get most of the messages begin on shard 0. `pinned`: cells stay on their shards;
//! `migrating`: groups of 256 are moved by the host's balance. A peer has one shape, the first; one
//! whose threads take work from each other does so there. Bound: 256 tokens.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actorsim_actors::shard::{BalanceRule, Placement, Population};
use actorsim_actors::{ActorPath, Cell, CellContext, Fault, Flow};
use peer_probe::{Job, Meter, Spread, payload};
use serde_json::Value;

use crate::cells::{Ball, Gate, Shards, always, part, refused, value};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "skew",
    label: "256 tokens of 64 bytes among 16,384 actors, about a microsecond of work for each \
            message, two threads: messages/s if 10 % of the actors get 90 % of them, all of which \
            began on the first thread, divided by messages/s if all get the same; the same for \
            one hot actor that gets half and changes three times; and messages/s if all get the \
            same",
    shapes: Shapes::Named(&[("pinned", LOAD), ("migrating", LOAD)]),
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
    own_shapes: &[("migrating", &[])],
    peer_sizes: &[
        ("tokio", 2_000_000),
        ("ractor", 2_000_000),
        ("kameo", 2_000_000),
        ("rusm-otp", 2_000_000),
        // Its integers of 64 bits are on the heap.
        ("erlang", 60_000),
    ],
    time_limit: TIME_LIMIT,
    bytes_each_max: 0,
};

const LOAD: Load = Load {
    size: 3_000_000,
    seconds: 0,
};

struct Shared {
    spread: Spread,
    all: Arc<OnceLock<Population<Stop>>>,
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
        let all = cx.shared.all.get().ok_or(Fault::new("no_population"))?;
        let part = all.part_of(next).ok_or(Fault::new("no_cell"))?;
        cx.send_to(part, next, token).map_err(refused)?;
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

fn child(job: &Job) -> Result<Value, String> {
    let mut rates = Vec::new();
    for spread in Spread::all(job.size) {
        rates.push(messages_per_s(spread, job)?);
    }
    value(&Spread::line(&rates))
}

/// Time to move is not taken off.
fn messages_per_s(spread: Spread, job: &Job) -> Result<f64, String> {
    let shards = Shards::start(2)?;
    let done = Gate::new(Spread::TOKENS);
    let all = Arc::new(OnceLock::new());
    let path = ActorPath::root().join("bench");
    let half = |shard: usize| {
        let spec = |ordinals| {
            let shared = Shared {
                spread,
                all: Arc::clone(&all),
                done: done.clone(),
            };
            let room = Spread::TOKENS as usize;
            let spec = shards.spec(&always(), &path, ordinals, shared, room);
            spec.expect("cells are restarted one for one")
        };
        let ordinals = part(Spread::ACTORS, shard, 2);
        let placement = Placement::Pinned(shard);
        Population::<Stop>::start(shards.host.shards(), placement, ordinals, 1, spec)
            .map_err(|error| error.to_string())
    };
    let halves = [half(0)?, half(1)?];
    let joined = Population::joined(&halves).ok_or("the halves do not fit")?;
    all.set(joined.clone())
        .map_err(|all| format!("{all:?} was set twice"))?;
    while joined.running() < Spread::ACTORS {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let rule = BalanceRule::default();
    let balancing = (job.shape == "migrating").then(|| shards.host.balance(&shards.system, rule));
    let meter = Meter::start();
    for token in 0..Spread::TOKENS {
        let mut ball = payload(job.size / Spread::TOKENS);
        ball[1] = token;
        let sent = joined.send(token as u32, Ball(ball));
        sent.map_err(|error| error.to_string())?;
    }
    // The balance is a task of this thread's runtime.
    shards.wait(done.opened())?;
    let spent = meter.stop();
    drop(balancing);
    shards.stop()?;
    Ok(job.size as f64 / spent.wall_s)
}
