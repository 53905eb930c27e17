//! Records as messages: each sample, or what a device said on its session, with where it goes.
//!
//! Readings of one device at one time are one sample, in the envelope of its profile and on its
//! topic; events are samples of one field. A session's bytes are heard as their broker or server
//! heard them, so each message is what was in it, to the byte. Bound: a session for each device
//! that had one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use actorsim_fleet::peer::Peer;
use actorsim_fleet::profile::Protocol;
use actorsim_fleet::wire::Way;
use actorsim_transport::{Reading, Tier};
use serde_json::{Map, Value as Json, json};

use super::log::{Kind, Record};

/// One message of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The device.
    pub id: String,
    /// Its type.
    pub device_type: String,
    /// Where it goes, with `/` between segments and none in front.
    pub topic: String,
    /// What it carries.
    pub payload: Vec<u8>,
    /// A broker is to keep it.
    pub retain: bool,
}

impl Message {
    /// What its payload is, as far as it can be seen.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self.payload.trim_ascii_start().first() {
            Some(b'{' | b'[') => "application/json",
            _ => "application/octet-stream",
        }
    }
}

/// Reads records.
#[derive(Debug)]
pub struct Reader {
    kinds: Vec<Kind>,
    /// Other ends of sessions, by kind and device.
    peers: BTreeMap<(usize, u32), Peer>,
    answers: Vec<u8>,
}

impl Reader {
    /// Of devices of these kinds.
    #[must_use]
    pub const fn new(kinds: Vec<Kind>) -> Self {
        Self {
            kinds,
            peers: BTreeMap::new(),
            answers: Vec::new(),
        }
    }

    /// Appends the messages of a record.
    ///
    /// # Errors
    /// A session that nobody could follow, in words.
    pub fn read(&mut self, record: &Record<'_>, into: &mut Vec<Message>) -> Result<(), String> {
        let Some(kind) = self.kinds.get(record.kind) else {
            return Ok(());
        };
        let mut id = kind.device_type.clone();
        let _ = write!(id, "-{:04}", record.ordinal);
        let readings: Vec<Reading> = match record.way {
            Way::Tier(Tier::T1) => record.readings().collect(),
            Way::Tier(Tier::T2) => record.events().map(|(reading, _)| reading).collect(),
            Way::Tier(Tier::T3) => return Ok(()),
            Way::Stream | Way::Datagram => return self.hear(record, &id, into),
        };
        let topic = topic(kind, &id);
        // Readings with one stamp are one sample.
        for one in readings.chunk_by(|a, b| (a.at_us, a.sequence) == (b.at_us, b.sequence)) {
            into.push(Message {
                payload: sample(kind, &id, one).into_bytes(),
                id: id.clone(),
                device_type: kind.device_type.clone(),
                topic: topic.clone(),
                retain: false,
            });
        }
        Ok(())
    }

    fn hear(
        &mut self,
        record: &Record<'_>,
        id: &str,
        into: &mut Vec<Message>,
    ) -> Result<(), String> {
        let kind = &self.kinds[record.kind];
        let Some(fresh) = Peer::of(kind.protocol) else {
            return Ok(());
        };
        let peer = self.peers.entry((record.kind, record.ordinal));
        let peer = peer.or_insert(fresh);
        let heard = peer.hear(record.bytes, &mut self.answers, &mut |message| {
            into.push(Message {
                id: id.to_owned(),
                device_type: kind.device_type.clone(),
                topic: match kind.protocol {
                    Protocol::Amqp => message.at.replace('.', "/"),
                    _ => message.at.trim_start_matches('/').to_owned(),
                },
                payload: message.payload.to_vec(),
                retain: message.retain,
            });
        });
        self.answers.clear();
        heard.map_err(|error| format!("the session of {id} cannot be followed: {error}"))
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

#[cfg(test)]
mod tests {
    use actorsim_transport::{SensorType, device_uuid};

    use super::*;

    #[test]
    fn a_sample_is_the_envelope_of_its_profile_on_its_topic() {
        let kind = Kind {
            device_type: "lock".to_owned(),
            protocol: Protocol::Quic,
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
