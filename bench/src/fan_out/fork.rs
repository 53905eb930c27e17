//! The join form as a fork: whichever shard has time computes the next branch.
//!
//! A cell on shard 0 forks each request and makes the next one when that is joined. Bound: one
//! request at a time.

use std::time::Instant;

use actorsim_actors::{Cell, CellContext, Fault, Flow, ForkError, Message};
use peer_probe::{Join, Latencies, MAILBOX};

use crate::cells::{Gate, Shards, WAIT_MAX};

struct Begin(Gate);

impl Message for Begin {}

struct Shared {
    join: Join,
    sum: u64,
}

#[derive(Default)]
struct Asker {
    request: u64,
    sum: u64,
    done: Option<Gate>,
}

impl Asker {
    fn ask(&self, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        let (join, request) = (cx.shared.join, self.request);
        let branch = move |branch: u32| join.branch(request, u64::from(branch));
        let forked = cx.fork(Join::BRANCHES as u32, branch, WAIT_MAX, Self::joined);
        forked.map_err(|refused| Fault::with("no_fork", refused.to_string()))?;
        Ok(Flow::Continue)
    }

    fn joined(
        &mut self,
        answers: Result<Vec<u64>, ForkError>,
        cx: &mut CellContext<'_, Self>,
    ) -> Result<Flow, Fault> {
        let answers = answers.map_err(|why| Fault::with("no_join", why.to_string()))?;
        self.sum = answers.into_iter().fold(self.sum, u64::wrapping_add);
        self.request += 1;
        if self.request < Join::REQUESTS {
            return self.ask(cx);
        }
        if self.sum != cx.shared.sum {
            return Err(Fault::new("wrong_sum"));
        }
        if let Some(done) = self.done.take() {
            done.arrive();
        }
        Ok(Flow::Continue)
    }
}

impl Cell for Asker {
    type Msg = Begin;
    type Shared = Shared;
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self::default())
    }

    fn handle(
        &mut self,
        Begin(gate): Begin,
        cx: &mut CellContext<'_, Self>,
    ) -> Result<Flow, Fault> {
        *self = Self {
            done: Some(gate),
            ..Self::default()
        };
        self.ask(cx)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

/// The median, in microseconds.
pub(super) fn measure(shards: &Shards, join: Join) -> Result<f64, String> {
    let shared = Shared {
        join,
        sum: join.sum(),
    };
    let slab = shards.add::<Asker>(0, 0..1, shared, MAILBOX)?;
    let mut took = Latencies::default();
    for _ in 0..Join::REPEATS {
        let done = Gate::new(1);
        let began = Instant::now();
        slab.send(0, Begin(done.clone()))
            .map_err(|error| error.to_string())?;
        done.wait()?;
        took.since(began);
    }
    Ok(took.us(0.5))
}
