//! The queue's edge and the doorbell in every interleaving that loom can make.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p actorsim-actors --lib model`.
//! The shard runs the loop of `driver::run`, with and without a look before it sleeps; a lost
//! wake-up shows as a deadlock. So does one of a shard that goes from its park to its ring (`late`)
//! in between. Bound: two senders, [`PREEMPTIONS`] preemptions.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};

use loom::sync::{Condvar, Mutex, atomic::AtomicBool};
use loom::thread;

use super::{Bell, Door, Doorbell, Queue, Refused};
use crate::fifo::Fifo;

/// Enough for every bug known of such protocols, few enough to end.
const PREEMPTIONS: usize = 3;

/// What all drivers promise of a bell: a ring wakes the wait, or makes the next one return at once.
struct Token {
    rung: Mutex<bool>,
    turn: Condvar,
}

impl Token {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            rung: Mutex::new(false),
            turn: Condvar::new(),
        })
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.turn.wait(rung).unwrap();
        }
        *rung = false;
    }
}

struct Ringer(Arc<Token>);

impl Bell for Ringer {
    fn ring(&self) {
        *self.0.rung.lock().unwrap() = true;
        self.0.turn.notify_one();
    }
}

struct Shard {
    token: Arc<Token>,
    bell: Arc<Doorbell>,
    queue: Queue<u32>,
    stopping: AtomicBool,
    /// Looks at the doorbell before it sleeps.
    looks: usize,
}

impl Shard {
    fn new(capacity: usize, looks: usize) -> Arc<Self> {
        let token = Token::new();
        Arc::new(Self {
            bell: Doorbell::new(Box::new(Ringer(Arc::clone(&token)))),
            token,
            queue: Queue::new(capacity),
            stopping: AtomicBool::new(false),
            looks,
        })
    }

    fn send(&self, n: u32) -> Result<(), Refused<u32>> {
        if self.queue.push(n)? {
            self.bell.ring();
        }
        Ok(())
    }

    fn stop(&self) {
        self.stopping.store(true, SeqCst);
        self.bell.ring();
    }

    /// The loop of a shard's thread until it has `wanted` items, or is told to stop.
    fn run(&self, wanted: usize) -> Vec<u32> {
        let mut all = Vec::new();
        let mut taken = Fifo::new();
        loop {
            self.bell.answer();
            if self.stopping.load(SeqCst) {
                return all;
            }
            self.queue.drain(&mut taken);
            self.queue.delivered(taken.len());
            all.extend(taken.drain());
            if all.len() == wanted {
                return all;
            }
            self.rest();
        }
    }

    /// Looks on, then sleeps.
    fn rest(&self) {
        for _ in 0..self.looks {
            if self.bell.is_rung() {
                return;
            }
            thread::yield_now();
        }
        if self.bell.doze() {
            self.token.wait();
        }
    }

    /// A shard that sends all of `items` through a queue which may be full: it waits for room.
    fn send_all(&self, to: &Self, items: &mut Fifo<u32>) {
        loop {
            self.bell.answer();
            // Until it is told that there is none: that is what makes the other side tell of room.
            loop {
                let room = to.queue.room(0).min(items.len());
                if room == 0 {
                    break;
                }
                let mut staged = Fifo::new();
                staged.take_first(room, items);
                if to.queue.append(&mut staged) == Ok(true) {
                    to.bell.ring();
                }
            }
            if items.is_empty() {
                return;
            }
            self.rest();
        }
    }

    /// Takes `wanted` items and tells their sender of room.
    fn take_all(&self, from: &Self, wanted: usize) -> Vec<u32> {
        let mut all = Vec::new();
        let mut taken = Fifo::new();
        loop {
            self.bell.answer();
            self.queue.drain(&mut taken);
            let n = taken.len();
            all.extend(taken.drain());
            if n > 0 && self.queue.delivered(n) {
                from.bell.ring();
            }
            if all.len() == wanted {
                return all;
            }
            self.rest();
        }
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// How often a shard looks before it sleeps.
const LOOKS: [usize; 2] = [0, 1];

#[test]
fn model_no_message_is_left_behind_by_a_sleeping_shard() {
    for looks in LOOKS {
        check(move || {
            let shard = Shard::new(8, looks);
            let senders: Vec<_> = [[1, 2], [3, 4]]
                .into_iter()
                .map(|own| {
                    let shard = Arc::clone(&shard);
                    thread::spawn(move || own.map(|n| shard.send(n).unwrap()))
                })
                .collect();
            let mut all = shard.run(4);
            assert!(all.iter().position(|n| *n == 1) < all.iter().position(|n| *n == 2));
            assert!(all.iter().position(|n| *n == 3) < all.iter().position(|n| *n == 4));
            all.sort_unstable();
            assert_eq!(all, [1, 2, 3, 4]);
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }
}

#[test]
fn model_a_shard_that_goes_to_sleep_hears_the_stop() {
    for looks in LOOKS {
        check(move || {
            let shard = Shard::new(8, looks);
            let stopper = {
                let shard = Arc::clone(&shard);
                thread::spawn(move || shard.stop())
            };
            let sender = {
                let shard = Arc::clone(&shard);
                thread::spawn(move || shard.send(1).unwrap())
            };
            assert!(shard.run(usize::MAX).len() <= 1);
            stopper.join().unwrap();
            sender.join().unwrap();
        });
    }
}

#[test]
fn model_each_sleep_is_ended_by_at_most_one_ring() {
    check(|| {
        let shard = Shard::new(8, 0);
        let senders: Vec<_> = (1..=2)
            .map(|n| {
                let shard = Arc::clone(&shard);
                thread::spawn(move || shard.send(n).unwrap())
            })
            .collect();
        assert!(shard.bell.doze() || shard.bell.is_rung());
        for sender in senders {
            sender.join().unwrap();
        }
        assert!(shard.bell.counts().0 <= 1);
    });
}

/// One shard of two, between which a slab with one queue moves.
struct Place {
    token: Arc<Token>,
    bell: Arc<Doorbell>,
    joins: Queue<()>,
}

/// The loop of the shard that takes the slab in, until it has `wanted` items.
fn adopt(place: &Place, door: &Door, queue: &Queue<u32>, wanted: usize) -> Vec<u32> {
    let (mut here, mut all) = (false, Vec::new());
    let (mut joins, mut taken) = (Fifo::new(), Fifo::new());
    loop {
        place.bell.answer();
        place.joins.drain(&mut joins);
        if joins.pop_front().is_some() {
            door.move_to(1);
            queue.sync();
            here = true;
        }
        if here {
            queue.drain(&mut taken);
            all.extend(taken.drain());
        }
        if all.len() == wanted {
            return all;
        }
        if place.bell.doze() {
            place.token.wait();
        }
    }
}

#[test]
fn model_no_message_is_left_behind_when_a_slab_moves() {
    check(|| {
        let place = || {
            let token = Token::new();
            let bell = Doorbell::new(Box::new(Ringer(Arc::clone(&token))));
            let joins = Queue::new(1);
            Place { token, bell, joins }
        };
        let [from, to] = [Arc::new(place()), Arc::new(place())];
        let bells = [&from, &to].map(|place| Arc::clone(&place.bell)).into();
        let (door, queue) = (Door::new(0, &bells), Arc::new(Queue::new(8)));
        let sender = {
            let (door, queue) = (Arc::clone(&door), Arc::clone(&queue));
            thread::spawn(move || {
                for n in 1..=2 {
                    if queue.push(n).unwrap() {
                        door.ring();
                    }
                }
            })
        };
        // The shard that it leaves takes what is there by then, and never looks again.
        let leaver = {
            let (to, queue) = (Arc::clone(&to), Arc::clone(&queue));
            thread::spawn(move || {
                let mut taken = Fifo::new();
                queue.drain(&mut taken);
                let before = taken.len();
                if to.joins.push(()).unwrap() {
                    to.bell.ring();
                }
                before
            })
        };
        let before = leaver.join().unwrap();
        let after = adopt(&to, &door, &queue, 2 - before);
        assert!(after.is_sorted());
        assert_eq!(before + after.len(), 2);
        sender.join().unwrap();
    });
}

/// A shard that waits at one place until it opens another: a park, then a ring.
struct Moves {
    park: Arc<Token>,
    ring: Arc<Token>,
    open: Arc<AtomicBool>,
}

/// As the bell of a `Late`: at the ring if that is open.
impl Bell for Moves {
    fn ring(&self) {
        let open = self.open.load(Acquire);
        Ringer(Arc::clone(if open { &self.ring } else { &self.park })).ring();
    }
}

#[test]
fn model_no_message_is_left_behind_by_a_shard_that_goes_to_its_ring() {
    // The turn after which it changes over, between its answer and its sleep.
    for turn in [1, 2] {
        check(move || {
            let (park, ring) = (Token::new(), Token::new());
            let open = Arc::new(AtomicBool::new(false));
            let bell = Doorbell::new(Box::new(Moves {
                park: Arc::clone(&park),
                ring: Arc::clone(&ring),
                open: Arc::clone(&open),
            }));
            let queue = Arc::new(Queue::new(8));
            let senders: Vec<_> = (1..=2)
                .map(|n| {
                    let (bell, queue) = (Arc::clone(&bell), Arc::clone(&queue));
                    thread::spawn(move || {
                        if queue.push(n).unwrap() {
                            bell.ring();
                        }
                    })
                })
                .collect();
            let (mut seen, mut taken) = (0, Fifo::new());
            for n in 1.. {
                bell.answer();
                queue.drain(&mut taken);
                seen += taken.len();
                taken = Fifo::new();
                if seen == 2 {
                    break;
                }
                if n == turn {
                    open.store(true, Release);
                }
                if bell.doze() {
                    if n >= turn { &ring } else { &park }.wait();
                }
            }
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }
}

#[test]
fn model_a_sender_that_waits_for_room_is_told_of_it() {
    for capacity in [1, 2] {
        for looks in LOOKS {
            check(move || {
                let from = Shard::new(1, looks);
                let to = Shard::new(capacity, 0);
                let sender = {
                    let (from, to) = (Arc::clone(&from), Arc::clone(&to));
                    thread::spawn(move || from.send_all(&to, &mut (1..=3).collect()))
                };
                assert_eq!(to.take_all(&from, 3), [1, 2, 3]);
                sender.join().unwrap();
            });
        }
    }
}
