//! The bytes of one record: a batch of events as it lies in the journal.
//!
//! Pure: no file, no clock. Whatever bytes it is given, it returns a record or an error. Bound:
//! [`EVENTS_MAX`] events in a record.
//!
//! Layout (little endian): kind u8, count u32, `count` times 51 bytes (a reading, epoch u32, event
//! u64) or, of a `dt/1` stream, 39 bytes (a reading), checksum u64 over offset and all before.

use actorsim_transport::frames::{EVENT_LEN, get_event, put_event};
use actorsim_transport::{EventKey, READING_LEN, Reading};
use thiserror::Error;

/// Events in one record at most: more than any batch of a link or of a stream has.
pub const EVENTS_MAX: usize = 4_096;

const HEAD_LEN: usize = 5;
const SUM_LEN: usize = 8;

/// Kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Events = 1,
    Plain = 2,
}

/// Why bytes are no record.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// The checksum is not that of the bytes at this offset.
    #[error("record {offset}: the checksum does not fit its {length} bytes")]
    Checksum {
        /// Where.
        offset: u64,
        /// How long.
        length: usize,
    },
    /// The bytes are whole, and yet not the layout: made by another version.
    #[error("record {offset}: unknown layout")]
    Layout {
        /// Where.
        offset: u64,
    },
}

/// One record, decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The readings, in order.
    pub readings: Vec<Reading>,
    /// Their keys; empty if they came over `dt/1`.
    pub keys: Vec<EventKey>,
}

/// Appends the bytes of a record to `into`. `keys` is empty, or has one for each reading.
pub fn encode(offset: u64, readings: &[Reading], keys: &[EventKey], into: &mut Vec<u8>) {
    let start = into.len();
    let kind = if keys.is_empty() {
        Kind::Plain
    } else {
        Kind::Events
    };
    into.push(kind as u8);
    into.extend_from_slice(&(readings.len() as u32).to_le_bytes());
    match kind {
        Kind::Events => {
            for (reading, key) in readings.iter().zip(keys) {
                put_event(into, reading, *key);
            }
        }
        Kind::Plain => readings
            .iter()
            .for_each(|reading| reading.encode_into(into)),
    }
    let sum = checksum(offset, &into[start..]);
    into.extend_from_slice(&sum.to_le_bytes());
}

/// Decodes what [`encode`] wrote for `offset`, into an empty `record`.
///
/// # Errors
/// [`RecordError`]; `record` is then empty.
pub fn decode(offset: u64, bytes: &[u8], record: &mut Record) -> Result<(), RecordError> {
    record.readings.clear();
    record.keys.clear();
    let length = bytes.len();
    let broken = RecordError::Checksum { offset, length };
    let (body, sum) = bytes.split_last_chunk::<SUM_LEN>().ok_or(broken.clone())?;
    if checksum(offset, body) != u64::from_le_bytes(*sum) {
        return Err(broken);
    }
    parse(body, record).ok_or_else(|| {
        record.readings.clear();
        record.keys.clear();
        RecordError::Layout { offset }
    })
}

fn parse(body: &[u8], record: &mut Record) -> Option<()> {
    let (head, rest) = body.split_first_chunk::<HEAD_LEN>()?;
    let [kind, count @ ..] = *head;
    let count = u32::from_le_bytes(count) as usize;
    if count > EVENTS_MAX {
        return None;
    }
    if kind == Kind::Events as u8 {
        let (events, []) = rest.as_chunks::<EVENT_LEN>() else {
            return None;
        };
        (events.len() == count).then_some(())?;
        for event in events {
            let (reading, key) = get_event(event).ok()?;
            record.readings.push(reading);
            record.keys.push(key);
        }
    } else if kind == Kind::Plain as u8 {
        let (readings, []) = rest.as_chunks::<READING_LEN>() else {
            return None;
        };
        (readings.len() == count).then_some(())?;
        for reading in readings {
            record.readings.push(Reading::decode(reading).ok()?);
        }
    } else {
        return None;
    }
    Some(())
}

/// A fast 64-bit checksum against torn and misplaced bytes, not against people.
fn checksum(offset: u64, bytes: &[u8]) -> u64 {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut sum = offset ^ MIX ^ bytes.len() as u64;
    let (words, tail) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    for word in words.iter().chain([&last]) {
        let wide = u128::from(sum ^ u64::from_le_bytes(*word)) * u128::from(MIX);
        sum = (wide as u64) ^ ((wide >> 64) as u64) ^ sum.rotate_left(23);
    }
    sum
}

#[cfg(test)]
mod tests {
    use actorsim_transport::{SensorType, device_uuid};
    use proptest::prelude::*;

    use super::*;

    fn reading(n: u64) -> Reading {
        Reading {
            device: device_uuid(&format!("d{}", n % 5)),
            sensor: n as u16,
            kind: SensorType::ALL[(n % 7) as usize],
            value: f64::from_bits(n.wrapping_mul(0x1234_5678_9abc_def1)),
            at_us: n,
            sequence: n as u32,
        }
    }

    fn sample(count: u64, keyed: bool) -> (Vec<Reading>, Vec<EventKey>) {
        let readings = (0..count).map(reading).collect();
        let key = |event| EventKey { epoch: 9, event };
        let keys = (0..count).map(key).filter(|_| keyed).collect();
        (readings, keys)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(count in 1_u64..300, keyed: bool, offset: u64) {
            let (readings, keys) = sample(count, keyed);
            let mut bytes = vec![7];
            encode(offset, &readings, &keys, &mut bytes);
            let mut record = Record::default();
            decode(offset, &bytes[1..], &mut record).unwrap();
            // bit patterns, so that a NaN is equal to itself
            let bits = |all: &[Reading]| all.iter().map(Reading::encode).collect::<Vec<_>>();
            prop_assert_eq!(bits(&record.readings), bits(&readings));
            prop_assert_eq!(record.keys, keys);
        }

        #[test]
        fn no_changed_cut_or_misplaced_record_is_read(
            count in 1_u64..40,
            keyed: bool,
            at: prop::sample::Index,
            bit in 0_u8..8,
            cut in 1_usize..60,
        ) {
            let (readings, keys) = sample(count, keyed);
            let mut bytes = Vec::new();
            encode(3, &readings, &keys, &mut bytes);
            let mut record = Record::default();
            prop_assert!(decode(4, &bytes, &mut record).is_err());
            let short = &bytes[..bytes.len().saturating_sub(cut)];
            prop_assert!(decode(3, short, &mut record).is_err());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(3, &bytes, &mut record).is_err());
            prop_assert!(record.readings.is_empty() && record.keys.is_empty());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, offset: u64) {
            let mut record = Record::default();
            let _ = decode(offset, &bytes, &mut record);
            // past the checksum, too
            let mut summed = bytes;
            summed.extend_from_slice(&checksum(offset, &summed).to_le_bytes());
            let _ = decode(offset, &summed, &mut record);
        }
    }

    #[test]
    fn the_layout_of_format_1_does_not_move() {
        let (readings, keys) = sample(1, true);
        let mut bytes = Vec::new();
        encode(1, &readings, &keys, &mut bytes);
        assert_eq!(bytes.len(), HEAD_LEN + EVENT_LEN + SUM_LEN);
        assert_eq!(bytes[..HEAD_LEN], [1, 1, 0, 0, 0]);
        assert_eq!(bytes[HEAD_LEN..][..READING_LEN], readings[0].encode());
        assert_eq!(
            bytes[HEAD_LEN + READING_LEN..][..12],
            [9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(checksum(1, b"format 1"), 0x078e_17fb_14fc_d910);
    }
}
