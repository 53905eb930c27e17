//! A host whose slabs never rest: each is on its way to another shard whenever it has arrived at
//! one, so that what is true of slabs is tried while they move.
//!
//! Not a test by itself. Bound: one request per slab at a time.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;

use actorsim_actors::System;
use actorsim_actors::shard::{ShardHandle, SlabHandle};

use super::Host;

type Roamer = Box<dyn FnMut(&[ShardHandle])>;

thread_local! {
    static ROAMERS: RefCell<Option<Vec<Roamer>>> = const { RefCell::new(None) };
}

/// A slab that was added; it roams if its host does.
pub(crate) fn added<C: actorsim_actors::Cell>(slab: &SlabHandle<C>) {
    let slab = slab.clone();
    let mut next = slab.shard();
    ROAMERS.with_borrow_mut(|roamers| {
        let Some(roamers) = roamers else {
            return;
        };
        roamers.push(Box::new(move |shards| {
            if slab.shard() == next {
                let to = (next + 1) % shards.len();
                if slab.move_to(&shards[to]).is_ok() {
                    next = to;
                }
            }
        }));
    });
}

pub(crate) struct Roaming<H>(H);

impl<H: Host> Roaming<H> {
    pub(crate) fn new(host: H) -> Self {
        assert!(host.shards().len() > 1, "there is nowhere to go");
        ROAMERS.set(Some(Vec::new()));
        Self(host)
    }

    fn roam(&self) {
        let shards = self.0.shards();
        ROAMERS.with_borrow_mut(|roamers| {
            for roamer in roamers.iter_mut().flatten() {
                roamer(&shards);
            }
        });
    }
}

impl<H: Host> Host for Roaming<H> {
    fn system(&self) -> &System {
        self.0.system()
    }
    fn shard(&self) -> ShardHandle {
        self.0.shard()
    }
    fn shards(&self) -> Vec<ShardHandle> {
        self.0.shards()
    }
    fn until(&mut self, mut done: impl FnMut() -> bool) {
        let shards = self.0.shards();
        self.0.until(|| {
            ROAMERS.with_borrow_mut(|roamers| {
                for roamer in roamers.iter_mut().flatten() {
                    roamer(&shards);
                }
            });
            done()
        });
    }
    fn answer<T>(&mut self, asked: impl Future<Output = T>) -> T {
        self.roam();
        self.0.answer(asked)
    }
    fn stop(self) {
        self.roam();
        ROAMERS.set(None);
        self.0.stop();
    }
}
