//! Messages by hand: what is counted and when, and what unwinds beside a step.

use super::*;

/// What a porter does with a message.
enum Load {
    /// Sends so many to a cell, in one step.
    Pass(u32, u32),
    /// Waits for room for one, for so many milliseconds.
    Wait(u32, u64),
    /// Faults.
    Drop,
    /// Its destructor panics.
    Fragile(Fragile),
}
impl Message for Load {}

struct Fragile;
impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "in the destructor");
    }
}

/// Cannot be cut back.
struct Stubborn;
impl Outbox for Stubborn {
    type Mark = ();
    fn mark(&self) {}
    fn cut(&mut self, (): ()) {
        panic!("an outbox must not panic");
    }
    fn flush(&mut self, _: Time) -> Option<Time> {
        None
    }
}

struct Porter;
impl Cell for Porter {
    type Msg = Load;
    /// Where `Wait` goes.
    type Shared = Arc<Mutex<Option<SlabHandle<Self>>>>;
    type Identity = ();
    type Out = Stubborn;

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn handle(&mut self, load: Load, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        match load {
            Load::Pass(to, count) => {
                for _ in 0..count {
                    cx.send(to, Load::Pass(0, 0))
                        .map_err(|_| Fault::new("refused"))?;
                }
            }
            Load::Wait(to, ms) => {
                let slab = cx.shared.lock().clone();
                let (slab, patience) = (slab.unwrap(), Duration::from_millis(ms));
                let load = Load::Fragile(Fragile);
                cx.send_or_wait(&slab, to, load, patience).unwrap();
            }
            Load::Drop => return Err(Fault::new("dropped")),
            Load::Fragile(fragile) => std::mem::forget(fragile),
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }
}

fn spec(mailbox: MailboxSpec) -> SlabSpec<Porter> {
    SlabSpec {
        path: ActorPath::root().join("porters"),
        name: Arc::new(|ordinal| ordinal.to_string()),
        ordinals: std::iter::once(0..4).collect(),
        shared: Arc::default(),
        out: Stubborn,
        identity: Box::new(|_| ()),
        mailbox,
        supervisor: Box::new(Again),
    }
}

fn porters(limits: Limits, mailbox: MailboxSpec) -> (ShardCore, SlabHandle<Porter>) {
    let port = port();
    let slab = ShardHandle::new(&port).add_slab(spec(mailbox)).unwrap();
    let mut core = ShardCore::new(port, limits);
    core.step(&at(0));
    (core, slab)
}

#[test]
fn counters_tell_of_messages_that_no_cell_has_handled() {
    let limits = Limits {
        deliveries: 1,
        ..Limits::LIVE
    };
    let (mut core, slab) = porters(limits, MailboxSpec::new(8, Overflow::Reject));
    slab.stop(1).unwrap();
    slab.send(0, Load::Pass(1, 3)).unwrap();
    for refused in 1..=3 {
        core.step(&at(1));
        assert_eq!(slab.counts().undeliverable, refused, "one a step");
    }
}

#[test]
fn a_message_whose_step_cannot_be_undone_has_died_and_its_place_is_free() {
    let (mut core, slab) = porters(Limits::LIVE, MailboxSpec::new(8, Overflow::Reject));
    let narrow = slab.lane_of(2);
    for round in 1..=3 {
        narrow.send(1, Load::Drop).unwrap();
        narrow.send(1, Load::Pass(0, 0)).unwrap();
        for ms in 0..5 {
            core.step(&at(round * 10 + ms));
        }
        let books = slab.books();
        assert!(books.balanced() && books.waiting == 0, "{books:?}");
        assert_eq!((books.died, slab.counts().queued), (round, 0));
    }
    // Then it is closed.
    narrow.send(1, Load::Drop).unwrap();
    core.step(&at(100));
    let books = slab.books();
    assert!(
        books.balanced() && slab.send(0, Load::Drop).is_err(),
        "{books:?}"
    );
    assert_eq!(books.died, 4);
}

#[test]
fn a_message_that_waited_in_vain_takes_nobody_down_by_its_destructor() {
    let (mut core, slab) = porters(Limits::LIVE, MailboxSpec::new(8, Overflow::Reject));
    // Never stepped: nothing of what is sent there is taken.
    let far = port();
    let there = ShardHandle::new(&far);
    let there = there
        .add_slab(spec(MailboxSpec::new(8, Overflow::Reject)))
        .unwrap();
    let other = ShardHandle::new(core.port()).add_slab(SlabSpec {
        shared: Arc::new(Mutex::new(Some(there.with_link_capacity(1)))),
        ..spec(MailboxSpec::new(8, Overflow::Reject))
    });
    let other = other.unwrap();
    core.step(&at(1));
    for from in 0..3 {
        other.send(from, Load::Wait(0, 5)).unwrap();
    }
    core.step(&at(2));
    assert_eq!(other.counts().send_waits, 2);
    core.step(&at(10));
    let counts = other.counts();
    assert_eq!(
        (counts.send_timeouts, counts.restarts, counts.running),
        (2, 0, 4)
    );
    assert!(core.notes.is_empty());
    drop(slab);
    // What lies in its queue is fragile, too.
    std::mem::forget(far);
}
