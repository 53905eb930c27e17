//! The session on a line: one of the protocols, behind one set of calls.
//!
//! A match where a trait object would be: no allocation and no virtual call a message. Each
//! protocol's module turns these calls into those of its state machine in [`crate::session`], and
//! its events into [`Heard`]. Bound: that of each protocol's session.

use actorsim_actors::Time;

use super::plan::{Plan, Speech};
use super::{coap, http, mqtt};
use crate::session::coap::Output as CoapOutput;
use crate::session::http::Output as HttpOutput;
use crate::session::mqtt::Output as MqttOutput;

/// The session of one device.
#[derive(Debug)]
pub(crate) enum Session {
    Mqtt(mqtt::Session),
    Http(http::Session),
    Coap(coap::Session),
}

/// Who calls a session, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    /// Device id.
    pub(crate) id: &'a str,
    /// The device's.
    pub(crate) seed: u64,
    /// Monotonic.
    pub(crate) now: Time,
}

/// Tag of messages that are not samples: nobody waits for word of them.
pub(crate) const OWN: u64 = 0;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The outbox is full.
    Full,
    /// The peer never takes it.
    TooLarge,
}

/// What has come out of a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The peer has accepted the session.
    Up,
    /// It has shown that it works: what fails from here on is tried again as soon as at first.
    Sound,
    /// It has taken a sample.
    Delivered { tag: u64 },
    /// It has refused a message for good, or forgotten it.
    Refused,
    /// Something was wrong that ends nothing.
    Trouble,
    /// It tells the device something.
    Inbound(Inbound),
}

/// A message to the device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inbound {
    pub(crate) payload: Box<[u8]>,
    pub(crate) reply_to: ReplyTo,
}

/// Where the reply to a message goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReplyTo {
    /// Where replies of the device go.
    Own,
    /// The message names a topic.
    Topic(Box<str>),
    /// The message is a request, and the reply its answer.
    Request,
}

/// How a session has come to the end of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As the device wanted.
    Closed,
    /// As the peer may: it tries again at once.
    Again,
    /// It has to try again later.
    Failed,
}

/// What sessions of a slab write to; emptied after each call.
#[derive(Debug, Default)]
pub(crate) struct SessionOut {
    /// Drained by the line.
    pub(crate) heard: Vec<Heard>,
    pub(super) mqtt: MqttOutput,
    pub(super) http: HttpOutput,
    pub(super) coap: CoapOutput,
    pub(super) topic: String,
}

/// Calls the session with what its plan says of its protocol.
macro_rules! with {
    ($session:expr, $plan:expr, |$own:ident, $speech:ident| $call:expr) => {
        match ($session, &$plan.speech) {
            (Session::Mqtt($own), Speech::Mqtt($speech)) => $call,
            (Session::Http($own), Speech::Http($speech)) => $call,
            (Session::Coap($own), Speech::Coap($speech)) => $call,
            _ => unreachable!("a line speaks what its plan says: it is made of it"),
        }
    };
}

impl Session {
    /// The session that a plan asks for.
    pub(crate) fn new(plan: &Plan) -> Self {
        match &plan.speech {
            Speech::Mqtt(_) => Self::Mqtt(mqtt::Session::default()),
            Speech::Http(_) => Self::Http(http::Session::default()),
            Speech::Coap(_) => Self::Coap(coap::Session::default()),
            Speech::Pooled(_) | Speech::Amqp(_) => {
                unreachable!("devices with a publisher have no line")
            }
        }
    }

    /// Messages that wait, those in flight included.
    pub(crate) fn waiting(&self) -> usize {
        match self {
            Self::Mqtt(session) => session.waiting(),
            Self::Http(session) => session.waiting(),
            Self::Coap(session) => session.waiting(),
        }
    }

    /// A connection is there.
    pub(crate) fn open(&mut self, plan: &Plan, who: &Who<'_>, out: &mut SessionOut) {
        with!(self, plan, |session, speech| session.open(speech, who, out));
    }

    /// The peer has accepted the session: what there is to say first.
    pub(crate) fn greet(&mut self, plan: &Plan, who: &Who<'_>, out: &mut SessionOut) {
        with!(self, plan, |session, speech| session
            .greet(speech, who, out));
    }

    /// Takes bytes of the peer.
    pub(crate) fn received(
        &mut self,
        plan: &Plan,
        bytes: &[u8],
        who: &Who<'_>,
        out: &mut SessionOut,
    ) {
        with!(self, plan, |session, speech| session
            .received(speech, bytes, who, out));
    }

    /// The peer sends no more. Who has no use for that is ended by its line.
    pub(crate) fn finished(&mut self, plan: &Plan, who: &Who<'_>, out: &mut SessionOut) {
        with!(self, plan, |session, speech| session
            .finished(speech, who, out));
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, plan: &Plan, who: &Who<'_>, out: &mut SessionOut) {
        with!(self, plan, |session, speech| session
            .expire(speech, who, out));
    }

    /// When [`Session::expire`] wants to be called.
    pub(crate) fn deadline(&self, plan: &Plan) -> Option<Time> {
        with!(self, plan, |session, speech| session.deadline(speech))
    }

    /// Takes a sample, and the tag that [`Heard::Delivered`] gives back; never [`OWN`].
    pub(crate) fn publish(
        &mut self,
        plan: &Plan,
        sample: (&[u8], u64),
        who: &Who<'_>,
        out: &mut SessionOut,
    ) -> Result<(), NotTaken> {
        with!(self, plan, |session, speech| session
            .publish(speech, sample, who, out))
    }

    /// Gives up the oldest sample that has not gone yet; false if there is none.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        match self {
            Self::Mqtt(session) => session.drop_oldest(),
            Self::Http(session) => session.drop_oldest(),
            Self::Coap(session) => session.drop_oldest(),
        }
    }

    /// Takes the reply to a message; false if it was not taken.
    pub(crate) fn reply(
        &mut self,
        plan: &Plan,
        (to, payload): (&ReplyTo, &[u8]),
        who: &Who<'_>,
        out: &mut SessionOut,
    ) -> bool {
        with!(self, plan, |session, speech| session.reply(
            speech,
            (to, payload),
            who,
            out
        ))
    }

    /// Ends the session in order.
    pub(crate) fn close(&mut self, plan: &Plan, who: &Who<'_>, out: &mut SessionOut) {
        with!(self, plan, |session, speech| session
            .close(speech, who, out));
    }

    /// The connection is gone.
    pub(crate) fn lost(&mut self) {
        match self {
            Self::Mqtt(session) => session.lost(),
            Self::Http(session) => session.lost(),
            Self::Coap(session) => session.lost(),
        }
    }
}

impl SessionOut {
    /// What is for the peer: a part of the stream, or datagrams.
    pub(crate) fn outgoing(&mut self, of: &Session) -> Outgoing<'_> {
        match of {
            Session::Mqtt(_) => Outgoing::Stream(&mut self.mqtt.bytes),
            Session::Http(_) => Outgoing::Stream(&mut self.http.bytes),
            Session::Coap(_) => Outgoing::Datagrams(&mut self.coap),
        }
    }

    /// Moves the session's events to [`SessionOut::heard`]; says how its connection ended.
    pub(crate) fn settle(&mut self, of: &Session) -> Option<Ending> {
        match of {
            Session::Mqtt(_) => mqtt::settle(&mut self.mqtt, &mut self.heard),
            Session::Http(_) => http::settle(&mut self.http, &mut self.heard),
            Session::Coap(_) => coap::settle(&mut self.coap, &mut self.heard),
        }
    }

    /// Forgets all of it, which a step that failed has left.
    #[cold]
    pub(crate) fn cut(&mut self) {
        *self = Self::default();
    }
}

/// What is for the peer; its taker empties it.
pub(crate) enum Outgoing<'a> {
    Stream(&'a mut Vec<u8>),
    Datagrams(&'a mut CoapOutput),
}
