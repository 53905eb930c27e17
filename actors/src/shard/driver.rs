//! The seat of a shard's thread: reads time, steps the core, waits.
//!
//! A [`Driver`] is what the thread waits on and is woken by: a parked thread
//! ([`Portable`](super::portable::Portable)) or, with sockets, a ring. Everything else is the same
//! for all. It never polls: without work it waits for its doorbell or for the next timer.

use std::time::Duration;

use super::core::ShardCore;
use super::inbox::Bell;
use super::slab::{Effects, Moment, earlier};
use crate::clock::Clock;

/// Shortest wait: below it going to sleep costs more than looking again.
const WAIT_MIN: Duration = Duration::from_micros(20);

/// What a shard's thread waits on.
pub(crate) trait Driver: Send {
    /// Wakes this driver from other threads; made before its thread runs.
    fn bell(&self) -> Box<dyn Bell>;

    /// Called on the shard's thread before the first wait.
    fn attach(&mut self);

    /// Waits for the bell, for at most `at_most` if given. May return early.
    fn wait(&mut self, at_most: Option<Duration>);
}

/// Runs a shard until it is asked to stop, then stops its slabs in order.
pub(crate) fn run(core: &mut ShardCore, driver: &mut dyn Driver, clock: &Clock) {
    driver.attach();
    let port = std::sync::Arc::clone(core.port());
    let events = port.system.as_ref().map(crate::system::System::events);
    while !port.is_stopping() {
        port.bell.answer();
        let at = Moment::of(clock);
        let effects = core.step(&at);
        core.tell(events);
        let after = clock.monotonic();
        let sleeps = !effects.busy && !port.bell.is_rung();
        {
            let mut stats = port.stats.lock();
            stats.steps += 1;
            stats.slabs = core.slabs();
            stats.busy_ns += after.since(at.monotonic).as_nanos() as u64;
            stats.waits += u64::from(sleeps);
            (stats.rings, stats.rings_merged) = port.bell.counts();
        }
        if sleeps {
            driver.wait(wait_of(&effects, clock));
        }
    }
    core.stop(&Moment::of(clock));
    core.tell(events);
}

/// How long nothing is due.
fn wait_of(effects: &Effects, clock: &Clock) -> Option<Duration> {
    let timer = effects.next.map(|t| clock.monotonic_at(t));
    let until = earlier(timer, effects.next_monotonic)?;
    Some(until.since(clock.monotonic()).max(WAIT_MIN))
}
