//! Messages whose destructors panic, in every queue that may be dropped with two or more of them:
//! nothing aborts, books balance, and each message is gone once.
//!
//! Rings that the kernel refuses are skipped, with the reason printed.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "shard_kit/kit.rs"]
mod kit;
#[macro_use]
#[path = "message_kit/kit.rs"]
mod office;

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actorsim_actors::shard::{Bounce, SlabHandle, SlabSpec};
use actorsim_actors::{
    ActorPath, Addr, Cell, CellContext, CellDecision, Clock, ExitReason, Fault, Flow, ForkError,
    MailboxSpec, Message, Overflow, System, Time, destructor_panics,
};
use kit::roaming::{Roaming, added};
use kit::{Do, Host, Plan, Script, Virtual};
use office::Live;

/// Grenades that were made, and that are gone: blown up or defused.
#[derive(Default)]
struct Yard {
    made: AtomicU64,
    gone: AtomicU64,
}

/// It is not to be dropped, but it will be.
struct Grenade(Arc<Yard>);

impl Grenade {
    fn new(yard: &Arc<Yard>) -> Self {
        yard.made.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(yard))
    }

    fn defuse(mut self) {
        self.0.gone.fetch_add(1, Ordering::Relaxed);
        // A yard of its own stands in, so that the count of the real one's owners goes down.
        drop(std::mem::take(&mut self.0));
        std::mem::forget(self);
    }
}

impl Drop for Grenade {
    fn drop(&mut self) {
        self.0.gone.fetch_add(1, Ordering::Relaxed);
        panic!("in the destructor of a message");
    }
}

/// Orders.
enum Order {
    /// Defuse it.
    Take(Grenade),
    /// Throw so many at an ordinal, now; the last one waits for room.
    Throw(u32, u32),
    /// The same in the last step, without waiting.
    Bequeath(u32, u32),
    /// Fork into branches that answer with grenades; the last one panics.
    Fork,
    /// Stay away for an hour.
    Sick,
    /// Make the supervisor unwind.
    Bomb,
    /// Stop.
    End,
}

impl Message for Order {}

fn defuse(order: Order) {
    if let Order::Take(grenade) = order {
        grenade.defuse();
    }
}

struct Ground {
    yard: Arc<Yard>,
    slabs: Arc<OnceLock<[SlabHandle<Thrower>; 3]>>,
    /// Forks that were joined, wills that were made.
    done: Arc<AtomicU64>,
}

struct Thrower {
    will: Option<(u32, u32)>,
}

impl Thrower {
    fn throw(cx: &mut CellContext<'_, Self>, to: u32, count: u32, waits: bool) {
        let ground = cx.shared;
        let slab = ground.slabs.get().unwrap();
        let slab = slab.iter().find(|slab| slab.has(to)).unwrap();
        for n in 1..=count {
            let grenade = Order::Take(Grenade::new(&ground.yard));
            let refused = if waits && n == count {
                let sent = cx.send_or_wait(slab, to, grenade, Duration::from_secs(3_600));
                sent.err().map(|refused| refused.into_message())
            } else {
                let sent = cx.send_to(slab, to, grenade);
                sent.err().map(|refused| refused.into_message())
            };
            refused.into_iter().for_each(defuse);
        }
    }
}

impl Thrower {
    fn joined(
        &mut self,
        answers: Result<Vec<Grenade>, ForkError>,
        cx: &mut CellContext<'_, Self>,
    ) -> Result<Flow, Fault> {
        assert!(matches!(answers, Err(ForkError::Panicked(_))));
        cx.shared.done.fetch_add(1, Ordering::Relaxed);
        Ok(Flow::Continue)
    }
}

impl Cell for Thrower {
    type Msg = Order;
    type Shared = Ground;
    type Identity = ();
    type Out = ();
    const HEARS_BOUNCES: bool = true;

    fn start(_: &mut CellContext<'_, Self>) -> Result<Self, Fault> {
        Ok(Self { will: None })
    }

    fn handle(&mut self, order: Order, cx: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        match order {
            Order::Take(grenade) => grenade.defuse(),
            Order::Throw(to, count) => Self::throw(cx, to, count, true),
            Order::Bequeath(to, count) => {
                self.will = Some((to, count));
                cx.shared.done.fetch_add(1, Ordering::Relaxed);
            }
            Order::Fork => {
                let yard = Arc::clone(&cx.shared.yard);
                let answer = move |n| match n {
                    7 => panic!("told to"),
                    _ => Grenade::new(&yard),
                };
                cx.fork(8, answer, Duration::from_secs(3_600), Self::joined)
                    .unwrap();
            }
            Order::Sick => return Err(Fault::new("sick")),
            Order::Bomb => return Err(Fault::new("bomb")),
            Order::End => return Ok(Flow::Stop),
        }
        Ok(Flow::Continue)
    }

    fn timer(&mut self, _: u8, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        Ok(Flow::Continue)
    }

    fn bounced(&mut self, bounce: Bounce, _: &mut CellContext<'_, Self>) -> Result<Flow, Fault> {
        defuse(*bounce.message.downcast().unwrap());
        Ok(Flow::Continue)
    }

    fn stopping(&mut self, cx: &mut CellContext<'_, Self>) {
        if let Some((to, count)) = self.will.take() {
            Self::throw(cx, to, count, false);
        }
    }
}

fn decide(why: &ExitReason, now: Time, bombs: &AtomicU64) -> CellDecision {
    match why {
        ExitReason::Fault(fault) if fault.code == "bomb" => {
            bombs.fetch_add(1, Ordering::Relaxed);
            panic!("the supervisor unwinds")
        }
        ExitReason::Fault(fault) if fault.code == "sick" => CellDecision::Restart {
            at: now + Duration::from_secs(3_600),
        },
        ExitReason::Normal => CellDecision::Stop,
        _ => CellDecision::Restart { at: now },
    }
}

/// Three slabs of throwers, 0..4, 4..8 and 8..12, where messages wait in every queue there is.
struct Field {
    yard: Arc<Yard>,
    /// That have gone off.
    bombs: Arc<AtomicU64>,
    slabs: [SlabHandle<Thrower>; 3],
}

impl Field {
    fn new(host: &mut impl Host) -> Self {
        let (yard, slabs) = (Arc::<Yard>::default(), Arc::<OnceLock<_>>::default());
        let (done, bombs) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let shards = host.shards();
        let handles = [0, 1, 2].map(|index| {
            let gone = Arc::clone(&bombs);
            let spec = SlabSpec {
                path: ActorPath::new("/fleet/field").unwrap(),
                name: Arc::new(|ordinal| format!("thrower-{ordinal:04}")),
                ordinals: std::iter::once(4 * index..4 * index + 4).collect(),
                shared: Ground {
                    yard: Arc::clone(&yard),
                    slabs: Arc::clone(&slabs),
                    done: Arc::clone(&done),
                },
                out: (),
                identity: Box::new(|_| ()),
                mailbox: MailboxSpec::new(4, Overflow::Block).kept(),
                supervisor: Box::new(Script(Box::new(move |_, _, why, now| {
                    decide(why, now, &gone)
                }))),
            };
            let slab = shards[index as usize % shards.len()].add_movable_slab(spec);
            let slab = slab.unwrap();
            added(&slab);
            slab.with_link_capacity(4)
        });
        assert!(slabs.set(handles.clone()).is_ok());
        let field = Self {
            yard,
            bombs,
            slabs: handles,
        };
        field.fill(host, &done);
        field
    }

    fn send(&self, ordinal: u32, order: Order) {
        let slab = self.slabs.iter().find(|slab| slab.has(ordinal)).unwrap();
        if let Err(refused) = slab.send(ordinal, order) {
            defuse(refused.into_message());
        }
    }

    /// A mailbox, what is held aside, waits and a pair queue for 1; bounces for who is no more.
    fn fill(&self, host: &mut impl Host, done: &AtomicU64) {
        let [here, there, yonder] = &self.slabs;
        self.send(1, Order::Sick);
        self.send(8, Order::End);
        host.until(|| here.counts().restarting == 1 && yonder.counts().stopped == 1);
        for _ in 0..8 {
            self.send(1, Order::Take(Grenade::new(&self.yard)));
        }
        for thrower in [0, 3, 4, 5] {
            self.send(thrower, Order::Throw(1, 6));
        }
        self.send(6, Order::Fork);
        host.until(|| here.books().waiting >= 4 && here.counts().held >= 2);
        // Its slab will be gone when these come back, all at once; and its own with it.
        self.send(6, Order::Bequeath(8, 5));
        self.send(7, Order::Bequeath(6, 3));
        host.until(|| done.load(Ordering::Relaxed) == 3);
        host.answer(there.close()).unwrap();
        host.until(|| yonder.counts().undeliverable >= 4);
    }

    /// The shards go on, and nothing is open when they end.
    fn check(self, mut host: impl Host) {
        let (probe, sent) = Plan::default().add(&host.shard());
        probe.send(0, Do::Put(7)).ok().unwrap();
        host.until(|| sent.lock().len() == 1);
        self.end(host);
    }

    fn end(self, host: impl Host) {
        host.stop();
        for slab in &self.slabs {
            let (books, counts) = (slab.books(), slab.counts());
            assert!(books.balanced() && books.waiting == 0, "{books:?}");
            assert_eq!(counts.stopped, counts.cells);
        }
        let yard = self.yard;
        drop(self.slabs);
        let [made, gone] = [&yard.made, &yard.gone].map(|n| n.load(Ordering::Relaxed));
        assert_eq!(made, gone, "each is gone once");
        assert!(made >= 35, "{made}");
    }
}

on_each_host! {
    messages_that_blow_up_do_not_keep_a_slab_from_being_closed => closed;
    messages_that_blow_up_do_not_keep_a_slab_from_giving_up => given_up;
    messages_that_blow_up_do_not_keep_threads_that_die_from_their_end => dead;
}

fn closed(mut host: impl Host) {
    let field = Field::new(&mut host);
    host.answer(field.slabs[0].close()).unwrap();
    field.check(host);
}

fn given_up(mut host: impl Host) {
    let field = Field::new(&mut host);
    let slab = field.slabs[0].clone();
    let is_closed = || slab.counts().stopped == 4;
    let mut bombs = 0;
    // The fourth within a minute closes it: on a host that is very busy it takes more.
    while !is_closed() {
        bombs += 1;
        field.send(0, Order::Bomb);
        host.until(|| is_closed() || field.bombs.load(Ordering::Relaxed) == bombs);
        host.until(|| is_closed() || slab.counts().running == 3);
    }
    drop(slab);
    field.check(host);
}

fn dead(mut host: impl Host) {
    let field = Field::new(&mut host);
    for shard in host.shards() {
        shard.kill();
        host.until(|| shard.is_down());
    }
    field.end(host);
}

/// The last address of a mailbox with six grenades goes.
fn leave_six_behind() {
    let yard = Arc::<Yard>::default();
    let spec = MailboxSpec::new(8, Overflow::Block).kept();
    let addr = Addr::new(ActorPath::new("/nobody").unwrap(), spec);
    for _ in 0..3 {
        addr.try_send(Order::Take(Grenade::new(&yard)))
            .ok()
            .unwrap();
        let control = addr.try_send_control(Order::Take(Grenade::new(&yard)));
        control.ok().unwrap();
    }
    drop(addr);
    assert_eq!(yard.gone.load(Ordering::Relaxed), 6);
}

#[test]
fn messages_that_blow_up_end_with_the_last_address_of_a_mailbox() {
    let before = destructor_panics();
    leave_six_behind();
    assert!(destructor_panics() >= before + 6);
}

/// In a process of its own, where nobody else panics.
#[test]
fn messages_that_blow_up_where_nobody_handles_them_are_counted_and_not_printed() {
    const INNER: &str = "ACTORSIM_SIX_GRENADES";
    if std::env::var_os(INNER).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let _system = System::new(Clock::wall(), runtime.handle().clone());
        leave_six_behind();
        return println!("counted {}", destructor_panics());
    }
    let this = "messages_that_blow_up_where_nobody_handles_them_are_counted_and_not_printed";
    let mut inner = Command::new(std::env::current_exe().unwrap());
    inner.args(["--exact", this, "--nocapture"]).env(INNER, "1");
    let output = inner.output().unwrap();
    let [told, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{told}{errors}");
    assert!(told.contains("counted 6"), "{told}");
    assert!(!errors.contains("panicked"), "{errors}");
}
