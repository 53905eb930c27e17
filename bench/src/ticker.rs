//! Cells that tick once a second, for scenarios `timers` and `storm`.
//!
//! A cell's place in the second is a function of its ordinal, so that they do not all tick at once
//! and neighbours in memory tick together. Bound: two timers for each cell; each 16th cell notes
//! how late its ticks were.

use std::time::Duration;

use actorsim_actors::shard::SlabHandle;
use actorsim_actors::{Cell, CellContext, Clock, Fault, Flow, Time};
use peer_probe::{MAILBOX, STORM_EACH, TICK_NS};

use crate::cells::{Ball, Delays, Shards, part};

/// Every so many cells one notes how late it was: reading the clock is not free.
const NOTED_EACH: u32 = 16;
/// Keys of a cell's timers.
const TICK: u8 = 0;
const OTHER: u8 = 1;
/// When a timer is due that is set again at each tick.
const FAR: Duration = Duration::from_secs(30);

/// What the cells do besides ticking.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    Tick,
    /// Each tick cancels another timer and sets it again.
    Reschedule,
    /// Each tenth panics at this time; only what is late from then on, for a second, is noted.
    Die(Time),
}

#[derive(Clone, Debug)]
pub(crate) struct Shared {
    clock: Clock,
    /// Ticks are noted from here on.
    from: Time,
    all: u64,
    habit: Habit,
}

pub(crate) struct Ticker(u64);

impl Cell for Ticker {
    type Msg = Ball;
    type Shared = Shared;
    type Identity = ();
    type Out = Delays;

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        let Shared { all, habit, .. } = cx.shared;
        let place = u64::from(cx.ordinal) * TICK_NS / all;
        let second = cx.now.as_nanos() / TICK_NS + 1;
        cx.set_timer_at(TICK, Time(second * TICK_NS + place));
        match *habit {
            Habit::Die(at) if dies(cx.ordinal) && at > cx.now => {
                cx.set_timer_at(OTHER, at);
            }
            Habit::Reschedule => {
                cx.set_timer(OTHER, FAR);
            }
            _ => {}
        }
        Ok(Self(0))
    }

    fn handle(&mut self, _: Ball, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }

    fn timer(&mut self, key: u8, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        if key == OTHER {
            panic!("the storm");
        }
        self.0 += 1;
        let Shared {
            clock, from, habit, ..
        } = cx.shared;
        if cx.ordinal.is_multiple_of(NOTED_EACH) && cx.due >= *from && noted(*habit, cx) {
            let late = clock.now().since(cx.due);
            cx.out.0.push(late.as_nanos() as u64);
        }
        cx.set_timer_at(TICK, Time(cx.due.as_nanos() + TICK_NS));
        if matches!(habit, Habit::Reschedule) {
            cx.cancel_timer(OTHER);
            cx.set_timer(OTHER, FAR);
        }
        Ok(Flow::Continue)
    }
}

/// Whether a tick counts: in a storm only those of survivors within a second.
fn noted(habit: Habit, cx: &CellContext<'_, Ticker>) -> bool {
    match habit {
        Habit::Die(at) => !dies(cx.ordinal) && cx.due.since(at) < Duration::from_nanos(TICK_NS),
        _ => true,
    }
}

const fn dies(ordinal: u32) -> bool {
    ordinal.is_multiple_of(STORM_EACH as u32)
}

/// Adds `all` of them to all shards, under the shipped policy of populations.
pub(crate) fn add(
    shards: &Shards,
    all: u64,
    from: Time,
    habit: Habit,
) -> Result<Vec<SlabHandle<Ticker>>, String> {
    let count = shards.host.shards().len();
    let shared = Shared {
        clock: shards.system.clock().clone(),
        from,
        all,
        habit,
    };
    let add = |shard| {
        let ordinals = part(all, shard, count);
        shards.add_population(shard, ordinals, shared.clone(), MAILBOX)
    };
    (0..count).map(add).collect()
}
