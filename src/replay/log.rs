//! Reads a wire log: its head, its kinds of devices, its records, its end.
//!
//! It plays nothing. Bounds: one record, of 64 KiB at most; numbers of devices as a population has
//! them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use actorsim_fleet::peer::Peer;
use actorsim_fleet::population::DEVICES_MAX;
use actorsim_fleet::profile::Protocol;
use actorsim_fleet::wire::Way;
use actorsim_transport::{READING_LEN, Reading, Tier};
use serde_json::Value as Json;

use crate::sim::wire_log::{DATAGRAM, END, HEAD, KIND, MAGIC, STREAM};

/// The first line of a log of the version before, which had the tiers only.
const MAGIC_OF_TIERS: &str = "actorsim wire log 2\n";

/// Bytes of the line of JSON at the beginning.
const LINE_MAX: u64 = 64 * 1024;
/// Devices whose numbers follow each other, and that are announced together.
pub const GROUP: u32 = 256;
/// Bytes of an event: a reading, an epoch, a number.
pub const EVENT_LEN: usize = READING_LEN + 12;

/// Why a log cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// Something else.
    #[error("{0}: no wire log of this version; `actorsim sim --wire-log FILE` writes one")]
    NotALog(String),
    /// It ends in the middle.
    #[error("{path} is cut off after {records} records, at byte {byte}")]
    Cut {
        /// The file.
        path: String,
        /// Whole records before.
        records: u64,
        /// Where.
        byte: u64,
    },
    /// A record that means nothing.
    #[error("{path}: the record at byte {byte} is damaged: {why}")]
    Damaged {
        /// The file.
        path: String,
        /// Where it begins.
        byte: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// A kind of devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kind {
    /// Their type.
    pub device_type: String,
    /// What they speak.
    pub protocol: Protocol,
    /// Topic, with placeholders.
    pub topic: String,
    /// Their labels.
    pub labels: Vec<(String, String)>,
    /// Sensor id, field, type.
    pub sensors: Vec<(u16, String, u8)>,
}

/// What a device wrote at one time.
#[derive(Debug)]
pub struct Record<'a> {
    /// Since the run's epoch.
    pub at: Duration,
    /// Number of its kind.
    pub kind: usize,
    /// Number of the device.
    pub ordinal: u32,
    /// How it went.
    pub way: Way,
    /// What.
    pub bytes: &'a [u8],
}

impl Record<'_> {
    /// Its readings, of the tier T1.
    pub fn readings(&self) -> impl Iterator<Item = Reading> {
        let parts = self.bytes.chunks_exact(READING_LEN);
        parts.filter_map(|part| Reading::decode(part.try_into().ok()?).ok())
    }

    /// Its events, of the tier T2: the reading, and the number of the event.
    pub fn events(&self) -> impl Iterator<Item = (Reading, u64)> {
        let parts = self.bytes.chunks_exact(EVENT_LEN);
        parts.filter_map(|part| {
            let (reading, key) = part.split_at(READING_LEN);
            let reading = Reading::decode(reading.try_into().ok()?).ok()?;
            Some((reading, u64::from_le_bytes(key[4..].try_into().ok()?)))
        })
    }
}

/// A log that is read.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: BufReader<File>,
    byte: u64,
    records: u64,
    /// Time of the last record of a device, nanoseconds since the run's epoch.
    at: u64,
    /// Kinds so far.
    pub kinds: Vec<Kind>,
    bytes: Vec<u8>,
}

/// What is in a log.
#[derive(Debug, Default)]
pub struct Survey {
    /// Its kinds of devices.
    pub kinds: Vec<Kind>,
    /// Devices of each kind: the highest number, and one more.
    pub devices: Vec<u32>,
    /// Groups of [`GROUP`] devices of each kind, by number, in which somebody wrote.
    pub groups: Vec<BTreeSet<u32>>,
    /// Records of devices.
    pub records: u64,
    /// Of the first and the last.
    pub span: Option<(Duration, Duration)>,
    /// Why it is not whole.
    pub broken: Option<LogError>,
}

impl Log {
    /// Opens a log.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let shown = path.display().to_string();
        let failed = |error| LogError::Io {
            path: shown.clone(),
            error,
        };
        let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
        let mut magic = vec![0; MAGIC.len()];
        let read = file.read_exact(&mut magic);
        let known = [MAGIC, MAGIC_OF_TIERS].map(str::as_bytes);
        if read.is_err() || !known.contains(&&*magic) {
            return Err(LogError::NotALog(shown));
        }
        let mut line = Vec::new();
        let mut head = file.by_ref().take(LINE_MAX);
        let _ = head.read_until(b'\n', &mut line).map_err(failed)?;
        if serde_json::from_slice::<Json>(&line).is_err() {
            return Err(LogError::NotALog(shown));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            byte: (magic.len() + line.len()) as u64,
            records: 0,
            at: 0,
            kinds: Vec::new(),
            bytes: Vec::new(),
        })
    }

    /// Reads it through.
    ///
    /// # Errors
    /// [`LogError`], if not even its head can be read.
    pub fn survey(path: &Path) -> Result<Survey, LogError> {
        let mut log = Self::open(path)?;
        let mut survey = Survey::default();
        survey.broken = loop {
            match log.next() {
                Ok(Some(record)) => {
                    let Record {
                        at, kind, ordinal, ..
                    } = record;
                    survey.records += 1;
                    let first = survey.span.map_or(at, |(first, _)| first);
                    survey.span = Some((first, at));
                    let known = survey.devices.len().max(kind + 1);
                    survey.devices.resize(known, 0);
                    survey.groups.resize(known, BTreeSet::new());
                    survey.groups[kind].insert(ordinal / GROUP);
                    let own = &mut survey.devices[kind];
                    *own = ordinal.saturating_add(1).max(*own);
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        survey.kinds = log.kinds;
        survey.devices.resize(survey.kinds.len(), 0);
        survey.groups.resize(survey.kinds.len(), BTreeSet::new());
        Ok(survey)
    }

    /// The next record of a device; `None` at the end.
    ///
    /// # Errors
    /// [`LogError`].
    #[expect(
        clippy::should_implement_trait,
        reason = "a record borrows from the log"
    )]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, LogError> {
        loop {
            let mut head = [0; HEAD];
            self.fill(&mut head)?;
            let (at, rest) = head.split_at(8);
            let at = u64::from_le_bytes(at.try_into().unwrap_or_default());
            let ordinal = u32::from_le_bytes(rest[..4].try_into().unwrap_or_default());
            let (tier, kind) = (rest[4], usize::from(rest[5]));
            let length = usize::from(u16::from_le_bytes([rest[6], rest[7]]));
            let begins = self.byte - HEAD as u64;
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.resize(length, 0);
            let filled = self.fill(&mut bytes);
            self.bytes = bytes;
            filled?;
            self.records += 1;
            let way = match tier {
                KIND => {
                    self.meet(kind, begins)?;
                    continue;
                }
                END => return self.end(begins),
                1 => Way::Tier(Tier::T1),
                2 => Way::Tier(Tier::T2),
                3 => Way::Tier(Tier::T3),
                STREAM => Way::Stream,
                DATAGRAM => Way::Datagram,
                other => return Err(self.damaged(begins, format!("there is no tier {other}"))),
            };
            let Some(protocol) = self.kinds.get(kind).map(|kind| kind.protocol) else {
                return Err(self.damaged(begins, format!("kind {kind} was not told before")));
            };
            if ordinal >= DEVICES_MAX {
                let why = format!("device {ordinal}, and a kind has at most {DEVICES_MAX}");
                return Err(self.damaged(begins, why));
            }
            if at < self.at {
                let why = format!("{at} ns is before {} ns, the record before it", self.at);
                return Err(self.damaged(begins, why));
            }
            self.at = at;
            let whole = match way {
                Way::Tier(Tier::T1) => length.is_multiple_of(READING_LEN),
                Way::Tier(Tier::T2) => length.is_multiple_of(EVENT_LEN),
                Way::Tier(Tier::T3) => true,
                Way::Stream | Way::Datagram => Peer::of(protocol).is_some(),
            };
            if !whole {
                return Err(self.damaged(begins, format!("{length} bytes are no whole record")));
            }
            return Ok(Some(Record {
                at: Duration::from_nanos(at),
                kind,
                ordinal,
                way,
                bytes: &self.bytes,
            }));
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), LogError> {
        let path = self.path.display().to_string();
        match self.file.read_exact(bytes) {
            Ok(()) => {
                self.byte += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(LogError::Cut {
                path,
                records: self.records,
                byte: self.byte,
            }),
            Err(error) => Err(LogError::Io { path, error }),
        }
    }

    fn damaged(&self, byte: u64, why: String) -> LogError {
        LogError::Damaged {
            path: self.path.display().to_string(),
            byte,
            why,
        }
    }

    fn end(&self, begins: u64) -> Result<Option<Record<'_>>, LogError> {
        let told = <[u8; 8]>::try_from(&self.bytes[..]).map(u64::from_le_bytes);
        match told.ok() == Some(self.records - 1) {
            true => Ok(None),
            false => Err(self.damaged(begins, "the number of records is another".to_owned())),
        }
    }

    /// Learns what a kind is.
    fn meet(&mut self, number: usize, begins: u64) -> Result<(), LogError> {
        let kind = serde_json::from_slice::<Json>(&self.bytes).ok();
        let kind = kind.as_ref().and_then(kind_of);
        match kind.filter(|_| number == self.kinds.len()) {
            Some(kind) => {
                self.kinds.push(kind);
                Ok(())
            }
            None => Err(self.damaged(begins, "it does not say what a kind is".to_owned())),
        }
    }
}

fn kind_of(about: &Json) -> Option<Kind> {
    let text = |value: &Json| value.as_str().map(ToOwned::to_owned);
    let sensor = |sensor: &Json| {
        let id = u16::try_from(sensor["id"].as_u64()?).ok()?;
        let of = u8::try_from(sensor["kind"].as_u64()?).ok()?;
        Some((id, text(&sensor["field"])?, of))
    };
    let labels = about["labels"].as_object()?.iter();
    let labels = labels.map(|(label, value)| Some((label.clone(), text(value)?)));
    Some(Kind {
        device_type: text(&about["type"])?,
        protocol: match &about["protocol"] {
            Json::Null => Protocol::Quic,
            named => Protocol::named(named.as_str()?)?,
        },
        topic: text(&about["topic"])?,
        labels: labels.collect::<Option<_>>()?,
        sensors: about["sensors"]
            .as_array()?
            .iter()
            .map(sensor)
            .collect::<Option<_>>()?,
    })
}
