//! Sessions on blocking sockets, against mosquitto at the address in `ACTORSIM_MOSQUITTO`.
//!
//! Without it a test is skipped, and says so; where `CI` is set it fails instead.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use actorsim_actors::Clock;
use actorsim_fleet::session::mqtt::client::Message;
use actorsim_fleet::session::mqtt::output::Inbound;
use actorsim_fleet::session::mqtt::{Client, Event, Login, Options, Output, Qos, Version};

pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
pub(crate) const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

pub(crate) fn broker() -> Option<String> {
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
pub(crate) struct Device {
    pub(crate) options: Options,
    pub(crate) client: Client,
    pub(crate) socket: TcpStream,
    pub(crate) clock: Clock,
    pub(crate) out: Output,
    pub(crate) events: Vec<Event>,
}

impl Device {
    pub(crate) fn new(address: &str, options: Options, login: &Login<'_>) -> Self {
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

    pub(crate) fn open(&mut self, login: &Login<'_>) {
        let now = self.clock.monotonic();
        self.client.open(&self.options, login, now, &mut self.out);
        self.until(|events| events.iter().any(|event| matches!(event, Event::Up { .. })));
        let now = self.clock.monotonic();
        self.client.go_on(&self.options, now, &mut self.out);
    }

    pub(crate) fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: Qos,
        retain: bool,
        tag: u64,
    ) {
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

    pub(crate) fn subscribe(&mut self, filter: &str) {
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

    /// Subscribes to one more topic.
    pub(crate) fn subscribed_anew(&mut self, filter: &str) {
        let before = self.events.len();
        let now = self.clock.monotonic();
        self.client
            .subscribe(&self.options, filter, Qos::AtLeastOnce, now, &mut self.out)
            .unwrap();
        let answered = |event: &Event| matches!(event, Event::Subscribed { .. });
        self.until(|events| events[before..].iter().any(answered));
    }

    /// Drives the session until the events so far are enough.
    pub(crate) fn until(&mut self, enough: impl Fn(&[Event]) -> bool) {
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
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
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

    pub(crate) fn messages(&self) -> Vec<&Inbound> {
        let mut messages = Vec::new();
        for event in &self.events {
            if let Event::Message(message) = event {
                messages.push(message.as_ref());
            }
        }
        messages
    }
}

pub(crate) fn connect(address: &str) -> TcpStream {
    let socket = TcpStream::connect(address).expect("mosquitto listens there");
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    socket
}

pub(crate) fn count(events: &[Event], wanted: impl Fn(&Event) -> bool) -> usize {
    events.iter().filter(|event| wanted(event)).count()
}

pub(crate) const fn is_message(event: &Event) -> bool {
    matches!(event, Event::Message(_))
}

pub(crate) const fn is_delivered(event: &Event) -> bool {
    matches!(event, Event::Delivered { .. })
}

pub(crate) fn login(client_id: &str) -> Login<'_> {
    Login {
        client_id,
        ..Login::default()
    }
}
