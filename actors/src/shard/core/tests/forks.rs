//! Forks by hand: who is woken, and what is not computed any more.

use std::sync::atomic::AtomicU32;

use super::*;
use crate::cell::ForkError;

const DEADLINE_MS: u64 = 5;

/// Forks as many branches as it is told to, each of which is counted.
struct Forker;

struct Split(u32);
impl Message for Split {}

#[derive(Default)]
struct Seen {
    begun: AtomicU32,
    joined: Mutex<Vec<Result<Vec<u32>, ForkError>>>,
}

impl Cell for Forker {
    type Msg = Split;
    type Shared = Arc<Seen>;
    type Identity = ();
    type Out = ();

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn handle(&mut self, split: Split, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        let seen = Arc::clone(cx.shared);
        let work = move |branch| {
            seen.begun.fetch_add(1, Ordering::SeqCst);
            branch
        };
        let deadline = Duration::from_millis(DEADLINE_MS);
        let joined = |_: &mut Self, all, cx: &mut CellContext<'_, Self>| {
            cx.shared.joined.lock().push(all);
            Ok(Flow::Continue)
        };
        cx.fork(split.0, work, deadline, joined).unwrap();
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

/// The first of so many shards, with one cell.
fn forker(shards: usize) -> (ShardCore, SlabHandle<Forker>, Arc<Seen>) {
    let bells: Bells = (0..shards)
        .map(|_| Doorbell::new(Box::new(Silent)))
        .collect();
    let mut core = ShardCore::new(Port::new(0, &Common::of(bells), None), Limits::LIVE);
    let seen = Arc::<Seen>::default();
    let spec = SlabSpec {
        path: ActorPath::root().join("forkers"),
        name: Arc::new(|ordinal| ordinal.to_string()),
        ordinals: std::iter::once(0..1).collect(),
        shared: Arc::clone(&seen),
        out: (),
        identity: Box::new(|_| ()),
        mailbox: MailboxSpec::new(8, Overflow::Reject),
        supervisor: Box::new(Again),
    };
    let slab = ShardHandle::new(core.port()).add_slab(spec).unwrap();
    core.step(&at(0));
    (core, slab, seen)
}

/// Computes at most so many branches. How many these were, and whether there may be more.
fn help(core: &ShardCore, at_most: u64) -> (u64, bool) {
    let mut left = at_most;
    core.port().forks.help(|| {
        left -= 1;
        left > 0
    })
}

#[test]
fn a_fork_is_joined_when_its_last_branch_is_computed() {
    let (mut core, slab, seen) = forker(1);
    slab.send(0, Split(3)).unwrap();
    slab.send(0, Split(1)).unwrap();
    core.step(&at(1));
    assert_eq!(help(&core, 2), (2, true));
    core.step(&at(1));
    assert!(seen.joined.lock().is_empty());
    assert_eq!(help(&core, 9), (2, false));
    core.step(&at(2));
    assert_eq!(*seen.joined.lock(), [Ok(vec![0, 1, 2]), Ok(vec![0])]);
    assert_eq!(slab.counts().asks_open, 0);
}

#[test]
fn branches_that_nobody_has_begun_by_the_deadline_are_not_computed() {
    let (mut core, slab, seen) = forker(1);
    slab.send(0, Split(100)).unwrap();
    let effects = core.step(&at(0));
    assert_eq!(effects.next_monotonic, Some(Time(DEADLINE_MS * MS)));
    assert_eq!(help(&core, 1), (1, true));
    core.step(&at(DEADLINE_MS));
    assert_eq!(*seen.joined.lock(), [Err(ForkError::Timeout)]);
    assert_eq!(help(&core, 9), (0, false));
    assert_eq!(seen.begun.load(Ordering::SeqCst), 1);
}

#[test]
fn a_fork_ends_with_the_life_that_made_it() {
    let (mut core, slab, seen) = forker(1);
    slab.send(0, Split(100)).unwrap();
    core.step(&at(0));
    slab.kill(0).unwrap();
    core.step(&at(1));
    assert_eq!(help(&core, 9), (0, false));
    core.step(&at(DEADLINE_MS));
    assert!(seen.joined.lock().is_empty());
    assert_eq!(slab.counts().asks_canceled, 1);
}

#[test]
fn no_more_shards_are_woken_than_there_are_branches_for() {
    for (branches, woken) in [(1, 0), (2, 1), (3, 2), (100, 3)] {
        let (mut core, slab, _) = forker(4);
        slab.send(0, Split(branches)).unwrap();
        core.step(&at(0));
        let others = core.port().bells[1..].iter();
        let rung = others.filter(|bell| bell.is_rung()).count();
        assert_eq!(rung, woken, "{branches}");
    }
}

/// Notes how many branches had been begun when it was first asked to hand over; then ends.
struct Handing(Arc<Seen>, Option<u32>, crate::shard::net::PollNet);

impl crate::shard::driver::Driver for Handing {
    fn bell(&self) -> Box<dyn Bell> {
        Box::new(Silent)
    }
    fn attach(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        let begun = self.0.begun.load(Ordering::SeqCst);
        self.1.get_or_insert(begun);
        Ok(())
    }
    fn wait(&mut self, _: Option<Duration>) -> std::io::Result<()> {
        Err(std::io::Error::other("nothing to wait for"))
    }
    fn engine(&mut self) -> &mut dyn crate::shard::net::Engine {
        &mut self.2
    }
}

#[test]
fn what_a_step_leaves_for_others_goes_out_before_a_branch_is_computed() {
    let (mut core, slab, seen) = forker(1);
    slab.send(0, Split(3)).unwrap();
    let mut driver = Handing(
        Arc::clone(&seen),
        None,
        crate::shard::net::PollNet::default(),
    );
    let ended = crate::shard::driver::run(&mut core, &mut driver, &Clock::wall(), Duration::ZERO);
    assert!(ended.is_err());
    assert_eq!((driver.1, seen.begun.load(Ordering::SeqCst)), (Some(0), 3));
}
