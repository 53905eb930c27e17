//! One sample as bytes: the JSON envelope, its flat form, bare readings, `protobuf`, or a
//! `template` of the user's.
//!
//! Everything that is the same for all samples of a population is written once, when the encoder
//! is made; a sample adds its id, its time and its numbers, and allocates nothing but room in the
//! caller's buffer. JSON has no NaN and no infinity: they are `null`. Bound: the profile's fields.

use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use actorsim_transport::{Reading, device_uuid};

use crate::generator::Generator;
use crate::profile::{Field, Payload, Profile};

mod protobuf;
pub(crate) mod template;

use protobuf::Points;
use template::{Names, Text};

/// Writes the samples of one population.
#[derive(Clone, Debug)]
pub struct Encoder {
    form: Form,
    fields: Box<[Entry]>,
}

#[derive(Clone, Debug)]
enum Form {
    /// `{"device_id":` id `,"device_type":..,"timestamp":"` time `","fields":{..},"labels":{..}}`.
    Envelope {
        after_id: Box<[u8]>,
        labels: Box<[u8]>,
    },
    /// `{"device_id":` id `,"timestamp":"` time `"` and one key per field `}`.
    Flat,
    /// The readings of the sensors, 39 bytes each.
    Reading,
    Protobuf(Points),
    Template(Text),
}

/// One field of a sample.
#[derive(Clone, Debug)]
struct Entry {
    /// `"name":`, with a comma in front where one belongs.
    key: Box<[u8]>,
    words: Words,
    sensor: Option<actorsim_transport::SensorType>,
}

/// How a field's value is written.
#[derive(Clone, Debug)]
enum Words {
    /// As a number.
    Number,
    /// By the number of its state.
    State(Box<[Box<[u8]>]>),
    /// Always so.
    Constant(Box<[u8]>),
}

/// One sample of one device.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Who.
    pub device_id: &'a str,
    /// When, by the device's clock: microseconds since the Unix epoch.
    pub unix_us: u64,
    /// Its number.
    pub sequence: u32,
    /// Values by field index.
    pub values: &'a [f64],
}

impl Encoder {
    /// An encoder for the samples of a profile.
    #[must_use]
    pub fn new(profile: &Profile) -> Self {
        let form = match profile.payload {
            Payload::Envelope => Form::Envelope {
                after_id: [b",\"device_type\":", &*json(&profile.device_type), b","]
                    .concat()
                    .into(),
                labels: labels(&profile.labels),
            },
            Payload::Flat => Form::Flat,
            Payload::Reading => Form::Reading,
            Payload::Protobuf => Form::Protobuf(Points::new(profile)),
            Payload::Template => {
                let names = Names {
                    device_type: &profile.device_type,
                    fields: &profile.fields,
                    labels: &profile.labels,
                };
                Form::Template(Text::parse(&profile.payload_template, &names))
            }
        };
        let leads = matches!(form, Form::Flat);
        let fields = profile.fields.iter().enumerate();
        let fields = fields.map(|(at, field)| Entry::new(field, leads || at > 0));
        Self {
            form,
            fields: fields.collect(),
        }
    }

    /// An encoder for samples as lines of text: by the profile's template if it is one, else in its
    /// form of JSON; bytes that are no text become the envelope.
    #[must_use]
    pub fn lines(profile: &Profile) -> Self {
        match profile.payload {
            Payload::Envelope | Payload::Flat | Payload::Template => Self::new(profile),
            Payload::Reading | Payload::Protobuf => Self::new(&Profile {
                payload: Payload::Envelope,
                ..profile.clone()
            }),
        }
    }

    /// Whether samples are JSON values.
    #[must_use]
    pub fn is_json(&self) -> bool {
        match &self.form {
            Form::Envelope { .. } | Form::Flat => true,
            Form::Reading | Form::Protobuf(_) => false,
            Form::Template(text) => text.begins_with(b"{["),
        }
    }

    /// What they are, as HTTP and AMQP say it.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match &self.form {
            _ if self.is_json() => "application/json",
            Form::Protobuf(_) => "application/x-protobuf",
            Form::Template(_) => "text/plain; charset=utf-8",
            _ => "application/octet-stream",
        }
    }

    /// Appends one sample.
    pub fn write(&self, sample: &Sample<'_>, out: &mut Vec<u8>) {
        match &self.form {
            Form::Reading => return self.readings(sample, out),
            Form::Protobuf(points) => return points.write(sample, out),
            Form::Template(text) => return text.write(sample, out),
            Form::Envelope { after_id, labels } => {
                out.extend_from_slice(b"{\"device_id\":");
                text(sample.device_id, out);
                out.extend_from_slice(after_id);
                time(sample.unix_us, out);
                out.extend_from_slice(b",\"fields\":{");
                self.values(sample.values, out);
                out.extend_from_slice(labels);
            }
            Form::Flat => {
                out.extend_from_slice(b"{\"device_id\":");
                text(sample.device_id, out);
                out.push(b',');
                time(sample.unix_us, out);
                self.values(sample.values, out);
            }
        }
        out.push(b'}');
    }

    fn values(&self, values: &[f64], out: &mut Vec<u8>) {
        for (entry, value) in self.fields.iter().zip(values) {
            out.extend_from_slice(&entry.key);
            entry.words.write(*value, out);
        }
    }

    fn readings(&self, sample: &Sample<'_>, out: &mut Vec<u8>) {
        let device = device_uuid(sample.device_id);
        for ((sensor, entry), value) in (0u16..).zip(&self.fields).zip(sample.values) {
            let Some(kind) = entry.sensor else { continue };
            let reading = Reading {
                device,
                sensor,
                kind,
                value: *value,
                at_us: sample.unix_us,
                sequence: sample.sequence,
            };
            out.extend_from_slice(&reading.encode());
        }
    }
}

impl Entry {
    fn new(field: &Field, comma: bool) -> Self {
        let mut key = if comma { vec![b','] } else { Vec::new() };
        text(&field.name, &mut key);
        key.push(b':');
        Self {
            key: key.into(),
            words: Words::of(field, serde_json::Value::to_string),
            sensor: field.sensor,
        }
    }
}

impl Words {
    /// Texts without quotes.
    fn plain(field: &Field) -> Self {
        Self::of(field, |value| match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }

    fn of(field: &Field, write: impl Fn(&serde_json::Value) -> String) -> Self {
        let write = |value: &serde_json::Value| write(value).into_bytes().into();
        match &field.generator {
            // a setpoint of the twin takes the place of an actuator's constant
            Generator::Static(_) if field.actuator => Self::Number,
            Generator::Static(value) => Self::Constant(write(value)),
            Generator::Markov(chain) if !chain.numeric() => {
                Self::State(chain.states().iter().map(write).collect())
            }
            _ => Self::Number,
        }
    }

    fn write(&self, value: f64, out: &mut Vec<u8>) {
        match self {
            Self::Constant(always) => out.extend_from_slice(always),
            Self::State(states) if value >= 0.0 && value.fract() == 0.0 => {
                let state = states.get(value as usize);
                out.extend_from_slice(state.map_or(&b"null"[..], |state| state));
            }
            Self::Number | Self::State(_) => number(value, out),
        }
    }
}

/// `},"labels":{..}`.
fn labels(labels: &[(String, String)]) -> Box<[u8]> {
    let mut out = b"},\"labels\":{".to_vec();
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text(name, &mut out);
        out.push(b':');
        text(value, &mut out);
    }
    out.push(b'}');
    out.into()
}

fn json(value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 2);
    text(value, &mut out);
    out
}

fn text(value: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a buffer takes all that is written");
}

fn number(value: f64, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &value).expect("a buffer takes all that is written");
}

/// `"timestamp":"2026-01-01T00:00:00.000Z"`.
fn time(unix_us: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"timestamp\":\"");
    rfc3339(unix_us, out);
    out.push(b'"');
}

/// `2026-01-01T00:00:00.000Z` (RFC 3339), milliseconds cut off.
fn rfc3339(unix_us: u64, out: &mut Vec<u8>) {
    /// The last moment of year 9999, which is as far as RFC 3339 goes.
    const LAST_US: u64 = 253_402_300_799_999_999;
    let at = UNIX_EPOCH + Duration::from_micros(unix_us.min(LAST_US));
    let written = write!(out, "{}", humantime::format_rfc3339_millis(at));
    written.expect("a buffer takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(extra: &str) -> Profile {
        let text = format!(
            "type: pump\nlabels: {{site: \"n\\\"orth\"}}\n{extra}\ntelemetry_fields:\n  \
             temperature: {{type: gaussian, mean: 21.5, stddev: 0}}\n  \
             mode: {{type: markov, states: [idle, busy], transition_matrix: [[1, 0], [0, 1]], \
             initial_state: busy}}\n  firmware: {{type: static, value: \"1.2\"}}\n"
        );
        Profile::parse("pump.yaml", &text).unwrap().profile
    }

    fn sample(values: &[f64]) -> Sample<'_> {
        Sample {
            device_id: "pump-0007",
            unix_us: 1_767_225_600_123_999,
            sequence: 9,
            values,
        }
    }

    fn write(profile: &Profile, values: &[f64]) -> String {
        let mut out = Vec::new();
        Encoder::new(profile).write(&sample(values), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_envelope_has_its_keys_in_the_order_of_the_contract() {
        assert_eq!(
            write(&profile(""), &[21.5, 1.0, f64::NAN]),
            "{\"device_id\":\"pump-0007\",\"device_type\":\"pump\",\
             \"timestamp\":\"2026-01-01T00:00:00.123Z\",\
             \"fields\":{\"temperature\":21.5,\"mode\":\"busy\",\"firmware\":\"1.2\"},\
             \"labels\":{\"site\":\"n\\\"orth\",\"device_type\":\"pump\"}}"
        );
    }

    #[test]
    fn a_flat_payload_has_one_key_per_field() {
        assert_eq!(
            write(&profile("payload: flat"), &[f64::INFINITY, f64::NAN, 0.0]),
            "{\"device_id\":\"pump-0007\",\"timestamp\":\"2026-01-01T00:00:00.123Z\",\
             \"temperature\":null,\"mode\":null,\"firmware\":\"1.2\"}"
        );
    }

    #[test]
    fn whatever_the_values_the_payload_is_json() {
        for value in [0.0, -1.0, 7.5, 1e300, f64::NAN, f64::NEG_INFINITY] {
            let text = write(&profile(""), &[value; 3]);
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read["labels"]["site"], "n\"orth");
        }
    }

    #[test]
    fn readings_are_those_of_the_tiers() {
        let mut out = Vec::new();
        let profile = profile("payload: reading");
        Encoder::new(&profile).write(&sample(&[21.5, 1.0, 0.0]), &mut out);
        let reading = Reading::decode(out.first_chunk().unwrap()).unwrap();
        assert_eq!((reading.value, reading.sequence, out.len()), (21.5, 9, 39));
        assert_eq!(reading.device, device_uuid("pump-0007"));
    }

    #[test]
    fn a_template_is_filled_in_and_its_other_braces_stay() {
        let template = "payload: template\npayload_template: \
            '{\"id\":\"{device_id}\",\"at\":{unix_ms},\"n\":{sequence},\
            \"in\":{\"site\":\"{labels.site}\",\"of\":\"{device_type}\"},\
            \"mode\":\"{fields.mode}\",\"t\":{fields.temperature},{}}{'";
        assert_eq!(
            write(&profile(template), &[f64::NAN, 1.0, 0.0]),
            "{\"id\":\"pump-0007\",\"at\":1767225600123,\"n\":9,\"in\":{\"site\":\"n\"orth\",\
             \"of\":\"pump\"},\"mode\":\"busy\",\"t\":null,{}}{"
        );
        let line = profile("payload: template\npayload_template: '{timestamp};{fields.firmware}'");
        assert_eq!(write(&line, &[0.0; 3]), "2026-01-01T00:00:00.123Z;1.2");
        assert_eq!(
            Encoder::new(&line).content_type(),
            "text/plain; charset=utf-8"
        );
    }

    /// The message of `contracts/simulator-v1.md`, as another library reads it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct TelemetryBatch {
        #[prost(message, repeated, tag = "1")]
        points: Vec<TelemetryPoint>,
        #[prost(int64, tag = "2")]
        sequence_number: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct TelemetryPoint {
        #[prost(string, tag = "1")]
        device_id: String,
        #[prost(string, tag = "2")]
        metric_name: String,
        #[prost(double, optional, tag = "3")]
        double_value: Option<f64>,
        #[prost(string, optional, tag = "5")]
        string_value: Option<String>,
        #[prost(message, optional, tag = "7")]
        timestamp: Option<Timestamp>,
        #[prost(btree_map = "string, string", tag = "8")]
        tags: std::collections::BTreeMap<String, String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Timestamp {
        #[prost(int64, tag = "1")]
        seconds: i64,
        #[prost(int32, tag = "2")]
        nanos: i32,
    }

    #[test]
    fn another_library_reads_our_protobuf_and_two_batches_as_one() {
        let encoder = Encoder::new(&profile("payload: protobuf"));
        let mut out = Vec::new();
        encoder.write(&sample(&[21.5, 1.0, 0.0]), &mut out);
        encoder.write(&sample(&[-3.0, 0.0, 0.0]), &mut out);
        let batch: TelemetryBatch = prost::Message::decode(&*out).unwrap();
        assert_eq!((batch.points.len(), batch.sequence_number), (6, 9));
        let said = |at: usize| {
            let point = &batch.points[at];
            assert_eq!(point.device_id, "pump-0007");
            let time = point.timestamp.as_ref().unwrap();
            assert_eq!((time.seconds, time.nanos), (1_767_225_600, 123_999_000));
            assert_eq!(point.tags["site"], "n\"orth");
            assert_eq!(point.tags.len(), 2);
            let text = point.string_value.as_deref();
            (point.metric_name.as_str(), point.double_value, text)
        };
        assert_eq!(said(0), ("temperature", Some(21.5), None));
        assert_eq!(said(1), ("mode", None, Some("busy")));
        assert_eq!(said(2), ("firmware", None, Some("1.2")));
        assert_eq!(said(3), ("temperature", Some(-3.0), None));
    }
}
