//! T1: a datagram is whole readings, each as it was written, or it is refused.

use actorsim_transport::{READING_LEN, Reading, SensorType, decode_all, device_uuid};

use super::Target;

pub(crate) const TARGET: Target = Target {
    name: "datagram",
    about: "T1 datagrams: readings of 39 bytes",
    run,
    seeds,
    words: &[],
    len_max: 39 * 40,
    heap_max: 64 << 10,
};

/// Reading `n` of a device.
pub(crate) fn reading(n: u32) -> Reading {
    Reading {
        device: device_uuid("pump-0001"),
        sensor: 3,
        kind: SensorType::ALL[n as usize % SensorType::ALL.len()],
        value: f64::from(n) * 0.1,
        at_us: 1_700_000_000_000_000,
        sequence: n,
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let encoded = |count| (0..count).flat_map(|n| reading(n).encode()).collect();
    [0, 1, 7, 36].map(encoded).to_vec()
}

fn run(input: &[u8]) {
    let mut readings = Vec::new();
    match decode_all(input, &mut readings) {
        Ok(count) => {
            assert_eq!(count, readings.len());
            let again: Vec<u8> = readings.iter().flat_map(Reading::encode).collect();
            assert_eq!(again, input);
        }
        Err(_) => assert!(readings.is_empty(), "half a datagram was taken"),
    }
    let mut one_by_one = Vec::new();
    let whole = input.len().is_multiple_of(READING_LEN);
    for bytes in input.as_chunks().0 {
        one_by_one.extend(Reading::decode(bytes));
    }
    let all = whole && one_by_one.len() * READING_LEN == input.len();
    assert_eq!(all, !readings.is_empty() || input.is_empty());
}
