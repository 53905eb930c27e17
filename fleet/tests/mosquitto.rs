//! MQTT sessions against mosquitto, at the address in `ACTORSIM_MOSQUITTO` (`127.0.0.1:1883`).
//!
//! Without it the tests are skipped, and say so; where `CI` is set they fail instead.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use actorsim_actors::Clock;
use actorsim_fleet::session::mqtt::client::Message;
use actorsim_fleet::session::mqtt::output::Inbound;
use actorsim_fleet::session::mqtt::{Client, Event, Login, Options, Output, Qos, Version, Will};

const PATIENCE: Duration = Duration::from_secs(10);
const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

fn broker() -> Option<String> {
    let address = std::env::var("ACTORSIM_MOSQUITTO").ok();
    if address.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "ACTORSIM_MOSQUITTO is not set, and CI has mosquitto"
        );
        println!("skipped: set ACTORSIM_MOSQUITTO=HOST:PORT to test against mosquitto");
    }
    address
}

/// A session on a blocking socket.
struct Device {
    options: Options,
    client: Client,
    socket: TcpStream,
    clock: Clock,
    out: Output,
    events: Vec<Event>,
}

impl Device {
    fn new(address: &str, options: Options, login: &Login<'_>) -> Self {
        let mut device = Self {
            options,
            client: Client::default(),
            socket: connect(address),
            clock: Clock::wall(),
            out: Output::default(),
            events: Vec::new(),
        };
        device.open(login);
        device
    }

    fn open(&mut self, login: &Login<'_>) {
        let now = self.clock.monotonic();
        self.client.open(&self.options, login, now, &mut self.out);
        self.until(|events| events.iter().any(|event| matches!(event, Event::Up { .. })));
    }

    fn publish(&mut self, topic: &str, payload: &[u8], qos: Qos, retain: bool, tag: u64) {
        let message = Message {
            topic,
            payload,
            qos,
            retain,
            tag,
        };
        let now = self.clock.monotonic();
        self.client
            .publish(&self.options, &message, now, &mut self.out)
            .unwrap();
    }

    fn subscribe(&mut self, filter: &str) {
        let now = self.clock.monotonic();
        self.client
            .subscribe(&self.options, filter, Qos::ExactlyOnce, now, &mut self.out)
            .unwrap();
        self.until(|events| {
            events
                .iter()
                .any(|event| matches!(event, Event::Subscribed { .. }))
        });
    }

    /// Drives the session until the events so far are enough.
    fn until(&mut self, enough: impl Fn(&[Event]) -> bool) {
        let began = self.clock.monotonic();
        let mut buffer = [0; 4_096];
        while !enough(&self.events) {
            self.socket
                .write_all(&std::mem::take(&mut self.out.bytes))
                .unwrap();
            match self.socket.read(&mut buffer) {
                Ok(0) => panic!("closed by the broker: {:?}", self.events),
                Ok(len) => {
                    let now = self.clock.monotonic();
                    self.client
                        .received(&self.options, &buffer[..len], now, &mut self.out);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            assert_eq!(self.out.ended, None);
            self.events.append(&mut self.out.events);
            let waited = self.clock.monotonic().since(began);
            assert!(waited < PATIENCE, "waited in vain: {:?}", self.events);
        }
        self.socket
            .write_all(&std::mem::take(&mut self.out.bytes))
            .unwrap();
    }

    fn messages(&self) -> Vec<&Inbound> {
        let mut messages = Vec::new();
        for event in &self.events {
            if let Event::Message(message) = event {
                messages.push(message.as_ref());
            }
        }
        messages
    }
}

fn connect(address: &str) -> TcpStream {
    let socket = TcpStream::connect(address).expect("mosquitto listens there");
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    socket
}

fn count(events: &[Event], wanted: impl Fn(&Event) -> bool) -> usize {
    events.iter().filter(|event| wanted(event)).count()
}

const fn is_message(event: &Event) -> bool {
    matches!(event, Event::Message(_))
}

const fn is_delivered(event: &Event) -> bool {
    matches!(event, Event::Delivered { .. })
}

fn login(client_id: &str) -> Login<'_> {
    Login {
        client_id,
        ..Login::default()
    }
}

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
