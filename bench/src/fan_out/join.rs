//! The join form: a request is answered when all of its branches are.
//!
//! An asker on shard 0, branches dealt to both shards, those of the other shard asked first. Bound:
//! one request at a time.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use actorsim_actors::shard::SlabHandle;
use actorsim_actors::{Cell, CellContext, Fault, Flow, Message};
use peer_probe::{Join, Latencies, MAILBOX};

use crate::cells::{Gate, Shards, refused};

const ASKER: u32 = Join::BRANCHES as u32;
const HALF: u32 = ASKER / 2;

enum Step {
    /// All requests, from the first.
    Begin(Gate),
    Branch {
        request: u64,
    },
    Answer(u64),
}

impl Message for Step {}

struct Shared {
    join: Join,
    near: Arc<OnceLock<SlabHandle<Part>>>,
    far: Arc<OnceLock<SlabHandle<Part>>>,
    sum: u64,
}

/// A branch (ordinals 0 to 15), or the asker.
#[derive(Default)]
struct Part {
    request: u64,
    answers: u64,
    sum: u64,
    done: Option<Gate>,
}

impl Part {
    fn ask(&self, cx: &mut CellContext<'_, Self>) -> Result<(), Fault> {
        let far = cx.shared.far.get().ok_or(Fault::new("no_far"))?;
        let request = self.request;
        for branch in HALF..ASKER {
            let step = Step::Branch { request };
            cx.send_to(far, branch, step).map_err(refused)?;
        }
        for branch in 0..HALF {
            cx.send(branch, Step::Branch { request }).map_err(refused)?;
        }
        Ok(())
    }

    fn answered(&mut self, answer: u64, cx: &mut CellContext<'_, Self>) -> Result<(), Fault> {
        self.sum = self.sum.wrapping_add(answer);
        self.answers += 1;
        if !self.answers.is_multiple_of(Join::BRANCHES) {
            return Ok(());
        }
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
        Ok(())
    }
}

impl Cell for Part {
    type Msg = Step;
    type Shared = Shared;
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self::default())
    }

    fn handle(&mut self, step: Step, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        match step {
            Step::Begin(gate) => {
                *self = Self {
                    done: Some(gate),
                    ..Self::default()
                };
                self.ask(cx)?;
            }
            Step::Branch { request } => {
                let answer = cx.shared.join.branch(request, u64::from(cx.ordinal));
                let near = cx.shared.near.get().ok_or(Fault::new("no_near"))?;
                cx.send_to(near, ASKER, Step::Answer(answer))
                    .map_err(refused)?;
            }
            Step::Answer(answer) => self.answered(answer, cx)?,
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

/// The median, in microseconds.
pub(super) fn measure(shards: &Shards, join: Join) -> Result<f64, String> {
    let (near, far) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
    let add = |shard, ordinals| {
        let shared = Shared {
            join,
            near: Arc::clone(&near),
            far: Arc::clone(&far),
            sum: join.sum(),
        };
        shards.add::<Part>(shard, ordinals, shared, MAILBOX)
    };
    let far_slab = add(1, HALF..ASKER)?;
    // the near branches and the asker: 8 to 15 are unused here
    let near_slab = add(0, 0..ASKER + 1)?;
    let set = near.set(near_slab.clone()).and_then(|()| far.set(far_slab));
    set.map_err(|slab| format!("{slab:?} was set twice"))?;
    let mut took = Latencies::default();
    for _ in 0..Join::REPEATS {
        let done = Gate::new(1);
        let began = Instant::now();
        let begin = Step::Begin(done.clone());
        near_slab
            .send(ASKER, begin)
            .map_err(|error| error.to_string())?;
        done.wait()?;
        took.since(began);
    }
    Ok(took.us(0.5))
}
