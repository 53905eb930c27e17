//! T2: frames of `actorsim/1`, one after another, and the plain readings of `dt/1`, which come in
//! pieces. A frame is read as it was written or refused; however a stream is cut, the same
//! readings come out of it, and the same error.

use actorsim_transport::frames::{
    EVENTS_FRAME_LEN_MAX, Events, FRAME_HEADER_LEN, FrameError, frame_len, put_event,
    put_events_header,
};
use actorsim_transport::{Arrival, DecodeError, EventKey, Reading, ReadingStream, T2Session};

use super::Target;
use super::datagram::reading;
use crate::script::{Script, Steps, pieces};

pub(crate) const TARGET: Target = Target {
    name: "events",
    about: "T2 streams: frames of events, and plain readings in pieces",
    run,
    seeds,
    words: &[],
    len_max: 8_192,
    heap_max: 256 << 10,
};

fn frame(sequence: u64, count: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_events_header(&mut bytes, sequence, count);
    for n in 0..count {
        let key = EventKey {
            epoch: 1,
            event: u64::from(n),
        };
        put_event(&mut bytes, &reading(n), key);
    }
    bytes
}

fn seeds() -> Vec<Vec<u8>> {
    let plain = |cut, count| {
        let bytes: Vec<u8> = (0..count).flat_map(|n| reading(n).encode()).collect();
        Steps::new().step(&[1, cut]).rest(&bytes)
    };
    let frames = [frame(1, 1), frame(2, 5), frame(2, 5), frame(4, 2)].concat();
    let frames = Steps::new().byte(0).rest(&frames);
    let many = Steps::new().byte(0).rest(&frame(1, 100));
    vec![
        frames,
        many,
        plain(0, 3),
        plain(1, 2),
        plain(38, 9),
        plain(39, 5),
        plain(40, 5),
    ]
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    match script.byte() % 2 {
        0 => framed(script.rest()),
        _ => plain(script.byte(), script.rest()),
    }
}

/// What a connection does with a stream of frames, up to its end or its first error.
fn framed(mut bytes: &[u8]) {
    let session = T2Session::detached(1);
    let mut taken = 0;
    while let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER_LEN>() {
        let Ok(length) = frame_len(*header, EVENTS_FRAME_LEN_MAX) else {
            return;
        };
        let Some((body, rest)) = rest.split_at_checked(length) else {
            return;
        };
        bytes = rest;
        let Ok(sequence) = event_frame(body) else {
            return;
        };
        match session.judge(sequence) {
            Arrival::Next => {
                assert_eq!(sequence, taken + 1, "a batch out of turn");
                taken = sequence;
                session.acknowledge(sequence);
            }
            Arrival::Duplicate => assert!(sequence <= taken),
            Arrival::Early => assert!(sequence > taken + 1),
        }
    }
}

fn event_frame(body: &[u8]) -> Result<u64, FrameError> {
    let (mut readings, mut keys) = (Vec::new(), Vec::new());
    let events = Events::parse(body)?;
    if let Err(error) = events.decode_into(&mut readings, &mut keys) {
        assert!(
            readings.is_empty() && keys.is_empty(),
            "half a frame was taken"
        );
        return Err(error);
    }
    let mut again = Vec::new();
    put_events_header(&mut again, events.sequence, readings.len() as u32);
    for (reading, key) in readings.iter().zip(keys) {
        put_event(&mut again, reading, key);
    }
    assert_eq!(&again[FRAME_HEADER_LEN..], body);
    Ok(events.sequence)
}

type Told = (Vec<Reading>, Result<(), DecodeError>);

fn plain(cut: u8, bytes: &[u8]) {
    let told = |of| -> Told {
        let (mut stream, mut readings) = (ReadingStream::default(), Vec::new());
        let taken = pieces(bytes, of).try_for_each(|piece| stream.take(piece, &mut readings));
        let ended = taken.and_then(|()| stream.end());
        (readings, ended)
    };
    let (whole, parts) = (told(0), told(cut));
    assert_eq!(whole, parts);
    let before: Vec<u8> = whole.0.iter().flat_map(Reading::encode).collect();
    assert!(bytes.starts_with(&before), "what was read is not what came");
}
