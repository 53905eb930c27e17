//! T2: frames of `actorsim/1`, one after another, and the plain readings of `dt/1`, both in pieces.
//! A frame is read as it was written or refused; however a stream is cut, the same readings come
//! out of it, and the same error.

use actorsim_transport::frames::{EventStream, put_event, put_events_header};
use actorsim_transport::{Arrival, DecodeError, EventKey, Reading, ReadingStream, T2Session};

use super::Target;
use super::datagram::reading;
use crate::script::{Script, Steps, pieces};

pub(crate) const TARGET: Target = Target {
    name: "events",
    about: "T2 streams in pieces: frames of events, and plain readings",
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
    let cut = |cut| Steps::new().step(&[0, cut]).rest(&frames);
    let many = Steps::new().step(&[0, 52]).rest(&frame(1, 100));
    vec![
        cut(0),
        cut(1),
        cut(50),
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
        0 => framed(script.byte(), script.rest()),
        _ => plain(script.byte(), script.rest()),
    }
}

/// Frames in order, and why the stream was refused, if it was.
type Frames = (Vec<(u64, Vec<Reading>, Vec<EventKey>)>, Option<String>);

/// What a connection does with a stream of frames, up to its end or its first error.
fn framed(cut: u8, bytes: &[u8]) {
    let whole = told(bytes, 0);
    assert_eq!(told(bytes, cut), whole);
    let session = T2Session::detached(1);
    let (mut taken, mut again) = (0, Vec::new());
    for (sequence, readings, keys) in whole.0 {
        put_events_header(&mut again, sequence, readings.len() as u32);
        for (reading, key) in readings.iter().zip(keys) {
            put_event(&mut again, reading, key);
        }
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
    assert!(bytes.starts_with(&again), "what was read is not what came");
}

fn told(bytes: &[u8], cut: u8) -> Frames {
    let (mut stream, mut frames) = (EventStream::default(), Vec::new());
    let (mut readings, mut keys) = (Vec::new(), Vec::new());
    for mut piece in pieces(bytes, cut) {
        while !piece.is_empty() {
            match stream.take(&mut piece, &mut readings, &mut keys) {
                Ok(Some(sequence)) => {
                    let frame = (std::mem::take(&mut readings), std::mem::take(&mut keys));
                    frames.push((sequence, frame.0, frame.1));
                }
                Ok(None) => assert!(piece.is_empty(), "all of a piece is taken"),
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
    }
    (frames, None)
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
