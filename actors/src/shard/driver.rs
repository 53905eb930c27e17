//! The seat of a shard's thread: reads time, steps the core, waits.
//!
//! A [`Driver`] is what the thread waits on and is woken by: a parked thread
//! ([`Portable`](super::portable::Portable)), a ring ([`Uring`](super::uring::Uring)), or the one
//! until the other pays ([`Late`](super::late::Late)). Everything else is the same for all. Without
//! work it waits for its doorbell or for the next timer; whether it looks on for some microseconds
//! first is [`Spin`]'s to say. Bound: one step of the core between two looks at the driver.

use std::io;
use std::panic;
use std::time::Duration;

use super::core::{Port, ShardCore};
use super::inbox::Bell;
use super::life::KILLED;
use super::net::{Engine, TOLD_PER_TURN};
use super::slab::{Effects, Moment, earlier};
use super::spin::{self, Looked, Spin};
use crate::clock::{Clock, Time, nanos};
use crate::guard;
use crate::system::System;

/// Shortest wait: below it going to sleep costs more than looking again.
const WAIT_MIN: Duration = Duration::from_micros(20);

/// Longest wait, when a shard stops, for sockets to send what waits and to close.
const PARTING_MAX: Duration = Duration::from_secs(5);

/// The same when its thread dies and all of them are reset: nothing is left to send.
const DEATH_MAX: Duration = Duration::from_millis(500);

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

impl DriverCounts {
    /// What both have done.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            enters: self.enters + other.enters,
            doorbells: self.doorbells + other.doorbells,
            submissions: self.submissions + other.submissions,
            retries: self.retries + other.retries,
        }
    }
}

/// What a shard's thread waits on.
///
/// An error of any of its methods ends the shard: there is nothing left to wait on.
pub(crate) trait Driver: Send {
    /// Wakes this driver from other threads; made before its thread runs.
    fn bell(&self) -> Box<dyn Bell>;

    /// Called on the shard's thread before the first wait.
    fn attach(&mut self) -> io::Result<()>;

    /// The shard is about to sleep. It is the last moment to change how it is rung: whoever rings a
    /// sleeper sees what was done here.
    fn settle(&mut self, now: Time) {
        let _ = now;
    }

    /// Waits for the bell, for at most `at_most` if given. May return early.
    fn wait(&mut self, at_most: Option<Duration>) -> io::Result<()>;

    /// Hands over what the last step left for the kernel and takes what is complete, without
    /// waiting. [`Driver::wait`] does so, too.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether there is something to take, as far as can be seen without a call.
    fn is_pending(&mut self) -> bool {
        false
    }

    /// What does input and output for the cells.
    fn engine(&mut self) -> &mut dyn Engine;

    /// Whether it waits in a ring now.
    fn has_ring(&self) -> bool {
        false
    }

    /// What it has done so far.
    fn counts(&self) -> DriverCounts {
        DriverCounts::default()
    }
}

/// Runs a shard until it is asked to stop, then stops its slabs in order. If the driver fails, or
/// this unwinds, the thread [dies](die).
pub(crate) fn run(
    core: &mut ShardCore,
    driver: &mut dyn Driver,
    clock: &Clock,
    spin: Duration,
) -> io::Result<()> {
    driver.attach()?;
    turn(core, driver, clock, Spin::new(spin))?;
    core.stop(&Moment::of(clock));
    let port = core.port().clone();
    core.tell(port.system.as_ref().map(System::events));
    // It has stopped in order, whatever becomes of its sockets.
    let _ = part(core, driver, clock, PARTING_MAX).and(driver.flush());
    Ok(())
}

/// A shard's thread ends without being asked to: all of its cells exit with `host_down`.
pub(crate) fn die(core: &mut ShardCore, driver: &mut dyn Driver, clock: &Clock) {
    core.lose_cells(&Moment::of(clock));
    // As far as the driver still can; what is left of its sockets then goes down with it.
    let _ = guard::step(|| Ok(part(core, driver, clock, DEATH_MAX)));
    let port = core.port().clone();
    core.tell(port.system.as_ref().map(System::events));
}

fn turn(
    core: &mut ShardCore,
    driver: &mut dyn Driver,
    clock: &Clock,
    mut spin: Spin,
) -> io::Result<()> {
    let port = std::sync::Arc::clone(core.port());
    let events = port.system.as_ref().map(System::events);
    // When it fell asleep, if it did.
    let mut asleep = None;
    loop {
        // Before looking whether to stop: what is written ahead of a ring is read after the answer.
        let rung = port.bell.answer();
        if port.is_stopping() {
            return Ok(());
        }
        if port.lives.is_doomed() {
            panic::resume_unwind(Box::new(KILLED));
        }
        let at = Moment::of(clock);
        if let Some(since) = asleep.take() {
            spin.slept(nanos(at.monotonic.since(since)), rung);
        }
        hear(core, driver.engine(), &at);
        let mut effects = core.step(&at);
        core.tell(events);
        effects = effects.merge(obey(core, driver.engine(), at.monotonic)?);
        let mut seat = Seat {
            port: &port,
            driver: &mut *driver,
            clock,
        };
        effects.busy |= seat.help(&effects)?;
        let after = clock.monotonic();
        let looked = match effects.busy {
            true => None,
            false => seat.look(&mut spin, &effects, after)?,
        };
        let answered = matches!(looked, Some(Looked::Answered(_)));
        // A look may have found something at a socket.
        let idle = !effects.busy && !answered && !seat.driver.engine().has_next();
        if idle {
            seat.driver.settle(after);
        }
        let sleeps = idle && port.bell.doze();
        seat.count(core, nanos(after.since(at.monotonic)), sleeps, looked);
        if sleeps {
            asleep = Some(clock.monotonic());
            driver.wait(wait_of(&effects, clock))?;
        } else {
            driver.flush()?;
        }
    }
}

/// What a shard's thread looks at between two steps.
struct Seat<'a> {
    port: &'a Port,
    driver: &'a mut dyn Driver,
    clock: &'a Clock,
}

impl Seat<'_> {
    /// Computes branches that cells have forked, as long as there is nothing else to do; one, where
    /// there is. True if there may be more of them.
    fn help(&mut self, effects: &Effects) -> io::Result<bool> {
        let due = until(effects, self.clock);
        let Self {
            port,
            driver,
            clock,
        } = self;
        if !port.forks.any() {
            return Ok(false);
        }
        // What the step has left for others does not wait for a branch: it is noted only.
        let mut flushed = driver.flush();
        let (computed, more) = port.forks.help(|| {
            flushed = driver.flush();
            flushed.is_ok()
                && !effects.busy
                && !port.bell.is_rung()
                && !driver.is_pending()
                && due.is_none_or(|due| due > clock.monotonic())
        });
        if computed > 0 {
            port.stats.lock().branches += computed;
        }
        flushed.map(|()| more)
    }

    /// Looks on before it sleeps, if that is earned and no timer is due meanwhile.
    fn look(
        &mut self,
        spin: &mut Spin,
        effects: &Effects,
        now: Time,
    ) -> io::Result<Option<Looked>> {
        let Some(allowance) = spin.allowance() else {
            return Ok(None);
        };
        let due = until(effects, self.clock).is_some_and(|t| t.0 < now.0 + allowance);
        if due || self.port.bell.is_rung() {
            return Ok(None);
        }
        // Nobody waits for what is noted only.
        self.driver.flush()?;
        let looked = spin::look(&self.port.bell, self.clock, now, allowance, || {
            self.driver.is_pending()
        });
        spin.looked(looked);
        Ok(Some(looked))
    }

    /// Puts the counters where handles read them.
    fn count(&self, core: &ShardCore, busy_ns: u64, sleeps: bool, looked: Option<Looked>) {
        let counts = core.driven(self.driver.counts());
        let mut stats = self.port.stats.lock();
        core.count(&mut stats);
        stats.busy_ns += busy_ns;
        stats.waits += u64::from(sleeps);
        stats.looks += u64::from(looked.is_some());
        stats.looks_answered += u64::from(matches!(looked, Some(Looked::Answered(_))));
        (stats.rings, stats.rings_merged) = self.port.bell.counts();
        stats.ring = self.driver.has_ring();
        stats.enters = counts.enters;
        stats.doorbells = counts.doorbells;
        stats.submissions = counts.submissions;
        stats.retries = counts.retries;
    }
}

/// When something is due next.
fn until(effects: &Effects, clock: &Clock) -> Option<Time> {
    let timer = effects.next.map(|t| clock.monotonic_at(t));
    earlier(timer, effects.next_monotonic)
}

/// Tells cells what has happened at their sockets, up to a bound.
fn hear(core: &mut ShardCore, engine: &mut dyn Engine, at: &Moment) {
    let net = core.net().clone();
    for _ in 0..TOLD_PER_TURN {
        let told = engine.next(&mut net.lock(), at.monotonic);
        let Some(told) = told else { break };
        core.hear(at, told);
    }
}

/// Hands over what cells have asked of their sockets.
fn obey(core: &ShardCore, engine: &mut dyn Engine, now: Time) -> io::Result<Effects> {
    engine.obey(&mut core.net().lock(), now)?;
    Ok(Effects {
        busy: engine.has_next(),
        next_monotonic: engine.due(),
        ..Effects::default()
    })
}

/// Sees the sockets of cells that are no more to their end, for so long at most.
fn part(
    core: &mut ShardCore,
    driver: &mut dyn Driver,
    clock: &Clock,
    at_most: Duration,
) -> io::Result<()> {
    let until = clock.monotonic() + at_most;
    loop {
        let at = Moment::of(clock);
        hear(core, driver.engine(), &at);
        let effects = obey(core, driver.engine(), at.monotonic)?;
        if core.net().lock().is_quiet() || at.monotonic >= until {
            break;
        }
        if !effects.busy {
            let next = effects.next_monotonic.map_or(until, |due| due.min(until));
            driver.wait(Some(next.since(at.monotonic).max(WAIT_MIN)))?;
        }
    }
    core.count_sockets(&mut core.port().stats.lock());
    Ok(())
}

/// How long nothing is due.
fn wait_of(effects: &Effects, clock: &Clock) -> Option<Duration> {
    let until = until(effects, clock)?;
    Some(until.since(clock.monotonic()).max(WAIT_MIN))
}
