//! Periodic timers on each host, with slabs that stay and slabs that roam: whatever they miss while
//! their shard is held up, each tick is where its behaviour has it after the one before.
//!
//! In virtual time nothing is ever late. Rings that the kernel refuses are skipped, with the reason
//! printed.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "shard_kit/kit.rs"]
mod kit;
#[macro_use]
#[path = "message_kit/kit.rs"]
mod office;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actorsim_actors::shard::SlabSpec;
use actorsim_actors::{
    ActorPath, Cell, CellContext, CellDecision, Fault, Flow, Message, MissedTicks, Time,
};
use kit::roaming::{Roaming, added};
use kit::{Host, Script, Virtual};
use office::{Live, reject};
use parking_lot::Mutex;

on_each_host! {
    burst_makes_up_for_all_that_it_missed => burst;
    delay_goes_on_a_period_after_the_late_tick => delay;
    skip_goes_on_at_the_next_point_of_its_grid => skip;
}

const PERIOD: Duration = Duration::from_millis(5);

/// Holds up the shard for more than three periods.
const STALL: Duration = Duration::from_millis(18);

/// Ticks until the shard is held up, and from then on.
const TICKS: usize = 4;

struct Stall;
impl Message for Stall {}

/// When a tick was due, when it came, and how many it says were missed by that.
type Tick = (Time, Time, u64);

struct Shared {
    behaviour: MissedTicks,
    ticks: Arc<Mutex<Vec<Tick>>>,
}

struct Metronome;

impl Cell for Metronome {
    type Msg = Stall;
    type Shared = Shared;
    type Identity = ();
    type Out = ();

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        assert!(cx.set_periodic(0, cx.now + PERIOD, PERIOD, cx.shared.behaviour));
        Ok(Self)
    }

    fn handle(&mut self, _: Stall, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        let began = Instant::now();
        while began.elapsed() < STALL {
            std::thread::yield_now();
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        cx.shared.ticks.lock().push((cx.due, cx.now, cx.missed));
        Ok(Flow::Continue)
    }
}

/// The ticks of a metronome that is held up once.
fn ticks(mut host: impl Host, behaviour: MissedTicks) -> Vec<Tick> {
    let ticks = Arc::<Mutex<Vec<Tick>>>::default();
    let slab = host.shard().add_movable_slab(SlabSpec::<Metronome> {
        path: ActorPath::new("/fleet/metronomes").unwrap(),
        name: Arc::new(|ordinal| ordinal.to_string()),
        ordinals: std::iter::once(0..1).collect(),
        shared: Shared {
            behaviour,
            ticks: Arc::clone(&ticks),
        },
        out: (),
        identity: Box::new(|_| ()),
        mailbox: reject(8),
        supervisor: Box::new(Script(Box::new(|_, _, _, _| CellDecision::Stop))),
    });
    let slab = slab.unwrap();
    added(&slab);
    host.until(|| ticks.lock().len() >= TICKS);
    slab.send(0, Stall).unwrap();
    host.until(|| slab.books().handled == 1);
    let held_up = ticks.lock().len();
    host.until(|| ticks.lock().len() >= held_up + TICKS);
    host.stop();
    std::mem::take(&mut *ticks.lock())
}

/// Each tick is where the one before has put it. Returns how many were missed.
fn check(host: impl Host, behaviour: MissedTicks) -> u64 {
    let is_virtual = host.system().clock().is_virtual();
    let ticks = ticks(host, behaviour);
    for pair in ticks.windows(2) {
        let [(due, now, missed), (next, ..)] = pair else {
            unreachable!("windows of two");
        };
        assert!(now >= due);
        assert_eq!((*next, *missed), behaviour.next(*due, PERIOD, *now));
    }
    let late = |(due, now, _): &&Tick| now.since(*due) >= 2 * PERIOD;
    assert!(
        is_virtual || ticks.iter().any(|tick| late(&tick)),
        "{ticks:?}"
    );
    ticks.iter().map(|tick| tick.2).sum()
}

fn burst(host: impl Host) {
    assert_eq!(check(host, MissedTicks::Burst), 0);
}

fn delay(host: impl Host) {
    let live = !host.system().clock().is_virtual();
    assert_eq!(check(host, MissedTicks::Delay) >= 2, live);
}

fn skip(host: impl Host) {
    let live = !host.system().clock().is_virtual();
    assert_eq!(check(host, MissedTicks::Skip) >= 2, live);
}
