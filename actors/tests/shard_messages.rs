//! Messages from cell to cell, on two parked threads, on two rings and in virtual time: order,
//! books, waits, bounces, questions, and nothing sent by a step that failed.
//!
//! Rings that the kernel refuses are skipped, with the reason printed.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "shard_kit/kit.rs"]
mod kit;
#[macro_use]
#[path = "message_kit/kit.rs"]
mod office;

use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::Duration;

use actorsim_actors::shard::{CellAddr, Refusal, SimShards, SlabHandle};
use actorsim_actors::{AskError, Books, Clock, MailboxSpec, Overflow, SendError, Time};
use futures_util::FutureExt as _;
use kit::roaming::Roaming;
use kit::{Host, Virtual};
use office::{Burst, Clerk, End, Letter, Live, Office, WALKERS, reject};

macro_rules! on_real_threads {
    ($($name:ident => $body:ident;)*) => {
        $(#[test] fn $name() {
            std::iter::once(Live::portable()).chain(Live::rings()).for_each($body);
        })*
    };
}

on_each_host! {
    messages_of_each_pair_keep_their_order => order;
    all_cells_that_wait_for_room_on_one_link_get_some => room;
    books_balance_under_cells_that_send_across_shards => books;
    a_step_that_fails_has_sent_nothing => cut;
    refused_messages_come_back_to_their_sender => bounces;
    a_batch_says_how_many_were_accepted => batches;
    a_stopped_slab_refuses_and_nothing_is_unbooked => stopped;
    questions_are_answered_or_canceled => questions;
    tasks_wait_for_room_and_keep_their_order => tasks;
    a_cell_that_takes_nothing_holds_up_only_what_is_for_it => stuck;
}

on_real_threads! {
    a_cell_that_waits_for_room_holds_up_nobody_and_is_told_when_none_comes => patience;
    who_waits_for_a_stuck_cell_is_told_in_time_and_others_wait_for_nothing => stuck_patience;
    a_stuck_cell_refuses_threads_and_tasks_what_is_for_it_alone => stuck_threads;
    a_cell_that_has_waited_sends_to_itself_however_much_waits_for_it => own_rest;
    a_wait_ends_with_its_life_and_its_message_does_not_go_out => ended_wait;
    a_rally_without_end_starves_nobody => rally;
    a_task_for_which_no_room_comes_gets_its_message_back => no_room;
}

const WAIT: Option<Duration> = Some(Duration::from_secs(3_600));

fn burst(to: u32, count: u64) -> Burst {
    let end = End::Well;
    Burst {
        to,
        count,
        patience: None,
        end,
    }
}

fn total(office: &Office) -> Books {
    office.slabs.iter().map(SlabHandle::books).sum()
}

fn sent(office: &Office) -> u64 {
    office.slabs.iter().map(|slab| slab.counts().sent).sum()
}

fn order(mut host: impl Host) {
    let office = Office::pair(&host, MailboxSpec::new(8, Overflow::Block), 16);
    // From 0 and 1 to a cell of their own slab and to one of the other.
    for from in [0, 1] {
        for to in [2, 5] {
            let patience = WAIT;
            let burst = burst(to, 500);
            office.send(from, Letter::Burst(Burst { patience, ..burst }));
        }
    }
    host.until(|| office.notes.lock().len() == 2_000);
    for from in [0, 1] {
        let mut all: Vec<_> = [2, 5].map(|to| office.of(to, from)).concat();
        assert!([2, 5].iter().all(|to| office.of(*to, from).is_sorted()));
        all.sort_unstable();
        assert_eq!(all, (0..1_000).collect::<Vec<_>>(), "none lost, none twice");
    }
    host.until(|| total(&office).waiting == 0);
    assert!(total(&office).balanced());
    assert!(office.bounces.lock().is_empty());
    host.stop();
}

fn room(mut host: impl Host) {
    // Room for one or two at a time, and four cells that wait for it.
    for places in [1, 2, 3] {
        let office = Office::pair(&host, MailboxSpec::new(1, Overflow::Block), places);
        for from in 0..4 {
            let patience = WAIT;
            let burst = burst(4 + from, 100);
            office.send(from, Letter::Burst(Burst { patience, ..burst }));
        }
        host.until(|| office.notes.lock().len() == 400);
        for from in 0..4 {
            assert_eq!(office.of(4 + from, from), (0..100).collect::<Vec<_>>());
        }
        for slab in &office.slabs {
            host.answer(slab.close()).unwrap();
        }
    }
    host.stop();
}

fn books(mut host: impl Host) {
    const ALL: [Overflow; 4] = [
        Overflow::Block,
        Overflow::Reject,
        Overflow::DropOldest,
        Overflow::DropNewest,
    ];
    for overflow in ALL {
        let office = Office::pair(&host, MailboxSpec::new(3, overflow), 64);
        let mut external = 0;
        for round in 0..20 {
            for from in 0..8 {
                let end = match (round + from) % 9 {
                    3 => End::Fault,
                    5 => End::Panic,
                    _ => End::Well,
                };
                let burst = burst((from * 3 + round) % 8, 40);
                let slab = &office.slabs[from as usize / 4];
                let letter = Letter::Burst(Burst { end, ..burst });
                external += u64::from(slab.send(from, letter).is_ok());
            }
        }
        host.until(|| {
            let books: Vec<_> = office.slabs.iter().map(SlabHandle::books).collect();
            assert!(books.iter().all(Books::balanced), "{overflow:?} {books:?}");
            let offered = total(&office).offered;
            let queued: u64 = office.slabs.iter().map(|s| s.counts().queued).sum();
            queued == 0 && offered == external + sent(&office) && total(&office).waiting == 0
        });
        let counts: Vec<_> = office.slabs.iter().map(SlabHandle::counts).collect();
        let refused: u64 = counts.iter().map(|c| c.bounced + c.undeliverable).sum();
        assert_eq!(refused, total(&office).rejected);
        assert!(counts.iter().map(|c| c.send_cut).sum::<u64>() > 0);
        assert!(counts.iter().all(|c| c.held == 0), "{counts:?}");
        for slab in &office.slabs {
            host.answer(slab.close()).unwrap();
        }
    }
    host.stop();
}

fn cut(mut host: impl Host) {
    let office = Office::pair(&host, reject(64), 64);
    host.until(|| office.all_running());
    for (end, to) in [
        (End::Fault, 2),
        (End::Panic, 2),
        (End::Fault, 6),
        (End::Panic, 6),
    ] {
        let burst = burst(to, 5);
        let before = office.slabs[0].counts().restarts;
        office.send(1, Letter::Burst(Burst { end, ..burst }));
        host.until(|| office.slabs[0].counts().restarts == before + 1);
    }
    office.send(1, Letter::Burst(burst(2, 1)));
    office.send(1, Letter::Burst(burst(6, 1)));
    host.until(|| office.notes.lock().len() == 2);
    // The identity is that of the last good step, so the first number is still free.
    assert_eq!((office.of(2, 1), office.of(6, 1)), (vec![0], vec![1]));
    let counts = office.slabs[0].counts();
    assert_eq!((counts.send_cut, counts.sent), (20, 2));
    host.stop();
}

fn bounces(mut host: impl Host) {
    let office = Office::pair(&host, reject(2), 64);
    host.until(|| office.all_running());
    office.slabs[0].stop(3).unwrap();
    office.slabs[1].stop(7).unwrap();
    host.until(|| office.slabs.iter().all(|slab| slab.counts().stopped == 1));
    // To the own slab: down; to the other: down, then full.
    office.send(0, Letter::Burst(burst(3, 2)));
    host.until(|| office.bounces.lock().len() == 2);
    office.send(0, Letter::Burst(burst(7, 2)));
    host.until(|| office.bounces.lock().len() == 4);
    // In one step, so that 5 is not the only one who waits.
    let slab = office.slabs[0].clone();
    let both = office.slabs[0].with_out(move |_| {
        slab.send(0, Letter::Burst(burst(5, 40))).unwrap();
        slab.send(1, Letter::Burst(burst(6, 1))).unwrap();
    });
    host.answer(both).unwrap();
    host.until(|| office.bounces.lock().len() + office.of(5, 0).len() == 44);
    let told = office.bounces.lock().clone();
    assert_eq!(told[..2], [(0, 3, Refusal::Down); 2]);
    assert_eq!(told[2..4], [(0, 7, Refusal::Down); 2]);
    assert!(told[4..].iter().all(|b| *b == (0, 5, Refusal::Full)));
    assert!(
        told.len() > 4,
        "what is left after a turn does not fit in two places"
    );
    host.until(|| office.slabs[0].counts().bounces_told == told.len() as u64);
    assert!(total(&office).balanced());
    host.stop();
}

fn batches(mut host: impl Host) {
    let office = Office::pair(&host, reject(64), 8);
    let note = |n| (5, Letter::Note { from: 99, n });
    let mut batch: VecDeque<_> = (0..5).map(note).collect();
    batch.insert(3, (1_000, Letter::Forget));
    assert_eq!(office.slabs[1].send_batch(&mut batch), 3);
    assert_eq!(batch.pop_front().unwrap().0, 1_000, "the stranger stays");
    assert_eq!(office.slabs[1].send_batch(&mut batch), 2);
    host.until(|| office.of(5, 99).len() == 5);
    assert_eq!(office.slabs[1].counts().unknown, 1);

    // A pair of 8 places takes 8 of 20; in virtual time it has room for all.
    let asked = |reply| Letter::Batch(6, 20, reply);
    let accepted = {
        let (reply, answer) = actorsim_actors::Reply::channel();
        office.send(0, asked(reply));
        host.answer(answer).unwrap()
    };
    let roomy = host.system().clock().is_virtual();
    assert_eq!(accepted, if roomy { 20 } else { 8 });
    host.until(|| office.of(6, 0).len() == accepted);
    assert_eq!(office.of(6, 0), (0..accepted as u64).collect::<Vec<_>>());
    host.stop();
}

fn stopped(mut host: impl Host) {
    let office = Office::pair(&host, reject(64), 64);
    host.until(|| office.all_running());
    office.send(0, Letter::Burst(burst(5, 1)));
    host.until(|| office.of(5, 0).len() == 1);
    host.answer(office.slabs[1].close()).unwrap();
    // The link finds out when it sends; from then on its cells are told at once.
    office.send(0, Letter::Burst(burst(5, 3)));
    host.until(|| office.bounces.lock().len() == 3);
    assert_eq!(office.bounces.lock()[0], (0, 5, Refusal::Closed));
    office.send(0, Letter::Burst(burst(5, 3)));
    host.until(|| office.slabs[0].counts().send_refused == 1);
    let counts = office.slabs[0].counts();
    assert_eq!((counts.sent, counts.send_lost), (4, 3));
    assert_eq!(total(&office).offered + counts.send_lost, 3 + counts.sent);
    assert!(total(&office).balanced());
    host.stop();
}

fn questions(mut host: impl Host) {
    let office = Office::pair(&host, reject(64), 64);
    let slab = office.slabs[0].clone();
    let system = host.system().clone();
    let _in_runtime = system.handle().enter();
    let long = Duration::from_secs(3_600);
    assert_eq!(host.answer(slab.ask(1, Letter::Ask, long)), Ok(0));
    let unknown = host.answer(slab.ask(77, Letter::Ask, long));
    assert_eq!(unknown, Err(AskError::Closed));
    slab.stop(2).unwrap();
    host.until(|| slab.counts().stopped == 1);
    let down = host.answer(slab.ask(2, Letter::Ask, long));
    assert_eq!(down, Err(AskError::Canceled));

    // A question that is dropped is seen as dropped; one that the cell forgets is canceled.
    let mut kept = Box::pin(slab.ask(3, Letter::Keep, long));
    assert!((&mut kept).now_or_never().is_none());
    host.until(|| slab.books().handled == 2);
    let is_dropped = || slab.ask(3, Letter::IsDropped, long);
    assert_eq!(host.answer(is_dropped()), Ok(false));
    drop(kept);
    assert_eq!(host.answer(is_dropped()), Ok(true));
    let mut kept = Box::pin(slab.ask(3, Letter::Keep, long));
    assert!((&mut kept).now_or_never().is_none());
    slab.send(3, Letter::Forget).unwrap();
    assert_eq!(host.answer(kept), Err(AskError::Canceled));
    if !system.clock().is_virtual() {
        let short = Duration::from_millis(5);
        let late = host.answer(slab.ask(3, Letter::Keep, short));
        assert_eq!(late, Err(AskError::Timeout));
    }
    host.answer(slab.close()).unwrap();
    let closed = host.answer(slab.ask(1, Letter::Ask, long));
    assert_eq!(closed, Err(AskError::Closed));
    host.stop();
}

fn tasks(mut host: impl Host) {
    let office = Office::pair(&host, MailboxSpec::new(2, Overflow::Block), 64);
    let system = host.system().clone();
    let _in_runtime = system.handle().enter();
    let long = Duration::from_secs(3_600);
    let narrow = office.slabs[0].lane_of(2);
    let (one, two) = (narrow.addr(1), narrow.addr(2));
    let sender = |addr: CellAddr<Clerk>, from| async move {
        for n in 0..50 {
            addr.send(Letter::Note { from, n }, long).await.unwrap();
        }
        addr.ask(Letter::Ask, long).await
    };
    let both = async { tokio::join!(sender(one.clone(), 98), sender(two.clone(), 99)) };
    assert_eq!(host.answer(both), (Ok(0), Ok(0)));
    host.until(|| office.notes.lock().len() == 100);
    assert_eq!(office.of(1, 98), (0..50).collect::<Vec<_>>());
    assert_eq!(office.of(2, 99), (0..50).collect::<Vec<_>>());
    assert_eq!(
        office.slabs[0].counts().queue_full,
        0,
        "who waits is not refused"
    );
    let stranger = host.answer(narrow.addr(77).ask(Letter::Ask, long));
    assert_eq!(stranger, Err(AskError::Closed));
    host.answer(narrow.close()).unwrap();
    let late = host.answer(one.send(Letter::Forget, long));
    assert!(matches!(late, Err(SendError::Closed(Letter::Forget))));
    host.stop();
}

fn no_room(mut host: Live) {
    let office = Office::pair(&host, reject(64), 64);
    host.until(|| office.all_running());
    let addr = office.slabs[0].lane_of(2).addr(1);
    let release = hold_up(&office.slabs[0], &mut host);
    let short = Duration::from_millis(5);
    for _ in 0..2 {
        host.answer(addr.send(Letter::Forget, short)).unwrap();
    }
    let refused = host.answer(addr.send(Letter::Forget, short));
    assert!(matches!(refused, Err(SendError::Timeout(Letter::Forget))));
    let unasked = host.answer(addr.ask(Letter::Ask, short));
    assert_eq!(unasked, Err(AskError::Timeout));
    // One that waits goes on when there is room, and when the slab is closed.
    let mut waits = Box::pin(addr.send(Letter::Forget, Duration::from_secs(3_600)));
    assert!(host.answer(async { (&mut waits).now_or_never() }).is_none());
    drop(release);
    host.answer(waits).unwrap();
    let release = hold_up(&office.slabs[0], &mut host);
    while addr.try_send(Letter::Forget).is_ok() {}
    let mut waits = Box::pin(addr.send(Letter::Forget, Duration::from_secs(3_600)));
    assert!(host.answer(async { (&mut waits).now_or_never() }).is_none());
    let closed = office.slabs[0].close();
    drop(release);
    let (closed, waited) = host.answer(async { tokio::join!(closed, waits) });
    assert!(closed.is_ok() && !matches!(waited, Err(SendError::Timeout(_))));
    host.stop();
}

/// An office where 5 is away: its mailbox holds one message, and blocks.
fn with_one_sick(host: &mut impl Host) -> Office {
    let office = Office::pair(host, MailboxSpec::new(1, Overflow::Block).kept(), 64);
    host.until(|| office.all_running());
    let (end, none) = (End::Sick, burst(5, 0));
    office.send(5, Letter::Burst(Burst { end, ..none }));
    host.until(|| office.slabs[1].counts().restarting == 1);
    office
}

fn stuck(mut host: impl Host) {
    let office = with_one_sick(&mut host);
    let counts = || [0, 1].map(|slab: usize| office.slabs[slab].counts());
    // From the other slab, more than fits into the pair, and from its own, as much as fits.
    let (patience, flood) = (WAIT, burst(5, 1_000));
    office.send(0, Letter::Burst(Burst { patience, ..flood }));
    office.send(4, Letter::Burst(burst(5, 80_000)));
    let roomy = host.system().clock().is_virtual();
    host.until(|| roomy || counts()[0].send_waits == 1);
    host.until(|| counts()[1].held >= 65_536);
    let others = [(1, 6), (2, 7), (6, 7)];
    for (from, to) in others {
        let burst = burst(to, 500);
        office.send(from, Letter::Burst(Burst { patience, ..burst }));
    }
    for (from, to) in others {
        host.until(|| office.of(to, from).len() == 500);
        assert!(office.of(to, from).is_sorted());
    }
    assert!(roomy || counts()[1].queued == 0, "{:?}", counts());
    office.slabs[1].restart(5).unwrap();
    host.until(|| office.of(5, 0).len() == 1_000);
    // Less what 6 has sent in its own slab.
    host.until(|| office.of(5, 4).len() as u64 >= counts()[1].sent - 1_000);
    for from in [0, 4] {
        assert!(office.of(5, from).is_sorted(), "in the order of sending");
    }
    host.until(|| total(&office).waiting == 0 && counts()[1].held == 0);
    assert!(total(&office).balanced() && office.bounces.lock().is_empty());
    host.stop();
}

fn stuck_patience(mut host: Live) {
    let office = with_one_sick(&mut host);
    // One more than the pair has places.
    let patience = Some(Duration::from_millis(30));
    let flood = burst(5, 65);
    office.send(0, Letter::Burst(Burst { patience, ..flood }));
    host.until(|| !office.bounces.lock().is_empty());
    assert_eq!(*office.bounces.lock(), [(0, 5, Refusal::Timeout)]);
    // Killed where it waits: its message is no more, and its next life goes on.
    let patience = WAIT;
    let (one, many) = (burst(5, 1), burst(6, 100));
    office.send(1, Letter::Burst(Burst { patience, ..one }));
    host.until(|| office.slabs[0].counts().send_waits == 2);
    office.slabs[0].kill(1).unwrap();
    host.until(|| office.slabs[0].counts().restarts == 1);
    office.send(1, Letter::Burst(Burst { patience, ..many }));
    host.until(|| office.of(6, 1).len() == 100);
    host.answer(office.slabs[1].close()).unwrap();
    host.stop();
}

fn stuck_threads(mut host: Live) {
    let office = with_one_sick(&mut host);
    let slab = office.slabs[1].lane_of(64);
    let note = |n| Letter::Note { from: 99, n };
    let mut sent = 0;
    host.until(|| {
        let empty = slab.counts().queued == 0;
        let refused = slab.send(5, note(sent)).is_err();
        sent += u64::from(!refused);
        empty && refused && slab.send(6, note(0)).is_ok()
    });
    assert!(slab.counts().held > 0);
    let mut batch: VecDeque<_> = [(6, note(1)), (5, note(sent)), (6, note(2))].into();
    assert_eq!((slab.send_batch(&mut batch), batch.len()), (1, 2));
    assert_eq!(slab.counts().unknown, 0);
    let short = Duration::from_millis(5);
    let refused = host.answer(slab.send_or_wait(5, note(sent), short));
    assert!(matches!(
        refused,
        Err(SendError::Timeout(Letter::Note { .. }))
    ));
    // Who waits is told when it is back.
    let long = Duration::from_secs(3_600);
    let mut waits = Box::pin(slab.send_or_wait(5, note(sent), long));
    assert!(host.answer(async { (&mut waits).now_or_never() }).is_none());
    slab.restart(5).unwrap();
    host.answer(waits).unwrap();
    host.until(|| office.of(5, 99).len() as u64 == sent + 1);
    assert!(office.of(5, 99).is_sorted());
    host.stop();
}

/// Holds a shard up until what is returned is dropped.
fn hold_up(slab: &SlabHandle<Clerk>, host: &mut Live) -> mpsc::SyncSender<()> {
    let (release, held) = mpsc::sync_channel::<()>(1);
    let (begun, begins) = mpsc::sync_channel(1);
    let wait = slab.with_out(move |_| {
        begun.send(()).unwrap();
        let _ = held.recv();
    });
    let _ = wait.now_or_never();
    host.until(|| begins.try_recv().is_ok());
    release
}

fn patience(mut host: Live) {
    let office = Office::pair(&host, reject(64), 2);
    host.until(|| office.all_running());
    let release = hold_up(&office.slabs[1], &mut host);
    let patience = Some(Duration::from_millis(30));
    let flood = burst(5, 3);
    office.send(0, Letter::Burst(Burst { patience, ..flood }));
    host.until(|| office.slabs[0].counts().send_waits == 1);
    // Its neighbours go on; it takes no message itself until the wait has ended.
    office.send(0, Letter::Note { from: 99, n: 1 });
    office.send(1, Letter::Note { from: 99, n: 2 });
    host.until(|| office.of(1, 99) == [2]);
    host.until(|| office.bounces.lock().len() == 1);
    assert_eq!(office.bounces.lock()[0], (0, 5, Refusal::Timeout));
    host.until(|| office.of(0, 99) == [1]);
    let counts = office.slabs[0].counts();
    assert_eq!((counts.sent - 1, counts.send_timeouts), (2, 1));
    drop(release);
    host.until(|| office.of(5, 0) == [0, 1]);
    host.stop();
}

fn own_rest(mut host: Live) {
    let office = Office::pair(&host, MailboxSpec::new(2, Overflow::Block), 2);
    host.until(|| office.all_running());
    let release = [0, 1].map(|slab| hold_up(&office.slabs[slab], &mut host));
    // The first fills the pair, waits, and leaves word to itself where no room is either.
    let patience = WAIT;
    for to in [5, 6] {
        let burst = burst(to, 10);
        office.send(0, Letter::Burst(Burst { patience, ..burst }));
    }
    for n in 0..3 {
        office.send(0, Letter::Note { from: 99, n });
    }
    let [first, second] = release;
    drop(first);
    host.until(|| office.slabs[0].counts().send_waits == 1);
    host.until(|| office.slabs[0].counts().held > 1);
    drop(second);
    for to in [5, 6] {
        host.until(|| office.of(to, 0).len() == 10);
        assert!(office.of(to, 0).is_sorted(), "{to}");
    }
    host.until(|| office.of(0, 99) == [0, 1, 2]);
    let counts = office.slabs[0].counts();
    assert_eq!((counts.send_refused, counts.restarts), (0, 0));
    host.stop();
}

fn ended_wait(mut host: Live) {
    let office = Office::pair(&host, reject(64), 2);
    host.until(|| office.all_running());
    let release = hold_up(&office.slabs[1], &mut host);
    let patience = WAIT;
    let flood = burst(5, 3);
    office.send(0, Letter::Burst(Burst { patience, ..flood }));
    office.send(1, Letter::Burst(Burst { patience, ..flood }));
    host.until(|| office.slabs[0].counts().send_waits == 2);
    office.slabs[0].kill(0).unwrap();
    host.until(|| office.slabs[0].counts().restarts == 1);
    drop(release);
    host.until(|| office.of(5, 1).len() == 3);
    office.send(0, Letter::Note { from: 99, n: 1 });
    host.until(|| office.of(0, 99) == [1]);
    assert_eq!(office.of(5, 0), [0, 1], "the third died with its sender");
    assert_eq!(office.slabs[0].counts().send_cut, 1);
    assert!(total(&office).balanced());
    host.stop();
}

#[test]
fn ordinals_are_found_however_they_are_dealt() {
    for ranges in [
        vec![0..3, 100..110, 600..610],
        vec![300..301, 512..1_024, 1_500..1_600],
        vec![0..256, 1_024..1_280, 2_048..2_304],
    ] {
        let mut host = Virtual::new(1);
        let office = Office::open(&host.shards(), vec![ranges.clone()], reject(64), 64);
        let all: Vec<u32> = ranges.into_iter().flatten().collect();
        for ordinal in &all {
            office.send(*ordinal, Letter::Burst(burst(*ordinal, 1)));
        }
        host.until(|| office.notes.lock().len() == all.len());
        assert!(
            all.iter()
                .all(|ordinal| office.of(*ordinal, *ordinal) == [0])
        );
        host.stop();
    }
}

fn rally(mut host: Live) {
    let office = Office::pair(&host, reject(64), 64);
    office.send(0, Letter::Rally(1));
    host.until(|| office.slabs[0].books().handled > 10_000);
    for n in 0..100 {
        office.send(2, Letter::Note { from: 99, n });
        host.until(|| office.of(2, 99).len() as u64 == n + 1);
    }
    host.stop();
}

/// Random walks over all cells, with faults; what each cell wrote, in order.
fn walk(shards: usize, seed: u64, mailbox: MailboxSpec) -> Vec<Vec<(u32, u64)>> {
    let mut sim = SimShards::new(Clock::virtual_from(0), shards);
    let groups = |shard| {
        (0..WALKERS.div_ceil(256))
            .filter(move |group| *group as usize % shards == shard)
            .map(|group| group * 256..(group * 256 + 256).min(WALKERS))
            .collect()
    };
    let ordinals = (0..shards).map(groups).collect();
    let office = Office::open(sim.shards(), ordinals, mailbox, 64);
    for window in 1..=5 {
        for walker in 0..400u32 {
            let state = seed.wrapping_mul(u64::from(walker + 1) * window);
            office.send(walker * 5 % WALKERS, Letter::Walk { hops: 40, state });
        }
        sim.run_until(Time(window * 1_000_000));
    }
    assert!(total(&office).balanced());
    assert_eq!(total(&office).offered, sent(&office) + 5 * 400);
    sim.stop();
    let mut cells = vec![Vec::new(); WALKERS as usize];
    for (ordinal, hops, state) in office.notes.lock().iter() {
        cells[*ordinal as usize].push((*hops, *state));
    }
    cells
}

#[test]
fn the_same_seed_gives_the_same_walks_on_one_and_three_shards() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::Reject] {
        let mailbox = MailboxSpec::new(3, overflow);
        let one = walk(1, 7, mailbox);
        assert!(one.iter().map(Vec::len).sum::<usize>() > 10_000);
        assert_eq!(one, walk(1, 7, mailbox));
        assert_eq!(one, walk(3, 7, mailbox));
        assert_eq!(one, walk(4, 7, mailbox));
        assert_ne!(one, walk(1, 8, mailbox), "the seed must matter");
    }
}
