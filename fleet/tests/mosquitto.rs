//! MQTT sessions against mosquitto, at the address in `ACTORSIM_MOSQUITTO` (`127.0.0.1:1883`).
//!
//! Without it the tests are skipped, and say so; where `CI` is set they fail instead.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "mqtt_kit/kit.rs"]
mod kit;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use actorsim_actors::Clock;
use actorsim_fleet::session::mqtt::output::Inbound;
use actorsim_fleet::session::mqtt::{Client, Event, Login, Options, Output, Qos, Will};
use kit::{Device, VERSIONS, broker, connect, count, is_delivered, is_message, login};

#[test]
fn messages_of_each_quality_pass_through_mosquitto_in_order() {
    let Some(address) = broker() else { return };
    for version in VERSIONS {
        let options = Options {
            version,
            clean_start: true,
            ..Options::default()
        };
        let id = format!("order-{version:?}");
        let topic = format!("actorsim/{id}");
        let mut device = Device::new(&address, options, &login(&id));
        device.subscribe(&topic);
        for tag in 0..30u64 {
            let qos = Qos::from_number((tag % 3) as u8).unwrap();
            device.publish(&topic, &tag.to_be_bytes(), qos, false, tag);
        }
        device.until(|events| count(events, is_message) == 30 && count(events, is_delivered) == 30);
        // order holds within a quality (MQTT 3.1.1, 4.6)
        for number in 0..3 {
            let qos = Qos::from_number(number).unwrap();
            let of = |m: &&&Inbound| m.qos == qos;
            let messages = device.messages();
            let payloads: Vec<_> = messages.iter().filter(of).map(|m| &m.payload).collect();
            assert!(payloads.is_sorted() && payloads.len() == 10, "{payloads:?}");
        }
        assert_eq!((device.client.waiting(), device.out.strays), (0, 0));
    }
}

#[test]
fn a_kept_session_goes_on_where_its_connection_broke() {
    let Some(address) = broker() else { return };
    for version in VERSIONS {
        let options = Options {
            version,
            ..Options::default()
        };
        let id = format!("resume-{version:?}");
        let topic = format!("actorsim/{id}");
        let clean = Options {
            clean_start: true,
            session_expiry_s: 0,
            ..options
        };
        drop(Device::new(&address, clean, &login(&id)));
        let mut device = Device::new(&address, options, &login(&id));
        device.subscribe(&topic);
        device.publish(&topic, b"lost on the way", Qos::ExactlyOnce, false, 1);
        // the socket goes before these bytes do
        device.out.bytes.clear();
        device.socket = connect(&address);
        device.events.clear();
        device.open(&login(&id));
        let resumed = device.events.contains(&Event::Up { resumed: true });
        assert!(resumed, "{:?}", device.events);
        device.until(|events| count(events, is_message) == 1 && count(events, is_delivered) == 1);
        assert_eq!(&*device.messages()[0].payload, b"lost on the way");
    }
}

#[test]
fn a_will_is_published_after_a_crash_and_not_after_a_goodbye() {
    let Some(address) = broker() else { return };
    for version in VERSIONS {
        let options = Options {
            version,
            clean_start: true,
            ..Options::default()
        };
        let (id, watcher) = (format!("will-{version:?}"), format!("watch-{version:?}"));
        let topic = format!("actorsim/status/{id}");
        let mut watcher = Device::new(&address, options, &login(&watcher));
        watcher.subscribe(&topic);
        let will = Will {
            topic: &topic,
            payload: b"offline",
            qos: Qos::AtLeastOnce,
            retain: false,
        };
        let with_will = Login {
            will: Some(will),
            ..login(&id)
        };
        let mut polite = Device::new(&address, options, &with_will);
        polite.publish(&topic, b"leaving", Qos::AtLeastOnce, false, 1);
        polite.until(|events| count(events, is_delivered) == 1);
        polite.client.close(&polite.options, &mut polite.out);
        polite.socket.write_all(&polite.out.bytes).unwrap();
        drop(polite);
        drop(Device::new(&address, options, &with_will));
        watcher.until(|events| count(events, is_message) >= 2);
        let said: Vec<_> = watcher
            .messages()
            .iter()
            .map(|m| m.payload.to_vec())
            .collect();
        assert_eq!(said, [b"leaving".to_vec(), b"offline".to_vec()]);
    }
}

#[test]
fn a_retained_birth_meets_later_subscribers() {
    let Some(address) = broker() else { return };
    let options = Options {
        clean_start: true,
        ..Options::default()
    };
    let topic = "actorsim/birth/pump-0001";
    let mut device = Device::new(&address, options, &login("birth"));
    device.publish(topic, b"online", Qos::AtLeastOnce, true, 1);
    device.until(|events| count(events, is_delivered) == 1);
    let mut later = Device::new(&address, options, &login("later"));
    later.subscribe(topic);
    later.until(|events| count(events, is_message) == 1);
    assert!(later.messages()[0].retain && &*later.messages()[0].payload == b"online");
    device.publish(topic, b"", Qos::AtLeastOnce, true, 2);
    device.until(|events| count(events, is_delivered) == 2);
}

#[test]
fn a_peer_that_is_no_broker_ends_the_session_and_nothing_else() {
    // no mosquitto needed: half an answer, then the end
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::default();
    let mut out = Output::default();
    let options = Options::default();
    let clock = Clock::wall();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    client.open(&options, &login("pump-0001"), clock.monotonic(), &mut out);
    socket.write_all(&std::mem::take(&mut out.bytes)).unwrap();
    let _ = peer.read(&mut [0; 64]).unwrap();
    peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    drop(peer);
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap_or_default();
    client.received(&options, &bytes, clock.monotonic(), &mut out);
    let said = out.ended.unwrap().to_string();
    assert!(said.starts_with("the broker broke the protocol"), "{said}");
}
