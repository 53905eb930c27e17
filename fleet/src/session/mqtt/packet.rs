//! Packets of MQTT 3.1.1 and 5, both directions, without copies.
//!
//! [`Packet::read`] makes one of a [`Frame`], [`Packet::write`] appends one to a buffer. What a
//! version does not have (properties, reason codes) reads as its default and is not written. It
//! keeps no state: which packet may come when is the session's part. Sources: OASIS MQTT 3.1.1
//! (2014) and MQTT 5.0 (2019); paragraphs are those of 3.1.1 unless said. Bound: the frame.

use super::property::Properties;
use super::read::{Frame, Reader};
use super::write::{binary, length, text};

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0, protocol level 5.
    V5,
}

/// Quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// At most once.
    AtMostOnce,
    /// At least once.
    AtLeastOnce,
    /// Exactly once.
    ExactlyOnce,
}

impl Qos {
    /// By its number, 0..=2.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::AtMostOnce,
            1 => Self::AtLeastOnce,
            2 => Self::ExactlyOnce,
            _ => return None,
        })
    }
}

/// Bytes that are no packet of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends too early.
    #[error("packet ends too early")]
    Short,
    /// Larger than was allowed.
    #[error("packet of {bytes} bytes, allowed are {most}")]
    TooLarge {
        /// Bytes of the packet.
        bytes: usize,
        /// Bytes allowed.
        most: usize,
    },
    /// A type that this version does not have.
    #[error("unknown packet type {0}")]
    Kind(u8),
    /// Flags that this type does not have.
    #[error("wrong flags in the first byte {0:#04x}")]
    Flags(u8),
    /// A field that may not be so.
    #[error("{0}")]
    Field(&'static str),
}

/// What is to be written does not fit its length field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are more than MQTT can express there")]
pub struct TooLong {
    /// Its length.
    pub bytes: usize,
}

/// A message that the broker publishes when its client goes without saying so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Where.
    pub topic: &'a str,
    /// What.
    pub payload: &'a [u8],
    /// How surely.
    pub qos: Qos,
    /// Whether it is kept for later subscribers.
    pub retain: bool,
}

/// Opening of a session by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Version of everything that follows.
    pub version: Version,
    /// Forget what was before (`clean session` in 3.1.1).
    pub clean_start: bool,
    /// Longest silence of the client, seconds; 0: none.
    pub keep_alive_s: u16,
    /// Who.
    pub client_id: &'a str,
    /// Last words.
    pub will: Option<Will<'a>>,
    /// User, for password authentication.
    pub username: Option<&'a str>,
    /// Its password.
    pub password: Option<&'a [u8]>,
    /// MQTT 5 only.
    pub properties: Properties<'a>,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent before.
    pub dup: bool,
    /// How surely.
    pub qos: Qos,
    /// Kept for later subscribers.
    pub retain: bool,
    /// Where; empty if an alias stands for it.
    pub topic: &'a str,
    /// Identifier; 0 for [`Qos::AtMostOnce`] only.
    pub id: u16,
    /// MQTT 5 only.
    pub properties: Properties<'a>,
    /// What.
    pub payload: &'a [u8],
}

/// The four answers that a message may go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Answer to QoS 1.
    Ack,
    /// First answer to QoS 2.
    Rec,
    /// The sender has forgotten the message.
    Rel,
    /// Last answer to QoS 2.
    Comp,
}

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Client to broker, first.
    Connect(Connect<'a>),
    /// Broker to client, first. Codes: 0 is accepted; others by version.
    ConnAck {
        /// The broker still has the client's session.
        session_present: bool,
        /// 0: accepted.
        code: u8,
        /// MQTT 5 only.
        properties: Properties<'a>,
    },
    /// A message, either way.
    Publish(Publish<'a>),
    /// A step of a message.
    Step {
        /// Which.
        step: Step,
        /// Of which message.
        id: u16,
        /// Below 0x80: well. MQTT 3.1.1: 0.
        code: u8,
    },
    /// Wish for messages.
    Subscribe {
        /// Identifier.
        id: u16,
        /// Filters with the wanted QoS, as they lie in the packet.
        filters: Filters<'a>,
    },
    /// One code a filter: the granted QoS, or from 0x80 on a refusal.
    SubAck {
        /// Identifier.
        id: u16,
        /// Codes.
        codes: &'a [u8],
    },
    /// I am here.
    PingReq,
    /// So am I.
    PingResp,
    /// The end, with a reason in MQTT 5.
    Disconnect {
        /// 0: normal.
        code: u8,
    },
}

/// Topic filters of a subscription, validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filters<'a>(&'a [u8]);

impl<'a> Filters<'a> {
    /// Filter and wanted QoS of each.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Qos)> + use<'a> {
        let mut rest = Reader { rest: self.0 };
        std::iter::from_fn(move || {
            let filter = rest.text().ok()?;
            let qos = Qos::from_number(rest.u8().ok()? & 0x03)?;
            Some((filter, qos))
        })
    }

    /// Appends one filter in the form that [`Filters`] reads.
    ///
    /// # Errors
    /// A filter of more than 65,535 bytes.
    pub fn append(out: &mut Vec<u8>, filter: &str, qos: Qos) -> Result<(), TooLong> {
        text(out, filter)?;
        out.push(qos as u8);
        Ok(())
    }

    /// Filters made by [`Filters::append`].
    ///
    /// # Errors
    /// Not of that form, or none.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = Reader { rest: bytes };
        if bytes.is_empty() {
            return Err(Malformed::Field("subscription without filters"));
        }
        while !rest.rest.is_empty() {
            if rest.text()?.is_empty() {
                return Err(Malformed::Field("empty topic filter"));
            }
            Qos::from_number(rest.u8()? & 0x03).ok_or(Malformed::Field("quality of service 3"))?;
        }
        Ok(Self(bytes))
    }
}

const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;
const SUBSCRIBE: u8 = 8;
const SUBACK: u8 = 9;
const PINGREQ: u8 = 12;
const PINGRESP: u8 = 13;
const DISCONNECT: u8 = 14;

impl<'a> Packet<'a> {
    /// Makes a packet of a frame. `version` is that of the session; a CONNECT brings its own.
    ///
    /// # Errors
    /// What is wrong with it; the connection is to be closed then.
    pub fn read(frame: Frame<'a>, version: Version) -> Result<Self, Malformed> {
        let mut rest = Reader { rest: frame.body };
        let (kind, flags) = (frame.header >> 4, frame.header & 0x0f);
        let wanted = match kind {
            PUBREL | SUBSCRIBE => 0b0010,
            PUBLISH => flags,
            _ => 0,
        };
        if flags != wanted {
            return Err(Malformed::Flags(frame.header));
        }
        match kind {
            CONNECT => Ok(Self::Connect(connect(rest)?)),
            CONNACK => conn_ack(rest, version),
            PUBLISH => Ok(Self::Publish(publish(flags, rest, version)?)),
            PUBACK => step(Step::Ack, rest, version),
            PUBREC => step(Step::Rec, rest, version),
            PUBREL => step(Step::Rel, rest, version),
            PUBCOMP => step(Step::Comp, rest, version),
            SUBSCRIBE => {
                let id = rest.id()?;
                if version == Version::V5 {
                    Properties::read(&mut rest)?;
                }
                let filters = Filters::new(rest.rest)?;
                Ok(Self::Subscribe { id, filters })
            }
            SUBACK => {
                let id = rest.id()?;
                if version == Version::V5 {
                    Properties::read(&mut rest)?;
                }
                match rest.rest {
                    [] => Err(Malformed::Field("a SUBACK that answers nothing")),
                    codes => Ok(Self::SubAck { id, codes }),
                }
            }
            PINGREQ => rest.end().map(|()| Self::PingReq),
            PINGRESP => rest.end().map(|()| Self::PingResp),
            DISCONNECT => disconnect(rest, version),
            other => Err(Malformed::Kind(other)),
        }
    }

    /// Appends the packet.
    ///
    /// # Errors
    /// A text or the whole is too long; `out` is as before.
    pub fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let start = out.len();
        let written = self.write_parts(version, start, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn write_parts(
        &self,
        version: Version,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), TooLong> {
        let v5 = version == Version::V5;
        match self {
            Self::Connect(connect) => write_connect(connect, out)?,
            Self::ConnAck {
                session_present,
                code,
                properties,
            } => {
                out.extend_from_slice(&[CONNACK << 4, u8::from(*session_present), *code]);
                if v5 {
                    properties.write(out)?;
                }
            }
            Self::Publish(publish) => write_publish(publish, v5, out)?,
            Self::Step { step, id, code } => {
                out.push(match step {
                    Step::Ack => PUBACK << 4,
                    Step::Rec => PUBREC << 4,
                    Step::Rel => PUBREL << 4 | 0b0010,
                    Step::Comp => PUBCOMP << 4,
                });
                out.extend_from_slice(&id.to_be_bytes());
                if v5 && *code != 0 {
                    out.push(*code);
                }
            }
            Self::Subscribe { id, filters } => {
                out.push(SUBSCRIBE << 4 | 0b0010);
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(if v5 { &[0] } else { &[] });
                out.extend_from_slice(filters.0);
            }
            Self::SubAck { id, codes } => {
                out.push(SUBACK << 4);
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(if v5 { &[0] } else { &[] });
                out.extend_from_slice(codes);
            }
            Self::PingReq => out.push(PINGREQ << 4),
            Self::PingResp => out.push(PINGRESP << 4),
            Self::Disconnect { code } => {
                out.push(DISCONNECT << 4);
                if v5 && *code != 0 {
                    out.push(*code);
                }
            }
        }
        length(out, start + 1)
    }
}

fn connect(mut rest: Reader<'_>) -> Result<Connect<'_>, Malformed> {
    if rest.text()? != "MQTT" {
        return Err(Malformed::Field("protocol name that is not MQTT"));
    }
    let version = match rest.u8()? {
        4 => Version::V311,
        5 => Version::V5,
        _ => return Err(Malformed::Field("protocol level that is neither 4 nor 5")),
    };
    let flags = rest.u8()?;
    if flags & 1 != 0 {
        return Err(Malformed::Field("reserved connect flag"));
    }
    let keep_alive_s = rest.u16()?;
    let properties = match version {
        Version::V5 => Properties::read(&mut rest)?,
        Version::V311 => Properties::default(),
    };
    let client_id = rest.text()?;
    let qos = Qos::from_number(flags >> 3 & 0x03).ok_or(Malformed::Field("will of QoS 3"))?;
    let will = if flags & 0x04 != 0 {
        if version == Version::V5 {
            Properties::read(&mut rest)?;
        }
        Some(Will {
            topic: rest.text()?,
            payload: rest.binary()?,
            qos,
            retain: flags & 0x20 != 0,
        })
    } else if flags & 0x38 != 0 {
        return Err(Malformed::Field("will flags without a will"));
    } else {
        None
    };
    let username = (flags & 0x80 != 0).then(|| rest.text()).transpose()?;
    let password = (flags & 0x40 != 0).then(|| rest.binary()).transpose()?;
    rest.end()?;
    Ok(Connect {
        version,
        clean_start: flags & 0x02 != 0,
        keep_alive_s,
        client_id,
        will,
        username,
        password,
        properties,
    })
}

fn conn_ack(mut rest: Reader<'_>, version: Version) -> Result<Packet<'_>, Malformed> {
    let flags = rest.u8()?;
    if flags > 1 {
        return Err(Malformed::Field("reserved acknowledge flag"));
    }
    let code = rest.u8()?;
    let properties = match version {
        // a 3.1.1 broker that does not speak 5 answers in its own way
        Version::V5 if !rest.rest.is_empty() => Properties::read(&mut rest)?,
        _ => Properties::default(),
    };
    rest.end()?;
    Ok(Packet::ConnAck {
        session_present: flags == 1,
        code,
        properties,
    })
}

fn publish(flags: u8, mut rest: Reader<'_>, version: Version) -> Result<Publish<'_>, Malformed> {
    let qos = Qos::from_number(flags >> 1 & 0x03).ok_or(Malformed::Field("message of QoS 3"))?;
    let dup = flags & 0x08 != 0;
    if dup && qos == Qos::AtMostOnce {
        return Err(Malformed::Field("repeated message of QoS 0"));
    }
    let topic = rest.text()?;
    if topic.contains(['+', '#']) {
        return Err(Malformed::Field("wildcard in a topic"));
    }
    let id = match qos {
        Qos::AtMostOnce => 0,
        _ => rest.id()?,
    };
    let properties = match version {
        Version::V5 => Properties::read(&mut rest)?,
        Version::V311 => Properties::default(),
    };
    if topic.is_empty() && properties.topic_alias.is_none() {
        return Err(Malformed::Field("message without a topic"));
    }
    Ok(Publish {
        dup,
        qos,
        retain: flags & 0x01 != 0,
        topic,
        id,
        properties,
        payload: rest.rest,
    })
}

fn step(step: Step, mut rest: Reader<'_>, version: Version) -> Result<Packet<'_>, Malformed> {
    let id = rest.id()?;
    let code = reason(&mut rest, version)?;
    Ok(Packet::Step { step, id, code })
}

/// A reason code and properties, both of which MQTT 5 may leave out.
fn reason(rest: &mut Reader<'_>, version: Version) -> Result<u8, Malformed> {
    if version == Version::V311 || rest.rest.is_empty() {
        rest.end()?;
        return Ok(0);
    }
    let code = rest.u8()?;
    if !rest.rest.is_empty() {
        Properties::read(rest)?;
    }
    rest.end()?;
    Ok(code)
}

fn disconnect(mut rest: Reader<'_>, version: Version) -> Result<Packet<'_>, Malformed> {
    let code = reason(&mut rest, version)?;
    Ok(Packet::Disconnect { code })
}

fn write_connect(connect: &Connect<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let v5 = connect.version == Version::V5;
    out.push(CONNECT << 4);
    text(out, "MQTT")?;
    out.push(if v5 { 5 } else { 4 });
    let mut flags = u8::from(connect.clean_start) << 1;
    if let Some(will) = &connect.will {
        flags |= 0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(connect.password.is_some()) << 6;
    flags |= u8::from(connect.username.is_some()) << 7;
    out.push(flags);
    out.extend_from_slice(&connect.keep_alive_s.to_be_bytes());
    if v5 {
        connect.properties.write(out)?;
    }
    text(out, connect.client_id)?;
    if let Some(will) = &connect.will {
        out.extend_from_slice(if v5 { &[0] } else { &[] });
        text(out, will.topic)?;
        binary(out, will.payload)?;
    }
    if let Some(username) = connect.username {
        text(out, username)?;
    }
    if let Some(password) = connect.password {
        binary(out, password)?;
    }
    Ok(())
}

fn write_publish(publish: &Publish<'_>, v5: bool, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let flags = u8::from(publish.dup) << 3 | (publish.qos as u8) << 1 | u8::from(publish.retain);
    out.push(PUBLISH << 4 | flags);
    text(out, publish.topic)?;
    if publish.qos != Qos::AtMostOnce {
        out.extend_from_slice(&publish.id.to_be_bytes());
    }
    if v5 {
        publish.properties.write(out)?;
    }
    out.extend_from_slice(publish.payload);
    Ok(())
}
