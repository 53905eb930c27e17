//! What devices hand to a publisher of their node, where a protocol needs one.
//!
//! A slab adds what its devices wrote between two steps at once; the publisher takes batches, and
//! puts back what its broker has not taken. It knows no protocol. Bound: the messages that wait,
//! those that the publisher has in hand not counted.

use std::collections::VecDeque;
use std::sync::Arc;

use actorsim_actors::{CellContext, Time};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::line::LineOut;
use super::plan::{AmqpSpeech, Plan, Speech};
use super::session::ReplyTo;
use super::stats::{PublishStats, PublishTally};
use crate::device::Device;
use crate::profile::Backpressure;

/// Bytes of a routing key at most (AMQP 0.9.1, 4.2.5.3).
const KEY_BYTES_MAX: usize = 255;

/// One message on its way to a publisher.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    /// Who wrote it.
    pub(crate) ordinal: u32,
    /// When, on the monotonic clock; `None`: no sample, and not counted.
    pub(crate) since: Option<Time>,
    /// Where it goes; `direct`: to that queue, past the exchange.
    pub(crate) key: Box<str>,
    pub(crate) direct: bool,
    pub(crate) content_type: &'static str,
    pub(crate) body: Box<[u8]>,
}

/// The messages that wait for a publisher. A clone is the same.
#[derive(Clone, Debug)]
pub struct Relay(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<VecDeque<Letter>>,
    most: usize,
    stats: Arc<PublishStats>,
    more: Notify,
}

impl Relay {
    /// A relay in which at most so many messages wait.
    #[must_use]
    pub fn new(most: usize, stats: Arc<PublishStats>) -> Self {
        Self(Arc::new(Shared {
            waiting: Mutex::default(),
            most,
            stats,
            more: Notify::new(),
        }))
    }

    /// Messages that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.lock().len()
    }

    /// Takes what a slab has written. What finds no room is dropped by the profile's rule, and
    /// counted.
    pub(crate) fn take(
        &self,
        letters: &mut Vec<Letter>,
        rule: Backpressure,
        tally: &mut PublishTally,
    ) {
        if letters.is_empty() {
            return;
        }
        let mut waiting = self.0.waiting.lock();
        let mut lose = |letter: Option<Letter>| {
            tally.dropped += u64::from(letter.is_some_and(|letter| letter.since.is_some()));
        };
        for letter in letters.drain(..) {
            if waiting.len() < self.0.most {
                waiting.push_back(letter);
            } else if rule == Backpressure::DropOldest {
                lose(waiting.pop_front());
                waiting.push_back(letter);
            } else {
                lose(Some(letter));
            }
        }
        drop(waiting);
        self.0.more.notify_one();
    }

    /// The next messages, at most so many; waits until there is one.
    pub(crate) async fn next(&self, most: usize) -> Vec<Letter> {
        loop {
            let batch = self.try_next(most);
            if !batch.is_empty() {
                return batch;
            }
            self.0.more.notified().await;
        }
    }

    /// The same without waiting.
    pub(crate) fn try_next(&self, most: usize) -> Vec<Letter> {
        let mut waiting = self.0.waiting.lock();
        let most = most.min(waiting.len());
        waiting.drain(..most).collect()
    }

    /// Puts back what was not taken, in its order, before all others: nothing of it is dropped.
    pub(crate) fn put_back(&self, letters: impl DoubleEndedIterator<Item = Letter>) {
        let mut waiting = self.0.waiting.lock();
        for letter in letters.rev() {
            waiting.push_front(letter);
        }
        drop(waiting);
        self.0.more.notify_one();
    }

    /// Where it is counted.
    #[must_use]
    pub fn stats(&self) -> &Arc<PublishStats> {
        &self.0.stats
    }

    /// Gives up what waits, and counts it as dropped.
    pub(crate) fn give_up(&self) {
        let gone = std::mem::take(&mut *self.0.waiting.lock());
        let mut tally = PublishTally {
            dropped: gone.iter().filter(|one| one.since.is_some()).count() as u64,
            ..PublishTally::default()
        };
        self.0.stats.take(&mut tally);
    }
}

/// Writes a sample of a device to its slab's letters.
pub(crate) fn post(values: &[f64], unix_us: u64, cx: &mut CellContext<'_, Device>) {
    let Some((plan, speech)) = cx.shared.plan().and_then(relayed) else {
        return;
    };
    let out = &mut *cx.out.line;
    out.name.clear();
    cx.shared.write_name(cx.ordinal, &mut out.name);
    out.encode(plan, values, unix_us, cx.identity.sequence);
    let key: Box<str> = speech.telemetry.fill(&out.name).into();
    if key.len() > KEY_BYTES_MAX {
        out.tally.refused += 1;
        return;
    }
    out.letters.push(Letter {
        ordinal: cx.ordinal,
        since: Some(cx.monotonic),
        key,
        direct: false,
        content_type: speech.content_type,
        body: out.payload.as_slice().into(),
    });
    out.tally.sent += 1;
}

/// Writes the reply of a device to its slab's letters.
pub(crate) fn post_reply(to: &ReplyTo, payload: &[u8], cx: &mut CellContext<'_, Device>) {
    let Some((_, speech)) = cx.shared.plan().and_then(relayed) else {
        return;
    };
    let LineOut { name, letters, .. } = &mut *cx.out.line;
    name.clear();
    cx.shared.write_name(cx.ordinal, name);
    let (key, direct) = match to {
        ReplyTo::Topic(queue) => (queue.clone(), true),
        ReplyTo::Own | ReplyTo::Request => (speech.replies.fill(name).into(), false),
    };
    letters.push(Letter {
        ordinal: cx.ordinal,
        since: None,
        key,
        direct,
        content_type: "application/json",
        body: payload.into(),
    });
}

fn relayed(plan: &Plan) -> Option<(&Plan, &AmqpSpeech)> {
    match &plan.speech {
        Speech::Amqp(speech) => Some((plan, speech)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(numbers: std::ops::Range<u32>) -> Vec<Letter> {
        let letter = |ordinal| Letter {
            ordinal,
            since: Some(Time(1)),
            key: "a.b".into(),
            direct: false,
            content_type: "text/plain",
            body: Box::default(),
        };
        numbers.map(letter).collect()
    }

    fn ordinals(of: &[Letter]) -> Vec<u32> {
        of.iter().map(|letter| letter.ordinal).collect()
    }

    #[test]
    fn a_full_relay_drops_by_its_rule_and_counts_it() {
        for (rule, kept) in [
            (Backpressure::SlowDown, [0, 1, 2]),
            (Backpressure::DropOldest, [2, 3, 4]),
        ] {
            let relay = Relay::new(3, Arc::default());
            let mut tally = PublishTally::default();
            relay.take(&mut letters(0..5), rule, &mut tally);
            assert_eq!(tally.dropped, 2);
            assert_eq!(ordinals(&relay.try_next(9)), kept);
        }
    }

    #[test]
    fn what_is_put_back_goes_first_and_in_its_order() {
        let relay = Relay::new(3, Arc::default());
        let mut tally = PublishTally::default();
        relay.take(&mut letters(0..3), Backpressure::SlowDown, &mut tally);
        let batch = relay.try_next(2);
        relay.take(&mut letters(3..4), Backpressure::SlowDown, &mut tally);
        relay.put_back(batch.into_iter());
        assert_eq!(ordinals(&relay.try_next(9)), [0, 1, 2, 3]);
        relay.take(&mut letters(4..6), Backpressure::SlowDown, &mut tally);
        relay.give_up();
        assert_eq!((relay.stats().read().dropped, relay.waiting()), (2, 0));
    }
}
