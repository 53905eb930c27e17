//! Wire logs, as `actorsim replay` reads them: what is whole is told, and what is not has its place
//! in the file.

use actorsim::replay::log::EVENT_LEN;
use actorsim::replay::{Log, LogError};
use actorsim::sim::wire_log::{DATAGRAM, END, KIND, MAGIC, STREAM};
use actorsim_fleet::wire::Way;
use actorsim_transport::{READING_LEN, Tier};

use super::Target;
use super::datagram::reading;
use crate::scratch::Folder;

pub(crate) const TARGET: Target = Target {
    name: "wire_log",
    about: "recordings, as replay reads them",
    run,
    seeds,
    words: &[
        "\"sensors\":[]",
        "\"labels\":{}",
        "\"topic\":\"",
        "\"type\":\"",
    ],
    len_max: 4_096,
    heap_max: 4 << 20,
};

struct Recording(Vec<u8>);

impl Recording {
    fn new() -> Self {
        Self(format!("{MAGIC}{{\"seed\":1}}\n").into_bytes())
    }

    fn record(mut self, at: u64, device: u32, what: [u8; 2], bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&at.to_le_bytes());
        self.0.extend_from_slice(&device.to_le_bytes());
        self.0.extend_from_slice(&what);
        self.0
            .extend_from_slice(&(bytes.len() as u16).to_le_bytes());
        self.0.extend_from_slice(bytes);
        self
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let kind = br#"{"type":"pump","topic":"d/{device_id}",
        "labels":{"site":"a"},"sensors":[{"id":0,"field":"v","kind":0}]}"#;
    let begun = || Recording::new().record(0, 0, [KIND, 0], kind);
    let two = [reading(1).encode(), reading(2).encode()].concat();
    let event = [&reading(3).encode()[..], &[0; EVENT_LEN - READING_LEN]].concat();
    let whole = begun()
        .record(5, 0, [1, 0], &two)
        .record(6, 1, [2, 0], &event);
    let whole = whole
        .record(7, 1, [3, 0], &[0])
        .record(0, 0, [END, 0], &4_u64.to_le_bytes());
    let spoken = br#"{"type":"pump","protocol":"mqtt","topic":"d","labels":{},"sensors":[]}"#;
    let spoken = begun()
        .record(0, 0, [KIND, 1], spoken)
        .record(5, 0, [STREAM, 1], b"\x10\x00")
        .record(5, 0, [DATAGRAM, 1], b"\x40");
    let far = begun().record(5, u32::MAX, [1, 0], &two);
    vec![Recording::new().0, begun().0, whole.0, spoken.0, far.0]
}

fn run(input: &[u8]) {
    let folder = Folder::new();
    let file = folder.file(input);
    let Ok(mut log) = Log::open(&file) else {
        assert!(Log::survey(&file).is_err());
        return;
    };
    let (mut records, mut bytes) = (0, 0);
    let broken = loop {
        match log.next() {
            Ok(Some(record)) => {
                records += 1;
                bytes += record.bytes.len();
                let length = record.bytes.len();
                assert!(record.readings().count() <= length / READING_LEN);
                assert!(record.events().count() <= length / EVENT_LEN);
                match record.way {
                    Way::Tier(Tier::T1) => assert!(length.is_multiple_of(READING_LEN)),
                    Way::Tier(Tier::T2) => assert!(length.is_multiple_of(EVENT_LEN)),
                    _ => {}
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    assert!(bytes <= input.len());
    let survey = Log::survey(&file).expect("its head can be read");
    assert_eq!(survey.records, records);
    assert_eq!(survey.kinds.len(), survey.devices.len());
    assert_eq!(broken.is_some(), survey.broken.is_some());
    if let Some(LogError::Cut { byte, .. } | LogError::Damaged { byte, .. }) = survey.broken {
        assert!(byte <= input.len() as u64);
    }
}
