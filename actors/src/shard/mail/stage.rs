//! Messages for one slab, from their step until they are under way.
//!
//! A message that found no room waits here, and its cell with it: nobody overtakes one that waits
//! for a place, and nobody who sends to the same cell one that waits for that. Bound: the room its
//! owner has seen; one waiting message per cell.

use std::collections::BTreeSet;
use std::time::Duration;

use super::envelope::{Envelope, Refusal, Returned, returned};
use super::jams::Jams;
use super::waiters::{For, Waiter, Waiters};
use crate::clock::Time;
use crate::exit::Incarnation;
use crate::fifo::Fifo;
use crate::guard;

/// The end of a wait.
pub(crate) struct Resumed {
    pub(crate) key: u32,
    pub(crate) bounce: Option<Returned>,
}

/// Who sends, and when.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) ordinal: u32,
    pub(crate) key: u32,
    pub(crate) life: Incarnation,
    pub(crate) now: Time,
}

/// One look at all that wait.
pub(crate) struct Look<'a> {
    pub(crate) now: Time,
    /// Whether the senders want their messages back.
    pub(crate) hears: bool,
    /// Whether that life still waits.
    pub(crate) alive: &'a mut dyn FnMut(u32, Incarnation) -> bool,
    /// Waits that have ended.
    pub(crate) done: &'a mut Vec<Resumed>,
}

/// Messages for one slab until they are under way.
pub(super) struct Stage<M> {
    pub(super) staged: Fifo<Envelope<M>>,
    pub(super) waiters: Waiters<M>,
    /// Cells that take messages again, and for which some wait still.
    open: BTreeSet<u32>,
}

impl<M: Send + 'static> Stage<M> {
    pub(super) const fn new() -> Self {
        Self {
            staged: Fifo::new(),
            waiters: Waiters::new(),
            open: BTreeSet::new(),
        }
    }

    /// Whether a message for a cell has to wait, whatever room there is.
    #[inline]
    pub(super) fn holds_up(&self, to: u32, jams: &Jams) -> bool {
        (jams.any() || !self.waiters.is_empty()) && self.finds_waiting(to, jams)
    }

    #[cold]
    fn finds_waiting(&self, to: u32, jams: &Jams) -> bool {
        self.waiters.has(For::Room) || self.waiters.has(For::Cell(to)) || jams.has(to)
    }

    /// Lets a message wait. False: for a place, which its owner has to be told of.
    pub(super) fn wait(
        &mut self,
        by: Sender,
        patience: Duration,
        envelope: Envelope<M>,
        jams: &Jams,
    ) -> bool {
        let to = envelope.to;
        let for_cell = jams.waits_for(to) || self.waiters.has(For::Cell(to));
        let what = if for_cell { For::Cell(to) } else { For::Room };
        let waiter = Waiter {
            key: by.key,
            life: by.life,
            until: by.now + patience,
            envelope,
        };
        self.waiters.push(what, waiter);
        for_cell
    }

    /// Whether a message could go out if there was room.
    pub(super) fn wants_room(&self) -> bool {
        !self.open.is_empty() || self.waiters.first_to().is_some()
    }

    /// Stages up to `room` messages that waited, those for a place first, and forgets those of
    /// lives that have ended. Returns how many were staged.
    pub(super) fn resume(&mut self, room: usize, jams: &Jams, look: &mut Look<'_>) -> usize {
        let mut left = room;
        while left > 0
            && let Some(to) = self.waiters.first_to()
        {
            match jams.waits_for(to) {
                true => self.waiters.put_off(),
                false => left -= self.let_go(For::Room, look),
            }
        }
        while left > 0
            && let Some(to) = self.open.first().copied()
        {
            // A jam that has come back tells of its end again.
            match self.waiters.has(For::Cell(to)) && !jams.waits_for(to) {
                true => left -= self.let_go(For::Cell(to), look),
                false => drop(self.open.remove(&to)),
            }
        }
        room - left
    }

    /// Stages the first message that waits for that, unless its cell's life has ended.
    fn let_go(&mut self, what: For, look: &mut Look<'_>) -> usize {
        let Some(waiter) = self.waiters.pop(what) else {
            return 0;
        };
        if !(look.alive)(waiter.key, waiter.life) {
            guard::discard(waiter.envelope);
            return 0;
        }
        self.staged.push_back(waiter.envelope);
        look.done.push(Resumed {
            key: waiter.key,
            bounce: None,
        });
        1
    }

    /// Takes in which cells take messages again.
    pub(super) fn hear_of(&mut self, jams: &Jams) {
        jams.take_news(&mut self.open);
    }

    /// Ends waits whose time is up.
    pub(super) fn expire(&mut self, look: &mut Look<'_>) {
        while let Some(waiter) = self.waiters.pop_due(look.now) {
            if !(look.alive)(waiter.key, waiter.life) {
                guard::discard(waiter.envelope);
                continue;
            }
            look.done.push(Resumed {
                key: waiter.key,
                bounce: give_back(waiter.envelope, Refusal::Timeout, look.hears),
            });
        }
    }

    /// Forgets those of lives that have ended.
    pub(super) fn sweep(&mut self, look: &mut Look<'_>) {
        for waiter in self.waiters.take_dead(look.alive) {
            guard::discard(waiter.envelope);
        }
    }
}

/// A message that comes back, if its sender hears; if not, this is its end.
pub(super) fn give_back<M: Send + 'static>(
    envelope: Envelope<M>,
    why: Refusal,
    hears: bool,
) -> Option<Returned> {
    if hears {
        return Some(returned(envelope, why));
    }
    guard::discard(envelope);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(key: u32) -> Sender {
        Sender {
            ordinal: key,
            key,
            life: Incarnation::FIRST,
            now: Time(0),
        }
    }

    /// Looks once. How many waiters were looked at, how many staged and how many timed out.
    fn look(stage: &mut Stage<u32>, jams: &Jams, room: usize, now: u64) -> (u32, usize, usize) {
        let (mut looked, mut done) = (0, Vec::new());
        let mut alive = |_: u32, _: Incarnation| {
            looked += 1;
            true
        };
        let mut look = Look {
            now: Time(now),
            hears: true,
            alive: &mut alive,
            done: &mut done,
        };
        stage.hear_of(jams);
        let staged = stage.resume(room, jams, &mut look);
        stage.expire(&mut look);
        (looked, staged, done.len() - staged)
    }

    #[test]
    fn a_look_at_many_that_wait_touches_only_those_whose_wait_ends() {
        let (mut stage, jams) = (Stage::new(), Jams::default());
        for key in 0..1_000 {
            // The later they come, the sooner their time is up.
            let patience = Duration::from_nanos(2_000 - u64::from(key));
            let envelope = Envelope {
                to: 7,
                from: key,
                message: key,
            };
            assert!(!stage.wait(sender(key), patience, envelope, &jams));
        }
        assert_eq!(look(&mut stage, &jams, 0, 1_000), (0, 0, 0));
        assert_eq!(stage.waiters.until(), Some(Time(1_001)));
        assert_eq!(look(&mut stage, &jams, 0, 1_002), (2, 0, 2));
        assert_eq!(look(&mut stage, &jams, 3, 1_002), (3, 3, 0));
        let staged: Vec<u32> = stage.staged.iter().map(|e| e.message).collect();
        assert_eq!((staged, stage.waiters.len()), (vec![0, 1, 2], 995));
    }

    #[test]
    fn those_that_wait_for_a_jammed_cell_let_others_pass_and_keep_their_order() {
        let (mut stage, jams) = (Stage::new(), Jams::default());
        jams.jam(7);
        let wait = |stage: &mut Stage<u32>, key, to| {
            let envelope = Envelope {
                to,
                from: key,
                message: key,
            };
            stage.wait(sender(key), Duration::from_secs(1), envelope, &jams)
        };
        assert!(stage.holds_up(7, &jams) && !stage.holds_up(8, &jams));
        assert!(wait(&mut stage, 0, 7) && wait(&mut stage, 1, 7));
        assert!(!stage.wants_room(), "nothing that room would help");
        // Both wait for a place; by the time there is one, 9 is jammed, too.
        assert!(!wait(&mut stage, 2, 9) && !wait(&mut stage, 3, 8));
        assert!(
            stage.holds_up(8, &jams),
            "nobody overtakes one that waits for a place"
        );
        jams.jam(9);
        assert_eq!(look(&mut stage, &jams, 9, 1).1, 1);
        assert!(!stage.holds_up(8, &jams) && stage.holds_up(9, &jams));
        assert!(jams.clear(7, true) && jams.clear(9, true));
        assert!(stage.holds_up(7, &jams), "two are first");
        // One goes, and it is jammed again before the other.
        assert_eq!(look(&mut stage, &jams, 1, 1).1, 1);
        jams.jam(7);
        assert_eq!(look(&mut stage, &jams, 9, 1).1, 1);
        assert!(jams.clear(7, true));
        assert_eq!(look(&mut stage, &jams, 9, 1).1, 1);
        let staged: Vec<u32> = stage.staged.iter().map(|e| e.message).collect();
        assert_eq!(staged, [3, 0, 2, 1]);
        assert!(stage.waiters.is_empty() && !stage.wants_room());
    }
}
