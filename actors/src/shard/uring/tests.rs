//! The ring by itself: each way to ring it, and what the kernel keeps back.
//!
//! Skipped, with the reason printed, where the kernel refuses a ring.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::setup::{drivers, make};
use super::*;
use crate::shard::uring::roster::Seat;

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(300);

/// A wait that nothing ends before its time.
const QUIET: Duration = Duration::from_millis(30);

fn kernel() -> Option<Kernel> {
    match open(1, &RingConfig::default()) {
        Ok((_, kernel)) => Some(kernel),
        Err(refused) => {
            println!("skipped: {refused}");
            None
        }
    }
}

/// A ring attached to this thread.
fn ring(kernel: Kernel, config: &RingConfig) -> Uring {
    let rings = vec![make(config).unwrap()];
    let mut ring = setup::seat(rings, kernel).unwrap().pop().unwrap();
    ring.attach().unwrap();
    ring
}

/// Waits until a wait takes its whole time.
fn settle(ring: &mut Uring) {
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < PATIENCE, "it never sleeps");
        let before = Instant::now();
        ring.wait(Some(QUIET)).unwrap();
        if before.elapsed() >= QUIET {
            return;
        }
    }
}

/// Rings from another thread until the ring has been woken `times` times by it.
fn rung_from_outside(ring: &mut Uring, times: usize) {
    let bell = ring.bell();
    let (awake, woken) = mpsc::sync_channel(1);
    let ringer = thread::spawn(move || {
        for n in 0..times {
            thread::park_timeout(Duration::from_micros(200));
            bell.ring();
            assert_eq!(
                woken.recv_timeout(PATIENCE),
                Ok(n),
                "the ring was not heard"
            );
        }
    });
    for n in 0..times {
        let begin = Instant::now();
        ring.wait(None).unwrap();
        assert!(begin.elapsed() < PATIENCE);
        awake.send(n).unwrap();
    }
    ringer.join().unwrap();
    settle(ring);
}

#[test]
fn a_wait_ends_at_its_time_and_costs_one_call() {
    let Some(kernel) = kernel() else { return };
    let mut ring = ring(kernel, &RingConfig::default());
    settle(&mut ring);
    let before = ring.counts().enters;
    ring.wait(Some(QUIET)).unwrap();
    assert_eq!(ring.counts().enters, before + 1);
    assert_eq!((ring.done.strays, ring.counts().retries), (0, 0));
}

#[test]
fn a_thread_without_a_ring_is_heard_each_time_by_message() {
    let Some(kernel) = kernel() else { return };
    if !kernel.sends {
        println!("skipped: this kernel has no SEND_MSG_RING");
        return;
    }
    let mut ring = ring(kernel, &RingConfig::default());
    rung_from_outside(&mut ring, 200);
    assert_eq!(ring.roster.events_written(), 0);
}

#[test]
fn a_thread_without_a_ring_is_heard_each_time_by_eventfd() {
    let Some(kernel) = kernel() else { return };
    let kernel = Kernel {
        sends: false,
        ..kernel
    };
    let mut ring = ring(kernel, &RingConfig::default());
    rung_from_outside(&mut ring, 200);
    assert_eq!(ring.roster.events_written(), 200);
    assert!(ring.done.watched, "one watch serves all");
}

#[test]
fn a_ring_with_a_polling_kernel_thread_is_heard_each_time() {
    let Some(kernel) = kernel() else { return };
    let idle = Duration::from_millis(1);
    let sqpoll = Some(SqPoll { idle, core: None });
    let config = RingConfig {
        sqpoll,
        ..RingConfig::default()
    };
    let mut by_message = ring(kernel, &config);
    rung_from_outside(&mut by_message, 100);
    drop(by_message);
    let kernel = Kernel {
        sends: false,
        ..kernel
    };
    rung_from_outside(&mut ring(kernel, &config), 100);
}

#[test]
fn completions_above_the_queue_are_all_taken_and_the_ring_sleeps_again() {
    const RINGS: u32 = 1_000;
    let Some(kernel) = kernel() else { return };
    let config = RingConfig {
        entries: 4,
        completions: 8,
        sqpoll: None,
    };
    for sends in [kernel.sends, false] {
        let mut ring = ring(Kernel { sends, ..kernel }, &config);
        let bell = ring.bell();
        thread::spawn(move || (0..RINGS).for_each(|_| bell.ring()))
            .join()
            .unwrap();
        settle(&mut ring);
        rung_from_outside(&mut ring, 20);
    }
}

#[test]
fn a_message_that_fails_becomes_an_event() {
    let Some(kernel) = kernel() else { return };
    // The second seat's ring is none: the message of the first shard fails there.
    let real = make(&RingConfig::default()).unwrap();
    let other = make(&RingConfig::default()).unwrap();
    let seats = vec![Seat::default(), Seat::default()];
    let event = || roster::event().unwrap();
    let fill = |seat: &Seat, ring| {
        let filled = seat.fill(Descriptors {
            ring,
            event: event(),
        });
        filled.unwrap();
    };
    fill(&seats[0], dup(&real));
    fill(&seats[1], event());
    let roster = Roster::new(seats, kernel.sends);
    let mut pair = drivers(vec![real, other], &roster, kernel).into_iter();
    let (mut first, mut second) = (pair.next().unwrap(), pair.next().unwrap());
    let bell = second.bell();
    let (ready, go) = mpsc::sync_channel(1);
    let sleeper = thread::spawn(move || {
        second.attach().unwrap();
        ready.send(()).unwrap();
        second.wait(None).unwrap();
    });
    go.recv_timeout(PATIENCE).unwrap();
    first.attach().unwrap();
    bell.ring();
    assert_eq!(roster.events_written(), 0, "left to the ring");
    let begin = Instant::now();
    while roster.events_written() == 0 {
        assert!(begin.elapsed() < PATIENCE);
        first.wait(Some(QUIET)).unwrap();
    }
    sleeper.join().unwrap();
    assert_eq!((first.counts().doorbells, first.counts().retries), (1, 1));
}

#[test]
fn doorbells_noted_by_a_thread_that_ends_are_rung() {
    if kernel().is_none() {
        return;
    }
    let (mut pair, _) = open(2, &RingConfig::default()).unwrap();
    let (mut second, mut first) = (pair.pop().unwrap(), pair.pop().unwrap());
    let bell = second.bell();
    second.attach().unwrap();
    thread::spawn(move || {
        first.attach().unwrap();
        bell.ring();
        // No hand-over: the driver goes as after a panic.
    })
    .join()
    .unwrap();
    second.wait(None).unwrap();
    settle(&mut second);
}

fn dup(ring: &IoUring) -> std::os::fd::OwnedFd {
    ring.as_fd().try_clone_to_owned().unwrap()
}
