//! The wire log: everything devices put on the wire, with its time, for `actorsim replay`.
//!
//! The file begins with [`MAGIC`] and one line of JSON (how to make the run again), then records:
//!
//! ```text
//! at_ns   u64 LE   virtual time since the run's epoch
//! device  u32 LE   ordinal of the device; its id is {type}-{ordinal, at least four digits}
//! tier    u8       1, 2 or 3
//! zero    u8
//! length  u16 LE   bytes that follow
//! bytes            T1: readings of 39 bytes; T2: records of 51 (reading, epoch, event); T3: status
//! ```
//!
//! It reads nothing back. Bounds: [`BUFFER`] in memory, [`FILE_MAX`] on disk.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use actorsim_fleet::wire::{WireRecord, WireTap};
use actorsim_transport::Tier;
use parking_lot::Mutex;

use super::{EPOCH_US, SimConfig};

/// The first line.
pub const MAGIC: &str = "actorsim wire log 1\n";
/// Bytes written at once.
pub const BUFFER: usize = 1 << 20;
/// Longest file: a day of 10,000 industrial devices at 5 s is 50 GB, which nobody meant.
pub const FILE_MAX: u64 = 64 << 30;
/// Bytes of one record: whole readings and whole events fit.
const RECORD_MAX: usize = 39 * 51 * 32;

struct Sink {
    file: BufWriter<File>,
    written: u64,
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
        let head = serde_json::json!({
            "version": crate::cli::VERSION,
            "seed": config.seed,
            "epoch_us": EPOCH_US,
            "device_type": config.profile.device_type,
            "devices": config.devices,
        });
        writeln!(file, "{MAGIC}{head}")?;
        Ok(Self(Arc::new(Mutex::new(Sink {
            file,
            written: 0,
            failed: None,
        }))))
    }

    /// What is called with everything that is put on the wire.
    #[must_use]
    pub fn tap(&self) -> WireTap {
        let sink = Arc::clone(&self.0);
        Arc::new(move |record| sink.lock().put(record))
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// The first error of the whole run.
    pub fn close(&self) -> io::Result<()> {
        let mut sink = self.0.lock();
        match sink.failed.take() {
            Some(error) => Err(error),
            None => sink.file.flush(),
        }
    }
}

impl Sink {
    fn put(&mut self, record: &WireRecord<'_>) {
        if self.failed.is_some() {
            return;
        }
        for bytes in record.bytes.chunks(RECORD_MAX) {
            let written = self.put_part(record, bytes);
            self.failed = written.err();
        }
    }

    fn put_part(&mut self, record: &WireRecord<'_>, bytes: &[u8]) -> io::Result<()> {
        let tier = match record.tier {
            Tier::T1 => 1,
            Tier::T2 => 2,
            Tier::T3 => 3,
        };
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        self.written += 16 + u64::from(length);
        if self.written > FILE_MAX {
            return Err(io::Error::other("it would be longer than 64 GiB"));
        }
        self.file.write_all(&record.at.0.to_le_bytes())?;
        self.file.write_all(&record.ordinal.to_le_bytes())?;
        self.file.write_all(&[tier, 0])?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(bytes)
    }
}
