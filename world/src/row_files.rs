//! What rows held, in files: a record for each row that got a value since the last walk over it.
//!
//! The scan hands records to a ring and never waits; a thread of its own writes them. Formats:
//! `ndjson` (always) and `parquet` (with the feature of that name). A file that was cut anywhere is
//! read up to the last whole line, or row group; the newest one is brought back to that when a
//! writer begins. Bound: [`ROW_LANE`] records wait, more are counted as lapped; files of at most
//! [`RowFilesConfig::file_max`] bytes and a group, [`RowFilesConfig::files_max`] of them.

mod ndjson;
#[cfg(feature = "parquet")]
mod parquet;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use crate::lanes::Lanes;
use crate::scan::clock::now_ns;
use crate::threads;

/// Records that wait for the writer: two of its pauses at half a million a second.
pub const ROW_LANE: usize = 131_072;

/// Records that one cycle hands out; of rows beyond, the next walk has the newest value.
pub const ROWS_PER_CYCLE: usize = 16_384;

/// Pause of the writer.
const PAUSE: Duration = Duration::from_millis(100);

/// After a refusal of the disk it is tried again.
const RETRY_NS: u64 = 5_000_000_000;

/// Records written at once.
const CHUNK: usize = 8_192;

/// Start of a file's name; then comes the time of its first record's writing.
const PREFIX: &str = "rows-";

/// A row as it left the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowRecord {
    /// Device.
    pub device: [u8; 16],
    /// Stamp of the value, device clock, microseconds since the Unix epoch.
    pub at_us: u64,
    /// Last value, any bit pattern.
    pub value: f64,
    /// Smoothed value; not a number before the first finite one.
    pub smoothed: f32,
    /// Mean, least and greatest value of its window; not a number without one.
    pub window: [f64; 3],
    /// Sensor id within the device.
    pub sensor: u16,
    /// Type byte.
    pub kind: u8,
}

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A line of JSON for each record.
    Ndjson,
    /// Apache Parquet.
    #[cfg(feature = "parquet")]
    Parquet,
}

impl Format {
    /// The format of that name, if this build has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ndjson" => Some(Self::Ndjson),
            #[cfg(feature = "parquet")]
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// Its name, and the ending of its files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            #[cfg(feature = "parquet")]
            Self::Parquet => "parquet",
        }
    }
}

/// Where rows go.
#[derive(Clone, Debug)]
pub struct RowFilesConfig {
    /// Directory; made where it is not there.
    pub dir: PathBuf,
    /// Format.
    pub format: Format,
    /// Size from which on a file is followed by another.
    pub file_max: u64,
    /// Files that are kept; the oldest goes first.
    pub files_max: usize,
}

/// What became of records.
#[derive(Debug, Default)]
pub struct RowCounts {
    /// In files, as whole lines or row groups.
    pub written: AtomicU64,
    /// Not taken by the ring, or by the disk.
    pub lapped: AtomicU64,
    /// Refusals of the disk.
    pub errors: AtomicU64,
    /// Files brought back to their last whole line or row group.
    pub repaired: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowReport {
    /// In files, as whole lines or row groups.
    pub written: u64,
    /// Not taken by the ring, or by the disk.
    pub lapped: u64,
    /// Refusals of the disk.
    pub errors: u64,
    /// Files brought back to their last whole line or row group.
    pub repaired: u64,
}

impl RowCounts {
    /// At this moment.
    #[must_use]
    pub fn report(&self) -> RowReport {
        RowReport {
            written: self.written.load(Ordering::Relaxed),
            lapped: self.lapped.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            repaired: self.repaired.load(Ordering::Relaxed),
        }
    }
}

/// A file that is being written.
trait Sink {
    /// Takes records.
    fn write(&mut self, records: &[RowRecord]) -> io::Result<()>;
    /// What was taken can be read, as far as the format has whole parts of it.
    fn settle(&mut self) -> io::Result<()>;
    /// What waits becomes a whole part of its own.
    fn end_group(&mut self) -> io::Result<()>;
    /// Records that were taken and may not be in the file yet.
    fn waiting(&self) -> u64;
    /// Size so far.
    fn bytes(&self) -> u64;
    /// Whether it should be followed by another, whatever its size.
    fn is_full(&self) -> bool;
    /// Writes what is left.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

fn open(format: Format, file: File) -> io::Result<Box<dyn Sink>> {
    Ok(match format {
        Format::Ndjson => Box::new(ndjson::Lines::new(file)),
        #[cfg(feature = "parquet")]
        Format::Parquet => Box::new(parquet::Groups::new(file)?),
    })
}

/// Bytes of a file up to the end of its last whole line, or row group.
///
/// # Errors
/// What the disk says.
pub fn whole(format: Format, file: &Path) -> io::Result<u64> {
    let bytes = fs::read(file)?;
    Ok(match format {
        Format::Ndjson => ndjson::whole(&bytes),
        #[cfg(feature = "parquet")]
        Format::Parquet => parquet::whole(&bytes),
    } as u64)
}

/// Files of a format in a directory, oldest first.
fn files(dir: &Path, format: Format) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(&format!(".{}", format.name())) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The thread that writes; dropping it writes what waits, and ends it.
#[derive(Debug)]
pub(crate) struct RowWriter {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RowWriter {
    /// Begins to write what comes out of the lanes; `tell` hears of refusals and repairs.
    pub(crate) fn start(
        config: RowFilesConfig,
        lanes: Arc<Lanes>,
        clock: actorsim_actors::Clock,
        cores: &[usize],
        tell: impl Fn(String) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let run = move || {
            let mut desk = Desk {
                config,
                lanes,
                clock,
                sink: None,
                torn: true,
                taken: 0,
                retry_ns: 0,
                chunk: Vec::with_capacity(CHUNK),
                tell: Box::new(tell),
            };
            desk.attempt(Desk::prepare);
            loop {
                let over = stopped.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout);
                desk.pass();
                if over {
                    break;
                }
            }
            desk.attempt(Desk::finish);
        };
        let builder = std::thread::Builder::new().name("row-files".to_owned());
        Ok(Self {
            stop: Some(stop),
            thread: Some(threads::start(builder, cores, run)?),
        })
    }
}

impl Drop for RowWriter {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Desk {
    config: RowFilesConfig,
    lanes: Arc<Lanes>,
    clock: actorsim_actors::Clock,
    sink: Option<Box<dyn Sink>>,
    /// The newest file may have no whole end.
    torn: bool,
    /// Records that the present file took and that are not counted yet.
    taken: u64,
    retry_ns: u64,
    chunk: Vec<RowRecord>,
    tell: Box<dyn Fn(String) + Send>,
}

impl Desk {
    /// Does something with the disk; a refusal is counted and told, and gives the file up with
    /// what it had not written.
    fn attempt(&mut self, act: impl FnOnce(&mut Self) -> io::Result<()>) -> bool {
        let Err(error) = act(self) else {
            self.count();
            return true;
        };
        let counts = &self.lanes.row_counts;
        counts.errors.fetch_add(1, Ordering::Relaxed);
        let given_up = std::mem::take(&mut self.taken);
        counts.lapped.fetch_add(given_up, Ordering::Relaxed);
        let place = self.config.dir.display();
        (self.tell)(format!("rows are not written to {place}: {error}"));
        (self.sink, self.torn) = (None, true);
        self.retry_ns = now_ns() + RETRY_NS;
        false
    }

    /// Counts what is in files by now.
    fn count(&mut self) {
        let waiting = self.sink.as_ref().map_or(0, |sink| sink.waiting());
        let written = std::mem::replace(&mut self.taken, waiting) - waiting;
        let counts = &self.lanes.row_counts;
        counts.written.fetch_add(written, Ordering::Relaxed);
    }

    /// There is a directory, and the newest file in it has a whole end.
    fn prepare(&mut self) -> io::Result<()> {
        fs::create_dir_all(&self.config.dir)?;
        if self.torn {
            self.repair()?;
            self.torn = false;
        }
        Ok(())
    }

    /// Brings the newest file back to its last whole part. One without any goes: a disk that stays
    /// full would have its files of nothing push those before them out.
    fn repair(&self) -> io::Result<()> {
        let Some(newest) = files(&self.config.dir, self.config.format)?.pop() else {
            return Ok(());
        };
        let whole = whole(self.config.format, &newest)?;
        let bytes = fs::metadata(&newest)?.len();
        if whole == 0 {
            fs::remove_file(&newest)?;
        } else if whole < bytes {
            let file = OpenOptions::new().write(true).open(&newest)?;
            file.set_len(whole)?;
        }
        if whole < bytes {
            let repaired = &self.lanes.row_counts.repaired;
            repaired.fetch_add(1, Ordering::Relaxed);
            let (name, lost) = (newest.display(), bytes - whole);
            (self.tell)(format!(
                "{name} was cut off: its last {lost} bytes are gone"
            ));
        }
        Ok(())
    }

    /// Writes what waits.
    fn pass(&mut self) {
        loop {
            self.chunk.clear();
            {
                let mut lane = self.lanes.rows.lock();
                let waiting = lane.slots().min(CHUNK);
                let taken = std::iter::from_fn(|| lane.pop().ok()).take(waiting);
                self.chunk.extend(taken);
            }
            if self.chunk.is_empty() {
                break;
            }
            let records = self.chunk.len() as u64;
            let may = now_ns() >= self.retry_ns;
            if !may || !self.attempt(Self::write) {
                let lapped = &self.lanes.row_counts.lapped;
                lapped.fetch_add(records, Ordering::Relaxed);
            }
        }
        self.attempt(|desk| desk.sink.as_mut().map_or(Ok(()), |sink| sink.settle()));
    }

    /// Writes a chunk.
    fn write(&mut self) -> io::Result<()> {
        if self.sink.as_ref().is_some_and(|sink| self.is_over(&**sink)) {
            self.finish()?;
            self.count();
        }
        let mut sink = match self.sink.take() {
            Some(sink) => sink,
            None => open(self.config.format, self.next_file()?)?,
        };
        sink.write(&self.chunk)?;
        self.taken += self.chunk.len() as u64;
        self.sink = Some(sink);
        Ok(())
    }

    /// Ends the present file.
    fn finish(&mut self) -> io::Result<()> {
        self.sink.take().map_or(Ok(()), |sink| sink.finish())
    }

    fn is_over(&self, sink: &dyn Sink) -> bool {
        sink.is_full() || sink.bytes() >= self.config.file_max
    }

    fn next_file(&mut self) -> io::Result<File> {
        self.prepare()?;
        let (dir, format) = (&self.config.dir, self.config.format);
        let mut old = files(dir, format)?;
        let spare = self.config.files_max.max(1) - 1;
        for file in old.drain(..old.len().saturating_sub(spare)) {
            fs::remove_file(file)?;
        }
        // two within a microsecond do not happen, and never overwrite each other
        let name = format!("{PREFIX}{:020}.{}", self.clock.unix_us(), format.name());
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(dir.join(name))
    }
}

#[cfg(test)]
mod tests;
