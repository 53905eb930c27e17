//! The core by hand: times are given step by step, so lateness, budgets and costs are exact.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::*;
use crate::cell::{Cell, CellContext, CellDecision, CellExit, CellSupervisor, Outbox};
use crate::clock::Time;
use crate::exit::{Fault, Flow};
use crate::mailbox::{MailboxSpec, Message, Overflow};
use crate::shard::handle::{ShardHandle, SlabHandle};
use crate::shard::inbox::Bell;
use crate::shard::slab::{SLOT_OVERHEAD, SlabDetail};
use crate::shard::spec::{AddSlabError, SlabError, SlabSpec};

#[path = "tests/detail.rs"]
mod detail;
#[path = "tests/down.rs"]
mod down;
#[path = "tests/forks.rs"]
mod forks;
#[path = "tests/mail.rs"]
mod mail;
#[path = "tests/periodic.rs"]
mod periodic;
#[path = "tests/sockets.rs"]
mod sockets;
#[path = "tests/storm.rs"]
mod storm;

const MS: u64 = 1_000_000;

struct Silent;
impl Bell for Silent {
    fn ring(&self) {}
}

fn port() -> Arc<Port> {
    let bells = [Doorbell::new(Box::new(Silent))].into();
    Port::new(0, &Common::of(bells), None)
}

/// Ticks each 10 ms on a grid; skips what it missed.
struct Ticker;

struct Nudge;
impl Message for Nudge {}

#[derive(Default)]
struct Ticks(Vec<(u32, u64)>);

impl Outbox for Ticks {
    type Mark = usize;
    fn mark(&self) -> usize {
        self.0.len()
    }
    fn cut(&mut self, mark: usize) {
        self.0.truncate(mark);
    }
    fn flush(&mut self, now: Time) -> Option<Time> {
        // Asks to be called again at once: must not keep the shard awake.
        (self.0.len() == 3).then_some(now)
    }
}

impl Cell for Ticker {
    type Msg = Nudge;
    type Shared = ();
    type Identity = u64;
    type Out = Ticks;

    fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        cx.set_timer(0, Duration::from_millis(10));
        Ok(Self)
    }

    fn handle(&mut self, _: Nudge, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        let grid = 10 * MS;
        cx.out.0.push((cx.ordinal, cx.due.0 / MS));
        cx.set_timer_at(0, Time((cx.now.0 / grid + 1) * grid));
        Ok(Flow::Continue)
    }
}

struct Never;
impl CellSupervisor for Never {
    fn exited(&mut self, _: &CellExit<'_>) -> CellDecision {
        panic!("a supervisor must not panic");
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

/// Restarts at once.
struct Again;
impl CellSupervisor for Again {
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision {
        CellDecision::Restart { at: exit.now }
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

fn at(ms: u64) -> Moment {
    let now = Time(ms * MS);
    Moment {
        now,
        monotonic: now,
        unix_us: ms * 1_000,
        late_ns: 10 * MS,
    }
}

fn shard(ordinals: Range<u32>, limits: Limits) -> (ShardCore, SlabHandle<Ticker>) {
    supervised(ordinals, limits, Box::new(Never))
}

fn supervised(
    ordinals: Range<u32>,
    limits: Limits,
    supervisor: Box<dyn CellSupervisor>,
) -> (ShardCore, SlabHandle<Ticker>) {
    let port = port();
    let handle = ShardHandle::new(&port);
    let spec = SlabSpec {
        path: ActorPath::root().join("tickers"),
        name: Arc::new(|ordinal| ordinal.to_string()),
        ordinals: std::iter::once(ordinals).collect(),
        shared: (),
        out: Ticks::default(),
        identity: Box::new(|_| 0),
        mailbox: MailboxSpec::new(2, Overflow::Reject),
        supervisor,
    };
    let slab = handle.add_slab(spec).unwrap();
    (ShardCore::new(port, limits), slab)
}

#[test]
fn late_ticks_are_counted_and_missed_ones_are_the_cells_to_skip() {
    let (mut core, slab) = shard(0..1, Limits::LIVE);
    core.step(&at(0));
    core.step(&at(10));
    assert_eq!(slab.counts().timers_late, 0);
    // The host slept through three ticks.
    core.step(&at(55));
    core.step(&at(60));
    let counts = slab.counts();
    assert_eq!((counts.timers_fired, counts.timers_late), (3, 1));
    assert_eq!(counts.timer_lateness_ns_max, 35 * MS);
    let mut asked = Box::pin(slab.with_out(|out| out.0.clone()));
    assert!((&mut asked).now_or_never().is_none());
    core.step(&at(61));
    let ticks = asked.now_or_never().unwrap().unwrap();
    assert_eq!(
        ticks,
        [(0, 10), (0, 20), (0, 60)],
        "each with the time it was set for"
    );
}

#[test]
fn a_timer_that_waits_for_others_in_its_step_is_as_late_as_it_is() {
    struct Slow(Clock);
    impl Outbox for Slow {
        type Mark = ();
        fn mark(&self) {}
        fn cut(&mut self, (): ()) {}
        fn flush(&mut self, now: Time) -> Option<Time> {
            // Takes 50 ms.
            self.0.advance_to(now + Duration::from_millis(50));
            None
        }
    }
    struct Once;
    impl Cell for Once {
        type Msg = Nudge;
        type Shared = ();
        type Identity = ();
        type Out = Slow;
        fn start(cx: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
            cx.set_timer(0, Duration::from_millis(100));
            Ok(Self)
        }
        fn handle(&mut self, _: Nudge, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
            Ok(Flow::Continue)
        }
        fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
            Ok(Flow::Continue)
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let clock = Clock::virtual_from(0);
    let system = System::new(clock.clone(), runtime.unwrap().handle().clone());
    let bells = [Doorbell::new(Box::new(Silent))].into();
    let port = Port::new(0, &Common::of(bells), Some(system));
    let spec = |path: &str| SlabSpec {
        path: ActorPath::root().join(path),
        name: Arc::new(|ordinal| ordinal.to_string()),
        ordinals: std::iter::once(0..1).collect(),
        shared: (),
        out: Slow(clock.clone()),
        identity: Box::new(|_| ()),
        mailbox: MailboxSpec::new(2, Overflow::Reject),
        supervisor: Box::new(Never),
    };
    let slabs = ["first", "second"].map(|path| {
        let slab = ShardHandle::new(&port).add_slab::<Once>(spec(path));
        slab.unwrap()
    });
    let mut core = ShardCore::new(port, Limits::LIVE);
    core.step(&at(0));
    clock.advance_to(at(110).now);
    core.step(&at(110));
    let late = slabs.map(|slab| slab.counts().timer_lateness_ns_max / MS);
    assert_eq!(
        late,
        [10, 60],
        "the second waits for the first one's output"
    );
}

#[test]
fn lanes_that_nobody_sends_on_take_no_share_of_a_step() {
    let limits = Limits {
        deliveries: 8,
        ..Limits::LIVE
    };
    let (mut core, slab) = shard(0..8, limits);
    let _idle: Vec<_> = (0..7).map(|_| slab.lane()).collect();
    core.step(&at(0));
    (0..8).for_each(|ordinal| slab.send(ordinal, Nudge).unwrap());
    assert!(!core.step(&at(1)).busy);
    assert_eq!(slab.books().handled, 8);
}

#[test]
fn a_cell_that_is_flooded_from_outside_takes_no_turn_from_others_and_their_timers() {
    let (mut core, slab) = shard(0..8, Limits::LIVE);
    let (flood, other) = (slab.lane(), slab.lane());
    core.step(&at(0));
    for round in 1..=20 {
        while flood.send(0, Nudge).is_ok() {}
        (1..8).for_each(|ordinal| other.send(ordinal, Nudge).unwrap());
        assert!(core.step(&at(10 * round)).busy);
        assert_eq!(slab.counts().timers_fired, 8 * round);
        // Answered at the beginning of a step, so as of the end of the one before.
        let mut asked = Box::pin(slab.infos((1..8).collect()));
        assert!((&mut asked).now_or_never().is_none());
        core.step(&at(10 * round + 1));
        let others = asked.now_or_never().unwrap().unwrap();
        assert!(others.iter().all(|cell| u64::from(cell.handled) == round));
    }
    assert!(slab.counts().queue_full >= 20);
}

#[test]
fn a_shard_that_has_enough_to_add_says_so_and_not_that_it_has_stopped() {
    let (core, slab) = shard(0..1, Limits::LIVE);
    let shard = ShardHandle::new(core.port());
    let more = || {
        let spec = SlabSpec {
            path: slab.path().clone(),
            name: Arc::new(|ordinal| ordinal.to_string()),
            ordinals: std::iter::once(0..1).collect(),
            shared: (),
            out: Ticks::default(),
            identity: Box::new(|_| 0),
            mailbox: MailboxSpec::new(2, Overflow::Reject),
            supervisor: Box::new(Never),
        };
        shard.add_slab::<Ticker>(spec)
    };
    let added = (1..).map_while(|_| more().ok()).count();
    assert_eq!(added, SLABS_MAX - 1);
    assert_eq!(more().unwrap_err(), AddSlabError::Busy);
    core.port().ask_to_stop();
    assert_eq!(more().unwrap_err(), AddSlabError::Stopped);
}

#[test]
fn an_idle_shard_asks_for_nothing_before_its_next_timer() {
    let (mut core, slab) = shard(0..1, Limits::LIVE);
    let effects = core.step(&at(0));
    assert!(!effects.busy);
    assert_eq!(
        (effects.next, effects.next_monotonic),
        (Some(Time(10 * MS)), None)
    );
    for ms in [10, 20, 30] {
        core.step(&at(ms));
    }
    let effects = core.step(&at(31));
    let pause = effects.next_monotonic.unwrap();
    assert!(
        pause > Time(31 * MS),
        "a flush asked for at once waits a little"
    );
    assert_eq!(slab.counts().timers, 1);
}

#[test]
fn timers_above_the_limit_of_a_step_fire_in_the_next_in_ordinal_order() {
    let limits = Limits {
        timers: 300,
        starts: 400,
        ..Limits::LIVE
    };
    let (mut core, slab) = shard(0..1_000, limits);
    for _ in 0..3 {
        core.step(&at(0));
    }
    assert_eq!(slab.counts().running, 1_000);
    assert!(core.step(&at(10)).busy);
    assert_eq!(slab.counts().timers_fired, 300);
    while core.step(&at(12)).busy {}
    assert_eq!(slab.counts().timers_fired, 1_000);
}

#[test]
fn cells_whose_supervisor_unwinds_whatever_it_is_asked_stay_down_and_their_books_balance() {
    let (mut core, slab) = shard(0..4, Limits::LIVE);
    core.step(&at(0));
    for _ in 0..3 {
        slab.send(1, Nudge).unwrap();
    }
    slab.kill(2).unwrap();
    while core.step(&at(1)).busy {}
    let (books, counts) = (slab.books(), slab.counts());
    assert!(books.balanced() && books.waiting == 0, "{books:?}");
    assert_eq!((counts.stopped, counts.running, books.rejected), (4, 0, 3));
    drop(core);
    assert!(slab.send(0, Nudge).is_err());
    assert_eq!(slab.info(0).now_or_never(), Some(Err(SlabError::Closed)));
}

#[test]
fn what_arrives_while_a_burst_is_delivered_does_not_wait_for_the_next_ring() {
    let limits = Limits {
        deliveries: 4,
        ..Limits::LIVE
    };
    let (mut core, slab) = shard(0..8, limits);
    core.step(&at(0));
    for ordinal in 0..6 {
        slab.send(ordinal, Nudge).unwrap();
    }
    let bell = Arc::clone(&core.port().bell);
    bell.answer();
    assert!(core.step(&at(1)).busy, "two are left");
    slab.send(6, Nudge).unwrap();
    bell.answer();
    let mut busy = core.step(&at(1)).busy;
    while busy || bell.is_rung() {
        bell.answer();
        busy = core.step(&at(1)).busy;
    }
    assert_eq!(
        slab.books().handled,
        7,
        "nothing waits when the shard sleeps"
    );
}

#[test]
fn a_request_made_while_others_are_served_does_not_wait_for_the_next_ring() {
    let (mut core, slab) = shard(0..1, Limits::LIVE);
    core.step(&at(0));
    for _ in 0..300 {
        slab.restart(0).unwrap();
    }
    let bell = Arc::clone(&core.port().bell);
    bell.answer();
    core.step(&at(1));
    let mut asked = Box::pin(slab.info(0));
    assert!((&mut asked).now_or_never().is_none());
    bell.answer();
    let mut busy = core.step(&at(1)).busy;
    while busy || bell.is_rung() {
        bell.answer();
        busy = core.step(&at(1)).busy;
    }
    assert!(
        asked.now_or_never().is_some(),
        "answered before the shard sleeps"
    );
}

#[test]
fn a_storm_of_exits_is_told_by_a_few_lines_a_second_and_a_number() {
    let (mut core, slab) = supervised(0..100, Limits::LIVE, Box::new(Again));
    core.step(&at(0));
    let mut told = Vec::new();
    for ms in (0..2_000).step_by(10) {
        (0..100).for_each(|ordinal| slab.kill(ordinal).unwrap());
        core.step(&at(ms));
        told.append(&mut core.notes);
    }
    core.step(&at(3_000));
    told.append(&mut core.notes);
    assert_eq!(slab.counts().kills, 20_000);
    let (sums, single): (Vec<_>, Vec<_>) = told.iter().partition(|note| &note.path == slab.path());
    assert_eq!((sums.len(), single.len()), (2, 32));
    assert_eq!(sums[0].text, "9984 more within a second");
    assert!(told.iter().all(|note| note.name == "restarted"));
    assert_eq!(single[0].text, "incarnation 2 (killed)");
}

#[test]
fn a_slab_whose_shard_stops_first_is_closed() {
    let (mut core, slab) = shard(0..2, Limits::LIVE);
    let mut asked = Box::pin(slab.info(0));
    assert!((&mut asked).now_or_never().is_none());
    core.stop(&at(0));
    assert_eq!(asked.now_or_never(), Some(Err(SlabError::Closed)));
    assert_eq!(slab.kill(1), Err(SlabError::Closed));
    assert_eq!(slab.counts().stopped, 2);
}

#[test]
fn a_slot_and_a_timer_cost_at_most_64_bytes_beside_the_cell() {
    const { assert!(SLOT_OVERHEAD <= 24) };
    // The timer's 32 bytes are asserted beside the wheel.
    const { assert!(SLOT_OVERHEAD + 32 <= 64) };
}

#[test]
fn what_was_rung_for_while_a_queue_waited_for_its_share_is_not_slept_over() {
    let limits = Limits {
        deliveries: 4,
        ..Limits::LIVE
    };
    let (mut core, slab) = shard(0..8, limits);
    core.step(&at(0));
    let send = |n: u32| (0..n).for_each(|o| slab.send(o, Nudge).unwrap());
    send(5);
    assert!(core.step(&at(1)).busy, "one is left of the five");
    send(1);
    core.port().bell.answer();
    assert!(core.step(&at(2)).busy, "the queue was not looked into");
    assert!(!core.step(&at(3)).busy);
    assert_eq!(slab.books().handled, 6);

    for _ in 0..=crate::shard::slab::steps::REQUESTS_PER_STEP {
        slab.stop(0).unwrap();
    }
    assert!(core.step(&at(4)).busy);
    slab.stop(1).unwrap();
    assert!(core.step(&at(5)).busy, "the requests were not looked into");
    assert!(!core.step(&at(6)).busy);
    assert_eq!(slab.counts().stopped, 2);
}

/// Waits once, then has nothing to wait on any more.
struct Broken(u32, crate::shard::net::PollNet);

impl crate::shard::driver::Driver for Broken {
    fn bell(&self) -> Box<dyn Bell> {
        Box::new(Silent)
    }
    fn attach(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    fn wait(&mut self, _: Option<Duration>) -> std::io::Result<()> {
        self.0 += 1;
        match self.0 {
            1 => Ok(()),
            _ => Err(std::io::Error::other("broken")),
        }
    }
    fn engine(&mut self) -> &mut dyn crate::shard::net::Engine {
        &mut self.1
    }
}

/// The end of a thread, which slabs wait for another of, or not.
fn die(core: &mut ShardCore, driver: &mut Broken, hold: bool) {
    let clock = Clock::wall();
    crate::shard::driver::die(core, driver, &clock);
    core.pass_on(&Moment::of(&clock), DriverCounts::default(), hold);
}

#[test]
fn a_shard_whose_driver_fails_stops_its_cells_and_says_why() {
    let (mut core, slab) = shard(0..4, Limits::LIVE);
    slab.send(1, Nudge).unwrap();
    let mut driver = Broken(0, crate::shard::net::PollNet::default());
    let ended = crate::shard::driver::run(&mut core, &mut driver, &Clock::wall(), Duration::ZERO);
    let error = ended.unwrap_err();
    die(&mut core, &mut driver, false);
    assert_eq!((error.to_string(), driver.0), ("broken".to_owned(), 2));
    assert!(core.port().is_stopping(), "it takes no slabs any more");
    assert!(slab.send(0, Nudge).is_err());
    let (books, counts) = (slab.books(), slab.counts());
    assert!(books.balanced() && books.waiting == 0, "{books:?}");
    assert_eq!((counts.stopped, books.handled), (4, 1));
}
