//! Devices' answers to commands on their way back to the connection that brought them.
//!
//! It outlives connections; an answer to a command of one that is gone is dropped by the next, as
//! its ticket is none of its own. Bound: [`ACKS_MAX`] answers of each way.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Ticket;
use crate::command::AckStatus;

/// Acknowledgements waiting to be written: commands in flight on one connection, twice.
pub const ACKS_MAX: usize = 256;

/// Set in tickets of commands that came over a connection of their own.
const BESIDE: u64 = 1 << 63;
/// Bits of a ticket that count the commands of a connection.
const COUNT: u64 = 0xffff_ffff;

/// Over which of a link's connections a command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The one that telemetry takes.
    Own,
    /// The one for commands beside it.
    Beside,
}

impl Ticket {
    /// Whether the command came over a connection for commands, beside the link's own.
    #[must_use]
    pub const fn is_beside(self) -> bool {
        self.0 & BESIDE != 0
    }
}

/// The answers of one way.
#[derive(Debug)]
pub(super) struct Answers {
    way: Way,
    waiting: Mutex<VecDeque<(Ticket, AckStatus)>>,
    pub(super) wake: Notify,
}

impl Answers {
    pub(super) fn of(way: Way) -> Self {
        Self {
            way,
            waiting: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Names command `count` of connection `number`.
    pub(super) const fn ticket(&self, number: u64, count: u64) -> Ticket {
        let ticket = (number << 32 & !BESIDE) | (count & COUNT);
        match self.way {
            Way::Own => Ticket(ticket),
            Way::Beside => Ticket(ticket | BESIDE),
        }
    }

    /// Takes those answers that go this way, as far as there is room; returns how many.
    pub(super) fn put(&self, answers: &[(Ticket, AckStatus)]) -> usize {
        let here = |(ticket, _): &&(Ticket, AckStatus)| ticket.is_beside() == self.is_beside();
        let mut here = answers.iter().filter(here).peekable();
        if here.peek().is_none() {
            return 0;
        }
        let mut waiting = self.waiting.lock();
        let before = waiting.len();
        waiting.extend(here.take(ACKS_MAX - before));
        let taken = waiting.len() - before;
        drop(waiting);
        self.wake.notify_one();
        taken
    }

    const fn is_beside(&self) -> bool {
        matches!(self.way, Way::Beside)
    }

    pub(super) fn next(&self) -> Option<(Ticket, AckStatus)> {
        self.waiting.lock().pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_back_the_way_its_command_came() {
        let (own, beside) = (Answers::of(Way::Own), Answers::of(Way::Beside));
        for number in [0, 1, u64::from(u32::MAX), u64::MAX] {
            assert!(!own.ticket(number, 7).is_beside());
            assert!(beside.ticket(number, 7).is_beside());
        }
        assert_ne!(own.ticket(1, 7), own.ticket(1, 8));
        assert_ne!(own.ticket(1, 7), own.ticket(2, 7));
    }

    #[test]
    fn answers_beyond_the_bound_are_refused() {
        let answers = Answers::of(Way::Own);
        let put = |count| answers.put(&[(answers.ticket(1, count), AckStatus::Executed)]);
        assert_eq!((0..1_000).map(put).sum::<usize>(), ACKS_MAX);
    }

    #[test]
    fn answers_that_come_together_go_each_its_way_in_order() {
        let (own, beside) = (Answers::of(Way::Own), Answers::of(Way::Beside));
        let all: Vec<_> = (0..1_000)
            .map(|count| match count % 2 {
                0 => (own.ticket(1, count), AckStatus::Executed),
                _ => (beside.ticket(1, count), AckStatus::Superseded),
            })
            .collect();
        for (answers, first) in [(&own, 0), (&beside, 1)] {
            assert_eq!(answers.put(&all[..8]), 4);
            assert_eq!(answers.put(&all), ACKS_MAX - 4, "as far as there is room");
            assert_eq!(answers.put(&all), 0);
            let came = std::iter::from_fn(|| answers.next());
            let mut sent = all.iter().skip(first).step_by(2);
            assert!(came.take(4).eq(sent.by_ref().take(4).copied()));
        }
    }
}
