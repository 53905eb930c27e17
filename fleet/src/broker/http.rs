//! A device as an HTTP client: samples are posted, commands polled, replies posted.
//!
//! The state machine is [`crate::session::http`]. Bound: that of the session.

use actorsim_actors::Time;

use super::plan::HttpSpeech;
use super::session::{Ending, Heard, Inbound, NotTaken, ReplyTo, SessionOut, Who};
use crate::session::http::{Client, Ended, Endpoint, Event, Output};

/// The session of one device.
#[derive(Debug, Default)]
pub(crate) struct Session(Client);

impl HttpSpeech {
    fn endpoint<'a>(&'a self, who: &Who<'a>) -> Endpoint<'a> {
        Endpoint {
            host: &self.host,
            paths: &self.paths,
            id: who.id,
            authorization: self.authorization.as_ref(),
            seed: who.seed,
        }
    }
}

impl Session {
    pub(super) fn waiting(&self) -> usize {
        self.0.waiting()
    }

    /// There is no greeting in HTTP: who has a connection has a session.
    pub(super) fn open(&mut self, speech: &HttpSpeech, who: &Who<'_>, out: &mut SessionOut) {
        out.heard.push(Heard::Up);
        let to = speech.endpoint(who);
        self.0.open(&speech.options, &to, who.now, &mut out.http);
    }

    pub(super) fn greet(&self, _: &HttpSpeech, _: &Who<'_>, _: &mut SessionOut) {}

    pub(super) fn received(
        &mut self,
        speech: &HttpSpeech,
        bytes: &[u8],
        who: &Who<'_>,
        out: &mut SessionOut,
    ) {
        let to = speech.endpoint(who);
        self.0
            .received(&speech.options, &to, bytes, who.now, &mut out.http);
    }

    pub(super) fn finished(&mut self, speech: &HttpSpeech, who: &Who<'_>, out: &mut SessionOut) {
        let to = speech.endpoint(who);
        self.0
            .peer_closed(&speech.options, &to, who.now, &mut out.http);
    }

    pub(super) fn expire(&mut self, speech: &HttpSpeech, who: &Who<'_>, out: &mut SessionOut) {
        let to = speech.endpoint(who);
        self.0.expire(&speech.options, &to, who.now, &mut out.http);
    }

    pub(super) fn deadline(&self, speech: &HttpSpeech) -> Option<Time> {
        self.0.deadline(&speech.options)
    }

    pub(super) fn publish(
        &mut self,
        speech: &HttpSpeech,
        sample: (&[u8], u64),
        who: &Who<'_>,
        out: &mut SessionOut,
    ) -> Result<(), NotTaken> {
        let to = speech.endpoint(who);
        let taken = self
            .0
            .publish(&speech.options, &to, sample, who.now, &mut out.http);
        taken.map_err(|_| NotTaken::Full)
    }

    pub(super) fn drop_oldest(&mut self) -> bool {
        self.0.drop_oldest().is_some()
    }

    pub(super) fn reply(
        &mut self,
        speech: &HttpSpeech,
        (_, payload): (&ReplyTo, &[u8]),
        who: &Who<'_>,
        out: &mut SessionOut,
    ) -> bool {
        let to = speech.endpoint(who);
        let taken = self
            .0
            .reply(&speech.options, &to, payload, who.now, &mut out.http);
        taken.is_ok()
    }

    pub(super) fn close(&mut self, _: &HttpSpeech, _: &Who<'_>, out: &mut SessionOut) {
        self.0.close(&mut out.http);
    }

    pub(super) fn lost(&mut self) {
        self.0.lost();
    }
}

/// Translates what a session has put out.
pub(super) fn settle(out: &mut Output, heard: &mut Vec<Heard>) -> Option<Ending> {
    if std::mem::take(&mut out.answered) {
        heard.push(Heard::Sound);
    }
    heard.extend(out.events.drain(..).map(|event| match event {
        Event::Delivered { tag } => Heard::Delivered { tag },
        Event::Refused { .. } => Heard::Refused,
        Event::Retries { .. } | Event::ReplyRefused { .. } => Heard::Trouble,
        Event::Message(payload) => Heard::Inbound(Inbound {
            payload,
            reply_to: ReplyTo::Own,
        }),
    }));
    out.ended.take().map(|why| match why {
        Ended::Closed => Ending::Closed,
        Ended::NotKept | Ended::Idle => Ending::Again,
        Ended::ByServer | Ended::Silent | Ended::Malformed(_) => Ending::Failed,
    })
}
