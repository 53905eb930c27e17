//! The session of one device.
//!
//! Its owner opens a connection, calls [`Client::open`], then [`Client::received`] with whatever
//! comes, [`Client::expire`] at [`Client::deadline`], and [`Client::lost`] when the connection is
//! gone; messages in the outbox outlive all of these. On [`Event::Up`] it says what comes first (it
//! subscribes, and announces its birth), then [`Client::go_on`]: nothing that waits goes before.
//! Times are monotonic. Bound: see [`Options`].

use std::time::Duration;

use actorsim_actors::Time;

use super::options::{Login, Options};
use super::outbox::{Outbox, Outgoing, SUBSCRIBE_ID, Sending, Takes};
use super::output::{Ended, Event, Inbound, Output, PublishError};
use super::packet::{Connect, Filters, Malformed, Packet, Publish, Qos, Step, TooLong, Version};
use super::property::Properties;
use super::read::frame;
use super::write::REMAINING_MAX;

/// Messages of QoS 2 that the broker may have half-way towards us at a time; announced in MQTT 5.
const INBOUND_QOS2_MAX: usize = 16;
/// From this code on a MQTT 5 reason means that it went wrong (MQTT 5.0, 2.4).
const FAILURES: u8 = 0x80;
/// An answer to QoS 2 that the peer has nothing left to say to (MQTT 5.0, 3.6.2.1).
const ID_NOT_FOUND: u8 = 0x92;
/// What a broker would answer to a packet that it does not take (MQTT 5.0, 2.4).
const PACKET_TOO_LARGE: u8 = 0x95;

/// First byte of the answer to CONNECT.
const CONNACK: u8 = 0x20;
const NOT_AN_ANSWER: &str = "its first packet is no answer to CONNECT";

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is none.
    Down,
    /// CONNECT has gone.
    Opening,
    /// CONNACK has come; what waits stays until the owner has said what comes first.
    Greeting { resumed: bool },
    /// All goes.
    Up,
}

/// The client side of one MQTT session.
#[derive(Debug)]
pub struct Client {
    phase: Phase,
    outbox: Outbox,
    /// A packet that has come in part.
    partial: Vec<u8>,
    /// Messages of QoS 2 from the broker, between PUBREC and PUBREL.
    half_way: Vec<u16>,
    /// Since when a subscription waits for its answer.
    subscribing: Option<Time>,
    takes: Takes,
    keep_alive: Duration,
    /// When the connection was opened, or last written to.
    written: Time,
    /// When the ping in flight was sent.
    pinged: Option<Time>,
}

/// A message to publish.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Where: no wildcards.
    pub topic: &'a str,
    /// What.
    pub payload: &'a [u8],
    /// How surely.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// The owner's number for it, given back by events.
    pub tag: u64,
}

impl<'a> Message<'a> {
    /// The packet; its identifier is set when it goes.
    fn publish(&self) -> Publish<'a> {
        Publish {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic,
            id: u16::from(self.qos != Qos::AtMostOnce),
            properties: Properties::default(),
            payload: self.payload,
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            phase: Phase::Down,
            outbox: Outbox::default(),
            partial: Vec::new(),
            half_way: Vec::new(),
            subscribing: None,
            takes: Takes {
                window: 0,
                packet_max: REMAINING_MAX,
            },
            keep_alive: Duration::ZERO,
            written: Time::ZERO,
            pinged: None,
        }
    }
}

impl Client {
    /// Whether the broker has accepted the session on this connection.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. } | Phase::Up)
    }

    /// Messages that wait, those in flight included.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Messages that wait for an answer of the broker.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.outbox.in_flight()
    }

    /// A connection is there: says who this is.
    pub fn open(&mut self, options: &Options, login: &Login<'_>, now: Time, out: &mut Output) {
        self.lost();
        let properties = match options.version {
            Version::V5 => Properties {
                session_expiry_s: Some(options.session_expiry_s),
                receive_max: Some(INBOUND_QOS2_MAX as u16),
                packet_max: Some(options.packet_max),
                ..Properties::default()
            },
            Version::V311 => Properties::default(),
        };
        let connect = Packet::Connect(Connect {
            version: options.version,
            clean_start: options.clean_start,
            keep_alive_s: options.keep_alive_s,
            client_id: login.client_id,
            will: login.will,
            username: login.username,
            password: login.password,
            properties,
        });
        match connect.write(options.version, &mut out.bytes) {
            Ok(()) => {
                self.phase = Phase::Opening;
                self.keep_alive = Duration::from_secs(options.keep_alive_s.into());
                self.written = now;
            }
            Err(too_long) => self.end(Ended::Login(too_long), out),
        }
    }

    /// The connection is gone. What waits in the outbox stays there.
    pub fn lost(&mut self) {
        self.phase = Phase::Down;
        self.partial = Vec::new();
        self.subscribing = None;
        self.pinged = None;
    }

    /// Says goodbye: the broker publishes no will. What waits in the outbox stays there.
    pub fn close(&mut self, options: &Options, out: &mut Output) {
        if self.is_up() {
            let _ = Packet::Disconnect { code: 0 }.write(options.version, &mut out.bytes);
        }
        self.end(Ended::Closed, out);
    }

    fn end(&mut self, why: Ended, out: &mut Output) {
        self.lost();
        out.ended = Some(why);
    }

    /// Takes a message, and sends it if it is its turn.
    ///
    /// # Errors
    /// It was not taken.
    pub fn publish(
        &mut self,
        options: &Options,
        message: &Message<'_>,
        now: Time,
        out: &mut Output,
    ) -> Result<(), PublishError> {
        let at_once = self.phase == Phase::Up && self.outbox.len() == self.outbox.in_flight();
        if message.qos == Qos::AtMostOnce && at_once {
            self.announce(options, message, now, out)?;
            out.events.push(Event::Delivered { tag: message.tag });
            return Ok(());
        }
        if self.outbox.len() >= usize::from(options.outbox_max) {
            return Err(PublishError::Full);
        }
        let publish = message.publish();
        let size = 16 + message.topic.len() + message.payload.len();
        let mut bytes = Vec::with_capacity(size);
        self.write(options, &publish, &mut bytes)?;
        let outgoing = Outgoing::new(bytes.into_boxed_slice(), &publish, message.tag);
        self.outbox.push(outgoing);
        self.pump(now, out);
        Ok(())
    }

    /// Says a message of QoS 0 now, before all that waits: that its owner is there, or leaves. It
    /// is for this connection: if that has ended meanwhile, nothing is said. There is no event.
    ///
    /// # Errors
    /// It is too large.
    pub fn announce(
        &mut self,
        options: &Options,
        message: &Message<'_>,
        now: Time,
        out: &mut Output,
    ) -> Result<(), PublishError> {
        debug_assert_eq!(message.qos, Qos::AtMostOnce, "nobody would answer");
        if !self.is_up() {
            return Ok(());
        }
        self.write(options, &message.publish(), &mut out.bytes)?;
        self.written = now;
        Ok(())
    }

    /// Appends a message that the broker would take.
    fn write(
        &self,
        options: &Options,
        publish: &Publish<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), PublishError> {
        let (start, most) = (out.len(), self.takes.packet_max);
        let too_large = |bytes| PublishError::TooLarge { bytes, most };
        Packet::Publish(*publish)
            .write(options.version, out)
            .map_err(|TooLong { bytes }| too_large(bytes))?;
        let bytes = out.len() - start;
        if bytes > most {
            out.truncate(start);
            return Err(too_large(bytes));
        }
        Ok(())
    }

    /// Gives up the oldest message that has not been sent yet, and says which.
    pub fn drop_oldest(&mut self) -> Option<u64> {
        self.outbox.drop_oldest().map(|message| message.tag)
    }

    /// Whether a subscription waits for its answer.
    #[must_use]
    pub const fn is_subscribing(&self) -> bool {
        self.subscribing.is_some()
    }

    /// Asks for the messages of one topic filter; answered by [`Event::Subscribed`]. One at a time.
    ///
    /// # Errors
    /// The filter is more than MQTT can express, empty, or the session is not up.
    pub fn subscribe(
        &mut self,
        options: &Options,
        filter: &str,
        qos: Qos,
        now: Time,
        out: &mut Output,
    ) -> Result<(), SubscribeError> {
        let mut bytes = Vec::with_capacity(filter.len() + 3);
        Filters::append(&mut bytes, filter, qos)?;
        self.subscribe_all(options, Filters::new(&bytes)?, now, out)
    }

    /// The same for several filters; each is answered.
    ///
    /// # Errors
    /// They are more than one packet can hold, or the session is not up.
    pub fn subscribe_all(
        &mut self,
        options: &Options,
        filters: Filters<'_>,
        now: Time,
        out: &mut Output,
    ) -> Result<(), SubscribeError> {
        if !self.is_up() || self.is_subscribing() {
            return Err(SubscribeError::NotNow);
        }
        let id = SUBSCRIBE_ID;
        Packet::Subscribe { id, filters }.write(options.version, &mut out.bytes)?;
        self.subscribing = Some(now);
        self.written = now;
        Ok(())
    }

    /// The owner has said what comes first: sends what waits, and again what the broker has not
    /// acknowledged of a session that it has kept.
    pub fn go_on(&mut self, options: &Options, now: Time, out: &mut Output) {
        let Phase::Greeting { resumed } = self.phase else {
            return;
        };
        self.phase = Phase::Up;
        if resumed {
            self.outbox.resume(now, |message| {
                if message.is_released() {
                    let release = Packet::Step {
                        step: Step::Rel,
                        id: message.id,
                        code: 0,
                    };
                    let _ = release.write(options.version, &mut out.bytes);
                } else {
                    out.bytes.extend_from_slice(Outbox::bytes(message));
                }
            });
            self.written = now;
        }
        self.pump(now, out);
    }

    /// Sends what may go.
    fn pump(&mut self, now: Time, out: &mut Output) {
        if self.phase != Phase::Up {
            return;
        }
        while let Some(sending) = self.outbox.send_next(&self.takes, now, &mut out.bytes) {
            self.written = now;
            match sending {
                Sending::Waits => {}
                Sending::Gone(tag) => out.events.push(Event::Delivered { tag }),
                Sending::TooLarge(tag) => out.events.push(Event::Refused {
                    tag,
                    code: PACKET_TOO_LARGE,
                }),
            }
        }
    }

    /// Since when the broker owes an acknowledgement on this connection.
    fn in_doubt(&self) -> Option<Time> {
        self.outbox.oldest().filter(|_| self.phase == Phase::Up)
    }

    /// When [`Client::expire`] wants to be called.
    #[must_use]
    pub fn deadline(&self, options: &Options) -> Option<Time> {
        let patience = options.answer_timeout;
        match self.phase {
            Phase::Down => None,
            Phase::Opening => Some(self.written + patience),
            Phase::Greeting { .. } | Phase::Up => {
                let ping = match (self.pinged, self.keep_alive) {
                    (Some(pinged), _) => Some(pinged + patience),
                    (None, Duration::ZERO) => None,
                    (None, silence) => Some(self.written + silence),
                };
                let asked = self.in_doubt().into_iter().chain(self.subscribing);
                let answer = asked.map(|sent| sent + patience);
                ping.into_iter().chain(answer).min()
            }
        }
    }

    /// Does what is due: a ping, or giving up a silent broker.
    pub fn expire(&mut self, options: &Options, now: Time, out: &mut Output) {
        let patience = options.answer_timeout;
        let silent = match self.phase {
            Phase::Down => None,
            Phase::Opening => (self.written + patience <= now).then_some("answer to CONNECT"),
            Phase::Greeting { .. } | Phase::Up => {
                let late = |asked: Option<Time>| asked.is_some_and(|at| at + patience <= now);
                let waits = [
                    (self.pinged, "answer to a ping"),
                    (self.in_doubt(), "acknowledgement"),
                    (self.subscribing, "answer to a subscription"),
                ];
                let found = waits.into_iter().find(|(asked, _)| late(*asked));
                found.map(|(_, what)| what)
            }
        };
        if let Some(what) = silent {
            return self.end(Ended::Silent(what), out);
        }
        let quiet = self.keep_alive > Duration::ZERO && self.written + self.keep_alive <= now;
        if self.is_up() && quiet && self.pinged.is_none() {
            let _ = Packet::PingReq.write(options.version, &mut out.bytes);
            self.pinged = Some(now);
            self.written = now;
        }
    }

    /// Takes bytes of the broker, cut anywhere. After an end the rest is ignored.
    pub fn received(&mut self, options: &Options, bytes: &[u8], now: Time, out: &mut Output) {
        let taken = if self.partial.is_empty() {
            self.packets(options, bytes, now, out)
        } else {
            let mut all = std::mem::take(&mut self.partial);
            all.extend_from_slice(bytes);
            let taken = self.packets(options, &all, now, out);
            if self.phase != Phase::Down && taken < all.len() {
                all.drain(..taken);
                self.partial = all;
            }
            return;
        };
        if self.phase != Phase::Down && taken < bytes.len() {
            self.partial = bytes[taken..].to_vec();
        }
    }

    /// Takes the whole packets at the front of `bytes`; returns how many bytes these were.
    fn packets(&mut self, options: &Options, bytes: &[u8], now: Time, out: &mut Output) -> usize {
        let most = options.packet_max as usize;
        let mut taken = 0;
        while self.phase != Phase::Down {
            let next = frame(&bytes[taken..], most).and_then(|frame| match frame {
                Some(frame) => {
                    taken += frame.len;
                    Packet::read(frame, options.version).map(Some)
                }
                None => Ok(None),
            });
            match next {
                Ok(Some(packet)) => {
                    if let Err(ended) = self.packet(options, &packet, now, out) {
                        self.end(ended, out);
                    }
                }
                Ok(None) => {
                    // who speaks another protocol is not waited for
                    let strange = bytes.get(taken).is_some_and(|header| *header != CONNACK);
                    if self.phase == Phase::Opening && strange {
                        self.end(Ended::Protocol(NOT_AN_ANSWER), out);
                    }
                    break;
                }
                Err(malformed) => self.end(Ended::Malformed(malformed), out),
            }
        }
        taken
    }

    fn packet(
        &mut self,
        options: &Options,
        packet: &Packet<'_>,
        now: Time,
        out: &mut Output,
    ) -> Result<(), Ended> {
        match (self.phase, packet) {
            (
                Phase::Opening,
                Packet::ConnAck {
                    session_present,
                    code,
                    properties,
                },
            ) => self.opened(options, *session_present, *code, properties, out),
            (Phase::Opening, _) => Err(Ended::Protocol(NOT_AN_ANSWER)),
            (_, Packet::Publish(publish)) => self.inbound(options, publish, now, out),
            (_, Packet::Step { step, id, code }) => {
                self.step(options, *step, *id, *code, now, out);
                Ok(())
            }
            (_, Packet::SubAck { id, codes }) => {
                if *id == SUBSCRIBE_ID && self.subscribing.take().is_some() {
                    out.events
                        .extend(codes.iter().map(|code| Event::Subscribed {
                            granted: Qos::from_number(*code),
                        }));
                } else {
                    out.strays += 1;
                }
                Ok(())
            }
            (_, Packet::PingResp) => {
                self.pinged = None;
                Ok(())
            }
            (_, Packet::Disconnect { code }) if options.version == Version::V5 => {
                Err(Ended::ByBroker { code: *code })
            }
            _ => Err(Ended::Protocol("a packet that only a client sends")),
        }
    }

    fn opened(
        &mut self,
        options: &Options,
        session_present: bool,
        code: u8,
        properties: &Properties<'_>,
        out: &mut Output,
    ) -> Result<(), Ended> {
        if code != 0 {
            let why = properties.reason.map(Into::into);
            return Err(Ended::Refused { code, why });
        }
        if session_present && options.clean_start {
            return Err(Ended::Protocol("a session present after a clean start"));
        }
        let receive_max = properties.receive_max.unwrap_or(u16::MAX);
        let packet_max = properties.packet_max.map(|most| most as usize);
        self.takes = Takes {
            window: options.in_flight_max.min(receive_max).max(1),
            packet_max: packet_max.unwrap_or(REMAINING_MAX),
        };
        if let Some(seconds) = properties.keep_alive_s {
            self.keep_alive = Duration::from_secs(seconds.into());
        }
        if !session_present {
            self.half_way.clear();
            let events = &mut out.events;
            self.outbox
                .restart(|tag| events.push(Event::Uncertain { tag }));
        }
        let resumed = session_present;
        self.phase = Phase::Greeting { resumed };
        out.events.push(Event::Up { resumed });
        Ok(())
    }

    fn inbound(
        &mut self,
        options: &Options,
        publish: &Publish<'_>,
        now: Time,
        out: &mut Output,
    ) -> Result<(), Ended> {
        if publish.properties.topic_alias.is_some() {
            return Err(Ended::Protocol("a topic alias that was not offered"));
        }
        let again = publish.qos == Qos::ExactlyOnce && self.half_way.contains(&publish.id);
        let step = match publish.qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some(Step::Ack),
            Qos::ExactlyOnce => {
                if !again {
                    if self.half_way.len() >= INBOUND_QOS2_MAX {
                        return Err(Ended::Protocol("too many messages of QoS 2 half-way"));
                    }
                    self.half_way.push(publish.id);
                }
                Some(Step::Rec)
            }
        };
        if let Some(step) = step {
            self.answer(options, step, publish.id, 0, now, out);
        }
        if !again {
            out.events.push(Event::Message(Box::new(Inbound {
                topic: publish.topic.into(),
                payload: publish.payload.into(),
                qos: publish.qos,
                retain: publish.retain,
                response_topic: publish.properties.response_topic.map(Into::into),
                correlation: publish.properties.correlation.map(Into::into),
            })));
        }
        Ok(())
    }

    fn answer(
        &mut self,
        options: &Options,
        step: Step,
        id: u16,
        code: u8,
        now: Time,
        out: &mut Output,
    ) {
        let _ = Packet::Step { step, id, code }.write(options.version, &mut out.bytes);
        self.written = now;
    }

    /// A step of a message, ours or the broker's. What fits nothing is counted, and answered where
    /// the broker would wait for ever.
    fn step(
        &mut self,
        options: &Options,
        step: Step,
        id: u16,
        code: u8,
        now: Time,
        out: &mut Output,
    ) {
        if step == Step::Rel {
            let known = self.half_way.iter().position(|half| *half == id);
            let code = match (known, options.version) {
                (Some(at), _) => {
                    self.half_way.swap_remove(at);
                    0
                }
                (None, Version::V5) => ID_NOT_FOUND,
                (None, Version::V311) => 0,
            };
            return self.answer(options, Step::Comp, id, code, now, out);
        }
        let Some((at, message)) = self.outbox.find(id) else {
            out.strays += 1;
            return;
        };
        let expected = match (message.qos, message.is_released()) {
            (Qos::ExactlyOnce, false) => Step::Rec,
            (Qos::ExactlyOnce, true) => Step::Comp,
            _ => Step::Ack,
        };
        let repeated = step == Step::Rec && expected == Step::Comp;
        if step != expected && !repeated {
            out.strays += 1;
            return;
        }
        if code < FAILURES && step == Step::Rec {
            message.release(now);
            return self.answer(options, Step::Rel, id, 0, now, out);
        }
        if let Some(message) = self.outbox.finish(at) {
            let tag = message.tag;
            out.events.push(match code {
                // the broker has forgotten it because it was done with it
                ID_NOT_FOUND if step == Step::Comp => Event::Delivered { tag },
                FAILURES.. => Event::Refused { tag, code },
                _ => Event::Delivered { tag },
            });
        }
        self.pump(now, out);
    }
}

/// Why a subscription was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The session is not up, or another subscription waits for its answer.
    #[error("the session is not up, or still subscribing")]
    NotNow,
    /// The filter is empty.
    #[error("{0}")]
    Filter(#[from] Malformed),
    /// The filter is too long.
    #[error("{0}")]
    TooLong(#[from] TooLong),
}
