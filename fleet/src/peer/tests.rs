//! What devices' sessions say is heard whole, however it is cut, and answered so that they go on.

use std::collections::BTreeMap;

use actorsim_actors::Time;

use super::*;
use crate::session::mqtt::client::Message as Publish;
use crate::session::mqtt::{self, Qos};

type Heard = Vec<(String, Vec<u8>)>;

fn hear(peer: &mut Peer, bytes: &[u8], answer: &mut Vec<u8>, into: &mut Heard) {
    let mut hearer = |message: Message<'_>| {
        into.push((message.at.to_owned(), message.payload.to_vec()));
    };
    peer.hear(bytes, answer, &mut hearer).unwrap();
}

#[test]
fn every_quality_of_mqtt_is_heard_once_in_order_and_acknowledged() {
    for version in [mqtt::Version::V311, mqtt::Version::V5] {
        let options = mqtt::Options {
            version,
            ..mqtt::Options::default()
        };
        let mut peer = Peer::of(Protocol::Mqtt).unwrap();
        let (mut client, mut out) = (mqtt::Client::default(), mqtt::Output::default());
        let login = mqtt::Login {
            client_id: "pump-0001",
            will: None,
            username: None,
            password: None,
        };
        client.open(&options, &login, Time(1), &mut out);
        let mut heard = Vec::new();
        for round in 0..12 {
            let qos = Qos::from_number(round % 3).unwrap();
            let publish = Publish {
                topic: "a/b",
                payload: &[round; 300],
                qos,
                retain: false,
                tag: 1,
            };
            client
                .publish(&options, &publish, Time(1), &mut out)
                .unwrap();
            while !out.bytes.is_empty() {
                let mut answer = Vec::new();
                for part in std::mem::take(&mut out.bytes).chunks(7) {
                    hear(&mut peer, part, &mut answer, &mut heard);
                }
                client.received(&options, &answer, Time(1), &mut out);
                client.go_on(&options, Time(1), &mut out);
            }
        }
        let expected: Heard = (0..12).map(|n| ("a/b".to_owned(), vec![n; 300])).collect();
        assert_eq!(heard, expected);
        assert_eq!(client.waiting(), 0);
        assert!(out.ended.is_none());
    }
}

#[test]
fn posts_are_heard_and_answered_and_polls_find_nothing() {
    let mut peer = Peer::of(Protocol::Http).unwrap();
    let two = b"POST /a?x=1 HTTP/1.1\r\nhost: h\r\nContent-Length: 3\r\n\r\nabc\
                GET /commands HTTP/1.1\r\nhost: h\r\n\r\n";
    let (mut answer, mut heard) = (Vec::new(), Vec::new());
    for byte in two {
        hear(&mut peer, &[*byte], &mut answer, &mut heard);
    }
    assert_eq!(heard, [("/a?x=1".to_owned(), b"abc".to_vec())]);
    assert_eq!(answer, b"HTTP/1.1 204 No Content\r\n\r\n".repeat(2));
}

#[test]
fn what_no_device_sends_is_refused() {
    let wrong: BTreeMap<&str, &[u8]> = [
        ("mqtt", &b"\x20\x02\x00\x00"[..]),
        ("http", b"\x00\x01"),
        ("coap", b"\x00"),
        ("amqp", b"AMQP\x00\x00\x09\x01"),
    ]
    .into();
    for (protocol, bytes) in wrong {
        let mut peer = Peer::of(Protocol::named(protocol).unwrap()).unwrap();
        let heard = peer.hear(bytes, &mut Vec::new(), &mut |_| panic!("a message"));
        assert!(
            heard
                .unwrap_err()
                .to_string()
                .starts_with(&format!("no {protocol}: "))
        );
    }
    assert!(Peer::of(Protocol::Quic).is_none());
}
