//! Messages on their way to the broker, in order.
//!
//! The first [`Outbox::in_flight`] have been sent on this connection and wait for an answer; the
//! others wait for their turn. A packet is encoded once; its identifier is set when it goes. Bound:
//! the options' `outbox_max`, kept by the caller.

use std::collections::VecDeque;

use actorsim_actors::Time;

use super::packet::{Publish, Qos};

/// The flag of a repeated message in the first byte (3.3.1.1).
const DUP: u8 = 0x08;
/// The identifier of subscriptions, which no message ever has.
pub(super) const SUBSCRIBE_ID: u16 = u16::MAX;

/// One message.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The PUBLISH packet; empty once the broker has taken it over (QoS 2).
    packet: Box<[u8]>,
    /// Where in it the identifier stands.
    id_at: u32,
    /// Identifier, from its first sending on.
    pub(super) id: u16,
    pub(super) qos: Qos,
    pub(super) tag: u64,
    /// When it was last sent.
    sent: Time,
}

impl Outgoing {
    /// A message of which `packet` is the encoding of `publish`.
    pub(super) fn new(packet: Box<[u8]>, publish: &Publish<'_>, tag: u64) -> Self {
        let head = 1 + packet[1..].iter().take_while(|b| **b & 0x80 != 0).count() + 1;
        Self {
            id_at: (head + 2 + publish.topic.len()) as u32,
            packet,
            id: 0,
            qos: publish.qos,
            tag,
            sent: Time::ZERO,
        }
    }

    /// Whether the broker has taken it over (QoS 2, after PUBREC).
    pub(super) fn is_released(&self) -> bool {
        self.packet.is_empty()
    }

    /// The broker has taken it over.
    pub(super) fn release(&mut self, now: Time) {
        self.packet = Box::default();
        self.sent = now;
    }
}

/// The messages of one session.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    messages: VecDeque<Outgoing>,
    in_flight: u16,
    next_id: u16,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        usize::from(self.in_flight)
    }

    pub(super) fn push(&mut self, message: Outgoing) {
        self.messages.push_back(message);
    }

    /// Takes the oldest message that has not been sent.
    pub(super) fn drop_oldest(&mut self) -> Option<Outgoing> {
        self.messages.remove(self.in_flight())
    }

    /// Sends the next message if it may go.
    pub(super) fn send_next(
        &mut self,
        takes: &Takes,
        now: Time,
        out: &mut Vec<u8>,
    ) -> Option<Sending> {
        let at = self.in_flight();
        let next = self.messages.get(at)?;
        if next.packet.len() > takes.packet_max {
            return Some(Sending::TooLarge(self.messages.remove(at)?.tag));
        }
        if next.qos == Qos::AtMostOnce {
            let message = self.messages.remove(at)?;
            out.extend_from_slice(&message.packet);
            return Some(Sending::Gone(message.tag));
        }
        if self.in_flight >= takes.window {
            return None;
        }
        let id = self.free_id();
        let message = &mut self.messages[at];
        message.id = id;
        message.sent = now;
        let id_at = message.id_at as usize;
        message.packet[id_at..id_at + 2].copy_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&message.packet);
        self.in_flight += 1;
        Some(Sending::Waits)
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % (SUBSCRIBE_ID - 1) + 1;
            let id = self.next_id;
            // A window is far smaller than 65,535, so a free one is near.
            if !self.sent().any(|message| message.id == id) {
                return id;
            }
        }
    }

    fn sent(&self) -> impl Iterator<Item = &Outgoing> {
        self.messages.iter().take(self.in_flight())
    }

    /// The message in flight with this identifier.
    pub(super) fn find(&mut self, id: u16) -> Option<(usize, &mut Outgoing)> {
        let in_flight = self.in_flight();
        let sent = self.messages.iter_mut().take(in_flight).enumerate();
        sent.into_iter().find(|(_, message)| message.id == id)
    }

    /// Takes a message in flight out.
    pub(super) fn finish(&mut self, at: usize) -> Option<Outgoing> {
        if at >= self.in_flight() {
            return None;
        }
        self.in_flight -= 1;
        let message = self.messages.remove(at);
        if self.messages.is_empty() {
            self.messages = VecDeque::new(); // an idle session keeps no memory
        }
        message
    }

    /// When the message that has waited longest was sent.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.sent().map(|message| message.sent).min()
    }

    /// The broker has kept the session: sends again what waits for an answer, in order.
    pub(super) fn resume(&mut self, now: Time, mut again: impl FnMut(&Outgoing)) {
        let in_flight = self.in_flight();
        for message in self.messages.iter_mut().take(in_flight) {
            message.sent = now;
            if let Some(header) = message.packet.first_mut() {
                *header |= DUP;
            }
            again(message);
        }
    }

    /// The broker has lost the session: what was in flight waits for its turn again, as new. What
    /// it had taken over already is given up.
    pub(super) fn restart(&mut self, mut uncertain: impl FnMut(u64)) {
        self.in_flight = 0;
        self.messages.retain_mut(|message| {
            message.id = 0;
            if message.is_released() {
                uncertain(message.tag);
                return false;
            }
            message.packet[0] &= !DUP;
            true
        });
    }

    /// The bytes of a message as they are to be sent.
    pub(super) fn bytes(message: &Outgoing) -> &[u8] {
        &message.packet
    }
}

/// What the broker takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Takes {
    /// Messages of QoS 1 and 2 at a time.
    pub(super) window: u16,
    /// Bytes a packet.
    pub(super) packet_max: usize,
}

/// How a message went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// Nobody will answer.
    Gone(u64),
    /// It did not: this broker takes smaller packets than the one before.
    TooLarge(u64),
    /// It waits for its answer.
    Waits,
}
