//! A second opinion on our MQTT: an independent implementation of the server's side
//! (mqtt-protocol-core) hears what a session says, and a session understands what it answers.
//!
//! Without I/O, in both versions.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use actorsim_actors::Time;
use actorsim_fleet::session::mqtt::client::Message;
use actorsim_fleet::session::mqtt::{Client, Event, Login, Options, Output, Qos, Version, Will};
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::Event as Told;
use mqtt_protocol_core::mqtt::packet::{self, GenericPacketTrait as _, Packet, PacketType};
use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, SubackReasonCode, SubackReturnCode,
};
use mqtt_protocol_core::mqtt::{self, Connection, role};
use serde_json::Value;

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
const TOPIC: &str = "devices/pump-0001/telemetry";
const COMMANDS: &str = "devices/pump-0001/commands";
const LOGIN: Login<'_> = Login {
    client_id: "pump-0001",
    will: Some(Will {
        topic: "devices/pump-0001/status",
        payload: b"lost",
        qos: Qos::AtLeastOnce,
        retain: true,
    }),
    username: Some("pump"),
    password: Some(b"s3cret"),
};

/// The server's side, which panics at whatever it has to find fault with.
struct Server {
    connection: Connection<role::Server>,
    version: Version,
    has_session: bool,
    heard: Vec<Packet>,
    closed: bool,
}

impl Server {
    fn new(version: Version, has_session: bool) -> Self {
        let other = match version {
            Version::V311 => mqtt::Version::V3_1_1,
            Version::V5 => mqtt::Version::V5_0,
        };
        let mut connection = Connection::new(other);
        connection.set_auto_pub_response(true);
        connection.set_auto_ping_response(true);
        Self {
            connection,
            version,
            has_session,
            heard: Vec::new(),
            closed: false,
        }
    }

    /// Hears bytes of a client, in pieces of so many; returns its answers.
    fn hear(&mut self, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut answers = Vec::new();
        for piece in bytes.chunks(piece) {
            let mut cursor = Cursor::new(piece);
            while cursor.position() < piece.len() as u64 {
                for told in self.connection.recv(&mut cursor) {
                    self.take(told, &mut answers);
                }
            }
        }
        answers
    }

    fn take(&mut self, told: Told, answers: &mut Vec<u8>) {
        match told {
            Told::NotifyPacketReceived(packet) => {
                let answer = self.answer(&packet);
                self.heard.push(packet);
                if let Some(answer) = answer {
                    answers.extend(self.say(answer));
                }
            }
            Told::RequestSendPacket { packet, .. } => {
                answers.extend(packet.to_continuous_buffer());
            }
            Told::NotifyError(error) => panic!("it finds fault: {error:?}"),
            Told::RequestClose => self.closed = true,
            _ => {}
        }
    }

    /// The answers that it leaves to its owner.
    fn answer(&self, to: &Packet) -> Option<Packet> {
        let kept = self.has_session;
        Some(match to {
            Packet::V3_1_1Connect(_) => v3_1_1::Connack::builder()
                .return_code(ConnectReturnCode::Accepted)
                .session_present(kept)
                .build()
                .unwrap()
                .into(),
            Packet::V5_0Connect(_) => v5_0::Connack::builder()
                .reason_code(ConnectReasonCode::Success)
                .session_present(kept)
                .build()
                .unwrap()
                .into(),
            Packet::V3_1_1Subscribe(subscribe) => v3_1_1::Suback::builder()
                .packet_id(subscribe.packet_id())
                .return_codes(vec![SubackReturnCode::SuccessMaximumQos1])
                .build()
                .unwrap()
                .into(),
            Packet::V5_0Subscribe(subscribe) => v5_0::Suback::builder()
                .packet_id(subscribe.packet_id())
                .reason_codes(vec![SubackReasonCode::GrantedQos1])
                .build()
                .unwrap()
                .into(),
            _ => return None,
        })
    }

    fn say(&mut self, packet: Packet) -> Vec<u8> {
        let mut bytes = Vec::new();
        for told in self.connection.send(packet) {
            self.take(told, &mut bytes);
        }
        bytes
    }

    /// A message of its own to the client.
    fn command(&mut self, qos: packet::Qos, payload: &'static str) -> Vec<u8> {
        let id = (qos != packet::Qos::AtMostOnce).then(|| {
            let free = self.connection.acquire_packet_id();
            free.unwrap()
        });
        let packet = match self.version {
            Version::V311 => v3_1_1::Publish::builder()
                .topic_name(COMMANDS)
                .unwrap()
                .qos(qos)
                .packet_id(id)
                .payload(payload)
                .build()
                .unwrap()
                .into(),
            Version::V5 => v5_0::Publish::builder()
                .topic_name(COMMANDS)
                .unwrap()
                .qos(qos)
                .packet_id(id)
                .payload(payload)
                .build()
                .unwrap()
                .into(),
        };
        self.say(packet)
    }

    /// What it has heard of a type, as it writes it itself.
    fn heard(&self, kind: PacketType) -> Vec<Value> {
        let of = self.heard.iter().filter(|one| one.packet_type() == kind);
        let inner = |one| match serde_json::to_value(one).unwrap() {
            Value::Object(named) => named.into_iter().next().unwrap().1,
            other => other,
        };
        of.map(inner).collect()
    }
}

/// A session, and how far its time is.
struct Device {
    client: Client,
    options: Options,
    now: Time,
    events: Vec<Event>,
}

impl Device {
    fn new(version: Version) -> Self {
        let options = Options {
            version,
            keep_alive_s: 30,
            ..Options::default()
        };
        Self {
            client: Client::default(),
            options,
            now: Time::ZERO + Duration::from_secs(1),
            events: Vec::new(),
        }
    }

    /// Does something, and talks with the server until neither has more to say.
    fn talk(
        &mut self,
        server: &mut Server,
        piece: usize,
        act: impl FnOnce(&mut Client, &Options, Time, &mut Output),
    ) {
        let mut out = Output::default();
        act(&mut self.client, &self.options, self.now, &mut out);
        loop {
            let up = |event: &Event| matches!(event, Event::Up { .. });
            let came_up = out.events.iter().any(up);
            self.events.append(&mut out.events);
            if came_up {
                self.client.go_on(&self.options, self.now, &mut out);
            }
            let said = std::mem::take(&mut out.bytes);
            let answers = server.hear(&said, piece);
            assert!(!server.closed, "{:?}", server.version);
            if said.is_empty() && answers.is_empty() {
                return;
            }
            for piece in answers.chunks(piece) {
                self.client
                    .received(&self.options, piece, self.now, &mut out);
            }
            assert_eq!(out.ended, None, "{:?}", server.version);
        }
    }

    fn publish(&mut self, server: &mut Server, piece: usize, (tag, qos): (u64, Qos)) {
        let payload = tag.to_string();
        let message = Message {
            topic: TOPIC,
            payload: payload.as_bytes(),
            qos,
            retain: tag == 0,
            tag,
        };
        self.talk(server, piece, |client, options, now, out| {
            client.publish(options, &message, now, out).unwrap();
        });
    }

    fn delivered(&self) -> Vec<u64> {
        let tag = |event: &Event| match event {
            Event::Delivered { tag } => Some(*tag),
            _ => None,
        };
        self.events.iter().filter_map(tag).collect()
    }
}

fn open(client: &mut Client, options: &Options, now: Time, out: &mut Output) {
    client.open(options, &LOGIN, now, out);
}

#[test]
fn an_independent_server_understands_a_session_and_is_understood() {
    for version in VERSIONS {
        for piece in [1, 3, 4_096] {
            let (mut server, mut device) = (Server::new(version, false), Device::new(version));
            device.talk(&mut server, piece, open);
            device.talk(&mut server, piece, |client, options, now, out| {
                let filter = client.subscribe(options, COMMANDS, Qos::AtLeastOnce, now, out);
                filter.unwrap();
            });
            for tag in 0..30 {
                let qos = Qos::from_number((tag % 3) as u8).unwrap();
                device.publish(&mut server, piece, (tag, qos));
            }
            assert_eq!(device.delivered(), (0..30).collect::<Vec<_>>());
            let published = server.heard(PacketType::Publish);
            assert_eq!(published.len(), 30);
            for (tag, publish) in published.iter().enumerate() {
                assert_eq!(publish["topic_name"], TOPIC, "{publish}");
                assert_eq!(publish["payload"], tag.to_string(), "{publish}");
                assert_eq!(publish["retain"], tag == 0, "{publish}");
                assert_eq!(publish["dup"], false, "{publish}");
            }
            for qos in [
                packet::Qos::AtMostOnce,
                packet::Qos::AtLeastOnce,
                packet::Qos::ExactlyOnce,
            ] {
                let command = server.command(qos, "{}");
                device.talk(&mut server, piece, |client, options, now, out| {
                    client.received(options, &command, now, out);
                });
            }
            let commands = device.events.iter().filter_map(|event| match event {
                Event::Message(message) => Some((message.qos as u8, &*message.payload)),
                _ => None,
            });
            let wanted = [(0, &b"{}"[..]), (1, b"{}"), (2, b"{}")];
            assert!(commands.eq(wanted), "{version:?}");
            assert_eq!(server.heard(PacketType::Pubcomp).len(), 1);
            device.now = device.now + Duration::from_secs(31);
            device.talk(&mut server, piece, |client, options, now, out| {
                client.expire(options, now, out);
            });
            assert_eq!(server.heard(PacketType::Pingreq).len(), 1);
            let mut out = Output::default();
            device.client.close(&device.options, &mut out);
            assert!(server.hear(&out.bytes, piece).is_empty());
            assert_eq!(server.heard(PacketType::Disconnect).len(), 1);
        }
    }
}

#[test]
fn an_independent_server_reads_login_will_and_credentials() {
    macro_rules! judge {
        ($connect:expr) => {{
            assert_eq!($connect.client_id(), LOGIN.client_id);
            assert_eq!($connect.keep_alive(), 30);
            assert_eq!($connect.user_name(), LOGIN.username);
            assert_eq!($connect.password(), LOGIN.password);
            let will = LOGIN.will.unwrap();
            assert_eq!($connect.will_topic(), Some(will.topic));
            assert_eq!($connect.will_payload(), Some(will.payload));
            assert_eq!($connect.will_qos(), packet::Qos::AtLeastOnce);
            assert_eq!($connect.will_retain(), will.retain);
        }};
    }
    for version in VERSIONS {
        let (mut server, mut device) = (Server::new(version, false), Device::new(version));
        device.talk(&mut server, 4_096, open);
        match &server.heard[0] {
            Packet::V3_1_1Connect(connect) => judge!(connect),
            Packet::V5_0Connect(connect) => judge!(connect),
            other => panic!("no CONNECT: {other:?}"),
        }
    }
}

#[test]
fn what_an_independent_server_has_not_acknowledged_comes_again_to_a_session_that_it_kept() {
    for version in VERSIONS {
        let (mut server, mut device) = (Server::new(version, false), Device::new(version));
        device.talk(&mut server, 4_096, open);
        let mut out = Output::default();
        for tag in 0..2 {
            let message = Message {
                topic: TOPIC,
                payload: b"21.5",
                qos: Qos::from_number(tag as u8 + 1).unwrap(),
                retain: false,
                tag,
            };
            let (client, options) = (&mut device.client, &device.options);
            client
                .publish(options, &message, device.now, &mut out)
                .unwrap();
        }
        // they are lost with their connection
        let mut server = Server::new(version, true);
        device.talk(&mut server, 4_096, open);
        assert_eq!(device.delivered(), [0, 1]);
        let again = server.heard(PacketType::Publish);
        let dup = again.iter().map(|publish| &publish["dup"]);
        assert!(dup.eq([true, true]), "{again:?}");
    }
}
