//! The seat of a shard's thread: reads time, steps the core, waits.
//!
//! A [`Driver`] is what the thread waits on and is woken by: a parked thread
//! ([`Portable`](super::portable::Portable)) or a ring ([`Uring`](super::uring::Uring)). Everything
//! else is the same for all. It never polls: without work it waits for its doorbell or for the next
//! timer. Bound: one step of the core between two looks at the driver.

use std::io;
use std::time::Duration;

use super::core::ShardCore;
use super::inbox::Bell;
use super::slab::{Effects, Moment, earlier};
use crate::clock::Clock;

/// Shortest wait: below it going to sleep costs more than looking again.
const WAIT_MIN: Duration = Duration::from_micros(20);

/// What a driver has done so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DriverCounts {
    /// Times it called into the kernel to hand over, to wait, or both.
    pub(crate) enters: u64,
    /// Doorbells of other shards rung through it.
    pub(crate) doorbells: u64,
    /// Requests handed to the kernel.
    pub(crate) submissions: u64,
    /// Calls that the kernel refused for now and that were made again.
    pub(crate) retries: u64,
}

/// What a shard's thread waits on.
///
/// An error of any of its methods ends the shard: there is nothing left to wait on.
pub(crate) trait Driver: Send {
    /// Wakes this driver from other threads; made before its thread runs.
    fn bell(&self) -> Box<dyn Bell>;

    /// Called on the shard's thread before the first wait.
    fn attach(&mut self) -> io::Result<()>;

    /// Waits for the bell, for at most `at_most` if given. May return early.
    fn wait(&mut self, at_most: Option<Duration>) -> io::Result<()>;

    /// Hands over what the last step left for the kernel and takes what is complete, without
    /// waiting. [`Driver::wait`] does so, too.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// What it has done so far.
    fn counts(&self) -> DriverCounts {
        DriverCounts::default()
    }
}

/// Runs a shard until it is asked to stop, then stops its slabs in order; also if the driver fails.
pub(crate) fn run(core: &mut ShardCore, driver: &mut dyn Driver, clock: &Clock) -> io::Result<()> {
    let ended = driver.attach().and_then(|()| turn(core, driver, clock));
    core.port().ask_to_stop();
    core.stop(&Moment::of(clock));
    let port = core.port().clone();
    core.tell(port.system.as_ref().map(crate::system::System::events));
    ended.and(driver.flush())
}

fn turn(core: &mut ShardCore, driver: &mut dyn Driver, clock: &Clock) -> io::Result<()> {
    let port = std::sync::Arc::clone(core.port());
    let events = port.system.as_ref().map(crate::system::System::events);
    loop {
        // Before looking whether to stop: what is written ahead of a ring is read after the answer.
        port.bell.answer();
        if port.is_stopping() {
            return Ok(());
        }
        let at = Moment::of(clock);
        let effects = core.step(&at);
        core.tell(events);
        let after = clock.monotonic();
        let sleeps = !effects.busy && port.bell.doze();
        {
            let counts = driver.counts();
            let mut stats = port.stats.lock();
            core.count(&mut stats);
            stats.busy_ns += after.since(at.monotonic).as_nanos() as u64;
            stats.waits += u64::from(sleeps);
            (stats.rings, stats.rings_merged) = port.bell.counts();
            stats.enters = counts.enters;
            stats.doorbells = counts.doorbells;
            stats.submissions = counts.submissions;
            stats.retries = counts.retries;
        }
        if sleeps {
            driver.wait(wait_of(&effects, clock))?;
        } else {
            driver.flush()?;
        }
    }
}

/// How long nothing is due.
fn wait_of(effects: &Effects, clock: &Clock) -> Option<Duration> {
    let timer = effects.next.map(|t| clock.monotonic_at(t));
    let until = earlier(timer, effects.next_monotonic)?;
    Some(until.since(clock.monotonic()).max(WAIT_MIN))
}
