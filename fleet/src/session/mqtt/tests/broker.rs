//! A broker for one client: takes bytes, answers bytes, and remembers.

use super::super::packet::{Packet, Publish, Qos, Step, Version};
use super::super::property::Properties;
use super::super::read::frame;

/// What it knows.
#[derive(Debug)]
pub(super) struct Broker {
    version: Version,
    partial: Vec<u8>,
    has_session: bool,
    half_way: Vec<u16>,
    /// Payloads in the order of their publishing.
    pub(super) published: Vec<Vec<u8>>,
    /// Its own messages that are finished, by identifier.
    pub(super) commanded: Vec<u16>,
    /// The client has said goodbye.
    pub(super) goodbye: bool,
}

impl Broker {
    pub(super) fn new(version: Version) -> Self {
        Self {
            version,
            partial: Vec::new(),
            has_session: false,
            half_way: Vec::new(),
            published: Vec::new(),
            commanded: Vec::new(),
            goodbye: false,
        }
    }

    /// The connection has gone; it keeps the session or not.
    pub(super) fn lost(&mut self, keeps: bool) {
        self.partial.clear();
        self.has_session &= keeps;
        if !keeps {
            self.half_way.clear();
        }
    }

    /// Takes what a client sent, and answers.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.partial.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.partial);
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some(whole) = frame(&all[at..], 1 << 20).unwrap() {
            at += whole.len;
            let packet = Packet::read(whole, self.version).unwrap();
            self.answer(&packet, &mut out);
        }
        self.partial = all[at..].to_vec();
        out
    }

    fn answer(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>) {
        let answer = match packet {
            Packet::Connect(connect) => {
                assert_eq!(connect.version, self.version);
                let session_present = self.has_session && !connect.clean_start;
                self.has_session = true;
                Packet::ConnAck {
                    session_present,
                    code: 0,
                    properties: Properties::default(),
                }
            }
            Packet::Publish(publish) => return self.publish(publish, out),
            Packet::Step { step, id, .. } => return self.step(*step, *id, out),
            Packet::Subscribe { id, filters } => {
                let codes: Vec<u8> = filters.iter().map(|(_, qos)| qos as u8).collect();
                let ack = Packet::SubAck {
                    id: *id,
                    codes: &codes,
                };
                return ack.write(self.version, out).unwrap();
            }
            Packet::PingReq => Packet::PingResp,
            Packet::Disconnect { .. } => {
                self.goodbye = true;
                return;
            }
            other => panic!("a broker does not get {other:?}"),
        };
        answer.write(self.version, out).unwrap();
    }

    fn publish(&mut self, publish: &Publish<'_>, out: &mut Vec<u8>) {
        let step = match publish.qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some(Step::Ack),
            Qos::ExactlyOnce => Some(Step::Rec),
        };
        let again = publish.qos == Qos::ExactlyOnce && self.half_way.contains(&publish.id);
        if !again {
            self.published.push(publish.payload.to_vec());
            if publish.qos == Qos::ExactlyOnce {
                self.half_way.push(publish.id);
            }
        }
        if let Some(step) = step {
            self.say(step, publish.id, out);
        }
    }

    fn step(&mut self, step: Step, id: u16, out: &mut Vec<u8>) {
        match step {
            Step::Rel => {
                self.half_way.retain(|half| *half != id);
                self.say(Step::Comp, id, out);
            }
            Step::Rec => self.say(Step::Rel, id, out),
            Step::Ack | Step::Comp => self.commanded.push(id),
        }
    }

    fn say(&self, step: Step, id: u16, out: &mut Vec<u8>) {
        let step = Packet::Step { step, id, code: 0 };
        step.write(self.version, out).unwrap();
    }

    /// A message to the client.
    pub(super) fn command(&mut self, id: u16, qos: Qos, payload: &[u8]) -> Vec<u8> {
        let id = if qos == Qos::AtMostOnce { 0 } else { id };
        let mut out = Vec::new();
        Packet::Publish(Publish {
            dup: false,
            qos,
            retain: false,
            topic: "devices/pump-0001/commands",
            id,
            properties: Properties::default(),
            payload,
        })
        .write(self.version, &mut out)
        .unwrap();
        out
    }
}
