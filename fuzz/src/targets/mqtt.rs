//! A device's MQTT session, 3.1.1 and 5, against a broker that says anything in pieces cut
//! anywhere, answers as it should, is silent, hangs up.
//!
//! What must hold: however bytes are cut, the session does the same; what it writes are packets;
//! each message that it took is delivered, refused, uncertain, given up or still waiting, once; it
//! holds no more messages than its bounds; a deadline that has passed leads somewhere; and on an
//! honest broker it comes up again and gets rid of all that waits.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use actorsim_actors::Time;
use actorsim_fleet::session::mqtt::client::Message;
use actorsim_fleet::session::mqtt::packet::{Packet, Publish, Step};
use actorsim_fleet::session::mqtt::property::Properties;
use actorsim_fleet::session::mqtt::read::frame;
use actorsim_fleet::session::mqtt::{Client, Event, Login, Options, Output, Qos, Version, Will};

use super::Target;
use crate::script::{Script, Steps, pieces};

pub(crate) const TARGET: Target = Target {
    name: "mqtt",
    about: "MQTT sessions, 3.1.1 and 5, against any broker",
    run,
    seeds,
    words: &[],
    len_max: 4_096,
    heap_max: 8 << 20,
};

const LOGIN: Login<'_> = Login {
    client_id: "pump-0001",
    will: Some(Will {
        topic: "devices/pump-0001/status",
        payload: b"offline",
        qos: Qos::AtLeastOnce,
        retain: true,
    }),
    username: Some("u"),
    password: Some(b"p"),
};

/// Packets of a client that a broker here remembers.
const REMEMBERED: usize = 256;
/// Exchanges until everything that waits must be gone.
const ROUNDS_MAX: usize = 64;

/// What a session wrote, read by a broker.
#[derive(Default)]
struct Heard {
    partial: Vec<u8>,
    answers: VecDeque<Vec<u8>>,
}

impl Heard {
    /// Reads what was written; each packet has its honest answer.
    fn take(&mut self, bytes: &[u8], version: Version) {
        self.partial.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.partial);
        let mut at = 0;
        while let Some(whole) = frame(&all[at..], usize::MAX).expect("a session writes packets") {
            at += whole.len;
            let packet = Packet::read(whole, version).expect("a session writes packets");
            let mut answer = Vec::new();
            if let Some(honest) = honest(&packet) {
                honest.write(version, &mut answer).expect("it is short");
                self.answers.push_back(answer);
            }
            if self.answers.len() > REMEMBERED {
                self.answers.pop_front();
            }
        }
        self.partial = all[at..].to_vec();
        assert!(self.partial.is_empty(), "half a packet was written");
    }
}

fn honest<'a>(packet: &Packet<'a>) -> Option<Packet<'a>> {
    let step = |step, id| Packet::Step { step, id, code: 0 };
    Some(match packet {
        Packet::Connect(_) => Packet::ConnAck {
            session_present: false,
            code: 0,
            properties: Properties::default(),
        },
        Packet::Publish(publish) => match publish.qos {
            Qos::AtMostOnce => return None,
            Qos::AtLeastOnce => step(Step::Ack, publish.id),
            Qos::ExactlyOnce => step(Step::Rec, publish.id),
        },
        Packet::Step {
            step: Step::Rel,
            id,
            ..
        } => step(Step::Comp, *id),
        Packet::Step {
            step: Step::Rec,
            id,
            ..
        } => step(Step::Rel, *id),
        Packet::Subscribe { id, .. } => Packet::SubAck {
            id: *id,
            codes: &[1],
        },
        Packet::PingReq => Packet::PingResp,
        _ => return None,
    })
}

/// Two sessions that are told the same: one hears whole, the other in pieces.
struct Run {
    options: Options,
    whole: Client,
    cut: Client,
    heard: Heard,
    now: Time,
    next: u64,
    open: BTreeSet<u64>,
}

impl Run {
    fn new(of: u8, limits: u8) -> Self {
        let pick = |bit: u8, one, other| if limits & bit == 0 { one } else { other };
        let options = Options {
            version: if of & 1 == 0 {
                Version::V311
            } else {
                Version::V5
            },
            clean_start: of & 2 != 0,
            keep_alive_s: if of & 4 == 0 { 60 } else { 0 },
            in_flight_max: pick(1, 8, 1),
            outbox_max: pick(2, 64, 3),
            packet_max: u32::from(pick(4, 4_096_u16, 64)),
            ..Options::default()
        };
        Self {
            options,
            whole: Client::default(),
            cut: Client::default(),
            heard: Heard::default(),
            now: Time::ZERO + Duration::from_secs(1),
            next: 0,
            open: BTreeSet::new(),
        }
    }

    /// Does the same to both, and compares.
    fn both<T: PartialEq + std::fmt::Debug>(
        &mut self,
        mut act: impl FnMut(&mut Client, &Options, Time, &mut Output) -> T,
    ) -> T {
        let (mut out, mut other) = (Output::default(), Output::default());
        let told = act(&mut self.whole, &self.options, self.now, &mut out);
        let other_told = act(&mut self.cut, &self.options, self.now, &mut other);
        assert_eq!(told, other_told);
        self.settle(&out, &other);
        told
    }

    fn heard(&mut self, bytes: &[u8], cut: u8) {
        let (mut out, mut other) = (Output::default(), Output::default());
        let options = self.options;
        self.whole.received(&options, bytes, self.now, &mut out);
        for piece in pieces(bytes, cut) {
            self.cut.received(&options, piece, self.now, &mut other);
        }
        self.settle(&out, &other);
    }

    /// What both did is the same; what came of it is booked.
    fn settle(&mut self, out: &Output, other: &Output) {
        assert_eq!(out.bytes, other.bytes, "cut otherwise, it writes otherwise");
        assert_eq!(
            out.events, other.events,
            "cut otherwise, it tells otherwise"
        );
        assert_eq!(out.ended.is_some(), other.ended.is_some());
        assert_eq!(self.whole.is_up(), self.cut.is_up());
        assert!(out.ended.is_none() || !self.whole.is_up());
        for event in &out.events {
            let tag = match event {
                Event::Delivered { tag }
                | Event::Refused { tag, .. }
                | Event::Uncertain { tag } => tag,
                Event::Up { .. } | Event::Subscribed { .. } | Event::Message(_) => continue,
            };
            assert!(self.open.remove(tag), "message {tag} ended twice");
        }
        assert_eq!(
            self.open.len(),
            self.whole.waiting(),
            "the books do not balance"
        );
        assert!(self.whole.waiting() <= usize::from(self.options.outbox_max));
        assert!(self.whole.in_flight() <= usize::from(self.options.in_flight_max));
        self.heard.take(&out.bytes, self.options.version);
        if out
            .events
            .iter()
            .any(|event| matches!(event, Event::Up { .. }))
        {
            self.both(|client, options, now, out| client.go_on(options, now, out));
        }
    }

    fn open(&mut self) {
        self.both(|client, _, _, _| client.lost());
        self.heard = Heard::default();
        self.both(|client, options, now, out| client.open(options, &LOGIN, now, out));
    }

    fn publish(&mut self, script: &mut Script<'_>) {
        let (how, len) = (script.byte(), script.number() % 600);
        let payload = vec![0x41; usize::from(len)];
        let message = Message {
            topic: "devices/pump-0001/telemetry",
            payload: &payload,
            qos: Qos::from_number(how % 3).expect("0 to 2"),
            retain: how & 8 != 0,
            tag: self.next,
        };
        self.next += 1;
        self.open.insert(message.tag);
        // whatever is not taken is not open, and that is known only afterwards
        let (mut out, mut other) = (Output::default(), Output::default());
        let options = self.options;
        let taken = self.whole.publish(&options, &message, self.now, &mut out);
        let other_taken = self.cut.publish(&options, &message, self.now, &mut other);
        assert_eq!(taken, other_taken);
        if taken.is_err() {
            self.open.remove(&message.tag);
        }
        self.settle(&out, &other);
    }

    fn give_up(&mut self) {
        let given_up = self.whole.drop_oldest();
        assert_eq!(given_up, self.cut.drop_oldest());
        if let Some(tag) = given_up {
            assert!(self.open.remove(&tag), "message {tag} ended twice");
        }
    }

    /// Time passes; what is due is done.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self
            .whole
            .deadline(&self.options)
            .is_none_or(|due| due > self.now)
        {
            return;
        }
        self.both(|client, options, now, out| client.expire(options, now, out));
        let due = self.whole.deadline(&self.options);
        assert!(due.is_none_or(|due| due > self.now), "it expires for ever");
    }

    fn answer(&mut self, count: u8, cut: u8) {
        for _ in 0..count {
            let Some(answer) = self.heard.answers.pop_front() else {
                return;
            };
            self.heard(&answer, cut);
        }
    }

    /// The broker is honest from now on: all ends well.
    fn recovers(&mut self) {
        self.options.packet_max = 4_096;
        self.open();
        for _ in 0..ROUNDS_MAX {
            self.answer(u8::MAX, 0);
            if self.whole.is_up() && self.heard.answers.is_empty() {
                break;
            }
        }
        assert!(self.whole.is_up(), "it does not come up again");
        assert_eq!(self.whole.waiting(), 0, "it does not get rid of what waits");
    }
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mut run = Run::new(script.byte(), script.byte());
    run.open();
    while let Some(step) = script.step() {
        match step % 10 {
            0..=2 => {
                let cut = script.byte();
                run.heard(script.bytes(), cut);
            }
            3 | 4 => {
                let (count, cut) = (script.byte() % 16, script.byte());
                run.answer(count, cut);
            }
            5 => run.pass(Duration::from_millis(u64::from(script.number()) * 10)),
            6 => run.publish(&mut script),
            7 => run.give_up(),
            8 => {
                let taken = run.both(|client, options, now, out| {
                    client.subscribe(options, "devices/+/c", Qos::AtLeastOnce, now, out)
                });
                assert!(taken.is_err() || run.whole.is_up());
            }
            _ if script.byte().is_multiple_of(2) => run.open(),
            _ => run.both(|client, options, _, out| client.close(options, out)),
        }
    }
    run.recovers();
}

fn written(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.write(version, &mut bytes).expect("it is short");
    bytes
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for version in [Version::V311, Version::V5] {
        let of = u8::from(version == Version::V5);
        let begin = || Steps::new().step(&[of, 0]).step(&[3, 1, 0]);
        let publish = |steps: Steps, qos| steps.step(&[6, qos]).number(20);
        let calm = (0..3).fold(begin(), publish);
        seeds.push(calm.step(&[3, 9, 1]).step(&[3, 9, 0]).done());
        let busy = (0..3).fold(begin().step(&[8]), publish);
        seeds.push(busy.step(&[0, 3]).bytes(&chatter(version)).done());
        let kept = Packet::ConnAck {
            session_present: true,
            code: 0,
            properties: Properties {
                receive_max: Some(1),
                packet_max: Some(64),
                keep_alive_s: Some(2),
                reason: Some("later"),
                ..Properties::default()
            },
        };
        let lost = publish(publish(begin(), 2), 1).step(&[9, 0]);
        let resumed = lost.step(&[0, 2]).bytes(&written(&kept, version));
        let silent = resumed.step(&[5]).number(300).step(&[5]).number(3_000);
        seeds.push(silent.step(&[7]).done());
    }
    seeds
}

/// What a broker may say to a session with messages under way.
fn chatter(version: Version) -> Vec<u8> {
    let step = |step, id| Packet::Step { step, id, code: 0 };
    let command = Publish {
        dup: false,
        qos: Qos::ExactlyOnce,
        retain: false,
        topic: "devices/pump-0001/commands",
        id: 5,
        properties: Properties::default(),
        payload: b"{}",
    };
    let all = [
        Packet::Publish(command),
        step(Step::Rel, 5),
        step(Step::Ack, 1),
        step(Step::Rec, 2),
        step(Step::Comp, 2),
        Packet::PingResp,
        Packet::SubAck {
            id: u16::MAX,
            codes: &[0x80],
        },
        Packet::Disconnect { code: 0x8b },
    ];
    all.iter()
        .flat_map(|packet| written(packet, version))
        .collect()
}
