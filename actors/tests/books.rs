//! Both book-keeping equations under concurrent senders, for each overflow rule on the task host.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actorsim_actors::{
    ActorPath, Addr, Clock, Conflation, Fault, Flow, MailboxSpec, Message, Overflow, System,
    TaskActor, TaskContext,
};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Work {
    Item { sender: usize, number: u64 },
    Fault,
}

impl Message for Work {
    fn conflation_key(&self) -> Option<u64> {
        match self {
            Self::Item { sender, .. } => Some(*sender as u64),
            Self::Fault => None,
        }
    }
}

struct Sink {
    seen: Arc<Vec<AtomicU64>>,
}

impl TaskActor for Sink {
    type Msg = Work;

    async fn handle(&mut self, work: Work, _: &mut TaskContext<Work>) -> Result<Flow, Fault> {
        match work {
            Work::Item { sender, number } => {
                let before = self.seen[sender].fetch_max(number, Ordering::SeqCst);
                assert!(
                    before < number,
                    "order per sender: {before} before {number}"
                );
                if number % 7 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            Work::Fault => return Err(Fault::new("on_request")),
        }
        Ok(Flow::Continue)
    }
}

#[derive(Debug, Clone)]
struct Case {
    overflow: Overflow,
    kept: bool,
    conflation: Conflation,
    capacity: u32,
    senders: usize,
    messages: u64,
    faults: u32,
}

fn cases() -> impl Strategy<Value = Case> {
    let overflow = prop_oneof![
        Just(Overflow::Block),
        Just(Overflow::Reject),
        Just(Overflow::DropOldest),
        Just(Overflow::DropNewest),
    ];
    (
        overflow,
        any::<bool>(),
        prop_oneof![Just(Conflation::Off), Just(Conflation::Newest)],
        1u32..20,
        1usize..5,
        1u64..300,
        0u32..4,
    )
        .prop_map(
            |(overflow, kept, conflation, capacity, senders, messages, faults)| Case {
                overflow,
                kept,
                conflation,
                capacity,
                senders,
                messages,
                faults,
            },
        )
}

async fn send_all(addr: Addr<Work>, sender: usize, messages: u64, wait: bool) -> (u64, u64) {
    let (mut accepted, mut refused) = (0, 0);
    for number in 1..=messages {
        let item = Work::Item { sender, number };
        let sent = if wait && number % 3 == 0 {
            addr.send(item, Duration::from_millis(200)).await
        } else {
            addr.try_send(item)
        };
        match sent {
            Ok(()) => accepted += 1,
            Err(_) => refused += 1,
        }
        if number % 11 == 0 {
            tokio::task::yield_now().await;
        }
    }
    (accepted, refused)
}

/// Restarts the sink after each fault, as a supervisor would.
fn keep_alive(system: System, addr: Addr<Work>, seen: Arc<Vec<AtomicU64>>) {
    let again = system.clone();
    system.detached(async move {
        let (next, sink) = (
            again.clone(),
            Sink {
                seen: Arc::clone(&seen),
            },
        );
        let life = addr.next_incarnation();
        let address = addr.clone();
        let started = again
            .start_task(
                &address,
                life,
                sink,
                Box::new(move |exit| {
                    if !exit.reason.is_normal() {
                        keep_alive(next, addr, seen);
                    }
                }),
            )
            .await;
        started.expect("starts");
    });
}

async fn run(case: &Case) {
    let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
    let spec = MailboxSpec::new(case.capacity, case.overflow).conflating(case.conflation);
    let spec = if case.kept { spec.kept() } else { spec };
    let addr = Addr::new(ActorPath::root().join("sink"), spec);
    let seen: Arc<Vec<AtomicU64>> =
        Arc::new((0..case.senders).map(|_| AtomicU64::new(0)).collect());
    keep_alive(system.clone(), addr.clone(), seen);
    let senders: Vec<_> = (0..case.senders)
        .map(|s| tokio::spawn(send_all(addr.clone(), s, case.messages, true)))
        .collect();
    let mut offered_faults = 0;
    for _ in 0..case.faults {
        tokio::task::yield_now().await;
        offered_faults += 1;
        drop(addr.try_send_control(Work::Fault));
    }
    let (mut accepted, mut refused) = (0, 0);
    for sender in senders {
        let (a, r) = sender.await.expect("sender lives");
        accepted += a;
        refused += r;
    }
    let rests = async {
        while addr.depth() > 0 || !addr.is_up() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let rested = tokio::time::timeout(Duration::from_secs(300), rests).await;
    rested.expect("it comes to rest");
    let books = addr.books();
    assert!(books.balanced(), "{books:?}");
    assert_eq!(books.waiting, 0, "{books:?}");
    assert_eq!(
        books.offered,
        accepted + refused + offered_faults,
        "{books:?}"
    );
    assert!(
        books.rejected >= refused && books.accepted >= accepted,
        "{books:?}"
    );
    assert!(
        addr.highest_depth() <= case.capacity + case.faults,
        "{books:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn books_balance_under_concurrent_senders(case in cases()) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(run(&case));
    }
}
