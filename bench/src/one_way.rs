//! `one-way`: a stream of 64-byte messages from one thread to another, with backpressure.
//!
//! Ours: a cell that sends until there is no room, then waits for it (`send_or_wait`). Bound: 1,024
//! messages between the shards, and as many in the receiver's mailbox.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actorsim_actors::shard::{Sent, SlabHandle};
use actorsim_actors::{Cell, CellContext, Fault, Flow};
use peer_probe::{Job, Line, Meter, ONE_WAY_MAILBOX, payload};
use serde_json::Value;

use crate::cells::{Ball, Gate, Shards, refused, value};
use crate::scenario::{Load, Scenario, Shapes, TIME_LIMIT, metric};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "one-way",
    label: "one sender to one receiver on another thread, 64 bytes, bound 1,024, sender waits for \
            room; nanoseconds on the wall, and of CPU of all threads, for a message, handled",
    shapes: Shapes::One(Load {
        size: 10_000_000,
        seconds: 0,
    }),
    smoke: Load {
        size: 10_000,
        seconds: 0,
    },
    metrics: &[metric("per_message", "ns"), metric("cpu_per_message", "ns")],
    child,
    peers: &[
        "tokio", "spargio", "actix", "kameo", "ractor", "rusm-otp", "erlang",
    ],
    own_shapes: &[],
    peer_sizes: &[],
    time_limit: TIME_LIMIT,
    bytes_each_max: 0,
};

const SOURCE: u32 = 0;
const SINK: u32 = 1;
/// Longest wait for room; the receiver never stops.
const PATIENCE: Duration = Duration::from_secs(10);

struct Shared {
    all: u64,
    sink: Arc<OnceLock<SlabHandle<End>>>,
    done: Gate,
}

struct End(u64);

impl Cell for End {
    type Msg = Ball;
    type Shared = Shared;
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self(0))
    }

    fn handle(&mut self, _: Ball, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        if cx.ordinal == SOURCE {
            return self.flood(cx);
        }
        self.0 += 1;
        if self.0 == cx.shared.all {
            cx.shared.done.arrive();
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

impl End {
    /// Sends until there is no room; goes on from its own mailbox when there is.
    fn flood(&mut self, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        let Shared { all, sink, .. } = cx.shared;
        let sink = sink.get().ok_or(Fault::new("no_sink"))?;
        while self.0 < *all {
            self.0 += 1;
            let message = Ball(payload(self.0));
            let sent = cx.send_or_wait(sink, SINK, message, PATIENCE);
            if sent.map_err(refused)? == Sent::Waits {
                break;
            }
        }
        if self.0 < *all {
            cx.send(SOURCE, Ball(payload(0))).map_err(refused)?;
        }
        Ok(Flow::Continue)
    }
}

fn child(job: &Job) -> Result<Value, String> {
    let shards = Shards::start(2)?;
    let done = Gate::new(1);
    let sink = Arc::new(OnceLock::new());
    let add = |shard: usize| {
        let shared = Shared {
            all: job.size,
            sink: Arc::clone(&sink),
            done: done.clone(),
        };
        let ordinal = shard as u32;
        shards.add::<End>(shard, ordinal..ordinal + 1, shared, ONE_WAY_MAILBOX)
    };
    let (source, end) = (add(0)?, add(1)?);
    let end = end.with_link_capacity(ONE_WAY_MAILBOX as u32);
    sink.set(end)
        .map_err(|slab| format!("{slab:?} was set twice"))?;
    let meter = Meter::start();
    let first = Ball(payload(0));
    source
        .send(SOURCE, first)
        .map_err(|error| error.to_string())?;
    done.wait()?;
    let spent = meter.stop();
    shards.stop()?;
    value(&Line::new().per("per_message", "cpu_per_message", job.size, spent))
}
