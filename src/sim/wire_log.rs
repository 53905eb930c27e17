//! The wire log: everything devices put on the wire, with its time, for `actorsim replay`.
//!
//! The file begins with [`MAGIC`] and one line of JSON (how to make the run again), then records,
//! as `docs/reference/wire-log.md` has them: what a kind of device is, before its first bytes; what
//! devices wrote; the end, without which the file was cut off. What is written at one instant goes
//! by device, so the file is the same for any number of shards. [`crate::replay::log`] reads it.
//! Bounds: [`BUFFER`] and one instant in memory, [`FILE_MAX`] on disk, [`KINDS_MAX`].

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use actorsim_fleet::wire::{Way, WireKind, WireRecord, WireTap};
use actorsim_transport::Tier;
use parking_lot::Mutex;
use serde_json::{Map, Value as Json, json};

use super::{EPOCH_US, SimConfig};

/// The first line.
pub const MAGIC: &str = "actorsim wire log 3\n";
/// Bytes written at once.
pub const BUFFER: usize = 1 << 20;
/// Longest file: a day of 10,000 industrial devices at 5 s is 50 GB, which nobody meant.
pub const FILE_MAX: u64 = 64 << 30;
/// Kinds of devices of one log: their number is a byte.
pub const KINDS_MAX: usize = 255;
/// Bytes before those of a record.
pub const HEAD: usize = 16;
/// In the place of a tier: the next part of the stream of a session.
pub const STREAM: u8 = 4;
/// In the place of a tier: a datagram of a session.
pub const DATAGRAM: u8 = 5;
/// In the place of a tier: what a kind is.
pub const KIND: u8 = 0;
/// In the place of a tier: the end, with the number of records before it.
pub const END: u8 = 255;
/// Bytes of one record: whole readings and whole events fit.
const RECORD_MAX: usize = 39 * 51 * 32;

struct Sink {
    file: BufWriter<File>,
    written: u64,
    records: u64,
    /// As they were met, and their numbers in the file once they are told there.
    kinds: Vec<(WireKind, Option<u8>)>,
    numbered: u8,
    instant: Instant,
    failed: Option<io::Error>,
}

/// What was written at one instant of virtual time.
#[derive(Default)]
struct Instant {
    at: u64,
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

/// What one device wrote in one flush.
struct Part {
    /// Place of its kind.
    kind: usize,
    ordinal: u32,
    way: u8,
    range: Range<usize>,
}

/// A log under way.
#[derive(Clone)]
pub struct WireLog(Arc<Mutex<Sink>>);

impl std::fmt::Debug for WireLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WireLog").finish_non_exhaustive()
    }
}

impl WireLog {
    /// Creates the file and writes its head.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(path: &Path, config: &SimConfig) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(BUFFER, File::create(path)?);
        let scenario = config.scenario.as_ref().map(|script| script.name.clone());
        let head = json!({
            "version": crate::cli::VERSION,
            "seed": config.seed,
            "epoch_us": EPOCH_US,
            "device_type": config.profile.device_type,
            "devices": config.devices,
            "scenario": scenario,
        });
        writeln!(file, "{MAGIC}{head}")?;
        Ok(Self(Arc::new(Mutex::new(Sink {
            file,
            written: 0,
            records: 0,
            kinds: Vec::new(),
            numbered: 0,
            instant: Instant::default(),
            failed: None,
        }))))
    }

    /// What is called with everything that is put on the wire.
    #[must_use]
    pub fn tap(&self) -> WireTap {
        let sink = Arc::clone(&self.0);
        Arc::new(move |record| sink.lock().put(record))
    }

    /// Writes the end, and what waits.
    ///
    /// # Errors
    /// The first error of the whole run.
    pub fn close(&self) -> io::Result<()> {
        let mut sink = self.0.lock();
        if let Some(error) = sink.failed.take() {
            return Err(error);
        }
        sink.settle()?;
        let records = sink.records;
        sink.write((0, 0), [END, 0], &records.to_le_bytes())?;
        sink.file.flush()
    }
}

/// What a kind of devices is, as its record holds it.
fn about(kind: &WireKind) -> String {
    let sensors = kind.sensors.iter();
    let sensors: Vec<Json> = sensors
        .map(|(id, field, of)| json!({ "id": id, "field": field, "kind": of.byte() }))
        .collect();
    let labels = kind.labels.iter();
    let labels: Map<String, Json> = labels
        .map(|(label, value)| (label.clone(), Json::from(value.as_str())))
        .collect();
    json!({
        "type": kind.device_type, "protocol": kind.protocol.name(), "topic": kind.topic,
        "labels": labels, "sensors": sensors,
    })
    .to_string()
}

impl Sink {
    fn put(&mut self, record: &WireRecord<'_>) {
        let at = record.at.0;
        if at != self.instant.at && self.failed.is_none() {
            self.failed = self.settle().err();
            self.instant.at = at;
        }
        if self.failed.is_some() {
            return;
        }
        let (kind, instant) = (self.met(record.kind), &mut self.instant);
        let begin = instant.bytes.len();
        instant.bytes.extend_from_slice(record.bytes);
        instant.parts.push(Part {
            kind,
            ordinal: record.ordinal,
            way: match record.way {
                Way::Tier(Tier::T1) => 1,
                Way::Tier(Tier::T2) => 2,
                Way::Tier(Tier::T3) => 3,
                Way::Stream => STREAM,
                Way::Datagram => DATAGRAM,
            },
            range: begin..instant.bytes.len(),
        });
    }

    /// The place of a kind.
    fn met(&mut self, kind: &WireKind) -> usize {
        let known = self.kinds.iter().position(|(known, _)| known == kind);
        known.unwrap_or_else(|| {
            self.kinds.push((kind.clone(), None));
            self.kinds.len() - 1
        })
    }

    /// Writes the present instant, device by device: what one of them wrote stays in its order.
    fn settle(&mut self) -> io::Result<()> {
        let mut instant = std::mem::take(&mut self.instant);
        let of = |part: &Part| (&self.kinds[part.kind].0.device_type, part.ordinal);
        instant.parts.sort_by(|a, b| of(a).cmp(&of(b)));
        for part in &instant.parts {
            let kind = self.kind(part.kind)?;
            for bytes in instant.bytes[part.range.clone()].chunks(RECORD_MAX) {
                self.write((instant.at, part.ordinal), [part.way, kind], bytes)?;
            }
        }
        instant.bytes.clear();
        instant.parts.clear();
        self.instant = instant;
        Ok(())
    }

    /// The number of a kind; what it is goes first.
    fn kind(&mut self, place: usize) -> io::Result<u8> {
        let (kind, number) = &self.kinds[place];
        if let Some(number) = number {
            return Ok(*number);
        }
        let (about, number) = (about(kind), self.numbered);
        if usize::from(number) >= KINDS_MAX {
            return Err(io::Error::other("more than 255 kinds of devices"));
        }
        self.write((0, 0), [KIND, number], about.as_bytes())?;
        self.kinds[place].1 = Some(number);
        self.numbered += 1;
        Ok(number)
    }

    fn write(&mut self, (at, device): (u64, u32), what: [u8; 2], bytes: &[u8]) -> io::Result<()> {
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        self.written += HEAD as u64 + u64::from(length);
        if self.written > FILE_MAX {
            return Err(io::Error::other("it would be longer than 64 GiB"));
        }
        self.records += 1;
        self.file.write_all(&at.to_le_bytes())?;
        self.file.write_all(&device.to_le_bytes())?;
        self.file.write_all(&what)?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(bytes)
    }
}
