//! Everything that parses bytes from outside, under mutations of what it would take: it reads them
//! or refuses them, and what it reads it would write the same way. The same bytes in each run.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use actorsim_transport::frames::{
    ACK_LEN, COMMAND_LEN, CommandFrame, EventStream, FRAME_HEADER_LEN, PROTOCOL_VERSION, ToLink,
    ToTwin, ack_frame, parse_ack, put_event, put_events_header,
};
use actorsim_transport::{
    AckStatus, DeviceRange, EventKey, Reading, SensorSpec, SensorType, decode_all, device_uuid,
};

/// Inputs of each target.
const ROUNDS: u32 = 20_000;
/// Mutations of one input at most.
const MUTATIONS_MAX: u64 = 6;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn mutated(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..self.next() % (MUTATIONS_MAX + 1) {
            let at = self.below(bytes.len());
            match self.next() % 6 {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                2 => bytes.truncate(at),
                3 => bytes.insert(at, self.next() as u8),
                4 => bytes.extend_from_within(at..),
                _ => {
                    // a length or a count that says the most
                    let end = bytes.len().min(at + 4);
                    bytes[at..end].fill(0xff);
                }
            }
        }
        bytes
    }
}

fn shake(seeds: &[Vec<u8>], check: impl Fn(&[u8])) {
    let mut draws = Draws(0x00ac_7045);
    for round in 0..ROUNDS {
        let seed = seeds[round as usize % seeds.len()].clone();
        check(&draws.mutated(seed));
    }
}

fn reading(n: u32) -> Reading {
    Reading {
        device: device_uuid("pump-0001"),
        sensor: 3,
        kind: SensorType::ALL[n as usize % 7],
        value: f64::from(n) * 0.1,
        at_us: 1_700_000_000_000_000,
        sequence: n,
    }
}

fn encoded(count: u32) -> Vec<u8> {
    (0..count).flat_map(|n| reading(n).encode()).collect()
}

#[test]
fn a_datagram_is_whole_readings_or_refused() {
    shake(
        &[encoded(1), encoded(3), encoded(36), Vec::new()],
        |bytes| {
            let mut readings = Vec::new();
            match decode_all(bytes, &mut readings) {
                Ok(count) => {
                    let again: Vec<u8> = readings.iter().flat_map(Reading::encode).collect();
                    assert_eq!((count, &*again), (readings.len(), bytes));
                }
                Err(_) => assert!(readings.is_empty()),
            }
        },
    );
}

#[test]
fn a_t2_stream_is_whole_frames_or_refused() {
    let frame = |count: u32| {
        let mut bytes = Vec::new();
        put_events_header(&mut bytes, 7, count);
        let event = |n| EventKey { epoch: 1, event: n };
        (0..count).for_each(|n| put_event(&mut bytes, &reading(n), event(u64::from(n))));
        bytes
    };
    let two = [frame(5), frame(1)].concat();
    shake(&[frame(1), two, frame(256)], |bytes| {
        let (mut stream, mut again) = (EventStream::default(), Vec::new());
        let (mut readings, mut keys) = (Vec::new(), Vec::new());
        let mut piece = bytes;
        while let Ok(Some(sequence)) = stream.take(&mut piece, &mut readings, &mut keys) {
            assert_eq!(readings.len(), keys.len());
            put_events_header(&mut again, sequence, readings.len() as u32);
            for (reading, key) in readings.drain(..).zip(keys.drain(..)) {
                put_event(&mut again, &reading, key);
            }
        }
        assert!(bytes.starts_with(&again));
    });
}

#[test]
fn an_acknowledgement_is_its_command_and_a_status_or_refused() {
    let seeds = [
        AckStatus::Executed,
        AckStatus::Superseded,
        AckStatus::Refused,
    ]
    .map(|status| ack_frame(&reading(6), status).to_vec());
    shake(&seeds, |bytes| {
        let Some(bytes) = bytes.first_chunk::<ACK_LEN>() else {
            return;
        };
        if let Ok((reading, status)) = parse_ack(bytes) {
            assert_eq!(&ack_frame(&reading, status), bytes);
        }
    });
}

#[test]
fn a_command_is_read_as_it_was_written_or_refused() {
    let command = CommandFrame {
        id: 9,
        left_ms: 500,
        reading: reading(6),
    };
    shake(&[command.encode()[1..].to_vec()], |bytes| {
        let Some(bytes) = bytes.first_chunk::<COMMAND_LEN>() else {
            return;
        };
        if let Ok(command) = CommandFrame::parse(bytes) {
            assert_eq!(&command.encode()[1..], bytes);
        }
    });
}

#[test]
fn the_names_of_a_handshake_keep_their_bounds_or_are_refused() {
    let register = |width| ToTwin::Register {
        devices: DeviceRange {
            prefix: "pump-".into(),
            first: 0,
            count: 1_000,
            width,
        },
        sensors: vec![SensorSpec {
            sensor: 0,
            kind: SensorType::Voltage,
        }],
    };
    let hello = ToTwin::Hello {
        version: PROTOCOL_VERSION,
        node: "fleet".into(),
        session: 7,
        acked: 3,
        t1_readings: 12,
    };
    let clock = ToTwin::Clock {
        asked_us: 1,
        came_us: 1 << 50,
        left_us: u64::MAX,
    };
    let join = ToTwin::Join { connection: 300 };
    let messages = [
        hello,
        register(4),
        ToTwin::Bye { t1_readings: 9 },
        clock,
        join,
    ];
    let seeds = messages.map(|message| message.frame().unwrap()[FRAME_HEADER_LEN..].to_vec());
    shake(&seeds, |bytes| {
        if let Ok(message) = ToTwin::parse(bytes) {
            if let ToTwin::Register { devices, .. } = &message {
                devices.check().unwrap();
            }
            let again = message.frame().unwrap();
            assert_eq!(ToTwin::parse(&again[FRAME_HEADER_LEN..]).unwrap(), message);
        }
    });
    let welcome = ToLink::Welcome {
        node: "twin".into(),
        acked: 3,
    };
    let clock = ToLink::Clock { asked_us: 1 << 50 };
    let acked = ToLink::Acked { sequence: 5 };
    let commands = ToLink::Commands {
        port: 40_000,
        connection: 300,
    };
    let seeds = [
        welcome,
        acked,
        ToLink::Farewell,
        clock,
        commands,
        ToLink::Joined,
    ];
    let seeds = seeds.map(|message| message.frame().unwrap()[FRAME_HEADER_LEN..].to_vec());
    shake(&seeds, |bytes| {
        if let Ok(message) = ToLink::parse(bytes) {
            let again = message.frame().unwrap();
            assert_eq!(ToLink::parse(&again[FRAME_HEADER_LEN..]).unwrap(), message);
        }
    });
}
