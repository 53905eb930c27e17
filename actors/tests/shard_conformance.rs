//! What every shard host promises, run on a parked thread, on one that gets a ring, on a ring and
//! in virtual time; and again on two shards while the slabs move between them all the time.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "shard_kit/kit.rs"]
mod kit;

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::census::CensusFilter;
use actorsim_actors::shard::{AddSlabError, CellState, ShardConfig, SlabError};
use actorsim_actors::{
    ActorPath, CellDecision, Clock, ExitReason, MailboxSpec, Overflow, Reply, SendError, Verb,
};
use futures_util::FutureExt as _;
use kit::roaming::Roaming;
use kit::{Do, Host, LAST, Plan, Rules, Threads, Virtual};

/// Runs a test body on all hosts; a ring that the kernel refuses is skipped with the reason.
macro_rules! on_all_hosts {
    ($($name:ident => $body:ident;)*) => {
        mod portable {
            use super::*;
            $(#[test] fn $name() { $body(Threads::new(Clock::wall())); })*
        }
        mod uring {
            use super::*;
            $(#[test] fn $name() {
                if let Some(ring) = Threads::ring() {
                    $body(ring);
                }
            })*
        }
        mod late {
            use super::*;
            $(#[test] fn $name() { $body(Threads::late(1, ShardConfig::default())); })*
        }
        mod sim {
            use super::*;
            $(#[test] fn $name() { $body(Virtual::new(1)); })*
        }
        mod roaming_portable {
            use super::*;
            $(#[test] fn $name() { $body(Roaming::new(Threads::parked(2))); })*
        }
        mod roaming_uring {
            use super::*;
            $(#[test] fn $name() {
                if let Some(rings) = Threads::rings(2, ShardConfig::default()) {
                    $body(Roaming::new(rings));
                }
            })*
        }
        mod roaming_sim {
            use super::*;
            $(#[test] fn $name() { $body(Roaming::new(Virtual::new(2))); })*
        }
    };
}

on_all_hosts! {
    messages_of_one_sender_keep_their_order => order;
    a_fault_leaves_neighbours_and_identity_and_cuts_its_output => fault;
    a_panic_is_a_fault => panic;
    a_destructor_that_panics_does_not_end_the_shard => drop_panics;
    a_failed_start_is_asked_again_not_looped => failed_start;
    kept_mailboxes_keep_all_but_the_killing_message => kept;
    dropped_mailboxes_book_what_dies => dropped;
    books_balance_under_concurrent_senders_for_each_rule => concurrent;
    a_kill_is_decided_a_stop_is_final_until_restarted => kill_and_stop;
    a_cell_that_ends_by_itself_has_its_last_step => ends;
    a_quarantined_cell_refuses_and_can_be_restarted => quarantine;
    escalation_restarts_the_group_as_one => escalate;
    stopped_cells_have_their_last_step_and_output_is_flushed => ordered_stop;
    a_closed_slab_refuses_and_its_books_balance => close;
    lanes_are_apart_and_strangers_are_refused => lanes;
    bad_slabs_are_refused => bad_slabs;
    cells_are_listed_found_and_killed_by_path => census;
    output_is_reachable_on_the_shard => with_out;
    restarts_wait_for_their_time => backoff;
}

fn values(sent: &kit::Sent, ordinal: u32) -> Vec<u64> {
    sent.lock()
        .iter()
        .filter(|s| s.0 == ordinal)
        .map(|s| s.3)
        .collect()
}

fn order(mut host: impl Host) {
    let (slab, sent) = Plan::default().add(&host.shard());
    for n in 0..50 {
        slab.send(1, Do::Put(n)).unwrap();
    }
    host.until(|| slab.books().handled == 50);
    assert_eq!(values(&sent, 1), (0..50).collect::<Vec<_>>());
    let books = slab.books();
    assert!(books.balanced() && books.waiting == 0, "{books:?}");
    assert_eq!((slab.counts().running, slab.counts().cells), (4, 4));
    host.stop();
}

fn fails(mut host: impl Host, fatal: fn(u64) -> Do, panics: u64) {
    let (slab, sent) = Plan::default().add(&host.shard());
    host.until(|| slab.counts().running == 4);
    for n in 0..3 {
        slab.send(1, Do::Put(n)).unwrap();
        slab.send(2, Do::Put(n)).unwrap();
    }
    slab.send(1, fatal(77)).unwrap();
    host.until(|| slab.counts().restarts == 1 && slab.counts().running == 4);
    slab.send(1, Do::Put(5)).unwrap();
    slab.send(2, Do::Put(5)).unwrap();
    host.until(|| slab.books().handled == 8);
    // The identity counts on from where the last good step left it; 77 was never sent.
    let log = sent.lock().clone();
    let of = |o| {
        log.iter()
            .filter(move |s| s.0 == o)
            .map(|s| (s.1, s.2, s.3))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of(1),
        [(1, 1_001, 0), (1, 1_002, 1), (1, 1_003, 2), (2, 1_004, 5)]
    );
    assert_eq!(
        of(2),
        [(1, 2_001, 0), (1, 2_002, 1), (1, 2_003, 2), (1, 2_004, 5)]
    );
    let counts = slab.counts();
    assert_eq!((counts.faults, counts.panics), (1, panics));
    assert_eq!(slab.books().died, 1);
    assert!(slab.books().balanced());
    assert_eq!(host.answer(slab.info(1)).unwrap().incarnation.0, 2);
    let events = host.system().events().last(10);
    let path = ActorPath::new("/fleet/test/probe-0001").unwrap();
    assert!(
        events.iter().any(|e| e.path.as_ref() == Some(&path)),
        "{events:?}"
    );
    host.stop();
}

fn fault(host: impl Host) {
    fails(host, Do::PutAndFault, 0);
}

fn panic(host: impl Host) {
    fails(host, Do::PutAndPanic, 1);
}

fn drop_panics(mut host: impl Host) {
    let rules = Rules {
        drop_panics: Some(3),
        ..Rules::default()
    };
    let (slab, _) = Plan {
        rules,
        ..Plan::default()
    }
    .add(&host.shard());
    host.until(|| slab.counts().running == 4);
    slab.send(3, Do::PutAndFault(1)).unwrap();
    host.until(|| slab.counts().restarts == 1);
    slab.send(3, Do::Put(2)).unwrap();
    host.until(|| slab.books().handled == 1);
    host.stop();
}

fn failed_start(mut host: impl Host) {
    let rules = Rules {
        start_faults_below: Some((2, 6)),
        ..Rules::default()
    };
    let (slab, sent) = Plan {
        rules,
        ..Plan::default()
    }
    .add(&host.shard());
    slab.send(2, Do::Put(1)).unwrap();
    host.until(|| slab.counts().running == 4);
    assert_eq!(slab.counts().faults, 5);
    assert_eq!(host.answer(slab.info(2)).unwrap().incarnation.0, 6);
    assert_eq!(host.answer(slab.info(1)).unwrap().incarnation.0, 1);
    assert!(
        values(&sent, 2).iter().all(|v| *v != 999),
        "output of failed starts is cut"
    );
    assert!(slab.books().balanced());
    host.stop();
}

fn kept(mut host: impl Host) {
    let mailbox = MailboxSpec::new(64, Overflow::Reject).kept();
    let (slab, sent) = Plan {
        mailbox,
        ..Plan::default()
    }
    .add(&host.shard());
    for n in 0..30 {
        slab.send(
            0,
            if n == 10 {
                Do::PutAndPanic(n)
            } else {
                Do::Put(n)
            },
        )
        .unwrap();
    }
    host.until(|| slab.books().handled == 29);
    assert_eq!(
        values(&sent, 0),
        (0..30).filter(|n| *n != 10).collect::<Vec<_>>()
    );
    let books = slab.books();
    assert_eq!((books.died, books.rejected), (1, 0));
    assert!(books.balanced());
    host.stop();
}

fn dropped(mut host: impl Host) {
    let (slab, sent) = Plan::default().add(&host.shard());
    // One drain: after a turn's worth the rest waits in the mailbox, as somebody else waits, too.
    host.answer(slab.with_out({
        let slab = slab.clone();
        move |_| {
            for n in 0..21 {
                let order = match n {
                    16 => Do::PutAndFault(n),
                    _ => Do::Put(n),
                };
                slab.send(0, order).unwrap();
            }
            slab.send(1, Do::Put(0)).unwrap();
        }
    }))
    .unwrap();
    host.until(|| slab.books().offered == 22);
    host.until(|| slab.counts().running == 4 && slab.counts().restarts == 1);
    assert_eq!(values(&sent, 0), (0..16).collect::<Vec<_>>());
    let books = slab.books();
    assert_eq!((books.died, books.handled), (5, 17));
    assert!(books.balanced());
    host.stop();
}

fn concurrent(mut host: impl Host) {
    const SENDERS: u64 = 4;
    const EACH: u64 = 2_000;
    for overflow in [
        Overflow::Block,
        Overflow::Reject,
        Overflow::DropOldest,
        Overflow::DropNewest,
    ] {
        for kept in [false, true] {
            let mailbox = MailboxSpec::new(3, overflow);
            let mailbox = if kept { mailbox.kept() } else { mailbox };
            let (slab, _) = Plan {
                mailbox,
                ..Plan::default()
            }
            .add(&host.shard());
            let senders: Vec<_> = (0..SENDERS)
                .map(|sender| {
                    let slab = slab.lane();
                    std::thread::spawn(move || {
                        let mut taken = 0u64;
                        for n in 0..EACH {
                            let order = match n % 50 {
                                7 => Do::PutAndFault(n),
                                9 if sender == 0 => Do::PutAndPanic(n),
                                11 => Do::End,
                                _ => Do::Put(n),
                            };
                            taken += u64::from(slab.send((n % 4) as u32, order).is_ok());
                        }
                        taken
                    })
                })
                .collect();
            host.until(|| senders.iter().all(std::thread::JoinHandle::is_finished));
            let taken: u64 = senders.into_iter().map(|s| s.join().unwrap()).sum();
            assert_eq!(taken + slab.counts().queue_full, SENDERS * EACH);
            host.until(|| {
                let books = slab.books();
                assert!(books.balanced(), "{overflow:?} {books:?}");
                books.offered == taken && books.waiting == 0
            });
            let (books, counts) = (slab.books(), slab.counts());
            assert_eq!(counts.bounced + counts.undeliverable, books.rejected);
            assert_eq!(counts.queued, 0);
            host.answer(slab.close()).unwrap();
        }
    }
    host.stop();
}

fn kill_and_stop(mut host: impl Host) {
    let (slab, sent) = Plan::default().add(&host.shard());
    host.until(|| slab.counts().running == 4);
    slab.kill(1).unwrap();
    host.until(|| slab.counts().restarts == 1);
    assert_eq!((slab.counts().kills, slab.counts().faults), (1, 0));
    assert_eq!(values(&sent, 1), [], "no last step on a kill");
    let info = host.answer(slab.info(1)).unwrap();
    assert_eq!(info.last_exit.as_deref(), Some("killed"));

    slab.stop(2).unwrap();
    host.until(|| slab.counts().stopped == 1);
    assert_eq!(values(&sent, 2), [LAST]);
    slab.send(2, Do::Put(1)).unwrap();
    host.until(|| slab.books().rejected == 1);
    assert_eq!(slab.counts().undeliverable, 1);
    assert!(slab.books().balanced());

    slab.restart(2).unwrap();
    host.until(|| slab.counts().running == 4);
    let info = host.answer(slab.info(2)).unwrap();
    assert_eq!((info.state, info.incarnation.0), (CellState::Running, 2));
    assert_eq!(slab.kill(99), Err(SlabError::Unknown(99)));
    host.stop();
}

fn ends(mut host: impl Host) {
    let decide = Box::new(|_, _, reason: &ExitReason, _| {
        assert_eq!(*reason, ExitReason::Normal);
        CellDecision::Stop
    });
    let (slab, sent) = Plan {
        decide,
        ..Plan::default()
    }
    .add(&host.shard());
    slab.send(0, Do::End).unwrap();
    host.until(|| slab.counts().stopped == 1);
    assert_eq!(values(&sent, 0), [LAST]);
    assert_eq!(slab.books().handled, 1);
    host.stop();
}

fn quarantine(mut host: impl Host) {
    let decide = Box::new(|_, _, _: &ExitReason, _| CellDecision::Quarantine);
    let mailbox = MailboxSpec::new(64, Overflow::Reject).kept();
    let (slab, _) = Plan {
        decide,
        mailbox,
        ..Plan::default()
    }
    .add(&host.shard());
    slab.send(0, Do::PutAndFault(1)).unwrap();
    host.until(|| slab.counts().quarantined == 1);
    slab.send(0, Do::Put(1)).unwrap();
    host.until(|| slab.books().rejected == 1);
    slab.restart(0).unwrap();
    host.until(|| slab.counts().running == 4);
    assert_eq!(slab.counts().quarantined, 0);
    host.stop();
}

fn escalate(mut host: impl Host) {
    let decide = Box::new(|_, _, _: &ExitReason, _| CellDecision::Escalate);
    let ordinals = vec![0..256, 256..300];
    let (slab, _) = Plan {
        decide,
        ordinals,
        ..Plan::default()
    }
    .add(&host.shard());
    host.until(|| slab.counts().running == 300);
    slab.send(7, Do::PutAndFault(1)).unwrap();
    host.until(|| slab.counts().group_restarts == 1);
    host.until(|| slab.counts().running == 300);
    assert_eq!(slab.counts().restarts, 256);
    assert_eq!(host.answer(slab.info(255)).unwrap().incarnation.0, 2);
    assert_eq!(host.answer(slab.info(256)).unwrap().incarnation.0, 1);
    assert!(
        host.system()
            .events()
            .last(99)
            .iter()
            .any(|e| e.name == "group_restarted")
    );
    host.stop();
}

fn ordered_stop(mut host: impl Host) {
    let (slab, sent) = Plan::default().add(&host.shard());
    host.until(|| slab.counts().running == 4);
    slab.kill(3).unwrap();
    host.until(|| slab.counts().restarts == 1);
    host.stop();
    let last: Vec<_> = sent.lock().iter().map(|s| (s.0, s.3)).collect();
    assert_eq!(last, [(0, LAST), (1, LAST), (2, LAST), (3, LAST)]);
    assert!(matches!(
        slab.send(0, Do::Put(1)),
        Err(SendError::Closed(Do::Put(1)))
    ));
    assert_eq!(slab.counts().stopped, 4);
    assert!(slab.books().balanced());
}

fn close(mut host: impl Host) {
    let (slab, _) = Plan::default().add(&host.shard());
    for n in 0..10 {
        slab.send(0, Do::Put(n)).unwrap();
    }
    host.answer(slab.close()).unwrap();
    assert!(matches!(
        slab.send(0, Do::Put(1)),
        Err(SendError::Closed(_))
    ));
    assert_eq!(host.answer(slab.info(0)), Err(SlabError::Closed));
    host.until(|| slab.counts().stopped == 4);
    let books = slab.books();
    assert!(
        books.balanced() && books.offered == 10 && books.waiting == 0,
        "{books:?}"
    );
    let census = host.system().census();
    assert_eq!(census.books(), books, "its counters stay in the sum");
    assert!(census.sources().is_empty(), "and nobody is asked about it");
    host.stop();
}

fn lanes(mut host: impl Host) {
    let (slab, _) = Plan::default().add(&host.shard());
    let mut other = slab.lane();
    for _ in 0..200 {
        other = slab.lane(); // queues nobody sends to make room
    }
    // The shard is held up, so that the first lane fills while the other stays free.
    let filled = host.answer(slab.with_out({
        let slab = slab.clone();
        move |_| {
            (0..100_000u64)
                .take_while(|n| slab.send(0, Do::Put(*n)).is_ok())
                .count()
        }
    }));
    assert!(filled.unwrap() >= 65_000);
    other.send(1, Do::Put(1)).unwrap();
    assert!(matches!(
        slab.send(4, Do::Put(1)),
        Err(SendError::Closed(Do::Put(1)))
    ));
    host.until(|| slab.counts().queued == 0 && slab.books().waiting == 0);
    assert_eq!(slab.counts().unknown, 1);
    assert_eq!(slab.counts().queue_full, 1);
    assert!(slab.books().balanced());
    host.stop();
}

fn bad_slabs(host: impl Host) {
    let shard = host.shard();
    let spec = |ordinals| actorsim_actors::shard::SlabSpec::<kit::Probe> {
        path: ActorPath::new("/fleet/bad").unwrap(),
        name: Arc::new(|o| o.to_string()),
        ordinals,
        shared: Rules::default(),
        out: kit::Log {
            pending: Vec::new(),
            sent: kit::Sent::default(),
        },
        identity: Box::new(|_| 0),
        mailbox: MailboxSpec::new(1, Overflow::Reject),
        supervisor: Box::new(kit::Script(kit::forgiving())),
    };
    assert_eq!(
        shard.add_slab(spec(vec![])).unwrap_err(),
        AddSlabError::Empty
    );
    assert_eq!(
        shard.add_slab(spec(vec![0..9, 8..12])).unwrap_err(),
        AddSlabError::Overlap(8)
    );
    host.stop();
    assert_eq!(
        shard.add_slab(spec(vec![0..9; 1])).unwrap_err(),
        AddSlabError::Stopped
    );
}

fn census(mut host: impl Host) {
    let ordinals = vec![600..610, 0..3];
    let (slab, _) = Plan {
        ordinals,
        ..Plan::default()
    }
    .add(&host.shard());
    host.until(|| slab.counts().running == 13);
    slab.stop(601).unwrap();
    host.until(|| slab.counts().stopped == 1);
    let system = host.system().clone();
    let all = CensusFilter::default();
    let page = host.answer(system.census().rows(&all, None, 5));
    let names: Vec<_> = page.rows.iter().map(|r| r.path.name().to_owned()).collect();
    assert_eq!(
        names,
        [
            "probe-0000",
            "probe-0001",
            "probe-0002",
            "probe-0600",
            "probe-0601"
        ]
    );
    assert!(page.more);
    assert_eq!(page.rows[3].attributes["group"], "2");
    assert_eq!(
        (page.rows[4].state, page.rows[3].state),
        ("stopped", "running")
    );
    let after = page.rows[4].path.clone();
    let page = host.answer(system.census().rows(&all, Some(&after), 50));
    assert_eq!((page.rows.len(), page.more), (8, false));

    let stopped = CensusFilter {
        state: Some("stopped".into()),
        ..CensusFilter::default()
    };
    let page = host.answer(system.census().rows(&stopped, None, 50));
    assert_eq!(page.rows.len(), 1);
    let path = ActorPath::new("/fleet/test/probe-0602").unwrap();
    assert!(host.answer(system.census().act(&path, Verb::Kill)));
    host.until(|| slab.counts().restarts == 1);
    let row = host.answer(system.census().row(&path)).unwrap();
    assert_eq!((row.restarts, row.host), (1, "shard"));
    slab.send(602, Do::Put(1)).unwrap();
    host.until(|| slab.books().handled == 1);
    let row = host.answer(system.census().row(&path)).unwrap();
    assert_eq!(row.books.handled, 1);
    let stranger = ActorPath::new("/fleet/test/probe-0700").unwrap();
    assert!(!host.answer(system.census().act(&stranger, Verb::Kill)));
    assert_eq!(system.census().live()["shard"], 12);
    host.stop();
}

fn with_out(mut host: impl Host) {
    let (slab, sent) = Plan::default().add(&host.shard());
    let mark = host.answer(slab.with_out(|out| {
        out.pending.push((9, 9, 9, 9));
        out.pending.len()
    }));
    assert_eq!(mark, Ok(1));
    host.until(|| sent.lock().len() == 1);
    let (reply, count) = Reply::channel();
    slab.send(0, Do::Count(reply)).unwrap();
    assert_eq!(host.answer(count), Ok(1));
    host.stop();
}

fn backoff(mut host: impl Host) {
    const PAUSE: Duration = Duration::from_millis(40);
    let decide = Box::new(|_, _, _: &ExitReason, now| CellDecision::Restart { at: now + PAUSE });
    let (slab, _) = Plan {
        decide,
        ..Plan::default()
    }
    .add(&host.shard());
    host.until(|| slab.counts().running == 4);
    let clock = host.system().clock().clone();
    let before = clock.monotonic();
    slab.kill(0).unwrap();
    host.until(|| slab.counts().restarting == 1 || slab.counts().restarts == 1);
    host.until(|| slab.counts().restarts == 1);
    assert!(clock.monotonic().since(before) >= PAUSE);
    host.stop();
}

#[test]
fn a_slab_that_stands_still_gives_no_sign_however_often_it_is_asked_and_its_queue_stays_free() {
    let mut host = Threads::new(Clock::wall());
    let (slab, _) = Plan::default().add(&host.shard());
    let source = host.system().census().sources().remove(0);
    host.answer(source.answers());
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (go, gate) = std::sync::mpsc::sync_channel::<()>(1);
    let held = slab.clone();
    host.system().detached(async move {
        let step = held.with_out(move |_| {
            begun.send(()).unwrap();
            gate.recv().unwrap();
        });
        step.await.unwrap();
    });
    host.answer(begins).unwrap();
    for _ in 0..2_000 {
        assert!(source.answers().now_or_never().is_none());
    }
    slab.kill(0).unwrap();
    go.send(()).unwrap();
    host.answer(source.answers());
    host.answer(slab.close()).unwrap();
    host.answer(source.answers());
    host.stop();
}
