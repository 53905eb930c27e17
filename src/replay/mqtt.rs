//! A recording to an MQTT broker: each message as its device would publish it, over one session.
//!
//! Order is kept, each message is acknowledged (QoS 1). Bound: the session's outbox; a broker that
//! is slower delays the recording.

use std::net::SocketAddr;

use actorsim_actors::{Clock, Time};
use actorsim_fleet::broker::Credentials;
use actorsim_fleet::session::mqtt::client::Message as Publish;
use actorsim_fleet::session::mqtt::output::PublishError;
use actorsim_fleet::session::mqtt::{Client, Event, Login, Options, Output, Qos};
use actorsim_fleet::session::tls::Terms;
use serde_json::{Value as Json, json};
use tokio::time::timeout_at;

use super::message::Message;
use super::play::Taker;
use super::stream::{PATIENCE, Stream};

/// Messages that wait for the broker.
const OUTBOX: u16 = 4_096;
/// Of these, on their way.
const IN_FLIGHT: u16 = 256;

/// A session that plays.
#[derive(Debug)]
pub struct MqttTarget {
    stream: Stream,
    client: Client,
    options: Options,
    clock: Clock,
    out: Output,
    sent: u64,
    acked: u64,
    refused: u64,
}

impl MqttTarget {
    /// Connects to a broker.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn connect(
        (address, terms): (SocketAddr, Option<&Terms>),
        mut options: Options,
        player: &Credentials,
    ) -> Result<Self, String> {
        let stream = Stream::connect(address, terms).await?;
        options.outbox_max = OUTBOX;
        options.in_flight_max = IN_FLIGHT;
        options.clean_start = true;
        let mut target = Self {
            stream,
            client: Client::default(),
            options,
            clock: Clock::wall(),
            out: Output::default(),
            sent: 0,
            acked: 0,
            refused: 0,
        };
        let name = format!("actorsim-replay-{}", std::process::id());
        let login = Login {
            client_id: &name,
            will: None,
            username: player.username.as_deref(),
            password: player.password.as_deref(),
        };
        let now = target.now();
        let (options, out) = (&target.options, &mut target.out);
        target.client.open(options, &login, now, out);
        target.flush().await?;
        let up = tokio::time::Instant::now() + PATIENCE;
        while !target.client.is_up() {
            if tokio::time::Instant::now() >= up {
                return Err(format!("{address} does not take the session"));
            }
            target.pump(up).await?;
        }
        let (options, now) = (&target.options, target.now());
        target.client.go_on(options, now, &mut target.out);
        Ok(target)
    }

    fn now(&self) -> Time {
        self.clock.monotonic()
    }

    /// Writes what the session has to say, and counts what it heard.
    async fn flush(&mut self) -> Result<(), String> {
        let written = self.stream.write(&self.out.bytes).await;
        self.out.bytes.clear();
        for event in self.out.events.drain(..) {
            match event {
                Event::Delivered { .. } => self.acked += 1,
                Event::Refused { .. } | Event::Uncertain { .. } => self.refused += 1,
                _ => {}
            }
        }
        if let Some(ended) = self.out.ended.take() {
            return Err(format!("the session ended: {ended}"));
        }
        written.map_err(|error| format!("the broker is gone: {error}"))
    }

    /// Listens until something came, or the time.
    async fn pump(&mut self, until: tokio::time::Instant) -> Result<(), String> {
        let mut bytes = Vec::new();
        let deadline = self.client.deadline(&self.options);
        let soon = deadline.map(|at| tokio::time::Instant::now() + at.since(self.now()));
        let until = soon.map_or(until, |soon| soon.min(until));
        let read = timeout_at(until, self.stream.read(&mut bytes)).await;
        let now = self.now();
        match read {
            Ok(Ok(0)) => return Err("the broker closed the connection".to_owned()),
            Ok(Ok(_)) => {
                let out = &mut self.out;
                self.client.received(&self.options, &bytes, now, out);
            }
            Ok(Err(error)) => return Err(format!("the broker is gone: {error}")),
            Err(_) => self.client.expire(&self.options, now, &mut self.out),
        }
        self.flush().await
    }
}

impl Taker for MqttTarget {
    async fn give(&mut self, message: &Message) -> Result<(), String> {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let publish = Publish {
                topic: &message.topic,
                payload: &message.payload,
                qos: Qos::AtLeastOnce,
                retain: message.retain,
                tag: 1,
            };
            let now = self.now();
            let (options, out) = (&self.options, &mut self.out);
            match self.client.publish(options, &publish, now, out) {
                Ok(()) => {
                    self.sent += 1;
                    return self.flush().await;
                }
                Err(PublishError::Full) if tokio::time::Instant::now() < patience => {
                    self.pump(patience).await?;
                }
                Err(error) => return Err(format!("{}: {error}", message.topic)),
            }
        }
    }

    async fn rest(&mut self, until: tokio::time::Instant) -> Result<(), String> {
        self.pump(until).await
    }

    async fn close(mut self) -> Result<Json, String> {
        let patience = tokio::time::Instant::now() + PATIENCE;
        while self.client.waiting() > 0 && tokio::time::Instant::now() < patience {
            self.pump(patience).await?;
        }
        let waiting = self.client.waiting();
        if waiting > 0 {
            return Err(format!("{waiting} messages were not acknowledged"));
        }
        let mut goodbye = Output::default();
        self.client.close(&self.options, &mut goodbye);
        let _ = self.stream.write(&goodbye.bytes).await; // it has all it needs
        self.stream.close().await;
        Ok(json!({ "sent": self.sent, "acked": self.acked, "refused": self.refused }))
    }
}
