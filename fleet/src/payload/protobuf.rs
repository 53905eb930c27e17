//! A sample as a `simulator.v1.TelemetryBatch`: a point for each field.
//!
//! The message of the streams of remote control, so that who can read those can read these. Two
//! batches one after the other are one batch with the points of both. Everything but id, time and
//! values is encoded once. Bound: the profile's fields.

use serde_json::Value;

use super::Sample;
use crate::generator::Generator;
use crate::profile::{Field, Profile};

// Tags: the number of a field and how it is encoded (0: varint, 1: eight bytes, 2: with a length).
const POINTS: u8 = 1 << 3 | 2;
const SEQUENCE_NUMBER: u8 = 2 << 3;
const DEVICE_ID: u8 = 1 << 3 | 2;
const METRIC_NAME: u8 = 2 << 3 | 2;
const DOUBLE_VALUE: u8 = 3 << 3 | 1;
const STRING_VALUE: u8 = 5 << 3 | 2;
const BOOL_VALUE: u8 = 6 << 3;
const TIMESTAMP: u8 = 7 << 3 | 2;
const TAGS: u8 = 8 << 3 | 2;
/// Of a timestamp.
const SECONDS: u8 = 1 << 3;
const NANOS: u8 = 2 << 3;
/// Of an entry of a map.
const KEY: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;

/// Bytes of an encoded double, its tag included.
const DOUBLE_BYTES: usize = 9;

/// The points of one profile.
#[derive(Clone, Debug)]
pub(super) struct Points {
    points: Box<[Point]>,
    /// The labels, encoded.
    tags: Box<[u8]>,
}

#[derive(Clone, Debug)]
struct Point {
    name: Box<[u8]>,
    value: Worth,
}

/// How a field's value is encoded.
#[derive(Clone, Debug)]
enum Worth {
    Number,
    /// By the number of its state.
    State(Box<[Box<[u8]>]>),
    Constant(Box<[u8]>),
}

impl Points {
    pub(super) fn new(profile: &Profile) -> Self {
        let mut tags = Vec::new();
        for (name, value) in &profile.labels {
            let mut entry = Vec::new();
            text(KEY, name.as_bytes(), &mut entry);
            text(VALUE, value.as_bytes(), &mut entry);
            text(TAGS, &entry, &mut tags);
        }
        Self {
            points: profile.fields.iter().map(Point::new).collect(),
            tags: tags.into(),
        }
    }

    /// Appends one sample.
    pub(super) fn write(&self, sample: &Sample<'_>, out: &mut Vec<u8>) {
        let time = Time::of(sample.unix_us);
        let id = sample.device_id.as_bytes();
        let own = 1 + length(id.len() as u64) + id.len() + time.len;
        for (point, value) in self.points.iter().zip(sample.values) {
            let (number, always) = point.value.of(*value);
            let worth = if number { DOUBLE_BYTES } else { always.len() };
            out.push(POINTS);
            varint(
                (own + point.name.len() + worth + self.tags.len()) as u64,
                out,
            );
            text(DEVICE_ID, id, out);
            out.extend_from_slice(&point.name);
            match number {
                true => double(*value, out),
                false => out.extend_from_slice(always),
            }
            out.extend_from_slice(&time.bytes[..time.len]);
            out.extend_from_slice(&self.tags);
        }
        out.push(SEQUENCE_NUMBER);
        varint(u64::from(sample.sequence), out);
    }
}

impl Point {
    fn new(field: &Field) -> Self {
        let mut name = Vec::new();
        text(METRIC_NAME, field.name.as_bytes(), &mut name);
        let value = match &field.generator {
            Generator::Static(_) if field.actuator => Worth::Number,
            Generator::Static(value) => Worth::Constant(constant(value)),
            Generator::Markov(chain) if !chain.numeric() => {
                Worth::State(chain.states().iter().map(constant).collect())
            }
            _ => Worth::Number,
        };
        Self {
            name: name.into(),
            value,
        }
    }
}

impl Worth {
    /// Whether it goes as a number, or else how it goes.
    fn of(&self, value: f64) -> (bool, &[u8]) {
        match self {
            Self::Number => (true, &[]),
            Self::Constant(always) => (false, always),
            Self::State(states) => {
                let whole = value >= 0.0 && value.fract() == 0.0;
                let state = states.get(value as usize).filter(|_| whole);
                state.map_or((true, &[]), |state| (false, state))
            }
        }
    }
}

/// A value that is always the same; what is no single value is its JSON text, and null is absent.
fn constant(value: &Value) -> Box<[u8]> {
    let mut out = Vec::new();
    match value {
        Value::Null => {}
        Value::Bool(on) => out.extend_from_slice(&[BOOL_VALUE, u8::from(*on)]),
        Value::Number(number) => double(number.as_f64().unwrap_or(f64::NAN), &mut out),
        Value::String(own) => text(STRING_VALUE, own.as_bytes(), &mut out),
        other => text(STRING_VALUE, other.to_string().as_bytes(), &mut out),
    }
    out.into()
}

/// An encoded timestamp, its tag included.
struct Time {
    bytes: [u8; 20],
    len: usize,
}

impl Time {
    fn of(unix_us: u64) -> Self {
        let mut bytes = [0; 20];
        let mut len = 2; // the tag and the length, at most 18
        bytes[0] = TIMESTAMP;
        let nanos = unix_us % 1_000_000 * 1_000;
        for (tag, mut number) in [(SECONDS, unix_us / 1_000_000), (NANOS, nanos)] {
            bytes[len] = tag;
            len += 1;
            while number >= 0x80 {
                bytes[len] = number as u8 | 0x80;
                number >>= 7;
                len += 1;
            }
            bytes[len] = number as u8;
            len += 1;
        }
        bytes[1] = (len - 2) as u8;
        Self { bytes, len }
    }
}

fn double(value: f64, out: &mut Vec<u8>) {
    out.push(DOUBLE_VALUE);
    out.extend_from_slice(&value.to_le_bytes());
}

fn text(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Bytes of a varint.
const fn length(number: u64) -> usize {
    (64 - (number | 1).leading_zeros()).div_ceil(7) as usize
}
