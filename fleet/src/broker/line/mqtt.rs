//! What a device says to an MQTT broker: who it is, how it is, its samples and its replies.
//!
//! Bytes and events go to the slab's [`LineOut`]; the line takes them from there. It opens nothing
//! and waits for nothing. Bound: the session's outbox.

use actorsim_actors::Time;

use super::{Context, LineOut};
use crate::broker::Plan;
use crate::session::mqtt::client::Message;
use crate::session::mqtt::output::Inbound;
use crate::session::mqtt::{Client, Ended, Event, Login, PublishError, Qos, Will};

/// Tag of messages that are not samples: their latency is not one of telemetry.
const OWN: u64 = 0;

/// What a call has led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The session has come up.
    pub(super) up: bool,
    /// Something was said in answer.
    pub(super) more: bool,
}

/// One device's talk.
#[derive(Debug, Default)]
pub(super) struct Mqtt {
    client: Client,
}

impl Mqtt {
    /// Messages that wait, those in flight included.
    pub(super) fn waiting(&self) -> usize {
        self.client.waiting()
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self) {
        self.client.lost();
    }

    /// When [`Mqtt::expire`] wants to be called.
    pub(super) fn deadline(&self, plan: &Plan) -> Option<Time> {
        self.client.deadline(&plan.mqtt)
    }

    /// Does what is due.
    pub(super) fn expire(&mut self, plan: &Plan, cx: Context<'_, '_>) {
        let session = &mut cx.out.line.session;
        self.client.expire(&plan.mqtt, cx.monotonic, session);
    }

    /// Takes bytes of the broker.
    pub(super) fn received(&mut self, plan: &Plan, bytes: &[u8], cx: Context<'_, '_>) {
        let session = &mut cx.out.line.session;
        let now = cx.monotonic;
        self.client.received(&plan.mqtt, bytes, now, session);
    }

    /// The connection is there: says who this is, and what its last words are.
    pub(super) fn open(&mut self, plan: &Plan, cx: Context<'_, '_>) {
        let out = &mut *cx.out.line;
        out.name.clear();
        cx.shared.write_name(cx.ordinal, &mut out.name);
        out.topic.clear();
        plan.topics.status.write(&out.name, &mut out.topic);
        let login = Login {
            client_id: &out.name,
            will: Some(Will {
                topic: &out.topic,
                payload: b"lost",
                qos: Qos::AtLeastOnce,
                retain: true,
            }),
            username: plan.credentials.username.as_deref(),
            password: plan.credentials.password.as_deref(),
        };
        self.client
            .open(&plan.mqtt, &login, cx.monotonic, &mut out.session);
    }

    /// Publishes the sample that stands in the slab's output.
    pub(super) fn publish(
        &mut self,
        plan: &Plan,
        now: Time,
        out: &mut LineOut,
    ) -> Result<(), PublishError> {
        let message = Message {
            topic: &out.topic,
            payload: &out.payload,
            qos: plan.qos,
            retain: false,
            tag: now.0.max(OWN + 1),
        };
        self.client
            .publish(&plan.mqtt, &message, now, &mut out.session)
    }

    /// Gives up the oldest sample that has not been sent; whether there was one.
    pub(super) fn drop_oldest(&mut self) -> bool {
        self.client.drop_oldest().is_some()
    }

    /// Publishes the reply to a command, where the command or else the plan wants it.
    pub(super) fn reply(&mut self, plan: &Plan, to: &Inbound, payload: &[u8], cx: Context<'_, '_>) {
        let out = &mut *cx.out.line;
        out.topic.clear();
        match &to.response_topic {
            Some(topic) => out.topic.push_str(topic),
            None => {
                out.name.clear();
                cx.shared.write_name(cx.ordinal, &mut out.name);
                plan.topics.replies.write(&out.name, &mut out.topic);
            }
        }
        let message = Message {
            topic: &out.topic,
            payload,
            qos: Qos::AtLeastOnce,
            retain: false,
            tag: OWN,
        };
        let taken = self
            .client
            .publish(&plan.mqtt, &message, cx.monotonic, &mut out.session);
        out.tally.dropped += u64::from(taken.is_err());
    }

    /// `offline`, then goodbye; the broker publishes no will.
    pub(super) fn goodbye(&mut self, plan: &Plan, cx: Context<'_, '_>) {
        if self.client.is_up() {
            self.status(plan, b"offline", cx);
            self.client.close(&plan.mqtt, &mut cx.out.line.session);
        }
    }

    /// Takes the events that stand in the slab's output.
    pub(super) fn take_events(&mut self, plan: &Plan, cx: Context<'_, '_>) -> Told {
        let mut told = Told::default();
        for event in std::mem::take(&mut cx.out.line.session.events) {
            told.more = true;
            told.up |= matches!(event, Event::Up { .. });
            self.event(plan, event, cx);
        }
        told
    }

    /// Why the connection is of no more use, if it is not; whether that was wanted.
    pub(super) fn ended(out: &mut LineOut) -> Option<bool> {
        let why = out.session.ended.take();
        why.map(|why| why == Ended::Closed)
    }

    fn event(&mut self, plan: &Plan, event: Event, cx: Context<'_, '_>) {
        let tally = &mut cx.out.line.tally;
        match event {
            Event::Up { .. } => self.greet(plan, cx),
            Event::Delivered { tag: OWN } => {}
            Event::Delivered { tag } => {
                tally.acked += 1;
                let latency = cx.monotonic.since(Time(tag)).as_micros();
                tally
                    .latencies
                    .push(u32::try_from(latency).unwrap_or(u32::MAX));
            }
            Event::Refused { .. } | Event::Uncertain { .. } => tally.refused += 1,
            Event::Subscribed { granted } => tally.errors += u64::from(granted.is_none()),
            Event::Message(inbound) => cx.out.line.inbound.push(*inbound),
        }
    }

    /// The session is up: hears commands, and says so.
    fn greet(&mut self, plan: &Plan, cx: Context<'_, '_>) {
        let out = &mut *cx.out.line;
        out.name.clear();
        cx.shared.write_name(cx.ordinal, &mut out.name);
        out.topic.clear();
        plan.topics.commands.write(&out.name, &mut out.topic);
        let now = cx.monotonic;
        let hears = self.client.subscribe(
            &plan.mqtt,
            &out.topic,
            Qos::AtLeastOnce,
            now,
            &mut out.session,
        );
        out.tally.errors += u64::from(hears.is_err());
        self.status(plan, b"online", cx);
    }

    fn status(&mut self, plan: &Plan, status: &[u8], cx: Context<'_, '_>) {
        let out = &mut *cx.out.line;
        out.name.clear();
        cx.shared.write_name(cx.ordinal, &mut out.name);
        out.topic.clear();
        plan.topics.status.write(&out.name, &mut out.topic);
        let message = Message {
            topic: &out.topic,
            payload: status,
            qos: Qos::AtMostOnce,
            retain: true,
            tag: OWN,
        };
        let taken = self
            .client
            .publish(&plan.mqtt, &message, cx.monotonic, &mut out.session);
        out.tally.errors += u64::from(taken.is_err());
    }
}
