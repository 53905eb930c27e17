//! The wire log: everything devices put on the wire, with its time, for `actorsim replay`.
//!
//! The file begins with [`MAGIC`] and one line of JSON (how to make the run again), then records,
//! as `docs/reference/wire-log.md` has them: what a kind of device is, before its first bytes; what
//! devices wrote; the end, without which the file was cut off. [`crate::replay::log`] reads it.
//! Bounds: [`BUFFER`] in memory, [`FILE_MAX`] on disk, [`KINDS_MAX`].

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use actorsim_fleet::wire::{WireKind, WireRecord, WireTap};
use actorsim_transport::Tier;
use parking_lot::Mutex;
use serde_json::{Map, Value as Json, json};

use super::{EPOCH_US, SimConfig};

/// The first line.
pub const MAGIC: &str = "actorsim wire log 2\n";
/// Bytes written at once.
pub const BUFFER: usize = 1 << 20;
/// Longest file: a day of 10,000 industrial devices at 5 s is 50 GB, which nobody meant.
pub const FILE_MAX: u64 = 64 << 30;
/// Kinds of devices of one log: their number is a byte.
pub const KINDS_MAX: usize = 255;
/// Bytes before those of a record.
pub const HEAD: usize = 16;
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
    kinds: Vec<WireKind>,
    failed: Option<io::Error>,
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
        "type": kind.device_type, "topic": kind.topic, "labels": labels, "sensors": sensors,
    })
    .to_string()
}

impl Sink {
    fn put(&mut self, record: &WireRecord<'_>) {
        if self.failed.is_none() {
            self.failed = self.put_whole(record).err();
        }
    }

    fn put_whole(&mut self, record: &WireRecord<'_>) -> io::Result<()> {
        let kind = self.kind(record.kind)?;
        let tier = match record.tier {
            Tier::T1 => 1,
            Tier::T2 => 2,
            Tier::T3 => 3,
        };
        for bytes in record.bytes.chunks(RECORD_MAX) {
            self.write((record.at.0, record.ordinal), [tier, kind], bytes)?;
        }
        Ok(())
    }

    /// The number of a kind; what it is goes first.
    fn kind(&mut self, kind: &WireKind) -> io::Result<u8> {
        let known = self.kinds.iter().position(|known| known == kind);
        let at = known.unwrap_or(self.kinds.len());
        if at >= KINDS_MAX {
            return Err(io::Error::other("more than 255 kinds of devices"));
        }
        if known.is_none() {
            self.write((0, 0), [KIND, at as u8], about(kind).as_bytes())?;
            self.kinds.push(kind.clone());
        }
        Ok(at as u8)
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
