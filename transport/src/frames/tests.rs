//! Frames: round trips, bounds, and random bytes that must never panic.

use proptest::prelude::*;

use super::*;
use crate::reading::{SensorType, device_uuid};

fn reading(sequence: u32) -> Reading {
    Reading {
        device: device_uuid("d"),
        sensor: 6,
        kind: SensorType::Relay,
        value: 1.0,
        at_us: 7,
        sequence,
    }
}

fn messages() -> Vec<ToTwin> {
    vec![
        ToTwin::Hello {
            version: PROTOCOL_VERSION,
            node: "n".into(),
            session: 9,
            acked: 3,
            t1_readings: 8,
        },
        ToTwin::Register {
            devices: DeviceRange {
                prefix: "pump-".into(),
                first: 0,
                count: 1_000_000,
                width: 4,
            },
            sensors: vec![
                SensorSpec {
                    sensor: 0,
                    kind: SensorType::Voltage
                };
                7
            ],
        },
        ToTwin::Join { connection: 7 },
        ToTwin::Bye {
            t1_readings: u64::MAX,
        },
    ]
}

#[test]
fn control_messages_make_the_round_trip() {
    for message in messages() {
        let frame = message.frame().unwrap();
        let head = frame.first_chunk().copied().unwrap();
        assert_eq!(
            frame_len(head, CONTROL_FRAME_LEN_MAX).unwrap(),
            frame.len() - 4
        );
        assert_eq!(ToTwin::parse(&frame[4..]).unwrap(), message);
    }
    for message in [
        ToLink::Welcome {
            node: "t".into(),
            acked: 4,
        },
        ToLink::Acked { sequence: 5 },
        ToLink::Farewell,
        ToLink::Commands {
            port: 40_000,
            connection: u32::MAX,
        },
        ToLink::Joined,
    ] {
        assert_eq!(
            ToLink::parse(&message.frame().unwrap()[4..]).unwrap(),
            message
        );
    }
}

#[test]
fn messages_outside_their_bounds_are_refused() {
    let hello = |version, node: &str| ToTwin::Hello {
        version,
        node: node.into(),
        session: 0,
        acked: 0,
        t1_readings: 0,
    };
    let sensors = vec![
        SensorSpec {
            sensor: 0,
            kind: SensorType::Relay
        };
        SENSORS_MAX + 1
    ];
    let range = |count| DeviceRange {
        prefix: "p".into(),
        first: 1,
        count,
        width: 4,
    };
    let bad = [
        hello(PROTOCOL_VERSION + 1, "n"),
        hello(PROTOCOL_VERSION, ""),
        hello(PROTOCOL_VERSION, &"n".repeat(NODE_NAME_LEN_MAX + 1)),
        ToTwin::Register {
            devices: range(u32::MAX),
            sensors: Vec::new(),
        },
        ToTwin::Register {
            devices: range(1),
            sensors,
        },
    ];
    for message in bad {
        let frame = message.frame().unwrap();
        assert!(ToTwin::parse(&frame[4..]).is_err(), "{message:?}");
    }
    assert!(frame_len(u32::MAX.to_le_bytes(), CONTROL_FRAME_LEN_MAX).is_err());
}

#[test]
fn commands_and_acknowledgements_make_the_round_trip() {
    let command = CommandFrame {
        id: 1 << 40,
        left_ms: 250,
        reading: reading(3),
    };
    let bytes = command.encode();
    assert_eq!(StreamType::from_byte(bytes[0]), Some(StreamType::Command));
    assert_eq!(CommandFrame::parse(&sub(&bytes, 1)).unwrap(), command);
    for status in [
        AckStatus::Executed,
        AckStatus::Superseded,
        AckStatus::Refused,
    ] {
        let bytes = ack_frame(&reading(9), status);
        assert_eq!(parse_ack(&bytes).unwrap(), (reading(9), status));
    }
    let mut bytes = ack_frame(&reading(9), AckStatus::Executed);
    bytes[READING_LEN] = 3;
    assert!(matches!(parse_ack(&bytes), Err(FrameError::Status(3))));
}

#[test]
fn an_event_frame_that_lies_about_its_count_is_refused() {
    for count in [0, 1, 3, u32::MAX] {
        let mut frame = Vec::new();
        put_events_header(&mut frame, 1, 2);
        frame[12..16].copy_from_slice(&count.to_le_bytes());
        for n in 0..2 {
            put_event(&mut frame, &reading(n), EventKey { epoch: 0, event: 0 });
        }
        assert!(Events::parse(&frame[4..]).is_err(), "{count}");
    }
}

#[test]
fn a_bad_event_leaves_the_vectors_as_they_were() {
    let mut frame = Vec::new();
    put_events_header(&mut frame, 1, 2);
    put_event(&mut frame, &reading(1), EventKey { epoch: 1, event: 1 });
    put_event(&mut frame, &reading(2), EventKey { epoch: 1, event: 2 });
    let byte = EVENTS_HEADER_LEN + EVENT_LEN + READING_LEN - 1;
    frame[byte] = 77;
    let (mut readings, mut keys) = (Vec::new(), Vec::new());
    let error = Events::parse(&frame[4..])
        .unwrap()
        .decode_into(&mut readings, &mut keys);
    assert!(error.unwrap_err().to_string().contains("77"));
    assert!(readings.is_empty() && keys.is_empty());
}

proptest! {
    #[test]
    fn random_bytes_never_panic_a_parser(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        drop(ToTwin::parse(&bytes));
        drop(ToLink::parse(&bytes));
        if let Ok(events) = Events::parse(&bytes) {
            drop(events.decode_into(&mut Vec::new(), &mut Vec::new()));
        }
        if let Some(command) = bytes.first_chunk() {
            drop(CommandFrame::parse(command));
        }
        if let Some(ack) = bytes.first_chunk() {
            drop(parse_ack(ack));
        }
        if let Some(header) = bytes.first_chunk() {
            prop_assert!(frame_len(*header, 1000).map_or(true, |n| n <= 1000));
        }
    }

    #[test]
    fn a_flipped_byte_is_refused_or_another_valid_message(
        which in 0_usize..3,
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let mut frame = messages()[which].frame().unwrap().split_off(4);
        let at = at.index(frame.len());
        frame[at] ^= flip;
        if let Ok(message) = ToTwin::parse(&frame) {
            let again = message.frame().unwrap();
            prop_assert_eq!(ToTwin::parse(&again[4..]).unwrap(), message);
        }
    }
}

/// A frame of so many events.
fn frame(sequence: u64, count: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_events_header(&mut bytes, sequence, count);
    for event in 0..count {
        let key = EventKey {
            epoch: 3,
            event: u64::from(event),
        };
        put_event(&mut bytes, &reading(event), key);
    }
    bytes
}

type Told = Vec<(u64, Vec<Reading>, Vec<EventKey>)>;

/// What a stream of these pieces tells, and whether it was refused.
fn told<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Told, Option<String>) {
    let (mut stream, mut told) = (EventStream::default(), Vec::new());
    let (mut readings, mut keys) = (Vec::new(), Vec::new());
    for mut piece in pieces {
        while !piece.is_empty() {
            match stream.take(&mut piece, &mut readings, &mut keys) {
                Ok(Some(sequence)) => {
                    let frame = (std::mem::take(&mut readings), std::mem::take(&mut keys));
                    told.push((sequence, frame.0, frame.1));
                }
                Ok(None) => assert!(piece.is_empty(), "all of a piece is taken"),
                Err(error) => return (told, Some(error.to_string())),
            }
        }
    }
    (told, None)
}

proptest! {
    #[test]
    fn a_stream_of_frames_is_the_same_however_it_is_cut(
        counts in prop::collection::vec(0_u32..5, 0..5),
        wrong in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        left in 0_usize..60,
        piece in 1_usize..120,
    ) {
        let frames = counts.iter().zip(1..).map(|(count, sequence)| frame(sequence, *count));
        let mut bytes: Vec<u8> = frames.flatten().collect();
        if let Some((at, byte)) = wrong.filter(|_| !bytes.is_empty()) {
            *at.get_mut(&mut bytes) = byte;
        }
        bytes.extend(frame(99, 2).iter().take(left));
        let whole = told([&bytes[..]]);
        prop_assert_eq!(&told(bytes.chunks(piece)), &whole);
        let mut parsed = Vec::new();
        let mut rest = &bytes[..];
        while let Some((head, after)) = rest.split_first_chunk() {
            let Ok(length) = frame_len(*head, EVENTS_FRAME_LEN_MAX) else { break };
            let Some((body, next)) = after.split_at_checked(length) else { break };
            let Ok(events) = Events::parse(body) else { break };
            let (mut readings, mut keys) = (Vec::new(), Vec::new());
            if events.decode_into(&mut readings, &mut keys).is_err() {
                break;
            }
            parsed.push((events.sequence, readings, keys));
            rest = next;
        }
        prop_assert_eq!(parsed, whole.0);
    }
}

#[test]
fn a_stream_is_refused_at_the_first_byte_that_no_frame_has() {
    let most = EVENTS_FRAME_LEN_MAX as u32;
    let head = |length: u32, count: u32| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([0; 8]);
        bytes.extend(count.to_le_bytes());
        bytes
    };
    for refused in [
        &head(most + 1, 0)[..4],
        &head(11, 0)[..4],
        &head(12, 1),
        &head(12 + EVENT_LEN as u32, 2),
        &head(13 + EVENT_LEN as u32, 1),
        &head(12, u32::MAX),
    ] {
        assert!(told([refused]).1.is_some(), "{refused:?}");
        let short = &refused[..refused.len() - 1];
        assert_eq!(told([short]), (Vec::new(), None), "{short:?}");
    }
    assert_eq!(told([&head(most, BATCH_EVENTS_MAX as u32)[..]]).1, None);
}
