//! Slabs that unwind outside their cells' steps, and shards that end without being asked to.

use super::*;
use crate::cell::GroupMember;
use crate::exit::ExitReason;

/// Unwinds when it is asked about a kill; anything else is restarted.
struct NoKills;
impl CellSupervisor for NoKills {
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision {
        assert!(*exit.reason != ExitReason::Killed, "kills are not expected");
        CellDecision::Restart { at: exit.now }
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

fn spec(ordinals: Range<u32>, supervisor: Box<dyn CellSupervisor>) -> SlabSpec<Ticker> {
    SlabSpec {
        path: ActorPath::root().join("tickers"),
        name: Arc::new(|ordinal| ordinal.to_string()),
        ordinals: std::iter::once(ordinals).collect(),
        shared: (),
        out: Ticks::default(),
        identity: Box::new(|_| 0),
        mailbox: MailboxSpec::new(2, Overflow::Reject),
        supervisor,
    }
}

fn names(core: &mut ShardCore) -> Vec<&'static str> {
    core.notes.drain(..).map(|note| note.name).collect()
}

#[test]
fn a_slab_that_unwinds_goes_down_alone_and_its_cells_come_back_on_their_queues() {
    let (mut core, slab) = supervised(0..4, Limits::LIVE, Box::new(NoKills));
    let other = ShardHandle::new(core.port()).add_slab(spec(0..2, Box::new(Again)));
    let other = other.unwrap();
    core.step(&at(0));
    for _ in 0..2 {
        slab.send(1, Nudge).unwrap();
    }
    slab.kill(2).unwrap();
    assert!(core.step(&at(1)).busy);
    assert_eq!(names(&mut core), ["slab_down"]);
    assert_eq!((slab.counts().running, other.counts().running), (0, 2));
    for ms in 2..=4 {
        core.step(&at(ms));
    }
    let (books, counts) = (slab.books(), slab.counts());
    assert_eq!((counts.running, counts.restarts), (4, 4));
    assert!(books.balanced() && books.waiting == 0, "{books:?}");
    assert_eq!(books.handled + books.rejected, 2, "{books:?}");
    slab.send(1, Nudge).unwrap();
    core.step(&at(5));
    assert_eq!(slab.books().handled, books.handled + 1);
    while slab.counts().timers_fired < 4 {
        core.step(&at(20));
    }
    assert_eq!((other.counts().restarts, other.counts().running), (0, 2));
}

#[test]
fn requests_that_unwind_give_their_places_back() {
    let (mut core, slab) = supervised(0..4, Limits::LIVE, Box::new(NoKills));
    core.step(&at(0));
    (1..4).for_each(|ordinal| slab.kill(ordinal).unwrap());
    for ms in 1..=5 {
        core.step(&at(ms * 10));
    }
    assert_eq!(names(&mut core)[..1], ["slab_down"]);
    assert_eq!(
        (slab.counts().running, slab.board().control().len()),
        (4, 0)
    );
}

/// Gives its group up when cell 2 exits, and unwinds when it is asked about its members.
struct NoGroups;
impl CellSupervisor for NoGroups {
    fn exited(&mut self, exit: &CellExit<'_>) -> CellDecision {
        match exit.ordinal {
            2 => CellDecision::Escalate,
            _ => CellDecision::Restart { at: exit.now },
        }
    }
    fn group_restart(&mut self, _: &CellExit<'_>, members: &mut [GroupMember]) {
        panic!("{} are too many", members.len());
    }
    fn restarts(&self) -> u64 {
        0
    }
    fn quarantined(&self) -> u64 {
        0
    }
}

#[test]
fn a_supervisor_that_unwinds_when_it_is_asked_about_a_group_leaves_no_neighbour_down() {
    let (mut core, slab) = supervised(0..4, Limits::LIVE, Box::new(NoGroups));
    core.step(&at(0));
    slab.kill(2).unwrap();
    for ms in 1..=5 {
        core.step(&at(ms * 10));
    }
    assert_eq!(names(&mut core)[..1], ["slab_down"]);
    let counts = slab.counts();
    assert_eq!((counts.running, counts.stopped), (3, 1), "{counts:?}");
    assert_eq!(counts.group_restarts, 0);
}

#[test]
fn a_slab_that_goes_down_again_and_again_is_closed() {
    let (mut core, slab) = supervised(0..4, Limits::LIVE, Box::new(NoKills));
    core.step(&at(0));
    for round in 1..=4 {
        assert_eq!(slab.counts().running, 4);
        slab.send(0, Nudge).unwrap();
        slab.kill(3).unwrap();
        core.step(&at(round * 10));
        core.step(&at(round * 10 + 5));
    }
    assert!(core.slabs.is_empty() && slab.is_closed());
    let last = core.notes.last().map(|note| note.text.as_str());
    assert!(
        last.unwrap()
            .starts_with("closed for good, after 3 times in 60 s: ")
    );
    assert!(slab.send(0, Nudge).is_err());
    assert_eq!(slab.info(0).now_or_never(), Some(Err(SlabError::Closed)));
    let (books, counts) = (slab.books(), slab.counts());
    assert!(books.balanced() && books.waiting == 0, "{books:?}");
    assert_eq!((counts.stopped, books.offered), (4, 4));
}

#[test]
fn a_slab_that_cannot_be_built_is_closed_and_its_shard_goes_on() {
    let (mut core, slab) = shard(0..1, Limits::LIVE);
    let bad = SlabSpec {
        identity: Box::new(|ordinal| u64::from(2u32.checked_sub(ordinal).unwrap())),
        ..spec(0..9, Box::new(Again))
    };
    let bad = ShardHandle::new(core.port()).add_slab(bad).unwrap();
    let mut asked = Box::pin(bad.info(0));
    assert!((&mut asked).now_or_never().is_none());
    core.step(&at(0));
    assert_eq!(asked.now_or_never(), Some(Err(SlabError::Closed)));
    assert!(bad.send(1, Nudge).is_err());
    assert_eq!(names(&mut core), ["slab_down"]);
    assert_eq!((slab.counts().running, bad.counts().stopped), (1, 9));
}

#[test]
fn a_slab_on_its_way_to_a_shard_that_fails_goes_on_to_another() {
    let bells: Bells = (0..2).map(|_| Doorbell::new(Box::new(Silent))).collect();
    let common = Common::of(bells);
    let port = |index| Port::new(index, &common, None);
    let [failing, other] = [0, 1].map(|index| ShardCore::new(port(index), Limits::LIVE));
    let (mut failing, mut other) = (failing, other);
    let shard = ShardHandle::new(other.port());
    let slab = shard.add_movable_slab(spec(0..4, Box::new(Again))).unwrap();
    slab.move_to(&ShardHandle::new(failing.port())).unwrap();
    other.step(&at(0));
    assert!(other.slabs.is_empty());
    failing.port().ask_to_stop();
    failing.evacuate(&at(1));
    failing.stop(&at(1));
    slab.send(1, Nudge).unwrap();
    other.step(&at(2));
    assert_eq!((slab.shard(), slab.counts().running), (1, 4));
    assert_eq!(slab.books().handled, 1);
}

/// A shard with a slab that may move and one that may not, whose thread dies; and another shard.
fn dying(hold: bool) -> (ShardHandle, [SlabHandle<Ticker>; 2], ShardCore) {
    let bells: Bells = (0..2).map(|_| Doorbell::new(Box::new(Silent))).collect();
    let common = Common::of(bells);
    let port = |index| Port::new(index, &common, None);
    let [mut failing, other] = [0, 1].map(|index| ShardCore::new(port(index), Limits::LIVE));
    let shard = ShardHandle::new(failing.port());
    let moving = shard.add_movable_slab(spec(0..4, Box::new(Again))).unwrap();
    let pinned = shard.add_slab(spec(4..8, Box::new(Again))).unwrap();
    moving.send(1, Nudge).unwrap();
    let clock = Clock::wall();
    let mut broken = Broken(0, crate::shard::net::PollNet::default());
    let ended = crate::shard::driver::run(&mut failing, &mut broken, &clock, Duration::ZERO);
    assert_eq!(ended.unwrap_err().to_string(), "broken");
    die(&mut failing, &mut broken, hold);
    shard.port().end_life("broken");
    (shard, [moving, pinned], other)
}

/// Steps twice: what is restarted waits for a tick.
fn step_twice(core: &mut ShardCore) {
    let mut at = Moment::of(&Clock::wall());
    core.step(&at);
    at.monotonic = at.monotonic + Duration::from_secs(60);
    core.step(&at);
}

#[test]
fn slabs_that_may_move_leave_a_shard_whose_driver_fails() {
    let (shard, [moving, pinned], mut other) = dying(false);
    assert_eq!(
        (pinned.counts().stopped, moving.counts().restarting),
        (4, 4)
    );
    assert!(!shard.is_up() && pinned.send(4, Nudge).is_err());
    step_twice(&mut other);
    assert_eq!((moving.shard(), moving.counts().running), (1, 4));
    moving.send(2, Nudge).unwrap();
    other.step(&Moment::of(&Clock::wall()));
    assert_eq!(moving.books().handled, 2);
}

#[test]
fn slabs_that_wait_too_long_for_a_thread_go_where_one_runs() {
    let (shard, [moving, pinned], mut other) = dying(true);
    assert_eq!(pinned.counts().restarting, 4, "it waits");
    assert_eq!(shard.port().hand_out(), 1);
    step_twice(&mut other);
    assert_eq!((moving.shard(), moving.counts().running), (1, 4));
    let mut next = ShardCore::new(Arc::clone(shard.port()), Limits::LIVE);
    step_twice(&mut next);
    assert_eq!((pinned.counts().running, pinned.counts().restarts), (4, 4));
    next.count(&mut shard.port().stats.lock());
    assert_eq!((shard.stats().migrations_out, shard.stats().slabs), (1, 1));
    assert!(moving.books().balanced() && pinned.books().balanced());
}
