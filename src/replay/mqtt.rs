//! A recording to an MQTT broker: each sample as its device would publish it, over one session.
//!
//! Readings of one device at one time are one message, on the topic of its profile; events go to
//! the same topic. Order is kept, each message is acknowledged (QoS 1). Bound: the session's
//! outbox; a broker that is slower delays the recording.

use std::fmt::Write as _;
use std::time::Duration;

use actorsim_actors::{Clock, Time};
use actorsim_fleet::session::mqtt::client::Message;
use actorsim_fleet::session::mqtt::output::PublishError;
use actorsim_fleet::session::mqtt::{Client, Event, Login, Options, Output, Qos};
use actorsim_transport::Reading;
use serde_json::{Map, Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};

use super::log::{Kind, Record, Tier};
use super::play::Target;

/// Messages that wait for the broker.
const OUTBOX: u16 = 4_096;
/// Of these, on their way.
const IN_FLIGHT: u16 = 256;
/// Time for the broker to take a session, or a full outbox to move.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes read at once.
const READ: usize = 16 * 1024;

/// A session that plays.
#[derive(Debug)]
pub struct MqttTarget {
    stream: TcpStream,
    client: Client,
    options: Options,
    clock: Clock,
    out: Output,
    kinds: Vec<Kind>,
    sent: u64,
    acked: u64,
    refused: u64,
}

/// Who plays.
#[derive(Debug, Clone, Default)]
pub struct Player {
    /// User, if the broker wants one.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Vec<u8>>,
}

impl MqttTarget {
    /// Connects to a broker.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn connect(
        address: std::net::SocketAddr,
        mut options: Options,
        player: &Player,
        kinds: Vec<Kind>,
    ) -> Result<Self, String> {
        let connecting = timeout(PATIENCE, TcpStream::connect(address)).await;
        let connected = connecting.map_err(|_| format!("{address} does not answer"))?;
        let stream = connected.map_err(|error| format!("{address}: {error}"))?;
        let _ = stream.set_nodelay(true); // only slower without
        options.outbox_max = OUTBOX;
        options.in_flight_max = IN_FLIGHT;
        options.clean_start = true;
        let mut target = Self {
            stream,
            client: Client::default(),
            options,
            clock: Clock::wall(),
            out: Output::default(),
            kinds,
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
        Ok(target)
    }

    fn now(&self) -> Time {
        self.clock.monotonic()
    }

    /// Writes what the session has to say, and counts what it heard.
    async fn flush(&mut self) -> Result<(), String> {
        let writing = timeout(PATIENCE, self.stream.write_all(&self.out.bytes));
        let written = writing.await;
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
        let written = written.map_err(|_| "the broker reads nothing".to_owned())?;
        written.map_err(|error| format!("the broker is gone: {error}"))
    }

    /// Listens until something came, or the time.
    async fn pump(&mut self, until: tokio::time::Instant) -> Result<(), String> {
        let mut bytes = [0; READ];
        let deadline = self.client.deadline(&self.options);
        let soon = deadline.map(|at| tokio::time::Instant::now() + at.since(self.now()));
        let until = soon.map_or(until, |soon| soon.min(until));
        let read = timeout_at(until, self.stream.read(&mut bytes)).await;
        let now = self.now();
        match read {
            Ok(Ok(0)) => return Err("the broker closed the connection".to_owned()),
            Ok(Ok(n)) => {
                let out = &mut self.out;
                self.client.received(&self.options, &bytes[..n], now, out);
            }
            Ok(Err(error)) => return Err(format!("the broker is gone: {error}")),
            Err(_) => self.client.expire(&self.options, now, &mut self.out),
        }
        self.flush().await
    }

    async fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), String> {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let message = Message {
                topic,
                payload,
                qos: Qos::AtLeastOnce,
                retain: false,
                tag: 1,
            };
            let now = self.now();
            let (options, out) = (&self.options, &mut self.out);
            match self.client.publish(options, &message, now, out) {
                Ok(()) => {
                    self.sent += 1;
                    return self.flush().await;
                }
                Err(PublishError::Full) if tokio::time::Instant::now() < patience => {
                    self.pump(patience).await?;
                }
                Err(error) => return Err(format!("{topic}: {error}")),
            }
        }
    }
}

/// The topic of a device.
fn topic(kind: &Kind, id: &str) -> String {
    let mut topic = kind.topic.replace("{device_id}", id);
    topic = topic.replace("{device_type}", &kind.device_type);
    for (label, value) in &kind.labels {
        topic = topic.replace(&format!("{{labels.{label}}}"), value);
    }
    topic
}

/// One sample as the JSON envelope of a profile.
fn sample(kind: &Kind, id: &str, readings: &[Reading]) -> String {
    let field = |reading: &Reading| {
        let named = kind
            .sensors
            .iter()
            .find(|sensor| sensor.0 == reading.sensor);
        let name = named.map_or_else(|| reading.sensor.to_string(), |sensor| sensor.1.clone());
        (name, json!(reading.value))
    };
    let fields: Map<String, Json> = readings.iter().map(field).collect();
    let labels = kind.labels.iter();
    let labels: Map<String, Json> = labels
        .map(|(label, value)| (label.clone(), Json::from(value.as_str())))
        .collect();
    let at_us = readings.first().map_or(0, |reading| reading.at_us);
    let at = std::time::UNIX_EPOCH + Duration::from_micros(at_us);
    json!({
        "device_id": id, "device_type": kind.device_type,
        "timestamp": humantime::format_rfc3339_millis(at).to_string(),
        "fields": fields, "labels": labels,
    })
    .to_string()
}

impl Target for MqttTarget {
    async fn take(&mut self, record: &Record<'_>) -> Result<(), String> {
        let kind = self.kinds.get(record.kind).cloned().unwrap_or_default();
        let mut id = kind.device_type.clone();
        let _ = write!(id, "-{:04}", record.ordinal);
        let topic = topic(&kind, &id);
        let readings: Vec<Reading> = match record.tier {
            Tier::T1 => record.readings().collect(),
            Tier::T2 => record.events().map(|(reading, _)| reading).collect(),
            Tier::T3 => return Ok(()),
        };
        // Readings with one stamp are one sample.
        for one in readings.chunk_by(|a, b| (a.at_us, a.sequence) == (b.at_us, b.sequence)) {
            let payload = sample(&kind, &id, one);
            self.publish(&topic, payload.as_bytes()).await?;
        }
        Ok(())
    }

    async fn rest(&mut self, until: tokio::time::Instant) -> Result<(), String> {
        self.pump(until).await
    }

    async fn close(&mut self) -> Result<Json, String> {
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
        let _ = self.stream.write_all(&goodbye.bytes).await; // it has all it needs
        let _ = self.stream.shutdown().await;
        Ok(json!({ "sent": self.sent, "acked": self.acked, "refused": self.refused }))
    }
}

#[cfg(test)]
mod tests {
    use actorsim_transport::{SensorType, device_uuid};

    use super::*;

    #[test]
    fn a_sample_is_the_envelope_of_its_profile_on_its_topic() {
        let kind = Kind {
            device_type: "lock".to_owned(),
            topic: "site/{labels.site}/{device_type}/{device_id}".to_owned(),
            labels: vec![("site".to_owned(), "north".to_owned())],
            sensors: vec![(2, "battery".to_owned(), 3)],
        };
        let reading = Reading {
            device: device_uuid("lock-0007"),
            sensor: 2,
            kind: SensorType::Voltage,
            value: 99.5,
            at_us: 1_767_225_600_250_000,
            sequence: 3,
        };
        assert_eq!(topic(&kind, "lock-0007"), "site/north/lock/lock-0007");
        let expected = concat!(
            r#"{"device_id":"lock-0007","device_type":"lock","#,
            r#""timestamp":"2026-01-01T00:00:00.250Z","#,
            r#""fields":{"battery":99.5},"labels":{"site":"north"}}"#,
        );
        assert_eq!(sample(&kind, "lock-0007", &[reading]), expected);
    }
}
