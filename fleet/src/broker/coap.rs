//! A device as a CoAP endpoint: samples are put or posted, commands observed, and put to it.
//!
//! The state machine is [`crate::session::coap`]. Bound: that of the session.

use actorsim_actors::Time;

use super::plan::CoapSpeech;
use super::session::{Ending, Heard, Inbound, NotTaken, ReplyTo, SessionOut, Who};
use crate::session::coap::{Client, Ended, Endpoint, Event, Output};

/// The session of one device.
#[derive(Debug, Default)]
pub(crate) struct Session {
    client: Client,
    /// The server has answered on this socket: what CoAP has for a session.
    up: bool,
}

impl CoapSpeech {
    fn endpoint<'a>(&'a self, who: &Who<'a>) -> Endpoint<'a> {
        Endpoint {
            paths: &self.paths,
            id: who.id,
            seed: who.seed,
        }
    }
}

impl Session {
    pub(super) fn waiting(&self) -> usize {
        self.client.waiting()
    }

    pub(super) fn open(&mut self, speech: &CoapSpeech, who: &Who<'_>, out: &mut SessionOut) {
        let to = speech.endpoint(who);
        self.client
            .open(&speech.options, &to, who.now, &mut out.coap);
    }

    pub(super) fn greet(&self, _: &CoapSpeech, _: &Who<'_>, _: &mut SessionOut) {}

    pub(super) fn received(
        &mut self,
        speech: &CoapSpeech,
        bytes: &[u8],
        who: &Who<'_>,
        out: &mut SessionOut,
    ) {
        let to = speech.endpoint(who);
        self.client
            .received(&speech.options, &to, bytes, who.now, &mut out.coap);
        if std::mem::take(&mut out.coap.answered) && !std::mem::replace(&mut self.up, true) {
            out.heard.extend([Heard::Up, Heard::Sound]);
        }
    }

    pub(super) fn finished(&self, _: &CoapSpeech, _: &Who<'_>, _: &mut SessionOut) {}

    pub(super) fn expire(&mut self, speech: &CoapSpeech, who: &Who<'_>, out: &mut SessionOut) {
        let to = speech.endpoint(who);
        self.client
            .expire(&speech.options, &to, who.now, &mut out.coap);
    }

    pub(super) fn deadline(&self, speech: &CoapSpeech) -> Option<Time> {
        self.client.deadline(&speech.options)
    }

    pub(super) fn publish(
        &mut self,
        speech: &CoapSpeech,
        sample: (&[u8], u64),
        who: &Who<'_>,
        out: &mut SessionOut,
    ) -> Result<(), NotTaken> {
        let to = speech.endpoint(who);
        let taken = self
            .client
            .publish(&speech.options, &to, sample, who.now, &mut out.coap);
        taken.map_err(|_| NotTaken::Full)
    }

    pub(super) fn drop_oldest(&mut self) -> bool {
        self.client.drop_oldest().is_some()
    }

    pub(super) fn reply(
        &mut self,
        speech: &CoapSpeech,
        (to, payload): (&ReplyTo, &[u8]),
        who: &Who<'_>,
        out: &mut SessionOut,
    ) -> bool {
        let reply = (payload, *to == ReplyTo::Request);
        let to = speech.endpoint(who);
        let taken = self
            .client
            .reply(&speech.options, &to, reply, who.now, &mut out.coap);
        taken.is_ok()
    }

    pub(super) fn close(&mut self, speech: &CoapSpeech, who: &Who<'_>, out: &mut SessionOut) {
        let to = speech.endpoint(who);
        self.client.close(&to, &mut out.coap);
    }

    pub(super) fn lost(&mut self) {
        self.client.lost();
        self.up = false;
    }
}

/// Translates what a session has put out.
pub(super) fn settle(out: &mut Output, heard: &mut Vec<Heard>) -> Option<Ending> {
    heard.extend(out.events.drain(..).filter_map(|event| match event {
        Event::Delivered { tag } => Some(Heard::Delivered { tag }),
        Event::Refused { .. } => Some(Heard::Refused),
        Event::Retries { .. } | Event::ReplyRefused { .. } => Some(Heard::Trouble),
        Event::NotObserved { .. } => None, // a server need not have commands
        Event::Message { payload, put } => Some(Heard::Inbound(Inbound {
            payload,
            reply_to: match put {
                true => ReplyTo::Request,
                false => ReplyTo::Own,
            },
        })),
    }));
    out.ended.take().map(|why| match why {
        Ended::Closed => Ending::Closed,
        Ended::Silent => Ending::Failed,
    })
}
