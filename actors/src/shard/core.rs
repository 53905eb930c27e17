//! The pure core of a shard: its slabs, and `step(now) -> effects`.
//!
//! No thread, no clock, no waiting: a driver reads time, steps the core, and waits for what the
//! effects say. Threads and virtual time run the same core. Bound: [`SLABS_MAX`] slabs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::inbox::{Doorbell, Queue};
use super::lateness::Lateness;
use super::slab::{AnySlab, Effects, Limits, Moment};
use super::spec::ShardStats;
use crate::clock::Clock;
use crate::events::{Events, Level};
use crate::path::ActorPath;
use crate::system::System;

/// Slabs that wait to be added to one shard: populations of a node, several times over.
pub(crate) const SLABS_MAX: usize = 4_096;

/// Real time after which a timer counts as late: ten wheel ticks, more than a healthy host's delay.
const LATE_NS: f64 = 10_000_000.0;

/// Builds a slab on the shard's own thread, where its cells may live.
pub(crate) type Join = Box<dyn FnOnce(&Moment) -> Box<dyn AnySlab> + Send>;

/// Something for the operator.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) level: Level,
    pub(crate) name: &'static str,
    pub(crate) path: ActorPath,
    pub(crate) text: String,
}

/// What a shard and its handles share.
pub(crate) struct Port {
    pub(crate) index: usize,
    pub(crate) joins: Queue<Join>,
    pub(crate) bell: Arc<Doorbell>,
    pub(crate) stats: Mutex<ShardStats>,
    pub(crate) stopping: AtomicBool,
    /// Where slabs are listed and exits told; none in a simulation without a node.
    pub(crate) system: Option<System>,
}

impl Port {
    pub(crate) fn new(index: usize, bell: Arc<Doorbell>, system: Option<System>) -> Arc<Self> {
        Arc::new(Self {
            index,
            joins: Queue::new(SLABS_MAX),
            bell,
            stats: Mutex::new(ShardStats {
                index,
                ..ShardStats::default()
            }),
            stopping: AtomicBool::new(false),
            system,
        })
    }

    /// Asks the shard to stop and refuses slabs from now on.
    pub(crate) fn ask_to_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.bell.ring();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

impl Moment {
    /// Both times, from one reading.
    pub(crate) fn of(clock: &Clock) -> Self {
        let monotonic = clock.monotonic();
        let now = clock.simulated_at(monotonic);
        let late_ns = (LATE_NS * clock.speed()) as u64;
        Self {
            now,
            monotonic,
            unix_us: clock.unix_us_at(now),
            late_ns,
        }
    }
}

/// The slabs of one shard.
pub(crate) struct ShardCore {
    port: Arc<Port>,
    limits: Limits,
    slabs: Vec<Box<dyn AnySlab>>,
    joins: std::collections::VecDeque<Join>,
    notes: Vec<Note>,
    tally: Tally,
}

/// What the slabs of a shard have done on it.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) timers_fired: u64,
    pub(crate) timers_late: u64,
    pub(crate) ticks_missed: u64,
    pub(crate) lateness: Lateness,
}

impl ShardCore {
    pub(crate) fn new(port: Arc<Port>, limits: Limits) -> Self {
        let joins = std::collections::VecDeque::new();
        Self {
            port,
            limits,
            slabs: Vec::new(),
            joins,
            notes: Vec::new(),
            tally: Tally::default(),
        }
    }

    pub(crate) fn port(&self) -> &Arc<Port> {
        &self.port
    }

    /// Does what is due at `at`, within the limits.
    pub(crate) fn step(&mut self, at: &Moment) -> Effects {
        self.port.joins.drain(&mut self.joins);
        let joined = self.joins.len();
        while let Some(join) = self.joins.pop_front() {
            self.slabs.push(join(at));
        }
        if joined > 0 {
            self.port.joins.delivered(joined);
        }
        let mut effects = Effects::default();
        for slab in &mut self.slabs {
            effects = effects.merge(slab.step(at, &self.limits, &mut self.tally));
            if !self.limits.rounds {
                slab.exchange();
            }
            slab.notes(&mut self.notes);
        }
        self.slabs.retain(|slab| !slab.is_closed());
        effects
    }

    /// In rounds, after all shards have stepped: what cells sent is under way.
    pub(crate) fn exchange(&mut self) {
        for slab in &mut self.slabs {
            slab.exchange();
        }
    }

    /// Stops all slabs in order, the latest first.
    pub(crate) fn stop(&mut self, at: &Moment) {
        drop(self.port.joins.close());
        self.joins.clear();
        while let Some(mut slab) = self.slabs.pop() {
            slab.stop(at);
            slab.notes(&mut self.notes);
        }
    }

    /// A step has ended: puts its counters where handles read them.
    pub(crate) fn count(&self, stats: &mut ShardStats) {
        let tally = &self.tally;
        stats.steps += 1;
        stats.slabs = self.slabs.len() as u64;
        stats.messages = tally.messages;
        stats.timers_late = tally.timers_late;
        stats.ticks_missed = tally.ticks_missed;
        if stats.timers_fired != tally.timers_fired {
            stats.timers_fired = tally.timers_fired;
            stats.lateness = tally.lateness;
        }
    }

    /// Tells what happened since the last call.
    pub(crate) fn tell(&mut self, events: Option<&Events>) {
        for note in self.notes.drain(..) {
            if let Some(events) = events {
                events.publish(note.level, note.name, Some(&note.path), note.text);
            }
        }
    }
}

#[cfg(test)]
#[path = "core/tests.rs"]
mod tests;
