//! What is on its way to the broker, until it is confirmed.
//!
//! It sends nothing. Bound: that of its owner, who looks at [`Flight::len`] first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actorsim_actors::Clock;
use amqprs::callbacks::ChannelCallback;
use amqprs::channel::Channel;
use amqprs::error::Error;
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, Nack, Return};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::broker::relay::{Letter, Relay};
use crate::broker::stats::PublishTally;

/// What is on its way on one channel, by the number that the broker confirms.
#[derive(Debug, Default)]
struct Lane {
    next: u64,
    unconfirmed: VecDeque<(u64, Letter)>,
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Flight {
    lanes: Mutex<BTreeMap<u16, Lane>>,
    /// Messages that the broker has decided on so far.
    ended: AtomicU64,
    pub(super) changed: Notify,
    /// A channel was closed by the broker.
    pub(super) broken: Notify,
}

impl Flight {
    pub(super) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn len(&self) -> usize {
        let lanes = self.lanes.lock();
        lanes.values().map(|lane| lane.unconfirmed.len()).sum()
    }

    /// A message goes on a channel.
    pub(super) fn begin(&self, channel: u16, letter: Letter) {
        let mut lanes = self.lanes.lock();
        let lane = lanes.entry(channel).or_default();
        lane.next += 1;
        lane.unconfirmed.push_back((lane.next, letter));
    }

    /// The broker has decided on a message, or on all up to it.
    fn end(&self, channel: u16, tag: u64, multiple: bool) -> Vec<Letter> {
        let mut lanes = self.lanes.lock();
        let Some(lane) = lanes.get_mut(&channel) else {
            return Vec::new();
        };
        let ended: Vec<Letter> = if multiple || tag == 0 {
            let up_to = if tag == 0 { u64::MAX } else { tag };
            let count = lane.unconfirmed.partition_point(|(own, _)| *own <= up_to);
            lane.unconfirmed
                .drain(..count)
                .map(|(_, letter)| letter)
                .collect()
        } else {
            let at = lane.unconfirmed.binary_search_by_key(&tag, |(own, _)| *own);
            let found = at.ok().and_then(|at| lane.unconfirmed.remove(at));
            found.into_iter().map(|(_, letter)| letter).collect()
        };
        drop(lanes);
        self.ended.fetch_add(ended.len() as u64, Ordering::Relaxed);
        self.changed.notify_one();
        ended
    }

    /// All of it, in the order in which it went on each channel.
    pub(super) fn abandon(&self) -> Vec<Letter> {
        let lanes = std::mem::take(&mut *self.lanes.lock());
        let all = lanes.into_values().flat_map(|lane| lane.unconfirmed);
        all.map(|(_, letter)| letter).collect()
    }
}

/// Hears what the broker says of one channel.
pub(super) struct Confirms {
    pub(super) flight: Arc<Flight>,
    pub(super) relay: Relay,
    pub(super) clock: Clock,
}

#[async_trait]
impl ChannelCallback for Confirms {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), Error> {
        tracing::warn!("amqp: the broker closed a channel: {close}");
        self.flight.broken.notify_one();
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), Error> {
        self.flight.broken.notify_one();
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, channel: &Channel, ack: Ack) {
        let id = channel.channel_id();
        let ended = self.flight.end(id, ack.delivery_tag(), ack.mutiple());
        let now = self.clock.monotonic();
        let mut tally = PublishTally::default();
        for since in ended.iter().filter_map(|letter| letter.since) {
            tally.acked += 1;
            let us = now.since(since).as_micros();
            tally.latencies.push(u32::try_from(us).unwrap_or(u32::MAX));
        }
        self.relay.stats().take(&mut tally);
    }

    /// The broker could not keep them: they go again.
    async fn publish_nack(&mut self, channel: &Channel, nack: Nack) {
        let id = channel.channel_id();
        let ended = self.flight.end(id, nack.delivery_tag(), nack.multiple());
        self.relay.put_back(ended.into_iter());
    }

    async fn publish_return(&mut self, _: &Channel, _: Return, _: BasicProperties, _: Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(flight: &Flight, channel: u16, ordinals: std::ops::Range<u32>) {
        for ordinal in ordinals {
            let letter = Letter {
                ordinal,
                since: None,
                key: "a".into(),
                direct: false,
                qos: crate::session::mqtt::Qos::AtLeastOnce,
                content_type: "text/plain",
                body: Box::default(),
            };
            flight.begin(channel, letter);
        }
    }

    fn ordinals(of: &[Letter]) -> Vec<u32> {
        of.iter().map(|letter| letter.ordinal).collect()
    }

    #[test]
    fn a_broker_confirms_one_or_all_up_to_one_and_what_is_left_goes_again() {
        let flight = Flight::default();
        letters(&flight, 2, 0..5);
        letters(&flight, 3, 10..12);
        assert_eq!(ordinals(&flight.end(2, 2, false)), [1]);
        assert_eq!(ordinals(&flight.end(2, 3, true)), [0, 2]);
        assert!(flight.end(2, 3, false).is_empty(), "twice is once");
        assert!(flight.end(9, 1, true).is_empty(), "no such channel");
        assert_eq!((flight.len(), flight.ended()), (4, 3));
        assert_eq!(ordinals(&flight.abandon()), [3, 4, 10, 11]);
        letters(&flight, 2, 7..8);
        assert_eq!(
            ordinals(&flight.end(2, 1, false)),
            [7],
            "numbers begin anew"
        );
    }
}
