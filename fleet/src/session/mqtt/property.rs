//! Properties of MQTT 5 packets (MQTT 5.0, 2.2.2).
//!
//! Those that a client or a small broker acts on are kept, all others are checked and skipped.
//! Bound: as many as fit the packet, each at most once but for user properties.

use super::packet::Malformed;
use super::read::Reader;

/// What a packet said about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// Seconds for which a session outlives its connection.
    pub session_expiry_s: Option<u32>,
    /// QoS 1 and 2 messages that the sender takes at a time.
    pub receive_max: Option<u16>,
    /// Bytes of the largest packet that the sender takes.
    pub packet_max: Option<u32>,
    /// Keep-alive that the broker wants instead, in seconds.
    pub keep_alive_s: Option<u16>,
    /// Highest quality of service that the broker takes.
    pub qos_max: Option<u8>,
    /// Whether the broker keeps retained messages.
    pub retain_available: Option<bool>,
    /// Id given to a client that had none.
    pub assigned_id: Option<&'a str>,
    /// Where a request wants its reply.
    pub response_topic: Option<&'a str>,
    /// What a reply repeats.
    pub correlation: Option<&'a [u8]>,
    /// A number that stands for a topic.
    pub topic_alias: Option<u16>,
    /// Why, in words.
    pub reason: Option<&'a str>,
}

/// Shape of a property's value.
#[derive(Clone, Copy)]
enum Shape {
    Byte,
    Two,
    Four,
    Length,
    Text,
    Binary,
    Pair,
}

const USER_PROPERTY: u8 = 0x26;
const SUBSCRIPTION_ID: u8 = 0x0b;

/// The table of MQTT 5.0, 2.2.2.2.
const fn shape(id: u8) -> Option<Shape> {
    Some(match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Shape::Byte,
        0x13 | 0x21 | 0x22 | 0x23 => Shape::Two,
        0x02 | 0x11 | 0x18 | 0x27 => Shape::Four,
        SUBSCRIPTION_ID => Shape::Length,
        0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => Shape::Text,
        0x09 | 0x16 => Shape::Binary,
        USER_PROPERTY => Shape::Pair,
        _ => return None,
    })
}

impl<'a> Properties<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let len = reader.length()?;
        let mut rest = Reader {
            rest: reader.take(len)?,
        };
        let mut found = Self::default();
        let mut seen = 0u64;
        while !rest.rest.is_empty() {
            let id = rest.u8()?;
            let shape = shape(id).ok_or(Malformed::Field("unknown property"))?;
            let repeats = id == USER_PROPERTY || id == SUBSCRIPTION_ID;
            if seen & (1 << id) != 0 && !repeats {
                return Err(Malformed::Field("property given twice"));
            }
            seen |= 1 << id;
            found.take(id, shape, &mut rest)?;
        }
        Ok(found)
    }

    fn take(&mut self, id: u8, shape: Shape, rest: &mut Reader<'a>) -> Result<(), Malformed> {
        match shape {
            Shape::Byte => match (id, rest.u8()?) {
                (0x24, value @ 0..=1) => self.qos_max = Some(value),
                (0x25, value @ 0..=1) => self.retain_available = Some(value == 1),
                (0x24 | 0x25, _) => return Err(Malformed::Field("value of a property")),
                _ => {}
            },
            Shape::Two => match (id, rest.u16()?) {
                (0x21 | 0x23, 0) => return Err(Malformed::Field("property with value 0")),
                (0x13, value) => self.keep_alive_s = Some(value),
                (0x21, value) => self.receive_max = Some(value),
                (0x23, value) => self.topic_alias = Some(value),
                _ => {}
            },
            Shape::Four => match (id, rest.u32()?) {
                (0x27, 0) => return Err(Malformed::Field("property with value 0")),
                (0x11, value) => self.session_expiry_s = Some(value),
                (0x27, value) => self.packet_max = Some(value),
                _ => {}
            },
            Shape::Length => drop(rest.length()?),
            Shape::Text => match (id, rest.text()?) {
                (0x08, text) => self.response_topic = Some(text),
                (0x12, text) => self.assigned_id = Some(text),
                (0x1f, text) => self.reason = Some(text),
                _ => {}
            },
            Shape::Binary => {
                let bytes = rest.binary()?;
                if id == 0x09 {
                    self.correlation = Some(bytes);
                }
            }
            Shape::Pair => {
                rest.text()?;
                rest.text()?;
            }
        }
        Ok(())
    }

    /// Writes those that stand in it, with their length in front.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), super::packet::TooLong> {
        use super::write::{binary, length, text};
        let start = out.len();
        let two = |out: &mut Vec<u8>, id, value: Option<u16>| {
            if let Some(value) = value {
                out.push(id);
                out.extend_from_slice(&value.to_be_bytes());
            }
        };
        let four = |out: &mut Vec<u8>, id, value: Option<u32>| {
            if let Some(value) = value {
                out.push(id);
                out.extend_from_slice(&value.to_be_bytes());
            }
        };
        let byte = |out: &mut Vec<u8>, id, value: Option<u8>| {
            if let Some(value) = value {
                out.extend_from_slice(&[id, value]);
            }
        };
        four(out, 0x11, self.session_expiry_s);
        two(out, 0x21, self.receive_max);
        four(out, 0x27, self.packet_max);
        two(out, 0x13, self.keep_alive_s);
        byte(out, 0x24, self.qos_max);
        byte(out, 0x25, self.retain_available.map(u8::from));
        two(out, 0x23, self.topic_alias);
        let texts = [
            (0x12, self.assigned_id),
            (0x08, self.response_topic),
            (0x1f, self.reason),
        ];
        for (id, value) in texts {
            if let Some(value) = value {
                out.push(id);
                text(out, value)?;
            }
        }
        if let Some(value) = self.correlation {
            out.push(0x09);
            binary(out, value)?;
        }
        length(out, start)
    }
}
