//! A broker of MQTT 3.1.1 and 5 for one client.
//!
//! It keeps no session: who comes again begins anew. Bound: a message, and a number for each that
//! is half way through QoS 2.

use std::collections::BTreeSet;

use super::{Garbled, Hearer, MESSAGE_MAX, Message, garbled, parts};
use crate::profile::Protocol;
use crate::session::mqtt::Qos;
use crate::session::mqtt::packet::{Packet, Publish, Step, Version};
use crate::session::mqtt::property::Properties;
use crate::session::mqtt::read::frame;

#[derive(Debug)]
pub(super) struct Peer {
    version: Version,
    waiting: Vec<u8>,
    half_way: BTreeSet<u16>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            version: Version::V311,
            waiting: Vec::new(),
            half_way: BTreeSet::new(),
        }
    }
}

fn no(why: impl std::fmt::Display) -> Garbled {
    garbled(Protocol::Mqtt, why)
}

impl Peer {
    pub(super) fn hear(
        &mut self,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        hearer: Hearer<'_>,
    ) -> Result<(), Garbled> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let heard = parts(&mut waiting, bytes, |rest| {
            let Some(whole) = frame(rest, MESSAGE_MAX).map_err(no)? else {
                return Ok(None);
            };
            let packet = Packet::read(whole, self.version).map_err(no)?;
            self.answer(&packet, answer, hearer)?;
            Ok(Some(whole.len))
        });
        self.waiting = waiting;
        heard
    }

    fn answer(
        &mut self,
        packet: &Packet<'_>,
        out: &mut Vec<u8>,
        hearer: Hearer<'_>,
    ) -> Result<(), Garbled> {
        let granted: Vec<u8>;
        let answer = match packet {
            Packet::Connect(connect) => {
                self.version = connect.version;
                self.half_way.clear();
                Packet::ConnAck {
                    session_present: false,
                    code: 0,
                    properties: Properties::default(),
                }
            }
            Packet::Publish(publish) => {
                let Some(step) = self.publish(publish, hearer) else {
                    return Ok(());
                };
                let (id, code) = (publish.id, 0);
                Packet::Step { step, id, code }
            }
            Packet::Step {
                step: Step::Rel,
                id,
                ..
            } => {
                self.half_way.remove(id);
                let (step, id, code) = (Step::Comp, *id, 0);
                Packet::Step { step, id, code }
            }
            Packet::Subscribe { id, filters } => {
                granted = filters.iter().map(|(_, qos)| qos as u8).collect();
                let codes = &granted;
                Packet::SubAck { id: *id, codes }
            }
            Packet::PingReq => Packet::PingResp,
            Packet::Disconnect { .. } => return Ok(()),
            _ => return Err(no("a packet that only brokers send")),
        };
        answer.write(self.version, out).map_err(no)
    }

    /// Tells a message that is new; returns what is to be said.
    fn publish(&mut self, publish: &Publish<'_>, hearer: Hearer<'_>) -> Option<Step> {
        let step = match publish.qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some(Step::Ack),
            Qos::ExactlyOnce => Some(Step::Rec),
        };
        if publish.qos != Qos::ExactlyOnce || self.half_way.insert(publish.id) {
            hearer(Message {
                at: publish.topic,
                payload: publish.payload,
                retain: publish.retain,
            });
        }
        step
    }
}
