//! The reading: the 39 bytes that carry one sensor value, little endian, on every tier.
//!
//! It is a pure codec over slices; it opens no socket, keeps no state and judges no value (NaN and
//! infinities are data). Bound: one reading is [`READING_LEN`] bytes, always.

use std::fmt;

use bytes::BufMut;
use uuid::{Uuid, uuid};

/// Bytes of one reading on the wire.
pub const READING_LEN: usize = 39;

/// The namespace of device ids made from names (UUID version 5, RFC 9562 section 5.5).
///
/// Itself version 5 of `https://github.com/actorsim/actorsim#device` in the URL namespace.
pub const DEVICE_NAMESPACE: Uuid = uuid!("83c66b9d-d029-5a76-8171-c44409f12fd3");

/// The id of the device called `name`: the same on every machine.
///
/// ```
/// let id = actorsim_transport::device_uuid("pump-000017");
/// assert_eq!(id.to_string(), "626a0bbf-a034-596b-b9f2-bcbf7e776990");
/// ```
#[must_use]
pub fn device_uuid(name: &str) -> Uuid {
    Uuid::new_v5(&DEVICE_NAMESPACE, name.as_bytes())
}

/// What a sensor measures, or an actuator sets; the last byte of a reading.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum SensorType {
    /// Degrees Celsius.
    Temperature = 0,
    /// Relative humidity, per cent.
    Humidity = 1,
    /// Pressure.
    Pressure = 2,
    /// Volts.
    Voltage = 3,
    /// Amperes.
    Current = 4,
    /// Somebody is there: 1.0, or nobody: below 1.0.
    Presence = 5,
    /// An actuator: 0.0 stops, 1.0 starts.
    Relay = 6,
}

impl SensorType {
    /// Every type, in the order of its byte.
    pub const ALL: [Self; 7] = [
        Self::Temperature,
        Self::Humidity,
        Self::Pressure,
        Self::Voltage,
        Self::Current,
        Self::Presence,
        Self::Relay,
    ];

    /// The byte on the wire.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The lower-case name, as used in labels and profiles.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::Pressure => "pressure",
            Self::Voltage => "voltage",
            Self::Current => "current",
            Self::Presence => "presence",
            Self::Relay => "relay",
        }
    }
}

impl TryFrom<u8> for SensorType {
    type Error = DecodeError;

    fn try_from(byte: u8) -> Result<Self, DecodeError> {
        Self::ALL
            .get(usize::from(byte))
            .copied()
            .ok_or(DecodeError::SensorType { byte })
    }
}

impl fmt::Display for SensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes are not a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The last byte names no sensor type.
    #[error("unknown sensor type byte {byte} (0..=6 are known)")]
    SensorType {
        /// The byte as it came.
        byte: u8,
    },
    /// Not a whole number of readings, or none at all.
    #[error("{length} bytes are not 1 or more whole readings of {READING_LEN} bytes")]
    Length {
        /// Bytes given.
        length: usize,
    },
}

/// One value of one sensor of one device.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Device.
    pub device: Uuid,
    /// Sensor, numbered per device.
    pub sensor: u16,
    /// What it measures.
    pub kind: SensorType,
    /// The value; any bit pattern.
    pub value: f64,
    /// Microseconds since the Unix epoch, by the device's clock.
    pub at_us: u64,
    /// Per (device, sensor, tier); wraps.
    pub sequence: u32,
}

/// Equal when every byte on the wire is equal, so that NaN equals itself.
impl PartialEq for Reading {
    fn eq(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }
}

impl Eq for Reading {}

impl Reading {
    /// The reading as it goes on the wire.
    #[must_use]
    #[inline]
    pub fn encode(&self) -> [u8; READING_LEN] {
        let mut bytes = [0; READING_LEN];
        self.write(&mut bytes);
        bytes
    }

    /// Writes the reading where it is sent from.
    #[inline]
    pub(crate) fn write(&self, bytes: &mut [u8; READING_LEN]) {
        bytes[0..16].copy_from_slice(self.device.as_bytes());
        bytes[16..18].copy_from_slice(&self.sensor.to_le_bytes());
        bytes[18..26].copy_from_slice(&self.value.to_bits().to_le_bytes());
        bytes[26..34].copy_from_slice(&self.at_us.to_le_bytes());
        bytes[34..38].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[TYPE_AT] = self.kind.byte();
    }

    /// Appends the reading to a buffer.
    #[inline]
    pub fn encode_into(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.encode());
    }

    /// Reads 39 bytes.
    ///
    /// # Errors
    /// [`DecodeError::SensorType`] names an unknown type byte; every other bit pattern is data.
    #[inline]
    pub fn decode(bytes: &[u8; READING_LEN]) -> Result<Self, DecodeError> {
        check_type(bytes)?;
        Ok(Self::of_checked(bytes))
    }

    /// Reads 39 bytes whose type byte was found to be known.
    #[inline]
    pub(crate) fn of_checked(bytes: &[u8; READING_LEN]) -> Self {
        const LAST: usize = SensorType::ALL.len() - 1;
        Self {
            device: Uuid::from_bytes(part(bytes, 0)),
            sensor: u16::from_le_bytes(part(bytes, 16)),
            kind: SensorType::ALL[usize::from(bytes[TYPE_AT]).min(LAST)],
            value: f64::from_bits(u64::from_le_bytes(part(bytes, 18))),
            at_us: u64::from_le_bytes(part(bytes, 26)),
            sequence: u32::from_le_bytes(part(bytes, 34)),
        }
    }
}

/// Where the type byte is.
const TYPE_AT: usize = READING_LEN - 1;

/// Refuses an unknown type byte, the only thing that is wrong with any 39 bytes.
///
/// # Errors
/// [`DecodeError::SensorType`].
#[inline]
pub(crate) fn check_type(bytes: &[u8; READING_LEN]) -> Result<(), DecodeError> {
    SensorType::try_from(bytes[TYPE_AT]).map(drop)
}

/// `N` bytes from `at`; every caller's range lies inside the 39 bytes.
#[inline]
fn part<const N: usize>(bytes: &[u8; READING_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Decodes 1 to N whole readings into `into`, all or none.
///
/// Returns how many were appended.
///
/// # Errors
/// [`DecodeError::Length`] for a length that is 0 or not a multiple of 39;
/// [`DecodeError::SensorType`] for the first bad type byte. `into` is then as it was.
pub fn decode_all(bytes: &[u8], into: &mut Vec<Reading>) -> Result<usize, DecodeError> {
    let (chunks, rest) = bytes.as_chunks::<READING_LEN>();
    if chunks.is_empty() || !rest.is_empty() {
        return Err(DecodeError::Length {
            length: bytes.len(),
        });
    }
    // First all are checked, so that reading them is one loop without a way out.
    chunks.iter().try_for_each(check_type)?;
    into.extend(chunks.iter().map(Reading::of_checked));
    Ok(chunks.len())
}

/// Readings that follow each other on a stream, which comes in pieces cut anywhere.
#[derive(Clone, Debug)]
pub struct ReadingStream {
    part: [u8; READING_LEN],
    /// Bytes of the part that have come.
    filled: usize,
}

impl Default for ReadingStream {
    fn default() -> Self {
        Self {
            part: [0; READING_LEN],
            filled: 0,
        }
    }
}

impl ReadingStream {
    /// Takes the next piece, and appends the readings that are whole with it.
    ///
    /// # Errors
    /// [`DecodeError::SensorType`] for the first bad type byte, with which the stream is over; the
    /// readings before it are appended.
    pub fn take(&mut self, mut piece: &[u8], into: &mut Vec<Reading>) -> Result<(), DecodeError> {
        if self.filled > 0 {
            let missing = READING_LEN - self.filled;
            let (next, rest) = piece.split_at(missing.min(piece.len()));
            self.part[self.filled..][..next.len()].copy_from_slice(next);
            self.filled += next.len();
            if self.filled < READING_LEN {
                return Ok(());
            }
            self.filled = 0;
            into.push(Reading::decode(&self.part)?);
            piece = rest;
        }
        let (whole, rest) = piece.as_chunks();
        for bytes in whole {
            into.push(Reading::decode(bytes)?);
        }
        self.part[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
        Ok(())
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`DecodeError::Length`], if it did so within a reading.
    pub const fn end(&self) -> Result<(), DecodeError> {
        match self.filled {
            0 => Ok(()),
            length => Err(DecodeError::Length { length }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_reading() -> impl Strategy<Value = Reading> {
        (
            any::<[u8; 16]>(),
            any::<u16>(),
            0_u8..7,
            any::<u64>(),
            any::<u64>(),
            any::<u32>(),
        )
            .prop_map(|(device, sensor, kind, bits, at_us, sequence)| Reading {
                device: Uuid::from_bytes(device),
                sensor,
                kind: SensorType::try_from(kind).unwrap(),
                value: f64::from_bits(bits),
                at_us,
                sequence,
            })
    }

    proptest! {
        #[test]
        fn a_stream_of_readings_is_the_same_however_it_is_cut(
            readings in prop::collection::vec(any_reading(), 0..5),
            bad in prop::option::of(0_usize..4),
            left in 0_usize..READING_LEN,
            piece in 1_usize..100,
        ) {
            let mut bytes: Vec<u8> = readings.iter().flat_map(Reading::encode).collect();
            if let Some(kind) = bad.and_then(|at| bytes.get_mut(at * READING_LEN + TYPE_AT)) {
                *kind = 99;
            }
            bytes.resize(bytes.len() + left, 0);
            let told = |piece: usize| {
                let (mut stream, mut told) = (ReadingStream::default(), Vec::new());
                let mut pieces = bytes.chunks(piece);
                let taken = pieces.try_for_each(|piece| stream.take(piece, &mut told));
                (taken.and_then(|()| stream.end()), told)
            };
            let (ended, whole) = told(bytes.len().max(1));
            prop_assert_eq!(&(ended, whole.clone()), &told(piece));
            prop_assert!(readings.starts_with(&whole));
            let bad = bad.is_some_and(|at| at < readings.len());
            prop_assert_eq!(ended.is_ok(), !bad && left == 0);
        }

        #[test]
        fn any_bit_pattern_makes_the_round_trip(reading in any_reading()) {
            let bytes = reading.encode();
            let back = Reading::decode(&bytes).unwrap();
            prop_assert_eq!(back.value.to_bits(), reading.value.to_bits());
            prop_assert_eq!(back, reading);
            prop_assert_eq!(back.encode(), bytes);
        }

        #[test]
        fn a_bad_type_byte_is_named(reading in any_reading(), byte in 7_u8..=255) {
            let mut bytes = reading.encode();
            bytes[38] = byte;
            prop_assert_eq!(Reading::decode(&bytes), Err(DecodeError::SensorType { byte }));
        }

        #[test]
        fn random_bytes_are_whole_readings_or_an_error_that_leaves_nothing(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut out = Vec::new();
            match decode_all(&bytes, &mut out) {
                Ok(count) => prop_assert_eq!(count * READING_LEN, bytes.len()),
                Err(_) => prop_assert!(out.is_empty()),
            }
        }
    }

    #[test]
    fn fields_lie_where_the_contract_says() {
        let reading = Reading {
            device: Uuid::from_bytes([0xd; 16]),
            sensor: 0x0102,
            kind: SensorType::Relay,
            value: 1.0,
            at_us: 0x0304_0506_0708_090a,
            sequence: 0x0b0c_0d0e,
        };
        let mut expected = vec![0xd; 16];
        expected.extend([2, 1, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        expected.extend([0xa, 9, 8, 7, 6, 5, 4, 3, 0xe, 0xd, 0xc, 0xb, 6]);
        assert_eq!(reading.encode().as_slice(), expected);
    }

    #[test]
    fn nan_is_data() {
        let quiet = f64::from_bits(0x7ff8_0000_0000_0001);
        let reading = Reading {
            device: device_uuid("x"),
            sensor: 0,
            kind: SensorType::Temperature,
            value: quiet,
            at_us: 0,
            sequence: 0,
        };
        let back = Reading::decode(&reading.encode()).unwrap();
        assert_eq!(back.value.to_bits(), quiet.to_bits());
    }
}
