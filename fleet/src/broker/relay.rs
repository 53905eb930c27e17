//! What devices hand to the publishers of their node, where they have no connections of their own.
//!
//! A slab adds what its devices wrote between two steps at once; a publisher takes batches, and
//! puts back what its broker has not taken. A device writes to one relay only, so its order is
//! kept. It knows no protocol. Bound: the messages that wait in each relay, those that its
//! publisher has in hand not counted.

use std::collections::VecDeque;
use std::sync::Arc;

use actorsim_actors::{CellContext, Time};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::plan::{Plan, RelaySpeech};
use super::publisher::{CHANNELS_MAX, GROUP};
use super::session::ReplyTo;
use super::stats::{PublishStats, PublishTally};
use crate::device::Device;
use crate::out::DeviceOut;
use crate::profile::Backpressure;
use crate::session::amqp::Publishing;
use crate::session::mqtt::Qos;
use crate::wire::Way;

/// Bytes of a routing key at most (AMQP 0.9.1, 4.2.5.3).
const KEY_BYTES_MAX: usize = 255;

/// A routing key that AMQP has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a routing key of more than {KEY_BYTES_MAX} bytes")]
pub struct KeyTooLong;

/// One message on its way to a publisher.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    /// Who wrote it.
    pub(crate) ordinal: u32,
    /// When, on the monotonic clock; `None`: no sample, and not counted.
    pub(crate) since: Option<Time>,
    /// Where it goes; `direct`: to that queue, past the exchange, where there is one.
    pub(crate) key: Box<str>,
    pub(crate) direct: bool,
    /// How surely, where there is a choice.
    pub(crate) qos: Qos,
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
    /// Exchange of a simulated broker, which confirms at once.
    simulated: Option<Box<str>>,
}

impl Relay {
    /// A relay in which at most so many messages wait.
    #[must_use]
    pub fn new(most: usize, stats: Arc<PublishStats>) -> Self {
        Self::with(most, stats, None)
    }

    /// The relay of a simulation, to an exchange of that name: nothing waits in it, all is
    /// confirmed at once.
    #[must_use]
    pub fn simulated(exchange: &str, stats: Arc<PublishStats>) -> Self {
        let mut up = PublishTally {
            connected: 1,
            connects: 1,
            ..PublishTally::default()
        };
        stats.take(&mut up);
        Self::with(0, stats, Some(exchange.into()))
    }

    fn with(most: usize, stats: Arc<PublishStats>, simulated: Option<Box<str>>) -> Self {
        Self(Arc::new(Shared {
            waiting: Mutex::default(),
            most,
            stats,
            more: Notify::new(),
            simulated,
        }))
    }

    /// Messages that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.lock().len()
    }

    /// Takes what a slab has written. What finds no room is dropped by the profile's rule, and
    /// counted.
    fn take(
        &self,
        letters: impl Iterator<Item = Letter>,
        rule: Backpressure,
        tally: &mut PublishTally,
    ) {
        if self.0.simulated.is_some() {
            let samples = letters.filter(|letter| letter.since.is_some());
            tally.acked += samples.count() as u64;
            return;
        }
        let mut waiting = self.0.waiting.lock();
        let mut lose = |letter: Option<Letter>| {
            tally.dropped += u64::from(letter.is_some_and(|letter| letter.since.is_some()));
        };
        for letter in letters {
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
        self.stir();
    }

    /// Takes one message of no device; false: there is no room for it now.
    ///
    /// # Errors
    /// [`KeyTooLong`].
    pub fn post(
        &self,
        (key, content_type): (&str, &'static str),
        body: &[u8],
        now: Time,
    ) -> Result<bool, KeyTooLong> {
        if key.len() > KEY_BYTES_MAX {
            return Err(KeyTooLong);
        }
        let mut waiting = self.0.waiting.lock();
        if waiting.len() >= self.0.most {
            return Ok(false);
        }
        waiting.push_back(Letter {
            ordinal: 0,
            since: Some(now),
            key: key.into(),
            direct: false,
            qos: Qos::AtLeastOnce,
            content_type,
            body: body.into(),
        });
        drop(waiting);
        let mut tally = PublishTally {
            sent: 1,
            ..PublishTally::default()
        };
        self.0.stats.take(&mut tally);
        self.stir();
        Ok(true)
    }

    /// Wakes whoever waits for more.
    pub(crate) fn stir(&self) {
        self.0.more.notify_one();
    }

    /// Waits until there may be more.
    pub(crate) async fn stirred(&self) {
        self.0.more.notified().await;
    }

    /// The next messages, at most so many; waits until there is one.
    pub(crate) async fn next(&self, most: usize) -> Vec<Letter> {
        loop {
            let batch = self.try_next(most);
            if !batch.is_empty() {
                return batch;
            }
            self.stirred().await;
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
        self.stir();
    }

    /// Where it is counted.
    #[must_use]
    pub fn stats(&self) -> &Arc<PublishStats> {
        &self.0.stats
    }

    /// Gives up what waits, and counts it as dropped.
    pub fn give_up(&self) {
        let gone = std::mem::take(&mut *self.0.waiting.lock());
        let mut tally = PublishTally::default();
        let samples = gone.iter().filter(|one| one.since.is_some());
        tally.abandon(samples.count() as u64);
        self.0.stats.take(&mut tally);
    }
}

/// The relays of all publishers of one broker. A clone is the same.
#[derive(Clone, Debug)]
pub struct Relays(Arc<[Relay]>);

impl Relays {
    /// So many relays, at least one, in each of which at most so many messages wait.
    #[must_use]
    pub fn new(count: u32, most: usize, stats: &Arc<PublishStats>) -> Self {
        let relay = |_| Relay::new(most, Arc::clone(stats));
        Self((0..count.max(1)).map(relay).collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Relay> {
        self.0.iter()
    }

    /// The number of the relay that a device writes to: always the same.
    pub(crate) fn lane_of(&self, ordinal: u32) -> usize {
        ordinal as usize % self.0.len()
    }

    pub(crate) fn lane(&self, lane: usize) -> &Relay {
        &self.0[lane]
    }

    /// Where it is counted.
    #[must_use]
    pub fn stats(&self) -> &Arc<PublishStats> {
        self.0[0].stats()
    }

    /// Takes what a slab has written, each device's to its relay.
    pub(crate) fn take(
        &self,
        letters: &mut Vec<Letter>,
        rule: Backpressure,
        tally: &mut PublishTally,
    ) {
        let lane = |letter: &Letter| self.lane_of(letter.ordinal);
        if self.0.len() > 1 {
            letters.sort_by_key(lane); // stable: what one device wrote stays in order
        }
        while let Some(own) = letters.first().map(lane) {
            let end = letters.partition_point(|letter| lane(letter) <= own);
            self.0[own].take(letters.drain(..end), rule, tally);
        }
    }
}

impl From<Relay> for Relays {
    fn from(only: Relay) -> Self {
        Self(Arc::new([only]))
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
    if key.len() > speech.key_bytes_max {
        out.tally.refused += 1;
        return;
    }
    let letter = Letter {
        ordinal: cx.ordinal,
        since: Some(cx.monotonic),
        key,
        direct: false,
        qos: speech.qos,
        content_type: speech.content_type,
        body: out.payload.as_slice().into(),
    };
    out.tally.sent += 1;
    give(speech, letter, cx.out);
}

/// Writes the reply of a device to its slab's letters.
pub(crate) fn post_reply(to: &ReplyTo, payload: &[u8], cx: &mut CellContext<'_, Device>) {
    let Some((_, speech)) = cx.shared.plan().and_then(relayed) else {
        return;
    };
    let name = &mut cx.out.line.name;
    name.clear();
    cx.shared.write_name(cx.ordinal, name);
    let (key, direct) = match to {
        ReplyTo::Topic(queue) => (queue.clone(), true),
        ReplyTo::Own | ReplyTo::Request => (speech.replies.fill(name).into(), false),
    };
    if key.len() > speech.key_bytes_max {
        return;
    }
    let letter = Letter {
        ordinal: cx.ordinal,
        since: None,
        key,
        direct,
        qos: Qos::AtLeastOnce,
        content_type: "application/json",
        body: payload.into(),
    };
    give(speech, letter, cx.out);
}

/// Adds a letter to those of its slab. What it is on the connection of its node, a simulation sees
/// here.
fn give(speech: &RelaySpeech, letter: Letter, out: &mut DeviceOut) {
    let relays = &speech.relays;
    let relay = relays.lane(relays.lane_of(letter.ordinal));
    if let Some(exchange) = &relay.0.simulated {
        let message = Publishing {
            exchange: if letter.direct { "" } else { exchange },
            key: &letter.key,
            content_type: letter.content_type,
            body: (&*letter.body).into(),
        };
        let mut bytes = std::mem::take(&mut out.line.wire);
        message.write(channel(letter.ordinal), &mut bytes);
        out.session(letter.ordinal, Way::Stream, &bytes);
        bytes.clear();
        out.line.wire = bytes;
    }
    out.line.letters.push(letter);
}

/// The channel of a device's messages on the AMQP connection of its node.
pub(super) fn channel(ordinal: u32) -> u16 {
    // 1 is the channel of commands
    2 + (ordinal / GROUP % CHANNELS_MAX) as u16
}

fn relayed(plan: &Plan) -> Option<(&Plan, &RelaySpeech)> {
    Some((plan, plan.relayed()?))
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
            qos: Qos::AtLeastOnce,
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
            relay.take(letters(0..5).into_iter(), rule, &mut tally);
            assert_eq!(tally.dropped, 2);
            assert_eq!(ordinals(&relay.try_next(9)), kept);
        }
    }

    #[test]
    fn what_is_put_back_goes_first_and_in_its_order() {
        let relay = Relay::new(3, Arc::default());
        let mut tally = PublishTally::default();
        let take = |letters: Vec<Letter>, tally: &mut _| {
            relay.take(letters.into_iter(), Backpressure::SlowDown, tally);
        };
        take(letters(0..3), &mut tally);
        let batch = relay.try_next(2);
        take(letters(3..4), &mut tally);
        relay.put_back(batch.into_iter());
        assert_eq!(ordinals(&relay.try_next(9)), [0, 1, 2, 3]);
        take(letters(4..6), &mut tally);
        relay.give_up();
        assert_eq!((relay.stats().read().dropped, relay.waiting()), (2, 0));
    }

    #[test]
    fn each_device_writes_to_one_relay_in_its_order() {
        let relays = Relays::new(3, 9, &Arc::default());
        let mut tally = PublishTally::default();
        let mut two_rounds = letters(0..5);
        two_rounds.extend(letters(0..5));
        for (at, letter) in two_rounds.iter_mut().enumerate() {
            letter.since = Some(Time(at as u64));
        }
        relays.take(&mut two_rounds, Backpressure::SlowDown, &mut tally);
        assert!(two_rounds.is_empty());
        for (lane, wanted) in [vec![0, 3, 0, 3], vec![1, 4, 1, 4], vec![2, 2]]
            .into_iter()
            .enumerate()
        {
            let batch = relays.lane(lane).try_next(9);
            assert_eq!(ordinals(&batch), wanted);
            assert!(batch.is_sorted_by_key(|letter| letter.since));
        }
    }
}
