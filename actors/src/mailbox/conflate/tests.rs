//! A conflating ring against a model that walks a list, and what merging never does.

use proptest::prelude::*;

use crate::mailbox::{Books, Conflation, MailboxSpec, Message, Offered, Overflow, Ring};

/// Sums do not grow beyond this.
const FULL: u64 = 20;

/// Merging with it panics.
const POISON: u64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    key: Option<u64>,
    value: u64,
}

impl Message for Told {
    fn conflation_key(&self) -> Option<u64> {
        self.key
    }

    fn absorb(&mut self, newer: Self) -> Result<(), Self> {
        assert_ne!(newer.value, POISON, "poisoned");
        if self.value + newer.value > FULL {
            return Err(newer);
        }
        self.value += newer.value;
        Ok(())
    }
}

/// The same by walking a list.
#[derive(Default)]
struct Model {
    waiting: Vec<Told>,
    books: Books,
}

impl Model {
    fn offer(&mut self, spec: &MailboxSpec, told: Told) {
        self.books.offered += 1;
        self.books.accepted += 1;
        let open = self.waiting.iter().rposition(|t| t.key.is_none());
        let open = &mut self.waiting[open.map_or(0, |place| place + 1)..];
        let latest = open.iter_mut().rfind(|t| t.key == told.key);
        match (spec.conflation, latest) {
            (Conflation::Newest, Some(latest)) => {
                *latest = told;
                self.books.conflated += 1;
                return;
            }
            (Conflation::Sum, Some(latest)) if latest.value + told.value <= FULL => {
                latest.value += told.value;
                self.books.conflated += 1;
                return;
            }
            _ => {}
        }
        if self.waiting.len() < spec.capacity as usize {
            self.waiting.push(told);
            return;
        }
        match spec.overflow {
            Overflow::Block | Overflow::Reject => {
                self.books.accepted -= 1;
                self.books.rejected += 1;
            }
            Overflow::DropNewest => self.books.dropped += 1,
            Overflow::DropOldest => {
                self.books.dropped += 1;
                self.waiting.remove(0);
                self.waiting.push(told);
            }
        }
    }
}

fn specs() -> impl Strategy<Value = MailboxSpec> {
    let overflow = prop_oneof![
        Just(Overflow::Block),
        Just(Overflow::Reject),
        Just(Overflow::DropOldest),
        Just(Overflow::DropNewest),
    ];
    let conflation = prop_oneof![
        Just(Conflation::Off),
        Just(Conflation::Newest),
        Just(Conflation::Sum),
    ];
    (overflow, conflation, 1u32..8).prop_map(|(overflow, conflation, capacity)| {
        MailboxSpec::new(capacity, overflow).conflating(conflation)
    })
}

/// Offers, and takes where there is nothing to offer.
fn steps() -> impl Strategy<Value = Vec<Option<Told>>> {
    let key = prop_oneof![1 => Just(None), 6 => (0u64..5).prop_map(Some)];
    let told = (key, 1u64..8).prop_map(|(key, value)| Told { key, value });
    let step = prop_oneof![3 => told.prop_map(Some), 2 => Just(None)];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn a_conflating_ring_does_what_a_list_would_do(spec in specs(), steps in steps()) {
        let (mut ring, mut books) = (Ring::default(), Books::default());
        let mut model = Model::default();
        for step in steps {
            match step {
                Some(told) => {
                    let _ = ring.offer(&spec, &mut books, told);
                    model.offer(&spec, told);
                }
                None => {
                    let first = (!model.waiting.is_empty()).then(|| model.waiting.remove(0));
                    prop_assert_eq!(ring.take(), first);
                    let handled = u64::from(first.is_some());
                    books.handled += handled;
                    model.books.handled += handled;
                }
            }
            prop_assert_eq!(books, model.books);
            prop_assert_eq!(ring.work_len(), model.waiting.len());
            prop_assert!(ring.work_len() <= spec.capacity as usize);
            prop_assert!(books.with_waiting(ring.len() as u64).balanced());
        }
        let rest: Vec<_> = std::iter::from_fn(|| ring.take()).collect();
        prop_assert_eq!(rest, model.waiting);
    }
}

fn keyed(key: u64, value: u64) -> Told {
    let key = Some(key);
    Told { key, value }
}

#[test]
fn a_full_mailbox_still_takes_what_can_be_merged() {
    let spec = MailboxSpec::new(1, Overflow::Reject).conflating(Conflation::Newest);
    let (mut ring, mut books) = (Ring::default(), Books::default());
    for value in 1..=5 {
        ring.offer(&spec, &mut books, keyed(7, value)).unwrap();
    }
    assert_eq!(ring.offer(&spec, &mut books, keyed(8, 1)), Err(keyed(8, 1)));
    assert_eq!(ring.take(), Some(keyed(7, 5)));
    assert_eq!((books.accepted, books.conflated, books.rejected), (5, 4, 1));
}

#[test]
fn nothing_is_merged_across_a_message_without_a_key() {
    let spec = MailboxSpec::new(9, Overflow::Reject).conflating(Conflation::Newest);
    let (mut ring, mut books) = (Ring::default(), Books::default());
    let stop = Told {
        key: None,
        value: 0,
    };
    let all = [keyed(1, 1), stop, keyed(1, 2), keyed(1, 3)];
    for told in all {
        ring.offer(&spec, &mut books, told).unwrap();
    }
    let left: Vec<_> = std::iter::from_fn(|| ring.take()).collect();
    assert_eq!(left, [keyed(1, 1), stop, keyed(1, 3)]);
}

#[test]
fn a_merge_that_panics_drops_the_newer_one_and_is_booked() {
    let spec = MailboxSpec::new(9, Overflow::Reject).conflating(Conflation::Sum);
    let (mut ring, mut books) = (Ring::default(), Books::default());
    ring.offer(&spec, &mut books, keyed(1, 1)).unwrap();
    let broken = ring.offer(&spec, &mut books, keyed(1, POISON));
    assert_eq!(broken, Ok(Offered::Broken));
    assert_eq!((books.accepted, books.dropped), (2, 1));
    assert!(books.with_waiting(1).balanced());
    assert_eq!(ring.take(), Some(keyed(1, 1)));
}

#[test]
fn an_emptied_ring_gives_a_bursts_memory_back() {
    let spec = MailboxSpec::new(1_000, Overflow::Reject).conflating(Conflation::Newest);
    let (mut ring, mut books) = (Ring::default(), Books::default());
    for key in 0..1_000 {
        ring.offer(&spec, &mut books, keyed(key, 1)).unwrap();
    }
    while ring.take().is_some() {}
    assert!(ring.index.is_none());
}
