//! What sockets of cells promise, on a parked thread, on a ring, on one that is made for the first
//! socket, and in virtual time.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "shard_kit/kit.rs"]
mod kit;
#[path = "net_kit/kit.rs"]
mod net_kit;

use std::net::SocketAddr;
use std::sync::Arc;

use actorsim_actors::shard::{
    Accept, DATAGRAM_MAX, NetConfig, SocketEnd, SocketsFull, WriteRefused,
};
use kit::Host;
use net_kit::{FLOOD, Manner, Rules, Seen, Stage, late, parked, ring, simulated};

/// Runs a test body on all hosts, with sockets of the sizes given.
macro_rules! on_all_hosts {
    ($($name:ident($config:expr) => $body:ident;)*) => {
        mod portable {
            use super::*;
            $(#[test] fn $name() {
                if let Some(host) = parked($config) { $body(host); }
            })*
        }
        mod uring {
            use super::*;
            $(#[test] fn $name() {
                if let Some(host) = ring($config) { $body(host); }
            })*
        }
        mod made_late {
            use super::*;
            $(#[test] fn $name() {
                if let Some(host) = late($config) { $body(host); }
            })*
        }
        mod sim {
            use super::*;
            $(#[test] fn $name() {
                if let Some(host) = simulated($config) { $body(host); }
            })*
        }
    };
}

const USUAL: fn() -> NetConfig = NetConfig::default;

fn few_buffers() -> NetConfig {
    NetConfig {
        buffers: 2,
        buffer_bytes: 1_536,
        ..NetConfig::default()
    }
}

fn small_table() -> NetConfig {
    NetConfig {
        sockets_max: 6,
        table: 4,
        satellites_max: 2,
        ..NetConfig::default()
    }
}

on_all_hosts! {
    what_is_said_is_echoed(USUAL()) => echo;
    where_nobody_listens_a_connect_is_refused(USUAL()) => refused;
    a_reset_is_told(USUAL()) => reset;
    a_side_that_has_finished_still_hears(USUAL()) => half_close;
    what_was_written_is_sent_before_a_close(USUAL()) => close_flushes;
    a_cell_that_stops_in_order_sends_what_it_wrote(USUAL()) => stop_flushes;
    a_slow_reader_fills_the_queue_and_gets_every_byte(USUAL()) => slow_reader;
    a_reader_that_pauses_again_hears_the_end_last(USUAL()) => pauses_again;
    a_lack_of_buffers_delays_and_loses_nothing(few_buffers()) => no_buffer;
    a_full_table_refuses_and_takes_the_next_when_there_is_room(small_table()) => table_full;
    accepted_connections_are_dealt_to_running_cells(USUAL()) => dealt;
    a_connection_that_no_cell_takes_is_reset(USUAL()) => unclaimed;
    a_killed_cell_is_heard_no_more_and_hears_no_more(USUAL()) => killed;
    a_cell_killed_while_it_connects_leaves_nothing(USUAL()) => killed_connecting;
    a_cell_killed_while_it_sends_leaves_nothing(USUAL()) => killed_sending;
    a_faulting_step_sends_nothing_and_resets(USUAL()) => fault;
    a_faulting_step_opens_and_closes_nothing(USUAL()) => fault_opens;
    a_restart_has_a_fresh_connection(USUAL()) => restart;
    datagrams_go_to_and_fro_with_their_senders(USUAL()) => datagrams;
    names_of_others_and_of_the_past_are_refused(USUAL()) => names;
    a_stopped_shard_leaves_no_socket(USUAL()) => stopped;
    an_address_in_use_or_not_ours_is_refused(USUAL()) => addresses;
}

fn echo(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Echoes, Accept::Here);
    stage.connect(1, at);
    stage.write(1, b"hello ");
    stage.write(1, b"world");
    stage.until_received(1, b"hello world");
    assert!(stage.heard(1, &Seen::Connected));
    let stats = stage.stats();
    assert_eq!((stats.asked, stats.accepted, stats.open), (2, 1, 3));
    stage.tell(1, |talker, cx| assert!(cx.net().close(talker.last())));
    stage.until_seen(0, |seen| *seen == Seen::Ended(SocketEnd::Done));
    stage.until_alive(1);
    let stats = stage.stop();
    assert_eq!((stats.bytes_in, stats.bytes_out), (22, 22));
    assert_eq!((stats.ends.done, stats.closed), (1, 3));
}

/// An address where nobody listens any more.
fn nobody<H: Host>(stage: &mut Stage<H>) -> SocketAddr {
    let at = stage.listen(Manner::Hears, Accept::Here);
    stage.slab.stop(0).unwrap();
    stage.until_alive(0);
    at
}

fn refused(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = nobody(&mut stage);
    stage.connect(1, at);
    stage.until_seen(1, |seen| *seen == Seen::Ended(SocketEnd::Refused));
    stage.until_alive(0);
    assert!(!stage.heard(1, &Seen::Connected));
    assert_eq!(stage.stop().ends.refused, 1);
}

fn reset(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Hears, Accept::Here);
    stage.connect(1, at);
    stage.until_seen(1, |seen| *seen == Seen::Connected);
    stage.until_seen(0, |seen| matches!(seen, Seen::Accepted(_)));
    stage.tell(0, |talker, cx| assert!(cx.net().reset(talker.last())));
    stage.until_seen(1, |seen| *seen == Seen::Ended(SocketEnd::Reset));
    stage.until_alive(1);
    assert_eq!(stage.stop().ends.reset, 1);
}

fn half_close(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Hears, Accept::Here);
    stage.connect(1, at);
    stage.write(1, b"question");
    stage.tell(1, |talker, cx| {
        let socket = talker.last();
        assert!(cx.net().finish(socket));
        assert_eq!(cx.net().write(socket, b"more"), Err(WriteRefused::Closed));
    });
    stage.until_received(0, b"question");
    stage.until_seen(0, |seen| *seen == Seen::PeerFinished);
    stage.write(0, b"answer");
    stage.until_received(1, b"answer");
    stage.tell(0, |talker, cx| assert!(cx.net().finish(talker.last())));
    stage.until_seen(0, |seen| *seen == Seen::Ended(SocketEnd::Done));
    stage.until_seen(1, |seen| *seen == Seen::Ended(SocketEnd::Done));
    stage.until_alive(1);
    stage.stop();
}

fn close_flushes(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Hears, Accept::Here);
    // All in one step: it is not connected yet, either.
    stage.tell(1, move |_, cx| {
        let socket = cx.net().connect(at).unwrap();
        cx.net().write(socket, b"a farewell").unwrap();
        assert!(cx.net().close(socket));
        assert!(!cx.net().close(socket));
    });
    stage.until_received(0, b"a farewell");
    stage.until_seen(0, |seen| *seen == Seen::PeerFinished);
    stage.tell(0, |talker, cx| cx.net().close(talker.last()));
    stage.until_alive(1);
    stage.stop();
}

fn stop_flushes(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Hears, Accept::Here);
    stage.connect(1, at);
    stage.write(1, b"the last words");
    stage.slab.stop(1).unwrap();
    stage.until_received(0, b"the last words");
    stage.until_seen(0, |seen| *seen == Seen::PeerFinished);
    stage.stop();
}

fn pauses_again(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Hears, Accept::Here);
    stage.connect(1, at);
    stage.until_seen(0, |seen| matches!(seen, Seen::Accepted(_)));
    stage.tell(0, |talker, cx| assert!(cx.net().pause(talker.last())));
    stage.write(1, b"all of it");
    stage.tell(1, |talker, cx| assert!(cx.net().finish(talker.last())));
    let mut looks = 0;
    stage.host.until(|| {
        looks += 1;
        looks > 100
    });
    stage.tell(0, |talker, cx| {
        let socket = talker.last();
        assert!(cx.net().resume(socket) && cx.net().pause(socket));
    });
    stage.tell(0, |talker, cx| assert!(cx.net().resume(talker.last())));
    stage.until_seen(0, |seen| *seen == Seen::PeerFinished);
    stage.until_received(0, b"all of it");
    let log = stage.shared.log.lock().clone();
    let last = log.iter().rev().find(|entry| entry.0 == 0);
    assert_eq!(last.map(|entry| &entry.3), Some(&Seen::PeerFinished));
    stage.stop();
}

fn slow_reader(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Counts, Accept::Here);
    stage.connect(1, at);
    stage.until_seen(0, |seen| matches!(seen, Seen::Accepted(_)));
    stage.tell(0, |talker, cx| assert!(cx.net().pause(talker.last())));
    stage.tell(1, |talker, cx| {
        let socket = talker.last();
        talker.pour(socket, cx);
        let room = cx.net().room(socket).unwrap();
        let more = vec![0; room + 1];
        assert_eq!(
            cx.net().write(socket, &more),
            Err(WriteRefused::Full { room })
        );
    });
    // It is told of room until the host's own buffers are full, too; then nothing moves.
    let (shard, mut sent, mut still) = (stage.host.shard(), 0, 0);
    stage.host.until(|| {
        let now = shard.stats().net.bytes_out;
        still = if now == sent { still + 1 } else { 0 };
        sent = now;
        still > 1_000 && now > 0
    });
    assert!(sent < FLOOD as u64, "{sent} bytes for nobody");
    stage.tell(0, |talker, cx| assert!(cx.net().resume(talker.last())));
    let shared = Arc::clone(&stage.shared);
    stage.host.until(|| shared.counted.lock().0 == FLOOD as u64);
    assert!(stage.stats().queue_full > 0);
    assert!(stage.heard(1, &Seen::Writable));
    stage.stop();
}

fn no_buffer(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Echoes, Accept::Here);
    let said: Vec<u8> = (0..20_000).map(net_kit::byte).collect();
    for ordinal in 1..16 {
        stage.connect(ordinal, at);
    }
    for ordinal in 1..16 {
        let said = said.clone();
        stage.tell(ordinal, move |talker, cx| {
            cx.net().write(talker.last(), &said).unwrap();
        });
    }
    for ordinal in 1..16 {
        stage.until_received(ordinal, &said);
    }
    let stats = stage.stop();
    assert!(stats.satellites == 0 || stats.no_buffer > 0, "{stats:?}");
}

fn table_full(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Echoes, Accept::Here);
    let asked = stage.tell(1, move |talker, cx| {
        let sockets: Vec<_> = (0..8).map(|_| cx.net().connect(at)).collect();
        talker.sockets = sockets.iter().flatten().copied().collect();
        sockets.iter().filter(|s| **s == Err(SocketsFull)).count()
    });
    assert!(asked >= 3, "{asked} refused");
    stage.tell(1, |talker, cx| {
        for socket in std::mem::take(&mut talker.sockets) {
            cx.net().reset(socket);
        }
    });
    stage.until_alive(1);
    stage.connect(2, at);
    stage.write(2, b"there is room");
    stage.until_received(2, b"there is room");
    let stats = stage.stop();
    assert!(stats.ends.table_full >= 3, "{stats:?}");
}

fn dealt(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    stage.slab.stop(11).unwrap();
    let slab = stage.slab.clone();
    stage.host.until(|| slab.counts().stopped == 1);
    let at = stage.listen(Manner::Hears, Accept::Cells(10..13));
    for ordinal in 1..5 {
        stage.connect(ordinal, at);
        stage.until_seen(ordinal, |seen| *seen == Seen::Connected);
    }
    stage.until_alive(9);
    let log = Arc::clone(&stage.shared.log);
    let took = |cells: std::ops::Range<u32>| {
        let log = log.lock();
        let accepted = log.iter().filter(|e| matches!(e.3, Seen::Accepted(_)));
        accepted.filter(|e| cells.contains(&e.0)).count()
    };
    stage.host.until(|| took(0..64) == 4);
    assert_eq!([took(10..11), took(12..13)], [2, 2]);
    stage.stop();
}

fn unclaimed(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    stage.slab.stop(11).unwrap();
    let slab = stage.slab.clone();
    stage.host.until(|| slab.counts().stopped == 1);
    let at = stage.listen(Manner::Hears, Accept::Cells(11..12));
    stage.connect(1, at);
    stage.until_seen(1, |seen| *seen == Seen::Ended(SocketEnd::Reset));
    stage.until_alive(1);
    assert_eq!(stage.stop().unclaimed, 1);
}

fn killed(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Echoes, Accept::Here);
    stage.connect(1, at);
    stage.write(1, b"x");
    stage.until_received(1, b"x");
    stage.slab.kill(1).unwrap();
    stage.until_seen(0, |seen| *seen == Seen::Ended(SocketEnd::Reset));
    stage.until_alive(1);
    let log = stage.shared.log.lock().clone();
    assert!(log.iter().all(|e| e.0 != 1 || e.1 == 1), "{log:?}");
    stage.stop();
}

fn killed_connecting(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Hears, Accept::Here);
    for round in 0..20 {
        // In the step itself, before the driver knows; then some time after it.
        let socket = stage.connect(1, at);
        let asked = stage.stats().asked;
        if round % 2 == 1 {
            let shard = stage.host.shard();
            stage.host.until(|| shard.stats().net.asked >= asked);
        }
        stage.slab.kill(1).unwrap();
        stage.until_alive(1);
        let log = stage.shared.log.lock();
        let late = log
            .iter()
            .any(|e| e.0 == 1 && e.2 != socket && e.1 > round + 1);
        assert!(!late, "{log:?}");
    }
    stage.stop();
}

fn killed_sending(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Hears, Accept::Here);
    stage.connect(1, at);
    stage.until_seen(0, |seen| matches!(seen, Seen::Accepted(_)));
    stage.tell(0, |talker, cx| assert!(cx.net().pause(talker.last())));
    stage.tell(1, |talker, cx| {
        let socket = talker.last();
        talker.pour(socket, cx);
    });
    let shard = stage.host.shard();
    stage.host.until(|| shard.stats().net.bytes_out > 0);
    stage.slab.kill(1).unwrap();
    stage.tell(0, |talker, cx| cx.net().resume(talker.last()));
    stage.until_seen(0, |seen| matches!(seen, Seen::Ended(SocketEnd::Reset)));
    stage.until_alive(1);
    let stats = stage.stop();
    assert!(stats.bytes_dropped > 0, "{stats:?}");
}

fn fault(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Hears, Accept::Cells(2..3));
    stage.tell(2, |talker, _| talker.manner = Manner::Faults);
    stage.connect(1, at);
    stage.write(1, b"fault, please");
    stage.until_seen(1, |seen| matches!(seen, Seen::Ended(SocketEnd::Reset)));
    assert_eq!(stage.received(1), b"");
    stage.until_alive(1);
    let slab = stage.slab.clone();
    stage.host.until(|| slab.counts().restarts == 1);
    assert_eq!(stage.stop().cut, 1);
}

fn fault_opens(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Echoes, Accept::Here);
    stage.connect(1, at);
    stage.write(1, b"x");
    stage.until_received(1, b"x");
    stage.tell_and_fault(1, move |talker, cx| {
        let mut net = cx.net();
        net.write(talker.last(), b"never sent").unwrap();
        assert!(net.close(talker.last()));
        let fresh = net.connect(at).unwrap();
        net.write(fresh, b"nor this").unwrap();
        assert!(net.close(fresh));
        net.connect(at).unwrap();
    });
    // Its connection is reset all the same: its cell has ended.
    stage.until_seen(0, |seen| *seen == Seen::Ended(SocketEnd::Reset));
    stage.until_alive(1);
    assert_eq!(stage.received(0), b"x");
    let stats = stage.stop();
    assert_eq!((stats.cut, stats.accepted), (4, 1), "{stats:?}");
}

fn restart(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Echoes, Accept::Here);
    stage.shared.rules.lock().dials = Some(at);
    for round in 1..=5 {
        stage.tell_and_fault(1, |_, _| {});
        stage.write(1, b"again");
        let log = Arc::clone(&stage.shared.log);
        stage.host.until(|| {
            let log = log.lock();
            let echoes = log.iter().filter(|e| e.0 == 1 && e.1 == round + 1);
            let bytes = echoes.map(|e| match &e.3 {
                Seen::Bytes(bytes) => bytes.len(),
                _ => 0,
            });
            bytes.sum::<usize>() == 5
        });
        stage.until_alive(3);
    }
    stage.stop();
}

fn datagrams(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    for ordinal in [0, 1] {
        stage.tell(ordinal, move |talker, cx| {
            talker.sockets.push(cx.net().datagrams(any).unwrap());
        });
    }
    let (echoes, asks) = (stage.bound(0), stage.bound(1));
    stage.tell(0, |talker, _| talker.manner = Manner::Echoes);
    stage.tell(1, move |talker, cx| {
        let socket = talker.last();
        let long = [0; DATAGRAM_MAX + 1];
        let refused = cx.net().write_to(socket, echoes, &long);
        assert_eq!(refused, Err(WriteRefused::TooLong));
        cx.net().write_to(socket, echoes, b"one").unwrap();
        cx.net().write_to(socket, echoes, b"").unwrap();
        cx.net().write_to(socket, echoes, &long[1..]).unwrap();
    });
    stage.until_seen(1, |seen| *seen == Seen::Datagram(echoes, b"one".to_vec()));
    stage.until_seen(1, |seen| *seen == Seen::Datagram(echoes, Vec::new()));
    stage.until_seen(1, |seen| {
        *seen == Seen::Datagram(echoes, vec![0; DATAGRAM_MAX])
    });
    assert!(stage.heard(0, &Seen::Datagram(asks, b"one".to_vec())));
    // One that knows its peer hears nobody else.
    stage.tell(2, move |talker, cx| {
        talker
            .sockets
            .push(cx.net().datagrams_with(any, echoes).unwrap());
    });
    let knows = stage.bound(2);
    stage.tell(1, move |talker, cx| {
        cx.net()
            .write_to(talker.last(), knows, b"stranger")
            .unwrap();
    });
    stage.write(2, b"two");
    stage.until_seen(2, |seen| *seen == Seen::Datagram(echoes, b"two".to_vec()));
    assert!(!stage.heard(2, &Seen::Datagram(asks, b"stranger".to_vec())));
    stage.tell(2, |talker, cx| assert!(cx.net().close(talker.last())));
    stage.until_alive(2);
    stage.stop();
}

fn names(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Echoes, Accept::Here);
    let socket = stage.connect(1, at);
    stage.tell(2, move |_, cx| {
        assert_eq!(cx.net().write(socket, b"x"), Err(WriteRefused::Closed));
        assert!(!cx.net().close(socket) && !cx.net().pause(socket));
        assert_eq!(cx.net().room(socket), None);
    });
    stage.tell(1, move |_, cx| {
        assert_eq!(cx.net().write(socket, b""), Ok(()));
        assert!(cx.net().reset(socket));
        assert_eq!(cx.net().write(socket, b"x"), Err(WriteRefused::Closed));
    });
    stage.until_alive(1);
    let next = stage.connect(1, at);
    assert_ne!(next, socket);
    stage.tell(1, move |_, cx| {
        assert_eq!(cx.net().write(socket, b"x"), Err(WriteRefused::Closed));
        cx.net().write(next, b"y").unwrap();
    });
    stage.until_received(1, b"y");
    stage.stop();
}

fn stopped(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Echoes, Accept::Here);
    for ordinal in 1..40 {
        stage.connect(ordinal, at);
        stage.write(ordinal, b"in flight");
    }
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    stage.tell(50, move |_, cx| cx.net().datagrams(any).unwrap());
    stage.stop();
}

fn addresses(host: impl Host) {
    let mut stage = Stage::new(host, Rules::default());
    let at = stage.listen(Manner::Echoes, Accept::Here);
    stage.tell(1, move |_, cx| cx.net().listen(at, Accept::Here).unwrap());
    stage.until_seen(1, |seen| *seen == Seen::Ended(SocketEnd::BadAddress));
    // From an address of one's own, with a port of the host's choice.
    stage.tell(2, move |talker, cx| {
        let local = SocketAddr::from(([127, 0, 0, 77], 0));
        talker
            .sockets
            .push(cx.net().connect_from(local, at).unwrap());
    });
    stage.write(2, b"from 77");
    stage.until_received(2, b"from 77");
    let from = stage.until_seen(0, |seen| matches!(seen, Seen::Accepted(_)));
    let Seen::Accepted(from) = from else {
        unreachable!()
    };
    assert_eq!(from.ip(), SocketAddr::from(([127, 0, 0, 77], 0)).ip());
    stage.until_alive(3);
    assert_eq!(stage.stop().ends.bad_address, 1);
}

/// What 60 cells on so many shards have heard, in the order of their numbers.
fn heard_on(shards: usize) -> String {
    let mut host = kit::Virtual::new(shards);
    let shared = net_kit::shared(Rules::default());
    let slabs: Vec<_> = (0..).zip(host.shards.shards().to_vec()).collect();
    let slabs: Vec<_> = slabs
        .iter()
        .map(|(index, shard)| {
            let ordinals = (0..60).filter(|n| n % shards as u32 == *index);
            shard.add_slab(net_kit::spec(&shared, ordinals.map(|n| n..n + 1).collect()))
        })
        .map(Result::unwrap)
        .collect();
    let of = |ordinal: u32| &slabs[ordinal as usize % shards];
    let port = |ordinal: u32| SocketAddr::from(([10, 0, 0, ordinal as u8], 1_883));
    for ordinal in 0..60 {
        let order = move |talker: &mut net_kit::Talker, cx: &mut net_kit::Context<'_>| {
            talker.manner = Manner::Echoes;
            cx.net().listen(port(ordinal), Accept::Here).unwrap();
            for peer in [(ordinal * 7 + 3) % 60, (ordinal * 11 + 5) % 61] {
                let socket = cx.net().connect(port(peer)).unwrap();
                let words = [ordinal as u8; 100].repeat(1 + peer as usize % 8 * 80);
                cx.net().write(socket, &words).unwrap();
                cx.net().finish(socket);
            }
        };
        of(ordinal).send(ordinal, net_kit::order(order)).unwrap();
    }
    host.shards.run_until(actorsim_actors::Time(200_000));
    of(9).kill(9).unwrap();
    host.until(|| is_quiet(&shared));
    host.stop();
    let mut log = shared.log.lock().clone();
    log.sort_by_key(|entry| entry.0);
    let text = log
        .iter()
        .map(|(ordinal, life, _, seen)| format!("{ordinal} {life} {seen:?}\n"));
    text.collect()
}

/// Nobody has heard anything new for a while.
fn is_quiet(shared: &net_kit::Shared) -> bool {
    let mut quiet = shared.quiet.lock();
    let heard = shared.log.lock().len();
    let same = quiet.0 == heard;
    *quiet = (heard, if same { quiet.1 + 1 } else { 0 });
    quiet.1 > 50
}

#[test]
fn simulated_sockets_hear_the_same_on_any_number_of_shards() {
    let one = heard_on(1);
    assert!(one.contains("Ended(Reset)") && one.contains("Ended(Refused)"));
    assert!(one.contains("Ended(Done)"));
    for shards in [2, 3, 7] {
        assert!(heard_on(shards) == one, "{shards} shards differ from one");
    }
}

/// A listener whose queue is full: who calls it waits.
fn busy() -> (std::os::fd::OwnedFd, SocketAddr, Vec<std::net::TcpStream>) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let file = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&file, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&file, 0).unwrap();
    let at = SocketAddr::try_from(getsockname(&file).unwrap()).unwrap();
    let patience = std::time::Duration::from_millis(100);
    let call = || std::net::TcpStream::connect_timeout(&at, patience);
    let callers = std::iter::from_fn(|| call().ok()).collect();
    (file, at, callers)
}

#[test]
fn a_connect_that_nobody_answers_is_cancelled_with_its_cell_and_with_its_shard() {
    fn pends(host: impl Host, at: SocketAddr) {
        let mut stage = Stage::new(host, Rules::default());
        for _ in 0..3 {
            stage.connect(1, at);
            let shard = stage.host.shard();
            stage.host.until(|| shard.stats().net.opening == 1);
            stage.slab.kill(1).unwrap();
            stage.until_alive(0);
        }
        stage.connect(1, at);
        let stats = stage.stop();
        assert_eq!((stats.connected, stats.closed), (0, 4));
        assert!(stats.satellites == 0 || stats.cancelled >= 4, "{stats:?}");
    }
    let (_listener, at, _callers) = busy();
    parked(USUAL()).into_iter().for_each(|host| pends(host, at));
    ring(USUAL()).into_iter().for_each(|host| pends(host, at));
}
