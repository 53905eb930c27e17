//! A device as an MQTT client: telemetry, commands, replies, and a status that its will ends.
//!
//! The state machine is [`crate::session::mqtt`]; here are the topics and what is said on them.
//! Bound: that of the session.

use super::plan::MqttSpeech;
use super::session::{Ending, Heard, Inbound, NotTaken, OWN, ReplyTo, SessionOut, Who};
use crate::session::mqtt::client::Message;
use crate::session::mqtt::{Client, Ended, Event, Login, Output, PublishError, Qos, Will};

/// The session of one device.
#[derive(Debug, Default)]
pub(crate) struct Session(Client);

impl Session {
    pub(super) fn waiting(&self) -> usize {
        self.0.waiting()
    }

    pub(super) fn open(&mut self, speech: &MqttSpeech, who: &Who<'_>, out: &mut SessionOut) {
        out.topic.clear();
        speech.status.write(who.id, &mut out.topic);
        let login = Login {
            client_id: who.id,
            will: Some(Will {
                topic: &out.topic,
                payload: b"lost",
                qos: Qos::AtLeastOnce,
                retain: true,
            }),
            username: speech.credentials.username.as_deref(),
            password: speech.credentials.password.as_deref(),
        };
        self.0.open(&speech.options, &login, who.now, &mut out.mqtt);
    }

    /// Hears commands, and says that it is there; then goes what waits.
    pub(super) fn greet(&mut self, speech: &MqttSpeech, who: &Who<'_>, out: &mut SessionOut) {
        out.topic.clear();
        speech.commands.write(who.id, &mut out.topic);
        let hears = self.0.subscribe(
            &speech.options,
            &out.topic,
            Qos::AtLeastOnce,
            who.now,
            &mut out.mqtt,
        );
        if hears.is_err() {
            out.heard.push(Heard::Trouble);
        }
        self.status(speech, b"online", who, out);
        self.0.go_on(&speech.options, who.now, &mut out.mqtt);
    }

    /// Says what has become of it, before all that waits.
    fn status(&mut self, speech: &MqttSpeech, status: &[u8], who: &Who<'_>, out: &mut SessionOut) {
        out.topic.clear();
        speech.status.write(who.id, &mut out.topic);
        let message = Message {
            topic: &out.topic,
            payload: status,
            qos: Qos::AtMostOnce,
            retain: true,
            tag: OWN,
        };
        let said = self
            .0
            .announce(&speech.options, &message, who.now, &mut out.mqtt);
        if said.is_err() {
            out.heard.push(Heard::Trouble);
        }
    }

    pub(super) fn received(
        &mut self,
        speech: &MqttSpeech,
        bytes: &[u8],
        who: &Who<'_>,
        out: &mut SessionOut,
    ) {
        self.0
            .received(&speech.options, bytes, who.now, &mut out.mqtt);
    }

    /// A broker that sends no more has nothing more to hear.
    pub(super) fn finished(&self, _: &MqttSpeech, _: &Who<'_>, _: &mut SessionOut) {}

    pub(super) fn expire(&mut self, speech: &MqttSpeech, who: &Who<'_>, out: &mut SessionOut) {
        self.0.expire(&speech.options, who.now, &mut out.mqtt);
    }

    pub(super) fn deadline(&self, speech: &MqttSpeech) -> Option<actorsim_actors::Time> {
        self.0.deadline(&speech.options)
    }

    pub(super) fn publish(
        &mut self,
        speech: &MqttSpeech,
        (payload, tag): (&[u8], u64),
        who: &Who<'_>,
        out: &mut SessionOut,
    ) -> Result<(), NotTaken> {
        out.topic.clear();
        speech.telemetry.write(who.id, &mut out.topic);
        let message = Message {
            topic: &out.topic,
            payload,
            qos: speech.qos,
            retain: false,
            tag,
        };
        let taken = self
            .0
            .publish(&speech.options, &message, who.now, &mut out.mqtt);
        taken.map_err(|error| match error {
            PublishError::Full => NotTaken::Full,
            PublishError::TooLarge { .. } => NotTaken::TooLarge,
        })
    }

    pub(super) fn drop_oldest(&mut self) -> bool {
        self.0.drop_oldest().is_some()
    }

    pub(super) fn reply(
        &mut self,
        speech: &MqttSpeech,
        (to, payload): (&ReplyTo, &[u8]),
        who: &Who<'_>,
        out: &mut SessionOut,
    ) -> bool {
        out.topic.clear();
        match to {
            ReplyTo::Topic(topic) => out.topic.push_str(topic),
            ReplyTo::Own | ReplyTo::Request => speech.replies.write(who.id, &mut out.topic),
        }
        let message = Message {
            topic: &out.topic,
            payload,
            qos: Qos::AtLeastOnce,
            retain: false,
            tag: OWN,
        };
        let taken = self
            .0
            .publish(&speech.options, &message, who.now, &mut out.mqtt);
        taken.is_ok()
    }

    /// `offline`, then goodbye: the broker publishes no will.
    pub(super) fn close(&mut self, speech: &MqttSpeech, who: &Who<'_>, out: &mut SessionOut) {
        if self.0.is_up() {
            self.status(speech, b"offline", who, out);
            self.0.close(&speech.options, &mut out.mqtt);
        }
    }

    pub(super) fn lost(&mut self) {
        self.0.lost();
    }
}

/// Translates what a session has put out.
pub(super) fn settle(out: &mut Output, heard: &mut Vec<Heard>) -> Option<Ending> {
    heard.extend(out.events.drain(..).filter_map(|event| match event {
        Event::Up { .. } => Some(Heard::Up),
        Event::Delivered { tag: OWN } => None,
        Event::Delivered { tag } => Some(Heard::Delivered { tag }),
        Event::Refused { .. } | Event::Uncertain { .. } => Some(Heard::Refused),
        Event::Subscribed { granted } => granted.is_none().then_some(Heard::Trouble),
        Event::Message(inbound) => Some(Heard::Inbound(Inbound {
            payload: inbound.payload,
            reply_to: match inbound.response_topic {
                Some(topic) => ReplyTo::Topic(topic),
                None => ReplyTo::Own,
            },
        })),
    }));
    out.ended.take().map(|why| match why {
        Ended::Closed => Ending::Closed,
        _ => Ending::Failed,
    })
}
