//! What `actorsim/1` puts on its streams, as parsers over slices.
//!
//! Each stream starts with a type byte ([`StreamType`]); control and event streams then carry
//! frames of a length (u32, little endian) and that many bytes. It reads and writes no socket.
//! Bounds: a control frame holds [`CONTROL_LEN_MAX`] bytes, an event frame
//! [`EVENTS_FRAME_LEN_MAX`].

mod stream;

use bytes::BufMut;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CONTROL_LEN_MAX, CodecError};
use crate::command::AckStatus;
use crate::device::{DeviceRange, RangeError, SENSORS_MAX, SensorSpec};
use crate::link::BATCH_EVENTS_MAX;
use crate::reading::{DecodeError, READING_LEN, Reading, check_type};
use crate::session::EventKey;

pub use stream::EventStream;

/// Version in the first message; another one is refused. 2: batches of up to 1,024 events, which a
/// twin of version 1 does not take. 3: devices that are refused by themselves, and batches without
/// their events.
pub const PROTOCOL_VERSION: u16 = 3;
/// Bytes of a frame's length.
pub const FRAME_HEADER_LEN: usize = 4;
/// Bytes of one event: a reading, its epoch (u32) and its number (u64).
pub const EVENT_LEN: usize = READING_LEN + 4 + 8;
/// Bytes before the first event: length, sequence (u64), count (u32).
pub const EVENTS_HEADER_LEN: usize = FRAME_HEADER_LEN + EVENTS_PREFIX_LEN;
/// Bytes of an event frame after its length at most.
pub const EVENTS_FRAME_LEN_MAX: usize = EVENTS_PREFIX_LEN + BATCH_EVENTS_MAX * EVENT_LEN;
/// Bytes of a command after the type byte: id (u64), milliseconds left (u32), the reading.
pub const COMMAND_LEN: usize = 8 + 4 + READING_LEN;
/// Bytes of an acknowledgement: the reading, and a status.
pub const ACK_LEN: usize = READING_LEN + 1;
/// Bytes of a node's name at most.
pub const NODE_NAME_LEN_MAX: usize = 128;

const EVENTS_PREFIX_LEN: usize = 8 + 4;

/// The first byte of each stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StreamType {
    /// Bidirectional, opened by the link, once: [`ToTwin`] one way, [`ToLink`] the other. On a
    /// connection for commands: a join and its answer.
    Control = 1,
    /// Unidirectional, opened by the link, once: event batches.
    Events = 2,
    /// Bidirectional, opened by the twin: one command and its acknowledgement.
    Command = 3,
}

impl StreamType {
    /// The type of a byte, if it is one.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Control),
            2 => Some(Self::Events),
            3 => Some(Self::Command),
            _ => None,
        }
    }
}

/// Why a frame is refused.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than its kind may be.
    #[error("a frame of {length} bytes is too long (at most {most})")]
    TooLong {
        /// Its length.
        length: usize,
        /// The bound.
        most: usize,
    },
    /// Its length and its count disagree.
    #[error("an event frame of {length} bytes does not hold {count} events")]
    Count {
        /// Bytes.
        length: usize,
        /// Events promised.
        count: u32,
    },
    /// A bad reading inside.
    #[error(transparent)]
    Reading(#[from] DecodeError),
    /// A bad control message inside.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A device range that breaks its bounds.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// A node name too long or empty.
    #[error("a node name has 1 to {NODE_NAME_LEN_MAX} bytes, not {0}")]
    NodeName(usize),
    /// Another version of the protocol.
    #[error(
        "the link speaks protocol version {0}, and this twin version {PROTOCOL_VERSION}: both need \
         the same"
    )]
    Version(u16),
    /// A stream began with an unknown byte.
    #[error("unknown stream type byte {0}")]
    StreamType(u8),
    /// An acknowledgement ended with an unknown byte.
    #[error("unknown acknowledgement status byte {0}")]
    Status(u8),
}

/// Control messages from the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToTwin {
    /// The first one.
    Hello {
        /// [`PROTOCOL_VERSION`].
        version: u16,
        /// The dialling node.
        node: String,
        /// Its session, the same over reconnects.
        session: u64,
        /// The last T2 batch it knows to be acknowledged.
        acked: u64,
        /// T1 readings the session has handed to QUIC so far.
        t1_readings: u64,
    },
    /// Devices that are reached over this connection.
    Register {
        /// Which.
        devices: DeviceRange,
        /// What each has.
        sensors: Vec<SensorSpec>,
    },
    /// The last one: how many T1 readings the session handed to QUIC in all.
    Bye {
        /// Readings.
        t1_readings: u64,
    },
    /// Answers [`ToLink::Clock`]; microseconds since the Unix epoch.
    Clock {
        /// As it was asked.
        asked_us: u64,
        /// When the question came, by the link's clock.
        came_us: u64,
        /// When this left, by the same.
        left_us: u64,
    },
    /// The first and only one of a connection for commands.
    Join {
        /// As [`ToLink::Commands`] says.
        connection: u32,
    },
}

/// Control messages to the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToLink {
    /// Answers the hello.
    Welcome {
        /// The twin's node.
        node: String,
        /// The last T2 batch of the session that is durable.
        acked: u64,
    },
    /// T2 is durable up to here, and will be applied.
    Acked {
        /// Sequence of the batch.
        sequence: u64,
    },
    /// Answers the goodbye: the totals are settled.
    Farewell,
    /// Asks what time it is: a link's stamps are by its own clock.
    Clock {
        /// By the twin's clock, microseconds since the Unix epoch.
        asked_us: u64,
    },
    /// Commands to the devices of this connection may have one of their own; told to links that
    /// offered to take them so.
    Commands {
        /// Its port at this twin's address.
        port: u16,
        /// What this connection is called there.
        connection: u32,
    },
    /// Answers a join: commands come this way from now on.
    Joined,
    /// Answers a registration of more devices than may be: nothing of these is taken, on this
    /// connection. The others are served.
    Refused {
        /// Which.
        devices: DeviceRange,
        /// In words.
        why: String,
    },
}

impl ToTwin {
    /// Encodes it with its length in front.
    ///
    /// # Errors
    /// [`FrameError::Codec`] if it is too long.
    pub fn frame(&self) -> Result<Vec<u8>, FrameError> {
        framed(&codec::encode(self)?)
    }

    /// Decodes and checks one, without its length.
    ///
    /// # Errors
    /// [`FrameError`] for everything that is not a message within its bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let message = codec::decode(bytes)?;
        match &message {
            Self::Hello { version, node, .. } => {
                if *version != PROTOCOL_VERSION {
                    return Err(FrameError::Version(*version));
                }
                if node.is_empty() || node.len() > NODE_NAME_LEN_MAX {
                    return Err(FrameError::NodeName(node.len()));
                }
            }
            Self::Register { devices, sensors } => {
                devices.check()?;
                if sensors.len() > SENSORS_MAX {
                    return Err(RangeError::Sensors {
                        count: sensors.len(),
                    }
                    .into());
                }
            }
            Self::Bye { .. } | Self::Clock { .. } | Self::Join { .. } => {}
        }
        Ok(message)
    }
}

impl ToLink {
    /// Encodes it with its length in front.
    ///
    /// # Errors
    /// [`FrameError::Codec`] if it is too long.
    pub fn frame(&self) -> Result<Vec<u8>, FrameError> {
        framed(&codec::encode(self)?)
    }

    /// Decodes and checks one, without its length.
    ///
    /// # Errors
    /// [`FrameError`] for everything that is not a message within its bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let message = codec::decode(bytes)?;
        if let Self::Refused { devices, .. } = &message {
            devices.check()?;
        }
        Ok(message)
    }
}

fn framed(body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let mut frame = Vec::with_capacity(FRAME_HEADER_LEN + body.len());
    frame.put_u32_le(body.len() as u32);
    frame.extend_from_slice(body);
    Ok(frame)
}

/// The length of the frame that follows, if it keeps the bound `most`.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn frame_len(header: [u8; FRAME_HEADER_LEN], most: usize) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header) as usize;
    if length > most {
        return Err(FrameError::TooLong { length, most });
    }
    Ok(length)
}

/// The bound of a control frame.
pub const CONTROL_FRAME_LEN_MAX: usize = CONTROL_LEN_MAX;

/// Writes the head of an event frame: length, sequence, count.
pub fn put_events_header(buffer: &mut impl BufMut, sequence: u64, count: u32) {
    buffer.put_u32_le((EVENTS_PREFIX_LEN + count as usize * EVENT_LEN) as u32);
    buffer.put_u64_le(sequence);
    buffer.put_u32_le(count);
}

/// Writes one event.
pub fn put_event(buffer: &mut impl BufMut, reading: &Reading, key: EventKey) {
    buffer.put_slice(&event_bytes(reading, key));
}

/// Reads one event.
///
/// # Errors
/// [`FrameError::Reading`].
pub fn get_event(bytes: &[u8; EVENT_LEN]) -> Result<(Reading, EventKey), FrameError> {
    let (reading, key) = event_parts(bytes);
    Ok((Reading::decode(reading)?, key))
}

/// One event as it is written.
#[must_use]
#[inline]
pub fn event_bytes(reading: &Reading, key: EventKey) -> [u8; EVENT_LEN] {
    let mut bytes = [0; EVENT_LEN];
    write_event(&mut bytes, reading, key);
    bytes
}

/// Writes one event where it is sent from.
#[inline]
pub(crate) fn write_event(bytes: &mut [u8; EVENT_LEN], reading: &Reading, key: EventKey) {
    let (of_reading, of_key) = bytes
        .split_first_chunk_mut()
        .expect("an event is longer than its reading");
    reading.write(of_reading);
    of_key[..4].copy_from_slice(&key.epoch.to_le_bytes());
    of_key[4..].copy_from_slice(&key.event.to_le_bytes());
}

/// Appends events; on an error both vectors are as they were.
fn decode_events(
    records: &[[u8; EVENT_LEN]],
    readings: &mut Vec<Reading>,
    keys: &mut Vec<EventKey>,
) -> Result<(), DecodeError> {
    // First all are checked, so that reading them is two loops without a way out.
    let parts = || records.iter().map(event_parts);
    parts().try_for_each(|(reading, _)| check_type(reading))?;
    readings.extend(parts().map(|(reading, _)| Reading::of_checked(reading)));
    keys.extend(parts().map(|(_, key)| key));
    Ok(())
}

/// The two parts of an event: the bytes of its reading, and its key.
#[inline]
fn event_parts(bytes: &[u8; EVENT_LEN]) -> (&[u8; READING_LEN], EventKey) {
    let (reading, _) = bytes
        .split_first_chunk()
        .expect("an event is longer than its reading");
    let key = EventKey {
        epoch: u32::from_le_bytes(sub(bytes, READING_LEN)),
        event: u64::from_le_bytes(sub(bytes, READING_LEN + 4)),
    };
    (reading, key)
}

/// An event frame, without its length, checked but not decoded.
#[derive(Clone, Copy, Debug)]
pub struct Events<'a> {
    /// Number of the batch in its session.
    pub sequence: u64,
    records: &'a [[u8; EVENT_LEN]],
}

impl<'a> Events<'a> {
    /// Checks the head and the length.
    ///
    /// # Errors
    /// [`FrameError::Count`], [`FrameError::TooLong`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let length = bytes.len();
        if length > EVENTS_FRAME_LEN_MAX {
            return Err(FrameError::TooLong {
                length,
                most: EVENTS_FRAME_LEN_MAX,
            });
        }
        let Some((prefix, rest)) = bytes.split_first_chunk::<EVENTS_PREFIX_LEN>() else {
            return Err(FrameError::Count { length, count: 0 });
        };
        let sequence = u64::from_le_bytes(sub(prefix, 0));
        let count = u32::from_le_bytes(sub(prefix, 8));
        let (records, tail) = rest.as_chunks::<EVENT_LEN>();
        if !tail.is_empty() || records.len() != count as usize {
            return Err(FrameError::Count { length, count });
        }
        Ok(Self { sequence, records })
    }

    /// Appends the events; on an error both vectors are as they were.
    ///
    /// # Errors
    /// [`FrameError::Reading`] for the first bad type byte.
    pub fn decode_into(
        &self,
        readings: &mut Vec<Reading>,
        keys: &mut Vec<EventKey>,
    ) -> Result<(), FrameError> {
        Ok(decode_events(self.records, readings, keys)?)
    }
}

/// A command as `actorsim/1` carries it, after the type byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandFrame {
    /// Rising per device.
    pub id: u64,
    /// Milliseconds left to execute it in.
    pub left_ms: u32,
    /// Device, actuator and setpoint.
    pub reading: Reading,
}

impl CommandFrame {
    /// The bytes, the type byte in front.
    #[must_use]
    pub fn encode(&self) -> [u8; 1 + COMMAND_LEN] {
        let mut bytes = [0; 1 + COMMAND_LEN];
        bytes[0] = StreamType::Command as u8;
        bytes[1..9].copy_from_slice(&self.id.to_le_bytes());
        bytes[9..13].copy_from_slice(&self.left_ms.to_le_bytes());
        bytes[13..].copy_from_slice(&self.reading.encode());
        bytes
    }

    /// Reads what follows the type byte.
    ///
    /// # Errors
    /// [`FrameError::Reading`].
    pub fn parse(bytes: &[u8; COMMAND_LEN]) -> Result<Self, FrameError> {
        Ok(Self {
            id: u64::from_le_bytes(sub(bytes, 0)),
            left_ms: u32::from_le_bytes(sub(bytes, 8)),
            reading: Reading::decode(&sub(bytes, 12))?,
        })
    }
}

/// An acknowledgement of `actorsim/1`.
#[must_use]
pub fn ack_frame(reading: &Reading, status: AckStatus) -> [u8; ACK_LEN] {
    let mut bytes = [0; ACK_LEN];
    bytes[..READING_LEN].copy_from_slice(&reading.encode());
    bytes[READING_LEN] = status as u8;
    bytes
}

/// Reads an acknowledgement of `actorsim/1`.
///
/// # Errors
/// [`FrameError::Reading`], [`FrameError::Status`].
pub fn parse_ack(bytes: &[u8; ACK_LEN]) -> Result<(Reading, AckStatus), FrameError> {
    let status = bytes[READING_LEN];
    let status = AckStatus::from_byte(status).ok_or(FrameError::Status(status))?;
    Ok((Reading::decode(&sub(bytes, 0))?, status))
}

/// `N` bytes of `bytes` from `at`; callers stay inside.
fn sub<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests;
