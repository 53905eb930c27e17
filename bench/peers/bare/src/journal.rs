//! `journal`: the same bytes to one file that was written before and is written over, each group
//! with one `fdatasync`: what this disk lets any log of them do.
//!
//! Groups gather as in the twin's journal: at most [`GROUP_EVENTS`], and [`SYNC_INTERVAL`] between
//! two syncs. Nothing is encoded, judged or applied. Bound: a file of [`FILE`] bytes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use peer_probe::{Job, Latencies, Line};

/// Bytes of an event in a record.
const EVENT: usize = 51;
/// Events that are under way at most: 8 sessions, 64 batches of 256 each.
const WINDOW_EVENTS: usize = 8 * 64 * 256;
/// Events in a group at most.
const GROUP_EVENTS: usize = 65_536;
/// Between two syncs.
const SYNC_INTERVAL: Duration = Duration::from_millis(2);
/// Of the second part: events that are made every so often.
const ROUND: (usize, Duration) = (248, Duration::from_millis(5));
/// Bytes of the file.
const FILE: usize = 256 << 20;
const CHUNK: usize = 1 << 20;

/// A file that needs no new block, whatever is written to it.
struct Log {
    file: File,
    path: PathBuf,
    at: usize,
    group: Vec<u8>,
}

impl Log {
    fn new() -> io::Result<Self> {
        let name = format!("peer-journal-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        for at in (0..FILE).step_by(CHUNK) {
            file.write_all_at(&[0; CHUNK], at as u64)?;
        }
        file.sync_all()?;
        let group = vec![0x5a; GROUP_EVENTS * EVENT];
        let at = 0;
        Ok(Self {
            file,
            path,
            at,
            group,
        })
    }

    fn append(&mut self, events: usize) -> io::Result<()> {
        let bytes = &self.group[..events * EVENT];
        if self.at + bytes.len() > FILE {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at as u64)?;
        self.at += bytes.len();
        self.file.sync_data()
    }

    /// As fast as syncs come: whatever is acknowledged is sent anew.
    fn flood(&mut self, time: Duration) -> io::Result<f64> {
        let (began, mut events) = (Instant::now(), 0);
        while began.elapsed() < time {
            let group = GROUP_EVENTS.min(WINDOW_EVENTS);
            self.append(group)?;
            events += group;
        }
        Ok(events as f64 / began.elapsed().as_secs_f64())
    }

    /// At an even pace: how long each round waits.
    fn paced(&mut self, time: Duration) -> io::Result<Latencies> {
        let (events, every) = ROUND;
        let mut waits = Latencies::with_capacity(1 << 14);
        let (began, mut synced, mut next) = (Instant::now(), Instant::now(), 0);
        while began.elapsed() < time {
            let due = began + every * next;
            let sync = due.max(synced + SYNC_INTERVAL);
            thread::sleep(sync.saturating_duration_since(Instant::now()));
            let first = next;
            while began + every * next <= Instant::now() {
                next += 1;
            }
            let rounds = (next - first) as usize;
            self.append((rounds * events).min(GROUP_EVENTS))?;
            synced = Instant::now();
            (first..next).for_each(|round| waits.since(began + every * round));
        }
        Ok(waits)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // what cannot be removed is the temporary directory's to clean
        drop(std::fs::remove_file(&self.path));
    }
}

pub(crate) fn run(job: &Job) -> Line {
    let measured = || -> io::Result<Line> {
        let mut log = Log::new()?;
        let rate = log.flood(job.time())?;
        let p99 = log.paced(job.time())?.us(0.99);
        Ok(Line::new().with("events_per_s", rate).with("ack_p99", p99))
    };
    measured().expect("a temporary directory that can be written")
}
